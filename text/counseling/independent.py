"""A judge of responses that shares nothing with the policy: embeddings and a linear classifier.

The self-score's judge and the policy that it judges are one model, which can come to like what it
says. This judge reads the response and what the seeker said last through a sentence encoder that no
round trains, and was taught by experts' verdicts alone: responses they found perfect or not, and
their alternatives. ``independent_auroc`` of a run says what it is worth on responses of dev.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.records import Task
from text.counseling.conversations import read_lines
from text.counseling.tasks import augmented, reference
from text.prompts import question

Encoder = Callable[[Sequence[str]], NDArray[np.float32]]
FEWEST = 10


class Independent:
    """P(appropriate) of the last response in a context, by logistic regression.

    Features: the embeddings of the response and of the seeker's last turn, their product, and the
    response's length and question marks.
    """

    def __init__(self, labelled: Sequence[Task], encode: Encoder | None = None) -> None:
        """Taught by tasks with a reference.

        Raises:
            UserError: too few, or all of one kind.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if encode is None:
            from common.sentences import encoder

            encode = encoder()
        self._encode = encode
        contexts, verdicts = [], []
        for task in labelled:
            said = reference(task)
            if said is None:
                continue
            context = question(task)
            for text, feedback in ((context, said), *_other(context, said)):
                contexts.append(text)
                verdicts.append(feedback.perfect)
        if len(contexts) < FEWEST or len(set(verdicts)) < 2:
            raise UserError(
                f"an independent judge cannot be taught by {len(contexts)} annotated responses",
                "give train conversations with feedback of both kinds, or --set judge=MODEL",
            )
        model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000)
        self._model = make_pipeline(StandardScaler(), model)
        self._model.fit(self._features(contexts), np.array(verdicts))

    def appropriate(self, contexts: Sequence[str]) -> list[float]:
        """As :meth:`text.counseling.advisor.Advisor.appropriate`."""
        if not contexts:
            return []
        return [float(p) for p in self._model.predict_proba(self._features(contexts))[:, 1]]

    def _features(self, contexts: Sequence[str]) -> NDArray[Any]:
        said, heard = [], []
        for context in contexts:
            turns = read_lines(context)
            said.append(turns[-1].text)
            heard.append(next((t.text for t in turns[-2::-1] if t.speaker == "Seeker"), ""))
        unique = list(dict.fromkeys([*said, *heard]))
        known = dict(zip(unique, self._encode([text or "-" for text in unique]), strict=True))
        a, b = (np.array([known[text] for text in some]) for some in (said, heard))
        signs = np.array([[np.log1p(len(text.split())), text.count("?")] for text in said])
        return np.concatenate([a, b, a * b, signs], axis=1)


def _other(context: str, said: Any) -> list[tuple[str, Any]]:
    found = augmented(context, said)
    return [found] if found else []
