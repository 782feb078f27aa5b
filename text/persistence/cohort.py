"""Who announced a change, what they had written until then, and whether they went on.

                      intention t0
    ├── observation ───────┤── gap ──├────── outcome ──────┤
      texts, activity                  posts in the communities of change

*Intention* is a person's first post in one of the configured communities. Posts of the observation
window, up to and including that one, are all that features are made of: texts of later posts are
not even kept. *Persistent* is who posts there at least ``posts`` times in at least ``weeks``
different weeks of the outcome window; *not persistent* who does not post there at all; whoever
lies between is left out, and so is whose outcome window the data does not reach. This rule is ours:
the paper's could not be verified.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from common.errors import UserError
from text.persistence.posts import Post

DAY = 86_400.0
WEEK = 7 * DAY


@dataclass(frozen=True)
class Rule:
    """Which communities are about change, how long the windows are (days), who persists."""

    communities: tuple[str, ...]
    observation: float = 365.0
    gap: float = 7.0
    outcome: float = 90.0
    posts: int = 4
    weeks: int = 3
    before: int = 3
    """Least posts in the observation window, the intention included: fewer say too little."""

    def __post_init__(self) -> None:
        if not any(name.strip() for name in self.communities):
            raise UserError(
                "no community of change is named", "give --communities NAME NAME, as in the data"
            )
        if not (self.observation > 0 and self.outcome > 0 and self.gap >= 0):
            raise UserError(
                f"windows of {self.observation:g}, {self.gap:g} and {self.outcome:g} days",
                "give observation and outcome above 0, and a gap of 0 or more",
            )
        if min(self.posts, self.weeks, self.before) < 1 or self.weeks > self.outcome / 7 + 1:
            raise UserError(
                f"posts={self.posts}, weeks={self.weeks}, before={self.before}",
                "give 1 or more of each, and no more weeks than the outcome window has",
            )


@dataclass(frozen=True)
class Person:
    """A person until the intention: texts, times and communities of the window, oldest first."""

    id: str
    intention: float
    persistent: bool
    texts: tuple[str, ...]
    times: tuple[float, ...]
    communities: tuple[str, ...]
    age: float
    """Days from the first known post to the intention."""


@dataclass(frozen=True)
class Cohort:
    """The people to study, and how many were left out for what."""

    rule: Rule
    people: tuple[Person, ...]
    flow: dict[str, int] = field(default_factory=dict)

    @property
    def persistent(self) -> int:
        return sum(person.persistent for person in self.people)


@dataclass
class _Gathered:
    """What the second reading keeps of a person."""

    before: list[Post] = field(default_factory=list)
    later: list[float] = field(default_factory=list)


def cohort(posts: Iterable[Post], rule: Rule) -> Cohort:
    """The cohort in ``posts``, which are gone over twice and may come in any order.

    Raises:
        UserError: nobody posts in the communities.
    """
    names = {name.casefold() for name in rule.communities}
    first: dict[str, float] = {}
    intended: dict[str, float] = {}
    last, count = float("-inf"), 0
    for post in posts:
        count += 1
        last = max(last, post.time)
        first[post.user] = min(first.get(post.user, post.time), post.time)
        if post.community.casefold() in names:
            intended[post.user] = min(intended.get(post.user, post.time), post.time)
    if not intended:
        raise UserError(
            f"none of {count} posts is in {', '.join(rule.communities)}",
            "name communities as they stand in the data",
        )
    opens, closes = rule.gap * DAY, (rule.gap + rule.outcome) * DAY
    seen = {user: t0 for user, t0 in intended.items() if t0 + closes <= last}
    gathered = {user: _Gathered() for user in first if user in seen}
    for post in posts:
        t0 = seen.get(post.user)
        if t0 is None:
            continue
        if t0 - rule.observation * DAY <= post.time <= t0:
            gathered[post.user].before.append(post)
        elif t0 + opens <= post.time < t0 + closes and post.community.casefold() in names:
            gathered[post.user].later.append(post.time - t0 - opens)
    people: list[Person] = []
    little = between = 0
    for user, found in gathered.items():
        label = persists(found.later, rule)
        if len(found.before) < rule.before:
            little += 1
        elif label is None:
            between += 1
        else:
            people.append(_person(user, seen[user], first[user], label, found.before))
    flow = {
        "posts": count,
        "people": len(first),
        "with an intention": len(intended),
        "outcome not yet over": len(intended) - len(seen),
        f"fewer than {rule.before} posts up to the intention": little,
        "neither persistent nor not": between,
        "persistent": sum(p.persistent for p in people),
        "not persistent": sum(not p.persistent for p in people),
    }
    return Cohort(rule, tuple(people), flow)


def persists(later: Sequence[float], rule: Rule) -> bool | None:
    """The label of a person with posts ``later`` seconds into the outcome window; None: neither."""
    if not later:
        return False
    weeks = {int(time // WEEK) for time in later}
    return True if len(later) >= rule.posts and len(weeks) >= rule.weeks else None


def _person(user: str, t0: float, first: float, label: bool, before: list[Post]) -> Person:
    ordered = sorted(before, key=lambda post: post.time)
    return Person(
        id=user,
        intention=t0,
        persistent=label,
        texts=tuple(post.text for post in ordered),
        times=tuple(post.time for post in ordered),
        communities=tuple(post.community for post in ordered),
        age=(t0 - first) / DAY,
    )
