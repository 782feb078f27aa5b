"""Learning in hindsight: what it minimises, that labels steer, and labels as part of the state."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.gate import Gate
from common.learners import dpo
from common.learners.data import lora_config
from common.learners.hindsight import Hindsight
from common.learners.reward import RewardModel, RewardTraining
from common.learners.sft import SFT
from common.loop import Loop
from common.policies import Sample
from common.policies.local import HFPolicy
from common.records import Lessons, Metric, Preference, Task
from common.stages import Context
from common.store import Store
from tests.common.tiny import WORDS, context, tiny_policy

NEW = {"good": "<good>", "bad": "<bad>"}
KNOWN = {"good": "w18", "bad": "w19"}


def pairs(n: int = 96) -> tuple[Preference, ...]:
    """Better answers hold more of w1 to w3, worse ones more of w7 to w9; lengths are alike."""
    rng = random.Random(1)

    def answer(share: float) -> str:
        words = [rng.choice("123" if rng.random() < share else "789") for _ in range(4)]
        return " ".join(f"w{word}" for word in words)

    return tuple(
        Preference(
            id=f"p{i}", task=f"t{i}", round=1, prompt=f"w{i % 10} go",
            chosen=answer(0.8), rejected=answer(0.2),
        )
        for i in range(n)
    )  # fmt: skip


def learner(labels: dict[str, str] = NEW, **sft: Any) -> Hindsight:
    settings = {"steps": 40, "batch_size": 16, "learning_rate": 1e-2} | sft
    return Hindsight(**labels, sft=SFT(**settings))


def tied(seed: int = 0) -> HFPolicy:
    """As the codec language model: the embeddings are the output's rows."""
    from transformers import LlamaForCausalLM

    from tests.common.tiny import tiny_config, tiny_tokenizer

    torch.manual_seed(seed)
    config = tiny_config()
    config.tie_word_embeddings = True
    return HFPolicy(LlamaForCausalLM(config), tiny_tokenizer(), device="cpu")


UNSEEN = [Task(id=f"u{i}", prompt=f"w{10 + i % 7} w{i % 5} go") for i in range(60)]


def goodness(policy: HFPolicy, label: str) -> np.ndarray[Any, Any]:
    """Of one sample of each prompt that no pair has: better words less worse ones."""
    with policy.conditioned(label):
        found = policy.generate(
            UNSEEN, n=1, seeds=lambda task, index: int(task.id[1:]), max_new_tokens=8
        )
    words = [c.output.split() for c in found]
    return np.array(
        [sum(w in ("w1", "w2", "w3") for w in s) - sum(w in ("w7", "w8", "w9") for w in s)
         for s in words], float
    )  # fmt: skip


@pytest.mark.parametrize(
    ("made", "labels"), [(tiny_policy, NEW), (tied, NEW), (tiny_policy, KNOWN)]
)
def test_the_label_decides_what_is_said(made: Any, labels: dict[str, str], tmp_path: Path) -> None:
    policy = made()
    policy.add_symbols(labels.values())
    before = goodness(policy, labels["good"]) - goodness(policy, labels["bad"])
    learner(labels).learn(policy, Lessons(pairs()), context(tmp_path))
    assert policy.condition == labels["good"]
    difference = goodness(policy, labels["good"]) - goodness(policy, labels["bad"])
    se = difference.std(ddof=1) / math.sqrt(len(difference))
    assert difference.mean() > 1 and difference.mean() > 4 * se
    assert difference.mean() > 1 + before.mean(), "and not by what labels said by chance before"
    spoken = policy.generate(UNSEEN, n=1, seeds=lambda t, i: int(t.id[1:]), max_new_tokens=8)
    with policy.conditioned(labels["good"]):
        assert policy.generate(UNSEEN, n=1, seeds=lambda t, i: int(t.id[1:]), max_new_tokens=8) == (
            spoken
        )


