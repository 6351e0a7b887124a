"""Checks of the candidates of questions, before they are grouped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.sources.columns import (
    DatasetSource,
    empty_items,
    item_feature,
    list_sizes,
    value_numbers,
)

if TYPE_CHECKING:
    from datasets import Dataset


def check_lists(dataset: Dataset, column: str, others: Sequence[str | None], source: DatasetSource) -> None:
    """Check that no candidate is empty, and that other lists of a row have an item for each of its candidates.

    Args:
        dataset: Rows with lists of candidates.
        column: Column of candidates.
        others: Columns of lists of labels or scores; columns that are no lists are left out.
        source: Source of the rows, for messages.

    Raises:
        DataError: When a candidate is null or empty, or a list has another length, with its place.
    """
    rows, places = empty_items(dataset, column)
    source.refuse(
        rows,
        lambda at: (
            f"candidate {places[at]} of '{column}' is null or empty (counted from 0). Remove it and its label, "
            "or fill it in."
        ),
    )
    sizes = list_sizes(dataset, column)
    for name in others:
        if name is not None and item_feature(dataset.features.get(name)) is not None:  # reported elsewhere
            found = list_sizes(dataset, name)
            unequal = np.flatnonzero(found != sizes)
            source.refuse(unequal, partial(_unequal, name, column, found[unequal], sizes[unequal]))


def _unequal(name: str, column: str, found: np.ndarray, sizes: np.ndarray, at: int) -> str:
    return f"'{name}' has {found[at]} items for the {sizes[at]} candidates of '{column}'; expected one for each."


def check_questions(
    dataset: Dataset, index_column: str, columns: Sequence[str], queries: np.ndarray, source: DatasetSource
) -> None:
    """Check that rows with the same query, given as numbers ``(N,) int64``, have the same question.

    Args:
        dataset: The rows.
        index_column: Column of query ids.
        columns: Columns of the question.
        queries: Query of each row.
        source: Source of the rows, for messages.

    Raises:
        DataError: When they have not, with the places of both.
    """
    _, firsts, query = np.unique(queries, return_index=True, return_inverse=True)
    first = firsts[query.reshape(-1)]  # of each row's question
    for column in columns:
        found = value_numbers(dataset, column)
        wrong = np.flatnonzero(found != found[first])
        source.refuse(wrong, partial(_differs, dataset, index_column, column, wrong, first[wrong], source))


def _differs(
    dataset: Dataset, index_column: str, column: str, rows: np.ndarray, firsts: np.ndarray, source: DatasetSource,
    at: int,
) -> str:  # fmt: skip
    query, there = query_of(dataset[int(rows[at])], index_column), source.place(int(firsts[at]))
    return f"'{index_column}' is {query!r} as in {there}, but '{column}' differs. Give each question its own id."


def query_of(row: Mapping[str, Any], index_column: str) -> Any:
    """Return the query id of a row, which may have one for each candidate."""
    query = row[index_column]
    return query[0] if isinstance(query, list) else query
