"""A tiny model is taught by experts, then by itself, and gives feedback; tails by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.policies.local import HFPolicy
from common.policies.sampling import Sampled
from common.records import Candidate, Task
from common.store import Store
from tests.common.loopback import serving
from tests.common.tiny import context
from tests.text.counselor import checkpoint
from tests.text.tiny import upspiral
from text import tasks
from text.commands import feedback as command
from text.counseling import NOTICE, quality, synthetic
from text.counseling.advisor import Advisor
from text.counseling.conversations import write
from text.counseling.independent import Independent
from text.counseling.schema import parse
from text.counseling.stages import BestOverWorst, Feedbacks
from text.counseling.tasks import asking, reference
from text.setup import load_policy

SIZES = ["train=100", "dev=12", "test=12", "batch_size=4", "tokens=70",
         "temperature=0.4"]  # fmt: skip
SFT = [*SIZES, "learning_rate=5e-3", "epochs=10"]
DPO = [*SIZES, "samples=4", "measured=2", "beta=0.5", "nll_weight=0", "reference=start",
       "learning_rate=1e-4"]  # fmt: skip


def improve(
    monkeypatch: pytest.MonkeyPatch, method: str, model: str, name: str, some: list[str]
) -> tuple[dict[str, Any], str]:
    words = [word for one in some for word in ("--set", one)]
    code, told, said = upspiral(
        monkeypatch, "improve", "--method", method, "--task", "counseling", "--model", model,
        "--recipe", "tiny", "--name", name, *words,
    )  # fmt: skip
    assert code == 0, said
    return told, said


class Place:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, monkeypatch
        self.model = str(checkpoint(folder / "model"))
        self.sft, self.said = improve(monkeypatch, "feedback-sft", self.model, "sft", SFT)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("feedback")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPSPIRAL_HOME", str(folder / "home"))
        yield Place(folder, patch)


# Taught by experts, then by itself


def test_experts_teach_verdicts_and_the_schema(place: Place) -> None:
    before, after = (place.sft["test"][side] for side in ("starter", "final"))
    assert before["accuracy"] == before["valid"] == 0
    assert after["valid"] > 0.4 and after["accuracy"] > 0.3 and after["appropriate"] > 0.5
    round1 = place.sft["rounds"][1]
    assert round1["kept"] and round1["demonstrations"] > 40
    store = Store()
    assert store.rounds("sft")[1].notes["select"].keys() == {"expert", "alternative"}
    assert not store.candidates("sft")  # nothing is sampled for given lessons
    train = [t for t in store.tasks("sft", "train") if t.reference]
    lessons = store.demonstrations("sft")
    assert {d.prompt for d in lessons} >= {asking(t.meta["question"]) for t in train}


def test_it_learns_from_its_own_scores(place: Place) -> None:
    told, said = improve(place.patch, "feedback-dpo", "sft", "dpo", DPO)
    assert told["rounds"][1]["pairs"] > 0
    store = Store()
    pool = store.candidates("dpo", 1)
    by_id = {c.id: c for c in pool}
    assert all(by_id[c.id].meta["perfect"] <= 0.5 for c in pool)
    labelled = {t.id for t in store.tasks("sft", "train") if t.reference}
    assert not {c.task for c in pool} & labelled  # what has taught the start is not used again
    for c in pool:
        fits = c.scores["valid"] == 1
        assert fits == ({"self_score", "independent"} <= c.scores.keys()) == (c.answer is not None)
        assert fits or c.meta["attempts"] == 5
    for pair in store.preferences("dpo"):
        group = [c.scores["self_score"] for c in pool if c.task == pair.task and c.answer]
        best, worst = (
            by_id[i or ""].scores["self_score"] for i in (pair.chosen_id, pair.rejected_id)
        )
        assert best == max(group) and worst == min(group) and pair.margin == best - worst > 0
        assert parse(pair.chosen).alternative and parse(pair.rejected).alternative
    assert {"self_score_worst_1", "self_score_worst_5", "independent_worst_5"} <= told["test"][
        "final"].keys()  # fmt: skip
    assert "self-score" in said and "independent judge" in said
    # Evaluated, it comes to what the run measured, quantiles as well.
    words = ["--models", "sft", "dpo", "--questions", "12", "--samples", "2"]
    code, again, whole = upspiral(
        place.patch, "evaluate", *words, "--out", str(place.folder / "evaluation")
    )
    assert code == 0, whole
    for name in ("independent", "independent_worst_5", "valid"):
        assert again["models"]["dpo"][name]["mean"] == told["test"]["final"][name]
    page = Path(told["report"]).read_text()
    assert "The worst feedback by self_score" in page and "Welch p" in page
    code, found, _ = upspiral(place.patch, "feedback-worst", "dpo")
    assert code == 0 and [t["share"] for t in found["runs"]["dpo"]["independent"]] == [
        "worst 1%", "worst 5%", "all"]  # fmt: skip
    # The mean counts what is not valid as 0, the tails leave it out.
    assert found["runs"]["dpo"]["self_score"][2]["after"] >= told["test"]["final"]["self_score"]
    code, _, said = upspiral(place.patch, "feedback-worst", "sft")
    assert code == 2 and "no scores" in said


def test_the_self_score_is_the_start_s_whatever_was_learnt(place: Place) -> None:
    policy = load_policy("sft")
    before = Advisor(policy).appropriate(["Seeker: no\nHelper: lol ok"])
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.05)
    changed = Advisor(policy).appropriate(["Seeker: no\nHelper: lol ok"])
    with policy.at_start():
        assert Advisor(policy).appropriate(["Seeker: no\nHelper: lol ok"]) == before
    assert Advisor(policy).appropriate(["Seeker: no\nHelper: lol ok"]) == changed != before


def test_ablations_imitate_the_best_or_whatever_fits(tmp_path: Path) -> None:
    texts = [f' {{"perfect": false, "goodareas": [], "feedback": "The goal is to {i}.", '
             f'"badareas": ["Empathy"], "alternative": "{i}"}}' for i in range(3)]  # fmt: skip
    known = {name: Task(name, f"prompt {name}") for name in ("a", "b")}
    scores = [{"valid": 1.0, "self_score": s, "independent": 1 - s} for s in (0.1, 0.9, 0.5)]
    pool = [Candidate(f"a{i}", "a", 1, text, scores=score, answer=str(i))
            for i, (text, score) in enumerate(zip(texts, scores, strict=True))]  # fmt: skip
    pool += [Candidate("b0", "b", 1, ' {"perfect": true, "goodareas": []}', scores={"valid": 1.0}),
             Candidate("a9", "a", 1, " {", scores={"valid": 0.0})]  # fmt: skip
    ctx = context(tmp_path)
    pairs = BestOverWorst().select(known, pool, ctx)
    assert [(p.chosen, p.rejected) for p in pairs.preferences] == [(texts[1], texts[0])]
    assert pairs.notes == {"pairs": 1, "independent_agrees": 0}
    best = BestOverWorst("best").select(known, pool, ctx).demonstrations
    assert [(d.prompt, d.completion) for d in best] == [("prompt a", texts[1])]
    every = BestOverWorst("all").select(known, pool, ctx).demonstrations
    assert [(d.task, d.completion) for d in every] == [("a", texts[0]), ("b", pool[3].output)]


@pytest.mark.parametrize(
    ("method", "task", "setting", "says"),
    [
        ("feedback-dpo", "arithmetic", "samples=2", "on conversations"),
        ("feedback-dpo", "counseling", "lessons=worst", "no lessons"),
        ("feedback-sft", "counseling:FILE", "samples=2", "no experts"),
    ],
)
def test_mistakes(place: Place, method: str, task: str, setting: str, says: str) -> None:
    path = place.folder / "bare.json"
    talks = synthetic.conversations(12, 3, "test")
    bare = [t._replace(turns=tuple(u._replace(feedback=None) for u in t.turns)) for t in talks]
    write(path, bare)
    code, _, said = upspiral(
        place.patch, "improve", "--method", method, "--task", task.replace("FILE", str(path)),
        "--model", place.model, "--recipe", "tiny", "--set", setting,
    )  # fmt: skip
    assert code == 2 and says in said, said


# An advisor


def test_verdicts_are_the_token_s_probability(place: Place) -> None:
    policy = load_policy("sft")
    talk = "Seeker: I lost my job last month and nobody answers my applications.\nHelper: OK."
    ids = policy.encode_prompt(asking(talk))
    ids += policy.tokenizer('{"perfect":', add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        last = policy.model(torch.tensor([ids])).logits[0, -1].softmax(-1)
    [known] = policy.tokenizer("true,", add_special_tokens=False)["input_ids"]
    [found] = Advisor(policy).appropriate([talk])
    assert found == pytest.approx(float(last[known]), abs=1e-5)


class Stubborn:
    """Says in turn what it is given, and remembers the seeds it was asked with."""

    chat = False

    def __init__(self, policy: HFPolicy, texts: list[str]) -> None:
        self.policy, self.texts, self.seeds = policy, texts, list[int]()
        self.tokenizer = policy.tokenizer

    def decode(self, ids: list[int]) -> str:
        return self.texts[ids[0]]

    def sample(self, prompts: Any, seeds: Any, **more: Any) -> Any:
        drawn = []
        for seed in seeds:
            drawn.append([self._one(len(self.seeds))])
            self.seeds.append(seed)
        return drawn

    def _one(self, number: int) -> Any:
        return Sampled([number], -1.0, 1, True)


def test_a_retry_draws_anew(place: Place) -> None:
    good = ' "goodareas": [], "feedback": "The goal is to a.", "badareas": ["Empathy"], '
    texts = [
        good.replace("Empathy", "Spirituality") + '"alternative": "b"}',
        good + '"alternative": ""}',
        good + '"alternative": "b"}\n{"perfect": true}',
    ]
    stubborn = Stubborn(load_policy("sft"), texts)
    advisor = Advisor(stubborn, attempts=3)  # type: ignore[arg-type]
    [[advice]] = advisor.advise(["Helper: a"], [False], 1, lambda *key: hash(key))
    assert advice.feedback is not None and advice.feedback.alternative == "b"
    assert advice.attempts == 3 and advice.spent == 3 and len(set(stubborn.seeds)) == 3
    stubborn = Stubborn(stubborn.policy, [texts[0]] * 2)
    advisor = Advisor(stubborn, attempts=2)  # type: ignore[arg-type]
    [[advice]] = advisor.advise(["Helper: a"], [False], 1, lambda *key: hash(key))
    assert advice.feedback is None and "Spirituality" in advice.problem
    for wrong in ({"attempts": 0}, {"temperature": 0.0}):
        with pytest.raises(UserError):
            Advisor(stubborn, **wrong)  # type: ignore[arg-type]


def test_proposals_do_not_depend_on_who_is_beside_them(place: Place, tmp_path: Path) -> None:
    # In bfloat16 a batch of another shape rounds otherwise, and a draw near a border may flip.
    policy = load_policy("sft")
    policy.sampling_dtype = None
    some = [t for t in tasks.load("counseling", 0, 12, 2, 2) if t.split == "train"][:6]
    stage = Feedbacks(lambda p, ctx: Advisor(p, max_new_tokens=60), 2, every=True)
    together = stage.propose(policy, some, context(tmp_path))
    alone = [c for task in some for c in stage.propose(policy, [task], context(tmp_path))]
    key = {c.id: c.output for c in alone}
    assert {c.id: c.output for c in together} == key and len(key) == len(together) >= 6


# Quality


def test_tails_by_hand() -> None:
    before = {f"t{i // 2}#{i % 2}": i / 100 for i in range(100)}
    after = {name: value + 0.5 for name, value in before.items()}
    one, five, every = quality.tails(before, after, resamples=50)
    assert (one.n, five.n, every.n) == (2, 5, 100)
    assert five.before == pytest.approx(0.02) and five.after == pytest.approx(0.52)
    assert every.difference == pytest.approx(0.5) and every.low == pytest.approx(0.5)
    assert every.welch < 1e-20 and every.rank_sum < 1e-9 < one.rank_sum
    same = quality.tails(before, before, resamples=50)
    assert all(t.difference == 0 and t.rank_sum == 1 for t in same)
    flat = quality.tails({"a#0": 0.0, "b#0": 0.0}, {"a#0": 1.0, "b#0": 1.0}, resamples=10)
    assert flat[2].difference == 1 and np.isnan(flat[2].welch)
    with pytest.raises(ValueError, match="two scores or more"):
        quality.tails(before, {"a": 1.0})
    fewer = {name: value for name, value in after.items() if value > 0.6}  # others were not valid
    assert quality.tails(before, fewer, resamples=50)[1].n == 4
    found = {m.name: m for m in quality.metrics("s", before)}
    assert found["s"].n == 50 and found["s_each"].n == 100 and found["s_worst_5"].n == 4
    assert found["s"].value == pytest.approx(found["s_each"].value)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=300))
def test_the_worst_are_no_better_than_all(values: list[float]) -> None:
    scores = np.array(values)
    means = [quality.worst(scores, share).mean() for share in (0.01, 0.05, 0.5, 1.0)]
    assert means == sorted(means) or np.allclose(means, sorted(means))
    assert means[-1] == pytest.approx(scores.mean())


def test_an_independent_judge_learns_from_verdicts_alone() -> None:
    found = tasks.load("counseling", 0, 60, 20, 20)
    train, test = ([t for t in found if t.split == s] for s in ("train", "test"))
    judge = Independent(train)
    truth = [bool((said := reference(t)) and said.perfect) for t in test]
    scores = judge.appropriate([t.prompt for t in test])
    right = np.mean([(s > 0.5) == t for s, t in zip(scores, truth, strict=True)])
    assert right > 0.8  # topics are others than those it was taught with
    assert judge.appropriate([]) == []
    bare = [Task("a", "Helper: hi")] * 20
    with pytest.raises(UserError, match="independent judge"):
        Independent(bare)


# The command


def test_feedback_as_text_json_and_html(place: Place) -> None:
    path = place.folder / "talk.json"
    write(path, synthetic.conversations(1, 5, "train"))
    code, told, said = upspiral(place.patch, "feedback", str(path), "--model", "sft")
    assert code == 0 and NOTICE in said and told["notice"] == NOTICE and told["model"] == "sft"
    assert [r["response"] for r in told["responses"]] == [1, 2, 3, 4]
    for r in told["responses"]:
        assert 0 <= r["appropriate"] <= 1 and ("perfect" in r or "nothing valid" in r["problem"])
    page = place.folder / "page.html"
    flags = ["--model", "sft", "--last", "--samples", "3", "--format"]
    code, told, _ = upspiral(place.patch, "feedback", str(path), *flags, "html", "--out", str(page))
    assert code == 0 and len(told["responses"]) == 1
    assert NOTICE in page.read_text() and "Feedback for a helper" in page.read_text()
    out = place.folder / "said.json"
    code, told, _ = upspiral(place.patch, "feedback", str(path), *flags, "json", "--out", str(out))
    assert json.loads(out.read_text())["responses"] == told["responses"]
    assert json.loads(out.read_text())["notice"] == NOTICE
    assert command._newest() in ("sft", "dpo")
    for words, says in (
        ([str(place.folder / "none.json")], "cannot read"),
        ([str(path), "--samples", "0"], "samples"),
        ([str(path), "--server", "http://localhost:1/v1"], "name one with --model"),
    ):
        code, _, said = upspiral(place.patch, "feedback", *words)
        assert code == 2 and says in said, said


def test_a_served_model_is_told_what_is_wrong_and_asked_again(place: Place) -> None:
    path = place.folder / "talk.json"
    write(path, synthetic.conversations(1, 5, "train"))
    with serving() as server:
        server.script = ['{"perfect": true, "goodareas": ["Kindness"]}',
                         '{"perfect": true, "goodareas": ["Empathy"]}']  # fmt: skip
        code, told, said = upspiral(
            place.patch, "feedback", str(path), "--server", server.url, "--model", "m", "--last"
        )
    assert code == 0, said
    [given] = told["responses"]
    assert given["goodareas"] == ["Empathy"] and given["appropriate"] is None
    asked, again = (body["messages"] for body in server.seen)
    assert "helper in training" in asked[0]["content"] and "Kindness" in again[-1]["content"]
