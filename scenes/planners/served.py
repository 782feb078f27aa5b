"""The planner that asks a language model: any OpenAI-compatible server.

SceneCraft's steps (arXiv 2403.01248, section 3): a text that is long or asks for many things is
first divided into sub-scenes of 10 to 20 assets, surroundings first; then a model lists each
sub-scene's assets with their sizes, then their relations. Deviations: the model is asked for data
and never for code; short texts are not divided; sizes have three dimensions, where the paper has a
height; relations of a sub-scene may name things of the others, which is how they join.

An answer is validated and mended (:mod:`scenes.planners.mend_assets`,
:mod:`scenes.planners.mend_relations`); what cannot be mended goes back to the model with what is
wrong. Every answer is kept in a folder as it comes, so that a plan that failed halfway goes on
where it stopped.

    upspiral scenes plan "a small cafe" --planner served --model NAME --base-url URL
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from common.errors import UserError
from common.policies.answers import Heard
from common.policies.served import Message, ServedError, ServedPolicy
from common.records import identity
from common.stages import Progress
from scenes import prompts
from scenes.graph import MAX_ASSETS, Relation, SceneGraph, SubScene, problem
from scenes.planners import Plan
from scenes.planners import tokens as lexer
from scenes.planners.lexicon import NUMBERS
from scenes.planners.mend_assets import AssetList, Listed, listed, recounted
from scenes.planners.mend_relations import Names, RelationList, related
from scenes.planners.rules import EXAMPLE
from scenes.relations import signatures

PROMPTS = Path(__file__).with_name("prompts")
LONG = 60
"""Words from which on a text is divided."""
MANY = 20
"""What the numbers in a text add up to from which on it is divided: the paper's sub-scene."""
T = TypeVar("T")


class Part(BaseModel):
    """A step of the decomposition, in the paper's form."""

    title: str
    asset_list: list[str]
    description: str = ""


class Parts(BaseModel):
    parts: list[Part]


@dataclass
class Served:
    """See the module. ``keep`` is the folder for answers; None keeps none.

    ``attempts`` is how often a step is asked before it fails. A low ``temperature`` suits a form
    that is to be kept to.
    """

    policy: ServedPolicy
    keep: Path | None = None
    attempts: int = 3
    temperature: float = 0.2
    progress: Progress | None = None

    def plan(self, text: str) -> Plan:
        """The scene graph of ``text``; see :class:`scenes.planners.Planner`.

        Raises:
            UserError: besides, a wrong address, key or name of a model.
            ServedError: the server keeps failing, the model refuses (RefusedError), or its answers
                cannot be used. Answers that came before are in ``keep`` and not asked for again.
        """
        text = " ".join(text.split())
        if not text:
            raise UserError("an empty text", EXAMPLE)
        return _Planning(self, text).plan()


