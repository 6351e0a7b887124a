"""Reader of DeepSpeed ZeRO checkpoints: the unsharded optimizer state, for any world size and stage."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transformers_framework.compat.sharding import safe_to_read
from transformers_framework.exceptions import ConfigurationError

OWN = ("module", "optimizer", "lr_scheduler")  # entries of DeepSpeed in the file that also has Lightning's state


class ZeroShards:
    """A folder with one shard per rank; :func:`check_shards` must have checked that it contains no code.

    In stages 1 and 2 a shard is a part of each group of parameters, which are concatenated; in stage 3 it is a part of
    each parameter.

    Args:
        folder: The checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkpoint"
        files = sorted(self.folder.glob("*optim_states.pt"), key=lambda file: int(re.findall(r"\d+", file.name)[0]))
        self.optimizers = [_read(file)["optimizer_state_dict"] for file in files]

    @cached_property
    def model(self) -> dict[str, Any]:
        """State that rank zero has written besides the optimizer state."""
        return _read(next(self.folder.glob("*rank_00_model_states.pt")))

    @property
    def client_state(self) -> dict[str, Any]:
        """State that Lightning has written."""
        return {name: value for name, value in self.model.items() if name not in OWN}

    @property
    def extra_state(self) -> dict[str, Any]:
        """Extra state of modules: neither parameters nor buffers."""
        return {name: value for name, value in self.model["module"].items() if name.endswith("_extra_state")}

    @property
    def shards_weights(self) -> bool:
        """Whether it was written in stage 3."""
        return "fp32_flat_groups" in self.optimizers[0]

    @property
    def names(self) -> list[list[str]]:
        """Names of the parameters in each group."""
        return [list(group) for group in self.model["param_shapes"]]

    def fits(self, num_processes: int, shards_weights: bool) -> bool:
        """Return whether DeepSpeed can load it with this number of ranks, in stage 3 (``shards_weights``) or not."""
        return len(self.optimizers) == num_processes and self.shards_weights == shards_weights

    def states(self, shard: int = 0) -> list[dict[str, Any]]:
        """Return the optimizer state of each group, or part of a group, in a shard."""
        return list(self._optimizer(shard)["state"].values())

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Hyperparameters of each group, such as the learning rate."""
        return [{k: v for k, v in group.items() if k != "params"} for group in self._optimizer(0)["param_groups"]]

    def _optimizer(self, shard: int) -> dict[str, Any]:
        name = "optimizer_state_dict" if self.shards_weights else "base_optimizer_state"
        found: dict[str, Any] = self.optimizers[shard][name]
        return found

    @property
    def kinds(self) -> list[str]:
        """Names of the optimizer states of each weight, such as ``exp_avg``.

        Raises:
            ConfigurationError: When a state is quantized in blocks, which cannot be sharded for another world size.
        """
        sizes = {key: value for key, value in self.states()[0].items() if isinstance(value, Tensor) and value.dim()}
        if blocks := [key for key, value in sizes.items() if not value.is_floating_point()]:
            raise ConfigurationError(
                f"--ckpt_path: {self.folder.parent} was written by {len(self.optimizers)} processes, and its optimizer "
                f"keeps {blocks[0]} in blocks, which cannot be sharded again. Continue with as many processes and the "
                "same --strategy, or start from an export with --pre_trained_model."
            )
        return list(sizes)

    def tensors(self, kind: str) -> Iterator[tuple[str, Tensor]]:
        """Yield the name of each trainable parameter and its optimizer state, in the shape of the parameter.

        Args:
            kind: One of :attr:`kinds`.
        """
        parts = [[state[kind].flatten() for state in self.states(shard)] for shard in range(len(self.optimizers))]
        shapes = self.model["param_shapes"]
        if self.shards_weights:
            yield from _concatenated([torch.cat(part) for part in parts], chain.from_iterable(map(dict.items, shapes)))
            return
        paddings = self.optimizers[0].get("param_alignment_paddings")
        for number, group in enumerate(shapes):
            flat, start = torch.cat([part[number] for part in parts]), 0
            sizes_of_padding = paddings[number] if paddings is not None else [0] * len(group)
            for (name, shape), padding in zip(group.items(), sizes_of_padding, strict=True):
                yield name, flat[start : start + shape.numel()].view(shape)
                start += shape.numel() + padding


def _concatenated(parts: list[Tensor], shapes: Iterator[tuple[str, torch.Size]]) -> Iterator[tuple[str, Tensor]]:
    """Yield the full tensors from equal parts of each rank."""
    start = 0
    for name, shape in shapes:
        size = math.ceil(shape.numel() / len(parts))
        whole = torch.cat([part[start : start + size] for part in parts])
        yield name, whole[: shape.numel()].view(shape)
        start += size


def _read(file: Path) -> dict[str, Any]:
    with safe_to_read():
        found: dict[str, Any] = torch.load(file, "cpu", weights_only=True, mmap=True)
    return found
