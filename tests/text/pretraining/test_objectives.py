"""What tokens become and what is asked of them; clusters that adapt; published defects mended."""

from __future__ import annotations

import math
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from common.errors import UserError
from text.pretraining import clusters
from text.pretraining.clusters import CRTS, Counts, kmeans
from text.pretraining.objectives import IGNORED, MLM, Collator, corruption
from text.pretraining.tokens import Blocks, Vocabulary

SPECIAL = [0, 3, 7]
"""Not the first ids, so that a gap in the ordinary ones is met."""


def vocabulary(size: int = 40) -> Vocabulary:
    special = torch.zeros(size, dtype=torch.bool)
    special[SPECIAL] = True
    return Vocabulary(size, 3, 0, special, torch.nonzero(~special).flatten())


def tokens(rows: int = 400, length: int = 50, size: int = 40) -> torch.Tensor:
    ids = torch.randint(size, (rows, length), generator=torch.Generator().manual_seed(1))
    ids[:, 0] = 7
    return ids


def near(share: float, p: float, n: int) -> bool:
    return abs(share - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_mlm_has_its_shares() -> None:
    words, ids = vocabulary(), tokens()
    made = MLM(words)(ids, torch.Generator().manual_seed(0))
    ordinary = ~words.special[ids]
    asked = made.labels != IGNORED
    n, m = int(ordinary.sum()), int(asked.sum())
    assert not asked[~ordinary].any() and torch.equal(made.labels[asked], ids[asked])
    assert torch.equal(made.input_ids[~asked], ids[~asked])
    assert near(m / n, 0.15, n)
    assert near(float((made.input_ids[asked] == words.mask).float().mean()), 0.8, m)
    kept = float((made.input_ids[asked] == ids[asked]).float().mean())
    assert near(kept, 0.1 + 0.1 / len(words.ordinary), m)


def test_slm_swaps_what_it_asks_for_and_nothing_else() -> None:
    words, ids = vocabulary(), tokens()
    made = corruption("slm", words)(ids, torch.Generator().manual_seed(0))
    asked = made.labels != IGNORED
    assert torch.equal(asked, made.input_ids != ids)
    assert torch.equal(made.labels[asked], ids[asked])
    assert not words.special[made.input_ids[asked]].any()
    drawn = torch.bincount(made.input_ids[asked], minlength=words.size)[words.ordinary].double()
    expected = drawn.sum() / len(drawn)
    assert ((drawn - expected).square() / expected).sum() < len(drawn) + 4 * math.sqrt(
        2 * len(drawn)
    )


def test_rts_labels_by_comparison() -> None:
    """With three ordinary tokens a third of the draws give the original back."""
    ids = tokens(size=6)
    ids[ids == 7] = 0
    special = torch.tensor([True, False, False, True, True, False])
    words = Vocabulary(6, 3, 0, special, torch.tensor([1, 2, 5]))
    made = corruption("rts", words)(ids, torch.Generator().manual_seed(0))
    ordinary = ~special[ids]
    assert torch.equal(made.labels == 1, (made.input_ids != ids))
    assert (made.labels[~ordinary] == IGNORED).all() and (made.labels[ordinary] >= 0).all()
    n = int(ordinary.sum())
    assert near(float((made.labels == 1).sum()) / n, 0.15 * 2 / 3, n)


@pytest.mark.parametrize("name", ["mlm", "slm", "rts", "electra"])
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 4), length=st.integers(1, 9))
def test_any_batch_keeps_what_is_not_chosen(name: str, seed: int, rows: int, length: int) -> None:
    words = vocabulary()
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(40, (rows, length), generator=generator)
    before = ids.clone()
    made = corruption(name, words)(ids, torch.Generator().manual_seed(seed))
    assert torch.equal(ids, before)  # the batch itself is left alone
    again = corruption(name, words)(ids, torch.Generator().manual_seed(seed))
    assert torch.equal(made.input_ids, again.input_ids) and torch.equal(made.labels, again.labels)
    special = words.special[ids]
    assert torch.equal(made.input_ids[special], ids[special])
    assert (made.labels[special] == IGNORED).all()
    changed = made.input_ids != ids
    if name in ("mlm", "slm", "electra"):
        assert (made.labels[changed] == ids[changed]).all()


