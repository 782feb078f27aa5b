"""Text as judges compare it and as the codec language model reads it.

Judges compare normalised words (the Whisper normaliser of transformers, so that "press 1" and
"press one" agree); the language model reads phones (espeak-ng through phonemizer).
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Sequence
from typing import Any

from common.errors import UserError

WORD_END = "|"
"""Follows the last phone of each word in a phone string."""

VOICES = {"en": "en-us", "es": "es-419", "fr": "fr-fr", "it": "it", "ru": "ru", "de": "de"}
"""espeak-ng voice of each language we have recordings or tests for."""


@functools.cache
def _normaliser(language: str) -> Any:
    from transformers.models.whisper.english_normalizer import (
        BasicTextNormalizer,
        EnglishTextNormalizer,
    )

    return EnglishTextNormalizer({}) if language == "en" else BasicTextNormalizer()


def normalise(text: str, language: str = "en") -> str:
    """Lower-case words without punctuation, numbers and contractions in one spelling."""
    return str(_normaliser(language)(text)).strip()


@functools.cache
def _phonemizer(language: str) -> Any:
    import espeakng_loader
    from phonemizer.backend import EspeakBackend
    from phonemizer.backend.espeak.wrapper import EspeakWrapper

    if language not in VOICES:
        known = ", ".join(sorted(VOICES))
        raise UserError(f"unknown language {language!r}", f"use one of {known}")
    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    logger = logging.getLogger("phonemizer")
    logger.setLevel(logging.ERROR)  # it warns about every word that espeak counts differently
    return EspeakBackend(
        VOICES[language], with_stress=False, language_switch="remove-flags", logger=logger
    )


def phonemes(texts: Sequence[str], language: str = "en") -> list[list[str]]:
    """Phones of each text with :data:`WORD_END` after each word; empty for a text without words."""
    from phonemizer.separator import Separator

    separator = Separator(phone=" ", word=f" {WORD_END} ", syllable="")
    # Letters in brackets are read as descriptions by people and aloud by espeak: leave them out.
    plain = [re.sub(r"[\[(<][^\])>]*[\])>]", " ", text) for text in texts]
    lines = _phonemizer(language).phonemize(plain, separator=separator, strip=False)
    return [line.split() for line in lines]
