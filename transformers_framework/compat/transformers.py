"""Private parts of transformers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

# what is used, as `module:name`, and why the public interface does not do
PARTS: Final = {
    "transformers:AutoModel._model_mapping": "which families have which heads, and their classes",
    "transformers:PreTrainedModel._from_config": "models of classes of our own",
    "transformers:PreTrainedModel._init_weights": "layers that are newly initialized as the family does it",
    "transformers:PreTrainedConfig._attn_implementation": "the implementation of attention that a model runs with",
    "transformers:PreTrainedModel._supports_sdpa": "the implementations of attention that a family has",
    "transformers:PreTrainedModel._supports_flash_attn": "the same",
    "transformers:PreTrainedModel._supports_flex_attn": "the same",
}
SUPPORTS: Final = {
    "sdpa": "_supports_sdpa",
    "flash_attention_2": "_supports_flash_attn",
    "flash_attention_3": "_supports_flash_attn",
    "flex_attention": "_supports_flex_attn",
}


def model_mapping(auto_class: Any) -> Any:
    """Return the mapping of an Auto class: class of a config → class of the model with that head."""
    return auto_class._model_mapping


def from_config(model_class: Any, config: Any, **options: Any) -> Any:
    """Return a newly initialized model of a class of our own, with the attention and dtype that were asked for."""
    return model_class._from_config(config, **options)


def attention_of(config: Any) -> str:
    """Return the implementation of attention of a model with this config."""
    return str(config._attn_implementation)


def set_attention(attention: Any, implementation: str) -> None:
    """Let one module of attention run with another implementation, by a config of its own."""
    attention.config = copy.deepcopy(attention.config)
    attention.config._attn_implementation = implementation


def attention_implementations(model_class: Any) -> list[str]:
    """Return the implementations of attention that a class of models has."""
    return ["eager", *(name for name, flag in SUPPORTS.items() if getattr(model_class, flag, False))]


def initialize(model: PreTrainedModel, layer: nn.Module) -> None:
    """Initialize the parameters of one layer anew, as transformers does for what a checkpoint lacks."""
    for parameter in layer.parameters(recurse=False):
        setattr(parameter, "_is_hf_initialized", False)  # noqa: B010
    model._init_weights(layer)
