"""Attention within documents by their cumulative lengths, as flash attention takes them, instead of by a mask.

The rows of a batch are one after the other for attention, and each document, or each text with padding beside it, is a
sequence of its own: no mask ``(B, L, L)`` is made, and attention costs the squares of the lengths of documents and not
of rows. Lengths are computed on the host, before the batch is transferred, since their number depends on values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from transformers_framework.compat.transformers import attention_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from transformers_framework.models.model import Model

BY_LENGTH: Final = {"flash_attention_2", "flash_attention_3"}  # implementations of attention that take lengths
LENGTHS: Final = "document_lengths"  # batch key, with the prefix of the model inputs: arguments of a model
# transformers' names of them
BOUNDS: Final = ("cu_seq_lens_q", "cu_seq_lens_k")
LONGEST: Final = ("max_length_q", "max_length_k")
ARGUMENTS: Final = frozenset((*BOUNDS, *LONGEST))
BLOCK: Final = 64  # numbers of documents, and the longest one, are rounded up to multiples of this


def no_lengths(config: PreTrainedConfig) -> str | None:
    """Return the reason why attention of a model cannot take lengths of documents; None if it can.

    All encoders with flash attention in transformers take them, as a test of each family shows.

    Args:
        config: Config of the model.
    """
    if config.is_encoder_decoder:
        return "attention from its decoder to its encoder has two lengths per document"
    return None


def takes_lengths(model: Model) -> bool:
    """Return whether the attention of all networks of a model takes lengths, and hook their backbones for it.

    A backbone that gets lengths gets no mask; its heads still have it, for pooling.
    """
    backbones = model.backbones
    if any(attention_of(each.config) not in BY_LENGTH or no_lengths(each.config) for each in backbones):
        return False
    heads: Iterable[Any] = (module for module in model.modules() if hasattr(module, "takes_lengths"))
    if not all(head.takes_lengths for head in heads):
        return False
    for backbone in backbones:
        backbone.register_forward_pre_hook(_without_mask, with_kwargs=True)
    return True


def _without_mask(
    backbone: PreTrainedModel, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if kwargs.get(BOUNDS[0]) is None:
        return args, kwargs
    if len(args) > 1:  # input_ids, attention_mask, …
        return (args[0], None, *args[2:]), kwargs
    return args, {**kwargs, "attention_mask": None}


def lengths_of(documents: Tensor) -> dict[str, Any]:
    """Return cumulative lengths and the greatest length of the documents of a batch, as arguments of a model.

    Args:
        documents: Number of the document of each token ``(B, L) int64``, 0 at padding, on the host. A mask over tokens
            is that of rows with one document.

    Returns:
        ``cu_seq_lens_q`` and ``cu_seq_lens_k`` ``(S,) int32``: where documents begin in the flattened rows, and the
        end, repeated, as documents without tokens; ``max_length_q`` and ``max_length_k``.

    Examples:
        >>> found = lengths_of(torch.tensor([[1, 1, 2, 0], [1, 1, 1, 1]]))
        >>> found["cu_seq_lens_q"][:5].tolist(), len(found["cu_seq_lens_q"]), found["max_length_q"]
        ([0, 2, 3, 4, 8], 65, 4)
    """
    begins = torch.ones_like(documents, dtype=torch.bool)
    torch.ne(documents[:, 1:], documents[:, :-1], out=begins[:, 1:])
    places = begins.flatten().nonzero()[:, 0]
    bounds = places.new_full((-(-len(places) // BLOCK) * BLOCK + 1,), documents.numel())
    bounds[: len(places)] = places
    longest = min(-(-int(bounds.diff().max()) // BLOCK) * BLOCK, documents.shape[1])
    return dict.fromkeys(BOUNDS, bounds.int()) | dict.fromkeys(LONGEST, longest)


def with_lengths(batch: Mapping[str, Any], prefixes: Iterable[str], unpadded: Iterable[str]) -> dict[str, Any]:
    """Return a batch on the host with the lengths of its documents; none for inputs of full rows.

    Args:
        batch: Model inputs, with ``documents (B, L)`` if texts are packed.
        prefixes: Prefixes of model inputs.
        unpadded: Those of inputs without padding.
    """
    found = dict(batch)
    for prefix in prefixes:
        documents = batch.get("documents", batch.get(f"{prefix}attention_mask"))
        if documents is not None and ("documents" in batch or prefix not in unpadded):
            found[prefix + LENGTHS] = lengths_of(documents)
    return found
