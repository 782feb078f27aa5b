"""Which language a text is in: lingua's n-gram models, which come inside its package (Apache-2.0).

A text of numbers and signs alone is in no language, and the answer to it is None.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from common.errors import UserError

Identify = Callable[[Sequence[str]], list[str | None]]
"""From texts to ISO 639-1 codes, None for a text in no language."""
NAMES = {
    "bn": "Bengali", "de": "German", "en": "English", "es": "Spanish", "fr": "French",
    "it": "Italian", "ja": "Japanese", "pt": "Portuguese", "ru": "Russian", "sw": "Swahili",
    "te": "Telugu", "th": "Thai", "zh": "Chinese",
}  # fmt: skip
"""English names, for prompts."""


def identify(texts: Sequence[str]) -> list[str | None]:
    """The language of each text, among those of :data:`NAMES`.

    Raises :class:`UserError` when lingua is not installed.
    """
    detector = _detector()
    found = [detector.detect_language_of(text) for text in texts]
    return [one and one.iso_code_639_1.name.lower() for one in found]


@functools.cache
def _detector() -> Any:
    try:
        from lingua import IsoCode639_1, LanguageDetectorBuilder
    except ImportError as error:
        raise UserError(
            "the language identifier is not installed", "pip install 'upspiral[text]'"
        ) from error
    codes = [getattr(IsoCode639_1, code.upper()) for code in NAMES]
    return LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()
