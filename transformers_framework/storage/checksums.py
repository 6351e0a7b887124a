"""Checksums: whether files are still what was written, compared when they are first used on a day."""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Iterable
from pathlib import Path

DAY = 86_400.0  # seconds
PORTION = 1 << 20  # bytes that are read at once; some 0.8 GB/s in all


def checksum(path: Path) -> str:
    """Return the CRC-32 of a file."""
    value = 0
    with path.open("rb") as file:
        while portion := file.read(PORTION):
            value = zlib.crc32(portion, value)
    return f"{value:08x}"


def checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the checksums of files in a folder."""
    return {name: checksum(folder / name) for name in names}


def is_due(record: Path) -> bool:
    """Return whether files were last compared more than a day ago: the time of a file beside them says when."""
    return abs(time.time() - record.stat().st_mtime) > DAY  # also where the clock was set back


def compared(record: Path) -> None:
    """Note that files were compared now; where nothing can be written, they are compared again next time."""
    with contextlib.suppress(OSError):
        os.utime(record)
