"""State of gradient accumulation and the rows consumed, for resuming with any world size and batch size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor

from transformers_framework.exceptions import ConfigurationError

if TYPE_CHECKING:
    from transformers_framework.data.datamodule import DataModule

GRADIENTS = "accumulated_gradients"
DATA = "DataModule"  # the state of the data in checkpoints


class AccumulatedGradients(pl.Callback):
    """Save and restore the gradients of an accumulation group that has not stepped yet.

    Before the step each rank has the gradients of its own rows, so those of all ranks are saved. Gradients of
    strategies that shard cannot be read: a resumed run repeats the accumulation group. So does a run with batches of
    another size, where they do not fit the rows that were done of the group.

    Args:
        allow_other_batch_size: Allow optimizer steps of another number of rows than before.
    """

    def __init__(self, allow_other_batch_size: bool = False) -> None:
        self.allow_other_batch_size = allow_other_batch_size
        self.gradients: dict[str, Tensor] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the gradients within an accumulation group; most checkpoints are written after a step and have none."""
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.processed  # type: ignore[attr-defined]
        is_open = batches % trainer.accumulate_grad_batches and batches < trainer.num_training_batches
        if is_open and has_gradients(trainer.strategy):
            checkpoint[GRADIENTS] = {
                name: trainer.strategy.all_gather(tensor.grad).cpu().reshape(trainer.world_size, *tensor.shape)
                for name, tensor in pl_module.named_parameters()
                if tensor.grad is not None
            }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the gradients of the checkpoint, and count its consumed rows in batches of this run."""
        self.gradients = checkpoint.get(GRADIENTS, {})
        if DATA not in checkpoint or "loops" not in checkpoint or not trainer.training:
            return
        data, state = cast("DataModule", trainer.datamodule), checkpoint[DATA]  # type: ignore[attr-defined]
        if not self.allow_other_batch_size:
            check_rows_of_step(data, trainer, state)
        consumed, batches = rows_and_batches(data, trainer, state, has_gradients=bool(self.gradients))
        if consumed < state["consumed"]:
            self.gradients = {}
        data.load_state_dict({**state, "consumed": consumed})
        count_batches(checkpoint["loops"]["fit_loop"], batches)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the gradients of the parameters."""
        for name, tensor in pl_module.named_parameters():
            if name in self.gradients:
                of_all = self.gradients[name]  # (world size, …); with another world size each rank takes the mean
                mine = of_all[trainer.global_rank] if len(of_all) == trainer.world_size else of_all.mean(dim=0)
                tensor.grad = mine.to(tensor.device, copy=True)
        self.gradients = {}


def has_gradients(strategy: Any) -> bool:
    """Return whether a strategy keeps gradients in the parameters."""
    is_plain = isinstance(strategy, (SingleDeviceStrategy, DDPStrategy))  # DeepSpeed's is a DDPStrategy too
    return is_plain and not getattr(strategy, "owns_gradients", False)


def check_rows_of_step(data: DataModule, trainer: pl.Trainer, state: dict[str, int]) -> None:
    """Refuse a resumed run whose optimizer steps have another number of rows.

    Args:
        data: The data of the run.
        trainer: Its trainer.
        state: What the checkpoint says of the data.

    Raises:
        ConfigurationError: With both numbers.
    """
    size, accumulated = data.entries_per_batch, trainer.accumulate_grad_batches
    before, now = state.get("rows_of_step"), size * trainer.world_size * accumulated
    if before is None or before == now:
        return
    if data.max_tokens is None:
        found = (
            f"--batch_size: the run made steps of {before} rows, and this command's would have {now} ({size} rows on "
        )
    else:
        found = f"--max_tokens_per_batch: the run made steps of {before} batches, and this command's would have {now} ("
    raise ConfigurationError(
        f"{found}{trainer.world_size} processes, --accumulate_grad_batches {accumulated}). Choose numbers whose "
        f"product is {before}, or give --allow_other_batch_size to continue with other steps."
    )


def rows_and_batches(
    data: DataModule, trainer: pl.Trainer, state: Mapping[str, int], *, has_gradients: bool
) -> tuple[int, int]:
    """Return after how many rows and batches of this run the epoch is resumed.

    Args:
        data: The data of the run.
        trainer: Its trainer.
        state: State of the data in the checkpoint.
        has_gradients: Whether the checkpoint has the gradients of an accumulation group that has not stepped.
    """
    size, step = data.entries_per_batch * trainer.world_size, state.get("rows_of_step", 0)
    consumed, num_rows = state["consumed"], data.num_entries("train")
    if num_rows is not None and consumed >= num_rows:
        return consumed, -(-consumed // size)
    if step and consumed % step and (consumed % size or not has_gradients):
        consumed -= consumed % step
    return consumed, consumed // size


def count_batches(loop: dict[str, Any], batches: int) -> None:
    """Set how many batches of the epoch the loop of a checkpoint has done.

    Args:
        loop: State of Lightning's loop, changed in place.
        batches: Batches that are done, counted in batches of this run.
    """
    progress = loop["epoch_loop.batch_progress"]
    current, total = progress["current"], progress["total"]
    more = batches - current["processed"]
    for name in ("ready", "started", "processed", "completed"):
        current[name] += more
        total[name] += more
