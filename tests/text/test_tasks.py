"""Tasks: disjoint, exact, grammatical as far as a program can tell; data sets from tiny files."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.records import Task
from text.answers import correct, f1, flexible, kind_of, strict
from text.prompts import FAMILIES, prompted, question, template
from text.tasks import NAMES, game24, load, published
from text.tasks.arithmetic import LANGUAGES, problem, templates
from text.tasks.countdown import evaluate, find, reaches
from text.tasks.logic import NOUNS


def split(tasks: Sequence[Task], name: str) -> list[Task]:
    return [task for task in tasks if task.split == name]


def said(text: str) -> set[int]:
    return set(map(int, re.findall(r"\d+", text)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_splits_share_no_template_no_number_no_question(seed: int, level: int) -> None:
    name = f"arithmetic-multilingual:steps=1-4,level={level}"
    tasks = load(name, seed, train=48, dev=24, test=24)
    kinds = {s: split(tasks, s) for s in ("train", "dev", "test")}
    assert [len(k) for k in kinds.values()] == [48, 24, 24]
    stories = [
        {"-".join(str(t.meta["template"]).split("-")[:2]) for t in k} for k in kinds.values()
    ]
    numbers = [set().union(*(said(t.prompt) for t in k)) for k in kinds.values()]
    for sets in (stories, numbers, [{t.id for t in k} for k in kinds.values()]):
        assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    assert {t.language for t in tasks} == set(LANGUAGES)
    assert len({t.prompt for t in tasks}) == len(tasks)
    assert tasks == load(name, seed, train=48, dev=24, test=24)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_parallel_questions_say_the_same(seed: int, level: int) -> None:
    name = f"arithmetic-multilingual:steps=1-4,level={level}"
    tasks = load(name, seed, train=48, dev=12, test=12)
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        if "parallel" in task.meta:
            groups.setdefault(task.meta["parallel"], []).append(task)
    assert len(groups) == 12 and {"ru"} == {t.language for t in tasks if "parallel" not in t.meta}
    for group in groups.values():
        assert [t.language for t in group] == ["en", "es", "fr", "de", "zh"]
        for told in ([re.findall(r"\d+", t.prompt) for t in group],
                     [t.reference for t in group], [t.split for t in group],
                     [t.meta["template"].split("-")[2:] for t in group]):  # fmt: skip
            assert all(one == told[0] for one in told)


def test_rows_that_say_the_same_are_drawn_together_and_stay_in_one_split(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"{language} {n}", "language": language, "parallel": n}
        for language in ("en", "es", "fr") for n in range(60)
    ]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    tasks = load(f"x-alpaca:{path}", train=12, dev=6, test=7)
    assert [len(split(tasks, s)) for s in ("train", "dev", "test")] == [12, 6, 7]
    numbers = [{t.prompt.split()[1] for t in split(tasks, s)} for s in ("train", "dev", "test")]
    assert [len(n) for n in numbers] == [4, 2, 3]
    assert not (numbers[0] & numbers[1] or numbers[0] & numbers[2] or numbers[1] & numbers[2])
    assert len({t.meta["parallel"] for t in tasks}) == 9


@settings(deadline=None)
@given(st.integers(), st.sampled_from(LANGUAGES), st.integers(1, 4), st.integers(1, 3))
def test_the_answer_is_what_the_steps_come_to(
    seed: int, language: str, steps: int, level: int
) -> None:
    one = problem(random.Random(seed), "train", language, steps, level)
    value = Fraction(one.numbers[0])
    _, _, *names = one.template.split("-")
    assert len(names) == steps
    for name, n in zip(names, one.numbers[1:], strict=True):
        value = {"add": value + n, "sub": value - n, "mul": value * n, "div": value / n}[name[:3]]
        assert value >= 2
    assert value == one.answer and min(one.numbers) >= 2
    # The text says these numbers in this order, and nothing is left to fill in.
    assert list(map(int, re.findall(r"\d+", one.question))) == list(one.numbers)
    assert "{" not in one.question and "  " not in one.question


@pytest.mark.parametrize("language", LANGUAGES)
def test_templates_are_whole(language: str) -> None:
    found = templates(language)
    stories = found["scenarios"]
    assert {s["split"] for s in stories} == {"train", "dev", "test"}
    for story in stories:
        for key in ("add", "sub", "mul", "div"):
            assert story[key] and all(text.count("{n}") == 1 for text in story[key])
        assert story["start"].count("{n}") == 1 and "{n}" not in story["ask"]
        for text in [
            story["start"],
            story["ask"],
            *(t for k in ("add", "sub", "mul", "div") for t in story[k]),
        ]:
            assert text[-1] in ".?。？" and not said(text)
    questions = [s["ask"] for s in stories]
    assert len({(s["start"], s["ask"]) for s in stories}) == len(questions)
    # A name that begins with a vowel would need d' in French.
    if language == "fr":
        assert not any(name[0] in "AÂEÉÈHIOUY" for name in found["names"])
    if language == "ru":  # units that stay as they are: никаких падежей после числа
        assert all(
            re.search(r"\{n\}(?: (?:кг|л|руб|км|м|мин)\b|\)|\.)", s["start"]) for s in stories
        )


def test_countdown_is_solvable_and_checked() -> None:
    for task in load("countdown", train=10, dev=4, test=4):
        numbers, target = task.meta["numbers"], int(str(task.reference))
        assert solve(numbers, target), task.prompt
        assert not reaches(str(target), numbers, target)
    shared = [{n for t in split(load("countdown"), s) for n in t.meta["numbers"]}
              for s in ("train", "dev", "test")]  # fmt: skip
    assert not (shared[0] & shared[1] or shared[0] & shared[2] or shared[1] & shared[2])


def solve(numbers: Sequence[int], target: int) -> bool:
    """Whether any expression of all the numbers is the target."""
    if len(numbers) == 1:
        return Fraction(numbers[0]) == target
    for i in range(len(numbers)):
        for j in range(len(numbers)):
            if i == j:
                continue
            a, b = Fraction(numbers[i]), Fraction(numbers[j])
            rest = [Fraction(n) for k, n in enumerate(numbers) if k not in (i, j)]
            for value in [a + b, a - b, a * b, *([a / b] if b else [])]:
                if solve([*rest, value], target):  # type: ignore[list-item]
                    return True
    return False


@pytest.mark.parametrize(
    ("text", "value"),
    [("2 + 3*4", 14), ("(2+3)/4", Fraction(5, 4)), ("2**3", None), ("2/0", None), ("-2", None),
     ("__import__('os')", None), ("2.5+1", None), ("(" * 300 + "1", None),
     ("9" * 8, None), ("", None)],
)  # fmt: skip
def test_expressions_are_walked_not_run(text: str, value: Fraction | int | None) -> None:
    found = evaluate(text)
    assert (found and found[0]) == value


def test_reaches() -> None:
    assert reaches("25 − 3 × 4 = 13", [3, 4, 25], 13)
    assert not reaches("3 + 3", [3, 4], 6) and reaches("3 + 3", [3, 3], 6)
    assert not reaches("4 + 3", [3, 4], 8)
    assert find("first 2 + 2 = 4, then (3 + 4) * 2 = 14.") == "(3+4)*2"
    assert find("the year 1999") is None


def test_games_of_24_are_solvable_disjoint_and_use_every_number() -> None:
    tasks = load("game24", train=30, dev=20, test=100)
    games = {s: {tuple(t.meta["numbers"]) for t in split(tasks, s)} for s in ("dev", "test")}
    assert not games["dev"] & games["test"] and len(games["test"]) == 100
    assert sum(len(game24.sets(s)) for s in ("train", "dev", "test")) == 1362
    for task in split(tasks, "dev"):
        assert solve(task.meta["numbers"], 24), task.prompt
    hard = Task("h", "3 3 8 8", "dev", "24", meta={**tasks[0].meta, "numbers": [3, 3, 8, 8]})
    assert correct(hard, "8/(3-8/3)") and not correct(hard, "8*3") and not correct(hard, "8+8+8")
    with pytest.raises(UserError, match="test games, not 1000"):
        load("game24", test=1000)


def test_choices_and_spans_come_from_files_of_the_published_columns(tmp_path: Path) -> None:
    rows = {
        "mmlu": {"question": "Two and two?", "choices": ["3", "4", "5", "6"], "answer": 1},
        "gpqa": {"Question": "Which?", "Correct Answer": "right", "Incorrect Answer 1": "a",
                 "Incorrect Answer 2": "b", "Incorrect Answer 3": "c"},
        "drop": {"passage": "Ann ran 5 km.", "question": "Who ran?",
                 "answers_spans": {"spans": ["Ann", "the girl Ann"], "types": ["span", "span"]}},
    }  # fmt: skip
    found = {}
    for name, row in rows.items():
        (tmp_path / f"{name}-test.jsonl").write_text(json.dumps(row))
        [found[name]] = load(f"{name}:{tmp_path / f'{name}-test.jsonl'}")
    assert found["mmlu"].prompt.endswith("(B) 4\n(C) 5\n(D) 6")
    assert correct(found["mmlu"], flexible("so it is (B).", "choice"))
    gpqa = found["gpqa"]
    assert f"({gpqa.reference}) right" in gpqa.prompt
    drop = found["drop"]
    assert drop.prompt == "Ann ran 5 km.\n\nWho ran?"
    assert correct(drop, flexible("The answer is Ann.", kind_of(drop)))
    assert not correct(drop, "Ben")


@pytest.mark.parametrize(
    ("given", "reference", "value"),
    [("The Bears", "bears", 1.0), ("big red dog", "red dog", 0.8), ("7 points", "8 points", 0.0),
     ("1,200 men", "1200 men", 1.0), ("a dog", "cat | dog", 1.0), ("", "dog", 0.0),
     ("between 3 and 4", "3", 0.4)],
)  # fmt: skip
def test_f1_of_spans(given: str, reference: str, value: float) -> None:
    assert f1(given, reference) == pytest.approx(value)


def test_logic_follows_from_its_rules() -> None:
    tasks = load("logic:hops=1-4,distractors=3", train=80, dev=20, test=20)
    for task in tasks:
        text, claim = task.prompt.split(" True or false: ")
        rules = dict(re.findall(r"Every (\w+) is ([\w ]+)\.", text))
        name, kind = re.findall(r"(\w+) is a (\w+)\.$", text)[0]
        hops = 0
        while not (end := rules[kind]).startswith(("not", *TRAITS)):
            kind, hops = end.removeprefix("a "), hops + 1
        assert hops + 1 == task.meta["steps"]
        assert (claim == f"{name} is {end}.") == (task.reference == "True")
    assert 0.45 < sum(t.reference == "True" for t in tasks) / len(tasks) < 0.55
    nouns = list(NOUNS.values())
    assert not (set(nouns[0]) & set(nouns[1]) or set(nouns[0]) & set(nouns[2]))


TRAITS = ("large", "red", "kind", "loud", "cold", "shy", "bright", "sour", "heavy", "fast")


@pytest.mark.parametrize(
    ("name", "row", "answer", "given"),
    [
        ("gsm8k", {"question": "How many?", "answer": "1 + 2 = 3\n#### 1,003"}, "1,003", "1003"),
        ("math", {"problem": "Half?", "solution": r"So $\boxed{\frac12}$."}, r"\frac12", "0.5"),
        ("svamp", {"question_concat": "A tree?", "Answer": "8.0"}, "8.0", "8"),
        ("asdiv", {"body": "A bag.", "question": "How many?", "answer": "9 (apples)"}, "9", "9"),
        ("mgsm", {"question": "Frage: Wie?", "answer_number": 18, "language": "de"}, "18", "18"),
        ("jsonl", {"prompt": "Capital?", "answer": "Paris", "language": "fr"}, "Paris", "paris"),
        ("x-alpaca", {"prompt": "Write a poem.", "language": "es"}, None, None),
    ],
)  # fmt: skip
def test_data_sets_from_files(
    name: str, row: dict[str, object], answer: str | None, given: str | None, tmp_path: Path
) -> None:
    first = next(iter(row))
    rows = [{**row, first: f"{row[first]} {i}"} for i in range(40)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in [*rows, rows[0]]))
    tasks = load(f"{name}:{path}", train=99, dev=99, test=99)
    assert len(tasks) == 40 and {t.split for t in tasks} == {"train", "dev", "test"}
    assert all(t.reference == answer and kind_of(t) for t in tasks)
    assert tasks[0].language == row.get("language", "en")
    assert not any("Frage" in t.prompt for t in tasks)
    if given is not None:
        assert correct(tasks[0], given) and not correct(tasks[0], given + "7")
    few = load(f"{name}:{path}", train=5, dev=1, test=2)
    assert [len(split(few, s)) for s in ("train", "dev", "test")] == [5, 1, 2]
    assert {t.id for t in few} <= {t.id for t in tasks}


def test_folders_keep_their_splits(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for stem in ("train", "test"):
        rows = [{"question": f"{stem} {i}", "answer": f"#### {i}"} for i in range(30)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{stem}-00000.parquet")
    tasks = load(f"gsm8k:{tmp_path}", train=50, dev=50, test=50)
    assert {t.prompt.split()[0] for t in split(tasks, "test")} == {"test"}
    assert {t.prompt.split()[0] for t in split(tasks, "train") + split(tasks, "dev")} == {"train"}
    assert split(tasks, "dev") and len(tasks) == 60
    (tmp_path / "one.csv").write_text("prompt,answer\nTwo?,2\n")
    [own] = load(f"jsonl:{tmp_path / 'one.csv'}")
    assert (own.reference, kind_of(own)) == ("2", "number")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arithmetics", "did you mean 'arithmetic'"),
        ("arithmetic:level=9", "level 9"),
        ("arithmetic:stairs=2", "unknown setting of arithmetic 'stairs'"),
        ("arithmetic:steps=a", "'steps=a' is no setting"),
        ("arithmetic:languages=en+xx", "no word problems in 'xx'"),
        ("countdown:count=1", "count=1"),
        ("logic:hops=9", "9 hops"),
        ("jsonl", "needs a file"),
        ("jsonl:/nowhere.jsonl", "no data in"),
    ],
)
def test_mistakes(name: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load(name)


def test_broken_files_and_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        load(f"jsonl:{broken}")
    broken.write_text('{"q": "?"}')
    with pytest.raises(UserError, match=r"row 1 of gsm8k .*has no 'question', only \['q'\]"):
        load(f"gsm8k:{broken}")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    import datasets

    def closed(*_: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", closed)
    with pytest.raises(UserError, match=r"openai/gsm8k cannot be loaded .*--task gsm8k:FOLDER"):
        load("gsm8k")


def test_the_hub_is_read_as_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own loader on a folder, which it treats as it does a data set on the hub."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    for stem in ("train", "test"):
        rows = [{"question": f"{stem} {i}?", "answer": f"#### {i}"} for i in range(20)]
        (folder / f"{stem}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    here = replace(published.SOURCES["gsm8k"], hub=str(folder), parts=("",))
    monkeypatch.setitem(published.SOURCES, "gsm8k", here)  # type: ignore[arg-type]
    tasks = load("gsm8k", train=30, dev=30, test=30)
    assert len(tasks) == 40 and len(split(tasks, "test")) == 20
    assert tasks == load(f"gsm8k:{folder}", train=30, dev=30, test=30)


def test_prompts_hold_the_examples_and_the_question() -> None:
    for task in load("arithmetic-multilingual", train=12, dev=1, test=1):
        [full] = prompted([task], 2)
        parts = template("words", task.language)
        assert full.prompt.endswith(f"{task.prompt}\n{parts['answer']}")
        assert full.prompt.count(parts["answer"]) == 3
        assert question(full) == task.prompt == question(task)
        assert (full.id, full.reference) == (task.id, task.reference)
        [chat] = prompted([task], 0, chat=True)
        assert chat.prompt == f"{parts['instruction']}\n\n{task.prompt}"
    with pytest.raises(UserError, match="9 examples"):
        prompted([task], 9)
    [plain] = prompted([Task("a", "Hello?")], 3)
    assert plain.prompt == "Question: Hello?\nAnswer:"


@pytest.mark.parametrize("family", [f for f in FAMILIES if not f.startswith(("code", "feedback"))])
def test_examples_are_right_and_in_the_format_that_is_asked_for(family: str) -> None:
    kinds = {"words": "number", "countdown": "expression", "game24": "expression",
             "logic": "boolean", "math": "text"}  # fmt: skip
    for language in LANGUAGES if family == "words" else ("en",):
        for asked, answered in template(family, language)["shots"]:
            kind = kinds[family]
            exact = strict(answered, kind, language)  # type: ignore[arg-type]
            assert exact is not None and "\n" not in answered
            assert exact == flexible(answered, kind, language)  # type: ignore[arg-type]
            for left, right in re.findall(r"([\d+*/ -]+) = (\d+)(?= |\.|。)", answered):
                found = evaluate(left)
                assert found and found[0] == int(right), answered
            if family == "countdown":
                given, target = asked.split(" with ")[0], int(re.findall(r"make (\d+)", asked)[0])
                assert reaches(exact, sorted(said(given)), target)
            if family == "game24":
                given = list(map(int, re.findall(r"\d+", asked.split(",")[0])))
                assert reaches(exact, given, 24, every=True), asked
    assert set(NAMES) >= {"gsm8k", "math", "svamp", "asdiv", "mgsm", "x-alpaca", "jsonl"}
