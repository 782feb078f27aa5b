"""What a rater is shown next, and what becomes of an answer. Knows no browser and no server.

The page asks with a mapping (what was done, by whom, with which item) and is answered with a view:
the next thing to show, as plain data. A view of an item holds a text and the names of two media.
The names are keyed hashes that change with every start; neither systems nor files are in a view.

Nothing is kept here between requests: a rater who comes back, on any device, under the same name,
goes on at the first item without an answer, and several rate at once.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from common.annotation import headphones
from common.annotation.ratings import latest, order, rater_name
from common.errors import UserError
from common.records import Answer, Comparison, Rating, identity
from common.store import Store

View = dict[str, Any]
MIME = {
    ".ogg": "audio/ogg",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}
"""What can be shown, by the suffix of the artifact; Python's own table depends on the machine."""
CHECKS = ("passed", "failed", "skipped")
"""How a check of headphones can have gone."""


class Medium(NamedTuple):
    """A file that the page may ask for."""

    path: Path
    mime: str


class Page:
    """One blind test: ``comparisons`` of ``run``, in an order drawn from ``seed`` for each rater.

    Where all stimuli are sounds (``listening``), headphones are checked first, which may be
    skipped, and both sides must have been heard before an answer counts.
    """

    def __init__(
        self, store: Store, run: str, comparisons: Sequence[Comparison], seed: int, question: str
    ) -> None:
        self.question = question
        self.media: dict[str, Medium] = {}
        self._store, self._run, self._seed = store, run, seed
        self._comparisons = list(comparisons)
        self._key = secrets.token_bytes(16)
        self._names = {
            stimulus.artifact: self._publish(stimulus.artifact)
            for comparison in comparisons
            for stimulus in comparison.stimuli
        }
        self.listening = all(m.mime.startswith("audio/") for m in self.media.values())
        self._tones = {
            kinds: self._publish(store.put(headphones.wav(kinds), ".wav"))
            for kinds in (headphones.ARRANGEMENTS if self.listening else ())
        }

    def view(self, asked: Mapping[str, Any]) -> View:
        """What to show after ``asked``.

        ``asked["act"]`` is ``begin``, ``check`` (of headphones), ``answer`` or ``back``; with it
        come ``rater`` and, once it is known, how the ``check`` went. An answer is in the store
        before the next item is shown; where it cannot be stored its item is shown again, with an
        ``error``.
        """
        typed = str(asked.get("rater") or "")
        try:
            rater = rater_name(typed)
        except UserError as mistake:
            return {"welcome": True, "error": str(mistake) if typed else ""}
        check = asked.get("check")
        if check not in CHECKS and self.listening:
            view = self._check(rater, asked)
            if view is not None:
                return {"rater": rater} | view
            check = "passed"
        return {"rater": rater, "check": check} | self._next(rater, check, asked)

    def _next(self, rater: str, check: Any, asked: Mapping[str, Any]) -> View:
        shown = {s.comparison.id: s for s in order(self._comparisons, rater, self._seed)}
        ids, item, error = [*shown], str(asked.get("item")), ""
        try:
            if asked.get("act") == "answer" and item in shown:
                self._save(rater, check, asked, *shown[item].systems)
            said = latest(r for r in self._store.ratings(self._run) if r.rater == rater)
        except UserError as problem:
            error, said = f"This could not be saved. {problem}", []
        answers = {r.item: r for r in said if r.item in shown}
        now = next((i for i, name in enumerate(ids) if name not in answers), len(ids))
        if error and item in shown:
            now = ids.index(item)
        elif asked.get("act") == "back":
            now = max(0, (ids.index(item) if item in shown else len(ids)) - 1)
        view: View = {"answered": len(answers), "total": len(ids), "error": error}
        if now == len(ids):
            return view | {"done": True}
        left, right = shown[ids[now]].artifacts
        return view | {
            "question": self.question,
            "item": {
                "id": ids[now],
                "number": now + 1,
                "first": now == 0,
                "text": shown[ids[now]].comparison.text,
                "left": self._medium(left),
                "right": self._medium(right),
            },
        }

    def _save(
        self, rater: str, check: Any, asked: Mapping[str, Any], left: str, right: str
    ) -> None:
        answer: Any = asked.get("answer")
        item, now = str(asked["item"]), time.time()
        if answer not in get_args(Answer):
            return
        test = next(c.test for c in self._comparisons if c.id == item)
        meta = {"headphones": check} if self.listening else {}
        if isinstance(asked.get("seconds"), int | float):
            meta["seconds"] = round(float(asked["seconds"]), 2)
        name = identity("rating", item, rater, now)
        rating = Rating(name, test, item, rater, left, right, answer, now, meta)
        self._store.add(self._run, [rating])

    def _check(self, rater: str, asked: Mapping[str, Any]) -> View | None:
        """The next step of the check of headphones; None once it is passed."""
        if asked.get("act") != "check":
            return {"intro": True}
        picks = [p for p in asked.get("picks") or () if p in (0, 1, 2)][: headphones.TRIALS]
        attempt = int(asked.get("attempt") or 0)
        if len(picks) == headphones.TRIALS:
            right = headphones.right(self._seed, rater, attempt, picks)
            if right >= headphones.NEEDED:
                return None
            return {"failed": True, "right": right, "trials": len(picks), "attempt": attempt + 1}
        kinds = headphones.arrangement(self._seed, rater, attempt, len(picks))
        trial = {"number": len(picks) + 1, "total": headphones.TRIALS, "picks": picks}
        return {"trial": trial | {"attempt": attempt, "sound": f"media/{self._tones[kinds]}"}}

    def _publish(self, artifact: str) -> str:
        name = hashlib.blake2b(artifact.encode(), key=self._key, digest_size=12).hexdigest()
        self.media[name] = Medium(self._store.path(artifact), MIME[Path(artifact).suffix])
        return name

    def _medium(self, artifact: str) -> dict[str, str | bool]:
        name = self._names[artifact]
        return {"src": f"media/{name}", self.media[name].mime.partition("/")[0]: True}
