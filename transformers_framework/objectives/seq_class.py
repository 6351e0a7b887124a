"""A class, several classes or a number for a whole sequence."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import ARE_TEXTS, TRAIN, Stage
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.objectives.capabilities import CountsLabels, HeadFromData
from transformers_framework.objectives.label_types import MultiLabel, Problem, ProblemType, SingleLabel
from transformers_framework.objectives.labels import Classes
from transformers_framework.objectives.objective import Context, Evaluation, Objective, Setup
from transformers_framework.objectives.regression import Regression
from transformers_framework.restricted import NonNegativeFloat, PositiveInt, Smoothing
from transformers_framework.sources.columns import DatasetSource, item_feature

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from torchmetrics import Metric

logger = logging.getLogger(__name__)


class SequenceClassification(Objective, HeadFromData, CountsLabels):
    """Learn what each row is labelled with.

    Args:
        setup: Tokenizer, config and classes of the model.
        in_lists: Each row has a list of labels, one class each.
        is_binary: A label says whether something is right: 1 or 0, or a word for yes or no.
        label_column: Column with the label: a class (whole numbers from 0, names, or a ClassLabel), a list of classes,
            or a number to be predicted.
        problem_type: What a label is: 'single_label' one class, 'multi_label' a list of any number of classes,
            'regression' a number. When not given, lists are multi_label and all else is single_label; where nothing is
            trained, the checkpoint says what it was fine-tuned for.
        labels: Names of all classes, in the order of their numbers; taken from the data when not given.
        num_labels: Number of classes; taken from the data when not given.
        label_weights: Weight of each class in the loss, one a class. With multi_label, it is that of the rows that have
            the class.
        label_smoothing: Share of each label that all classes have in equal parts; with multi_label, yes and no.
    """

    name = "seq_class"
    head = "AutoModelForSequenceClassification"

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
    ) -> None:
        super().__init__(setup)
        self.column = label_column or ""
        self._new_classes = partial(
            Classes,
            self.column,
            num_labels,
            setup.class_names,
            labels,
            is_binary=is_binary,
            known_as_texts=getattr(setup.config, ARE_TEXTS, False),
        )
        self.classes = self._new_classes(in_lists=in_lists)
        self.label_weights, self.label_smoothing = label_weights, label_smoothing
        self._problem = self._make(problem_type) if problem_type else None

    def _make(self, problem_type: ProblemType) -> Problem:
        if problem_type == "regression":
            of_classes = {
                "labels": self.classes.asked or None,
                "num_labels": None if self.classes.num_labels == 1 else self.classes.num_labels,
                "label_weights": self.label_weights,
                "label_smoothing": self.label_smoothing or None,
            }
            if given := [flag for flag, value in of_classes.items() if value is not None]:
                raise ConfigurationError(f"--{given[0]}: regression learns a number and has no classes. Leave it out.")
            return Regression(self.column, self.setup.class_names, has_one_output=self.has_one_output)
        if problem_type == "multi_label":
            self.classes = self._new_classes(in_lists=True)
            return MultiLabel(self.classes, self.label_weights, self.label_smoothing)
        return SingleLabel(self.classes, self.label_weights, self.label_smoothing)

    @property
    def has_one_output(self) -> bool:
        """Return whether the model is a classifier with a single output, as many re-rankers are."""
        config, kind = self.setup.config, self.head.removeprefix("AutoModel")
        tuned = any(name.endswith(kind) for name in getattr(config, "architectures", None) or ())
        return tuned and config.num_labels == 1

    @property
    def problem(self) -> Problem:
        """Return what a label is; known once the data was looked at."""
        assert self._problem is not None, "the data was not looked at yet"
        return self._problem

    @property
    def head_config(self) -> dict[str, Any]:
        """Return the number of outputs, their names and what they mean."""
        are_texts = self.classes.are_texts
        told = {ARE_TEXTS: are_texts} if are_texts or hasattr(self.setup.config, ARE_TEXTS) else {}
        return self.problem.head_config | told

    @property
    def is_ready(self) -> bool:
        """Return whether it is known what is learned."""
        return self._problem is not None and self._problem.is_ready

    def label_columns(self, stage: Stage) -> tuple[str, ...]:
        """Return the label column; predictions need none."""
        return () if stage == "predict" else (self.column,)

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Find out what labels are, check every one.

        Raises:
            DataError: When a label is missing or wrong, with its place.
        """
        if source.stage != "predict" and not self.column:
            raise ConfigurationError(
                f"--label_column is needed for the {source.stage} data set. "
                f"Columns of {source.name}: {', '.join(dataset.column_names)}."
            )
        if self._problem is None:
            self._problem = self._make(self._problem_type_of(dataset, source))
        if source.stage == "predict":
            self.problem.settle()
        else:
            self.problem.inspect(dataset, source)
        if source.stage == TRAIN and self.has_one_output and self.head == SequenceClassification.head:
            self._warn_of_lost_output()
        return dataset

    def _warn_of_lost_output(self) -> None:
        if (outputs := self.head_config.get("num_labels", 1)) > 1:
            logger.warning(
                "The checkpoint has one output, a number or the score of a re-ranker, and here there are %d classes: "
                "its output layer is newly initialized. --problem_type regression and --pipeline answer_selection "
                "keep it.", outputs,
            )  # fmt: skip

    def _problem_type_of(self, dataset: Dataset, source: DatasetSource) -> ProblemType:
        """Return what the checkpoint was fine-tuned for where nothing is trained; else what the data leave no doubt of.

        That labels with fractions are numbers to be predicted is never guessed: one may be a mistake among classes.
        """
        known = None if source.stage == TRAIN else known_problem_type(self.setup.config)
        if known is None and item_feature(dataset.features.get(self.column)) is not None:
            logger.info(
                "'%s' holds lists, so a row has any number of classes: --problem_type multi_label.", self.column
            )
            return "multi_label"
        if known == "regression" and self.setup.config.problem_type is None:
            logger.info(
                "The checkpoint has one output, so labels and predictions are numbers: --problem_type regression. For "
                "re-ranking, use --pipeline answer_selection."
            )
        return known or "single_label"

    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, np.ndarray]:
        """Return ``labels``, integers ``(B,)``, of multi_label ``(B, C)``; nothing when there is none to learn from."""
        return {} if context.stage == "predict" else {"labels": self.problem.labels(rows[self.column], context.stage)}

    @property
    def keeps_head(self) -> bool:
        """Return whether the checkpoint's output layer, if it has one, is that of the classes that are learned."""
        return self.classes.keeps_head

    def num_items(self, batch: Mapping[str, np.ndarray]) -> float:
        """Return what the sum of the losses is divided by, so that it is torch's mean."""
        return self.problem.num_items(batch["labels"])

    def evaluate(self, output: Any, batch: Mapping[str, Tensor]) -> Evaluation:
        """Return the sum of the losses; what was predicted and what is right."""
        return self.problem.evaluate(output.logits, batch["labels"])

    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return accuracy and F1; of numbers correlations and errors."""
        return self.problem.metrics()

    def predictions(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the probability of classes and the most likely one, or the number."""
        return self.problem.predictions(output.logits)

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Say the label of a row."""
        return self.problem.describe(batch["labels"][row]) if "labels" in batch else "no label"

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Return names of classes where they have any."""
        return self.problem.decode(predictions)


def known_problem_type(config: Any) -> ProblemType | None:
    """Return what a checkpoint was fine-tuned for, nothing when it was not, or does not say.

    Raises:
        ConfigurationError: When it predicts several numbers.
    """
    if not any(name.endswith("ForSequenceClassification") for name in getattr(config, "architectures", None) or ()):
        return None
    numbers = config.problem_type == Regression.written or (config.problem_type is None and config.num_labels == 1)
    if numbers and config.num_labels > 1:
        raise ConfigurationError(
            f"--pre_trained_model: it predicts {config.num_labels} numbers a row; a single one can be predicted here."
        )
    known: dict[str | None, ProblemType] = {MultiLabel.written: "multi_label", SingleLabel.written: "single_label"}
    return "regression" if numbers else known.get(config.problem_type)
