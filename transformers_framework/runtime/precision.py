"""Short names of precisions, what a device does not support, and the precision of float32 matrix products."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from transformers_framework.families import family_of

if TYPE_CHECKING:
    import pytorch_lightning as pl

logger = logging.getLogger(__name__)

SHORT_NAMES = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}


def length_multiple(trainer: pl.Trainer) -> int:
    """Return what lengths of batches should be multiples of: 8 for tensor cores."""
    return 8 if "16" in str(trainer.precision) and trainer.strategy.root_device.type != "cpu" else 1


def full_precision_name(precision: str | int | None, accelerator: str, family: str | None = None) -> str | None:
    """Return Lightning's name of a precision; float16 becomes bf16 or float32 where a device or model cannot do it.

    Args:
        precision: Lightning's name or a short one (16, bf16, 32).
        accelerator: Kind of the device that trains: cpu, cuda, mps, ….
        family: Family of the model, as transformers calls it.

    Examples:
        >>> full_precision_name("bf16", "cpu")
        'bf16-mixed'
        >>> full_precision_name(16, "cpu", "t5")
        'bf16-mixed'
        >>> full_precision_name(16, "cuda")
        '16-mixed'
    """
    name = SHORT_NAMES.get(str(precision), None if precision is None else str(precision))
    if name in ("16-mixed", "16-true") and family is not None and family_of(family).overflows_in_float16:
        import torch

        instead = "32-true" if accelerator == "cuda" and not torch.cuda.is_bf16_supported() else f"bf{name}"
        logger.warning(
            "--precision %s: activations of %s overflow in float16, %s is used instead.", precision, family, instead
        )
        return instead
    if name == "16-mixed" and accelerator == "cpu":
        logger.warning("--precision 16: a CPU cannot compute in float16, bf16 is used instead.")
        return "bf16-mixed"
    return name


def set_float32_matmul_precision(
    device: str, *, float32_matmul_precision: Literal["highest", "high", "medium"] | None = None
) -> None:
    """Set how exactly matrices of float32 are multiplied, for the whole process.

    Args:
        device: Kind of the device that trains: cpu, cuda, mps, ….
        float32_matmul_precision: Precision of products of float32 matrices, as --precision 32 has them everywhere and
            mixed precisions in few places: highest is float32, high is TensorFloat-32 (10 bits of mantissa, several
            times as fast on GPUs that have it), medium is bfloat16 (7 bits). By default high on GPUs, highest
            elsewhere.
    """
    import torch

    chosen = float32_matmul_precision or ("high" if device == "cuda" else "highest")
    torch.set_float32_matmul_precision(chosen)
    if device == "cuda":
        logger.info(
            "float32 matrix products: --float32_matmul_precision %s%s",
            *(chosen, "" if chosen == "highest" else " (faster; highest is exact float32)"),
        )
