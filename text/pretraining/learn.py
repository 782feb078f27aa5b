"""An objective with its model, as one module: a batch of tokens in, loss and figures out.

What is corrupted is drawn inside, on the model's device, from a generator that the caller seeds by
the step. So the adaptive clusters of C-RTS are those of this moment, and a training that was killed
draws what it would have drawn.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from text.pretraining import models
from text.pretraining.clusters import CRTS, Counts
from text.pretraining.joint import Classifier, JointHead
from text.pretraining.objectives import (
    DETECTION_WEIGHT,
    IGNORED,
    MLM,
    Corrupted,
    corruption,
    swapped,
)
from text.pretraining.tokens import Vocabulary

Generator = torch.Generator | None
Figures = dict[str, Tensor]
"""``loss`` is what is minimised; the others are told."""


class Objective(nn.Module):
    """A model of transformers under an objective; ``model`` is what is kept in the end."""

    def __init__(self, model: Any, words: Vocabulary) -> None:
        super().__init__()
        self.model = model
        self._words = words

    @property
    def words(self) -> Vocabulary:
        """The vocabulary, where the model is."""
        device = self.model.device
        if self._words.special.device != device:
            self._words = self._words.to(device)
        return self._words


class VocabularyObjective(Objective):
    """MLM and SLM: say which token it was."""

    def __init__(self, model: Any, words: Vocabulary, name: str) -> None:
        super().__init__(model, words)
        self.name = name
        self._selected = models.Selected(model)

    def forward(
        self, input_ids: Tensor, generator: Generator = None, attention_mask: Tensor | None = None
    ) -> Figures:
        made = corruption(self.name, self.words)(input_ids, generator)
        return _said(self._selected, self.model, made, attention_mask)


def _said(
    selected: models.Selected, model: Any, made: Corrupted, mask_BT: Tensor | None, **more: Any
) -> Figures:
    """Cross-entropy and accuracy at the labelled positions; zero where there are none."""
    at_BT = made.labels != IGNORED
    logits_NV = selected.logits(
        model, at_BT, input_ids=made.input_ids, attention_mask=mask_BT, **more
    )
    target_N = made.labels[at_BT]
    n = max(1, len(target_N))
    loss = F.cross_entropy(logits_NV.float(), target_N, reduction="sum") / n
    right = (logits_NV.argmax(1) == target_N).float().sum() / n
    return {"loss": loss, "cross_entropy": loss.detach(), "accuracy": right}


class DetectionObjective(Objective):
    """RTS and, with clusters, C-RTS: say which tokens were swapped."""

    def __init__(self, model: Any, words: Vocabulary, own_V: Tensor | None = None) -> None:
        super().__init__(model, words)
        self.counts: Counts | None = None
        if own_V is not None:
            self.counts = Counts(int(own_V.max()) + 1)
            self.own_V: Tensor
            self.register_buffer("own_V", own_V)

    def forward(
        self, input_ids: Tensor, generator: Generator = None, attention_mask: Tensor | None = None
    ) -> Figures:
        clusters = None
        if self.counts is not None:
            clusters = CRTS(self.words, self.own_V, self.counts)
        corrupt = clusters or corruption("rts", self.words)
        made = corrupt(input_ids, generator)
        logits_BTL = self.model(input_ids=made.input_ids, attention_mask=attention_mask).logits
        if clusters and self.training:
            clusters.learn(input_ids, made, logits_BTL.argmax(2))
        return detected(logits_BTL, made.labels)


def detected(logits_BTL: Tensor, labels_BT: Tensor) -> Figures:
    """The weighted detection loss; balanced accuracy, since most tokens are genuine."""
    cross = F.cross_entropy(logits_BTL.flatten(0, 1).float(), labels_BT.flatten(),
                            ignore_index=IGNORED)  # fmt: skip
    said_BT = logits_BTL.argmax(2)
    found = ((said_BT == 1) & (labels_BT == 1)).sum() / (labels_BT == 1).sum().clamp(min=1)
    passed = ((said_BT == 0) & (labels_BT == 0)).sum() / (labels_BT == 0).sum().clamp(min=1)
    return {
        "loss": DETECTION_WEIGHT * cross,
        "cross_entropy": cross.detach(),
        "accuracy": (found + passed) / 2,
    }


class ElectraObjective(Objective):
    """ELECTRA: a small masked model fills in, the model says where it went wrong.

    The generator has a third of the layers and the model's own embeddings; ELECTRA's is narrower
    instead, which takes an architecture with embeddings of their own width.
    """

    def __init__(self, model: Any, words: Vocabulary) -> None:
        from transformers import AutoModelForMaskedLM

        super().__init__(model, words)
        config = type(model.config).from_dict(model.config.to_dict())
        config.num_hidden_layers = max(1, config.num_hidden_layers // 3)
        self.generator = AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
        self.generator.set_input_embeddings(model.get_input_embeddings())
        self.generator.tie_weights()
        self._selected = models.Selected(self.generator)

    def forward(
        self, input_ids: Tensor, generator: Generator = None, attention_mask: Tensor | None = None
    ) -> Figures:
        masked = corruption("electra", self.words)(input_ids, generator)
        at_BT = masked.labels != IGNORED
        logits_NV = self._selected.logits(
            self.generator, at_BT, input_ids=masked.input_ids, attention_mask=attention_mask
        )
        n = max(1, len(logits_NV))
        filling = F.cross_entropy(logits_NV.float(), input_ids[at_BT], reduction="sum") / n
        with torch.no_grad():
            drawn_N = torch.multinomial(logits_NV.float().softmax(1), 1, generator=generator)
            input_BT = input_ids.masked_scatter(at_BT, drawn_N[:, 0])
        labels_BT = swapped(input_BT, input_ids, self.words)
        figures = detected(
            self.model(input_ids=input_BT, attention_mask=attention_mask).logits, labels_BT
        )
        figures["loss"] = figures["loss"] + filling
        return {**figures, "generator_loss": filling.detach()}


class SentenceObjective(Objective):
    """SSP, SP, PSD, MSPP beside MLM, in one pass: ``loss = MLM + cross-entropy``, unweighted."""

    def __init__(self, model: Any, words: Vocabulary, head: str | None = None) -> None:
        """``head`` is that of MSPP, IE_k or AE_k; of a pair the first state is read."""
        super().__init__(model, words)
        hidden = int(model.config.hidden_size)
        self.head: nn.Module = Classifier(hidden, hidden, 2)
        if head is not None:
            self.head = JointHead(hidden, head, 2)
        self.types = int(getattr(model.config, "type_vocab_size", 0) or 0)
        self._selected = models.Selected(model)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        labels: Tensor,
        there: Tensor | None = None,
        generator: Generator = None,
    ) -> Figures:
        made = MLM(self.words)(input_ids, generator)
        more = {"token_type_ids": token_type_ids} if self.types else {}
        figures = _said(self._selected, self.model, made, attention_mask, **more)
        states_BTH = self._selected.states_BTH
        scores = self.head(states_BTH[:, 0]) if there is None else self.head(states_BTH, there)
        scores_NL, target_N = scores.reshape(-1, 2).float(), labels.flatten()
        cross = F.cross_entropy(scores_NL, target_N)
        right = scores_NL.argmax(1) == target_N
        if there is not None:  # whether the span that belongs is the likeliest; 1/k by chance
            margin_BK = (scores[..., 1] - scores[..., 0]).float()
            right = labels.gather(1, margin_BK.argmax(1, True)) == 1
        return {
            "loss": figures["loss"] + cross,
            "cross_entropy": cross.detach(),
            "accuracy": right.float().mean(),
            "mlm_loss": figures["cross_entropy"],
        }
