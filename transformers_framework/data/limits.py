"""Limits on how much data is used: the flags --limit_*_batches and --overfit_batches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from transformers_framework.constants import SOURCE_ROW, Stage
from transformers_framework.data.row_groups import groups
from transformers_framework.objectives.capabilities import group_columns
from transformers_framework.objectives.objective import active
from transformers_framework.restricted import NonNegativeInt, Probability
from transformers_framework.sources.columns import value_numbers

if TYPE_CHECKING:
    from transformers_framework.data.datamodule import DataModule


class Limits:
    """Evaluate on the first rows of the file only; train on the same few batches in each epoch.

    A limit is a number of batches on each device, or a fraction of the rows. Lightning's limits count batches of the
    loader, which are sorted by length, longest first, and would split the rows of a question.

    Args:
        limit_val_batches: How much of the validation data is used: a number of batches per device, or a fraction of the
            rows (0.1). The first rows of the file are used; the last question or long text is always complete.
        limit_test_batches: How much of the test data is used: a number of batches per device, or a fraction of the rows
            (0.1). The first rows of the file are used; the last question or long text is always complete.
        limit_predict_batches: How much of the data to predict is used: a number of batches per device, or a fraction of
            the rows (0.1). The first rows of the file are used; the last question or long text is always complete.
        overfit_batches: Train on the first batches of the file in each epoch, without shuffling, and validate on as
            much of the validation data: a number of batches per device, or a fraction (0.1). 0 trains on all data.
    """

    def __init__(
        self,
        *,
        limit_val_batches: NonNegativeInt | Probability | None = None,
        limit_test_batches: NonNegativeInt | Probability | None = None,
        limit_predict_batches: NonNegativeInt | Probability | None = None,
        overfit_batches: NonNegativeInt | Probability = 0.0,
    ) -> None:
        self.overfits = overfit_batches > 0
        self.of_stage: dict[Stage, int | float | None] = {
            "valid": overfit_batches or limit_val_batches,
            "test": limit_test_batches,
            "predict": limit_predict_batches,
        }

    def entries(self, data: DataModule, stage: Stage, world_size: int) -> NDArray[np.int64] | None:
        """Return the rows or groups of a stage that are used, ascending ``(M,) int64``; None if all are used.

        Args:
            data: The data, loaded.
            stage: The stage.
            world_size: Number of ranks.
        """
        limit, num_entries = self.of_stage.get(stage), data.num_entries(stage)
        if limit is None or num_entries is None:
            return None
        step_size = data.batch_sizes[stage] * world_size
        count = limit * step_size if isinstance(limit, int) else math.ceil(limit * num_entries)
        return None if count >= num_entries else first_whole_units(units(data, stage), count)


def units(data: DataModule, stage: Stage) -> NDArray[np.int64]:
    """Return the evaluation unit (question, long text) of each row or group of a stage, as a number ``(N,) int64``."""
    dataset = data.datasets[stage]
    columns = group_columns(active(data.objectives, stage)) + [SOURCE_ROW] * data.inputs.evaluates_whole_rows
    column = next((column for column in columns if column in dataset.column_names), None)
    found = np.arange(len(dataset)) if column is None else value_numbers(dataset, column)
    bins = groups(data, stage, 0)
    return found if bins is None else found[bins.rows[np.cumsum(bins.sizes) - bins.sizes]]


def first_whole_units(units: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the rows of the first units that have ``count`` rows or more together, in order ``(M,) int64``.

    Args:
        units: Unit of each row, any integers ``(N,) int64``; rows of a unit need not be adjacent.
        count: Minimum number of rows, at most N.

    Examples:
        >>> first_whole_units(np.array([7, 7, 7, 4, 4, 9]), 4).tolist()
        [0, 1, 2, 3, 4]
        >>> first_whole_units(np.array([7, 4, 7, 4, 9]), 1).tolist()
        [0, 2]
    """
    _, first, unit, sizes = np.unique(units, return_index=True, return_inverse=True, return_counts=True)
    in_order = np.argsort(first)
    num_units = int(np.searchsorted(np.cumsum(sizes[in_order]), count)) + 1
    return np.flatnonzero(np.isin(unit.reshape(-1), in_order[:num_units]))
