"""Accuracy and F1 of a whole data set, single label or multi-label, from three exact counters per class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

MAX_NAMED_CLASSES = 50


def class_f1(
    true_positives: NDArray, predicted: NDArray, actual: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the F1 of each class, (..., C) float64, 0 for absent classes, and its mean over the classes that occur.

    Examples:
        >>> f1, mean = class_f1(np.array([2, 1, 0]), np.array([3, 1, 0]), np.array([2, 2, 0]))
        >>> f1.round(3).tolist(), round(float(mean), 3)
        ([0.8, 0.667, 0.0], 0.733)
    """
    either = predicted + actual  # 2 TP + FP + FN
    f1 = np.where(either > 0, 2 * true_positives / np.maximum(either, 1), 0.0)
    return f1, f1.sum(axis=-1) / np.maximum(np.count_nonzero(either, axis=-1), 1)


def classification_values(
    true_positives: NDArray, predicted: NDArray, actual: NDArray, *, class_names: Sequence[str] = ()
) -> dict[str, NDArray[np.float64]]:
    """Compute accuracy and F1 of any number of data sets from their counters, each (...) float64.

    Args:
        true_positives: Rows of each class that were predicted as it, (..., C).
        predicted: Rows predicted as each class, (..., C).
        actual: Rows of each class, (..., C).
        class_names: Names of the classes for ``f1_class_{name}``; none without names.

    Returns:
        The values of :func:`classification_metrics`.
    """
    f1, mean = class_f1(true_positives, predicted, actual)
    num_rows = actual.sum(axis=-1)
    values = {
        "accuracy": true_positives.sum(axis=-1) / np.maximum(num_rows, 1),
        "f1": f1[..., 1] if f1.shape[-1] == 2 else mean,
        **{f"f1_class_{name}": f1[..., number] for number, name in enumerate(class_names)},
    }
    return {name: np.where(num_rows > 0, value, np.nan) for name, value in values.items()}


def classification_metrics(
    true_positives: NDArray[np.int64],
    predicted: NDArray[np.int64],
    actual: NDArray[np.int64],
    *,
    class_names: Sequence[str] = (),
) -> dict[str, float]:
    """Compute accuracy and F1 from counters.

    Args:
        true_positives: Rows of each class that were predicted as it, (C,) int64.
        predicted: Rows predicted as each class, (C,) int64.
        actual: Rows of each class, (C,) int64.
        class_names: Names of the classes for ``f1_class_{name}``; none without names.

    Returns:
        ``accuracy``; ``f1``, of class 1 if there are two classes, else the mean over the classes that occur in labels
        or predictions; ``f1_class_{name}``, 0 for absent classes. All are nan without rows.

    Examples:
        >>> classification_metrics(np.array([2, 1]), np.array([3, 1]), np.array([2, 2]), class_names=["no", "yes"])
        {'accuracy': 0.75, 'f1': 0.6666666666666666, 'f1_class_no': 0.8, 'f1_class_yes': 0.6666666666666666}
    """
    values = classification_values(true_positives, predicted, actual, class_names=class_names)
    return {name: float(value) for name, value in values.items()}


def multi_label_values(
    true_positives: NDArray,
    predicted: NDArray,
    actual: NDArray,
    *,
    right_rows: NDArray,
    num_rows: NDArray,
    class_names: Sequence[str] = (),
) -> dict[str, NDArray[np.float64]]:
    """Compute metrics of rows with any number of classes, of any number of data sets, each (...) float64.

    Args:
        true_positives: Rows of each class that were predicted to have it, (..., C).
        predicted: Rows predicted to have each class, (..., C).
        actual: Rows that have each class, (..., C).
        right_rows: Number of rows whose predicted classes equal the labels, (...).
        num_rows: Number of rows, (...).
        class_names: Names of the classes for ``f1_class_{name}``; none without names.

    Returns:
        The values of :func:`multi_label_metrics`.
    """
    f1, mean = class_f1(true_positives, predicted, actual)
    values = {
        "accuracy": right_rows / np.maximum(num_rows, 1),
        "f1": mean,
        "micro_f1": 2 * true_positives.sum(axis=-1) / np.maximum((predicted + actual).sum(axis=-1), 1),
        **{f"f1_class_{name}": f1[..., number] for number, name in enumerate(class_names)},
    }
    return {name: np.where(num_rows > 0, value, np.nan) for name, value in values.items()}


