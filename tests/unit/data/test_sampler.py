"""Every row once, equal work for all ranks, and an order that only seed and epoch decide."""

import itertools
import pickle
import tracemalloc
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from torch.utils.data import DataLoader

from transformers_framework.data.sampler import BatchRequest, BatchSampler, bucketed_order
from transformers_framework.processing.packing import Bins, fill_bins


def lognormal_lengths(n, seed=0):
    return np.exp(np.random.default_rng(seed).normal(4, 0.8, n)).astype(np.int32) + 1


def ranks_of(num_rows, *, world_size=1, with_lengths=False, shuffle=True, batch_size=4, seed=1337):
    lengths = lognormal_lengths(num_rows) if with_lengths else None
    return [
        BatchSampler(num_rows, batch_size=batch_size, seed=seed, shuffle=shuffle, rank=rank, world_size=world_size,
                     lengths=lengths)
        for rank in range(world_size)
    ]  # fmt: skip


def real_rows(batches):
    return [row for batch in batches for row in batch.rows if row >= 0]


@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("num_rows", [0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 23, 24, 25, 103])
def test_each_row_once_and_equal_work_for_all_ranks(num_rows, world_size, shuffle, with_lengths):
    samplers = ranks_of(num_rows, world_size=world_size, shuffle=shuffle, with_lengths=with_lengths)
    for epoch in (0, 1):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        batches = [list(sampler) for sampler in samplers]
        assert [len(sampler) for sampler in samplers] == [len(of_rank) for of_rank in batches]
        assert len({len(sampler) for sampler in samplers}) == 1
        assert sorted(row for of_rank in batches for row in real_rows(of_rank)) == list(range(num_rows))
        for step in zip(*batches, strict=True):
            assert len({len(batch) for batch in step}) == 1
            assert 1 <= len(step[0]) <= 4
            counts = [len(real_rows([batch])) for batch in step]
            assert max(counts) - min(counts) <= 1
            assert all((batch.row_ids >= 0).all() and (batch.row_ids < num_rows).all() for batch in step)


@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("num_rows", [24, 26, 29])
def test_one_and_two_processes_see_the_same_rows_at_each_step(num_rows, with_lengths):
    alone = ranks_of(num_rows, batch_size=8, with_lengths=with_lengths)[0]
    pair = ranks_of(num_rows, batch_size=4, world_size=2, with_lengths=with_lengths)
    for whole, first, second in zip(alone, *pair, strict=True):
        assert list(whole.rows) == real_rows([first, second])


