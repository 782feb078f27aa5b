"""One process at a time, and nobody is kept out by one that ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UserError
from common.lock import alone


def test_a_file_is_one_holders_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("ab") as mine, path.open("ab") as other:
        alone(mine, "busy", "wait")
        with pytest.raises(UserError, match="busy"):
            alone(other, "busy", "wait")
        mine.close()
        alone(other, "busy", "wait")
