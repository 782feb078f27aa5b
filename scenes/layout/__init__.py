"""From a scene graph to places in metres."""

from scenes.layout.score import score
from scenes.layout.solve import Solution, SolverConfig, solve

__all__ = ["Solution", "SolverConfig", "score", "solve"]
