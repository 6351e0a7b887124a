"""TREC runs and qrels, the file formats of trec_eval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transformers_framework.constants import ROW_IDS
from transformers_framework.metrics.by_query import SUFFIX, QueryValues
from transformers_framework.metrics.ranking import EmptyTargetAction, SortedCandidates, sort_candidates
from transformers_framework.processing.random import mix64
from transformers_framework.processing.text_ids import trec_name
from transformers_framework.storage.sorted_columns import SortedColumns

RUN, QRELS = ".run", ".qrels"  # how the names of the files end


def _run_lines(
    queries: Iterable[str], documents: Iterable[str], ranks: Iterable[int], scores: Iterable[float], tag: str
) -> Iterator[str]:
    """Yield query, ``Q0``, document number, rank, score, tag; names are encoded, scores have the digits of float32."""
    run = trec_name(tag)
    for query, document, rank, score in zip(queries, documents, ranks, scores, strict=True):
        yield f"{query} Q0 {document} {rank} {score:.9g} {run}"


def _qrels_lines(queries: Iterable[str], documents: Iterable[str], relevance: Iterable[int]) -> Iterator[str]:
    """Yield query, ``0``, document number, relevance; names are encoded."""
    for query, document, label in zip(queries, documents, relevance, strict=True):
        yield f"{query} 0 {document} {label}"


# --- a search: the documents found for each query --------------------------------------------------------------------


def search_run(
    queries: Sequence[object], found: Sequence[Sequence[object]], scores: NDArray[np.float32], *, tag: str = "model"
) -> Iterator[str]:
    """Yield the lines of the run of a search.

    Args:
        queries: Names of Q queries; ``%`` and white space are percent-encoded, of documents and tag too.
        found: Names of the K documents that were found for each, the best first.
        scores: Their scores, (Q, K) float32.
        tag: Name of the run.

    Examples:
        >>> list(search_run(["who?"], [["b", "a"]], np.float32([[0.75, 0.5]])))
        ['who? Q0 b 1 0.75 model', 'who? Q0 a 2 0.5 model']
    """
    for query, documents, values in zip(queries, found, scores.tolist(), strict=True):
        size = len(documents)
        yield from _run_lines([trec_name(query)] * size, map(trec_name, documents), range(1, size + 1), values, tag)


def search_qrels(queries: Iterable[object], relevant: Sequence[object]) -> Iterator[str]:
    """Yield the lines of the qrels of a search.

    Args:
        queries: Name of the query of each pair.
        relevant: Name of a document that is relevant for it.

    Examples:
        >>> list(search_qrels([7], ["p 1"]))
        ['7 0 p%201 1']
    """
    return _qrels_lines(map(trec_name, queries), map(trec_name, relevant), repeat(1, len(relevant)))


# --- candidates: rows of a data set, ranked within their query -------------------------------------------------------


def docno(row_id: int) -> str:
    """Return the document number of a row.

    trec_eval compares the document numbers of equal scores as strings. Beginning with a hash of the row, they are in
    the order in which :func:`sort_candidates` has them.

    Args:
        row_id: Position of the row in the data set.

    Returns:
        16 hexadecimal digits that spread rows evenly, then the row id.

    Examples:
        >>> docno(7)
        '12ae30237b17df14-7'
    """
    return next(_docnos(np.array([row_id])))


def candidate_run(
    preds: ArrayLike,
    queries: ArrayLike,
    row_ids: ArrayLike,
    *,
    names: Sequence[object] | None = None,
    tag: str = "model",
) -> Iterator[str]:
    """Yield the lines of the run of ranked candidates, the best of a query first.

    Args:
        preds: Scores, (N,) floats.
        queries: Query of each row, (N,) integers or strings, encoded as in :func:`search_run`.
        row_ids: Position of each row in the data set, (N,) int64.
        names: Names of the queries, where ``queries`` are places in this list.
        tag: Name of the run.

    Examples:
        >>> list(candidate_run([0.1, 0.9], ["who won?", "who won?"], [0, 1], tag="bert"))
        ['who%20won? Q0 5692161d100b05e5-1 1 0.899999976 bert', 'who%20won? Q0 0000000000000000-0 2 0.100000001 bert']
    """
    scores, numbers = np.asarray(preds, dtype=np.float32), np.asarray(row_ids)
    rows = sort_candidates(scores, np.zeros(len(scores)), queries, numbers)
    found, ranks = scores[rows.order].tolist(), rows.rank.tolist()
    return _run_lines(_names(rows, names), _docnos(numbers[rows.order]), ranks, found, tag)


def candidate_qrels(
    target: ArrayLike,
    queries: ArrayLike,
    row_ids: ArrayLike,
    *,
    names: Sequence[object] | None = None,
    empty_target_action: EmptyTargetAction = "skip",
) -> Iterator[str]:
    """Yield the lines of the qrels of labelled candidates.

    Args:
        target: 1 for a positive, 0 for a negative, negative numbers for rows that are ignored, (N,) integers.
        queries: Query of each row, (N,) integers or strings, as in :func:`candidate_run`.
        row_ids: Position of each row in the data set, (N,) int64.
        names: Names of the queries, as in :func:`candidate_run`.
        empty_target_action: With ``skip`` queries without a positive are left out, so that trec_eval leaves them out
            of its means too. ``pos`` has no equal in trec_eval.

    Examples:
        >>> list(candidate_qrels([1, 0], [5, 5], [0, 1]))
        ['5 0 5692161d100b05e5-1 0', '5 0 0000000000000000-0 1']
    """
    labels, numbers = np.asarray(target), np.asarray(row_ids)
    rows = sort_candidates(np.zeros(len(labels)), labels, queries, numbers)
    has_positive = np.bincount(rows.query[rows.positive], minlength=rows.num_queries) > 0
    kept = has_positive[rows.query] | (empty_target_action != "skip")
    rows = rows._replace(order=rows.order[kept], query=rows.query[kept])
    return _qrels_lines(_names(rows, names), _docnos(numbers[rows.order]), labels[rows.order].astype(np.int64).tolist())


def candidate_files(
    parts: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, Sequence[Any]]]],
    index_column: str | None,
    label_column: str | None,
    target_of: Callable[[Sequence[Any]], np.ndarray],
    *,
    metric_options: Mapping[str, Any],
) -> Iterator[tuple[str, str]]:
    """Yield lines of a run, of qrels and of the metrics of each query of predicted candidates, each with its suffix.

    Queries are in the order of their first candidates. Candidates are sorted on disk; names of queries are in memory.

    Args:
        parts: Some candidates at a time: ``scores`` and ``row_ids``, ``(N,)``, and the columns of the data set.
        index_column: Column of the query id; without its values there is no file.
        label_column: Column of the labels; without it there are no qrels and no metrics.
        target_of: Turns N labels into 1 for a positive, 0 for a negative, negative for ignored rows ``(N,) int64``.
        metric_options: Settings of the ranking metrics, among them how a query without a positive counts.
    """
    numbers, names = dict[str, int](), list[Any]()
    with SortedColumns() as candidates:
        for columns, rows in parts:
            if index_column is None or index_column not in rows or "scores" not in columns:
                continue
            found = {"scores": columns["scores"].astype(np.float32), ROW_IDS: columns[ROW_IDS]}
            if label_column is not None and label_column in rows:
                found["target"] = target_of(rows[label_column])
            places = []
            for name in rows[index_column]:
                places.append(numbers.setdefault(trec_name(name), len(names)))
                if places[-1] == len(names):
                    names.append(name)
            candidates.add(np.array(places, dtype=np.int64), found)
        header = True
        for queries, found in candidates.ranges():
            run = candidate_run(found["scores"], queries, found[ROW_IDS], names=names)
            yield RUN, "".join(f"{line}\n" for line in run)
            if "target" in found:
                target, row_ids, action = found["target"], found[ROW_IDS], metric_options["empty_target_action"]
                qrels = candidate_qrels(target, queries, row_ids, names=names, empty_target_action=action)
                yield QRELS, "".join(f"{line}\n" for line in qrels)
                values = QueryValues.of(sort_candidates(found["scores"], target, queries, row_ids), metric_options)
                lines = values.named(names).lines()
                yield SUFFIX, "".join(f"{line}\n" for line in islice(lines, int(not header), None))
                header = False


def _names(rows: SortedCandidates, names: Sequence[object] | None) -> Iterator[str]:
    found = rows.names.tolist()
    encoded = [trec_name(name) for name in (found if names is None else (names[place] for place in found))]
    return (encoded[query] for query in rows.query.tolist())


def _docnos(row_ids: NDArray) -> Iterator[str]:
    return (f"{spread:016x}-{row}" for spread, row in zip(mix64(row_ids).tolist(), row_ids.tolist(), strict=True))
