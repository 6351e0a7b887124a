"""Batches of at most a number of tokens: each row once, equally many for all ranks, and known before training."""

import numpy as np
import pytest

from transformers_framework.data.token_batches import TokenBatchSampler
from transformers_framework.processing.token_batches import TokenBatches, padded_lengths

CASES = [(0, 64), (1, 64), (2, 48), (7, 64), (103, 64), (103, 200), (1000, 512), (1000, 4096)]


def lengths_of(num_rows):
    return np.minimum(48, np.exp(np.random.default_rng(num_rows).normal(2.5, 0.8, num_rows)).astype(np.int64) + 1)


def samplers(num_rows, max_tokens, world_size=1):
    batches = TokenBatches(lengths_of(num_rows), max_tokens, seed=1337)
    return [TokenBatchSampler(batches, rank=rank, world_size=world_size) for rank in range(world_size)]


@pytest.mark.parametrize(("num_rows", "max_tokens"), CASES)
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_each_row_once_within_the_limit_and_equally_many_batches(num_rows, max_tokens, world_size):
    lengths, counts = padded_lengths(lengths_of(num_rows)), set()
    for epoch in range(3):
        ranks = samplers(num_rows, max_tokens, world_size)
        for sampler in ranks:
            sampler.set_epoch(epoch)
        of_ranks = [list(sampler) for sampler in ranks]
        counts |= {len(batches) for batches in of_ranks} | {len(sampler) for sampler in ranks}
        batches = [batch for of_rank in of_ranks for batch in of_rank]
        assert sorted(row for batch in batches for row in batch.rows if row >= 0) == list(range(num_rows))
        assert all(len(batch) * lengths[batch.row_ids].max() <= max_tokens for batch in batches)
        assert all(batch.epoch == epoch for batch in batches)
        padding = [batch for batch in batches if batch.is_padding.any()]
        assert len(padding) < world_size
        assert all(len(batch) == 1 for batch in padding)
    assert len(counts) == 1, "the number of steps is the same in each epoch and on each rank"


def test_batches_do_not_depend_on_the_number_of_ranks():
    alone = list(samplers(1000, 512)[0])
    pair = [batch for step in zip(*samplers(1000, 512, 2), strict=True) for batch in step]
    assert pair[: len(alone)] == alone


def test_rows_of_a_batch_change_between_epochs_and_the_longest_come_first():
    (sampler,) = samplers(1000, 512)
    epochs = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    lengths = padded_lengths(lengths_of(1000))
    assert lengths[list(epochs[0][0].rows)].max() == lengths.max()
    assert not {frozenset(batch.rows) for batch in epochs[0]} & {frozenset(batch.rows) for batch in epochs[1]}
    assert sorted(map(len, epochs[0])) == sorted(map(len, epochs[1]))


@pytest.mark.parametrize("world_size", [1, 2])
def test_resume_from_every_step_gives_the_tail(world_size):
    for reference in samplers(103, 200, world_size):
        reference.set_epoch(3)
        whole = list(reference)
        for steps in range(len(reference)):
            sampler = samplers(103, 200, world_size)[reference.rank]
            sampler.resume(3, reference.rows_after(steps))
            sampler.set_epoch(3)
            assert list(sampler) == whole[steps:]


def test_little_is_padding():
    lengths = np.minimum(512, np.exp(np.random.default_rng(0).normal(5, 0.8, 50_000)).astype(np.int64) + 3)
    batches = TokenBatches(lengths, 8192, seed=1)
    assert batches.fill > 0.93
    assert len(batches) < 1.06 * lengths.sum() / 8192
