"""``upspiral text gap``: the generation-verification gap of a model, or of models on each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from common.commands import Output
from common.errors import UserError

if TYPE_CHECKING:
    from common.policies.local import HFPolicy
    from common.records import Candidate, Task
    from text.improve import ImproveConfig
    from text.verification_gap import Floats, Line


@dataclass(frozen=True)
class Gap:
    """Sample answers, let verifiers judge them, and say what filtering by their verdicts gains.

    What is done is kept in the folder of --out; the same command continues where it was stopped.
    """

    models: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """smollm2, a run of text, a folder, or a hub name; once for each, as in --models A --models B.
    Several verify each other."""
    model: str = "smollm2"
    """One model, which verifies itself."""
    task: str = "arithmetic"
    """As in `upspiral text improve`."""
    questions: int = 50
    """How many questions of the dev split."""
    samples: int = 16
    """Answers to each."""
    verifiers: tuple[str, ...] = ("mc", "cot-b", "cot-s", "to")
    """mc: multiple choice; cot-b, cot-s: chain of thought with a verdict or a score; to:
    tournament."""
    filters: tuple[str, ...] = ("share=0.25", "threshold=0.5", "tilt=0.2")
    """threshold=T keeps utilities of T and more, share=S the best share of each question, tilt=B
    weighs by exp(utility / B). Ensembles take the first."""
    out: Path = Path("gap")
    """The folder for gap.md, gap.json and gap.svg."""
    seed: int = 0
    """Everything random derives from it."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Settings of how answers are sampled, as in --set shots=4 --set temperature=1.0."""

    def run(self, out: Output) -> dict[str, Any]:
        from text import gap_report
        from text.verification_gap import agreement, groups, lines, verifier

        names = self.models or (self.model,)
        filters = self.checked()
        config = self.config()
        from common.commands.outcome import made
        from text.reading import ModelReader
        from text.setup import load_policy, questions

        folder = made(self.out, "--out")
        tasks = [task for task in questions(config, self.seed) if task.split == "dev"]
        if not tasks:
            raise UserError(f"{self.task} has no dev questions", "give --questions of 1 or more")
        pools: dict[str, list[Candidate]] = {}
        sizes: dict[str, int] = {}
        utilities: dict[tuple[str, str], dict[str, list[Floats]]] = {}
        for name in names:  # one model in memory at a time: it answers, and is asked again below
            policy = load_policy(name, config.chat)
            sizes[name] = sum(p.numel() for p in policy.model.parameters())
            out.note(f"{name} answers {len(tasks)} questions {self.samples} times")
            pools[name] = self._answers(policy, tasks, config, folder, out)
        for by in names:
            policy = load_policy(by, config.chat) if len(names) > 1 else policy
            reader = ModelReader(policy, progress=out.progress())
            for name in names:
                asked = groups(tasks, pools[name])
                for kind in self.verifiers:
                    out.note(f"{by} verifies {name}: {kind}")
                    judge = verifier(kind, reader, self.seed)
                    key = [policy.fingerprint(), kind, self.seed, [vars(g) for g in asked]]
                    found = _kept(folder, key, partial(judge.utilities, asked))
                    utilities.setdefault((name, by), {})[kind] = found
        worth = {name: _worth(tasks, pool) for name, pool in pools.items()}
        table: list[Line] = []
        ranks: dict[tuple[str, str, str], float] = {}
        for (name, by), kinds in utilities.items():
            table += lines(name, by, worth[name], kinds, filters)
            for kind, utility in kinds.items():
                ranks[name, by, kind] = agreement(worth[name], utility)
        told = gap_report.facts(table, ranks, sizes)
        gap_report.write(table, told, folder)
        out.table(gap_report.HEADINGS, gap_report.rows(table, ranks))
        out.print(f"\ntable and figure: {self.out}")
        return {"task": self.task, "questions": len(tasks), "out": self.out, **told}

    def config(self) -> ImproveConfig:
        """How answers are sampled."""
        from text.improve import ImproveConfig
        from text.setup import with_settings

        if self.questions < 1 or self.samples < 2:
            raise UserError(
                f"{self.questions} questions and {self.samples} samples",
                "give 1 or more questions, 2 or more samples",
            )
        base = ImproveConfig(
            task=self.task, train=1, dev=max(2, self.questions), test=2, samples=self.samples
        )
        return with_settings(base, self.set)

    def checked(self) -> list[tuple[str, float]]:
        """The filters.

        Raises:
            UserError: an unknown verifier or filter, or a setting that is no number.
        """
        from text.verification_gap import FILTERS, KINDS

        for kind in self.verifiers:
            if kind not in KINDS:
                raise UserError(f"no verifier {kind!r}", f"use {', '.join(KINDS)}")
        found = []
        for text in self.filters:
            name, _, setting = text.partition("=")
            try:
                found.append((name, float(setting)))
            except ValueError:
                raise UserError(f"no filter {text!r}", "write share=0.25") from None
            if name not in FILTERS:
                raise UserError(f"no filter {name!r}", f"use {', '.join(FILTERS)}")
        if not found or not self.verifiers:
            raise UserError("nothing to verify with", "give a filter and a verifier")
        return found

    def _answers(
        self,
        policy: HFPolicy,
        tasks: Sequence[Task],
        config: ImproveConfig,
        folder: Path,
        out: Output,
    ) -> list[Candidate]:
        from dataclasses import asdict

        from common.records import Candidate, identity
        from text.improve import answered, sampler

        sample = sampler(config)

        def fresh() -> list[dict[str, Any]]:
            found = policy.generate(
                tasks,
                n=sample.n,
                seeds=lambda task, index: int(identity("gap", self.seed, task.id, index), 16) >> 17,
                temperature=sample.temperature,
                top_p=sample.top_p,
                max_new_tokens=sample.max_new_tokens,
                stop=sample.stop,
                progress=out.progress(),
            )
            return [asdict(c) for c in answered(tasks, found)]

        key = [policy.fingerprint(), asdict(sample), self.seed, [asdict(t) for t in tasks]]
        return [Candidate(**row) for row in _kept(folder, key, fresh)]


def _worth(tasks: Sequence[Task], pool: Sequence[Candidate]) -> list[Floats]:
    """1 or 0 for each answer, question by question."""
    import numpy as np

    from text.answers import correct

    by_id = {task.id: task for task in tasks}
    found: dict[str, list[float]] = {task.id: [] for task in tasks}
    for candidate in pool:
        found[candidate.task].append(float(correct(by_id[candidate.task], candidate.answer)))
    return [np.array(values) for values in found.values()]


def _kept(folder: Path, key: Sequence[Any], fresh: Callable[[], Any]) -> Any:
    """What ``fresh`` gives, from a file if it was there; arrays come back as such."""
    import numpy as np

    from common.records import identity

    path = folder / "work" / f"{identity(key)}.json"
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
    else:
        found = [v.tolist() if isinstance(v, np.ndarray) else v for v in fresh()]
        path.parent.mkdir(exist_ok=True)
        scratch = path.with_suffix(".partial")
        scratch.write_text(json.dumps(found), encoding="utf-8")
        scratch.replace(path)
    return [np.array(v, dtype=float) if isinstance(v, list) else v for v in found]
