"""What scenes offer to the command line; every command's work is imported only when it runs."""

from __future__ import annotations

from common.commands import Domain

domain = Domain(name="scenes", help="a sentence becomes a Blender scene", commands={})
