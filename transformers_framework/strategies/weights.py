"""Checkpoints with weights only: of a run that is over, for tests, predictions and new runs."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from transformers_framework.storage.atomic import atomic_file
from transformers_framework.strategies.checkpoint_io import check_shards, read_checkpoint

KEPT = ("epoch", "global_step", "pytorch-lightning_version")  # besides weights, and states of callbacks
OPTIMIZER_STATES = "optimizer_states"  # key of Lightning, which a checkpoint with weights only lacks


def has_weights_only(path: Path, outline: Mapping[str, Any]) -> bool:
    """Return whether training cannot continue from a checkpoint, because it has no state of the optimizer.

    Args:
        path: The checkpoint; in a folder of shards, the states of optimizers are files.
        outline: Contents of the checkpoint.
    """
    return path.is_file() and OPTIMIZER_STATES not in outline


def keep_weights(path: Path, callbacks: Collection[str]) -> None:
    """Replace a checkpoint, atomically, by one file with its weights in the precision of the optimizer.

    Args:
        path: The checkpoint: a file, or a folder of DeepSpeed shards; one that has weights only is left as it is.
        callbacks: State keys of the callbacks whose states are kept.

    Raises:
        ConfigurationError: When it is a folder without the shards of all processes.
    """
    whole = _unsharded(path) if path.is_dir() else read_checkpoint(path, lazy=True)
    if path.is_file() and has_weights_only(path, whole):
        return
    kept = {name: whole[name] for name in KEPT if name in whole}
    states = whole.get("callbacks", {})
    kept["callbacks"] = {key: states[key] for key in callbacks if key in states}
    with atomic_file(path) as aside:
        torch.save(kept | {"state_dict": whole["state_dict"]}, aside)


def _unsharded(folder: Path) -> dict[str, Any]:
    """Return the contents of a folder of DeepSpeed shards with full weights in float32."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    from transformers_framework.strategies.zero_shards import ZeroShards

    check_shards(folder)
    shards = ZeroShards(folder)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        weights = get_fp32_state_dict_from_zero_checkpoint(str(folder), "checkpoint")
    return {**shards.client_state, "state_dict": {**weights, **shards.extra_state}}
