"""Checks of the hard negatives of training data of retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from transformers_framework.exceptions import DataError
from transformers_framework.losses.retrieval.table import RETRIEVAL_LOSSES
from transformers_framework.sources.columns import DatasetSource, item_feature, list_sizes
from transformers_framework.sources.fields import Field

if TYPE_CHECKING:
    from datasets import Dataset


def check_negatives(dataset: Dataset, source: DatasetSource, fields: Sequence[Field], loss_fn: str) -> None:
    """Check that not all lists of hard negatives are empty, and none is if the loss needs one in each row.

    Args:
        dataset: Training data.
        source: Source of the rows, for messages.
        fields: Columns of hard negatives.
        loss_fn: Name of the loss.

    Raises:
        DataError: When they are, with the place.
    """
    columns = [field.columns[0] for field in fields if field.spreads]
    lists = [name for name in columns if name in dataset.column_names and item_feature(dataset.features[name])]
    if not lists:
        return
    sizes = np.stack([list_sizes(dataset, column) for column in lists])
    if not sizes.any(axis=1).all():
        raise DataError(
            f"--input_columns: no row of {source.name} has a hard negative in "
            f"'{lists[int(sizes.any(axis=1).argmin())]}'. Leave the column out."
        )
    without = np.flatnonzero(~sizes.any(axis=0))
    if len(without) and RETRIEVAL_LOSSES[loss_fn].negatives in ("needed", "one") and len(lists) == len(fields):
        source.refuse(
            without,
            lambda at: (
                f"'{lists[0]}' has no hard negative, but --loss_fn {loss_fn} needs one. Remove the "
                "row, or choose a loss with in-batch negatives."
            ),
        )