def test_the_loss_is_that_of_both_responses_under_their_labels(tmp_path: Path) -> None:
    items = pairs(8)
    policy = tiny_policy()
    figures = learner(steps=1, learning_rate=0.0).learn(policy, Lessons(items), context(tmp_path))
    assert figures["pairs"] == 8 and figures["demonstrations"] == 16
    prompts = [p.prompt for p in items]
    with policy.conditioned("<good>"):
        good = policy.logprobs(prompts, [p.chosen for p in items])
    with policy.conditioned("<bad>"):
        bad = policy.logprobs(prompts, [p.rejected for p in items])
    nats = -(sum(good.sums) + sum(bad.sums)) / (sum(good.counts) + sum(bad.counts))
    assert figures["loss_first"] == pytest.approx(nats, rel=1e-4)
    ids = policy.tokenizer("<good> w0 go")["input_ids"]
    assert ids == [len(WORDS), *policy.tokenizer("w0 go")["input_ids"]]
    assert policy.encode_prompt("w0 go") == ids


@pytest.mark.parametrize("made", [tiny_policy, tied])
def test_new_symbols_start_apart_and_move_others_little(made: Any) -> None:
    policy = made()
    prompts, answers = ["w1 go", "w2 w3"], ["w4 w5", "w6"]
    before = policy.logprobs(prompts, answers).sums
    vectors = policy.model.get_input_embeddings().weight.detach().clone()
    outputs = policy.model.get_output_embeddings().weight.detach().clone()
    policy.add_symbols(["<good>", "w3", "<bad>", "<good>"])
    same = made()
    same.add_symbols(["<good>", "<bad>"])
    assert policy.fingerprint() == same.fingerprint(), "no random numbers are in it"
    for now, old in (
        (policy.model.get_input_embeddings().weight, vectors),
        (policy.model.get_output_embeddings().weight, outputs),
    ):
        assert now.shape == (len(WORDS) + 2, 24)
        assert torch.equal(now[: len(WORDS)], old)
    off = policy.model.get_input_embeddings().weight[len(WORDS) :] - vectors.mean(0)
    assert torch.allclose(off.abs(), vectors.std(0).expand(2, -1))
    assert not torch.equal(off[0], off[1]), "one symbol to the model"
    if now is not policy.model.get_input_embeddings().weight:  # the output is not tied to it
        assert torch.allclose(now[len(WORDS) :], outputs.mean(0).expand(2, -1))
    after = policy.logprobs(prompts, answers)
    # Two symbols more: at most their share, about 2 in 24, is taken from each token.
    for old_sum, new_sum, tokens in zip(before, after.sums, after.counts, strict=True):
        assert old_sum - 0.15 * tokens < new_sum < old_sum


@pytest.mark.parametrize("made", [tiny_policy, tied])
def test_states_with_and_without_labels_replace_each_other(made: Any, tmp_path: Path) -> None:
    policy = made()
    start, small, large = policy.fingerprint(), tmp_path / "small", tmp_path / "large"
    policy.save(small)
    learner().learn(policy, Lessons(pairs(32)), context(tmp_path / "work"))
    learnt = policy.fingerprint()
    spoken = policy.logprobs(["w1 go"], ["w2"]).sums[0]
    with policy.conditioned(""):
        assert policy.fingerprint() != learnt, "the label is part of the state"
        assert policy.logprobs(["w1 go"], ["w2"]).sums[0] != spoken
    policy.save(large)
    with policy.at_start():
        assert policy.fingerprint() == start and policy.condition == ""
        assert len(policy.tokenizer) == len(WORDS)
    assert policy.fingerprint() == learnt and len(policy.tokenizer) == len(WORDS) + 2
    fresh = HFPolicy.load(small, device="cpu")
    for _ in range(2):  # the gate's roll-back, and back to what was learnt
        for held in (policy, fresh):
            held.restore(small)
            assert held.fingerprint() == start and held.condition == ""
            assert held.unknown(NEW.values()) == list(NEW.values())
            assert held.model.get_input_embeddings().weight.shape[0] == len(WORDS)
            held.generate(UNSEEN[:3], n=2, seeds=lambda task, index: index, max_new_tokens=5)
            held.restore(large)
            assert held.fingerprint() == learnt and held.condition == "<good>"
            assert held.logprobs(["w1 go"], ["w2"]).sums[0] == pytest.approx(spoken, abs=1e-5)
    loaded = HFPolicy.load(large, device="cpu")
    assert loaded.fingerprint() == learnt and loaded.condition == "<good>"
    with loaded.at_start():
        assert loaded.fingerprint() == learnt, "what it was loaded as"
    with fresh.at_start():  # read from its folder again
        assert fresh.fingerprint() == start
    # A second round finds its symbols there.
    learner().learn(loaded, Lessons(pairs(8)), context(tmp_path / "work"))
    assert len(loaded.tokenizer) == len(WORDS) + 2


