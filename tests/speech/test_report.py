"""What a run's report adds for speech: which texts can be heard, in which order, and by whom."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from common import registry
from common.cli import main
from common.errors import UserError
from common.policies.local import HFPolicy
from common.records import Metric, Round, Task
from common.stages import Context
from common.store import Store
from common.tracking import Nothing
from speech import audio, corpora
from speech.align import AlignConfig, SpeechMetrics
from speech.judges import Quality
from speech.report import choose, listening
from speech.setup import sampler
from speech.speaking import load_policy, speaker_of, text_tasks

pytestmark = pytest.mark.timeout(300)
CONFIG = AlignConfig(max_new_tokens=400, test_samples=2)
ERRORS = {"starter": [0.0, 0.5, 0.25, 0.75], "final": [0.125, 1.0, 0.0, 0.5]}
SEED = 3


def quiet(done: int, total: int, what: str) -> None: ...


def put(store: Store, policy: HFPolicy, folder: Path) -> str:
    where = folder / "policy"
    where.mkdir()
    policy.save(where)
    return store.artifacts.put_folder(where, move=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs of one start: one with a round kept and one undone, one with none kept, one untested."""
    try:
        prompts = registry.get("prompts")
    except UserError as error:
        pytest.skip(f"the recorded prompts are not installed: {error}")
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPSPIRAL_HOME", str(folder))
        patch.setenv("UPSPIRAL_PROMPTS", str(prompts))
        store = Store()
        policy = load_policy("starter")
        states = [put(store, policy, folder)]
        with torch.no_grad():
            torch.manual_seed(0)
            for weight in policy.model.parameters():
                weight.add_(0.02 * weight.std() * torch.randn_like(weight))
        states.append(put(store, policy, folder))
        texts = sorted({u.text for u in corpora.load("prompts").split("test")}, key=len)[:4]
        tasks = [Task(t.id, t.prompt, "test", t.reference) for t in text_tasks(texts)]
        for run, kept, rounds in (("two", (0, 1), (0, 1)), ("none", (0,), (0,)), ("new", (0,), ())):
            lease = store.lease(run, "speech/align:tiny", asdict(CONFIG), SEED)
            store.add(run, [*tasks, *(Round(i, i in kept, states[i % 2]) for i in range(3))])
            store.add(run, [wer(tasks, name, round) for name, round in zip(ERRORS, rounds)])  # noqa: B905
            lease.close("failed" if run == "new" else "done")
        store.close()
        yield folder


def wer(tasks: list[Task], name: str, round: int) -> Metric:
    items = dict(zip((t.id for t in tasks), ERRORS[name], strict=True))
    return Metric("wer", float(np.mean(ERRORS[name])), 0.1, 4, "test", round, "lower", items)


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    made = Store(home)
    yield made
    made.close()


def test_half_the_worst_and_half_a_draw() -> None:
    tasks = [Task(f"t{i}", "", "test", str(i)) for i in range(100)]
    errors = {task.id: (i % 50) / 50 for i, task in enumerate(tasks)}
    found = choose(tasks, errors, 8)
    order = [errors[task.id] for task in found]
    assert order == sorted(order, reverse=True) and len({t.id for t in found}) == 8
    assert order[:4] == [0.98, 0.98, 0.96, 0.96], "the worst of all"
    # Which others: whatever their errors are.
    turned = {task.id: 1 - value for task, value in zip(tasks, errors.values(), strict=True)}
    others = choose(tasks, dict.fromkeys(errors, 0.5), 100)
    assert [t.id for t in others] == [t.id for t in choose(tasks, {}, 100)]
    assert {t.id for t in found[4:]} <= {t.id for t in choose(tasks, {}, 8)}
    assert {t.id for t in choose(tasks, turned, 8)[4:]} <= {t.id for t in choose(tasks, {}, 8)}
    assert choose(tasks[::-1], errors, 8) == found, "the order that they come in is nothing"
    assert len(choose(tasks[:3], errors, 8)) == 3 and choose([], {}, 8) == []


def test_versions_stand_beside_the_recording_and_the_worst_come_first(store: Store) -> None:
    samples, caption = listening(store, "two")
    assert [s.note for s in samples] == [
        "WER 0.50 → 1.00", "WER 0.75 → 0.50", "WER 0.00 → 0.12", "WER 0.25 → 0.00",
    ]  # fmt: skip
    assert "All 4 test texts" in caption and "starter → round 1" in caption
    assert "mean of 2 samples, the first is played" in caption
    for sample in samples:
        assert [p.label for p in sample.players] == ["starter", "round 1", "recording"]
        assert all(p.mime == "audio/ogg" and p.data[:4] == b"OggS" for p in sample.players)
        assert len({p.data for p in sample.players}) == 3
    fewer, why = listening(store, "two", 2)
    assert fewer[0].note == samples[0].note and len(fewer) == 2
    assert "2 of 4 test texts" in why and "first 1 have the most" in why


def test_what_is_played_was_measured(store: Store, home: Path, tmp_path: Path) -> None:
    """The sound of the starter's clips lies in the store already, when test has been measured."""
    policy = load_policy("starter")
    speaker = speaker_of(CONFIG, policy)
    context = Context(SEED, 0, store.artifacts, Nothing(), quiet, tmp_path)
    measure = SpeechMetrics(speaker, [Quality()], sampler(CONFIG), CONFIG.test_samples)
    measure.measure(policy, store.tasks("none", "test"), context)

    def sounds() -> set[Path]:
        return set((home / "artifacts").rglob("*.wav"))

    before = sounds()
    assert len(before) >= 2 * 4
    samples, caption = listening(store, "none")
    assert sounds() == before
    assert [len(s.players) for s in samples] == [2] * 4
    assert "as no round was kept" in caption
    assert [s.note for s in samples] == ["WER 0.75", "WER 0.50", "WER 0.25", "WER 0.00"]


def test_before_the_test_nothing_is_said_of_errors(store: Store) -> None:
    samples, caption = listening(store, "new", 2)
    assert [s.note for s in samples] == ["", ""] and "drawn by their ids" in caption
    assert "WER" not in caption
    lease = store.lease("bare", "speech/align:tiny", asdict(CONFIG), SEED)
    lease.close("failed")
    assert listening(store, "bare") == ([], "")


def test_the_report_holds_them(home: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert main(["runs", "report", "two", "--out", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    found = re.findall(r'src="data:audio/ogg;base64,([^"]+)"', text)
    assert len(found) == 4 * 3 and len(text) < 1_000_000
    for i, data in enumerate(found[:3]):
        clip = tmp_path / f"{i}.ogg"
        clip.write_bytes(base64.b64decode(data))
        wave = audio.read(clip)
        level = 20 * np.log10(np.sqrt(np.mean(wave**2)))
        assert level == pytest.approx(-26, abs=0.5), "none is louder than another"
    assert text.index("WER 0.50 → 1.00") < text.index("WER 0.25 → 0.00")
    assert "Gap to the recordings" not in text
