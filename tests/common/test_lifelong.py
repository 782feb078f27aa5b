"""Lifelong metrics: the published example, small lifetimes by hand, logs that are damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.cli import main
from common.errors import UserError
from common.lifelong import LogWriter, Preprocessing, measure, prepare, read
from common.lifelong.curves import averaged, regimes, scaled
from common.lifelong.metrics import recovery, sample_efficiency
from common.lifelong.plot import figure

ORACLE = Path(__file__).parents[2].parent / "shared" / "oracles" / "lifelong"
PUBLISHED = {
    "PR": -2.0, "MEP": 78.5198169099, "MTP": 83.8150652485, "PM": 3.8626981189,
    "FT": 12.6298550026, "BT": 1.08214831, "RP": 1.1050569622, "SE": 0.9132609794,
}  # fmt: skip
PLAIN = Preprocessing(smooth=False, normalise=False)
Block = tuple[Literal["train", "test"], str, Sequence[float]]


@pytest.mark.skipif(not ORACLE.is_dir(), reason="the published example is not beside the project")
def test_the_published_example_to_every_digit(capsys: pytest.CaptureFixture[str]) -> None:
    experts = [flag for i in (1, 2, 3) for flag in ("--ste", str(ORACLE / f"single_task_{i}"))]
    words = ["lifelong", "measure", str(ORACLE / "lifetime"), *experts, "--metric", "performance"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    for name, value in PUBLISHED.items():
        digits = len(str(value).partition(".")[2])
        assert round(found["metrics"][name], digits) == value, name


def write(
    folder: Path, blocks: Sequence[Block], subtype: Literal["wake", "sleep"] = "wake"
) -> Path:
    log = LogWriter(folder)
    for kind, task, values in blocks:
        log.begin(kind, subtype if kind == "test" else "wake")
        for value in values:
            log.add(task, {"performance": value})
    return folder


LIFE: list[Block] = [
    ("test", "a", [10, 10]), ("test", "b", [20, 20]),
    ("train", "a", [10, 30, 50, 50]),
    ("test", "a", [50]), ("test", "b", [40]),
    ("train", "b", [40, 60]),
    ("test", "a", [40]), ("test", "b", [60]),
    ("train", "a", [20, 40, 50]),
    ("test", "a", [55]), ("test", "b", [45]),
]  # fmt: skip


def test_a_small_lifetime_by_hand(tmp_path: Path) -> None:
    log = read(write(tmp_path / "life", LIFE))
    expert = read(write(tmp_path / "expert", [("train", "a", [10, 20, 20, 40])]))
    found = measure(prepare(log, [expert], PLAIN))
    a, b = found.by_task["a"], found.by_task["b"]
    # Of a: after the first training 50, then 40; after the second 55 is a reference again.
    assert a["PM"] == pytest.approx(40 - 50)
    assert b["PM"] == pytest.approx(45 - 60)
    assert a["PM_train"] == pytest.approx(40 - 50)  # its training ended at 50, too
    assert found.metrics["PM"] == pytest.approx(-12.5)
    assert found.transfer["FT"] == {("a", "b"): pytest.approx(40 / 20)}
    # Only the first value of a pair counts: b on a 40/50; a on b 45/60.
    assert found.transfer["BT"] == {
        ("b", "a"): pytest.approx(40 / 50),
        ("a", "b"): pytest.approx(45 / 60),
    }
    assert found.transfer["FT_contrast"] == {("a", "b"): pytest.approx(20 / 60)}
    assert a["RP"] == pytest.approx((10 + 30 + 50 + 50) / 90) and b["RP"] is None
    assert a["SE"] == pytest.approx(50 / 40 * 3 / 2)
    assert a["PR"] is None  # two trainings have one recovery, and no slope
    assert found.metrics["MEP"] == pytest.approx(np.mean([10, 10, 20, 20, 50, 40, 40, 60, 55, 45]))
    assert found.metrics["MTP"] == pytest.approx(np.mean([10, 30, 50, 50, 40, 60, 20, 40, 50]))


def test_the_plot_has_the_experts_beside_the_lifetime(tmp_path: Path) -> None:
    log = read(write(tmp_path / "life", LIFE))
    expert = read(write(tmp_path / "expert", [("train", "a", [10, 20, 20, 40, 40])]))
    alone = figure(prepare(log))
    beside = figure(prepare(log, [expert]), "performance")
    for word in (
        "training",
        "test",
        "trained on it",
        "trained on another",
        "performance, 1 to 101",
    ):
        assert f">{word}</text>" in alone, word
    named = ">expert of the task alone</text>"
    assert named not in alone and "dasharray" not in alone
    assert named in beside and ">performance</text>" in beside
    assert beside.count("dasharray") == 3  # in both trainings of its task, and in the legend


def test_tests_asleep_replace_those_awake(tmp_path: Path) -> None:
    folder = write(tmp_path / "life", [("test", "a", [1.0]), ("train", "a", [2.0, 3.0])])
    write(folder, [("test", "a", [9.0])], "sleep")
    found = measure(prepare(read(folder), how=PLAIN))
    assert found.metrics["MEP"] == 9.0


def test_recovery_slows_down(tmp_path: Path) -> None:
    blocks: list[Block] = [
        ("train", "a", [0, 0, 10]), ("train", "b", [0, 1]),
        ("train", "a", [0, 10, 10]), ("train", "b", [0, 1]),
        ("train", "a", [0, 0, 10]), ("train", "b", [0, 1]),
        ("train", "a", [0, 0, 5]),
    ]  # fmt: skip
    trained = [r for r in regimes(read(write(tmp_path, blocks))) if r.task == "a"]
    # Recovered after 1, after 2, and never: one more than there are.
    assert recovery(trained) == pytest.approx(-1.5)


def test_who_does_not_learn_is_not_efficient() -> None:
    rising = np.arange(10.0)
    assert sample_efficiency(rising * 0.1, rising) == 0.0
    assert sample_efficiency(rising[::-1].copy(), rising) == 0.0
    assert sample_efficiency(np.full(10, 5.0), rising) is None
    assert sample_efficiency(rising, rising) == pytest.approx(1.0)


def test_a_ratio_to_nothing_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    blocks: list[Block] = [
        ("test", "a", [0]), ("test", "b", [0]), ("train", "a", [0, 0, 1]),
        ("test", "a", [0]), ("test", "b", [0.5]), ("train", "b", [0, 1]),
        ("test", "a", [1]), ("test", "b", [1]),
    ]  # fmt: skip
    life = str(write(tmp_path / "life", blocks))
    none = str(write(tmp_path / "none", [("train", "a", [0, 0, 0])]))
    some = str(write(tmp_path / "some", [("train", "a", [0, 0.5, 0.5])]))
    words = ["lifelong", "measure", life, "--no-normalise", "--json"]
    assert main([*words, "--ste", none]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert found["by_task"]["a"] == dict.fromkeys(("RP", "SE", "PR")) | {"PM": 1, "PM_train": 0}
    assert found["transfer"]["FT"] == {"a > b": None} and found["metrics"]["FT"] is None
    assert "inf" not in told.err and not recwarn.list
    for said in ("no RP, as the expert's curve sums to 0: a", "no SE, as the expert's best is 0",
                 "no FT, as the test before was at 0: a > b", "no BT, as the test"):  # fmt: skip
        assert said in told.err, said
    assert main([*words, "--ste", none, "--ste", some]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["metrics"]["RP"] == 1 and "no RP, as" not in told.err


def test_smoothing_is_the_published_one() -> None:
    found = averaged(np.arange(1.0, 11.0), 3)
    assert found == pytest.approx([2, 5 / 3, 2, 3, 4, 5, 6, 7, 8, 9])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(0, 100))
def test_smoothing_keeps_length_and_bounds(values: list[float], window: int) -> None:
    given = np.array(values)
    found = averaged(given, min(window, len(values) - 1))
    assert len(found) == len(values)
    slack = 1e-6 * (1 + abs(given).max())
    assert given.min() - slack <= found.min() and found.max() <= given.max() + slack


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50), st.floats(0.01, 100), st.floats(-9, 9)
)
def test_normalisation_knows_no_units(values: list[float], scale: float, shift: float) -> None:
    given = np.array(values)
    if np.ptp(given) < 1e-3 * (1 + abs(given).max()):
        return
    moved = given * scale + shift
    ours = scaled(given, given.min(), given.max())
    assert ours.min() == pytest.approx(1) and ours.max() == pytest.approx(101)
    assert scaled(moved, moved.min(), moved.max()) == pytest.approx(ours, abs=1e-4)


def test_constant_tasks_are_at_one() -> None:
    assert scaled(np.full(3, 7.0), 7.0, 7.0).tolist() == [1, 1, 1]


def test_what_is_written_is_read_and_continued(tmp_path: Path) -> None:
    folder = tmp_path / "life"
    log = LogWriter(folder, ("reward", "steps"))
    log.begin("train")
    log.add("a_easy", {"reward": 0.1 + 0.2, "steps": 3}, {"quoted": 'a "b"\tc'})
    log.add("a_easy", {"reward": 0.5, "steps": 4}, status="cut")
    path = next(folder.glob("*/*/data-log.tsv"))
    path.write_text(path.read_text() + "0\t2\t0\ttra")  # a crash in the middle of a line
    again = LogWriter(folder, ("reward", "steps"))
    again.begin("test")
    assert again.add("b_hard", {"reward": 1.0, "steps": 5}) == 2
    found = read(folder, "reward")
    assert found.tasks == ("a_easy", "b_hard") and found.value.tolist() == [0.1 + 0.2, 1.0]
    assert found.block.tolist() == [0, 1] and found.train.tolist() == [True, False]
    with pytest.raises(UserError, match="choose one"):
        read(folder)
    with pytest.raises(UserError, match="name another"):
        LogWriter(folder, ("other",))


def broken(folder: Path, change: str) -> None:
    path = folder / "worker-0/0-test/data-log.tsv"
    lines = path.read_text().splitlines(keepends=True)
    info = folder / "logger_info.json"
    if change == "no info":
        info.unlink()
    elif change == "torn info":
        info.write_text('{"metrics_columns"')
    elif change == "version":
        info.write_text('{"metrics_columns": ["performance"], "log_format_version": "2.0"}')
    elif change == "no metric":
        info.write_text('{"metrics_columns": ["reward"]}')
    elif change == "torn":
        path.write_text("".join(lines)[:-40])
    elif change == "word":
        path.write_text("".join(lines).replace("10.0", "ten"))
    elif change == "nan":
        path.write_text("".join(lines).replace("10.0", "nan"))
    elif change == "column":
        path.write_text("".join(lines).replace("task_name", "task"))
    elif change == "type":
        path.write_text("".join(lines).replace("\ttest\t", "\texam\t"))
    elif change == "nothing done":
        for file in folder.glob("*/*/data-log.tsv"):
            file.write_text(file.read_text().replace("complete", "cut"))
    elif change == "binary info":
        info.write_bytes(b"\xd4" * 5000)
    elif change == "gap":
        shutil.rmtree(folder / "worker-0/5-train")
    elif change == "no first":
        shutil.rmtree(path.parent)
    elif change == "header only":
        path.write_text(lines[0])
    elif change == "wrong folder":
        shutil.copy(path, folder / "worker-0/1-test")
    elif change == "no number":
        path.parent.rename(folder / "worker-0/test")
    elif change == "twice":
        path.write_text("".join([*lines, lines[-1]]))
    elif change == "two workers":
        shutil.copytree(folder / "worker-0", folder / "worker-1")
    elif change == "no files":
        for file in folder.glob("*/*/data-log.tsv"):
            file.unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [("no info", "no logger_info"), ("torn info", "does not say which metrics"),
     ("version", "version 2.0"), ("no metric", "no metric 'performance'"),
     ("torn", "torn or malformed"), ("word", "torn or malformed"), ("nan", "no finite number"),
     ("column", "no column task_name"), ("type", "block type 'exam'"),
     ("nothing done", "no complete experience"), ("no files", "holds no data-log"),
     ("binary info", "logger_info.json does not say which metrics there are (UnicodeDecodeError)"),
     ("gap", "no block 5, though it goes on to 10"), ("no first", "no block 0"),
     ("header only", "0-test/data-log.tsv holds no experience"),
     ("wrong folder", "1-test/data-log.tsv holds experiences of block 0"),
     ("no number", "no block number"), ("twice", "experience 1 more than once, in block 0"),
     ("two workers", "experience 0 more than once")],
)  # fmt: skip
def test_damaged_logs_are_told(
    change: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "life", LIFE)
    broken(folder, change)
    assert main(["lifelong", "measure", str(folder), "--metric", "performance"]) == 2
    said_of = capsys.readouterr().err.splitlines()
    assert len(said_of) == 1 and said in said_of[0] and " — " in said_of[0]


def test_what_an_interrupted_agent_leaves_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "life", LIFE)
    assert main(["lifelong", "measure", str(folder), "--json"]) == 0
    whole = capsys.readouterr()
    assert "block 11" not in whole.err
    LogWriter(folder).begin("train")
    assert main(["lifelong", "measure", str(folder), "--json"]) == 0
    found = capsys.readouterr()
    assert (
        found.out == whole.out and "life, block 11: begun, without an experience yet" in found.err
    )
    lone = tmp_path / "begun"
    LogWriter(lone).begin("train")
    with pytest.raises(UserError, match="no complete experience"):
        read(lone)


def test_workers_share_blocks_and_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "life"
    for worker in "ab":
        log = LogWriter(folder, worker=worker)
        log.block = -1
        for kind in ("test", "train"):
            log.begin(kind)
            log.add("a", {"performance": 1.0})
            log.add("a", {"performance": 2.0})
    assert read(folder).experience.tolist() == [*range(8)]


def test_an_expert_has_one_task(tmp_path: Path) -> None:
    log = read(write(tmp_path / "life", LIFE))
    with pytest.raises(UserError, match="trained on 2 tasks"):
        prepare(log, [log])
    with pytest.raises(UserError, match="trained on no task"):
        prepare(log, [read(write(tmp_path / "none", [("test", "a", [1.0])]))])
