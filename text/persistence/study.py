"""The analysis: how the groups differ, and whether a classifier can tell people it has not seen.

*Groups*: each feature by a Mann-Whitney test with Cliff's delta, P(persistent > not) - P(<), and
the Benjamini-Hochberg procedure over all features (their q is the least false-discovery rate at
which the feature counts).

*Classifier*: logistic regression, classes weighted alike, over folds that split people. A pair is
in one fold; scaling, vocabulary and topics are fitted on the training people of a fold. Scores are
of the pooled predictions of people held out; their 95% intervals are bootstrapped over pairs, and
say nothing of how another training set would do. Labels swapped at random within pairs show what
chance gives by the same steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.stages import Progress
from common.two_sample import auroc
from text.persistence import features
from text.persistence.cohort import Person
from text.persistence.features import BLOCKS, TEXT_BLOCKS, Floats, Lexicon, Table

Labels = NDArray[np.int64]
FEWEST_PAIRS = 20


@dataclass(frozen=True)
class Settings:
    """How the study is done; everything random derives from ``seed``."""

    topics: int = 10
    folds: int = 5
    resamples: int = 1000
    shuffles: int = 99
    seed: int = 0

    def __post_init__(self) -> None:
        if self.topics < 2 or self.folds < 2 or self.resamples < 100 or self.shuffles < 1:
            raise UserError(
                f"topics={self.topics}, folds={self.folds}, resamples={self.resamples}, "
                f"shuffles={self.shuffles}",
                "give 2 or more topics and folds, 100 or more resamples, 1 or more shuffles",
            )


class Difference(NamedTuple):
    """A feature in both groups: means, Cliff's delta (-1 to 1), p and q."""

    block: str
    feature: str
    persistent: float
    other: float
    delta: float
    p: float
    q: float


class Score(NamedTuple):
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


class Result(NamedTuple):
    """How well a set of blocks tells people it has not seen; ``n`` counts people."""

    name: str
    blocks: tuple[str, ...]
    f1: Score
    auroc: Score
    n: int


class Chance(NamedTuple):
    """AUROC with shuffled labels: mean and deviation; ``p`` of the true labels' value."""

    of: str
    mean: float
    deviation: float
    shuffles: int
    p: float


class Study(NamedTuple):
    """What the analysis found; topics are numbered, their words are in ``words`` alone."""

    differences: tuple[Difference, ...]
    results: tuple[Result, ...]
    chance: Chance
    words: Mapping[str, tuple[str, ...]]
    """Words of each topic, and of the n-grams that weigh most for either side, each used by
    several people. They are quotations: a report shows them only if asked."""


def study(
    people: Sequence[Person],
    change: Sequence[str],
    settings: Settings | None = None,
    lexicon: Lexicon | None = None,
    progress: Progress | None = None,
) -> Study:
    """Compare and classify matched ``people``, pair by pair as :func:`matching.matched` gives them.

    Without any word in their texts only metadata is looked at.

    Raises:
        UserError: there are too few pairs.
    """
    settings = settings or Settings()
    pairs = len(people) // 2
    if pairs < max(FEWEST_PAIRS, settings.folds):
        raise UserError(
            f"{pairs} pairs of people are too few to learn from",
            f"{FEWEST_PAIRS} are the least: take more data, a longer outcome window, or a rule "
            "that leaves fewer out",
        )
    labels = np.array([person.persistent for person in people], dtype=np.int64)
    tables = {"metadata": features.metadata(people, change)}
    texts = [features.document(person) for person in people]
    spoken = sum(bool(features.WORD.search(text)) for text in texts) >= pairs
    if spoken:
        lexicon = lexicon or Lexicon.load()
        tables = {"lexicon": lexicon.rates(people), "style": features.style(people), **tables}
    words: dict[str, tuple[str, ...]] = {}
    described = dict(tables)
    if spoken:
        found = _topics(texts, labels, settings)
        if found is not None:
            described["topics"], words = found
    folds = _folds(texts if spoken else [], tables, labels, settings, progress)
    results, chance = _classified(folds, labels, settings, progress)
    return Study(tuple(differences(described, labels)), tuple(results), chance, words)


