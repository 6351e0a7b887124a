"""Document masks: attention within each document of a packed row, and not between them, in every family.

Packed rows come with ``documents``, the number of each token's document. Attention needs a mask between tokens and not
one over tokens, and positions must restart in each document. Everything else in an encoder treats tokens one by one,
except in the families whose rows in :mod:`transformers_framework.families` give a reason.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from transformers_framework.compat.transformers import attention_of
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.families import family_of
from transformers_framework.family_traits import Masking
from transformers_framework.models.document_lengths import BY_LENGTH, no_lengths

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def check_document_mask(config: PreTrainedConfig, attention: str = "sdpa", *, packs_targets: bool = False) -> None:
    """Raise when a model cannot keep the documents of a packed row apart.

    Args:
        config: Config of the model.
        attention: Implementation of attention that was asked for.
        packs_targets: Whether the decoder has targets, which are packed as well.

    Raises:
        ConfigurationError: With the reason and what to do instead.
    """
    family, reason = config.model_type, None
    masking = family_of(family).document_mask
    if config.is_encoder_decoder and not packs_targets:
        reason = "its decoder attends to the whole row"
    elif isinstance(masking, str):
        reason = masking
    elif masking.needs is not None and not masking.needs.is_met(config):
        reason = masking.needs.otherwise
    if reason is not None:
        raise ConfigurationError(
            f"--packing isolated: documents of a row must not attend to each other, as those of {family} do: {reason}. "
            "Use --packing full, or no packing: batches of rows of similar length have little padding."
        )
    if attention in BY_LENGTH and (why := no_lengths(config)) is not None:
        raise ConfigurationError(
            f"--attention {attention}: it takes no mask between tokens, and no lengths of documents in {family}, which "
            f"--packing isolated needs: {why}. Use --attention sdpa."
        )
    if attention == "flex_attention" and _window(config) is not None:
        raise ConfigurationError(
            f"--attention flex_attention: {family} attends within sliding windows, which --packing isolated cannot "
            "narrow there. Use --attention sdpa."
        )


class DocumentMask:
    """Convert the document numbers of packed rows to the attention mask and positions that keep documents apart.

    Args:
        backbones: One or more models of one family, without heads. Layers that misread masks between tokens get hooks;
            all hooks leave the usual masks over tokens as they are.

    Raises:
        ConfigurationError: When the model cannot keep documents apart.
    """

    packs_targets = False

    def __init__(self, *backbones: PreTrainedModel) -> None:
        for backbone in backbones:
            check_document_mask(backbone.config, attention_of(backbone.config), packs_targets=self.packs_targets)
            _accept_document_masks(backbone)
        assert len({(type(backbone), attention_of(backbone.config)) for backbone in backbones}) == 1
        backbone, config = backbones[0], backbones[0].config
        self.attention: str = attention_of(config)
        family = family_of(config.model_type)
        self.backbone, self.masking = backbone, _masking_of(config)
        self.first_position = _first_position(backbone) if family.positions_after_padding else 0
        # without them, only distances between tokens count, which are the same anywhere in a row
        self.takes_positions = "position_ids" in inspect.signature(backbone.forward).parameters

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return ``attention_mask`` and, for families that take them, ``position_ids`` ``(B, L) int64``.

        Attention that takes the lengths of documents gets no other mask.

        Args:
            batch: ``documents`` and ``position_ids`` ``(B, L) int64``, as :func:`processing.packing.pack` makes them.
                Nothing is returned for a batch that has none.
        """
        if "documents" not in batch:
            return {}
        inputs: dict[str, Any] = {}
        if self.attention not in BY_LENGTH:
            inputs["attention_mask"] = self._mask(batch["documents"], batch["documents"])
        if self.takes_positions:
            inputs["position_ids"] = batch["position_ids"] + self.first_position
        return inputs

    def _mask(self, queries: Tensor, keys: Tensor, *, causal: bool = False) -> Any:
        """Return the mask between queries and keys in the form that attention takes.

        Args:
            queries: Segments of the queries ``(B, Q) int64``.
            keys: Segments of the keys ``(B, K) int64``.
            causal: Whether a query attends to no later key.
        """
        if self.attention == "flex_attention":
            return _block_mask(queries, keys, causal=causal)
        same = queries[:, :, None] == keys[:, None, :]  # (B, Q, K); padding attends to padding, so no row is empty
        if keys is not queries:
            same |= (queries == 0)[:, :, None]  # there may be none on the other side
        if causal:
            same = same.tril()
        if self.masking.is_square:
            return same & (keys > 0)[:, None, :]  # (B, L, L)
        if self.attention == "sdpa":
            return same[:, None]  # (B, 1, Q, K)
        dtype = self.backbone.dtype  # now: a strategy may have narrowed the weights
        return torch.zeros_like(same, dtype=dtype).masked_fill_(~same, torch.finfo(dtype).min)[:, None]


