"""Worker start-up of the data loader: workers that hang at their start are killed and started again."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from multiprocessing import util
from typing import Any, TypeVar

from torch.utils.data import DataLoader

from transformers_framework.compat import torch as compat
from transformers_framework.exceptions import RunError, UserError

Batch = TypeVar("Batch")

START_TIMEOUT = 60.0  # seconds for all workers to start
START_ATTEMPTS = 4

logger = logging.getLogger(__name__)


class WorkerStartUp:
    """The ``worker_init_fn`` of a data loader: each worker reports its start, and the main process waits for it.

    In CPython before 3.9.20, 3.10.15, 3.11.10 and 3.12 a process that was just forked may wait forever for a lock
    (https://github.com/python/cpython/issues/112275), if another thread entered Python at the moment of the fork, as
    threads of torch.distributed do. The run would hang with all its ranks.

    The main process creates the folder of the workers' sockets (``/tmp/pymp-*``) and removes it at its end: workers
    that are terminated, as idle workers are at the end, remove nothing.
    """

    def __init__(self) -> None:
        self.started = multiprocessing.Semaphore(0)
        self.socket_folder, self.parent = _socket_folder(), os.getpid()

    def __call__(self, number: int) -> None:
        """Report the start of a worker; at its end it removes the folder of sockets if the main process was killed."""
        util.Finalize(None, self._remove_sockets, exitpriority=-100)
        _send_errors(number)
        self.started.release()

    def _remove_sockets(self) -> None:
        if os.getppid() != self.parent:
            shutil.rmtree(self.socket_folder, ignore_errors=True)

    def iterator(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """Return the iterator of a loader after its workers have started; workers that hang are restarted.

        Raises:
            RunError: When workers cannot be started, or hang at every attempt.
        """
        for _ in range(START_ATTEMPTS):
            have_started = compat.has_workers(loader)
            try:
                batches: Iterator[Any] = iter(loader)
            except OSError as error:
                raise RunError(
                    f"The workers of the data loader cannot be started ({error.strerror}). Use fewer --num_workers."
                ) from error
            if have_started or self._all_started(compat.workers_of(batches)):
                return batches
            logger.warning("The workers of the data loader did not start; starting them again.")
            self._kill(loader, batches)
        raise RunError(
            f"The workers of the data loader did not start in {START_ATTEMPTS} attempts. Use --num_workers 0."
        )

    def _all_started(self, workers: list[Any]) -> bool:
        """Wait until all workers have started; return True if one has died, which the loader then reports."""
        end = time.monotonic() + START_TIMEOUT
        for _ in workers:
            while not self.started.acquire(timeout=0.5):
                if not all(worker.is_alive() for worker in workers):
                    return True
                if time.monotonic() > end:
                    return False
        return True

    def _kill(self, loader: DataLoader[Any], batches: Any) -> None:
        compat.kill_workers(loader, batches)
        while self.started.acquire(block=False):
            pass


def with_plain_errors(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield the batches of a loader; errors of users' data in a worker have their own message, without a traceback.

    Raises:
        UserError: When a worker has raised it.
    """
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except UserError as error:  # the message of a worker's error is inside its traceback
            raise type(error)(str(error).rsplit(f"{type(error).__name__}: ", 1)[-1].strip()) from None
        yield batch


def _socket_folder() -> str:
    """Return a folder for the sockets of this process; a forked process must not use the folder of its parent."""
    compat.own_temporary_folder()
    return util.get_temp_dir()


def _send_errors(worker: int) -> None:
    """Make this worker send an error in place of a batch that it cannot send.

    By default the queue only prints the error, for instance when shared memory is full or too many files are open, and
    the run waits forever.
    """

    def send(queue: Any, error: Exception, item: Any) -> None:
        number, content = item
        if isinstance(content, compat.ExceptionWrapper):
            os._exit(1)  # the error cannot be sent either: the main process notices that the worker is gone
        info = (type(error), error, error.__traceback__)
        queue.put((number, compat.ExceptionWrapper(info, where=f"in DataLoader worker process {worker}")))

    compat.on_unsent_batch(send)
