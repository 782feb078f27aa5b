"""``upspiral text feedback`` and ``feedback-worst``: feedback for peer counsellors."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from common.commands import Output
from common.errors import UserError

if TYPE_CHECKING:
    from common.records import Task
    from text.counseling.show import Given


@dataclass(frozen=True)
class Feedback:
    """Feedback on a helper's responses in a conversation with a seeker, on four levels: is it
    appropriate, what is its goal, which areas are good or weak, what could be said instead.

    Experimental, for practice under supervision: no substitute for an expert, never for a crisis.
    """

    conversation: tyro.conf.Positional[str]
    """A file, as {"dialog": [{"speaker": "usr", "text": "..."}, {"speaker": "sys", ...}]}, a chat
    with messages, or the published data; or synthetic, which nobody had."""
    model: str | None = None
    """A run of feedback-sft or feedback-dpo, any model, or the name that --server knows; the newest
    such run by default, or else smollm2, which is too small for this."""
    server: str | None = None
    """An OpenAI-compatible server, as in http://localhost:8000/v1; its key: OPENAI_API_KEY."""
    format: Literal["text", "json", "html"] = "text"
    """How it is shown."""
    out: Path | None = None
    """A file for it; by default it is printed."""
    last: bool = False
    """Only the last response of each conversation."""
    samples: int = 1
    """Feedbacks to each response, of which the one with the best self-score is shown."""
    temperature: float = 0.8
    """Of the draws; each attempt draws anew."""
    max_tokens: int = 256
    """The longest feedback."""
    seed: int = 0
    """Everything random derives from it."""

    def run(self, out: Output) -> dict[str, Any]:
        from common.commands.outcome import made
        from common.report import save
        from text.counseling import NOTICE, show
        from text.counseling.conversations import load
        from text.counseling.synthetic import conversations
        from text.counseling.tasks import responses

        if self.samples < 1 or self.temperature <= 0 or self.max_tokens < 1:
            raise UserError(
                f"samples={self.samples}, temperature={self.temperature:g}",
                "give 1 sample or more, a temperature above 0 and max-tokens above 0",
            )
        if self.out is not None:
            made(self.out.expanduser().parent, "--out")
        if self.conversation == "synthetic":
            talks = conversations(1, self.seed, "test")
        else:
            talks = load(Path(self.conversation).expanduser())
        first = -1 if self.last else 0
        asked = [task for talk in talks for task in responses([talk])[first:]]
        name = self.model or _newest()
        given = self._served(asked, out) if self.server else self._local(name, asked, out)
        told = [show.facts(one) for one in given]
        page = {
            "text": lambda: show.text(given),
            "json": lambda: json.dumps({"notice": NOTICE, "responses": told}, indent=1,
                                       ensure_ascii=False),
            "html": lambda: show.html(given, name),
        }[self.format]()  # fmt: skip
        if self.out is None:
            out.print(page)
        else:
            try:
                save(page + "\n", self.out)
            except OSError as error:
                raise UserError(
                    f"cannot write {self.out}: {error.strerror}", "choose another file"
                ) from error
            out.print(f"feedback: {self.out}")
        return {"notice": NOTICE, "model": name, "responses": told}

    def _local(self, name: str, asked: Sequence[Task], out: Output) -> list[Given]:
        from common.records import identity
        from text.counseling.advisor import Advisor
        from text.counseling.show import Given
        from text.setup import load_policy, run_of, settings

        run = run_of(name)
        taught = run is not None and settings(run).method.startswith("feedback")
        if not taught:
            out.note(f"{name} was not taught to give feedback: it sees two examples, expect little")
        policy = load_policy(name, settings(run).chat if run else False)
        advisor = Advisor(
            policy,
            shots=0 if taught else 2,
            temperature=self.temperature,
            max_new_tokens=self.max_tokens,
            progress=out.progress(),
        )
        contexts = [task.prompt for task in asked]
        sure = advisor.appropriate(contexts)

        def seed(item: int, sample: int, attempt: int) -> int:
            return int(identity(self.seed, asked[item].id, sample, attempt), 16) >> 17

        drawn = advisor.advise(contexts, [p > 0.5 for p in sure], self.samples, seed)
        pairs = [(i, a) for i, group in enumerate(drawn) for a in group
                 if a.feedback and not a.feedback.perfect]  # fmt: skip
        scores = advisor.scores(
            [contexts[i] for i, _ in pairs], [a.feedback for _, a in pairs if a.feedback]
        )
        worth = {id(a): score for (_, a), score in zip(pairs, scores, strict=True)}
        found = []
        for i, group in enumerate(drawn):
            valid = [a for a in group if a.feedback] or group
            best = max(valid, key=lambda a: worth.get(id(a), 0.0))
            problem = f"nothing valid in {best.attempts} attempts; the last: {best.problem}"
            found.append(
                Given(i + 1, contexts[i], best.feedback, "" if best.feedback else problem,
                      sure[i], worth.get(id(best)))
            )  # fmt: skip
        return found

    def _served(self, asked: Sequence[Task], out: Output) -> list[Given]:
        from common.policies.served import ServedError, ServedPolicy
        from text.counseling.advisor import ATTEMPTS
        from text.counseling.schema import Feedback as Schema
        from text.counseling.show import Given
        from text.counseling.tasks import asking

        if self.model is None:
            raise UserError("a server has several models", "name one with --model")
        policy = ServedPolicy(self.server or "", self.model, os.environ.get("OPENAI_API_KEY"))
        done = 0

        def one(item: tuple[int, Task]) -> Given:
            nonlocal done
            number, task = item
            message = {"role": "user", "content": asking(task.prompt, chat=True)}
            said, problem = None, ""
            try:
                said = policy.ask([message], Schema, attempts=ATTEMPTS,
                                  temperature=self.temperature)  # fmt: skip
            except ServedError as error:
                problem = str(error)
            done += 1
            out.progress()(done, len(asked), "responses")
            return Given(number, task.prompt, said, problem)

        return policy.map(one, list(enumerate(asked, 1)))


def _newest() -> str:
    """The newest finished run that was taught to give feedback, or else the small model."""
    from common.store import Store
    from text.setup import settings

    for run in Store().runs():
        known = run.recipe.startswith("text/") and run.status == "done"
        if known and settings(run).method.startswith("feedback"):
            return run.run
    return "smollm2"


@dataclass(frozen=True)
class Worst:
    """The worst 1%, the worst 5% and all feedback of runs of feedback-dpo, each against its start.

    Scores are of the alternatives to test responses, by the start and by an independent judge.
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Runs of `upspiral runs list`, or last."""

    def run(self, out: Output) -> dict[str, Any]:
        from common.commands.runs import find
        from common.store import Store
        from text.counseling.quality import COLUMNS, of_run, rows

        store = Store()
        told: dict[str, Any] = {}
        for name in self.runs or ("last",):
            run = find(store, name).run
            found = of_run(store, run)
            if not found:
                raise UserError(
                    f"run {run!r} has no scores of feedback on test",
                    "name a finished run of: upspiral text improve --method feedback-dpo",
                )
            for score, tails in found.items():
                out.print(f"{run}: {score}")
                out.table(COLUMNS, rows(tails))
                out.print()
            told[run] = {score: [t._asdict() for t in tails] for score, tails in found.items()}
        return {"runs": told}
