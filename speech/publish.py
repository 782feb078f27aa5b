"""Put trained starters into ``assets/``: ``python -m speech.publish FOLDER`` after a training.

``FOLDER`` is what ``upspiral speech train`` wrote; each part that is in it replaces the one in
``assets/``, and the manifest gets the new checksums.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from common import registry
from common.errors import UserError

LICENCE = "CC-BY-SA-3.0"
ATTRIBUTION = (
    "trained on recorded prompts voiced by Allison Smith (Digium/Sangoma, CC-BY-SA-3.0); "
    "changed: recordings became model weights"
)
ABOUT = {
    "codec": "spectral codec, 16 kHz, 50 frames a second",
    "ar": "codec language model, text to first codebook",
    "nar": "masked model, first codebook to the others",
    "ctc": "phone model, the judge that rewards",
}


def publish(folder: Path) -> list[str]:
    """Copy the parts of ``folder`` into ``assets/`` and record them; returns their names.

    Raises:
        UserError: ``folder`` holds none of them.
    """
    found = [part for part in ABOUT if (folder / part / "config.json").is_file()]
    if not found:
        raise UserError(f"no starter in {str(folder)!r}", "train one: upspiral speech train codec")
    for part in found:
        target = registry.assets() / part
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder / part, target)
        registry.record(f"starter-{part}", part, ABOUT[part], LICENCE, ATTRIBUTION)
    return found


if __name__ == "__main__":
    print(*publish(Path(sys.argv[1])))
