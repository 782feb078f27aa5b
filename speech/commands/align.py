"""``upspiral speech align``: configuration, the run itself, its gap and report, and resuming."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from common.commands import Output
from common.commands.hands import Hands
from common.errors import UserError
from common.settings import override
from speech.align import RECIPES, AlignConfig, Pairs, Strategy

if TYPE_CHECKING:
    from common.loop import Result
    from common.memo import Memo

NAMES = {"similarity": "speaker_similarity"}
"""What a metric is called in the JSON of ``align``, where it differs."""
COLUMNS = {
    "wer": "WER",
    "cer": "CER",
    "speaker_similarity": "similarity",
    "dnsmos": "DNSMOS",
}
"""What the table shows, under which title."""


@dataclass(frozen=True)
class Align:
    """Align a codec language model: sample, judge, learn, and keep a round only if dev improved.

    Rounds are resumable: after Ctrl-C or a crash, `upspiral runs resume last` continues.
    """

    recipe: str = "starter"
    """starter (up to 90 minutes), demo (minutes), tiny (seconds, to see that it runs); paper: the
    published sizes, for a model of yours on a GPU (docs/your-own-model.md)."""
    rounds: int | None = None
    """How many rounds; the recipe's by default."""
    seed: int = 0
    """Everything random derives from it."""
    strategy: Strategy | None = None
    """dpo: from pairs; sft: imitates the chosen; chain-of-hindsight: quality as a label; ppo, grpo:
    by a reward model; best-of-n: a reward model picks what is said."""
    pairs: Pairs | None = None
    """self: best over worst sample; golden: recordings over samples; both; human: --ratings."""
    reward: str | None = None
    """What ranks samples: ctc (a phone model of the starter's voice), smpconv (a network taught
    before the run what tells recordings from samples), or a faster-whisper model."""
    ratings: str | None = None
    """The run whose listening test (upspiral speech listen) gives human pairs."""
    policy: Annotated[str | None, tyro.conf.arg(aliases=["--lm"])] = None
    """The model that learns: starter, a run, a folder, or a hub name."""
    codec: str | None = None
    """starter, encodec-24khz, dac-16khz, dac-24khz, dac-44khz, mimi, xcodec2, a folder or file
    with a codec, or a hub repository."""
    corpus: str | None = None
    """prompts, or KIND:FOLDER with csv, ljspeech, libritts, librispeech or vctk."""
    name: str | None = None
    """Name of the run; made from the recipe, the seed and the time by default."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Any other setting of the recipe, as in --set beta=0.2 --set samples=8."""
    hands: tyro.conf.OmitArgPrefixes[Hands] = field(default_factory=Hands)

    def run(self, out: Output) -> dict[str, Any]:
        if self.recipe not in RECIPES:
            raise UserError(f"unknown recipe {self.recipe!r}", f"use {', '.join(RECIPES)}")
        given = {"rounds": self.rounds, "pairs": self.pairs, "strategy": self.strategy,
                 "ratings": self.ratings, "reward": self.reward, "policy": self.policy,
                 "codec": self.codec, "corpus": self.corpus}  # fmt: skip
        chosen = {k: v for k, v in given.items() if v is not None}
        config = replace(override(RECIPES[self.recipe](), self.set), **chosen)  # type: ignore[arg-type]
        run = self.name or f"align-{self.recipe}-{self.seed}-{time.strftime('%m%d-%H%M%S')}"
        return align(config, self.recipe, run, self.seed, out, self.hands)


def align(
    config: AlignConfig,
    recipe: str,
    run: str,
    seed: int,
    out: Output,
    hands: Hands | None = None,
) -> dict[str, Any]:
    """Run or continue ``run`` and return the JSON of the command."""
    from common.commands import outcome
    from common.commands.runs import find
    from common.store import Store
    from speech.commands.gap import keep

    result = execute(config, recipe, run, seed, out, hands=hands)
    told = outcome.facts(result, NAMES)
    outcome.table(out, told, COLUMNS)
    outcome.verdict(out, result, "wer", "WER", "texts")
    store = Store()
    keep(store, find(store, run), out)
    return {**told, "report": outcome.report(out, run)}


def execute(
    config: AlignConfig,
    recipe: str,
    run: str,
    seed: int,
    out: Output,
    memo: Memo | None = None,
    hands: Hands | None = None,
) -> Result:
    """Run or continue ``run``, over all processes; ``memo`` remembers what other runs did."""
    from common.commands import outcome
    from speech.setup import build, helper

    return outcome.execute(
        lambda: build(config, memo),
        config.rounds,
        run,
        seed,
        f"speech/align:{recipe}",
        asdict(config),
        out,
        help_to_learn=lambda team: helper(config, team),
        hands=hands,
    )


def resume(run: str, out: Output) -> dict[str, Any]:
    """Continue ``run`` with the configuration that it was started with."""
    from common.store import Store

    row = Store().run(run)
    from speech.speaking import settings

    return align(settings(row), row.recipe.partition(":")[2], run, row.seed, out)
