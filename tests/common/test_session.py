"""A job that is spoken to: both ways, bounded, ended with all that is in it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psutil
import pytest

from common import sandbox
from common.sandbox import Limits
from common.sandbox.session import EndedError, Session

WALLS = [
    pytest.param(wall, marks=pytest.mark.skipif(bool(why), reason=f"no {wall}: {why}"))
    for wall in sandbox.WALLS
    for why in [sandbox.problem(wall)]
]
ECHO = """
import json, os
held = b""
while chunk := os.read(0, 1 << 16):
    held += chunk
    *lines, held = held.split(b"\\n")
    for line in lines:
        data = json.dumps({"heard": json.loads(line)}).encode() + b"\\n"
        while data:
            data = data[os.write(0, data):]
"""


@pytest.mark.parametrize("wall", WALLS)
def test_it_answers_as_often_as_it_is_asked(wall: sandbox.Layer) -> None:
    with Session(ECHO, layer=wall, files={"data.txt": b"x"}) as session:
        for message in (1, "ü\n", {"a": [None]}, "x" * 300_000):
            session.say(message)
            assert session.hear(10) == {"heard": message}
        assert session.hear(0.01) is None
        folder = session.folder
        assert folder.exists()
    assert session.ended and not folder.exists()
    with pytest.raises(EndedError):
        session.say("more")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import time; time.sleep(60)", "ran longer than 0.3 s"),
        ("import os; os.write(0, b'no json\\n')", "it said what is no JSON"),
        ("import os\nos.write(0, b'[' * 10**5 + b'\\n')", "it said what is no JSON"),
        ("import os\nwhile True: os.write(0, b'x' * 10**6)", "it said more than 8 MiB at once"),
        ("import os; os.write(1, b'y' * 9999)", "wrote more than 1000 bytes to stdout"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
    ],
)
def test_why_it_ended_is_said(source: str, why: str) -> None:
    limits = Limits(seconds=0.3 if "sleep" in source else 20, output=1000)
    session = Session(source, limits=limits)
    with pytest.raises(EndedError) as error:
        session.hear(20)
    assert str(error.value) == why and session.ended


@pytest.mark.parametrize("wall", WALLS)
def test_nothing_is_left_of_one_that_went_on(wall: sandbox.Layer, tmp_path: Path) -> None:
    source = "import os, time\nfor _ in range(3): os.fork()\nos.write(0, b'1\\n'); time.sleep(60)"
    before = set(psutil.Process().children(recursive=True))
    session = Session(source, layer=wall)
    assert session.hear(20) == 1
    error = session.stop("enough of it")
    assert (str(error), session.stop("again").args) == ("enough of it", ("enough of it",))
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.mark.parametrize("wall", WALLS)
def test_the_channel_leads_nowhere_else(wall: sandbox.Layer) -> None:
    """What a socket could be used for besides: descriptors in and out, others to talk to."""
    source = """
import _socket, array, json, os
channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, 0)
found = []
for name in ("connect", "bind", "listen"):
    try:
        getattr(channel, name)(*([] if name == "listen" else ["\\0somewhere"]))
        found.append(name)
    except OSError:
        pass
found += [fd for fd in range(3, 64) if os.path.exists(f"/proc/self/fd/{fd}")]
channel.sendmsg([json.dumps(found).encode() + b"\\n"],
                [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [1]))])
"""
    count = len(list(Path("/proc/self/fd").iterdir()))
    with Session(source, layer=wall) as session:
        assert session.hear(20) == []
    assert len(list(Path("/proc/self/fd").iterdir())) <= count
    assert not list(Path(tempfile.gettempdir()).glob(f"{session.folder.name}*"))
