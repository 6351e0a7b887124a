"""Numbers of tokens of a batch, for reports of speed and padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transformers_framework.constants import IGNORE_INDEX, ROW_IDS


class Lengths(NamedTuple):
    """Numbers of tokens of the texts of a batch, before texts are packed.

    Args:
        source: Tokens of each input, of all prefixes one after the other ``(T,) int64``.
        target: Tokens of each target of a decoder ``(D,) int64``; empty without one.
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]


def lengths_of(batch: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]], prefixes: tuple[str, ...]) -> Lengths:
    """Count the tokens of a batch; padding rows have none.

    Args:
        batch: Model inputs: ``attention_mask (T, L)`` with each prefix, and ``row_ids (T,)``, -1 in padding rows.
        own: What objectives added, by name; a decoder's ``decoder_input_ids`` and dense ``labels (D, M)``.
        prefixes: Prefixes of the names of model inputs.

    Examples:
        >>> batch = {"attention_mask": np.array([[1, 1, 0], [1, 1, 1], [1, 1, 1]]), "row_ids": np.array([4, 7, -1])}
        >>> lengths_of(batch, {}, ("",)).source.tolist()
        [2, 3, 0]
    """
    is_row = batch[ROW_IDS] >= 0
    masks = [mask for prefix in prefixes if (mask := batch.get(f"{prefix}attention_mask")) is not None]
    decoded = [entries["labels"] != IGNORE_INDEX for entries in own.values() if "decoder_input_ids" in entries]
    return Lengths(*(_lengths(part, is_row) for part in (masks, decoded)))


def token_counts(
    lengths: Lengths, batch: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]], prefixes: tuple[str, ...]
) -> dict[str, int]:
    """Return the numbers of a batch that reports need, as Python numbers: half precision would round tensors.

    Args:
        lengths: Tokens of its texts.
        batch: Model inputs as the model gets them: ``input_ids (B, L)`` with each prefix.
        own: What objectives added, by name.
        prefixes: Prefixes of the names of model inputs.

    Returns:
        ``tokens`` of inputs and ``target_tokens`` of a decoder, without padding; ``positions``, with padding, of both;
        ``pairs`` and ``target_pairs``: pairs of tokens that attend to each other, with themselves.

    Examples:
        >>> lengths = Lengths(np.array([2, 3, 0]), np.array([], np.int64))
        >>> token_counts(lengths, {"input_ids": np.zeros((3, 3))}, {}, ("",))
        {'tokens': 5, 'target_tokens': 0, 'positions': 9, 'pairs': 13, 'target_pairs': 0}
    """
    inputs = [ids.size for prefix in prefixes if (ids := batch.get(f"{prefix}input_ids")) is not None]
    targets = [entries["decoder_input_ids"].size for entries in own.values() if "decoder_input_ids" in entries]
    crossed = int(lengths.source @ lengths.target) if len(lengths.source) == len(lengths.target) else 0
    return {
        "tokens": int(lengths.source.sum()),
        "target_tokens": int(lengths.target.sum()),
        "positions": sum(inputs) + sum(targets),
        "pairs": int(lengths.source @ lengths.source),
        "target_pairs": int(lengths.target @ lengths.target) + crossed,
    }


def _lengths(masks: list[Any], is_row: NDArray[np.bool_]) -> NDArray[np.int64]:
    found = [mask.sum(axis=1) for mask in masks]
    parts = [part * is_row if len(part) == len(is_row) else part for part in found]
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)
