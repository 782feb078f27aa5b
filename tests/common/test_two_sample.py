"""Two-sample statistics against closed forms, and their p-values under the null."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.two_sample import auroc, classifier, mmd, ngram_divergence


def test_mmd_of_two_pairs_by_hand() -> None:
    # x = 0, 4 and y = 1, 3: pooled distances 1, 1, 2, 3, 3, 4, the squares' median (4 + 9) / 2.
    x, y = np.array([[0.0], [4.0]]), np.array([[1.0], [3.0]])
    found = mmd(x, y, 0, permutations=10)

    def k(a: float, b: float) -> float:
        return math.exp(-((a - b) ** 2) / (2 * 6.5))

    assert found.value == pytest.approx(k(0, 4) + k(1, 3) - k(0, 3) - k(1, 4))


def test_mmd_of_shifted_gaussians_is_its_closed_form() -> None:
    # E exp(-d²/(2s²)) of d ~ N(m, 2) is sqrt(s²/(s²+2)) exp(-m²/(2(s²+2))).
    rng, shift, found, wanted = np.random.default_rng(0), 1.0, [], []
    for _ in range(60):
        x, y = rng.normal(size=(100, 1)), rng.normal(shift, 1, size=(100, 1))
        pooled = np.concatenate([x, y])
        s2 = float(np.median((pooled - pooled.T)[np.triu_indices(200, 1)] ** 2))
        wanted.append(2 * math.sqrt(s2 / (s2 + 2)) * (1 - math.exp(-(shift**2) / (2 * (s2 + 2)))))
        found.append(mmd(x, y, 0, permutations=1).value)
    error = np.std(found) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(np.mean(wanted), abs=4 * error)
    assert error < 0.01 < np.mean(wanted)


def test_permutations_reach_what_all_swaps_reach() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(6, 2)), rng.normal(0.8, 1, size=(6, 2))
    observed = mmd(x, y, 0, permutations=20_000)
    every = []
    for swap in itertools.product((False, True), repeat=6):
        mask = np.array(swap)[:, None]
        every.append(mmd(np.where(mask, y, x), np.where(mask, x, y), 0, permutations=1).value)
    exact = np.mean(np.array(every) >= observed.value - 1e-12)
    assert observed.p == pytest.approx(exact, abs=0.02)
    assert observed.floor == pytest.approx(np.mean(every), abs=0.005)


def test_p_values_are_uniform_when_nothing_differs() -> None:
    rng = np.random.default_rng(1)
    ps = []
    for i in range(300):
        text = 3 * rng.normal(size=(12, 3))  # what a pair shares
        x, y = (text + rng.normal(size=(12, 3)) for _ in range(2))
        ps.append(mmd(x, y, i, permutations=99).p)
    for level in (0.1, 0.5):
        share = np.mean(np.array(ps) <= level)
        assert abs(share - level) < 4 * math.sqrt(level * (1 - level) / len(ps))


def test_a_shift_is_seen_by_both_statistics_and_noise_by_neither() -> None:
    rng = np.random.default_rng(2)
    x, noise = rng.normal(size=(40, 8)), rng.normal(size=(40, 8))
    far = noise + np.array([2.0] + [0.0] * 7)
    assert mmd(x, far, 0).p < 0.01 < 0.05 < mmd(x, noise, 0).p
    told = classifier(x, far, 0, permutations=99)
    assert told.p == 0.01 and 0.75 < told.value <= 1
    assert told.floor == pytest.approx(0.5, abs=0.05)
    unsure = classifier(x, noise, 0, permutations=99)
    assert unsure.p > 0.05 and unsure.value < 0.65
    assert told == classifier(x, far, 0, permutations=99)


def test_labels_that_are_fitted_together_are_fitted_as_alone() -> None:
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import GroupKFold, permutation_test_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(3)
    x = rng.normal(size=(21, 30))
    y = 0.5 * x + rng.normal(0.4, 1, size=x.shape)
    value, null, p = permutation_test_score(
        make_pipeline(StandardScaler(), RidgeClassifier(alpha=10.0)), np.concatenate([x, y]),
        np.repeat([0, 1], 21), groups=np.tile(np.arange(21), 2), cv=GroupKFold(5),
        n_permutations=99, random_state=0,
    )  # fmt: skip
    ours = classifier(x, y, 0, permutations=999)
    assert ours.value == pytest.approx(value)
    assert ours.floor == pytest.approx(null.mean(), abs=4 * null.std() / math.sqrt(99))
    assert abs(ours.p - p) < 4 * math.sqrt(p * (1 - p) / 99) + 0.01


def test_divergence_by_hand() -> None:
    # One side says a only, the other b only: 1 bit; a swap of one pair makes both sides alike.
    apart = ngram_divergence(["aa", "aa"], ["bb", "bb"], 1, 0)
    assert apart.value == pytest.approx(1)
    assert apart.floor == pytest.approx(0.5, abs=0.1)
    assert apart.p == pytest.approx(0.5, abs=0.1)  # two of the four swaps
    # p = (1/2, 1/2), q = (1, 0): H(3/4) - (1 + 0) / 2.
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    half = ngram_divergence(["ab", "ba"], ["aa", "aa"], 1, 0)
    assert half.value == pytest.approx(entropy - 0.5)
    # The bigrams ab, bc against ab, bd: ab is shared, half of the mass.
    assert ngram_divergence(["abc"] * 2, ["abd"] * 2, 2, 0).value == pytest.approx(0.5)


def test_the_floor_is_what_finite_samples_cost() -> None:
    rng = np.random.default_rng(4)

    def draw(weights: list[float]) -> list[list[int]]:
        return [rng.choice(len(weights), 60, p=weights).tolist() for _ in range(40)]

    flat = [1 / 50] * 50
    null = ngram_divergence(draw(flat), draw(flat), 2, 0)
    assert null.value > 0.2  # 2,500 bigrams, 2,360 drawn: the plug-in figure alone would alarm
    assert abs(null.excess) < 0.01 and null.low < 0 < null.high and null.p > 0.05
    skewed = [1.5 / 50] * 25 + [0.5 / 50] * 25
    found = ngram_divergence(draw(flat), draw(skewed), 1, 0)
    p, q = np.array(flat), np.array(skewed)
    m = (p + q) / 2
    truth = float((p * np.log2(p / m) + q * np.log2(q / m)).sum() / 2)
    assert found.low < truth < found.high and found.p == 1 / 500
    assert found.excess == pytest.approx(truth, abs=0.01)


pairs = st.lists(
    st.tuples(st.text("abc", min_size=2, max_size=8), st.text("abc", min_size=2, max_size=8)),
    min_size=2,
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(pairs)
def test_sides_are_alike_to_a_divergence(sides: list[tuple[str, str]]) -> None:
    x, y = zip(*sides, strict=True)
    there, back = (ngram_divergence(a, b, 2, 7, 20, 10) for a, b in ((x, y), (y, x)))
    assert there == pytest.approx(back, abs=1e-9)
    assert 0 <= there.value <= 1 and 0 < there.p <= 1
    same = ngram_divergence(x, x, 1, 7, 20, 10)
    assert same == pytest.approx((0, 0, 0, 0, 0, 1))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.5, 1.0])), max_size=20))
def test_auroc_counts_pairs(rows: list[tuple[bool, float]]) -> None:
    pairs = [(a, b) for one, a in rows if one for other, b in rows if not other]
    found = auroc([label for label, _ in rows], [score for _, score in rows])
    if not pairs:
        assert math.isnan(found)
    else:
        expected = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
        assert found == pytest.approx(expected)


def test_what_is_not_in_pairs_is_refused() -> None:
    for x, y in ((np.zeros((3, 2)), np.zeros((2, 2))), (np.zeros((1, 2)), np.zeros((1, 2)))):
        for test in (mmd, classifier):
            with pytest.raises(ValueError, match="pairs"):
                test(x, y, 0)
    with pytest.raises(ValueError, match="pairs"):
        ngram_divergence(["ab", "ba"], ["ab"], 1, 0)
    with pytest.raises(ValueError, match="3 or more symbols"):
        ngram_divergence(["ab", "ba"], ["abc", "abc"], 3, 0)


def test_one_point_has_no_gap() -> None:
    same = np.ones((4, 2))
    assert mmd(same, same, 0, permutations=9)[::2] == (0, 1)
