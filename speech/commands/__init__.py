"""What speech offers to the command line; every command's work is imported only when it runs."""

from __future__ import annotations

from common.commands import Command, Domain

domain = Domain(
    name="speech",
    help="codec language models and their alignment",
    commands={
        "align": Command(
            "rounds of preference optimisation of a codec language model",
            "upspiral speech align --recipe demo --rounds 1 --seed 0",
            "speech.commands.align:Align",
        ),
        "say": Command(
            "speak a text",
            'upspiral speech say "please enter your password again" --out hello.wav',
            "speech.commands.say:Say",
        ),
        "evaluate": Command(
            "how well a policy speaks texts: word errors, voice, quality",
            "upspiral speech evaluate --policy starter --count 8",
            "speech.commands.say:Evaluate",
        ),
        "compare": Command(
            "strategies or settings side by side, over seeds, with equal budgets",
            "upspiral speech compare --what strategies --seeds 3 --out table",
            "speech.commands.compare:Compare",
        ),
        "gap": Command(
            "how far a policy's codes are from those of recordings",
            "upspiral speech gap --policy starter --out gap",
            "speech.commands.gap:Gap",
        ),
        "listen": Command(
            "a blind listening test of a run in the browser, and what it came to",
            "upspiral speech listen last",
            "speech.commands.listen:Listen",
        ),
        "encode": Command(
            "sound file to codec tokens",
            "upspiral speech encode hello.wav --out codes.npz",
            "speech.commands.coding:Encode",
        ),
        "decode": Command(
            "codec tokens to sound file",
            "upspiral speech decode codes.npz --out out.wav",
            "speech.commands.coding:Decode",
        ),
        "train": Command(
            "how the starters were made: codec, then ar and nar",
            "upspiral speech train codec --recipe tiny",
            "speech.commands.training:Train",
        ),
    },
    resume="speech.commands.align:resume",
    report="speech.report:extra",
)
