"""Files to which a run appends lines while it goes on."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def append(path: Path, text: str) -> None:
    """Append a text to a file, which is opened for this only: wholly, or not at all if there is an error.

    Raises:
        OSError: When it cannot be written, for instance because the disk is full.
    """
    data = text.encode("utf-8", "backslashreplace")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def flushed_size(path: Path) -> int:
    """Return the size of a file in bytes, all of which is on the disk then; 0 if there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return 0
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def cut(path: Path, size: int) -> None:
    """Cut a file to a size in bytes, if it is longer; remove it if that is 0."""
    if not size:
        path.unlink(missing_ok=True)
    elif path.exists() and path.stat().st_size > size:
        os.truncate(path, size)