def test_an_adapter_takes_known_words_and_refuses_symbols(tmp_path: Path) -> None:
    policy, folder, plain = tiny_policy(), tmp_path / "adapter", tmp_path / "plain"
    policy.save(plain)
    base = policy.fingerprint()
    start = policy.logprobs(["w1 go"], ["w2"]).sums[0]
    learner(KNOWN, lora=2).learn(policy, Lessons(pairs(32)), context(tmp_path / "a"))
    assert policy.has_adapter and policy.condition == "w18"
    with policy.at_start():
        assert policy.condition == ""
        assert policy.logprobs(["w1 go"], ["w2"]).sums[0] == pytest.approx(start, abs=1e-6)
    tuned, spoken = policy.fingerprint(), policy.logprobs(["w1 go"], ["w2"]).sums[0]
    policy.save(folder)
    loaded = HFPolicy.load(plain, lora=folder, device="cpu")
    assert loaded.condition == "w18" and loaded.fingerprint() == tuned
    assert loaded.logprobs(["w1 go"], ["w2"]).sums[0] == pytest.approx(spoken, abs=1e-6)
    with pytest.raises(UserError, match="'<good>' needs an embedding"):
        learner().learn(policy, Lessons(pairs(4)), context(tmp_path / "b"))
    with pytest.raises(UserError, match="does not save the embeddings"):
        learner(lora=2).learn(tiny_policy(), Lessons(pairs(4)), context(tmp_path / "c"))
    policy.restore(plain)
    assert policy.fingerprint() == base and policy.condition == ""
    grown = tiny_policy()
    grown.add_symbols(["<good>"])
    grown.restore(folder)  # an adapter lies on the start, whatever was added since
    assert grown.fingerprint() == tuned
    assert grown.logprobs(["w1 go"], ["w2"]).sums[0] == pytest.approx(spoken, abs=1e-6)


def test_symbols_take_spare_rows_first(tmp_path: Path) -> None:
    policy = tiny_policy()
    policy.model.resize_token_embeddings(len(WORDS) + 1)
    policy = HFPolicy(policy.model, policy.tokenizer, device="cpu")
    start = policy.fingerprint()
    for symbol, rows in (("<good>", len(WORDS) + 1), ("<bad>", len(WORDS) + 2)):
        policy.add_symbols([symbol])
        table = policy.model.get_input_embeddings().weight
        known, last = table[: len(policy.tokenizer) - 1], table[len(policy.tokenizer) - 1]
        assert len(table) == rows
        assert torch.allclose((last - known.mean(0)).abs(), known.std(0))
        with pytest.raises(UserError, match="does not save the embeddings"):
            policy.add_adapter(lora_config(2))
    with policy.at_start():
        assert policy.fingerprint() == start


class Killed(BaseException):
    pass


def test_a_killed_learner_continues_to_the_same_state(tmp_path: Path) -> None:
    lessons, how = Lessons(pairs(16)), learner(steps=8, checkpoint_every=3)
    whole = tiny_policy()
    expected = how.learn(whole, lessons, context(tmp_path / "a"))

    def stop(done: int, total: int, what: str) -> None:
        if what.endswith("steps") and done == 5:
            raise Killed

    ctx = context(tmp_path / "b")
    torn = tiny_policy()
    with pytest.raises(Killed):
        how.learn(torn, lessons, dataclasses.replace(ctx, progress=stop))
    assert torn.condition == ""
    continued, steps = tiny_policy(), list[int]()
    ctx = dataclasses.replace(ctx, progress=lambda done, total, what: steps.append(done))
    assert how.learn(continued, lessons, ctx) == pytest.approx(expected)
    assert steps[0] == 4 and continued.fingerprint() == whole.fingerprint()


@dataclasses.dataclass
class Prefer:
    """Select: the same pairs each round."""

    def select(self, tasks: Any, pool: Sequence[Any], ctx: Context) -> Lessons:
        known = list(tasks)
        return Lessons(
            tuple(
                dataclasses.replace(p, id=f"{ctx.round}-{p.id}", task=known[0])
                for p in pairs(32)
            )
        )  # fmt: skip


