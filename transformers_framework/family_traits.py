"""Traits of model families that have settings of their own: document masks, and the modules of last layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Requirement:
    """A setting of a config on which something depends.

    Args:
        setting: Name of the setting; a config without it meets the requirement.
        value: The value it must have.
        otherwise: The reason why other values do not work.
    """

    setting: str
    value: Any
    otherwise: str

    def is_met(self, config: object) -> bool:
        """Return whether a config has the value; all that counts as false is one value."""
        return (getattr(config, self.setting, self.value) or None) == (self.value or None)


@dataclass(frozen=True)
class Masking:
    """How a family accepts a document mask ``(B, L, L)`` instead of an attention mask ``(B, L)``.

    Args:
        needs: Setting of the config without which the family would mix documents.
        reduced_for: Parameter of its embeddings that takes the mask, and needs one over tokens.
        removed_for: Parameter of its embeddings that takes the mask, and needs none.
        is_square: Whether it wants ``(B, L, L) bool`` and recognizes padding as what nothing attends to.
        numbers_tokens: Whether its position embeddings number tokens and skip padding.
    """

    needs: Requirement | None = None
    reduced_for: str | None = None
    removed_for: str | None = None
    is_square: bool = False
    numbers_tokens: bool = False


MASKED = Masking()  # a family that reads a document mask as it is
UNTESTED = "no test has shown that it keeps them apart"


@dataclass(frozen=True)
class LastLayerModules:
    """Modules by which the last layer of an encoder is computed at some positions only; the defaults are those of BERT.

    All but the first are names within a layer.

    Args:
        layers: Name of the list of layers in the backbone.
        input: The module that reads all hidden states: attention, or the norm before it.
        output: The linear layer after attention, from which on positions are independent of each other.
        attention: The module that calls transformers' attention functions; none if attention is computed otherwise.
        query: The projection of queries; none if keys or position embeddings have a part in it.
        classifier: Setting with which the sequence classifier reads the first token only.
    """

    layers: str = "encoder.layer"
    input: str = "attention.self"
    output: str = "attention.output.dense"
    attention: str | None = "attention.self"
    query: str | None = "attention.self.query"
    classifier: Requirement | None = None


WHOLE = "no test has shown that it can be computed at some positions only"

_FIRST_TOKEN = Requirement("classifier_pooling", "cls", "its classifier reads all positions")
BERT_LAYERS = LastLayerModules()
DISTILBERT_LAYERS = LastLayerModules(
    "transformer.layer", "attention", "attention.out_lin", "attention", "attention.q_lin"
)
MODERNBERT_LAYERS = LastLayerModules("layers", "attn_norm", "attn.Wo", "attn", None, _FIRST_TOKEN)
OWN_ATTENTION_LAYERS = LastLayerModules(attention=None, query=None)
MEGATRON_LAYERS = replace(OWN_ATTENTION_LAYERS, input="attention.ln")
MPNET_LAYERS = replace(OWN_ATTENTION_LAYERS, input="attention.attn", output="attention.attn.o")
PRE_NORM_LAYERS = replace(BERT_LAYERS, input="attention.LayerNorm")
ESM_LAYERS = replace(PRE_NORM_LAYERS, query=None)  # ESM-2 rotates queries
XLM_ROBERTA_XL_LAYERS = replace(BERT_LAYERS, input="attention.self_attn_layer_norm")
ROTARY_LAYERS = LastLayerModules("layers", "self_attn", "self_attn.o_proj", "self_attn", None)
ULTRABERT_LAYERS = replace(ROTARY_LAYERS, input="input_layernorm", classifier=_FIRST_TOKEN)
EUROBERT_LAYERS = replace(ULTRABERT_LAYERS, classifier=replace(_FIRST_TOKEN, value="bos"))
