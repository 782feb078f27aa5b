"""A policy by its name, with what it needs around it to speak; and speaking.

Nothing here reads more of the suite than saying a text takes: a command that says a sentence is
waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from common import registry
from common.errors import UserError
from common.policies.local import HFPolicy
from common.records import Task, identity
from speech.align import STARTERS, AlignConfig
from speech.audio import Wave
from speech.codec import load_codec
from speech.lm import stream
from speech.lm.single import FILE, SingleStream, detect
from speech.speaker import Speaker
from speech.text import phonemes
from speech.vocoder import Vocoder

if TYPE_CHECKING:
    from common.store import Run, Store


def load_policy(name: str) -> HFPolicy:
    """A starter, a run's final state, a folder or a hub name.

    Raises:
        UserError: there is no such model, or it knows neither the symbols of our stream nor
            codec tokens as :mod:`speech.lm.single` reads them.
    """
    if name in STARTERS:
        policy = HFPolicy.load(registry.get(STARTERS[name]), device="cpu")
    elif run := _run(name):
        policy = beginning(settings(run))
        states = list(kept_states(_store(), run.run).values())
        if states:
            policy.restore(states[-1])
        return policy
    else:
        policy = HFPolicy.load(name)
    if is_pair(policy):
        # The tokenizer of the moment: learning may add symbols, and a roll-back takes them.
        policy.steer = lambda prompts: stream.Monotonic(policy.tokenizer, prompts)
    elif detect(policy.tokenizer, str(policy.source)) is None:
        raise UserError(
            f"{name!r} is no codec language model: its vocabulary has neither {stream.SPEECH} "
            "(our stream) nor <|s_0|> and the symbols around it (LLaSA)",
            f"give one, describe its own symbols in {FILE} in its folder, or name a run",
        )
    return policy


def _store() -> Store:
    from common.store import Store

    return Store()


def _run(name: str) -> Run | None:
    """The run of that name, or the newest for ``last``."""
    return next((run for run in _store().runs() if name in ("last", run.run)), None)


def settings(run: Run | None) -> AlignConfig:
    """What ``run`` was started with, as far as it is known today; the defaults without one."""
    known = AlignConfig.__dataclass_fields__
    return AlignConfig(**{k: v for k, v in run.config.items() if k in known} if run else {})


def beginning(config: AlignConfig) -> HFPolicy:
    """The policy that a run of ``config`` starts from, ready to be restored to what it became."""
    from speech.strategies import wrapped

    policy = load_policy(config.policy)
    return wrapped(config, policy, lambda: speaker_of(config, policy))


def kept_states(store: Store, run: str) -> dict[str, Path]:
    """Where the state of each round that was kept lies: ``starter``, ``round 1`` and so on."""
    kept = [r for r in store.rounds(run) if r.kept]
    return {f"round {r.index}" if r.index else "starter": store.path(r.state) for r in kept}


def is_pair(policy: HFPolicy) -> bool:
    """Whether ``policy`` is the AR half of a pair, which reads and writes our stream."""
    return stream.SPEECH in policy.tokenizer.get_vocab()


def speaker_of(config: AlignConfig, policy: HFPolicy) -> Speaker:
    """What ``policy`` needs around it to speak, and the policy made ready for it.

    Raises:
        UserError: codec, NAR and policy do not fit one another, or one of them is not there.
    """
    source = Path(str(policy.source))
    speaker: Speaker
    if is_pair(policy):
        nar = registry.get("starter-nar") if config.nar == "starter" else Path(config.nar)
        vocoder = Vocoder.load(config.codec, nar.expanduser())
        if (source / "segments.json.gz").is_file():
            from speech.train import load_segments

            vocoder.placed = load_segments(source / "segments.json.gz")
        speaker = vocoder
    else:
        codec = load_codec(config.codec)
        cast(torch.nn.Module, codec).to(policy.device)
        format = detect(policy.tokenizer, source)
        assert format is not None  # load_policy has asked
        speaker = SingleStream(codec, format, policy.tokenizer, config.max_new_tokens)
    speaker.prepare(policy)
    return speaker


def speaking(name: str, codec: str | None = None) -> tuple[HFPolicy, Speaker, AlignConfig]:
    """The policy called ``name`` with its speaker; a run's are those that it was started with."""
    config = settings(None if name in STARTERS else _run(name))
    if codec:
        config = replace(config, codec=codec)
    policy = load_policy(name)
    return policy, speaker_of(config, policy), config


def text_tasks(texts: Sequence[str], speaker: Speaker | None = None) -> list[Task]:
    """A task for each text that someone wants to hear; prompts are the starter's by default.

    Raises:
        UserError: a text without a single word.
    """
    if speaker is None:
        prompts = [stream.prompt(phones) if phones else "" for phones in phonemes(texts)]
    else:
        prompts = speaker.prompts(texts)
    found = []
    for text, prompt in zip(texts, prompts, strict=True):
        if not prompt:
            raise UserError(f"there is nothing to say in {text!r}", "give words or numbers")
        found.append(Task(identity("text", text), prompt, "dev", text))
    return found


def utter(
    policy: HFPolicy,
    vocoder: Speaker,
    chosen: Sequence[Task],
    temperature: float,
    seed: int,
    max_new_tokens: int = AlignConfig().max_new_tokens,
) -> list[Wave]:
    """Each task's text said once."""
    return vocoder.waves(streams(policy, chosen, temperature, seed, max_new_tokens))


def streams(
    policy: HFPolicy,
    chosen: Sequence[Task],
    temperature: float,
    seed: int,
    max_new_tokens: int = AlignConfig().max_new_tokens,
) -> list[str]:
    """What the policy writes for each task's text, sampled once."""
    seeds = [int(identity(seed, task.id), 16) >> 17 for task in chosen]
    by_task = dict(zip((task.id for task in chosen), seeds, strict=True))
    found = policy.generate(
        chosen,
        n=1,
        seeds=lambda task, index: by_task[task.id] + index,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
    )
    return [c.output for c in found]
