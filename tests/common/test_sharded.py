"""Two processes under FSDP learn what one does; the configurations are what accelerate reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

from common.distributed import sharded, zero
from common.errors import UserError
from common.learners import data
from common.learners.data import model_of
from common.learners.sft import SFT
from common.records import Demonstration, Lessons
from tests.common.sharded import main as sharded_main
from tests.common.tiny import context, tiny_policy

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = ROOT / "common" / "learners" / "accelerate"
FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}


def test_two_processes_learn_in_shards_what_one_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr(data, "_give_back", data._give_back)  # it is another inside
    sharded_main(folders[0])
    more = {**FSDP, "ACCELERATE_USE_CPU": "true", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
            "FSDP_RESHARD_AFTER_FORWARD": "true"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         str(Path(__file__).with_name("sharded.py")), str(folders[1])],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = {f.name: json.loads((f / "told.json").read_text()) for f in folders}
    assert told["one"].pop("kinds") == []
    assert set(told["two"].pop("kinds")) == {"DTensor"}  # it was in shards
    for name, alone in told["one"].items():
        shared = told["two"][name]
        assert len(alone["curve"]) == 3 and alone["curve"][-1] < alone["curve"][0] - 0.1
        assert shared["curve"] == pytest.approx(alone["curve"], abs=1e-4)
        assert shared["figures"] == pytest.approx(alone["figures"], abs=1e-4)
        assert shared["same"] and alone["same"]
        apart = [
            (torch.tensor(a) - torch.tensor(shared["weights"][n])).abs()
            for n, a in alone["weights"].items()
        ]
        # Adam moves a weight whose gradient is rounding noise by a whole step, either way.
        assert (torch.cat(apart) < 1e-4).float().mean() > 0.95


@pytest.mark.parametrize("name", ["ddp", "fsdp", "deepspeed"])
def test_accelerate_reads_the_configurations(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = CONFIGURATIONS / f"{name}.yaml"
    assert load_config_from_file(str(file)).num_processes == 8
    words = ["--config_file", str(file), "--num_processes", "2", "-m", "common.cli"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    assert args.num_processes == 2
    assert (args.use_fsdp, args.use_deepspeed) == (name == "fsdp", name == "deepspeed")
    if name != "deepspeed":
        environment = prepare_multi_gpu_env(args)
        for key in set(FSDP) | {"WORLD_SIZE"}:
            monkeypatch.delenv(key, raising=False)
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert sharded() == (name == "fsdp") and not zero()
    else:
        assert args.zero_stage == 2


def test_what_would_leave_nothing_whole_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in {**FSDP, "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(key, value)
    shown = Demonstration("d", "t", 1, "go w1", "w1 w2")
    with pytest.raises(UserError, match="does not go on from round to round"):
        SFT(online=True).learn(
            tiny_policy(), Lessons(demonstrations=(shown,)), context(tmp_path / "work")
        )
    for key, value in (("FSDP_VERSION", "1"), ("FSDP_STATE_DICT_TYPE", "SHARDED_STATE_DICT")):
        with monkeypatch.context() as patched:
            patched.setenv(key, value)
            with pytest.raises(UserError, match=f"{key.lower()} is {value}"):
                model_of(tiny_policy())
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    with pytest.raises(UserError, match="ZeRO stage 2"):
        model_of(tiny_policy())
