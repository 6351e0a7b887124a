"""Ids of queries: which rows, or which candidates of a row, are about one question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transformers_framework.exceptions import DataError
from transformers_framework.sources.columns import (
    DatasetSource,
    check_column,
    first_empty,
    first_null,
    list_sizes,
    shown,
    type_name,
    value_numbers,
)

if TYPE_CHECKING:
    from datasets import Dataset


def check_queries(dataset: Dataset, column: str, source: DatasetSource) -> None:
    """Raise when a column does not say to which question each row belongs.

    Raises:
        DataError: When it is absent, holds no numbers or texts, or is null in a row, with its place.
    """
    check_ids(dataset, column, source, flag="index_column", what="query")
    if (row := first_without_name(dataset, column)) is not None:
        found = shown(dataset[row][column])
        raise DataError(f"{source.place(row)}: '{column}' has no query id ({found}): give each question one.")


def check_ids(dataset: Dataset, column: str, source: DatasetSource, *, flag: str, what: str) -> None:
    """Raise when a column is absent or of a type that has no text to write in files of predictions.

    Raises:
        DataError: With the type that was found.
    """
    from datasets import ClassLabel, Value

    check_column(dataset, column, source, flag=flag)
    feature = dataset.features[column]
    if not isinstance(feature, (ClassLabel, Value)) or "binary" in feature.dtype:
        raise DataError(
            f"--{flag}: '{column}' of {source.name} holds {type_name(feature)}; expected a number or a text, the "
            f"{what}'s id."
        )


def first_without_name(dataset: Dataset, column: str) -> int | None:
    """Return the first row where a column of ids is null or a text without a visible sign, or nothing."""
    is_text = getattr(dataset.features[column], "dtype", None) == "string"
    return first_empty(dataset, [column]) if is_text else first_null(dataset, column)


def repeated_queries(dataset: Dataset, column: str, candidates: str, source: DatasetSource) -> np.ndarray:
    """Return a number for the query of each row, whose id is in the row once for each candidate ``(N,) int64``.

    Args:
        dataset: Rows with lists of candidates.
        column: Lists of ids, all of which are equal in a row.
        candidates: Lists of candidates.
        source: Where the rows come from, for messages.

    Raises:
        DataError: When a list has another length than that of the candidates, or ids that differ or are null.
    """
    sizes, found = list_sizes(dataset, candidates), list_sizes(dataset, column)
    if (wrong := np.flatnonzero(found != sizes)).size:
        row = int(wrong[0])
        raise DataError(
            f"{source.place(row)}: '{column}' has {found[row]} items for the {sizes[row]} candidates of "
            f"'{candidates}'; expected the id of the query for each, or a column with one id per row."
        )
    numbers, of_item = value_numbers(dataset, column, flat=True), np.repeat(np.arange(len(sizes)), sizes)
    queries = np.arange(len(sizes)) + len(numbers)  # a row without candidates is a query of its own
    queries[sizes > 0] = numbers[(np.cumsum(sizes) - sizes)[sizes > 0]]
    if (wrong := np.flatnonzero((numbers != queries[of_item]) | (numbers < 0))).size:
        row = int(of_item[wrong[0]])
        values = ", ".join(dict.fromkeys(map(shown, dataset[row][column])))
        raise DataError(
            f"{source.place(row)}: '{column}' has {values}; expected one id, the same for each candidate of a row."
        )
    return queries
