"""Encoding of rows in batches before training, in one process or several."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from transformers_framework.display import counted
from transformers_framework.processing.windows import Ragged

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from transformers_framework.workers import WorkerStartUp

Encoded = TypeVar("Encoded")


class EncodedBatches(Generic[Encoded]):
    """The encoded rows of a data set, in batches; indexing encodes a batch.

    Args:
        encode: Encodes some rows, given the number of the first one and their columns.
        source: The rows.
        size: Number of rows of a batch.
    """

    def __init__(self, encode: Callable[[int, Mapping[str, list[Any]]], Encoded], source: Dataset, size: int) -> None:
        self.encode, self.source, self.size = encode, source, size

    def shown(self, title: str, num_workers: int) -> Iterator[Encoded]:
        """Return all encoded batches in order, and show how many rows are done.

        Args:
            title: Title of the progress bar.
            num_workers: Number of processes.
        """
        rows, size = len(self.source), self.size
        done = (min(size, rows - start) for start in range(0, rows, size))
        return counted(self.in_order(num_workers), title, total=rows, units=lambda _: next(done))

    def __len__(self) -> int:
        return -(-len(self.source) // self.size)

    def __getitem__(self, number: int) -> Encoded:
        start = number * self.size
        return self.encode(start, self.source[start : start + self.size])

    def in_order(self, num_workers: int) -> Iterator[Encoded]:
        """Return all encoded batches in order; several processes encode them if there are enough batches."""
        if min(num_workers, len(self)) <= 1:
            return (self[number] for number in range(len(self)))
        import torch
        from torch.utils.data import DataLoader

        from transformers_framework.workers import WorkerStartUp, with_plain_errors

        start_up = WorkerStartUp()
        loader: DataLoader[Encoded] = DataLoader(
            self,  # type: ignore[arg-type]
            batch_size=None,
            collate_fn=_identity,
            num_workers=min(num_workers, len(self)),
            worker_init_fn=partial(_without_threads, start_up),
            generator=torch.Generator(),  # else the global generator is used
        )
        return with_plain_errors(start_up.iterator(loader))


def _identity(batch: Any) -> Any:
    return batch


def _without_threads(start_up: WorkerStartUp, worker: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes already run in parallel
    start_up(worker)


def list_array(rows: Ragged) -> pa.ListArray:
    """Return rows of numbers as an Arrow list array, ``int32``."""
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum(rows.lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, rows.values.astype(np.int32, copy=False))
