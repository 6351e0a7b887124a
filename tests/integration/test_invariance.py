"""What is hidden of a text depends on seed, epoch and row: not on workers, processes, order, packing or a resume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests import runs, tiny
from transformers_framework.constants import TRAIN, Stage
from transformers_framework.data.collator import Collator
from transformers_framework.data.loader import Loader, RowReader
from transformers_framework.data.sampler import BatchSampler

NUM_ROWS = 61
Seen = dict[int, tuple[Any, ...]]  # by row: the tokens that a model sees and what it must predict

CASES = {
    "masked_lm": {},
    "whole words": {"whole_word_masking": True, "probability": 0.3},
    "swapped_lm": {"pipeline": "swapped_lm"},
    "random tokens": {"pipeline": "random_token_detection"},
    "clusters": {"pipeline": "cluster_random_token_detection"},
    "generator": {"pipeline": "token_detection_and_masked_lm"},
    "words and tags": {"pipeline": "masked_lm_and_token_class", "whole_word_masking": True},
}
PACKED = ("masked_lm", "whole words", "random tokens", "generator")


@pytest.fixture(scope="module", params=CASES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """The parts of a run."""
    folder, flags = tmp_path_factory.mktemp("rows"), {"pipeline": "masked_lm", **CASES[request.param]}
    rows = runs.rows_for(flags["pipeline"], NUM_ROWS)
    if request.param in PACKED:
        flags["packing"] = "isolated"
    file = tiny.write_jsonl(folder / "rows.jsonl", rows)
    data = {f"{stage}_dataset": file for stage in (TRAIN, "valid")}
    return request.param, runs.build(runs.command(folder, **flags, **data)).data


def texts_of(batch: dict[str, Any]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield each text of a batch: its row, the tokens and, of each objective, what belongs to them."""
    shape = batch["input_ids"].shape
    tables = [batch["input_ids"]]
    for own in (value for value in batch.values() if isinstance(value, dict) and "labels" in value):
        labels = own["labels"]
        if "positions" in own:
            kept = labels != -100
            labels = torch.full(shape, -100).flatten().scatter(0, own["positions"][kept], labels[kept]).view(shape)
        tables += [labels, *(own[name] for name in sorted(own) if name.endswith("draws"))]
    segments = batch.get("documents", batch["attention_mask"])
    places = [
        (row, segments[row] == number) for row in range(len(segments)) for number in range(1, segments[row].max() + 1)
    ]
    for row_id, (row, there) in zip(batch["row_ids"].tolist(), places, strict=True):
        if row_id >= 0:
            yield row_id, tuple(tuple(table[row][there].tolist()) for table in tables)


def seen(
    data: Any, *, stage: Stage = TRAIN, epoch: int = 0, seed: int = 1337, rank: int = 0, world_size: int = 1,
    num_workers: int = 0, consumed: int = 0, batch_size: int = 4, bins: Any = None, lengths: Any = None,
) -> Seen:  # fmt: skip
    """Return all texts that a process reads in an epoch."""
    num_rows = NUM_ROWS if bins is None else len(bins)
    sampler = BatchSampler(
        num_rows, batch_size=batch_size, seed=1337, shuffle=stage == TRAIN, rank=rank, world_size=world_size,
        bins=bins, lengths=lengths,
    )  # fmt: skip
    if consumed:
        sampler.resume(epoch, consumed)
    reader = RowReader(data.datasets[stage], data.columns(stage), data.inputs.token_columns)
    collator = Collator(data.inputs, data.objectives, stage, seed)
    loader = Loader(
        reader, sampler, collator, num_rows=num_rows, num_workers=num_workers, pin_memory=False, epoch=lambda: epoch
    )
    texts = [text for batch in loader for text in texts_of(batch)]
    assert len(texts) == len(dict(texts)), "no text comes twice"
    return dict(texts)


def test_workers_processes_order_and_packing_change_nothing(made: tuple[str, Any]) -> None:
    name, data = made
    expected = seen(data, epoch=3)
    assert set(expected) == set(range(NUM_ROWS))
    for num_workers in (2, 4):
        assert seen(data, epoch=3, num_workers=num_workers) == expected
    halves = [seen(data, epoch=3, rank=rank, world_size=2, batch_size=3) for rank in range(2)]
    assert halves[0] | halves[1] == expected
    assert all(len(half) > NUM_ROWS / 3 for half in halves)
    assert seen(data, epoch=3, lengths=data.inputs.lengths(data.datasets[TRAIN])) == expected
    if name in PACKED:
        assert len(data.bins) < NUM_ROWS / 2
        assert seen(data, epoch=3, bins=data.bins) == expected


def test_a_resumed_epoch_hides_the_same(made: tuple[str, Any]) -> None:
    _, data = made
    expected, rest = seen(data, epoch=2), seen(data, epoch=2, consumed=24)
    assert len(rest) == NUM_ROWS - 24
    assert rest.items() <= expected.items()


def test_epochs_and_seeds_differ_and_evaluations_do_not(made: tuple[str, Any]) -> None:
    _, data = made
    first = seen(data)
    for other in (seen(data, epoch=1), seen(data, seed=1338)):
        assert sum(other[row] != first[row] for row in first) > NUM_ROWS / 2
    fixed = seen(data, stage="valid")
    assert seen(data, stage="valid", epoch=5, batch_size=7) == fixed
