"""Attention masks of transformers that are made without reading the mask over tokens.

Transformers reads the mask ``(B, L)`` in each forward pass to find out whether there is padding, which makes the host
wait for the device. Here a mask that is given is taken to have padding; batches without padding come without one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import Tensor
from transformers import AttentionMaskInterface
from transformers.masking_utils import eager_mask, flash_attention_mask, sdpa_mask

from transformers_framework import device_reads

MaskFunction = Callable[..., Tensor | None]
SKIPS = ("allow_is_bidirectional_skip", "allow_is_causal_skip")  # arguments that allow to leave a mask out


def unread(make_mask: MaskFunction) -> MaskFunction:
    """Return a mask function that does not read the mask over tokens, unless it is on a CPU.

    Args:
        make_mask: Mask function of transformers' ``AttentionMaskInterface``.
    """

    @wraps(make_mask)
    def make(*args: Any, attention_mask: Tensor | None = None, **options: Any) -> Tensor | None:
        if attention_mask is not None and not device_reads.are_free(attention_mask):
            if make_mask is flash_attention_mask:
                return attention_mask[:, -options["kv_length"] :]
            options |= dict.fromkeys(SKIPS, False)
        return make_mask(*args, attention_mask=attention_mask, **options)

    return make


AttentionMaskInterface.register("sdpa", unread(sdpa_mask))
AttentionMaskInterface.register("eager", unread(eager_mask))
for name in ("flash_attention_2", "flash_attention_3"):
    AttentionMaskInterface.register(name, unread(flash_attention_mask))
