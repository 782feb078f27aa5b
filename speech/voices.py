"""Voices of a user's own corpus: a prompt for each speaker, and similarity to one's own speaker.

As in SpeechAlign a model hears another recording of the speaker before it says a text, and is
measured against that recording. The paper cuts the prompt at three seconds; here it is a short
recording whole, since a single-stream model reads its words too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from common.records import Candidate, Task, identity
from common.stages import Context
from speech import audio
from speech.corpora import Corpus, Utterance
from speech.judges import SpeakerSimilarity
from speech.speaker import Coder, Voice

WORDS = (3, 12)
"""Least and most words of a voice prompt: about one to five seconds."""


class VoicePrompts:
    """For each speaker and split one short recording, which is then nobody's task.

    A speaker with a single recording in a split has none.
    """

    def __init__(self, corpus: Corpus, coder: Coder) -> None:
        self.coder = coder
        by_speaker: dict[tuple[str, str], list[Utterance]] = {}
        for u in corpus.utterances:
            by_speaker.setdefault((u.split, u.speaker), []).append(u)
        self.chosen: dict[tuple[str, str], Utterance] = {}
        for key, mine in by_speaker.items():
            short = [u for u in mine if WORDS[0] <= len(u.text.split()) <= WORDS[1]]
            if short and len(mine) > 1:
                self.chosen[key] = min(short, key=lambda u: identity(u.id))
        self.ids = {u.id for u in self.chosen.values()}

    def of(self, utterance: Utterance) -> Utterance | None:
        """The recording that its speaker is prompted with."""
        return self.chosen.get((utterance.split, utterance.speaker))

    def heard(self, utterance: Utterance) -> Voice | None:
        """The voice prompt of a text's speaker."""
        prompt = self.of(utterance)
        return Voice(prompt.text, self.coder(prompt.path)) if prompt else None


class OwnVoice(SpeakerSimilarity):
    """``similarity`` of each clip to the voice prompt that its task names in ``meta["voice"]``.

    0 for a task without one.
    """

    def __init__(self, prompts: Mapping[str, Path]) -> None:
        """``prompts``: recordings by utterance id."""
        super().__init__([])
        self.prompts = prompts
        self._judges: dict[str, SpeakerSimilarity] = {}

    def judge(
        self, tasks: Mapping[str, Task], candidates: Sequence[Candidate], ctx: Context
    ) -> list[dict[str, float]]:
        """As :meth:`speech.judges.WaveJudge.judge`, voice by voice."""
        scores = [self.lowest() for _ in candidates]
        groups: dict[str, list[int]] = {}
        for i, candidate in enumerate(candidates):
            voice = tasks[candidate.task].meta.get("voice")
            if voice is not None:
                groups.setdefault(str(voice), []).append(i)
        for voice, mine in groups.items():
            if voice not in self._judges:
                self._judges[voice] = SpeakerSimilarity([audio.read(self.prompts[voice])])
            found = self._judges[voice].judge(tasks, [candidates[i] for i in mine], ctx)
            for i, score in zip(mine, found, strict=True):
                scores[i] = score
        return scores
