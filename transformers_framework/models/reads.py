"""The positions of a batch that heads read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor


class Reads(NamedTuple):
    """The positions of a batch that a head reads.

    Args:
        columns: Positions in each row ``(B, P) int64``; they may repeat.
        places: Which of them the head gets, flat in ``columns`` ``(N,) int64``; all of them without any.
    """

    columns: Tensor
    places: Tensor | None = None


def label_positions(entries: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Any]]:
    """Return the positions of labels as arguments of a model of several heads, ``positions`` and ``reads``.

    Args:
        entries: Batch entries of objectives with a sparse head, by name.
    """
    reads = {name: Reads(own["columns"], own["places"]) for name, own in entries.items() if "columns" in own}
    return {"positions": {name: own["positions"] for name, own in entries.items()}, "reads": reads}
