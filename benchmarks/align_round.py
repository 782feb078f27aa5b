"""A round of SpeechAlign: ours, against the same glued from generate, TRL and the judges' packages.

    python benchmarks/align_round.py                         # 10 texts × 4 samples
    python benchmarks/align_round.py --texts 2 --samples 2 --turns 1

Both sides say the same texts equally often, held to the text by the same steering, make the sounds,
score them (recogniser, speaker, quality), take recorded over sampled streams as pairs, and learn
from them for the same steps. The glue samples by ``generate`` in batches of 32 rows of like length,
decodes clip by clip, scores file by file (``scoring.py``) and learns with TRL's DPOTrainer
(``dpo.py``). The policy is the starter without attention dropout, as in ``dpo.py``.

The outcome is the same in distribution, not in bits: checked are the mean word error rates of what
was sampled (within three standard errors) and the losses after learning (within ``TOLERANCE``).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from claim import in_turns, of, ratios, tell, threads
from dpo import loss_over, policy
from dpo import ours as learn
from dpo import theirs as learn_by_trl
from scoring import libraries
from torch import Tensor
from transformers import LogitsProcessor

from common.artifacts import Files
from common.pairing import golden_over_sampled
from common.policies import Sample
from common.policies.local import HFPolicy
from common.progress import silent
from common.records import Candidate, Preference, Task
from common.stages import Context
from common.tracking import Nothing
from speech import audio, corpora
from speech.align import AlignConfig, Speak
from speech.judges import Quality, Recogniser, SpeakerSimilarity
from speech.setup import voice_of
from speech.speaker import Speaker
from speech.speaking import speaker_of

ROWS, TEMPERATURE, LONGEST = 32, 0.7, 400
TOLERANCE = 0.1
"""Nats, as in ``dpo.py``; here the sampled streams are others, too."""


class Outcome(NamedTuple):
    """Word error rates of the samples, the pairs, and the policy that learnt from them."""

    rates: list[float]
    pairs: list[Preference]
    learnt: HFPolicy


class Steered(LogitsProcessor):  # type: ignore[misc]
    """The policy's steering for generate, which goes on drawing for rows that have ended."""

    def __init__(self, made: HFPolicy, prompts: Sequence[str], width: int) -> None:
        assert made.steer is not None
        self.steer, self.width, self.end = made.steer(prompts), width, made.tokenizer.eos_token_id

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        so_far = input_ids[:, self.width :]
        live = (~(so_far == self.end).any(1)).nonzero().squeeze(1)
        steered = scores.clone()
        steered[live] = self.steer(live.tolist(), so_far[live], scores[live])
        return steered


