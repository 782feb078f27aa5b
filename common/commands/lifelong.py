"""``upspiral lifelong``: metrics of a lifetime of tasks, from anybody's logs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from common.commands import Output
from common.errors import UserError


@dataclass(frozen=True)
class Measure:
    """What a lifetime over several tasks shows: what is kept, what transfers, how fast it learns.

    Reads logs of the published format (docs/lifelong.md). With logs of single-task experts the
    metrics that compare with one, RP and SE, are there too.
    """

    logs: tyro.conf.Positional[Path]
    """The folder of a lifetime's log."""
    ste: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """The folder of a single-task expert's log; once for each."""
    metric: str | None = None
    """The column to measure by, if there are several."""
    clamp: bool = False
    """Clamp each task's values to their 10th and 90th percentile."""
    smooth: bool = True
    """Smooth the curves of training."""
    normalise: bool = True
    """Bring each task to 1 to 101."""
    plot: Path | None = None
    """Draw the lifetime here, as SVG."""

    def run(self, out: Output) -> dict[str, Any]:
        from common.lifelong import Preprocessing, measure, prepare, read

        how = Preprocessing(self.smooth, self.clamp, self.normalise)
        log = read(self.logs, self.metric)
        life = prepare(log, [read(path, self.metric) for path in self.ste], how)
        found = measure(life)
        out.table(("metric", "value"), [*found.metrics.items()])
        names = list(next(iter(found.by_task.values())))
        out.print()
        out.table(
            ("task", *names),
            [(task, *(row[name] for name in names)) for task, row in found.by_task.items()],
        )
        lost = [task for task in found.by_task if task not in life.experts]
        if lost:
            out.note(f"without a single-task expert: {', '.join(lost)}; give --ste for RP and SE")
        unknown = sorted(set(life.experts) - set(life.tasks))
        if unknown:
            out.note(f"experts of tasks that the lifetime does not have: {', '.join(unknown)}")
        if self.plot is not None:
            from common.lifelong.plot import figure

            try:
                self.plot.write_text(figure(life), encoding="utf-8")
            except OSError as error:
                raise UserError(
                    f"cannot write {self.plot}: {error.strerror}", "choose another file"
                ) from error
            out.print(f"\nplot: {self.plot}")
        return {"experiences": len(log), **found.plain()}
