"""Numbers in the ways that people write them, and back."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from text.numbers import NUMBER, parse, plain


@pytest.mark.parametrize(
    ("text", "language", "value"),
    [
        ("1,234.50", "en", Fraction(2469, 2)),
        ("1,234.50", "de", Fraction(2469, 2)),
        ("1.234,5", "de", Fraction(2469, 2)),
        ("1.234", "es", 1234),
        ("1.234", "en", Fraction(617, 500)),
        ("1,234", "fr", Fraction(617, 500)),
        ("12.345.678", "en", 12345678),
        ("0,500", "en", Fraction(1, 2)),
        ("1 234,5", "fr", Fraction(2469, 2)),
        ("1\u202f234", "ru", 1234),
        ("3/4", "en", Fraction(3, 4)),
        ("1 1/2", "en", Fraction(3, 2)),
        (r"\frac{3}{4}", "en", Fraction(3, 4)),
        (r"-\dfrac{3}{4}", "en", Fraction(-3, 4)),
        (r"2\frac12", "en", Fraction(5, 2)),
        ("50%", "en", 50),
        (r"50\%", "en", 50),
        (r"\$18", "en", 18),
        ("-$5", "en", -5),
        ("$-5", "en", -5),
        ("12 €", "de", 12),
        ("12 km/h", "en", 12),
        ("12 m²", "en", 12),
        (r"12\text{ cm}", "en", 12),
        (r"90^\circ", "en", 90),
        ("12 руб.", "ru", 12),
        ("12个", "zh", 12),
        ("７", "zh", 7),
        ("−7", "en", -7),
        ("+7.", "en", 7),
        (".5", "en", Fraction(1, 2)),
        ("1.5e3", "en", 1500),
        ("1.5 × 10^3", "en", 1500),
        (r"1.5\times10^{-1}", "en", Fraction(3, 20)),
    ],
)
def test_notations(text: str, language: str, value: Fraction | int) -> None:
    assert parse(text, language) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "apples",
        "1/0",
        "12 and 5",
        "1,2,3",
        "1e999999",
        "5²",
        "1.2.3",
        "--5",
        "x12",
        "1,23,4.5.6",
    ],
)
def test_what_is_no_number(text: str) -> None:
    assert parse(text) is None


@given(st.integers(-(10**9), 10**9), st.integers(0, 99), st.sampled_from(["en", "de", "fr", "zh"]))
def test_a_number_is_read_as_its_language_writes_it(whole: int, cents: int, language: str) -> None:
    english = f"{abs(whole):,}.{cents:02d}"
    written = {
        "en": english,
        "zh": english,
        "de": english.translate(str.maketrans(",.", ".,")),
        "fr": english.translate(str.maketrans(",.", "\u202f,")),
    }[language]
    value = abs(whole) + Fraction(cents, 100)
    if whole < 0:
        written, value = f"-{written}", -value
    assert parse(written, language) == value
    found = NUMBER.search(f"= {written} km")
    assert found and parse(found[0], language) == value


@given(st.fractions(max_denominator=10**6))
def test_the_plain_form_is_read_back(value: Fraction) -> None:
    assert parse(plain(value)) == value


@given(st.text(max_size=40))
def test_any_text_is_survived(text: str) -> None:
    value = parse(text)
    assert value is None or parse(plain(value)) == value
    for match in NUMBER.finditer(text):
        parse(match[0])


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("12-5=7", ["12", "5", "7"]),
        ("12 - 5 = -7", ["12", "5", "-7"]),
        ("x=-3", ["-3"]),
        ("共有12个", ["12"]),
        ("it costs $1,234.50!", ["$1,234.50"]),
        ("2 or 3, 4.", ["2", "3", "4"]),
        (r"a \frac{1}{2} b", [r"\frac{1}{2}"]),
    ],
)
def test_in_running_text(text: str, numbers: list[str]) -> None:
    assert NUMBER.findall(text) == numbers
