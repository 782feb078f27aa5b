"""From a picture to things under a camera: pieces, guesses, fits, and what stands on what."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from scenes.reconstruct.fit import Fit, Fitter
from scenes.reconstruct.foreground import Picture
from scenes.reconstruct.match import (
    FOVS,
    Guess,
    Piece,
    View,
    at_elevation,
    cameras,
    guesses,
    lifted,
    parted,
    pieces,
    scores,
)
from scenes.reconstruct.shapes import Shapes

Floats = NDArray[np.float32]
SHRINK = 2
"""Pixels across that are one to the search; its last rounds look at each."""
MOST = 8
"""Pieces that are looked at, the largest."""
POOR = 0.65
"""A piece whose outline is explained less well may be two things."""
PLAIN = 0.65
"""A piece that looks as much as this like some model is one thing."""
APART = 0.05
"""What each part of a piece must add to how much it looks like models."""
NEAR = 5
"""Pixels between two fragments that may be of one thing."""
TOGETHER = 0.04
"""How much less like a model two fragments may look together than apart to be taken for one."""
PER_THING = 0.02
"""What one more thing must add to the agreement with the whole picture."""
MISCOUNT = 0.1
"""What a thing too many or too few costs where their number is known."""
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class SearchConfig:
    """How hard is searched. ``fov`` in radians is the camera's, where it is known."""

    cameras: int = 2
    guesses: int = 12
    """Models that are looked at for each thing, of which ``chances`` may find their place."""
    chances: int = 3
    rounds: int = 4
    batch: int = 12
    fov: float | None = None
    seed: int = 0


