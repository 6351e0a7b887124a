"""Sequence classification and regression: a class, several classes or a number per row."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import ARE_TEXTS, BINARY_LABELS, TRAIN, Stage
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.objectives.capabilities import (
    CountsLabels,
    Details,
    HasMainMetric,
    HeadFromData,
    HubTask,
    Remarks,
)
from transformers_framework.objectives.label_types import LabelType, MultiLabel, ProblemType, SingleLabel
from transformers_framework.objectives.labels import LabelEncoder
from transformers_framework.objectives.objective import Context, Evaluation, Objective, Setup
from transformers_framework.objectives.regression import Regression
from transformers_framework.objectives.teacher import Teacher, TeacherLoss
from transformers_framework.restricted import NonNegativeFloat, PositiveFloat, PositiveInt, Probability, Smoothing
from transformers_framework.sources.columns import DatasetSource, item_feature

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray
    from torch import Tensor
    from torchmetrics import Metric

    from transformers_framework.objectives.details.predicted import Predicted
    from transformers_framework.objectives.details.stage_details import StageDetails

logger = logging.getLogger(__name__)


class SequenceClassification(Objective, HeadFromData, CountsLabels, HasMainMetric, Details, HubTask, Remarks):
    """Predict the label of each row: a class, several classes or a number.

    Args:
        setup: Tokenizer, config and classes of the model.
        in_lists: Each row has a list of labels, one class each.
        is_binary: Labels are 1 or 0, or words for yes and no.
        label_column: Column of labels: a class (integers from 0, names, or a ClassLabel), a list of classes, or a
            number to predict.
        problem_type: Type of the labels: 'single_label' is one class per row, 'multi_label' a list of any number of
            classes, 'regression' a number. By default multi_label for lists and single_label for all others; in runs
            without training, that of the checkpoint.
        labels: Names of all classes, in the order of their numbers; by default taken from the data.
        num_labels: Number of classes; by default taken from the data.
        label_weights: Weight of each class in the loss, one per class. With multi_label, it applies to rows that have
            the class.
        label_smoothing: Share of each label that is distributed equally over all classes; with multi_label, over yes
            and no of each class.
        teacher_column: Column with the scores of a teacher, as `predict` writes them, from which training learns too
            (distillation): the probabilities of classes, or the score of a candidate.
        teacher_weight: Share of the teacher's loss; the labels have the rest. Default: 0.5
        teacher_temperature: Temperature by which the scores of both models are divided before the softmax. Default: 1
        teacher_loss: Loss of the teacher's scores: 'kl_divergence', or 'squared_error' of probabilities of classes or
            of scores of candidates. Default: kl_divergence
        k: Classify a claim and up to this many texts of evidence with a joint head.
    """

    name = "seq_class"
    head = "AutoModelForSequenceClassification"
    hub_task = "text-classification"

    def __init__(
        self,
        setup: Setup,
        in_lists: bool = False,
        is_binary: bool = False,
        *,
        label_column: str | None = None,
        problem_type: ProblemType | None = None,
        labels: list[str] | None = None,
        num_labels: PositiveInt | None = None,
        label_weights: list[NonNegativeFloat] | None = None,
        label_smoothing: Smoothing = 0.0,
        teacher_column: str | None = None,
        teacher_weight: Probability | None = None,
        teacher_temperature: PositiveFloat | None = None,
        teacher_loss: TeacherLoss | None = None,
        k: PositiveInt | None = None,
    ) -> None:
        super().__init__(setup)
        self.column = label_column or ""
        self.teacher = Teacher.of(teacher_column, teacher_weight, teacher_temperature, teacher_loss)
        self._new_classes = partial(
            LabelEncoder,
            self.column,
            num_labels,
            setup.class_names,
            labels,
            is_binary=is_binary,
            known_as_texts=getattr(setup.config, ARE_TEXTS, False),
        )
        self.classes = self._new_classes(in_lists=in_lists)
        self.label_weights, self.label_smoothing = label_weights, label_smoothing
        self._label_type = self._make(problem_type) if problem_type else None

    def _make(self, problem_type: ProblemType) -> LabelType:
        if problem_type == "regression":
            of_classes = {
                "labels": self.classes.asked or None,
                "num_labels": None if self.classes.num_labels == 1 else self.classes.num_labels,
                "label_weights": self.label_weights,
                "label_smoothing": self.label_smoothing or None,
            }
            if given := [flag for flag, value in of_classes.items() if value is not None]:
                raise ConfigurationError(f"--{given[0]}: regression has no classes. Leave it out.")
            known = None if self.has_one_output else self.setup.class_names
            return Regression(self.column, known, has_one_output=self.has_one_output)
        if problem_type == "multi_label":
            self.classes = self._new_classes(in_lists=True)
            return MultiLabel(self.classes, self.label_weights, self.label_smoothing)
        return SingleLabel(self.classes, self.label_weights, self.label_smoothing)

    @property
    def has_one_output(self) -> bool:
        """Return whether the model is a classifier with a single output, as many re-rankers are."""
        return self.head == SequenceClassification.head and is_scorer(self.setup.config)

    @property
    def unfolds_output(self) -> bool:
        """Return whether the checkpoint is a ranker of ours, exported with one output."""
        return is_folded(self.setup.config)

    @property
    def label_type(self) -> LabelType:
        """Return the label type; known after :meth:`pre_process`."""
        assert self._label_type is not None, "the label type is known after the first data set was checked"
        return self._label_type

    @property
    def head_config(self) -> dict[str, Any]:
        """Return the number of outputs, their names and the problem type."""
        are_texts, config = self.classes.are_texts, self.setup.config
        markers: dict[str, Any] = {ARE_TEXTS: are_texts} if are_texts or hasattr(config, ARE_TEXTS) else {}
        if hasattr(config, BINARY_LABELS):
            markers[BINARY_LABELS] = None
        return self.label_type.head_config | markers

    @property
    def is_ready(self) -> bool:
        """Return whether label type and classes are known."""
        return self._label_type is not None and self._label_type.is_ready

    def label_columns(self, stage: Stage) -> tuple[str, ...]:
        """Return the label column and, in training, that of the teacher; predictions need none."""
        learns = stage == TRAIN and self.teacher is not None
        return () if stage == "predict" else (self.column, *([self.teacher.column] if learns and self.teacher else []))

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Determine the label type from the first data set, and check every label.

        Raises:
            ConfigurationError: When ``--label_column`` is needed and not given.
            DataError: When a label is missing or invalid, with its place.
        """
        if source.stage != "predict" and not self.column:
            raise ConfigurationError(
                f"--label_column is needed for the {source.stage} data set. "
                f"Columns of {source.name}: {', '.join(dataset.column_names)}."
            )
        if self._label_type is None:
            self._label_type = self._make(self._problem_type_of(dataset, source))
        if source.stage == "predict":
            self.label_type.fix_outputs()
        else:
            self.label_type.inspect(dataset, source)
        if source.stage == TRAIN and self.teacher is not None:
            self.check_teacher(self.teacher, dataset, source)
        if source.stage == TRAIN and self.has_one_output:
            self._warn_of_lost_output()
        return dataset

    def check_teacher(self, teacher: Teacher, dataset: Dataset, source: DatasetSource) -> None:
        """Check the scores of a teacher.

        Raises:
            ConfigurationError: When labels are numbers, of which there are no soft labels.
            DataError: When a row has no scores, with its place.
        """
        if isinstance(self.label_type, Regression):
            raise ConfigurationError(
                "--teacher_column: with --problem_type regression, labels are numbers. Give the teacher's as "
                "--label_column."
            )
        if self.is_ready:
            teacher.check_classes(dataset, self.classes.display_names, source)

    def _warn_of_lost_output(self) -> None:
        outputs = self.head_config.get("num_labels", 1)
        if outputs > 1 and not (self.unfolds_output and self.keeps_head):
            logger.warning(
                "The checkpoint has one output, a number or the score of a re-ranker, but this run has %d classes: "
                "the output layer is newly initialized. To keep it, use --problem_type regression or --pipeline "
                "answer_selection.", outputs,
            )  # fmt: skip

    def _problem_type_of(self, dataset: Dataset, source: DatasetSource) -> ProblemType:
        """Return the problem type of the checkpoint in runs without training, else that of the type of the column.

        Regression is never inferred from labels that are not integers: one may be an error among classes.
        """
        known = None if source.stage == TRAIN else known_problem_type(self.setup.config)
        if known is None and item_feature(dataset.features.get(self.column)) is not None:
            logger.info(
                "'%s' holds lists, so a row can have several classes: using --problem_type multi_label.", self.column
            )
            return "multi_label"
        if known == "regression" and self.setup.config.problem_type is None:
            logger.info(
                "The checkpoint has one output, so labels and predictions are numbers: using --problem_type "
                "regression. For re-ranking, use --pipeline answer_selection."
            )
        return known or "single_label"

    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, np.ndarray]:
        """Return ``labels``, integers ``(B,)`` or, with multi_label, ``(B, C)``; nothing in the predict stage.

        In training with a teacher, ``teacher int32`` are the bits of its scores.
        """
        if context.stage == "predict":
            return {}
        own = {"labels": self.label_type.labels(rows[self.column], context.stage)}
        if context.stage == TRAIN and self.teacher is not None:
            # the bits of float32 numbers, which no strategy in half precision rounds
            own["teacher"] = self.teacher_scores(rows[self.teacher.column]).view(np.int32)
        return own

    def teacher_scores(self, values: Sequence[Any]) -> NDArray[np.float32]:
        """Return the teacher's probabilities of classes ``(B, C) float32``."""
        assert self.teacher is not None
        return self.teacher.probabilities(values, self.classes.display_names)

    def remarks(self, dataset: Dataset, stage: Stage) -> list[str]:
        """Return a line with the distribution of the labels."""
        return [] if stage == "predict" else self.label_type.distribution(dataset, stage)

    @property
    def keeps_head(self) -> bool:
        """Return whether the checkpoint's output layer, if it has one, has the same classes as this run."""
        return self.classes.keeps_head

    def num_items(self, batch: Mapping[str, np.ndarray]) -> float:
        """Return the loss denominator, with which the loss equals the mean of torch."""
        return self.label_type.num_items(batch["labels"])

    def evaluate(self, output: Any, batch: Mapping[str, Tensor]) -> Evaluation:
        """Return the sum of the losses, and predictions and labels for the metrics."""
        return self.with_teacher(self.label_type.evaluate(output.logits, batch["labels"]), output, batch)

    def with_teacher(self, evaluation: Evaluation, output: Any, batch: Mapping[str, Tensor]) -> Evaluation:
        """Return an evaluation whose loss contains that of the teacher, if there is one."""
        import torch

        if self.teacher is None or "teacher" not in batch:
            return evaluation
        of_teacher = self.teacher_loss(self.teacher, output, batch, batch["teacher"].view(torch.float32))
        return replace(evaluation, loss=self.teacher.mixed(evaluation.loss, of_teacher))

    def teacher_loss(self, teacher: Teacher, output: Any, batch: Mapping[str, Tensor], scores: Tensor) -> Tensor:
        """Return the sum of the losses of a teacher's scores, with the denominator of the labels."""
        return self.label_type.teacher_loss(teacher, output.logits, batch["labels"], scores)

    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return accuracy and F1, or correlations and errors with regression."""
        return self.label_type.metrics()

    @property
    def main_metric(self) -> str:
        """Return the main metric of the label type."""
        return self.label_type.main_metric

    def predictions(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the probabilities of classes and the most likely one, or the number."""
        return self.label_type.predictions(output.logits)

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Return a text with the label of a row."""
        return self.label_type.describe(batch["labels"][row]) if "labels" in batch else "no label"

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Replace class numbers by names, if there are names."""
        return self.label_type.decode(predictions)

    def details(self, predicted: Predicted, num_mistakes: int) -> StageDetails:
        """Return confusion matrix, scores of classes, reliability and mistakes, depending on the label type."""
        return self.label_type.details(predicted, num_mistakes)


