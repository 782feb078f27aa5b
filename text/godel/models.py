"""The models that an agent talks to, by name, behind one call.

| name | what |
|---|---|
| ``scripted:NAME`` | a recorded conversation that comes along; ``scripted:FILE``: one of yours |
| ``served:NAME`` | a model behind an OpenAI-compatible server (``--base-url``) |
| else | a local one: ``smollm2``, a run of text, a folder, a hub name |

A recording replays what the *optimiser* says, decision by decision, whatever it is told: the
conversation around it is real. What the *solver* says to a question is replayed by the question,
from ``NAME.replies.json`` beside it; one that is not there gets :data:`UNKNOWN`.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from common.errors import UserError
from common.policies.served import RejectedError, ServedError, ServedPolicy, connect
from common.records import identity
from text.godel.cell import NotAllowedError

if TYPE_CHECKING:
    from common.policies.local import HFPolicy

RECORDINGS = Path(__file__).parent / "recordings"
UNKNOWN = "I do not know."
_TURN = re.compile(r"^---- \d+.*$", re.MULTILINE)
Message = Mapping[str, str]


class Completion(NamedTuple):
    """An answer, and the tokens that it took."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class RecordingEndedError(Exception):
    """A recording holds no further decision."""


class Model(Protocol):
    """What answers messages. ``width`` is how many it answers at a time."""

    width: int

    def complete(
        self, messages: Sequence[Message], temperature: float, max_tokens: int, turn: int | None
    ) -> Completion:
        """The answer to ``messages``; ``turn`` counts the decisions of a run, None: no decision.

        Raises:
            NotAllowedError: it cannot answer such messages; the agent is told.
            UserError: what only the user can mend, as a server that is gone.
        """


def load(name: str, base_url: str | None = None, concurrency: int = 4) -> Model:
    """The model called ``name``.

    Raises:
        UserError: there is no such model or recording, or it needs an address, or none answers.
    """
    kind, colon, rest = name.partition(":")
    if colon and kind == "scripted":
        return Scripted.load(rest)
    if colon and kind == "served":
        model = Served(connect(rest, base_url, concurrency=concurrency))
        model.reach()
        return model
    return Local.load(name)


class Scripted:
    """A recorded conversation. Tokens are estimated, one for four characters."""

    width = 1

    def __init__(self, turns: Sequence[str], replies: Mapping[str, str] | None = None) -> None:
        self.turns, self.replies = list(turns), dict(replies or {})

    @classmethod
    def load(cls, name: str) -> Scripted:
        """One of :data:`RECORDINGS`, or a file.

        Raises:
            UserError: there is none, or it holds no decision.
        """
        path = RECORDINGS / f"{name}.md"
        if not path.is_file():
            path = Path(name).expanduser()
        try:
            _, *turns = _TURN.split(path.read_text(encoding="utf-8"))
            replies = path.with_suffix(".replies.json")
            known = json.loads(replies.read_text(encoding="utf-8")) if replies.exists() else {}
        except (OSError, ValueError) as error:
            names = ", ".join(sorted(p.stem for p in RECORDINGS.glob("*.md")))
            raise UserError(
                f"cannot read the recording {name!r}: {error}", f"use {names}, or name a file"
            ) from error
        if not turns:
            raise UserError(f"{path} holds no decision", "put each after a line '---- 1'")
        return cls([turn.strip() for turn in turns], known)

    def complete(
        self,
        messages: Sequence[Message],
        temperature: float,  # noqa: ARG002
        max_tokens: int,  # noqa: ARG002
        turn: int | None,
    ) -> Completion:
        """The decision number ``turn``, or what was once answered to such messages.

        Raises:
            RecordingEndedError: there is no such decision.
        """
        if turn is None:
            text = self.replies.get(key(messages), UNKNOWN)
        elif turn < len(self.turns):
            text = self.turns[turn]
        else:
            raise RecordingEndedError
        asked = sum(len(message["content"]) for message in messages)
        return Completion(text, asked // 4, len(text) // 4)


def key(messages: Sequence[Message]) -> str:
    """What a recorded reply is found by."""
    return identity([[m["role"], m["content"]] for m in messages])


class Served:
    """A served model."""

    def __init__(self, policy: ServedPolicy) -> None:
        self.policy, self.width = policy, policy.concurrency
        self.optional = True
        """Whether temperature and length are sent: some models take neither."""

    def reach(self) -> None:
        """Ask for a word, so that no run begins without a server.

        Raises:
            UserError: none answers, or not with this key or name.
        """
        with suppress(ServedError):  # it is there, and may do better with other messages
            self.policy.complete([{"role": "user", "content": "hello"}], max_tokens=1)

    def complete(
        self,
        messages: Sequence[Message],
        temperature: float,
        max_tokens: int,
        turn: int | None,  # noqa: ARG002
    ) -> Completion:
        """One chat completion."""
        options = {"temperature": temperature, "max_tokens": max_tokens} if self.optional else {}
        try:
            try:
                text, took = self.policy.complete(alternating(messages), **options)
            except RejectedError:
                if not options:
                    raise
                text, took = self.policy.complete(alternating(messages))
                self.optional = False
        except ServedError as error:  # the agent may do better with other messages
            raise NotAllowedError(f"the model did not answer: {error}") from error
        return Completion(text, took.prompt_tokens, took.completion_tokens)


class Local:
    """A transformers model in this process, one question at a time."""

    width = 1

    def __init__(self, policy: HFPolicy) -> None:
        self.policy = policy
        self.lock = threading.Lock()

    @classmethod
    def load(cls, name: str) -> Local:
        """As :func:`text.setup.load_policy`."""
        from text.setup import load_policy

        return cls(load_policy(name))

    def complete(
        self, messages: Sequence[Message], temperature: float, max_tokens: int, turn: int | None
    ) -> Completion:
        """One completion through the model's chat template, or plain text where it has none."""
        tokenizer = self.policy.tokenizer
        spoken = alternating(messages)
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template(spoken, add_generation_prompt=True, tokenize=False)
        else:
            text = "\n\n".join(message["content"] for message in spoken) + "\n\n"
        size = len(self.policy.encode_prompt(text))
        room = self.policy.model.config.get_text_config().max_position_embeddings - max_tokens
        if size > room:
            raise NotAllowedError(f"the messages have {size} tokens, the model reads {room}")
        seed = int(identity(key(messages), turn), 16) >> 17
        with self.lock:
            [[one]] = self.policy.sample(
                [text], seeds=[seed], temperature=temperature, max_new_tokens=max_tokens
            )
        said = self.policy.decode(one.ids).replace(tokenizer.eos_token, "")
        return Completion(said, size, one.tokens)


def alternating(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The messages with those of one role that follow each other as one: templates ask for it."""
    found: list[dict[str, str]] = []
    for message in messages:
        if found and found[-1]["role"] == message["role"]:
            found[-1]["content"] += "\n\n" + message["content"]
        else:
            found.append(dict(message))
    return found
