"""Fine-tuning in every format, the sets that are derived, the ranker as judge, and the commands."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common.commands import Output
from common.errors import UserError
from common.records import Candidate, Task
from common.store import Store
from tests.common.tiny import context
from tests.text.pretraining.texts import corpus, folder, quiet
from tests.text.tiny import checkpoint, upspiral
from tests.text.tiny import task as saying
from text.commands.improve import execute
from text.improve import ImproveConfig
from text.pretraining import as2, fever, models, summaries
from text.pretraining.ranker import SCORE, AnswerSelection, Ranker
from text.pretraining.ranking import evaluate
from text.pretraining.recipes import PretrainConfig
from text.pretraining.scorer import Scorer
from text.pretraining.train import pretrain
from text.pretraining.tune import TuneConfig, tune
from text.setup import judge_of, settings, stored

SMALL = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2,
         "intermediate_size": 64}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, and an encoder that was hardly trained on them."""
    made = tmp_path_factory.mktemp("tuning")
    folder(made / "texts")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("UPSPIRAL_HOME", str(made / "home"))
        patched.setitem(models.SIZES, "tiny", SMALL)
        config = PretrainConfig(objective="mlm", corpus=f"folder:{made / 'texts'}", vocabulary=300,
                                length=32, steps=2, batch=4)  # fmt: skip
        pretrain(config, made / "encoder", quiet)
    return made


