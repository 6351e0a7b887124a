"""The batch sampler of each stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers_framework.constants import TRAIN, Stage
from transformers_framework.data.preparation import MAX_COUNTED_ROWS
from transformers_framework.data.row_groups import regroup
from transformers_framework.data.sampler import BatchSampler
from transformers_framework.data.token_batches import TokenBatchSampler

if TYPE_CHECKING:
    import numpy as np
    import pytorch_lightning as pl

    from transformers_framework.data.datamodule import DataModule

UNKNOWN_NUM_ROWS = 2**62  # stands for the unknown number of rows of a stream


def sampler_of(data: DataModule, stage: Stage, trainer: pl.Trainer) -> BatchSampler:
    """Return the batch sampler of a stage for this rank.

    Args:
        data: The data, loaded.
        stage: The stage.
        trainer: Has the rank and the accumulation.
    """
    accumulated = trainer.accumulate_grad_batches if stage == TRAIN else 1
    steps = {"accumulated": accumulated, "rank": trainer.global_rank, "world_size": trainer.world_size}
    if stage == TRAIN and data.token_batches is not None:
        return TokenBatchSampler(data.token_batches, **steps)
    num_entries = data.num_entries(stage)
    has_buckets = data.length_bucketing and not data.iterable and not data.limits.overfits
    return BatchSampler(
        num_entries if num_entries is not None else UNKNOWN_NUM_ROWS,
        batch_size=data.batch_sizes[stage],
        seed=data.seed,
        shuffle=stage == TRAIN and not data.limits.overfits,
        lengths=row_lengths(data, stage) if has_buckets or stage != TRAIN else None,
        bins=data.bins if stage == TRAIN else None,
        regroup=regroup(data, stage),
        entries=data.limits.entries(data, stage, trainer.world_size),
        **steps,
    )


def row_lengths(data: DataModule, stage: Stage) -> np.ndarray:
    """Return the length of every row ``(N,) int64``: its tokens in training, its characters in evaluation.

    It is also the number of characters where tokens cannot be cached, or would take long to count.
    """
    dataset = data.datasets[stage]
    is_counted = bool(data.inputs.token_columns) or data.inputs.length_key is not None
    if stage != TRAIN or not is_counted or len(dataset) > MAX_COUNTED_ROWS:
        return data.inputs.lengths(dataset)
    return data.preparation.token_lengths(dataset, data.inputs, data.tokens(TRAIN))
