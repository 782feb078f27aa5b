"""``upspiral text improve``: configuration, the run itself, its report, and resuming."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import tyro

from common.commands import Output
from common.commands.hands import Hands
from common.errors import UserError
from text.improve import RECIPES, ImproveConfig

if TYPE_CHECKING:
    from common.loop import Result
    from common.memo import Memo

COLUMNS = {
    "accuracy": "accuracy",
    "self_score": "self-score",
    "self_score_worst_5": "worst 5%",
    "independent": "independent judge",
    "valid": "valid",
    "points": "points",
    "strict": "strict",
    "pass@4": "pass@4",
    "pass@2": "pass@2",
    "pass@10": "pass@10",
    "distinct_n": "distinct-n",
    "length": "tokens",
}
"""What the table shows, under which title."""


@dataclass(frozen=True)
class Improve:
    """Improve a language model on a task: answer, check, learn, and keep a round only if dev rose.

    Rounds are resumable: after Ctrl-C or a crash, `upspiral runs resume last` continues.
    """

    recipe: str = "starter"
    """starter (meant for twenty minutes), demo (ten), tiny (seconds, to see that it runs), large
    (a model of a billion parameters and more on a GPU)."""
    method: str | None = None
    """vanilla, dive, bstar, smart, language-imbalance, meta-rewarding, pit, sharpening-sft,
    sharpening-dpo, sra-mcts, feedback-sft, feedback-dpo; or a class of yours, as my_method:Mine."""
    task: str | None = None
    """arithmetic, arithmetic-multilingual, countdown, logic, with settings as in
    arithmetic:steps=1-2,level=2; code-basics, mbpp:FILE; gsm8k, math, svamp, asdiv, mgsm from the
    hub, or from files as in gsm8k:FOLDER; jsonl:FILE with prompt and answer; counseling, or
    counseling:FILE."""
    model: str | None = None
    """smollm2, a run of text, a folder, or a hub name."""
    rounds: int | None = None
    """How many rounds; the recipe's by default."""
    seed: int = 0
    """Everything random derives from it, but the questions, which are the same for all seeds."""
    name: str | None = None
    """Name of the run; made from method, recipe, seed and time by default."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Any other setting of the recipe or the method, as in --set samples=8 --set beta=0.2."""
    judge: str | None = None
    """What lessons come from: answers (checked against references, the default), or
    answer-selection:FOLDER, a ranker of `upspiral text pretrain tune --task as2`."""
    evaluator: str | None = None
    """What measures dev and test in points, 0 to 5, where there are no reference answers (x-alpaca,
    a file of instructions): another model's folder or hub name, or served:NAME."""
    evaluator_url: str | None = None
    """Where served:NAME is, as in http://HOST:8000/v1; its key: OPENAI_API_KEY."""
    base_url: str | None = None
    """Servers of --model (vLLM, SGLang) that sample in this process's place and get the weights of
    each round, as in http://HOST:8000/v1,http://OTHER:8000/v1."""
    restart: str | None = None
    """The command that restarts such a server with other weights, if it cannot take them while it
    runs, as in 'sh restart.sh {model} {url}'."""

    hands: tyro.conf.OmitArgPrefixes[Hands] = field(default_factory=Hands)

    def run(self, out: Output) -> dict[str, Any]:
        config = self.config()
        if config.base_url and self.hands.executor != "local":
            raise UserError("servers sample already", "leave out --executor, or --base-url")
        method = config.method.replace(":", "-")
        stamp = time.strftime("%m%d-%H%M%S")
        run = self.name or f"{method}-{self.recipe}-{self.seed}-{stamp}"
        return improve(config, self.recipe, run, self.seed, out, self.hands)

    def config(self) -> ImproveConfig:
        """The recipe with what was given.

        Raises:
            UserError: no such recipe, method or setting.
        """
        from text.setup import with_settings

        config = recipe(self.recipe)
        given = {"rounds": self.rounds, "method": self.method, "task": self.task,
                 "model": self.model, "judge": self.judge, "evaluator": self.evaluator,
                 "evaluator_url": self.evaluator_url, "base_url": self.base_url,
                 "restart": self.restart}  # fmt: skip
        chosen: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        return with_settings(replace(config, **chosen), self.set)


def recipe(name: str) -> ImproveConfig:
    """The recipe called ``name``.

    Raises:
        UserError: there is none.
    """
    from common.cli import unknown

    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]()


def improve(
    config: ImproveConfig,
    recipe: str,
    run: str,
    seed: int,
    out: Output,
    hands: Hands | None = None,
) -> dict[str, Any]:
    """Run or continue ``run`` and return the JSON of the command."""
    from common import budget
    from common.commands import outcome

    result = execute(config, recipe, run, seed, out, hands=hands)
    told = outcome.facts(result)
    outcome.table(out, told, COLUMNS)
    outcome.verdict(out, result, "accuracy", "accuracy", "questions")
    outcome.verdict(out, result, "points", "points", "instructions")
    outcome.verdict(out, result, "self_score", "self-score", "feedbacks")
    spent = budget.spent(result.rounds)
    out.print(f"tokens: {spent.sampled} sampled, {spent.trained} trained")
    return {
        **told,
        "method": config.method,
        "sampled_tokens": spent.sampled,
        "trained_tokens": spent.trained,
        "report": outcome.report(out, run),
    }


def execute(
    config: ImproveConfig,
    recipe: str,
    run: str,
    seed: int,
    out: Output,
    memo: Memo | None = None,
    hands: Hands | None = None,
) -> Result:
    """Run or continue ``run``, over all processes; ``memo`` remembers what other runs did."""
    from common.budget import Budget
    from common.commands import outcome
    from text.setup import build, helper, stored

    return outcome.execute(
        lambda: build(config, memo),
        config.rounds,
        run,
        seed,
        f"text/improve:{recipe}",
        stored(config),
        out,
        help_to_learn=lambda team: helper(config, team),
        until=Budget(config.budget_tokens) if config.budget_tokens else None,
        hands=hands,
    )


def resume(run: str, out: Output) -> dict[str, Any]:
    """Continue ``run``, of improve or evolve, with the configuration that it was started with."""
    from common.store import Store
    from text.commands import evolve
    from text.setup import settings

    row = Store().run(run)
    if row.recipe.startswith("text/evolve"):
        return evolve.resume(run, out)
    return improve(settings(row), row.recipe.partition(":")[2], run, row.seed, out)
