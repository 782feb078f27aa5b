"""How likely a causal language model finds what somebody else said: teacher forcing, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch

from common.errors import UserError

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
        mask_BT = torch.zeros_like(ids_BT)
        answer_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
        for row, index in enumerate(batch):
            prompt, completion = pairs[index]
            end = len(prompt) + len(completion)
            ids_BT[row, :end] = torch.tensor([*prompt, *completion])
            mask_BT[row, :end] = 1
            answer_BT[row, len(prompt) : end] = True
        ids_BT = ids_BT.to(model.device)
        logits_BTV = model(
            input_ids=ids_BT, attention_mask=mask_BT.to(model.device), use_cache=False
        ).logits[:, :-1]
        chosen_BT = logits_BTV.gather(2, ids_BT[:, 1:, None]).squeeze(2).float()
        logp_BT = chosen_BT - logits_BTV.float().logsumexp(-1)
        logp_BT = logp_BT.masked_fill(~answer_BT[:, 1:].to(model.device), 0.0)
        for index, value in zip(batch, logp_BT.double().sum(1).tolist(), strict=True):
            sums[index] = value
    model.train(training)
    return LogProbs(sums, [len(completion) for _, completion in pairs])
