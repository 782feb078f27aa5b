"""PIT (arXiv 2310.00898): learning to improve an answer from preferences, without saying how.

A model learns y_ref -> a better y, by reward alone:

1. *Supervised*: from (x, y_l) to y_w, for preferences y_w over y_l.
2. *Gap reward*: r(x, y, y_ref) by five comparisons (:mod:`common.learners.gap`).
3. *Reinforcement* in two stages, PPO (:mod:`common.learners.ppo`) that maximises
   gap(x, y, y_ref) - beta KL(pi || pi_SFT): first with the preferences' own answers as references,
   then with answers that the policy gives itself. The paper found that skipping either fails.

At inference y_0 answers x, and y_{k+1} improves y_k, until the gap is not above 0
(:func:`common.refine.refine_all`). Replaces **learn**, **refine** and, with a file of preferences,
**select**.

Deviations: one model both answers and improves, so it is taught y_w for x too, and only
improvements are reinforced; the paper has two. The paper's RL settings are unreported: these are
PPO's. The stop is ours, as is where the gap's zero lies. KL is per token of the sampled
distribution.

    upspiral text improve --method pit --task arithmetic
    upspiral text improve --method pit --set data=preferences.jsonl --model Qwen/Qwen2.5-1.5B
    upspiral text refine --run RUN --steps 4 "A shelf holds 12 books ..."
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.distributed import world
from common.errors import UserError
from common.learners.gap import GapModel
from common.learners.ppo import PPO
from common.learners.reward import RewardModel, RewardTraining
from common.learners.sft import SFT
from common.pairing import Fixed
from common.policies import Seeds, candidate_id
from common.policies.best_of import Alone
from common.policies.local import HFPolicy
from common.records import Candidate, Demonstration, Lessons, Preference, Task, identity
from common.refine import Critique, Refinement, refine_all
from common.stages import Context, Progress, Selector
from text.preference_files import load
from text.vanilla import RandomPairs

if TYPE_CHECKING:
    from common.loop import Loop
    from text.improve import Parts

STRATEGY = "improved"


def improve_prompt(prompt: str, answer: str) -> str:
    """What asks for a better answer than ``answer`` to ``prompt``."""
    # A few-shot prompt ends where the answer begins; a question does not.
    joint = " " if prompt.rstrip().endswith((":", "：")) else "\n\nAnswer: "
    return f"{prompt}{joint}{answer.strip()}\nA better answer:"


class Improving:
    """``policy``, whose answers are improved up to ``steps`` times while ``gap`` says it is better.

    Whatever else is asked for is the policy's own; its state is both's.
    """

    def __init__(self, policy: HFPolicy, gap: GapModel, steps: int = 2) -> None:
        if steps < 0:
            raise UserError(f"steps={steps}", "give 0 or more")
        self.policy, self.gap, self.steps = policy, gap, steps

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
        """``n`` candidates a task, each improved by itself; ``sampling`` as of the policy.

        ``meta`` has the ``draft``, how many ``steps`` improved it, and the tokens ``spent``.
        """
        numbered = [
            replace(task, id=f"{task.id}#{i}", meta={"at": i}) for task in tasks for i in range(n)
        ]
        whole = {task.id: task for task in tasks}

        def seed_of(step: int) -> Seeds:
            def seed(task: Task, _: int) -> int:
                name, index = task.id.rsplit("#", 1)
                drawn = seeds(whole[name], int(index))
                return drawn if step == 0 else int(identity("improve", drawn, step), 16) >> 17

            return seed

        def say(asked: Sequence[Task], step: int) -> list[Candidate]:
            return self.policy.generate(
                asked, n=1, seeds=seed_of(step), round=round, progress=progress, **sampling
            )

        found = self.refine(numbered, say)
        made = []
        for task, one in zip(numbered, found, strict=True):
            own = whole[task.id.rsplit("#", 1)[0]]
            meta = {
                **one.best.meta,
                "draft": one.trace[0].output,
                "steps": one.trace.index(one.best),
                "spent": sum(c.tokens for c in one.trace),
            }
            made.append(
                replace(
                    one.best, id=candidate_id(own, round, task.meta["at"], STRATEGY), task=own.id,
                    round=round, parent=None, strategy=STRATEGY, scores={}, meta=meta,
                )
            )  # fmt: skip
        return made

    def refine(
        self, tasks: Sequence[Task], say: Callable[[Sequence[Task], int], list[Candidate]]
    ) -> list[Refinement]:
        """Answer and improve. ``say`` answers tasks, given the number of the step.

        A step's ``critique`` is the sum of the gaps up to it; the first not above 0 ends it.
        """
        seen: dict[str, tuple[str, float]] = {}  # by step: its text and its score
        gaps: dict[str, float] = {}
        step = 0

        def critique(steps: Sequence[tuple[Task, Candidate]]) -> list[Critique]:
            later = [(task, c) for task, c in steps if c.parent]
            found = self.gap.gap(
                [task.prompt for task, _ in later],
                [c.output for _, c in later],
                [seen[c.parent or ""][0] for _, c in later],
            )
            gaps.update({c.id: gap for (_, c), gap in zip(later, found, strict=True)})
            said = []
            for _, c in steps:
                gap = gaps.get(c.id, 0.0)
                score = (seen[c.parent][1] if c.parent else 0.0) + gap
                seen[c.id] = (c.output, score)
                said.append(Critique(score, f"gap {gap:+.3f}"))
            return said

        def revise(bases: Sequence[tuple[Task, Candidate, Critique]]) -> list[Candidate | None]:
            nonlocal step
            step += 1
            going = [(task, c) for task, c, _ in bases if c.parent is None or gaps[c.id] > 0]
            asked = [
                replace(task, prompt=improve_prompt(task.prompt, c.output)) for task, c in going
            ]
            said = {c.task: c for c in say(asked, step)} if asked else {}
            return [said.get(task.id) for task, _, _ in bases]

        return refine_all(
            tasks,
            lambda some: say(some, 0),
            critique,
            revise,
            lambda *_: False,
            budget=self.steps + 1,
        )

    def fingerprint(self) -> str:
        """A hash of the policy's state, the gap model's and the steps: all decide what is said."""
        return identity(self.policy.fingerprint(), self.gap.fingerprint(), self.steps)

    def save(self, folder: Path) -> None:
        """As the policy is saved, with the gap model in ``gap``."""
        self.policy.save(folder)
        self.gap.save(folder / "gap")

    def restore(self, folder: Path) -> None:
        """Take the states that :meth:`save` wrote."""
        self.policy.restore(folder)
        self.gap.restore(folder / "gap")


@dataclass(frozen=True)
class Curriculum:
    """Learn: supervised, the gap reward, and two stages of PPO, from a round's preferences.

    ``rl`` is how each stage is learnt; its reward and reference are set here. ``stages`` of them
    are, 0 to 2. ``references`` is how many answers of its own the second stage improves, at most
    one a prompt.
    """

    sft: SFT
    rl: PPO
    stages: int = 2
    references: int = 256

    def learn(self, policy: Improving, lessons: Lessons, ctx: Context) -> Mapping[str, float]:
        """Nothing is done without preferences. Returns figures of each part, under ``sft_``,
        ``gap_``, ``first_`` and ``second_``."""
        pairs = lessons.preferences
        if not pairs:
            return {"pairs": 0.0, "steps": 0.0}
        figures: dict[str, float] = {}

        def stage(name: str, learner: Any, work: Callable[[], Mapping[str, float]]) -> Path:
            """Do ``work``, or take what it left if a run that was cut off had done it."""
            kept = ctx.workdir / name
            if not kept.exists():
                found = {f"{name}_{k}": v for k, v in work().items()}
                partial = kept.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                learner.save(partial)
                (partial / "figures.json").write_text(json.dumps(found))
                partial.rename(kept)
            figures.update(json.loads((kept / "figures.json").read_text()))
            # The weights that a run which goes on would read, so that both go the same way.
            learner.restore(kept)
            return kept

        base, gap = policy.policy, policy.gap
        stage("gap", gap, lambda: gap.fit(pairs, ctx))
        start = stage("sft", base, lambda: self.sft.learn(base, taught(pairs), ctx))
        drawn = 0
        if self.stages > 0:
            first = references_of(pairs)
            stage("first", base, lambda: self._reinforced(base, gap, first, start, ctx))
        if self.stages > 1:
            second, drawn = self._own(base, pairs, ctx)
            stage("second", base, lambda: self._reinforced(base, gap, second, start, ctx))
        parts = ("gap", "sft", "first", "second")
        tokens = sum(figures.get(f"{part}_tokens", 0.0) for part in parts)
        sampled = drawn + sum(figures.get(f"{part}_sampled_tokens", 0.0) for part in parts)
        counts = {"tokens": tokens, "sampled_tokens": sampled, "pairs": float(len(pairs))}
        return {**figures, **counts}

    def _reinforced(
        self,
        policy: HFPolicy,
        gap: GapModel,
        references: Mapping[str, tuple[str, str]],
        start: Path,
        ctx: Context,
    ) -> Mapping[str, float]:
        def reward(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
            x, old = zip(*(references[p] for p in prompts), strict=True)
            return gap.gap(x, completions, old)

        learner = replace(self.rl, reward=reward, reference=start)
        asked = tuple(
            Demonstration(identity("pit", prompt), "", ctx.round, prompt, "")
            for prompt in references
        )
        return learner.learn(policy, Lessons(demonstrations=asked), ctx)

    def _own(
        self, policy: HFPolicy, pairs: Sequence[Preference], ctx: Context
    ) -> tuple[dict[str, tuple[str, str]], int]:
        """By the prompt that asks to improve it a prompt and an answer of the policy's own, and the
        tokens that drawing the answers took."""
        prompts = list(dict.fromkeys(p.prompt for p in pairs))[: self.references]
        tasks = [Task(identity("pit", prompt), prompt) for prompt in prompts]
        drawn = policy.generate(
            tasks,
            n=1,
            seeds=lambda task, _: ctx.seed_for("pit", ctx.round, task.id),
            temperature=self.rl.temperature,
            max_new_tokens=self.rl.max_new_tokens,
        )
        found = {
            improve_prompt(task.prompt, c.output): (task.prompt, c.output)
            for task, c in zip(tasks, drawn, strict=True)
        }
        return found, sum(c.tokens for c in drawn)


def taught(pairs: Sequence[Preference]) -> Lessons:
    """The demonstrations of the supervised part: y_w for x, and y_w for (x, y_l)."""
    found: dict[str, Demonstration] = {}
    for p in pairs:
        for prompt in (p.prompt, improve_prompt(p.prompt, p.rejected)):
            name = identity("pit", prompt, p.chosen)
            found.setdefault(name, Demonstration(name, p.task, p.round, prompt, p.chosen))
    return Lessons(demonstrations=tuple(found.values()))


def references_of(pairs: Sequence[Preference]) -> dict[str, tuple[str, str]]:
    """By the prompt that asks to improve it: a prompt and an answer of the preferences."""
    return {
        improve_prompt(p.prompt, answer): (p.prompt, answer)
        for p in pairs
        for answer in (p.rejected, p.chosen)
    }


@dataclass(frozen=True)
class PIT:
    """Learn to improve answers from preferences: those of the file ``data``, or right over wrong.

    ``steps`` improvements at most when dev and test are answered; ``gap_rate`` and ``rl_rate`` are
    learning rates, ``iterations`` of ``rollouts`` samples are each of the ``stages`` of the
    curriculum: 1 leaves out the second, 0 both, which is the supervised part alone.
    """

    data: str = ""
    steps: int = 1
    pairs_per_task: int = 2
    gap_rate: float = 1e-4
    gap_epochs: float = 1.0
    rl_rate: float = 1e-5
    stages: int = 2
    iterations: int = 2
    rollouts: int = 32
    kl_coef: float = 0.05

    def loop(self, parts: Parts) -> Loop:
        if world() > 1:
            raise UserError(
                f"pit learns in one process, these are {world()}",
                "start it without accelerate launch",
            )
        if self.stages not in (0, 1, 2):
            raise UserError(f"stages={self.stages}", "give 0, 1 or 2")
        config, shared = parts.config, parts.shared()
        if config.base_url:
            raise UserError(
                "pit samples while it learns, from weights that no server has",
                "run it without --base-url",
            )
        training = RewardTraining(
            **{k: v for k, v in shared.items() if k not in ("lora", "learning_rate", "epochs")},
            learning_rate=self.gap_rate,
            epochs=self.gap_epochs,
        )
        gap = GapModel(RewardModel.from_policy(parts.policy, training))
        rl = PPO(
            kl_coef=self.kl_coef,
            iterations=self.iterations,
            rollouts=self.rollouts,
            batch_size=config.batch_size,
            learning_rate=self.rl_rate,
            temperature=config.temperature,
            max_new_tokens=config.max_new_tokens,
            lora=config.lora or None,
        )
        select: Selector = RandomPairs(self.pairs_per_task)
        if self.data:
            select = Fixed(Lessons(tuple(load(self.data))))
        return parts.loop(
            policy=Improving(parts.policy, gap, self.steps),
            propose=Alone(parts.propose),
            select=select,
            learn=Curriculum(parts.sft(), rl, self.stages),
        )
