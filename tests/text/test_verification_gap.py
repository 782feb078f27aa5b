"""The gap with simulated generators and verifiers of known accuracy, and with a tiny model."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.policies.likelihood import branches, next_tokens, teacher_forced
from common.policies.local import HFPolicy
from common.records import Candidate, Task
from tests.text.tiny import checkpoint, task, upspiral
from text.reading import ModelReader
from text.verification_gap import (
    Group,
    agreement,
    groups,
    lines,
    points,
    verdict,
    verifier,
    weights,
)


class Simulated:
    """Reads ``right`` or ``wrong`` in an answer and says so with accuracy ``accuracy``.

    ``bias`` is what it adds, in nats, to whatever comes first.
    """

    def __init__(self, accuracy: float, bias: float = 0.0, seed: int = 0) -> None:
        self.accuracy, self.bias = accuracy, bias
        self.rng = np.random.default_rng(seed)
        self.asked: list[str] = []

    def thinks(self, text: str) -> bool:
        right = "right" in text
        return right if self.rng.random() < self.accuracy else not right

    def write(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        assert len(set(seeds)) == len(prompts)
        self.asked += prompts
        said = [self.thinks(p.split("Proposed answer:")[1].split("\n")[0]) for p in prompts]
        if "Score:" in prompts[0]:
            return [f"Hm. Score: {9 if yes else 2}" for yes in said]
        return [f"Verdict: incorrect? No. Verdict: {'' if yes else 'in'}correct" for yes in said]

    def choose(self, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
        self.asked += prompts
        found = []
        for prompt in prompts:
            if list(options) == ["A", "B"]:
                likes = 2.0 if self.thinks(prompt.split("Proposed answer:")[1]) else -2.0
            else:
                first, second = re.findall(r"Answer \d: (.*)", prompt)
                likes = 2.0 * (self.thinks(first) - self.thinks(second))
            found.append([likes + self.bias, 0.0])
        return np.array(found)


def simulated(
    p: float = 0.3, questions: int = 150, samples: int = 16
) -> tuple[list[Group], list[np.ndarray]]:
    """Answers of a generator that is right with probability ``p``, and what they are worth."""
    worth = np.random.default_rng(5).random((questions, samples)) < p
    made = [
        Group(
            f"q{i}", "what?", tuple(f"{'right' if w else 'wrong'} {j}" for j, w in enumerate(row))
        )
        for i, row in enumerate(worth)
    ]
    return made, [row.astype(float) for row in worth]


@pytest.mark.parametrize("kind", ["mc", "cot-b", "cot-s"])
@pytest.mark.parametrize("accuracy", [0.5, 0.8])
def test_a_verifier_of_known_accuracy_has_the_gap_that_follows(kind: str, accuracy: float) -> None:
    p = 0.3
    asked, worth = simulated(p)
    utility = verifier(kind, Simulated(accuracy)).utilities(asked)
    [line] = lines("g", "v", worth, {kind: utility}, [("threshold", 0.5)])
    expected = accuracy * p / (accuracy * p + (1 - accuracy) * (1 - p)) - p
    assert abs(line.gap.absolute.value - expected) < 4 * line.gap.absolute.se + 0.01
    # The right one is above with a², they tie with 2 a (1 - a), half of which counts: a.
    assert abs(agreement(worth, utility) - accuracy) < 0.04


def test_a_perfect_tournament_finds_a_right_answer_whatever_its_bias() -> None:
    asked, worth = simulated(samples=11)
    for bias in (0.0, 3.0):
        utility = verifier("to", Simulated(1.0, bias)).utilities(asked)
        best = [w[u == u.max()] for w, u in zip(worth, utility, strict=True)]
        assert all(len(b) == 1 for b in best)
        assert all(b[0] == w.max() for b, w in zip(best, worth, strict=True))
    blind = verifier("to", Simulated(0.5, bias=30.0, seed=3)).utilities(asked)
    assert abs(agreement(worth, blind) - 0.5) < 0.06


@given(st.integers(1, 20))
def test_a_tournament_ends_with_one_winner(size: int) -> None:
    group = Group("q", "what?", tuple(f"wrong {i}" for i in range(size)))
    reader = Simulated(1.0)
    [utility] = verifier("to", reader).utilities([group])
    assert len(reader.asked) == 2 * (size - 1)  # every match sends one out, asked both ways
    assert (utility == 1).sum() == 1 and utility.min() >= 0
    rounds = max(1, math.ceil(math.log2(size)))
    assert set(np.round(utility * rounds, 6)) <= set(range(rounds + 1))


def test_an_ensemble_keeps_what_all_keep() -> None:
    asked, worth = simulated(questions=200)
    utilities = {
        kind: verifier(kind, Simulated(0.75, seed=i)).utilities(asked)
        for i, kind in enumerate(("mc", "cot-b", "cot-s"))
    }
    table = lines("g", "v", worth, utilities, [("threshold", 0.5), ("share", 0.25)])
    by = {line.kinds: line.gap for line in table if line.filter == "threshold"}
    assert len(table) == 3 * 2 + 3 + 1
    team = by["mc", "cot-b", "cot-s"]
    assert team.absolute.value > max(by[kind,].absolute.value for kind in utilities) + 0.1
    assert team.kept < min(by[kind,].kept for kind in utilities)


@pytest.mark.parametrize(
    ("text", "correct", "score"),
    [
        ("Verdict: correct", 1.0, 0.5),
        ("VERDICT - incorrect.", 0.0, 0.5),
        ("Verdict: incorrect, or rather: Verdict: correct", 1.0, 0.5),
        ("It is correct.", 0.0, 0.5),
        ("Score: 10", 0.0, 1.0),
        ("Score: 3. Score: 7/10", 0.0, 0.7),
        ("Score: 100", 0.0, 0.5),
        ("", 0.0, 0.5),
    ],
)
def test_what_is_read_in_a_text(text: str, correct: float, score: float) -> None:
    assert verdict(text) == correct and points(text) == score


def test_groups_are_by_question_and_in_order() -> None:
    tasks = [
        Task("b", "Question: two?", meta={"question": "two?"}),
        Task("a", "one?"),
        Task("c", ""),
    ]
    pool = [Candidate(f"{t}{i}", t, 0, f" {t} {i}\n") for i in range(2) for t in ("a", "b")]
    assert groups(tasks, pool) == [
        Group("b", "two?", ("b 0", "b 1")),
        Group("a", "one?", ("a 0", "a 1")),
    ]


def test_next_tokens_are_those_of_teacher_forcing(tmp_path: Path) -> None:
    policy = HFPolicy.load(checkpoint(tmp_path))
    prompts = [[3, 5, 6], [3], [3, 5, 6, 4, 7], [3, 5, 6]]
    found = next_tokens(policy.model, prompts, [9, 10], 0, batch_size=2)
    for row, prompt in zip(found, prompts, strict=True):
        sums = teacher_forced(policy.model, [prompt] * 2, [[9], [10]], 0).sums
        assert row == pytest.approx(sums, abs=1e-4)


def test_options_are_told_apart_after_what_they_share(tmp_path: Path) -> None:
    policy = HFPolicy.load(checkpoint(tmp_path, more=["b", "1", "2"]))
    tokens = policy.tokenizer
    spelt = [tokens(text, add_special_tokens=False)["input_ids"] for text in ("b 1", "b 2")]
    opening, firsts = branches(tokens, ["b 1", "b 2"])
    assert [[*opening, first] for first in firsts] == spelt and len(opening) > 0
    said = ModelReader(policy).choose(["2 + 2"], ["b 1", "b 2"])[0]
    prompt = policy.encode_prompt("2 + 2") + opening
    sums = teacher_forced(policy.model, [prompt] * 2, [[first] for first in firsts], 0).sums
    assert said == pytest.approx(sums, abs=1e-4) and said[0] != said[1]
    with pytest.raises(UserError, match="does not tell 'b', 'b 1' apart"):
        branches(tokens, ["b", "b 1"])


def test_the_command_with_models_that_verify_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))
    models = [str(checkpoint(tmp_path / f"m{seed}", seed, "AB12")) for seed in (1, 2)]
    words = [w for m in models for w in ("--models", m)]
    words += ["--task", task(tmp_path), "--questions", "4", "--samples", "6", "--filters",
              "share=0.5", "--set", "shots=0", "--set", "max_new_tokens=6"]  # fmt: skip
    code, told, said = upspiral(monkeypatch, "gap", "--out", str(tmp_path / "gap"), *words)
    assert code == 0, said
    assert told["parameters"].keys() == set(models)
    kinds = {"mc", "cot-b", "cot-s", "to"}
    assert told["matrix"].keys() == kinds
    assert all(told["matrix"]["mc"][g].keys() == set(models) for g in models)
    assert len(told["lines"]) == 4 * (4 + 6 + 1)  # pairs of models; kinds, pairs of kinds, all
    for line in told["lines"]:
        assert -1 <= line["gap"] <= 1 and line["n"] >= 2 and 0 <= line["J"] <= 1
    saved = json.loads((tmp_path / "gap" / "gap.json").read_text())
    assert saved["lines"] == told["lines"]
    assert (tmp_path / "gap" / "gap.md").read_text().count("\n") == len(told["lines"]) + 2
    ET.fromstring((tmp_path / "gap" / "gap.svg").read_text())
    # Asked again, nothing is sampled or read anew.
    code, again, said = upspiral(monkeypatch, "gap", "--out", str(tmp_path / "gap"), *words)
    assert again == told and "samples" not in said and "prompts read" not in said


def test_mistakes() -> None:
    from text.commands.gap import Gap

    for changes, said in (
        ({"verifiers": ("guess",)}, "no verifier 'guess'"),
        ({"filters": ("best=3",)}, "no filter 'best'"),
        ({"filters": ("share",)}, "no filter 'share'"),
        ({"filters": ()}, "nothing to verify with"),
        ({"samples": 1}, "1 samples"),
    ):
        with pytest.raises(UserError, match=said):
            Gap(**changes).checked() and Gap(**changes).config()  # type: ignore[arg-type]
    with pytest.raises(UserError, match="share"):
        weights("share", 2.0, [np.ones(2)])
