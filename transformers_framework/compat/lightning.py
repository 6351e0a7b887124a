"""Private parts of PyTorch Lightning."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytorch_lightning as pl
from pytorch_lightning import callbacks, loggers
from pytorch_lightning.loops.fit_loop import _FitLoop as FitLoop
from pytorch_lightning.loops.loop import _Loop as Loop
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FitLoop", "Loop"]

# what is used, as `module:name`, and why the public interface does not do
PARTS: Final = {
    "pytorch_lightning.loops.fit_loop:_FitLoop": "epochs that are resumed between batches",
    "pytorch_lightning.loops.fit_loop:_FitLoop._can_stop_early": "whether `should_stop` ends training now",
    "pytorch_lightning.loops.loop:_Loop": "the setter of `restarting`",
    "pytorch_lightning.loops.training_epoch_loop:_TrainingEpochLoop": "validations that are due after a resume",
    "pytorch_lightning.loops.training_epoch_loop:_TrainingEpochLoop._should_check_val_fx": "whether one is due",
    "pytorch_lightning.loops.training_epoch_loop:_TrainingEpochLoop._num_ready_batches_reached": "the last batch",
    "pytorch_lightning.loops.training_epoch_loop:_TrainingEpochLoop._broadcast_sigterm_tensor": "our own shutdown",
    "pytorch_lightning.trainer.connectors.signal_connector:_SignalConnector.register_signal_handlers": "our own ones",
    "pytorch_lightning.callbacks:EarlyStopping._evaluate_stopping_criteria": "values that are not finite",
    "pytorch_lightning.trainer:Trainer._results": "values that are logged again although nothing was measured",
    "pytorch_lightning.loggers:TensorBoardLogger": "`_experiment` and `_kwargs`: event files that are resumed",
    "pytorch_lightning.strategies:DDPStrategy._get_process_group_backend": "a process group made by our rendezvous",
    "lightning_fabric.utilities.distributed:_destroy_dist_connection": "its end",
    "pytorch_lightning.strategies:Strategy": "`_forward_redirection`: methods that call sharded layers",
    "lightning_fabric.strategies.launchers.subprocess_script:_ChildProcessObserver": "our own watchdog",
}

# key of the state of the loop over batches in checkpoints: the steps that loggers count
BATCHES_THAT_STEPPED: Final = "_batches_that_stepped"


class TrainingEpochLoop(_TrainingEpochLoop):
    """Lightning's loop over batches, whose decision to validate is a public method."""

    def validates_now(self, data_fetcher: Any) -> bool:
        """Return whether a validation follows the batch that was just trained on."""
        return bool(super()._should_check_val_fx(data_fetcher))

    def _should_check_val_fx(self, data_fetcher: Any) -> bool:
        return self.validates_now(data_fetcher)


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's callback, whose judgement of a value is a public method."""

    def judge(self, current: Tensor) -> tuple[bool, str | None]:
        """Return whether training stops at the monitored value, a scalar, and what is logged about that."""
        return super()._evaluate_stopping_criteria(current)

    def _evaluate_stopping_criteria(self, current: Tensor) -> tuple[bool, str | None]:
        return self.judge(current)


class TensorBoardLogger(loggers.TensorBoardLogger):
    """Lightning's logger, which can be asked for its writer without creating one."""

    @property
    def is_open(self) -> bool:
        """Whether there is a writer."""
        return self._experiment is not None

    def purge_from(self, step: int) -> None:
        """Let a TensorBoard that is open forget the values of a step and of those after it; before the first value."""
        self._kwargs["purge_step"] = step


def can_stop_early(trainer: pl.Trainer) -> bool:
    """Return whether ``trainer.should_stop`` ends training now: ``min_epochs`` and ``min_steps`` are reached."""
    return bool(trainer.fit_loop._can_stop_early)


def epoch_ends(trainer: pl.Trainer) -> bool:
    """Return whether the batch at hand is the last of its epoch."""
    return bool(trainer.fit_loop.epoch_loop._num_ready_batches_reached())


def disable_signal_handling(trainer: pl.Trainer) -> None:
    """Let a trainer install no handlers of signals, and ask other ranks for no signal of theirs."""
    setattr(trainer._signal_connector, "register_signal_handlers", lambda: None)  # noqa: B010
    setattr(trainer.fit_loop.epoch_loop, "_broadcast_sigterm_tensor", lambda: None)  # noqa: B010


def forget_logged_values(trainer: pl.Trainer) -> None:
    """Forget what was logged on steps: Lightning repeats what has no new value."""
    for logged in (trainer._results or {}).values():
        logged.reset()


def attached_strategy(module: pl.LightningModule) -> Any:
    """Return the strategy of the trainer that a module is attached to; None where there is none."""
    return None if module._trainer is None else module._trainer.strategy


def method_in_forward(strategy: Any, module: pl.LightningModule, name: str) -> Callable[..., Any]:
    """Return a method of a module that runs as its forward pass does: sharded weights are there."""
    return partial(strategy._forward_redirection, strategy.model, module, name)


def process_group_options(strategy: Any) -> dict[str, Any]:
    """Return the backend and the timeout of the process group that a strategy would make."""
    return {"backend": strategy._get_process_group_backend(), "timeout": strategy._timeout}


def destroy_process_group() -> None:
    """End the process group, at the end of the process."""
    from lightning_fabric.utilities.distributed import _destroy_dist_connection

    _destroy_dist_connection()


def end_child_observers() -> None:
    """End the threads that kill all processes of a node, without a message, when one of them ends."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            setattr(thread, "_run", lambda: True)  # noqa: B010
