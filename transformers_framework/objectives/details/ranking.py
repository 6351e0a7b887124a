"""Details of ranked candidates: rank of the first positive, thresholds, calibration, and candidates above positives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transformers_framework.metrics.by_query import QueryValues
from transformers_framework.metrics.calibration import reliability
from transformers_framework.metrics.confusion import count_pairs
from transformers_framework.metrics.first_positive import FirstPositives, ScoresByRank, first_positives
from transformers_framework.metrics.ranking import SortedCandidates, sort_candidates
from transformers_framework.metrics.thresholds import precision_recall
from transformers_framework.objectives.details.collapse import collapsed_ranking
from transformers_framework.objectives.details.predicted import number
from transformers_framework.objectives.details.stage_details import (
    MOST_ABOVE,
    Mistakes,
    StageDetails,
    Strong,
    Table,
    texts_of,
)
from transformers_framework.processing.text_ids import query_numbers
from transformers_framework.sources.fields import as_text

if TYPE_CHECKING:
    from transformers_framework.objectives.details.predicted import Predicted, Row

WHOLE = -1  # item of a row that is a candidate itself


class Columns(NamedTuple):
    """Columns of candidates.

    Args:
        label: Labels; a list per row if there are ``candidates``.
        query_id: Query ids; without it, or where a row has none, each row is a query.
        candidates: Lists of candidates, if rows have one.
    """

    label: str
    query_id: str | None
    candidates: str | None = None


class Scored(NamedTuple):
    """Candidates with a score and a label.

    Args:
        scores: ``(N,) float32``.
        labels: 1 for a positive, 0 for a negative ``(N,) int64``.
        queries: Number of the query ``(N,) int64``.
        row_ids: Number of each candidate, counting those without score too ``(N,) int64``.
        rows: Place of its row ``(N,) int64``.
        items: Place in its list, -1 if the row is the candidate ``(N,) int64``.
        classified: 1 if the model scored it, 0 if it was not re-ranked ``(N,) int64``.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    queries: NDArray[np.int64]
    row_ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    items: NDArray[np.int64]
    classified: NDArray[np.int64]