@pytest.fixture(autouse=True)
def _home(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSPIRAL_HOME", str(place / "home"))


def colours(path: Path, count: int = 60) -> Path:
    """Questions that name a word, and the right sentence has it: ``--data`` of a ranker."""
    words = "red green blue black white grey".split()
    rows = []
    for number in range(count):
        random = np.random.default_rng(number)
        asked = words[number % 6]
        for word in [*random.permutation(words)[:3].tolist(), asked]:
            label = int(word == asked)
            rows.append({"Question": f"{asked} {number}", "Sentence": word, "Label": label})
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_set_is_derived_from_headings(tmp_path: Path) -> None:
    made = corpus(tmp_path)
    homes = {s: (d.title, section.heading) for d in (made[i] for i in range(len(made)))
             for section in d.sections for p in section.paragraphs for s in p}  # fmt: skip
    found = as2.derived(made, "train", 50)
    assert len(found) == 50 and len({q.id for q in found}) == 50
    for q in found:
        title, heading = q.text.split(": ")
        assert sum(q.right) == 3 and len(set(q.sentences)) == len(q.sentences) == 12
        for sentence, right in zip(q.sentences, q.right, strict=True):
            assert right == (homes[sentence] == (title, heading))
        wrong = [homes[s] for s, r in zip(q.sentences, q.right, strict=True) if not r]
        assert sum(t == title for t, _ in wrong) == 4
        assert sum(t != title and h == heading for t, h in wrong) >= 3
    assert as2.derived(made, "train", 10) == found[:10]
    assert {q.split for q in as2.derived(made, "dev", 5)} == {"dev"}
    with pytest.raises(UserError, match="no train document"):
        summaries.derived(made, "train", 5)


def test_questions_from_files(tmp_path: Path) -> None:
    found = as2.load(colours(tmp_path / "q.jsonl"))
    assert sum(map(len, found.values())) == 60 and all(found.values())
    q = found["train"][0]
    assert all(r == (s == q.text.split()[0]) for s, r in zip(q.sentences, q.right, strict=True))
    (tmp_path / "test.tsv").write_text("question\tanswer\tlabel\nq\ta\t1\nq\tb\t0\n")
    (row,) = as2.load(tmp_path / "test.tsv")["test"]
    assert row.sentences == ("a", "b") and row.right == (True, False) and row.decides
    (tmp_path / "bad.jsonl").write_text('{"question": "q", "answer": "a", "label": "maybe"}')
    with pytest.raises(UserError, match="row 1 of .* is no candidate"):
        as2.load(tmp_path / "bad.jsonl")
    (tmp_path / "bad.jsonl").write_text("[1, 2]")
    with pytest.raises(UserError, match="row 1 of .* is no object"):
        as2.load(tmp_path / "bad.jsonl")
    (tmp_path / "bad.json").write_text('{"question": "q"}')
    with pytest.raises(UserError, match="no list of rows"):
        as2.load(tmp_path / "bad.json")


@pytest.mark.parametrize("head", ["pair", "IE_k"])
def test_a_ranker_learns_and_is_kept(place: Path, head: str) -> None:
    config = TuneConfig(model=str(place / "encoder"), data=str(colours(place / "q.jsonl")),
                        head=head, candidates=3, segment=12, length=16, batch=8, epochs=2,
                        rate=5e-3)  # fmt: skip
    told = tune(config, place / f"ranker-{head}", quiet)
    assert set(told["test"]) == {"map", "mrr", "p@1", "hr@5", "ndcg"}
    assert told["test"]["map"]["n"] == told["sizes"]["test"] > 4
    assert len(told["dev"]) == 2
    ranker = Ranker.load(place / f"ranker-{head}")
    again = {m.name: m.value for m in evaluate(ranker.groups(as2.load(place / "q.jsonl")["test"]))}
    assert again == pytest.approx({name: m["value"] for name, m in told["test"].items()}, abs=1e-9)
    assert tune(config, place / f"ranker-{head}", quiet) == told
    ranked = ranker.rank("red 4", ["blue", "red", "green", "grey"])
    assert [p for p, _ in ranked] == sorted((p for p, _ in ranked), reverse=True)
    assert {s for _, s in ranked} == {"blue", "red", "green", "grey"}


@pytest.mark.parametrize("head", ["pair", "AE_k"])
def test_killed_and_continued_ends_the_same(place: Path, head: str) -> None:
    config = TuneConfig(model=str(place / "encoder"), data=str(colours(place / "q.jsonl")),
                        head=head, candidates=3, segment=12, length=16, batch=16, train=20,
                        epochs=2, rate=5e-3)  # fmt: skip
    whole = tune(config, place / f"whole-{head}", quiet)
    parted = place / f"parted-{head}"

    def stopping(done: int, total: int, what: str) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(config, parted, stopping)
    assert tune(config, parted, quiet) == whole
    assert not (parted / "work").exists()
    with pytest.raises(UserError, match="epochs=2"):
        tune(replace(config, epochs=3), parted, quiet)


def test_fever_is_read_with_its_pages(tmp_path: Path) -> None:
    pages = tmp_path / "wiki-pages"
    pages.mkdir()
    (pages / "wiki-001.jsonl").write_text(
        json.dumps(
            {"id": "Oslo", "lines": "0\tOslo is a city -LRB- in Norway -RRB- .\tNorway\n1\t"}
        )
        + "\n"
        + json.dumps({"id": "Bergen", "lines": "0\tBergen rains.\n1\tIt has a harbour.\tx\ty"})
    )
    rows = [
        {"id": 1, "claim": "Oslo is in Norway.", "label": "SUPPORTS",
         "evidence": [[[1, 2, "Oslo", 0]]]},
        {"id": 2, "claim": "Bergen is dry.", "label": "REFUTES",
         "evidence": [[[1, 3, "Bergen", 0], [1, 3, "Bergen", 1]], [[4, 5, "Bergen", 0]]]},
        {"id": 3, "claim": "Oslo sings.", "label": "NOT ENOUGH INFO",
         "evidence": [[[1, None, None, None]]]},
        {"id": 4, "claim": "Found.", "label": "SUPPORTS", "evidence": [],
         "predicted_evidence": [["Bergen", 1]]},
    ]  # fmt: skip
    (tmp_path / "paper_dev.jsonl").write_text("\n".join(map(json.dumps, rows)))
    claims = fever.load(tmp_path)["dev"]
    assert [c.label for c in claims] == [0, 1, 2, 0]
    assert claims[0].sentences == ("Oslo is a city ( in Norway ) .",)
    assert claims[1].sentences == ("Bergen rains.", "It has a harbour.")
    assert len(claims[2].sentences) == 5 and claims[3].sentences == ("It has a harbour.",)
    (pages / "wiki-001.jsonl").unlink()
    with pytest.raises(UserError, match="has none"):
        fever.load(tmp_path)
    (tmp_path / "paper_dev.jsonl").write_text('{"claim": "x", "label": "MAYBE"}')
    with pytest.raises(UserError, match="is no claim"):
        fever.load(tmp_path)
    (tmp_path / "paper_dev.jsonl").write_text('{"claim": "x", "label": "SUPPORTS", "evidence": 5}')
    with pytest.raises(UserError, match="no evidence of FEVER's form"):
        fever.load(tmp_path)


@pytest.mark.parametrize("head", ["pair", "AE_1"])
def test_claims_are_verified(place: Path, head: str) -> None:
    words = ("bread", "garden", "hammers")
    for split, count in (("train", 48), ("dev", 9), ("test", 12)):
        rows = [
            {"claim": f"c {i}", "label": fever.LABELS[i % 3], "sentences": [words[i % 3], "it"]}
            for i in range(count)
        ]
        (place / "claims").mkdir(exist_ok=True)
        (place / f"claims/{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = TuneConfig(task="fever", model=str(place / "encoder"), data=str(place / "claims"),
                        head=head, candidates=2, segment=8, length=16, batch=8, epochs=10,
                        rate=4e-3)  # fmt: skip
    told = tune(config, place / f"fever-{head}", quiet)
    assert told["test"]["accuracy"]["n"] == 12
    assert told["test"]["accuracy"]["value"] > 0.6  # a third is chance
    scorer = Scorer.load(place / f"fever-{head}")
    assert scorer.scores([["c 0", "bread", "it"]]).shape == (1, 3)
    with pytest.raises(UserError, match="ranks no sentences"):
        Ranker.load(place / f"fever-{head}")


def test_rouge() -> None:
    found = summaries.rouge("the cat sat on the mat", "The cat was on the mat.")
    assert found["rouge1"] == pytest.approx(10 / 12) and found["rougeL"] == pytest.approx(10 / 12)
    assert found["rouge2"] == pytest.approx(6 / 10)
    assert summaries.rouge("", "a") == {"rouge1": 0.0, "rouge2": 0.0, "rougeL": 0.0}


def test_a_summariser_is_made_of_an_encoder(place: Path) -> None:
    rows = [{"article": f"w{i % 3} and more words about it", "highlights": f"w{i % 3}"}
            for i in range(40)]  # fmt: skip
    (place / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for i, row in enumerate(rows):
        row["article"] += f" {i}"
    (place / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = TuneConfig(task="summary", model=str(place / "encoder"), length=16, batch=8, epochs=1,
                        data=str(place / "pairs.jsonl"), rate=5e-3)  # fmt: skip
    told = tune(config, place / "summariser", quiet)
    assert set(told["test"]) == {"rouge1", "rouge2", "rougeL"}
    from transformers import AutoModelForSeq2SeqLM

    assert AutoModelForSeq2SeqLM.from_pretrained(place / "summariser").config.is_encoder_decoder


class ByLength(Scorer):
    """Says that longer texts answer better."""

    def __init__(self) -> None:
        self.model = torch.nn.Linear(1, 1)

    def scores(self, rows):  # type: ignore[no-untyped-def, override]
        return np.array([[0.0, -1 / len(row[1])] for row in rows], np.float32)


def test_the_judge_scores_answers_by_their_bare_question(tmp_path: Path) -> None:
    tasks = {"t": Task("t", "Examples… Question: why?", meta={"question": "why?"})}
    pool = [Candidate(f"c{i}", "t", 1, "x" * (i + 1)) for i in range(3)]
    scores = AnswerSelection(Ranker(ByLength())).judge(tasks, pool, context(tmp_path))
    assert [row[SCORE] for row in scores] == [-1.0, -0.5, pytest.approx(-1 / 3)]


def test_lessons_come_from_the_ranker(place: Path) -> None:
    ranker = TuneConfig(model=str(place / "encoder"), data=str(colours(place / "q.jsonl")),
                        length=16, batch=16, epochs=1)  # fmt: skip
    tune(ranker, place / "judge", quiet)
    out = Output(io.StringIO(), json=True)
    config = ImproveConfig(
        model=str(checkpoint(place / "model")), task=saying(place), shots=0, rounds=1, train=6,
        dev=2, test=2, samples=4, measured=2, max_new_tokens=4,
        judge=f"answer-selection:{place / 'judge'}",
    )  # fmt: skip
    found = execute(config, "tiny", "ranked", 0, out)
    assert found.rounds[1].pairs > 0 and settings(Store().run("ranked")) == config
    for judge, method, match in (
        ("answers-selection", "vanilla", "unknown judge"),
        ("answer-selection:x", "dive", "does not tell"),
        ("answer-selection:x", "vanilla", "no fine-tuned encoder"),
    ):
        with pytest.raises(UserError, match=match):
            judge_of(ImproveConfig(judge=judge, method=method), [])
    assert "judge" not in stored(ImproveConfig())  # runs keep the names they had


def test_the_commands(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = f"folder:{place / 'texts'}"
    code, told, _ = upspiral(monkeypatch, "pretrain", "corpus", "--corpus", texts)
    assert code == 0 and sum(s["documents"] for s in told["splits"].values()) == 40
    small = ["--set", "length=32", "--set", "batch=4", "--set", "vocabulary=300"]
    monkeypatch.setitem(models.SIZES, "tiny", SMALL)
    words = ["pretrain", "train", "--corpus", texts, "--steps", "2", "--out", str(place / "rts")]
    code, told, said = upspiral(monkeypatch, *words, *small)
    assert code == 0 and told["objective"] == "rts" and "rts steps: 2/2" in said
    code, told, said = upspiral(monkeypatch, *words, "--objective", "rtz")
    assert code == 2 and "did you mean 'rts'" in told["remedy"]
    # A start that failed stands in nobody's way.
    other = [*words[:-1], str(place / "other"), "--model"]
    code, told, _ = upspiral(monkeypatch, *other, str(place / "nowhere"), *small)
    assert code == 2 and "nowhere" in told["error"]
    code, told, said = upspiral(monkeypatch, *other, "tiny", *small)
    assert code == 0, said
    # What was never taught to rank ranks nothing.
    rank = ["pretrain", "rank", "What?", "--text", str(place / "texts/person3.md"), "--model"]
    code, told, _ = upspiral(monkeypatch, *rank, str(place / "rts"))
    assert code == 2 and "no fine-tuned encoder" in told["error"]
    tuned = ["--set", "epochs=1", "--set", "train=8", "--set", "dev=4", "--set", "test=4"]
    code, told, _ = upspiral(
        monkeypatch, "pretrain", "tune", "--model", str(place / "rts"), "--corpus", texts,
        "--out", str(place / "tuned"), *tuned,
    )  # fmt: skip
    assert code == 0 and told["test"]["map"]["n"] == 4
    code, told, _ = upspiral(
        monkeypatch, "pretrain", "rank", "What does Person3 eat?", "--model", str(place / "tuned"),
        "--text", str(place / "texts/person3.md"),
    )  # fmt: skip
    assert code == 0 and len(told["sentences"]) == 5 and told["of"] == 18
