"""The end of a run that no longer improves."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Lightning's, for runs that continue: one that had stopped stays so, unless it is given more patience."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting where the run stopped, with the patience that this run was given."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do not begin what had ended."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience
