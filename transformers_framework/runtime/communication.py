"""What the processes of a run tell each other, small objects of Python."""

from __future__ import annotations

from typing import Any

from torch import distributed


def from_all(mine: Any) -> list[Any]:
    """Return what every process has, the first process's first; all must call this."""
    if not _together():
        return [mine]
    everyone: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everyone, mine)
    return everyone


def to_first(mine: Any) -> list[Any] | None:
    """Return what every process has in the first process, none in the others; all must call this."""
    if not _together():
        return [mine]
    everyone: list[Any] | None = [None] * distributed.get_world_size() if distributed.get_rank() == 0 else None
    distributed.gather_object(mine, everyone)
    return everyone


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()
