"""Private parts of Lightning's FSDP and DeepSpeed strategies, and of what they wrap."""

from __future__ import annotations

import importlib
from typing import Any, Final

import torch
from pytorch_lightning import strategies
from torch import Tensor, nn

# what is used, as `module:name`, and why the public interface does not do
PARTS: Final = {
    "pytorch_lightning.strategies:FSDPStrategy._setup_model": "units of one layer each",
    "lightning_fabric.strategies.fsdp:_get_full_state_dict_context": "checkpoints in one file",
    "lightning_fabric.strategies.model_parallel:_load_raw_module_state": "the same",
    "pytorch_lightning.strategies:DeepSpeedStrategy._initialize_deepspeed_train": "steps that we count",
    "pytorch_lightning.strategies:DeepSpeedStrategy._initialize_deepspeed_inference": "hooks that stay",
}
# the same of DeepSpeed, which only `make test-full` has
DEEPSPEED_PARTS: Final = {
    "deepspeed.runtime.engine:DeepSpeedEngine._get_zero_param_shapes": "names of the parameters of each group",
    "deepspeed.runtime.zero.stage_1_and_2:DeepSpeedZeroOptimizer._lazy_init_hp_params_optimizer_state": (
        "an optimizer state that is loaded before the first step"
    ),
}
# classes whose objects DeepSpeed's files hold beside tensors and plain values
IN_FILES: Final = {
    "deepspeed.runtime.fp16.loss_scaler": ("LossScaler", "DynamicLossScaler"),
    "deepspeed.runtime.zero.config": ("ZeroStageEnum",),
    "deepspeed.utils.tensor_fragment": ("fragment_address",),
}
# module attributes that hold forward hooks
HOOKS: Final = ("_forward_pre_hooks", "_forward_hooks")
# what FSDP adds to the names of the parameters of a module that it wraps
WRAPPED: Final = "_fsdp_wrapped_module."


class FSDPStrategy(strategies.FSDPStrategy):
    """Lightning's strategy, whose way to wrap the model is a public method."""

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model with its weights sharded."""
        return super()._setup_model(model)

    def _setup_model(self, model: nn.Module) -> nn.Module:
        return self.wrap(model)


class DeepSpeedStrategy(strategies.DeepSpeedStrategy):
    """Lightning's strategy, whose ways to make the engine are public methods."""

    def initialize_training(self, model: nn.Module) -> None:
        """Make the engine that trains."""
        super()._initialize_deepspeed_train(model)

    def initialize_inference(self, model: nn.Module) -> None:
        """Make the engine that tests and predicts."""
        super()._initialize_deepspeed_inference(model)

    def _initialize_deepspeed_train(self, model: nn.Module) -> None:
        self.initialize_training(model)

    def _initialize_deepspeed_inference(self, model: nn.Module) -> None:
        self.initialize_inference(model)

    @property
    def parameter_names(self) -> list[list[str]]:
        """Names of the parameters of each group of the optimizer."""
        return [list(group) for group in self.deepspeed_engine._get_zero_param_shapes()]


def full_state(model: nn.Module, *, world_size: int, rank0_only: bool = True) -> Any:
    """Return a context in which FSDP's state dictionaries are those of the whole model."""
    from lightning_fabric.strategies.fsdp import _get_full_state_dict_context

    return _get_full_state_dict_context(model, world_size=world_size, rank0_only=rank0_only)


def load_full_state(state: dict[str, Tensor], model: nn.Module, *, world_size: int) -> None:
    """Load the state dictionary of the whole model, of which each rank takes its part."""
    from lightning_fabric.strategies.model_parallel import _load_raw_module_state

    _load_raw_module_state(state, module=model, world_size=world_size, strict=True)


def unwrapped(optimizer: Any) -> Any:
    """Return the optimizer of torch that Lightning has wrapped."""
    return getattr(optimizer, "_optimizer", optimizer)


def create_high_precision_state(optimizer: Any) -> None:
    """Let parameters of DeepSpeed's stages 1 and 2 know their part of the optimizer's state, before the first step."""
    optimizer._lazy_init_hp_params_optimizer_state()


def safe_to_read() -> Any:
    """Return a context in which torch reads the few kinds of objects that DeepSpeed's files hold."""
    known = [getattr(importlib.import_module(module), name) for module, names in IN_FILES.items() for name in names]
    return torch.serialization.safe_globals(known)
