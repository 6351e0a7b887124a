"""Replaced token detection: tokens are replaced by samples of a generator, or by random tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from transformers_framework.constants import IGNORE_INDEX, Stage
from transformers_framework.families import family_of
from transformers_framework.objectives.capabilities import ConfiguresInputs, Corrupts, Details, HeadByFamily, WeighsLoss
from transformers_framework.objectives.masked_lm import MaskedLM
from transformers_framework.objectives.objective import Context, Evaluation, Objective, Setup
from transformers_framework.processing.masking import Vocabulary, draws_at, replace_tokens, select
from transformers_framework.restricted import Probability

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric

    from transformers_framework.objectives.details.predicted import Predicted
    from transformers_framework.objectives.details.stage_details import StageDetails

ORIGINAL, REPLACED = 0, 1


class Filled(NamedTuple):
    """Output of a generator for N masked tokens, with the loss that was computed from the same probabilities.

    Args:
        logits: ``(N, V)``.
        loss: Sum of the cross-entropies, a scalar.
        correct: Which tokens are predicted correctly, ``(N,) bool``.
    """

    logits: Tensor
    loss: Tensor
    correct: Tensor


class GeneratorLM(MaskedLM):
    """Masked language modelling of a generator; the loss uses the probabilities from which replacements are sampled."""

    def evaluate(self, output: Filled, batch: Mapping[str, Tensor]) -> Evaluation:
        """Return the cross-entropy over the vocabulary, which was computed with the samples."""
        tokens = {"losses_sum": output.loss.detach(), "correct": output.correct, "labels": batch["labels"]}
        return Evaluation(output.loss, {"tokens": tokens})


class Detection(Objective, Corrupts, HeadByFamily, WeighsLoss, Details):
    """Predict for each token whether it was replaced.

    (Clark, Luong, Le, Manning 2020, "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators",
    section 2.) All tokens of the input have labels, special tokens too, but not padding. A token is predicted as
    replaced if its logit is above 0.

    Args:
        setup: Tokenizer, config and classes of the model.
    """

    name = "token_detection"
    head = "AutoModelForTokenClassification"
    weight = 50.0

    @classmethod
    def head_for(cls, model_type: str) -> str:
        """Return ELECTRA's head for its model family, for all others a token classifier with one output."""
        return family_of(model_type).token_detection_head

    @property
    def head_config(self) -> dict[str, Any]:
        """Return the single output and its name."""
        return {"num_labels": 1, "id2label": {0: "REPLACED"}, "label2id": {"REPLACED": 0}}

    def evaluate(self, output: Any, batch: Mapping[str, Tensor]) -> Evaluation:
        """Return the binary cross-entropy over all tokens, and which are predicted as replaced."""
        import torch
        from torch.nn import functional

        logits, labels = token_logits(output), batch["labels"]
        labelled = labels != IGNORE_INDEX
        losses = functional.binary_cross_entropy_with_logits(
            logits, (labels == REPLACED).to(logits.dtype), reduction="none"
        )
        loss = torch.where(labelled, losses, 0.0).sum()
        return Evaluation(loss, {"tokens": {"preds": logits.detach() > 0, "target": labels}})

    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return accuracy, and F1, precision and recall of replaced tokens."""
        from transformers_framework.metrics.token_detection import TokenDetection as Metrics

        return {"tokens": Metrics()}

    def predictions(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tokens, the probabilities that they were replaced, and labels if there are any.

        All are ``(B, L)``, -1 where there is no token.
        """
        import torch

        labels = batch.get("labels")
        there = batch["attention_mask"] > 0 if labels is None else labels != IGNORE_INDEX
        found = {"tokens": batch["input_ids"], "scores": token_logits(output).sigmoid()}
        found |= {} if labels is None else {"labels": labels}
        return {name: torch.where(there, values, -1) for name, values in found.items()}

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Return the tokens, their scores, the positions predicted as replaced, and those that were replaced."""
        values = {name: np.asarray(column) for name, column in predictions.items()}
        there = values["tokens"] >= 0
        scores = values["scores"][there]
        decoded = {
            "tokens": self.setup.tokenizer.convert_ids_to_tokens(values["tokens"][there].tolist()),
            "scores": [round(float(score), 4) for score in scores],
            "prediction": np.flatnonzero(scores > 0.5).tolist(),
        }
        if "labels" in values:
            decoded["replaced"] = np.flatnonzero(values["labels"][there] == REPLACED).tolist()
        return decoded

    def details(self, predicted: Predicted, num_mistakes: int) -> StageDetails:
        """Return calibration, and precision and recall at every threshold."""
        from transformers_framework.objectives.details.texts import detection_details

        return detection_details(predicted)


class TokenDetection(Detection):
    """Detect tokens that a generator sampled for masked positions.

    The pipeline replaces the masked tokens on the device; a sample that equals the original token is not a replacement.

    Args:
        setup: Tokenizer, config and classes of the model.
        sample_function: How tokens of the generator are sampled. 'gumbel' and 'multinomial' are the same distribution
            (Maddison, Tarlow, Minka 2014, "A* Sampling"). Both use inverse transform sampling with a random number per
            row and position, so results do not depend on the world size, and evaluations are reproducible.
    """

    def __init__(self, setup: Setup, *, sample_function: Literal["gumbel", "multinomial"] = "gumbel") -> None:
        super().__init__(setup)
        self.sample_function = sample_function

    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, np.ndarray]:
        """Return ``labels (B, L) int64`` of the original text, and ``draws (B, L) int32``, random numbers for sampling.

        In prediction nothing is replaced and there are no labels.
        """
        if context.stage == "predict":
            return {}
        attended = batch["attention_mask"] > 0
        own = context.keys(f"{self.name}.sample")
        return {"labels": np.where(attended, ORIGINAL, IGNORE_INDEX), "draws": draws_at(attended, own)}

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Return a text with the task: samples exist only when the generator runs."""
        return "detect which masked tokens the generator fills in wrongly"


