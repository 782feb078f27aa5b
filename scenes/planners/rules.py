"""The planner that needs no model: an English parser for scenes.

A text is read from left to right: noun phrases name assets ("four wooden chairs") or point back to
them ("the sofa", "it"), and what stands between them says how they lie to one another. Whatever is
said last belongs to what was named last, as in "a lamp on a cabinet left of the sofa", unless a
comma or an "and" goes back to the subject. It knows few words for relations and none for things:
whatever is named is looked for in the index. Words that it cannot use are told.

    upspiral scenes plan "a round table with four chairs around it"
"""

from __future__ import annotations

from dataclasses import replace

from common.errors import UserError
from scenes.graph import Relation, SceneGraph
from scenes.planners import Plan, phrases
from scenes.planners import tokens as lexer
from scenes.planners.arrange import flank, place, relate, shaped
from scenes.planners.cast import Clause, Group
from scenes.planners.habits import habits
from scenes.planners.lexicon import (
    BACK,
    BIG,
    CONTAINERS,
    DEFINITE,
    FILLERS,
    NUMBERS,
    OUTDOORS,
    OUTSIDE,
    PLACES,
    PRONOUNS,
    ROOMS,
    SEATS,
    SIDEWAYS,
    STANDING,
    TABLES,
    TOYS,
    WHOLE,
)
from scenes.planners.paraphrases import opened
from scenes.planners.phrases import Phrase
from scenes.planners.telling import TURNED, Told
from scenes.planners.tokens import Token

AHEAD = frozenset("against-wall on-wall in-corner in-centre row stack grid ring".split())
"""Places that may be named before what is there."""
VERBS = frozenset("is are be been stand stands sit sits".split())
EXAMPLE = 'name things, as in "a table with four chairs around it"'


class Rules:
    """See the module. The same text always gives the same graph."""

    def plan(self, text: str) -> Plan:
        """The scene graph of ``text``; see :class:`scenes.planners.Planner`."""
        if not text.strip():
            raise UserError("an empty text", EXAMPLE)
        return _Reading(text).plan()


