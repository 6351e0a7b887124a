"""Details of question answering: calibration, the threshold of no answer, and wrong answers in their context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.metrics.calibration import reliability
from transformers_framework.metrics.thresholds import precision_recall
from transformers_framework.objectives.answers import answer_texts
from transformers_framework.objectives.details.predicted import number
from transformers_framework.objectives.details.stage_details import (
    Highest,
    Mistakes,
    StageDetails,
    Strong,
    Table,
    shown_id,
    texts_of,
)
from transformers_framework.processing.answers import PERCENT, all_scores, best_threshold
from transformers_framework.sources.fields import as_text

if TYPE_CHECKING:
    from transformers_framework.objectives.details.predicted import Predicted, Row

PREDICTED = ("prediction", "score", "n_best", "null_score")
NO_ANSWER = "(no answer)"
AROUND = 80  # characters that are shown before and after an answer


def reading_details(
    context_column: str,
    answers_columns: Sequence[str],
    predicted: Predicted,
    num_mistakes: int,
    *,
    with_unanswerable: bool,
    threshold: float,
) -> StageDetails:
    """Return calibration by exact match, thresholds where questions may have no answer, and wrong answers.

    Args:
        context_column: Column of the context.
        answers_columns: Columns of gold answers, and of their spans.
        predicted: Predictions of all questions.
        num_mistakes: Number of questions to list.
        with_unanswerable: Some questions have no answer.
        threshold: Of the score of no answer minus the score of the best answer.
    """
    column = answers_columns[0]
    bins, worst, start = reliability([], []), Highest(num_mistakes, width=2), 0
    parts: list[np.ndarray] = []
    for rows in predicted.chunks():
        golds, answers = [answer_texts(row[column]) for row in rows], [row["prediction"] for row in rows]
        probabilities = np.array([_probability(row) for row in rows])
        scores = all_scores(answers, golds, with_unanswerable=with_unanswerable)
        bins = bins + reliability(probabilities, scores[:, 0] == 1)
        wrong = np.flatnonzero(scores[:, 0] < 1)
        # entries are integers: F1 in millionths
        f1 = np.round(scores[wrong, 1] * 1e6).astype(np.int64)
        worst.add(np.nan_to_num(probabilities[wrong]) * (1 - scores[wrong, 1]), start + wrong, f1)
        if with_unanswerable:
            best = [next((found["text"] for found in row["n_best"] if found["text"]), "") for row in rows]
            answered = all_scores(best, golds, with_unanswerable=True)[:, 1]
            empty = all_scores([""] * len(rows), golds, with_unanswerable=True)[:, 1]
            differences = [null_difference(row) for row in rows]
            parts.append(np.stack([differences, answered, empty, [not texts for texts in golds]]))
        start += len(rows)
    values: dict[str, Any] = {"calibration": bins.values()}
    figures: dict[str, Any] = {"reliability": bins} if bins.counts.any() else {}
    if parts:
        odds, answered, empty, has_none = np.concatenate(parts, axis=1)
        best_one = best_threshold(odds, answered, empty)
        f1_there = float(np.where(odds > best_one, empty, answered).mean()) * PERCENT
        values["null_threshold"] = {"used": threshold, "best": best_one, "f1_at_best": f1_there}
        score = "score of no answer minus score of the best answer"
        if (curve := precision_recall(odds, has_none == 1, score=score, used=threshold)) is not None:
            figures["precision_recall"] = curve
    message = f"{worst.total:,} of {start:,} questions have no exact match"
    order = "Sorted by the probability of the answer, times 1 − F1."
    tables = _tables(context_column, answers_columns, worst, predicted) if num_mistakes else []
    return StageDetails(values, figures, Mistakes(message, order, tables) if num_mistakes else None)


def null_difference(row: Row) -> float:
    """Return the score of no answer minus the score of the best answer of a question.

    Examples:
        >>> null_difference({"null_score": 2.0, "n_best": [{"text": "", "score": 2.0}, {"text": "a", "score": 0.5}]})
        1.5
    """
    scores = [found["score"] for found in row["n_best"] if found["text"]]
    return number(row["null_score"]) - max(scores) if scores else float(np.finfo(np.float32).max)


def excerpt(text: str, spans: Sequence[tuple[int, int]], around: int = AROUND) -> list[str]:
    """Return the parts of a text around some spans; the first span is emphasized, and gaps are marked.

    Args:
        text: The text.
        spans: First character and the one after the last of each span.
        around: Characters before and after a span.

    Examples:
        >>> excerpt("one two three four five", [(4, 7)], around=4)
        ['one ', 'two', ' thr', ' …']
    """
    start, end = spans[0]
    pieces = [(max(0, first - around), min(len(text), last + around)) for first, last in sorted(spans)]
    merged = [pieces[0]]
    for first, last in pieces[1:]:
        if first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    parts: list[str] = ["… "] if merged[0][0] else []
    for place, (first, last) in enumerate(merged):
        parts += [" … "] if place else []
        parts += (
            [text[first:start], Strong(text[start:end]), text[end:last]]
            if first <= start <= last
            else [text[first:last]]
        )
    return [*filter(None, parts), *([" …"] if merged[-1][1] < len(text) else [])]


def _probability(row: Row) -> float:
    """Return the probability of the predicted answer; nan if it is not among the best."""
    answer = row["prediction"]
    return next((number(found["probability"]) for found in row["n_best"] if found["text"] == answer), float("nan"))


def _tables(context_column: str, answers_columns: Sequence[str], worst: Highest, predicted: Predicted) -> list[Table]:
    known = (*PREDICTED, *answers_columns, context_column, "id", "title")
    lines, names = [], []
    for _, row, (_, score) in worst.with_rows(predicted):
        golds, answer, context = answer_texts(row[answers_columns[0]]), row["prediction"], as_text(row[context_column])
        texts = texts_of(row, known)
        names += [name for name in texts if name not in names]
        found = [text for text in (*golds[:1], answer) if text]
        starts = [context.find(text) for text in found]
        spans = [(at, at + len(text)) for at, text in zip(starts, found, strict=True) if at >= 0] or [(0, 0)]
        shown = " · ".join(dict.fromkeys(golds)) or NO_ANSWER
        marks = excerpt(context, spans)
        cells = (shown, Strong(answer or NO_ANSWER), f"{_probability(row):.3f}", f"{score / 1e4:.1f}", marks)
        lines.append((shown_id(row), texts, cells))
    columns = ("row", *names, "answers", "predicted", "probability", "F1", context_column)
    rows = [(key, *(texts.get(name, "") for name in names), *cells) for key, texts, cells in lines]
    return [Table(columns, rows)] if rows else []
