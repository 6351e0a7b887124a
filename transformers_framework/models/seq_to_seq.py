"""Encoder-decoders: losses and predictions at each label, without vocabulary-sized logits of a whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from transformers_framework.losses.linear import linear_cross_entropy, linear_top_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class VocabularyHead:
    """The vocabulary head of an encoder-decoder, computed at the labels only and for a few positions at a time.

    Args:
        model: A model of transformers with its vocabulary head. It keeps its layer and its checkpoints.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        layer = model.get_output_embeddings()
        self.model, self.name = model, next(name for name, child in model.named_children() if child is layer)

    @contextmanager
    def skipped(self) -> Iterator[None]:
        """Let the model skip its head and return, as its logits, the decoder's hidden states ``(B, T, H)``."""
        model, layer = self.model, getattr(self.model, self.name)
        bias = getattr(model, "final_logits_bias", None)
        setattr(model, self.name, nn.Identity())
        if bias is not None:
            model.final_logits_bias = bias.new_zeros(1)
        try:
            yield
        finally:
            setattr(model, self.name, layer)
            if bias is not None:
                model.final_logits_bias = bias

    @property
    def weight(self) -> Tensor:
        """Weights of the layer ``(V, H)``."""
        return cast("Tensor", getattr(self.model, self.name).weight)

    @property
    def bias(self) -> Tensor:
        """What is added to the logits ``(V,)``; zeros where the family has nothing of the kind."""
        own = getattr(self.model, self.name).bias
        fixed = getattr(self.model, "final_logits_bias", None)
        found = [part.flatten() for part in (own, fixed) if part is not None]
        return cast("Tensor", sum(found)) if found else self.weight.new_zeros(len(self.weight))


@dataclass(frozen=True)
class DecoderOutput:
    """The output of an encoder-decoder that objectives get.

    Args:
        head: Turns hidden states into logits.
        hidden_states: Hidden states of the decoder at the N labels ``(N, H)``; None where it was given no target.
        generated: Token ids of generated texts ``(B, R, T) int64``, the best of the R first, as ``generate`` returns
            them: the decoder's start token first, padding last.
    """

    head: VocabularyHead
    hidden_states: Tensor | None = None
    generated: Tensor | None = None

    def cross_entropy(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the cross-entropies of the labels ``(N,) int64`` and which of them are right ``(N,) bool``.

        -100 is ignored.
        """
        assert self.hidden_states is not None
        return linear_cross_entropy(self.hidden_states, self.head.weight, self.head.bias, labels)

    def top_tokens(self) -> tuple[Tensor, Tensor]:
        """Return the likeliest token at each label ``(N,) int64`` and its probability ``(N,) float32``."""
        assert self.hidden_states is not None
        return linear_top_tokens(self.hidden_states, self.head.weight, self.head.bias)


def hidden_states_at(output: Any, positions: Tensor) -> Tensor:
    """Return the decoder's hidden states at some positions, from the output of a model whose head was skipped.

    Args:
        output: The model's output, whose logits are hidden states ``(B, T, H)``.
        positions: Flat positions ``row * T + column``, ``(N,) int64``.

    Returns:
        Hidden states ``(N, H)``.
    """
    return cast("Tensor", output.logits.flatten(0, 1).index_select(0, positions))
