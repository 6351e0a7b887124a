"""Label types with classes: single label and multi-label; numbers are in ``regression``."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from transformers_framework.constants import IGNORE_INDEX, TRAIN, Stage
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.losses.classification import binary_cross_entropy, cross_entropy
from transformers_framework.objectives.labels import LabelEncoder, listed
from transformers_framework.objectives.objective import Evaluation
from transformers_framework.sources.columns import DatasetSource, arrow_chunks, item_feature, null_rows, type_name

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from torchmetrics import Metric

    from transformers_framework.objectives.details.predicted import Predicted
    from transformers_framework.objectives.details.stage_details import StageDetails
    from transformers_framework.objectives.teacher import Teacher

ProblemType = Literal["single_label", "multi_label", "regression"]

THRESHOLD = 0.5  # classes with a higher probability are predicted
WHERE_ONES_ARE = "Convert vectors of zeros and ones to the indices of the ones: [0, 1, 1] to [1, 2]."
NUM_LIKELIEST = 10  # number of classes with scores in a prediction if there are many classes

logger = logging.getLogger(__name__)


class LabelType(ABC):
    """Type of the labels of a column: how they are encoded, and their loss, metrics and predictions."""

    written: ClassVar[str]  # problem_type in configs of transformers
    main_metric: ClassVar[str]  # by which the best state is selected by default

    @property
    @abstractmethod
    def head_config(self) -> dict[str, Any]:
        """Return the settings of the head's config."""

    @property
    def is_ready(self) -> bool:
        """Return whether all that head and metrics need is known from the data."""
        return True

    def fix_outputs(self) -> None:  # noqa: B027
        """Take the outputs of the checkpoint, if there are no data sets with labels."""

    @abstractmethod
    def inspect(self, dataset: Dataset, source: DatasetSource) -> None:
        """Check all labels of a data set; the first data set determines the outputs of the head.

        Raises:
            DataError: When a label is missing or invalid, with its place.
        """

    @abstractmethod
    def labels(self, values: Sequence[Any], stage: Stage | None = None) -> np.ndarray:
        """Return the labels of B rows of a stage as integers, -100 where there is none: ``(B,)`` or ``(B, C)``.

        Raises:
            DataError: When one is invalid: of a stream, only the first rows were checked before training.
        """

    @abstractmethod
    def num_items(self, labels: np.ndarray) -> float:
        """Return the loss denominator."""

    @abstractmethod
    def evaluate(self, logits: Tensor, labels: Tensor) -> Evaluation:
        """Return the sum of the losses and the inputs of each metric."""

    def teacher_loss(self, teacher: Teacher, logits: Tensor, labels: Tensor, probabilities: Tensor) -> Tensor:
        """Return the sum of the losses of a teacher's probabilities of classes ``(B, C)``, with the same denominator.

        Rows without label have none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no classes")

    @abstractmethod
    def metrics(self) -> dict[str, Metric]:
        """Return the metrics."""

    @abstractmethod
    def predictions(self, logits: Tensor) -> dict[str, Tensor]:
        """Return the predictions of each row."""

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Convert the predictions of one row to the values that are written."""
        return predictions

    @abstractmethod
    def details(self, predicted: Predicted, num_mistakes: int) -> StageDetails:
        """Return the details of the test stage, see ``Details`` of the capabilities of objectives."""

    @abstractmethod
    def describe(self, label: np.ndarray) -> str:
        """Return a text with the label of a row."""

    def distribution(self, dataset: Dataset, stage: Stage) -> list[str]:
        """Return lines about how often the labels of a data set occur, for ``--check``; by default none."""
        return []


