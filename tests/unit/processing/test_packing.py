"""Every row in one bin, no bin too full, every token where it belongs."""

from __future__ import annotations

import time

import numpy as np
import pytest

from transformers_framework.processing.packing import Bins, fill_bins, joint_lengths, pack


def lognormal(n: int, mean: float = 3.4, longest: int = 128, seed: int = 0) -> np.ndarray:
    return np.clip(np.exp(np.random.default_rng(seed).normal(mean, 0.8, n)).astype(np.int64), 3, longest)


def sums(bins: Bins, lengths: np.ndarray) -> np.ndarray:
    return np.add.reduceat(lengths[bins.rows], np.cumsum(bins.sizes) - bins.sizes)


def best_fit_decreasing(lengths: np.ndarray, capacity: int) -> int:
    """Written out: each row goes where it leaves least room."""
    rooms: list[int] = []
    for length in sorted(lengths.tolist(), reverse=True):
        fits = [room for room in rooms if room >= length]
        if fits:
            rooms.remove(min(fits))
        rooms.append((min(fits) if fits else capacity) - length)
    return len(rooms)


@pytest.mark.parametrize("capacity", [128, 130, 257])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 300])
def test_every_row_once_and_as_few_bins_as_best_fit_decreasing(n: int, capacity: int) -> None:
    for seed in range(3):
        lengths = lognormal(n, seed=seed)
        bins = fill_bins(lengths, capacity, seed)
        assert sorted(bins.rows.tolist()) == list(range(n))
        assert bins.sizes.sum() == n
        assert (bins.sizes > 0).all()
        if n:
            assert sums(bins, lengths).max() <= capacity
        assert len(bins) == best_fit_decreasing(lengths, capacity)
        assert [row for number in range(len(bins)) for row in bins[number]] == bins.rows.tolist()


def test_bins_of_short_texts_are_full() -> None:
    lengths = lognormal(5000)
    bins = fill_bins(lengths, 128, seed=1)
    assert lengths.sum() / (len(bins) * 128) > 0.98


def test_rows_that_fill_bins_alone_are_alone() -> None:
    assert fill_bins(np.full(5, 64), 64, 0).sizes.tolist() == [1] * 5
    assert fill_bins(np.full(5, 33), 64, 0).sizes.tolist() == [1] * 5
    assert fill_bins(np.full(5, 32), 64, 0).sizes.tolist() == [2, 2, 1]


def test_the_seed_decides_who_meets_and_nothing_else_does() -> None:
    lengths = lognormal(500)
    first, again, other = (fill_bins(lengths, 128, seed) for seed in (1, 1, 2))
    assert first.rows.tolist() == again.rows.tolist()
    assert first.rows.tolist() != other.rows.tolist()
    assert sorted(first.sizes.tolist()) == sorted(other.sizes.tolist())


def test_a_million_rows_are_packed_without_a_loop_per_row() -> None:
    lengths = lognormal(1_000_000, mean=4.5, longest=512)
    start = time.perf_counter()
    bins = fill_bins(lengths, 512, 0)
    assert time.perf_counter() - start < 5  # 0.5 s measured; a Python loop takes minutes
    assert sums(bins, lengths).max() <= 512


def batch_of(lengths: list[int]) -> dict[str, np.ndarray]:
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    ids = np.where(mask, 10 + np.arange(mask.size).reshape(mask.shape), 1)
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64), "row_ids": np.arange(len(lengths)) + 100}


