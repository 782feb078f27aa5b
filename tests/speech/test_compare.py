"""The plan of a comparison: which runs there are, their names and their settings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from common.commands.arms import check, status_of
from common.errors import UserError
from common.store import Store
from speech.align import AlignConfig, compare, tiny
from speech.commands.compare import Compare, run_name
from speech.comparisons import COMPARISONS


def test_arms_have_one_budget_and_differ_in_what_they_are_named_for() -> None:
    free = {"strategy", "pairs", "rank", "max_pairs", "accumulate", "reference", "reward_model",
            "policy", "learning_rate"}  # fmt: skip
    rates: dict[str, set[float]] = {}
    for what in COMPARISONS:
        configs = Compare(what=what).configs()
        assert [*configs] == [*COMPARISONS[what]] and len(configs) > 1
        rows = [asdict(config) for config in configs.values()]
        differing = {name for name in rows[0] if len({row[name] for row in rows}) > 1}
        assert differing and differing <= free
        assert len({tuple(row.values()) for row in rows}) == len(rows)
        for row in rows:
            rates.setdefault(row["strategy"], set()).add(row["learning_rate"])
    assert all(len(found) == 1 for found in rates.values()), "a strategy has a rate of its own"


def test_settings_for_all_arms() -> None:
    chosen = Compare(what="pairs", arms=("golden", "both"), rounds=2, set=("texts=10",))
    configs = chosen.configs()
    assert [*configs] == ["golden", "both"]
    assert {(c.rounds, c.texts) for c in configs.values()} == {(2, 10)}


def test_the_same_settings_have_the_same_run_whatever_they_are_compared_with() -> None:
    base = compare()
    names = {
        what: {arm: run_name("c", base, config, 1) for arm, config in found.items()}
        for what in COMPARISONS
        for found in [Compare(what=what).configs()]
    }
    assert (
        names["strategies"]["DPO"] == names["pairs"]["both"] == names["data"]["all pairs"] == "c-s1"
    )
    ppo = names["strategies"]["PPO"]
    assert ppo == names["reward"]["PPO, tokens"] == "c-strategy-ppo-learning_rate-0.0003-s1"
    different = {name for found in names.values() for name in found.values()}
    configs = {
        tuple(asdict(config).values())
        for what in COMPARISONS
        for config in Compare(what=what).configs().values()
    }
    assert len(different) == len(configs)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"what": "strategy"}, "unknown comparison 'strategy'"),
        ({"arms": ("dpo",)}, "unknown arm 'dpo'"),
        ({"recipe": "big"}, "unknown recipe 'big'"),
        ({"seeds": 0}, "0 seeds"),
        ({"set": ("beta",)}, "no setting 'beta'"),
    ],
)
def test_mistakes(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Compare(**changes).configs()  # type: ignore[arg-type]


def test_a_run_of_other_settings_is_not_taken_for_an_arm(tmp_path: Path) -> None:
    store = Store(tmp_path)
    check(store, "c-s0", asdict(AlignConfig()))  # not begun
    lease = store.lease("c-s0", "speech/align:tiny", asdict(tiny()))
    assert status_of(store, "c-s0") == "running" and status_of(store, "c-s1") is None
    lease.close("failed")
    assert status_of(store, "c-s0") == "failed"
    check(store, "c-s0", asdict(tiny()))
    with pytest.raises(UserError, match=r"begun with rounds=1, not 3.*give --name"):
        check(store, "c-s0", asdict(AlignConfig()))
