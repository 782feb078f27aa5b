"""Methods by name: each a file, and in it a frozen dataclass whose fields are its settings.

A method makes a loop out of the parts of a run, replacing as few stages as it can::

    @dataclass(frozen=True)
    class Vanilla:
        pairs_per_task: int = 2

        def loop(self, parts: Parts) -> Loop:
            return parts.loop(select=..., learn=...)

Add a line to :data:`METHODS`, and ``upspiral text improve --method`` knows it. A module
``my_method.py`` of one's own is named in full: ``--method my_method:Mine``.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from common.cli import unknown
from common.errors import UserError

if TYPE_CHECKING:
    from common.loop import Loop
    from text.improve import Parts

METHODS: dict[str, str] = {
    "vanilla": "text.vanilla:Vanilla",
    "dive": "text.dive:DIVE",
    "bstar": "text.bstar:BStar",
    "smart": "text.smart:SMART",
    "sharpening-sft": "text.sharpening:SharpeningSFT",
    "sharpening-dpo": "text.sharpening:SharpeningDPO",
    "meta-rewarding": "text.meta_rewarding:MetaRewarding",
    "pit": "text.pit:PIT",
    "sra-mcts": "text.sra_mcts:SRAMCTS",
    "language-imbalance": "text.language_imbalance:LanguageImbalance",
    "feedback-sft": "text.counseling.methods:FeedbackSFT",
    "feedback-dpo": "text.counseling.methods:FeedbackDPO",
}


class Method(Protocol):
    """What a method is: settings, and the loop that they make."""

    def loop(self, parts: Parts) -> Loop:
        """The loop of a run, ready to go."""


def settings_of(name: str) -> dict[str, Any]:
    """The settings of a method with their defaults.

    Raises:
        UserError: there is no such method.
    """
    return {f.name: getattr(_kind(name)(), f.name) for f in dataclasses.fields(_kind(name))}


def method(name: str, settings: Mapping[str, Any]) -> Method:
    """The method called ``name``, with ``settings`` in place of its defaults.

    Raises:
        UserError: there is no such method, or a setting is none of its own.
    """
    kind = _kind(name)
    known = [f.name for f in dataclasses.fields(kind)]
    for given in settings:
        if given not in known:
            raise unknown(f"setting of {name}", given, known)
    made: Method = kind(**settings)
    return made


def _kind(name: str) -> Any:
    target = METHODS.get(name, name)
    module, colon, attribute = target.partition(":")
    if not colon:
        raise unknown("method", name, METHODS)
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        if name in METHODS:
            raise
        raise UserError(
            f"no method {name!r} ({error})", "name a class that can be imported, as my_method:Mine"
        ) from error
