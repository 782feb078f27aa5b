"""A causal language model as a policy: sample, score, save, restore, fingerprint.

``HFPolicy.load("smollm2")`` is the small model that needs no hub. Any folder or hub name that
transformers can load is loaded the same way, with a LoRA adapter on top if asked for.

A policy may speak under a label (``condition``) that stands before every prompt, as learning in
hindsight leaves it. The label belongs to the state, and so do the symbols that it needed.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError
from common.policies import Seeds, candidate_id
from common.policies.likelihood import LogProbs, teacher_forced
from common.policies.sampling import Sampled, Steer, sample
from common.policies.stops import Stops, before
from common.policies.weights import (
    LABEL_FILE,
    Snapshot,
    average_rows,
    copy_of,
    digest,
    no_bars,
    read,
    rounded,
    save_moments,
    saved_condition,
    saved_moments,
    smollm2,
    trainable,
)
from common.records import Candidate, Task
from common.stages import Progress


class HFPolicy:
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
        if tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no end token", "set tokenizer.eos_token")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        rows = model.get_input_embeddings().num_embeddings
        if len(tokenizer) > rows:
            raise UserError(
                f"the tokenizer has {len(tokenizer)} tokens and the model knows {rows}",
                "give the tokenizer that the model was trained with",
            )
        self.model = model.to(device) if device is not None else model
        self.model.eval()
        self.tokenizer = tokenizer
        self.chat = chat
        self.steer = steer
        self.batch_size = batch_size
        self.condition = condition
        self.source = source
        self.moments: dict[int, Any] | None = None  # of an optimiser that goes on next round
        # With an adapter the start is the model below it.
        kept = copy_of(self.model) if source is None and not self.has_adapter else None
        self._start = Snapshot(kept, self._rows, tokenizer, condition)
        if adapter is not None and not self.has_adapter:
            self.add_adapter(adapter)

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
    ) -> HFPolicy:
        """The model of a name or folder. ``lora`` is a ``peft.LoraConfig``, or a saved adapter.

        Raises :class:`UserError` when there is no such model here.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        source = smollm2() if str(name_or_path) == "smollm2" else name_or_path
        try:
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

    @property
    def has_adapter(self) -> bool:
        return hasattr(self.model, "peft_config")

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    def add_adapter(self, config: Any) -> None:
        """Put a fresh adapter (``peft.LoraConfig``) on the model; its output does not change yet.

        Seed torch before: the adapter's first matrix is random. Raises :class:`UserError` when
        symbols were added since the start: an adapter would be saved without their embeddings.
        """
        from peft import get_peft_model

        if self._has_grown:
            raise UserError(
                "an adapter does not save the embeddings of symbols that were added",
                "use labels that the tokenizer can spell, or learn without an adapter",
            )
        self.model = get_peft_model(self.model, config).eval()

    # Labels and symbols

    @contextmanager
    def conditioned(self, label: str) -> Iterator[None]:
        """Within the context prompts carry ``label``, or none if it is empty.

        Raises :class:`UserError` when the tokenizer cannot spell it.
        """
        if unknown := self.unknown(label.split()):
            raise UserError(
                f"the tokenizer has no symbol {unknown[0]!r}",
                "name a label that this policy has learnt",
            )
        before, self.condition = self.condition, label
        try:
            yield
        finally:
            self.condition = before

    def unknown(self, words: Iterable[str]) -> list[str]:
        """The ``words`` that the tokenizer cannot spell, each once; none if it spells in bytes."""
        blank = self.tokenizer.unk_token_id
        return [
            word
            for word in dict.fromkeys(words)
            if blank is not None
            and blank in self.tokenizer(word, add_special_tokens=False)["input_ids"]
        ]

    def add_symbols(self, symbols: Iterable[str]) -> None:
        """Give a token to each of ``symbols`` that the tokenizer cannot spell.

        Its embedding and its row of the output are the means of those there are, which hardly
        moves the other tokens' probabilities and needs no random numbers. Raises
        :class:`UserError` on an adapter, which is saved without embeddings.
        """
        new = self.unknown(symbols)
        if not new:
            return
        if self.has_adapter:
            raise UserError(
                f"the symbol {new[0]!r} needs an embedding, which an adapter does not save",
                "use labels that the tokenizer can spell, or learn without an adapter",
            )
        self.tokenizer = copy.deepcopy(self.tokenizer)  # the start keeps its own
        first = len(self.tokenizer)
        self.tokenizer.add_tokens(new)
        end = len(self.tokenizer)
        self._resize(max(end, self._rows))
        average_rows(self.model, first, end)

    @property
    def _has_grown(self) -> bool:
        return len(self.tokenizer) != len(self._start.tokenizer)

    @property
    def _rows(self) -> int:
        """Tokens that the model has embeddings for: the tokenizer's or more."""
        rows: int = self.model.config.get_text_config().vocab_size
        return rows

    def _resize(self, rows: int) -> None:
        if rows != self._rows:
            self.model.resize_token_embeddings(rows, mean_resizing=False)

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
        encoded = {prompt: self.encode_prompt(prompt) for prompt in set(prompts)}
        for prompt, ids in encoded.items():
            if not ids:
                raise UserError(f"{prompt!r} is an empty prompt", "give every task a prompt")
        begun = list(self.tokenizer(opening, add_special_tokens=False)["input_ids"])
        dtype = self.sampling_dtype
        return sample(
            rounded(self.model, dtype) if dtype else self.model,
            [encoded[prompt] + begun for prompt in prompts],
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

    # State

    def start_here(self, source: str | Path) -> None:
        """Make what the policy is now its start; ``source`` is the folder that it was read from.

        For a run that begins where another one ended. An adapter becomes part of the weights.
        """
        kept: dict[str, Tensor] | None = None
        self.source = source
        if self.has_adapter:
            self.model = self.model.merge_and_unload()
            for parameter in self.model.parameters():
                parameter.requires_grad_(True)
            self.source, kept = None, copy_of(self.model)
        self.moments = None
        self._start = Snapshot(kept, self._rows, self.tokenizer, self.condition)

    @contextmanager
    def at_start(self) -> Iterator[None]:
        """Within the context the policy is what the run started from: the fixed reference."""
        if self.has_adapter:
            with self.model.disable_adapter(), self.conditioned(self._start.condition):
                yield
            return
        now = Snapshot(copy_of(self.model), self._rows, self.tokenizer, self.condition)
        self._become(self._start)
        try:
            yield
        finally:
            self._become(now)

    def fingerprint(self) -> str:
        """A hash of the label and of the weights that can change: the adapter's, or else all."""
        return digest(trainable(self.model), self.condition)

    def save(self, folder: Path) -> None:
        """Safetensors and tokenizer, as transformers and peft load them; the adapter if any.

        The label lies beside them, in ``policy.json``.
        """
        options = {"save_embedding_layers": False} if self.has_adapter else {}
        with no_bars():
            self.model.save_pretrained(folder, **options)
            self.tokenizer.save_pretrained(folder)
        (folder / LABEL_FILE).write_text(json.dumps({"condition": self.condition}) + "\n")
        save_moments(folder, self.moments)

    def restore(self, folder: Path) -> None:
        """Take the state :meth:`save` wrote, adding or removing adapter and symbols as it needs."""
        if (folder / "adapter_config.json").exists():
            from peft import PeftModel, set_peft_model_state_dict
            from safetensors.torch import load_file

            if self.has_adapter:
                state = load_file(folder / "adapter_model.safetensors", device=str(self.device))
                set_peft_model_state_dict(self.model, state)
            else:
                if self._has_grown:
                    self._become(self._start)  # what an adapter lies on has no added symbols
                self.model = PeftModel.from_pretrained(self.model, folder, is_trainable=True)
            self.condition = saved_condition(folder)
        else:
            if self.has_adapter:
                self.model = self.model.unload()
                for parameter in self.model.parameters():
                    parameter.requires_grad_(True)
            weights, rows = read(type(self.model), folder, self.model.dtype)
            tokenizer = type(self.tokenizer).from_pretrained(folder)
            self._become(Snapshot(weights, rows, tokenizer, saved_condition(folder)))
        self.moments = saved_moments(folder)
        self.model.eval()

    def _become(self, state: Snapshot) -> None:
        weights = state.weights or read(type(self.model), str(self.source), self.model.dtype)[0]
        self._resize(state.rows)
        self.model.load_state_dict(weights)
        self.tokenizer, self.condition = state.tokenizer, state.condition
