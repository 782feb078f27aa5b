"""Posts of (user, time, community, text) from any JSONL, read as often as needed, names hashed.

A name is replaced as its line is read, by BLAKE2b under a key that is drawn anew for every reading
object and kept nowhere: within one analysis a person stays one person, and nobody who has the
result and a list of names can find out whether a name is in it.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UserError
from common.records import Rating
from common.stages import Progress

NOBODY = frozenset({"", "[deleted]", "[removed]", "None"})
"""Names that stand for many people, whose posts are left out."""
_EVERY = 20_000  # lines between two words on progress


class Post(NamedTuple):
    """One post; ``user`` is a pseudonym, ``time`` in UNIX seconds."""

    user: str
    time: float
    community: str
    text: str


@dataclass(frozen=True)
class Fields:
    """What the columns of the file are called."""

    user: str = "user"
    time: str = "time"
    community: str = "community"
    text: str = "text"


class Pseudonyms:
    """Names to pseudonyms of 16 hexadecimal digits, the same name to the same one."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def __call__(self, name: str) -> str:
        return hashlib.blake2b(name.encode(), key=self._key, digest_size=8).hexdigest()


class Posts:
    """The posts of a JSON-lines file, each time it is gone over, a line in memory at a time."""

    def __init__(
        self, path: Path, fields: Fields | None = None, progress: Progress | None = None
    ) -> None:
        self.path, self.fields, self.progress = path, fields or Fields(), progress
        self._pseudonym = Pseudonyms()

    def __iter__(self) -> Iterator[Post]:
        """Raises :class:`UserError` for a line that is no post, or a file that has none."""
        try:
            size, done, empty = self.path.stat().st_size, 0, True
            with self.path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    done += len(line)
                    if self.progress is not None and (number % _EVERY == 0 or done == size):
                        self.progress(done >> 10, max(1, size >> 10), "KiB of posts read")
                    if not line.strip():
                        continue
                    post = self._post(line, number)
                    if post is not None:
                        empty = False
                        yield post
        except OSError as error:
            raise UserError(
                f"cannot read posts from {self.path}: {error.strerror}", "name a JSON-lines file"
            ) from error
        if empty:
            raise UserError(f"{self.path} holds no posts of anybody", "name a file that has some")

    def _post(self, line: bytes, number: int) -> Post | None:
        try:
            row = json.loads(line)
            name = str(row[self.fields.user])
            user = self._pseudonym(name)
            time = seconds(row[self.fields.time])
            community, text = row[self.fields.community], row[self.fields.text]
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            wrong = f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
            raise UserError(
                f"line {number} of {self.path} is no post ({wrong})",
                "each line is an object with user, time, community and text; other names: "
                "--fields user=author time=created_utc",
            ) from error
        if name in NOBODY or row[self.fields.user] is None:
            return None
        return Post(user, time, str(community or ""), str(text or ""))


def seconds(value: Any) -> float:
    """UNIX seconds of a number, or of a date as ISO 8601 (UTC where it names no zone).

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"time {value!r} is no number and no date")
    try:
        found = float(value)
    except ValueError:
        date = datetime.fromisoformat(str(value))
        found = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(found):
        raise ValueError(f"time {value!r} is no number and no date")
    return found


class FromRatings:
    """Answers of a listening test as posts without text: the rater, when, and of which test."""

    def __init__(self, ratings: Iterable[Rating]) -> None:
        hidden = Pseudonyms()
        self._posts = [Post(hidden(r.rater), r.time, r.test, "") for r in ratings]

    def __iter__(self) -> Iterator[Post]:
        return iter(self._posts)
