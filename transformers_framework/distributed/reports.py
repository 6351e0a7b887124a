"""One report of an error that all ranks of a machine have; an error of a single rank is reported by that rank."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from transformers_framework.distributed.nodes import LAUNCHERS

WAIT = 10.0  # seconds that other ranks wait for the first one to report the same error
FRESH = 60.0  # seconds after which a mark is of an earlier run, whose launcher had the same process id
POLL = 0.05  # seconds between two looks
PREFIX = "transformers_framework-reported-"


def report_once(message: str, write: Callable[[], None]) -> None:
    """Write an error message, unless the first rank of this machine writes the same one.

    Ranks of torchrun or SLURM have the same flags and data, so that most errors before training are errors of all. The
    first rank writes at once, and leaves a mark in the folder of temporary files. Others write if there is no mark in
    some seconds, or if the launcher stops them before, since the first one has failed for another reason.

    Args:
        message: The message.
        write: Writes it.
    """
    rank = local_rank(os.environ)
    if rank is None:
        write()
        return
    mark = _mark(message)
    if rank == 0:
        write()
        _leave(mark)
    elif not _appears(mark):
        write()


def local_rank(environment: Mapping[str, str]) -> int | None:
    """Return the rank on this machine of a process that a launcher has started; None for other processes.

    Examples:
        >>> local_rank({"TORCHELASTIC_RUN_ID": "none", "LOCAL_RANK": "1"}), local_rank({"LOCAL_RANK": "1"})
        (1, None)
    """
    if not LAUNCHERS & environment.keys():
        return None
    rank = environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID", ""))
    return int(rank) if rank.isdecimal() else None


def _mark(message: str) -> Path:
    """Return the file that marks a message of the processes of a launcher, the parent of all ranks."""
    import hashlib
    import tempfile

    start = f"{os.getppid()}-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    return Path(tempfile.gettempdir(), f"{PREFIX}{start}-{hashlib.sha256(message.encode()).hexdigest()[:16]}")


def _leave(mark: Path) -> None:
    with contextlib.suppress(OSError):  # without a mark, other ranks report the error, too
        for path in mark.parent.glob(f"{PREFIX}*"):
            if not _is_fresh(path):
                with contextlib.suppress(OSError):  # of another user
                    path.unlink()
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _appears(mark: Path) -> bool:
    """Wait for a mark, until the launcher stops this process; return whether it is there."""
    end = time.monotonic() + WAIT
    with contextlib.suppress(KeyboardInterrupt), _stoppable():
        while time.monotonic() < end and not _is_fresh(mark):
            time.sleep(POLL)
    return _is_fresh(mark)


def _is_fresh(mark: Path) -> bool:
    try:
        return time.time() - mark.stat().st_mtime < FRESH
    except OSError:
        return False


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Context manager in which SIGTERM raises KeyboardInterrupt, if this is the main thread."""
    try:
        earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)
