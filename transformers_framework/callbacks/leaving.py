"""Processes that are told to leave agree on the batch behind which they do."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

logger = logging.getLogger(__name__)


class Leaving(pl.Callback):
    """Let all processes of a run leave behind the same batch once any of them was told to, by SIGTERM or the keyboard.

    To save a checkpoint takes all of them, and whole steps only. So they agree at the beginning of each batch and look
    at the answer at its end, when a device has long computed it. Lightning would ask within the handler of the signal,
    between any two other messages of the processes, and hang; and it waits for the device at each batch.
    """

    def __init__(self) -> None:
        self.told = 0  # the number of the signal
        self.launcher: Any = None
        self.answer: torch.Tensor | None = None
        self.is_there: Any = None
        self.process, self.before = os.getpid(), signal.getsignal(signal.SIGINT)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take the place of Lightning's handlers."""
        self.launcher = trainer.strategy.launcher
        setattr(trainer._signal_connector, "_sigterm_notifier_fn", self.notice)  # noqa: B010
        setattr(trainer.fit_loop.epoch_loop, "_broadcast_sigterm_tensor", lambda: None)  # noqa: B010
        if threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGINT, self.notice)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the keyboard back."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self.before)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the keyboard back, and let no one take a test for done that was not."""
        self.teardown(trainer, pl_module, "")
        if isinstance(exception, SIGTERMException) and trainer.state.fn != "fit":
            exception.code = 128 + signal.SIGTERM

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
            logger.warning("Leaving behind this batch%s", "; ^C again leaves at once" * (signum == signal.SIGINT))
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

    def _look(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Leave when that was agreed on.

        Raises:
            KeyboardInterrupt: When one of the processes was told to by the keyboard.
            SIGTERMException: When one was told to by a signal, and Lightning does not look at this stage.
        """
        if self.is_there is not None:
            self.is_there.synchronize()
        told = self.told if self.answer is None else int(self.answer)
        if told == signal.SIGINT:
            raise KeyboardInterrupt
        if told and not trainer.predicting:
            trainer._signal_connector.received_sigterm = True  # Lightning leaves when this batch is counted
        elif told:
            raise SIGTERMException

    on_train_batch_start = on_validation_batch_start = on_test_batch_start = on_predict_batch_start = _ask
    on_train_batch_end = on_validation_batch_end = on_test_batch_end = on_predict_batch_end = _look
