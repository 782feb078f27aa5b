"""Codebooks of the encodec package with two mistakes mended, without which they collapse.

In encodec 0.1.1 (``quantization/core_vq.py``) an entry is ``embed_avg / cluster_size``, a running
sum over a running count. Seeding by k-means fills the sum with the *mean*, so the first step
divides every entry by its count; and replacing a dead entry writes ``embed`` alone, which the same
step overwrites from the old sum and count, so dead entries stay dead. Here sum and count are set
with the entry. Names of buffers are the same: checkpoints of both load into each other.
"""

from __future__ import annotations

from typing import Any

import torch
from encodec.quantization.core_vq import EuclideanCodebook, ResidualVectorQuantization
from torch import Tensor


class Codebook(EuclideanCodebook):
    """Entries ``(size, D)`` that follow the running mean of the latents nearest to them."""

    embed: Tensor
    embed_avg: Tensor
    cluster_size: Tensor
    inited: Tensor

    def init_embed_(self, data: Tensor) -> None:
        """Seed by k-means over ``data (N, D)``, once; an entry that nothing chose counts as one."""
        if self.inited:
            return
        super().init_embed_(data)
        self.cluster_size.clamp_(min=1)
        self.embed_avg.copy_(self.embed * self.cluster_size[:, None])

    def replace_(self, samples: Tensor, mask: Tensor) -> None:
        """Move the entries of ``mask (size,)`` onto some of ``samples (N, D)``.

        They start with the mean use of all, which leaves them time to be chosen.
        """
        super().replace_(samples, mask)  # type: ignore[no-untyped-call]
        self.cluster_size.masked_fill_(mask, self.cluster_size.mean().item())
        fresh = self.embed * self.cluster_size[:, None]
        self.embed_avg.copy_(torch.where(mask[:, None], fresh, self.embed_avg))


def mend(quantizer: ResidualVectorQuantization, kmeans_iters: int = 20) -> None:
    """Give every layer of ``quantizer`` a :class:`Codebook` of the same sizes, not yet seeded."""
    layers: Any = quantizer.layers
    for layer in layers:
        old = layer._codebook
        layer._codebook = Codebook(
            dim=old.embed.shape[1],
            codebook_size=old.codebook_size,
            kmeans_init=True,
            kmeans_iters=kmeans_iters,
            decay=old.decay,
            epsilon=old.epsilon,
            threshold_ema_dead_code=old.threshold_ema_dead_code,
        )
