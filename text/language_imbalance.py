"""Language imbalance driven rewarding (arXiv 2410.08964): one language teaches the others.

A model answers better in its dominant language, English, than in others. Both answers to a question
are translated by the model itself, and that is preference enough, without any judge:

    in English     y_en            over   translation of y_L into English
    in L           translation of y_en into L   over   y_L

learnt by DPO with a likelihood anchor. The answers in L learn what English knows, and those in
English learn not to sound translated. Replaces **propose** and **select**.

A translation is dropped when it is empty, cut, in another language than was asked for, or when its
final answer is not the one that was translated (re-verification, which looks at no reference).
Beside accuracy, ``off_target`` is measured: the share of answers in another language than the
question's, which explains much of the paper's gain.

Deviations: a question whose English version is not among the tasks (``meta["parallel"]`` joins
them) is translated by the model, too, and left out when that failed or changed a number. Answers
are sampled, not greedy with a repetition penalty. The instructions about translation that the paper
treats apart are not recognised. beta, the learning rate and the weights are the run's: the paper's
are not published.

    upspiral text improve --method language-imbalance --task mgsm --model Qwen/Qwen2.5-7B-Instruct
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from common.pairing import distinct, pair
from common.policies import Generator, Sample
from common.pool import of_round
from common.records import Candidate, Lessons, Metric, Preference, Task, identity
from common.stages import Context, Judge, Proposer
from text.answers import flexible, kind_of
from text.improve import Accuracy, Solve
from text.languages import NAMES, Identify, identify
from text.prompts import prompt, question

if TYPE_CHECKING:
    from common.loop import Loop
    from text.improve import Parts

DOMINANT, TO, FROM = "dominant", "into-dominant", "from-dominant"
"""Strategies of candidates: an answer in English, one translated into it, one from it."""
ASK = """Translate this text from {source} into {target}. Change no number. Write nothing but the
translation, between <translated> and </translated>.

<sentence>{text}</sentence>