def differences(tables: Mapping[str, Table], labels: Labels) -> list[Difference]:
    """Every feature of ``tables`` in both groups, the largest difference first."""
    from scipy.stats import false_discovery_control, mannwhitneyu

    names = [(block, name) for block, table in tables.items() for name in table.names]
    values = np.concatenate([table.values for table in tables.values()], axis=1)
    stay, leave = values[labels == 1], values[labels == 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = mannwhitneyu(stay, leave, axis=0, method="asymptotic")
    delta = 2 * found.statistic / (len(stay) * len(leave)) - 1
    p = np.where(np.isfinite(found.pvalue), found.pvalue, 1.0)  # a feature that never changes
    q = false_discovery_control(p)
    rows = [
        Difference(block, name, float(a), float(b), float(d), float(one), float(adjusted))
        for (block, name), a, b, d, one, adjusted in zip(
            names, stay.mean(0), leave.mean(0), delta, p, q, strict=True
        )
    ]
    return sorted(rows, key=lambda row: (row.q, -abs(row.delta), row.block, row.feature))


def _topics(
    texts: Sequence[str], labels: Labels, settings: Settings
) -> tuple[Table, dict[str, tuple[str, ...]]] | None:
    """Topics of all people, for description, with words that show what each is about.

    None where hardly any word is used by several people, as in a script without spaces.
    """
    pipeline = features.topics(settings.topics, settings.seed, len(texts))
    try:
        values = pipeline.fit_transform(texts)
    except ValueError:  # no word is left
        return None
    vocabulary = pipeline[0].get_feature_names_out()
    names = tuple(f"topic {number}" for number in range(1, settings.topics + 1))
    words = {
        name: tuple(vocabulary[row.argsort()[::-1][:8]])
        for name, row in zip(names, pipeline[1].components_, strict=True)
    }
    grams = features.ngrams(len(texts))
    matrix = grams.fit_transform(texts)
    weights = _model().fit(matrix, labels).coef_[0]
    order, known = weights.argsort(), grams.get_feature_names_out()
    words["n-grams of the persistent"] = tuple(known[order[::-1][:15]])
    words["n-grams of the others"] = tuple(known[order[:15]])
    return Table(names, values), words


class _Fold(NamedTuple):
    """Train and test people of a fold, and every block's features of both."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    blocks: Mapping[str, tuple[Any, Any]]


def _folds(
    texts: Sequence[str],
    tables: Mapping[str, Table],
    labels: Labels,
    settings: Settings,
    progress: Progress | None,
) -> list[_Fold]:
    from sklearn.model_selection import GroupKFold
    from sklearn.preprocessing import StandardScaler

    pair = np.repeat(np.arange(len(labels) // 2), 2)
    cut = GroupKFold(settings.folds, shuffle=True, random_state=settings.seed)
    folds = []
    for train, test in cut.split(pair, groups=pair):
        blocks: dict[str, tuple[Any, Any]] = {}
        for name, table in tables.items():
            scale = StandardScaler().fit(table.values[train])
            blocks[name] = (
                scale.transform(table.values[train]), scale.transform(table.values[test])
            )  # fmt: skip
        if texts:
            mine, others = [texts[i] for i in train], [texts[i] for i in test]
            try:
                model = features.topics(settings.topics, settings.seed, len(mine))
                found = model.fit_transform(mine)
                grams = features.ngrams(len(mine))
                blocks["ngrams"] = grams.fit_transform(mine), grams.transform(others)
            except ValueError:  # no word is used by several of these people
                texts = []
            else:
                scale = StandardScaler().fit(found)
                blocks["topics"] = scale.transform(found), scale.transform(model.transform(others))
        folds.append(_Fold(train, test, blocks))
        if progress is not None:
            progress(len(folds), settings.folds, "folds prepared")
    everywhere = set.intersection(*(set(fold.blocks) for fold in folds))
    return [
        fold._replace(blocks={name: fold.blocks[name] for name in BLOCKS if name in everywhere})
        for fold in folds
    ]


def _classified(
    folds: Sequence[_Fold], labels: Labels, settings: Settings, progress: Progress | None
) -> tuple[list[Result], Chance]:
    known = tuple(folds[0].blocks)
    written = tuple(name for name in known if name in TEXT_BLOCKS)
    sets: dict[str, tuple[str, ...]] = {name: (name,) for name in known}
    if written:
        sets["all text"] = written
        for name in written:
            sets[f"all text but {name}"] = tuple(one for one in written if one != name)
        sets["text and metadata"] = known
    results = []
    for done, (name, blocks) in enumerate(sets.items(), 1):
        predicted = _predicted(folds, blocks, labels)
        f1, area = scores(labels, predicted, settings.resamples, settings.seed)
        results.append(Result(name, blocks, f1, area, len(labels)))
        if progress is not None:
            progress(done, len(sets), "classifiers")
    shown = "all text" if written else known[0]
    true = next(result.auroc.value for result in results if result.name == shown)
    random, null = np.random.default_rng(settings.seed), []
    for done in range(1, settings.shuffles + 1):
        swapped = labels.reshape(-1, 2).copy()
        turn = random.integers(0, 2, len(swapped)).astype(bool)
        swapped[turn] = swapped[turn, ::-1]
        fake = swapped.reshape(-1)
        null.append(auroc(fake, _predicted(folds, sets[shown], fake)))
        if progress is not None:
            progress(done, settings.shuffles, "shuffled labels")
    p = (1 + sum(value >= true for value in null)) / (1 + len(null))
    spread = float(np.std(null, ddof=1)) if len(null) > 1 else float("nan")
    return results, Chance(shown, float(np.mean(null)), spread, len(null), p)


def _model() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(class_weight="balanced", max_iter=2000)


def _predicted(folds: Sequence[_Fold], blocks: Sequence[str], labels: Labels) -> Floats:
    """The probability of persistence of everybody, each held out once."""
    from scipy.sparse import csr_matrix, hstack, issparse

    found = np.full(len(labels), np.nan)
    for fold in folds:
        sides = []
        for side in (0, 1):
            parts = [fold.blocks[name][side] for name in blocks]
            if any(map(issparse, parts)):
                sides.append(hstack([csr_matrix(part) for part in parts]).tocsr())
            else:
                sides.append(np.concatenate(parts, axis=1))
        model = _model().fit(sides[0], labels[fold.train])
        found[fold.test] = model.predict_proba(sides[1])[:, 1]
    return found


def scores(
    labels: Labels, predicted: Floats, resamples: int = 1000, seed: int = 0
) -> tuple[Score, Score]:
    """Macro-F1 at 1/2 and AUROC, with intervals by the percentile bootstrap over pairs.

    ``labels`` and ``predicted`` lie pair by pair, so every resample has both classes alike.
    """
    truth, said = labels.reshape(-1, 2), predicted.reshape(-1, 2)
    random = np.random.default_rng(seed)
    drawn = np.empty((resamples, 2))
    for number in range(resamples):
        some = random.integers(0, len(truth), len(truth))
        drawn[number] = _both(truth[some].reshape(-1), said[some].reshape(-1))
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    values = _both(labels, predicted)
    f1, area = (Score(v, float(a), float(b)) for v, a, b in zip(values, low, high, strict=True))
    return f1, area


def _both(labels: Labels, predicted: Floats) -> tuple[float, float]:
    return _macro_f1(labels, predicted > 0.5), auroc(labels, predicted)


def _macro_f1(labels: Labels, said: NDArray[np.bool_]) -> float:
    found = []
    for one in (0, 1):
        right = int(((labels == one) & (said == one)).sum())
        total = int((labels == one).sum()) + int((said == one).sum())
        found.append(2 * right / total if total else 0.0)
    return float(np.mean(found))
