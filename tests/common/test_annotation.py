"""Blind ratings: order and sides, how they count and agree, and what they teach."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from common.annotation import headphones
from common.annotation.ratings import (
    VALUE,
    Verdict,
    alpha,
    latest,
    order,
    outcomes,
    preferences,
    rater_name,
    verdict,
    wilson,
)
from common.errors import UserError
from common.records import Answer, Comparison, Rating, Stimulus, Task
from common.store import Store


def comparison(number: int, test: str = "old/new/dev") -> Comparison:
    sides = (Stimulus("old", f"old {number}", "a.ogg"), Stimulus("new", f"new {number}", "b.ogg"))
    return Comparison(f"c{number}", test, f"t{number}", f"text {number}", sides)


def rating(
    item: int, rater: str, said: Verdict, time: float = 0.0, swapped: bool = False
) -> Rating:
    left, right = ("new", "old") if swapped else ("old", "new")
    preferred = {"win": "new", "lose": "old"}.get(said)
    answer: Answer = "tie" if preferred is None else "left" if preferred == left else "right"
    name = f"{item}-{rater}-{time}"
    return Rating(name, "old/new/dev", f"c{item}", rater, left, right, answer, time)


TEN = [comparison(i) for i in range(10)]


# Order and sides


@given(st.integers(0, 40), st.text(max_size=5), st.integers(0, 9), st.randoms())
def test_each_rater_gets_all_items_with_sides_in_balance(
    count: int, rater: str, seed: int, random: object
) -> None:
    items = [comparison(i) for i in range(count)]
    found = order(items, rater, seed)
    assert Counter(s.comparison.id for s in found) == Counter(c.id for c in items)
    on_left = sum(s.systems[0] == "new" for s in found)
    assert abs(2 * on_left - count) <= 1
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert order(shuffled, rater, seed) == found
    for s in found:
        assert set(s.systems) == {"old", "new"}
        assert s.artifacts == (("b.ogg", "a.ogg") if s.swapped else ("a.ogg", "b.ogg"))


def test_raters_and_seeds_differ_in_order_and_sides() -> None:
    drawn = [order(TEN, rater, seed) for rater in "abcdefgh" for seed in range(4)]
    assert len({tuple(s.comparison.id for s in o) for o in drawn}) == 32
    assert len({tuple(sorted(s.comparison.id for s in o if s.swapped)) for o in drawn}) > 20


def test_place_and_side_say_nothing_about_the_item() -> None:
    """Over 2,000 raters each item is first, and swapped, as often as chance has it (5 sigma)."""
    items = TEN[:5]
    first: Counter[str] = Counter()
    swapped: Counter[str] = Counter()
    for i in range(2000):
        found = order(items, f"rater {i}", 0)
        first[found[0].comparison.id] += 1
        swapped.update(s.comparison.id for s in found if s.swapped)
    for item in items:
        assert abs(first[item.id] - 400) < 5 * math.sqrt(2000 * 0.2 * 0.8)
        assert abs(swapped[item.id] - 1000) < 5 * math.sqrt(2000 * 0.25)


def test_names_are_one_however_they_are_typed() -> None:
    assert rater_name("  Zoë   QUINN ") == rater_name("zoë quinn") == "zoë quinn"
    for typed in ("", "   ", "x" * 61, "a\x00b", "a\u200bb"):
        with pytest.raises(UserError, match="cannot be a name"):
            rater_name(typed)


# How they count


def test_a_side_is_credited_to_the_system_that_stood_there() -> None:
    for swapped in (False, True):
        for said in VALUE:
            assert verdict(TEN[0], rating(0, "ann", said, swapped=swapped)) == said


def test_the_last_answer_counts() -> None:
    first, second = rating(0, "ann", "win", 1.0), rating(0, "ann", "lose", 2.0)
    other = rating(0, "bob", "tie", 1.5)
    assert latest([first, other, second]) == [second, other]
    (found,) = outcomes(TEN, [first, other, second])
    assert (found.ratings, found.win.value, found.lose.value, found.tie.value) == (2, 0, 0.5, 0.5)


def test_an_outcome_by_hand() -> None:
    ratings = [
        *(rating(i, "ann", "win") for i in range(6)),
        *(rating(i, "ann", "tie") for i in (6, 7)),
        rating(8, "ann", "lose"),
        rating(0, "bob", "win", swapped=True),
        rating(8, "bob", "win", swapped=True),
    ]
    ratings[-1] = replace(ratings[-1], meta={"headphones": "passed"})
    (found,) = outcomes(TEN, ratings)
    assert (found.items, found.raters, found.ratings) == (9, 2, 11)
    # Item 8 is half a win and half a loss; item 9 was not rated.
    assert found.win.value == pytest.approx(6.5 / 9)
    assert found.tie.value == pytest.approx(2 / 9)
    assert found.lose.value == pytest.approx(0.5 / 9)
    assert found.preference.value == pytest.approx((6.5 + 1) / 9)
    assert found.win == wilson(6.5 / 9, 9)
    assert found.left == wilson(3 / 9, 9)  # ann's loss, and bob's two wins, stood on the left
    assert found.checks == {"passed": 1, "not asked": 1}
    assert found.alpha_items == 2
    assert (found.baseline, found.contender) == ("old", "new")


@pytest.mark.parametrize(
    ("wins", "loses", "said"),
    [
        (10, 0, "better"),
        (0, 10, "worse"),
        (6, 4, "no difference shown"),
        (3, 0, "no difference shown"),  # three of three: the interval's lower end is 0.44
    ],
)
def test_the_verdict_needs_the_interval_to_leave_a_half(wins: int, loses: int, said: str) -> None:
    ratings = [rating(i, "ann", "win" if i < wins else "lose") for i in range(wins + loses)]
    (found,) = outcomes(TEN, ratings)
    assert found.verdict == said
    assert outcomes(TEN, []) == []


def test_tests_are_counted_apart() -> None:
    other = [comparison(i, "old/new/test") for i in range(20, 22)]
    more = replace(rating(20, "ann", "lose"), test="old/new/test")
    stranger = replace(rating(77, "ann", "lose"))
    found = outcomes([*TEN, *other], [rating(0, "ann", "win"), more, stranger])
    assert [(o.test, o.items, o.win.value) for o in found] == [
        ("old/new/dev", 1, 1.0),
        ("old/new/test", 1, 0.0),
    ]


@given(st.integers(1, 300), st.floats(0, 1))
def test_wilsons_interval_is_scipys(n: int, share: float) -> None:
    k = round(share * n)
    wanted = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k / n, n) == pytest.approx((k / n, wanted.low, wanted.high), abs=1e-12)


def test_the_interval_covers_though_raters_of_an_item_agree() -> None:
    """Texts differ in how often the contender wins on them; four raters of each of 20 texts.

    The truth is 0.6; in 1,000 repetitions its 95% interval misses at most 7% of the time, where
    counting every answer as independent would miss far more often.
    """
    draws = np.random.default_rng(0)
    missed = naive = 0
    for _ in range(1000):
        ease = draws.beta(0.6, 0.4, size=20)
        means = draws.binomial(4, ease) / 4
        ours, theirs = wilson(float(means.mean()), 20), wilson(float(means.mean()), 80)
        missed += not ours.low <= 0.6 <= ours.high
        naive += not theirs.low <= 0.6 <= theirs.high
    assert missed / 1000 <= 0.07 < naive / 1000


# Agreement


def counts(table: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Rows of raters, a sign an item (``.`` for none), as counts of each value by item."""
    values = sorted({sign for row in table for sign in row} - {"."})
    columns = ["".join(column) for column in zip(*table, strict=True)]
    return np.array([[column.count(v) for v in values] for column in columns], float)


