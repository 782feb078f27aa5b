"""Listening tests of a run: which versions, what is said for them, and what answers teach."""

from __future__ import annotations

import json
import subprocess
import sys
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
from common.records import Rating, Round, Task
from common.store import Run, Store
from speech import audio, corpora
from speech.align import AlignConfig
from speech.listen import human, levelled, plan, prepare
from speech.lm import stream
from speech.speaking import load_policy, text_tasks

pytestmark = pytest.mark.timeout(300)
TEXTS = ["press one", "good bye"]


def quiet(done: int, total: int, what: str) -> None: ...


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a run of three rounds: the starter, one that differs a little, one undone."""
    try:
        prompts = registry.get("prompts")
    except UserError as error:
        pytest.skip(f"the recorded prompts are not installed: {error}")
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPSPIRAL_HOME", str(folder))
        patch.setenv("UPSPIRAL_PROMPTS", str(prompts))
        store = Store()
        config = asdict(AlignConfig(max_new_tokens=400))
        lease = store.lease("r", "speech/align:tiny", config, seed=3)
        policy = load_policy("starter")
        states = [saved(store, policy, folder)]
        with torch.no_grad():
            torch.manual_seed(0)
            for weight in policy.model.parameters():
                weight.add_(0.02 * weight.std() * torch.randn_like(weight))
        states += [saved(store, policy, folder)] * 2
        tasks = [Task(t.id, t.prompt, "train", t.reference) for t in text_tasks(TEXTS)]
        test = [u.text for u in corpora.load("prompts").split("test")][:1]
        rounds = [Round(i, i < 2, state) for i, state in enumerate(states)]
        store.add("r", [*tasks, *(Task(t.id, t.prompt, "test", t.reference)
                                  for t in text_tasks(test)), *rounds])  # fmt: skip
        lease.close("done")
        store.lease("bare", "speech/align:tiny", config).close("failed")
        store.lease("craft", "scenes/craft:demo").close("done")
        store.close()
        yield folder


def saved(store: Store, policy: HFPolicy, folder: Path) -> str:
    where = folder / "policy"
    where.mkdir()
    policy.save(where)
    return store.artifacts.put_folder(where, move=True)


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    made = Store(home)
    yield made
    made.close()


@pytest.fixture
def run(store: Store) -> Run:
    return store.run("r")


def test_versions_are_kept_rounds_and_recordings(store: Store, run: Run) -> None:
    for names, wanted in (
        (("starter", "final"), "starter/round-1/dev"),
        (("recording", "starter"), "recording/starter/dev"),
        (("final", "final"), "round-1/round-1-again/dev"),
        (("starter", "round-1"), "starter/round-1/dev"),
    ):
        assert plan(store, run, names, "dev").name == wanted
    for names, said in (
        (("starter", "round-2"), "no version 'round-2'"),  # it was rolled back
        (("starter", "fnal"), "use starter, round-1, final, recording"),
        (("final", "round-1"), "are the same policy"),
        (("recording", "recording"), "against itself"),
    ):
        with pytest.raises(UserError, match=said):
            plan(store, run, names, "dev")
    with pytest.raises(UserError, match="no round of 'bare'"):
        plan(store, store.run("bare"), ("starter", "final"), "dev")
    again = plan(store, run, ("final", "final"), "dev").versions
    assert [v.sample for v in again] == [0, 1] and again[0].state == again[1].state


def test_two_samples_are_said_once_and_teach(store: Store, run: Run) -> None:
    test = plan(store, run, ("final", "final"), "train")
    (one,) = prepare(store, run, test, 1, quiet)
    both = prepare(store, run, test, 20, quiet)
    assert len(both) == 2 and one in both
    files = {path: path.stat().st_mtime_ns for path in (store.home / "artifacts").rglob("*.ogg")}
    assert prepare(store, run, test, 20, quiet) == both
    assert files == {p: p.stat().st_mtime_ns for p in (store.home / "artifacts").rglob("*.ogg")}
    assert {c.text for c in both} == set(TEXTS)
    for comparison in both:
        first, second = comparison.stimuli
        assert (first.system, second.system) == ("round-1", "round-1-again")
        assert first.output != second.output
        for stimulus in (first, second):
            assert stream.frames(stimulus.output)[0], "codes were said"
            wave = audio.read(store.path(stimulus.artifact))
            level = 20 * np.log10(np.sqrt(np.mean(wave**2)))
            assert level == pytest.approx(-26, abs=0.5)
    a, b = both
    sides = ("ann", "round-1-again", "round-1")
    store.add("r", [Rating("1", test.name, a.id, *sides, "left", 1.0)])
    store.add("r", [Rating("2", test.name, b.id, *sides, "tie", 2.0)])
    train = {task.id: task for task in store.tasks("r", "train")}
    (lesson,) = human(store, "r", train, round=4)
    assert lesson.source == "human" and lesson.margin == 1.0 and lesson.round == 4
    assert (lesson.chosen, lesson.rejected) == (a.stimuli[1].output, a.stimuli[0].output)
    assert lesson.prompt == train[a.task].prompt
    assert human(store, "r", {}) == []


def test_the_same_random_numbers_for_two_policies_and_the_recording(store: Store, run: Run) -> None:
    test = plan(store, run, ("starter", "final"), "test")
    (found,) = prepare(store, run, test, 3, quiet)
    assert found.stimuli[0].output != found.stimuli[1].output
    recorded = plan(store, run, ("recording", "starter"), "test")
    (golden,) = prepare(store, run, recorded, 3, quiet)
    again, before = golden.stimuli[1], found.stimuli[0]
    assert again.output == before.output, "said once more, it is said the same"
    waves = [audio.read(store.path(s.artifact)) for s in (again, before)]
    assert np.array_equal(*waves)  # the files differ: Ogg streams carry random serial numbers
    assert golden.stimuli[0].output == ""
    with pytest.raises(UserError, match="no dev texts"):
        prepare(store, run, plan(store, run, ("starter", "final"), "dev"), 3, quiet)


def test_clips_come_to_one_level_and_silence_stays() -> None:
    noise = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    for gain in (1e-3, 0.05, 0.3):
        assert np.sqrt(np.mean(levelled(gain * noise) ** 2)) == pytest.approx(10 ** (-26 / 20))
    click = np.zeros(160_000, np.float32)
    click[7] = 0.01
    assert np.abs(levelled(click)).max() == pytest.approx(1.0)
    for nothing in (np.zeros(0, np.float32), np.zeros(16_000, np.float32)):
        assert not levelled(nothing).any() and len(levelled(nothing)) >= 4_800


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nothing", "unknown run 'nothing'"),
        ("craft", "is of 'scenes/craft:demo'"),
        ("bare", "no round of 'bare' has ended"),
        ("r --texts 0", "0 texts"),
        ("r --versions starter fnal", "no version 'fnal'"),
        ("r --split tset", "--split"),
        ("r --port 70000", "there is no port 70000"),
        ("r --host 192.0.2.1", "is not this machine's"),
    ],
)
def test_a_mistake_is_one_line(
    home: Path, words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["speech", "listen", *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and " — " in line


def test_mistakes_and_reports_do_not_wait_for_torch(home: Path) -> None:
    code = "import sys; from common.cli import main; main(sys.argv[1:]); print(*sys.modules)"
    for words in (["nothing"], ["r", "--port", "70000"], ["r", "--report"]):
        done = subprocess.run(
            [sys.executable, "-c", code, "speech", "listen", *words],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert not {"torch", "gradio", "transformers"} & set(done.stdout.split()), words


def test_the_report_as_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speech", "listen", "bare", "--report", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": "bare", "tests": [], "preferences": 0}
    assert main(["speech", "listen", "r", "--report", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (test,) = found["tests"]
    assert found["preferences"] == 1 and test["test"] == "round-1/round-1-again/train"
    assert test["win"]["value"] == 0.5 and test["tie"]["value"] == 0.5 and test["alpha"] is None
    assert test["items"] == test["ratings"] == 2 and test["raters"] == 1
    assert 0 < test["preference"]["low"] < 0.75 < test["preference"]["high"] <= 1
    assert test["verdict"] == "no difference shown"
