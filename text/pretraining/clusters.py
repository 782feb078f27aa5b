"""C-RTS: clusters of tokens, and which cluster's tokens a detector takes for genuine.

Di Liello et al., arXiv 2210.13536. With counts C (K, K) that start at 1, a token of cluster s is
replaced by one of cluster t, drawn from

    softmax over t of beta * (C[s, t] - min C[s]) / (max C[s] - min C[s]),   beta = 2,

and uniformly within t. After the step, for each token that changed, C[s, t] grows by 1 where the
detector erred and shrinks by 1 where it did not: a generator that adapts and has no parameters.

No script that builds the clusters was published. Ours: k-means (Lloyd, k-means++ starts) over token
embeddings, those of an existing encoder, or of a corpus: positive pointwise mutual information with
its most frequent tokens in a window, reduced by SVD (Levy and Goldberg, NIPS 2014).

Three defects of the originals that are not here: counts of equal (s, t) in a batch all arrive
(theirs collapse); a token that was drawn for itself is no swap; the counts lie in shared memory, so
that workers that corrupt see those of now, and are summed over processes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.errors import UserError
from text.pretraining.objectives import Corrupted, P, chosen, swapped
from text.pretraining.tokens import Blocks, Vocabulary

BETA = 2.0
NONE = -1
"""The cluster of special tokens."""


def kmeans(x_ND: Tensor, k: int, seed: int = 0, steps: int = 50) -> Tensor:
    """The cluster of each row, ``(N,)`` in 0 … k-1; no cluster is empty.

    Lloyd's iterations from k-means++ starts (Arthur and Vassilvitskii, 2007) until nothing moves.
    A cluster that lost all its rows begins anew at the row that is worst off.

    Raises:
        UserError: there are fewer rows than clusters.
    """
    n = len(x_ND)
    if not 1 <= k <= n:
        raise UserError(f"{k} clusters of {n} tokens", "ask for fewer clusters")
    x_ND = x_ND.double()
    generator = torch.Generator().manual_seed(seed)
    first = int(torch.randint(n, (1,), generator=generator))
    centres = [x_ND[first]]
    nearest_N = (x_ND - centres[0]).square().sum(1)
    for _ in range(1, k):
        weight_N = nearest_N if nearest_N.sum() > 0 else torch.ones_like(nearest_N)
        pick = int(torch.multinomial(weight_N, 1, generator=generator))
        centres.append(x_ND[pick])
        nearest_N = torch.minimum(nearest_N, (x_ND - centres[-1]).square().sum(1))
    centres_KD = torch.stack(centres)
    own_N = torch.full((n,), NONE)
    for _ in range(steps):
        distance_NK = torch.cdist(x_ND, centres_KD)
        before_N, (best_N, own_N) = own_N, distance_NK.min(1)
        for empty in torch.nonzero(torch.bincount(own_N, minlength=k) == 0).flatten().tolist():
            # Of a cluster that has others, so that filling one empties none.
            lone_N = torch.bincount(own_N, minlength=k)[own_N] == 1
            worst = int(best_N.masked_fill(lone_N, -1).argmax())
            own_N[worst], best_N[worst] = empty, 0.0
        if torch.equal(own_N, before_N):
            break
        size_K = torch.bincount(own_N, minlength=k)
        centres_KD = torch.zeros_like(centres_KD).index_add_(0, own_N, x_ND) / size_K[:, None]
    return own_N


def embeddings(
    blocks: Blocks, words: Vocabulary, width: int = 64, window: int = 4, contexts: int = 512,
    most: int = 20_000, seed: int = 0,
) -> NDArray[np.float32]:  # fmt: skip
    """Embeddings ``(V, width)`` of length one from what stands near each token; zeros of unseen."""
    ids_NT = np.asarray(blocks.ids_NT[:most], np.int64)
    special_V = words.special.numpy()
    seen_V = np.bincount(ids_NT.ravel(), minlength=words.size) * ~special_V
    frequent = np.argsort(-seen_V, kind="stable")[:contexts]
    column_V = np.full(words.size, len(frequent))  # the last column is for all other tokens
    column_V[frequent] = np.arange(len(frequent))
    counts = np.zeros(words.size * (len(frequent) + 1))
    for away in range(1, window + 1):
        for near, far in (
            (ids_NT[:, :-away], ids_NT[:, away:]),
            (ids_NT[:, away:], ids_NT[:, :-away]),
        ):
            cell = near.ravel() * (len(frequent) + 1) + column_V[far.ravel()]
            counts += np.bincount(cell, minlength=len(counts))
    counts_VC = counts.reshape(words.size, -1)[:, :-1]
    counts_VC[special_V] = 0
    total = counts_VC.sum()
    expected_VC = np.outer(counts_VC.sum(1), counts_VC.sum(0)) / max(total, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ppmi_VC = np.where(counts_VC > 0, np.maximum(np.log(counts_VC / expected_VC), 0), 0)
    torch.manual_seed(seed)
    width = min(width, *ppmi_VC.shape)
    u_VW, s_W, _ = torch.svd_lowrank(torch.from_numpy(ppmi_VC).float(), width, niter=4)
    found: NDArray[np.float32] = nn.functional.normalize(u_VW * s_W.sqrt(), dim=1).numpy()
    return found


def cluster(vectors_VD: Tensor, words: Vocabulary, k: int, seed: int = 0) -> Tensor:
    """The cluster of each token ``(V,)``, :data:`NONE` of special ones."""
    own_V = torch.full((words.size,), NONE)
    own_V[words.ordinary] = kmeans(vectors_VD[words.ordinary], k, seed)
    return own_V


def save(own_V: Tensor, path: Path) -> None:
    """A line a token with the number of its cluster, the published format; special tokens -1."""
    path.write_text("".join(f"{c}\n" for c in own_V.tolist()), encoding="utf-8")


def load(path: Path, words: Vocabulary) -> Tensor:
    """The clusters in a file that :func:`save` or the authors wrote.

    Raises:
        UserError: it cannot be read, or is of another vocabulary.
    """
    try:
        own = [int(line) for line in path.read_text(encoding="utf-8").split()]
    except (OSError, ValueError) as error:
        raise UserError(
            f"no clusters in {str(path)!r} ({str(error).splitlines()[0]})",
            "give a file with a line a token and a number in it",
        ) from error
    if len(own) != words.size:
        raise UserError(
            f"{str(path)!r} has clusters of {len(own)} tokens, the tokenizer has {words.size}",
            "give the clusters of this tokenizer",
        )
    own_V = torch.tensor(own).masked_fill(words.special, NONE)
    # Numbered without gaps, whatever the file's numbers are.
    _, renamed_N = torch.unique(own_V[words.ordinary], return_inverse=True)
    own_V[words.ordinary] = renamed_N
    return own_V


class Counts(nn.Module):
    """How much harder or easier than even each cluster's tokens were in place of another's.

    A module, so that the counts are saved, moved and continued with the model that they are of.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.counts_KK: Tensor
        self.register_buffer("counts_KK", torch.ones(k, k))
        self.counts_KK.share_memory_()

    def probabilities(self, beta: float = BETA) -> Tensor:
        """Of each target cluster, by source: ``(K, K)``, rows sum to 1."""
        counts_KK = self.counts_KK
        low_K1, high_K1 = counts_KK.amin(1, True), counts_KK.amax(1, True)
        scaled_KK = (counts_KK - low_K1) / (high_K1 - low_K1).clamp(min=1e-9)
        return torch.softmax(beta * scaled_KK, 1)

    @torch.no_grad()
    def update(self, source_N: Tensor, target_N: Tensor, erred_N: Tensor) -> None:
        """Take in what the detector made of swaps, those of all processes."""
        k = len(self.counts_KK)
        change = torch.zeros(k * k, device=self.counts_KK.device)
        change.index_add_(0, source_N * k + target_N, torch.where(erred_N, 1.0, -1.0))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(change)
        self.counts_KK += change.view(k, k)


