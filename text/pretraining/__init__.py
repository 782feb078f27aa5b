"""Structural self-supervised objectives: encoders learn how text hangs together, before any loop.

Token objectives (arXiv 2309.08272, 2210.13536), sentence objectives (2205.10455), several sentences
at once (2205.01228), and what they make: rankers of answer sentences, which judge in loops.
See ``docs/pretraining.md``.
"""
