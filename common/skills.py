"""The skill library: functions that a loop learnt, as source with a history.

SceneCraft's outer loop merges functions into a library (arXiv 2403.01248, section 3); Voyager calls
such functions skills (arXiv 2305.16291). A skill is the source of one Python function, with
examples that it must pass. Each change is a new version; the one in use is the skill's head, which
may be moved back. A version is taken only if its examples still pass, in :mod:`common.sandbox`
since a model may have written it, and if the held-out score that the caller gives does not fall.

The library is a policy of :class:`common.loop.Loop`: its state is the heads. ``restore`` moves
heads and forgets no version. SQLite in a folder; several processes may use it at once.

Nothing here ever runs a source in this process. Whoever does has to know what it says.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from common.artifacts import disk_errors
from common.database import Database
from common.errors import UserError
from common.records import identity
from common.skill import Skill, failure, problem
from common.tables import Json

__all__ = ["Skill", "SkillLibrary", "SkillRefusedError", "problem"]

Encoder = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to vectors of length one, (n, width)."""

VERSION = 1
metadata = sa.MetaData()
versions = sa.Table(
    "versions",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("digest", sa.Text),
    sa.Column("source", sa.Text),
    sa.Column("examples", Json),
    sa.Column("provenance", Json),
    sa.Column("score", sa.Double),
    sa.Column("uses", sa.Integer),
    sa.Column("created", sa.Double),
    sa.Column("meaning", sa.LargeBinary),
    sa.UniqueConstraint("name", "digest"),
)
heads = sa.Table(
    "heads",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer),
)
version = sa.Table("version", metadata, sa.Column("version", sa.Integer, primary_key=True))


class SkillRefusedError(RuntimeError):
    """A version that was not taken: its source is none, an example fails, or the score falls."""


