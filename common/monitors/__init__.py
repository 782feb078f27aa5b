"""What a run is watched for: exploration, exploitation, the gap, and known ways to go wrong.

| module | home of |
|---|---|
| `exploration` | pass@k, pass@k-S, best-of-k, reward@k-S, distinct-n, diversity, entropy |
| `gap` | the generation-verification gap, absolute and relative, for any filter of samples |
| `pool` | all of it that a round's candidates show without a model: recorded for every run |
| `rounds` | monitors on finished rounds: preference collapse, drift |
"""

from common.monitors.rounds import CollapseMonitor, DriftMonitor, Monitor

__all__ = ["CollapseMonitor", "DriftMonitor", "Monitor"]
