"""Batches as Lightning gets them: the same ones whoever prepares them, each row once, in an order that continues."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, IterableDataset

from transformers_framework.data import loader as loading
from transformers_framework.data.collator import Collator
from transformers_framework.data.loader import Loader, RowReader, RowStream
from transformers_framework.data.sampler import BatchRequest, BatchSampler
from transformers_framework.exceptions import DataError

NUM_ROWS = 53  # steps of 8 rows leave one of 5
Batches = list[tuple[list[int], list[int]]]  # rows (padding is -1) and texts of each batch


class Numbers:
    """Inputs whose text is the row's own number, and a length that has nothing to do with it."""

    columns, key_prefixes = ("number",), ("",)

    def post_process(self, rows: Any, *, pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        if 1000 in rows["number"]:
            raise DataError("file.jsonl:7: no such text")
        numbers = np.array(rows["number"])
        return {"input_ids": numbers[:, None], "truncated": numbers % 10 == 0}

    def distinct(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return batch


def lengths(rows: Any) -> np.ndarray:
    return np.array(rows["number"]) * 7919 % 100


def loader(
    *,
    streams: bool = False,
    num_workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    batch_size: int = 8,
    shuffle: bool = True,
    grouped: bool = False,
    epoch: int = 0,
    resumed: tuple[int, int] | None = None,
    num_rows: int = NUM_ROWS,
    numbers: list[int] | None = None,
    objectives: Sequence[Any] = (),
    **options: Any,
) -> Loader:
    numbers = list(range(num_rows)) if numbers is None else numbers
    dataset = Dataset.from_dict({"unused": [""] * len(numbers), "number": numbers})
    sampler = BatchSampler(
        len(numbers),
        batch_size=batch_size // world_size,
        seed=5,
        shuffle=shuffle,
        rank=rank,
        world_size=world_size,
        lengths=lengths({"number": numbers}) if grouped and not streams else None,
    )
    if resumed:
        sampler.resume(*resumed)
    rows: RowReader | RowStream = RowReader(dataset, ("number",))
    if streams:
        stream: IterableDataset = dataset.to_iterable_dataset(num_shards=min(8, len(numbers)))
        rows = RowStream(stream, ("number",), sampler, lengths if grouped else None)
    return Loader(
        rows,
        sampler,
        Collator(Numbers(), objectives, "train" if shuffle else "valid", 5),
        num_rows=len(numbers),
        num_workers=num_workers,
        pin_memory=False,
        epoch=lambda: epoch,
        **options,
    )


def read(made: Loader) -> Batches:
    return [(batch["row_ids"].tolist(), batch["input_ids"][:, 0].tolist()) for batch in made]


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "BUFFER_ROWS", 20)  # 16 rows, as steps have 8


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("streams", [False, True])
def test_workers_and_processes_change_no_batch(streams: bool, grouped: bool) -> None:
    options = {"streams": streams, "grouped": grouped, "epoch": 1}
    alone = read(loader(**options))
    assert [len(rows) for rows, _ in alone] == [8] * 6 + [5]
    assert sorted(row for rows, _ in alone for row in rows) == list(range(NUM_ROWS)), "every row once"
    assert all(rows == texts for rows, texts in alone), "a row id is that of the text"
    for num_workers in (2, 4):
        assert read(loader(num_workers=num_workers, **options)) == alone
    ranks = [read(loader(rank=rank, world_size=2, num_workers=2 * rank, **options)) for rank in range(2)]
    assert list(map(len, ranks)) == [7, 7]
    for (rows, _), first, second in zip(alone, *ranks, strict=True):
        assert rows == [row for row in first[0] + second[0] if row >= 0]
        assert len(first[0]) == len(second[0])


@pytest.mark.parametrize("streams", [False, True])
def test_an_epoch_has_an_order_of_its_own(streams: bool) -> None:
    orders = [[row for rows, _ in read(loader(streams=streams, epoch=epoch)) for row in rows] for epoch in range(3)]
    assert len(set(map(tuple, orders))) == 3
    assert all(sorted(order) == list(range(NUM_ROWS)) for order in orders)
    assert orders[0] != list(range(NUM_ROWS))


def test_windows_of_a_stream_are_shuffled_apart() -> None:
    rows = [row for rows, _ in read(loader(streams=True)) for row in rows]
    assert [sorted(rows[start : start + 16]) for start in (0, 16, 32)] == [
        list(range(start, start + 16)) for start in (0, 16, 32)
    ]
    orders = [[row - start for row in rows[start : start + 16]] for start in (0, 16, 32)]
    assert len(set(map(tuple, orders))) == 3


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_a_resumed_epoch_is_the_rest_of_it(steps: int, streams: bool, num_workers: int) -> None:
    """In the first window of a stream, at its end, in a later one."""
    options: dict[str, Any] = {"streams": streams, "epoch": 2, "grouped": True}
    whole = read(loader(**options))
    rest = loader(resumed=(2, steps * 8), num_workers=num_workers, **options)
    assert read(rest) == whole[steps:]
    assert len(rest) == len(whole), "Lightning counts whole epochs"


@pytest.mark.parametrize("streams", [False, True])
def test_the_epoch_after_a_resumed_one_is_whole(streams: bool) -> None:
    made = loader(streams=streams, resumed=(2, 24), epoch=2)
    read(made)
    made.epoch = lambda: 3
    assert read(made) == read(loader(streams=streams, epoch=3))


@pytest.mark.parametrize("streams", [False, True])
def test_a_last_step_of_one_row(streams: bool) -> None:
    ranks = [read(loader(streams=streams, rank=rank, world_size=2, num_rows=17)) for rank in range(2)]
    counts = Counter(row for rank in ranks for rows, _ in rank for row in rows)
    assert counts.pop(-1) == 1, "one process has nothing but padding"
    assert counts == dict.fromkeys(range(17), 1)


def test_evaluation_reads_in_order_and_epoch_zero() -> None:
    first, second = (read(loader(shuffle=False, epoch=epoch)) for epoch in (0, 4))
    assert first == second
    assert [row for rows, _ in first for row in rows] == list(range(NUM_ROWS))


@pytest.mark.parametrize("rows", [(0,), (3, 1), (1, 1, -1, 2), (-3,)])
def test_token_columns_are_read_without_python_lists(rows: tuple[int, ...]) -> None:
    ids = [[1, 2, 3], [], [4], [5, 6]]
    dataset = Dataset.from_dict({"ids": ids, "other": list("abcd")})
    request, columns = RowReader(dataset, ("ids", "other"), ("ids",))[BatchRequest(0, rows)]
    wanted = [ids[row] for row in request.row_ids]
    assert columns["ids"].values.tolist() == [value for row in wanted for value in row]
    assert columns["ids"].lengths.tolist() == list(map(len, wanted))
    assert columns["other"] == ["abcd"[row] for row in request.row_ids]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_mistake_in_a_worker_keeps_its_message(num_workers: int) -> None:
    with pytest.raises(DataError) as error:
        read(loader(num_workers=num_workers, numbers=[1, 2, 1000, 3]))
    assert str(error.value) == "file.jsonl:7: no such text"


def test_truncated_rows_are_counted_without_padding() -> None:
    counts = [
        [int(batch["num_truncated"]) for batch in loader(shuffle=False, rank=rank, world_size=2, num_rows=17)]
        for rank in range(2)
    ]
    assert sum(map(sum, counts)) == 2, "rows 0 and 10; the padding of the last step is none of them"


@pytest.mark.parametrize("streams", [False, True])
def test_nothing_draws_from_the_global_generator(streams: bool) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    read(loader(streams=streams, num_workers=2))
    assert torch.equal(torch.get_rng_state(), before), "dropout of a resumed run would differ"


def test_a_stream_of_unknown_length_has_no_number_of_batches() -> None:
    made = loader(streams=True)
    assert len(made) == 7
    made.num_rows = None
    with pytest.raises(TypeError):
        len(made)


class Evens:
    """An objective that has a label where a row's number is even."""

    name = "evens"

    def post_process(self, rows: Any, batch: Any, context: Any) -> dict[str, np.ndarray]:
        return {"labels": np.where(np.array(rows["number"]) % 2, -100, 1)}


def sums(made: Loader) -> list[tuple[float, float]]:
    return [(batch["num_items"]["evens"], batch["group_num_items"]["evens"]) for batch in made]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(("limit", "batches"), [(math.inf, 7), (5, 5)])
def test_a_batch_knows_the_labels_of_its_accumulation_group(limit: float, batches: int, num_workers: int) -> None:
    options = {
        "objectives": [Evens()],
        "accumulate_grad_batches": 3,
        "limit": lambda: limit,
        "num_workers": num_workers,
    }
    found = sums(loader(**options))
    assert len(found) == 7, "what is not used is Lightning's to leave"
    own = [num_items for num_items, _ in found]
    assert len(set(own)) > 2
    for start in range(0, batches, 3):
        window = range(start, min(start + 3, batches))
        assert {found[number][1] for number in window} == {sum(own[number] for number in window)}
    for done in range(1, 7):  # an epoch that resumes inside a group knows its earlier labels
        assert sums(loader(resumed=(0, done * 8), **options)) == found[done:]


def test_an_accumulation_group_is_read_ahead_batch_by_batch() -> None:
    made = loader(objectives=[Evens()], accumulate_grad_batches=3)
    read: list[int] = []
    inner = made.loader
    made.loader = (read.append(number) or batch for number, batch in enumerate(inner))  # type: ignore[func-returns-value]
    behind = [len(read) for _ in made]
    assert behind == [3, 4, 5, 6, 7, 7, 7]


def test_a_large_accumulation_group_keeps_no_files_open() -> None:
    from pathlib import Path

    if not Path("/proc/self/fd").exists():
        pytest.skip("nobody tells the open files")
    made = loader(objectives=[Evens()], accumulate_grad_batches=1000, num_workers=1, num_rows=400)
    batches = iter(made)
    next(batches)  # all 50 batches of the window were read
    assert len(list(Path("/proc/self/fd").iterdir())) < 100, "each batch has four tensors"
