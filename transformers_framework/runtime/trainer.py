"""Build Lightning's trainer from the flags of a run; its errors name the flag."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.registry import options_of
from transformers_framework.runtime.accumulation import accumulated_batches

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from transformers_framework.storage.run_folders import RunFolders

EVALUATION_LIMITS = ("limit_val_batches", "limit_test_batches", "limit_predict_batches")
SHOWN_BY_US = ("enable_progress_bar", "enable_model_summary")  # in reports/progress.py, with the same flags
NAMING_A_DEVICE = ("accelerator", "strategy", "devices", "precision", "profiler")


def build_trainer(
    options: Mapping[str, Any],
    folders: RunFolders,
    callbacks: Sequence[pl.Callback] = (),
    *,
    validates: bool = True,
    config: Any = None,
    pre_trains: bool = False,
) -> pl.Trainer:
    """Return the trainer that the flags ask for.

    Args:
        options: All flags of the run.
        folders: Where logs go.
        callbacks: Callbacks of the run.
        validates: Whether there is anything to validate on.
        config: Config of the model, where that is known.
        pre_trains: Whether the pipeline only pre-trains models: then flags must say for how long.

    Raises:
        ConfigurationError: When this machine or Lightning cannot do it, with the flag.
        MissingDependencyError: When a strategy needs a package that is not installed.
    """
    import pytorch_lightning as pl
    from pytorch_lightning.plugins.environments import SLURMEnvironment
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    from transformers_framework.distributed.processes import num_nodes
    from transformers_framework.loggers.build import build_loggers
    from transformers_framework.runtime.accelerators import accelerator_kind, check_accelerator
    from transformers_framework.runtime.loops import use_own_loops
    from transformers_framework.runtime.precision import full_precision_name
    from transformers_framework.runtime.steps import default_epochs, has_default_length
    from transformers_framework.strategies.build import build_strategy, shards_checkpoints
    from transformers_framework.strategies.checkpoint_io import WholeCheckpointIO

    flags = {key: options[key] for key in inspect.signature(pl.Trainer).parameters if key in options}
    strategy = flags.get("strategy", "auto")
    if flags.get("barebones"):
        raise ConfigurationError("--barebones forbids logs, checkpoints and callbacks, which every run has here.")
    if options.get("train_dataset") is not None and has_default_length(options):
        flags["max_epochs"] = default_epochs(options, pre_trains=pre_trains)
    accelerator = flags.get("accelerator") or "auto"
    check_accelerator(accelerator)
    device = accelerator_kind(accelerator)
    try:
        flags["precision"] = full_precision_name(flags.get("precision"), device, getattr(config, "model_type", None))
        flags["use_distributed_sampler"] = False  # ours distributes rows over ranks
        plugins: list[Any] = [] if shards_checkpoints(strategy) else [WholeCheckpointIO()]
        if SLURMEnvironment.detect():  # it would continue whatever run of --output_dir was last requeued
            plugins.append(SLURMEnvironment(auto_requeue=False))
        if not validates:
            flags.pop("val_check_interval", None)  # Lightning would compare it with the training data
        flags |= {
            "logger": build_loggers(folders, options, **options_of(build_loggers, options)),
            "callbacks": [*callbacks],
            "plugins": plugins,
            "strategy": build_strategy(strategy, config, device),
            "default_root_dir": folders.output_dir,
            # the data has its own: to Lightning the first batches are those of the longest rows
            **{name: None for name in EVALUATION_LIMITS if flags.get(name)},
            **dict.fromkeys(SHOWN_BY_US, False),
        }
        trainer = pl.Trainer(**flags)
        nodes = num_nodes(os.environ, trainer.num_nodes, trainer.num_devices)
        if nodes != trainer.num_nodes:
            trainer = pl.Trainer(**{**flags, "num_nodes": nodes, "strategy": build_strategy(strategy, config, device)})
        if flags.get("overfit_batches"):
            trainer.limit_val_batches = 1.0
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        raise ConfigurationError(_blamed(str(error), options, list(flags))) from error
    if options.get("train_dataset") is not None:
        accumulate(trainer, options)
    return use_own_loops(trainer)


def accumulate(trainer: pl.Trainer, options: Mapping[str, Any]) -> None:
    """Let a trainer accumulate as many batches as flags ask for.

    Args:
        trainer: The trainer, before it trains.
        options: All flags of the run.

    Raises:
        ConfigurationError: When no number of batches has the rows that are asked for.
    """
    trainer.accumulate_grad_batches = accumulated_batches(trainer, **options_of(accumulated_batches, options))


def _blamed(reason: str, options: Mapping[str, Any], flags: Sequence[str]) -> str:
    """Return which flags Lightning refuses, found by their names or values in its message."""
    given = {name: value for name, value in options.items() if name in flags and value is not None}
    words = {name: re.escape(value) for name, value in given.items() if isinstance(value, str)}
    about = (
        [name for name in given if re.search(rf"\b{name}\b", reason)]
        or [name for name, word in words.items() if name in NAMING_A_DEVICE and re.search(rf"\b{word}\b", reason)]
        or [name for name in NAMING_A_DEVICE if given.get(name) not in (None, "auto")]
    )
    blamed = ", ".join(f"--{name} {given[name]}" for name in about) or "The trainer cannot be built"
    return f"{blamed}: {' '.join(reason.split())}"
