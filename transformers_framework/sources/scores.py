"""Scores of candidates, as a first-stage ranker or a teacher has written them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transformers_framework.exceptions import DataError
from transformers_framework.sources.columns import (
    DatasetSource,
    arrow_chunks,
    check_column,
    item_feature,
    list_sizes,
    type_name,
)

if TYPE_CHECKING:
    from datasets import Dataset


def candidate_scores(
    dataset: Dataset, column: str, source: DatasetSource, *, in_lists: bool, flag: str = "scores_column"
) -> np.ndarray:
    """Return the score of each candidate ``(N,) float64``.

    Args:
        dataset: Rows of questions.
        column: Column of scores.
        source: Source of the rows, for messages.
        in_lists: Whether each row has a list of candidates, with a list of scores.
        flag: Flag that names the column, for messages.

    Raises:
        DataError: When a score is missing or no number, with its place.
    """
    check_column(dataset, column, source, flag=flag)
    feature = dataset.features[column]
    value = item_feature(feature) if in_lists else feature
    if not str(getattr(value, "dtype", "")).startswith(("int", "uint", "float")):
        expected = "a list of numbers, one per candidate" if in_lists else "a number in each row"
        raise DataError(f"--{flag}: '{column}' of {source.name} holds {type_name(feature)}; expected {expected}.")
    arrays = [chunk.flatten() if in_lists else chunk for chunk in arrow_chunks(dataset, column)]
    scores = np.concatenate([array.to_numpy(zero_copy_only=False).astype(np.float64) for array in arrays])
    wrong = np.flatnonzero(~np.isfinite(scores))
    rows = np.repeat(np.arange(len(dataset)), list_sizes(dataset, column))[wrong] if in_lists else wrong
    source.refuse(rows, lambda at: f"'{column}' has no finite score; expected a number.")
    return scores
