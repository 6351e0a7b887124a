"""Graceful shutdown: ranks that receive a signal agree on the batch after which all of them stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from transformers_framework.compat.lightning import disable_signal_handling

logger = logging.getLogger(__name__)


# signals that end a run at the next moment at which it can be saved, where the platform has them
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))
EXIT_STATUS = {signal.SIGINT: 128 + signal.SIGINT}  # of all others that of SIGTERM: schedulers know it


class GracefulShutdown(pl.Callback):
    """Gracefully stop all ranks after the same batch once any of them received SIGTERM, SIGUSR1, SIGHUP or Ctrl-C.

    To save a checkpoint takes all of them, and whole steps only. So they agree at the beginning of each batch and look
    at the answer at its end, when a device has long computed it. Lightning would ask within the handler of the signal,
    between any two other messages of the processes, and hang; and it waits for the device at each batch.
    """

    def __init__(self) -> None:
        self.told = 0  # the number of the signal
        self.launcher: Any = None
        self.answer: torch.Tensor | None = None
        self.is_there: Any = None
        self.process = os.getpid()
        self.before: dict[int, Any] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take the place of Lightning's handlers."""
        self.launcher = trainer.strategy.launcher
        disable_signal_handling(trainer)
        if threading.current_thread() is threading.main_thread():
            self.before = {signum: signal.getsignal(signum) for signum in SIGNALS}
            for signum in SIGNALS:
                if signum in (signal.SIGINT, signal.SIGTERM) or self.before[signum] != signal.SIG_IGN:  # as nohup does
                    signal.signal(signum, self.notice)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        if threading.current_thread() is threading.main_thread():
            for signum, handler in self.before.items():
                signal.signal(signum, handler)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self.teardown(trainer, pl_module, "")

    def notice(self, signum: int, frame: Any) -> None:
        """Remember that this process shall leave, and tell those that it started.

        Raises:
            KeyboardInterrupt: When the keyboard says it a second time.
        """
        if os.getpid() != self.process:  # a loader's worker: it is needed up to the end, and ends with this process
            return
        if signum == signal.SIGINT and self.told == signum:
            raise KeyboardInterrupt
        if not self.told:
            logger.warning("Stopping after this batch%s", "; ^C again stops at once" * (signum == signal.SIGINT))
            if signum == signal.SIGTERM and hasattr(self.launcher, "procs"):
                self.launcher.kill(signum)
        self.told = signum

    def _ask(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Ask all processes, without waiting for their answer."""
        if trainer.world_size == 1:
            return
        device = trainer.strategy.root_device
        answer = torch.full((1,), self.told, device=device)  # by a kernel: a copy from the host would wait
        torch.distributed.all_reduce(answer, op=torch.distributed.ReduceOp.MAX)
        if device.type == "cuda":
            self.answer = torch.empty(1, dtype=answer.dtype, pin_memory=True).copy_(answer, non_blocking=True)
            self.is_there = torch.cuda.Event()
            self.is_there.record()
        else:
            self.answer = answer

    def _look(self, *args: Any, **kwargs: Any) -> None:
        """Leave when that was agreed on.

        Raises:
            SIGTERMException: When one of the processes was told to, with the exit status of the run.
        """
        if self.is_there is not None:
            self.is_there.synchronize()
        if told := self.told if self.answer is None else int(self.answer):
            raise SIGTERMException(EXIT_STATUS.get(signal.Signals(told), 128 + signal.SIGTERM))

    on_train_batch_start = on_validation_batch_start = on_test_batch_start = on_predict_batch_start = _ask
    on_batch_done = on_validation_batch_end = on_test_batch_end = on_predict_batch_end = _look
