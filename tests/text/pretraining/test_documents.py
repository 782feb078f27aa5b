"""Text of every kind as sections of paragraphs of sentences, and the corpus of it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from tests.text.pretraining.texts import corpus, folder, quiet
from text.pretraining import markup, roff
from text.pretraining.documents import Corpus, document, sentences
from text.pretraining.sources import CorpusConfig, build, read

MAN = r"""
.\" a comment
.TH FROB 1 "2020" "Frob" "Manual"
.de Sp
.if n .sp
..
.ie n \{\
.ds x y
.\}
.SH NAME
frob \- turn a \fIthing\fR around
.SH "EXIT STATUS"
Zero is returned
if the thing turned.
.PP
.B One
is returned (see
.BR tar (1))
otherwise \(em always.
.EX
$ frob -x
.EE
.SH OPTIONS
.TP
.BI \-n " count"
Turn it
.I count
times.
.IP \-v 4
Say more.
"""


def test_sentences() -> None:
    text = "It is e.g. a test of Mr. Smith. Does it end?  Yes! Version 1.2 is out. (A note.) end"
    assert sentences(text) == [
        "It is e.g. a test of Mr. Smith.",
        "Does it end?",
        "Yes!",
        "Version 1.2 is out.",
        "(A note.) end",
    ]


@given(st.text(alphabet="ab.!? AB'\n", max_size=80))
def test_sentences_lose_nothing_but_spacing(text: str) -> None:
    assert " ".join(sentences(text)).split() == text.split()


def test_man_pages() -> None:
    assert roff.parse(MAN) == [
        ("NAME", ["frob - turn a thing around"]),
        (
            "EXIT STATUS",
            ["Zero is returned if the thing turned.",
             "One is returned (see tar(1)) otherwise — always."],
        ),
        ("OPTIONS", ["-n count: Turn it count times.", "-v: Say more."]),
    ]  # fmt: skip


def test_mdoc_pages() -> None:
    page = ".Sh NAME\n.Nm ls\n.Nd list\n.Sh DESCRIPTION\nThe\n.Nm ls\nuses\n.Fl l ,\nas in\n"
    page += ".Xr cp 1 .\n"
    assert roff.parse(page)[1] == ("DESCRIPTION", ["The ls uses -l, as in cp(1)."])


@given(st.text(alphabet=".'\\\"SHTPfB(){}[]*n ab\n", max_size=120))
def test_no_man_page_is_too_odd(source: str) -> None:
    for _, paragraphs in roff.parse(source):
        assert all(p.strip() for p in paragraphs)


def test_markdown_rst_and_plain_text() -> None:
    source = (
        "# First\nSome *words* with a [link](http://x) and `code`.\ncontinued here.\n\n"
        "```\nnot(prose)\n```\n\nSecond one\n==========\nText::\n\n    indented code\n\n"
        "More text.\n\nThird\n\n- a point\n- another\n"
    )
    assert markup.text(source) == [
        ("First", ["Some words with a link and code. continued here."]),
        ("Second one", ["Text:", "More text."]),
        ("Third", ["a point", "another"]),
    ]


def test_html() -> None:
    page = (
        "<html><head><title>x</title></head><body><script>no()</script><h1>One</h1><p>A &amp; b."
        "<p>C <b>d</b>.</p><pre>code</pre><h2>Two</h2><ul><li>E</li></ul></body></html>"
    )
    assert markup.html(page) == [("One", ["A & b.", "C d."]), ("Two", ["E"])]


def test_articles() -> None:
    article = "It is a town.\n\nHistory\nIt was founded.\n\nIt grew.\n\nSee also"
    assert markup.encyclopedia(article) == [
        ("", ["It is a town."]),
        ("History", ["It was founded.", "It grew."]),
    ]


def test_cleaning_has_the_published_minima() -> None:
    long = "This sentence is long enough to count as one of a paragraph."
    assert document("a", "a", [("H", [long, "Short. " * 3])]) is None  # 200 characters
    made = document("a", "a", [("H", [f"{long} Tiny. {long}", "{}[]();;" * 20, f"{long} {long}"])])
    assert made is not None
    assert made.paragraphs == [(long, long)] * 2
    met = {f"{long} {long}"}
    again = document("a", "a", [("H", [f"{long} {long}", f"{long} {long} {long} {long}"])],
                     known=lambda text: text in met)  # fmt: skip
    assert again is not None and [len(p) for p in again.paragraphs] == [4]


def test_a_corpus_is_read_by_number(tmp_path: Path) -> None:
    made = corpus(tmp_path, 12)
    assert sum(len(made.numbers(split)) for split in ("train", "dev", "test")) == len(made) == 12
    assert {d.split for d in made.split("train")} == {"train"}
    again = Corpus(made.folder)
    assert [again[i] for i in range(12)] == [made[i] for i in range(12)]
    assert [s.heading for s in made[0].sections] == ["Eating", "Living", "Working"]
    with (made.folder / "documents.jsonl").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match="does not fit its index"):
        Corpus(made.folder)
    (made.folder / "index.npz").write_bytes(b"")
    with pytest.raises(UserError, match="no corpus"):
        Corpus(made.folder)


def test_a_family_is_in_one_split() -> None:
    said = [
        f"The part with number {i} of the manual says more than what is enough." for i in range(8)
    ]
    made = [document(f"git-{n}", "git", [("H", said)], family="git") for n in range(30)]
    alone = [document(f"git-{n}", "git", [("H", said)]) for n in range(30)]
    assert len({d.split for d in made if d}) == 1
    assert len({d.split for d in alone if d}) == 3


def test_files_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))
    texts = folder(tmp_path / "texts", 3)
    long = "Zero is returned if all went well, and else a number that says what did not. " * 4
    with gzip.open(texts / "frob.1.gz", "wt") as file:
        file.write(MAN.replace("Say more.", long))
    (texts / "broken.1.gz").write_bytes(b"\x1f\x8bno")
    whole = gzip.compress(long.encode())
    (texts / "torn.1.gz").write_bytes(whole[:12] + b"\xff" * 8 + whole[20:])  # no deflated data
    (texts / "binary.txt").write_bytes(b"\0" * 500)
    (texts / "changelog.txt").write_text("A long line of words about changes. " * 20)
    made = build(CorpusConfig(f"folder:{texts}"), quiet)
    by_name = {made[i].name: made[i] for i in range(len(made))}
    assert len(by_name) == 4 and by_name["frob.1"].summary == "turn a thing around"
    assert by_name["frob.1"].sections[-1].heading == "Options"
    # A file that changes makes another corpus; a limit takes some.
    (texts / "person0.md").unlink()
    assert len(build(CorpusConfig(f"folder:{texts}"), quiet)) == 3
    assert len(build(CorpusConfig(f"folder:{texts}", limit=2), quiet)) == 2
    assert read(texts / "binary.txt") is None


def test_articles_of_an_encyclopedia_from_files(tmp_path: Path) -> None:
    rows = []
    for i in range(5):
        body = f"A town with number {i} in the north of a country that has many of them. " * 2
        text = f"{body}\n\nHistory\n{body} It was founded early."
        rows.append({"title": f"Town{i}", "text": text})
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump/part.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = build(CorpusConfig(f"wikipedia:{tmp_path / 'dump'}"), quiet, tmp_path / "corpus")
    assert [made[i].title for i in range(5)] == [f"Town{i}" for i in range(5)]
    assert made[0].sections[1].heading == "History"


def test_mistakes_name_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, match in (
        ("sistem", "did you mean 'system'"),
        ("folder", "needs a path"),
        (f"folder:{tmp_path / 'empty'}", "no text in"),
        (f"wikipedia:{tmp_path / 'empty'}", "no .jsonl"),
    ):
        with pytest.raises(UserError, match=match):
            build(CorpusConfig(source), quiet, tmp_path / "corpus")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn/part.jsonl").write_text('{"title": "A", "text": "B"}\n{"title": "C", "te')
    with pytest.raises(UserError, match="cannot be read"):
        build(CorpusConfig(f"wikipedia:{tmp_path / 'torn'}"), quiet, tmp_path / "corpus")
    with pytest.raises(UserError, match="limit=-1"):
        CorpusConfig("system", -1)
    (tmp_path / "empty/a.txt").write_text("Too short.")
    with pytest.raises(UserError, match="holds no prose"):
        build(CorpusConfig(f"folder:{tmp_path / 'empty'}"), quiet, tmp_path / "corpus")
