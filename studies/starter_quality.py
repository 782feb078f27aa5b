"""What the starters reach: recordings, codec resynthesis, NAR from recorded codes, and speech.

    python studies/starter_quality.py --split dev
    python studies/starter_quality.py --split test          # once, for assets/README.md

Every row is judged on the same texts by the judges that never reward: mean word error rate, each
text's clipped at 1, and mean DNSMOS, both with the standard error of the mean. The last row says
the same number of *training* texts: what a model does on texts that it has seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from common.records import Task
from speech import audio, corpora
from speech.audio import Wave
from speech.corpora import Utterance
from speech.judges import Quality, Recogniser
from speech.speaking import load_policy, text_tasks, utter
from speech.text import normalise
from speech.train import Recording, encoded, segments, teacher_states
from speech.vocoder import Vocoder


def sentences(corpus: corpora.Corpus, split: str, words: int, count: int) -> list[Utterance]:
    """Recordings of ``split`` whose texts have at least ``words`` words and differ."""
    assert split in ("train", "dev", "test")
    found = {normalise(u.text): u for u in corpus.split(split)}  # type: ignore[arg-type]
    return [u for text, u in sorted(found.items()) if len(text.split()) >= words][:count]


def spoken(tasks: Sequence[Task], vocoder: Vocoder, temperature: float) -> list[Wave]:
    """Each task's text said once by the starter."""
    return utter(load_policy("starter"), vocoder, tasks, temperature, seed=0)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--split", default="dev", choices=("dev", "test"))
    flags.add_argument("--words", type=int, default=3, help="shortest text, in words")
    flags.add_argument("--n", type=int, default=100, help="at most so many texts")
    flags.add_argument("--temperature", type=float, nargs="+", default=[0.6, 0.8, 1.0])
    flags.add_argument("--work", type=Path, default=Path("work"), help="the recogniser's states")
    chosen = flags.parse_args()

    corpus = corpora.load("prompts")
    wanted = sentences(corpus, chosen.split, chosen.words, chosen.n)
    texts = [u.text for u in wanted]
    recorded = [audio.read(u.path) for u in wanted]
    vocoder = Vocoder.starter()
    judges = [Recogniser(cpu_threads=torch.get_num_threads()), Quality()]
    table: dict[str, dict[str, float]] = {}

    def row(name: str, waves: Sequence[Wave], said: Sequence[str]) -> None:
        facts: dict[str, float] = {"n": len(waves)}
        for judge, key in zip(judges, ("wer", "dnsmos"), strict=True):
            values = np.array([r[key] for r in judge.score(waves, said)])
            facts |= {key: values.mean(), f"{key}_se": values.std(ddof=1) / len(values) ** 0.5}
        table[name] = {key: round(float(value), 4) for key, value in facts.items()}
        means = [f"{facts[key]:.3f} ± {facts[key + '_se']:.3f}" for key in ("wer", "dnsmos")]
        print(f"{name:36} WER {means[0]}   DNSMOS {means[1]}   n {len(waves)}", flush=True)

    row("recordings", recorded, texts)
    codec = vocoder.codec
    codes = [codec.encode(torch.from_numpy(wave)[None]) for wave in recorded]
    for books in (1, codec.codebooks):
        made = [codec.decode(c[:, :books])[0].numpy() for c in codes]
        row(f"codec, {books} codebooks", made, texts)

    rows = [Recording(u, wave) for u, wave in zip(wanted, recorded, strict=True)]
    folder = chosen.work / f"starter-quality-{chosen.split}"
    # The places of phones are learnt without supervision: the more recordings, the better.
    more = [Recording(u, audio.read(u.path)) for u in corpus.split("train")]
    states = teacher_states([*more, *rows], folder, lambda *_: None)
    placed = segments([*more, *rows], states, folder)
    known = [encoded(codec, r, placed) for r in rows]
    full = vocoder.nar.generate(
        [item.codes[0].tolist() for item in known],
        [item.phones or ("?",) * item.codes.shape[1] for item in known],
        vocoder.voice,
    )
    row("NAR from recorded first codes", [codec.decode(c[None])[0].numpy() for c in full], texts)

    learnt = [u.text for u in sentences(corpus, "train", chosen.words, 10_000)]
    learnt = learnt[:: max(1, len(learnt) // len(texts))][: len(texts)]
    for heat in chosen.temperature:
        row(f"starter, temperature {heat:g}", spoken(text_tasks(texts), vocoder, heat), texts)
    heat = chosen.temperature[0]
    row(f"starter on training texts, {heat:g}", spoken(text_tasks(learnt), vocoder, heat), learnt)
    print(json.dumps({"split": chosen.split, "rows": table}))


if __name__ == "__main__":
    main()
