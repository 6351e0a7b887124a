"""Details of generated texts and of detected tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.metrics.calibration import reliability
from transformers_framework.metrics.thresholds import precision_recall
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
    from transformers_framework.objectives.details.predicted import Predicted

LEVELS = (10, 50, 90)  # percentiles
GRID = 10_000  # probabilities of tokens are written with four digits


def generation_details(columns: Sequence[str], shown: str, predicted: Predicted, num_mistakes: int) -> StageDetails:
    """Return percentiles of the scores of rows, and the rows with the lowest ones.

    Args:
        columns: Columns of scores of rows, such as ``rougeL_fmeasure``.
        shown: The one by which rows are sorted.
        predicted: Predictions of all rows.
        num_mistakes: Number of rows to list.
    """
    worst, start, parts = Highest(num_mistakes), 0, []
    sorted_by = list(columns).index(shown)
    for rows in predicted.chunks():
        scores = np.array([[number(row.get(name)) for name in columns] for row in rows], dtype=np.float32)
        worst.add(-scores[:, sorted_by], start + np.arange(len(rows)))
        parts.append(scores)
        start += len(rows)
    of_rows = np.concatenate(parts) if parts else np.zeros((0, len(columns)), np.float32)
    known = of_rows[np.isfinite(of_rows).all(axis=1)]
    found = np.percentile(known, LEVELS, axis=0).T.tolist() if len(known) else []
    names = [f"{level}th_percentile" for level in LEVELS]
    values = {name: dict(zip(names, numbers, strict=True)) for name, numbers in zip(columns, found, strict=False)}
    listed = []
    for score, row, _ in worst.with_rows(predicted):
        texts = texts_of(row, ("id", "prediction", "predictions"))
        listed.append((shown_id(row), f"{-score:.3f}", Strong(row["prediction"]), texts))
    message = (
        f"{start:,} rows have a mean {shown} of {float(known[:, sorted_by].mean()):.3f}"
        if len(known)
        else "No row has a score"
    )
    table = ("row", shown, "predicted")
    return StageDetails(values, {}, listed_mistakes(message, f"Sorted by {shown}.", table, listed, num_mistakes))


def detection_details(predicted: Predicted) -> StageDetails:
    """Return calibration, and precision and recall at every threshold, of tokens that are detected as replaced.

    Probabilities of files of predictions have four digits; tokens are counted by their probability.

    Args:
        predicted: Predictions of all rows.
    """
    counts = np.zeros((2, GRID + 1), dtype=np.int64)  # original and replaced tokens
    for rows in predicted.chunks():
        for row in rows:
            steps = np.round(np.array([number(score) for score in row["scores"]]) * GRID)
            replaced = np.zeros(len(steps), dtype=bool)
            replaced[row.get("replaced", [])] = True
            for label in (0, 1):
                at = steps[(replaced == label) & np.isfinite(steps)].astype(np.int64)
                counts[label] += np.bincount(at, minlength=GRID + 1)
    there = np.flatnonzero(counts.sum(axis=0))
    values: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    score = "probability that the token was replaced"
    curve = precision_recall(there / GRID, counts[1, there], counts[0, there], score=score, used=0.5)
    if curve is not None:
        values["thresholds"], figures["precision_recall"] = curve.values(), curve
    if len(there):
        bins = reliability(there / GRID, counts[1, there], weights=counts[:, there].sum(axis=0), of_positives=True)
        values["calibration"], figures["reliability"] = bins.values(), bins
    return StageDetails(values, figures)
