"""Lifelong-learning metrics: what an agent keeps, loses and transfers over a sequence of tasks.

Definitions of New et al. (arXiv 2201.08278) as Baker, New et al. (arXiv 2301.07799) use them.

    upspiral lifelong run --tasks arithmetic,countdown,logic --method vanilla
    upspiral lifelong measure lifetime/ --ste expert-1/ --ste expert-2/ --metric performance

| module | home of |
|---|---|
| :mod:`~common.lifelong.logs` | reading logs of the published format, versions 1.0 and 1.1 |
| :mod:`~common.lifelong.writer` | writing them |
| :mod:`~common.lifelong.curves` | regimes, smoothing, normalisation |
| :mod:`~common.lifelong.metrics` | PM, FT, BT, RP, SE, PR, MEP, MTP |
| :mod:`~common.lifelong.run` | a policy's way through several tasks, run by the engine |
| :mod:`~common.lifelong.plot` | performance over a lifetime, as SVG |
"""

from common.lifelong.curves import Lifetime, Preprocessing, prepare
from common.lifelong.logs import Log, read
from common.lifelong.metrics import Measured, measure
from common.lifelong.writer import LogWriter

__all__ = ["Lifetime", "Log", "LogWriter", "Measured", "Preprocessing", "measure", "prepare",
           "read"]  # fmt: skip
