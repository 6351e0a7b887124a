"""The last layer of an encoder at the positions that heads read, and at no others.

Keys and values of its attention need all hidden states; its queries, the output of attention, the feed-forward part and
norms treat each position by itself. So the layer is called with the hidden states of these positions, and its
attention, or the norm before it, gets those of all positions back. :mod:`transformers_framework.families` has the names
of these modules.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from transformers_framework.compat.transformers import attention_of, set_attention
from transformers_framework.families import family_of
from transformers_framework.family_traits import LastLayerModules
from transformers_framework.models.reads import Reads

if TYPE_CHECKING:
    from transformers import PreTrainedModel

AT_POSITIONS = "at_positions"  # name of the attention of a last layer in transformers' interface

# settings of a config with which positions are not independent, or their hidden states are returned
WHOLE_SETTINGS = (
    "is_decoder",
    "add_cross_attention",
    "chunk_size_feed_forward",
    "output_hidden_states",
    "output_attentions",
)


class Rows(NamedTuple):
    """The positions that a last layer computes.

    Args:
        columns: Positions of the queries in each row ``(B, P) int64``.
        length: Length of the rows, L.
        queries: The same positions, flat in ``(B, L)``: ``(B, P) int64``.
        kept: Positions whose hidden states leave the layer, flat in ``(B, L)``: ``(B, P)`` or ``(1, N) int64``.
        attended: The query of each of N positions ``(1, N) int64``, flat in ``(B, L)``, where the P queries are the
            first of each row; none where they are all queries in order.
    """

    columns: Tensor
    length: int
    queries: Tensor
    kept: Tensor
    attended: Tensor | None = None

    @classmethod
    def of(cls, reads: Reads, length: int) -> Rows:
        """Return the rows of a batch.

        Args:
            reads: Positions that are read.
            length: Length of the rows.
        """
        columns, places = reads
        queries = columns + torch.arange(0, len(columns) * length, length, device=columns.device)[:, None]
        if places is None:
            return cls(columns, length, queries, queries)
        attended = in_other_rows(places, columns.shape[1], length)
        return cls(columns, length, queries, queries.flatten().index_select(0, places)[None], attended[None])


def joined(reads: Mapping[str, Reads], length: int) -> tuple[Rows, dict[str, int]]:
    """Return the rows of all heads together, and at which of their columns those of each head begin.

    Args:
        reads: Positions that each head reads, by name.
        length: Length of the rows of the batch.
    """
    if len(reads) == 1:
        ((name, only),) = reads.items()
        return Rows.of(only, length), {name: 0}
    widths = [read.columns.shape[1] for read in reads.values()]
    firsts = dict(zip(reads, accumulate(widths, initial=0), strict=False))
    return Rows.of(Reads(torch.cat([read.columns for read in reads.values()], dim=1)), length), firsts


def in_other_rows(places: Tensor, width: int, length: int, first: int = 0) -> Tensor:
    """Return places ``(N,) int64`` in flattened rows as places in rows of another length.

    Args:
        places: Places in the flattened rows.
        width: Length of these rows.
        length: The other length.
        first: Where these rows begin in the others.

    Examples:
        >>> in_other_rows(torch.tensor([0, 2, 5]), width=3, length=8, first=1).tolist()
        [1, 3, 11]
    """
    return places // width * length + places % width + first


def gather(hidden_states: Tensor, positions: Tensor) -> Tensor:
    """Return hidden states ``(…, H)`` of ``(B, L, H)`` at flat positions ``(…) int64``.

    ``index_select`` has a gradient that is a sum into rows, where that of indexing sorts them first.
    """
    rows = hidden_states.flatten(0, 1).index_select(0, positions.flatten())
    return rows.view(*positions.shape, hidden_states.shape[-1])


def reads_first_token(head: PreTrainedModel) -> bool:
    """Return whether a head model is a classifier that reads the first hidden state of each row only."""
    modules = family_of(head.config.model_type).last_layer
    if isinstance(modules, str) or not type(head).__name__.endswith("ForSequenceClassification"):
        return False
    return modules.classifier is None or modules.classifier.is_met(head.config)


class LastLayer:
    """Hooks in the last layer of an encoder, which compute it at some positions only while they are set.

    They are registered once and not during each step because ``torch.compile`` traces the hooks that it finds at first.

    Args:
        layer: The layer.
        modules: Names of its modules.
        attention: Implementation of attention of the model. Masks of ``eager`` and ``sdpa`` have a row for each query;
            with others, all positions are queries, and only the rest of the layer is computed at some.
    """

    def __init__(self, layer: nn.Module, modules: LastLayerModules, attention: str) -> None:
        self.layer = layer
        self.rows: Rows | None = None
        self.whole: Tensor | None = None  # hidden states (B, L, H) on the way from the layer to its attention
        self.checkpoints = False
        self.has_few_queries = modules.attention is not None and attention in ("eager", "sdpa")
        self.projects_few = self.has_few_queries and modules.query is not None
        layer.register_forward_pre_hook(self._enter)
        layer.get_submodule(modules.input).register_forward_pre_hook(self._restore)
        layer.get_submodule(modules.output).register_forward_pre_hook(self._leave)
        if self.has_few_queries:
            attends: Any = layer.get_submodule(str(modules.attention))
            eager = vars(sys.modules[type(attends).__module__])["eager_attention_forward"]
            self.attend = AttentionInterface().get(attention, eager)
            set_attention(attends, AT_POSITIONS)
            attends.at_positions = self
        if self.projects_few:
            query = layer.get_submodule(str(modules.query))
            query.register_forward_pre_hook(self._select)
            query.register_forward_hook(self._fill)

    @classmethod
    def of(cls, backbone: PreTrainedModel) -> LastLayer | None:
        """Return the last layer of a backbone, None if it has to compute all positions."""
        config: Any = backbone.config
        modules = family_of(config.model_type).last_layer
        if isinstance(modules, str) or any(getattr(config, name, False) for name in WHOLE_SETTINGS):
            return None
        layers: Any = backbone.get_submodule(modules.layers)
        if len(layers) < 2:  # DeBERTa-v2's first layer is followed by a convolution
            return None
        layer = layers[-1]
        if not hasattr(layer, "at_positions"):  # else it has the hooks already
            layer.at_positions = cls(layer, modules, attention_of(config))
        return cast("LastLayer", layer.at_positions)

    def select(self, rows: Rows | None) -> None:
        """Compute the layer at these rows only; at all positions without any.

        Meanwhile its activations are not recomputed in the backward pass, when no rows are set: they are few.
        """
        layer: Any = self.layer
        if rows is not None and getattr(layer, "gradient_checkpointing", False):
            layer.gradient_checkpointing, self.checkpoints = False, True
        elif rows is None and self.checkpoints:
            layer.gradient_checkpointing, self.checkpoints = True, False
        self.rows, self.whole = rows, None

    def _enter(self, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Replace hidden states by those of the rows."""
        if self.rows is None:
            return None
        self.whole = args[0]
        return (gather(args[0], self.rows.kept), *args[1:])

    def _restore(self, reader: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Give attention, or the norm before it, the hidden states of all positions."""
        if self.rows is None:
            return None
        whole, self.whole = self.whole, None
        return (whole, *args[1:])

    def _select(self, query: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        """Project the queries of the rows only."""
        if self.rows is None:
            return None
        return (gather(args[0], self.rows.queries),)

    def _fill(self, query: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor | None:
        """Extend the queries to the length that attention reshapes them to."""
        return None if self.rows is None else padded(output, self.rows.length, dim=1)

    def _leave(self, output: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        """Take the output of attention at the rows."""
        if self.rows is None:
            return None
        if not self.has_few_queries:
            return (gather(args[0], self.rows.kept),)
        if self.rows.attended is not None:
            return (gather(args[0], self.rows.attended),)
        return (args[0][:, : self.rows.columns.shape[1]],)


def padded(values: Tensor, length: int, dim: int) -> Tensor:
    """Return values with zeros up to a length of a dimension."""
    return functional.pad(values, (0, 0) * (values.ndim - 1 - dim) + (0, length - values.shape[dim]))


def attend_at_positions(
    attention: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """Attend from the positions of a last layer to all positions; an attention function of transformers' interface.

    Args:
        attention: Attention of the last layer.
        query: Queries of all positions, or those of the P positions and zeros ``(B, heads, L, D)``.
        key: Keys ``(B, heads, L, D)``.
        value: Values ``(B, heads, L, D)``.
        attention_mask: Mask ``(B or 1, heads or 1, L or 1, L)``.
        **options: Further arguments of attention functions.

    Returns:
        The output at P positions, then zeros ``(B, L, heads, D)``; and attention weights, if there are any.
    """
    last: LastLayer = attention.at_positions
    if last.rows is None:
        found: tuple[Tensor, Tensor | None] = last.attend(attention, query, key, value, attention_mask, **options)
        return found
    columns = last.rows.columns  # (B, P)
    if last.projects_few:
        query = query[:, :, : columns.shape[1]]
    else:
        query = torch.take_along_dim(query, columns[:, None, :, None], dim=2)
    if attention_mask is not None and attention_mask.shape[2] > 1:
        attention_mask = torch.take_along_dim(attention_mask, columns[:, None, :, None], dim=2)
    output, weights = last.attend(attention, query, key, value, attention_mask, **options)
    return padded(output, last.rows.length, dim=1), weights


AttentionInterface.register(AT_POSITIONS, attend_at_positions)