def is_classifier(config: Any) -> bool:
    """Return whether a checkpoint is a sequence classifier."""
    architectures = getattr(config, "architectures", None) or ()
    return any(name.endswith("ForSequenceClassification") for name in architectures)


def is_scorer(config: Any) -> bool:
    """Return whether a checkpoint is a sequence classifier with a single output, as many re-rankers are."""
    return is_classifier(config) and config.num_labels == 1


def is_folded(config: Any) -> bool:
    """Return whether the single output of a checkpoint is the score of two classes, as in exports of rankers."""
    return is_scorer(config) and bool(getattr(config, BINARY_LABELS, None))


def known_problem_type(config: Any) -> ProblemType | None:
    """Return the problem type of a fine-tuned checkpoint; None if it is not fine-tuned or its config has none.

    Raises:
        ConfigurationError: When it predicts several numbers per row.
    """
    if not is_classifier(config):
        return None
    if is_folded(config):
        return "single_label"
    numbers = config.problem_type == Regression.written or (config.problem_type is None and config.num_labels == 1)
    if numbers and config.num_labels > 1:
        raise ConfigurationError(
            f"--pre_trained_model: it predicts {config.num_labels} numbers per row, but regression supports one. Use "
            "another checkpoint."
        )
    known: dict[str | None, ProblemType] = {MultiLabel.written: "multi_label", SingleLabel.written: "single_label"}
    return "regression" if numbers else known.get(config.problem_type)
