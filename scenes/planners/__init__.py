"""Planners: from a sentence to a scene graph."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from scenes.graph import SceneGraph


class Plan(NamedTuple):
    """What a planner made of a text."""

    graph: SceneGraph
    unused: tuple[str, ...] = ()
    """Words of the text that it could not use."""
    notes: tuple[str, ...] = ()
    """What it took for granted or had to mend, in sentences."""


class Planner(Protocol):
    def plan(self, text: str) -> Plan:
        """The scene graph of ``text``.

        Raises:
            UserError: the text names nothing to show, or more than a scene may hold.
        """
