"""Trains the adapter of :mod:`scenes.planners.smollm2`, by this project's own loop.

First a round of supervised learning on generated pairs of text and scene
(:mod:`scenes.planners.phrasings`). Then the loop: the model proposes scenes for texts that it has
not seen, a judge says how far each agrees with the scene that the text was made from
(:func:`scenes.planners.compact.agreement`), the best and the worst of a text become a pair, and
preference learning (``common.learners.dpo``) learns from the pairs. A round is kept if agreement on
dev texts grows.

    upspiral scenes train planner --out planner
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from peft import LoraConfig

from common.errors import UserError
from common.gate import Gate
from common.learners.dpo import Preference
from common.learners.sft import SFT
from common.loop import Loop, Result
from common.pairing import best_worst
from common.policies import Sample
from common.policies.local import HFPolicy
from common.policies.weights import LABEL_FILE
from common.pool import of_round
from common.records import Candidate, Demonstration, Lessons, Metric, Split, Task, identity
from common.stages import Context, Progress
from common.store import Store
from common.tracking import Nothing
from scenes.planners import compact
from scenes.planners.phrasings import Example, examples
from scenes.planners.smollm2 import LENGTH, completion, prompt

CONFIG = "adapter_config.json"
LINEAR = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split()


@dataclass(frozen=True)
class Config:
    """``pairs`` to begin with; then ``rounds`` on ``texts`` other texts, ``samples`` of each."""

    pairs: int = 2000
    texts: int = 96
    samples: int = 4
    dev: int = 64
    rounds: int = 1
    seed: int = 0
    rank: int = 12
    first_layer: int = 10
    """The adapter is on this layer and those above: nothing is learnt below, which saves time."""
    sft: SFT = SFT(learning_rate=2e-3, batch_size=16, max_length=192, warmup=0.05,
                   checkpoint_every=10)  # fmt: skip
    dpo: Preference = Preference(
        beta=0.1, nll_weight=1.0, learning_rate=1e-4, batch_size=8, max_length=192,
        reference="previous", checkpoint_every=10,
    )  # fmt: skip


class Agreement:
    """``agreement`` with the scene of the task's reference; 0 for what is no scene."""

    def judge(
        self,
        tasks: Mapping[str, Task],
        candidates: Sequence[Candidate],
        ctx: Context,  # noqa: ARG002
    ) -> list[dict[str, float]]:
        return [
            {"agreement": agreement(c.output, tasks[c.task].reference or "")} for c in candidates
        ]


@dataclass(frozen=True)
class BestWorst:
    """Two pairs a text: best over worst, second best over second worst."""

    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        now = of_round(pool, ctx.round)
        found = best_worst(
            tasks, now, key="agreement", min_margin=0.1, pairs_per_task=2, round=ctx.round
        )
        return Lessons(preferences=tuple(found))


class Greedy:
    """Agreement of the likeliest form."""

    def measure(self, policy: HFPolicy, tasks: Sequence[Task], ctx: Context) -> list[Metric]:
        stage = Sample(n=1, temperature=0.0, max_new_tokens=LENGTH)
        found = stage.propose(policy, [replace(t, reference=None) for t in tasks], ctx)
        wanted = {t.id: t.reference or "" for t in tasks}
        items = {c.task: agreement(c.output, wanted[c.task]) for c in found}
        return [metric("agreement", items, tasks[0].split)]


def agreement(form: str, wanted: str) -> float:
    """Of two forms."""
    form = form.replace("<|im_end|>", "").replace("<|endoftext|>", "")
    try:
        return compact.agreement(compact.read(form).graph, compact.read(wanted).graph)
    except UserError:
        return 0.0


def metric(name: str, items: Mapping[str, float], split: Split) -> Metric:
    """The mean with its standard error."""
    values = list(items.values())
    mean = math.fsum(values) / len(values)
    variance = math.fsum((v - mean) ** 2 for v in values) / max(1, len(values) - 1)
    return Metric(
        name,
        mean,
        math.sqrt(variance / len(values)),
        len(values),
        split=split,
        items=items,
    )


