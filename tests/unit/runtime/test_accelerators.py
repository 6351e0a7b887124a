"""Devices that this machine does not have are refused by name, whatever the strategy."""

import pytest
import torch

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.runtime.accelerators import check_accelerator
from transformers_framework.runtime.trainer import build_trainer
from transformers_framework.storage.run_folders import RunFolders


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize("strategy", ["auto", "ddp", "fsdp", "deepspeed_stage_2", "deepspeed_stage_3_offload"])
@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps"])
def test_a_device_that_is_not_there_is_named(accelerator, strategy, tmp_path, no_gpu):
    options = {"accelerator": accelerator, "strategy": strategy, "devices": 2}
    with pytest.raises(ConfigurationError) as error:
        build_trainer(options, RunFolders(tmp_path, "run"))
    message = str(error.value)
    assert message.startswith(f"--accelerator {accelerator}: torch {torch.__version__} finds no ")
    assert message.endswith("--accelerator cpu.")
    assert "CPU" not in message


def test_what_is_there_is_accepted(no_gpu):
    check_accelerator("cpu")
    check_accelerator("auto")


def test_a_torch_without_cuda_is_named(monkeypatch, no_gpu):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(ConfigurationError, match=r"built without CUDA\. Install a torch that is built for your GPU"):
        check_accelerator("gpu")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(ConfigurationError, match=r"finds no GPU on this machine\. Use --accelerator cpu\."):
        check_accelerator("gpu")
