"""State of the training metrics, so that an interrupted epoch logs the metrics of the whole epoch."""

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
    """Save and restore the states of training metrics and losses within an epoch.

    Each rank has counted its own rows, so the states of all ranks are saved. With another world size, rank 0 resumes
    with the merged states of all.
    """

    def __init__(self) -> None:
        self.states: Mapping[str, Mapping[str, Sequence[Tensor]]] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states; called by every rank."""
        checkpoint[STATES] = states_of_all(training_metrics(pl_module))

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the states of the checkpoint until training starts."""
        self.states = checkpoint.get(STATES, {}) if trainer.training else {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the states of the metrics."""
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
    """Return the states of each metric, one tensor for each rank; empty states are left out.

    Called by every rank, with the same metrics.
    """
    mine: dict[tuple[str, str], Tensor] = {}
    device = torch.device("cpu")
    for name, metric in metrics:
        device = metric.device
        for state, value in metric.metric_state.items():
            if isinstance(value, Tensor):
                mine[name, state] = value.detach()
            elif value:  # a list state, appended batch by batch
                mine[name, state] = torch.cat([part.detach() for part in value])
    # a rank without any label may lack a state that others have
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
    """Restore the state of a metric.

    Args:
        metric: The metric, just reset.
        saved: Its states, one tensor for each rank that saved them.
        rank: Rank of this process.
        world_size: Number of ranks now.
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
    """Merge the states of several ranks into one.

    Args:
        of_all: One state for each rank.
        reduction: How torchmetrics reduces it over ranks; without one, states are summed.
        listed: Whether it is a list state.

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