class ClassLabelType(LabelType):
    """Labels that are classes.

    Args:
        classes: Label encoder, which determines the classes from the first data set.
        label_weights: Weight of each class in the loss, one per class.
        label_smoothing: Share of each label that is distributed equally over all classes.
    """

    def __init__(
        self, classes: LabelEncoder, label_weights: Sequence[float] | None = None, label_smoothing: float = 0.0
    ) -> None:
        if classes.num_labels == 1:
            raise ConfigurationError(
                "--num_labels 1: classification needs at least 2 classes. Give 2 or more; for labels that are numbers, "
                "use --pipeline seq_class --problem_type regression."
            )
        if label_weights is not None and not any(label_weights):
            raise ConfigurationError("--label_weights: all are 0, so nothing would be learned. Give one above 0.")
        self.classes, self.label_weights, self.label_smoothing = classes, label_weights, label_smoothing

    @property
    def head_config(self) -> dict[str, Any]:
        """Return the number of classes and their names."""
        names = self.classes.display_names
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: number for number, name in enumerate(names)},
            "problem_type": self.written,
        }

    @property
    def is_ready(self) -> bool:
        """Return whether the number of classes is known."""
        return self.classes.num_labels is not None

    def fix_outputs(self) -> None:
        """Take the checkpoint's classes."""
        self.classes.fix_classes(trains=False)

    def inspect(self, dataset: Dataset, source: DatasetSource) -> None:
        """Determine the classes and check every label.

        Raises:
            ConfigurationError: When the number of weights is not the number of classes.
            DataError: When a label is missing or invalid, with its place.
        """
        self.classes.inspect(dataset, source)
        if not self.is_ready:  # no label is valid
            return
        count = self.classes.count
        if self.label_weights is not None and len(self.label_weights) != count:
            raise ConfigurationError(
                f"--label_weights: {len(self.label_weights)} weights for {count} classes "
                f"({listed(self.classes.display_names)}). Give one per class, in this order."
            )
        if self._are_many and source.stage == TRAIN:
            logger.info(
                "%s has %s classes: F1 is logged without the values of single classes, and predictions have the scores "
                "of the %d most likely ones.",
                self.classes.column, f"{count:,}", NUM_LIKELIEST,
            )  # fmt: skip

    def distribution(self, dataset: Dataset, stage: Stage) -> list[str]:
        """Return a line with the number of labels of each class."""
        from transformers_framework.objectives.label_counts import shown_counts

        return [shown_counts(self.classes, dataset, stage)]

    @property
    def _are_many(self) -> bool:
        from transformers_framework.metrics.classification import MAX_NAMED_CLASSES

        return self.classes.count > MAX_NAMED_CLASSES

    def weights_on(self, logits: Tensor) -> Tensor | None:
        """Return the weight of each class on the device of logits ``(C,) float32``; None without ``label_weights``."""
        import torch

        if self.label_weights is None:
            return None
        return torch.tensor(self.label_weights, dtype=torch.float32).to(logits.device, non_blocking=True)

    def likeliest(self, scores: Tensor, count: int = NUM_LIKELIEST) -> dict[str, Tensor]:
        """Return ``scores`` of classes from the probabilities ``(B, C)``; if there are many classes, the highest only.

        These are in descending order, and ``classes (B, k) int64`` are the numbers of their classes.
        """
        if not self._are_many:
            return {"scores": scores}
        best = scores.topk(min(count, scores.shape[-1]), dim=-1)
        return {"scores": best.values, "classes": best.indices}

    def named(self, predictions: dict[str, Any]) -> dict[str, float]:
        """Return the scores of a row, keyed by class name."""
        names = self.classes.display_names
        if "classes" not in predictions:
            return dict(zip(names, predictions["scores"], strict=True))
        pairs = zip(predictions.pop("classes"), predictions["scores"], strict=True)
        return {names[number]: score for number, score in pairs if number >= 0}


