"""Work that another run did already: what a stage gave, kept under all that it depends on.

Runs that are compared start alike. With the same seed and the same policy they propose the same
candidates and measure the same starter; only what they learn differs. A memo does such work once.
Nothing changes, the seconds on record included: work that is remembered adds what it took when it
was done (``Context.spared``), or the first of several runs would pay for all of them. Stages are
functions of the policy's state, the tasks, the seed and the round
(:class:`common.stages.Context`), and all of these are in the key.

    memo = Memo(store.home / "memo")
    loop = Loop(propose=memo.propose(stage, config), measure=memo.measure(measure, config), ...)
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.records import Candidate, Metric, Task, identity
from common.stages import Context, Measure, Policy, Proposer


@dataclass(frozen=True)
class Memo:
    """Answers of stages in ``folder``, a JSON file each, written and then renamed."""

    folder: Path

    def propose(self, stage: Proposer, *settings: object) -> Proposer:
        """``stage``, whose answers are remembered; ``settings`` is what it was made with.

        Candidates whose artifact is no longer there are proposed again.
        """
        return _Propose(self, stage, identity("propose", settings))

    def measure(self, stage: Measure, *settings: object) -> Measure:
        """``stage``, whose answers are remembered; ``settings`` is what it was made with."""
        return _Measure(self, stage, identity("measure", settings))

    def _rows(
        self,
        stage: str,
        policy: Policy,
        tasks: Sequence[Task],
        ctx: Context,
        fresh: Callable[[], list[Any]],
        good: Callable[[list[dict[str, Any]]], bool],
    ) -> list[dict[str, Any]]:
        key = identity(stage, policy.fingerprint(), ctx.seed, ctx.round, [asdict(t) for t in tasks])
        path = self.folder / f"{key}.json"
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            rows: list[dict[str, Any]] = kept["rows"]
            if good(rows):
                ctx.spared.append(kept["seconds"])
                return rows
        except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
            pass
        began = time.monotonic()
        rows = [asdict(record) for record in fresh()]
        kept = {"seconds": time.monotonic() - began, "rows": rows}
        # Through JSON also the first time, so that a remembered answer is the very same.
        text = json.dumps(kept, default=float)
        self.folder.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}.partial")
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
        return list(json.loads(text)["rows"])


@dataclass(frozen=True)
class _Propose:
    memo: Memo
    inner: Proposer
    name: str

    def propose(self, policy: Any, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        def there(rows: list[dict[str, Any]]) -> bool:
            try:
                return all(
                    ctx.artifacts.path(row["artifact"]).exists() for row in rows if row["artifact"]
                )
            except KeyError:
                return False

        def fresh() -> list[Candidate]:
            return self.inner.propose(policy, tasks, ctx)

        rows = self.memo._rows(self.name, policy, tasks, ctx, fresh, there)
        return [Candidate(**row) for row in rows]


@dataclass(frozen=True)
class _Measure:
    memo: Memo
    inner: Measure
    name: str

    def measure(self, policy: Any, tasks: Sequence[Task], ctx: Context) -> list[Metric]:
        def fresh() -> list[Metric]:
            return self.inner.measure(policy, tasks, ctx)

        rows = self.memo._rows(self.name, policy, tasks, ctx, fresh, lambda _: True)
        return [Metric(**row) for row in rows]
