"""How far a policy's codes are from those of recordings (SpeechAlign, arXiv 2404.05600, section 3).

The same texts as recorded (golden) and as the policy says them (synthetic), seen three ways:

- the hidden states of both, with a two-sample statistic, so that a picture is not the only evidence
- n-grams of the codes, and how long the streams are
- what NAR and codec make of both: errors, voice, quality (the paper's table 1)

All streams, of every round, are embedded by one model, the one that the run began with: were each
round embedded by its own, its states would differ because the model does, not because the codes do.
An embedding is the mean over code positions of the last layer's states, given the text; the
statistics look at the two of a text from the middle between them.

Deviations: the paper embeds by the policy itself and shows a picture alone; a t-SNE cannot embed
points that it was not fitted on, so one is fitted on the golden and all synthetic streams together.

    upspiral speech gap --policy last --out gap/
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from common.gate import PairedInterval, paired_interval
from common.policies.local import HFPolicy
from common.records import Task, identity
from common.stages import Progress
from common.two_sample import Divergence, TwoSample, classifier, mmd, ngram_divergence
from speech.judges import WaveJudge
from speech.lm import stream
from speech.segmentation import SILENCE
from speech.speaker import Speaker

Floats = NDArray[np.float64]
LONGEST = 3
"""Symbols in the longest n-grams that are compared."""
FEWEST = 5
"""Texts below which nothing is said."""
SCORES = ("wer", "cer", "similarity", "dnsmos")
"""What is compared of the judges' scores."""


class TooFewError(ValueError):
    """Fewer than :data:`FEWEST` texts have codes on all sides."""


class Difference(NamedTuple):
    """Means of golden and synthetic, and the 95% interval of synthetic - golden over texts."""

    golden: float
    synthetic: float
    change: PairedInterval


@dataclass(frozen=True)
class Version:
    """One policy against the recordings; ``pca`` and ``tsne`` place its streams, ``(N, 2)``."""

    name: str
    mmd: TwoSample
    classifier: TwoSample
    ngrams: Sequence[Divergence]
    lengths: Mapping[str, Difference]
    scores: Mapping[str, Difference]
    pca: Sequence[Sequence[float]]
    tsne: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Gap:
    """The versions of a policy, earliest first, all on the same ``texts``."""

    policy: str
    seed: int
    texts: Sequence[str]
    dropped: int
    """Texts left out since a version said nothing for them."""
    explained: Sequence[float]
    """Share of the variance of the golden states on the axes of the ``pca``."""
    pca: Sequence[Sequence[float]]
    tsne: Sequence[Sequence[float]]
    versions: Sequence[Version]
    split: str = "dev"
    """Where the recordings are of."""

    def facts(self, points: bool = True) -> dict[str, Any]:
        """Every figure under its name; the places of the pictures only with ``points``."""
        left_out = () if points else ("pca", "tsne")
        facts: dict[str, Any] = _named(vars(self), left_out)
        return facts

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        _write(path, self.facts())

    @classmethod
    def load(cls, path: Path) -> Gap:
        """What :meth:`save` wrote."""
        facts = json.loads(path.read_text(encoding="utf-8"))
        return cls(**facts | {"versions": [_version(row) for row in facts["versions"]]})


def _named(value: Any, left_out: Sequence[str]) -> Any:
    if isinstance(value, Version):
        value = vars(value)
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {k: _named(v, left_out) for k, v in value.items() if k not in left_out}
    return [_named(v, left_out) for v in value] if isinstance(value, list) else value


def _version(row: Mapping[str, Any]) -> Version:
    def differences(name: str) -> dict[str, Difference]:
        return {
            key: Difference(d["golden"], d["synthetic"], PairedInterval(**d["change"]))
            for key, d in row[name].items()
        }

    return Version(
        row["name"],
        TwoSample(**row["mmd"]),
        TwoSample(**row["classifier"]),
        [Divergence(**d) for d in row["ngrams"]],
        differences("lengths"),
        differences("scores"),
        row["pca"],
        row["tsne"],
    )


