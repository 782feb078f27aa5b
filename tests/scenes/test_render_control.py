"""Guides for video models: what the passes of a block say is what geometry says."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from common.errors import UserError
from scenes.render import encode, exr
from scenes.render.control import Settings, make
from scenes.render.jobs import Camera, Export, Scene, Thing
from scenes.render.pool import Workers

SIDE = 64
DISTANCES = (5.125, 4.0, 2.875)
"""From the camera to the face of the block, as a dolly goes from 1.25 to 0.75 of 4.5 metres."""


@pytest.fixture(scope="module")
def block(workers: Workers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube of a metre at the origin, seen from the front by the file's own camera."""
    path = tmp_path_factory.mktemp("scene") / "scene.blend"
    camera = Camera(location=(0, -4.5, 0.5), target=(0, 0, 0.5), fov=math.pi / 5)
    workers.do(Export(scene=Scene(things=(Thing(id="block", size=(1, 1, 1)),)), camera=camera,
                      blend=path))  # fmt: skip
    return path


def asked(block: Path, **changed: Any) -> Settings:
    wanted = {"blend": block, "move": "dolly", "frames": 3, "width": SIDE, "height": SIDE,
              "passes": ("depth", "normal", "segmentation", "flow"), "samples": 1}  # fmt: skip
    return Settings(**(wanted | changed))


def plane(folder: Path, each: str, number: int, channel: str) -> Any:
    return exr.read(folder / each / f"{number:05d}.exr")[channel]


def test_passes_are_what_geometry_says(block: Path, workers: Workers, tmp_path: Path) -> None:
    guide = make(asked(block), tmp_path, workers, fps=12)
    assert guide == json.loads((tmp_path / "guide.json").read_text())
    (focal, _, middle), *_ = guide["intrinsics"]
    assert middle == SIDE / 2
    across = np.arange(SIDE) + 0.5 - middle
    for number, far in enumerate(DISTANCES):
        depth = plane(tmp_path, "depth", number, "Z")
        on = np.abs(across) < focal * 0.5 / far - 1  # within the face, which is half a metre wide
        face = np.ix_(on, on)
        assert depth[face] == pytest.approx(far, abs=1e-3)
        for axis, value in (("X", 0), ("Y", 0), ("Z", 1)):
            assert plane(tmp_path, "normal", number, axis)[face] == pytest.approx(value, abs=1e-2)
        assert (plane(tmp_path, "segmentation", number, "ID")[face] == 1).all()
        picture = np.asarray(Image.open(tmp_path / "segmentation" / f"{number:05d}.png"))
        assert (picture[face] == guide["segmentation"]["block"]).all()
        turn = np.array(guide["extrinsics"][number])
        corner = turn @ (0.5, -0.5, 1.0, 1.0)  # right, at the front, on top
        assert corner[:3] == pytest.approx((0.5, -0.5, far)), "right, up is less, forward"
    for number, (here, there) in enumerate(pairwise(DISTANCES)):
        right, down = (plane(tmp_path, "flow", number, c) for c in "UV")
        on = np.flatnonzero(np.abs(across) < focal * 0.5 / here - 1)
        growth = across[on] * (here / there - 1)  # by similar triangles
        for k, wanted in zip(on, growth, strict=True):
            assert right[on, k] == pytest.approx(wanted, abs=0.02)
            assert down[k, on] == pytest.approx(wanted, abs=0.02)
    assert not (tmp_path / "flow" / "00002.exr").exists(), "the last frame has no next one"
    for each, frames in (("depth", 3), ("normal", 3), ("segmentation", 3), ("flow", 2)):
        with av.open(str(tmp_path / f"{each}.mp4")) as film:
            assert len([*film.decode(video=0)]) == frames
            assert film.streams.video[0].average_rate == 12


def test_what_is_there_stays_and_other_settings_are_refused(
    block: Path, workers: Workers, tmp_path: Path
) -> None:
    make(asked(block, passes=("depth",)), tmp_path, workers)
    kept, lost = (tmp_path / "depth" / f"{n:05d}.exr" for n in (0, 1))
    stamp, content = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    make(asked(block, passes=("depth",)), tmp_path, workers)
    assert kept.stat().st_mtime_ns == stamp and lost.read_bytes() == content
    with pytest.raises(UserError, match="other settings"):
        make(asked(block, passes=("depth",), move="orbit"), tmp_path, workers)
    with pytest.raises(UserError, match="one frame has no flow"):
        make(asked(block, passes=("flow",), frames=1), tmp_path / "other", workers)
    with pytest.raises(UserError, match="unknown pass 'heat'"):
        make(asked(block, passes=("heat",)), tmp_path / "other", workers)
    with pytest.raises(UserError, match=r"cannot read .*none\.blend"):
        make(asked(block.with_name("none.blend")), tmp_path / "other", workers)
    kept.write_bytes(kept.read_bytes()[:200])
    with pytest.raises(UserError, match=r"00000\.exr as OpenEXR.*"):
        make(asked(block, passes=("depth",)), tmp_path, workers)


halves = arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 40)),
    elements=st.floats(-1e4, 1e4, width=16),
)


@settings(max_examples=50, deadline=None)
@given(halves, st.booleans())
def test_openexr_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray[Any, Any], half: bool
) -> None:
    path = tmp_path_factory.mktemp("exr") / "a.exr"
    channels = {"X": values, "Y": values[::-1] * 2, "Z": np.zeros_like(values)}
    exr.write(path, channels, half)
    found = exr.read(path)
    assert found.keys() == channels.keys()
    for name, value in channels.items():
        assert np.array_equal(found[name], value), "a half holds them exactly"


def test_pictures_of_passes_by_hand() -> None:
    depth = np.array([[1.0, 2.0, 4.0, 1e10]], np.float32)
    assert encode.depth_range(depth) == (1.0, 4.0)
    assert encode.depth(depth, 1, 4).tolist() == [[65535, round(65535 / 3), 0, 0]]
    normals = np.array([[(0, 0, 1), (1, 0, 0), (0, -1, 0), (0, 0, 0)]], float)
    assert encode.normal(normals).tolist() == [
        [[128, 128, 255], [255, 128, 128], [128, 0, 128], [128, 128, 255]]
    ]
    table = encode.colours(300)
    assert len(np.unique(table, axis=0)) == 300 and (table.max(1) > 0).all()
    seen = encode.segmentation(np.array([[0, 1, 300, 301]], float), table)[0]
    assert [*map(list, seen)] == [[0, 0, 0], [*table[0]], [*table[299]], [0, 0, 0]]
    still, right = encode.flow_picture(np.array([[(0, 0), (5, 0)]], float), 5.0)[0]
    assert [*still] == [255, 255, 255] and [*right] == [255, 0, 0]
