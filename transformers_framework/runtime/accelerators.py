"""The devices that ``--accelerator`` names, and whether this machine has them."""

from __future__ import annotations

from transformers_framework.exceptions import ConfigurationError

GPUS = ("cuda", "mps")  # what Lightning tries for --accelerator gpu


def accelerator_kind(accelerator: str) -> str:
    """Return the kind of device that an ``--accelerator`` means on this machine."""
    import torch

    if accelerator in ("gpu", "auto"):
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    return accelerator


def check_accelerator(accelerator: str) -> None:
    """Check that this machine has a device of the kind that was asked for.

    Args:
        accelerator: The value of ``--accelerator``.

    Raises:
        ConfigurationError: When it has none, with what torch lacks.
    """
    import torch
    from pytorch_lightning.accelerators import AcceleratorRegistry

    kinds = GPUS if accelerator == "gpu" else (accelerator,)
    if accelerator == "auto" or any(AcceleratorRegistry[kind]["accelerator"].is_available() for kind in kinds):
        return
    device = "GPU" if accelerator in ("gpu", "cuda") else accelerator.upper()
    lacks, remedy = "", ""
    if accelerator in ("gpu", "cuda") and torch.version.cuda is None and torch.version.hip is None:
        lacks, remedy = ", and is built without CUDA", "Install a torch that is built for your GPU, or use"
    raise ConfigurationError(
        f"--accelerator {accelerator}: torch {torch.__version__} finds no {device} on this machine{lacks}. "
        f"{remedy or 'Use'} --accelerator cpu."
    )