@dataclasses.dataclass
class Goodness:
    """Measure: the share of better words, or its negative."""

    sign: float

    def measure(self, policy: Any, tasks: Sequence[Task], ctx: Context) -> list[Metric]:
        found = policy.generate(tasks, n=1, seeds=lambda t, i: int(t.id[1:]), max_new_tokens=8)
        items = {
            c.task: self.sign * sum(w in ("w1", "w2", "w3") for w in c.output.split())
            for c in found
        }
        values = np.array(list(items.values()))
        se = float(values.std(ddof=1) / math.sqrt(len(values)))
        return [Metric("goodness", float(values.mean()), se, len(values), items=items)]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_loop_keeps_the_label_or_rolls_back_to_a_starter_without(
    sign: float, tmp_path: Path
) -> None:
    dev = [dataclasses.replace(task, split="dev") for task in UNSEEN]
    policy = tied()
    start = policy.fingerprint()
    loop = Loop(
        policy=policy,
        tasks=[Task("u0t", "w1 go"), *dev],
        propose=Sample(n=1, max_new_tokens=4),
        judge=[],
        select=Prefer(),
        learn=learner(),
        measure=Goodness(sign),
        gate=Gate("goodness"),
    )
    store = Store(tmp_path / "home")
    result = loop.run(2, store, "hindsight", progress=lambda done, total, what: None)
    store.close()
    if sign > 0:
        assert result.rounds[1].kept
        assert policy.condition == "<good>" and policy.unknown(NEW.values()) == []
    else:
        assert [r.kept for r in result.rounds] == [True, False, False]
        assert policy.fingerprint() == start and policy.condition == ""
        assert len(policy.tokenizer) == policy.model.config.vocab_size == len(WORDS)


def test_what_reads_prompts_beside_the_policy(tmp_path: Path) -> None:
    """A reward model older than the label, and a reference that lacks it."""
    policy = tiny_policy()
    reward = RewardModel.from_policy(policy, RewardTraining(steps=2, batch_size=4))
    torch.manual_seed(1)
    torch.nn.init.normal_(reward.model.score.weight)
    before = reward.score(["w1 go"], ["w2 w3"])
    learner(steps=4).learn(policy, Lessons(pairs(8)), context(tmp_path))
    assert reward.score(["w1 go"], ["w2 w3"]) == before
    assert reward.fit(pairs(8), context(tmp_path))["pairs"] == 8
    lessons, ctx = Lessons(pairs(8)), context(tmp_path)
    with pytest.raises(UserError, match="does not have yet"):
        dpo.Preference(steps=1, reference="start").learn(policy, lessons, ctx)
    assert dpo.Preference(steps=1, reference="previous").learn(policy, lessons, ctx)[
        "loss_first"
    ] == (pytest.approx(math.log(2), abs=1e-4))


def test_nothing_to_learn_and_bad_labels(tmp_path: Path) -> None:
    policy = tiny_policy()
    before = policy.fingerprint()
    assert learner().learn(policy, Lessons(), context(tmp_path)) == {"pairs": 0.0, "steps": 0.0}
    cut = learner(max_length=1).learn(policy, Lessons(pairs(4)), context(tmp_path))
    assert cut["steps"] == 0 and policy.condition == ""
    assert tiny_policy().fingerprint() == before
    for labels in ({"good": " "}, {"good": "same", "bad": "same"}):
        with pytest.raises(UserError, match="do not tell"):
            Hindsight(**labels)
    fresh = tiny_policy()
    with pytest.raises(UserError, match="no symbol '<bad>'"), fresh.conditioned("<bad>"):
        pass
    assert fresh.condition == ""


def test_a_chat_template_holds_the_label_inside_the_message() -> None:
    policy = tiny_policy()
    policy.chat = True
    policy.tokenizer.chat_template = "{% for m in messages %}w9 {{ m.content }} go{% endfor %}"
    with policy.conditioned("w18 w19"):
        assert policy.encode_prompt("w1") == policy.tokenizer("w9 w18 w19 w1 go")["input_ids"]
