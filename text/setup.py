"""Put a run of text together: the policy, the tasks with their prompts, the method's loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from common.cli import unknown
from common.distributed import Team, Together
from common.errors import UserError
from common.loop import Loop
from common.memo import Memo
from common.policies.local import HFPolicy
from common.policies.remote import RemotePolicy
from common.policies.weights import native_bfloat16
from common.records import Task
from common.settings import override
from common.stages import Judge, Measure, Proposer
from common.store import Run, Store
from text import evaluator, tasks
from text.answers import AnswerJudge
from text.improve import Accuracy, ImproveConfig, Parts, Solve, sampler
from text.methods import method, settings_of
from text.prompts import prompted

BATCH = 128
"""Completions sampled together: a shard's. Where the processor computes, more are no slower."""


def load_policy(
    name: str, chat: bool = False, sampling: str = "auto", base_url: str = "", restart: str = ""
) -> HFPolicy:
    """The policy called ``name``: a run's final state (``last`` for the newest), or a model.

    The servers at ``base_url``, if any, sample from it (:mod:`common.policies.remote`).

    Raises:
        UserError: there is no such run or model.
    """
    store = Store()
    run = next((run for run in _runs(store) if name in ("last", run.run)), None)
    if run is None:
        if base_url:
            remote = RemotePolicy.load(name, chat=chat, batch_size=BATCH)
            remote.connect(base_url, restart)
            return remote
        policy = HFPolicy.load(name, chat=chat, batch_size=BATCH)
        if sampling == "bfloat16" or (sampling == "auto" and native_bfloat16(policy.device)):
            policy.sampling_dtype = torch.bfloat16
        return policy
    config = settings(run)
    policy = load_policy(config.model, config.chat, config.sampling, base_url, restart)
    kept = [r for r in store.rounds(run.run) if r.kept]
    if kept:
        state = store.path(kept[-1].state)
        policy.restore(state)
        policy.start_here(state)  # of a run that goes on from here
    return policy


def _runs(store: Store) -> list[Run]:
    return [run for run in store.runs() if run.recipe.startswith(("text/improve", "text/lifelong"))]


def run_of(name: str) -> Run | None:
    """The run of text called ``name``, if there is one."""
    return next((run for run in _runs(Store()) if name in ("last", run.run)), None)


def settings(run: Run) -> ImproveConfig:
    """What ``run`` was started with, as far as it is known today."""
    known = ImproveConfig.__dataclass_fields__
    return ImproveConfig(**{k: v for k, v in run.config.items() if k in known})


def with_settings(config: ImproveConfig, given: Sequence[str]) -> ImproveConfig:
    """``config`` with ``name=value`` settings: the run's own, or else its method's.

    Raises:
        UserError: neither has such a setting, or a value is of another type.
    """
    own = set(ImproveConfig.__dataclass_fields__) - {"settings"}
    config = override(config, [one for one in given if one.partition("=")[0] in own])
    rest = [one for one in given if one.partition("=")[0] not in own]
    if not rest:
        return config
    before = method(config.method, config.settings)
    names = settings_of(config.method)
    for one in rest:
        if one.partition("=")[0] not in names:
            raise UserError(
                f"no setting {one!r}",
                f"write name=value; names: {', '.join([*sorted(own), *names])}",
            )
    after = override(before, rest)  # type: ignore[type-var]
    changed = {name: getattr(after, name) for name in (one.partition("=")[0] for one in rest)}
    return replace(config, settings={**config.settings, **changed})


def questions(config: ImproveConfig, seed: int = 0) -> list[Task]:
    """The tasks of a run with the prompts that its model reads.

    ``seed`` draws the tasks and is no run's: all seeds of a comparison answer the same questions.
    """
    found = tasks.load(config.task, seed, config.train, config.dev, config.test)
    return prompted(found, config.shots, config.chat)


def parts(
    config: ImproveConfig,
    memo: Memo | None = None,
    policy: HFPolicy | None = None,
    asked: Sequence[Task] | None = None,
) -> Parts:
    """The parts of a run; ``memo`` remembers what other runs proposed and measured.

    The policy is the configuration's model and ``asked`` are its tasks, unless there are others.
    """
    if config.evaluator or config.evaluator_url:
        evaluator.checked(config.evaluator, config.evaluator_url, config.model)
    asked = asked or questions(config)  # a mistyped task before a model is loaded
    judge = judge_of(config, asked)
    sample = sampler(config)
    propose: Proposer = Solve(sample)
    measured = replace(sample, n=config.measured)
    examiner = examiner_of(config)
    measure: Measure = Accuracy(Solve(measured), examiner)
    if memo:
        draws = "served" if config.base_url else config.sampling
        propose = memo.propose(propose, asdict(sample), draws)
        by = [config.evaluator, config.evaluator_url] if config.evaluator else []
        measure = memo.measure(measure, asdict(measured), draws, *by)
    policy = policy or load_policy(
        config.model, config.chat, config.sampling, config.base_url, config.restart
    )
    return Parts(config, policy, asked, propose, judge, measure, examiner)


def examiner_of(config: ImproveConfig) -> Judge:
    """What dev and test are measured by: references, or the evaluator.

    Raises:
        UserError: there is no such model.
    """
    if not (config.evaluator or config.evaluator_url):
        return AnswerJudge()
    name = config.evaluator
    if name.startswith(evaluator.SERVED):
        return evaluator.Served(name.removeprefix(evaluator.SERVED), config.evaluator_url)
    return evaluator.Likely(load_policy(name))


def judge_of(config: ImproveConfig, asked: Sequence[Task]) -> Judge:
    """The judge that lessons come from.

    Raises:
        UserError: there is no such judge, or the method needs to know what is right.
    """
    bare = evaluator.unanswered(asked)
    if bare and not config.evaluator:
        raise UserError(
            f"{config.task} has tasks without a reference answer",
            "give --evaluator MODEL, another model that gives points to answers",
        )
    kind, _, where = config.judge.partition(":")
    if config.judge == "answers":
        return evaluator.lessons_judge(config.method, config.settings) if bare else AnswerJudge()
    if kind != "answer-selection" or not where:
        raise unknown("judge", config.judge, ("answers", "answer-selection:FOLDER"))
    if config.method != "vanilla":
        raise UserError(
            f"{config.method} learns from right and wrong, which {kind} does not tell",
            "use --method vanilla, or --judge answers",
        )
    from text.pretraining.ranker import AnswerSelection, Ranker

    return AnswerSelection(Ranker.load(Path(where).expanduser()))


def build(
    config: ImproveConfig,
    memo: Memo | None = None,
    policy: HFPolicy | None = None,
    asked: Sequence[Task] | None = None,
) -> Loop:
    """The loop of ``config``, ready to run; all else as of :func:`parts`."""
    chosen = method(config.method, config.settings)  # a mistyped setting before a model is loaded
    return chosen.loop(parts(config, memo, policy, asked))


def helper(config: ImproveConfig, team: Team) -> None:
    """What every process but the main one does: help to learn until the run has ended."""
    loop = build(config)
    Together(loop.learn, team).serve(loop.policy)


def stored(config: ImproveConfig) -> Mapping[str, Any]:
    """``config`` as it is kept with a run; a run is named by it.

    The usual judge, and servers and evaluators where there are none, are left out, so that runs
    keep the names they had before there were any.
    """
    found = {**asdict(config), "settings": dict(config.settings)}
    usual = {"judge": "answers", "base_url": "", "restart": "", "evaluator": "",
             "evaluator_url": ""}  # fmt: skip
    return {name: value for name, value in found.items() if usual.get(name) != value}