class _Reading(Told):
    """One text being read."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = " ".join(text.split())
        self.rest = opened(self.text)
        self.before: Group | None = None
        """The subject of the sentence before: what "it" points to."""

    def plan(self) -> Plan:
        tokens = lexer.read(self.rest)
        start = 0
        for at, token in enumerate([*tokens, Token("stop", ".")]):
            if token.kind == "stop":
                self._clause(tokens[start:at])
                start = at + 1
        if not self.cast.assets:
            raise UserError(f"nothing to show in {self.text[:60]!r}", EXAMPLE)
        self.relations += habits(self.cast, self.relations, self.kind, self.room is not None)
        named = [g.phrase for g in self.cast.groups]
        outside = any(p.head in OUTSIDE and not TOYS & set(p.words) for p in named)
        indoors = self.room is not None or self.kind in ROOMS
        graph = SceneGraph(
            text=self.text,
            assets=tuple(self.cast.assets),
            relations=tuple(_once(self.relations)),
            room=self.room,
            outdoors=self.kind in OUTDOORS or (outside and not indoors),
        )
        return Plan(graph, tuple(self.unused), tuple(self.cast.notes))

    # Reading

    def _clause(self, tokens: list[Token]) -> None:
        c = Clause()
        at = 0
        while at < len(tokens):
            token = tokens[at]
            if token.kind == "connector" and self._turned(c, tokens, at):
                at += 1
            elif token.kind == "connector":
                self._connect(c, token, at + 1 < len(tokens) and tokens[at + 1].text in BACK)
            elif token.kind == "place":
                self._place(c, token)
            elif token.kind in ("and", "comma"):
                c.listed = token.kind == "comma"
                c.separated = True
            elif token.kind == "measure" and phrases.read(tokens, at) is None:
                if not token.lengths[0][0]:
                    c.gap = token.lengths[0][1]
                elif named := (c.run or c.last):
                    self.cast.size(named[-1], dict(token.lengths))
                    c.sized.append(named[-1])
            elif token.text == "apart" and c.gap is not None:
                far = c.run or c.last
                ids = [i for g in far[-1 if len(far[-1].ids) > 1 else -2 :] for i in g.ids]
                self.relations += shaped("apart", ids, gap=c.gap)
                c.gap = None
            elif (
                token.text in PRONOUNS
                and not (token.text == "each" and phrases.read(tokens, at) is not None)
                and not (token.text == "one" and phrases.read(tokens, at) is not None)
            ):
                self._pronoun(c, token.text)
            elif token.kind == "word" and (token.text in FILLERS or c.passes(tokens, at)):
                c.verb = c.verb or token.text in VERBS
            else:
                read = phrases.read(tokens, at)
                if read is None:
                    if token.kind == "word" and token.text not in (*NUMBERS, *DEFINITE):
                        self.unused.append(token.text)
                else:
                    self._name(c, read[0])
                    at = read[1]
                    continue
            at += 1
        self.attach(c)
        if c.named:
            self.before = c.named[0]

    def _name(self, c: Clause, phrase: Phrase) -> None:
        self.unused += phrase.unused
        if self.surroundings(c, phrase):
            return
        # "in a garage", but "a car behind a garage" and "two garages".
        about = c.pending is not None and c.pending[0] != "inside"
        named = phrase.head in ROOMS or phrase.head in OUTDOORS
        if phrase.head in WHOLE or (named and phrase.count < 2 and not about):
            self.setting(phrase)
            c.pending = None
            return
        group = self.cast.resolved(phrase) or self.made(c, phrase)
        self._hear(c, group)

    def _hear(self, c: Clause, group: Group) -> None:
        """A group was named: the host of what waits, or one more of a run."""
        if group not in c.named:
            c.named.append(group)
        if (
            c.pending is not None
            and c.pending[0] == "between"
            and not c.halves
            and (len(group.ids) < 2)
        ):
            c.halves = [group]
            c.separated = False
            return
        if c.pending is not None:
            kind, subjects = c.pending
            if not subjects:
                c.inverted = (kind, [*c.halves, group])
            else:
                hosts = [*c.halves, group]
                self.say(c, kind, subjects, hosts)
                c.subject = subjects
            c.pending, c.halves = None, []
            c.last, c.run = [group], []
        elif c.inverted is not None:
            kind, hosts = c.inverted
            self.say(c, kind, [group], hosts)
            c.last = c.subject = [group]
        else:
            if c.run and not c.separated:
                c.run = []
            if c.closed and c.separated:
                self.attach(c)
            if c.holder is not None:
                c.held.append(group)
            if c.place:
                self.relations += place(c.place, group.ids, c.gap)
            c.run.append(group)
        c.separated = c.verb = False

    def _turned(self, c: Clause, tokens: list[Token], at: int) -> bool:
        """Whether "a desk and behind it a chair" is read here: "it" is what was just named."""
        if not c.separated or not c.run or at + 2 >= len(tokens):
            return False
        if tokens[at + 1].text not in BACK or phrases.read(tokens, at + 2) is None:
            return False
        c.inverted, c.run, c.separated = (tokens[at].value, c.run[-1:]), [], False
        return True

    def _connect(self, c: Clause, token: Token, back: bool) -> None:
        """``back``: a pronoun follows, so that what it points back to is no subject."""
        kind = token.value
        if kind == "with" and token.text != "with" and not (c.run or c.last or c.subject):
            return  # what has it is no thing: "the room has a sofa"
        if kind == "with":
            self.attach(c)
            source = (
                c.run[-1:]
                or (c.subject if c.subject and (c.separated or c.hangs) else c.last)
                or ([self.before] if self.before else [])
            )
            c.holder = source[0] if source else None
            c.guessed = bool(source) and source[0] is self.before and source[0] not in c.named
            c.run, c.last = [], source
            c.separated = False
            return
        if c.run and back and len(c.run) > 1:
            subjects, c.subject = c.run[-1:], c.run[:-1]
        elif c.run:
            subjects = self._sharing(c, kind)
        elif c.separated and c.subject:
            subjects = c.subject
        else:
            subjects = c.last
        c.closed = c.closed or any(g in c.held for g in subjects)
        c.held = [g for g in c.held if g not in subjects]
        c.place = ""
        if c.inverted is not None and c.run == []:
            c.inverted = None
        c.pending, c.run, c.separated = (kind, subjects), [], False

    def _sharing(self, c: Clause, kind: str) -> list[Group]:
        """Which of the groups named in a row a connector speaks of: the last, or all of them."""
        if len(c.run) == 1:
            return c.run
        if kind in TURNED and not c.verb:  # "a plant and a table surrounded by chairs"
            return c.run[-1:]
        carried = kind in ("on", "inside")
        before = c.run[:-1]
        if any(g.phrase.shape or g.phrase.lengths or g in c.sized for g in before):
            return c.run[-1:]
        if (
            kind == "around"
            and any(g.head not in SEATS for g in before)
            and c.run[-1].head in SEATS
        ):
            return c.run[-1:]
        fits = not carried or not any(g.head in BIG | OUTSIDE for g in c.run[:-1])
        together = c.verb or ((len(c.run) == 2 or carried) and not c.listed)
        alone = c.holder is None or c.verb
        return c.run if together and fits and alone else c.run[-1:]

    def _place(self, c: Clause, token: Token) -> None:
        kind = PLACES[token.value][0]
        chosen = c.run[-1:] or (c.subject if c.separated and c.subject else c.last)
        if c.run and c.verb:
            chosen = c.run
        if c.pending is not None and not c.pending[1]:
            c.pending = None
        ids = [i for g in chosen for i in g.ids]
        floor = c.holder is not None and c.holder.head not in TABLES
        large = kind in SIDEWAYS and (floor or any(g.head in BIG for g in chosen))
        if (large or kind in ("flank-previous", "on-previous")) and any(
            g in c.held for g in chosen
        ):
            c.closed = True
        if kind == "in-centre" and c.holder is not None and chosen and chosen[0] in c.held:
            c.run = []  # in the middle of what holds it: it will be put on that
            return
        if kind == "flank-previous" and chosen:
            host = c.holder or (c.subject[0] if c.subject else self.before)
            hosts = [host] if host is not None and host != chosen[0] else self.cast.groups[-2:-1]
            if hosts:
                self.relations += flank(self.cast.copied(chosen[0], 2).ids, hosts[0].ids[0])
        elif kind in SIDEWAYS and chosen:
            # Of what was named first: "a sofa, and an armchair on the right".
            held = c.holder is not None and chosen[0] in c.held
            other = (
                c.holder
                if held
                else next((g for g in [*c.named, *self.cast.groups] if g not in chosen), None)
            )
            if other is not None:
                heads = (chosen[0].head, other.head)
                self.relations += relate(SIDEWAYS[kind], ids, other.ids, heads, c.gap)
        elif kind == "on-previous" and chosen:
            host = c.holder or self.before
            if host is not None and host != chosen[0]:
                if host.phrase.each:
                    ids = list(self.cast.copied(chosen[0], len(ids) * len(host.ids)).ids)
                self.relations += relate("on", ids, host.ids, (chosen[0].head, host.head))
        elif ids:
            self.relations += place(token.value, ids, c.gap)
        elif kind in AHEAD:
            c.place = token.value
        elif not chosen and kind:
            self.unused.append(token.text)
        c.held = [g for g in c.held if g not in chosen]
        if chosen:
            c.subject = c.last = chosen
        c.run, c.separated = [], False

    def _pronoun(self, c: Clause, word: str) -> None:
        if word in BACK and c.pending is None and c.run:
            c.last, c.subject, c.run = c.run[-1:], c.run[-1:], []
            return  # "there is a bed, and it is 2 m wide"
        if word in ("one", "each") and c.pending is None:
            if word == "each" and (c.run or c.last):
                last = (c.run or c.last)[-1]
                c.last = [Group(last.ids, replace(last.phrase, each=True))]
                c.run, c.separated = [], False
            return
        found = c.holder if c.pending is not None and c.holder is not None else None
        subjects = c.pending[1] if c.pending else []
        found = found or (c.subject[0] if c.subject and c.subject[0] not in subjects else None)
        found = found or self.before or (self.cast.groups[0] if self.cast.groups else None)
        if found is None:
            self.unused.append(word)
            return
        if word == "each":  # "two desks with a lamp on each"
            found = Group(found.ids, replace(found.phrase, each=True))
        if c.pending is not None and c.pending[0] == "inside" and not _holds(found, subjects):
            c.pending, c.last = None, subjects  # "a park, and a fountain in it"
            return
        if c.pending is None and c.holder is None and not c.run:
            c.last = c.subject = [found]
            return
        if c.pending is not None and c.pending[0] == "between" and len(found.ids) < 2:
            # "a sofa facing a TV, a table between them": the first two that are named.
            two = [g for g in c.named if g not in subjects][:2]
            c.halves, found = (two[:1], two[1]) if len(two) == 2 else ([], found)
        self._hear(c, found)
        if subjects:
            c.last = subjects


def _holds(host: Group, inside: list[Group]) -> bool:
    """Whether something may be in a thing: nothing large, and only in what is hollow."""
    return host.head in CONTAINERS and not any(g.head in BIG | OUTSIDE | STANDING for g in inside)


def _once(relations: list[Relation]) -> list[Relation]:
    """Without repeats, and without what would relate a thing to itself; in order."""
    seen: dict[str, Relation] = {}
    for relation in relations:
        if len(set(relation.assets)) < len(relation.assets):
            continue
        seen.setdefault(str(relation), relation)
    return list(seen.values())
