"""Tree search by upper confidence over whatever grows in steps: plans, proofs, programs.

Of a node with value V and n visits below a parent with N, the child is followed that has the most

    V + c sqrt(2 ln N / n),      V + ``unvisited`` while n = 0

down to a leaf; the leaf is reflected on, and is at its end or gets ``branch`` children, each with a
score; from the best child a greedy rollout goes on for ``rollout_steps`` and is forgotten but for
its best score R, which is blended in, V = (1 - alpha) V + alpha R; and values are backed up as the
means of the children's, weighted by visits. The search ends where a node
reaches ``gate`` and passes the final check, or when ``iterations``, ``tokens`` or the tree are used
up; then the best nodes get the check.

What nodes say, and how good they are, is a :class:`Grower`'s business. Trees grow side by side: a
grower gets the nodes of all of them at once, siblings included, and a model answers in batches.

A tree is the list of its steps (:class:`Step`): replaying them gives the same tree, so a log with a
line a step is all that resuming needs (:class:`Log`).
"""

from __future__ import annotations

from common.search.grow import Checked, Grower, Place, Reflection, Said, Scored, search
from common.search.log import Log, dumps, loads, read_trees
from common.search.tree import Node, Search, Step, Tree
from common.search.view import lines, svg

__all__ = [
    "Checked",
    "Grower",
    "Log",
    "Node",
    "Place",
    "Reflection",
    "Said",
    "Scored",
    "Search",
    "Step",
    "Tree",
    "dumps",
    "lines",
    "loads",
    "read_trees",
    "search",
    "svg",
]
