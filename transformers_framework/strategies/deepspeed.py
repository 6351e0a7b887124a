"""DeepSpeed ZeRO with incomplete accumulation groups, full weights for exports, and checkpoints without code."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from transformers_framework.compat.sharding import HOOKS, DeepSpeedStrategy, create_high_precision_state
from transformers_framework.strategies.checkpoint_io import check_shards, read_checkpoint
from transformers_framework.strategies.zero_shards import ZeroShards

if TYPE_CHECKING:
    import pytorch_lightning as pl


class DeepSpeed(DeepSpeedStrategy):
    """Lightning's DeepSpeed strategy, with steps decided by Lightning, and resuming with any world size.

    DeepSpeed itself counts the batches of an accumulation group, and takes no step with an incomplete one at the end of
    an epoch.

    Args:
        lowest_scale: Minimum loss scale in float16, 1 by default; DeepSpeed's own config accepts integers only.
        **options: Arguments of Lightning's strategy.
    """

    on_cpu = False
    owns_gradients = True  # it frees the gradients after each step

    def __init__(self, *, lowest_scale: float | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.lowest_scale = lowest_scale
        assert isinstance(self.config, dict)
        self.config.setdefault("zero_force_ds_cpu_optimizer", False)  # the state of any optimizer may be offloaded

    @property
    def shards_weights(self) -> bool:
        """Whether weights are sharded over ranks."""
        return self.zero_stage_3

    @property
    def handles_gradient_accumulation(self) -> bool:
        """False: Lightning decides which batches make a step; the last group of an epoch may be incomplete."""
        return False

    @property
    def gradient_norm(self) -> float | None:
        """Global norm of the gradients of the last step, before clipping; None where DeepSpeed does not compute it."""
        norm = self.deepspeed_engine.get_global_grad_norm()
        return float(norm) if norm else None

    def setup(self, trainer: pl.Trainer) -> None:
        """Set up the engine; where nothing is trained, do not ask for the loader of training to find its batch size."""
        if trainer.state.fn != TrainerFn.FITTING:
            assert isinstance(self.config, dict)
            self.config.setdefault("train_micro_batch_size_per_gpu", 1)
        super().setup(trainer)

    @contextlib.contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Take no optimizer step after the batch of this block."""
        self.deepspeed_engine.set_gradient_accumulation_boundary(False)
        try:
            yield
        finally:
            self.deepspeed_engine.set_gradient_accumulation_boundary(True)

    def backward(self, closure_loss: Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Run a backward pass; Lightning has already averaged the loss over the accumulation group."""
        return super().backward(closure_loss, optimizer, *args, scale_wrt_gas=False, **kwargs)

    def initialize_training(self, model: nn.Module) -> None:
        """Create the DeepSpeed engine for training."""
        super().initialize_training(model)
        self.deepspeed_engine.set_gradient_accumulation_boundary(True)
        self._set_lowest_scale()

    def _set_lowest_scale(self) -> None:
        scaler: Any = getattr(self.deepspeed_engine.optimizer, "loss_scaler", None)
        if self.lowest_scale is not None and getattr(scaler, "dynamic", False):
            scaler.min_scale = self.lowest_scale

    def initialize_inference(self, model: nn.Module) -> None:
        """Create the DeepSpeed engine for evaluation; keep hooks that are not DeepSpeed's, as Lightning removes all."""
        kept = [
            (module, hooks, {key: hook for key, hook in getattr(module, hooks).items() if not _is_deepspeeds(hook)})
            for module in model.modules()
            for hooks in HOOKS
        ]
        super().initialize_inference(model)
        for module, hooks, ours in kept:
            setattr(module, hooks, OrderedDict({**ours, **getattr(module, hooks)}))

    def whole_weights(self) -> dict[str, Tensor]:
        """Return the full weights in float32 on rank zero, gathered tensor by tensor."""
        from deepspeed.runtime.zero import GatheredParameters
        from deepspeed.utils import safe_get_full_fp32_param

        assert self.lightning_module is not None
        parameters = dict(self.lightning_module.named_parameters(remove_duplicate=False))
        found: dict[str, Tensor] = {}
        for name, tensor in self.lightning_module.state_dict().items():
            if name in parameters:
                parameter = parameters[name]
                master = safe_get_full_fp32_param(parameter) if parameter.requires_grad else None
                with GatheredParameters([parameter], enabled=master is None and hasattr(parameter, "ds_id")):
                    whole = (
                        parameter.data if master is None else master.view(getattr(parameter, "ds_shape", tensor.shape))
                    )
                    found[name] = whole.to("cpu", torch.float32, copy=True) if self.is_global_zero else whole[:0]
            else:
                found[name] = tensor
        return found

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a folder of shards, or the weights in a file; no code in it is executed.

        DeepSpeed loads checkpoints with the same world size and stage; others are read as a whole and sharded again.

        Raises:
            ConfigurationError: When it contains code or is not a DeepSpeed checkpoint.
        """
        folder = Path(checkpoint_path)
        assert self.lightning_module is not None
        trains = self.lightning_module.trainer.state.fn == TrainerFn.FITTING
        if folder.is_file() and not trains:
            checkpoint = read_checkpoint(folder, lazy=True)
            whole = checkpoint.pop("state_dict")
            self._load_weights(whole, trains=False)
            extra = {name: value for name, value in whole.items() if name.endswith("_extra_state")}
            self.lightning_module.load_state_dict(extra, strict=False)
            return checkpoint
        check_shards(folder)
        shards = ZeroShards(folder)
        # DeepSpeed loads no stage 3 checkpoint without an optimizer; in other stages weights are not sharded
        if (
            shards.fits(self.world_size, self.zero_stage_3) and shards.names == self.parameter_names
            if trains
            else not (self.zero_stage_3 or shards.shards_weights)
        ):
            checkpoint = super().load_checkpoint(checkpoint_path, weights_only)
        else:
            from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

            whole = get_fp32_state_dict_from_zero_checkpoint(str(folder), "checkpoint") if self.is_global_zero else {}
            self._load_weights(whole, trains=trains)
            self.lightning_module.load_state_dict(shards.extra_state, strict=False)
            checkpoint = shards.client_state
            if trains:
                self._load_optimizer(shards)
        self._set_lowest_scale()  # loading has replaced the loss scaler
        return checkpoint

    def _load_weights(self, whole: Mapping[str, Tensor], *, trains: bool) -> None:
        """Load weights in float32 on all ranks, tensor by tensor, broadcast from rank zero."""
        from deepspeed.runtime.zero import GatheredParameters

        module = self.lightning_module
        assert module is not None
        buffers = dict(module.named_buffers())
        for name in module.state_dict():
            if name in buffers:
                buffers[name].copy_(self._broadcast(whole.get(name), buffers[name]))
        for name, parameter in module.named_parameters():
            weights = self._broadcast(whole.get(name), parameter)
            with GatheredParameters([parameter], modifier_rank=0, enabled=hasattr(parameter, "ds_id")):
                parameter.data.copy_(weights)
            if trains and parameter.requires_grad:
                self._set_shard(parameter, weights)

    def _load_optimizer(self, shards: ZeroShards) -> None:
        """Load the shard of the optimizer state, and the step counters, on all ranks."""
        assert self.lightning_module is not None
        parameters = dict(self.lightning_module.named_parameters())
        optimizer: Any = self.deepspeed_engine.optimizer
        kinds, counts = shards.kinds, {k: v for k, v in shards.states()[0].items() if k not in shards.kinds}
        flat = "fp32_partitioned_groups_flat" if self.zero_stage_3 else "single_partition_of_fp32_groups"
        for part in getattr(optimizer, flat):  # these have no optimizer state before the first step
            state = {key: value.clone() if isinstance(value, Tensor) else value for key, value in counts.items()}
            optimizer.optimizer.state[part].update(state | {kind: torch.zeros_like(part) for kind in kinds})
        if not self.zero_stage_3:
            create_high_precision_state(optimizer)
        names = [name for group in shards.names for name in group]
        for kind in kinds:
            tensors = shards.tensors(kind) if self.is_global_zero else ((name, None) for name in names)
            for name, tensor in tensors:
                self._set_shard(parameters[name], self._broadcast(tensor, parameters[name]), kind)
        for group in optimizer.optimizer.param_groups:  # hyperparameters are those of this run, except step counters
            group.update({name: value for name, value in shards.groups[0].items() if name not in group})
        optimizer.loss_scaler = shards.optimizers[0]["loss_scaler"]
        for count in ("global_steps", "global_samples", "skipped_steps"):
            setattr(self.deepspeed_engine, count, shards.model[count])

    def _set_shard(self, parameter: Any, whole: Tensor, kind: str | None = None) -> None:
        """Set this rank's shard of a parameter's weights in float32, or of an optimizer state of the parameter."""
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        if not self.zero_stage_3:
            safe_set_full_optimizer_state(parameter, whole, kind)
            return
        size = parameter.ds_tensor.numel()  # of each rank's shard; the last one is padded
        padded = torch.nn.functional.pad(whole.flatten(), (0, size * self.world_size - whole.numel()))
        safe_set_local_optimizer_state(parameter, padded[size * self.global_rank :][:size], kind)

    def _broadcast(self, tensor: Tensor | None, like: Tensor) -> Tensor:
        """Return a tensor that is broadcast from rank zero; floating-point tensors are converted to float32."""
        shape = getattr(like, "ds_shape", like.shape)
        dtype = torch.float32 if like.is_floating_point() else like.dtype
        if tensor is None:
            mine = torch.empty(shape, dtype=dtype, device=self.root_device)
        else:
            mine = tensor.to(self.root_device, dtype).contiguous()
        torch.distributed.broadcast(mine, 0)
        return mine


def _is_deepspeeds(hook: Any) -> bool:
    return str(getattr(hook, "__module__", None) or type(hook).__module__).startswith("deepspeed")
