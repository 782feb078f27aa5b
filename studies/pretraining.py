"""Token objectives from nothing at equal compute; sentence objectives continued from one of them.

    python studies/pretraining.py                                  # about 30 minutes of one core
    python studies/pretraining.py --flops 1e14 --seeds 3           # hours
    python studies/pretraining.py --limit 200 --flops 4e10 --train 20 --test 20 --out smoke

Every arm gets the same floating-point operations, forward and backward, as torch counts them for a
step of it; processor seconds stand beside them. The corpus is the machine's own documentation, so
figures of two machines do not compare. Measured are

* the loss on dev documents, which compares within a kind of objective only;
* a probe: ridge regression from the frozen encoder's mean state of a sentence to the heading that
  the sentence stands under, eight headings as often each, train documents to dev documents; and
  what compute takes the probe to where MLM's ends;
* answer-sentence selection after fine-tuning, derived from headings (test documents): MAP, MRR and
  P@1 with standard errors over questions, and the paired difference from MLM.

Controls: an encoder that was not pre-trained, the same fine-tuning; cosine of TF-IDF; chance. Then
``mlm`` goes on for a third of the compute, by itself and with each sentence objective.

What is done is kept under --out; the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import TrainerCallback

from common.comparison import lines
from common.errors import UserError
from common.progress import progress
from common.records import Metric
from common.training import generator
from text.pretraining import as2, models, sentences, sources
from text.pretraining.as2 import Question
from text.pretraining.documents import Corpus
from text.pretraining.ranker import Ranker
from text.pretraining.ranking import evaluate
from text.pretraining.recipes import PretrainConfig
from text.pretraining.sources import CorpusConfig
from text.pretraining.train import pretrain, setup, vocabulary
from text.pretraining.tune import TuneConfig, tune

TOKENS = ("mlm", "slm", "rts", "c-rts", "electra")
MARKS = 8
"""How often the probe looks."""
CLASSES = 8
SHOWN = ("map", "mrr", "p@1")


class Probe(NamedTuple):
    """Sentences and the headings that they stand under, to fit a probe on and to test it."""

    fit: list[tuple[str, int]]
    test: list[tuple[str, int]]


def probe_of(corpus: Corpus, each: int) -> Probe:
    """``each`` sentences a heading from train documents, a third as many from dev documents."""
    counts = [
        Counter(s.heading.lower() for d in corpus.split(split) for s in d.sections if s.heading)
        for split in ("train", "dev")
    ]
    names = [name for name, _ in (counts[0] & counts[1]).most_common(CLASSES)]
    if len(names) < 2:
        raise UserError("dev documents share no headings with train", "take a larger corpus")
    parts = []
    for split, most in (("train", each), ("dev", each // 3)):
        pools: dict[str, list[str]] = {name: [] for name in names}
        for document in corpus.split(split):  # type: ignore[arg-type]
            for section in document.sections:
                if section.heading.lower() in pools:
                    pools[section.heading.lower()] += [p[0] for p in section.paragraphs[:3]]
        least = min(most, *(len(pool) for pool in pools.values()))
        random = generator(0, "probe", split)
        parts.append([(pools[name][i], label) for label, name in enumerate(names)
                      for i in random.permutation(len(pools[name]))[:least]])  # fmt: skip
    return Probe(*parts)


@torch.inference_mode()
def states(encoder: Any, tokenizer: Any, texts: list[str]) -> np.ndarray[Any, Any]:
    """The mean last state of each text, ``(N, H)``."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = np.zeros((len(texts), encoder.config.hidden_size), np.float32)
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        batch = tokenizer([texts[i] for i in rows], padding=True, truncation=True, max_length=64,
                          return_tensors="pt")  # fmt: skip
        mask = batch["attention_mask"][..., None].float()
        last = encoder(**batch).last_hidden_state
        found[rows] = ((last * mask).sum(1) / mask.sum(1)).numpy()
    return found


