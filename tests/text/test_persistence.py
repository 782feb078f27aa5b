"""Persistence: windows and labels by hand, features by closed forms, planted effects found."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.records import Rating
from common.store import Store
from tests.text.tiny import upspiral
from text.persistence import features, report, synthetic
from text.persistence.cohort import DAY, Cohort, Person, Rule, cohort, persists
from text.persistence.features import Lexicon, Table, style, syllables
from text.persistence.matching import Matched, covariates, matched
from text.persistence.posts import Fields, FromRatings, Post, Posts, seconds
from text.persistence.study import Settings, Study, differences, scores, study

RULE = Rule(("change",), observation=100, gap=10, outcome=28, posts=3, weeks=2, before=2)
QUICK = Settings(topics=3, folds=2, resamples=100, shuffles=20)


def post(user: str, day: float, community: str = "other", text: str = "some text") -> Post:
    return Post(user, day * DAY, community, text)


def person(number: int, persistent: bool, *texts: str, posts: int = 4, age: float = 30) -> Person:
    some = texts or ("some text",) * posts
    times = tuple(float(i) * DAY for i in range(len(some)))
    return Person(str(number), times[-1], persistent, some, times, ("a",) * len(some), age)


# Posts


def test_names_are_hashed_as_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    names = ("ann", "bob", "ann", "[deleted]", None)
    rows = [{"user": name, "time": 5, "community": "c", "text": "t"} for name in names]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    first, second = Posts(path), Posts(path)
    users = [p.user for p in first]
    assert users[0] == users[2] != users[1] and [p.user for p in first] == users
    assert all(re.fullmatch("[0-9a-f]{16}", user) for user in users) and len(users) == 3
    assert not set(users) & {p.user for p in second}  # nobody can look a name up
    rating = Rating("1", "t", "i", "carl", "a", "b", "left", 3.0)
    [told] = FromRatings([rating])
    assert told.user != "carl" and (told.time, told.community, told.text) == (3.0, "t", "")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2"),
        ("[1]", "line 2"),
        ('{"user": "a", "time": 1, "community": "c"}', "no 'text'"),
        ('{"user": "a", "time": "noon", "community": "c", "text": ""}', "noon"),
        ('{"user": "a", "time": true, "community": "c", "text": ""}', "no number"),
        ('{"user": "a", "time": NaN, "community": "c", "text": ""}', "no number"),
        (b"\xff\xfe", "line 2"),
        (r'{"user": "\ud800", "time": 1, "community": "c", "text": ""}', "line 2"),
        (f'{{"user": "a", "time": {"9" * 400}, "community": "c", "text": ""}}', "line 2"),
    ],
)
def test_a_mistake_names_its_line(tmp_path: Path, line: str | bytes, says: str) -> None:
    path = tmp_path / "posts.jsonl"
    good = b'{"user": "a", "time": 1, "community": "c", "text": ""}\n'
    path.write_bytes(good + (line if isinstance(line, bytes) else line.encode()))
    with pytest.raises(UserError, match=re.escape(says)):
        list(Posts(path))
    with pytest.raises(UserError, match="cannot read"):
        list(Posts(tmp_path / "none"))


def test_times_and_columns(tmp_path: Path) -> None:
    assert seconds("86400") == seconds(86400) == seconds("1970-01-02") == DAY
    assert seconds("1970-01-01T01:00:00+01:00") == 0
    path = tmp_path / "posts.jsonl"
    path.write_text('{"author": 7, "created_utc": 9, "subreddit": null, "body": null}')
    [one] = Posts(path, Fields("author", "created_utc", "subreddit", "body"))
    assert (one.time, one.community, one.text) == (9, "", "")


# Who persists


def test_windows_and_labels_by_hand() -> None:
    before = [(0, "other"), (50, "Change"), (40, "other")]  # the intention is on day 50
    later: dict[str, list[float]] = {
        "stays": [60, 61, 67.5],  # three posts, two weeks
        "once a week": [60, 68],  # too few
        "one week": [60, 61, 62, 66.9],  # one week only
        "goes": [],
        "in the gap": [51, 59.9],
        "too late": [88, 95],  # the window has ended
    }
    posts = [post("nobody", 200)]
    for user, days in later.items():
        posts += [post(user, day, place, f"before {day}") for day, place in before]
        posts += [post(user, day, "change", f"after {day}") for day in days]
        posts += [post(user, 65, "other", "elsewhere")]
    posts += [post("new", 180, "change"), post("new", 100)]  # the data ends before the outcome
    posts += [post("silent", 50, "change")]  # one post is too little to read
    found = cohort(posts, RULE)
    assert {p.id: p.persistent for p in found.people} == {
        "stays": True,
        "goes": False,
        "in the gap": False,
        "too late": False,
    }
    assert found.flow["neither persistent nor not"] == 2
    assert (
        found.flow["outcome not yet over"]
        == found.flow["fewer than 2 posts up to the intention"]
        == 1
    )
    assert found.flow["people"] == 9 and found.persistent == 1
    for p in found.people:  # oldest first, and nothing of what came after
        assert p.texts == ("before 0", "before 40", "before 50")
        assert list(p.times) == [0, 40 * DAY, 50 * DAY]
        assert p.age == 50
    # Posts may come in any order, and times may not be before the observation window.
    assert set(cohort(posts[::-1], RULE).people) == set(found.people)
    short = Rule(("change",), observation=20, gap=10, outcome=28, posts=3, weeks=2, before=2)
    assert all(p.texts == ("before 40", "before 50") for p in cohort(posts, short).people)
    # Two earlier posts and the intention are three.
    assert len(cohort(posts, replace(RULE, before=3)).people) == len(found.people)
    assert not cohort(posts, replace(RULE, before=4)).people
    with pytest.raises(UserError, match="none of"):
        cohort(posts, Rule(("elsewhere",)))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 90 * DAY - 1)))
def test_more_posts_never_make_anybody_less_persistent(later: list[float]) -> None:
    rule = Rule(("c",))
    order = {False: 0, None: 1, True: 2}
    labels = [order[persists(later[:n], rule)] for n in range(len(later) + 1)]
    assert labels == sorted(labels)


@pytest.mark.parametrize(
    "wrong",
    [{"communities": ()}, {"communities": (" ",)}, {"outcome": 0}, {"gap": -1}, {"weeks": 40},
     {"posts": 0}],
)  # fmt: skip
def test_rules_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        Rule(**{"communities": ("c",), **wrong})


# Pairs


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40), st.integers(0, 900)), max_size=40))
def test_pairs_are_of_one_cell_and_nobody_is_in_two(rows: list[tuple[bool, int, int]]) -> None:
    people = [person(i, label, posts=n, age=age) for i, (label, n, age) in enumerate(rows)]
    found = matched(people).people
    assert len({p.id for p in found}) == len(found)
    for stay, leave in zip(found[::2], found[1::2], strict=True):
        assert stay.persistent and not leave.persistent
        for one, other in zip(covariates(stay).values(), covariates(leave).values(), strict=True):
            assert math.floor(2 * one) == math.floor(2 * other)


def test_matching_takes_a_difference_in_activity_away() -> None:
    draw = np.random.default_rng(0)
    people = [
        person(i, i % 2 == 0, posts=int(draw.integers(2, 30) + 8 * (i % 2 == 0)))
        for i in range(300)
    ]
    before, after = matched(people).balance["posts (log2)"]
    assert before > 0.5 and abs(after) < 0.1


# Features


def test_readability_by_its_formulas() -> None:
    assert [syllables(w) for w in ("cat", "table", "make", "reading", "tree", "rhythm", "the")] == [
        1, 2, 1, 2, 1, 1, 1]  # fmt: skip
    text = "The cat sat. Although it rained, we went home!"  # 9 words, 2 sentences
    sounds = sum(map(syllables, features.words(text)))
    found = dict(zip(features.STYLE, style([person(0, True, text)]).values[0], strict=True))
    assert found["words a sentence"] == 4.5 and found["syllables a word"] == sounds / 9
    assert found["Flesch reading ease"] == pytest.approx(206.835 - 1.015 * 4.5 - 84.6 * sounds / 9)
    assert found["Flesch-Kincaid grade"] == pytest.approx(0.39 * 4.5 + 11.8 * sounds / 9 - 15.59)
    assert found["Gunning fog"] == pytest.approx(0.4 * 4.5)  # no word of three syllables
    assert found["subordinators a sentence"] == found["commas a sentence"] == 0.5
    assert found["different words"] == 1 and found["exclamations"] == 0.5
    assert not style([person(0, True, "", "...")]).values.any()


def test_lexicons(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text('{"health": "diet* Gym", "end": ["diets"]}')
    own = Lexicon.load(path)
    [row] = own.rates([person(0, True, "My DIETS work", "gymnast dieting diet's")]).values
    assert row.tolist() == pytest.approx([100 * 3 / 6, 100 / 6])
    [row] = own.rates([person(0, True, "", "12")]).values
    assert row.tolist() == [0, 0]
    shipped = Lexicon.load()
    assert {"growth", "i", "future"} <= set(shipped.names)
    assert shipped.of("improvement") == (shipped.names.index("growth"),)
    for text in ("[]", "{", '{"a": []}', '{"a": 3}'):
        path.write_text(text)
        with pytest.raises(UserError, match="lexicon"):
            Lexicon.load(path)


# Statistics


def test_differences_by_hand() -> None:
    stay, leave = [3.0, 4.0, 5.0, 6.0], [1.0, 2.0, 3.0, 0.0]
    labels = np.array([1, 0] * 4)
    values = np.zeros((8, 2))
    values[labels == 1, 0], values[labels == 0, 0] = stay, leave
    first, second = differences({"block": Table(("told", "constant"), values)}, labels)
    assert first.feature == "told" and first.delta == pytest.approx((15.0 - 0) / 16)  # one tie
    assert (first.persistent, first.other) == (4.5, 1.5)
    assert (second.delta, second.p, second.q) == (0, 1, 1)
    assert first.q == pytest.approx(min(1, 2 * first.p))  # Benjamini-Hochberg of two


def test_few_features_of_noise_pass_the_false_discovery_rate() -> None:
    random = np.random.default_rng(0)
    labels = np.array([1, 0] * 100)
    values = random.normal(size=(200, 300))
    values[labels == 1, :20] += 1.0
    names = tuple(f"f{i}" for i in range(300))
    told = [d for d in differences({"b": Table(names, values)}, labels) if d.q < 0.05]
    true = sum(int(d.feature[1:]) < 20 for d in told)
    assert true == 20 and len(told) - true <= 4


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=4, max_size=30).filter(lambda x: len(x) % 2 == 0))
def test_scores_agree_with_scikit_learn(predicted: list[float]) -> None:
    from sklearn.metrics import f1_score, roc_auc_score

    labels = np.array([1, 0] * (len(predicted) // 2))
    said = np.array(predicted)
    f1, auroc = scores(labels, said, resamples=20)
    assert auroc.value == pytest.approx(roc_auc_score(labels, said))
    expected = f1_score(labels, said > 0.5, average="macro", labels=[0, 1], zero_division=0)
    assert f1.value == pytest.approx(expected)
    assert 0 <= auroc.low <= auroc.high


# The whole study on planted posts


class Planted(NamedTuple):
    cohort: Cohort
    matched: Matched
    study: Study


def planted(folder: Path, effect: float) -> Planted:
    path = synthetic.write(folder / "posts.jsonl", 140, effect)
    found = cohort(Posts(path), Rule((synthetic.COMMUNITY,)))
    pairs = matched(found.people)
    return Planted(found, pairs, study(pairs.people, (synthetic.COMMUNITY,), QUICK))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return planted(tmp_path_factory.mktemp("posts"), effect=1.0)


def test_a_planted_effect_is_recovered_and_shuffled_labels_are_at_chance(told: Planted) -> None:
    found, people = told.study, told.matched.people
    auroc = {r.name: r.auroc for r in found.results}
    assert auroc["all text"].low > 0.7 and auroc["style"].value > 0.8
    assert auroc["metadata"].low < 0.55  # matching took away what activity would tell
    deltas = {d.feature: d for d in found.differences if d.q < 0.05}
    assert deltas["growth"].delta > 0.3 and deltas["words a sentence"].delta > 0.3
    assert deltas["Flesch reading ease"].delta < 0
    assert abs(found.chance.mean - 0.5) < 0.06 and found.chance.p == pytest.approx(1 / 21)
    # Nothing of what was written after the intention reached a feature.
    assert not any(synthetic.AFTER in features.document(p) for p in people)
    grams = features.ngrams(len(people)).fit([features.document(p) for p in people])
    assert synthetic.AFTER not in grams.vocabulary_
    assert all(p.times[-1] == p.intention for p in people)


def test_without_an_effect_there_is_none(tmp_path: Path) -> None:
    found = planted(tmp_path, effect=0.0).study
    auroc = next(r.auroc for r in found.results if r.name == "all text")
    assert auroc.low < 0.5 and found.chance.p > 0.05
    assert not [d for d in found.differences if d.q < 0.05 and d.block != "metadata"]


def test_what_the_text_after_the_intention_says_does_not_matter(tmp_path: Path) -> None:
    rule = Rule((synthetic.COMMUNITY,))
    path, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    synthetic.write(path, 40)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for row in lines:
        if row["text"].startswith(synthetic.AFTER):
            row["text"] = "leak " * 50
    other.write_text("\n".join(map(json.dumps, lines)))
    before, after = (cohort(Posts(p), rule).people for p in (path, other))
    assert [p.texts for p in before] == [p.texts for p in after]


def test_people_without_shared_words_or_any(tmp_path: Path) -> None:
    silent = [person(i, i % 2 == 0, "", "") for i in range(60)]
    found = study(silent, ("a",), QUICK)
    assert [r.name for r in found.results] == ["metadata"] and found.chance.of == "metadata"
    own = [person(i, i % 2 == 0, f"{'abcdefghij'[i % 10] * (2 + i)}") for i in range(60)]
    found = study(own, ("a",), QUICK)
    assert {r.name for r in found.results} >= {"lexicon", "style", "metadata", "all text"}
    assert "topics" not in {r.name for r in found.results} and not found.words
    with pytest.raises(UserError, match="too few"):
        study(own[:10], ("a",), QUICK)


# The command


def test_nobody_is_quoted_unless_asked(told: Planted) -> None:
    quoted = ("person-", "journal", "mindset", "neighbour")
    page = report.page(*told, source="posts.jsonl")
    facts = report.facts(*told)
    assert page.count("<svg") == 2 and "must not decide" in page and "Benjamini" in page
    assert not [word for word in quoted if word in page or word in json.dumps(facts)]
    asked = report.page(*told, source="posts.jsonl", words=True)
    words = report.facts(*told, words=True)["words"]
    assert len(words["topic 1"]) == 8 and words["topic 1"][0] in asked and "person-" not in asked


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = synthetic.write(tmp_path / "posts.jsonl", 100, 1.0)
    code, told, said = upspiral(
        monkeypatch, "persistence", str(data), "--communities", "Fresh-Start", "--topics", "2",
        "--folds", "2", "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert code == 0, said
    assert told["classifier"]["all text"]["n"] == 2 * told["pairs"] >= 40
    assert set(told["classifier"]["style"]) == {"blocks", "macro_f1", "auroc", "n"}
    assert json.loads((tmp_path / "out" / "study.json").read_text())["pairs"] == told["pairs"]
    assert "person-" not in (tmp_path / "out" / "report.html").read_text() + said


def test_raters_and_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))
    out = ["--out", str(tmp_path / "out")]
    store = Store()
    store.lease("heard", "speech/align:tiny", None, 0, {}).close("done")
    days = {i: [0, 10, 17, 24] if i % 2 else [0] for i in range(60)}
    answers = [(i, day) for i, some in days.items() for day in some]
    store.add(
        "heard",
        [Rating(f"{i} {d}", "blind", f"{d}", f"rater {i}", "a", "b", "tie", d * DAY)
         for i, d in [*answers, (99, 100)]],
    )  # fmt: skip
    flags = ["--communities", "blind", "--before", "1", "--weeks", "2", "--posts", "3", *out]
    code, told, said = upspiral(monkeypatch, "persistence", "ratings:heard", *flags)
    assert code == 0, said
    assert told["pairs"] == 30 and list(told["classifier"]) == ["metadata"]
    assert told["classifier"]["metadata"]["auroc"]["value"] == pytest.approx(0.5)  # all began alike
    (empty := tmp_path / "empty.jsonl").write_text("\n")
    for words, says in (
        (["none.jsonl"], "no community"),
        (["none.jsonl", "--communities", "c"], "cannot read"),
        ([str(empty), "--communities", "c"], "empty.jsonl holds no posts"),
        (["ratings:none", "--communities", "c"], "unknown run"),
        (["synthetic", "--communities", "c"], "none of"),
        (["synthetic", "--topics", "1"], "topics"),
        (["x.jsonl", "--communities", "c", "--fields", "who=author"], "no field"),
    ):
        code, _, said = upspiral(monkeypatch, "persistence", *words, *out)
        assert code == 2 and says in said, said
