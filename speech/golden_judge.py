"""The judge of ``--reward smpconv``: how much a clip sounds like recordings and not like samples.

Before a run begins, its starting policy says texts whose recordings are practised on, and a
:class:`speech.reward.WaveReward` with kernels of self-moving points learns which of two clips is
the recording's: golden against synthetic, both through the same NAR and codec. Two studies warn
of that shortcut (2409.12403, 2502.05236), so a quarter of the texts is held out and asked about,
and a judge that cannot tell those apart is called what it is.

It is fitted once for a policy and its texts, and kept under ``UPSPIRAL_HOME``; what the policy
becomes in later rounds is news to it.

    upspiral speech align --recipe starter --reward smpconv
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from common.artifacts import Files
from common.errors import UserError
from common.gate import paired_interval
from common.home import home
from common.pairing import golden_over_sampled
from common.policies import Sample
from common.policies.local import HFPolicy
from common.records import Task, identity
from common.stages import Context, Progress
from common.tracking import Nothing
from speech.reward import SMPCONV, SpokenReward, WaveReward, WaveTraining
from speech.speaker import Golden

SAMPLES = 2
"""Samples of each text."""
FIT = "fit.json"
log = logging.getLogger(__name__)


def golden_judge(
    policy: HFPolicy,
    golden: Golden,
    tasks: Sequence[Task],
    sample: Sample,
    progress: Progress,
    around: Sequence[object] = (),
    training: WaveTraining | None = None,
) -> WaveReward:
    """The judge, fitted on the ``tasks`` that have a recording, or as it was fitted before.

    ``around`` names what makes the policy audible: with another codec or NAR it is another judge.

    Raises:
        UserError: fewer than two texts with a recording.
    """
    how = training or WaveTraining()
    sample = replace(sample, n=SAMPLES)
    mine = [task for task in tasks if golden.utterances.get(task.id)]
    name = identity(policy.fingerprint(), [t.id for t in mine], asdict(sample), asdict(how),
                    asdict(SMPCONV), [*around])  # fmt: skip
    folder = home() / "judges" / f"smpconv-{name}"
    if not (folder / FIT).exists():
        _fit(policy, golden, mine, sample, how, folder, progress)
    figures = json.loads((folder / FIT).read_text(encoding="utf-8"))
    if not figures["low"] > 0.5:
        log.warning(
            "the judge of --reward smpconv tells recordings from samples no better than chance: "
            "right on %.2f of %d texts that it was not taught; practise more texts, or use another",
            figures["accuracy"],
            figures["texts"],
        )
    return WaveReward.load(folder, how)


def _fit(
    policy: HFPolicy,
    golden: Golden,
    tasks: Sequence[Task],
    sample: Sample,
    how: WaveTraining,
    folder: Path,
    progress: Progress,
) -> None:
    """Say, learn, and write the network with what it makes of texts that it was not taught."""
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    ctx = Context(0, 0, Files(work), Nothing(), progress, work)
    golden.fill([task.id for task in tasks], progress)
    mine = {task.id: task for task in tasks if task.id in golden}
    if len(mine) < 2:
        raise UserError(
            f"{len(mine)} of the practised texts have a recording to judge by",
            "practise more texts (--set texts=64), or leave --reward out",
        )
    said = sample.propose(policy, [*mine.values()], ctx)
    pairs = golden_over_sampled(mine, golden, said, pairs_per_task=sample.n, seed=0, round=0)
    order = sorted(mine, key=lambda task: identity("held out", task))
    held = set(order[: max(1, len(order) // 4)])
    reward = SpokenReward(lambda: golden.speaker, how, SMPCONV)
    figures = reward.fit([p for p in pairs if p.task not in held], ctx)
    ask = [p for p in pairs if p.task in held]
    better, worse = (
        reward.score([p.prompt for p in ask], [getattr(p, side) for p in ask])
        for side in ("chosen", "rejected")
    )
    right: dict[str, list[float]] = {}
    for p, a, b in zip(ask, better, worse, strict=True):
        right.setdefault(p.task, []).append(float(a > b) + 0.5 * (a == b))
    means = {task: float(np.mean(values)) for task, values in right.items()}
    shown = paired_interval(dict.fromkeys(means, 0.0), means)
    reward.save(folder)
    told = {**figures, "accuracy": shown.mean, "low": max(0.0, shown.low), "texts": shown.n}
    partial = folder / "fit.partial"
    partial.write_text(json.dumps(told) + "\n", encoding="utf-8")
    partial.replace(folder / FIT)
    shutil.rmtree(work)
