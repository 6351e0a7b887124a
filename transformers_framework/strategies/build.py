"""Strategies by Lightning's names: how ranks share the model, the gradients and the optimizer state."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.optional_packages import require_packages

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from torch import Tensor

# prefix of a name -> import path of its class here; other names are Lightning's
OWN_STRATEGIES = {
    "deepspeed": "transformers_framework.strategies.deepspeed:DeepSpeed",
    "fsdp": "transformers_framework.strategies.fsdp:FSDP",
}
# additional names -> name in Lightning, and changed arguments
ADDITIONAL: dict[str, tuple[str, dict[str, Any]]] = {
    # Lightning's stop if float16 overflows at a loss scale of 1; these lower the scale, down to 2^-24
    f"deepspeed_stage_{stage}_lower_scale": (f"deepspeed_stage_{stage}", {"lowest_scale": 2.0**-24})
    for stage in ("1", "2", "2_offload", "3", "3_offload")
}
# part of a name -> reason why the strategy is not supported
REFUSED = {
    "dp": "it copied the model to every device in each step and was removed from Lightning: use ddp",
    "spawn": "its processes start inside a running Python process and get a copy of the whole run: use ddp, which runs "
    "this command once per device",
    "fork": "it forks a process that already has threads, which can hang: use ddp",
    "notebook": "it is for notebooks, not for a command: use ddp",
    "model_parallel": "it splits models that support it, and models of transformers do not: use fsdp",
    "tpu": "TPUs are not tested: use --accelerator gpu or cpu",
    "xla": "it is for TPUs, which are not tested: use --accelerator gpu or cpu",
    "nvme": "it keeps the weights on a disk, which is not tested: use deepspeed_stage_3_offload",
}
# attributes of configs: layers that are randomly skipped in steps


def names() -> tuple[str, ...]:
    """Return the names that ``--strategy`` accepts."""
    from pytorch_lightning.strategies import StrategyRegistry

    return ("auto", *(name for name in (*StrategyRegistry.available_strategies(), *ADDITIONAL) if not refusal(name)))


def refusal(name: str | None) -> str | None:
    """Return the reason why a strategy of Lightning is not supported, None if it is."""
    parts = f"_{name}_"
    return next((reason for part, reason in REFUSED.items() if f"_{part}_" in parts), None)


def build_strategy(name: str, config: Any = None, device: str = "cuda") -> Any:
    """Return a strategy, or its name if Lightning's strategy is used unchanged.

    Args:
        name: Value of ``--strategy``.
        config: Config of the model, if known.
        device: Type of the devices.

    Raises:
        ConfigurationError: When the strategy does not support the device.
        MissingDependencyError: When the strategy needs a package that is not installed.
    """
    from pytorch_lightning.strategies import StrategyRegistry

    if name == "ddp" and any(getattr(config, drops, 0) for drops in DROPS_LAYERS):
        return "ddp_find_unused_parameters_true"  # a search in each step, only for models that need it
    own = next((place for start, place in OWN_STRATEGIES.items() if name.startswith(start)), None)
    if own is None:
        return name
    if name.startswith("deepspeed"):
        require_packages("deepspeed", needed_by=f"--strategy {name}", extra="deepspeed")
    known, options = ADDITIONAL.get(name, (name, {}))
    module, _, kind = own.partition(":")
    strategy = getattr(importlib.import_module(module), kind)
    if device == "cpu" and not strategy.on_cpu:
        raise ConfigurationError(f"--strategy {name}: it needs GPUs, and this run uses the CPU. Use ddp.")
    return strategy(**{**StrategyRegistry[known]["init_params"], **options})


def whole_weights(trainer: pl.Trainer) -> Mapping[str, Tensor] | None:
    """Return the full weights of the model if the strategy shards them or has them in lower precision, else None.

    All ranks must call this; rank zero gets the weights on the CPU, in the precision of the optimizer.
    """
    gathers = getattr(trainer.strategy, "whole_weights", None)
    if gathers is None:
        return None
    from transformers_framework.strategies.fsdp import clean

    names: dict[int, str] = {}
    found, start = gathers(), "model."
    for name, parameter in clean(trainer.lightning_module.named_parameters(remove_duplicate=False)):
        if name in found:  # tied weights stay tied
            found[name] = found[names.setdefault(id(parameter), name)]
    return {name.removeprefix(start): tensor for name, tensor in found.items() if name.startswith(start)}


def method_of(trainer: pl.Trainer, name: str) -> Callable[..., Any]:
    """Return a method of the LightningModule that runs the model outside of the steps that Lightning calls.

    With sharded weights, all ranks must call the method equally often.
    """
    strategy, module = trainer.strategy, trainer.lightning_module
    if not getattr(strategy, "shards_weights", False):
        return cast("Callable[..., Any]", getattr(module, name))
    from transformers_framework.compat.lightning import method_in_forward

    return method_in_forward(strategy, module, name)


def shards_checkpoints(name: str) -> bool:
    """Return whether the checkpoints of a strategy are folders with a shard from each rank."""
    return name.startswith("deepspeed")


DROPS_LAYERS = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop")
