"""What loggers get of a run besides its metrics: its flags when it starts, its model card when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from transformers_framework.callbacks.model_card import CARD
from transformers_framework.constants import ONCE
from transformers_framework.loggers.interface import end_all, log_hyperparams, log_text
from transformers_framework.run_parts import EndsRun

if TYPE_CHECKING:
    from transformers_framework.run_parts import Run


def logged_run(run: Run) -> LoggedRun | None:
    """Return the callback that logs flags and model card; None with ``--fast_dev_run``."""
    return LoggedRun(run) if run.writes else None


class LoggedRun(pl.Callback, EndsRun):
    """Log the flags of a run as hyper-parameters, and the model card of its export; end the runs of all loggers.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.has_logged = run, False

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Log the flags, in the first stage."""
        if self.has_logged:
            return
        self.has_logged = True
        flags = {key: value for key, value in self.run.final_options.items() if value is not None and key not in ONCE}
        monitor = self.run.selection.monitor
        names = [name for name in self.run.log_names if name.startswith("valid/")]
        log_hyperparams(trainer.loggers, flags, [monitor] if monitor else names)

    def on_run_end(self, run: Run) -> None:
        """Log the model card of the best state, else of the last one; end the runs of loggers."""
        loggers, export = run.trainer.loggers, run.folders.export
        if run.trainer.is_global_zero and export is not None:
            text = (export / CARD).read_text("utf-8").removeprefix("---\n").partition("\n---\n")[2]
            log_text(loggers, "model_card", text, step=run.trainer.global_step)
        end_all(loggers)
