"""Batches of one stage, in an order that can be continued: what Lightning iterates over."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from transformers_framework.constants import GROUP_NUM_ITEMS, NUM_ITEMS
from transformers_framework.data.sampler import BatchRequest, BatchSampler
from transformers_framework.data.workers import WorkerStartUp
from transformers_framework.exceptions import UserError
from transformers_framework.processing.windows import Ragged

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from transformers_framework.data.collator import Collator

WINDOW_ROWS = 10_000  # rows of a stream that are shuffled and grouped by length together

Rows = tuple[BatchRequest, Mapping[str, Any]]  # values of a column: a list, or those of token columns, ragged


class RowReader(TorchDataset[Rows]):
    """Read the rows of a batch from memory-mapped Arrow, all at once.

    Args:
        dataset: Where rows are.
        columns: Columns that are read.
        token_columns: Those of them that hold lists of integers to be read without making Python lists.
    """

    def __init__(
        self, dataset: datasets.Dataset, columns: tuple[str, ...], token_columns: tuple[str, ...] = ()
    ) -> None:
        self.dataset = dataset.select_columns(list(columns)).with_format("arrow")
        self.token_columns = frozenset(token_columns)

    def __getitem__(self, request: BatchRequest) -> Rows:
        table = self.dataset[request.row_ids.tolist()]
        return request, {name: self._values(name, table.column(name)) for name in table.column_names}

    def _values(self, name: str, column: pa.ChunkedArray) -> Any:
        if name not in self.token_columns:
            return column.to_pylist()
        array = column.combine_chunks()
        return Ragged(array.flatten().to_numpy(), array.value_lengths().to_numpy().astype(np.int64))


class RowStream(IterableDataset[Rows]):
    """Read the rows of a stream in windows, each shuffled and cut into batches as a data set of its own.

    Every worker reads the whole stream and keeps its turn of the batches, so that batches depend neither on the number
    of workers nor on that of processes.

    Args:
        dataset: The stream.
        columns: Columns that are read.
        sampler: Says how batches are made; its rows are those of a window.
        lengths: Length of each row of some columns, when rows of similar length are grouped.
    """

    def __init__(
        self,
        dataset: datasets.IterableDataset,
        columns: tuple[str, ...],
        sampler: BatchSampler,
        lengths: Callable[[Mapping[str, list[Any]]], Any] | None = None,
    ) -> None:
        self.dataset, self.columns, self.sampler, self.lengths = dataset, columns, sampler, lengths

    def __iter__(self) -> Iterator[Rows]:
        worker = get_worker_info()
        turn, turns = (worker.id, worker.num_workers) if worker else (0, 1)
        for number, rows in enumerate(self._batches()):
            if number % turns == turn:
                yield rows

    def _batches(self) -> Iterator[Rows]:
        size = self.sampler.step_size * max(1, WINDOW_ROWS // self.sampler.step_size)
        epoch, consumed = self.sampler.epoch, self.sampler.consumed
        stream = self.dataset.skip(consumed // size * size) if consumed >= size else self.dataset
        start = consumed // size * size
        for columns in stream.select_columns(list(self.columns)).iter(batch_size=size):
            yield from self._window(columns, start, epoch, max(0, consumed - start))
            start += len(columns[self.columns[0]])

    def _window(self, columns: Mapping[str, list[Any]], start: int, epoch: int, consumed: int) -> Iterator[Rows]:
        sampler = BatchSampler(
            len(columns[self.columns[0]]),
            batch_size=self.sampler.batch_size,
            seed=self.sampler.seed + start,  # each window has an order of its own
            shuffle=self.sampler.shuffle,
            rank=self.sampler.rank,
            world_size=self.sampler.world_size,
            lengths=self.lengths(columns) if self.lengths else None,
            epoch=epoch,
            consumed=consumed,
        )
        for request in sampler:
            rows = {name: [values[row] for row in request.row_ids] for name, values in columns.items()}
            ids = tuple(row - start if row < 0 else row + start for row in request.rows)
            yield BatchRequest(request.epoch, ids), rows


class Loader:
    """Batches of one stage for this process.

    It is no ``DataLoader`` on purpose: Lightning takes those apart to put samplers of its own in.

    Args:
        rows: Where rows come from.
        sampler: Which rows make which batch.
        collator: Turns rows into tensors.
        num_rows: Rows of the data set, when that is known.
        num_workers: Processes that prepare batches; 0 prepares them in this one.
        pin_memory: Put batches into memory from where an accelerator copies fast.
        epoch: Tells the current epoch.
        window: Batches that make one optimizer step.
        limit: Tells the batches of an epoch that are used.
    """

    def __init__(
        self,
        rows: RowReader | RowStream,
        sampler: BatchSampler,
        collator: Collator,
        *,
        num_rows: int | None,
        num_workers: int,
        pin_memory: bool,
        epoch: Callable[[], int] = lambda: 0,
        window: int = 1,
        limit: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self.requests, self.num_rows, self.epoch = sampler, num_rows, epoch  # Lightning would look into a `sampler`
        self.window, self.limit = window, limit
        # tensors of workers that lie in shared memory keep a file open each: of a long window too many
        self.copies = window > 1 and num_workers > 0 and not pin_memory
        self.start_up = WorkerStartUp() if num_workers else None
        self.loader = DataLoader(
            rows,
            batch_size=None,
            sampler=None if isinstance(rows, RowStream) else sampler,
            collate_fn=collator,  # type: ignore[arg-type]
            num_workers=num_workers,
            pin_memory=pin_memory,
            worker_init_fn=self.start_up,
            # workers of a stream are told the epoch by being started in it
            persistent_workers=num_workers > 0 and sampler.shuffle and not isinstance(rows, RowStream),
            # else the loader draws from the global generator at each epoch, and a resumed run differs from a whole one
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        if self.num_rows is None:
            raise TypeError("a stream of unknown length has no number of batches")
        return -(-self.num_rows // self.requests.step_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches of the current epoch; nothing starts before the first one is asked for.

        Each holds, as ``group_num_items``, the sums of the ``num_items`` of all batches of its step: batches are
        therefore read a window ahead. An epoch that is continued inside a window reads that from its start.
        """
        requests = self.requests
        requests.set_epoch(self.epoch())
        done = requests.consumed // requests.step_size
        again = done % self.window
        requests.go_back(again)
        window: list[dict[str, Any]] = []
        ready: deque[dict[str, Any]] = deque()
        for number, batch in enumerate(self._batches(), done - again + 1):
            window.append(_copied(batch) if self.copies else batch)
            if number % self.window == 0 or number == self.limit():
                ready.extend(self._with_sums(window)[again:])
                window, again = [], 0
            if ready:  # one is read for each that is given away: workers never wait for a whole window
                yield ready.popleft()
        yield from ready
        yield from self._with_sums(window)[again:]

    def _batches(self) -> Iterator[dict[str, Any]]:
        batches = self.start_up.iterator(self.loader) if self.start_up else iter(self.loader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except UserError as error:  # from a worker, the message comes wrapped in its traceback
                raise type(error)(str(error).rsplit(f"{type(error).__name__}: ", 1)[-1].strip()) from None
            yield batch

    def _with_sums(self, window: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give every batch of an accumulation group the loss denominators of the whole group."""
        if window:
            names = window[0][NUM_ITEMS]
            sums = {name: math.fsum(batch[NUM_ITEMS][name] for batch in window) for name in names}
            for batch in window:
                batch[GROUP_NUM_ITEMS] = sums
        return window


def _copied(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {key: _copied(value) for key, value in batch.items()}
    return batch.clone() if isinstance(batch, torch.Tensor) else batch