class RandomTokenDetection(Detection, ConfiguresInputs):
    """Detect tokens that were replaced by random ones.

    (Di Liello, Gabburo, Moschitti 2022, "Effective Pre-Training Objectives for Transformer-based Autoencoders".) A
    replacement is never the token itself and never special.

    Args:
        setup: Tokenizer, config and classes of the model.
        probability: Share of the tokens that are replaced; special tokens never are.
        whole_word_detection: Replace whole words: all tokens of a word, or none.
    """

    def __init__(self, setup: Setup, *, probability: Probability = 0.15, whole_word_detection: bool = False) -> None:
        super().__init__(setup)
        self.probability, self.whole_words = probability, whole_word_detection
        self.vocabulary = Vocabulary.of(setup.tokenizer, setup.config.vocab_size)

    @property
    def needs_word_ids(self) -> bool:
        """Return whether whole words are replaced."""
        return self.whole_words

    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, np.ndarray]:
        """Return ``input_ids`` with replaced tokens and ``labels``, 1 at replacements: both ``(B, L) int64``."""
        if context.stage == "predict":
            return {}
        input_ids, attended = batch["input_ids"], batch["attention_mask"] > 0
        selected = self.select(batch, context)
        own = context.keys(f"{self.name}.replace")
        replaced = replace_tokens(input_ids, selected, self.vocabulary, own)
        return {"input_ids": replaced, "labels": np.where(attended, replaced != input_ids, IGNORE_INDEX)}

    def select(self, batch: Mapping[str, np.ndarray], context: Context) -> np.ndarray:
        """Return which tokens are to be replaced ``(B, L) bool``."""
        own, eligible = context.keys(f"{self.name}.select"), self.vocabulary.eligible(batch["input_ids"])
        return select(eligible, self.probability, own, batch["word_ids"] if self.whole_words else None)

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Return a text with the replacements."""
        if "labels" not in batch:
            return "detect replaced tokens"
        found = batch["input_ids"][row][batch["labels"][row] == REPLACED].tolist()
        return f"detect {' '.join(self.setup.tokenizer.convert_ids_to_tokens(found)) or 'nothing'}"


def token_logits(output: Any) -> Tensor:
    """Return one logit per token in float32 ``(B, L)``, from logits ``(B, L, 1)`` or ``(B, L)``."""
    logits: Tensor = output.logits
    return (logits.squeeze(-1) if logits.ndim == 3 else logits).float()
