"""The collator: turns rows into a batch, first the model inputs, then the entries that each objective adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from transformers_framework.constants import IGNORE_INDEX, NUM_ITEMS, ROW_IDS, TOKEN_COUNTS, TRAIN, UNPADDED, Stage
from transformers_framework.data.sampler import BatchRequest
from transformers_framework.inputs.inputs import Inputs
from transformers_framework.objectives.capabilities import SparseHead, SparseLastLayer
from transformers_framework.objectives.objective import Context, Objective, active, num_items
from transformers_framework.processing.masking import label_columns, sparse_labels
from transformers_framework.processing.packing import pack
from transformers_framework.processing.token_counts import lengths_of, token_counts


class Collator:
    """Turn the rows of a batch into tensors; it runs in the workers of the data loader and keeps no state.

    Args:
        inputs: Turns rows into model inputs.
        objectives: Objectives of the run; they add labels, and each may change the inputs.
        stage: Stage of all batches.
        seed: The run's seed.
        pad_to_multiple_of: Sequence lengths are rounded up to a multiple of this.
    """

    def __init__(
        self, inputs: Inputs, objectives: Sequence[Objective], stage: Stage, seed: int, pad_to_multiple_of: int = 1
    ) -> None:
        self.inputs, self.objectives, self.stage, self.seed = inputs, active(objectives, stage), stage, seed
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, rows: tuple[BatchRequest, Mapping[str, Sequence[Any]]]) -> dict[str, Any]:
        """Return the batch as tensors.

        All objectives share the model inputs, ``row_ids (B,) int64`` and ``num_truncated``, an int. The entries that an
        objective adds are in a dictionary under its name; ``num_items`` has the loss denominator of each objective.
        ``unpadded`` has the prefixes of model inputs without padding, which the host knows without reading a mask on
        the device. Where documents are packed, ``row_ids`` has the row of each document. Training batches have
        ``token_counts``.
        """
        batch, own = self.arrays(rows)
        batch.pop("word_ids", None)  # only labels and descriptions are made with it
        prefixes, trains = self.inputs.key_prefixes, self.stage == TRAIN
        lengths = lengths_of(batch, own, prefixes) if trains else None
        if (sizes := rows[0].sizes) is not None and self.inputs.uses_document_mask:
            pad_token_id = int(self.inputs.tokenizer.pad_token_id)
            widths = {"width": self.inputs.max_length, "multiple": self.pad_to_multiple_of}
            batch, own = pack(batch, own, sizes, pad_token_id=pad_token_id, **widths)
        if not trains:
            batch = self.inputs.distinct(batch)
        tokens = {} if lengths is None else {TOKEN_COUNTS: token_counts(lengths, batch, own, prefixes)}
        counts = {}
        for objective in self.objectives:
            entries = own[objective.name]
            if self.stage != "predict":
                counts[objective.name] = num_items(objective, {**batch, **entries})
            if isinstance(objective, SparseHead) and "labels" in entries:
                dense = entries["labels"]
                entries["positions"], entries["labels"] = sparse_labels(dense)
                if isinstance(objective, SparseLastLayer):
                    entries["columns"], entries["places"] = label_columns(dense, len(entries["labels"]))
        num_truncated = int(batch.pop("truncated").sum())
        # counts stay Python numbers: strategies in half precision would round tensors
        known = {NUM_ITEMS: counts, "num_truncated": num_truncated, UNPADDED: self._unpadded(batch), **tokens}
        return {**_tensors({**batch, **own}), **known}

    def _unpadded(self, batch: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the prefixes of model inputs without padding."""
        masks = {prefix: batch.get(f"{prefix}attention_mask") for prefix in self.inputs.key_prefixes}
        return tuple(prefix for prefix, mask in masks.items() if mask is not None and mask.all())

    def rows_of(self, request: BatchRequest, columns: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
        """Return columns with one value per model input: the rows as they are, or a list of values per group."""
        sizes = self._group_sizes(request)
        if sizes is None:
            return columns
        sampled = {"seed": self.seed, "epoch": request.epoch}
        return self.inputs.in_groups(columns, sizes, request.row_ids, self.stage, **sampled)

    def _group_sizes(self, request: BatchRequest) -> np.ndarray | None:
        """Return the number of rows per input; None if each row is an input, or if rows are packed after encoding."""
        return np.asarray(request.sizes) if request.sizes is not None and self.inputs.groups_rows else None

    def arrays(
        self, rows: tuple[BatchRequest, Mapping[str, Sequence[Any]]]
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
        """Return the entries that all objectives share, and those of each objective by name, with dense labels."""
        request, columns = rows[0], self.rows_of(*rows)
        row_ids, padding = request.row_ids, request.is_padding
        if (sizes := self._group_sizes(request)) is not None:  # a group has the id of its first row
            firsts = np.cumsum(sizes) - sizes
            row_ids, padding = row_ids[firsts], padding[firsts]
        in_batch = None if sizes is not None or request.sizes is None else np.asarray(request.sizes)
        context = Context(self.stage, self.seed, request.epoch, row_ids, in_batch)
        batch = self.inputs.post_process(columns, pad_to_multiple_of=self.pad_to_multiple_of)
        own = {}
        for objective in self.objectives:
            entries = objective.post_process(columns, batch, context)
            batch |= {key: entries.pop(key) for key in batch.keys() & entries.keys()}
            if padding.any():
                for name in entries.keys() & {"labels", ROW_IDS}:
                    entries[name][padding] = IGNORE_INDEX  # negative, as no row id is
            own[objective.name] = entries
        batch["truncated"] = batch["truncated"][: len(padding)] & ~padding
        batch[ROW_IDS] = np.where(padding, -1, row_ids)
        return batch, own


def _tensors(entries: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    def converted(value: Any) -> Any:
        if isinstance(value, dict):
            return _tensors(value)
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value  # texts stay as they are

    return {key: converted(value) for key, value in entries.items()}
