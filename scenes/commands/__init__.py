"""What scenes offer to the command line; every command's work is imported only when it runs."""

from __future__ import annotations

from common.commands import Command, Domain

domain = Domain(
    name="scenes",
    help="a sentence becomes a Blender scene",
    groups={"train": "how the models that scenes start with were made, and how to make others"},
    commands={
        "craft": Command(
            "make a Blender scene of a sentence, with a report of how it came about",
            'upspiral scenes craft "a round table with four chairs around it" --out room',
            "scenes.commands.craft:Craft",
        ),
        "plan": Command(
            "what a sentence says: the scene graph, and words that could not be used",
            'upspiral scenes plan "a round table with four chairs around it"',
            "scenes.commands.plan:MakePlan",
        ),
        "relations": Command(
            "the relations that a scene graph may name",
            "upspiral scenes relations",
            "scenes.commands.plan:Relations",
        ),
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
        "train planner": Command(
            "teach SmolLM2-135M to plan scenes",
            "upspiral scenes train planner --out planner",
            "scenes.commands.planner:TrainPlanner",
        ),
        "train clip": Command(
            "how the starter CLIP was made: furniture rendered, captions and pictures matched",
            "upspiral scenes train clip --recipe tiny",
            "scenes.commands.training:TrainClip",
        ),
        "learn": Command(
            "the outer loop: learn a library of skills from queries",
            "upspiral scenes learn --library lib",
            "scenes.commands.learn:Learn",
        ),
        "evaluate": Command(
            "the benchmark: the system, and the system without each of its parts",
            "upspiral scenes evaluate --phrasings one",
            "scenes.commands.learn:Evaluate",
        ),
        "reconstruct": Command(
            "a picture, or frames of one scene, become a scene",
            "upspiral scenes reconstruct frame.png --out room",
            "scenes.commands.reconstruct:Reconstruct",
        ),
        "control": Command(
            "depth, normal, segmentation and flow along a camera path, for video models",
            "upspiral scenes control room/scene.blend --camera orbit --out guide",
            "scenes.commands.control:Control",
        ),
    },
    resume="scenes.commands.learn:resume",
)
