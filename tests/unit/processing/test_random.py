"""Numbers are uniform, reproducible and different wherever one coordinate differs."""

import subprocess
import sys

import numpy as np
import pytest

from transformers_framework.processing import random
from transformers_framework.processing.random import (
    SORTED_NUMBERS,
    Permutation,
    integers,
    keys,
    mix64,
    permutation,
    uniform,
    uniform_at,
)


def chi_squared(counts):
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("seed", [0, 1, 1337, -1, 2**40])
def test_uniform_passes_chi_squared_over_rows_and_over_positions(seed):
    numbers = uniform(keys(seed, 0, np.arange(20_000), "mask"), 16)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    # 99 degrees of freedom: mean 99, standard deviation 14; five of them are beyond chance, evenness too good as well
    assert 40 < chi_squared(np.histogram(numbers, bins=100, range=(0, 1))[0]) < 170
    for position in range(16):
        assert 40 < chi_squared(np.histogram(numbers[:, position], bins=100, range=(0, 1))[0]) < 170


@pytest.mark.parametrize("shift", [1, 2, 7])
def test_neighbouring_rows_and_positions_are_independent(shift):
    numbers = uniform(keys(3, 1, np.arange(4000), "mask"), 64)
    cells = np.floor(numbers * 10).astype(int)
    by_row = np.bincount((cells[:-shift] * 10 + cells[shift:]).ravel(), minlength=100)
    by_position = np.bincount((cells[:, :-shift] * 10 + cells[:, shift:]).ravel(), minlength=100)
    assert chi_squared(by_row) < 170
    assert chi_squared(by_position) < 170


def test_one_row_over_seeds_and_epochs_is_uniform_too():
    for coordinates in ([(seed, 0) for seed in range(3000)], [(0, epoch) for epoch in range(3000)]):
        numbers = np.array([uniform(keys(seed, epoch, [5], "mask"), 1)[0, 0] for seed, epoch in coordinates])
        assert chi_squared(np.histogram(numbers, bins=30, range=(0, 1))[0]) < 29 + 5 * 7.6


def test_every_coordinate_changes_every_number():
    rows = np.arange(1000)
    reference = uniform(keys(1, 2, rows, "mask"), 8)
    for seed, epoch, row_ids, purpose in [(2, 2, rows, "mask"), (1, 3, rows, "mask"), (1, 2, rows, "replace")]:
        assert not np.any(uniform(keys(seed, epoch, row_ids, purpose), 8) == reference)
    assert not np.any(uniform(keys(1, 2, rows + 1000, "mask"), 8) == reference)
    assert not np.any(keys(1, 2, rows, "mask") == keys(2, 1, rows, "mask"))  # seed and epoch are not interchangeable


def test_a_million_rows_share_no_stream():
    rows = np.arange(1_000_000)
    streams = keys(1337, 0, rows, "mask")
    assert np.unique(streams).size == rows.size
    # nor is a stream another's, shifted: no number at all occurs twice
    numbers = mix64(streams[:200_000, None] ^ mix64(np.arange(1, 5)))
    assert np.unique(numbers).size == numbers.size
    assert np.unique(np.concatenate([keys(1337, epoch, rows[:200_000], "mask") for epoch in range(5)])).size == 10**6


def test_a_row_does_not_depend_on_its_batch_nor_on_how_many_numbers_are_drawn():
    whole = uniform(keys(7, 3, np.arange(100), "mask"), 50)
    part = uniform(keys(7, 3, [41, 12], "mask"), 20)
    np.testing.assert_array_equal(part, whole[[41, 12], :20])


def test_integers_are_uniform_and_below_high():
    stream = keys(0, 0, np.arange(10_000), "replace")
    numbers = integers(stream, 10, 7)
    assert numbers.dtype == np.int64
    assert chi_squared(np.bincount(numbers.ravel(), minlength=7)) < 6 + 5 * 3.5
    assert set(np.unique(integers(stream, 10, np.arange(1, 11))[:, 0])) == {0}
    assert (integers(stream, 10, np.arange(1, 11)).max(axis=0) == np.arange(10)).all()


