"""What ``upspiral speech compare`` sets side by side: arms that differ in a setting or two.

An arm is a name and what it changes in the recipe. ``strategies`` is SpeechAlign's comparison
(arXiv 2404.05600, table 3 and figure 1); the others are its ablations. Each strategy learns at
the rate that was best for it on dev, of three or four that were tried (docs/lab-notes.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Arms = Mapping[str, Mapping[str, Any]]

COMPARISONS: Mapping[str, Arms] = {
    "strategies": {
        "continued SFT": {"strategy": "sft", "learning_rate": 3e-4},
        "chain of hindsight": {"strategy": "chain-of-hindsight"},
        "best-of-N": {"strategy": "best-of-n"},
        "PPO": {"strategy": "ppo", "learning_rate": 3e-4},
        "GRPO": {"strategy": "grpo", "learning_rate": 3e-4},
        "DPO": {"strategy": "dpo"},
        "DPO, golden pairs": {"strategy": "dpo", "pairs": "golden"},
        "DPO, self-sampled pairs": {"strategy": "dpo", "pairs": "self"},
    },
    "pairs": {
        "golden": {"pairs": "golden"},
        "self-sampled": {"pairs": "self"},
        "self-sampled, Pareto front": {"pairs": "self", "rank": "pareto"},
        "both": {"pairs": "both"},
    },
    "data": {
        "12 pairs a round": {"max_pairs": 12},
        "36 pairs a round": {"max_pairs": 36},
        "108 pairs a round": {"max_pairs": 108},
        "all pairs": {},
    },
    "size": {
        "2.3M parameters": {},
        "0.5M parameters": {"policy": "starter-small"},
    },
    "iteration": {
        "fresh pairs, previous reference": {},
        "pairs accumulated": {"accumulate": True},
        "starter as reference": {"reference": "start"},
    },
    "reward": {
        "best-of-N, tokens": {"strategy": "best-of-n"},
        "best-of-N, sound": {"strategy": "best-of-n", "reward_model": "wave"},
        "best-of-N, sound by SMPConv": {"strategy": "best-of-n", "reward_model": "smpconv"},
        "PPO, tokens": {"strategy": "ppo", "learning_rate": 3e-4},
        "PPO, sound": {"strategy": "ppo", "learning_rate": 3e-4, "reward_model": "wave"},
    },
}
