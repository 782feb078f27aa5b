"""Settings written as ``name=value`` on the command line, for any frozen dataclass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from common.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")


def override(config: C, settings: Sequence[str]) -> C:
    """``config`` with settings written as ``name=value``, each of the type of its default.

    Raises:
        UserError: a name that ``config`` lacks, or a value of another type.
    """
    known = [field.name for field in fields(config) if field.init]
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in known:
            raise UserError(
                f"no setting {setting!r}", f"write name=value; names: {', '.join(known)}"
            )
        kind = type(getattr(config, name))
        typed: Any
        try:
            typed = {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
        except (ValueError, KeyError):
            remedy = "give true or false" if kind is bool else f"give a {kind.__name__}"
            raise UserError(f"{name}={value} is no {kind.__name__}", remedy) from None
        config = replace(config, **{name: typed})
    return config
