"""Several texts in one row of a batch, none of which sees another: what each family must be told.

Packed rows come with ``segments``, the number of each token's text. Attention needs a mask between tokens instead of
one over tokens, and positions must restart in each text. Everything else in an encoder treats tokens one by one, but in
the families whose rows in :mod:`transformers_framework.families` give a reason.
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
from transformers_framework.families import Masking, family_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def check_document_mask(config: PreTrainedConfig, attention: str = "sdpa", *, writes: bool = False) -> None:
    """Raise when a model cannot keep the texts of a packed row apart.

    Args:
        config: Config of the model.
        attention: Implementation of attention that was asked for.
        writes: The decoder has targets of its own, which are packed as well.

    Raises:
        ConfigurationError: With the reason and what to do instead.
    """
    family, reason = config.model_type, None
    masking = family_of(family).document_mask
    if config.is_encoder_decoder and not writes:
        reason = "its decoder sees the whole row"
    elif isinstance(masking, str):
        reason = masking
    elif masking.needs is not None and not masking.needs.is_met(config):
        reason = masking.needs.otherwise
    if reason is not None:
        raise ConfigurationError(
            f"--packing isolated: texts of a row must not see each other, and with {family} they do: {reason}. Use "
            "--packing full, or --length_bucketing to save padding."
        )
    if attention == "flash_attention_2":
        raise ConfigurationError(
            "--attention flash_attention_2: it takes no mask between tokens, which --packing isolated needs. Use "
            "--attention sdpa or flex_attention."
        )
    if attention == "flex_attention" and _window(config) is not None:
        raise ConfigurationError(
            f"--attention flex_attention: {family} attends within sliding windows, which --packing isolated cannot "
            "narrow there. Use --attention sdpa."
        )


class DocumentMask:
    """Turn the segments of packed rows into the inputs with which models keep texts apart.

    Args:
        backbones: One or more models of one family, without heads. Layers that misunderstand masks between tokens get
            hooks; all hooks leave the usual masks over tokens as they are.

    Raises:
        ConfigurationError: When the model cannot keep texts apart.
    """

    writes = False

    def __init__(self, *backbones: PreTrainedModel) -> None:
        for backbone in backbones:
            check_document_mask(backbone.config, attention_of(backbone.config), writes=self.writes)
            _accept_wide_masks(backbone)
        assert len({(type(backbone), attention_of(backbone.config)) for backbone in backbones}) == 1
        backbone, config = backbones[0], backbones[0].config
        self.attention: str = attention_of(config)
        family = family_of(config.model_type)
        self.backbone, self.masking = backbone, _masking_of(config)
        self.first_position = _first_position(backbone) if family.positions_after_padding else 0
        # without them, only distances between tokens count, which are the same in any place of a row
        self.takes_positions = "position_ids" in inspect.signature(backbone.forward).parameters

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return ``attention_mask`` and, for families that take them, ``position_ids`` ``(B, L) int64``.

        Args:
            batch: ``segments`` and ``position_ids`` ``(B, L) int64``, as :func:`processing.packing.pack` makes them.
                Nothing is returned for a batch that has none.
        """
        if "segments" not in batch:
            return {}
        inputs = {"attention_mask": self._mask(batch["segments"], batch["segments"])}
        if self.takes_positions:
            inputs["position_ids"] = batch["position_ids"] + self.first_position
        return inputs

    def _mask(self, queries: Tensor, keys: Tensor, *, causal: bool = False) -> Any:
        """Return who sees whom, as attention wants it told, given the segments of both ``(B, Q)`` and ``(B, K)``."""
        if self.attention == "flex_attention":
            return _block_mask(queries, keys, causal=causal)
        same = queries[:, :, None] == keys[:, None, :]  # (B, Q, K); padding sees padding, so no row is empty
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
    """Turn the segments of packed rows into the inputs with which encoder-decoders keep texts apart.

    It takes three masks: within the input, within the target, and from the target to the input. Models give the first
    one to the decoder as the third, and number the tokens of a row through where positions are embedded. Hooks set both
    right for the batch that was last seen, and do nothing if it is not packed. They are always there and not only
    during a step because ``torch.compile`` sees the hooks that it finds when it first traces.

    Args:
        backbones: One encoder-decoder without its head.

    Raises:
        ConfigurationError: When the model cannot keep texts apart.
    """

    writes = True

    def __init__(self, *backbones: PreTrainedModel) -> None:
        super().__init__(*backbones)
        (backbone,) = backbones
        self.across: Any = None  # what the decoder sees of the encoder
        self.positions: dict[str, Tensor] = {}
        backbone.get_decoder().register_forward_pre_hook(self._see_across, with_kwargs=True)
        for side, stack in {"encoder": backbone.get_encoder(), "decoder": backbone.get_decoder()}.items():
            if (table := getattr(stack, "embed_positions", None)) is not None:
                table.register_forward_hook(partial(self._begin_anew, side=side))
                if self.masking.numbers_tokens:
                    table.register_forward_pre_hook(self._count_padding)

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return ``attention_mask`` and ``decoder_attention_mask``, and make the model ready for the batch.

        Args:
            batch: ``segments`` and ``position_ids`` ``(B, L) int64``, ``decoder_segments`` and
                ``decoder_position_ids`` ``(B, T) int64``, as :func:`processing.packing.pack` makes them. Nothing is
                returned for a batch that has none.
        """
        self.across, self.positions = None, {}
        if "segments" not in batch:
            return {}
        read, written = batch["segments"], batch["decoder_segments"]
        self.across = self._mask(written, read)
        self.positions = {"encoder": batch["position_ids"], "decoder": batch["decoder_position_ids"]}
        return {
            "attention_mask": self._mask(read, read),
            "decoder_attention_mask": self._mask(written, written, causal=True),
        }

    def _see_across(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        return args, kwargs if self.across is None else {**kwargs, "encoder_attention_mask": self.across}

    def _begin_anew(self, table: nn.Module, args: tuple[Any, ...], output: Tensor, *, side: str) -> Tensor:
        """Return the embeddings of positions that begin anew in each text ``(B, L, H)``.

        They are among those of the places of a row ``(…, L, H)``, whatever these are made from.
        """
        if side not in self.positions:
            return output
        return functional.embedding(self.positions[side], output.flatten(0, -3)[0] if output.ndim > 2 else output)

    def _count_padding(self, table: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Number all places of a row, also those of padding, by not telling tokens."""
        return (None, *args[1:]) if self.positions else None