class SkillLibrary:
    """The skills in ``folder``, made if it is not there.

    Args:
        prelude: source that every skill may count on: imports, mostly. It is the caller's own.
        files: what the prelude needs to read in the sandbox, as in :func:`common.sandbox.run`; the
            folder of inputs is on the path.
        encoder: for search by meaning; that of :mod:`common.sentences` by default.

    Raises (here and in every method):
        UserError: as :class:`common.database.Database`; or ``folder`` is no folder.
    """

    def __init__(
        self,
        folder: Path,
        prelude: str = "",
        files: Mapping[str, Path] | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        self.folder, self.prelude = folder, prelude
        self._files: dict[str, bytes | Path] = {**(files or {})}
        self._encoder = encoder
        try:
            with disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(f"{folder} is no folder", "name a folder for the library") from error
        self.database = Database(folder / "skills.db", "library of skills")
        self.database.create(metadata, version, VERSION)

    # Reading

    def __iter__(self) -> Iterator[Skill]:
        """The version in use of each skill, by name."""
        with self.database.read() as connection:
            rows = connection.execute(_current().order_by(versions.c.name)).all()
        return iter([_skill(row) for row in rows])

    def __getitem__(self, name: str) -> Skill:
        """The version in use; :class:`KeyError` without one."""
        with self.database.read() as connection:
            row = connection.execute(_current().where(versions.c.name == name)).first()
        if row is None:
            raise KeyError(name)
        return _skill(row)

    def history(self, name: str) -> list[Skill]:
        """Every version of a skill, oldest first, those that were rolled back too."""
        chosen = sa.select(versions).where(versions.c.name == name).order_by(versions.c.version)
        with self.database.read() as connection:
            return [_skill(row) for row in connection.execute(chosen)]

    def search(self, query: str, k: int = 5) -> list[tuple[Skill, float]]:
        """The ``k`` skills in use whose name and docstring mean most nearly ``query``."""
        with self.database.read() as connection:
            rows = connection.execute(_current().order_by(versions.c.name)).all()
        if not rows:
            return []
        meanings = np.stack([np.frombuffer(row.meaning, np.float32) for row in rows])
        scores = meanings @ self._encode([query])[0]
        best = np.argsort(-scores, kind="stable")[:k]
        return [(_skill(rows[i]), float(scores[i])) for i in best]

    # Changing

    def check(self, skill: Skill) -> str:
        """Why a version may not be taken; see :func:`common.skill.failure`."""
        return failure(skill, self.prelude, self._files)

    def add(self, skill: Skill, score: float | None = None) -> Skill:
        """Take a new version and put it in use; the same as the one in use is that one.

        ``skill.examples`` are joined by those of the version in use, which must pass still.

        Args:
            score: held out, with this version in use. It may not be below that of the version in
                use, where both are known.

        Raises:
            SkillRefusedError: the version is not taken; the one in use stays.
        """
        before = self._head(skill.name)
        if before is not None:
            kept = tuple(e for e in before.examples if e not in skill.examples)
            skill = replace(skill, examples=(*kept, *skill.examples))
        wrong = self.check(skill)
        if wrong:
            raise SkillRefusedError(f"{skill.name}: {wrong}")
        meaning = self._meaning(skill)
        with self.database.write() as connection:
            head = connection.execute(_current().where(versions.c.name == skill.name)).first()
            if head is not None and score is not None and head.score is not None:
                if not score >= head.score:  # a NaN is no score
                    fell = f"from {head.score:.4g} to {score:.4g}"
                    raise SkillRefusedError(f"{skill.name}: the held-out score falls {fell}")
            elif score is not None and score != score:
                raise SkillRefusedError(f"{skill.name}: the held-out score is no number")
            return self._put(connection, replace(skill, score=score), meaning)

    def rollback(self, name: str, to: int | None = None) -> Skill:
        """Put an earlier version in use: number ``to``, or the one before the one in use.

        Raises:
            KeyError: there is no such skill or version.
        """
        with self.database.write() as connection:
            number = sa.select(heads.c.version).where(heads.c.name == name).scalar_subquery()
            wanted = versions.c.version == to if to is not None else versions.c.version < number
            row = connection.execute(
                sa.select(versions)
                .where(versions.c.name == name, wanted)
                .order_by(versions.c.version.desc())
            ).first()
            if row is None:
                raise KeyError(f"{name} has no version {to if to is not None else 'before'}")
            self._point(connection, name, row.version)
            return _skill(row)

    def used(self, counts: Mapping[str, int]) -> None:
        """Add to how often the versions in use were used."""
        with self.database.write() as connection:
            for name, count in counts.items():
                number = sa.select(heads.c.version).where(heads.c.name == name).scalar_subquery()
                connection.execute(
                    sa.update(versions)
                    .where(versions.c.name == name, versions.c.version == number)
                    .values(uses=versions.c.uses + count)
                )

    def scored(self, score: float) -> None:
        """Note what was measured, held out, with all the versions in use now."""
        with self.database.write() as connection:
            current = sa.select(heads.c.name, heads.c.version)
            connection.execute(
                sa.update(versions)
                .where(sa.tuple_(versions.c.name, versions.c.version).in_(current))
                .values(score=score)
            )

    # The state, as a policy

    def fingerprint(self) -> str:
        """A hash of the versions in use; how often they were used is no part of it."""
        return identity(sorted((s.name, s.digest) for s in self))

    def save(self, folder: Path) -> None:
        """Write the versions in use as JSON."""
        found = [
            {"name": s.name, "source": s.source, "examples": s.examples,
             "provenance": dict(s.provenance), "score": s.score}
            for s in self
        ]  # fmt: skip
        (folder / "skills.json").write_text(json.dumps(found, indent=1), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        """Put in use exactly what :meth:`save` wrote; it passed its examples when it was taken."""
        rows = json.loads((folder / "skills.json").read_text(encoding="utf-8"))
        self.put([Skill(**{**row, "examples": tuple(row["examples"])}) for row in rows])

    def put(self, skills: Sequence[Skill]) -> None:
        """Put in use exactly these, for whose sources the caller vouches: no example is run."""
        meanings = {s.name: self._meaning(s) for s in skills if not self._knows(s)}
        with self.database.write() as connection:
            names = [s.name for s in skills]
            connection.execute(sa.delete(heads).where(heads.c.name.not_in(names)))
            for skill in skills:
                self._put(connection, skill, meanings.get(skill.name))

    # Elsewhere

    def export(self, folder: Path) -> Path:
        """Write the skills in use as a package that can be imported; returns its folder.

        The prelude becomes a module that each skill's module takes its names from.

        Raises:
            UserError: there is something in ``folder`` already, or its name is none of a package.
        """
        if not folder.name.isidentifier():
            raise UserError(f"{folder.name!r} cannot be imported", "use letters, digits and _")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} is there already", "name a new folder")
        skills = list(self)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            names = ", ".join(f'"{s.name}"' for s in skills)
            lines = [f"from .{s.name} import {s.name}" for s in skills]
            about = '"""Skills of a library, exported."""\n'
            _write(folder / "__init__.py", [about, *lines, "", f"__all__ = [{names}]"])
            _write(folder / "_prelude.py", ['"""What the skills count on."""\n', self.prelude])
            for s in skills:
                said = f"Version {s.version} of {s.name}."
                _write(
                    folder / f"{s.name}.py",
                    [f'"""{said}"""\n', "from ._prelude import *  # noqa: F403\n\n", s.source],
                )
        return folder

    def _head(self, name: str) -> Skill | None:
        try:
            return self[name]
        except KeyError:
            return None

    def _knows(self, skill: Skill) -> bool:
        return any(old.digest == skill.digest for old in self.history(skill.name))

    def _meaning(self, skill: Skill) -> bytes:
        text = f"{skill.name.replace('_', ' ')}: {skill.about}"
        return np.ascontiguousarray(self._encode([text])[0], np.float32).tobytes()

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self._encoder is None:
            from common.sentences import encoder

            self._encoder = encoder()
        return self._encoder(texts)

    def _put(self, connection: sa.Connection, skill: Skill, meaning: bytes | None) -> Skill:
        """Insert a version if it is not there, and put it in use."""
        mine = versions.c.name == skill.name
        row = connection.execute(
            sa.select(versions).where(mine, versions.c.digest == skill.digest)
        ).first()
        if row is None:
            last = connection.scalar(sa.select(sa.func.max(versions.c.version)).where(mine)) or 0
            values = {
                "name": skill.name, "version": last + 1, "digest": skill.digest,
                "source": skill.source, "examples": list(skill.examples),
                "provenance": dict(skill.provenance), "score": skill.score, "uses": 0,
                "created": time.time(), "meaning": meaning or self._meaning(skill),
            }  # fmt: skip
            connection.execute(sa.insert(versions), values)
            number = last + 1
        else:
            number = row.version
            if skill.score is not None:
                here = (versions.c.name == skill.name) & (versions.c.version == number)
                connection.execute(sa.update(versions).where(here).values(score=skill.score))
        self._point(connection, skill.name, number)
        row = connection.execute(_current().where(mine)).one()
        return _skill(row)

    def _point(self, connection: sa.Connection, name: str, number: int) -> None:
        connection.execute(sa.delete(heads).where(heads.c.name == name))
        connection.execute(sa.insert(heads), {"name": name, "version": number})


def _current() -> sa.Select[Any]:
    same = (heads.c.name == versions.c.name) & (heads.c.version == versions.c.version)
    return sa.select(versions).join(heads, same)


def _skill(row: Any) -> Skill:
    return Skill(
        row.name,
        row.source,
        tuple(row.examples),
        row.provenance,
        row.score,
        row.uses,
        row.version,
    )


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
