"""Masked language modelling and swapped language modelling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from transformers_framework.constants import EVALUATED, IGNORE_INDEX, Stage
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.objectives.capabilities import ConfiguresInputs, Corrupts, HubTask, SparseLastLayer
from transformers_framework.objectives.objective import Context, Evaluation, Objective, Setup
from transformers_framework.processing.masking import Vocabulary, labels_of, mask_tokens, select
from transformers_framework.restricted import Probability

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric

SUM_TOLERANCE = 1e-6


class MaskedLM(Objective, Corrupts, SparseLastLayer, ConfiguresInputs, HubTask):
    """Predict masked tokens.

    Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", section 3.1.
    In prediction nothing is masked: the model fills in the mask tokens that the texts contain.

    Args:
        setup: Tokenizer, config and classes of the model.
        probability: Share of the tokens to predict; special tokens are never selected.
        probability_masked: Share of these that are replaced by the mask token.
        probability_replaced: Share of these that are replaced by a random other token.
        probability_unchanged: Share of these that are left unchanged.
        whole_word_masking: Select whole words: all tokens of a word are predicted, or none.
    """

    name = "masked_lm"
    head = "AutoModelForMaskedLM"
    hub_task: ClassVar[str | None] = "fill-mask"

    def __init__(
        self,
        setup: Setup,
        *,
        probability: Probability = 0.15,
        probability_masked: Probability = 0.8,
        probability_replaced: Probability = 0.1,
        probability_unchanged: Probability = 0.1,
        whole_word_masking: bool = False,
    ) -> None:
        super().__init__(setup)
        rates = {"masked": probability_masked, "replaced": probability_replaced, "unchanged": probability_unchanged}
        if abs(sum(rates.values()) - 1) > SUM_TOLERANCE:
            given = ", ".join(f"--probability_{name} {rate:g}" for name, rate in rates.items())
            raise ConfigurationError(f"{given}: the sum is {sum(rates.values()):g}. Change them so that it is 1.")
        self.probability, self.rates, self.whole_words = probability, rates, whole_word_masking
        needs_mask = probability_masked > 0
        self.vocabulary = Vocabulary.of(setup.tokenizer, setup.config.vocab_size, needs_mask=needs_mask)

    @property
    def needs_word_ids(self) -> bool:
        """Return whether whole words are selected."""
        return self.whole_words

    @property
    def tokens_to_fill(self) -> tuple[str, ...]:
        """Return the mask token."""
        return () if self.vocabulary.mask_token_id is None else (self.setup.tokenizer.mask_token,)

    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, np.ndarray]:
        """Return ``input_ids`` with masked tokens and ``labels``, the original tokens: both ``(B, L) int64``."""
        input_ids = batch["input_ids"]
        if context.stage == "predict":
            return {"labels": np.where(input_ids == self.vocabulary.mask_token_id, input_ids, IGNORE_INDEX)}

        choose, corrupt = (context.keys(f"{self.name}.{purpose}") for purpose in ("select", "corrupt"))
        eligible = self.vocabulary.eligible(input_ids)
        selected = select(eligible, self.probability, choose, batch["word_ids"] if self.whole_words else None)
        corrupted = mask_tokens(input_ids, selected, self.vocabulary, corrupt, **self.rates)
        return {"input_ids": corrupted, "labels": labels_of(input_ids, selected)}

    def evaluate(self, output: Any, batch: Mapping[str, Tensor]) -> Evaluation:
        """Return the cross-entropy over the vocabulary, and which tokens are predicted correctly."""
        from transformers_framework.losses.vocabulary import vocabulary_cross_entropy

        loss, correct = vocabulary_cross_entropy(output.logits, batch["labels"])
        return Evaluation(
            loss, {"tokens": {"losses_sum": loss.detach(), "correct": correct, "labels": batch["labels"]}}
        )

    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return accuracy and perplexity; outside training also that of token frequencies."""
        from transformers_framework.metrics.token_prediction import TokenPrediction

        return {"tokens": TokenPrediction(len(self.vocabulary.special) if stage in EVALUATED else None)}

    def predictions(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return positions, predicted tokens, labels and probabilities ``(B, P)``; shorter rows are filled with -1."""
        import torch

        labels = batch["labels"]
        kept = labels != IGNORE_INDEX
        scores, tokens = output.logits[kept].float().softmax(dim=-1).max(dim=-1)  # (P',)
        num_rows, length = batch["input_ids"].shape
        rows, columns = batch["positions"][kept] // length, batch["positions"][kept] % length
        counts = torch.bincount(rows, minlength=num_rows)
        nth = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
        found: dict[str, Tensor] = {"positions": columns, "tokens": tokens, "labels": labels[kept], "scores": scores}
        for name, values in found.items():
            table = values.new_full((num_rows, int(counts.max())), -1)
            table[rows, nth] = values
            found[name] = table
        return found

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Return a dictionary per masked token: its position, the original token, the prediction and its score."""
        hidden = [
            {"position": position, "token": label, "prediction": token, "score": score}
            for position, label, token, score in zip(
                predictions["positions"],
                self._words(predictions["labels"]),
                self._words(predictions["tokens"]),
                predictions["scores"],
                strict=True,
            )
            if position >= 0
        ]
        return {"prediction": hidden}

    def _words(self, ids: Sequence[int]) -> list[str]:
        return list(self.setup.tokenizer.convert_ids_to_tokens([max(index, 0) for index in ids]))

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Return a text with the tokens to predict."""
        labels = batch["labels"][row]
        return f"predict {' '.join(self._words(labels[labels != IGNORE_INDEX].tolist())) or 'nothing'}"


class SwappedLM(MaskedLM):
    """Predict the original tokens where tokens were replaced by random ones; no mask token is used.

    Di Liello, Gabburo, Moschitti 2022, "Effective Pre-Training Objectives for Transformer-based Autoencoders", section
    on swapped language modelling.

    Args:
        setup: Tokenizer, config and classes of the model.
        probability: Share of the tokens to predict; special tokens are never selected.
        whole_word_masking: Select whole words: all tokens of a word are replaced, or none.
    """

    name = "swapped_lm"
    hub_task = None  # it has no mask token
    no_mask: ClassVar[dict[str, float]] = {
        "probability_masked": 0.0,
        "probability_replaced": 1.0,
        "probability_unchanged": 0.0,
    }

    def __init__(self, setup: Setup, *, probability: Probability = 0.15, whole_word_masking: bool = False) -> None:
        super().__init__(setup, probability=probability, whole_word_masking=whole_word_masking, **self.no_mask)
