"""Implementations of attention: what a family and a machine have of what was asked for."""

from __future__ import annotations

import logging
from typing import Any, Literal

from transformers_framework.compat.transformers import attention_implementations
from transformers_framework.exceptions import ConfigurationError

Attention = Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"]

logger = logging.getLogger(__name__)


def implementation_of(model_class: Any, asked: str) -> str:
    """Return the implementation to use.

    Raises:
        ConfigurationError: When the family or this machine lacks what was asked, unless ``eager`` computes the same.
    """
    from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available, is_torch_flex_attn_available

    classes = model_class if isinstance(model_class, tuple) else (model_class,)
    supported = attention_implementations(classes[0])
    if asked in supported:
        available = {
            "flash_attention_2": (is_flash_attn_2_available, "pip install flash-attn, and an NVIDIA GPU"),
            "flash_attention_3": (is_flash_attn_3_available, "flash-attn 3, built from source, and a Hopper GPU"),
            "flex_attention": (is_torch_flex_attn_available, "a newer torch"),
        }
        if asked in available and not available[asked][0]():
            raise ConfigurationError(
                f"--attention {asked}: it is not available here; it needs {available[asked][1]}. Use --attention sdpa."
            )
        return asked
    if asked == "sdpa":
        logger.info("%s has no sdpa attention: eager is used.", classes[0].__name__)
        return "eager"
    raise ConfigurationError(
        f"--attention {asked}: {classes[0].__name__} does not support it. It supports: {', '.join(supported)}."
    )
