"""``upspiral text persistence``: who goes on with a change they announced, and what they wrote."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from common.commands import Output
from common.errors import UserError

if TYPE_CHECKING:
    from text.persistence.posts import Fields, Post


@dataclass(frozen=True)
class Persistence:
    """Compare people who went on with a change they announced with those who did not.

    Reads posts of (user, time, community, text). User names are hashed as they are read; no text
    leaves the report unless --words asks for some. The rule who persists is a setting, and ours.
    """

    data: tyro.conf.Positional[str]
    """A JSON-lines file; ratings:RUN, the raters of a listening test; or synthetic, posts that
    nobody wrote with a planted effect."""
    communities: tuple[str, ...] = ()
    """Communities of change: the first post in one of them is the intention."""
    out: Path = Path("persistence")
    """The folder for report.html and study.json."""
    fields: tuple[str, ...] = ()
    """Other names of columns, as in user=author time=created_utc community=subreddit."""
    observation: float = 365.0
    """Days until the intention that are read."""
    gap: float = 7.0
    """Days after it that count for nothing."""
    outcome: float = 90.0
    """Days after the gap that say who persists."""
    posts: int = 4
    """Posts there that make a person persistent, ..."""
    weeks: int = 3
    """... in at least so many different weeks."""
    before: int = 3
    """Least posts in the days of --observation, the intention included."""
    lexicon: Path | None = None
    """A lexicon of yours: a JSON object of categories and their words, diet* for any ending."""
    topics: int = 10
    """How many topics."""
    folds: int = 5
    """Folds of the classifier."""
    seed: int = 0
    """Everything random derives from it."""
    words: bool = False
    """Show words of topics and n-grams, each used by several people."""

    def run(self, out: Output) -> dict[str, Any]:
        from common.cli import plain
        from common.commands.outcome import made
        from common.report import save
        from text.persistence import report
        from text.persistence.cohort import Rule, cohort
        from text.persistence.features import Lexicon
        from text.persistence.matching import matched
        from text.persistence.study import Settings, study
        from text.persistence.synthetic import COMMUNITY

        communities = self.communities or ((COMMUNITY,) if self.data == "synthetic" else ())
        rule = Rule(communities, self.observation, self.gap, self.outcome, self.posts, self.weeks,
                    self.before)  # fmt: skip
        settings = Settings(topics=self.topics, folds=self.folds, seed=self.seed)
        lexicon = Lexicon.load(self.lexicon)
        folder = made(self.out, "--out")
        with tempfile.TemporaryDirectory() as scratch:
            found = cohort(self._posts(Path(scratch), out), rule)
        pairs = matched(found.people)
        result = study(pairs.people, communities, settings, lexicon, out.progress())
        told = report.facts(found, pairs, result, self.words)
        save(report.page(found, pairs, result, self._source(), self.words), folder / "report.html")
        save(json.dumps(plain(told), indent=1, ensure_ascii=False), folder / "study.json")
        out.table(("", "count"), [*found.flow.items()])
        out.print()
        shown = [d for d in result.differences if d.q < 0.05][:10]
        rows = [(d.feature, d.block, d.persistent, d.other, d.delta, f"{d.q:.2g}") for d in shown]
        out.print(f"differences at a false-discovery rate of 0.05, {len(pairs.people) // 2} pairs")
        out.table(("feature", "block", "persistent", "others", "delta", "q"), rows)
        out.print()
        out.table(
            ("features", "macro-F1", "AUROC", "95%"),
            [
                (r.name, r.f1.value, r.auroc.value, f"{r.auroc.low:.3f} to {r.auroc.high:.3f}")
                for r in result.results
            ],
        )
        chance = result.chance
        out.print(
            f"labels shuffled {chance.shuffles} times: AUROC {chance.mean:.3f} ± "
            f"{chance.deviation:.3f}; p of {chance.of} {chance.p:.3g}"
        )
        out.print(f"\nreport: {folder / 'report.html'}")
        return {**told, "report": folder / "report.html"}

    def _posts(self, scratch: Path, out: Output) -> Iterable[Post]:
        from text.persistence import synthetic
        from text.persistence.posts import FromRatings, Posts

        kind, _, name = self.data.partition(":")
        if kind == "ratings" and name:
            from common.commands.runs import find
            from common.store import Store

            store = Store()
            ratings = store.ratings(find(store, name).run)
            if not ratings:
                raise UserError(f"the run {name!r} has no ratings", "upspiral speech listen RUN")
            return FromRatings(ratings)
        if self.data == "synthetic":
            path = synthetic.write(scratch / "posts.jsonl", seed=self.seed)
            return Posts(path, progress=out.progress())
        return Posts(Path(self.data).expanduser(), self._fields(), out.progress())

    def _source(self) -> str:
        if self.data == "synthetic":
            return "synthetic posts with a planted effect: they say nothing about people"
        return Path(self.data).name

    def _fields(self) -> Fields:
        from text.persistence.posts import Fields

        known = [field.name for field in fields(Fields)]
        found = Fields()
        for one in self.fields:
            name, equals, column = one.partition("=")
            if not equals or name not in known or not column:
                raise UserError(
                    f"no field {one!r}", f"write name=column; names: {', '.join(known)}"
                )
            found = replace(found, **{name: column})
        return found
