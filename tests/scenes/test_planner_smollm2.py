"""The one-line form of scenes, texts made for it, and the planner and training of a small model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from common.errors import UserError
from common.policies.local import HFPolicy
from common.store import Store
from scenes.graph import SceneGraph
from scenes.planners import compact, train
from scenes.planners.choose import planner
from scenes.planners.compact import agreement, facts
from scenes.planners.phrasings import examples, parsed, wordings
from scenes.planners.rules import Rules
from scenes.planners.smollm2 import SmolLM2, completion, invented, prompt
from scenes.relations import check
from tests.common.transformers_serve import learn, small, words

FORM = "1 round table, 4 chair, 1 lamp, 1 cabinet; chair around table; lamp on cabinet"
HELD_OUT = Path(__file__).parents[2] / "studies" / "planner_phrasings.txt"


def graph(form: str) -> SceneGraph:
    return compact.read(form).graph


def test_a_line_is_a_graph() -> None:
    made = graph(FORM)
    check(made)
    assert [a.what for a in made.assets][:2] == ["round table", "chair"]
    assert [str(r) for r in made.relations] == [
        "around(chair-1, chair-2, chair-3, chair-4, round-table)",
        "on(lamp, cabinet)",
    ]
    assert facts(made) == {("around", "chair", "table"), ("on", "lamp", "cabinet")}


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("1 plant, 2 bed; plant between bed and bed", {("between", "plant", "bed", "bed")}),
        ("2 armchair; armchair facing armchair", {("facing", "armchair", "armchair")}),
        ("1 tree, 1 car; tree left of car", {("left-of", "tree", "car")}),
        ("1 tree, 1 car; car right of tree", {("left-of", "tree", "car")}),
        ("1 tree, 1 car; tree behind car", {("in-front-of", "car", "tree")}),
        ("1 rug, 1 table; rug under table", {("on", "table", "rug")}),
        ("1 door, 2 plant; plant on both sides of door", {("flank", "plant", "door")}),
        ("1 bed; bed against the left wall", {("against-wall", "bed", "left")}),
        ("3 book; book in a stack", {("stack", "book")}),
        ("1 a, 1 b; a near b", {("proximity", "a", "b")}),
        ("1 a, 1 b; b next to a", {("proximity", "a", "b")}),
        ("1 a, 1 b; a floats b; ; c on a", set()),
    ],
)
def test_what_a_line_says_of_where_things_are(form: str, wanted: set[tuple[str, ...]]) -> None:
    assert facts(graph(form)) == wanted


def test_agreement_counts_things_and_relations() -> None:
    made = graph(FORM)
    assert agreement(made, made) == 1
    less = graph("1 round table, 2 chair, 1 lamp, 1 cabinet; lamp on cabinet")
    assert agreement(less, made) == agreement(made, less)
    things, where = 2 * 5 / (5 + 7), 2 * 1 / (1 + 2)
    assert agreement(less, made) == pytest.approx((things + where) / 2)
    assert agreement(graph("1 whale"), made) == 0
    assert agreement(graph("2 lamp"), graph("1 lamp")) == pytest.approx((2 / 3 + 1) / 2)


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_every_made_text_has_a_scene_that_says_as_much(seed: int) -> None:
    (made,) = examples(1, seed)
    plan = compact.read(made.form)
    assert plan.notes == ()
    check(plan.graph)
    assert len(facts(plan.graph)) >= made.form.count(";")
    assert invented(made.form, made.text) == []


def test_texts_are_made_by_seed_and_differ() -> None:
    assert examples(50, 3) == examples(50, 3) != examples(50, 4)
    assert len({e.text for e in examples(300, 0)}) == 300
    assert examples(20, 3) == examples(50, 3)[:20]


def test_the_held_out_phrasings_can_be_read_and_are_none_of_the_made_ones() -> None:
    held = parsed(HELD_OUT.read_text().splitlines())
    assert len(held) >= 60
    for text, form in held:
        plan = compact.read(form)
        assert plan.notes == (), text
        assert len(facts(plan.graph)) >= form.count(";"), text
    made = {e.text.lower().strip(". ") for e in examples(5000, 0)}
    assert not made & {e.text.lower().strip(". ") for e in held}
    assert len(wordings()) > 20


@given(st.text(max_size=60) | st.lists(st.sampled_from(FORM.split(" ")), max_size=14).map(" ".join))
def test_any_line_is_a_sound_graph_or_a_clear_error(line: str) -> None:
    try:
        plan = compact.read(line)
    except UserError:
        return
    check(plan.graph)
    assert agreement(plan.graph, plan.graph) == 1


def knowing(pairs: dict[str, str]) -> HFPolicy:
    """A small model that goes on from the prompts of these texts with these forms."""
    tokenizer = words([*(prompt(t) for t in pairs), *(completion(f) for f in pairs.values())])
    torch.manual_seed(0)
    model = LlamaForCausalLM(small(tokenizer))
    rows = [tokenizer(f"{prompt(t)} <go> {f} <end>")["input_ids"] for t, f in pairs.items()]
    go = tokenizer.convert_tokens_to_ids("<go>")
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    learn(model, {"input_ids": ids, "attention_mask": (ids != 0).long()})
    policy = HFPolicy(model, tokenizer, device="cpu")
    spoken = policy.encode_prompt
    policy.encode_prompt = lambda text: [*spoken(text), go]  # type: ignore[method-assign]
    return policy


def test_a_model_that_says_forms_is_a_planner() -> None:
    text, other = "a lamp on a cabinet", "four chairs around a round table"
    policy = knowing({text: "1 lamp, 1 cabinet; lamp on cabinet", other: "6 sofas everywhere"})
    model = SmolLM2(policy, drawn=2)
    plan = model.plan(text)
    assert [str(r) for r in plan.graph.relations] == ["on(lamp, cabinet)"]
    assert plan.graph.text == text and plan.notes == ()
    assert agreement(plan.graph, Rules().plan(text).graph) == 1
    invents = model.plan(other)
    assert "sofas is not in the text" in invents.notes
    with pytest.raises(UserError, match="empty"):
        model.plan(" ")
    broken = SmolLM2(knowing({text: "nothing at all"}), drawn=1)
    with pytest.raises(UserError, match="made no scene of 'a lamp on a cabinet'.*rules"):
        broken.plan(text)


def test_flags_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no adapter in"):
        planner("smollm2", adapter=tmp_path)


def test_training_learns_saves_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = examples(40, 0)
    tokenizer = words([*(prompt(e.text) for e in every), *(completion(e.form) for e in every)])
    torch.manual_seed(0)
    LlamaForCausalLM(small(tokenizer)).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    load = HFPolicy.load
    asked: list[object] = []

    def instead(name: str, **options: object) -> HFPolicy:
        asked.append(options)
        return load(tmp_path / "base", **{**options, "device": "cpu"})  # type: ignore[arg-type]

    monkeypatch.setattr(HFPolicy, "load", instead)
    monkeypatch.setattr(train, "LENGTH", 24)
    small_one = train.Config(
        pairs=30, texts=6, dev=4, samples=2, rounds=1, rank=4, first_layer=1,
        sft=train.SFT(learning_rate=1e-2, batch_size=10, epochs=3),
        dpo=train.Preference(learning_rate=1e-3, batch_size=4, steps=2, reference="previous"),
    )  # fmt: skip
    store = Store(tmp_path / "home")

    def trained() -> tuple[HFPolicy, float]:
        policy, result = train.train(small_one, store, tmp_path / "work", lambda *_: None)
        assert result is not None and len(result.rounds) == 2
        return policy, result.rounds[0].metrics[0].value

    policy, dev = trained()
    assert 0 <= dev <= 1
    train.save(policy, tmp_path / "adapter")
    told = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert str(tmp_path) not in json.dumps(told)
    assert told["layers_to_transform"] == [1]
    loads = len(asked)
    again, same = trained()
    assert same == dev and again.fingerprint() == policy.fingerprint()
    assert len(asked) == loads + 1, "supervised learning is not done again"
    loaded = load(tmp_path / "base", lora=tmp_path / "adapter", device="cpu")
    found = loaded.logprobs([prompt(every[0].text)], [completion(every[0].form)]).sums[0]
    before = load(tmp_path / "base", device="cpu")
    assert found > before.logprobs([prompt(every[0].text)], [completion(every[0].form)]).sums[0]
    with pytest.raises(UserError, match="another training"):
        train.train(train.Config(pairs=3), store, tmp_path / "work", lambda *_: None)


def test_what_is_no_scene_agrees_with_nothing() -> None:
    assert train.agreement("nonsense", FORM) == 0
    assert train.agreement(f"{FORM}<|im_end|>", FORM) == 1


def test_the_starter_reads_what_the_rules_do_not_know() -> None:
    text = "The fish tank occupies the top of the dresser."
    plan = planner("smollm2").plan(text)
    check(plan.graph)
    assert [a.what for a in plan.graph.assets] == ["fish tank", "dresser"]
    assert len(plan.graph.relations) == 1