def test_the_collator_pads_and_masks() -> None:
    words = vocabulary()
    rows = [{"input_ids": [7, 5, 6]}, {"input_ids": [7, 5, 6, 8, 9]}]
    batch = Collator(corruption("rts", words), words, seed=0)(rows)
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert (batch["labels"][0, 3:] == IGNORED).all() and (batch["input_ids"][0, 3:] == 0).all()
    arrays = [{"input_ids": np.array([7, 5, 6, 8], np.int32)} for _ in range(2)]
    assert Collator(corruption("mlm", words), words)(arrays)["input_ids"].dtype == torch.int64


def test_kmeans_finds_what_is_apart_and_leaves_no_cluster_empty() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(5, 3)) * 20
    true = np.repeat(np.arange(5), 30)
    x = torch.from_numpy(centres[true] + random.normal(size=(150, 3)) * 0.1)
    own = kmeans(x, 5).numpy()
    assert all(len(set(own[true == c])) == 1 for c in range(5)) and len(set(own)) == 5
    same = kmeans(torch.zeros(6, 2), 4)
    assert sorted(set(same.tolist())) == [0, 1, 2, 3]
    with pytest.raises(UserError, match="7 clusters of 6"):
        kmeans(torch.zeros(6, 2), 7)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(6, 30))
def test_kmeans_is_at_a_fixed_point(seed: int, k: int, n: int) -> None:
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 2)))
    own = kmeans(x, k, seed, steps=500)
    assert sorted(set(own.tolist())) == list(range(k))
    means = torch.stack([x[own == c].mean(0) for c in range(k)])
    assert torch.equal(torch.cdist(x, means).argmin(1), own)


def test_embeddings_put_words_of_one_kind_together(tmp_path: Path) -> None:
    """Two kinds of words that stand in the same places, and never in each other's."""
    words, random = vocabulary(), np.random.default_rng(0)
    kinds = np.array([10, 20])[random.integers(2, size=(300, 1))]
    ids = (kinds + random.integers(8, size=(300, 20))).astype(np.int32)
    (tmp_path / "blocks.bin").write_bytes(ids.tobytes())
    (tmp_path / "blocks.json").write_text('{"blocks": 300, "length": 20}')
    found = clusters.embeddings(Blocks(tmp_path), words, width=4)
    own = kmeans(torch.from_numpy(np.concatenate([found[10:18], found[20:28]])), 2)
    assert len(set(own[:8].tolist())) == len(set(own[8:].tolist())) == 1 and own[0] != own[8]


def test_counts_that_meet_in_a_batch_all_arrive() -> None:
    counts = Counts(3)
    source, target = torch.tensor([0, 0, 0, 2]), torch.tensor([1, 1, 1, 2])
    counts.update(source, target, torch.tensor([True, True, True, False]))
    assert counts.counts_KK.tolist() == [[1, 4, 1], [1, 1, 1], [1, 1, 0]]
    chances = counts.probabilities(beta=2.0)
    e = math.exp(2)
    assert chances[0].tolist() == pytest.approx([1 / (2 + e), e / (2 + e), 1 / (2 + e)])
    assert chances[1].tolist() == pytest.approx([1 / 3] * 3)


def test_crts_draws_by_cluster() -> None:
    words, ids = vocabulary(), tokens(2000)
    own = torch.full((40,), clusters.NONE)
    own[words.ordinary] = torch.arange(len(words.ordinary)) % 4
    counts = Counts(4)
    counts.counts_KK += torch.arange(16.0).view(4, 4)
    made = CRTS.of(words, own, counts)(ids, torch.Generator().manual_seed(0))
    changed = made.labels == 1
    assert torch.equal(changed, made.input_ids != ids)
    assert not words.special[made.input_ids[changed]].any()
    n = int((~words.special[ids]).sum())
    # 15% are drawn; of those that stay in their cluster some come back as themselves.
    size = torch.bincount(own[words.ordinary])
    chances = counts.probabilities()
    share = torch.bincount(own[ids[~words.special[ids]]]) / n
    expected = 0.15 * float((share * (1 - chances.diagonal() / size)).sum())
    assert near(float(changed.sum()) / n, expected, n)
    source, target = own[ids[changed]], own[made.input_ids[changed]]
    for s in range(4):
        seen = torch.bincount(target[source == s], minlength=4).double()
        wanted = chances[s].double() * torch.where(torch.arange(4) == s, 1 - 1 / size[s], 1.0)
        wanted = wanted / wanted.sum() * seen.sum()
        assert ((seen - wanted).square() / wanted).sum() < 20  # chi-squared, 3 degrees