def read_candidates(predicted: Predicted, columns: Columns, target_of: Callable[[Sequence[Any]], np.ndarray]) -> Scored:
    """Return all candidates with a score and a label.

    Args:
        predicted: Predictions of all rows.
        columns: Columns of candidates.
        target_of: Turns N labels into 1 for a positive, 0 for a negative, negative for ignored ones ``(N,) int64``.
    """
    parts: list[Scored] = []
    start = seen = 0
    for rows in predicted.chunks():
        sizes = [len(row["scores"]) if columns.candidates else 1 for row in rows]
        places = np.repeat(np.arange(start, start + len(rows)), sizes)
        items = np.full(len(places), WHOLE)
        if columns.candidates:
            items = np.arange(len(places)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        scores = [score for row in rows for score in (row["scores"] if columns.candidates else [row["scores"]])]
        labels = [
            label for row in rows for label in (row[columns.label] if columns.candidates else [row[columns.label]])
        ]
        queries = [row.get(str(columns.query_id), place) for place, row in enumerate(rows, start)]
        if columns.candidates:
            each = zip(queries, sizes, strict=True)
            queries = [q for query, size in each for q in (query if isinstance(query, list) else [query] * size)]
        classified = np.ones_like(places)
        if not columns.candidates:
            classified = np.array([row.get("prediction", 0) is not None for row in rows], dtype=np.int64)
        found = Scored(
            np.array([number(score) for score in scores], dtype=np.float32),
            np.asarray(target_of(labels)),
            query_numbers(queries),
            np.arange(seen, seen + len(places)),
            places,
            items,
            classified,
        )
        kept = np.isfinite(found.scores) & (found.labels >= 0)
        parts.append(_chosen(found, kept))
        start, seen = start + len(rows), seen + len(places)
    nothing = Scored(np.zeros(0, np.float32), *(np.zeros(0, np.int64) for _ in range(6)))
    return Scored(*map(np.concatenate, zip(nothing, *parts, strict=True)))


def _chosen(scored: Scored, kept: NDArray[np.bool_]) -> Scored:
    return Scored(scored.scores[kept], *(part[kept] for part in scored[1:]))


def ranking_details(
    predicted: Predicted,
    num_mistakes: int,
    columns: Columns,
    target_of: Callable[[Sequence[Any]], np.ndarray],
    *,
    are_logits: bool,
    class_names: Sequence[str] = (),
    metric_options: Mapping[str, Any] = MappingProxyType({}),
) -> StageDetails:
    """Return ranks of the first positives, intervals of metrics, thresholds, calibration of logits, and mistakes.

    These are queries with a negative first. Queries without a positive have no rank and are left out.

    Args:
        predicted: Predictions of all rows.
        num_mistakes: Number of queries to list.
        columns: Columns of candidates.
        target_of: As in :func:`read_candidates`.
        are_logits: Scores are logits of being a positive, which have a probability; otherwise they are similarities.
        class_names: Names of negatives and positives, if scores above 0 are predictions of a positive.
        metric_options: Settings of the ranking metrics.
    """
    scored = read_candidates(predicted, columns, target_of)
    ranked = sort_candidates(scored.scores, scored.labels, scored.queries, scored.row_ids)
    firsts = first_positives(ranked.query, ranked.rank, ranked.positive, ranked.num_queries)
    with_positive = firsts > 0
    positions = FirstPositives(firsts[with_positive])
    values: dict[str, Any] = {"first_positive": positions.values() | {"without_positive": int((~with_positive).sum())}}
    if bounds := QueryValues.of(ranked, metric_options).intervals():
        values["intervals"] = bounds
    score, used = ("score, the difference of the logits", 0.0) if are_logits else ("similarity", None)
    figures: dict[str, Any] = {}
    if with_positive.any():
        figures = {"first_positive": positions, "scores_by_rank": _scores_by_rank(scored, ranked, firsts, score)}
    own = _chosen(scored, scored.classified > 0)
    if (curve := precision_recall(own.scores, own.labels == 1, score=score, used=used)) is not None:
        values["thresholds"], figures["precision_recall"] = curve.values(), curve
    if are_logits and len(own.scores):
        probabilities = 1 / (1 + np.exp(-own.scores.astype(np.float64)))
        bins = reliability(probabilities, own.labels == 1, of_positives=True)
        values["calibration"], figures["reliability"] = bins.values(), bins
    mistakes = _mistakes(predicted, columns, scored, ranked, firsts, num_mistakes) if num_mistakes else None
    confusion = count_pairs(class_names, own.labels, own.scores > 0, "candidates") if class_names else None
    return StageDetails(values, figures, mistakes, collapsed_ranking(own.scores, ranked, confusion))


def _scores_by_rank(scored: Scored, ranked: SortedCandidates, firsts: NDArray[np.int64], score: str) -> ScoresByRank:
    """Return the scores of the first positive and of the first candidate of each query with a positive."""
    begins = np.searchsorted(ranked.query, np.arange(ranked.num_queries))[firsts > 0]
    scores, ranks = scored.scores[ranked.order], firsts[firsts > 0]
    return ScoresByRank(ranks, scores[begins + ranks - 1], scores[begins], score)


def _mistakes(
    predicted: Predicted,
    columns: Columns,
    scored: Scored,
    ranked: SortedCandidates,
    firsts: NDArray[np.int64],
    num_mistakes: int,
) -> Mistakes:
    """Return the queries whose first candidate is a negative, sorted by how far its score is above the positive's."""
    begins = np.searchsorted(ranked.query, np.arange(ranked.num_queries))
    ends = np.append(begins[1:], len(ranked.query))
    wrong = np.flatnonzero(firsts > 1)
    scores = scored.scores[ranked.order]
    margins = scores[begins[wrong]] - scores[begins[wrong] + firsts[wrong] - 1]
    tables = []
    for query in wrong[np.argsort(-margins, kind="stable")][:num_mistakes].tolist():
        first = int(firsts[query])
        ranks = [*range(1, min(MOST_ABOVE, first - 1) + 1), first]
        entries = [int(ranked.order[begins[query] + rank - 1]) for rank in ranks]
        rows = predicted.rows(scored.rows[entries].tolist())
        texts = [_texts(row, item, columns) for row, item in zip(rows, scored.items[entries].tolist(), strict=True)]
        asked, own = split_texts(texts, columns)
        size = int(ends[query] - begins[query])
        heading = f"The positive is at rank {first:,} of {size:,}: {' · '.join(asked)}"
        lines = [
            (f"{rank:,}", f"{scored.scores[entry]:.4g}", Strong("positive") if rank == first else "negative", *cells)
            for rank, entry, cells in zip(ranks, entries, own, strict=True)
        ]
        names = [name for name in texts[0] if _differs(texts, name, columns)]
        tables.append(Table(("rank", "score", "label", *names), lines, heading))
    total = int((firsts > 0).sum())
    found = f"{len(wrong):,} of {total:,} queries with a positive have a negative first"
    return Mistakes(found, "Sorted by the score of the first candidate minus that of the best positive.", tables)


def split_texts(texts: Sequence[Mapping[str, str]], columns: Columns) -> tuple[list[str], list[list[str]]]:
    """Return the texts of a query, which all its candidates share, and the texts of each candidate.

    Args:
        texts: Texts of some candidates of a query by column.
        columns: Columns of candidates.

    Examples:
        >>> texts = [{"q": "who?", "answer": "me"}, {"q": "who?", "answer": "you"}]
        >>> split_texts(texts, Columns("label", "key"))
        (['who?'], [['me'], ['you']])
    """
    asked = [text for name, text in texts[0].items() if not _differs(texts, name, columns)]
    own = [[text for name, text in row.items() if _differs(texts, name, columns)] for row in texts]
    return asked, own


def _differs(texts: Sequence[Mapping[str, str]], name: str, columns: Columns) -> bool:
    return name == columns.candidates or len({row.get(name) for row in texts}) > 1


def _texts(row: Row, item: int, columns: Columns) -> dict[str, str]:
    """Return the texts of a candidate and of its query by column."""
    known = ("prediction", "scores", "id", columns.label, str(columns.query_id))
    if item == WHOLE or columns.candidates is None:
        return texts_of(row, known)
    return texts_of(row, (*known, columns.candidates)) | {columns.candidates: as_text(row[columns.candidates][item])}
