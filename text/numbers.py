"""Numbers as people and models write them, to exact fractions.

    1,234.50   1.234,5 (es, de)   1 234,5 (fr, ru)   3/4   1 1/2   50%   $12   12 km   1.5e3
    1.5 × 10^3   \\frac{3}{4}   2\\frac12   -7   −7   ７

Which of a point and a comma is the decimal sign is told by the number itself where it can be: with
both, the later one; a sign that comes twice groups thousands. Only ``1.234`` and ``1,234`` need the
language.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

_DIGITS = r"\d+(?:[.,]\d+)*|\.\d+"
_GROUPED = r"\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?:[.,]\d+)?(?!\d)"
_LATEX = r"\\[dt]?frac\s*(?:\{\s*-?\d+\s*\}\s*\{\s*\d+\s*\}|\d\s*\d|\d\s*\{\s*\d+\s*\})"
_POWER = (
    r"(?:[eE][+-]?\d+(?![\d.])"
    r"|\s*(?:×|\\times|\\cdot|x|\*)\s*10\s*\^\s*(?:\{\s*[+-]?\d+\s*\}|[+-]?\d+))"
)
_BODY = (
    rf"(?:\d+\s*)?{_LATEX}|\d+\s+\d+\s*/\s*\d+"
    rf"|(?:{_GROUPED}|{_DIGITS})(?:{_POWER}|\s*/\s*\d+(?![.,]?\d))?"
)
# A minus after a digit, a letter or a bracket takes away; elsewhere it is a sign.
_MINUS = r"(?:(?<![\w)\]}%])[+\-−–])?"
NUMBER = re.compile(rf"{_MINUS}(?:\\?[$€£¥₽]\s?)?(?:(?<=[$€£¥₽])-)?(?:{_BODY})(?:\s?\\?%)?")
"""A number in running text, with sign, currency and percent."""

_FRACTION = re.compile(
    r"(?:(?P<whole>\d+)\s*)?\\[dt]?frac\s*(?:\{\s*(?P<a>-?\d+)\s*\}|(?P<a1>\d))\s*"
    r"(?:\{\s*(?P<b>\d+)\s*\}|(?P<b1>\d))"
)
_START = re.compile(_BODY)
_SLASH = re.compile(r"(?:(?P<whole>\d+)\s+)?(?P<a>\d+)\s*/\s*(?P<b>\d+)")
_SCIENTIFIC = re.compile(
    r"(?P<base>.+?)(?:[eE]|\s*(?:×|\\times|\\cdot|x|\*)\s*10\s*\^\s*\{?)\s*(?P<power>[+-]?\d+)\s*\}?"
)
_UNIT = re.compile(r"[%€£¥₽$]\.?|[^\W\d_°²³'’\"/][^\d]*|[°'’\"/][^\d]*")
_LARGEST_POWER = 400
"""Of ten. More is no answer, and would fill the memory."""


def parse(text: str, language: str = "en") -> Fraction | None:
    """The number that ``text`` is, which may carry a currency, a unit or a percent sign.

    None for anything else, such as two numbers, a division by zero, or words.
    """
    text = normal(text).strip()
    text = re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r" \1", text)
    text = re.sub(r"\\[,;!: ]|\\(?=[$%])|\^\s*\{?\\circ\}?", "", text)
    text = text.strip().strip("$").strip().rstrip(".。").strip()
    sign = 1
    if text[:1] in ("-", "−", "–", "+"):
        sign = 1 if text[0] == "+" else -1
        text = text[1:].lstrip()
    text = text.lstrip("$€£¥₽ ")
    if sign == 1 and text[:1] in ("-", "−"):  # $-5
        sign, text = -1, text[1:]
    number, rest = _split(text)
    if not number or (rest and not _UNIT.fullmatch(rest)):
        return None
    value = _value(number.strip(), language)
    return None if value is None else sign * value


def normal(text: str) -> str:
    """``text`` with full-width letters, digits and signs as plain ones.

    Not all of NFKC: it would make 52 of 5², and m2 of m².
    """
    return "".join(
        unicodedata.normalize("NFKC", c) if "\uff01" <= c <= "\uff60" else c for c in text
    )


def plain(value: Fraction) -> str:
    """The one way to write ``value``: a whole number, or a fraction in lowest terms."""
    return str(value)


def _split(text: str) -> tuple[str, str]:
    """The number at the start of ``text``, and what comes after it."""
    found = _START.match(text)
    return (found[0], text[found.end() :].strip()) if found else ("", text)


def _value(text: str, language: str) -> Fraction | None:
    mixed = _FRACTION.fullmatch(text) or _SLASH.fullmatch(text)
    if mixed:
        parts = mixed.groupdict()
        top, bottom = parts["a"] or parts.get("a1"), parts["b"] or parts.get("b1")
        assert top is not None and bottom is not None
        if int(bottom) == 0:
            return None
        return int(parts["whole"] or 0) + Fraction(int(top), int(bottom))
    science = _SCIENTIFIC.fullmatch(text)
    if science:
        base, power = _decimal(science["base"], language), int(science["power"])
        if base is None or abs(power) > _LARGEST_POWER:
            return None
        return base * Fraction(10) ** power
    return _decimal(text, language)


def _decimal(text: str, language: str) -> Fraction | None:
    """A number of digits, points, commas and spaces."""
    text = re.sub(r"[\s\u00a0\u202f]", "", text)
    marks = [char for char in text if char in ".,"]
    decimal: str | None = None
    if len(set(marks)) == 2:
        decimal = marks[-1]
        if marks.count(decimal) > 1:
            return None
    elif len(marks) == 1:
        whole, _, rest = text.partition(marks[0])
        point = "." if language in ("en", "zh") else ","
        groups = len(rest) == 3 and 1 <= len(whole) <= 3 and whole[0] != "0"
        decimal = marks[0] if not groups or marks[0] == point else None
    if decimal:
        whole, _, rest = text.partition(decimal)
    else:
        whole, rest = text, ""
    parts = re.split(r"[.,]", whole)
    if len(parts) > 1 and any(len(part) != 3 for part in parts[1:]):
        return None
    digits = "".join(parts)
    if not (digits + rest).isascii() or not (digits + rest).isdigit():
        return None
    return Fraction(int(digits + rest), 10 ** len(rest))
