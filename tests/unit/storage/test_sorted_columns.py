"""Rows that are sorted on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from transformers_framework.storage.sorted_columns import SortedColumns


def columns_of(keys: np.ndarray, width: int) -> dict[str, np.ndarray]:
    table = np.where(np.arange(width) < 1 + keys[:, None] % width, keys[:, None], -1)
    return {"flags": keys % 2 > 0, "scores": np.sqrt(keys).astype(np.float16), "table": table}


@pytest.mark.parametrize("run_bytes", [1, 3000, 1 << 30])
def test_rows_come_in_the_order_of_their_keys(tmp_path: Path, run_bytes: int) -> None:
    """Whatever the size of runs; memory and disk are read alike, and more than once."""
    keys, draw = np.repeat(np.arange(5, 1000, 3), 2), np.random.default_rng(3)
    draw.shuffle(keys)
    with SortedColumns(tmp_path, run_bytes) as rows:
        for number, part in enumerate(np.array_split(keys, 40)):
            rows.add(part, {**columns_of(part, 2 + number % 5), "added": np.full(len(part), number)})
        for size in (1, 64, 10_000):
            parts = list(rows.ranges(size))
            assert all(found[-1] < found[0] + size for found, _ in parts)
            assert np.concatenate([found for found, _ in parts]).tolist() == sorted(keys.tolist())
            assert all(len(found) for found, _ in parts)
            for found, columns in parts:
                expected = columns_of(found, columns["table"].shape[1])
                assert columns["scores"].dtype == np.float16
                assert all((columns[name] == expected[name]).all() for name in ("flags", "scores"))
                assert (columns["table"][:, 0] == found).all()
                same_key = found[1:] == found[:-1]
                assert (np.diff(columns["added"])[same_key] >= 0).all(), "in the order in which they were added"
    assert not list(tmp_path.iterdir()), "not even while it was open: a killed process leaves nothing"
