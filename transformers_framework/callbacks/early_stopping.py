"""Early stopping, and why training ended early."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer
from torch import Tensor

from transformers_framework.compat import lightning
from transformers_framework.runtime.loops import in_last_batch

TIME_IS_OVER = "--max_time is over"


class EarlyStopping(lightning.EarlyStopping):
    """Lightning's early stopping for runs that are resumed: one that had stopped trains on only with more patience.

    A value that is not finite counts as no improvement.
    """

    reason: str | None = None  # why it has stopped training

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count, with the patience of this run."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once when patience had already run out."""
        if self.wait_count >= self.patience:
            trainer.should_stop, self.reason = True, self._explain()

    def judge(self, current: Tensor) -> tuple[bool, str | None]:
        """Return whether training stops at a value, a scalar, and what is logged about that."""
        worst = -math.inf if self.mode == "max" else math.inf
        stops, said = super().judge(current if current.isfinite() else current.new_tensor(worst))
        if stops:
            self.reason = self._explain()
        return stops, said

    def _explain(self) -> str:
        checks = "epochs" if self.monitor.startswith("train/") else "validations"
        best = f"its best is {self.best_score:.6g}" if self.best_score.isfinite() else "it was never a number"
        return f"{self.monitor} has not improved in {self.wait_count} {checks} (--patience); {best}"


def reason_of_end(trainer: pl.Trainer) -> str | None:
    """Return why training ended before its last epoch or step; nothing where it did not."""
    if in_last_batch(trainer) or 0 < trainer.max_steps <= trainer.global_step:
        return None
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping) and callback.reason is not None:
            return callback.reason
        if isinstance(callback, Timer) and (left := callback.time_remaining()) is not None and left <= 0:
            return TIME_IS_OVER
    return None