def test_ranks_take_interleaved_batches():
    samplers = ranks_of(24, world_size=3, shuffle=False)
    assert [batch.rows[0] // 4 for batch in samplers[1]] == [1, 4]


def test_padding_is_marked_and_loads_an_existing_row():
    second = list(ranks_of(5, world_size=2, shuffle=False, batch_size=2)[1])[-1]
    assert second.rows == (-1 - 4,)
    assert second.row_ids.tolist() == [4]
    assert second.is_padding.tolist() == [True]


@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("world_size", [1, 2])
def test_resume_from_every_step_gives_the_tail(world_size, with_lengths):
    for reference in ranks_of(45, world_size=world_size, with_lengths=with_lengths):
        reference.set_epoch(3)
        whole = list(reference)
        for steps in range(len(reference)):
            sampler = ranks_of(45, world_size=world_size, with_lengths=with_lengths)[reference.rank]
            sampler.resume(3, reference.rows_after(steps))
            sampler.set_epoch(3)  # as Lightning does at the start of the resumed epoch
            iter(sampler)  # an iterator that nobody uses, as Lightning makes, consumes nothing
            assert len(sampler) == len(whole)
            assert list(sampler) == whole[steps:]
            assert list(sampler) == whole  # the next pass is whole, whether or not the epoch is advanced
            sampler.resume(3, reference.rows_after(steps))
            sampler.set_epoch(4)
            reference.set_epoch(4)
            assert list(sampler) == list(reference)


def test_resume_at_the_end_of_an_epoch_is_the_next_epoch():
    reference, sampler = ranks_of(45)[0], ranks_of(45)[0]
    sampler.resume(3, reference.rows_after(len(reference)))
    reference.set_epoch(4)
    assert list(sampler) == list(reference)


def test_resume_with_other_processes_continues_the_same_order():
    one = ranks_of(45, batch_size=8)[0]
    seen = real_rows(list(one)[:3])
    two = ranks_of(45, batch_size=4, world_size=2)
    for sampler in two:
        sampler.resume(0, one.rows_after(3))
    assert sorted(seen + real_rows(list(two[0])) + real_rows(list(two[1]))) == list(range(45))
    smaller = ranks_of(45, batch_size=5)[0]  # 24 rows are not a whole number of its steps: the cut one is seen again
    smaller.resume(0, one.rows_after(3))
    assert set(seen) | set(real_rows(list(smaller))) == set(range(45))
    assert len(seen) + len(real_rows(smaller)) >= 45


@pytest.mark.parametrize("with_lengths", [False, True])
def test_order_depends_on_seed_and_epoch_and_on_nothing_else(with_lengths):
    def order(seed, epoch):
        sampler = ranks_of(200, seed=seed, with_lengths=with_lengths)[0]
        sampler.set_epoch(epoch)
        assert {batch.epoch for batch in sampler} == {epoch}
        return real_rows(sampler)

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_evaluation_has_one_order_and_one_epoch():
    sampler = ranks_of(10, shuffle=False)[0]
    sampler.set_epoch(5)
    assert real_rows(sampler) == list(range(10))
    assert {batch.epoch for batch in sampler} == {0}
    lengths = lognormal_lengths(10)
    longest_first = real_rows(ranks_of(10, shuffle=False, with_lengths=True)[0])
    assert (np.diff(lengths[longest_first]) <= 0).all()


def padding_ratio(batches, lengths):
    padded = sum(lengths[list(batch.rows)].max() * len(batch) for batch in batches)
    return 1 - lengths.sum() / padded


def test_buckets_reduce_padding_and_keep_steps_random():
    lengths = lognormal_lengths(20_000)
    plain = BatchSampler(20_000, batch_size=32, seed=0, shuffle=True)
    bucketed = BatchSampler(20_000, batch_size=32, seed=0, shuffle=True, lengths=lengths)
    before, after = padding_ratio(plain, lengths), padding_ratio(bucketed, lengths)
    assert before > 0.5
    assert after < 0.1
    tops = np.array([lengths[list(batch.rows)].max() for batch in bucketed])[1:-1]
    assert abs(np.corrcoef(np.arange(tops.size), tops)[0, 1]) < 0.15  # short and long steps are mixed
    assert abs(np.corrcoef(tops[1:], tops[:-1])[0, 1]) < 0.15  # and long ones do not follow long ones
    first = {frozenset(batch.rows) for batch in bucketed}
    bucketed.set_epoch(1)
    second = {frozenset(batch.rows) for batch in bucketed}
    assert len(first & second) < 0.01 * len(bucketed)  # and other rows meet in each epoch


@pytest.mark.parametrize("num_rows", [9, 100, 1601, 7777])
def test_the_longest_step_of_the_first_epoch_comes_first(num_rows):
    lengths = lognormal_lengths(num_rows)
    order = np.concatenate(list(bucketed_order(0, 0, lengths, 8)))
    assert lengths[order[0]] == lengths.max()
    assert sorted(order.tolist()) == list(range(num_rows))


def test_all_ranks_of_a_step_get_similar_lengths():
    samplers = [
        BatchSampler(4000, batch_size=8, seed=0, shuffle=True, rank=rank, world_size=2, lengths=lognormal_lengths(4000))
        for rank in range(2)
    ]
    lengths = lognormal_lengths(4000)
    ratios = [lengths[list(a.rows)].max() / lengths[list(b.row_ids)].max() for a, b in zip(*samplers, strict=True)]
    assert np.median(ratios) < 1.1


def test_a_request_is_a_value():
    request = BatchRequest(3, (1, -3))
    assert pickle.loads(pickle.dumps(request)) == request
    assert hash(request) == hash(BatchRequest(3, (1, -3)))
    with pytest.raises(FrozenInstanceError):
        request.epoch = 4


def packed(bins, *, world_size=1, batch_size=4, seed=1337):
    return [
        BatchSampler(
            len(bins), batch_size=batch_size, seed=seed, shuffle=True, rank=rank, world_size=world_size, bins=bins
        )
        for rank in range(world_size)
    ]


def bins_of(requests):
    """Rows of each bin of some batches, with the signs that mark padding."""
    return [
        tuple(part.tolist())
        for request in requests
        for part in np.split(np.array(request.rows), np.cumsum(request.sizes)[:-1])
    ]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("num_rows", [1, 30, 211])
def test_bins_are_dealt_whole_and_each_row_once(num_rows, world_size):
    lengths = np.minimum(lognormal_lengths(num_rows), 256)
    bins = fill_bins(lengths, 256, seed=0)
    expected = {tuple(bins[number]) for number in range(len(bins))}
    orders = []
    for epoch in (0, 1):
        samplers = packed(bins, world_size=world_size)
        for sampler in samplers:
            sampler.set_epoch(epoch)
        batches = [list(sampler) for sampler in samplers]
        assert {len(of_rank) for of_rank in batches} == {-(-len(bins) // (4 * world_size))} == {len(samplers[0])}
        seen = [bin_ for of_rank in batches for bin_ in bins_of(of_rank)]
        assert {bin_ for bin_ in seen if bin_[0] >= 0} == expected, "the same bins in each epoch"
        assert sum(bin_[0] >= 0 for bin_ in seen) == len(bins)
        for step in zip(*batches, strict=True):
            assert len({len(request.sizes) for request in step}) == 1, "equally many bins on each rank"
            assert len(step[0].sizes) <= 4
        for bin_ in seen:
            if bin_[0] < 0:
                assert all(row < 0 for row in bin_), "padding is a whole bin"
                assert tuple(-1 - row for row in bin_) in expected
        orders.append(seen)
    assert orders[0] != orders[1] or len(bins) == 1


@pytest.mark.parametrize("world_size", [1, 2])
def test_bins_resume_from_every_step(world_size):
    bins = fill_bins(np.minimum(lognormal_lengths(211), 256), 256, seed=0)
    for reference in packed(bins, world_size=world_size):
        reference.set_epoch(2)
        whole = list(reference)
        for steps in range(len(reference)):
            sampler = packed(bins, world_size=world_size)[reference.rank]
            sampler.resume(2, reference.rows_after(steps))
            assert list(sampler) == whole[steps:]


def test_one_and_two_processes_see_the_same_bins_at_each_step():
    bins = fill_bins(np.minimum(lognormal_lengths(211), 256), 256, seed=0)
    alone = packed(bins, batch_size=8)[0]
    for whole, *halves in zip(alone, *packed(bins, batch_size=4, world_size=2), strict=True):
        assert bins_of([whole]) == [bin_ for bin_ in bins_of(halves) if bin_[0] >= 0]


def test_a_request_of_bins_names_their_rows():
    bins = Bins(np.array([5, 3, 1, 0, 2, 4]), np.array([2, 1, 3]))
    sampler = BatchSampler(3, batch_size=2, seed=0, shuffle=False, bins=bins)
    first, second = list(sampler)
    assert first == BatchRequest(0, (5, 3, 1), (2, 1))
    assert second == BatchRequest(0, (0, 2, 4), (3,))
    assert not first.is_padding.any()


class Rows:
    def __len__(self):
        return 11

    def __getitems__(self, request):
        return [request]


def test_a_loader_hands_requests_to_workers_in_order():
    expected = list(ranks_of(11)[0])
    for num_workers in (0, 2):
        loader = DataLoader(Rows(), batch_sampler=ranks_of(11)[0], collate_fn=lambda items: items[0],
                            num_workers=num_workers)  # fmt: skip
        assert list(loader) == expected


@pytest.mark.parametrize("with_lengths", [False, True])
def test_blocks_join_to_the_same_order_from_every_step(with_lengths):
    reference = ranks_of(2003, with_lengths=with_lengths, batch_size=3)[0]
    for epoch in (0, 1):
        reference.set_epoch(epoch)
        whole = np.concatenate(list(reference.order()))
        assert len(list(reference.order())) > 1
        for start in range(0, 2003, 111):
            assert np.array_equal(np.concatenate(list(reference.order(start))), whole[start:])


@pytest.mark.parametrize("position", [0, 10**9, 5 * 10**9])
def test_ten_billion_rows_need_no_table(position):
    sampler = BatchSampler(10**10, batch_size=8, seed=0, shuffle=True, world_size=2, rank=1)
    sampler.resume(1, position)
    tracemalloc.start()
    batches = list(itertools.islice(sampler, 250))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    rows = real_rows(batches)
    assert len(set(rows)) == len(rows) == 2000
    assert 0.45 < np.mean(rows) / 10**10 < 0.55
    assert peak < 4e6  # bytes


def test_lengths_of_a_million_rows_are_not_copied():
    lengths = lognormal_lengths(1_000_000)
    sampler = BatchSampler(1_000_000, batch_size=32, seed=0, shuffle=True, lengths=lengths)
    tracemalloc.start()
    next(iter(sampler))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < lengths.nbytes


@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_places_that_take_part_are_dealt_to_all_ranks(world_size, with_lengths):
    places = np.array([0, 1, 4, 5, 6, 11, 20])
    lengths = np.arange(23) if with_lengths else None
    samplers = [
        BatchSampler(23, batch_size=2, seed=1, shuffle=False, rank=rank, world_size=world_size, lengths=lengths,
                     entries=places)
        for rank in range(world_size)
    ]  # fmt: skip
    batches = [list(sampler) for sampler in samplers]
    assert {len(of_rank) for of_rank in batches} == {len(sampler) for sampler in samplers}
    steps = [real_rows(step) for step in zip(*batches, strict=True)]
    in_order = [row for step in steps for row in step]
    assert in_order == (sorted(places.tolist(), reverse=True) if with_lengths else places.tolist())


@pytest.mark.parametrize(("batch_size", "accumulated", "world_size"), [(4, 4, 1), (2, 4, 2), (8, 1, 2), (1, 16, 1)])
@pytest.mark.parametrize("start", [0, 16, 208])
def test_rows_of_an_optimizer_step_are_the_same_however_they_are_divided(batch_size, accumulated, world_size, start):
    """With length bucketing, too: on 16 rows at once, in smaller batches, and on several ranks."""

    def steps(batch_size: int, accumulated: int, world_size: int) -> list[list[int]]:
        found: dict[int, list[int]] = {}
        for rank in range(world_size):
            sampler = BatchSampler(
                500, batch_size=batch_size, accumulated=accumulated, seed=3, shuffle=True, rank=rank,
                world_size=world_size, lengths=lognormal_lengths(500), epoch=1, consumed=start,
            )  # fmt: skip
            for number, request in enumerate(sampler):
                found.setdefault(number // accumulated, []).extend(row for row in request.rows if row >= 0)
        return [sorted(rows) for rows in found.values()]

    expected = steps(16, 1, 1)
    assert [len(rows) for rows in expected] == [16] * ((500 - start) // 16) + [500 % 16]
    assert steps(batch_size, accumulated, world_size) == expected
