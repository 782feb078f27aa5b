"""Texts that end a completion, as where the next question of a prompt with examples would begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class Stops:
    """Whether the text of a completion's tokens holds one of ``texts`` (``sampling.Stop``).

    Asked after every token, so only the last ones are looked at.
    """

    def __init__(self, texts: Sequence[str], decode: Callable[[Sequence[int]], str]) -> None:
        self.texts, self.decode = tuple(texts), decode
        # A token is a byte or more, so no more tokens than a text has bytes can spell it; one more,
        # since decoding may treat the first of a sequence in a way of its own.
        self.window = max(len(text.encode()) for text in self.texts) + 1

    def __call__(self, ids: Sequence[int]) -> bool:
        tail = self.decode(ids[-self.window :])
        return any(text in tail for text in self.texts)


def before(text: str, stops: Sequence[str]) -> str:
    """What comes before the first of ``stops`` in ``text``; all of it without one."""
    ends = [text.index(stop) for stop in stops if stop in text]
    return text[: min(ends)] if ends else text
