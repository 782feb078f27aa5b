"""The index of models: what they are called, how large they are, and what they look like.

SQLite with text embeddings and, where an image encoder is given, embeddings of pictures. It is
incremental: a model is embedded again only if its content or its words changed; two models of the
same content and name are one. Several processes may use it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from common.database import Database
from common.home import cache
from common.records import identity
from common.tables import Json
from scenes.assets.model import Model
from scenes.graph import Surface

Floats = NDArray[np.float32]
VERSION = 1
metadata = sa.MetaData()
models = sa.Table(
    "models",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, index=True),
    sa.Column("content", sa.Text),
    sa.Column("data", Json),
    sa.Column("text", sa.LargeBinary),
    sa.Column("image", sa.LargeBinary),
    sa.Column("encoder", sa.Text),
    sa.Column("problem", sa.Text),
)
version = sa.Table("version", metadata, sa.Column("version", sa.Integer, primary_key=True))


class TextEncoder(Protocol):
    """Words to vectors of length one, (n, width)."""

    def __call__(self, texts: Sequence[str]) -> Floats: ...


class ImageEncoder(Protocol):
    """Pictures and words to vectors of length one in one space; ``name`` tells encoders apart."""

    @property
    def name(self) -> str: ...

    def images(self, paths: Sequence[Path]) -> Floats: ...

    def texts(self, texts: Sequence[str]) -> Floats: ...


class Indexed(NamedTuple):
    """What :meth:`Index.add` did."""

    new: int
    kept: int
    dropped: int
    """Models of the same source that are gone."""
    doubles: int


class Index:
    """The models in ``path`` (``assets.db`` in the cache by default).

    ``only`` is the one source whose models are found; all of them by default.

    Raises (here and in every method):
        UserError: as :class:`common.database.Database`.
    """

    def __init__(
        self,
        path: Path | None = None,
        text: TextEncoder | None = None,
        only: str | None = None,
    ) -> None:
        self.database = Database(path or cache() / "assets.db", "index of models")
        self.database.create(metadata, version, VERSION)
        self.only = only
        self._text = text
        self._loaded: dict[str, tuple[list[Model], Floats]] = {}

    def add(
        self,
        source: str,
        found: Iterable[Model],
        images: ImageEncoder | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Indexed:
        """Make the index hold exactly ``found`` of ``source``, embedding what is new."""
        wanted: dict[str, Model] = {}
        seen: set[tuple[str, str]] = set()
        doubles = 0
        for model in found:
            if (key := (model.digest, model.name)) in seen or model.id in wanted:
                doubles += 1
                continue
            seen.add(key)
            wanted[model.id] = model
        with self.database.read() as connection:
            rows = connection.execute(
                sa.select(models.c.id, models.c.content, models.c.encoder).where(
                    models.c.source == source
                )
            )
            there = {row.id: (row.content, row.encoder) for row in rows}
        name = images.name if images else None
        new = [
            m
            for m in wanted.values()
            if there.get(m.id, ("", None))[0] != _content(m)
            or (name is not None and there[m.id][1] != name)
        ]
        for start in range(0, len(new), 64):
            part = [
                self._measured(m) if there.get(m.id, ("", None))[0] == _content(m) else m
                for m in new[start : start + 64]
            ]
            self._write(source, part, images)
            if progress is not None:
                progress(min(start + 64, len(new)), len(new), "models indexed")
        gone = [i for i in there if i not in wanted]
        if gone:
            with self.database.write() as connection:
                connection.execute(sa.delete(models).where(models.c.id.in_(gone)))
        self._loaded.clear()
        return Indexed(len(new), len(wanted) - len(new), len(gone), doubles)

    def measured(
        self, name: str, size: tuple[float, float, float], surfaces: Sequence[Surface]
    ) -> Model:
        """Keep what a look into the model's file told; its own size stays if it was known."""
        model = self[name]
        changed = model.model_copy(
            update={"surfaces": tuple(surfaces), "size": model.size or tuple(size)}
        )
        self._update(name, data=changed.model_dump(mode="json"))
        return changed

    def broken(self, name: str, problem: str) -> None:
        """Note that a model cannot be used; search leaves it out until its content changes."""
        self._update(name, problem=problem)

    def problems(self) -> Mapping[str, str]:
        """What is wrong with the models that cannot be used."""
        with self.database.read() as connection:
            rows = connection.execute(
                sa.select(models.c.id, models.c.problem)
                .where(models.c.problem.is_not(None))
                .where(self._wanted())
            )
            return {row.id: row.problem for row in rows}

    def sources(self) -> dict[str, int]:
        """How many models each source has here."""
        count = sa.func.count()
        with self.database.read() as connection:
            rows = connection.execute(
                sa.select(models.c.source, count).group_by(models.c.source)
            ).all()
            return {row[0]: row[1] for row in rows}

    def __getitem__(self, name: str) -> Model:
        with self.database.read() as connection:
            data = connection.scalar(sa.select(models.c.data).where(models.c.id == name))
        if data is None:
            raise KeyError(name)
        return Model.model_validate(data)

    def all(self, column: str = "text", encoder: str | None = None) -> tuple[list[Model], Floats]:
        """Every usable model that has that embedding ("text" or "image"), and the embeddings.

        ``encoder`` leaves out pictures that another encoder saw.
        """
        key = f"{column} {encoder}"
        if key not in self._loaded:
            vector = models.c[column]
            mine = models.c.encoder == encoder if encoder is not None else sa.true()
            with self.database.read() as connection:
                rows = connection.execute(
                    sa.select(models.c.data, vector)
                    .where(vector.is_not(None), models.c.problem.is_(None), mine)
                    .where(self._wanted())
                    .order_by(models.c.id)
                ).all()
            found = [Model.model_validate(row[0]) for row in rows]
            vectors = np.zeros((0, 1), np.float32)
            if rows:
                vectors = np.stack([np.frombuffer(row[1], np.float32) for row in rows])
            self._loaded[key] = (found, vectors)
        return self._loaded[key]

    def encode(self, texts: Sequence[str]) -> Floats:
        """Embeddings of words, as the models' own."""
        if self._text is None:
            from common.sentences import encoder

            self._text = encoder()
        return self._text(texts)

    def _write(self, source: str, part: Sequence[Model], images: ImageEncoder | None) -> None:
        texts = self.encode([described(m) for m in part])
        pictures: dict[str, bytes] = {}
        if images is not None:
            shown = [m for m in part if m.icon]
            vectors = images.images([Path(str(m.icon)) for m in shown])
            pictures = {m.id: _bytes(v) for m, v in zip(shown, vectors, strict=True)}
        rows = [
            {
                "id": m.id,
                "source": source,
                "content": _content(m),
                "data": m.model_dump(mode="json"),
                "text": _bytes(v),
                "image": pictures.get(m.id),
                "encoder": images.name if images is not None else None,
                "problem": None,
            }
            for m, v in zip(part, texts, strict=True)
        ]
        with self.database.write() as connection:
            connection.execute(sa.delete(models).where(models.c.id.in_([m.id for m in part])))
            connection.execute(sa.insert(models), rows)

    def _wanted(self) -> sa.ColumnElement[bool]:
        return sa.true() if self.only is None else models.c.source == self.only

    def _measured(self, model: Model) -> Model:
        """``model`` with what was measured of it, whose content is that of the one here."""
        old = self[model.id]
        return model.model_copy(update={"surfaces": old.surfaces, "size": model.size or old.size})

    def _update(self, name: str, **values: Any) -> None:
        with self.database.write() as connection:
            connection.execute(sa.update(models).where(models.c.id == name).values(**values))
        self._loaded.clear()


def described(model: Model) -> str:
    """The words that a model is embedded by."""
    return ", ".join(filter(None, [model.name, *model.tags, model.category])).lower()


def _content(model: Model) -> str:
    """What, when it changes, makes a model another one."""
    plain = model.model_dump(mode="json", exclude={"surfaces", "size", "path", "icon"})
    return identity(plain)


def _bytes(vector: Floats) -> bytes:
    return np.ascontiguousarray(vector, np.float32).tobytes()
