"""``upspiral text solve``: a question, answered by a run's policy or any model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from common.commands import Output
from common.errors import UserError


@dataclass(frozen=True)
class Solve:
    """Answer a question, several times; what most answers agree on is the answer, or the one of the
    sample that the model itself finds best."""

    question: tyro.conf.Positional[str]
    """The question, in quotes."""
    model: Annotated[str, tyro.conf.arg(aliases=["--run"])] = "smollm2"
    """smollm2, a run of text (last for the newest), a folder, or a hub name."""
    samples: int = 5
    """How many answers are sampled."""
    task: str | None = None
    """The kind of task, which decides examples and how answers are read; the run's by default."""
    language: str = "en"
    """Language of the question."""
    temperature: float = 0.7
    """0 gives the one likeliest answer."""
    best_by: Literal["majority", "logprob", "normalised"] = "majority"
    """Which sample's answer is given: best-of-n by a self-reward of docs/sharpening.md."""
    seed: int = 0
    """Answers depend on it."""

    def run(self, out: Output) -> dict[str, Any]:
        if not self.question.strip() or self.samples < 1 or self.temperature < 0:
            raise UserError(
                "nothing to answer", "give a question, 1 or more samples, a temperature >= 0"
            )
        from dataclasses import replace

        from common.records import Task, identity
        from text.improve import ImproveConfig, answered, sampler
        from text.prompts import prompted
        from text.setup import load_policy, run_of, settings
        from text.sharpening import self_rewards
        from text.tasks import about

        run = run_of(self.model)
        config = settings(run) if run else ImproveConfig()
        policy = load_policy(self.model, config.chat)
        task = Task(
            identity("solve", self.question),
            self.question,
            "test",
            language=self.language,
            meta=about(self.task or config.task),
        )
        [asked] = prompted([task], config.shots, config.chat)
        n = 1 if self.temperature == 0 else self.samples
        sample = replace(sampler(config), n=n, temperature=self.temperature)
        found = policy.generate(
            [asked],
            n=n,
            seeds=lambda _, index: int(identity(self.seed, self.question, index), 16) >> 17,
            temperature=sample.temperature,
            top_p=sample.top_p,
            max_new_tokens=sample.max_new_tokens,
            stop=sample.stop,
            progress=out.progress(),
        )
        found = answered([asked], found)
        answers = Counter(c.answer for c in found if c.answer is not None)
        best, votes = answers.most_common(1)[0] if answers else (None, 0)
        if answers and self.best_by != "majority":
            given = [c for c in found if c.answer is not None]
            rewards = self_rewards(self.best_by, given)
            best = given[rewards.index(max(rewards))].answer or ""
            votes = answers[best]
        for candidate in found:
            out.print(candidate.output.strip())
        said = f"answer: {best} ({votes} of {n})" if best is not None else "no answer was given"
        out.print(f"\n{said}")
        return {
            "question": self.question,
            "answer": best,
            "votes": votes,
            "samples": [
                {"text": c.output, "answer": c.answer, "logprob": c.logprob, "tokens": c.tokens}
                for c in found
            ],
        }