@pytest.mark.parametrize("high", [1, 3, 30522, 2**31 - 1, 2**53 - 1, 2**53])
def test_the_largest_uniform_number_gives_an_integer_below_high(high, monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda keys, n: np.full((1, n), 1 - 2.0**-53))
    assert integers(np.zeros(1, np.uint64), 1, high)[0, 0] == high - 1


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_permutation_has_each_number_once(n):
    np.testing.assert_array_equal(np.sort(permutation(0, 0, n, "rows")), np.arange(n))


def test_permutation_moves_each_number_everywhere():
    places = np.stack([np.argsort(permutation(0, epoch, 10, "rows")) for epoch in range(2000)])
    for number in range(10):
        assert chi_squared(np.bincount(places[:, number], minlength=10)) < 9 + 5 * 4.3


def test_mix64_is_one_to_one_and_takes_scalars_and_negatives():
    values = np.concatenate([np.arange(-1000, 1000), np.arange(2000) << 40])
    assert np.unique(mix64(values)).size == np.unique(values).size
    assert mix64(5).shape == ()
    assert int(mix64(-1)) == int(mix64(2**64 - 1))
    kept = np.arange(3, dtype=np.uint64)
    mix64(kept)
    assert kept.tolist() == [0, 1, 2]  # the argument is not changed


def test_numbers_do_not_depend_on_the_process():
    code = "from transformers_framework.processing.random import keys; print(keys(1, 2, [3], 'mask')[0])"
    for hash_seed in ("1", "2"):
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                                env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": "."})  # fmt: skip
        assert int(result.stdout) == int(keys(1, 2, [3], "mask")[0])


def test_single_numbers_are_those_of_the_streams():
    streams = keys(1337, 2, np.arange(50), "mask")
    draw = np.random.default_rng(0)
    rows, positions = draw.integers(0, 50, size=500), draw.integers(0, 90, size=500)
    assert (uniform_at(streams[rows], positions) == uniform(streams, 90)[rows, positions]).all()
    assert uniform_at(streams[:0], positions[:0]).shape == (0,)


@pytest.mark.parametrize("n", [1, 2, 9, SORTED_NUMBERS, SORTED_NUMBERS + 1, 2**17 - 1, 2**17, 2**17 + 1, 300_000])
def test_a_permutation_has_each_number_once_and_any_part_of_it_by_itself(n):
    order = Permutation(7, 2, n, "order")
    whole = order(0, n)
    assert np.array_equal(np.sort(whole), np.arange(n))
    for begin in range(0, n, n // 5 + 1):
        assert np.array_equal(order(begin, min(n, begin + 100)), whole[begin : begin + 100])


def test_a_permutation_without_a_table_is_as_random_as_one_of_numpy():
    n, seeds = 70_000, 40
    generator = np.random.default_rng(0)
    for order in (lambda seed: Permutation(seed, 0, n, "order")(0, n), lambda seed: generator.permutation(n)):
        cells, correlations, rises, neighbors, fixed = np.zeros((10, 10)), [], [], [], []
        for numbers in map(order, range(seeds)):
            cells += np.bincount(np.arange(n) * 10 // n * 10 + numbers * 10 // n, minlength=100).reshape(10, 10)
            for distance in (1, 2, 3200):
                correlations.append(np.corrcoef(numbers[distance:], numbers[:-distance])[0, 1] * np.sqrt(n))
            rises.append((np.sum(numbers[1:] > numbers[:-1]) - (n - 1) / 2) / np.sqrt((n + 1) / 12))
            neighbors.append(np.sum(np.abs(np.diff(numbers)) == 1))
            fixed.append(np.sum(numbers == np.arange(n)))
        assert 40 < chi_squared(cells) < 170
        for standard_normal in (correlations, rises):
            assert abs(np.mean(standard_normal)) * np.sqrt(len(standard_normal)) < 4
            assert 0.6 < np.std(standard_normal) < 1.5
        assert 1.2 < np.mean(neighbors) < 2.9  # Poisson with mean 2
        assert 0.4 < np.mean(fixed) < 1.8  # Poisson with mean 1


def test_permutations_of_seeds_and_epochs_and_purposes_have_nothing_in_common():
    n = 100_000
    one = Permutation(0, 0, n, "order")(0, n)
    for other in (Permutation(1, 0, n, "order"), Permutation(0, 1, n, "order"), Permutation(0, 0, n, "steps")):
        assert np.sum(one == other(0, n)) < 10
        assert abs(np.corrcoef(one, other(0, n))[0, 1]) * np.sqrt(n) < 5
