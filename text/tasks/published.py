"""Published data sets, from the hub or from files with the same columns, and files of one's own.

| name | on the hub | columns |
|---|---|---|
| gsm8k | openai/gsm8k, main | question, answer (ends with ``#### 12``) |
| math | EleutherAI/hendrycks_math, each subject | problem, solution (the answer is boxed) |
| svamp | ChilleD/SVAMP | question_concat, Answer |
| asdiv | EleutherAI/asdiv | body, question, answer |
| mgsm | juletxara/mgsm, each language | question, answer_number |
| mmlu | cais/mmlu, all | question, choices (a list), answer (a number from 0, or a letter) |
| gpqa | Idavidrein/gpqa, diamond | Question, Correct Answer, Incorrect Answer 1 to 3 |
| drop | ucinlp/drop | passage, question, answers_spans (spans, each of which is right) |
| x-alpaca | – | prompt, language, parallel; an instruction has no answer |
| jsonl | – | prompt, answer, language, parallel, kind (number or text, by the answer) |

``gsm8k:/data/gsm8k`` reads a file (JSONL, JSON, Parquet, CSV) or a folder with ``train`` and
``test`` files. A set without a split for it gives up a part of train (dev) or of what there is
(test), by the hash of each question, so that the same question never moves between splits.

Rows of several languages may have a column ``parallel``, the same in rows that say the same; those
of mgsm on the hub have it by their number. They are drawn together and never stand in two splits.

The names on the hub were not tried: this was written without one. Files of the sets' columns were.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from common.errors import UserError
from common.records import Split, Task, identity
from text.answers import SPANS

Row = Mapping[str, Any]
SUBJECTS = ("algebra", "counting_and_probability", "geometry", "intermediate_algebra",
            "number_theory", "prealgebra", "precalculus")  # fmt: skip
MGSM = ("en", "es", "fr", "de", "ru", "zh", "ja", "th", "sw", "bn", "te")
SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".tsv", ".gz")


@dataclass(frozen=True)
class Source:
    """A data set: where the hub has it, and how a row of it becomes a question and an answer."""

    hub: str
    columns: tuple[str, ...]
    read: Callable[[Row], tuple[str, str | None]]
    family: str = "words"
    kind: str = "number"
    parts: tuple[str, ...] = ("",)
    """Configurations on the hub; of mgsm they are the languages."""


def _gsm8k(row: Row) -> tuple[str, str | None]:
    return row["question"], str(row["answer"]).rsplit("####", 1)[-1].strip()


def _math(row: Row) -> tuple[str, str | None]:
    return row["problem"], boxed(str(row["solution"]))


def _mgsm(row: Row) -> tuple[str, str | None]:
    # Some copies put "Question:", in the task's language, before it.
    return re.sub(r"^\S{1,12}\s?[:：]\s*", "", row["question"], count=1), str(row["answer_number"])


def _asdiv(row: Row) -> tuple[str, str | None]:
    return f"{row['body']} {row['question']}", re.sub(r"\s*\(.*\)$", "", str(row["answer"]))


def _listed(question: str, choices: Sequence[str]) -> str:
    """A question with its choices, a letter each."""
    lines = [f"({chr(65 + n)}) {str(choice).strip()}" for n, choice in enumerate(choices)]
    return "\n".join([question.strip(), *lines])


def _mmlu(row: Row) -> tuple[str, str | None]:
    answer = str(row["answer"]).strip()
    letter = chr(65 + int(answer)) if answer.isdigit() else answer
    return _listed(row["question"], row["choices"]), letter


_GPQA = ("Question", "Correct Answer", *(f"Incorrect Answer {n}" for n in (1, 2, 3)))


def _gpqa(row: Row) -> tuple[str, str | None]:
    question, *choices = (str(row[column]) for column in _GPQA)
    # The right one comes first in the file; the question itself says in which order it is asked.
    order = Random(identity("gpqa", question)).sample(range(4), 4)
    return _listed(question, [choices[i] for i in order]), chr(65 + order.index(0))


def _drop(row: Row) -> tuple[str, str | None]:
    spans = row["answers_spans"]["spans"]
    return f"{row['passage']}\n\n{row['question']}", SPANS.join(dict.fromkeys(spans)) or None


SOURCES: Mapping[str, Source] = {
    "gsm8k": Source("openai/gsm8k", ("question", "answer"), _gsm8k, parts=("main",)),
    "math": Source(
        "EleutherAI/hendrycks_math", ("problem", "solution"), _math, "math", "text", SUBJECTS
    ),
    "svamp": Source(
        "ChilleD/SVAMP", ("question_concat", "Answer"),
        lambda row: (row["question_concat"], str(row["Answer"])),
    ),
    "asdiv": Source("EleutherAI/asdiv", ("body", "question", "answer"), _asdiv),
    "mgsm": Source(
        "juletxara/mgsm", ("question", "answer_number"), _mgsm, parts=MGSM,
    ),
    "mmlu": Source(
        "cais/mmlu", ("question", "choices", "answer"), _mmlu, "", "choice", ("all",)
    ),
    "gpqa": Source("Idavidrein/gpqa", _GPQA, _gpqa, "", "choice", ("gpqa_diamond",)),
    "drop": Source(
        "ucinlp/drop", ("passage", "question", "answers_spans"), _drop, "", "span",
    ),
    "x-alpaca": Source("", ("prompt",), lambda row: (row["prompt"], None), "", "text"),
}  # fmt: skip
OWN = Source(
    "",
    ("prompt",),
    lambda row: (row["prompt"], None if row.get("answer") is None else str(row["answer"])),
    family="",
)


def load(name: str, where: str, seed: int, sizes: Mapping[Split, int]) -> list[Task]:
    """``sizes`` tasks of each split of ``name``, drawn with ``seed``; all where there are fewer.

    Raises:
        UserError: the file, the hub or a column is not there.
    """
    source = SOURCES.get(name, OWN)
    if not where and not source.hub:
        raise UserError(f"{name} needs a file", f"give --task {name}:FILE.jsonl")
    pools = read_files(Path(where).expanduser()) if where else _hub(name, source)
    tasks = list(_tasks(name, source, pools))
    found: list[Task] = []
    for split, size in sizes.items():
        mine = sorted((task for task in tasks if task.split == split), key=lambda task: task.id)
        groups: dict[str, list[Task]] = {}
        for task in mine:
            groups.setdefault(task.meta.get("parallel", task.id), []).append(task)
        rng = Random(identity(name, seed, split))
        drawn = rng.sample(list(groups.values()), min(size, len(groups)))
        found += [task for group in drawn for task in group][:size]
    return found


def boxed(solution: str) -> str | None:
    """What stands in the last ``\\boxed{...}``, braces balanced; None without one."""
    start = solution.rfind("\\boxed{")
    if start < 0:
        return None
    start += len("\\boxed{")
    depth = 1
    for end in range(start, len(solution)):
        depth += {"{": 1, "}": -1}.get(solution[end], 0)
        if depth == 0:
            return solution[start:end]
    return None


def _tasks(name: str, source: Source, pools: Mapping[str, Iterable[Row]]) -> Iterator[Task]:
    held = {split for split in ("dev", "test") if split in pools}
    seen: set[str] = set()
    for pool, rows in pools.items():
        for number, row in enumerate(rows, 1):
            missing = [column for column in source.columns if row.get(column) is None]
            if missing:
                raise UserError(
                    f"row {number} of {name} ({pool}) has no {missing[0]!r}, only {sorted(row)}",
                    f"give rows with {', '.join(source.columns)}",
                )
            question, answer = source.read(row)
            question = str(question).strip()
            task = identity(name, question)
            if not question or task in seen:
                continue
            seen.add(task)
            meta: dict[str, Any] = {"family": source.family, "kind": source.kind}
            if source is OWN:
                meta = {"family": row.get("family", ""), "kind": row.get("kind", _kind(answer))}
            language = str(row.get("language") or "en")
            if row.get("parallel") is not None:
                meta["parallel"] = identity(name, pool, str(row["parallel"]))
            split = split_in(pool, meta.get("parallel", task), held)
            yield Task(task, question, split, answer, language, meta)


def split_in(pool: str, task: str, held: set[str]) -> Split:
    """The split of a task from ``pool``; what is not held apart is drawn by the task's id."""
    if pool == "test":
        return "test"
    if pool == "dev":
        return "dev"
    share = int(task[:8], 16) % 10
    if "dev" not in held and share == 0:
        return "dev"
    return "test" if "test" not in held and share in (1, 2) else "train"


