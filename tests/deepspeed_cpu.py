"""The program with DeepSpeed on CPUs, which Lightning refuses: ``python -m tests.deepspeed_cpu FLAGS``.

It needs ``DS_ACCELERATOR=cpu``. Stages, gradients and checkpoints are DeepSpeed's own; what it would compile for
minutes, its fused Adam and its shared memory, is torch's here.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy, StrategyRegistry
from pytorch_lightning.strategies import deepspeed as lightning_deepspeed


class CPUDeepSpeedStrategy(DeepSpeedStrategy):
    """DeepSpeed over gloo."""

    @property
    def root_device(self) -> torch.device:
        """The CPU, with the number that DeepSpeed wants."""
        return torch.device("cpu", 0)

    def setup_environment(self) -> None:
        """Skip the check that the accelerator is a GPU."""
        DDPStrategy.setup_environment(self)

    def _get_process_group_backend(self) -> str:
        return "gloo"


class Adam(torch.optim.AdamW):
    """AdamW with the arguments of DeepSpeed's FusedAdam."""

    def __init__(self, params: Any, *, bias_correction: bool, adam_w_mode: bool, **options: Any) -> None:
        assert bias_correction
        assert adam_w_mode
        super().__init__(params, **options)


def main() -> int:
    """Run a command."""
    import deepspeed

    from transformers_framework.cli.main import main

    deepspeed.ops.adam.FusedAdam = Adam
    deepspeed.comm.torch.build_shm_op = lambda: None
    lightning_deepspeed._validate_device_index_selection = lambda devices: None
    for stage in (1, 2):
        name = f"deepspeed_stage_{stage}"
        StrategyRegistry.remove(name)
        StrategyRegistry.register(name, CPUDeepSpeedStrategy, description=name, stage=stage)
    return main(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
