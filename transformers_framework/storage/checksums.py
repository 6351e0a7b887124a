"""Checksums of files, verified when the files are first used on a day."""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from transformers_framework.display import counted

DAY = 86_400.0  # seconds
CHUNK = 1 << 20  # bytes per read; about 0.8 GB/s


def checksum(path: Path) -> str:
    """Return the CRC-32 of a file."""
    value = 0
    with path.open("rb") as file:
        chunks, total = iter(partial(file.read, CHUNK), b""), path.stat().st_size
        for chunk in counted(chunks, f"Verifying {path.name}", total=total, unit="bytes", units=len):
            value = zlib.crc32(chunk, value)
    return f"{value:08x}"


def checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the checksum of each file in a folder, by name."""
    return {name: checksum(folder / name) for name in names}


def is_check_due(record: Path) -> bool:
    """Return whether files were last verified more than a day ago, by the modification time of their record."""
    return abs(time.time() - record.stat().st_mtime) > DAY  # also where the clock was set back


def mark_verified(record: Path) -> None:
    """Record that files were verified now; if the record cannot be written, they are verified again next time."""
    with contextlib.suppress(OSError):
        os.utime(record)
