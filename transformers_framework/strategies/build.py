"""How the processes of a run share model, gradients and the optimizer's state: strategies by Lightning's names."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from transformers_framework.exceptions import ConfigurationError, MissingDependencyError

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from torch import Tensor

# what a name begins with, and the class that it is here; other names are Lightning's own
OURS = {
    "deepspeed": "transformers_framework.strategies.deepspeed:DeepSpeed",
    "fsdp": "transformers_framework.strategies.fsdp:FSDP",
}
# names that Lightning does not have: those of its names that they are, with other arguments
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    # where float16 overflows at a scale of 1 Lightning's stop; these go on to lower it, down to 2^-24
    f"deepspeed_stage_{stage}_lower_scale": (f"deepspeed_stage_{stage}", {"lowest_scale": 2.0**-24})
    for stage in ("1", "2", "2_offload", "3", "3_offload")
}
# by a part of the name: why not
REFUSED = {
    "dp": "it copied the model to every device at each step and is gone from Lightning: use ddp",
    "spawn": "its processes start inside a running Python and get a copy of the whole run: use ddp, which starts this "
    "command once for each device",
    "fork": "it forks a process that has threads already, which can hang: use ddp",
    "notebook": "it is for notebooks, not for a command: use ddp",
    "model_parallel": "it splits models that are written for it; those of transformers are not: use fsdp",
    "tpu": "nothing here was tried on TPUs: use --accelerator gpu or cpu",
    "xla": "it is for TPUs, on which nothing here was tried: use --accelerator gpu or cpu",
    "nvme": "it keeps the weights on a disk, which was not tried here: use deepspeed_stage_3_offload",
}
DROPS_LAYERS = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop")  # of configs: layers that steps may leave out


def names() -> tuple[str, ...]:
    """Return the names that ``--strategy`` takes."""
    from pytorch_lightning.strategies import StrategyRegistry

    return ("auto", *(name for name in (*StrategyRegistry.available_strategies(), *MORE) if not refusal(name)))


def refusal(name: str | None) -> str | None:
    """Say why a strategy of Lightning is not used here; nothing when it may be."""
    parts = f"_{name}_"
    return next((reason for part, reason in REFUSED.items() if f"_{part}_" in parts), None)


def build_strategy(name: str, config: Any = None, device: str = "cuda") -> Any:
    """Return a strategy, or its name where it is Lightning's as it stands.

    Args:
        name: What ``--strategy`` says.
        config: Config of the model, where it is known.
        device: Kind of the devices.

    Raises:
        ConfigurationError: When the strategy does not work on such a device.
        MissingDependencyError: When the strategy needs a package that is not installed.
    """
    from pytorch_lightning.strategies import StrategyRegistry

    if name == "ddp" and any(getattr(config, drops, 0) for drops in DROPS_LAYERS):
        return "ddp_find_unused_parameters_true"  # a search at each step, for those who need it
    ours = next((place for start, place in OURS.items() if name.startswith(start)), None)
    if ours is None:
        return name
    if name.startswith("deepspeed") and importlib.util.find_spec("deepspeed") is None:
        raise MissingDependencyError("deepspeed", f"--strategy {name}", "deepspeed")
    known, options = MORE.get(name, (name, {}))
    module, _, kind = ours.partition(":")
    strategy = getattr(importlib.import_module(module), kind)
    if device == "cpu" and not strategy.on_cpu:
        raise ConfigurationError(f"--strategy {name}: it needs GPUs, and this run uses the CPU: use ddp.")
    return strategy(**{**StrategyRegistry[known]["init_params"], **options})


def whole_weights(trainer: pl.Trainer) -> Mapping[str, Tensor] | None:
    """Return the weights of a run's model where its strategy has them in parts or narrowed, else nothing.

    Every process calls this; the first one gets them, on the host and in the precision that the optimizer has.
    """
    gathers = getattr(trainer.strategy, "whole_weights", None)
    if gathers is None:
        return None
    from transformers_framework.strategies.fsdp import clean

    names: dict[int, str] = {}
    found, start = gathers(), "model."
    for name, parameter in clean(trainer.lightning_module.named_parameters(remove_duplicate=False)):
        if name in found:  # what is one tensor stays one
            found[name] = found[names.setdefault(id(parameter), name)]
    return {name.removeprefix(start): tensor for name, tensor in found.items() if name.startswith(start)}


def method_of(trainer: pl.Trainer, name: str) -> Callable[..., Any]:
    """Return a method of a run's module that calls layers, but is no step, which Lightning calls.

    Where weights are in parts all processes must call it, as often.
    """
    strategy, module = trainer.strategy, trainer.lightning_module
    if not getattr(strategy, "shards_weights", False):
        return cast("Callable[..., Any]", getattr(module, name))
    from transformers_framework.compat.lightning import method_in_forward

    return method_in_forward(strategy, module, name)


def shards_checkpoints(name: str) -> bool:
    """Tell whether the checkpoints of a strategy are folders, to which each process adds its part."""
    return name.startswith("deepspeed")
