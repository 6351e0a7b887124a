"""Exports: the folders of their models; names of those of single steps, and which of them are kept."""

from __future__ import annotations

import re
from pathlib import Path

NAME = re.compile(r"ckpt_epoch_(\d+)_step_(\d+)")


def export_name(epoch: int, step: int) -> str:
    """Return the name of the folder of an export.

    Examples:
        >>> export_name(0, 5)
        'ckpt_epoch_0_step_5'
    """
    return f"ckpt_epoch_{epoch}_step_{step}"


def model_folders(export: Path) -> dict[str, Path]:
    """Return the folder of each model of an export by its name, that of a head or tower; a single one has no name."""
    if (export / "config.json").exists():
        return {"": export}
    return {path.parent.name: path.parent for path in sorted(export.glob("*/config.json"))}


def surplus(folder: Path, *, keep: int, step: int) -> list[Path]:
    """Return the exports in a folder that are not kept: all but the newest.

    Exports of later steps than the current one are those of a process that was killed before it wrote its checkpoint.
    They count as the oldest, because the run writes them again.

    Args:
        folder: Folder of all exports of a run.
        keep: Number of exports that are kept.
        step: The current optimizer step.
    """
    found = [(match, path) for path in folder.glob("ckpt_*") if (match := NAME.fullmatch(path.name))]
    steps = {path: (int(match[2]), int(match[1])) for match, path in found}
    oldest_first = sorted(steps, key=lambda path: (steps[path][0] <= step, steps[path]))
    return oldest_first[: max(0, len(oldest_first) - keep)]
