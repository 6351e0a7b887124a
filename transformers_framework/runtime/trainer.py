"""Lightning's trainer from the flags of a run; what it refuses is told by flag."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transformers_framework.exceptions import ConfigurationError, MissingDependencyError

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from transformers_framework.runtime.run_folders import RunFolders

SHARDED = ("deepspeed", "fsdp", "model_parallel", "xla")  # strategies that write checkpoints in their own way
SHARDS_WEIGHTS = ("deepspeed_stage_3", "fsdp", "model_parallel", "xla")
NAMING_A_DEVICE = ("accelerator", "strategy", "devices", "precision", "profiler")


def build_trainer(
    options: Mapping[str, Any],
    folders: RunFolders,
    callbacks: Sequence[pl.Callback] = (),
    *,
    validates: bool = True,
    family: str | None = None,
) -> pl.Trainer:
    """Return the trainer that the flags ask for.

    Args:
        options: All flags of the run.
        folders: Where logs go.
        callbacks: What keeps the promises of the run.
        validates: Whether there is anything to validate on.
        family: Family of the model, as transformers calls it, where that is known.

    Raises:
        ConfigurationError: When this machine or Lightning cannot do it, with the flag.
        MissingDependencyError: When a strategy needs a package that is not installed.
    """
    import pytorch_lightning as pl
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    from transformers_framework.runtime.board import Board
    from transformers_framework.runtime.checkpoint_io import WholeCheckpointIO
    from transformers_framework.runtime.precision import accelerator_kind, full_precision_name

    flags = {key: options[key] for key in inspect.signature(pl.Trainer).parameters if key in options}
    strategy = flags.get("strategy", "auto")
    if flags.get("barebones"):
        raise ConfigurationError("--barebones forbids logs, checkpoints and callbacks, which every run has here.")
    if strategy.startswith("deepspeed") and importlib.util.find_spec("deepspeed") is None:
        raise MissingDependencyError("deepspeed", f"--strategy {strategy}", "deepspeed")
    if strategy.startswith(SHARDS_WEIGHTS):
        raise ConfigurationError(
            f"--strategy {strategy}: it shards the weights, and whole checkpoints for transformers cannot be written "
            "from its shards yet. Use ddp, or deepspeed_stage_1 or _2, which shard the optimizer's state."
        )
    try:
        device = accelerator_kind(flags.get("accelerator", "auto"))
        flags["precision"] = full_precision_name(flags.get("precision"), device, family)
        flags["use_distributed_sampler"] = False  # ours deals rows to processes
        if not validates:
            flags.pop("val_check_interval", None)  # Lightning would hold it against the training data
        flags |= {
            "logger": Board(folders.output_dir / "tensorboard", folders.name, version=""),
            "callbacks": [*callbacks],
            "plugins": None if strategy.startswith(SHARDED) else [WholeCheckpointIO()],
            "default_root_dir": folders.output_dir,
        }
        trainer = pl.Trainer(**flags)
        nodes = num_nodes(os.environ, trainer.num_nodes, trainer.num_devices)
        return trainer if nodes == trainer.num_nodes else pl.Trainer(**{**flags, "num_nodes": nodes})
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        raise ConfigurationError(_blamed(str(error), options, list(flags))) from error


def num_nodes(environment: Mapping[str, str], asked: int, local_devices: int) -> int:
    """Return the number of nodes: what was asked for, else all processes divided by those of this node.

    Args:
        environment: Variables of the environment; ``WORLD_SIZE`` is the number of processes of all nodes.
        asked: What ``--num_nodes`` says; 1 is its default.
        local_devices: Processes of this node.

    Raises:
        ConfigurationError: When the variables contradict the flags.

    Examples:
        >>> num_nodes({"WORLD_SIZE": "16", "NODE_RANK": "1"}, 1, 8)
        2
    """
    if "WORLD_SIZE" not in environment or "TORCHELASTIC_RUN_ID" in environment or "SLURM_NTASKS" in environment:
        return asked  # torchrun and SLURM tell Lightning themselves
    world = int(environment["WORLD_SIZE"])
    nodes, rest = divmod(world, local_devices)
    if rest or (asked > 1 and nodes != asked):
        raise ConfigurationError(
            f"WORLD_SIZE is {world}, which is not {local_devices} devices on each of "
            f"{asked if asked > 1 else 'several'} nodes. Set it to the number of processes of all nodes together."
        )
    return nodes


def _blamed(reason: str, options: Mapping[str, Any], flags: Sequence[str]) -> str:
    """Say which flags Lightning refuses: it calls its arguments as we do, or tells their values."""
    given = {name: value for name, value in options.items() if name in flags and value is not None}
    words = {name: re.escape(value) for name, value in given.items() if isinstance(value, str)}
    about = (
        [name for name in given if re.search(rf"\b{name}\b", reason)]
        or [name for name, word in words.items() if name in NAMING_A_DEVICE and re.search(rf"\b{word}\b", reason)]
        or [name for name in NAMING_A_DEVICE if given.get(name) not in (None, "auto")]
    )
    told = ", ".join(f"--{name} {given[name]}" for name in about) or "The trainer cannot be built"
    return f"{told}: {' '.join(reason.split())}"
