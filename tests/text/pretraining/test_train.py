"""Pre-training end to end on a made-up corpus, killed and continued; what heads are spared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, BertConfig, BertForMaskedLM

from common.errors import UserError
from tests.text.pretraining.texts import folder
from text.pretraining import models
from text.pretraining.learn import DetectionObjective, ElectraObjective, VocabularyObjective
from text.pretraining.models import Selected
from text.pretraining.objectives import IGNORED
from text.pretraining.recipes import NAMES, RECIPES, PretrainConfig
from text.pretraining.tokens import Vocabulary, train_tokenizer
from text.pretraining.train import pretrain

SMALL = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2,
         "intermediate_size": 64}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pretraining")


@pytest.fixture(autouse=True)
def _small(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSPIRAL_HOME", str(place / "home"))
    monkeypatch.setitem(models.SIZES, "tiny", SMALL)


def config(place: Path, **changes: object) -> PretrainConfig:
    texts = place / "texts"
    if not texts.exists():
        folder(texts)
    base = PretrainConfig(corpus=f"folder:{texts}", vocabulary=200, length=32, steps=6, batch=8,
                          rate=3e-3, clusters=8, segment=12, checkpoint_every=2)  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


def weights(where: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(str(where / "model.safetensors")))


class StoppedError(Exception):
    pass


def stopping(at: int):  # type: ignore[no-untyped-def]
    def progress(done: int, total: int, what: str) -> None:
        if what.endswith("steps") and done == at:
            raise StoppedError

    return progress


def quiet(done: int, total: int, what: str) -> None:
    """Progress that nobody looks at."""


@pytest.mark.parametrize("name", ["c-rts", "electra", "mspp"])
def test_killed_and_continued_ends_the_same(place: Path, name: str) -> None:
    whole, parted = place / f"{name}-whole", place / f"{name}-parted"
    settings = config(place, objective=name)
    first = pretrain(settings, whole, quiet)
    with pytest.raises(StoppedError):
        pretrain(settings, parted, stopping(5))
    second = pretrain(settings, parted, quiet)
    a, b = weights(whole), weights(parted)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert second.dev == first.dev and second.curve == first.curve
    assert not (parted / "work").exists()
    with pytest.raises(UserError, match="steps=6"):
        pretrain(replace(settings, steps=7), parted, quiet)
    assert pretrain(settings, parted, stopping(0)).curve == first.curve  # told again, not done


@pytest.mark.parametrize("name", ["mlm", "slm", "rts", "psd"])
def test_every_objective_learns(place: Path, name: str) -> None:
    found = pretrain(config(place, objective=name, steps=12), place / name, quiet)
    first, last = found.curve[0], found.curve[-1]
    assert last["loss"] < first["loss"]
    assert {"loss", "cross_entropy", "accuracy"} <= found.dev.keys()
    made = AutoModel.from_pretrained(place / name)
    assert made.config.hidden_size == 32
    assert not [
        key for key in weights(place / name) if "generator" in key or "head.classifier" in key
    ]


def test_an_existing_encoder_is_continued(place: Path) -> None:
    start = place / "mlm"
    if not start.exists():
        pretrain(config(place, objective="mlm", steps=12), start, quiet)
    settings = config(place, objective="mlm", model=str(start), steps=2, rate=1e-9)
    assert pretrain(settings, place / "on", quiet).dev["loss"] == pytest.approx(
        json.loads((start / "pretraining.json").read_text())["dev"]["loss"], abs=1e-3
    )
    # Its own embeddings are what C-RTS clusters.
    pretrain(replace(settings, objective="c-rts"), place / "on-crts", quiet)
    made = AutoConfig.from_pretrained(start)
    assert len((place / "on-crts/clusters.txt").read_text().split()) == made.vocab_size
    with pytest.raises(UserError, match="which is what this encoder reads"):
        pretrain(replace(settings, length=4_000), place / "too-long", quiet)
    with pytest.raises(UserError, match="cannot load the encoder"):
        pretrain(replace(settings, model=str(place / "none")), place / "none-out", quiet)


def tiny_masked() -> tuple[BertForMaskedLM, Vocabulary]:
    tokenizer = train_tokenizer(["a b c d e f g h"] * 3, 60)
    torch.manual_seed(0)
    made = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **SMALL)).double().eval()
    return made, Vocabulary.of(tokenizer)


def test_the_head_of_chosen_places_has_the_loss_and_gradients_of_all() -> None:
    model, words = tiny_masked()
    ids = torch.randint(5, words.size, (3, 12))
    labels = torch.where(torch.rand(3, 12) < 0.3, ids, IGNORED)
    whole = model(input_ids=ids, labels=labels).loss
    whole.backward()
    wanted = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    selected = Selected(model)
    logits = selected.logits(model, labels != IGNORED, input_ids=ids)
    assert logits.shape == (int((labels != IGNORED).sum()), words.size)
    loss = torch.nn.functional.cross_entropy(logits, labels[labels != IGNORED])
    loss.backward()
    assert torch.allclose(loss, whole)
    for name, parameter in model.named_parameters():
        if name in wanted:
            assert torch.allclose(parameter.grad, wanted[name], atol=1e-12), name
    assert model(input_ids=ids).logits.shape == (3, 12, words.size)  # others see all again


def test_a_batch_in_which_nothing_is_chosen_costs_nothing() -> None:
    model, words = tiny_masked()
    objective = VocabularyObjective(model, words, "mlm")
    special = torch.full((2, 4), words.pad)
    figures = objective(special, torch.Generator().manual_seed(0))
    assert figures["loss"].item() == 0
    figures["loss"].backward()


def test_electra_shares_embeddings_and_detects_by_comparison(place: Path) -> None:
    tokenizer = train_tokenizer(["a b c d e f g h"] * 3, 60)
    model = models.start("tiny", tokenizer, "detection", 0)
    objective = ElectraObjective(model, Vocabulary.of(tokenizer))
    shared = objective.generator.get_input_embeddings().weight
    assert shared is model.get_input_embeddings().weight
    assert objective.generator.get_output_embeddings().weight is shared
    ids = torch.randint(5, len(tokenizer), (4, 16))
    figures = objective(ids, torch.Generator().manual_seed(0))
    figures["loss"].backward()
    assert shared.grad is not None and float(figures["generator_loss"]) > 0


def test_counts_change_in_training_only() -> None:
    tokenizer = train_tokenizer(["a b c d e f g h"] * 3, 60)
    words = Vocabulary.of(tokenizer)
    own = torch.full((words.size,), -1)
    own[words.ordinary] = torch.arange(len(words.ordinary)) % 3
    objective = DetectionObjective(models.start("tiny", tokenizer, "detection", 0), words, own)
    ids = torch.randint(5, words.size, (8, 16))
    assert objective.counts is not None
    objective.eval()(ids, torch.Generator().manual_seed(0))
    assert (objective.counts.counts_KK == 1).all()
    objective.train()(ids, torch.Generator().manual_seed(0))
    assert not (objective.counts.counts_KK == 1).all()
    # They are part of the state, so that a checkpoint has them.
    assert "counts.counts_KK" in objective.state_dict()


def test_settings_are_checked(place: Path) -> None:
    for wrong, match in (
        ({"objective": "rtd"}, "unknown objective"),
        ({"steps": 0}, "steps=0"),
        ({"rate": 0.0}, "rate=0"),
        ({"head": "IE_1"}, "unknown head"),
    ):
        with pytest.raises(UserError, match=match):
            config(place, **wrong)
    assert all(recipe().objective in NAMES for recipe in RECIPES.values())
    assert set(SMALL) == set(models.SIZES["base"])
