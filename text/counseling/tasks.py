"""A helper's responses as tasks: the prompt is the context, the reference an expert's feedback.

The context of a response is its topic segment so far and the segment before (:mod:`.segments`). All
responses of a conversation are in one split. ``meta`` names conversation and response, never the
feedback.

    load("", ...)            synthetic conversations that nobody had
    load("FILE", ...)        one file, split by conversation (8:1:1)
    load("FOLDER", ...)      files whose names begin with train, dev and test
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from common.home import cache
from common.progress import progress
from common.records import Demonstration, Split, Task, identity
from text.counseling.conversations import Conversation, load, read_lines
from text.counseling.schema import Area, Feedback, checked
from text.prompts import prompt, question

ABOUT = {"kind": "text", "family": "feedback"}
SEGMENTS = 2
"""Topic segments in a context."""
_MANY = 512  # utterances that are embedded between two words on progress


def tasks(source: str, seed: int, sizes: Mapping[Split, int]) -> list[Task]:
    """The tasks of ``source``, as many as ``sizes`` at most, drawn by ``seed``.

    Raises:
        UserError: there is no such file or folder, or a split is empty.
    """
    splits = _splits(source, seed, sizes)
    found: dict[str, Task] = {}
    for split, conversations in splits.items():
        ordered = sorted(conversations, key=lambda c: identity(seed, c.id))
        count = 0
        for task in responses(ordered[: sizes[split]], split):
            if count < sizes[split] and task.id not in found:
                found[task.id] = task
                count += 1
        if not count:
            raise UserError(
                f"{source or 'counseling'} has no {split} conversations",
                "give a file of 3 conversations or more, or a folder with train.json, dev.json "
                "and test.json",
            )
    return list(found.values())


def _splits(source: str, seed: int, sizes: Mapping[Split, int]) -> dict[Split, list[Conversation]]:
    if not source:
        from text.counseling import synthetic

        return {s: synthetic.conversations(1 + n // 3, seed, s) for s, n in sizes.items()}
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in (".json", ".jsonl"))
        named: dict[Split, list[Conversation]] = {s: [] for s in sizes}
        for split, some in named.items():
            for file in files:
                if file.name.startswith(split):
                    some += load(file)
        if not named["dev"]:  # a tenth of train, by the hash of each conversation
            named["dev"] = [c for c in named["train"] if int(c.id, 16) % 10 == 0]
            held = {c.id for c in named["dev"]}
            named["train"] = [c for c in named["train"] if c.id not in held]
        return named
    by_id: dict[str, list[Conversation]] = {}
    for conversation in load(path):
        by_id.setdefault(conversation.id, []).append(conversation)
    names = sorted(by_id)
    tenth = max(1, len(names) // 10)
    cut: dict[Split, list[str]] = {
        "dev": names[:tenth], "test": names[tenth : 2 * tenth], "train": names[2 * tenth :]
    }  # fmt: skip
    return {split: [c for name in cut[split] for c in by_id[name]] for split in sizes}


def responses(conversations: Sequence[Conversation], split: Split = "test") -> list[Task]:
    """Every response of the helper as a task, in order."""
    begins = segmented([c for c in conversations if c.whole])
    found = []
    for conversation in conversations:
        starts = begins.get(conversation.id, [0])
        helper = -1
        for at, turn in enumerate(conversation.turns):
            if turn.speaker != "Helper":
                continue
            helper += 1
            if not conversation.whole and at + 1 < len(conversation.turns):
                continue  # the last response is the one that is annotated
            before = [start for start in starts if start <= at]
            first = before[-min(SEGMENTS, len(before))]
            lines = "\n".join(turn.line() for turn in conversation.turns[first : at + 1])
            name = identity("counseling", conversation.id, helper, lines)
            reference = turn.feedback.json_text() if turn.feedback else None
            meta = {**ABOUT, "conversation": conversation.id, "helper": helper}
            found.append(Task(name, lines, split, reference, meta=meta))
    return found


def segmented(conversations: Sequence[Conversation]) -> dict[str, list[int]]:
    """Where the topic segments of each conversation begin; kept, as embeddings take minutes."""
    texts = [[turn.text for turn in c.turns] for c in conversations]
    long = [i for i, some in enumerate(texts) if len(some) > 3]
    if not long:
        return {c.id: [0] for c in conversations}
    kept = cache() / "segments" / f"{identity(texts)}.json"
    try:
        found: list[list[int]] = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        from common.sentences import encoder
        from text.counseling.segments import boundaries

        unique = list(dict.fromkeys(text for i in long for text in texts[i]))
        show = progress() if len(unique) > _MANY else None
        known: dict[str, Any] = {}
        for start in range(0, len(unique), _MANY):
            some = unique[start : start + _MANY]
            known.update(zip(some, encoder()(some), strict=True))
            if show is not None:
                show(start + len(some), len(unique), "utterances embedded")
        found = [[0] for _ in texts]
        for i in long:
            found[i] = boundaries(np.array([known[text] for text in texts[i]]))
        kept.parent.mkdir(exist_ok=True)
        scratch = kept.with_suffix(".partial")
        scratch.write_text(json.dumps(found), encoding="utf-8")
        scratch.replace(kept)
    return {c.id: starts for c, starts in zip(conversations, found, strict=True)}


# What a model reads, and what it is taught


def asking(context: str, chat: bool = False, shots: int = 0) -> str:
    """What a model reads for the last response in ``context``."""
    return prompt(context, ABOUT["family"], "en", shots, chat)


def completion(feedback: Feedback, chat: bool = False) -> str:
    """What it should say; after a prompt that is no chat, tokens begin with a space."""
    return ("" if chat else " ") + feedback.json_text()


def with_response(context: str, response: str) -> str:
    """``context`` with another last response."""
    turns = read_lines(context)
    return "\n".join(t.line() for t in [*turns[:-1], turns[-1]._replace(text=response)])


def reference(task: Task) -> Feedback | None:
    """The expert's feedback of a task, if there is one."""
    return checked(json.loads(task.reference)) if task.reference else None


def augmented(context: str, feedback: Feedback) -> tuple[str, Feedback] | None:
    """The alternative as a response that is perfect: its areas are those it was to improve, but for
    Suggestions, and those that were good. None for a perfect response.

    Not Suggestions: an alternative mends them by not making any.
    """
    if feedback.perfect or feedback.alternative is None:
        return None
    improved = [area for area in feedback.badareas or () if area != Area.SUGGESTIONS]
    areas = tuple(dict.fromkeys([*improved, *feedback.goodareas]))
    return with_response(context, feedback.alternative), Feedback(perfect=True, goodareas=areas)


def demonstrations(
    labelled: Iterable[Task], chat: bool = False, augment: bool = True
) -> list[Demonstration]:
    """What experts said of each response, and with ``augment`` each alternative as a good one."""
    found: dict[str, Demonstration] = {}
    for task in labelled:
        said = reference(task)
        if said is None:
            continue
        context = question(task)
        other = augmented(context, said) if augment else None
        for kind, (asked, answer) in {
            "expert": (context, said), **({"alternative": other} if other else {})
        }.items():  # fmt: skip
            name = identity("counseling", kind, task.id)
            found[name] = Demonstration(
                name, task.id, 0, asking(asked, chat), completion(answer, chat), kind
            )
    return list(found.values())