def test_a_lone_token_of_a_cluster_is_no_swap_of_itself() -> None:
    words = vocabulary(9)
    own = torch.full((9,), clusters.NONE)
    own[words.ordinary] = torch.arange(len(words.ordinary))
    counts = Counts(len(words.ordinary))
    counts.counts_KK += 1e9 * torch.eye(len(words.ordinary))
    ids = tokens(50, 20, 9)
    corrupt = CRTS.of(words, own, counts, beta=100.0)
    made = corrupt(ids, torch.Generator().manual_seed(0))
    assert (made.labels != 1).all()
    before = counts.counts_KK.clone()
    corrupt.learn(ids, made, torch.zeros_like(ids))
    assert torch.equal(before, counts.counts_KK)


def test_what_the_detector_finds_hard_is_drawn_more_often() -> None:
    words, ids = vocabulary(), tokens(500)
    own = torch.full((40,), clusters.NONE)
    own[words.ordinary] = torch.arange(len(words.ordinary)) % 3
    corrupt = CRTS.of(words, own)
    for step in range(20):  # a detector that never finds tokens of cluster 2
        made = corrupt(ids, torch.Generator().manual_seed(step))
        found = (made.labels == 1) & (own[made.input_ids] != 2)
        corrupt.learn(ids, made, found.long())
    target = own[made.input_ids[made.labels == 1]]
    assert float((target == 2).float().mean()) > 0.6
    assert (corrupt.counts.probabilities()[:, 2] > 0.7).all()


class _Counted(torch.utils.data.Dataset[Any]):
    """Gives the counts that the process which reads it sees."""

    def __init__(self, counts: Counts) -> None:
        self.counts = counts

    def __len__(self) -> int:
        return 6

    def __getitem__(self, number: int) -> torch.Tensor:
        return self.counts.counts_KK.clone()


def test_workers_see_the_counts_of_now() -> None:
    counts = Counts(2)
    loader = DataLoader(_Counted(counts), num_workers=1, batch_size=1, prefetch_factor=1)
    seen = []
    for batch in loader:
        seen.append(float(batch[0, 0, 1]))
        counts.update(torch.tensor([0]), torch.tensor([1]), torch.tensor([True]))
    assert seen[0] == 1 and seen[-1] > 1


def _of_two(rank: int, place: Path, told: Any) -> None:
    """One of two processes, which swap different clusters."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{place}", rank=rank, world_size=2)
    counts = Counts(2)
    counts.update(torch.tensor([rank]), torch.tensor([1 - rank]), torch.tensor([rank == 0]))
    told.put(counts.counts_KK.tolist())
    torch.distributed.destroy_process_group()


def test_counts_are_summed_over_processes(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    told = fork.Queue()
    both = [fork.Process(target=_of_two, args=(r, tmp_path / "meet", told)) for r in (0, 1)]
    for process in both:
        process.start()
    found = [told.get(timeout=60) for _ in both]
    for process in both:
        process.join(60)
    assert found == [[[1, 2], [0, 1]]] * 2


def test_cluster_files_are_the_published_format(tmp_path: Path) -> None:
    words = vocabulary()
    own = clusters.cluster(torch.randn(40, 4), words, 5)
    clusters.save(own, tmp_path / "c.txt")
    assert torch.equal(clusters.load(tmp_path / "c.txt", words), own)
    # The authors' give special tokens a cluster as well, and numbers may have gaps.
    (tmp_path / "d.txt").write_text("\n".join(str(2 * (i % 3)) for i in range(40)))
    loaded = clusters.load(tmp_path / "d.txt", words)
    assert set(loaded.tolist()) == {-1, 0, 1, 2} and (loaded[SPECIAL] == -1).all()
    for text, match in (("1\n2", "of 2 tokens"), ("one", "no clusters")):
        (tmp_path / "e.txt").write_text(text)
        with pytest.raises(UserError, match=match):
            clusters.load(tmp_path / "e.txt", words)
