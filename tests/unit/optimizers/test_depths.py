"""Depths of real architectures, by names of their parameters."""

import pytest
import transformers
from torch import nn

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.optimizers.depths import depths

SMALL = {
    "hidden_size": 8,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "vocab_size": 16,
    "max_position_embeddings": 8,
}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def build(head, config, **settings):
    return getattr(transformers, head)(getattr(transformers, config)(**settings))


CASES = {
    "bert": (
        lambda: build("BertForSequenceClassification", "BertConfig", **SMALL),
        {
            "bert.embeddings.word_embeddings.weight": (0, 3),
            "bert.embeddings.LayerNorm.bias": (0, 3),
            "bert.encoder.layer.0.attention.self.query.weight": (1, 3),
            "bert.encoder.layer.2.output.LayerNorm.weight": (3, 3),
            "bert.pooler.dense.weight": (3, 3),
            "classifier.bias": (3, 3),
        },
    ),
    "bert, head tied to the embeddings": (
        lambda: build("BertForMaskedLM", "BertConfig", **SMALL),
        {"bert.embeddings.word_embeddings.weight": (0, 3), "cls.predictions.transform.dense.weight": (3, 3)},
    ),
    "distilbert": (
        lambda: build(
            "DistilBertForSequenceClassification",
            "DistilBertConfig",
            dim=8, n_layers=2, n_heads=2, hidden_dim=8, vocab_size=16, max_position_embeddings=8,
        ),
        {
            "distilbert.embeddings.position_embeddings.weight": (0, 2),
            "distilbert.transformer.layer.0.ffn.lin1.bias": (1, 2),
            "distilbert.transformer.layer.1.ffn.lin1.bias": (2, 2),
            "pre_classifier.weight": (2, 2),
        },
    ),
    "modernbert": (
        lambda: build(
            "ModernBertForSequenceClassification",
            "ModernBertConfig",
            **SMALL, **SPECIAL, cls_token_id=1, sep_token_id=2,
        ),
        {
            "model.embeddings.tok_embeddings.weight": (0, 3),
            "model.embeddings.norm.weight": (0, 3),
            "model.layers.0.attn.Wqkv.weight": (1, 3),
            "model.layers.2.mlp.Wo.weight": (3, 3),
            "model.final_norm.weight": (3, 3),
            "head.dense.weight": (3, 3),
        },
    ),
    "albert, one layer for all": (
        lambda: build("AlbertForSequenceClassification", "AlbertConfig", **SMALL, embedding_size=4),
        {
            "albert.embeddings.word_embeddings.weight": (0, 1),
            "albert.encoder.embedding_hidden_mapping_in.weight": (0, 1),
            "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight": (1, 1),
            "albert.pooler.weight": (1, 1),
        },
    ),
    "albert, two groups": (
        lambda: build(
            "AlbertForSequenceClassification",
            "AlbertConfig",
            **SMALL | {"num_hidden_layers": 4}, embedding_size=4, num_hidden_groups=2,
        ),
        {
            "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight": (1, 2),
            "albert.encoder.albert_layer_groups.1.albert_layers.0.ffn.weight": (2, 2),
        },
    ),
    "mpnet, whose relative positions are not called embeddings": (
        lambda: build("MPNetForSequenceClassification", "MPNetConfig", **SMALL),
        {"mpnet.encoder.relative_attention_bias.weight": (0, 3), "classifier.dense.weight": (3, 3)},
    ),
    "deberta_v2": (
        lambda: build(
            "DebertaV2ForSequenceClassification",
            "DebertaV2Config",
            **SMALL,
            relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=4, norm_rel_ebd="layer_norm",
            share_att_key=True, conv_kernel_size=3, conv_act="gelu",
        ),
        {
            "deberta.embeddings.word_embeddings.weight": (0, 3),
            "deberta.encoder.rel_embeddings.weight": (0, 3),
            "deberta.encoder.LayerNorm.weight": (0, 3),
            "deberta.encoder.conv.conv.weight": (1, 3),
            "deberta.encoder.layer.1.output.LayerNorm.bias": (2, 3),
            "pooler.dense.weight": (3, 3),
        },
    ),
    "t5": (
        lambda: build(
            "T5ForConditionalGeneration",
            "T5Config",
            d_model=8, d_kv=4, d_ff=8, num_layers=3, num_decoder_layers=2, num_heads=2, vocab_size=16,
        ),
        {
            "shared.weight": (0, 3),
            "encoder.block.0.layer.1.DenseReluDense.wi.weight": (1, 3),
            "encoder.block.2.layer.1.DenseReluDense.wi.weight": (3, 3),
            "encoder.final_layer_norm.weight": (3, 3),
            "decoder.block.0.layer.2.DenseReluDense.wi.weight": (1, 2),
            "decoder.block.1.layer.0.SelfAttention.q.weight": (2, 2),
            "decoder.final_layer_norm.weight": (2, 2),
        },
    ),
    "bart": (
        lambda: build(
            "BartForConditionalGeneration",
            "BartConfig",
            d_model=8, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=8, decoder_ffn_dim=8, vocab_size=16, max_position_embeddings=8, forced_eos_token_id=2,
            **SPECIAL,
        ),
        {
            "model.shared.weight": (0, 2),
            "model.encoder.embed_positions.weight": (0, 1),
            "model.encoder.layers.0.fc1.weight": (1, 1),
            "model.decoder.layernorm_embedding.weight": (0, 2),
            "model.decoder.layers.1.encoder_attn.k_proj.weight": (2, 2),
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_depth_of_parameters(case):
    factory, expected = CASES[case]
    model = factory()
    found = depths(model)
    assert set(found) == {name for name, _ in model.named_parameters()}
    assert {name: tuple(found[name]) for name in expected} == expected


def test_two_networks_count_alone_and_a_tied_tensor_is_an_embedding():
    def network(layers):
        return nn.ModuleDict(
            {"layer": nn.ModuleList(nn.Linear(2, 2) for _ in range(layers)), "embeddings": nn.Embedding(3, 2)}
        )

    model = nn.ModuleDict(
        {"heads": nn.ModuleDict({"lm": nn.Linear(2, 3)}), "generator": network(1), "discriminator": network(4)}
    )
    model["heads"]["lm"].weight = model["discriminator"]["embeddings"].weight  # the head's name comes first
    found = depths(model)
    assert found["heads.lm.weight"] == (0, 4)
    assert found["heads.lm.bias"] == (4, 4)
    assert found["generator.embeddings.weight"] == (0, 1)
    assert found["generator.layer.0.weight"] == (1, 1)
    assert found["discriminator.layer.0.weight"] == (1, 4)


def test_model_without_layers_is_refused():
    with pytest.raises(ConfigurationError, match=r"polynomial_decay_layerwise: no numbered layers .* Linear"):
        depths(nn.Linear(2, 2))
