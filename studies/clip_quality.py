"""What a CLIP knows of furniture: ``python studies/clip_quality.py [--clip SPEC] [--split test]``.

1. Retrieval, categories, counts and relations on models that no training saw (scenes/clip/quality).
2. Whether pictures help to choose a model: 34 queries of a colour or shape, the models that fit
   each by eye in ``looks.json``; the search alone, the paper's argmax of its ten best, both scores
   together.
3. How often the critic names a thing that looks as it should, and misses one that does not: each
   held-out picture with its own words and with those of another thing.

The pictures are those that ``upspiral scenes train clip`` rendered.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from common.home import cache
from common.records import identity
from scenes.assets.furniture import index, models
from scenes.assets.index import Index
from scenes.assets.search import search
from scenes.assets.words import article
from scenes.clip import encoder, quality
from scenes.clip.captions import name
from scenes.clip.looks import by_looks
from scenes.clip.pictures import Picture
from scenes.clip.train import RECIPES, icons, shown
from scenes.critics.clip import EVERYDAY, others

QUERIES = Path(__file__).with_name("looks.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", default="starter")
    parser.add_argument("--split", default="test", choices=("dev", "test"))
    parser.add_argument("--recipe", default="starter")
    settings = parser.parse_args()
    clip = encoder.load(settings.clip)
    print(f"{clip.name}, {settings.split}")
    found = models()
    shots = cache() / "clip" / f"pictures-{identity(RECIPES[settings.recipe]().pictures)}"
    mine = [
        Picture.model_validate(row)
        for path in sorted(shots.glob("*.json"))
        for row in json.loads(path.read_text())
        if row["split"] == settings.split
    ]
    print("\nrenders")
    show(quality.measure(clip, found, mine, shots))
    print("\nicons of the same models")
    show(
        quality.measure(clip, found, [p for p in icons(found) if p.split == settings.split], shots)
    )
    reranking(clip)
    critic(clip, mine, shots)


def show(figures: list[quality.Figure]) -> None:
    for f in figures:
        print(f"{f.name:32} {f.value:.3f} ± {f.error:.3f}  n={f.n}  chance {f.chance:.3f}")


def reranking(clip: encoder.Clip) -> None:
    """Share of queries whose first model is one of those that fit."""
    told = json.loads(QUERIES.read_text())
    made, _ = index(images=clip, into=Index(cache() / "clip/study.db"))
    print(f"\nfirst model fits, {len(told)} queries of looks")
    first: dict[str, list[float]] = {}
    for query, right in told.items():
        for k in (10, 30):
            hits = search(made, query, k=k)
            ways = {"search": hits, f"argmax of {k}": by_looks(clip, made)(query, hits)}
            for weight in (1.0, 2.0, 4.0):
                ways[f"search + {weight:g} cosine, of {k}"] = by_looks(clip, made, weight)(
                    query, hits
                )
            for way, ranked in ways.items():
                if way != "search" or k == 10:
                    first.setdefault(way, []).append(float(ranked[0].model.id in right))
    base = np.array(first["search"])
    for way, hits01 in first.items():
        got = np.array(hits01)
        change, n = got - base, len(got)
        print(
            f"{way:32} {got.mean():.3f} ± {got.std(ddof=1) / n**0.5:.3f}  "
            f"change {change.mean():+.3f} ± {change.std(ddof=1) / n**0.5:.3f}"
        )


def critic(clip: encoder.Clip, pictures: list[Picture], shots: Path) -> None:
    """For each share of everyday words that are nearer: findings on right and on wrong words."""
    by_id = {m.id: m for m in models()}
    things = [p for p in pictures if p.kind is None]
    views = clip.images([shown(p, shots) for p in things])
    words = sorted({*EVERYDAY, *(name(by_id[p.models[0]]) for p in things)})
    vector = dict(zip(words, clip.texts([article(w) for w in words]), strict=True))
    ranks: dict[str, list[float]] = {"right": [], "wrong": []}
    for n, (picture, view) in enumerate(zip(things, views, strict=True)):
        stranger = things[(n * 31 + 7) % len(things)]
        said = {"right": name(by_id[picture.models[0]]), "wrong": name(by_id[stranger.models[0]])}
        if said["right"] == said["wrong"]:
            continue
        for which, what in said.items():
            cosines = np.array([vector[w] @ view for w in (what, *others(what, []))])
            ranks[which].append(float((cosines[1:] > cosines[0]).mean()))
    n = len(ranks["right"])
    print(f"\nthe critic's findings, {n} pictures: share of everyday words that are nearer")
    for least in (0.1, 0.3, 0.5, 0.6, 0.7, 0.8):
        right, wrong = (float((np.array(ranks[w]) >= least).mean()) for w in ("right", "wrong"))
        print(f"{least:.1f} or more: {right:.3f} of right words, {wrong:.3f} of wrong ones")


if __name__ == "__main__":
    main()
