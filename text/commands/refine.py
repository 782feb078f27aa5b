"""``upspiral text refine``: PIT at inference, step by step until the gap closes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from common.commands import Output
from common.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.records import Candidate, Task


@dataclass(frozen=True)
class Refine:
    """Answer a question, then improve the answer while the gap model finds it better."""

    question: tyro.conf.Positional[str]
    """The question, in quotes."""
    run_name: Annotated[str, tyro.conf.arg(name="run")] = "last"
    """A run of method pit; last is the newest run of text."""
    steps: int = 4
    """How many improvements are tried at most."""
    language: str = "en"
    """Language of the question."""
    temperature: float = 0.6
    """0 gives the likeliest answer and improvement; the paper found 0.4 to 0.6 best."""
    seed: int = 0
    """Answers depend on it."""

    def run(self, out: Output) -> dict[str, Any]:
        if not self.question.strip() or self.steps < 0 or self.temperature < 0:
            raise UserError(
                "nothing to refine", "give a question, steps and temperature of 0 or more"
            )
        from common.learners.gap import GapModel
        from common.learners.reward import RewardModel
        from common.records import Task, identity
        from common.store import Store
        from text.answers import flexible, kind_of
        from text.improve import sampler
        from text.pit import Improving
        from text.prompts import prompted
        from text.setup import load_policy, run_of, settings
        from text.tasks import about

        run = run_of(self.run_name)
        if run is None or settings(run).method != "pit":
            raise UserError(
                f"{self.run_name!r} is no run of pit, which learns to improve answers",
                "upspiral text improve --method pit, then name its run",
            )
        config, store = settings(run), Store()
        kept = [r for r in store.rounds(run.run) if r.kept]
        policy = load_policy(run.run, config.chat)
        gap = GapModel(RewardModel.load(store.path(kept[-1].state) / "gap", policy))
        task = Task(identity("refine", self.question), self.question, "test",
                    language=self.language, meta=about(config.task))  # fmt: skip
        asked = prompted([task], config.shots, config.chat)
        sample = replace(sampler(config), n=1, temperature=self.temperature)

        def say(tasks: Sequence[Task], step: int) -> list[Candidate]:
            out.progress()(step, self.steps, "improvements")
            return policy.generate(
                tasks,
                n=1,
                seeds=lambda *_: int(identity(self.seed, self.question, step), 16) >> 17,
                temperature=sample.temperature,
                top_p=sample.top_p,
                max_new_tokens=sample.max_new_tokens,
                stop=sample.stop,
            )

        [found] = Improving(policy, gap, self.steps).refine(asked, say)
        rows = [
            {
                "text": c.output.strip(),
                "answer": flexible(c.output, kind_of(asked[0]), self.language),
                "gap": float(c.meta["critique"].removeprefix("gap ")) if c.parent else None,
                "best": c is found.best,
            }
            for c in found.trace
        ]
        for number, row in enumerate(rows):
            said = "the first answer" if row["gap"] is None else f"gap {row['gap']:+.3f}"
            out.print(f"{number}. {row['text']}  ({said}{', kept' if row['best'] else ''})")
        return {"question": self.question, "steps": rows, "answer": next(
            row["answer"] for row in rows if row["best"])}  # fmt: skip
