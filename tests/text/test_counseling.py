"""Feedback as data: the schema, conversations in every form, topic segments, tasks, lessons."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from text import tasks
from text.counseling import segments, synthetic
from text.counseling.conversations import Turn, load, merge, read_lines, write
from text.counseling.schema import ERRORS, Area, Feedback, checked, expert, parse
from text.counseling.tasks import augmented, demonstrations, reference, responses, with_response
from text.prompts import template

WEAK: dict[str, Any] = {
    "perfect": False, "goodareas": ["Questions"], "feedback": "The goal is to listen.",
    "badareas": ["Suggestions", "Empathy"], "alternative": "That sounds hard. What is it like?",
}  # fmt: skip
GOOD: dict[str, Any] = {"perfect": True, "goodareas": ["Empathy"]}


# Schema


@pytest.mark.parametrize("value", [WEAK, GOOD, {"perfect": True, "goodareas": []}])
def test_feedback_comes_back_as_it_was_published(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    assert parse(text).json_text() == text
    assert parse(f"Sure: ```json\n{text}\n``` Take care!") == parse(text)
    assert len(Area) == 8 == len(ERRORS)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"badareas": ["Spirituality"]}, "'Spirituality' is none of the eight"),
        ({"goodareas": ["empathy"]}, "none of the eight"),
        ({"goodareas": [["Empathy"]]}, "none of the eight"),
        ({"badareas": [{"area": "Empathy"}]}, "none of the eight"),
        ({"goodareas": ["Empathy"]}, "good and bad"),
        ({"badareas": []}, "needs badareas"),
        ({"alternative": " "}, "needs alternative"),
        ({"alternative": None}, "needs alternative"),
        ({"feedback": "You should listen."}, "must begin"),
        ({"feedback": "The goal is to " + "x" * 2000}, "more than"),
        ({"perfect": True}, "has no feedback"),
        ({"perfect": "no"}, "perfect"),
        ({"score": 1}, "score"),
    ],
)
def test_what_breaks_the_schema_is_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        checked({**WEAK, **change})


def test_the_examples_of_the_prompt_are_feedback() -> None:
    shots = template("feedback", "en")["shots"]
    said = [parse(answered) for _, answered in shots]
    assert [one.perfect for one in said] == [False, True]
    assert [one.json_text() for one in said] == [answered for _, answered in shots]
    assert all(read_lines(asked)[-1].speaker == "Helper" for asked, _ in shots)


def test_what_is_no_feedback() -> None:
    whole = json.dumps(WEAK)
    for text in ("", "no", "[1, 2]", whole[:60], '{"perfect": true, "goodareas": ["Emp'):
        with pytest.raises(ValueError):
            parse(text)
    with pytest.raises(ValueError, match="good and bad"):
        checked({**WEAK, "goodareas": ["Empathy", "Questions"]})
    # In the data the authors take such an area for bad.
    assert expert({**WEAK, "goodareas": ["Empathy", "Questions"]}).goodareas == (Area.QUESTIONS,)
    assert checked({**GOOD, "goodareas": ["Empathy", "Empathy"]}).goodareas == (Area.EMPATHY,)


# Conversations

DIALOG = [
    {"speaker": "usr", "text": "hello"},
    {"speaker": "usr", "text": "I failed."},
    {"speaker": "sys", "text": "When?", "strategy": "Question"},
    {"speaker": "sys", "text": "And why", "feedback": WEAK},
    {"speaker": "usr", "content": "Monday"},
    {"speaker": "supporter", "content": "I see.", "feedback": GOOD},
]
CHAT = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "hello. I failed."},
    {"role": "assistant", "content": "When? And why"},
    {"role": "user", "content": "Monday"},
    {"role": "assistant", "content": "I see."},
]


@pytest.mark.parametrize("form", ["array", "lines", "one", "string", "messages"])
def test_every_form_of_a_conversation(tmp_path: Path, form: str) -> None:
    path = tmp_path / "talk.json"
    row: dict[str, Any] = {"dialog": DIALOG, "emotion_type": "sadness"}
    if form == "messages":
        row = {"messages": CHAT}
    if form == "string":
        row = {"text": json.dumps(row)}
    rows = [row] if form == "one" else [row, {"dialog": DIALOG[2:]}]
    if form == "lines":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    else:
        path.write_text(json.dumps(rows[0] if form == "one" else rows, indent=1))
    talk = load(path)[0]
    assert [turn.line() for turn in talk.turns] == [
        "Seeker: hello. I failed.", "Helper: When? And why", "Seeker: Monday", "Helper: I see.",
    ]  # fmt: skip
    if form != "messages":
        assert [t.feedback.perfect if t.feedback else None for t in talk.turns] == [
            None, False, None, True]  # fmt: skip
    again = tmp_path / "again.json"
    write(again, [talk], about="invented")
    assert load(again) == [talk] and "invented" in again.read_text()


def test_published_annotations(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    lines = "Seeker: I failed.\nand more\nHelper: When: now?\nSeeker: Now.\nHelper: I see."
    text = f"### Instruction:\nGive ...\n\n### Input:\n{lines}\n\n### Response:"
    rows = [{"text": text + said, "conv_index": 3} for said in (json.dumps(WEAK), "")]
    path.write_text(json.dumps(rows))
    labelled, bare = load(path)
    assert labelled.id == bare.id and not labelled.whole
    assert labelled.turns[0].text == "I failed. and more" and labelled.turns[1].text == "When: now?"
    [task] = responses([labelled])  # the last response alone, with the context as it is
    assert task.prompt.endswith("\nHelper: I see.") and reference(task) == checked(WEAK)
    assert responses([bare])[0].reference is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot read"),
        ("[]", "no conversation"),
        ("[3]", "entry 1"),
        ('{"dialog": []}', "helper says nothing"),
        ('{"dialog": [{"speaker": "bot", "text": "a"}]}', "'bot'"),
        ('{"dialog": [{"speaker": "sys", "text": " "}]}', "without text"),
        ('{"dialog": [{"speaker": "usr", "text": "a", "feedback": {}}]}', "seeker"),
        ('{"text": "### Input:\\nHelper: a\\n### Response: {\\"perfect\\": 1}"}', "perfect"),
        ('{"text": "### Input:\\nSeeker: a\\n### Response:"}', "does not end with the helper"),
    ],
)
def test_mistakes_name_the_entry(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "talk.json"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        load(path)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from(["Seeker", "Helper"]), st.from_regex(r"\A[a-z]{1,4}[.?]?\Z"))
    )
)
def test_merged_turns_alternate_and_lose_no_word(rows: list[tuple[Any, str]]) -> None:
    merged = merge(Turn(*row) for row in rows)
    assert all(a.speaker != b.speaker for a, b in pairwise(merged))
    words = [w.strip(".?") for turn in merged for w in turn.text.split()]
    assert words == [text.strip(".?") for _, text in rows]
    if merged:
        lines = "\n".join(turn.line() for turn in merged)
        assert [(t.speaker, t.text) for t in read_lines(lines)] == [t[:2] for t in merged]


# Segments


def test_segments_are_found_where_topics_change() -> None:
    random = np.random.default_rng(0)
    topics = np.repeat(np.eye(3), [6, 5, 7], axis=0)
    talk = topics + 0.1 * random.normal(size=topics.shape)
    assert segments.boundaries(talk) == [0, 6, 11]
    assert segments.boundaries(talk[:3]) == [0]  # too short to split


def test_ranks_by_hand() -> None:
    similar = np.array([[1.0, 0.2, 0.1], [0.2, 1.0, 0.3], [0.1, 0.3, 1.0]])
    # The whole matrix is every entry's neighbourhood.
    expected = np.array([[6, 2, 0], [2, 6, 4], [0, 4, 6]]) / 9
    assert np.array_equal(segments.ranks(similar), expected)
    assert segments.similarities(np.array([[2.0, 0], [0, 3.0], [0, 0]])).tolist() == [
        [1, 0, 0], [0, 1, 0], [0, 0, 0]]  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 14), st.integers(0, 99))
def test_boundaries_are_in_order_and_apart(count: int, seed: int) -> None:
    found = segments.boundaries(np.random.default_rng(seed).normal(size=(count, 5)))
    assert found[0] == 0 and found == sorted(set(found)) and found[-1] < count
    assert all(b - a > 1 for a, b in pairwise(found[1:]))


# Tasks


def test_the_context_is_this_segment_and_the_one_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    turns = [("usr" if i % 2 else "sys", f"turn {i}") for i in range(9)]
    path = tmp_path / "talk.json"
    path.write_text(json.dumps({"dialog": [{"speaker": s, "text": t} for s, t in turns]}))
    monkeypatch.setattr(
        "text.counseling.tasks.segmented", lambda talks: {t.id: [0, 3, 5] for t in talks}
    )
    asked = responses(load(path))
    begins = [task.prompt.splitlines()[0].split(": ")[1] for task in asked]
    assert begins == ["turn 0", "turn 0", "turn 0", "turn 3", "turn 3"]
    assert [task.prompt.splitlines()[-1] for task in asked] == [
        f"Helper: turn {i}" for i in (0, 2, 4, 6, 8)]  # fmt: skip
    assert [task.meta["helper"] for task in asked] == [0, 1, 2, 3, 4]


def test_synthetic_tasks_share_nothing_between_splits() -> None:
    found = tasks.load("counseling", 0, train=40, dev=10, test=10)
    by_split = {s: [t for t in found if t.split == s] for s in ("train", "dev", "test")}
    assert [len(some) for some in by_split.values()] == [40, 10, 10]
    talks = [{t.meta["conversation"] for t in some} for some in by_split.values()]
    assert not talks[0] & talks[1] and not talks[0] & talks[2] and not talks[1] & talks[2]
    assert {t.reference is None for t in by_split["train"]} == {True, False}
    assert all(t.reference for t in by_split["test"])
    assert tasks.load("counseling", 0, train=40, dev=10, test=10) == found
    assert all(t.meta.keys() == {"kind", "family", "conversation", "helper"} for t in found)
    assert "Nobody had" in synthetic.ABOUT
    text = "".join(t.prompt for t in found)
    assert "{" not in text  # every slot of a block was filled


def test_files_and_folders(tmp_path: Path) -> None:
    for split, count in (("train", 20), ("test", 6)):
        write(tmp_path / f"{split}.json", synthetic.conversations(count, 1, split))  # type: ignore[arg-type]
    sizes: Any = {"train": 1000, "dev": 1000, "test": 4}
    found = tasks.load(f"counseling:{tmp_path}", 0, **sizes)
    counts = {s: len({t.meta["conversation"] for t in found if t.split == s}) for s in sizes}
    assert counts["train"] + counts["dev"] == 20 and counts["dev"] > 0
    assert sum(t.split == "test" for t in found) == 4
    one = tasks.load(f"counseling:{tmp_path / 'train.json'}", 0, **sizes)
    assert len({t.meta["conversation"] for t in one}) == 19  # 16, 2, and one of 2
    for wrong in (tmp_path / "none.json", tmp_path / "train.json" / "x"):
        with pytest.raises(UserError, match="cannot read"):
            tasks.load(f"counseling:{wrong}", 0)
    (tmp_path / "test.json").unlink()
    with pytest.raises(UserError, match="no test conversations"):
        tasks.load(f"counseling:{tmp_path}", 0)


# Lessons


def test_an_alternative_becomes_a_good_response() -> None:
    context = "Seeker: I failed.\nHelper: Study more."
    found = augmented(context, checked(WEAK))
    assert found is not None
    asked, said = found
    assert asked == "Seeker: I failed.\nHelper: That sounds hard. What is it like?"
    # Suggestions are mended by making none.
    assert said == Feedback(perfect=True, goodareas=(Area.EMPATHY, Area.QUESTIONS))
    assert augmented(context, checked(GOOD)) is None
    assert with_response(context, "Line\nbreak") == "Seeker: I failed.\nHelper: Line break"
    labelled = [t for t in tasks.load("counseling", 0, 30, 5, 5) if t.split == "train"]
    both, alone = demonstrations(labelled), demonstrations(labelled, augment=False)
    known = [one for t in labelled if (one := reference(t))]
    assert len(alone) == len(known)
    assert len(both) == len(known) + sum(not one.perfect for one in known)
    assert all(parse(d.completion) for d in both)
    assert all(d.prompt.endswith("Feedback:") and d.completion[0] == " " for d in both)
