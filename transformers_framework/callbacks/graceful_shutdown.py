"""Graceful shutdown: ranks that receive a signal agree on the batch after which all of them stop."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from transformers_framework.compat.lightning import disable_signal_handling
from transformers_framework.distributed.signals import handle_stopping, restore_handlers

logger = logging.getLogger(__name__)

EXIT_STATUS = {signal.SIGINT: 128 + signal.SIGINT}  # of all others that of SIGTERM, which job schedulers know


class GracefulShutdown(pl.Callback):
    """Gracefully stop all ranks after the same batch once any of them received SIGTERM, SIGUSR1, SIGHUP or Ctrl-C.

    A checkpoint is saved by all ranks together, and only between two batches. At the start of each batch the ranks
    all-reduce the signal that they received, without waiting; at its end they read the result, which the device has
    computed by then. Lightning calls a collective within the signal handler, between any two other collectives, which
    can hang, and waits for the device at each batch.
    """

    def __init__(self) -> None:
        self.received = 0  # number of the signal, 0 for none
        self.launcher: Any = None
        self.agreed: torch.Tensor | None = None  # the largest number that any rank received
        self.copied: Any = None  # CUDA event: `agreed` is on the host
        self.pid = os.getpid()
        self.handlers: dict[int, Any] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Install the signal handlers in place of Lightning's."""
        self.launcher = trainer.strategy.launcher
        disable_signal_handling(trainer)
        self.handlers = handle_stopping(self.on_signal)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the earlier signal handlers."""
        restore_handlers(self.handlers)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restore the earlier signal handlers."""
        self.teardown(trainer, pl_module, "")

    def on_signal(self, signum: int, frame: Any) -> None:
        """Keep the signal for the next batch; pass SIGTERM on to the ranks that this process started.

        Raises:
            KeyboardInterrupt: At the second Ctrl-C.
        """
        if os.getpid() != self.pid:  # a loader's worker, which is needed for the current batch
            return
        if signum == signal.SIGINT and self.received == signum:
            raise KeyboardInterrupt
        if not self.received:
            logger.warning(
                "Stopping after the current batch%s", "; press Ctrl-C again to stop now" * (signum == signal.SIGINT)
            )
            if signum == signal.SIGTERM and hasattr(self.launcher, "procs"):
                self.launcher.kill(signum)
        self.received = signum

    def _all_reduce(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """All-reduce the received signal over ranks, without waiting for the result."""
        if trainer.world_size == 1:
            return
        device = trainer.strategy.root_device
        largest = torch.full((1,), self.received, device=device)  # by a kernel: a copy from the host would wait
        torch.distributed.all_reduce(largest, op=torch.distributed.ReduceOp.MAX)
        if device.type == "cuda":
            self.agreed = torch.empty(1, dtype=largest.dtype, pin_memory=True).copy_(largest, non_blocking=True)
            self.copied = torch.cuda.Event()
            self.copied.record()
        else:
            self.agreed = largest

    def _stop_if_agreed(self, *args: Any, **kwargs: Any) -> None:
        """Stop when any rank received a signal before the batch.

        Raises:
            SIGTERMException: When one did, with the exit status of the run.
        """
        if self.copied is not None:
            self.copied.synchronize()
        if signum := self.received if self.agreed is None else int(self.agreed):
            raise SIGTERMException(EXIT_STATUS.get(signal.Signals(signum), 128 + signal.SIGTERM))

    on_train_batch_start = on_validation_batch_start = on_test_batch_start = on_predict_batch_start = _all_reduce
    on_batch_done = on_validation_batch_end = on_test_batch_end = on_predict_batch_end = _stop_if_agreed