def test_krippendorffs_published_example() -> None:
    """Four observers, twelve units, missing values ("Computing ...", 2011): ordinal alpha .815."""
    table = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    assert alpha(counts(table)) == pytest.approx(0.815, abs=5e-4)


def test_krippendorffs_binary_example() -> None:
    """Two observers, ten units (section A): .095; two values are ordinal and nominal alike."""
    assert alpha(counts(["0100000010", "1110010000"])) == pytest.approx(0.095, abs=5e-4)


def test_alpha_is_one_in_agreement_and_undefined_without_variation() -> None:
    assert alpha(counts(["0012", "0012", "001."])) == pytest.approx(1.0)
    assert alpha(counts(["1111", "1111"])) is None
    assert alpha(counts(["012.", "...0"])) is None
    assert alpha(np.zeros((0, 3))) is None


def test_answers_far_apart_agree_less_than_neighbours() -> None:
    near, far = alpha(counts(["001122", "011122"])), alpha(counts(["001122", "021122"]))
    assert near is not None and far is not None and far < near


@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=12))
def test_alpha_is_at_most_one_and_does_not_depend_on_the_order(rows: list[list[int]]) -> None:
    table = np.array(rows, float)
    found = alpha(table)
    assert found is None or found <= 1 + 1e-12
    for same in (table[::-1], table[:, ::-1]):  # other items first; worst and best turned round
        other = alpha(same)
        assert (other is None) == (found is None)
        assert found is None or other == pytest.approx(found)


# What they teach


TASKS = {f"t{i}": Task(f"t{i}", f"prompt {i}") for i in range(4)}


