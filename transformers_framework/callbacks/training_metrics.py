"""Metrics of a training epoch are those of the whole epoch, also when a run was interrupted in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from transformers_framework.compat.torchmetrics import is_list_state, names_of_states, reduction_of, set_state
from transformers_framework.constants import TRAIN
from transformers_framework.distributed.collectives import all_gather_json

STATES = "training_metrics"  # key of checkpoints


class TrainingMetrics(pl.Callback):
    """Save what metrics and losses of training have counted so far.

    Each process has counted its own rows, so the states of all are kept. With another number of processes the first
    one goes on from the counts of all.
    """

    def __init__(self) -> None:
        self.states: Mapping[str, Mapping[str, Sequence[Tensor]]] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states; every process calls this."""
        checkpoint[STATES] = states_of_all(training_metrics(pl_module))

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take those of the run that continues."""
        self.states = checkpoint.get(STATES, {}) if trainer.training else {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let metrics go on counting."""
        for name, metric in training_metrics(pl_module):
            saved = self.states.get(name, {})
            if saved.keys() <= set(names_of_states(metric)):
                restore(metric, saved, trainer.global_rank, trainer.world_size)
        self.states = {}


def training_metrics(module: pl.LightningModule) -> Iterator[tuple[str, Metric]]:
    """Yield the metrics and losses of training, by name."""
    starts = tuple(f"{group}.{TRAIN}_" for group in ("stage_metrics", "stage_losses"))
    for name, part in module.named_modules():
        if isinstance(part, Metric) and name.startswith(starts):
            yield name, part


def states_of_all(metrics: Iterator[tuple[str, Metric]]) -> dict[str, dict[str, list[Tensor]]]:
    """Return the state of each metric, a tensor of each process; those that have counted nothing are left out.

    Every process calls this, with the same metrics.
    """
    mine: dict[tuple[str, str], Tensor] = {}
    device = torch.device("cpu")
    for name, metric in metrics:
        device = metric.device
        for state, value in metric.metric_state.items():
            if isinstance(value, Tensor):
                mine[name, state] = value.detach()
            elif value:  # what was appended batch by batch
                mine[name, state] = torch.cat([part.detach() for part in value])
    # a process whose batches had no label may lack what others have
    kinds = [[[*key], [*value.shape[1:]], str(value.dtype)] for key, value in mine.items()]
    found: dict[str, dict[str, list[Tensor]]] = {}
    everyone = {tuple(key): (shape, dtype) for theirs in all_gather_json(kinds) for key, shape, dtype in theirs}
    for (name, state), (shape, dtype) in sorted(everyone.items()):
        if (name, state) not in mine:
            dtype = getattr(torch, dtype.removeprefix("torch."))
            mine[name, state] = torch.zeros(0, *shape, dtype=dtype, device=device)
        tensor = mine[name, state]
        of_all = gather_all_tensors(tensor) if torch.distributed.is_initialized() else [tensor]
        found.setdefault(name, {})[state] = [part.cpu().clone() for part in of_all]
    return found


def restore(metric: Metric, saved: Mapping[str, Sequence[Tensor]], rank: int, world_size: int) -> None:
    """Let a metric go on from a state.

    Args:
        metric: The metric, which has counted nothing.
        saved: Its state, a tensor of each process that saved it.
        rank: This process.
        world_size: Number of processes now.
    """
    for state, of_all in saved.items():
        if len(of_all) == world_size:
            value = of_all[rank]
        elif rank == 0:
            value = merged(of_all, reduction_of(metric, state), listed=is_list_state(metric, state))
        else:
            continue
        set_state(metric, state, value.to(metric.device))


def merged(of_all: Sequence[Tensor], reduction: Any, *, listed: bool) -> Tensor:
    """Return the state of several processes as that of one.

    Args:
        of_all: That of each.
        reduction: How torchmetrics reduces it over processes; sums that it leaves to the metric are added.
        listed: Whether it is a list, of one entry each batch.

    Examples:
        >>> merged([torch.tensor([1, 2]), torch.tensor([3, 4])], None, listed=False).tolist()
        [4, 6]
        >>> merged([torch.tensor([1, 2]), torch.tensor([3])], None, listed=True).tolist()
        [1, 2, 3]
    """
    if listed:
        return torch.cat(list(of_all))
    stacked = torch.stack(list(of_all))
    return stacked.sum(dim=0) if reduction is None else cast("Tensor", reduction(stacked))
