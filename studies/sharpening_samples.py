"""How many samples does sharpening want? Best-of-N by each self-reward, for growing N.

Run: ``python studies/sharpening_samples.py FOLDER [MODEL] [TASK] [QUESTIONS] [SAMPLES]``. Of
SAMPLES answers to each of QUESTIONS dev questions, at temperature 1, N are drawn and the one that
the self-reward likes best is said (:mod:`text.sharpening`). Its accuracy is the exact expectation
over all choices of N for the two rewards that are a sample's own; for majority, whose votes depend
on the choice, it is the mean over ``DRAWS`` random choices. Beside it pass@N, which is the most
that any choice could reach, and ``greedy``, the likeliest next token each time (temperature 0.01),
which is what the paper's lift is over. All of it is of one policy, and nothing is learnt. Answers
are kept in FOLDER ten questions at a time: the same command continues. FOLDER/table.md has means
with standard errors over questions, and the paired difference of each N from greedy;
FOLDER/curve.svg draws them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.artifacts import Files
from common.comparison import lines
from common.gate import paired_interval
from common.memo import Memo
from common.monitors.exploration import best_of_k, pass_at_k
from common.policies import Generator, Sample
from common.progress import progress
from common.records import Candidate, Metric, Task
from common.stages import Context
from common.tracking import Nothing
from text.answers import correct
from text.improve import ImproveConfig, Solve, sampler
from text.setup import load_policy, questions
from text.sharpening import coverage, self_rewards

COUNTS = (1, 2, 3, 5, 8, 12, 16, 20, 32, 50)
DRAWS = 400
SHARD = 10
HEADINGS = ("reward", "N", "accuracy", "against greedy, 95%")


def answers(
    policy: Generator, tasks: Sequence[Task], sample: Sample, folder: Path
) -> dict[str, list[Candidate]]:
    """The answers to each question, from the folder where they are there already."""
    ctx = Context(0, 0, Files(folder / "artifacts"), Nothing(), progress(), folder)
    stage = Memo(folder / "work").propose(Solve(sample), sample)
    found: dict[str, list[Candidate]] = {}
    for start in range(0, len(tasks), SHARD):
        shard = tasks[start : start + SHARD]
        print(f"questions {start + 1} to {start + len(shard)}, {sample.n} each", file=sys.stderr)
        for candidate in stage.propose(policy, shard, ctx):
            found.setdefault(candidate.task, []).append(candidate)
    return found


def majority(
    group: Sequence[Candidate], right: Sequence[float], n: int, draw: np.random.Generator
) -> float:
    """What the sample with the commonest answer of N is worth, ties by lot."""
    total = 0.0
    for _ in range(DRAWS):
        chosen = draw.choice(len(group), n, replace=False)
        votes = self_rewards("majority", [group[i] for i in chosen])
        total += best_of_k([right[i] for i in chosen], votes, n)
    return total / DRAWS


def main(folder: str, model: str = "smollm2", task: str = "arithmetic", count: str = "100",
         samples: str = "50") -> None:  # fmt: skip
    """Draw, and write the table and the figure."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    config = ImproveConfig(task=task, model=model, train=1, dev=int(count), test=2)
    tasks = [t for t in questions(config) if t.split == "dev"]
    policy = load_policy(model)
    sample = replace(sampler(config), n=int(samples), temperature=1.0)
    drawn = answers(policy, tasks, sample, place)
    likeliest = answers(policy, tasks, replace(sample, n=1, temperature=0.01), place)
    by_id = {t.id: t for t in tasks}
    right = {t: [float(correct(by_id[t], c.answer)) for c in group] for t, group in drawn.items()}
    greedy = {t: float(correct(by_id[t], group[0].answer)) for t, group in likeliest.items()}
    draw = np.random.default_rng(0)
    ways: dict[str, Callable[[str, int], float]] = {
        "logprob": lambda t, n: best_of_k(right[t], self_rewards("logprob", drawn[t]), n),
        "normalised": lambda t, n: best_of_k(right[t], self_rewards("normalised", drawn[t]), n),
        "majority": lambda t, n: majority(drawn[t], right[t], n, draw),
        "pass@N": lambda t, n: pass_at_k(len(right[t]), int(sum(right[t])), n),
    }
    base = Metric.of("greedy", greedy)
    rows: list[tuple[object, ...]] = [("greedy", "", f"{base.value:.3f} ± {base.se:.3f}", "")]
    curves: dict[str, list[Metric]] = {}
    counts = [n for n in COUNTS if n <= sample.n]
    for name, way in ways.items():
        for n in counts:
            metric = Metric.of(name, {t: way(t, n) for t in drawn})
            gained = paired_interval(greedy, dict(metric.items))
            curves.setdefault(name, []).append(metric)
            lift = f"{gained.mean:+.3f} [{gained.low:+.3f}, {gained.high:+.3f}]"
            rows.append((name, n, f"{metric.value:.3f} ± {metric.se:.3f}", lift))
    table = lines(HEADINGS, rows)
    known = coverage(drawn)
    told = (
        f"\n{task}, {model}: {len(drawn)} questions, {sample.n} samples each. Coverage of answers "
        f"{known.answers:.2f}, so N of about {known.samples()} for delta = epsilon = 0.1.\n"
    )
    (place / "table.md").write_text(table + told, encoding="utf-8")
    _figure(curves, counts, base.value, place / "curve.svg")
    print(table + told)


def _figure(curves: dict[str, list[Metric]], counts: list[int], greedy: float, path: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sharpening"}):
        drawing = Figure(figsize=(6, 4), layout="constrained")
        axes = drawing.subplots()
        for name, metrics in curves.items():
            means = [m.value for m in metrics]
            axes.errorbar(counts, means, [m.se for m in metrics], label=name, capsize=2)
        axes.axhline(greedy, color="#71717a", linestyle=":", label="greedy")
        axes.set(xscale="log", xticks=counts, xticklabels=[str(n) for n in counts],
                 xlabel="samples N", ylabel="accuracy")  # fmt: skip
        axes.minorticks_off()
        axes.legend(frameon=False)
        drawing.savefig(path, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:6])
