"""Best-of-N: of N samples the one that a reward model likes best; no weights of the policy change.

    y = argmax of r(prompt, y_k),  y_1 ... y_N drawn from the policy

Of a reward with distribution function F a policy's mean is E[r]; best-of-N's is the mean of the
largest of N draws, whose distribution function is F^N. It moves the policy by at most
ln N - (N - 1) / N nats (arXiv 2009.01325), at N times the price of a sample. SpeechAlign
(arXiv 2404.05600) compares it with DPO. Replaces: propose (and whatever else samples), learn.

Deviation: SpeechAlign does not say its N, nor whether the reward model is fitted anew each round;
here it goes on from where the last kept round left it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from common.errors import UserError
from common.policies import Seeds, candidate_id
from common.policies.local import HFPolicy
from common.records import Candidate, Lessons, Preference, Task, identity
from common.stages import Context, Progress, Proposer

STRATEGY = "best-of-n"


class Fitted(Protocol):
    """A reward that is fitted on preferences, as :class:`common.learners.reward.RewardModel` is."""

    def fit(self, preferences: Sequence[Preference], ctx: Context) -> Mapping[str, float]:
        """Learn from ``preferences``; returns figures."""

    def score(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """The reward of each completion; only differences on one prompt mean something."""

    def fingerprint(self) -> str:
        """A hash of the weights."""

    def save(self, folder: Path) -> None:
        """Write the weights."""

    def restore(self, folder: Path) -> None:
        """Take the weights that :meth:`save` wrote."""


class BestOf:
    """``policy``, sampled ``best_of`` times a candidate; ``reward`` picks the one that stays.

    Whatever else is asked for is the policy's own: its log-probabilities, tokens and model are not
    those of the pick. Equal rewards go to the earliest draw, so a reward model that was not fitted
    yet picks what the policy alone would have said.
    """

    def __init__(self, policy: HFPolicy, reward: Fitted, best_of: int = 8) -> None:
        if best_of < 1:
            raise UserError(f"best of {best_of} samples", "give best_of of 1 or more")
        self.policy, self.reward, self.best_of = policy, reward, best_of

    def __getattr__(self, name: str) -> Any:
        if name == "policy":  # not there yet: a copy that is being made
            raise AttributeError(name)
        return getattr(self.policy, name)

    def generate(
        self,
        tasks: Sequence[Task],
        *,
        n: int,
        seeds: Seeds,
        round: int = 0,
        progress: Progress | None = None,
        **sampling: Any,
    ) -> list[Candidate]:
        """``n`` candidates a task, task by task, each the best of ``best_of`` draws of its own.

        The draws of candidate ``j`` are the policy's samples ``j * best_of`` and on, with their
        seeds. ``sampling`` is the rest of :meth:`HFPolicy.generate`. A candidate keeps the
        log-probability that the policy gave it; ``meta["reward"]`` is what it was picked for.
        """
        drawn = self.policy.generate(
            tasks, n=n * self.best_of, seeds=seeds, round=round, progress=progress, **sampling
        )
        rewards = self.rate(tasks, drawn)
        found: list[Candidate] = []
        for start in range(0, len(drawn), self.best_of):
            best = max(range(start, start + self.best_of), key=rewards.__getitem__)
            task, index = tasks[len(found) // n], len(found) % n
            found.append(
                replace(
                    drawn[best],
                    id=candidate_id(task, round, index, STRATEGY),
                    strategy=STRATEGY,
                    meta={**drawn[best].meta, "reward": rewards[best]},
                )
            )
        return found

    def rate(self, tasks: Sequence[Task], drawn: Sequence[Candidate]) -> list[float]:
        """The reward of each draw; ``best_of`` after one another are one candidate's."""
        prompts = {task.id: task.prompt for task in tasks}
        return self.reward.score([prompts[c.task] for c in drawn], [c.output for c in drawn])

    def fingerprint(self) -> str:
        """A hash of the policy's state, the reward model's, and how many are sampled."""
        return identity(self.policy.fingerprint(), self.reward.fingerprint(), self.best_of)

    def save(self, folder: Path) -> None:
        """As the policy is saved, with the reward model in ``reward``."""
        self.policy.save(folder)
        self.reward.save(folder / "reward")

    def restore(self, folder: Path) -> None:
        """Take the states that :meth:`save` wrote."""
        self.policy.restore(folder)
        self.reward.restore(folder / "reward")


@dataclass(frozen=True)
class Alone:
    """Propose what the policy inside a :class:`BestOf`, or around another, says by itself.

    What is fitted beside it learns from plain samples, as many as any other method draws.
    """

    inner: Proposer

    def propose(self, policy: Any, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        return self.inner.propose(policy.policy, tasks, ctx)


class FitReward:
    """Learn for :class:`BestOf`: fit its reward model on the preferences of a round."""

    def learn(self, policy: BestOf, lessons: Lessons, ctx: Context) -> Mapping[str, float]:
        """Nothing is done without preferences; see :meth:`Fitted.fit` for what comes back."""
        return policy.reward.fit(lessons.preferences, ctx)