def generated(made: HFPolicy, tasks: Sequence[Task], n: int) -> list[Candidate]:
    """``n`` samples a task by generate."""
    found = []
    order = sorted(tasks, key=lambda task: len(task.prompt))
    for start in range(0, len(order), ROWS // n):
        batch = [task for task in order[start : start + ROWS // n] for _ in range(n)]
        made.tokenizer.padding_side = "left"
        prompts = [made.encode_prompt(task.prompt) for task in batch]
        inputs = made.tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
        width = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            rows = made.model.generate(
                **inputs, do_sample=True, temperature=TEMPERATURE, top_k=0, max_new_tokens=LONGEST,
                pad_token_id=made.tokenizer.pad_token_id, eos_token_id=made.tokenizer.eos_token_id,
                logits_processor=[Steered(made, [task.prompt for task in batch], width)],
            )[:, width:].tolist()  # fmt: skip
        for i, (task, row) in enumerate(zip(batch, rows, strict=True)):
            end = made.tokenizer.eos_token_id
            ids = row[: row.index(end)] if end in row else row
            found.append(Candidate(f"{task.id}-{i % n}", task.id, 1, made.decode(ids)))
    return found


class Round:
    """What both sides have in common: texts, their recordings' streams, and the voice."""

    def __init__(self, texts: int, samples: int, cores: int) -> None:
        self.samples, self.cores = samples, cores
        made = policy()
        self.speaker: Speaker = speaker_of(AlignConfig(), made)
        self.tasks: dict[str, Task] = {}
        self.golden: dict[str, str] = {}
        corpus = corpora.load("prompts")
        for one in corpus.split("train"):
            stream = self.speaker.golden(one) if 3 <= len(one.text.split()) <= 14 else None
            if stream and len(self.tasks) < texts:
                prompt = self.speaker.prompts([one.text])[0]
                self.tasks[one.id] = Task(one.id, prompt, reference=one.text)
                self.golden[one.id] = stream
        self.similarity = SpeakerSimilarity(voice_of(corpus))
        self.judges = [Recogniser(cpu_threads=cores), self.similarity, Quality(cores)]
        self.one_by_one = libraries(self.similarity.voice, cores)

    def pairs(self, candidates: Sequence[Candidate]) -> list[Preference]:
        """Recorded over sampled."""
        return golden_over_sampled(
            self.tasks, self.golden, candidates, pairs_per_task=self.samples, seed=0, round=1
        )

    def ours(self, turn: int) -> Outcome:
        """As the engine's stages do it."""
        made = policy()
        with tempfile.TemporaryDirectory() as name:
            ctx = Context(turn, 1, Files(Path(name)), Nothing(), silent, Path(name))
            sample = Sample(n=self.samples, temperature=TEMPERATURE, max_new_tokens=LONGEST)
            found = Speak(self.speaker, sample).propose(made, list(self.tasks.values()), ctx)
            rows: list[dict[str, float]] = [{} for _ in found]
            for judge in self.judges:
                for row, new in zip(rows, judge.judge(self.tasks, found, ctx), strict=True):
                    row.update(new)
        pairs = self.pairs(found)
        learn(made, pairs)
        return Outcome([row["wer"] for row in rows], pairs, made)

    def glued(self, turn: int) -> Outcome:
        """As the libraries do it."""
        torch.manual_seed(turn)
        made = policy()
        found = generated(made, list(self.tasks.values()), self.samples)
        with tempfile.TemporaryDirectory() as name:
            paths = []
            for i, one in enumerate(found):
                paths.append(Path(name) / f"{i}.wav")
                [wave] = self.speaker.waves([one.output])
                audio.write(paths[-1], wave, self.speaker.codec.sample_rate)
            texts = [str(self.tasks[one.task].reference) for one in found]
            scores = self.one_by_one(paths, texts)
        pairs = self.pairs(found)
        learn_by_trl(made, pairs)
        return Outcome(scores["wer"], pairs, made)


def check(one: Sequence[Outcome], two: Sequence[Outcome]) -> None:
    """Stop unless both sides come to the same."""
    rates = [np.concatenate([o.rates for o in side]) for side in (one, two)]
    losses = [float(np.mean([loss_over(o.learnt, o.pairs) for o in s])) for s in (one, two)]
    apart = float(rates[0].mean() - rates[1].mean())
    error = float(np.sqrt(sum(r.var(ddof=1) / len(r) for r in rates)))
    print(f"word error rate {rates[0].mean():.3f} and {rates[1].mean():.3f} ({apart:+.3f} ± "
          f"{error:.3f}), loss {losses[0]:.3f} and {losses[1]:.3f}")  # fmt: skip
    if abs(apart) > 3 * error + 1e-9 or abs(losses[0] - losses[1]) > TOLERANCE:
        raise SystemExit("other outcomes")


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--texts", type=int, default=10)
    flags.add_argument("--samples", type=int, default=4)
    flags.add_argument("--turns", type=int, default=2)
    chosen = flags.parse_args()
    torch.set_num_threads(threads())
    round = Round(chosen.texts, chosen.samples, threads())
    outcomes: dict[str, list[Any]] = {"ours": [], "glued": []}
    times = in_turns(
        {
            "ours": lambda: outcomes["ours"].append(round.ours(len(outcomes["ours"]))),
            "glued": lambda: outcomes["glued"].append(round.glued(len(outcomes["glued"]))),
        },
        chosen.turns + 1,  # the first loads what is loaded once
    )
    check(outcomes["ours"], outcomes["glued"])
    about = f"a SpeechAlign round of {chosen.texts} texts × {chosen.samples} samples"
    found = ratios(times["glued"][1:], times["ours"][1:])
    tell(of(about, found, "generate, TRL and the libraries file by file", aim=2.0))


if __name__ == "__main__":
    main()