class SingleLabel(ClassLabelType):
    """One class per row, trained with cross-entropy."""

    written = "single_label_classification"
    main_metric = "accuracy"

    def labels(self, values: Sequence[Any], stage: Stage | None = None) -> np.ndarray:
        """Return the number of each row's class: ``(B,) int64``."""
        return self.classes.numbers(values, stage)

    def num_items(self, labels: np.ndarray) -> float:
        """Return the sum of the weights of the rows that have a label."""
        known = labels[labels != IGNORE_INDEX]
        return float(len(known) if self.label_weights is None else np.take(self.label_weights, known).sum())

    def evaluate(self, logits: Tensor, labels: Tensor) -> Evaluation:
        """Return the cross-entropy, and the predicted classes and the labels."""
        loss = cross_entropy(logits, labels, self.weights_on(logits), self.label_smoothing)
        return Evaluation(loss, {"classes": {"preds": logits.detach().argmax(dim=-1), "target": labels}})

    def teacher_loss(self, teacher: Teacher, logits: Tensor, labels: Tensor, probabilities: Tensor) -> Tensor:
        """Return the sum of the losses of rows, each with the weight of its label."""
        return (teacher.loss_of_classes(logits, probabilities) * self.weights_of(labels)).sum()

    def weights_of(self, labels: Tensor) -> Tensor:
        """Return the weight of each row in the loss denominator, 0 without a label ``(B,) float32``."""
        known, weights = labels >= 0, self.weights_on(labels)
        return known.float() if weights is None else weights[labels.clamp(min=0)] * known

    def metrics(self) -> dict[str, Metric]:
        """Return accuracy and F1."""
        from transformers_framework.metrics.classification import ClassificationMetrics

        return {"classes": ClassificationMetrics(self.classes.count, class_names=self.classes.display_names)}

    def predictions(self, logits: Tensor) -> dict[str, Tensor]:
        """Return the probability of every class (the highest only if there are many), and the most likely class."""
        scores = logits.float().softmax(dim=-1)
        return {**self.likeliest(scores), "prediction": scores.argmax(dim=-1)}

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Replace class numbers by names, if there are names."""
        if self.classes.names:
            predictions["prediction"] = self.classes.names[predictions["prediction"]]
        if "classes" in predictions:
            predictions["scores"] = self.named(predictions)
        return predictions

    def details(self, predicted: Predicted, num_mistakes: int) -> StageDetails:
        """Return the confusion matrix, scores of classes, reliability, thresholds of two classes, and mistakes."""
        from transformers_framework.objectives.details.classes import single_label_details

        return single_label_details(self.classes, predicted, num_mistakes)

    def describe(self, label: np.ndarray) -> str:
        """Return a text with the class of a row."""
        return f"label {self.classes.display_names[label]}" if label >= 0 else "no label"


class MultiLabel(ClassLabelType):
    """Any number of classes per row, trained with a binary cross-entropy per class."""

    written = "multi_label_classification"
    main_metric = "micro_f1"

    def inspect(self, dataset: Dataset, source: DatasetSource) -> None:
        """Determine the classes and check every list of labels.

        Raises:
            ConfigurationError: When the number of weights is not the number of classes.
            DataError: When a list is null, or a label is invalid or repeated, with its place; or when no row of the
                training data has any label.
        """
        column = self.classes.column
        item = item_feature(dataset.features.get(column))
        if (kind := getattr(item, "dtype", "")).startswith(("float", "bool")):
            raise DataError(
                f"--label_column: '{column}' of {source.name} holds lists of {type_name(item)}; expected lists of "
                f"classes, whole numbers or names. {WHERE_ONES_ARE}"
            )
        super().inspect(dataset, source)
        source.refuse(
            null_rows(dataset, column),
            lambda at: f"'{column}' has no labels (null); expected a list, empty where the row has none.",
        )
        if not self.is_ready:
            return
        dataset, source = source.sound(dataset)
        start = num_labels = 0
        are_full, are_pairs, swapped = source.stage == TRAIN, "int" in kind, False
        for chunk in arrow_chunks(dataset, column):
            lists = chunk.to_pylist()
            labels, sizes = self._flat(lists, source.stage)
            rows, num_labels = np.repeat(np.arange(len(lists)), sizes), num_labels + len(labels)
            order = np.lexsort((labels, rows))
            twice = (np.diff(rows[order], prepend=-1) == 0) & (np.diff(labels[order], prepend=-1) == 0)
            if (wrong := np.flatnonzero(twice | (labels[order] < 0))).size:
                found, values = order[wrong], list(chain.from_iterable(values or () for values in lists))
                texts = [self._trouble(values[place], labels[place]) for place in found.tolist()]
                source.refuse(start + rows[found], texts.__getitem__)
            start += len(lists)
            are_full = are_full and bool((sizes == self.classes.count).all())
            are_pairs = are_pairs and bool((sizes == 2).all() and (labels < 2).all())
            swapped |= are_pairs and bool(labels[::2].any())
        if start and (are_full or (are_pairs and swapped)):
            raise DataError(
                f"--label_column: every row of {source.name} has all classes in '{column}', such as {lists[0]}, so "
                f"there is nothing to learn. {WHERE_ONES_ARE} For two classes, write one number per row."
            )
        if source.stage == TRAIN and not num_labels:
            raise DataError(f"--label_column: no row of {source.name} has any label in '{column}'. Check the column.")

    def _trouble(self, value: Any, label: int) -> str:
        expected = "; expected classes only, and an empty list where the row has none"
        if label >= 0:
            expected = f" twice; expected each class once. {WHERE_ONES_ARE}"
        return f"'{self.classes.column}' has the label {value!r}{expected}."

    def _flat(self, lists: Sequence[Sequence[Any] | None], stage: Stage | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the concatenated class numbers of B rows, and how many each row has: both int64."""
        sizes = np.array([len(values or ()) for values in lists], dtype=np.int64)
        return self.classes.numbers(list(chain.from_iterable(values or () for values in lists)), stage), sizes

    def labels(self, values: Sequence[Any], stage: Stage | None = None) -> np.ndarray:
        """Return whether each row has each class: ``(B, C) int8``."""
        labels, sizes = self._flat(values, stage)
        if (labels < 0).any():
            raise DataError(
                f"'{self.classes.column}' has a list with a missing class, in a row that was not checked before "
                "training. Correct the row or remove it."
            )
        found = np.zeros((len(values), self.classes.count), dtype=np.int8)
        found[np.repeat(np.arange(len(values)), sizes), labels] = 1
        found[[value is None for value in values]] = IGNORE_INDEX
        return found

    def num_items(self, labels: np.ndarray) -> float:
        """Return the number of labels of all classes, regardless of weights, as the mean of torch and transformers."""
        return float(np.count_nonzero(labels != IGNORE_INDEX))

    def evaluate(self, logits: Tensor, labels: Tensor) -> Evaluation:
        """Return the binary cross-entropy, and the predicted classes and the labels."""
        loss = binary_cross_entropy(logits, labels, self.weights_on(logits), self.label_smoothing)
        preds = logits.detach().float().sigmoid() > THRESHOLD
        return Evaluation(loss, {"classes": {"preds": preds, "target": labels}})

    def teacher_loss(self, teacher: Teacher, logits: Tensor, labels: Tensor, probabilities: Tensor) -> Tensor:
        """Return the sum of the losses of all classes of rows."""
        return teacher.loss_of_each_class(logits, probabilities).masked_fill(labels < 0, 0).sum()

    def metrics(self) -> dict[str, Metric]:
        """Return subset accuracy, macro and micro F1."""
        from transformers_framework.metrics.classification import MultiLabelMetrics

        return {"classes": MultiLabelMetrics(self.classes.count, class_names=self.classes.display_names)}

    def predictions(self, logits: Tensor) -> dict[str, Tensor]:
        """Return the probability of every class; if there are many, of the highest and of all predicted ones."""
        scores = logits.float().sigmoid()
        most = int((scores > THRESHOLD).sum(dim=-1).max()) if self._are_many else 0
        return self.likeliest(scores, max(most, NUM_LIKELIEST))

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Return the names of the predicted classes, and the probabilities keyed by class name."""
        numbers = predictions.get("classes", range(self.classes.count))
        names = self.classes.names or range(self.classes.count)
        likely = [names[n] for n, score in zip(numbers, predictions["scores"], strict=True) if score > THRESHOLD]
        return {"prediction": likely, "scores": self.named(predictions)}

    def details(self, predicted: Predicted, num_mistakes: int) -> StageDetails:
        """Return scores of classes, thresholds over all classes, reliability, and mistakes."""
        from transformers_framework.objectives.details.classes import multi_label_details

        return multi_label_details(self.classes, predicted, num_mistakes)

    def describe(self, label: np.ndarray) -> str:
        """Return a text with the classes of a row."""
        names = [self.classes.display_names[number] for number in np.flatnonzero(label > 0)]
        return f"labels {listed(names)}" if names else "none of the classes"
