"""Rows become a batch: inputs first, then what each objective adds to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import IGNORED_LABEL, ROW_IDS, Stage
from transformers_framework.data.sampler import BatchRequest
from transformers_framework.objectives.objective import Context, Objective

if TYPE_CHECKING:
    from torch import Tensor


class Collator:
    """Turn the rows of a batch into tensors; runs in the loader's workers and keeps no state.

    Args:
        inputs: Turns rows into model inputs.
        objectives: Add labels; each may change the inputs.
        stage: Stage of all batches.
        seed: The run's seed.
        pad_to_multiple_of: Lengths are rounded up to a multiple of this.
    """

    def __init__(
        self, inputs: Any, objectives: Sequence[Objective], stage: Stage, seed: int, pad_to_multiple_of: int = 1
    ) -> None:
        self.inputs, self.objectives, self.stage, self.seed = inputs, objectives, stage, seed
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, rows: tuple[BatchRequest, Mapping[str, Sequence[Any]]]) -> dict[str, Tensor | int]:
        """Return the batch as tensors, with the row ids ``(B,) int64`` and ``num_truncated``, an int."""
        import torch

        request, columns = rows
        context = Context(self.stage, self.seed, request.epoch, request.row_ids)
        batch = self.inputs.post_process(columns, pad_to_multiple_of=self.pad_to_multiple_of)
        truncated = batch.pop("truncated")
        for objective in self.objectives:
            batch |= objective.post_process(columns, batch, context)
        padding = request.is_padding
        if padding.any():
            for key in batch:
                if key.startswith("labels"):
                    batch[key][padding] = IGNORED_LABEL
        batch[ROW_IDS] = np.where(padding, -1, request.row_ids)
        tensors: dict[str, Tensor | int] = {key: torch.from_numpy(array) for key, array in batch.items()}
        return tensors | {"num_truncated": int((truncated & ~padding).sum())}
