"""A planted sequence of phones is found again, and segments cover every frame in order."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.segmentation import SILENCE, Segment, segment
from speech.text import WORD_END
from speech.train import load_segments, save_segments, stretch

PHONES = ("a", "b", "k", "s")


def planted(
    seed: int, count: int
) -> tuple[list[np.ndarray], list[list[str]], list[list[Segment]], list[np.ndarray]]:
    """Recordings whose features are a Gaussian around each phone's own point."""
    random = np.random.default_rng(seed)
    points = {name: random.normal(0, 4, 6) for name in (SILENCE, *PHONES)}
    features, lines, truth, quiet = [], [], [], []
    for _ in range(count):
        line: list[str] = []
        names = [SILENCE]
        for _ in range(random.integers(1, 4)):
            word = random.choice(PHONES, random.integers(1, 4)).tolist()
            line += [*word, WORD_END]
            names += [*word, *([SILENCE] if random.random() < 0.3 else [])]
        names += [] if names[-1] == SILENCE else [SILENCE]
        lengths = random.integers(3, 9, len(names))
        ends = np.cumsum(lengths)
        truth.append([Segment(n, int(e - d), int(e))
                      for n, d, e in zip(names, lengths, ends, strict=True)])  # fmt: skip
        centres = np.repeat([points[n] for n in names], lengths, axis=0)
        features.append((centres + random.normal(0, 1, centres.shape)).astype(np.float32))
        lines.append(line)
        quiet.append(np.repeat([n == SILENCE for n in names], lengths))
    return features, lines, truth, quiet


def test_planted_phones_are_found() -> None:
    features, lines, truth, quiet = planted(0, 60)
    found = segment(features, lines, quiet)
    right = total = 0
    for here, wanted, x in zip(found, truth, features, strict=True):
        assert here is not None and here[0].start == 0 and here[-1].end == len(x)
        assert all(a.end == b.start for a, b in itertools.pairwise(here))
        spoken = [s.phone for s in here if s.phone != SILENCE]
        assert spoken == [s.phone for s in wanted if s.phone != SILENCE]
        mine = [s.phone for s in here for _ in range(s.start, s.end)]
        theirs = [s.phone for s in wanted for _ in range(s.start, s.end)]
        right += sum(a == b for a, b in zip(mine, theirs, strict=True))
        total += len(mine)
    assert right / total > 0.9


def test_too_short_a_recording_is_left_out() -> None:
    x = np.zeros((3, 6), np.float32)
    features, lines, _, quiet = planted(1, 10)
    found = segment([*features, x], [*lines, ["a", "b", "k", WORD_END]], [*quiet, x[:, 0] > 1])
    assert found[-1] is None and all(found[:-1])


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(12, 200))
def test_stretching_keeps_order_and_covers_all(lengths: list[int], frames: int) -> None:
    ends = np.cumsum(lengths).tolist()
    where = [Segment("a", e - d, e) for d, e in zip(lengths, ends, strict=True)]
    scaled = stretch(where, frames)
    assert scaled[0].start == 0 and scaled[-1].end == frames
    assert all(a.end == b.start for a, b in itertools.pairwise(scaled))
    assert stretch(where, ends[-1]) == where


def test_segments_come_back_from_disk(tmp_path) -> None:  # type: ignore[no-untyped-def]
    placed = {"x/1": (["a", WORD_END], [Segment(SILENCE, 0, 3), Segment("a", 3, 7)])}
    save_segments(placed, tmp_path / "s.json.gz")
    assert load_segments(tmp_path / "s.json.gz") == placed
