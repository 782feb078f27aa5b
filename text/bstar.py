"""B-STaR (arXiv 2412.17256): self-improvement that balances exploration and exploitation.

Of query i, n_i samples are selected, n'_i of them correct and different from one another:

    bs_i = min(n'_i / n*, 1) * n'_i / n_i,     the balance score is the mean over queries

A query needs enough good samples, n*, and few others. Replaces **propose** (each round samples at
the temperature that balances best on dev) and **select** (samples whose reward is above the
threshold that balances best, at most ``cap`` a query). Learning is supervised and *online*: the
optimiser's state goes on from round to round (``common.learners.sft.SFT(online=True)``).

    reward = 1[the answer is right] + process_weight * process score, if a judge gives one

Every threshold and cap is scanned at once: of a query, what is selected is a prefix of its samples
in the order of their reward, so one sort, prefix counts and a table of thresholds by ranks hold the
whole scan. The released code counts anew for each of 200 thresholds and 64 caps.

Deviations: n* is 8 as in the released code, the paper's rule for it was not at hand. Repeated texts
count as selected and not as correct, as the paper's "unique" has it; the released code drops them
first. The released code appends the gold solution to the samples, where it counts as correct; here
no gold answer is ever a sample. The threshold and cap are chosen on dev with the temperature, not
again on the training samples. The rate stays constant, where the paper's falls over the whole run.

    upspiral text improve --method bstar --task gsm8k --model Qwen/Qwen2.5-1.5B
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import UserError
from common.monitors.exploration import reward_at_k_s
from common.monitors.pool import SOME
from common.policies import Generator, Sample
from common.pool import by_task, of_round
from common.records import Candidate, Demonstration, Lessons, Task, identity
from common.stages import Context, Judge, Proposer
from text.improve import Solve

if TYPE_CHECKING:
    from common.loop import Loop
    from text.improve import Parts

N_STAR = 8
TEMPERATURES = (0.5, 0.7, 0.9, 1.1)
"""The paper scans 0.50 to 1.20 in steps of 0.05 with 64 samples; each costs as much as a round."""
THRESHOLDS = tuple(np.round(np.arange(-1, 1, 0.01), 2).tolist())
"""The released code's grid."""


class Scan(NamedTuple):
    """``kept`` samples and the ``balance`` at every threshold and cap, (thresholds, caps).

    Column c is the cap of c + 1 samples a query.
    """

    thresholds: NDArray[np.float64]
    kept: NDArray[np.int64]
    balance: NDArray[np.float64]


class Choice(NamedTuple):
    """What balances best."""

    threshold: float
    cap: int
    balance: float
    kept: int


def scan(
    queries: ArrayLike,
    rewards: ArrayLike,
    correct: ArrayLike,
    texts: ArrayLike,
    *,
    total: int,
    thresholds: Sequence[float] = THRESHOLDS,
    caps: int = 64,
    n_star: int = N_STAR,
) -> Scan:
    """The balance score at every threshold and cap, from arrays with an entry a sample.

    ``queries`` and ``texts`` are whole numbers, equal for one query or one text; ``total`` counts
    the queries, those without a sample too. Selected are the samples with a reward above the
    threshold, the first ``cap`` of a query by reward. O(N log N + thresholds x caps).
    """
    query, reward = np.asarray(queries), np.asarray(rewards, dtype=np.float64)
    good, text = np.asarray(correct, dtype=bool), np.asarray(texts)
    order = np.lexsort((-reward, query))
    query, reward, good, text = query[order], reward[order], good[order], text[order]
    new = np.r_[True, query[1:] != query[:-1]] if len(query) else np.zeros(0, bool)
    start = np.flatnonzero(new)[np.cumsum(new) - 1]
    rank = np.arange(len(query)) - start
    # The first of a query's samples with the same text, in the order of the rewards.
    by_text = np.lexsort((np.arange(len(query)), text, query))
    again = (query[by_text][1:] == query[by_text][:-1]) & (text[by_text][1:] == text[by_text][:-1])
    first = np.ones(len(query), dtype=bool)
    first[by_text[1:][again]] = False
    counts = np.cumsum(good & first)
    unique = counts - (counts - (good & first))[start]
    score = np.minimum(unique / n_star, 1) * unique / (rank + 1)
    gain = score - np.where(rank > 0, np.r_[0.0, score[:-1]], 0.0) if len(score) else score
    # How many of the thresholds lie below each reward, by rank within the query.
    levels = np.sort(np.asarray(thresholds, dtype=np.float64))
    below = np.searchsorted(levels, reward, side="left")
    cell = below * caps + rank
    inside = rank < caps
    shape = (len(levels) + 1, caps)
    size = shape[0] * shape[1]
    held = np.bincount(cell[inside], minlength=size).reshape(shape)
    gained = np.bincount(cell[inside], gain[inside], minlength=size).reshape(shape)
    kept = held[::-1].cumsum(0)[::-1][1:].cumsum(1)
    balance = gained[::-1].cumsum(0)[::-1][1:].cumsum(1) / max(1, total)
    return Scan(levels, kept, balance)


