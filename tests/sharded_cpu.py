"""DeepSpeed and FSDP on CPUs, which Lightning refuses: ``use_cpus()`` before the program begins.

Stages, units, gradients and checkpoints are DeepSpeed's and PyTorch's own; what DeepSpeed would compile for minutes,
its fused Adam and its shared memory, is torch's here.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel, _optim_utils

from transformers_framework.runtime import precision
from transformers_framework.strategies import fsdp


class CPUFSDP(fsdp.FSDP):
    """FSDP over gloo: what was gathered is copied, before the next tensor is gathered in its place."""

    on_cpu = True

    def _setup_model(self, model: Any) -> Any:
        if self.units is None:
            self.names = list(model.state_dict())
        return super()._setup_model(model)

    def lightning_module_state_dict(self) -> dict[str, Tensor]:
        """Return the whole state, to the first process."""
        module: Any = self.lightning_module
        with FullyShardedDataParallel.summon_full_params(self.units, writeback=False):
            there = dict(fsdp.clean(module.named_parameters(remove_duplicate=False)))
            there |= fsdp.clean(module.named_buffers(remove_duplicate=False))
            for name in self.names:
                if name.endswith("._extra_state"):
                    there[name] = module.get_submodule(name.removesuffix("._extra_state")).get_extra_state()
            return {name: there[name].detach().clone() for name in self.names} if self.is_global_zero else {}


unflatten = _optim_utils._unflatten_orig_param_states


def copy_unflattened(info: Any, states: Any, name: str, *options: Any) -> None:
    """Copy what FSDP cuts out of a buffer that it uses again."""
    unflatten(info, states, name, *options)
    for state in states.values():
        if name in state:
            state[name] = state[name].clone()


class Adam(torch.optim.AdamW):
    """AdamW with the arguments of DeepSpeed's FusedAdam."""

    def __init__(self, params: Any, *, bias_correction: bool, adam_w_mode: bool, **options: Any) -> None:
        assert bias_correction
        assert adam_w_mode
        super().__init__(params, **options)


def use_deepspeed() -> None:
    """Let DeepSpeed run on CPUs."""
    import deepspeed
    from pytorch_lightning.strategies import deepspeed as lightning_deepspeed

    from transformers_framework.strategies import deepspeed as ours

    class CPUDeepSpeed(ours.DeepSpeed):
        """DeepSpeed over gloo."""

        on_cpu = True

        @property
        def root_device(self) -> torch.device:
            """The CPU, with the number that DeepSpeed wants."""
            return torch.device("cpu", 0)

        def setup_environment(self) -> None:
            """Skip the check that the accelerator is a GPU."""
            DDPStrategy.setup_environment(self)

        def _get_process_group_backend(self) -> str:
            return "gloo"

    deepspeed.ops.adam.FusedAdam = Adam
    importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None  # `deepspeed.comm.torch` is torch
    lightning_deepspeed._validate_device_index_selection = lambda devices: None
    ours.DeepSpeed = CPUDeepSpeed  # type: ignore[misc]


def use_cpus() -> None:
    """Let what shards run on CPUs, in this process."""
    fsdp.FSDP = CPUFSDP  # type: ignore[misc]
    _optim_utils._unflatten_orig_param_states = copy_unflattened
    # to offload: what is read by no other device need not be pinned, and what computes in turn is never waited for
    Tensor.pin_memory = lambda self, *_: self  # type: ignore[method-assign]
    torch.cpu.Stream.synchronize = lambda self: None  # type: ignore[attr-defined]
    if importlib.util.find_spec("deepspeed") is not None:
        os.environ["DS_ACCELERATOR"] = "cpu"
        use_deepspeed()


def use_float16() -> None:
    """Let CPUs compute in float16, where others would be given bf16 by us."""
    use_cpus()
    precision.full_precision_name = lambda *_: "16-mixed"
