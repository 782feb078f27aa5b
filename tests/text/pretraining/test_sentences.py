"""Sentence objectives: who belongs to whom, how often, how hard; segments and heads."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from common.errors import UserError
from tests.text.pretraining.texts import corpus
from text.pretraining.documents import Corpus
from text.pretraining.joint import HEADS, Joint, JointHead, segments
from text.pretraining.sentences import SentenceCollator, SentenceTask
from text.pretraining.tokens import train_tokenizer


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return corpus(tmp_path_factory.mktemp("corpus"))


def places(made: Corpus) -> dict[str, tuple[str, int]]:
    """Of each sentence its document and paragraph."""
    return {
        sentence: (made[n].name, number)
        for n in range(len(made))
        for number, paragraph in enumerate(made[n].paragraphs)
        for sentence in paragraph
    }


def parts(text: str) -> list[str]:
    return [f"{part}." for part in text.removesuffix(".").split(". ")]


@pytest.mark.parametrize("name", ["ssp", "sp", "psd"])
def test_pairs_say_what_they_ask(texts: Corpus, name: str) -> None:
    where = places(texts)
    kinds: Counter[str] = Counter()
    for example in SentenceTask(texts, name, 300):
        (first, second), (label,) = example
        a, b = ({where[s] for s in parts(text)} for text in (first, second))
        assert len(a) == len(b) == 1  # never from two paragraphs
        (a1,), (b1,) = a, b
        assert first not in second
        if name == "psd":
            assert label == (a1[0] == b1[0]) and a1 != b1
        else:
            assert label == (a1 == b1)
        kinds["right" if label else "hard" if a1[0] == b1[0] else "easy"] += 1
        if name == "sp":
            assert len(parts(second)) == (2 if label else 3)
    assert abs(kinds["right"] - 150) < 4 * 300**0.5 / 2
    assert kinds["hard"] == 0 if name == "psd" else 40 < kinds["hard"] < 110


@pytest.mark.parametrize("selection", ["same", "following"])
def test_spans_of_several_sentences(texts: Corpus, selection: str) -> None:
    where = places(texts)
    order = {s: i for n in range(len(texts)) for p in texts[n].paragraphs for i, s in enumerate(p)}
    rights, before = Counter[int](), 0
    for example in SentenceTask(texts, "mspp", 200, selection=selection):  # type: ignore[arg-type]
        premise, *spans = example.texts
        assert len(spans) == 5 and sum(example.labels) == 1
        rights[example.labels.index(1)] += 1
        hard = 0
        for span, label in zip(spans, example.labels, strict=True):
            assert premise not in span
            homes = {where[s] for s in parts(span)}
            assert len(homes) == 1 and len(parts(span)) <= 2
            same = homes == {where[premise]}
            before_it = same and order[parts(span)[0]] < order[premise]
            if selection == "same":
                assert label == same
            else:
                assert label == (same and not before_it)
                before += before_it
            hard += not label and next(iter(homes))[0] == where[premise][0]
        assert hard == 2
    assert min(rights[i] for i in range(5)) > 15
    assert before > 20 if selection == "following" else not before


def test_an_example_depends_on_seed_and_number_alone(texts: Corpus) -> None:
    long, short = SentenceTask(texts, "mspp", 50), SentenceTask(texts, "mspp", 9)
    assert [long[i] for i in (8, 3)] == [short[8], short[3]]
    assert SentenceTask(texts, "mspp", 50, seed=1)[3] != long[3]
    with pytest.raises(UserError, match="no sentence objective"):
        SentenceTask(texts, "nsp", 5)


def test_segments_stand_at_multiples_of_their_length() -> None:
    tokenizer = train_tokenizer(["a b c d e"] * 3, 60)
    made = segments(tokenizer, [["a b", "c", "d e"], ["a", "b c d e a b c"]], 3, length=6)
    ids = made["input_ids"].view(2, 4, 6)
    assert (ids[:, :, 0] == tokenizer.cls_token_id).all()
    assert tokenizer.decode(ids[0, 2], skip_special_tokens=True) == "d e"
    assert made["there"].tolist() == [[True, True, True, False], [True, True, False, False]]
    mask = made["attention_mask"].view(2, 4, 6)
    assert mask[0].sum(1).tolist() == [4, 3, 4, 0] and mask[1, 1].all()
    assert made["token_type_ids"].view(2, 4, 6)[0].tolist() == [[0] * 6, [1] * 6, [1] * 6, [1] * 6]
    assert segments(tokenizer, [["a"]], 1, 6, types=1)["token_type_ids"].max() == 0
    collate = SentenceCollator(tokenizer, "ssp", 8, 6, 2)
    from text.pretraining.sentences import Example

    batch = collate([Example(("a b", "c"), (1,)), Example(("a", "b c d e"), (0,))])
    assert batch["labels"].tolist() == [[1], [0]] and batch["input_ids"].shape == (2, 8)


@pytest.mark.parametrize("head", HEADS)
def test_heads_read_what_the_paper_says(head: str) -> None:
    torch.manual_seed(0)
    made = JointHead(4, head, 3, dropout=0.0)
    states = torch.randn(2, 12, 4)  # three segments of four tokens
    there = torch.tensor([[True, True, True], [True, True, False]])
    first = states[:, ::4]
    found = made(states, there)
    if head == "IE_1":
        wanted = made.classifier(first[:, 0])
    elif head == "AE_1":
        total = first.sum(1)
        total[1] -= first[1, 2]
        wanted = made.classifier(total)
    elif head == "IE_k":
        wanted = torch.stack([made.classifier(first[:, j]) for j in (1, 2)], 1)
    else:
        wanted = torch.stack(
            [made.classifier(torch.cat([first[:, 0], first[:, j]], 1)) for j in (1, 2)], 1
        )
    assert torch.allclose(found, wanted, atol=1e-6)


def test_a_joint_model_is_kept_and_what_is_absent_does_not_count(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["a b c d e"] * 3, 60)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1,
                        num_attention_heads=2, intermediate_size=16)  # fmt: skip
    model = Joint(BertModel(config), "AE_k", 2, k=3, segment=6).eval()
    two = model(**model.inputs(tokenizer, [["a b", "c", "d e"]]))["logits"]
    model.save(tokenizer, tmp_path)
    again = Joint.load(tmp_path).eval()
    assert torch.equal(again(**again.inputs(tokenizer, [["a b", "c", "d e"]]))["logits"], two)
    labels = torch.tensor([[0, 1, -100]])
    loss = model(**model.inputs(tokenizer, [["a b", "c", "d e"]]), labels=labels)["loss"]
    wanted = torch.nn.functional.cross_entropy(two[0, :2], torch.tensor([0, 1]))
    assert torch.allclose(loss, wanted)
    with pytest.raises(UserError, match="no joint model"):
        Joint.load(tmp_path / "none")
    with pytest.raises(UserError, match="unknown head"):
        JointHead(4, "IE_2", 2)
