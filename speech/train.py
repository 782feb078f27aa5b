"""How the starters in ``assets/`` are made: ``upspiral speech train PART``.

The parts build on one another: the recogniser's states teach the codec's first quantiser and
place the phones in the recordings; the codec's tokens are what the AR and the NAR learn. Each
part continues where it was stopped, and finds what it needs of the earlier ones in the same
folder.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import UserError
from common.training import generator
from speech import audio, corpora
from speech.codec import Codec, load_codec
from speech.codec.seanet import SEANetConfig
from speech.codec.spectral import SpectralConfig
from speech.codec.train import CodecTraining, principal_components, train_codec
from speech.codec.train_seanet import SEANetTraining, train_seanet
from speech.corpora import Utterance
from speech.ctc import held_out, train_ctc
from speech.lm.ar import ARTraining, Spoken, train_ar
from speech.lm.nar import Coded, NARConfig, NARTraining, train_nar
from speech.segmentation import Segment, segment
from speech.text import phonemes

Report = Callable[[int, int, str], None]
Floats = NDArray[np.float32]
Placed = dict[str, tuple[list[str], list[Segment]]]
"""Phones (with word ends) and their places in a recording, by utterance id."""
TEACHER = 384  # width of the recogniser's states (Whisper tiny)
QUIET = 3e-5  # mean square of a frame without speech in the recorded prompts


@dataclass(frozen=True)
class StarterRecipe:
    """One dial set for all three parts."""

    codec: CodecTraining | SEANetTraining = CodecTraining()
    ar: ARTraining = ARTraining()
    small: ARTraining = ARTraining(width=96, layers=4)
    """Of a second, smaller AR: what alignment does may depend on the size of what it aligns."""
    nar: NARTraining = NARTraining()
    ctc_steps: int = 1200
    languages: tuple[str, ...] = ("en",)


def starter() -> StarterRecipe:
    """What made the weights in ``assets/``: two to three hours on two cores."""
    return StarterRecipe()


def seanet() -> StarterRecipe:
    """EnCodec's own architecture, its first quantiser taught by the recogniser's states."""
    return StarterRecipe(SEANetTraining(SEANetConfig(teacher=TEACHER)))


def tiny() -> StarterRecipe:
    """The same in a few minutes, to see that it runs; not intelligible."""
    small = SpectralConfig(width=64, semantic_width=64, semantic_size=64, acoustic_size=64,
                           acoustic_books=3)  # fmt: skip
    return StarterRecipe(
        CodecTraining(
            small,
            semantic_steps=60,
            acoustic_steps=60,
            decoder_steps=10,
            adversarial_steps=10,
            head_start=5,
        ),
        ARTraining(width=64, layers=2, heads=2, steps=60),
        ARTraining(width=32, layers=1, heads=2, steps=30),
        NARTraining(NARConfig((64, 64, 64, 64), width=64, blocks=2), steps=60),
        ctc_steps=20,
    )


RECIPES: dict[str, Callable[[], StarterRecipe]] = {
    "starter": starter,
    "seanet": seanet,
    "tiny": tiny,
}


@dataclass(frozen=True)
class Recording:
    """An utterance with its sound at 16 kHz."""

    utterance: Utterance
    wave: Floats


def recordings(languages: Sequence[str]) -> list[Recording]:
    """The recorded prompts of train and dev; nobody trains on test."""
    corpus = corpora.load("prompts", languages)
    return [
        Recording(u, audio.read(u.path)) for u in corpus.utterances if u.split in ("train", "dev")
    ]


def teacher_states(found: Sequence[Recording], folder: Path, progress: Report) -> list[Floats]:
    """Encoder states of the recogniser for each recording, kept in ``folder``."""
    from speech.codec.teacher import encoder_states

    cache = folder / "states.npz"
    if cache.is_file():
        with np.load(cache) as kept:
            return [kept[r.utterance.id].astype(np.float32) for r in found]
    states = encoder_states([r.wave for r in found], progress)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "states.partial.npz"
    np.savez(
        partial,
        **{r.utterance.id: s.astype(np.float16) for r, s in zip(found, states, strict=True)},
    )
    partial.replace(cache)
    return states


def segments(found: Sequence[Recording], states: Sequence[Floats], folder: Path) -> Placed:
    """Phones and their places in each English recording, by utterance id; kept in ``folder``."""
    cache = folder / "segments.json.gz"
    if cache.is_file():
        return load_segments(cache)
    mine = [i for i, r in enumerate(found) if r.utterance.language == "en"]
    lines = phonemes([found[i].utterance.text for i in mine])
    mean, top, _ = principal_components(np.concatenate([states[i] for i in mine]), 32)
    projected = [(states[i] - mean) @ top for i in mine]
    spread = np.concatenate(projected).std(0)
    quiet = [_quiet(found[i].wave) for i in mine]
    placed = segment([p / spread for p in projected], lines, quiet)
    result = {
        found[i].utterance.id: (line, where)
        for i, line, where in zip(mine, lines, placed, strict=True)
        if where
    }
    save_segments(result, cache)
    return result


def frame_labels(
    found: Sequence[Recording], states: Sequence[Floats], placed: Placed
) -> list[NDArray[np.int64]]:
    """The number of the phone heard in each frame; -1 throughout where nobody placed any."""
    names = sorted({s.phone for _, where in placed.values() for s in where})
    number = {name: i for i, name in enumerate(names)}
    labels = []
    for recording, frames in zip(found, states, strict=True):
        row = np.full(len(frames), -1, np.int64)
        for s in placed.get(recording.utterance.id, ([], []))[1]:
            row[s.start : s.end] = number[s.phone]
        labels.append(row)
    return labels


def _quiet(wave: Floats, hop: int = 320) -> NDArray[np.bool_]:
    frames = np.pad(wave, (0, -len(wave) % hop)).reshape(-1, hop)
    quiet: NDArray[np.bool_] = (frames**2).mean(1) < QUIET
    return quiet


def save_segments(placed: Placed, path: Path) -> None:
    """Write phones and segments as compressed JSON (segments as names and lengths)."""
    rows = {
        key: {"phones": " ".join(line), "segments": [[s.phone, s.end - s.start] for s in where]}
        for key, (line, where) in placed.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(path, "wb", mtime=0) as out:
        out.write(json.dumps(rows, ensure_ascii=False).encode())


def load_segments(path: Path) -> Placed:
    """Read what :func:`save_segments` wrote."""
    result = {}
    for key, row in json.loads(gzip.decompress(path.read_bytes())).items():
        ends = np.cumsum([length for _, length in row["segments"]]).tolist()
        where = [
            Segment(phone, end - length, end)
            for (phone, length), end in zip(row["segments"], ends, strict=True)
        ]
        result[key] = (row["phones"].split(), where)
    return result


def spoken(
    codec: Codec,
    found: Sequence[Recording],
    placed: Placed,
    speeds: Sequence[float] = (1.0,),
) -> list[Spoken]:
    """The recordings as the AR learns them, each at all ``speeds``."""
    import soxr

    result = []
    for recording in found:
        utterance = recording.utterance
        if utterance.id not in placed:
            continue
        line, where = placed[utterance.id]
        for speed in speeds:
            wave = recording.wave
            if speed != 1:
                wave = soxr.resample(wave, 16_000, round(16_000 / speed)).astype(np.float32)
            codes = codec.encode(torch.from_numpy(wave)[None])[0, 0].numpy()
            scaled = stretch(where, len(codes))
            if all(s.end > s.start for s in scaled):
                result.append(Spoken(tuple(line), tuple(scaled), codes, utterance.speaker))
    return result


def encoded(codec: Codec, recording: Recording, placed: Placed, shift: int = 0) -> Coded:
    """A recording as the NAR learns it, ``shift`` samples late."""
    utterance = recording.utterance
    wave = np.pad(recording.wave, (shift, 0))
    codes = codec.encode(torch.from_numpy(wave)[None])[0].numpy()
    phones: list[str] = []
    if utterance.id in placed:
        for s in stretch(placed[utterance.id][1], codes.shape[1]):
            phones += [s.phone] * (s.end - s.start)
    return Coded(utterance.speaker, codes, tuple(phones))


def stretch(where: Sequence[Segment], frames: int) -> list[Segment]:
    """The same segments over ``frames`` frames."""
    total = where[-1].end
    edges = [0, *(round(s.end * frames / total) for s in where)]
    return [Segment(s.phone, a, b) for s, a, b in zip(where, edges, edges[1:], strict=False)]


def train(part: str, recipe: StarterRecipe, folder: Path, progress: Report) -> Path:
    """Train one part and save it as ``folder/PART``; returns that folder.

    Raises:
        UserError: an earlier part is missing.
    """
    if part == "voice":
        return train_voice(folder / part)
    found = recordings(recipe.languages)
    by_split = {s: [r for r in found if r.utterance.split == s] for s in ("train", "dev")}
    out = folder / part
    if part == "ctc":
        heard = [r.utterance for r in by_split["train"] if r.utterance.language == "en"]
        judge = train_ctc(heard, folder / "work", steps=recipe.ctc_steps, progress=progress)
        judge.loaded[0].save(out)
        figures = held_out(judge, [r.utterance for r in by_split["dev"]])
        (out / "dev.json").write_text(json.dumps(figures, indent=1) + "\n")
        return out
    if part == "codec":
        states = teacher_states(found, folder, progress)
        mine = [i for i, r in enumerate(found) if r.utterance.split == "train"]
        waves, taught = [found[i].wave for i in mine], [states[i] for i in mine]
        if isinstance(recipe.codec, SEANetTraining):
            train_seanet(recipe.codec, waves, folder / "work", taught, progress).save(out)
            return out
        placed = segments(found, states, folder)
        train_codec(
            recipe.codec,
            waves,
            taught,
            frame_labels([found[i] for i in mine], [states[i] for i in mine], placed),
            folder / "work",
            progress,
            lambda codec: codec.save(out),  # enough to train the language models beside the rest
        ).save(out)
        return out
    if not (folder / "codec/config.json").is_file():
        raise UserError(
            f"no codec in {folder}", f"first run: upspiral speech train codec --folder {folder}"
        )
    codec = load_codec(folder / "codec")
    placed = segments(found, teacher_states(found, folder, progress), folder)
    if part in ("ar", "ar-small"):
        config = recipe.ar if part == "ar" else recipe.small
        learn = spoken(codec, by_split["train"], placed, config.speeds)
        check = spoken(codec, by_split["dev"], placed)
        size = codec.codebook_sizes[0]
        work = folder / "work"
        model, tokenizer = train_ar(config, learn, check, size, work, progress, part)
        model.half().save_pretrained(out)
        tokenizer.save_pretrained(out)
        save_segments(placed, out / "segments.json.gz")
        return out
    shifts = {"train": recipe.nar.shifts, "dev": (0,)}
    coded = {
        split: [encoded(codec, r, placed, late) for r in by_split[split] for late in places]
        for split, places in shifts.items()
    }
    sizes = codec.codebook_sizes[: len(recipe.nar.model.sizes)]
    names = tuple(sorted({phone for item in coded["train"] for phone in item.phones}))
    settings = replace(recipe.nar, model=replace(recipe.nar.model, sizes=sizes, phones=names))
    train_nar(settings, coded["train"], coded["dev"], folder / "work", progress).save(out)
    from speech.vocoder import save_voice, voice_codes

    voice = next(r.wave for r in found if r.utterance.id == "en/" + VOICE_OF_STARTER)
    save_voice(voice_codes(codec, voice, len(sizes)), out)
    return out


def train_voice(out: Path, seconds: float = 240.0) -> Path:
    """The background model of voices, from ``seconds`` of each speaker there is."""
    from speech.voice import save_background, train_background

    train = corpora.load("prompts", tuple(corpora.VOICES)).split("train")
    random = generator(0, "voice")
    waves: list[Floats] = []
    for speaker in sorted({u.speaker for u in train}):
        mine, left = [u for u in train if u.speaker == speaker], seconds
        for i in random.permutation(len(mine)):
            if left <= 0:
                break
            waves.append(audio.read(mine[i].path))
            left -= len(waves[-1]) / audio.SAMPLE_RATE
    save_background(train_background(waves), out)
    return out


VOICE_OF_STARTER = "vm-review"
"""The recording in train whose first three seconds are the starter's voice prompt."""
