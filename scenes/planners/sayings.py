"""Arrangement skills: what "next to" and its like mean in relations and metres.

Each is a function of its own, since these are what a library of skills learns first
(:mod:`scenes.skills`): :data:`HABITS` holds the versions in use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scenes.graph import Option, Relation

Habit = Callable[..., list[Relation]]


def say(kind: str, *assets: str, weight: float = 1.0, **options: Option) -> Relation:
    """A relation, shortly."""
    return Relation(kind=kind, assets=assets, options=options, weight=weight)


def say_next_to(subject: str, host: str) -> list[Relation]:
    """Next to it, beside it: with little air between."""
    return [say("proximity", subject, host, distance=0.3)]


def say_near(subject: str, host: str) -> list[Relation]:
    """Near it, close to it: within a step."""
    return [say("proximity", subject, host, distance=1.0)]


def say_side(side: str, subject: str, host: str) -> list[Relation]:
    """Left of it, right of it, in front of it or behind it, and not far away."""
    return [say(side, subject, host), say("proximity", subject, host, weight=0.5, distance=1.0)]


def say_far(subject: str, host: str) -> list[Relation]:
    """Far from it: with much air between."""
    return [say("apart", subject, host, distance=2.0)]


def say_flank(hand: str, subject: str, host: str) -> list[Relation]:
    """On one hand of it as it looks itself, close to it."""
    return [
        say("direction", subject, host, side=hand),
        say("proximity", subject, host, distance=0.3),
    ]


def say_around(subjects: Sequence[str], host: str) -> list[Relation]:
    """All around it, close to it."""
    return [say("around", *subjects, host)]


HABITS: dict[str, Habit] = {
    habit.__name__: habit
    for habit in (say_next_to, say_near, say_side, say_far, say_flank, say_around)
}
