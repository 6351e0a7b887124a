"""DeepSpeed's ZeRO, with short windows of accumulation, whole weights to export, and files that hold no code."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.strategies import DeepSpeedStrategy
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from transformers_framework.runtime.checkpoint_io import check_shards, safe_to_read

HOOKS = ("_forward_pre_hooks", "_forward_hooks")


class DeepSpeed(DeepSpeedStrategy):
    """Lightning's, which counts the batches of a window itself and never steps at the end of an epoch."""

    on_cpu = False
    owns_gradients = True  # it frees them when it has stepped

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        assert isinstance(self.config, dict)
        self.config.setdefault("zero_force_ds_cpu_optimizer", False)  # any optimizer's state may lie on the host

    @property
    def shards_weights(self) -> bool:
        """Whether each process has a part of the weights."""
        return self.zero_stage_3

    @property
    def handles_gradient_accumulation(self) -> bool:
        """No: Lightning says which batches make a step, and the last window of an epoch may be short."""
        return False

    @contextlib.contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Do not step behind the batch of this block."""
        self.deepspeed_engine.set_gradient_accumulation_boundary(False)
        try:
            yield
        finally:
            self.deepspeed_engine.set_gradient_accumulation_boundary(True)

    def backward(self, closure_loss: Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Run a backward pass; Lightning has taken the mean over the window."""
        return super().backward(closure_loss, optimizer, *args, scale_wrt_gas=False, **kwargs)

    def _initialize_deepspeed_train(self, model: nn.Module) -> None:
        super()._initialize_deepspeed_train(model)
        self.deepspeed_engine.set_gradient_accumulation_boundary(True)

    def _initialize_deepspeed_inference(self, model: nn.Module) -> None:
        """Lightning removes all hooks, to be rid of DeepSpeed's; others stay."""
        kept = [
            (module, hooks, {key: hook for key, hook in getattr(module, hooks).items() if not _is_deepspeeds(hook)})
            for module in model.modules()
            for hooks in HOOKS
        ]
        super()._initialize_deepspeed_inference(model)
        for module, hooks, ours in kept:
            setattr(module, hooks, OrderedDict({**ours, **getattr(module, hooks)}))

    def whole_weights(self) -> dict[str, Tensor]:
        """Return the weights of all processes in float32, to the first one, one tensor after the other."""
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
                    found[name] = whole.float().cpu().clone() if self.is_global_zero else whole[:0]
            else:
                found[name] = tensor
        return found

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a folder of shards of as many processes as there are; nothing in it is executed.

        Raises:
            ConfigurationError: When it holds code, is no such folder, or was made by another number of processes.
        """
        folder = Path(checkpoint_path)
        check_shards(folder, self.world_size)
        assert self.lightning_module is not None
        if not self.zero_stage_3 or self.lightning_module.trainer.state.fn == TrainerFn.FITTING:
            return super().load_checkpoint(checkpoint_path, weights_only)
        # of stage 3 DeepSpeed loads nothing into a model that has no optimizer
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

        whole = get_fp32_state_dict_from_zero_checkpoint(str(folder), tag="checkpoint") if self.is_global_zero else {}
        self._restore_zero_state({"state_dict": whole}, strict=True)
        with safe_to_read():
            state = torch.load(next(folder.glob("checkpoint/*rank_00_model_states.pt")), "cpu", weights_only=True)
        return {name: state[name] for name in ("epoch", "global_step", "pytorch-lightning_version") if name in state}


def _is_deepspeeds(hook: Any) -> bool:
    return str(getattr(hook, "__module__", None) or type(hook).__module__).startswith("deepspeed")
