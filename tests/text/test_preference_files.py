"""The forms that chosen/rejected data has, and what is none."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from common.errors import UserError
from text.preference_files import load

CHAT = [{"role": "user", "content": "Hi?"}]
ROWS = [
    {"prompt": "Hi?", "chosen": "Hello.", "rejected": "No."},
    {"chosen": [*CHAT, {"role": "assistant", "content": "Hello!"}],
     "rejected": [*CHAT, {"role": "assistant", "content": "No!"}]},
    {"prompt": CHAT, "chosen": [{"role": "assistant", "content": "Yes."}],
     "rejected": [{"role": "assistant", "content": "Nope."}]},
    {"chosen": "\n\nHuman: Hi?\n\nAssistant: Well?\n\nHuman: So?\n\nAssistant: Fine.",
     "rejected": "\n\nHuman: Hi?\n\nAssistant: Well?\n\nHuman: So?\n\nAssistant: Bad."},
    {"prompt": "Hi?", "chosen": "Same.", "rejected": "Same."},
]  # fmt: skip


@pytest.mark.parametrize("form", ["lines", "array"])
def test_every_form(tmp_path: Path, form: str) -> None:
    path = tmp_path / "some.jsonl"
    text = "\n".join(map(json.dumps, ROWS)) if form == "lines" else json.dumps(ROWS)
    path.write_text(text)
    found = load(path)
    assert [(p.prompt, p.chosen, p.rejected) for p in found] == [
        ("Hi?", "Hello.", "No."),
        ("Hi?", "Hello!", "No!"),
        ("Hi?", "Yes.", "Nope."),
        ("Hi?\n\nAssistant: Well?\n\nHuman: So?", "Fine.", "Bad."),
    ]
    assert found[0].task == found[1].task != found[3].task


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "some.parquet"
    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS[:1] * 2), path)
    assert len(load(path)) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"prompt": "a", "chosen": "b"}', "row 1"),
        (json.dumps(ROWS[0]) + "\n" + '{"chosen": "b", "rejected": "c"}', "row 2"),
        ("not json", "cannot read"),
        ("", "no preferences"),
        ("[3]", "row 1"),
    ],
)
def test_mistakes_name_the_row(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        load(path)
    with pytest.raises(UserError, match="cannot read"):
        load(tmp_path / "none.jsonl")
