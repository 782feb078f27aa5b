"""How likely a causal language model finds what somebody else said: teacher forcing, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, takewhile
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import UserError
from common.policies.packing import bare, next_logits, packable, response_logits
from common.stages import Progress

_LOGITS_AT_ONCE = 2**27  # 0.5 GB of float32: bounds a batch


class LogProbs(NamedTuple):
    """Of each completion, its end token included: summed log-probability (nats), token count."""

    sums: list[float]
    counts: list[int]


@torch.inference_mode()
def teacher_forced(
    model: Any,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    pad: int,
    batch_size: int = 64,
) -> LogProbs:
    """Log-probabilities of ``completions`` after ``prompts``, all of them tokens, at temperature 1.

    Batches of at most ``batch_size`` hold sequences of similar length, filled up with ``pad``.

    Raises :class:`UserError` for a token that the model lacks, such as a label at its start.
    """
    pairs = list(zip(prompts, completions, strict=True))
    order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]) - len(pairs[i][1]))
    sums = [0.0] * len(pairs)
    vocabulary: int = model.config.get_text_config().vocab_size
    if max((max(p, default=0) for p in chain(prompts, completions)), default=0) >= vocabulary:
        raise UserError(
            "the tokens hold a symbol that the model does not have yet",
            "where the start is the reference, take the policy of the round before",
        )
    training = model.training
    model.eval()
    start = 0
    while start < len(order):
        longest = sum(map(len, pairs[order[start]]))
        rows = max(1, min(batch_size, _LOGITS_AT_ONCE // (longest * vocabulary)))
        batch = order[start : start + rows]
        start += rows
        ids_BT = torch.full((len(batch), longest), pad)
        mask_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
        answer_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
        for row, index in enumerate(batch):
            prompt, completion = pairs[index]
            end = len(prompt) + len(completion)
            ids_BT[row, :end] = torch.tensor([*prompt, *completion])
            mask_BT[row, :end] = True
            answer_BT[row, len(prompt) : end] = True
        ids_BT, asked_BT = ids_BT.to(model.device), answer_BT[:, 1:].to(model.device)
        logits_KV = response_logits(model, ids_BT, mask_BT.to(model.device), asked_BT).float()
        chosen_K = logits_KV.gather(1, ids_BT[:, 1:][asked_BT][:, None]).squeeze(1)
        logp_K = chosen_K - logits_KV.logsumexp(-1)
        logp_BT = logp_K.new_zeros(asked_BT.shape).masked_scatter(asked_BT, logp_K)
        for index, value in zip(batch, logp_BT.double().sum(1).tolist(), strict=True):
            sums[index] = value
    model.train(training)
    return LogProbs(sums, [len(completion) for _, completion in pairs])


def branches(tokenizer: Any, texts: Sequence[str]) -> tuple[list[int], list[int]]:
    """The tokens that all of ``texts`` begin with, and the one by which each goes another way.

    Many tokenizers write " 1" and " 2" as a space and a digit, so first tokens alone tell nothing.

    Raises:
        UserError: two of the texts do not differ in that token.
    """
    spelt = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    shared = sum(1 for _ in takewhile(lambda t: len(set(t)) == 1, zip(*spelt, strict=False)))
    firsts = [ids[shared] for ids in spelt if len(ids) > shared]
    if len(set(firsts)) < len(texts):
        raise UserError(
            f"the tokenizer does not tell {', '.join(map(repr, texts))} apart by one token",
            "take a model that does",
        )
    return spelt[0][:shared], firsts


@torch.inference_mode()
def next_tokens(
    model: Any,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[int],
    pad: int,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Log-probabilities (nats) that each of ``tokens`` comes right after each of ``prompts``.

    ``(prompts, tokens)``, from one reading of each different prompt.
    """
    # What neighbours in a packed row begin with in common is read once; a rectangle has the longest
    # first, so that memory runs out at once or not at all.
    unique = sorted({tuple(prompt) for prompt in prompts})
    if not packable(bare(model)):
        unique.sort(key=len, reverse=True)
    found: dict[tuple[int, ...], Any] = {}
    training = model.training
    model.eval()
    for start in range(0, len(unique), batch_size):
        batch = unique[start : start + batch_size]
        logits_BV = next_logits(model, batch, pad)
        logp_BV = logits_BV.float().log_softmax(-1)[:, list(tokens)]
        found.update(zip(batch, logp_BV.double().cpu().numpy(), strict=True))
        if progress is not None:
            progress(min(start + batch_size, len(unique)), len(unique), "prompts read")
    model.train(training)
    return np.array([found[tuple(prompt)] for prompt in prompts]).reshape(-1, len(tokens))
