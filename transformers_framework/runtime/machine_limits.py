"""Limits of the machine for the workers of a data loader: open files and shared memory."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import sys

from transformers_framework.exceptions import ConfigurationError

SHARED_MEMORY = "/dev/shm"  # where Linux keeps the tensors and semaphores that processes share
FILES_OF_A_PROCESS, FILES_OF_A_WORKER = 64, 40  # open files; each tensor in transit from a worker is one
ENOUGH_FILES = 65_536
SEMAPHORES = 2**16  # bytes of the queues of a few workers, one page each
BATCHES_ON_THE_WAY = 2  # for each worker, prefetched

logger = logging.getLogger(__name__)


def allow_open_files() -> None:
    """Raise the limit of open files of this process as far as it may itself."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS has a limit below the one that it states
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_files() -> float:
    """Return how many files this process may have open."""
    try:
        import resource
    except ImportError:
        return float("inf")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if soft == resource.RLIM_INFINITY else soft


def check_workers(num_workers: int, batch_size: int) -> None:
    """Raise when worker processes could not share what they prepare, warn when they may not be able to.

    Args:
        num_workers: Worker processes of this process.
        batch_size: Bytes of a batch whose rows are as long as they may be.

    Raises:
        ConfigurationError: With what is needed and what is available.
    """
    if not num_workers:
        return
    flag, without = f"--num_workers {num_workers}", "--num_workers 0, which prepares batches in the process that trains"
    needed = FILES_OF_A_PROCESS + num_workers * FILES_OF_A_WORKER
    if (allowed := open_files()) < needed:
        raise ConfigurationError(
            f"{flag}: this process may have {allowed:.0f} files open, and needs about {needed}. Raise the limit with "
            f"ulimit -n {needed}, or use fewer workers, or {without}."
        )
    try:
        multiprocessing.Semaphore(0)
    except OSError as error:
        raise ConfigurationError(
            f"{flag}: processes cannot share memory here ({SHARED_MEMORY}: {error.strerror}). Make it writable, or use "
            f"{without}."
        ) from error
    if sys.platform != "linux" or not os.path.isdir(SHARED_MEMORY):  # noqa: PTH112
        return
    found = os.statvfs(SHARED_MEMORY)
    free, wanted = found.f_bavail * found.f_frsize, SEMAPHORES + batch_size * num_workers * BATCHES_ON_THE_WAY
    if free >= wanted:
        return
    message = (
        f"{flag}: {SHARED_MEMORY} has {free / 2**20:.1f} MiB left, and batches of full length on their way from "
        f"workers take {wanted / 2**20:.1f} MiB. Enlarge it (docker run --shm-size), use fewer workers, or {without}."
    )
    if free < batch_size + SEMAPHORES:
        raise ConfigurationError(message)
    logger.warning(message)
