"""State of the random number generators, saved and restored for each rank."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch

from transformers_framework.distributed.collectives import all_gather_json
from transformers_framework.processing.random import keys


class RandomState(pl.Callback):
    """Seed the generators of each rank differently, and restore them on resume.

    They are used for dropout only: every random decision about a row is a function of seed, epoch and row.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.states: list[dict[str, torch.Tensor]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the generator states of all ranks; called by every rank."""
        state = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state()
        return {"states": all_gather_json(state)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states of the checkpoint until training starts."""
        self.states = state_dict["states"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the generators of this rank, or seed them."""
        if len(self.states) == trainer.world_size:
            state = self.states[trainer.global_rank]
            torch.set_rng_state(state["cpu"].cpu())
            if "cuda" in state and torch.cuda.is_available():
                torch.cuda.set_rng_state(state["cuda"].cpu())
        else:  # a new run, or one that is resumed with another world size
            key = keys(self.seed, trainer.global_step, [trainer.global_rank], "dropout")
            torch.manual_seed(int(key[0]) >> 1)
        self.states = []
