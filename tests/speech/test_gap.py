"""The gap between recorded and sampled codes: its parts by hand, and the command on the starter."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from common import registry
from common.cli import main
from common.commands import Output
from common.errors import UserError
from common.gate import paired_interval
from common.policies.local import HFPolicy
from common.records import Round, identity
from common.store import Store
from common.two_sample import Divergence, TwoSample, mmd
from speech import corpora, gap, gap_report
from speech.align import AlignConfig
from speech.commands.gap import keep
from speech.lm import stream
from speech.segmentation import Segment
from speech.speaker import Golden, Speaker, recordings_of
from speech.speaking import load_policy, speaker_of, text_tasks
from speech.vocoder import Vocoder

pytestmark = pytest.mark.timeout(600)

STREAM = stream.completion(
    [Segment("_", 0, 2), Segment("k", 2, 3), Segment("l", 3, 5)], [7, 7, 1, 2, 3]
)


def quiet(done: int, total: int, what: str) -> None: ...


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        prompts = registry.get("prompts")
    except UserError as error:
        pytest.skip(f"the recorded prompts are not installed: {error}")
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPSPIRAL_HOME", str(folder))
        patch.setenv("UPSPIRAL_PROMPTS", str(prompts))
        yield folder  # type: ignore[misc]


@pytest.fixture(scope="module")
def starter() -> HFPolicy:
    return load_policy("starter")


@pytest.fixture(scope="module")
def vocoder(starter: HFPolicy) -> Speaker:
    return speaker_of(AlignConfig(), starter)


def version(name: str, excess: float) -> gap.Version:
    a = {str(i): float(i % 3) for i in range(6)}
    b = {text: value + excess for text, value in a.items()}
    change = gap.Difference(1.0, 1.0 + excess, paired_interval(a, b))
    points = [[float(i), excess] for i in range(6)]
    told = Divergence(0.2, 0.1, excess, excess + 0.01, excess + 0.02, 0.5)  # a bar below its ends
    return gap.Version(
        name, TwoSample(excess, 0.0, 0.01), TwoSample(0.9, 0.5, 0.01), [told] * gap.LONGEST,
        {"seconds": change}, {"wer": change, "dnsmos": change}, points, points,
    )  # fmt: skip


@pytest.fixture
def found() -> gap.Gap:
    points = [[float(i), 0.0] for i in range(6)]
    versions = [version("starter", 0.3), version("round 1", 0.1)]
    texts = [str(i) for i in range(6)]
    return gap.Gap("<run> & co", 0, texts, 0, [0.5, 0.2], points, points, versions)


def test_lengths_by_hand() -> None:
    assert gap.lengths(STREAM, 50.0) == {
        "seconds": 0.1,
        "silence": 0.04,
        "phones_a_second": pytest.approx(2 / 0.06),
    }


def test_the_text_is_taken_off_and_the_difference_stays() -> None:
    rng = np.random.default_rng(0)
    text = 50 * rng.normal(size=(30, 4))
    x, y = text + rng.normal(size=(30, 4)), text + rng.normal(1.0, 1, size=(30, 4))
    a, b = gap.without_text(x, y)
    assert np.allclose(a + b, 0) and np.allclose(b - a, y - x)
    assert mmd(a, b, 0).value > 100 * mmd(x, y, 0).value


def test_axes_are_the_golden_ones() -> None:
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(12, 5)) * np.array([9, 3, 1, 1, 1])
    far = wide + np.array([0, 0, 100, 0, 0])  # off the plane of the first two
    pca, tsne, explained = gap.places(wide, [wide, far], 0)
    assert np.allclose(pca[0], pca[1]) and explained[0] > explained[1] > 0
    assert np.abs(pca[2] - pca[0]).max() < 50
    assert [side.shape for side in tsne] == [(12, 2)] * 3
    assert np.array_equal(tsne[0], gap.places(wide, [wide, far], 0)[1][0])


def test_a_gap_comes_back_from_disk(found: gap.Gap, tmp_path: Path) -> None:
    found.save(tmp_path / "gap.json")
    assert gap.Gap.load(tmp_path / "gap.json") == found
    assert [p.name for p in tmp_path.iterdir()] == ["gap.json"]
    assert "pca" not in json.dumps(found.facts(points=False))


def test_pictures_are_svg_that_says_what_was_found(found: gap.Gap) -> None:
    for svg in (gap_report.embedding(found), gap_report.curves(found)):
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert "golden" in svg and "synthetic" in svg and "round 1" in svg
    assert "p 0.01" in gap_report.embedding(found)
    rows = gap_report.rows(found)
    assert [row[0] for row in rows] == ["starter", "round 1"]
    assert all(len(row) == len(gap_report.HEADINGS) for row in rows)
    measured = gap_report.differences(found)
    assert len(measured) == 2 * 3 and all(len(r) == len(gap_report.MEASURED) for r in measured)


def test_the_section_of_a_report(found: gap.Gap, tmp_path: Path) -> None:
    assert gap_report.section(tmp_path) is None
    replace(found, split="train").save(tmp_path / "gap.json")
    section = gap_report.section(tmp_path)
    assert section is not None
    assert section.figures == (gap_report.embedding(found), gap_report.curves(found))
    assert section.rows == gap_report.rows(found)
    assert "6 recorded train texts" in section.caption


@pytest.mark.parametrize("scores", [1, 2, 3, 4])
def test_a_panel_for_every_score_and_none_empty(found: gap.Gap, scores: int) -> None:
    (change,) = found.versions[0].lengths.values()
    measured = {f"score {i}": change for i in range(scores)}
    versions = [replace(v, scores=measured) for v in found.versions]
    svg = gap_report.curves(replace(found, versions=versions))
    assert svg.count('id="axes_') == 1 + scores
    assert all(name in svg for name in measured)


def test_states_depend_on_their_own_row(starter: HFPolicy) -> None:
    tasks = text_tasks(["call", "press one to leave the conference"])
    prompts = [task.prompt for task in tasks]
    rows = [STREAM, STREAM.replace("<c7>", "<c9> <c9> <c4>")]
    both = gap.hidden(starter, prompts, rows)
    alone = np.concatenate([gap.hidden(starter, [p], [r]) for p, r in zip(prompts, rows)])  # noqa: B905
    assert both.shape == (2, starter.model.config.hidden_size)
    assert np.allclose(both, alone, atol=1e-4)
    # By hand: the last layer's states where a code stands, their mean.
    ids = starter.encode_prompt(prompts[0]) + starter.encode_completion(rows[0])
    with torch.inference_mode():
        out = starter.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
    symbols = starter.tokenizer.convert_ids_to_tokens(ids)
    where = [i for i, s in enumerate(symbols) if stream.CODE.fullmatch(s)]
    assert len(where) == 5
    assert np.allclose(out[where].mean(0).numpy(), alone[0], atol=1e-4)
    with pytest.raises(ValueError, match="without a code"):
        gap.hidden(starter, prompts[:1], ["k l # </s>"])


def test_dev_recordings_have_golden_streams_and_no_lesson_sees_them(
    home: Path, vocoder: Speaker
) -> None:
    corpus = corpora.load("prompts")
    texts = [u.text for u in corpus.split("dev")][:2]
    tasks = text_tasks(texts)
    # What alignment learns from: recordings of train alone.
    assert not Golden(recordings_of(tasks, corpus.split("train")), vocoder)
    found = Golden(recordings_of(tasks, corpus.split("dev")), vocoder)
    assert set(found) == {t.id for t in tasks}
    for task in tasks:
        codes, phones = stream.frames(found[task.id])
        wanted = {p for p in stream.phones_of(task.prompt) if p != "|"}
        assert codes and wanted <= {*phones} <= wanted | {"_"}


def test_recordings_against_themselves_have_no_gap(
    home: Path, starter: HFPolicy, vocoder: Speaker, tmp_path: Path
) -> None:
    corpus = corpora.load("prompts")
    tasks = text_tasks([u.text for u in corpus.split("dev")][:6])
    recorded = Golden(recordings_of(tasks, corpus.split("dev")), vocoder)
    same = {"same": lambda wanted: [recorded[t.id] for t in wanted]}
    found = gap.analyse("x", starter, vocoder, [], tasks, recorded, same, 0, quiet, tmp_path)
    (one,) = found.versions
    assert one.mmd.value == 0 and one.mmd.p == 1 and one.pca == found.pca
    assert all(d.value == d.excess == 0 and d.p == 1 for d in one.ngrams)
    assert one.lengths["seconds"].change[:3] == (0, 0, 0)
    other = {"shuffled": lambda wanted: [recorded[t.id] for t in [*wanted[1:], wanted[0]]]}
    moved = gap.analyse("x", starter, vocoder, [], tasks, recorded, other, 0, quiet, tmp_path)
    assert moved.versions[0].pca != found.pca
    assert abs(moved.versions[0].ngrams[0].value) < 1e-9  # the same codes, under other texts
    mute = {"mute": lambda wanted: ["# </s>" for _ in wanted]}
    with pytest.raises(gap.TooFewError, match="0 texts are said"):
        gap.analyse("x", starter, vocoder, [], tasks, recorded, mute, 0, quiet, tmp_path)


def test_the_command_on_a_run(
    home: Path, starter: HFPolicy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store()
    lease = store.lease(
        "r", "speech/align:tiny", asdict(AlignConfig(rounds=1, gap_texts=5)), seed=3
    )
    assert main(["speech", "gap", "--policy", "r", "--out", str(tmp_path / "none")]) == 2
    assert "no round of 'r' has ended" in capsys.readouterr().err
    states = []
    for scale in (0.0, 0.05):
        with torch.no_grad():
            torch.manual_seed(0)
            for weight in starter.model.parameters():
                weight.add_(scale * weight.std() * torch.randn_like(weight))
        folder = tmp_path / "policy"
        folder.mkdir()
        starter.save(folder)
        states.append(store.artifacts.put_folder(folder, move=True))
    store.add("r", [Round(0, True, states[0]), Round(1, True, states[1])])
    lease.close("done")
    # At the end of aligning, as the report shows it.
    keep(store, store.run("r"), Output(sys.stdout))
    assert "no gap" not in capsys.readouterr().err
    kept = gap.Gap.load(store.folder("r") / "gap.json")
    assert [v.name for v in kept.versions] == ["starter", "round 1"] and kept.seed == 3
    before, after = kept.versions
    assert {*before.scores} == {*gap.SCORES} and before.scores["wer"].change.n == 5
    assert before.scores["wer"].golden == after.scores["wer"].golden
    assert before.lengths["seconds"] != after.lengths["seconds"]
    assert all(math.isfinite(v.mmd.value) and 0 < v.mmd.p <= 1 for v in kept.versions)
    files = stamps(store.folder("gap"))
    assert len(files) == 3  # golden and two versions
    # Resumed, the run has it already.
    stamp = stamps(store.folder("r"))
    keep(store, store.run("r"), Output(sys.stdout))
    assert stamps(store.folder("r")) == stamp
    # The command finds the same, and judges nothing again.
    out = tmp_path / "gap"
    command = ["speech", "gap", "--policy", "r", "--count", "5", "--out", str(out), "--json"]
    assert main([*command, "--seed", "3"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == kept.facts(points=False) | {"out": str(out)}
    assert {p.name for p in out.iterdir()} == {"gap.json", "embedding.svg", "rounds.svg"}
    assert stamps(store.folder("gap")) == files
    page = tmp_path / "report.html"
    assert main(["runs", "report", "r", "--out", str(page)]) == 0
    assert "Gap to the recordings" in page.read_text() and "5 recorded dev" in page.read_text()


def stamps(folder: Path) -> dict[Path, int]:
    """When each file below ``folder`` was written."""
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gap_texts": 0}, ""),
        ({"corpus": "csv:elsewhere"}, "is of 'csv:elsewhere'"),
        ({"gap_texts": 4}, "4 texts are recorded"),
    ],
)
def test_a_run_without_a_gap_says_why(
    home: Path, settings: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store()
    name = f"without-{identity(settings)}"
    lease = store.lease(name, "speech/align:tiny", asdict(AlignConfig(**settings)))
    store.add(name, [Round(0, True, store.artifacts.put_folder(registry.get("starter-ar")))])
    lease.close("done")
    keep(store, store.run(name), Output(sys.stdout))
    printed = capsys.readouterr()
    assert said in printed.err and ("no gap to the recordings" in printed.err) == bool(said)
    assert not printed.out and not (store.folder(name) / "gap.json").exists()


def test_settings_ask_for_no_negative_texts() -> None:
    with pytest.raises(UserError, match="gap_texts=-1"):
        AlignConfig(gap_texts=-1)
    assert AlignConfig().gap_texts == 30


def test_what_makes_sound_has_a_name(vocoder: Speaker) -> None:
    assert isinstance(vocoder, Vocoder)
    name = vocoder.fingerprint()
    other = torch.zeros(1, 16_000)[0].numpy()
    assert Vocoder.starter().fingerprint() == name != vocoder.with_voice(other).fingerprint()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--count", "4"], "4 texts — ask for 5 or more"),
        (["--policy", "nobody"], "nobody"),
        (["--temperature", "-1"], "temperature"),
        (["--out", "FILE"], "is a file"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    given = [str(tmp_path / "file") if word == "FILE" else word for word in words]
    assert main(["speech", "gap", *given]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and len(error.splitlines()) == 1