def _kind(answer: str | None) -> str:
    from text.numbers import parse

    return "number" if answer is not None and parse(answer) is not None else "text"


def pool_of(name: str) -> str:
    """``train``, ``dev`` or ``test``, by the name of a hub's split or of a file."""
    stem = name.lower()
    if "test" in stem:
        return "test"
    return "dev" if "dev" in stem or "val" in stem else "train"


def read_files(path: Path) -> dict[str, list[Row]]:
    """The rows of a file, or of a folder's files by the split in their names.

    Raises:
        UserError: there is no file, or one cannot be read.
    """
    if path.is_dir():
        paths = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES)
    else:
        paths = [path] if path.is_file() else []
    if not paths:
        remedy = f"give a {', '.join(SUFFIXES)} file or a folder of them"
        raise UserError(f"no data in {path}", remedy)
    pools: dict[str, list[Row]] = {}
    for one in paths:
        pools.setdefault(pool_of(one.stem), []).extend(read_rows(one))
    return pools


def read_rows(path: Path) -> list[Row]:
    """The rows of a file by its ending.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    rows = _rows(path)
    if not isinstance(rows, list):
        raise UserError(f"{path} holds no list of rows", "give a list, or a row a line as .jsonl")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise UserError(
                f"row {number} of {path} is no object, but {str(row)[:40]!r}",
                "give rows with named columns",
            )
    return rows


def _rows(path: Path) -> Any:
    try:
        if path.suffix in (".jsonl", ".gz"):
            data = path.read_bytes()
            text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
            lines = text.split("\n")  # a text in JSON may hold other ends of lines
            return [json.loads(line) for line in lines if line.strip()]
        if path.suffix == ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            return pq.read_table(path).to_pylist()
        import csv

        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} cannot be read ({str(error).splitlines()[0]})", "give a valid file"
        ) from error


def _hub(name: str, source: Source) -> dict[str, list[Row]]:
    """Every split of every part of a data set on the hub, or of its cached copy."""
    from datasets import load_dataset

    pools: dict[str, list[Row]] = {}
    for part in source.parts:
        try:
            found = load_dataset(source.hub, part or None)
        except Exception as error:  # the library raises what its backends raise
            raise UserError(
                f"{source.hub} cannot be loaded ({type(error).__name__})",
                f"go online, or give the files: --task {name}:FOLDER",
            ) from error
        for split, rows in found.items():
            pools.setdefault(pool_of(str(split)), []).extend(
                {**row, "language": part, "parallel": number} if name == "mgsm" else row
                for number, row in enumerate(rows)
            )
    return pools
