"""DIVE (arXiv 2501.00747): self-improvement that keeps its diversity.

Iterated self-improvement learns from random pairs of a right and a wrong solution, and its samples
grow alike. DIVE replaces **select**:

1. The pool is *global*: the samples of this and of all earlier rounds.
2. Of each question's right samples, and of its wrong ones, outliers are dropped: an isolation
   forest on sentence embeddings (:mod:`common.outliers`).
3. Of each side a diverse subset is chosen greedily from a random first item, by one of five
   measures (:mod:`common.diversity`).
4. The subsets are paired.

    loss = alpha * DPO + (1 - alpha) * -log p(chosen) / |chosen|

is :class:`common.learners.dpo.Preference` with ``dpo_weight`` alpha and ``nll_weight`` 1 - alpha;
the reference is the policy that the round began with.

Deviations: how many outliers the paper drops is not published; here those whose score is above 1/2,
at most a tenth of a side. Repeated texts of a side count once. The released code has neither the
forest, nor the greedy choice, nor the global pool.

    upspiral text improve --method dive --task arithmetic --model smollm2 --rounds 3
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from common.diversity import EMBEDDED, Measure, chain, greedy, objective
from common.errors import UserError
from common.monitors.exploration import distinct, embedding_diversity
from common.outliers import outliers
from common.pairing import Sides, pair, sides
from common.pairing import distinct as distinct_pairs
from common.pool import of_round
from common.records import Candidate, Lessons, Preference, Task
from common.stages import Context

if TYPE_CHECKING:
    from common.loop import Loop
    from text.improve import Parts

Vectors = NDArray[Any]
Embed = Callable[[Sequence[str]], Vectors]
"""From texts to vectors, (n, d)."""


def sentences(texts: Sequence[str]) -> Vectors:
    """The embeddings of all-MiniLM-L6-v2, which is loaded at the first call."""
    from common.sentences import encoder

    return encoder()(texts)


@dataclass(frozen=True)
class Diverse:
    """Select: diverse right solutions over diverse wrong ones.

    ``pairs`` is the most pairs of a question, ``drop`` the largest share of a side that may be
    outliers. ``pool`` is ``global`` or this ``round``'s. ``key`` is the score that is 1 for right
    solutions.
    """

    measure: Measure = "embedding"
    pairs: int = 5
    pool: Literal["global", "round"] = "global"
    drop: float = 0.1
    key: str = "correct"
    embed: Embed = sentences
    known: dict[str, Vectors] = field(default_factory=dict, repr=False, compare=False)
    """Vectors of texts that were embedded already: the global pool comes back every round."""

    def __post_init__(self) -> None:
        if self.measure not in get_args(Measure) or self.pool not in ("global", "round"):
            raise UserError(
                f"measure={self.measure}, pool={self.pool}",
                f"use a measure of {', '.join(get_args(Measure))}, and the pool global or round",
            )
        if self.pairs < 1 or not 0 <= self.drop < 1:
            raise UserError(
                f"pairs={self.pairs}, drop={self.drop:g}", "give pairs of 1 or more, drop in [0, 1)"
            )

    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        seen = pool if self.pool == "global" else of_round(pool, ctx.round)
        found = list(sides(tasks, seen, self.key))
        vectors = self._vectors(found, ctx)
        kept, dropped = self._without_outliers(found, vectors, ctx)
        pairs: list[Preference] = []
        for number, (task, right, wrong) in enumerate(kept):
            chosen = [
                self._diverse(side, vectors, ctx.seed_for("dive", ctx.round, task.id, sign))
                for sign, side in (("right", right), ("wrong", wrong))
            ]
            pairs += [
                pair(task, good, bad, 1.0, "self", ctx.round)
                for good, bad in zip(*chosen, strict=False)
            ]
            if number % 64 == 0 or number + 1 == len(kept):
                ctx.progress(number + 1, len(kept), "diverse pairs")
        pairs = distinct_pairs(pairs)
        notes = {"pool": len(seen), "questions": len(found), "outliers": dropped}
        return Lessons(tuple(pairs), notes={**notes, **diversity(pairs, vectors or None)})

    def _vectors(self, found: Sequence[Sides], ctx: Context) -> Mapping[str, Vectors]:
        """The vectors of all texts of ``found``; none where nothing asks for them."""
        if self.measure not in EMBEDDED and not self.drop:
            return {}
        texts = {c.output for _, right, wrong in found for c in (*right, *wrong)}
        new = sorted(texts - self.known.keys())
        for start in range(0, len(new), 512):
            some = new[start : start + 512]
            self.known.update(zip(some, self.embed(some), strict=True))
            ctx.progress(start + len(some), len(new), "sentence embeddings")
        return self.known

    def _without_outliers(
        self, found: Sequence[Sides], vectors: Mapping[str, Vectors], ctx: Context
    ) -> tuple[list[Sides], int]:
        """The sides without their outliers, and how many there were."""
        if not self.drop:
            return list(found), 0
        groups = [side for _, right, wrong in found for side in (right, wrong)]
        seeds = [
            ctx.seed_for("outliers", ctx.round, task.id, sign)
            for task, _, _ in found
            for sign in ("right", "wrong")
        ]
        odd = outliers(
            [np.stack([vectors[c.output] for c in group]) for group in groups], seeds, self.drop
        )
        left = [
            [c for c, out in zip(group, marked, strict=True) if not out]
            for group, marked in zip(groups, odd, strict=True)
        ]
        kept = [Sides(s.task, left[2 * i], left[2 * i + 1]) for i, s in enumerate(found)]
        return kept, int(sum(marked.sum() for marked in odd))

    def _diverse(
        self, side: Sequence[Candidate], vectors: Mapping[str, Vectors], seed: int
    ) -> list[Candidate]:
        """At most ``pairs`` of a side, in random order: the first is random, and so are ties."""
        rng = np.random.default_rng(seed)
        side = [side[i] for i in rng.permutation(len(side))]
        texts = [c.output for c in side]
        rows = np.stack([vectors[t] for t in texts]) if self.measure in EMBEDDED else None
        chosen = greedy(objective(self.measure, texts, rows), self.pairs, 0)
        return [side[chosen[i]] for i in rng.permutation(len(chosen))]


def diversity(
    pairs: Iterable[Preference], vectors: Mapping[str, Vectors] | None = None
) -> dict[str, float]:
    """How diverse the chosen and the rejected solutions are; means over questions with two or more.

    ``distinct_n`` (n-grams, n = 1 to 5), ``embedding`` (1 - mean cosine, with ``vectors`` by text)
    and ``chains`` (different chains of equations, as a share), each of ``chosen`` and ``rejected``.
    """
    by_task: dict[str, list[Preference]] = {}
    for one in pairs:
        by_task.setdefault(one.task, []).append(one)
    found: dict[str, float] = {}
    for side in ("chosen", "rejected"):
        groups = [list({getattr(p, side) for p in group}) for group in by_task.values()]
        groups = [sorted(texts) for texts in groups if len(texts) > 1]
        if not groups:
            continue
        found[f"distinct_n_{side}"] = float(np.mean([distinct(texts) for texts in groups]))
        chains = [len(set(map(chain, texts))) / len(texts) for texts in groups]
        found[f"chains_{side}"] = float(np.mean(chains))
        if vectors:
            spread = [embedding_diversity(np.stack([vectors[t] for t in g])) for g in groups]
            found[f"embedding_{side}"] = float(np.mean(spread))
    return found


def weights(alpha: float) -> dict[str, float]:
    """The loss weights of alpha * DPO + (1 - alpha) * NLL by token.

    Raises :class:`UserError` for an alpha outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise UserError(f"alpha={alpha:g}", "give an alpha within 0 and 1")
    return {"dpo_weight": alpha, "nll_weight": 1 - alpha}


@dataclass(frozen=True)
class DIVE:
    """Diverse pairs of the global pool, learnt with the paper's loss; ``beta`` is the run's."""

    measure: str = "embedding"
    pairs: int = 5
    pool: str = "global"
    drop: float = 0.1
    alpha: float = 0.5

    def loop(self, parts: Parts) -> Loop:
        select = Diverse(self.measure, self.pairs, self.pool, self.drop)  # type: ignore[arg-type]
        learn = parts.preference(reference="previous", **weights(self.alpha))
        return parts.loop(select=select, learn=learn)
