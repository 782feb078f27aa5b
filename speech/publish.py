"""Put trained starters into ``assets/``: ``python -m speech.publish FOLDER`` after a training.

``FOLDER`` is what ``upspiral speech train`` wrote; each part that is in it replaces the one in
``assets/``, the manifest gets the new checksums, and ``assets/curves.svg`` the new curves.
"""

from __future__ import annotations

import sys
from pathlib import Path

from common.errors import UserError
from common.publish import keep_curves, put

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
        put(folder / part, part, ABOUT[part], LICENCE, ATTRIBUTION)
    keep_curves((folder / "work").glob("*.jsonl"))
    return found


if __name__ == "__main__":
    print(*publish(Path(sys.argv[1])))