@torch.inference_mode()
def hidden(
    policy: HFPolicy, prompts: Sequence[str], completions: Sequence[str], batch: int = 8
) -> Floats:
    """Mean state ``(N, D)`` over the code positions of each completion, last layer, given prompts.

    Raises:
        ValueError: a completion without a code.
    """
    vocabulary = policy.tokenizer.get_vocab()
    is_code = torch.zeros(policy.model.config.get_text_config().vocab_size, dtype=torch.bool)
    is_code[[i for symbol, i in vocabulary.items() if stream.CODE.fullmatch(symbol)]] = True
    rows = [
        (policy.encode_prompt(prompt), policy.encode_completion(completion))
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    found: dict[int, Floats] = {}
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        longest = sum(map(len, rows[part[-1]]))
        ids_BT = torch.full((len(part), longest), policy.tokenizer.pad_token_id)
        mask_BT = torch.zeros_like(ids_BT)
        codes_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
        for b, i in enumerate(part):
            prompt, completion = rows[i]
            end = len(prompt) + len(completion)
            ids_BT[b, :end] = torch.tensor([*prompt, *completion])
            mask_BT[b, :end] = 1
            codes_BT[b, len(prompt) : end] = is_code[ids_BT[b, len(prompt) : end]]
        if not codes_BT.any(1).all():
            raise ValueError("a completion without a code has no place in an embedding")
        states_BTD = policy.model(
            input_ids=ids_BT.to(policy.device),
            attention_mask=mask_BT.to(policy.device),
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states[-1].cpu()  # fmt: skip
        for b, i in enumerate(part):
            found[i] = states_BTD[b, codes_BT[b]].double().mean(0).numpy()
    return np.stack([found[i] for i in range(len(rows))])


def lengths(completion: str, frame_rate: float) -> dict[str, float]:
    """Seconds of a stream, how many of them are silence, and phones a second of the rest."""
    codes, phones = stream.frames(completion)
    silent = sum(phone == SILENCE for phone in phones)
    symbols = [s for s in completion.split() if not stream.CODE.fullmatch(s)]
    said = sum(s not in (SILENCE, stream.LAST, stream.EOS) for s in symbols)
    spoken = max(1, len(codes) - silent) / frame_rate
    return {
        "seconds": len(codes) / frame_rate,
        "silence": silent / frame_rate,
        "phones_a_second": said / spoken,
    }


def compare(golden: Sequence[Mapping[str, float]], synthetic: Sequence[Mapping[str, float]],
            texts: Sequence[str]) -> dict[str, Difference]:  # fmt: skip
    """Each value of ``golden`` against that of ``synthetic``, paired by text."""
    found = {}
    for name in golden[0]:
        a, b = (
            {text: row[name] for text, row in zip(texts, side, strict=True)}
            for side in (golden, synthetic)
        )
        first, second = (float(np.mean(list(side.values()))) for side in (a, b))
        found[name] = Difference(first, second, paired_interval(a, b))
    return found


def without_text(golden: Floats, synthetic: Floats) -> tuple[Floats, Floats]:
    """Both states of a text, ``(N, D)``, from the middle between them.

    Texts differ far more than golden and synthetic do, so that the kernel's width, and with it the
    size of the discrepancy, would be about texts. The test stays exact: what may be swapped within
    a pair may be swapped around its middle.
    """
    middle = (golden + synthetic) / 2
    return golden - middle, synthetic - middle


def places(golden: Floats, synthetic: Sequence[Floats], seed: int) -> tuple[Any, Any, Any]:
    """PCA and t-SNE of golden ``(N, D)`` and each synthetic ``(N, D)``, golden's first.

    The components are the golden states': what a policy does may not turn the axes. Returns the
    places by PCA, those by t-SNE, and the shares of variance.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    pca = PCA(2, random_state=0).fit(golden)
    everything = np.concatenate([golden, *synthetic])
    # A neighbourhood holds at most a third of the points, and never more than the usual 30.
    perplexity = min(30.0, (len(everything) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed & 0xFFFFFFFF)
    split = np.split(tsne.fit_transform(everything).astype(float), len(synthetic) + 1)
    return (
        [pca.transform(side) for side in (golden, *synthetic)],
        split,
        pca.explained_variance_ratio_,
    )


def analyse(
    name: str,
    embedder: HFPolicy,
    speaker: Speaker,
    judges: Sequence[WaveJudge],
    tasks: Sequence[Task],
    golden: Mapping[str, str],
    versions: Mapping[str, Callable[[Sequence[Task]], list[str]]],
    seed: int,
    progress: Progress,
    scratch: Path,
) -> Gap:
    """The gap of each version's streams (a function of tasks) from ``golden``, by task id.

    Scores are kept in ``scratch`` by stream, so that work which was interrupted goes on: a folder
    is for one speaker and one set of judges.

    Raises:
        TooFewError: fewer than :data:`FEWEST` texts have a golden stream and say something.
    """
    wanted = [task for task in tasks if task.id in golden]
    _enough(len(wanted), "are recorded with their phones placed")
    steps, done = 2 + 2 * len(versions), 0

    def tick(what: str) -> None:
        nonlocal done
        done += 1
        progress(done, steps, what)

    said: dict[str, dict[str, str]] = {}
    for version, say in versions.items():
        said[version] = dict(zip((t.id for t in wanted), say(wanted), strict=True))
        tick(f"{version} sampled")
    heard = [t for t in wanted if all(stream.frames(rows[t.id])[0] for rows in said.values())]
    _enough(len(heard), "are said by all versions")
    prompts, texts = [t.prompt for t in heard], [str(t.reference) for t in heard]
    recorded = [golden[t.id] for t in heard]
    streams = {version: [rows[t.id] for t in heard] for version, rows in said.items()}
    states = hidden(embedder, prompts, recorded)
    synthetic = {version: hidden(embedder, prompts, rows) for version, rows in streams.items()}
    pca, tsne, explained = places(states, list(synthetic.values()), seed)
    tick("states embedded")
    rate = speaker.codec.frame_rate
    codes = [stream.frames(row)[0] for row in recorded]
    ideal = _scores(speaker, judges, recorded, texts, scratch)
    tick("golden judged")
    found: list[Version] = []
    for i, (version, spoken) in enumerate(streams.items(), 1):
        own = [stream.frames(row)[0] for row in spoken]
        draws = int(identity(seed, version), 16) >> 17
        found.append(
            Version(
                version,
                mmd(*without_text(states, synthetic[version]), draws),
                classifier(*without_text(states, synthetic[version]), draws),
                [ngram_divergence(codes, own, n, draws) for n in range(1, LONGEST + 1)],
                compare(
                    [lengths(r, rate) for r in recorded],
                    [lengths(r, rate) for r in spoken],
                    texts,
                ),
                compare(ideal, _scores(speaker, judges, spoken, texts, scratch), texts),
                pca[i].tolist(),
                tsne[i].tolist(),
            )
        )
        tick(f"{version} judged")
    dropped = len(wanted) - len(heard)
    return Gap(
        name, seed, texts, dropped, explained.tolist(), pca[0].tolist(), tsne[0].tolist(), found
    )


def _enough(texts: int, what: str) -> None:
    if texts < FEWEST:
        raise TooFewError(f"{texts} texts {what}, and {FEWEST} are the least")


def _scores(
    speaker: Speaker,
    judges: Sequence[WaveJudge],
    streams: Sequence[str],
    texts: Sequence[str],
    scratch: Path,
) -> list[dict[str, float]]:
    path = scratch / f"{identity('scores', streams, texts)}.json"
    if path.is_file():
        kept: list[dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    waves = speaker.waves(streams)
    rows: list[dict[str, float]] = [{} for _ in waves]
    for judge in judges:
        for row, new in zip(rows, judge.score(waves, texts), strict=True):
            row |= {name: value for name, value in new.items() if name in SCORES}
    _write(path, rows)
    return rows


def _write(path: Path, facts: Any) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(facts), encoding="utf-8")
    partial.replace(path)
