"""Weights and what lies beside them: where they come from, what they hash to, the label they need.

``smollm2`` is the small model that needs no hub: it comes inside a package as GGUF, and is
converted once.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common import registry
from common.home import cache

LABEL_FILE = "policy.json"
MOMENTS_FILE = "moments.pt"
HUB_SECONDS = 10.0
"""How long a hub may take to say whether it has a model."""


class Snapshot(NamedTuple):
    """A state in memory; without ``weights`` they are those of the policy's source."""

    weights: dict[str, Tensor] | None
    rows: int
    tokenizer: Any
    condition: str


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


def reach(name: str | Path) -> None:
    """Ask the model hub once whether ``name`` is there: a loader that gets no answer tries for the
    better part of a minute. A folder, and what the hub's cache holds, need no hub.

    Raises:
        OSError: there is no such model, or no hub that answers.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    if str(name) and Path(name).exists():  # of no name, the path is the current folder
        return
    try:
        if not isinstance(try_to_load_from_cache(str(name), "config.json"), str):
            HfApi().model_info(str(name), timeout=HUB_SECONDS)
    except HFValidationError as error:
        raise OSError("there is no such folder, and no hub name looks like it") from error
    except RepositoryNotFoundError as error:
        raise OSError("there is no such folder, and no such model on the hub") from error
    except HfHubHTTPError:
        pass  # a hub that answers; what it minds, the loader is told
    except Exception as error:  # of whatever the hub's client connects by
        raise OSError(f"there is no such folder, and no hub answers: {error}") from error


def digest(state: Mapping[str, Tensor], label: str = "") -> str:
    """A hash of the names, shapes, types and values of ``state``, and of ``label``."""
    found = hashlib.blake2b(label.encode(), digest_size=16)
    for name, tensor in sorted(state.items()):
        found.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        raw = tensor.detach().contiguous().cpu().flatten().view(torch.uint8)
        found.update(raw.numpy().data)
    return found.hexdigest()


def read(
    architecture: Any, source: str | Path, dtype: torch.dtype
) -> tuple[dict[str, Tensor], int]:
    """The weights of a folder or hub name, and how many tokens they have embeddings for."""
    # Through the library, which knows each architecture's names on disk and in memory.
    with no_bars():
        saved = architecture.from_pretrained(source, dtype=dtype)
    return saved.state_dict(), saved.config.get_text_config().vocab_size


def trainable(model: Any) -> dict[str, Tensor]:
    """The weights that learning can change: the adapter's, or else all."""
    if hasattr(model, "peft_config"):
        from peft import get_peft_model_state_dict

        return dict(get_peft_model_state_dict(model, save_embedding_layers=False))
    return dict(model.state_dict())


def copy_of(model: Any) -> dict[str, Tensor]:
    """The weights of ``model`` as they are now, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def save_moments(folder: Path, moments: Mapping[int, Any] | None) -> None:
    """Write the state of an optimiser that goes on next round, if there is one."""
    if moments:
        torch.save(dict(moments), folder / MOMENTS_FILE)


def saved_moments(folder: Path) -> dict[int, Any] | None:
    """What :func:`save_moments` wrote, on the CPU."""
    path = folder / MOMENTS_FILE
    if not path.exists():
        return None
    return dict(torch.load(path, map_location="cpu", weights_only=True))


@torch.no_grad()
def fill_rows(model: Any, first: int, end: int) -> None:
    """Give rows ``first`` to ``end`` of embeddings and output values that learning can start from.

    All are the mean of the rows before them, which hardly moves other tokens' probabilities; an
    embedding lies a standard deviation off it in each direction, up or down by a fixed pattern of
    its own. Equal embeddings would be one symbol, and small steps would hardly tell them apart.
    """
    for layer in (model.get_output_embeddings(), model.get_input_embeddings()):
        for table in layer.parameters() if layer is not None else ():  # weight, bias
            table[first:end] = table[:first].float().mean(0).to(table.dtype)
    table = model.get_input_embeddings().weight  # the output's, too, if they are tied
    spread = table[:first].float().std(0)
    for row in range(first, end):
        pattern = torch.Generator().manual_seed(row)
        signs = torch.randint(0, 2, spread.shape, generator=pattern).to(spread) * 2 - 1
        table[row] += (spread * signs).to(table.dtype)


def rounded(model: Any, dtype: torch.dtype) -> Any:
    """A copy of ``model`` whose weights are of ``dtype``; buffers, such as angles, stay.

    Processors with bfloat16 multiply it twice as fast. The weights that learn must not be rounded:
    a step is smaller than bfloat16 can tell.
    """
    held = {id(p): torch.nn.Parameter(p.detach().to(dtype), False) for p in model.parameters()}
    return copy.deepcopy(model, held).eval()


def native_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is multiplied by the processor itself, not in float32 with conversions."""
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported())
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def saved_condition(source: str | Path) -> str:
    """The label that ``HFPolicy.save`` left in a folder or hub name; empty without one."""
    from transformers.utils import cached_file

    path = cached_file(
        source,
        LABEL_FILE,
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
