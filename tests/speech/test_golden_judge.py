"""The judge that is taught recordings against samples: it learns, is kept, and admits chance."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import UserError
from common.home import home
from common.policies import Sample, candidate_id
from common.policies.local import HFPolicy
from common.records import Candidate, Task
from speech import corpora
from speech.align import AlignConfig
from speech.golden_judge import FIT, golden_judge
from speech.lm.stream import CODE
from speech.reward import WaveTraining
from speech.setup import rewarding
from speech.speaker import Golden
from speech.speaking import load_policy, speaker_of
from tests.common.toy import quiet

HOW = WaveTraining(steps=20, batch_size=4, seconds=1.0)


def test_it_is_taught_before_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    policy = load_policy("starter-small")
    speaker = speaker_of(AlignConfig(), policy)
    recorded = [u for u in corpora.load("prompts").split("train") if len(u.text.split()) == 3]
    chosen = [u for u in recorded if speaker.golden(u)][:6]
    tasks = [Task(u.id, "", "train", u.text) for u in chosen] + [Task("unheard", "", "train", "?")]
    golden = Golden({u.id: [u] for u in chosen}, speaker)
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path))

    def broken(self: HFPolicy, tasks: Sequence[Task], **kw: Any) -> list[Candidate]:
        """The recording's phones with codes at random: a policy that is easily told."""
        rng = np.random.default_rng(0)
        return [
            Candidate(candidate_id(t, 0, i), t.id, 0,
                      CODE.sub(lambda _: f"<c{rng.integers(256)}>", golden[t.id]))
            for t in tasks for i in range(kw["n"])
        ]  # fmt: skip

    monkeypatch.setattr(HFPolicy, "generate", broken)
    judge = golden_judge(policy, golden, tasks, Sample(), quiet, (), HOW)
    (folder,) = (home() / "judges").iterdir()
    figures = json.loads((folder / FIT).read_text())
    # Six texts, of which one is asked about and ten pairs of five are learnt from.
    assert (figures["texts"], figures["pairs"], figures["steps"]) == (1, 10, 20)
    assert figures["accuracy"] == 1.0 and figures["loss"] < 0.6
    assert {path.name for path in folder.iterdir()} == {FIT, "config.json", "model.safetensors"}
    # One text proves nothing, and it says so; it is not taught again.
    assert "no better than chance" in caplog.text
    told = {**figures, "low": 0.6}
    (folder / FIT).write_text(json.dumps(told))
    monkeypatch.setattr(HFPolicy, "generate", None)
    caplog.clear()
    again = golden_judge(policy, golden, tasks, Sample(), quiet, (), HOW)
    assert not caplog.records or logging.WARNING not in {r.levelno for r in caplog.records}
    waves = speaker.waves([golden[u.id] for u in chosen[:2]])
    assert judge.score(waves) == again.score(waves)
    with pytest.raises(UserError, match="1 of the practised texts"):
        golden_judge(policy, golden, tasks[:1], Sample(), quiet, (), HOW)


def test_who_ranks_with_it() -> None:
    judges, by = rewarding(AlignConfig(reward="smpconv"), corpora.load("prompts"))
    assert judges == [] and by == {"reward": "higher"}
