"""How well a reward model tells held-out pairs of a run, over learning rates and epochs.

    python studies/reward_fit.py RUN --kind tokens
    python studies/reward_fit.py RUN --kind wave
    python studies/reward_fit.py RUN --kind smpconv --rates 2e-3 --epochs 20

The pairs are those of a run's first round, three quarters of its texts to fit on and a quarter to
ask about; none is of dev or test. Accuracy is over pairs, with its standard error, for pairs of
recordings over samples (golden) and of the model's own samples (self).
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np

from common.artifacts import Files
from common.learners.reward import RewardModel, RewardTraining
from common.policies.best_of import Fitted
from common.progress import progress
from common.records import identity
from common.stages import Context
from common.store import Store
from common.tracking import Nothing
from speech.reward import SMPCONV, NetworkConfig, SpokenReward, WaveTraining
from speech.speaking import beginning, settings, speaker_of


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("run")
    flags.add_argument("--kind", choices=["tokens", "wave", "smpconv"], default="tokens")
    flags.add_argument("--rates", type=float, nargs="+", default=[3e-4, 1e-3])
    flags.add_argument("--epochs", type=float, nargs="+", default=[2, 6])
    chosen = flags.parse_args()
    store = Store()
    config = settings(store.run(chosen.run))
    policy = beginning(config)
    speaker = speaker_of(config, policy)
    pairs = store.preferences(chosen.run, 1)
    texts = sorted({p.task for p in pairs}, key=lambda task: identity("held out", task))
    held = set(texts[: len(texts) // 4])
    fit, ask = ([p for p in pairs if (p.task in held) == side] for side in (False, True))
    print(f"{len(fit)} pairs to fit on, {len(ask)} to ask about", flush=True)
    for rate, epochs in itertools.product(chosen.rates, chosen.epochs):
        reward: Fitted
        if chosen.kind == "tokens":
            reward = RewardModel.from_policy(policy, RewardTraining(rate, epochs))
        else:
            steps = round(epochs * len(fit) / WaveTraining().batch_size)
            training = WaveTraining(steps=steps, learning_rate=rate)
            network = SMPCONV if chosen.kind == "smpconv" else NetworkConfig()
            reward = SpokenReward(lambda: speaker, training, network)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            ctx = Context(0, 1, Files(folder / "artifacts"), Nothing(), progress(), folder)
            figures = reward.fit(fit, ctx)
        prompts = [p.prompt for p in ask]
        better = np.array(reward.score(prompts, [p.chosen for p in ask]))
        worse = np.array(reward.score(prompts, [p.rejected for p in ask]))
        said = [f"fitted {figures['reward_accuracy']:.3f} at loss {figures['loss']:.3f}"]
        for source in sorted({p.source for p in ask}):
            right = (better > worse)[[p.source == source for p in ask]]
            se = np.sqrt(right.mean() * (1 - right.mean()) / len(right))
            said.append(f"{source} {right.mean():.3f} ± {se:.3f} (n={len(right)})")
        print(f"rate {rate:g}, epochs {epochs:g}: {'; '.join(said)}", flush=True)


if __name__ == "__main__":
    main()
