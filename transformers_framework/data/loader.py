"""The data loader of one stage, over which Lightning iterates; it can resume inside an epoch."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from transformers_framework.constants import GROUP_NUM_ITEMS, NUM_ITEMS, TOKENS
from transformers_framework.data.sampler import BatchRequest, BatchSampler
from transformers_framework.processing.windows import Ragged
from transformers_framework.workers import WorkerStartUp, with_plain_errors

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from transformers_framework.data.collator import Collator
    from transformers_framework.data.token_cache import TokenCache

BUFFER_ROWS = 10_000  # rows of a stream that are shuffled, and bucketed by length, together

Rows = tuple[BatchRequest, Mapping[str, Any]]  # values of a column: a list; of a token column: Ragged


class RowReader(TorchDataset[Rows]):
    """Read all rows of a batch at once from memory-mapped Arrow.

    Args:
        dataset: The data set.
        columns: Columns that are read.
        token_columns: Columns of lists of integers, which are read without creating Python lists.
        tokens: Tokens of all rows, which are read in place of columns of texts.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        columns: tuple[str, ...],
        token_columns: tuple[str, ...] = (),
        tokens: TokenCache | None = None,
    ) -> None:
        self.columns, self.tokens = columns, tokens
        self.dataset = dataset.select_columns(list(columns)).with_format("arrow")
        self.token_columns = frozenset(token_columns)

    def __getitem__(self, request: BatchRequest) -> Rows:
        rows = request.row_ids
        table = self.dataset[rows.tolist()] if self.columns else None
        values = {name: self._values(name, table.column(name)) for name in self.columns if table is not None}
        return request, values if self.tokens is None else {**values, TOKENS: self.tokens[rows]}

    def _values(self, name: str, column: pa.ChunkedArray) -> Any:
        if name not in self.token_columns:
            return column.to_pylist()
        array = column.combine_chunks()
        return Ragged(array.flatten().to_numpy(), array.value_lengths().to_numpy().astype(np.int64))


class RowStream(IterableDataset[Rows]):
    """Read a stream in buffers of rows; each buffer is shuffled and split into batches like a small data set.

    Every worker reads the whole stream and keeps every n-th batch, so that batches do not depend on the number of
    workers or ranks.

    Args:
        dataset: The stream.
        columns: Columns that are read.
        sampler: Batch size, seed, rank and position of the stream; each buffer gets a sampler with the same settings.
        lengths: Returns the length of each row, for length bucketing.
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
        size = self.sampler.rows_of_step * max(1, BUFFER_ROWS // self.sampler.rows_of_step)
        epoch, consumed = self.sampler.epoch, self.sampler.consumed
        stream = self.dataset.skip(consumed // size * size) if consumed >= size else self.dataset
        start = consumed // size * size
        for columns in stream.select_columns(list(self.columns)).iter(batch_size=size):
            yield from self._buffer(columns, start, epoch, max(0, consumed - start))
            start += len(columns[self.columns[0]])

    def _buffer(self, columns: Mapping[str, list[Any]], start: int, epoch: int, consumed: int) -> Iterator[Rows]:
        sampler = BatchSampler(
            len(columns[self.columns[0]]),
            batch_size=self.sampler.batch_size,
            accumulated=self.sampler.accumulated,
            seed=self.sampler.seed + start,  # each buffer has an order of its own
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
    """Data loader of one stage for this rank.

    It is not a ``DataLoader`` on purpose: Lightning would replace the sampler of a ``DataLoader``.

    Args:
        rows: The rows of a data set or of a stream.
        sampler: Yields the rows of each batch.
        collator: Turns rows into tensors.
        num_rows: Number of rows of the data set, None if unknown.
        num_workers: Number of worker processes; 0 prepares batches in this process.
        pin_memory: Put batches into pinned memory.
        epoch: Returns the current epoch.
        accumulate_grad_batches: Number of batches in an accumulation group.
        limit: Returns the number of batches of an epoch that are used.
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
        accumulate_grad_batches: int = 1,
        limit: Callable[[], float] = lambda: math.inf,
    ) -> None:
        # not an attribute `sampler`, which Lightning would use
        self.requests, self.num_rows, self.epoch = sampler, num_rows, epoch
        self.accumulate_grad_batches, self.limit = accumulate_grad_batches, limit
        # each tensor in shared memory keeps a file open: too many in a large accumulation group
        self.copies = accumulate_grad_batches > 1 and num_workers > 0 and not pin_memory
        self.start_up = WorkerStartUp() if num_workers else None
        self.loader = DataLoader(
            rows,
            batch_size=None,
            sampler=None if isinstance(rows, RowStream) else sampler,
            collate_fn=collator,  # type: ignore[arg-type]
            num_workers=num_workers,
            pin_memory=pin_memory,
            worker_init_fn=self.start_up,
            # workers of a stream are started in each epoch, so that they know it
            persistent_workers=num_workers > 0 and sampler.shuffle and not isinstance(rows, RowStream),
            # else the loader would use the global generator in each epoch, and resumed runs would differ from others
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        if self.num_rows is None:
            raise TypeError("the number of batches is unknown: the data is a stream of unknown length")
        return -(-self.num_rows // self.requests.step_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches of the current epoch; workers start at the first ``next``.

        Each batch has ``group_num_items``: the sums of ``num_items`` over all batches of its accumulation group.
        Batches are therefore read one accumulation group ahead. An epoch that is resumed inside a group reads the group
        from its start.
        """
        requests = self.requests
        requests.set_epoch(self.epoch())
        done = requests.consumed // requests.step_size
        again = done % self.accumulate_grad_batches
        requests.go_back(again)
        group: list[dict[str, Any]] = []
        ready: deque[dict[str, Any]] = deque()
        batches = self.start_up.iterator(self.loader) if self.start_up else iter(self.loader)
        for number, batch in enumerate(with_plain_errors(batches), done - again + 1):
            group.append(_copied(batch) if self.copies else batch)
            if number % self.accumulate_grad_batches == 0 or number == self.limit():
                ready.extend(self._with_sums(group)[again:])
                group, again = [], 0
            if ready:  # one batch is read for each that is yielded, so that workers never wait for a whole group
                yield ready.popleft()
        yield from ready
        yield from self._with_sums(group)[again:]

    def _with_sums(self, group: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give every batch of an accumulation group the loss denominators of the whole group."""
        if group:
            names = group[0][NUM_ITEMS]
            sums = {name: math.fsum(batch[NUM_ITEMS][name] for batch in group) for name in names}
            for batch in group:
                batch[GROUP_NUM_ITEMS] = sums
        return group


def _copied(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {key: _copied(value) for key, value in batch.items()}
    return batch.clone() if isinstance(batch, torch.Tensor) else batch
