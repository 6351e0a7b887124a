"""Details of sequence classification: one class per row, several classes, or a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.metrics.calibration import NUM_BINS, reliability
from transformers_framework.metrics.classification import MAX_NAMED_CLASSES
from transformers_framework.metrics.confusion import PairCounter, with_means
from transformers_framework.metrics.thresholds import precision_recall
from transformers_framework.objectives.details.collapse import one_class, one_score
from transformers_framework.objectives.details.predicted import number
from transformers_framework.objectives.details.stage_details import (
    Highest,
    StageDetails,
    Strong,
    listed_mistakes,
    shown_id,
    texts_of,
)

if TYPE_CHECKING:
    from transformers_framework.objectives.details.predicted import Predicted, Row
    from transformers_framework.objectives.labels import LabelEncoder

PREDICTED = ("prediction", "scores")
POSITIVE, NUM_BINARY = 1, 2


def single_label_details(classes: LabelEncoder, predicted: Predicted, num_mistakes: int) -> StageDetails:
    """Return the confusion matrix, scores of classes, reliability, thresholds of two classes, and mistakes.

    Args:
        classes: Label encoder of the label column.
        predicted: Predictions of all rows.
        num_mistakes: Number of mistakes to list.
    """
    names, column, number_of = classes.display_names, classes.column, classes.number_of_prediction
    counter, bins, worst = PairCounter(names), reliability([], []), Highest(num_mistakes, width=3)
    of_positive: list[np.ndarray] = []
    start, is_binary = 0, len(names) == NUM_BINARY
    for rows in predicted.chunks():
        labels = classes.numbers([row[column] for row in rows], "test")
        preds = np.array([number_of[row["prediction"]] for row in rows])
        likely = np.array([_score(row, names, pred) for row, pred in zip(rows, preds.tolist(), strict=True)])
        known = labels >= 0
        counter.add(labels, preds)
        bins = bins + reliability(likely[known], (labels == preds)[known], NUM_BINS)
        wrong = np.flatnonzero(known & (labels != preds))
        worst.add(likely[wrong], start + wrong, labels[wrong], preds[wrong])
        if is_binary:
            scores = np.array([_score(row, names, POSITIVE) for row in rows])
            of_positive.append(np.stack([scores[known], labels[known]]))
        start += len(rows)
    confusion = counter.confusion()
    values: dict[str, Any] = {**confusion.values(), "calibration": bins.values()}
    figures: dict[str, Any] = {"confusion_matrix": confusion, "reliability": bins} if confusion.total else {}
    if is_binary and of_positive:
        scores, labels = np.concatenate(of_positive, axis=1)
        score = f"probability of {names[POSITIVE]}"
        if (curve := precision_recall(scores, labels == POSITIVE, score=score, used=0.5)) is not None:
            values["thresholds"] = curve.values()
            figures["precision_recall"] = curve
    listed = []
    for probability, row, (_, label, pred) in worst.with_rows(predicted):
        texts = texts_of(row, (*PREDICTED, column, "id"))
        listed.append((shown_id(row), names[label], Strong(names[pred]), f"{probability:.3f}", texts))
    found = f"{worst.total:,} of {confusion.total:,} rows have another label than predicted"
    order = "Sorted by the probability of the predicted class."
    columns = ("row", "label", "predicted", "probability")
    mistakes = listed_mistakes(found, order, columns, listed, num_mistakes)
    return StageDetails(values, figures, mistakes, one_class(confusion))


def multi_label_details(classes: LabelEncoder, predicted: Predicted, num_mistakes: int) -> StageDetails:
    """Return scores of classes, thresholds over all classes, reliability, and mistakes.

    Args:
        classes: Label encoder of the label column.
        predicted: Predictions of all rows.
        num_mistakes: Number of mistakes to list.
    """
    names, column, number_of = classes.display_names, classes.column, classes.number_of_prediction
    shape = (len(names),)
    right, found, actual = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    bins, worst = reliability([], [], of_positives=True), Highest(num_mistakes)
    has_all = len(names) <= MAX_NAMED_CLASSES  # with more, files of predictions have the scores of the likeliest only
    pairs: list[np.ndarray] = []
    start = num_rows = 0
    for rows in predicted.chunks():
        scores, wanted = np.zeros((len(rows), *shape)), np.zeros((len(rows), *shape), dtype=bool)
        preds = np.zeros_like(wanted)
        known = np.array([row[column] is not None for row in rows])
        for place, row in enumerate(rows):
            wanted[place, classes.numbers(row[column] or (), "test")] = True
            preds[place, [number_of[name] for name in row["prediction"]]] = True
            scores[place] = [number(row["scores"].get(name, 0)) for name in names]
        right += (preds & wanted)[known].sum(axis=0)
        found += preds[known].sum(axis=0)
        actual += wanted[known].sum(axis=0)
        surprise = np.where(preds != wanted, np.abs(scores - wanted), -1).max(axis=1)
        wrong = np.flatnonzero(known & (surprise >= 0))
        worst.add(surprise[wrong], start + wrong)
        if has_all:
            bins = bins + reliability(scores[known].ravel(), wanted[known].ravel(), of_positives=True)
            pairs.append(np.stack([scores[known].ravel(), wanted[known].ravel()]).astype(np.float32))
        start, num_rows = start + len(rows), num_rows + int(known.sum())
    values: dict[str, Any] = {"classes": with_means(names, right, found, actual)}
    figures: dict[str, Any] = {}
    if pairs:
        values["calibration"], figures["reliability"] = bins.values(), bins
        score = "probability, all classes together"
        if (curve := precision_recall(*np.concatenate(pairs, axis=1), score=score, used=0.5)) is not None:
            values["thresholds"], figures["precision_recall"] = curve.values(), curve
    listed = []
    for surprise, row, _ in worst.with_rows(predicted):
        labels = [names[label] for label in classes.numbers(row[column] or (), "test")]
        chosen = ", ".join(map(str, row["prediction"])) or "none"
        texts = texts_of(row, (*PREDICTED, column, "id"))
        listed.append((shown_id(row), ", ".join(labels) or "none", Strong(chosen), f"{surprise:.3f}", texts))
    message = f"{worst.total:,} of {num_rows:,} rows have other labels than predicted"
    order = "Sorted by the largest distance of a probability from its label, 1 or 0, among the wrong classes of a row."
    columns = ("row", "labels", "predicted", "distance")
    return StageDetails(values, figures, listed_mistakes(message, order, columns, listed, num_mistakes))


def regression_details(column: str, predicted: Predicted, num_mistakes: int) -> StageDetails:
    """Return the largest errors of predicted numbers, and percentiles of the errors.

    Args:
        column: The label column.
        predicted: Predictions of all rows.
        num_mistakes: Number of mistakes to list.
    """
    worst, start, errors = Highest(num_mistakes), 0, []
    lowest, highest = np.inf, -np.inf
    for rows in predicted.chunks():
        numbers = np.array([number(row["prediction"]) for row in rows])
        lowest, highest = min(lowest, float(numbers.min())), max(highest, float(numbers.max()))
        distance = np.abs(numbers - [number(row[column]) for row in rows])
        known = np.flatnonzero(np.isfinite(distance))
        worst.add(distance[known], start + known)
        errors.append(distance[known].astype(np.float32))
        start += len(rows)
    joined = np.concatenate(errors or [np.zeros(0, np.float32)])
    levels = (50, 90, 99)
    percentiles = np.percentile(joined, levels).tolist() if len(joined) else []
    values = {"absolute_error": {f"{level}th_percentile": p for level, p in zip(levels, percentiles, strict=False)}}
    listed = []
    for error, row, _ in worst.with_rows(predicted):
        texts = texts_of(row, ("prediction", column, "id"))
        shown = f"{number(row[column]):.4g}", Strong(f"{number(row['prediction']):.4g}"), f"{error:.4g}"
        listed.append((shown_id(row), *shown, texts))
    columns = ("row", "label", "predicted", "error")
    found = f"{worst.total:,} rows have a label"
    mistakes = listed_mistakes(found, "Sorted by absolute error.", columns, listed, num_mistakes)
    return StageDetails(values, {}, mistakes, one_score(lowest, highest, start, "rows"))


def _score(row: Row, names: Sequence[str], place: int) -> float:
    """Return the probability of a class; scores are a list, or keyed by class name where there are many classes."""
    scores = row["scores"]
    return number(scores[place] if isinstance(scores, list) else scores.get(names[place], 0.0))