class _Planning:
    """One text being planned."""

    def __init__(self, served: Served, text: str) -> None:
        self.served, self.text = served, text
        self.notes: list[str] = []
        self.done, self.total = 0, 2
        self.lock = threading.Lock()

    def plan(self) -> Plan:
        parts = self._parts() if wants_parts(self.text) else []
        shown: list[Part | None] = [*parts] or [None]
        self.total = bool(parts) + 2 * len(shown)
        lists = _apart(self._noted(self.served.policy.map(self._listed, shown)))
        lists = recounted(lists, self.text, self.notes)
        assets = [a for found in lists for a in found.assets]
        if len(assets) > MAX_ASSETS:
            raise UserError(
                f"{len(assets)} things were listed, more than {MAX_ASSETS}",
                "ask for fewer, or for several scenes",
            )
        names = Names(
            {a.id: a for a in assets}, {n: i for found in lists for n, i in found.groups.items()}
        )
        work = list(zip(shown, lists, strict=True))
        lists_of_relations = self._noted(
            self.served.policy.map(lambda w: self._related(w[0], w[1], names), work)
        )
        relations = {str(r): r for found in lists_of_relations for r in found}
        scenes = [
            SubScene(
                title=part.title[:300], description=part.description,
                assets=tuple(a.id for a in found.assets),
            )
            for part, found in zip(parts, lists, strict=False)
        ]  # fmt: skip
        try:
            graph = SceneGraph(
                text=self.text,
                assets=tuple(assets),
                relations=tuple(relations.values()),
                scenes=tuple(scenes),
                room=next((found.room for found in lists if found.room), None),
                outdoors=lists[0].outdoors,
            )
        except ValidationError as error:
            raise ServedError(f"the answers make no scene graph: {problem(error)}") from error
        return Plan(graph, notes=tuple(dict.fromkeys(self.notes)))

    # Steps

    def _parts(self) -> list[Part]:
        def read(heard: Heard) -> Parts:
            value = heard.value
            value = {"parts": value} if isinstance(value, list) else value
            found = [p for p in Parts.model_validate(value).parts if p.asset_list]
            if not found:
                raise ValueError("parts: there is none that holds a thing")
            return Parts(parts=found)

        asked = self._prompt("parts", text=self.text, most=MAX_ASSETS)
        return self._ask("parts", asked, Parts, read)[0].parts

    def _listed(self, part: Part | None) -> tuple[Listed, list[str]]:
        asked = self._prompt(
            "assets", text=self.text, scope=_scope(part), part=_part(part, with_list=True)
        )
        notes: list[str] = []

        def read(heard: Heard) -> Listed:
            del notes[:]
            return listed(heard.value, notes)

        found, cut = self._ask("assets", asked, AssetList, read)
        return found, notes + cut

    def _related(
        self, part: Part | None, own: Listed, names: Names
    ) -> tuple[list[Relation], list[str]]:
        others = [i for i in names.assets if i not in {a.id for a in own.assets}]
        asked = self._prompt(
            "relations",
            text=self.text,
            scope=_scope(part),
            part=_part(part, with_list=False),
            signatures=signatures(),
            assets="\n".join(
                f"- {', '.join(ids)}: {names.assets[ids[0]].what}" for ids in own.groups.values()
            ),
            others=f"Things of other parts, for hosts only: {', '.join(others)}\n"
            if others
            else "",
        )
        # A name means the part's own things before those of others.
        names = Names(names.assets, {**names.groups, **own.groups})
        notes: list[str] = []

        def read(heard: Heard) -> list[Relation]:
            del notes[:]
            return related(heard.value, names, notes)

        found, cut = self._ask("relations", asked, RelationList, read)
        return found, notes + cut

    def _noted(self, answers: Sequence[tuple[T, list[str]]]) -> list[T]:
        """The answers, once what is to be noted of them is."""
        for _, notes in answers:
            self.notes += notes
        return [answer for answer, _ in answers]

    # Asking

    def _ask(
        self, step: str, asked: str, schema: type[BaseModel], read: Callable[[Heard], T]
    ) -> tuple[T, list[str]]:
        """A step's answer and what is to be noted of it: kept from before, or asked for now."""
        messages: list[Message] = [
            {"role": "system", "content": self._prompt("planner")},
            {"role": "user", "content": asked},
        ]
        served, policy = self.served, self.served.policy
        name = f"{step}-{identity(policy.model, messages)}.json"
        path = self._kept(name)
        if path is not None and path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            made: tuple[T, list[str]] = read(Heard(kept)), []
        else:
            made = self._asked(step, messages, schema, read, path)
        if served.progress is not None:
            with self.lock:
                self.done += 1
                served.progress(self.done, self.total, "planning")
        return made

    def _kept(self, name: str) -> Path | None:
        """Where an answer is kept; the folder is made before anything is asked and paid for."""
        folder = self.served.keep
        if folder is None:
            return None
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot use {folder}: {error.strerror}", "choose another folder with --out"
            ) from error
        return folder / name

    def _asked(
        self,
        step: str,
        messages: Sequence[Message],
        schema: type[BaseModel],
        read: Callable[[Heard], T],
        path: Path | None,
    ) -> tuple[T, list[str]]:
        def reading(heard: Heard) -> tuple[Heard, T]:
            return heard, read(heard)

        try:
            heard, made = self.served.policy.read(
                messages,
                schema,
                reading,
                attempts=self.served.attempts,
                temperature=self.served.temperature,
            )
        except ServedError as error:
            keep = self.served.keep
            kept = (
                f"; answers so far are kept in {keep}" if keep and any(keep.glob("*.json")) else ""
            )
            raise type(error)(f"planning the {step}: {error}{kept}") from error
        if path is not None:
            part = path.with_suffix(f".{os.getpid()}.partial")
            part.write_text(json.dumps(heard.value), encoding="utf-8")
            part.replace(path)
        return made, [] if heard.whole else [f"the answer with the {step} was cut; its end is lost"]

    def _prompt(self, name: str, **values: Any) -> str:
        return prompts.fill(PROMPTS / f"{name}.md", **values)


def wants_parts(text: str) -> bool:
    """Whether a text is long, or asks for many things."""
    words = [t.text for t in lexer.read(text) if t.kind == "word"]
    total = sum(NUMBERS.get(w, 0) or (int(w) if w.isdecimal() else 0) for w in words)
    return len(text.split()) > LONG or total > MANY


def _apart(lists: Sequence[Listed]) -> list[Listed]:
    """The lists of all parts, with ids that differ between parts."""
    taken: set[str] = set()
    found: list[Listed] = []
    for listing in lists:
        fresh: dict[str, str] = {}
        for asset in listing.assets:
            name, number = asset.id, 2
            while name in taken:
                name = f"{asset.id}-{number}"
                number += 1
            fresh[asset.id] = name
            taken.add(name)
        assets = tuple(a.model_copy(update={"id": fresh[a.id]}) for a in listing.assets)
        groups = {n: tuple(fresh[i] for i in ids) for n, ids in listing.groups.items()}
        found.append(Listed(assets, groups, listing.outdoors, listing.room))
    return found


def _scope(part: Part | None) -> str:
    return f'the part "{part.title}" of a scene' if part else "this scene"


def _part(part: Part | None, with_list: bool) -> str:
    if part is None:
        return ""
    things = f" It holds: {', '.join(part.asset_list)}." if with_list else ""
    return f"The part: {part.description}{things}\n"
