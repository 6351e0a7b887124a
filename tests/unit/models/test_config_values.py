"""Values of configs that no model can have, and that those of all families are none of them."""

import pytest

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.config_values import check_values
from transformers_framework.models.own_families import ensure_registered
from transformers_framework.registry import MODELS


@pytest.mark.parametrize("family", sorted({family.model_type for family in MODELS.values()} - {"auto"}))
def test_the_own_values_of_every_family_are_right(family):
    import transformers

    ensure_registered(family)
    check_values(transformers.CONFIG_MAPPING[family](), "x", trained=True)


@pytest.mark.parametrize(
    ("family", "values", "message"),
    [
        ("bert", {"num_attention_heads": 0}, "num_attention_heads is 0, expected at least 1"),
        ("bart", {"decoder_attention_heads": -4}, "decoder_attention_heads is -4"),
        ("bart", {"d_model": 0}, "d_model is 0"),
        (
            "t5",
            {"d_kv": 0, "num_layers": -1},
            "num_layers is -1, expected at least 0; d_kv is 0|d_kv is 0.*num_layers is -1",
        ),
        ("t5", {"dropout_rate": 1.5}, "dropout_rate is 1.5, expected at least 0 and at most 1"),
        ("bart", {"encoder_layerdrop": -0.1}, "encoder_layerdrop is -0.1"),
        ("distilbert", {"n_heads": 0}, "n_heads is 0"),
        ("roberta", {"layer_norm_eps": float("inf")}, "layer_norm_eps is inf, expected a finite number"),
        ("bart", {"decoder_start_token_id": 10**6}, "decoder_start_token_id is 1000000, expected a token of"),
    ],
)
def test_impossible_values_are_named(family, values, message):
    import transformers

    config = transformers.CONFIG_MAPPING[family]()
    for name, value in values.items():
        setattr(config, name, value)
    with pytest.raises(ConfigurationError, match=f"x: its config cannot be used: ({message})"):
        check_values(config, "x", trained=True)


def test_tokens_that_the_tokenizer_replaces_are_not_looked_at():
    from transformers import BertConfig

    check_values(BertConfig(pad_token_id=-1), "x", trained=False)
