"""Reasoning loops: the settings of a run, its parts, and the recipes.

A run is a model, a task and a method (:mod:`text.methods`). What methods have in common is here:
the policy answers questions (:class:`Solve`), answers are checked (:mod:`text.answers`), dev and
test are answered with the same random numbers each round (:class:`Accuracy`), and a round stays if
dev accuracy rose. A method takes these parts and replaces what it must.

    upspiral text improve --method vanilla --task arithmetic --model smollm2 --rounds 3
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from common.errors import UserError
from common.gate import Gate
from common.monitors import CollapseMonitor
from common.monitors.exploration import answer_entropy, best_of_k, distinct, pass_at_k
from common.policies import Generator, Sample
from common.records import Candidate, Metric, Task
from common.stages import Context, Judge, Learner, Measure, Proposer, Selector
from text.answers import AnswerJudge, flexible, kind_of
from text.prompts import stops

if TYPE_CHECKING:
    from common.learners.dpo import Preference
    from common.learners.sft import SFT
    from common.loop import Loop
    from common.policies.local import HFPolicy


@dataclass(frozen=True)
class ImproveConfig:
    """One run. ``settings`` are the method's own; ``--set name=value`` reaches both."""

    method: str = "vanilla"
    task: str = "arithmetic"
    model: str = "smollm2"
    """smollm2, a run, a folder, or a hub name."""
    base_url: str = ""
    """Servers that sample from the model as it learns, with commas between several addresses;
    without one this process samples."""
    restart: str = ""
    """The command that gives such a server other weights, if it cannot take them while it runs:
    with {model}, their folder, and {url}, the server's address."""
    rounds: int = 2
    train: int = 128
    """Questions that are practised on."""
    dev: int = 80
    test: int = 150
    samples: int = 8
    """Answers to each question and round."""
    measured: int = 4
    """Answers to each dev and test question; their mean is its value, pass@k has this k."""
    temperature: float = 0.7
    top_p: float = 1.0
    max_new_tokens: int = 64
    shots: int = 2
    """Worked examples before each question."""
    chat: bool = False
    """Whether the model reads its chat template, with an instruction."""
    sampling: Literal["float32", "bfloat16", "auto"] = "auto"
    """Precision of sampling; auto is bfloat16 where the processor multiplies it itself, which is
    twice as fast. Draws then depend on how many are sampled together."""
    beta: float = 0.1
    nll_weight: float = 0.5
    dpo_weight: float = 1.0
    judge: str = "answers"
    """What lessons come from: answers (checked against references), or answer-selection:FOLDER (a
    trained ranker, which sees no reference; dev and test are still checked)."""
    evaluator: str = ""
    """What measures dev and test in points where there are no references: a model's name, or
    served:NAME at ``evaluator_url`` (:mod:`text.evaluator`)."""
    evaluator_url: str = ""
    reference: Literal["previous", "start"] = "previous"
    learning_rate: float = 1e-5
    epochs: float = 1.0
    batch_size: int = 8
    grad_accum: int = 1
    max_length: int = 512
    """Tokens of prompt and completion that are learnt from."""
    lora: int = 0
    """Rank of an adapter that learns in the model's place; 0 trains all weights."""
    budget_tokens: int = 0
    """Tokens sampled and trained after which no further round begins; 0: as many as rounds take."""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        least = {"rounds": 1, "train": 1, "dev": 2, "test": 2, "samples": 1, "measured": 1,
                 "max_new_tokens": 1, "shots": 0, "batch_size": 1, "grad_accum": 1,
                 "max_length": 2, "lora": 0, "budget_tokens": 0}  # fmt: skip
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise UserError(f"{name}={getattr(self, name)}", f"give {minimum} or more")
        if not self.temperature > 0 or not 0 < self.top_p <= 1:
            raise UserError(
                f"temperature={self.temperature:g}, top_p={self.top_p:g}",
                "give a temperature above 0 and a top_p in (0, 1]",
            )
        if self.restart and not self.base_url:
            raise UserError("there is no server to restart", "give --base-url URL, too")
        choices = {"reference": ("previous", "start"), "sampling": ("float32", "bfloat16", "auto")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                remedy = f"use {', '.join(known)}"
                raise UserError(f"no {name} {getattr(self, name)!r}", remedy)


def starter() -> ImproveConfig:
    """Two rounds of the starter model, to fit into twenty minutes of two free cores."""
    return ImproveConfig()


def demo() -> ImproveConfig:
    """One small round, to fit into ten minutes."""
    return ImproveConfig(rounds=1, train=64, dev=50, test=100, measured=2)


def tiny() -> ImproveConfig:
    """Seconds, to see that it runs; meant for a tiny model of yours."""
    return ImproveConfig(rounds=1, train=6, dev=4, test=4, samples=4, measured=2,
                         max_new_tokens=24, shots=0)  # fmt: skip


def large() -> ImproveConfig:
    """A model of a billion parameters and more on a GPU, at the sizes that DIVE publishes.

    Whole weights want a rate of about 5e-7; an adapter learns at ten times that and more.
    """
    return ImproveConfig(task="gsm8k", model="Qwen/Qwen2.5-1.5B", rounds=6, train=7_473, dev=500,
                         test=1_319, samples=10, top_p=0.95, max_new_tokens=400, shots=4,
                         learning_rate=5e-7, grad_accum=8, max_length=1_024)  # fmt: skip


RECIPES: dict[str, Callable[[], ImproveConfig]] = {
    "starter": starter,
    "demo": demo,
    "tiny": tiny,
    "large": large,
}


@dataclass(frozen=True)
class Solve:
    """Propose: sample answers and say what each came to (``Candidate.answer``)."""

    sample: Sample

    def propose(self, policy: Generator, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        return answered(tasks, self.sample.propose(policy, tasks, ctx))


def answered(tasks: Sequence[Task], candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with what each gives as its answer, in canonical form."""
    by_id = {task.id: task for task in tasks}
    return [replace(c, answer=_answer(c.output, by_id[c.task])) for c in candidates]


def _answer(output: str, task: Task) -> str | None:
    kind = kind_of(task)
    if kind == "code":
        from text.programs import answer_of

        return answer_of(output, task)
    return flexible(output, kind, task.language)


@dataclass(frozen=True)
class Accuracy:
    """Measure: answer each question as often as ``propose`` does and count what is right.

    With a judge that gives ``points`` (:mod:`text.evaluator`) these are in place of the first two.

    ``accuracy`` by the flexible reading, ``strict`` by the strict one, ``pass@n`` of both, and
    ``best_by_logprob``: the answer that the policy finds likeliest by token. Beside them what shows
    how they came about: distinct n-grams, entropy of the answers (nats), length (tokens), the
    log-probability of a token, and the share of answers that came to an end. Every policy is
    measured with the same random numbers, so differences are not differences of luck.
    """

    propose: Proposer
    judge: Judge = field(default_factory=AnswerJudge)

    def measure(self, policy: Generator, tasks: Sequence[Task], ctx: Context) -> list[Metric]:
        return self.figures(self.scored(policy, tasks, ctx))

    def scored(self, policy: Generator, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        """What the policy answers, with its scores."""
        same = replace(ctx, round=0)
        found = self.propose.propose(policy, tasks, same)
        scores = self.judge.judge({task.id: task for task in tasks}, found, same)
        return [replace(c, scores=row) for c, row in zip(found, scores, strict=True)]

    def figures(self, scored: Sequence[Candidate]) -> list[Metric]:
        """The metrics of scored answers."""
        groups: dict[str, list[Candidate]] = {}
        for candidate in scored:
            groups.setdefault(candidate.task, []).append(candidate)
        rows = {task: _figures(group) for task, group in groups.items()}
        names = next(iter(rows.values()))
        return [
            Metric.of(
                name,
                {task: row[name] for task, row in rows.items()},
                "higher" if name in _HIGHER or "pass@" in name else "neither",
            )
            for name in names
        ]


_HIGHER = frozenset({"accuracy", "points", "strict", "best_by_logprob", "finished"})


def _figures(group: Sequence[Candidate]) -> dict[str, float]:
    """The figures of one question."""
    scores = [c.scores for c in group]
    n, checked = len(group), "correct" in scores[0]
    worth = [row["correct" if checked else "points"] for row in scores]
    by_token = [c.logprob / max(1, c.tokens) for c in group]
    found = {"accuracy" if checked else "points": float(np.mean(worth))}
    if checked:
        found["strict"] = float(np.mean([row["strict"] for row in scores]))
    found |= {
        "finished": float(np.mean([bool(c.meta.get("finished", True)) for c in group])),
        "length": float(np.mean([c.tokens for c in group])),
        "logprob": float(np.mean(by_token)),
    }
    if n > 1 and checked:
        found |= {
            f"pass@{n}": pass_at_k(n, int(sum(worth)), n),
            f"strict_pass@{n}": pass_at_k(n, sum(row["strict"] > 0 for row in scores), n),
        }
    if n > 1:
        found |= {
            "best_by_logprob": best_of_k(worth, by_token, n),
            "distinct_n": distinct([c.output for c in group]),
            "answer_entropy": answer_entropy([c.answer for c in group]),
        }
    return found


@dataclass(frozen=True)
class Parts:
    """What a method builds its loop from."""

    config: ImproveConfig
    policy: HFPolicy
    tasks: Sequence[Task]
    propose: Proposer
    judge: Judge
    measure: Measure
    examiner: Judge = field(default_factory=AnswerJudge)
    """What dev and test are measured by."""

    @property
    def metric(self) -> str:
        """What a round has to raise."""
        return "points" if self.config.evaluator else "accuracy"

    @property
    def sample(self) -> Sample:
        """How the configuration samples."""
        return sampler(self.config)

    def split(self, name: str) -> list[Task]:
        """The tasks of a split."""
        return [task for task in self.tasks if task.split == name]

    def loop(self, *, select: Selector, learn: Learner, **changes: Any) -> Loop:
        """A loop of these parts; ``changes`` are other stages, the gate, monitors.

        The gate keeps a round whose dev accuracy rose, or points; a monitor names preference
        collapse.
        """
        from common.loop import Loop

        given: dict[str, Any] = {
            "policy": self.policy,
            "tasks": self.tasks,
            "propose": self.propose,
            "judge": self.judge,
            "measure": self.measure,
            "gate": Gate(self.metric),
            "monitors": [CollapseMonitor(metric=self.metric)],
        }
        return Loop(select=select, learn=learn, **{**given, **changes})

    def preference(self, **changes: Any) -> Preference:
        """DPO with an anchor, by the configuration; ``changes`` are the learner's fields."""
        from common.learners.dpo import Preference

        config = self.config
        given = {"beta": config.beta, "nll_weight": config.nll_weight,
                 "dpo_weight": config.dpo_weight, "reference": config.reference}  # fmt: skip
        return Preference(**{**given, **self.shared(), **changes})

    def sft(self, **changes: Any) -> SFT:
        """Supervised learning by the configuration; ``changes`` are the learner's fields."""
        from common.learners.sft import SFT

        return SFT(**{**self.shared(), **changes})

    def shared(self) -> dict[str, Any]:
        """The settings that learners have in common."""
        config = self.config
        return {
            "learning_rate": config.learning_rate,
            "epochs": config.epochs,
            "batch_size": config.batch_size,
            "grad_accum": config.grad_accum,
            "max_length": config.max_length,
            "lora": config.lora or None,
        }


def sampler(config: ImproveConfig) -> Sample:
    """How ``config`` samples; a base model's answer ends with its line, or with its function."""
    from text.tasks import about

    return Sample(
        n=config.samples,
        temperature=config.temperature,
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
        stop=() if config.chat else stops(about(config.task)["family"]),
    )