def test_texts_move_with_all_that_belongs_to_their_tokens() -> None:
    lengths, sizes = [3, 5, 2, 4, 1], [2, 1, 2]
    batch = batch_of(lengths)
    own = {"lm": {"labels": np.where(batch["attention_mask"] > 0, batch["input_ids"] * 2, -100), "one": np.arange(5)}}
    packed, moved = pack(batch, own, sizes, width=8, pad_token_id=1)
    assert packed["documents"].tolist() == [
        [1, 1, 1, 2, 2, 2, 2, 2],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 2, 0, 0, 0],
    ]
    assert packed["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3, 4], [0, 1, *[0] * 6], [0, 1, 2, 3, 0, 0, 0, 0]]
    real = packed["documents"] > 0
    assert packed["input_ids"][real].tolist() == batch["input_ids"][batch["attention_mask"] > 0].tolist()
    assert (packed["input_ids"][~real] == 1).all()
    assert (packed["attention_mask"] == real).all()
    assert (moved["lm"]["labels"][real] == 2 * packed["input_ids"][real]).all()
    assert (moved["lm"]["labels"][~real] == -100).all()
    assert packed["row_ids"].tolist() == batch["row_ids"].tolist()
    assert moved["lm"]["one"].tolist() == list(range(5))


def test_padding_on_the_left_is_left_out_too() -> None:
    batch = batch_of([2, 3])
    flipped = {key: value[:, ::-1] if value.ndim == 2 else value for key, value in batch.items()}
    packed, _ = pack(flipped, {}, [2], width=6, pad_token_id=1)
    assert packed["documents"].tolist() == [[1, 1, 2, 2, 2, 0]]
    assert packed["input_ids"][0, :5].tolist() == [11, 10, 15, 14, 13]


def test_targets_go_where_their_texts_go() -> None:
    """Also where rows of inputs and of targets are equally long before they are packed."""
    lengths, written, sizes = [3, 5, 2, 4], [5, 1, 0, 2], [2, 2]
    batch = batch_of(lengths)
    mask = np.arange(5) < np.array(written)[:, None]
    labels = np.where(mask, 50 + np.arange(20).reshape(4, 5), -100)
    own = {"x": {"labels": labels, "decoder_input_ids": np.where(mask, labels + 1, 1), "one": np.arange(4)}}
    packed, moved = pack(batch, own, sizes, width=99, pad_token_id=1, multiple=4)
    assert packed["documents"].tolist() == [[1, 1, 1, 2, 2, 2, 2, 2], [1, 1, 2, 2, 2, 2, 0, 0]]
    assert packed["decoder_documents"].tolist() == [[1, 1, 1, 1, 1, 2, 0, 0], [2, 2, 0, 0, 0, 0, 0, 0]]
    assert packed["decoder_position_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0]]
    real = packed["decoder_documents"] > 0
    assert moved["x"]["labels"][real].tolist() == labels[mask].tolist()
    assert (moved["x"]["labels"][~real] == -100).all()
    assert moved["x"]["decoder_input_ids"].tolist() == np.where(real, moved["x"]["labels"] + 1, 1).tolist()
    assert packed["input_ids"][packed["documents"] > 0].tolist() == batch["input_ids"][batch["attention_mask"] > 0].tolist()  # fmt: skip  # noqa: E501
    assert moved["x"]["one"].tolist() == [0, 1, 2, 3]


def test_bins_of_joint_lengths_have_room_on_both_sides() -> None:
    draw = np.random.default_rng(0)
    for capacity, target_capacity in ((64, 64), (64, 32), (40, 97)):
        inputs, targets = draw.integers(1, capacity + 1, 500), draw.integers(0, target_capacity + 1, 500)
        lengths = joint_lengths(inputs, targets, capacity, target_capacity)
        bins = fill_bins(lengths, capacity, 0)
        assert sums(bins, inputs).max() <= capacity
        assert sums(bins, targets).max() <= target_capacity
        assert (lengths == inputs).any()
        assert (lengths > inputs).any()


def test_types_and_further_dimensions_are_kept() -> None:
    batch = batch_of([2, 3])
    own = {"x": {"vectors": np.ones((2, 3, 4), dtype=np.float32), "flags": np.ones((2, 3), dtype=bool)}}
    _, moved = pack(batch, own, [2], width=6, pad_token_id=0)
    assert moved["x"]["vectors"].shape == (1, 6, 4)
    assert moved["x"]["vectors"].dtype == np.float32
    assert moved["x"]["flags"].tolist() == [[True] * 5 + [False]]