class SeqToSeqDocumentMask(DocumentMask):
    """Convert the document numbers of packed rows to the masks and positions that keep documents apart in both stacks.

    There are three masks: within the input, within the target, and from the target to the input (cross-attention).
    Models use the first one as the third, and number the tokens of a whole row where positions are embedded. Hooks
    correct both for the latest batch, and do nothing if it is not packed. They are registered once and not during each
    step because ``torch.compile`` traces the hooks that it finds at first.

    Args:
        backbones: One encoder-decoder without its head.

    Raises:
        ConfigurationError: When the model cannot keep documents apart.
    """

    packs_targets = True

    def __init__(self, *backbones: PreTrainedModel) -> None:
        super().__init__(*backbones)
        (backbone,) = backbones
        self.cross_mask: Any = None  # from the decoder to the encoder
        self.positions: dict[str, Tensor] = {}
        backbone.get_decoder().register_forward_pre_hook(self._mask_cross_attention, with_kwargs=True)
        for side, stack in {"encoder": backbone.get_encoder(), "decoder": backbone.get_decoder()}.items():
            if (table := getattr(stack, "embed_positions", None)) is not None:
                table.register_forward_hook(partial(self._restart_positions, side=side))
                if self.masking.numbers_tokens:
                    table.register_forward_pre_hook(self._number_padding)

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return ``attention_mask`` and ``decoder_attention_mask``, and prepare the hooks for the batch.

        Args:
            batch: ``documents`` and ``position_ids`` ``(B, L) int64``, ``decoder_documents`` and
                ``decoder_position_ids`` ``(B, T) int64``, as :func:`processing.packing.pack` makes them. Nothing is
                returned for a batch that has none.
        """
        self.cross_mask, self.positions = None, {}
        if "documents" not in batch:
            return {}
        source, target = batch["documents"], batch["decoder_documents"]
        self.cross_mask = self._mask(target, source)
        self.positions = {"encoder": batch["position_ids"], "decoder": batch["decoder_position_ids"]}
        return {
            "attention_mask": self._mask(source, source),
            "decoder_attention_mask": self._mask(target, target, causal=True),
        }

    def _mask_cross_attention(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        return args, kwargs if self.cross_mask is None else {**kwargs, "encoder_attention_mask": self.cross_mask}

    def _restart_positions(self, table: nn.Module, args: tuple[Any, ...], output: Tensor, *, side: str) -> Tensor:
        """Return embeddings of positions that restart in each document ``(B, L, H)``.

        They are picked from those of the positions of a row ``(…, L, H)``, however these were computed.
        """
        if side not in self.positions:
            return output
        return functional.embedding(self.positions[side], output.flatten(0, -3)[0] if output.ndim > 2 else output)

    def _number_padding(self, table: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Number all positions of a row, those of padding too, by hiding the token ids from the table."""
        return (None, *args[1:]) if self.positions else None


def _masking_of(config: PreTrainedConfig) -> Masking:
    masking = family_of(config.model_type).document_mask
    return masking if isinstance(masking, Masking) else Masking()  # tests try those that are refused


def _first_position(backbone: Any) -> int:
    return int(getattr(backbone.embeddings, "padding_idx", backbone.config.pad_token_id)) + 1


def _block_mask(queries: Tensor, keys: Tensor, *, causal: bool) -> Any:
    """Return a block mask of flex attention, which skips blocks of tokens that do not attend to each other."""
    from torch.nn.attention.flex_attention import create_block_mask

    def same(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        is_same = queries[row, query] == keys[row, key]
        return is_same & (query >= key) if causal else is_same

    sizes = len(queries), None, queries.shape[1], keys.shape[1]
    return create_block_mask(same, *sizes, device=str(queries.device))


# --- layers that misread a mask between tokens -------------------------------------------------------------------


def _accept_document_masks(backbone: Any) -> None:
    """Register hooks where a family would read a mask between tokens as one over tokens."""
    config, masking = backbone.config, _masking_of(backbone.config)
    if masking.reduced_for is not None:
        backbone.embeddings.register_forward_pre_hook(
            partial(_with_token_mask, name=masking.reduced_for), with_kwargs=True
        )
    elif masking.removed_for is not None:
        backbone.embeddings.register_forward_pre_hook(
            partial(_without_mask, name=masking.removed_for), with_kwargs=True
        )
    elif (window := _window(config)) is not None:
        for layer, kind in zip(backbone.layers, config.layer_types, strict=True):
            if kind == "sliding_attention":
                layer.register_forward_pre_hook(partial(_within_window, window=window), with_kwargs=True)


def _window(config: Any) -> int | None:
    """Return the sliding window of local attention layers, None where all layers are global."""
    return config.sliding_window if "sliding_attention" in (getattr(config, "layer_types", None) or ()) else None


Call = tuple[tuple[Any, ...], dict[str, Any]]


def _with_token_mask(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, name: str) -> Call:
    """Give a layer the mask over tokens: real ones are those that any token attends to."""
    mask = kwargs.get(name)
    return args, kwargs if mask is None or mask.ndim == 2 else {**kwargs, name: mask.any(dim=-1)}


def _without_mask(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, name: str) -> Call:
    """Give a layer no mask: embeddings of padding stay as they are, and are masked in attention."""
    mask = kwargs.get(name)
    return args, kwargs if mask is None or mask.ndim == 2 else {**kwargs, name: None}


def _within_window(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, window: int) -> Call:
    """Mask tokens outside of the sliding window of a local attention layer."""
    mask = kwargs.get("attention_mask")
    if mask is None:
        return args, kwargs
    positions = torch.arange(mask.shape[-1], device=mask.device)
    far = (positions[:, None] - positions).abs() > window  # (L, L)
    hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
    return args, {**kwargs, "attention_mask": mask.masked_fill(far, hidden)}
