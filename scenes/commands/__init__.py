"""What scenes offer to the command line; every command's work is imported only when it runs."""

from __future__ import annotations

from common.commands import Command, Domain

domain = Domain(
    name="scenes",
    help="a sentence becomes a Blender scene",
    commands={
        "search": Command(
            "look for models by words",
            'upspiral scenes search "round table"',
            "scenes.commands.assets:Search",
        ),
        "index": Command(
            "put models of a folder or catalogue into the index",
            "upspiral scenes index",
            "scenes.commands.assets:MakeIndex",
        ),
    },
)
