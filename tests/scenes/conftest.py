"""What tests of scenes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scenes.render.pool import Workers


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(device="cpu") as found:
        yield found
