"""Preferences as Parquet in TRL's preference format, which any other trainer reads too."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from common.artifacts import disk_errors
from common.errors import UserError

if TYPE_CHECKING:
    from common.store import Store


def export(store: Store, run: str, path: Path) -> int:
    """Write the preferences of ``run`` to ``path``; return how many. See ``Store.export``."""
    store.run(run)
    found = store.preferences(run)
    if not found:
        raise UserError(
            f"run {run!r} has no preferences", "let it finish the select stage of a round"
        )
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"prompt": pa.string(), "chosen": pa.string(), "rejected": pa.string()}
    kinds |= {"margin": pa.float64(), "source": pa.string(), "round": pa.int64()}
    columns = {name: [getattr(p, name) for p in found] for name in kinds}
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with disk_errors(path):
            parquet.write_table(pa.table(columns, schema=pa.schema(kinds)), half)
            os.replace(half, path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"cannot write {path}", "name a file in a folder that exists") from error
    finally:
        with contextlib.suppress(OSError):
            half.unlink()
    return len(found)
