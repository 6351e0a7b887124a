"""Dropout goes on where it stopped."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch

from transformers_framework.distributed.collectives import all_gather_json
from transformers_framework.processing.random import keys


class RandomState(pl.Callback):
    """Give each process its own random numbers, and restore them when a run continues.

    They serve dropout only: whatever is decided about rows is a function of seed, epoch and row.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.states: list[dict[str, torch.Tensor]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every process's generators; every process calls this."""
        state = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state()
        return {"states": all_gather_json(state)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the states of the run that continues; they are set when training starts."""
        self.states = state_dict["states"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed this process, or restore it where it stopped."""
        if len(self.states) == trainer.world_size:
            state = self.states[trainer.global_rank]
            torch.set_rng_state(state["cpu"].cpu())
            if "cuda" in state and torch.cuda.is_available():
                torch.cuda.set_rng_state(state["cuda"].cpu())
        else:  # a new run, or one that continues on another number of processes
            key = keys(self.seed, trainer.global_step, [trainer.global_rank], "dropout")
            torch.manual_seed(int(key[0]) >> 1)
        self.states = []
