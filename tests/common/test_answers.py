"""What models wrap around JSON, and what remains of JSON that was cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.policies.answers import Heard, read, refuses

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(min_size=1, max_size=6), VALUES, min_size=1, max_size=4)
CHATTER = st.sampled_from(
    ["", "Sure! Here it is: ", "<think>{a: maybe [1]}</think>", "I took {two} things.\n"]
)


@given(OBJECTS, CHATTER, st.booleans(), st.sampled_from(["", " I hope [this] helps!"]))
def test_json_is_found_in_whatever_stands_around_it(
    value: dict[str, object], before: str, fenced: bool, after: str
) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False)
    text = f"```json\n{text}\n```" if fenced else text
    if len(text) > 10:  # so that it is the longest
        assert read(before + text + after) == Heard(value)


@given(OBJECTS, st.data())
def test_json_that_is_cut_keeps_only_what_was_there(
    value: dict[str, object], data: st.DataObject
) -> None:
    text = json.dumps([value, value, value])
    end = data.draw(st.integers(1, len(text) - 1))
    try:
        heard = read(text[:end])
    except ValueError:
        return
    assert not heard.whole
    assert part_of(heard.value, [value, value, value])


def part_of(cut: object, whole: object) -> bool:
    """Lists may be shorter and objects have fewer keys; nothing else differs."""
    if isinstance(cut, list) and isinstance(whole, list):
        return len(cut) <= len(whole) and all(
            part_of(c, w) for c, w in zip(cut, whole, strict=False)
        )
    if isinstance(cut, dict) and isinstance(whole, dict):
        return all(k in whole and part_of(v, whole[k]) for k, v in cut.items())
    return cut == whole


def test_slips_of_small_models_are_let_pass() -> None:
    text = '{"a": [1, 2,], // two of them\n "b": "x, ] // y",}'
    assert read(text) == Heard({"a": [1, 2], "b": "x, ] // y"})
    assert read('{"a": "two\nlines"}') == Heard({"a": "two\nlines"})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("<think>so much to think about</think>  ", "empty"),
        ("A table and a chair.", "no JSON"),
        ('{"a": tru', "invalid JSON"),
        ("[" * 100_000, "nested"),
    ],
)
def test_what_is_no_json_is_said(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read(text)


def test_refusals_are_told_from_answers() -> None:
    assert refuses("I'm sorry, I can't do that.") and refuses("Sorry. No.")
    assert refuses("I will not plan such a scene.")
    assert not refuses("A table is sorry to hear it.") and not refuses("Here is what I cannot do")
    assert not refuses('I cannot do it all: {"a": 1}')
