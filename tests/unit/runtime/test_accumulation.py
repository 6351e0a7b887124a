"""The number of accumulated batches for a number of rows per step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.runtime.accumulation import accumulated_batches


def trainer(world: int, accumulated: int = 1) -> Any:
    return SimpleNamespace(accumulate_grad_batches=accumulated, world_size=world)


@pytest.mark.parametrize(
    ("world", "batch_size", "rows", "expected"), [(1, 8, 64, 8), (8, 8, 64, 1), (6, 4, 48, 2), (3, 5, None, 7)]
)
def test_steps_have_as_many_rows_on_any_number_of_processes(
    world: int, batch_size: int, rows: int | None, expected: int
) -> None:
    asked = 7 if rows is None else 1
    sizes = {"batch_size": batch_size, "effective_batch_size": rows}
    assert accumulated_batches(trainer(world, asked), **sizes) == expected
    assert accumulated_batches(trainer(world, expected), **sizes) == expected


def test_a_number_that_is_no_multiple_on_all_processes() -> None:
    message = r"--batch_size 8 × 3 processes = 24. Give 48 or 72, or a --batch_size that divides it with 3 processes\."
    with pytest.raises(ConfigurationError, match=message):
        accumulated_batches(trainer(3), batch_size=8, effective_batch_size=64)
