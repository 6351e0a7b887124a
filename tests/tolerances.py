"""How far apart numbers may be that are equal but for rounding, in units of their type's precision.

Bits (``torch.equal``) are asked for where one program repeats itself on one machine: the same kernels over tensors of
the same shapes that lie in memory alike, as resumed runs, processes and copies do; and of what is copied, drawn or
counted. All else is added up in another order: a checkpoint that is mapped into memory lies at other addresses, a
padded, packed or sparse batch has other shapes, another library other kernels, and each processor has its own. Each
addition rounds to half a unit of its result, ``torch.finfo(dtype).eps``; a sum of n terms of one size is off by about
sqrt(n) units, and what follows passes that on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

# what was computed in float64 and is kept in float32, as TensorBoard does; means and quotients of such numbers
STORED = 2**3
# one pass through a tiny model, its scores and losses: sums of some hundred terms, layer after layer
FORWARD = 2**8
# gradients, as a share of the largest of their tensor: the pass back, sums over all tokens of a batch
BACKWARD = 2**11
# weights after some dozen steps of Adam at a learning rate of 1e-3 and with the epsilon of `runs.EPSILON`, absolute
TRAINED = 2e-5
# p-values and bounds of intervals of two samples of 20,000 resampled data sets: several of their standard errors
RESAMPLED = 8e-3

UNSEEN = ("key.bias", "k_proj.bias", "qa_outputs.bias")  # by softmax


def rounding(units: int, dtype: torch.dtype = torch.float32) -> float:
    """Return units of a type's precision as a number, absolute for numbers of about one and relative for all others."""
    return units * torch.finfo(dtype).eps


def approx(expected: Any, units: int = FORWARD, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """Return what compares equal to numbers, in lists and mappings too, within the rounding of a type."""
    return pytest.approx(expected, rel=rounding(units, dtype), abs=rounding(units, dtype), **options)


def assert_close(
    found: Any, expected: Any, units: int = FORWARD, dtype: torch.dtype | None = None, **options: Any
) -> None:
    """Check that tensors, arrays or lists are equal within the rounding of their type.

    Args:
        found: The tensor, or what becomes one.
        expected: As ``found``; of the same type, where both are tensors.
        units: Units of rounding to allow.
        dtype: Type that they were computed in, where it is not the coarser one of both.
        **options: As for ``torch.testing.assert_close``.
    """
    options = {"check_dtype": dtype is None and torch.is_tensor(found) and torch.is_tensor(expected), **options}
    tensors = [each if torch.is_tensor(each) else torch.from_numpy(np.asarray(each)) for each in (found, expected)]
    allowed = max(rounding(units, dtype or each.dtype) for each in tensors)
    torch.testing.assert_close(*tensors, rtol=allowed, atol=allowed, **options)


def assert_gradients_close(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], units: int = BACKWARD, dtype: torch.dtype | None = None
) -> None:
    """Check that the gradients of all parameters are equal within the rounding of their type.

    Where terms cancel, as in the bias of attention's keys, which softmax does not see, nothing is left but their
    rounding; and the terms are as large as the gradients of other parameters.

    Args:
        found: Gradients by the names of their parameters.
        expected: As ``found``.
        units: Units of rounding to allow, of each tensor's largest entry.
        dtype: Type in which they were computed, where it is not that of ``expected``.
    """
    assert found.keys() == expected.keys()
    sizes = {name: float(gradient.abs().max()) for name, gradient in expected.items()}
    terms = max(sizes.values()) / 2**7
    for name, gradient in expected.items():
        allowed = rounding(units, dtype or gradient.dtype) * max(sizes[name], terms)
        torch.testing.assert_close(
            found[name], gradient, rtol=0, atol=allowed, msg=lambda text, name=name: f"{name}: {text}"
        )


def assert_weights_close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], atol: float = TRAINED) -> None:
    """Check that the weights of two runs are nearly equal.

    Biases of what softmax turns into shares are left out, those of attention's keys and of the starts and ends of
    answers: it does not see them, so their gradients are nothing but rounding.

    Args:
        found: Weights by their names.
        expected: As ``found``.
        atol: Absolute difference to allow.
    """
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        if not name.endswith(UNSEEN):
            where = {"equal_nan": True, "msg": lambda text, name=name: f"{name}: {text}"}
            torch.testing.assert_close(found[name], tensor, atol=atol, rtol=0, **where)


def assert_values_close(found: Any, expected: Any, units: int = BACKWARD) -> None:
    """Compare values of JSON, numbers up to rounding, also those that are written with four digits."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            assert_values_close(*pair, units)
    elif isinstance(expected, float):
        written = 1e-4 if round(expected, 4) == expected else 0
        assert found == approx(expected, units) or abs(found - expected) < 1.5 * written
    else:
        assert found == expected
