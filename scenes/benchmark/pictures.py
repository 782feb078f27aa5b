"""CLIP scores of the benchmark: a subset of its scenes rendered, small, and compared with the text.

The cosine is raw and of one set of weights: compare it with none of other weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scenes.assets.index import Index
from scenes.benchmark.queries import Query
from scenes.clip.encoder import Clip
from scenes.critics import Staged
from scenes.critics.clip import ClipCritic
from scenes.render.pool import Workers
from scenes.shoot import Studio

WIDTH, HEIGHT, SAMPLES = 320, 240, 8


@dataclass(frozen=True)
class Pictures:
    """Renders what it is asked for into ``folder``, one file over the other."""

    index: Index
    workers: Workers
    encoder: Clip
    folder: Path

    def cosine(self, staged: Staged, text: str) -> float:
        """How much a picture of the scene looks like the text.

        Raises:
            RenderError: Blender failed.
        """
        studio = Studio(self.index, self.workers)
        told = replace(staged, text=text)
        shot = studio.shoot(told, self.folder / "picture.png", WIDTH, HEIGHT, SAMPLES)
        return ClipCritic(self.encoder).likeness(shot).cosine


def subset(queries: Sequence[Query], count: int) -> frozenset[str]:
    """The ids of ``count`` queries, evenly spread over the list."""
    step = max(1.0, len(queries) / max(count, 1))
    return frozenset(queries[int(n * step)].id for n in range(min(count, len(queries))))
