"""Structural pre-training: classify candidates that the inputs sample from documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from transformers_framework.constants import ROW_IDS, TRAIN, Stage
from transformers_framework.objectives.answer_selection import AnswerSelection
from transformers_framework.objectives.capabilities import PredictedPart
from transformers_framework.objectives.joint_answer_selection import JointAnswerSelection
from transformers_framework.objectives.objective import Setup
from transformers_framework.objectives.ranker_outputs import ranking_scores
from transformers_framework.restricted import NonNegativeFloat, NonNegativeInt, PositiveInt, Smoothing

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from torchmetrics import Metric

    from transformers_framework.objectives.details.predicted import Predicted
    from transformers_framework.objectives.details.stage_details import StageDetails
    from transformers_framework.sources.columns import DatasetSource

LABEL, INDEX = "label", "index"  # columns that the inputs sample
LABELS = (0, 1)


class _Sampled(AnswerSelection):
    """Answer selection in which the inputs make labels, and no row has a column of them."""

    def label_columns(self, stage: Stage) -> tuple[str, ...]:
        """Return no column."""
        return ()

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Fix the two classes; there are no labels to check."""
        self.classes.fix_classes(LABELS, trains=source.stage == TRAIN)
        return dataset

    def remarks(self, dataset: Dataset, stage: Stage) -> list[str]:
        """Return no line, as labels are sampled."""
        return []

    def details(self, predicted: Predicted, num_mistakes: int) -> StageDetails:
        """Return nothing in addition to the metrics, as rows have no texts of candidates."""
        from transformers_framework.objectives.details.stage_details import StageDetails

        return StageDetails()

    def prediction_files(self, stage: Stage, parts: Iterable[PredictedPart]) -> Iterator[tuple[str, str]]:
        """Yield nothing: there are no further files."""
        return iter(())


class StructuralPretraining(_Sampled):
    """Classify whether a span and a candidate are from the same paragraph or document.

    The head is that of answer selection and has its name in logs and exports: it is the one that is fine-tuned later.

    Args:
        setup: Tokenizer, config and classes of the model.
        k: Number of candidates in one input with the span.
        label_weights: Weight of each class in the loss: first negatives, then positives.
        label_smoothing: Label smoothing: share of each label that is distributed equally over both classes.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        k: PositiveInt | None = None,
        label_weights: list[NonNegativeFloat] | None = None,
        label_smoothing: Smoothing = 0.0,
    ) -> None:
        super().__init__(setup, label_column=LABEL, label_weights=label_weights, label_smoothing=label_smoothing)

    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return accuracy and F1."""
        return super().metrics(TRAIN)


class JointStructuralPretraining(_Sampled, JointAnswerSelection):
    """Classify which of k candidates are from the paragraph or document of a span (MSPP, with sentences).

    The pre-training of Di Liello, Garg, Soldaini, Moschitti 2022, "Paragraph-based Transformer Pre-training for
    Multi-Sentence Inference". Each span is a query in metrics.

    Args:
        setup: Tokenizer, config and classes of the model.
        max_sequence_length: Longest input in tokens, special tokens included.
        k: Number of candidates in one input with the span.
        classification_head_type: Type of the head: the hidden states that it reads and the labels that it predicts.
        separated: Encode each text with its own special tokens and maximum length, then join them.
        extended_token_type_ids: Token type of each segment; the last value is repeated.
        label_weights: Weight of each class in the loss: first negatives, then positives.
        label_smoothing: Label smoothing: share of each label that is distributed equally over both classes.
    """

    warns_of_new_head = False

    def __init__(
        self,
        setup: Setup,
        *,
        max_sequence_length: list[PositiveInt],
        k: PositiveInt | None = None,
        classification_head_type: Literal["IE_1", "IE_k", "AE_1", "AE_k", "RE_1", "RE_k"] | None = None,
        separated: bool = False,
        extended_token_type_ids: list[NonNegativeInt] | None = None,
        label_weights: list[NonNegativeFloat] | None = None,
        label_smoothing: Smoothing = 0.0,
    ) -> None:
        JointAnswerSelection.__init__(
            self,
            setup,
            input_columns=["span", "candidate"],
            max_sequence_length=max_sequence_length,
            k=k,
            classification_head_type=classification_head_type,
            separated=separated,
            extended_token_type_ids=extended_token_type_ids,
            label_column=LABEL,
            index_column=INDEX,
            label_weights=label_weights,
            label_smoothing=label_smoothing,
        )
        self.group_column = None

    def predictions(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the scores and labels of the candidates of each span."""
        scores = ranking_scores(output)
        spans = batch["indexes"][:, 0].masked_fill(batch[ROW_IDS][:, 0] < 0, -1)  # but for padding rows
        return {ROW_IDS: spans, "scores": scores, "label": batch["labels"]}

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Return the scores and labels of the candidates that there are."""
        kept = [number for number, label in enumerate(predictions["label"]) if label >= 0]
        return {name: [values[number] for number in kept] for name, values in predictions.items()}