@dataclass(frozen=True)
class CRTS:
    """Cluster-based random token substitution."""

    words: Vocabulary
    own: Tensor
    """The cluster of each token ``(V,)``."""
    counts: Counts
    p: float = P
    beta: float = BETA

    @classmethod
    def of(cls, words: Vocabulary, own_V: Tensor, counts: Counts | None = None, **kw: Any) -> CRTS:
        return cls(words, own_V, counts or Counts(int(own_V.max()) + 1), **kw)

    def __call__(self, ids_BT: Tensor, generator: torch.Generator | None = None) -> Corrupted:
        at_BT = chosen(ids_BT, self.words, generator, self.p)
        source_N = self.own[ids_BT[at_BT]]
        if not len(source_N):
            return Corrupted(ids_BT, swapped(ids_BT, ids_BT, self.words))
        chances_KK = self.counts.probabilities(self.beta)
        # By inversion: each row's running sum, and where in it a uniform draw falls.
        edges_KK = chances_KK.cumsum(1)
        draw_N1 = torch.rand((len(source_N), 1), generator=generator, device=ids_BT.device)
        target_N = torch.searchsorted(edges_KK[source_N], draw_N1).squeeze(1)
        target_N = target_N.clamp(max=len(chances_KK) - 1)
        members, start_K, size_K = self._members
        draw_N = torch.rand(len(source_N), generator=generator, device=ids_BT.device)
        inside_N = (draw_N * size_K[target_N]).long().clamp(max=size_K[target_N] - 1)
        input_BT = ids_BT.masked_scatter(at_BT, members[start_K[target_N] + inside_N])
        return Corrupted(input_BT, swapped(input_BT, ids_BT, self.words))

    @functools.cached_property
    def _members(self) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens in the order of their clusters, where each cluster starts, how large it is."""
        order = torch.argsort(self.own, stable=True)
        members = order[int((self.own == NONE).sum()) :]
        size_K = torch.bincount(self.own[members])
        return members, size_K.cumsum(0) - size_K, size_K

    def learn(self, ids_BT: Tensor, corrupted: Corrupted, said_BT: Tensor) -> None:
        """Take in what the detector said (1 swapped, 0 not) of a corrupted batch."""
        at_BT = corrupted.labels == 1
        self.counts.update(
            self.own[ids_BT[at_BT]], self.own[corrupted.input_ids[at_BT]],
            said_BT[at_BT] != 1,
        )  # fmt: skip