def probed(encoder: Any, tokenizer: Any, probe: Probe) -> float:
    """Accuracy of the probe on the frozen encoder."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    training = encoder.training
    encoder.eval()
    x = [states(encoder, tokenizer, [s for s, _ in part]) for part in probe]
    encoder.train(training)
    y = [[label for _, label in part] for part in probe]
    fitted = make_pipeline(StandardScaler(), RidgeClassifier(alpha=10.0)).fit(x[0], y[0])
    return float(fitted.score(x[1], y[1]))


class Looks(TrainerCallback):  # type: ignore[misc]
    """Probes at marks of a training, and counts its processor seconds without the probing."""

    def __init__(self, path: Path, every: int, tokenizer: Any, probe: Probe) -> None:
        self.path, self.every, self.tokenizer, self.probe = path, every, tokenizer, probe
        self.seconds = self.begun = 0.0

    @property
    def rows(self) -> list[dict[str, float]]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kw: Any) -> None:  # noqa: ARG002
        # Where a training goes on, a mark was looked at: checkpoints are at marks.
        known = {row["step"]: row["seconds"] for row in self.rows}
        self.seconds = known.get(state.global_step, 0.0)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kw: Any) -> None:  # noqa: ARG002
        self.begun = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:  # noqa: ARG002
        self.seconds += time.process_time() - self.begun
        known = {row["step"] for row in self.rows}
        if state.global_step % self.every == 0 and state.global_step not in known:
            accuracy = probed(kw["model"].model.base_model, self.tokenizer, self.probe)
            row = {"step": state.global_step, "seconds": self.seconds, "accuracy": accuracy}
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")


def flops(config: PretrainConfig, corpus: Corpus, folder: Path, report: Any) -> float:
    """Floating-point operations of a step, forward and backward; pairs differ in length."""
    folder.mkdir(parents=True, exist_ok=True)
    _, objective, data, collate = setup(config, corpus, folder, report)
    batches = 8 if config.objective in sentences.NAMES else 1
    with FlopCounterMode(display=False) as counter:
        for number in range(batches):
            first = number * config.batch
            batch = collate([data[i % len(data)] for i in range(first, first + config.batch)])
            drawn = torch.Generator().manual_seed(number)
            objective(**batch, generator=drawn)["loss"].backward()
    return float(counter.get_total_flops()) / batches


def arm(
    config: PretrainConfig, budget: float, corpus: Corpus, probe: Probe, out: Path, report: Any
) -> dict[str, Any]:
    """One pre-training at ``budget`` operations: what it cost and what the probe says."""
    folder = out / f"{config.objective}-{Path(config.model).name}-{config.seed}"
    facts = folder / "arm.json"
    if facts.exists():
        found: dict[str, Any] = json.loads(facts.read_text())
        return found
    each = flops(config, corpus, folder, report)
    every = max(1, round(budget / each / MARKS))
    config = replace(config, steps=every * MARKS, checkpoint_every=every)
    tokenizer = vocabulary(config, corpus, report)
    looks = Looks(folder / "probe.jsonl", every, tokenizer, probe)
    made = pretrain(config, folder, report, [looks])
    found = {"folder": str(folder), "steps": config.steps, "flops": each * config.steps,
             "dev": made.dev, "probe": looks.rows, "flops_per_step": each}  # fmt: skip
    facts.write_text(json.dumps(found))
    return found


def untrained(config: PretrainConfig, corpus: Corpus, out: Path, report: Any) -> Path:
    """An encoder as it begins."""
    folder = out / f"none-{config.seed}"
    if not (folder / "tokenizer_config.json").exists():
        tokenizer = vocabulary(config, corpus, report)
        models.save(models.start("tiny", tokenizer, "vocabulary", config.seed), tokenizer, folder)
    return folder


def ranked(config: TuneConfig, out: Path, test: list[Question], report: Any) -> list[Metric]:
    """The measures of a fine-tuned ranker, with each question's own."""
    path = out / f"ranked-{Path(config.model).name}.json"
    if not path.exists():
        folder = out / f"ranker-{Path(config.model).name}"
        tune(config, folder, report)
        groups = Ranker.load(folder).groups(test)
        path.write_text(json.dumps(groups))
    return evaluate({k: tuple(v) for k, v in json.loads(path.read_text()).items()})