class Search:
    """The search in one picture. ``bonus`` tells of a piece what else speaks for each model (M,),
    ``count`` how many things there are, ``allowed`` (M,) which models they may be, ``given``
    the pieces that the things are, if that is known."""

    def __init__(
        self,
        picture: Picture,
        shapes: Shapes,
        config: SearchConfig = SearchConfig(),
        bonus: Callable[[Piece], Floats] | None = None,
        count: int | None = None,
        allowed: NDArray[np.bool_] | None = None,
        given: Sequence[Piece] | None = None,
    ) -> None:
        self.picture, self.shapes, self.config = picture, shapes, config
        self.count, self.bonus, self.allowed, self.given = count, bonus, allowed, given
        self.size = (picture.lab.shape[1], picture.lab.shape[0])
        self._scores: dict[bytes, Floats] = {}
        self._bonus: dict[bytes, Floats] = {}

    def run(self, progress: Progress | None = None) -> tuple[Fit, Fitter]:
        """The best explanation found.

        Raises:
            UserError: the picture shows nothing but background.
        """
        whole = [Piece(self.picture.mask)]
        if not whole[0].area:
            raise UserError(
                f"nothing stands out from the background of {self.picture.path}",
                "give a picture of things that lie wholly in it, of other colours than behind them",
            )
        self._whole = self._fitter(whole)
        tell = self._teller(progress, 5)
        fit, fitter = self._placed(self.given or self._pieces())
        tell()
        if self.given is None:
            fit, fitter = self._split(fit, fitter)
        tell()
        fit = self._stacked(fit, fitter)
        tell()
        fit = self._reconsidered(fit, fitter)
        tell()
        fitter = self._fitter(fitter.pieces, 1)
        fit = fitter.improved(
            replace(fit, score=-math.inf), self.config.rounds, 0.4, batch=self.config.batch
        )
        tell()
        return fit, fitter

    def _fitter(self, parts: Sequence[Piece], shrink: int = SHRINK) -> Fitter:
        known = self.config.fov is not None
        return Fitter(self.picture, self.shapes, parts, self.config.seed, shrink, known)

    def worth(self, fit: Fit) -> float:
        """How well things explain all of the picture, however it was taken apart, less for many."""
        things = [replace(thing, piece=0) for thing in fit.things]
        wrong = abs(len(things) - self.count) if self.count is not None else 0
        whole = float(self._whole.score([fit.view], [things])[0])
        return whole - PER_THING * len(things) - MISCOUNT * wrong

    def _like(self, part: Piece) -> float:
        """How much a piece looks like some model from a height that is neither low nor high."""
        key = np.packbits(part.mask).tobytes() + b"?"
        if key not in self._scores:
            self._scores[key] = self._compared(part, 17.0)
        return float(self._scores[key].max())

    def _teller(self, progress: Progress | None, total: int) -> Callable[[], None]:
        done = 0

        def tell() -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done, total, "stages of the search")

        return tell

    def scored(self, part: Piece, view: View | None = None) -> Floats:
        """The piece against every view, or against those that are seen from about as high."""
        key = np.packbits(part.mask).tobytes()
        if key in self._scores:
            return self._scores[key]
        if view is None:
            self._scores[key] = self._compared(part)
            return self._scores[key]
        degrees = round(lifted(part, view, self.size) / 3) * 3
        near = key + bytes([max(0, degrees)])
        if near not in self._scores:
            self._scores[near] = self._compared(part, degrees)
        return self._scores[near]

    def _compared(self, part: Piece, degrees: float | None = None) -> Floats:
        found = scores(part, self.picture, self.shapes, degrees)
        if self.allowed is not None:
            found[~self.allowed] -= 10
        return found

    def extra(self, part: Piece) -> Floats | None:
        if self.bonus is None:
            return None
        key = np.packbits(part.mask).tobytes()
        if key not in self._bonus:
            self._bonus[key] = self.bonus(part)
        return self._bonus[key]

    def guessed(self, part: Piece, view: View, top: int, base: float = 0.0) -> list[Guess]:
        """The likeliest models of a piece that stands at height ``base``."""
        above = replace(view, height=max(view.height - base, 0.05))
        return guesses(part, self.scored(part, view), self.shapes, above, self.size, top,
                       self.extra(part))  # fmt: skip

    def _placed(self, parts: Sequence[Piece]) -> tuple[Fit, Fitter]:
        """One thing a piece, under the camera that suits best."""
        fitter = self._fitter(parts)
        fovs = FOVS if self.config.fov is None else (self.config.fov,)
        found = [self.scored(part) for part in parts]
        fits = []
        for _, view in cameras(parts, found, self.shapes, self.size, fovs, self.config.cameras):
            things = tuple(
                fitter.start(view, self.guessed(part, view, 1)[0], n)
                for n, part in enumerate(parts)
            )
            fit = self._chosen(Fit(view, things), fitter, 4)
            fits.append(fitter.improved(fit, 3, 1.0, batch=12))
        return max(fits, key=lambda fit: fit.score), fitter

    def _chosen(self, fit: Fit, fitter: Fitter, top: int) -> Fit:
        """For each thing the best of its first guesses, as they stand."""
        for i, thing in enumerate(fit.things):
            part = fitter.pieces[thing.piece]
            base = fitter.place(fit.view, fit.things)[i][2]
            tried = [
                fitter.start(fit.view, guess, thing.piece, thing.on, base)
                for guess in self.guessed(part, fit.view, top, base)
            ]
            states = [(*fit.things[:i], t, *fit.things[i + 1 :]) for t in (thing, *tried)]
            worth = fitter.score([fit.view] * len(states), states)
            best = int(worth.argmax())
            fit = Fit(fit.view, states[best], float(worth[best]))
        return fit

    def _reconsidered(self, fit: Fit, fitter: Fitter) -> Fit:
        """Every thing's other guesses, each given a chance to find its place."""
        for i, thing in enumerate(fit.things):
            part = fitter.pieces[thing.piece]
            base = fitter.place(fit.view, fit.things)[i][2]
            best = fitter.improved(fit, 3, 0.5, camera=False, batch=16, only=[i])
            stands = [
                fitter.start(fit.view, guess, thing.piece, thing.on, base)
                for guess in self.guessed(part, fit.view, self.config.guesses, base)
                if guess.model != thing.model
            ]
            states = [(*fit.things[:i], s, *fit.things[i + 1 :]) for s in stands]
            if not states:
                continue
            worth = fitter.score([fit.view] * len(states), states)
            for n in worth.argsort(descending=True)[: self.config.chances].tolist():
                tried = fitter.improved(
                    Fit(fit.view, states[n], float(worth[n])), 4, 0.6, camera=False, batch=16,
                    only=[i],
                )  # fmt: skip
                best = max(best, tried, key=lambda each: each.score)
            fit = best
        return fit

    def _stacked(self, fit: Fit, fitter: Fitter) -> Fit:
        """Things tried on top of those below them in the picture."""
        for i in range(len(fit.things)):
            thing = fit.things[i]
            if any(s.on == i for s in fit.things) or thing.on is not None:
                continue
            left, _, right, bottom = fitter.pieces[thing.piece].box
            best = fit
            for j, host in enumerate(fit.things):
                if j == i or host.on is not None:
                    continue
                west, north, east, south = fitter.pieces[host.piece].box
                apart = right < west or left > east or bottom > south or bottom < north - 2
                if apart and host.piece != thing.piece:
                    continue
                base = fitter.rest(host.model) * fitter.place(fit.view, fit.things)[j][3]
                if base >= fit.view.height - 0.05:
                    continue
                for guess in self.guessed(fitter.pieces[thing.piece], fit.view, 3, base):
                    stand = fitter.start(fit.view, guess, thing.piece, j, base)
                    things = (*fit.things[:i], stand, *fit.things[i + 1 :])
                    tried = fitter.improved(
                        Fit(fit.view, things), 3, 0.6, camera=False, batch=16, only=[i]
                    )
                    if tried.score > best.score + 0.003:
                        best = tried
            fit = best
        return fit

    def _split(self, fit: Fit, fitter: Fitter) -> tuple[Fit, Fitter]:
        """Pieces that no one thing explains, taken for two or three."""
        hopeless: set[bytes] = set()
        while len(fitter.pieces) < MOST:
            short = self.count is not None and len(fit.things) < self.count
            agreed = fitter.agreement(fit)
            poor = [
                int(n) for n in np.argsort(agreed)
                if agreed[n] < (0.9 if short else POOR)
                and np.packbits(fitter.pieces[n].mask).tobytes() not in hopeless
            ]  # fmt: skip
            if not poor:
                break
            n = poor[0]
            hopeless.add(np.packbits(fitter.pieces[n].mask).tobytes())
            for parts in self._parted(fitter.pieces[n], fit.view)[:2]:
                made, finer = self._with(fit, fitter, n, parts)
                if self.worth(made) > self.worth(fit):
                    fit, fitter = made, finer
                    break
        return fit, fitter

    def _with(self, fit: Fit, fitter: Fitter, n: int, parts: Sequence[Piece]) -> tuple[Fit, Fitter]:
        """The fit with piece ``n`` as several."""
        left = [*fitter.pieces[:n], *fitter.pieces[n + 1 :], *parts]
        finer = self._fitter(left)
        moved = [replace(s, piece=s.piece - (s.piece > n)) for s in fit.things if s.piece != n]
        first = len(fitter.pieces) - 1
        new = [
            finer.start(fit.view, self.guessed(part, fit.view, 1)[0], first + k)
            for k, part in enumerate(parts)
        ]
        made = self._chosen(Fit(fit.view, (*moved, *new)), finer, 5)
        only = [len(moved) + k for k in range(len(new))]
        made = finer.improved(made, 4, 0.7, camera=False, batch=16, only=only)
        return made, finer

    def _parted(self, piece: Piece, view: View) -> list[list[Piece]]:
        """Ways to take a piece apart, those first whose parts look most like models."""

        def worth(parts: Sequence[Piece]) -> float:
            total = 0.0
            for part in parts:
                there = at_elevation(self.scored(part, view), lifted(part, view, self.size))
                total += float(there.max()) * part.area
            return total / piece.area - APART * len(parts)

        return sorted(parted(piece, self.picture), key=worth, reverse=True)

    def _pieces(self) -> list[Piece]:
        """The parts of the picture, those that look like no model taken apart where that helps."""
        left, found = pieces(self.picture), list[Piece]()
        while left and len(found) + len(left) <= MOST:
            part = left.pop(0)
            alone = self._like(part)
            best: tuple[float, list[Piece]] = (alone, [part])
            if alone < PLAIN and part.area > 150:
                for parts in parted(part, self.picture):
                    together = sum(self._like(p) * p.area for p in parts) / part.area
                    best = max(best, (together - APART * len(parts), parts), key=lambda x: x[0])
            if len(best[1]) == 1:
                found.append(part)
            else:
                left += best[1]
        found += left
        # And the other way round: fragments that together look like something.
        merged = True
        while merged:
            merged = False
            for a, b in combinations(found, 2):
                if a.distance(b) > NEAR:
                    continue
                both = Piece(a.mask | b.mask)
                alone = (self._like(a) * a.area + self._like(b) * b.area) / both.area
                if self._like(both) > alone - TOGETHER:
                    found = [p for p in found if p not in (a, b)] + [both]
                    merged = True
                    break
        return sorted(found, key=lambda piece: -piece.area)[:MOST]
