"""What scenes offer to the command line; every command's work is imported only when it runs."""

from __future__ import annotations

from common.commands import Command, Domain

domain = Domain(
    name="scenes",
    help="a sentence becomes a Blender scene",
    commands={
        "control": Command(
            "depth, normal, segmentation and flow along a camera path, for video models",
            "upspiral scenes control room/scene.blend --camera orbit --out guide",
            "scenes.commands.control:Control",
        ),
    },
)
