"""Does self-scored feedback lift the worst? SFT, then DPO and the paper's two ablations.

    python studies/feedback.py --model smollm2 --seeds 2
    python studies/feedback.py --model tiny --seeds 1 --train 100 --held 12      # a minute: it runs

Arms after ``feedback-sft``: ``pairs`` (DPO on best over worst), ``best`` (the best imitated) and
``all`` (whatever is valid imitated). For each the change of the self-score and of the independent
judge on test, at the worst 1%, the worst 5% and all, against the supervised model. Runs are named
by what they are: the same command goes on where it was stopped. Data is the synthetic set, or
``--task``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from common.commands import Output
from common.commands.arms import status_of
from common.store import Store
from text.counseling.quality import COLUMNS, of_run, rows

ARMS = ("pairs", "best", "all")


def improve(name: str, method: str, task: str, model: str, seed: int, settings: list[str]) -> None:
    """Carry out a run, or continue it; nothing if it is done."""
    if status_of(Store(), name) == "done":
        return
    words = ["text", "improve", "--method", method, "--task", task, "--model", model,
             "--recipe", "tiny", "--name", name, "--seed", str(seed)]  # fmt: skip
    words += [word for one in settings for word in ("--set", one)]
    subprocess.run([sys.executable, "-m", "common.cli", *words], check=True)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--model", default="smollm2")
    flags.add_argument("--task", default="counseling")
    flags.add_argument("--seeds", type=int, default=2)
    flags.add_argument("--train", type=int, default=240)
    flags.add_argument("--held", type=int, default=80)
    flags.add_argument("--name", default="feedback")
    given = flags.parse_args()
    tiny = given.model == "tiny"
    model = given.model
    if tiny:
        from tests.text.counselor import checkpoint

        model = str(checkpoint(Path(tempfile.gettempdir()) / "upspiral-counselor"))
    sizes = [f"train={given.train}", f"dev={given.held}", f"test={given.held}", "temperature=0.8",
             "max_length=768", "max_new_tokens=160", "batch_size=4"]  # fmt: skip
    taught = ["learning_rate=5e-3", "epochs=10"] if tiny else ["learning_rate=5e-5", "epochs=3"]
    own = ["samples=10", "measured=4", "epochs=2", "beta=0.5", "nll_weight=0", "reference=start"]
    own += ["learning_rate=1e-4"] if tiny else ["learning_rate=5e-6"]
    out = Output(sys.stdout)
    for seed in range(given.seeds):
        start = f"{given.name}-sft-{seed}"
        improve(start, "feedback-sft", given.task, model, seed, [*sizes, *taught])
        for arm in ARMS:
            name = f"{given.name}-{arm}-{seed}"
            improve(name, "feedback-dpo", given.task, start, seed, [*sizes, *own, f"lessons={arm}"])
            for score, found in of_run(Store(), name).items():
                out.print(f"\nseed {seed}, {arm}: {score}")
                out.table(COLUMNS, rows(found))


if __name__ == "__main__":
    main()