def _masking_of(config: PreTrainedConfig) -> Masking:
    masking = family_of(config.model_type).document_mask
    return masking if isinstance(masking, Masking) else Masking()  # tests try those that are refused


def _first_position(backbone: Any) -> int:
    return int(getattr(backbone.embeddings, "padding_idx", backbone.config.pad_token_id)) + 1


def _block_mask(queries: Tensor, keys: Tensor, *, causal: bool) -> Any:
    """Return what flex attention takes for a mask: it skips blocks of tokens that see nothing of each other."""
    from torch.nn.attention.flex_attention import create_block_mask

    def same(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = queries[row, query] == keys[row, key]
        return seen & (query >= key) if causal else seen

    sizes = len(queries), None, queries.shape[1], keys.shape[1]
    return create_block_mask(same, *sizes, device=str(queries.device))


# --- layers that must learn what a mask between tokens is --------------------------------------------------------


def _accept_wide_masks(backbone: Any) -> None:
    """Register hooks where a family reads a mask between tokens as if it were one over tokens."""
    config, masking = backbone.config, _masking_of(backbone.config)
    if masking.reduced_for is not None:
        backbone.embeddings.register_forward_pre_hook(partial(_narrowed, name=masking.reduced_for), with_kwargs=True)
    elif masking.removed_for is not None:
        backbone.embeddings.register_forward_pre_hook(partial(_dropped, name=masking.removed_for), with_kwargs=True)
    elif (window := _window(config)) is not None:
        for layer, kind in zip(backbone.layers, config.layer_types, strict=True):
            if kind == "sliding_attention":
                layer.register_forward_pre_hook(partial(_within_window, window=window), with_kwargs=True)


def _window(config: Any) -> int | None:
    """Return how far the layers see that see no further, None where all see everything."""
    return config.sliding_window if "sliding_attention" in (getattr(config, "layer_types", None) or ()) else None


Call = tuple[tuple[Any, ...], dict[str, Any]]


def _narrowed(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, name: str) -> Call:
    """Zero what nobody sees: embeddings of padding."""
    mask = kwargs.get(name)
    return args, kwargs if mask is None or mask.ndim == 2 else {**kwargs, name: mask.any(dim=-1)}


def _dropped(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, name: str) -> Call:
    """Leave embeddings of padding as they are: nobody sees them."""
    mask = kwargs.get(name)
    return args, kwargs if mask is None or mask.ndim == 2 else {**kwargs, name: None}


def _within_window(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, window: int) -> Call:
    """Hide what is too far away, from layers that see no further."""
    mask = kwargs.get("attention_mask")
    if mask is None:
        return args, kwargs
    places = torch.arange(mask.shape[-1], device=mask.device)
    far = (places[:, None] - places).abs() > window  # (L, L)
    hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
    return args, {**kwargs, "attention_mask": mask.masked_fill(far, hidden)}