def tasks_of(found: Sequence[Example], split: Split) -> list[Task]:
    return [Task(identity(e.text), prompt(e.text), split, completion(e.form)) for e in found]


def train(
    config: Config, store: Store, work: Path, progress: Progress
) -> tuple[HFPolicy, Result | None]:
    """The policy with its adapter trained, and what the loop came to, if there was one.

    Killed anywhere, it goes on from ``work`` and the store.

    Raises:
        UserError: ``work`` holds the training of another configuration.
    """
    work.mkdir(parents=True, exist_ok=True)
    settings = json.dumps(asdict(config), indent=1)
    kept = work / "config.json"
    if kept.exists() and kept.read_text() != settings:
        raise UserError(f"{work} holds another training", "name another folder, or remove it")
    kept.write_text(settings)
    every = examples(config.pairs + config.texts + config.dev, config.seed)
    seen, texts = every[: config.pairs], every[config.pairs : -config.dev]
    policy = begun(config, seen, work, progress)
    tasks = [*tasks_of(texts, "train"), *tasks_of(every[-config.dev :], "dev")]
    if not config.rounds:
        return policy, None
    loop = Loop(
        policy=policy,
        tasks=tasks,
        propose=Sample(n=config.samples, temperature=0.8, max_new_tokens=LENGTH),
        judge=Agreement(),
        select=BestWorst(),
        learn=config.dpo,
        measure=Greedy(),
        gate=Gate("agreement"),
    )
    result = loop.run(
        config.rounds,
        store,
        f"planner-{identity(settings)[:8]}",
        seed=config.seed,
        recipe="scenes/planner",
        progress=progress,
    )
    return policy, result


def begun(config: Config, seen: Sequence[Example], work: Path, progress: Progress) -> HFPolicy:
    """The policy after supervised learning, which is kept in ``work / "begun"``."""
    done = work / "begun"
    if (done / CONFIG).exists():
        return _load(done)
    torch.manual_seed(config.seed)
    policy = _load(None)
    layers = policy.model.config.num_hidden_layers
    policy.add_adapter(
        LoraConfig(
            r=config.rank,
            lora_alpha=2 * config.rank,
            target_modules=[*LINEAR],
            layers_to_transform=list(range(config.first_layer, layers)),
            task_type="CAUSAL_LM",
        )
    )
    lessons = Lessons(
        demonstrations=tuple(
            Demonstration(identity(e.text), identity(e.text), 0, prompt(e.text), completion(e.form))
            for e in seen
        )
    )
    ctx = Context(config.seed, 0, _NoArtifacts(), Nothing(), progress, work)
    config.sft.learn(policy, lessons, ctx)
    save(policy, done)
    return _load(done)


def _load(adapter: Path | None) -> HFPolicy:
    """In bfloat16 below the adapter, whose own weights stay float32: twice as fast on a CPU."""
    return HFPolicy.load("smollm2", lora=adapter, dtype=torch.bfloat16)


def save(policy: HFPolicy, folder: Path) -> None:
    """The adapter alone, in half precision; its configuration appears last."""
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as part:
        policy.save(Path(part))
        weights = Path(part) / "adapter_model.safetensors"
        save_file({name: t.half() for name, t in load_file(weights).items()}, weights)
        config = Path(part) / CONFIG
        told = json.loads(config.read_text())
        told["base_model_name_or_path"] = "SmolLM2-135M-Instruct"  # no path of this machine
        config.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
        for name in (weights.name, LABEL_FILE, CONFIG):
            os.replace(Path(part) / name, folder / name)


class _NoArtifacts:
    def put(self, data: bytes, suffix: str = "") -> str:
        raise NotImplementedError

    def path(self, address: str) -> Path:
        raise KeyError(address)
