"""Fully sharded data parallel training with unsharded checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from transformers_framework.compat import sharding
from transformers_framework.strategies.checkpoint_io import read_checkpoint


class Regroups(Protocol):
    """A LightningModule that can convert the parameter groups of an optimizer state."""

    def regrouped(self, state: Mapping[str, Any], optimizer: Any) -> dict[str, Any]:
        """Return an optimizer state with the parameter groups of the optimizer that loads it."""


class FSDP(sharding.FSDPStrategy):
    """Lightning's FSDP strategy with one unit per layer, clipping by the global norm, and checkpoints without code.

    A checkpoint is one file with the full state, as without sharding: a run can resume from it with any world size and
    with any strategy that writes such files.
    """

    shards_weights = True
    on_cpu = False  # gathered states would be overwritten: moving a CPU tensor to the CPU does not copy it
    units: nn.Module | None = None  # wrapped once, for training, testing and prediction

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model with its weights sharded, one unit per layer."""
        from torch.distributed.fsdp.wrap import ModuleWrapPolicy

        if self.units is None:
            layers = layer_classes(model)
            self.units = FullyShardedDataParallel(
                model,
                cpu_offload=self.cpu_offload,
                mixed_precision=self.mixed_precision_config,
                sharding_strategy=self.sharding_strategy,
                device_id=self.root_device,  # Lightning passes a number, which cannot be a CPU
                auto_wrap_policy=ModuleWrapPolicy(layers) if layers else None,
                **self.kwargs,
            )
        return super().wrap(self.units)

    def clip(self, value: float) -> Tensor:
        """Clip gradients by their global norm over all ranks; return the norm before. Infinity clips nothing."""
        return cast("FullyShardedDataParallel", self.model).clip_grad_norm_(value)

    def whole_weights(self) -> dict[str, Tensor]:
        """Return the full weights on rank zero."""
        return self.lightning_module_state_dict()

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """Return the full state of an optimizer on rank zero, with parameters numbered as without sharding."""
        assert self.model is not None
        optimizer = sharding.unwrapped(optimizer)
        whole: Any = sharding.full_state(self.model, world_size=self.world_size)
        with whole:
            state = FullyShardedDataParallel.optim_state_dict(self.model, optimizer)
        numbers = {name: number for number, name in enumerate(self._names(optimizer))}
        return rekeyed(state, numbers) if self.is_global_zero else state

    def _names(self, optimizer: Any) -> list[str]:
        """Return the names of an optimizer's parameters in its order."""
        assert self.lightning_module is not None
        names = {id(parameter): name for name, parameter in clean(self.lightning_module.named_parameters())}
        return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load an unsharded checkpoint; each rank loads its shard, and no code is executed."""
        assert self.model is not None
        checkpoint = read_checkpoint(Path(self.broadcast(checkpoint_path)))
        sharding.load_full_state(checkpoint.pop("state_dict"), self.model, world_size=self.world_size)
        module = self.lightning_module
        if module is None or module.trainer.state.fn != TrainerFn.FITTING:
            return checkpoint
        trained = cast("Regroups", module)
        whole: Any = sharding.full_state(self.model, world_size=self.world_size, rank0_only=False)
        with whole:
            for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
                mine = FullyShardedDataParallel.optim_state_dict_to_load(
                    model=self.model,
                    optim=optimizer,
                    optim_state_dict=rekeyed(
                        trained.regrouped(state, optimizer), dict(enumerate(self._names(optimizer)))
                    ),
                )
                optimizer.load_state_dict(mine)
        return checkpoint


def clean(named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Yield named tensors with the names before modules were wrapped."""
    return ((name.replace(sharding.WRAPPED, ""), tensor) for name, tensor in named)


def rekeyed(state: dict[str, Any], keys: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the state of an optimizer with renamed parameter keys."""
    return {
        "state": {keys[key]: value for key, value in state["state"].items()},
        "param_groups": [
            {**group, "params": [keys[key] for key in group["params"]]} for group in state["param_groups"]
        ],
    }


def layer_classes(model: nn.Module) -> set[type[nn.Module]]:
    """Return the classes of a model's layers: the modules in its outermost ModuleLists that have weights.

    Embeddings and heads stay in one unit, as they share tensors.
    """
    found: set[type[nn.Module]] = set()
    for child in model.children():
        if isinstance(child, nn.ModuleList) and len(child) > 1:
            found |= {type(layer) for layer in child if any(True for _ in layer.parameters())}
        else:
            found |= layer_classes(child)
    return found
