"""A family of models that neither transformers nor this package has, as somebody else would write it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput, SequenceClassifierOutput


class PocketConfig(PreTrainedConfig):
    """Sizes of a model."""

    model_type = "pocket-model"
    vocab_size: int = 1000
    hidden_size: int = 16
    num_hidden_layers: int = 2
    max_position_embeddings: int = 64
    pad_token_id: int = 0


class PocketPreTrainedModel(PreTrainedModel):
    """What all models of the family have in common."""

    config_class = PocketConfig
    base_model_prefix = "pocket"
    supports_gradient_checkpointing = False


class PocketModel(PocketPreTrainedModel):
    """Embeddings and layers."""

    def __init__(self, config: PocketConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(config.hidden_size, 2, 32, batch_first=True)
            for _ in range(config.num_hidden_layers)
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the embeddings of tokens."""
        return self.words

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> BaseModelOutput:
        """Return the hidden states ``(B, L, H)``."""
        hidden = self.words(input_ids) + self.positions.weight[: input_ids.shape[1]]
        padding = (
            None
            if attention_mask is None
            else torch.zeros_like(hidden[..., 0]).masked_fill(attention_mask == 0, float("-inf"))
        )
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=padding)
        return BaseModelOutput(last_hidden_state=hidden)


class PocketForMaskedLM(PocketPreTrainedModel):
    """A masked language model whose decoder is tied to the embeddings."""

    _tied_weights_keys = {"decoder.weight": "pocket.words.weight"}

    def __init__(self, config: PocketConfig) -> None:
        super().__init__(config)
        self.pocket = PocketModel(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """Return the layer of the vocabulary."""
        return self.decoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> MaskedLMOutput:
        """Return logits ``(B, L, V)``."""
        return MaskedLMOutput(logits=self.decoder(self.pocket(input_ids, attention_mask)[0]))


class PocketForSequenceClassification(PocketPreTrainedModel):
    """A classifier of the mean of the hidden states."""

    def __init__(self, config: PocketConfig) -> None:
        super().__init__(config)
        self.pocket = PocketModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> SequenceClassifierOutput:
        """Return logits ``(B, C)``."""
        return SequenceClassifierOutput(logits=self.classifier(self.pocket(input_ids, attention_mask)[0].mean(dim=1)))


AutoConfig.register(PocketConfig.model_type, PocketConfig)
AutoModel.register(PocketConfig, PocketModel)
AutoModelForMaskedLM.register(PocketConfig, PocketForMaskedLM)
AutoModelForSequenceClassification.register(PocketConfig, PocketForSequenceClassification)
