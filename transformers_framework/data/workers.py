"""Processes that prepare batches: they begin to work, or others take their place."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from multiprocessing import util
from typing import Any

from torch.utils.data import DataLoader

from transformers_framework.compat import torch as compat
from transformers_framework.exceptions import RunError

PATIENCE = 60.0  # seconds in which they begin
STARTS = 4

logger = logging.getLogger(__name__)


class WorkerStartUp:
    """What a loader's processes call when they begin to work (``worker_init_fn``), and who waits for it.

    CPython before 3.9.20, 3.10.15, 3.11.10 and 3.12 may leave a process that was just forked waiting forever for a lock
    (https://github.com/python/cpython/issues/112275): where another thread entered Python at that very moment, as those
    of torch.distributed do when a message was sent. The run would hang with all its other processes.

    The folder of their sockets (``/tmp/pymp-*``) belongs to the run's process, which removes it at its end: a worker
    that is terminated, as all are that still wait for work then, removes nothing.
    """

    def __init__(self) -> None:
        self.said = multiprocessing.Semaphore(0)
        self.sockets, self.run = _folder_of_sockets(), os.getpid()

    def __call__(self, number: int) -> None:
        """Say that a process has begun; it removes the sockets' folder at its end where the run was killed."""
        util.Finalize(None, self._remove_sockets, exitpriority=-100)
        _send_errors(number)
        self.said.release()

    def _remove_sockets(self) -> None:
        if os.getppid() != self.run:
            shutil.rmtree(self.sockets, ignore_errors=True)

    def iterator(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """Return the iterator of a loader whose processes have begun; those that hang are started again.

        Raises:
            RunError: When they do not begin, time and again.
        """
        for _ in range(STARTS):
            are_there = compat.has_workers(loader)
            try:
                batches: Any = iter(loader)
            except OSError as error:
                raise RunError(
                    f"The processes that prepare batches cannot be started ({error.strerror}): use fewer --num_workers."
                ) from error
            if are_there or self._came_from(compat.workers_of(batches)):
                return batches
            logger.warning("Processes that prepare batches did not begin to work; others are started.")
            self._give_up(loader, batches)
        raise RunError(
            f"The processes that prepare batches did not begin to work in {STARTS} attempts: --num_workers 0."
        )

    def _came_from(self, workers: list[Any]) -> bool:
        """Wait until each has begun; one that died is for the loader to tell of."""
        end = time.monotonic() + PATIENCE
        for _ in workers:
            while not self.said.acquire(timeout=0.5):
                if not all(worker.is_alive() for worker in workers):
                    return True
                if time.monotonic() > end:
                    return False
        return True

    def _give_up(self, loader: DataLoader[Any], batches: Any) -> None:
        compat.kill_workers(loader, batches)
        while self.said.acquire(block=False):
            pass


def _folder_of_sockets() -> str:
    """Return the folder for sockets of this process: not that of a process from which it was forked, which needs it."""
    compat.own_temporary_folder()
    return util.get_temp_dir()


def _send_errors(worker: int) -> None:
    """Let this worker process send the error instead of a batch that it cannot send.

    Its queue only prints it, as when shared memory is full or too many files are open, and the run waits forever.
    """

    def send(queue: Any, error: Exception, item: Any) -> None:
        number, content = item
        if isinstance(content, compat.ExceptionWrapper):
            os._exit(1)  # not even that: the run sees that the process is gone
        info = (type(error), error, error.__traceback__)
        queue.put((number, compat.ExceptionWrapper(info, where=f"in DataLoader worker process {worker}")))

    compat.on_unsent_batch(send)
