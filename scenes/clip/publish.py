"""Put a trained CLIP into ``assets/``: ``python -m scenes.clip.publish FOLDER``.

``FOLDER`` is what ``upspiral scenes train clip`` wrote. Whose models were rendered goes beside the
weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

from common.errors import UserError
from common.publish import keep_curves, put
from scenes.assets.furniture import models
from scenes.assets.model import FREE
from scenes.clip.pictures import split_of
from scenes.clip.towers import WEIGHTS

LICENCE = "CC-BY-3.0 AND Apache-2.0"
ABOUT = "CLIP of furniture: pictures and words in one space, 128 pixels"
ATTRIBUTION = (
    "trained on renders of furniture models by Scopia, Kator Legaz, Reallusion and authors on "
    "Blend Swap (CC-BY-3.0, CC-BY-3.0-US, CC0-1.0; assets/clip/attribution.txt names them), from "
    "the weights of EfficientNet-Lite0 (Google, Apache-2.0); changed: renders became model weights"
)


def publish(folder: Path) -> None:
    """Copy ``folder/clip`` into ``assets/`` and record it.

    Raises:
        UserError: it holds no trained CLIP.
    """
    if not (folder / "clip" / WEIGHTS).is_file():
        raise UserError(f"no CLIP in {str(folder)!r}", "train one: upspiral scenes train clip")
    (folder / "clip/attribution.txt").write_text(authors(), encoding="utf-8")
    put(folder / "clip", "clip", ABOUT, LICENCE, ATTRIBUTION)
    keep_curves((folder / "work").glob("clip.jsonl"))


def authors() -> str:
    """Who made the models that the weights were trained on, by catalogue and licence."""
    made: dict[tuple[str, str], set[str]] = {}
    for model in models():
        if split_of(model) == "train" and model.licence not in FREE:
            made.setdefault((model.source, model.licence), set()).add(model.creator or "unknown")
    lines = ["Models of which renders were learnt from, by catalogue and licence"]
    lines += [
        f"{source}, {licence}: {', '.join(sorted(names))}"
        for (source, licence), names in sorted(made.items())
    ]
    return "\n".join([*lines, "Changed: rendered; the renders became model weights."]) + "\n"


if __name__ == "__main__":
    publish(Path(sys.argv[1]))