<translated>"""
END = "</translated>"


def language_name(code: str) -> str:
    return NAMES.get(code, code)


def ask(text: str, source: str, target: str) -> str:
    """What asks the model to translate."""
    return ASK.format(text=text.strip(), source=language_name(source), target=language_name(target))


@dataclass(frozen=True)
class BothWays:
    """Propose: each question answered in its language and in the dominant one, and both translated.

    All are candidates of the question in its own language, numbered alike by ``meta["answer"]``:
    answers (``sample``), answers in the dominant language with their prompt in ``meta``, and the
    translations with ``parent`` what they translate. Questions in the dominant language get none.
    """

    sample: Sample
    parallel: Mapping[str, str]
    """By ``meta["parallel"]`` the question in the dominant language."""
    dominant: str = "en"
    shots: int = 2
    chat: bool = False
    identify: Identify = identify

    def propose(self, policy: Generator, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        tasks = [task for task in tasks if task.language != self.dominant]
        if not tasks:
            return []
        n = self.sample.n
        own = self._answers(policy, tasks, ctx)
        english = self._in_dominant(policy, tasks, ctx)
        twins = {task.id: task for task in tasks if english[task.id].prompt}
        asked = [english[name] for name in twins]
        best = self._answers(policy, asked, ctx)
        best = [
            replace(c, id=identity(DOMINANT, c.id), task=list(twins)[i // n], strategy=DOMINANT,
                    language=self.dominant, meta={**c.meta, "prompt": asked[i // n].prompt})
            for i, c in enumerate(best)
        ]  # fmt: skip
        by_id = {task.id: task for task in tasks}
        into = self._translations(policy, by_id, own, TO, ctx)
        out_of = self._translations(policy, by_id, best, FROM, ctx)
        return [*own, *best, *into, *out_of]

    def _answers(self, policy: Generator, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        drawn = Solve(self.sample).propose(policy, tasks, ctx) if tasks else []
        n = self.sample.n
        return [replace(c, meta={**c.meta, "answer": i % n}) for i, c in enumerate(drawn)]

    def _in_dominant(
        self, policy: Generator, tasks: Sequence[Task], ctx: Context
    ) -> dict[str, Task]:
        """By task the same question in the dominant language; an empty prompt where that failed."""
        known = {t.id: self.parallel.get(str(t.meta.get("parallel", ""))) for t in tasks}
        unknown = [t for t in tasks if known[t.id] is None]
        texts = [question(t) for t in unknown]
        said = self._translate(
            policy, [identity("question", t.id) for t in unknown], texts,
            [(t.language, self.dominant) for t in unknown], ctx,
        )  # fmt: skip
        spoken = self.identify([c.output for c in said])
        for task, c, language in zip(unknown, said, spoken, strict=True):
            sound = c.meta.get("finished", True) and language in (None, self.dominant)
            if sound and _numbers(c.output) == _numbers(question(task)):
                known[task.id] = c.output.strip()
        return {
            t.id: Task(
                identity(DOMINANT, t.id),
                prompt(
                    known[t.id] or "", str(t.meta.get("family", "")), self.dominant, self.shots,
                    self.chat,
                ) if known[t.id] else "",
                language=self.dominant,
                meta=t.meta,
            )
            for t in tasks
        }  # fmt: skip

    def _translations(
        self,
        policy: Generator,
        tasks: Mapping[str, Task],
        answers: Sequence[Candidate],
        strategy: str,
        ctx: Context,
    ) -> list[Candidate]:
        ways = [
            (tasks[c.task].language, self.dominant)
            if strategy == TO
            else (self.dominant, tasks[c.task].language)
            for c in answers
        ]
        names = [identity(strategy, c.id) for c in answers]
        said = self._translate(policy, names, [c.output for c in answers], ways, ctx)
        return [
            replace(
                made, id=name, task=c.task, parent=c.id, strategy=strategy, language=target,
                output=_begun(made.output, c.output),
                answer=flexible(made.output, kind_of(tasks[c.task]), target),
                meta={**made.meta, "answer": c.meta["answer"]},
            )
            for made, name, c, (_, target) in zip(said, names, answers, ways, strict=True)
        ]  # fmt: skip

    def _translate(
        self,
        policy: Generator,
        names: Sequence[str],
        texts: Sequence[str],
        ways: Sequence[tuple[str, str]],
        ctx: Context,
    ) -> list[Candidate]:
        asked = [
            Task(name, ask(text, *way)) for name, text, way in zip(names, texts, ways, strict=True)
        ]
        once = replace(self.sample, n=1, stop=(END,))
        return once.propose(policy, asked, ctx) if asked else []


def _numbers(text: str) -> list[str]:
    return sorted(re.findall(r"\d+", text))


def _begun(text: str, like: str) -> str:
    """``text``, beginning with a space where ``like`` does, as an answer after a label has it."""
    return f" {text.strip()}" if like.startswith(" ") else text.strip()


@dataclass(frozen=True)
class OwnAnswers:
    """Judge: ``inner`` on answers in the question's language; on those in the dominant one under
    names with ``dominant_`` before them; translations are no answers."""

    inner: Judge

    def judge(
        self, tasks: Mapping[str, Task], candidates: Sequence[Candidate], ctx: Context
    ) -> list[dict[str, float]]:
        answers = [c for c in candidates if c.strategy not in (TO, FROM)]
        found = dict(
            zip([c.id for c in answers], self.inner.judge(tasks, answers, ctx), strict=True)
        )
        before = {c.id: "dominant_" if c.strategy == DOMINANT else "" for c in answers}
        return [
            {f"{before[c.id]}{name}": value for name, value in found.get(c.id, {}).items()}
            for c in candidates
        ]


@dataclass(frozen=True)
class AcrossLanguages:
    """Select: pairs in both directions from translations that hold."""

    identify: Identify = identify

    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        mine = sorted(of_round(pool, ctx.round), key=lambda c: c.id)
        spoken = dict(
            zip([c.id for c in mine], self.identify([c.output for c in mine]), strict=True)
        )
        by_id = {c.id: c for c in mine}
        answers = {
            (c.task, c.meta["answer"], c.strategy == DOMINANT): c
            for c in mine
            if c.strategy not in (TO, FROM)
        }
        pairs: list[Preference] = []
        said: Counter[str] = Counter()
        for c in mine:
            if c.strategy not in (TO, FROM):
                continue
            verify = kind_of(tasks[c.task]) != "text"
            why = failure(c, by_id[c.parent or ""], spoken[c.id], verify)
            said[f"failed_{why}" if why else "translated"] += 1
            other = answers.get((c.task, c.meta["answer"], c.strategy == TO))
            if why or other is None or other.output == c.output:
                continue
            task = tasks[c.task]
            if c.strategy == FROM:
                pairs.append(pair(task, c, other, 0.0, f"into {task.language}", ctx.round))
            elif other.meta.get("finished", True):
                asked = replace(task, prompt=str(other.meta["prompt"]))
                pairs.append(
                    pair(asked, other, c, 0.0, f"{task.language} into dominant", ctx.round)
                )
        own = [c for c in mine if c.strategy not in (DOMINANT, TO, FROM)]
        heard = [(spoken[c.id], tasks[c.task].language) for c in own if spoken[c.id]]
        notes: dict[str, Any] = dict(sorted(said.items()))
        notes["off_target"] = sum(a != b for a, b in heard) / len(heard) if heard else 0.0
        notes["pairs_into_others"] = sum(p.source.startswith("into") for p in pairs)
        notes["pairs_in_dominant"] = len(pairs) - notes["pairs_into_others"]
        return Lessons(tuple(distinct(pairs)), notes=notes)


def failure(
    translation: Candidate, source: Candidate, spoken: str | None, verify: bool = True
) -> str:
    """Why a translation cannot be used, "" if it can. With ``verify`` answers must be the same."""
    if not translation.output.strip() or translation.output.strip() == source.output.strip():
        return "empty"
    if not translation.meta.get("finished", True):
        return "cut"
    if spoken is not None and spoken != translation.language:
        return "language"
    same = translation.answer is not None and translation.answer == source.answer
    return "answer" if verify and not same else ""


@dataclass
class Once:
    """A proposer whose last answers are given again to whoever asks the same right after."""

    inner: Proposer
    key: str = ""
    found: list[Candidate] = field(default_factory=list)

    def propose(self, policy: Any, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        key = identity(policy.fingerprint(), ctx.seed, ctx.round, [task.id for task in tasks])
        if key != self.key:
            self.key, self.found = key, self.inner.propose(policy, tasks, ctx)
        return self.found


@dataclass(frozen=True)
class OffTarget:
    """Measure: ``off_target``, the share of answers in another language than the question's.

    Answers without words are in none and not counted; a question that has only such is at 0.
    """

    propose: Proposer
    identify: Identify = identify

    def measure(self, policy: Any, tasks: Sequence[Task], ctx: Context) -> list[Metric]:
        found = self.propose.propose(policy, tasks, replace(ctx, round=0))
        spoken = self.identify([c.output for c in found])
        wanted = {task.id: task.language for task in tasks}
        seen: dict[str, list[bool]] = {task.id: [] for task in tasks}
        for c, language in zip(found, spoken, strict=True):
            if language is not None:
                seen[c.task].append(language != wanted[c.task])
        items = {task: sum(off) / len(off) if off else 0.0 for task, off in seen.items()}
        return [Metric.of("off_target", items, "lower")]


@dataclass(frozen=True)
class LanguageImbalance:
    """Pairs across languages by self-translation, learnt by DPO with an anchor.

    ``answers`` are drawn of each question in each of its two languages.
    """

    dominant: str = "en"
    answers: int = 2

    def loop(self, parts: Parts) -> Loop:
        config = parts.config
        train = parts.split("train")
        if train and all(task.language == self.dominant for task in train):
            raise UserError(
                f"all questions are in {self.dominant!r}, so there is nothing to learn across",
                "take a task in several languages, such as arithmetic-multilingual or mgsm",
            )
        parallel = {
            str(task.meta["parallel"]): question(task)
            for task in train
            if task.language == self.dominant and "parallel" in task.meta
        }
        sample = replace(parts.sample, n=self.answers)
        propose = BothWays(sample, parallel, self.dominant, config.shots, config.chat)
        measured = Once(Solve(replace(parts.sample, n=config.measured)))
        return parts.loop(
            propose=propose,
            judge=OwnAnswers(parts.judge),
            select=AcrossLanguages(),
            learn=parts.preference(),
            measure=[Accuracy(measured, parts.examiner), OffTarget(measured)],
        )
