"""Details of token classification: scores of classes and of entity types, confusions, calibration and mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transformers_framework.metrics.calibration import reliability
from transformers_framework.metrics.confusion import PairCounter
from transformers_framework.metrics.entities import Entities, EntityTags
from transformers_framework.metrics.entity_types import EntityCounter
from transformers_framework.objectives.details.collapse import one_class
from transformers_framework.objectives.details.predicted import number
from transformers_framework.objectives.details.stage_details import (
    Highest,
    Mistakes,
    StageDetails,
    Strong,
    Table,
    shown_id,
)
from transformers_framework.sources.fields import as_text

if TYPE_CHECKING:
    from transformers_framework.objectives.details.predicted import Predicted, Row
    from transformers_framework.objectives.labels import LabelEncoder

AROUND = 12  # words that are shown before the first and after the last mistake of a row


class Words(NamedTuple):
    """The words with a label and a prediction of some rows; after the words of each row comes an entry of -1.

    Args:
        labels: Classes ``(N,) int64``.
        preds: Predicted classes ``(N,) int64``.
        scores: Probability of the predicted class ``(N,) float64``.
        row: Row of each entry, from 0 ``(N,) int64``.
        word: Place of each word in its row ``(N,) int64``.
    """

    labels: NDArray[np.int64]
    preds: NDArray[np.int64]
    scores: NDArray[np.float64]
    row: NDArray[np.int64]
    word: NDArray[np.int64]


class TaggedRows:
    """Reads labels and predictions of words from rows of a file of predictions.

    Args:
        classes: Label encoder of the label column.
        words: Column of words.
    """

    def __init__(self, classes: LabelEncoder, words: str) -> None:
        self.classes, self.words = classes, words
        self.names = classes.display_names
        self.place_of: Mapping[Any, int] = {None: -1, **classes.number_of_prediction}

    def read(self, rows: Sequence[Row]) -> Words:
        """Return the words of rows. Words without a label or without a prediction are left out."""
        column = self.classes.column
        sizes = [len(row["prediction"]) for row in rows]
        labels = self.classes.numbers(list(chain.from_iterable(row[column] or () for row in rows)), "test")
        preds = np.array([self.place_of[name] for row in rows for name in row["prediction"]], dtype=np.int64)
        scores = np.array([number(score) for row in rows for score in row["scores"]], dtype=np.float64)
        row = np.repeat(np.arange(len(rows)), sizes)
        word = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        kept = np.flatnonzero((labels >= 0) & (preds >= 0))
        ends = np.searchsorted(row[kept], np.arange(len(rows)), side="right")
        labels, preds, word = (np.insert(part[kept], ends, -1) for part in (labels, preds, word))
        return Words(
            labels, preds, np.insert(scores[kept], ends, -1), np.insert(row[kept], ends, np.arange(len(rows))), word
        )

    def texts(self, row: Row) -> list[str]:
        """Return the words of a row."""
        return [as_text(word) for word in row[self.words] or ()]


def word_details(
    classes: LabelEncoder, words: str, predicted: Predicted, num_mistakes: int, tags: EntityTags | None
) -> StageDetails:
    """Return scores of classes and entity types, the confusion matrix, reliability, and mistakes.

    Args:
        classes: Label encoder of the label column.
        words: Column of words.
        predicted: Predictions of all rows.
        num_mistakes: Number of rows, or words, with mistakes to list.
        tags: The classes, if they are entity tags: mistakes are entities then, otherwise words.
    """
    tagged = TaggedRows(classes, words)
    counter, bins = PairCounter(tagged.names, "words"), reliability([], [])
    entities, worst = EntityCounter(tags) if tags else None, Highest(num_mistakes, width=1 if tags else 2)
    start = num_missed = num_wrong = 0
    for rows in predicted.chunks():
        found = tagged.read(rows)
        counter.add(found.labels, found.preds)
        there = found.labels >= 0
        right = found.labels == found.preds
        bins = bins + reliability(found.scores[there], right[there])
        if tags is None or entities is None:
            wrong = np.flatnonzero(~right)
            worst.add(found.scores[wrong], start + found.row[wrong], found.word[wrong])
        else:
            wanted, predictions = tags.entities(found.labels), tags.entities(found.preds)
            entities.add(wanted, predictions)
            missed, wrong_ones = differences(wanted, predictions)
            spans = Entities(*map(np.concatenate, zip(missed, wrong_ones, strict=True)))
            surprise = np.full(len(rows), -1.0)
            np.maximum.at(surprise, found.row[spans.first], mean_scores(found.scores, spans))
            affected = np.flatnonzero(surprise >= 0)
            worst.add(surprise[affected], start + affected)
            num_missed, num_wrong = num_missed + len(missed.first), num_wrong + len(wrong_ones.first)
        start += len(rows)
    confusion = counter.confusion()
    values: dict[str, Any] = {**confusion.values(), "calibration": bins.values()}
    figures = {"confusion_matrix": confusion, "reliability": bins} if confusion.total else {}
    if tags is None or entities is None:
        message = f"{worst.total:,} of {confusion.total:,} words have another label than predicted"
        tables = _word_tables(tagged, worst, predicted)
    else:
        values["entities"] = entities.report()
        message = f"{num_missed:,} entities are missed and {num_wrong:,} are predicted wrongly in {worst.total:,} rows"
        tables = _entity_tables(tagged, tags, worst, predicted)
    order = "Sorted by the probability of the predicted tags, the mean over the words of a mistake."
    mistakes = Mistakes(message, order, tables) if num_mistakes else None
    return StageDetails(values, figures, mistakes, one_class(confusion))


def differences(wanted: Entities, found: Entities) -> tuple[Entities, Entities]:
    """Return the entities that are not predicted, and the predicted ones that are none."""
    missed, wrong = ~wanted.among(found), ~found.among(wanted)
    return Entities(*(part[missed] for part in wanted)), Entities(*(part[wrong] for part in found))


def mean_scores(scores: NDArray[np.float64], spans: Entities) -> NDArray[np.float64]:
    """Return the mean score of the words of each entity ``(E,) float64``.

    Examples:
        >>> spans = Entities(np.array([0, 2]), np.array([1, 2]), np.array([0, 0]))
        >>> mean_scores(np.array([0.5, 0.75, 0.25]), spans).tolist()
        [0.625, 0.25]
    """
    sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(scores))])
    return np.asarray((sums[spans.last + 1] - sums[spans.first]) / (spans.last + 1 - spans.first))


def marked(words: Sequence[str], spans: Sequence[tuple[int, int]]) -> list[str]:
    """Return the parts of a text around some spans of words, which are emphasized.

    Args:
        words: The words of a row.
        spans: First and last word of each span.

    Examples:
        >>> marked(["He", "lives", "in", "New", "York", "."], [(3, 4)])
        ['He lives in ', 'New York', ' .']
    """
    inside = {word for first, last in spans for word in range(first, last + 1)}
    start, end = max(0, min(inside) - AROUND), min(len(words), max(inside) + 1 + AROUND)
    parts, at = ["… " if start else ""], start
    while at < end:
        to = next((word for word in range(at, end) if (word in inside) != (at in inside)), end)
        text = " ".join(words[at:to])
        parts.append(Strong(text) if at in inside else f"{' ' if at > start else ''}{text}{' ' if to < end else ''}")
        at = to
    return [*filter(None, parts), *([" …"] if end < len(words) else [])]


def _word_tables(tagged: TaggedRows, worst: Highest, predicted: Predicted) -> list[Table]:
    """Return a table with the words that are predicted wrongly."""
    column, lines = tagged.classes.column, []
    for probability, row, (_, word) in worst.with_rows(predicted):
        texts, label = tagged.texts(row), tagged.classes.numbers([row[column][word]], "test")[0]
        pred = tagged.names[tagged.place_of[row["prediction"][word]]]
        marks = marked(texts, [(word, word)])
        lines.append((shown_id(row), texts[word], tagged.names[label], Strong(pred), f"{probability:.3f}", marks))
    columns = ("row", "word", "label", "predicted", "probability", tagged.words)
    return [Table(columns, lines)] if lines else []


def _entity_tables(tagged: TaggedRows, tags: EntityTags, worst: Highest, predicted: Predicted) -> list[Table]:
    """Return a table of rows with the entities that are missed or predicted wrongly."""
    lines = []
    for probability, row, _ in worst.with_rows(predicted):
        found, texts = tagged.read([row]), tagged.texts(row)
        both = differences(tags.entities(found.labels), tags.entities(found.preds))
        spans = [
            list(zip(found.word[part.first].tolist(), found.word[part.last].tolist(), strict=True)) for part in both
        ]
        named = [
            ", ".join(
                f"{' '.join(texts[first : last + 1])} ({tags.names[kind]})"
                for (first, last), kind in zip(of_part, part.type.tolist(), strict=True)
            )
            for of_part, part in zip(spans, both, strict=True)
        ]
        lines.append((shown_id(row), *named, f"{probability:.3f}", marked(texts, [*spans[0], *spans[1]])))
    columns = ("row", "missed", "predicted wrongly", "probability", tagged.words)
    return [Table(columns, lines)] if lines else []
