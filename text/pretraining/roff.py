"""Man pages as sections of paragraphs: the two macro packages, man and mdoc, as far as text goes.

groff would render lines of a terminal, from which paragraphs and headings have to be guessed back,
and needs to be installed. The source says where they are. Code, tables, drawings and conditional
parts are left out.
"""

from __future__ import annotations

import re
import shlex

Sections = list[tuple[str, list[str]]]

_SIGNS = {
    "em": "—", "en": "–", "hy": "-", "mi": "-", "aq": "'", "dq": '"', "cq": "'", "oq": "'",
    "lq": '"', "rq": '"', "bu": "•", "co": "©", "rg": "®", "tm": "™", "ha": "^", "ti": "~",
    "rs": "\\", "ga": "`", "at": "@", "sh": "#", "Do": "$", "pl": "+", "mu": "×", "<=": "≤",
    ">=": "≥", "->": "→", "aa": "´", "ss": "ß", "eu": "€", "*m": "µ", "de": "°", "sc": "§",
}  # fmt: skip
_ESCAPE = re.compile(
    r"""\\(?:
      f(?:\[[^\]]*\]|\(..|.)            # font
    | [mM]\[[^\]]*\]                    # colour
    | s(?:[+-]?\d+|\[[^\]]*\]|\([+-]?..)  # size
    | [hvwlLDoZbXA]'[^']*'              # motion, drawing
    | \*?(?:\((?P<two>..)|\[(?P<long>[^\]]*)\])   # a sign or a string
    | (?P<quote>\*["'])
    | \*.                               # a string of one letter
    | n(?:\[[^\]]*\]|\(..|.)            # a number register
    | (?P<one>.)
    )""",
    re.VERBOSE,
)
_PARAGRAPHS = {"PP", "P", "LP", "Pp", "sp", "HP", "RS", "RE", "Bl", "El", "br", "Bd", "Ed", "D1"}
_FONTS = {"B", "I", "R", "SM", "SB", "MT", "UR", "Em", "Sy", "Li", "Ar", "Pa", "Nm", "Fn", "Fl",
          "Op", "Oo", "Xr", "Dv", "Er", "Ev", "Cm", "Ic", "Va", "Vt", "Fa", "Ft", "Nd", "Dq", "Sq",
          "Ql", "Pq", "Aq", "Bq", "No", "Ns", "An", "Lk", "Mt", "Tn", "Ux", "Bx", "St"}  # fmt: skip
_JOINED = {"BR", "RB", "IR", "RI", "BI", "IB"}
_CODE = {"nf": "fi", "EX": "EE", "TS": "TE", "PS": "PE", "EQ": "EN", "Bd": "Ed", "Vb": "Ve",
         "de": ".", "de1": ".", "ig": "."}  # fmt: skip


def plain(line: str) -> str:
    """``line`` without escapes, its signs as letters."""

    def sign(match: re.Match[str]) -> str:
        name = match["two"] or match["long"]
        if name is not None:
            if re.fullmatch(r"u[0-9A-F]{4,6}", name):
                return chr(int(name[1:], 16))
            return _SIGNS.get(name, "")
        if match["quote"]:
            return match["quote"][1]
        one = match["one"]
        if one is None:
            return ""
        return {"e": "\\", "-": "-", " ": " ", "~": " ", "0": " ", "t": " ", "'": "'", "`": "`",
                ".": "."}.get(one, "")  # fmt: skip

    line = re.sub(r'\\[."#].*$', "", line) if '\\"' in line or "\\#" in line else line
    return _ESCAPE.sub(sign, line)


def _words(rest: str) -> list[str]:
    """The arguments of a macro; quotes group, and an odd one is a letter like others."""
    lexer = shlex.shlex(rest, posix=False)
    lexer.whitespace_split, lexer.quotes, lexer.commenters = True, '"', ""
    try:
        return [word[1:-1] if word[:1] == word[-1:] == '"' and len(word) > 1 else word
                for word in lexer]  # fmt: skip
    except ValueError:
        return rest.split()


class _Page:
    """What was read so far."""

    def __init__(self) -> None:
        self.sections: Sections = [("", [])]
        self._words: list[str] = []

    def say(self, text: str) -> None:
        if text.strip():
            self._words.append(text.strip())

    def stop(self) -> None:
        """End the paragraph."""
        if self._words:
            self.sections[-1][1].append(" ".join(" ".join(self._words).split()))
            self._words = []

    def head(self, text: str) -> None:
        self.stop()
        self.sections.append((text.strip(), []))


def parse(source: str) -> Sections:
    """Headings of a man page with the paragraphs under them, in order.

    A page that only points to another (``.so``) has none. Tags of lists come before their text, as
    in ``-v: say more``.
    """
    page = _Page()
    until: str | None = None
    depth = 0
    awaits: str | None = None  # what the next line of text is: a heading, or a list's tag
    for line in source.splitlines():
        control = re.match(r"[.']\s*(\S*)\s*(.*)", line)
        macro, rest = (control[1], control[2]) if control else ("", "")
        if until is not None:
            if control and (macro == until or (until == "." and line.startswith(".."))):
                until = None
            continue
        opened = line.count("\\{") - line.count("\\}")
        if depth or opened > 0:  # a condition's body: other output devices, old macros
            depth = max(0, depth + opened)
            continue
        if control is None:
            if not line.strip():
                page.stop()
                continue
            text = plain(line)
        elif macro.startswith("\\") or macro in ("", '"'):
            continue
        elif macro in ("SH", "Sh", "SS", "Ss"):
            title = plain(" ".join(_words(rest)))
            awaits = None if title else "heading"
            if title:
                page.head(title)
            continue
        elif macro in _CODE and (macro != "Bd" or "literal" in rest or "unfilled" in rest):
            page.stop()
            until = _CODE[macro]
            continue
        elif macro in ("TP", "TQ"):
            page.stop()
            awaits = "tag"
            continue
        elif macro in ("IP", "It"):
            page.stop()
            words = _words(rest)
            text = _mdoc(words) if macro == "It" else plain(words[0]) if words else ""
            if len(text) > 1:
                page.say(f"{text}:")
            continue
        elif macro in _PARAGRAPHS:
            page.stop()
            continue
        elif macro in _JOINED:
            text = plain("".join(_words(rest)))
        elif macro in _FONTS:
            text = _mdoc([macro, *_words(rest)])
        else:
            continue
        if awaits == "heading":
            page.head(text)
        elif awaits == "tag":
            page.say(f"{text}:")
        else:
            page.say(text)
        awaits = None
    page.stop()
    return [(heading, paragraphs) for heading, paragraphs in page.sections if paragraphs]


def _mdoc(words: list[str]) -> str:
    """Text of words among which mdoc's macros stand; ``Fl v`` is ``-v``, ``Xr ls 1`` ``ls(1)``."""
    text, glued = "", True
    dash = False
    for word in words:
        if word in _FONTS and word not in ("B", "I", "R"):
            dash = word == "Fl"
            glued |= word == "Ns"
            continue
        if word in ("B", "I", "R") and not text:
            continue
        word = plain(word)
        closes = word in (".", ",", ":", ";", ")", "]", "?", "!")
        text += ("" if glued or closes else " ") + ("-" if dash and not closes else "") + word
        glued, dash = word in ("(", "["), False
    if words[:1] == ["Xr"]:
        text = re.sub(r"^(\S+) (\d\w*)", r"\1(\2)", text)
    return text
