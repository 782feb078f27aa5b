"""``upspiral speech listen``: a blind listening test in the browser, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tyro

from common.commands import Output
from common.errors import UserError
from common.records import Split

if TYPE_CHECKING:
    from common.store import Store


@dataclass(frozen=True)
class Listen:
    """Compare two versions of a run's speech by ear, blind, in the browser.

    Every answer is stored at once; stop with Ctrl-C and go on whenever you like.
    """

    name: tyro.conf.Positional[str]
    """A run of `upspiral runs list`, or last."""
    versions: tuple[str, str] = ("starter", "final")
    """Baseline and contender: starter, final, round-N or recording; twice the same, two samples."""
    split: Split = "test"
    """The texts: test, dev, or train, where answers become preferences."""
    texts: int = 20
    """How many texts; more add to those that were made before."""
    report: bool = False
    """Only print what the answers so far say."""
    host: str = "127.0.0.1"
    """Where to listen for browsers; any other than this machine's own asks for a token."""
    port: int = 7860
    """0 takes a free one."""

    def run(self, out: Output) -> dict[str, Any]:
        from common.commands.runs import find
        from common.store import Store

        store = Store()
        run = find(store, self.name)
        if self.report:
            return report(store, run.run, out)
        if run.recipe.partition("/")[0] != "speech":
            raise UserError(f"run {run.run!r} is of {run.recipe!r}", "name a run of speech align")
        if self.texts < 1:
            raise UserError(f"{self.texts} texts", "ask for one or more")
        from common.annotation import server
        from common.annotation.page import Page
        from speech import listen

        test = listen.plan(store, run, self.versions, self.split)
        with server.bound(self.host, self.port) as place:
            comparisons = listen.prepare(store, run, test, self.texts, out.progress())
            page = Page(store, run.run, comparisons, run.seed, listen.QUESTION)
            server.serve(place, page, out.print)
        return report(store, run.run, out)


def report(store: Store, run: str, out: Output) -> dict[str, Any]:
    """Print what each test of ``run`` came to, and return it."""
    from common.annotation.ratings import outcomes, preferences

    comparisons, ratings = store.comparisons(run), store.ratings(run)
    found = outcomes(comparisons, ratings)
    train = {task.id: task for task in store.tasks(run, "train")}
    pairs = len(preferences(comparisons, ratings, train))
    if not found:
        out.print("no answer yet")
    for o in found:
        out.print(f"{o.test}: {o.contender} against {o.baseline}, {o.verdict}")
        shares = {"win": o.win, "tie": o.tie, "lose": o.lose, "preference": o.preference}
        rows = [(name, *share) for name, share in [*shares.items(), ("A chosen", o.left)]]
        out.table((f"{o.items} texts", "share", "low", "high"), rows)
        agreed = "-" if o.alpha is None else f"{o.alpha:.3f}"
        out.print(f"answers {o.ratings}, raters {o.raters}")
        out.print(f"Krippendorff's alpha {agreed} (texts with two raters or more: {o.alpha_items})")
        checks = ", ".join(f"{name} {count}" for name, count in sorted(o.checks.items()))
        out.print(f"headphones: {checks}")
        out.print()
    if pairs:
        out.print(f"{pairs} preferences from train texts")
    facts = [
        {"verdict": o.verdict}
        | {k: v._asdict() if hasattr(v, "_asdict") else v for k, v in vars(o).items()}
        for o in found
    ]
    return {"run": run, "tests": facts, "preferences": pairs}
