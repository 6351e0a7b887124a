"""The training batch that needs most memory: one of the longest rows."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import TRAIN
from transformers_framework.data.row_groups import groups
from transformers_framework.data.sampler import BatchRequest
from transformers_framework.data.samplers import row_lengths
from transformers_framework.processing.windows import sums_by_row

if TYPE_CHECKING:
    from transformers_framework.data.datamodule import DataModule

NUM_LONGEST = 64  # several, since the row with the longest input may not have the longest target


def longest_batch(data: DataModule, num_rows: int, pad_to_multiple_of: int = 1) -> dict[str, Any]:
    """Return a training batch of the longest rows, groups or packed rows, which are repeated where there are too few.

    Args:
        data: The data, loaded; not a stream.
        num_rows: Number of rows, groups or packed rows of the batch.
        pad_to_multiple_of: Sequence lengths are rounded up to a multiple of this.
    """
    bins = data.bins if data.bins is not None else groups(data, TRAIN, 0)
    if data.inputs.has_equal_lengths:
        longest = np.arange(min(NUM_LONGEST, data.num_entries(TRAIN) or 1))
    else:
        lengths = row_lengths(data, TRAIN)
        lengths = lengths if bins is None else sums_by_row(lengths[bins.rows], bins.sizes)
        longest = np.argsort(-lengths.astype(np.int64), kind="stable")[:NUM_LONGEST]
    entries = np.resize(longest, num_rows).tolist()
    if bins is None:
        request = BatchRequest(0, tuple(entries))
    else:
        rows = [bins[entry] for entry in entries]
        request = BatchRequest(0, tuple(chain.from_iterable(rows)), tuple(map(len, rows)))
    return data.collator(TRAIN, pad_to_multiple_of)(data.reader(TRAIN)[request])
