"""A causal language model as a policy: sample, score, save, restore, fingerprint.

``HFPolicy.load("smollm2")`` is the small model that needs no hub. Any folder or hub name that
transformers can load is loaded the same way, with a LoRA adapter on top if asked for.

What it is between rounds, and how that is saved, is :class:`common.policies.state.State`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from common.errors import UserError
from common.policies import Seeds, candidate_id
from common.policies.likelihood import LogProbs, teacher_forced
from common.policies.sampling import Sampled, Steer, sample
from common.policies.state import State
from common.policies.stops import Stops, before
from common.policies.weights import no_bars, reach, rounded, saved_condition, smollm2
from common.records import Candidate, Task
from common.stages import Progress


class HFPolicy(State):
    """A transformers causal LM with its tokenizer; ``model`` is a ``PeftModel`` with an adapter.

    ``chat`` wraps prompts in the tokenizer's chat template. ``steer`` makes, for the prompt of
    each row to come, what bends the drawing (:data:`common.policies.sampling.Steer`).
    ``condition`` is the label that stands before every prompt, if any. ``source`` is where the
    weights came from: the start of a run can be read from there again; without it a copy is kept.
    With a ``sampling_dtype`` samples, and their log-probabilities, are those of a rounded copy.
    """

    sampling_dtype: torch.dtype | None = None

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        device: str | torch.device | None = None,
        adapter: Any = None,
        chat: bool = False,
        steer: Callable[[Sequence[str]], Steer] | None = None,
        batch_size: int = 64,
        condition: str = "",
        source: str | Path | None = None,
    ) -> None:
        super().__init__(
            model, tokenizer, device=device, adapter=adapter, condition=condition, source=source
        )
        self.chat = chat
        self.steer = steer
        self.batch_size = batch_size

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        lora: Any = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        chat: bool = False,
        steer: Callable[[Sequence[str]], Steer] | None = None,
        batch_size: int = 64,
    ) -> Self:
        """The model of a name or folder. ``lora`` is a ``peft.LoraConfig``, or a saved adapter.

        Raises :class:`UserError` when there is no such model here.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        source = smollm2() if str(name_or_path) == "smollm2" else name_or_path
        try:
            reach(source)
            with no_bars():
                model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
                tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot load the language model {name_or_path!s} ({str(error).splitlines()[0]})",
                "give 'smollm2', a folder written by save_pretrained, or a hub name while online",
            ) from error
        saved = lora if isinstance(lora, str | Path) else None
        policy = cls(
            model,
            tokenizer,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            adapter=None if saved else lora,
            chat=chat,
            steer=steer,
            batch_size=batch_size,
            condition=saved_condition(source),
            source=source,
        )
        if saved is not None:
            policy.restore(Path(saved))
        return policy

    # Text and tokens

    def encode_prompt(self, prompt: str) -> list[int]:
        if self.condition and prompt:
            prompt = f"{self.condition} {prompt}"
        if self.chat:
            message = [{"role": "user", "content": prompt}]
            text = self.tokenizer.apply_chat_template(
                message, add_generation_prompt=True, tokenize=False
            )
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        ids = list(self.tokenizer(prompt)["input_ids"])
        return ids[:-1] if ids and ids[-1] == self.tokenizer.eos_token_id else ids

    def encode_openings(self, prompts: Sequence[str], opening: str = "") -> list[list[int]]:
        """The tokens of each prompt and of the ``opening`` that completions go on from.

        Raises :class:`UserError` for an empty prompt.
        """
        encoded = {prompt: self.encode_prompt(prompt) for prompt in set(prompts)}
        for prompt, ids in encoded.items():
            if not ids:
                raise UserError(f"{prompt!r} is an empty prompt", "give every task a prompt")
        begun = list(self.tokenizer(opening, add_special_tokens=False)["input_ids"])
        return [encoded[prompt] + begun for prompt in prompts]

    def encode_completion(self, completion: str) -> list[int]:
        """The tokens of a completion and the end token."""
        ids = list(self.tokenizer(completion, add_special_tokens=False)["input_ids"])
        end: int = self.tokenizer.eos_token_id
        return ids if ids and ids[-1] == end else [*ids, end]

    def decode(self, ids: Sequence[int]) -> str:
        # Codec tokens may be registered as special, so special tokens are not skipped.
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    # Sampling and scoring

    def generate(
        self,
        tasks: Sequence[Task],
        *,
        n: int,
        seeds: Seeds,
        round: int = 0,
        stop: Sequence[str] = (),
        **sampling: Any,
    ) -> list[Candidate]:
        """``n`` candidates a task, task by task; ``meta["finished"]`` is false for a cut one.

        Outputs end before the first text of ``stop``. ``sampling`` is the rest of :meth:`sample`.
        """
        groups = self.sample(
            [task.prompt for task in tasks],
            n=n,
            seeds=[seeds(task, index) for task in tasks for index in range(n)],
            stop=stop,
            **sampling,
        )
        return [
            Candidate(
                id=candidate_id(task, round, index),
                task=task.id,
                round=round,
                output=before(self.decode(one.ids), stop),
                logprob=one.logprob_sum,
                tokens=one.tokens,
                language=task.language,
                meta={"finished": one.finished},
            )
            for task, group in zip(tasks, groups, strict=True)
            for index, one in enumerate(group)
        ]

    def sample(
        self,
        prompts: Sequence[str],
        *,
        n: int = 1,
        seeds: Sequence[int],
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        max_new_tokens: int = 256,
        stop: Sequence[str] = (),
        opening: str = "",
        progress: Progress | None = None,
    ) -> list[list[Sampled]]:
        """``n`` completions a prompt as tokens; ``seeds`` has a number for each, prompt by prompt.

        The very tokens that were drawn: text would not always come back as the same ones. Those
        that spelt one of ``stop`` are among them, those of an ``opening``, which completions go on
        from, are not. Raises :class:`UserError` for an empty prompt.
        """
        dtype = self.sampling_dtype
        return sample(
            rounded(self.model, dtype) if dtype else self.model,
            self.encode_openings(prompts, opening),
            n=n,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            eos=self.tokenizer.eos_token_id,
            pad=self.tokenizer.pad_token_id,
            seeds=seeds,
            batch_size=self.batch_size,
            steer=self.steer([p for p in prompts for _ in range(n)]) if self.steer else None,
            stop=Stops(stop, self.decode) if stop else None,
            progress=progress,
        )

    def logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> LogProbs:
        """Teacher-forced log-probabilities of ``completions``, at temperature 1."""
        return self.logprobs_of_ids(
            [self.encode_prompt(prompt) for prompt in prompts],
            [self.encode_completion(completion) for completion in completions],
        )

    def logprobs_of_ids(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> LogProbs:
        """As :meth:`logprobs`, for tokens."""
        pad = self.tokenizer.pad_token_id
        return teacher_forced(self.model, prompts, completions, pad, self.batch_size)