def multi_label_metrics(
    true_positives: NDArray[np.int64],
    predicted: NDArray[np.int64],
    actual: NDArray[np.int64],
    *,
    right_rows: int,
    num_rows: int,
    class_names: Sequence[str] = (),
) -> dict[str, float]:
    """Compute metrics of rows with any number of classes from counters.

    Args:
        true_positives: Rows of each class that were predicted to have it, (C,) int64.
        predicted: Rows predicted to have each class, (C,) int64.
        actual: Rows that have each class, (C,) int64.
        right_rows: Number of rows whose predicted classes equal the labels.
        num_rows: Number of rows.
        class_names: Names of the classes for ``f1_class_{name}``; none without names.

    Returns:
        ``accuracy``, the share of rows with exactly the right classes (subset accuracy); ``f1``, the mean over the
        classes that occur in labels or predictions (macro F1); ``micro_f1``, from the summed counts of all classes;
        ``f1_class_{name}``, 0 for absent classes. All are nan without rows.

    Examples:
        >>> counts = np.array([2, 1]), np.array([3, 1]), np.array([2, 2])
        >>> found = multi_label_metrics(*counts, right_rows=2, num_rows=4, class_names=["new", "old"])
        >>> {name: round(value, 3) for name, value in found.items()}
        {'accuracy': 0.5, 'f1': 0.733, 'micro_f1': 0.75, 'f1_class_new': 0.8, 'f1_class_old': 0.667}
    """
    rows = {"right_rows": np.asarray(right_rows), "num_rows": np.asarray(num_rows)}
    values = multi_label_values(true_positives, predicted, actual, **rows, class_names=class_names)
    return {name: float(value) for name, value in values.items()}


class ClassificationMetrics(Metric):
    """Accuracy and F1 over all rows, see :func:`classification_metrics`.

    torchmetrics' own ``MulticlassStatScores`` takes 92 µs for 32 rows of 2 classes and fills a matrix of classes by
    classes at each update; this takes 42 µs and memory linear in the number of classes, and never makes a GPU wait.

    Args:
        num_classes: Number of classes C.
        class_names: Their names, in order; numbers when absent, an empty list for no F1 of single classes. More than 50
            classes are not reported one by one.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    counts: Tensor

    def __init__(self, num_classes: int, *, class_names: Sequence[str] | None = None) -> None:
        super().__init__()
        self.num_classes, self.class_names = num_classes, _reported(num_classes, class_names)
        # true positives, predicted, actual; the last column takes what is ignored
        self.add_state("counts", torch.zeros(3, num_classes + 1, dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def names(self) -> list[str]:
        """Names of the values that :meth:`compute` returns."""
        return ["accuracy", "f1", *(f"f1_class_{name}" for name in self.class_names)]

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            preds: Predicted classes, (N,) integers, or their logits, (N, C) floats.
            target: Classes, (N,) int64; negative ones are ignored.
        """
        preds = preds.argmax(dim=-1) if preds.ndim > target.ndim else preds
        kept = target >= 0
        ignored = self.num_classes
        index = torch.stack(
            [
                torch.where(kept & (preds == target), target, ignored),
                torch.where(kept, preds, ignored),
                torch.where(kept, target, ignored),
            ]
        )
        # a new tensor, since one made under inference mode cannot be changed outside of it
        self.counts = self.counts.scatter_add(1, index, torch.ones_like(index))

    def compute(self) -> dict[str, float]:
        """Return the metrics of all rows that were counted."""
        true_positives, predicted, actual = self.counts[:, : self.num_classes].cpu().numpy()
        return classification_metrics(true_positives, predicted, actual, class_names=self.class_names)


class MultiLabelMetrics(Metric):
    """Accuracy and F1 over all rows, each of any number of classes; see :func:`multi_label_metrics`.

    Args:
        num_classes: Number of classes C.
        class_names: Their names, as in :class:`ClassificationMetrics`.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    counts: Tensor
    rows: Tensor

    def __init__(self, num_classes: int, *, class_names: Sequence[str] | None = None) -> None:
        super().__init__()
        self.class_names = _reported(num_classes, class_names)
        # true positives, predicted, actual
        self.add_state("counts", torch.zeros(3, num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")  # those right, all

    @property
    def names(self) -> list[str]:
        """Names of the values that :meth:`compute` returns."""
        return ["accuracy", "f1", "micro_f1", *(f"f1_class_{name}" for name in self.class_names)]

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            preds: Whether each row is predicted to have each class, (N, C) bool.
            target: 1 for a class that the row has, else 0, (N, C) integers; rows of negative ones are ignored.
        """
        kept = (target >= 0).all(dim=-1)
        found, wanted = preds & kept[:, None], target > 0
        counts = [(found & wanted).sum(dim=0), found.sum(dim=0), wanted.sum(dim=0)]
        right = kept & (found == wanted).all(dim=-1)
        # new tensors, since those made under inference mode cannot be changed outside of it
        self.counts = self.counts + torch.stack(counts)
        self.rows = self.rows + torch.stack([right.sum(), kept.sum()])

    def compute(self) -> dict[str, float]:
        """Return the metrics of all rows that were counted."""
        right_rows, num_rows = self.rows.tolist()
        counts = self.counts.cpu().numpy()
        return multi_label_metrics(*counts, right_rows=right_rows, num_rows=num_rows, class_names=self.class_names)


def _reported(num_classes: int, class_names: Sequence[str] | None) -> list[str]:
    """Return the names of the classes that are reported one by one."""
    names = [str(number) for number in range(num_classes)] if class_names is None else list(class_names)
    assert len(names) in (0, num_classes)
    return names if num_classes <= MAX_NAMED_CLASSES else []
