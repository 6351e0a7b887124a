"""Confusion matrices, counted in chunks, and precision, recall, F1 and support of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_WRITTEN = 50  # classes; with more, only the most frequent confusions are written to results.json
SUMMARIES = ("macro avg", "weighted avg")


@dataclass(frozen=True)
class Confusion:
    """Counts of pairs of label and prediction; only pairs that occur are stored.

    Args:
        class_names: Names of the C classes.
        labels: Class of each pair ``(P,) int64``.
        preds: Predicted class of each pair ``(P,) int64``.
        counts: How often each pair occurs ``(P,) int64``.
        unit: Unit of the counts: rows or words.
    """

    class_names: Sequence[str]
    labels: NDArray[np.int64]
    preds: NDArray[np.int64]
    counts: NDArray[np.int64]
    unit: str = "rows"

    @property
    def total(self) -> int:
        """Number of predictions."""
        return int(self.counts.sum())

    def scores(self) -> dict[str, dict[str, float]]:
        """Return precision, recall, F1 and support of each class that occurs, and their means.

        ``macro avg`` is the mean over these classes, ``weighted avg`` is weighted by support.

        Examples:
            >>> counted = count_pairs(["cat", "dog"], [0, 0, 1], [0, 1, 1])
            >>> counted.scores()["dog"]
            {'precision': 0.5, 'recall': 1.0, 'f1': 0.6666666666666666, 'support': 1}
        """
        size = len(self.class_names)
        hits = self.labels == self.preds
        right = np.bincount(self.labels[hits], self.counts[hits], minlength=size)
        predicted = np.bincount(self.preds, self.counts, minlength=size)
        actual = np.bincount(self.labels, self.counts, minlength=size)
        present = np.flatnonzero(predicted + actual)
        names = [self.class_names[number] for number in present.tolist()]
        return with_means(names, right[present], predicted[present], actual[present])

    def matrix(self, most: int = MOST_WRITTEN) -> tuple[list[str], NDArray[np.int64]]:
        """Return the confusion matrix of the most frequent classes: their names, and counts ``(M, M) int64``.

        Rows are labels, columns are predictions. Classes stay in their order. If there are more than ``most``, the last
        row and column, without a name in the classes, are all others together.

        Examples:
            >>> counted = count_pairs(["a", "b", "c", "d"], [0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 1, 3])
            >>> counted.matrix(most=3)
            (['a', 'b', '2 others'], array([[1, 1, 0],
                   [0, 3, 0],
                   [0, 0, 1]]))
        """
        size = len(self.class_names)
        place = np.arange(size)
        names = list(self.class_names)
        if size > most:
            frequency = sum(np.bincount(part, self.counts, minlength=size) for part in (self.labels, self.preds))
            shown = np.sort(np.argsort(-np.asarray(frequency), kind="stable")[: most - 1])
            place = np.full(size, most - 1)
            place[shown] = np.arange(most - 1)
            names = [*(names[number] for number in shown.tolist()), f"{size - most + 1} others"]
        counts = np.zeros((len(names), len(names)), dtype=np.int64)
        np.add.at(counts, (place[self.labels], place[self.preds]), self.counts)
        return names, counts

    def confused(self, most: int = MOST_WRITTEN) -> list[dict[str, object]]:
        """Return the most frequent pairs of a class and another one that was predicted, the most frequent first."""
        wrong = np.flatnonzero(self.labels != self.preds)
        wrong = wrong[np.argsort(-self.counts[wrong], kind="stable")][:most]
        triples = zip(*(part[wrong].tolist() for part in (self.labels, self.preds, self.counts)), strict=True)
        names = self.class_names
        return [{"label": names[label], "prediction": names[pred], "count": count} for label, pred, count in triples]

    def values(self) -> dict[str, object]:
        """Return scores of classes and the matrix for results.json; of many classes only the frequent confusions."""
        found: dict[str, object] = {"classes": self.scores()}
        if len(self.class_names) > MOST_WRITTEN:
            return found | {"confusions": self.confused()}
        return found | {"confusion": {"classes": list(self.class_names), "counts": self.matrix()[1].tolist()}}


class PairCounter:
    """Counts pairs of label and prediction in chunks; memory grows with the number of different pairs only.

    Args:
        class_names: Names of the classes.
        unit: Unit of the counts: rows or words.
    """

    def __init__(self, class_names: Sequence[str], unit: str = "rows") -> None:
        self.class_names, self.unit = list(class_names), unit
        self._codes, self._counts = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def add(self, labels: ArrayLike, preds: ArrayLike) -> None:
        """Count N predictions; those with a negative label or prediction are left out.

        Args:
            labels: Classes ``(N,) int64``.
            preds: Predicted classes ``(N,) int64``.
        """
        wanted, found = np.asarray(labels, dtype=np.int64), np.asarray(preds, dtype=np.int64)
        kept = (wanted >= 0) & (found >= 0)
        codes, counts = np.unique(wanted[kept] * len(self.class_names) + found[kept], return_counts=True)
        self._codes, places = np.unique(np.concatenate([self._codes, codes]), return_inverse=True)
        weights = np.concatenate([self._counts, counts])
        self._counts = np.bincount(places, weights, minlength=len(self._codes)).astype(np.int64)

    def confusion(self) -> Confusion:
        """Return the counts."""
        labels, preds = np.divmod(self._codes, len(self.class_names))
        return Confusion(self.class_names, labels, preds, self._counts, self.unit)


def count_pairs(class_names: Sequence[str], labels: ArrayLike, preds: ArrayLike, unit: str = "rows") -> Confusion:
    """Return the counts of N predictions; see :meth:`PairCounter.add`."""
    counter = PairCounter(class_names, unit)
    counter.add(labels, preds)
    return counter.confusion()


def class_scores(right: float, predicted: float, actual: float) -> dict[str, float]:
    """Return precision, recall, F1 and support from counts; 0 where a denominator is 0."""
    return {
        "precision": float(right / max(1, predicted)),
        "recall": float(right / max(1, actual)),
        "f1": float(2 * right / max(1, predicted + actual)),
        "support": int(actual),
    }


def with_means(
    names: Sequence[str], right: ArrayLike, predicted: ArrayLike, actual: ArrayLike
) -> dict[str, dict[str, float]]:
    """Return the scores of each class by name, and ``macro avg`` and ``weighted avg`` of them.

    Args:
        names: Names of C classes.
        right: Number of right predictions of each ``(C,)``.
        predicted: Number of predictions ``(C,)``.
        actual: Number of labels ``(C,)``.
    """
    columns = zip(np.asarray(right), np.asarray(predicted), np.asarray(actual), strict=True)
    found = {name: class_scores(*counts) for name, counts in zip(names, columns, strict=True)}
    if not found:
        return {}
    values = np.array([[scores["precision"], scores["recall"], scores["f1"]] for scores in found.values()])
    support = np.array([scores["support"] for scores in found.values()])
    weights = (np.ones(len(values)), support if support.sum() else np.ones(len(values)))
    for name, weight in zip(SUMMARIES, weights, strict=True):
        precision, recall, f1 = np.average(values, axis=0, weights=weight).tolist()
        found[name] = {"precision": precision, "recall": recall, "f1": f1, "support": int(support.sum())}
    return found
