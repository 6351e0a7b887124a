"""Texts that are joined and cut: nothing is lost, nothing doubled, however they come."""

from __future__ import annotations

import numpy as np
import pytest

from transformers_framework.processing.windows import Ragged, inside, joined, pieces, steps, surrounded, windows


def ragged(lengths: list[int], start: int = 1) -> Ragged:
    return Ragged(np.arange(start, start + sum(lengths)), np.array(lengths, dtype=np.int64))


def lists(rows: Ragged) -> list[list[int]]:
    return [part.tolist() for part in np.split(rows.values, np.cumsum(rows.lengths)[:-1])]


@pytest.mark.parametrize("capacity", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("chunks", [[10], [3, 3, 4], [1] * 10, [0, 9, 0, 1], [7, 0, 3]])
def test_windows_are_the_stream(capacity: int, chunks: list[int]) -> None:
    stream = np.arange(10)
    parts = list(windows(iter(np.split(stream, np.cumsum(chunks)[:-1])), capacity))
    rows = [row for part in parts for row in part.tolist()]
    assert np.concatenate(rows).tolist() == stream.tolist()
    assert all(len(row) == capacity for row in rows[:-1])
    assert 1 <= len(rows[-1]) <= capacity


def test_windows_keep_further_dimensions_together() -> None:
    stream = np.stack([np.arange(5), np.arange(5) * 10], axis=1)
    parts = list(windows([stream[:1], stream[1:]], 2))
    assert [part.shape for part in parts] == [(2, 2, 2), (1, 1, 2)]
    assert parts[0][1].tolist() == [[2, 20], [3, 30]]


def test_nothing_makes_no_window() -> None:
    assert list(windows([], 3)) == []
    assert list(windows([np.arange(0)], 3)) == []


@pytest.mark.parametrize("between", [[], [-1], [-1, -2]])
def test_joined_segments_are_separated_inside_of_rows(between: list[int]) -> None:
    rows = joined(ragged([2, 1, 3, 1]), np.array([2, 0, 2]), between)
    assert lists(rows) == [[1, 2, *between, 3], [], [4, 5, 6, *between, 7]]


def test_segments_without_values_are_not_separated() -> None:
    rows = joined(ragged([0, 2, 0, 0, 1, 0]), np.array([3, 1, 2]), [-1])
    assert lists(rows) == [[1, 2], [], [3]]


@pytest.mark.parametrize("capacity", [1, 2, 4, 9])
def test_pieces_are_full_but_the_last_of_each_row(capacity: int) -> None:
    lengths = np.array([9, 0, 1, 4, 8])
    sizes, rows = pieces(lengths, capacity)
    assert np.bincount(rows, weights=sizes, minlength=5).tolist() == lengths.tolist()
    last = np.append(np.diff(rows) > 0, True)
    assert (sizes[~last] == capacity).all()
    assert (sizes[last & (lengths[rows] > 0)] >= 1).all()
    assert np.array_equal(rows, np.sort(rows))


def test_surrounded_rows() -> None:
    assert lists(surrounded(ragged([2, 0, 1]), [7, 8], [9])) == [[7, 8, 1, 2, 9], [7, 8, 9], [7, 8, 3, 9]]
    assert surrounded(ragged([2]), [1], [1]).values.dtype == np.arange(1).dtype


@pytest.mark.parametrize("left", [False, True])
def test_padded_rows(left: bool) -> None:
    rows = ragged([2, 0, 3])
    expected = [[0, 1, 2], [0, 0, 0], [3, 4, 5]] if left else [[1, 2, 0], [0, 0, 0], [3, 4, 5]]
    assert rows.padded(3, 0, left=left).tolist() == expected
    assert (inside(rows.lengths, 3, left=left) == (np.array(expected) > 0)).all()
    assert rows.starts.tolist() == [0, 2, 2]
    assert steps(rows.lengths).tolist() == [0, 1, 0, 1, 2]


def test_lists_become_ragged_and_ragged_stays() -> None:
    rows = Ragged.of([[1, 2], [], [3]])
    assert lists(rows) == [[1, 2], [], [3]]
    assert Ragged.of(rows) is rows
    assert len(rows) == 3
