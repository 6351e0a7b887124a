"""Sizes of models by name, each with the settings that differ from the defaults of the family's config.

Nothing is imported here; the rows of :mod:`transformers_framework.families` name these. Sizes are those of the papers:

- tiny, mini, small, medium: Turc et al. 2019, "Well-Read Students Learn Better", section 4; base, large: Devlin et al.
  2019, "BERT", section 3. Heads have 64 dimensions, and feed-forward layers four times the hidden size.
- of ALBERT: Lan et al. 2020, table 1; ELECTRA: Clark et al. 2020, table 6; DistilBERT: Sanh et al. 2019, section 3;
  DeBERTa-v3: He, Gao, Chen 2023, table 2; ModernBERT: Warner et al. 2024, table 4.
- of BART: Lewis et al. 2020, section 2; PEGASUS: Zhang et al. 2020, section 5; T5: Raffel et al. 2020, section 3.7, and
  Tay et al. 2022, "Scale Efficiently", table 2; mT5: Xue et al. 2021, section 3.2.

Sizes that a paper does not have are those of the first line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Any]
Sizes = Mapping[str, Settings]


def sized(sizes: Sizes, **settings: Any) -> dict[str, Settings]:
    """Return sizes with further settings.

    Examples:
        >>> sized({"tiny": {"hidden_size": 128}}, type_vocab_size=1)
        {'tiny': {'hidden_size': 128, 'type_vocab_size': 1}}
    """
    return {name: {**size, **settings} for name, size in sizes.items()}


def _encoder(layers: int, hidden: int, **settings: Any) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": hidden // 64,
        "intermediate_size": 4 * hidden,
        **settings,
    }


def _bart(layers: int, hidden: int) -> dict[str, Any]:
    both = {"layers": layers, "attention_heads": hidden // 64, "ffn_dim": 4 * hidden}
    sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in both.items()}
    return {"d_model": hidden, **sides}


def _t5(layers: int, hidden: int, heads: int, feed_forward: int) -> dict[str, Any]:
    both = {"num_layers": layers, "num_decoder_layers": layers}
    return {**both, "d_model": hidden, "num_heads": heads, "d_kv": 64, "d_ff": feed_forward}


_SMALL = {"tiny": _encoder(2, 128), "mini": _encoder(4, 256), "small": _encoder(4, 512), "medium": _encoder(8, 512)}
BERT_SIZES: Sizes = {**_SMALL, "base": _encoder(12, 768), "large": _encoder(24, 1024)}
# embeddings as wide as hidden states
WIDE_EMBEDDINGS = {name: {**size, "embedding_size": size["hidden_size"]} for name, size in BERT_SIZES.items()}
ALBERT_SIZES = sized(BERT_SIZES, embedding_size=128)
ELECTRA_SIZES: Sizes = {
    "tiny": _encoder(2, 128, embedding_size=128),
    "mini": _encoder(4, 256, embedding_size=128),
    "small": _encoder(12, 256, embedding_size=128),
    "base": WIDE_EMBEDDINGS["base"],
    "large": WIDE_EMBEDDINGS["large"],
}
DEBERTA_V3_SIZES: Sizes = {
    **{name: BERT_SIZES[name] for name in ("tiny", "mini")},
    "xsmall": _encoder(12, 384),
    "small": _encoder(6, 768),
    "base": _encoder(12, 768),
    "large": _encoder(24, 1024),
}
DISTILBERT_SIZES: Sizes = {
    name: {"n_layers": layers, "dim": hidden, "n_heads": hidden // 64, "hidden_dim": 4 * hidden}
    for name, layers, hidden in (("tiny", 2, 128), ("mini", 4, 256), ("small", 4, 512), ("base", 6, 768))
}
MODERNBERT_SIZES: Sizes = {
    **{name: {**size, "intermediate_size": size["hidden_size"] * 3 // 2} for name, size in _SMALL.items()},
    "base": _encoder(22, 768, intermediate_size=1152),
    "large": _encoder(28, 1024, intermediate_size=2624),
}
GROUPED_QUERIES = {name: {**size, "num_key_value_heads": size["num_attention_heads"]} for name, size in _SMALL.items()}

BART_SIZES: Sizes = {
    "tiny": _bart(2, 128),
    "mini": _bart(4, 256),
    "small": _bart(4, 512),
    "base": _bart(6, 768),
    "large": _bart(12, 1024),
}
PEGASUS_SIZES: Sizes = {**BART_SIZES, "base": _bart(12, 768), "large": _bart(16, 1024)}
T5_SIZES: Sizes = {
    "tiny": _t5(4, 256, 4, 1024),
    "mini": _t5(4, 384, 8, 1536),
    "small": _t5(6, 512, 8, 2048),
    "base": _t5(12, 768, 12, 3072),
    "large": _t5(24, 1024, 16, 4096),
}
MT5_SIZES: Sizes = {
    "tiny": _t5(4, 256, 4, 512),
    "small": _t5(8, 512, 6, 1024),
    "base": _t5(12, 768, 12, 2048),
    "large": _t5(24, 1024, 16, 2816),
}
