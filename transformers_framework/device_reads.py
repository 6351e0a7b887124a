"""Reads of values of tensors by the host, which waits for the device to compute them; only on a CPU they are free."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def are_free(tensor: Tensor) -> bool:
    """Return whether the host can read values of a tensor without waiting for a device.

    Args:
        tensor: The tensor; only its device counts.
    """
    return tensor.device.type == "cpu"