def choose(found: Scan, keep: float) -> Choice:
    """The threshold that balances best; of equal ones the lowest.

    As in the released code the cap of a threshold is the smallest that keeps ``keep`` samples in
    all, or the largest where none does.
    """
    enough = found.kept >= keep
    cap = np.where(enough.any(1), enough.argmax(1), found.kept.shape[1] - 1)
    rows = np.arange(len(cap))
    balance = found.balance[rows, cap]
    # Rounded, or the last digit of a sum would tell equal ones apart.
    best = int(np.round(balance, 12).argmax())
    return Choice(
        float(found.thresholds[best]),
        int(cap[best]) + 1,
        float(balance[best]),
        int(found.kept[best, cap[best]]),
    )


@dataclass(frozen=True)
class Reward:
    """``key`` (1 for a right answer) plus ``weight`` times the score ``process`` if there is one.

    The paper's weight is a fifth, of the least step score of a process reward model.
    """

    key: str = "correct"
    process: str = "process"
    weight: float = 0.2

    def __call__(self, scores: Mapping[str, float]) -> float:
        return float(scores[self.key] + self.weight * scores.get(self.process, 0.0))


@dataclass(frozen=True)
class Balanced:
    """Propose: sample at the temperature whose samples of the ``dev`` tasks balance best.

    Once a round, ``sample.n`` solutions of each dev task are drawn at each temperature and judged
    by ``judges``; references stay with the judges. ``keep`` is how many samples a query a threshold
    has to keep, on average, before its cap stops rising: n* of them, or there are too few. What was
    chosen is in ``meta`` of every candidate.
    """

    dev: Sequence[Task]
    judges: Sequence[Judge]
    sample: Sample
    temperatures: Sequence[float] = TEMPERATURES
    thresholds: Sequence[float] = THRESHOLDS
    keep: float = N_STAR
    n_star: int = N_STAR
    reward: Reward = Reward()
    solve: Callable[[Sample], Proposer] = lambda sample: sample
    """What makes a proposer of a way to sample, as :class:`text.improve.Solve` does."""
    first: str = ""
    """The task whose first candidate carries the scan, and the tokens that it took."""
    chosen: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict, repr=False)
    """By seed and round; a run that goes on after a kill draws the same again."""

    def __post_init__(self) -> None:
        if not self.temperatures or not self.thresholds or min(self.temperatures) <= 0:
            raise UserError(
                "B-STaR has no temperature or no threshold to choose from",
                "give temperatures above 0 and at least one threshold",
            )

    def propose(self, policy: Generator, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        found = self.choice(policy, ctx)
        sample = replace(self.sample, temperature=found["temperature"])
        drawn = self.solve(sample).propose(policy, tasks, ctx)
        names = ("temperature", "threshold", "cap", "balance")
        meta = {name: found[name] for name in names if name in found}
        drawn = [replace(c, meta={**c.meta, **meta}) for c in drawn]
        at = next((i for i, c in enumerate(drawn) if c.task == (self.first or c.task)), None)
        if at is not None:
            once = {"scan": found["scan"], "spent": drawn[at].tokens + found["scan_tokens"]}
            drawn[at] = replace(drawn[at], meta={**drawn[at].meta, **once})
        return drawn

    def choice(self, policy: Generator, ctx: Context) -> dict[str, Any]:
        """``temperature``, ``threshold``, ``cap``, ``balance`` and the ``scan`` by temperature.

        ``scan_tokens`` counts what drawing the dev samples took.
        """
        key = (ctx.seed, ctx.round)
        if key not in self.chosen:
            self.chosen[key] = self._choose(policy, ctx)
        return self.chosen[key]

    def _choose(self, policy: Generator, ctx: Context) -> dict[str, Any]:
        if len(self.temperatures) == len(self.thresholds) == 1:  # the fixed setting: no dev needed
            return {
                "temperature": self.temperatures[0],
                "threshold": self.thresholds[0],
                "cap": self.sample.n,
                "scan": [],
                "scan_tokens": 0,
            }
        blank = [replace(task, reference=None) for task in self.dev]
        tasks = {task.id: task for task in self.dev}
        rows, tokens = [], 0
        for done, temperature in enumerate(self.temperatures):
            ctx.progress(done, len(self.temperatures), "temperatures on dev")
            sample = replace(self.sample, temperature=temperature)
            drawn = self.solve(sample).propose(policy, blank, ctx)
            tokens += sum(c.tokens for c in drawn)
            scores: list[dict[str, float]] = [{} for _ in drawn]
            for judge in self.judges:
                for row, new in zip(scores, judge.judge(tasks, drawn, ctx), strict=True):
                    row |= new
            judged = [replace(c, scores=s) for c, s in zip(drawn, scores, strict=True)]
            best = choose(self.scan(judged), self.keep * len(tasks))
            rows.append({"temperature": temperature, **best._asdict()})
        ctx.progress(len(self.temperatures), len(self.temperatures), "temperatures on dev")
        top = max(rows, key=lambda row: (round(row["balance"], 12), -row["temperature"]))
        return {
            **{k: v for k, v in top.items() if k != "kept"},
            "scan": rows,
            "scan_tokens": tokens,
        }

    def scan(self, judged: Sequence[Candidate]) -> Scan:
        """The scan of judged samples of the dev tasks."""
        return scan_of(
            judged,
            self.reward,
            len(self.dev),
            thresholds=self.thresholds,
            caps=self.sample.n,
            n_star=self.n_star,
        )


def scan_of(judged: Sequence[Candidate], reward: Reward, total: int, **options: Any) -> Scan:
    """:func:`scan` of candidates; ``options`` are its thresholds, caps and n_star."""
    judged = [c for c in judged if reward.key in c.scores]
    numbers: dict[str, int] = {}
    texts: dict[str, int] = {}
    return scan(
        [numbers.setdefault(c.task, len(numbers)) for c in judged],
        [reward(c.scores) for c in judged],
        [c.scores[reward.key] > 0.5 for c in judged],
        [texts.setdefault(c.output, len(texts)) for c in judged],
        total=total,
        **options,
    )


@dataclass(frozen=True)
class AboveThreshold:
    """Select: demonstrations of this round's samples whose reward is above the chosen threshold.

    Each text of a query once, the best ``cap`` by reward; none that was cut at the length limit.
    ``notes`` are the round's point of the trajectory: temperature, threshold, cap, balance on dev
    and on the pool, and reward@k-S.
    """

    reward: Reward = Reward()
    n_star: int = N_STAR

    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        mine = list(of_round(pool, ctx.round, lambda c: self.reward.key in c.scores))
        if not mine:
            return Lessons()
        threshold, cap = float(mine[0].meta["threshold"]), int(mine[0].meta["cap"])
        groups = dict(by_task(mine))
        chosen: list[Demonstration] = []
        for task, group in groups.items():
            ranked = sorted(group, key=lambda c: (-self.reward(c.scores), c.id))
            texts: dict[str, Candidate] = {}
            for c in ranked:
                if self.reward(c.scores) > threshold and c.meta.get("finished", True):
                    texts.setdefault(c.output, c)
            for c in list(texts.values())[:cap]:
                name = identity("bstar", ctx.round, c.id)
                chosen.append(Demonstration(name, task, ctx.round, tasks[task].prompt, c.output))
        return Lessons(demonstrations=tuple(chosen), notes=self._notes(mine, groups, len(tasks)))

    def _notes(
        self, mine: Sequence[Candidate], groups: Mapping[str, Sequence[Candidate]], total: int
    ) -> dict[str, Any]:
        first = mine[0].meta
        names = ("temperature", "threshold", "cap")
        notes: dict[str, Any] = {name: first[name] for name in names if name in first}
        if "balance" in first:
            notes["balance_dev"] = first["balance"]
        here = scan_of(mine, self.reward, total, thresholds=[first["threshold"]],
                       caps=int(first["cap"]), n_star=self.n_star)  # fmt: skip
        notes["balance"] = float(here.balance[0, -1])
        k = min(map(len, groups.values()))
        s = min(SOME, k)
        notes[f"reward@{k}-{s}"] = float(
            np.mean(
                [
                    reward_at_k_s(
                        [c.scores[self.reward.key] for c in group],
                        [self.reward(c.scores) for c in group],
                        k,
                        s,
                    )
                    for group in groups.values()
                ]
            )
        )
        notes["scan"] = next((c.meta["scan"] for c in mine if "scan" in c.meta), [])
        return notes


@dataclass(frozen=True)
class BStar:
    """Temperature and threshold by balance on dev; online supervised learning.

    One of ``temperatures`` and a ``threshold`` are the fixed setting that the paper compares with.
    ``process`` is a reward model of solutions up to a step: a folder or a hub name. ``scanned`` dev
    questions are sampled at each temperature.
    """

    temperatures: str = ",".join(f"{t:g}" for t in TEMPERATURES)
    threshold: str = "scan"
    keep: float = N_STAR
    n_star: int = N_STAR
    process: str = ""
    scanned: int = 40

    def loop(self, parts: Parts) -> Loop:
        temperatures = numbers("temperatures", self.temperatures)
        if self.scanned < 1:
            raise UserError(f"scanned={self.scanned}", "give 1 or more")
        levels = numbers("threshold", self.threshold) if self.threshold != "scan" else THRESHOLDS
        train = parts.split("train")
        judges = [parts.judge]
        if self.process:
            from common.learners.reward import RewardModel
            from text.process import ProcessReward

            judges.append(ProcessReward(RewardModel.load(self.process, parts.policy)))
        propose = Balanced(
            parts.split("dev")[: self.scanned],
            judges,
            parts.sample,
            temperatures,
            levels,
            self.keep,
            self.n_star,
            solve=Solve,
            first=train[0].id if train else "",  # where it is only measured with
        )
        select = AboveThreshold(n_star=self.n_star)
        learn = parts.sft(online=True)
        return parts.loop(propose=propose, judge=judges, select=select, learn=learn)


def numbers(name: str, text: str) -> tuple[float, ...]:
    """The numbers of a setting, ``0.5,0.9``.

    Raises :class:`UserError` when it holds something else.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{name}={text} are no numbers", "write them as 0.5,0.9") from None