def lexical(train: list[Question], test: list[Question]) -> dict[str, Any]:
    """Cosine of TF-IDF between question and sentence."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True).fit([s for q in train for s in q.sentences])
    return {
        q.id: (
            (words.transform(q.sentences) @ words.transform([q.text]).T).toarray()[:, 0],
            q.right,
        )
        for q in test
    }


def mean(runs: list[list[Metric]]) -> dict[str, Metric]:
    """Each measure's mean over seeds, question by question."""
    by_name = [{m.name: m for m in run} for run in runs]
    return {
        name: Metric.of(
            name, {q: float(np.mean([run[name].items[q] for run in by_name])) for q in m.items}
        )
        for name, m in by_name[0].items()
    }


def reached(
    rows: list[dict[str, float]], target: float, total: float
) -> tuple[float, float] | None:
    """Share of the compute and processor seconds at which a probe first came to ``target``."""
    last = {"step": 0.0, "seconds": 0.0, "accuracy": 1 / CLASSES}
    for row in rows:
        if row["accuracy"] >= target:
            gap = row["accuracy"] - last["accuracy"]
            at = 1.0 if gap <= 0 else (target - last["accuracy"]) / gap
            step, seconds = (last[k] + at * (row[k] - last[k]) for k in ("step", "seconds"))
            return step / total, seconds
        last = row
    return None


