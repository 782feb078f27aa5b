"""Put a trained adapter into ``assets/``: ``python -m scenes.planners.publish FOLDER``.

``FOLDER`` is what ``upspiral scenes train planner`` wrote.
"""

from __future__ import annotations

import sys
from pathlib import Path

from common.errors import UserError
from common.publish import put


def publish(folder: Path) -> None:
    """Copy the adapter into ``assets/planner`` and record it.

    Raises:
        UserError: there is none.
    """
    if not (folder / "adapter_config.json").exists():
        raise UserError(f"no adapter in {str(folder)!r}", "upspiral scenes train planner --out it")
    put(
        folder,
        "planner",
        "adapter for SmolLM2-135M that plans scenes",
        "Apache-2.0",
        "trained for SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) on generated texts",
    )


if __name__ == "__main__":
    publish(Path(sys.argv[1]))