def test_a_majority_makes_a_preference() -> None:
    ratings = [
        *(
            rating(0, rater, said)
            for rater, said in zip("abc", ("win", "win", "lose"), strict=True)
        ),
        *(rating(1, rater, said) for rater, said in zip("ab", ("win", "tie"), strict=True)),
        *(rating(2, rater, "lose") for rater in "ab"),
        rating(3, "a", "tie"),
        rating(9, "a", "win"),  # its task is not among those to learn from
    ]
    first, second = preferences(TEN, ratings, TASKS, round=2)
    assert (first.prompt, first.chosen, first.rejected) == ("prompt 0", "new 0", "old 0")
    assert first.margin == pytest.approx(2 / 3) and first.source == "human" and first.round == 2
    assert (second.task, second.chosen, second.margin) == ("t2", "old 2", 1.0)
    assert preferences(TEN[::-1], ratings, TASKS, round=2) == [first, second]
    assert preferences(TEN, [*ratings, rating(0, "b", "lose", 9.0)], TASKS)[0].chosen == "old 0"


def test_pairs_are_distinct_and_of_two_outputs() -> None:
    twice = [comparison(0), replace(comparison(0), id="c5")]
    same = replace(comparison(1), stimuli=(Stimulus("old", "x", "a"), Stimulus("new", "x", "b")))
    silent = replace(comparison(2), stimuli=(Stimulus("recording", "", "a"), TEN[2].stimuli[1]))
    ratings = [rating(i, "a", "win") for i in (0, 5, 1, 2)]
    assert len(preferences([*twice, same, silent], ratings, TASKS)) == 1


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abcde"), st.sampled_from([*VALUE]))),
)
def test_no_text_teaches_both_ways(said: list[tuple[int, str, Verdict]]) -> None:
    ratings = [rating(i, rater, v, float(t)) for t, (i, rater, v) in enumerate(said)]
    found = preferences(TEN, ratings, TASKS)
    assert len({p.task for p in found}) == len(found)
    assert all(0.5 < p.margin <= 1 for p in found)


# Records and headphones


def test_the_store_keeps_comparisons_and_ratings(tmp_path: Path) -> None:
    store = Store(tmp_path)
    said = replace(rating(0, "ann", "win", 3.5), meta={"headphones": "passed", "seconds": 2.0})
    store.add("r", [*TEN, said])
    store.add("r", [TEN[0], said])
    assert store.comparisons("r") == TEN and store.ratings("r") == [said]
    assert store.comparisons("r")[0].stimuli[1].output == "new 0"
    assert not store.ratings("other") and not store.comparisons("other")


def test_a_store_from_before_there_were_ratings_opens(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add("r", [Task("t", "p")])
    with store._write() as connection:
        for table in ("ratings", "comparisons"):
            connection.execute(sa.text(f"DROP TABLE {table}"))
    store.close()
    store = Store(tmp_path)
    assert store.ratings("r") == [] and store.tasks("r") == [Task("t", "p")]
    store.add("r", [TEN[0]])
    assert store.comparisons("r") == [TEN[0]]


def test_tones_are_what_the_check_needs() -> None:
    """6 dB quieter, or of opposite phase: gone where the channels meet, as loud on each ear."""
    rate = headphones.RATE
    for kinds in headphones.ARRANGEMENTS:
        wave = headphones.sound(kinds)
        assert wave.shape == (4 * rate, 2)
        for i, kind in enumerate(kinds):
            begin = round(1.5 * i * rate)
            tone = wave[begin : begin + rate]
            rms, met = np.sqrt((tone**2).mean(0)), np.abs(tone.sum(1)).max()
            loud = 0.5 if kind == "quiet" else 1.0
            assert rms[0] == pytest.approx(rms[1])
            assert rms[0] == pytest.approx(loud * headphones.PEAK * 0.66, rel=0.03)
            assert met == 0 if kind == "antiphase" else met > 0.1
            spectrum = np.abs(np.fft.rfft(tone[:, 0]))
            assert spectrum.argmax() == 200


def test_only_the_quiet_tone_counts_and_guessing_fails() -> None:
    trials = range(headphones.TRIALS)
    for rater in ("ann", "bob"):
        kinds = [headphones.arrangement(0, rater, 0, t) for t in trials]
        for kind, wanted in (("quiet", 6), ("antiphase", 0)):
            assert headphones.right(0, rater, 0, [k.index(kind) for k in kinds]) == wanted
    passed = sum(headphones.right(0, f"r{i}", 0, [0] * 6) >= headphones.NEEDED for i in range(3000))
    expected = 13 / 729
    assert abs(passed / 3000 - expected) < 5 * math.sqrt(expected / 3000)
