"""Put trained starters into ``assets/``: ``python -m speech.publish FOLDER`` after a training.

``FOLDER`` is what ``upspiral speech train`` wrote; each part that is in it replaces the one in
``assets/``, the manifest gets the new checksums, and ``assets/curves.svg`` the new curves.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from common import registry
from common.errors import UserError

LICENCE = "CC-BY-SA-3.0"
ATTRIBUTION = (
    "trained on recorded prompts voiced by Allison Smith, and for the model of voices by June "
    "Wallack, Carlo Flora and IvrvoiceRU (Digium/Sangoma, CC-BY-SA-3.0); changed: recordings "
    "became model weights"
)
ABOUT = {
    "codec": "spectral codec, 16 kHz, 50 frames a second",
    "ar": "codec language model, text to first codebook",
    "ar-small": "the same in a quarter of the size, to compare sizes",
    "nar": "masked model, first codebook to the others",
    "ctc": "phone model, the judge that rewards",
    "voice": "background model of voices, for the rewarding judge of voices",
}


def publish(folder: Path) -> list[str]:
    """Copy the parts of ``folder`` into ``assets/`` and record them; returns their names.

    Raises:
        UserError: ``folder`` holds none of them.
    """
    found = [part for part in ABOUT if (folder / part).is_dir()]
    if not found:
        raise UserError(f"no starter in {str(folder)!r}", "train one: upspiral speech train codec")
    for part in found:
        target = registry.assets() / part
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder / part, target)
        registry.record(f"starter-{part}", part, ABOUT[part], LICENCE, ATTRIBUTION)
    curves = registry.assets() / "curves"
    curves.mkdir(exist_ok=True)
    for curve in (folder / "work").glob("*.jsonl"):
        shutil.copy(curve, curves / curve.name)
    draw(curves, registry.assets() / "curves.svg")
    return found


def draw(curves: Path, picture: Path) -> None:
    """The figures of each training over its steps, those of a kind in one panel."""
    import matplotlib
    from matplotlib.figure import Figure

    files = sorted(curves.glob("*.jsonl"))
    if not files:
        return
    matplotlib.rcParams["svg.hashsalt"] = "upspiral"
    figure = Figure(figsize=(12, 3 * -(-len(files) // 3)), layout="constrained")
    panels = list(figure.subplots(-(-len(files) // 3), 3, squeeze=False).flat)
    for panel in panels:
        panel.set_visible(False)
    for panel, file in zip(panels, files, strict=False):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for name in dict.fromkeys(key for row in rows for key in row if key != "step"):
            points = [(row["step"], row[name]) for row in rows if name in row]
            panel.plot(*zip(*points, strict=True), label=name, linewidth=1, marker=".", ms=3)
        panel.set_visible(True)
        panel.set_title(file.stem)
        panel.set_xlabel("step")
        panel.legend(fontsize=7)
    figure.savefig(picture, metadata={"Date": None})


if __name__ == "__main__":
    print(*publish(Path(sys.argv[1])))
