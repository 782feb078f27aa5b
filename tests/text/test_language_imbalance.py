"""Two-way pairs from a polyglot of known skill; texts say themselves which language they are in."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.policies import Sample
from common.records import Candidate, Task
from tests.common.tiny import context
from tests.text.simulated import Simulated
from text.answers import AnswerJudge
from text.improve import ImproveConfig, Parts
from text.language_imbalance import (
    DOMINANT,
    FROM,
    TO,
    AcrossLanguages,
    BothWays,
    LanguageImbalance,
    OffTarget,
    Once,
    OwnAnswers,
)
from text.languages import identify

CODES = {"English": "en", "Spanish": "es", "German": "de"}
SKILL = {"en": 0.9, "es": 0.4, "de": 0.2}
TASKS = {
    f"{code}-{i}": Task(
        f"{code}-{i}", f"{code}: number {i}?", reference=str(i), language=code,
        meta={"question": f"{code}: number {i}?"} | ({"parallel": f"p{i}"} if i % 2 else {}),
    )
    for code in ("en", "es", "de") for i in range(20)
}  # fmt: skip
PARALLEL = {f"p{i}": f"en: number {i}?" for i in range(1, 20, 2)}


def polyglot(task: Task, rng: np.random.Generator, temperature: float) -> str:
    """Answers by its skill, translates well; sometimes forgets to, or changes the number."""
    asked = re.search(r"from (\w+) into (\w+)\..*<sentence>(.*)</sentence>", task.prompt, re.DOTALL)
    if asked:
        target, text = CODES[asked[2]], asked[3]
        chance = rng.random()
        if chance < 0.1:
            return text
        if chance < 0.2:
            return re.sub(r"\d+", "99", f"{target}{text[2:]}")
        return f"{target}{text[2:]}" if chance < 0.95 else ""
    code, number = re.findall(r"(\w\w): number (\d+)", task.prompt)[-1]
    said = code if rng.random() < 0.8 or code == "en" else "en"  # off target
    right = rng.random() < SKILL[code]
    return f"{said}: way {rng.integers(9)}. The answer is {number if right else 77}."


def marked(texts: list[str]) -> list[str | None]:
    return [t.strip()[:2] if t.strip()[:2] in SKILL else None for t in texts]


def pool(folder: Path) -> list[Candidate]:
    ctx = context(folder)
    stage = BothWays(Sample(n=3), PARALLEL, shots=0, identify=marked)
    found = stage.propose(Simulated(polyglot), list(TASKS.values()), ctx)
    scores = OwnAnswers(AnswerJudge()).judge(TASKS, found, ctx)
    return [replace(c, scores=s) for c, s in zip(found, scores, strict=True)]


def test_every_question_is_answered_and_translated_both_ways(tmp_path: Path) -> None:
    found = pool(tmp_path)
    assert len({c.id for c in found}) == len(found)
    assert {TASKS[c.task].language for c in found} == {"es", "de"}
    counts = Counter(c.strategy for c in found)
    assert counts["sample"] == counts[TO] == 120 and counts[DOMINANT] == counts[FROM]
    assert 60 < counts[DOMINANT] < 120  # some questions could not be translated
    odd = {c.task for c in found if c.strategy == DOMINANT and int(c.task[3:]) % 2}
    assert len(odd) == 20  # those whose English version was known
    by_id = {c.id: c for c in found}
    for c in found:
        if c.strategy in (TO, FROM):
            source = by_id[c.parent or ""]
            assert source.task == c.task and source.meta["answer"] == c.meta["answer"]
    better = np.mean([c.scores["dominant_correct"] for c in found if c.strategy == DOMINANT])
    assert better > np.mean([c.scores["correct"] for c in found if "correct" in c.scores]) + 0.2
    stage = BothWays(Sample(n=3), PARALLEL, shots=0, identify=marked)
    apart = [
        c
        for t in TASKS.values()
        for c in stage.propose(Simulated(polyglot), [t], context(tmp_path))
    ]
    assert {c.id: c.output for c in apart} == {c.id: c.output for c in found}


def test_pairs_in_both_directions_and_failures_dropped(tmp_path: Path) -> None:
    found = pool(tmp_path)
    lessons = AcrossLanguages(marked).select(TASKS, found, context(tmp_path))
    into = [p for p in lessons.preferences if p.source.startswith("into")]
    dominant = [p for p in lessons.preferences if p.source.endswith("dominant")]
    assert len(into) == lessons.notes["pairs_into_others"] > 40
    assert len(dominant) == lessons.notes["pairs_in_dominant"] > 40
    by_id = {c.id: c for c in found}
    for p in into:  # the translated English answer over the own one, in the question's language
        chosen, rejected = by_id[p.chosen_id or ""], by_id[p.rejected_id or ""]
        assert (chosen.strategy, rejected.strategy) == (FROM, "sample")
        assert p.prompt == TASKS[p.task].prompt
        assert marked([p.chosen]) == [TASKS[p.task].language]
        assert chosen.answer == by_id[chosen.parent or ""].answer
    for p in dominant:
        chosen, rejected = by_id[p.chosen_id or ""], by_id[p.rejected_id or ""]
        assert (chosen.strategy, rejected.strategy) == (DOMINANT, TO)
        assert "en: number" in p.prompt and marked([p.rejected]) == ["en"]
    right = {
        side: np.mean([f"answer is {p.task[3:]}." in getattr(p, side) for p in into])
        for side in ("chosen", "rejected")
    }
    assert right["chosen"] > right["rejected"] + 0.2
    notes = lessons.notes
    assert min(notes["failed_answer"], notes["failed_empty"]) > 2
    assert notes["off_target"] == pytest.approx(0.2, abs=0.1)
    again = AcrossLanguages(marked).select(TASKS, found[::-1], context(tmp_path))
    assert again == lessons


def test_off_target_is_measured_on_the_answers_that_accuracy_saw(tmp_path: Path) -> None:
    policy = Simulated(polyglot)
    policy.fingerprint = lambda: "same"  # type: ignore[attr-defined]
    once = Once(Sample(n=4))
    tasks = [t for t in TASKS.values() if t.language != "en"]
    ctx = replace(context(tmp_path), round=0)
    once.propose(policy, tasks, ctx)
    [metric] = OffTarget(once, marked).measure(policy, tasks, replace(ctx, round=3))
    assert policy.drawn == 4 * len(tasks)
    assert metric.name == "off_target" and metric.better == "lower" and metric.n == len(tasks)
    assert metric.value == pytest.approx(0.2, abs=0.1)
    numbers = OffTarget(Once(Simulated(lambda *_: "1 + 1 = 2")), marked)  # type: ignore[arg-type]
    assert numbers.identify(["1 + 1 = 2"]) == [None]


def test_one_language_has_nothing_to_learn_across() -> None:
    english = [t for t in TASKS.values() if t.language == "en"]
    parts = Parts(ImproveConfig(), None, english, None, None, None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="across"):
        LanguageImbalance().loop(parts)


def test_the_identifier_knows_the_languages_of_the_tasks() -> None:
    pytest.importorskip("lingua")
    said = {
        "en": "14 + 9 = 23. The answer is 23.",
        "es": "14 + 9 = 23. La respuesta es 23.",
        "fr": "14 + 9 = 23. La réponse est 23.",
        "de": "14 + 9 = 23. Die Antwort ist 23.",
        "ru": "14 + 9 = 23. Ответ: 23.",
        "zh": "14 + 9 = 23。答案是23。",
    }
    assert identify(list(said.values())) == list(said)
    assert identify(["14 + 9 = 23", ""]) == [None, None]
