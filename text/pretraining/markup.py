"""Plain text, Markdown, reStructuredText and HTML as sections of paragraphs.

One reader takes the first three: a heading is a line marked with #, underlined, or standing alone,
short and without a stop; code is what is fenced, or indented after ``::``. Markup inside of
paragraphs is taken off.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

Sections = list[tuple[str, list[str]]]

_UNDERLINE = re.compile(r"([=\-~^*#+\"'`.:_])\1{2,}\s*$")
_BULLET = re.compile(r"\s*(?:[*+•-]|\d{1,2}[.)])\s+")
_SHORT = 60
"""Characters of the longest line that may be a heading without being marked."""


def text(source: str) -> Sections:
    """Sections of plain text, Markdown or reStructuredText."""
    sections: Sections = [("", [])]
    words: list[str] = []

    def stop() -> None:
        if words:
            sections[-1][1].append(inline(" ".join(words)))
            words.clear()

    def head(line: str) -> None:
        stop()
        sections.append((inline(line), []))

    lines = source.replace("\r\n", "\n").expandtabs().split("\n")
    fence: str | None = None
    literal = False
    for number, line in enumerate(lines):
        bare = line.strip()
        if fence is not None:
            fence = None if bare.startswith(fence) else fence
            continue
        if bare.startswith("```") or (bare.startswith("~~~") and not words):
            stop()
            fence = bare[:3]
            continue
        if not bare:
            literal = literal or bool(words and words[-1].endswith("::"))
            stop()
            continue
        if literal and line[:1] == " ":
            continue
        literal = False
        if bare.startswith(".. "):  # a directive or comment, with what is indented under it
            stop()
            literal = True
            continue
        if _UNDERLINE.fullmatch(bare):
            if len(words) == 1 and len(bare) >= min(3, len(words[0])):
                title = words.pop()
                head(title)
            continue
        marked = re.match(r"(#{1,6})\s+(.*?)\s*#*$", bare)
        if marked:
            head(marked[2])
            continue
        alone = not words and not "".join(lines[number + 1 : number + 2]).strip()
        if alone and line[:1] != " " and _heads(bare):
            head(bare)
            continue
        if _BULLET.match(line):
            stop()
        words.append(_BULLET.sub("", bare) if _BULLET.match(line) else bare)
    stop()
    return [(heading, paragraphs) for heading, paragraphs in sections if paragraphs]


def _heads(line: str) -> bool:
    """Whether a line that stands alone reads as a heading."""
    return (
        len(line) <= _SHORT and line[-1] not in ".,;:!" and line[0].isupper() and " - " not in line
    )


def inline(line: str) -> str:
    """``line`` without the markup of links, pictures, emphasis and code."""
    line = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", line)
    line = re.sub(r"`{1,2}([^`<]*?)(?:\s*<[^>]*>)?`{1,2}_{0,2}", r"\1", line)
    line = re.sub(r":[a-z:]+:(?=\S)", "", line)
    line = re.sub(r"(\*\*|__|\*)(?=\S)(.+?)(?<=\S)\1", r"\2", line)
    line = re.sub(r"<[^>\s][^>]*>", " ", line)
    return " ".join(line.replace("::", ":").split())


class _Html(HTMLParser):
    """Headings and paragraphs of a page; what is no prose is skipped."""

    SKIPPED = frozenset({"script", "style", "pre", "nav", "table", "head", "footer"})
    HEADS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
    BLOCKS = frozenset({"p", "li", "dd", "dt", "div", "blockquote", "section", "br"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.sections: Sections = [("", [])]
        self.words: list[str] = []
        self.skipping: list[str] = []

    def stop(self) -> None:
        said = " ".join("".join(self.words).split())
        if said:
            self.sections[-1][1].append(said)
        self.words = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        if tag in self.SKIPPED:
            self.skipping.append(tag)
        elif tag in self.HEADS | self.BLOCKS:
            self.stop()

    def handle_endtag(self, tag: str) -> None:
        if self.skipping:
            if tag in self.skipping:
                del self.skipping[self.skipping.index(tag) :]
        elif tag in self.HEADS:
            heading = " ".join("".join(self.words).split())
            self.words = []
            if heading:
                self.sections.append((heading, []))
        elif tag in self.BLOCKS:
            self.stop()

    def handle_data(self, data: str) -> None:
        if not self.skipping:
            self.words.append(data)


def html(source: str) -> Sections:
    """Sections of a page of HTML."""
    reader = _Html()
    reader.feed(source)
    reader.close()
    reader.stop()
    return [(heading, paragraphs) for heading, paragraphs in reader.sections if paragraphs]


def encyclopedia(source: str) -> Sections:
    """Sections of an article of the hub's Wikipedia: a paragraph a block, headings unmarked.

    A block of one short line that ends without a stop, and has text after it, is a heading.
    """
    sections: Sections = [("", [])]
    for block in re.split(r"\n\s*\n", source):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        if lines and len(lines[0]) <= _SHORT and lines[0][-1] not in ".,;:!?":
            sections.append((lines.pop(0), []))
        sections[-1][1].extend(lines)
    return [(heading, paragraphs) for heading, paragraphs in sections if paragraphs]