def figure(arms: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """The probe over compute, the mean over seeds."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pretraining"}):
        drawing = Figure(figsize=(7, 4), layout="constrained")
        axes = drawing.subplots()
        for name in TOKENS:
            runs = arms[name]
            x = [row["step"] * runs[0]["flops_per_step"] / 1e12 for row in runs[0]["probe"]]
            y = np.mean([[row["accuracy"] for row in run["probe"]] for run in runs], 0)
            axes.plot(x, y, marker="o", markersize=3, label=name)
        axes.axhline(1 / CLASSES, color="0.7", linewidth=1)
        axes.set_xlabel("teraflops of pre-training")
        axes.set_ylabel("probe accuracy, dev documents")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        drawing.savefig(path, metadata={"Date": None})


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--flops", type=float, default=7e12, help="of each pre-training")
    flags.add_argument("--seeds", type=int, default=1)
    flags.add_argument("--corpus", default="system")
    flags.add_argument("--limit", type=int, default=0, help="documents at most")
    flags.add_argument("--train", type=int, default=700, help="questions that rankers learn from")
    flags.add_argument("--test", type=int, default=400, help="questions they are tested on")
    flags.add_argument("--epochs", type=int, default=2)
    flags.add_argument("--out", type=Path, default=Path("work/pretraining"))
    chosen = flags.parse_args()
    report = progress()
    corpus = sources.build(CorpusConfig(chosen.corpus, chosen.limit), report)
    probe = probe_of(corpus, 180)
    train = as2.derived(corpus, "train", chosen.train)
    test = as2.derived(corpus, "test", chosen.test)
    out = chosen.out
    out.mkdir(parents=True, exist_ok=True)
    settings = {k: str(v) for k, v in vars(chosen).items() if k not in ("out", "seeds")}
    held = out / "settings.json"
    if held.exists() and json.loads(held.read_text()) != settings:
        raise SystemExit(f"{out} holds a study with other settings: give another --out")
    held.write_text(json.dumps(settings))
    arms: dict[str, list[dict[str, Any]]] = {}
    measured: dict[str, list[list[Metric]]] = {}
    tuning = TuneConfig(corpus=chosen.corpus, limit=chosen.limit, train=chosen.train, dev=100,
                        test=chosen.test, epochs=chosen.epochs)  # fmt: skip
    base = PretrainConfig(corpus=chosen.corpus, limit=chosen.limit)
    for seed in range(chosen.seeds):
        begin = replace(base, seed=seed)
        folders = {"none": untrained(begin, corpus, out, report)}
        for name in TOKENS:
            facts = arm(replace(begin, objective=name), chosen.flops, corpus, probe, out, report)
            arms.setdefault(name, []).append(facts)
            folders[name] = Path(facts["folder"])
        for name in ("mlm", *sentences.NAMES):
            more = replace(begin, objective=name, model=str(folders["mlm"]), batch=16)
            facts = arm(more, chosen.flops / 3, corpus, probe, out, report)
            arms.setdefault(f"mlm, then {name}", []).append(facts)
            folders[f"mlm, then {name}"] = Path(facts["folder"])
        for name, folder in folders.items():
            config = replace(tuning, model=str(folder), seed=seed)
            measured.setdefault(name, []).append(ranked(config, out, test, report))
    figures = {name: mean(runs) for name, runs in measured.items()}
    flat = {q.id: ([0.0] * len(q.right), q.right) for q in test}
    controls = {"tf-idf": evaluate(lexical(train, test)), "chance": evaluate(flat)}
    figures |= {name: {m.name: m for m in found} for name, found in controls.items()}
    table, rows = {}, []
    for name, found in figures.items():
        runs = arms.get(name, [])
        row: dict[str, Any] = {m: {"value": found[m].value, "se": found[m].se, "n": found[m].n}
                               for m in SHOWN}  # fmt: skip
        change = Metric.of("map", {q: v - figures["mlm"]["map"].items[q]
                                   for q, v in found["map"].items.items()})  # fmt: skip
        row["map against mlm"] = {"value": change.value, "se": change.se, "n": change.n}
        if runs:
            row |= {
                "steps": runs[0]["steps"],
                "flops": runs[0]["flops"],
                "seconds": float(np.mean([r["probe"][-1]["seconds"] for r in runs])),
                "dev cross-entropy": float(np.mean([r["dev"]["cross_entropy"] for r in runs])),
                "probe": float(np.mean([r["probe"][-1]["accuracy"] for r in runs])),
                "probe n": len(probe.test),
            }
            row["probe se"] = math.sqrt(row["probe"] * (1 - row["probe"]) / len(probe.test))
        if name in TOKENS:
            target = [r["probe"][-1]["accuracy"] for r in arms["mlm"]]
            row["to mlm's probe"] = [reached(r["probe"], t, r["steps"])
                                     for r, t in zip(runs, target, strict=True)]  # fmt: skip
        table[name] = row
        rows.append((name, *told(row)))
    headings = ("arm", "steps", "processor s", "dev loss", "probe", "to mlm's probe", *SHOWN,
                "map against mlm")  # fmt: skip
    text = lines(headings, rows)
    (out / "table.md").write_text(text)
    whole = {"settings": {k: str(v) for k, v in vars(chosen).items()}, "arms": table}
    (out / "table.json").write_text(json.dumps(whole, indent=1) + "\n")
    figure(arms, out / "probe.svg")
    print(text)


def told(row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    cells = [str(row.get("steps", "-"))]
    cells.append(f"{row['seconds']:.0f}" if "seconds" in row else "-")
    cells.append(f"{row['dev cross-entropy']:.3f}" if "dev cross-entropy" in row else "-")
    cells.append(f"{row['probe']:.3f} ± {row['probe se']:.3f}" if "probe" in row else "-")
    shares = [found for found in row.get("to mlm's probe", []) if found is not None]
    cells.append("; ".join(f"{s:.2f} of it, {t:.0f} s" for s, t in shares) or "-")
    for name in SHOWN:
        cells.append(f"{row[name]['value']:.3f} ± {row[name]['se']:.3f}")
    change = row["map against mlm"]
    cells.append(f"{change['value']:+.3f} ± {change['se']:.3f}")
    return cells


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
