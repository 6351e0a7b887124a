"""The table of model families: names, differences from the defaults, and unsupported features with the reason.

Nothing is imported here; all code that depends on the family of a model calls :func:`family_of`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from transformers_framework.family_traits import (
    BERT_LAYERS,
    DISTILBERT_LAYERS,
    ESM_LAYERS,
    EUROBERT_LAYERS,
    MASKED,
    MEGATRON_LAYERS,
    MODERNBERT_LAYERS,
    MPNET_LAYERS,
    OWN_ATTENTION_LAYERS,
    PRE_NORM_LAYERS,
    ROTARY_LAYERS,
    ULTRABERT_LAYERS,
    UNTESTED,
    WHOLE,
    XLM_ROBERTA_XL_LAYERS,
    LastLayerModules,
    Masking,
    Requirement,
)
from transformers_framework.model_sizes import (
    ALBERT_SIZES,
    BART_SIZES,
    BERT_SIZES,
    DEBERTA_V3_SIZES,
    DISTILBERT_SIZES,
    ELECTRA_SIZES,
    GROUPED_QUERIES,
    MODERNBERT_SIZES,
    MT5_SIZES,
    PEGASUS_SIZES,
    T5_SIZES,
    WIDE_EMBEDDINGS,
    Sizes,
    sized,
)
from transformers_framework.special_tokens import (
    ALBERT_TOKENS,
    BERT_TOKENS,
    BIG_BIRD_TOKENS,
    BLENDERBOT_TOKENS,
    DEBERTA_TOKENS,
    DEBERTA_V2_TOKENS,
    MODERNBERT_TOKENS,
    MPNET_TOKENS,
    PEGASUS_TOKENS,
    ROBERTA_TOKENS,
    T5_TOKENS,
    XLM_ROBERTA_TOKENS,
    SpecialTokens,
    TokenizerType,
)

UNDESCRIBED = "its row in the table of families has none"


@dataclass(frozen=True)
class Family:
    """A model family; the defaults fit most families.

    Args:
        model_type: Name of the family in transformers.
        tokens: Special tokens of a tokenizer that is trained for it, or the reason why none can be.
        sizes: Settings of the sizes that a config can be named by, such as ``bert:small``, or the reason why none can.
        module: Import path of the module that registers the family with transformers' Auto classes, where transformers
            does not have it.
        extends: Name in transformers of the family from whose checkpoints and configs it starts.
        positions_after_padding: Whether positions are counted from the padding token's id plus one, and those before
            are lost.
        document_mask: How it keeps the documents of a packed row apart, or the reason why it cannot. A test compares
            hidden states and gradients of each family with and without packing.
        denoising_style: Style of denoising in its pre-training.
        token_detection_head: Auto class of its head for replaced token detection.
        generator_scaling: What is smaller in its generators: width, where embeddings have a size of their own that
            stays, or depth.
        tied_embeddings: How a generator and a discriminator that are tied share embeddings.
        starts_with_suffix: Whether its decoder begins with what ends a text, where the config names no token: a
            language code or ``</s>``.
        overflows_in_float16: Whether activations exceed the largest float16, 65504, as of models that were trained in
            bfloat16.
        last_layer: The modules by which its last layer is computed at the positions that heads read, or the reason why
            all are computed. A test compares hidden states and gradients of each family with those of the whole layer.
        no_onnx: The reason why its encoders cannot be exported to ONNX. A test exports those of all others.
    """

    model_type: str
    tokens: SpecialTokens | str = UNDESCRIBED
    sizes: Sizes | str = UNDESCRIBED
    module: str | None = None
    extends: str | None = None
    positions_after_padding: bool = False
    document_mask: Masking | str = UNTESTED
    denoising_style: Literal["t5", "bart"] = "bart"
    token_detection_head: str = "AutoModelForTokenClassification"
    generator_scaling: Literal["width", "depth"] = "depth"
    tied_embeddings: Literal["shared", "gradient_disentangled"] = "shared"
    starts_with_suffix: bool = False
    overflows_in_float16: bool = False
    last_layer: LastLayerModules | str = WHOLE
    no_onnx: str | None = None

    @property
    def name(self) -> str:
        """Our name: that of transformers, spelled as a flag."""
        return self.model_type.replace("-", "_")


_MULTI_TOKEN = "transformers_framework.models.multi_token"
_CONVOLUTION = "its convolution runs over the borders of documents"
_WINDOWS = "its windows run over the borders of documents"
_WINDOWS_BY_LENGTH = "the number of its windows depends on the length of a text, which torch cannot trace"
_LOOKS_AHEAD = "its decoder predicts several tokens at once, over the borders of documents"
_FULL_ATTENTION = Requirement(
    "attention_type",
    "original_full",
    "its blocks run over the borders of documents; attention_type=original_full has none",
)
_NO_DROPOUT_OF_TOKENS = Requirement("token_dropout", False, "token_dropout scales by the mask tokens of a whole row")
_NO_TRIGRAMS = Requirement(
    "trigram_input",
    False,
    "each token is read with its neighbours, over the borders of documents; trigram_input=false turns this off",
)

_EXTENDS = "it has those of the family that it extends, which --model turns into it"
_NAMED = "it is the family that a checkpoint names"
_PROTEINS = "it reads sequences of amino acids, and not texts"
_ENTITIES = "its entities have a vocabulary of their own, which texts do not define"
_LANGUAGES = "its tokenizer puts codes of languages around texts, and is that of a checkpoint"
_BOTTLENECKS = "the widths of its layers depend on each other. Give a config"
_SEVERAL_WIDTHS = "its input and output embeddings have other widths than its layers. Give a config"
_ROBERTA_SIZES = sized(BERT_SIZES, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)
_DISENTANGLED: dict[str, Any] = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
    "layer_norm_eps": 1e-7,
}
_DEBERTA_SIZES = sized(BERT_SIZES, **_DISENTANGLED)
_DEBERTA_V3_SIZES = sized(
    DEBERTA_V3_SIZES, **_DISENTANGLED, position_buckets=256, norm_rel_ebd="layer_norm", share_att_key=True
)
# RoBERTa and the families derived from it
_roberta = partial(Family, sizes=_ROBERTA_SIZES, document_mask=MASKED, positions_after_padding=True)

_ROWS = (
    Family("auto", _NAMED, _NAMED),
    Family(
        "albert",
        ALBERT_TOKENS,
        ALBERT_SIZES,
        last_layer="all its layers are one module",
        document_mask=MASKED,
        generator_scaling="width",
    ),
    Family("bart", ROBERTA_TOKENS, BART_SIZES, document_mask=MASKED),
    Family("bert", BERT_TOKENS, BERT_SIZES, document_mask=MASKED, last_layer=BERT_LAYERS),
    Family("bigbird_pegasus", PEGASUS_TOKENS, PEGASUS_SIZES, document_mask=Masking(needs=_FULL_ATTENTION)),
    Family("blenderbot", BLENDERBOT_TOKENS, BART_SIZES, document_mask=MASKED),
    Family("blenderbot-small", ROBERTA_TOKENS, BART_SIZES, document_mask=MASKED),
    Family(
        "big_bird",
        BIG_BIRD_TOKENS,
        BERT_SIZES,
        last_layer="it pads rows to whole blocks",
        document_mask=Masking(needs=_FULL_ATTENTION),
    ),
    _roberta("camembert", XLM_ROBERTA_TOKENS, last_layer=BERT_LAYERS),
    Family(
        "convbert",
        BERT_TOKENS,
        WIDE_EMBEDDINGS,
        document_mask="its convolutions run over the borders of documents",
        generator_scaling="width",
    ),
    _roberta("data2vec-text", ROBERTA_TOKENS, last_layer=BERT_LAYERS),
    Family(
        "deberta",
        DEBERTA_TOKENS,
        _DEBERTA_SIZES,
        document_mask=Masking(reduced_for="mask", is_square=True),
        tied_embeddings="gradient_disentangled",
        last_layer=OWN_ATTENTION_LAYERS,
    ),
    Family(
        "deberta-v2",
        DEBERTA_V2_TOKENS,
        _DEBERTA_V3_SIZES,
        document_mask=Masking(
            needs=Requirement("conv_kernel_size", 0, _CONVOLUTION), reduced_for="mask", is_square=True
        ),
        tied_embeddings="gradient_disentangled",
        last_layer=OWN_ATTENTION_LAYERS,
    ),
    Family(
        "distilbert",
        BERT_TOKENS,
        DISTILBERT_SIZES,
        last_layer=DISTILBERT_LAYERS,
        document_mask=MASKED,
    ),
    Family(
        "electra",
        BERT_TOKENS,
        ELECTRA_SIZES,
        document_mask=MASKED,
        token_detection_head="AutoModelForPreTraining",
        generator_scaling="width",
        last_layer=BERT_LAYERS,
    ),
    Family("ernie", BERT_TOKENS, BERT_SIZES, document_mask=MASKED, last_layer=BERT_LAYERS),
    Family(
        "esm",
        _PROTEINS,
        _PROTEINS,
        last_layer=ESM_LAYERS,
        document_mask=Masking(needs=_NO_DROPOUT_OF_TOKENS, removed_for="attention_mask"),
        positions_after_padding=True,
    ),
    Family(
        "eurobert",
        MODERNBERT_TOKENS,
        GROUPED_QUERIES,
        last_layer=EUROBERT_LAYERS,
        document_mask=MASKED,
    ),
    Family("gte", XLM_ROBERTA_TOKENS, BERT_SIZES, last_layer=ROTARY_LAYERS, document_mask=MASKED),
    _roberta("ibert", ROBERTA_TOKENS),
    Family("jina_embeddings_v3", XLM_ROBERTA_TOKENS, BERT_SIZES, last_layer=ROTARY_LAYERS, document_mask=MASKED),
    Family(
        "longformer",
        ROBERTA_TOKENS,
        sized(BERT_SIZES, max_position_embeddings=4098, type_vocab_size=1),
        document_mask=_WINDOWS,
        positions_after_padding=True,
        no_onnx=_WINDOWS_BY_LENGTH,
    ),
    Family("luke", _ENTITIES, _ENTITIES, document_mask=MASKED, positions_after_padding=True),
    Family("m2m_100", _LANGUAGES, BART_SIZES, document_mask=Masking(numbers_tokens=True)),
    Family("mbart", _LANGUAGES, BART_SIZES, document_mask=MASKED, starts_with_suffix=True),
    Family(
        "megatron-bert",
        BERT_TOKENS,
        BERT_SIZES,
        last_layer=MEGATRON_LAYERS,
        document_mask=MASKED,
    ),
    Family("mobilebert", BERT_TOKENS, _BOTTLENECKS, document_mask=Masking(needs=_NO_TRIGRAMS)),
    Family(
        "modernbert",
        MODERNBERT_TOKENS,
        MODERNBERT_SIZES,
        last_layer=MODERNBERT_LAYERS,
        document_mask=MASKED,
    ),
    Family(
        "mpnet",
        MPNET_TOKENS,
        sized(BERT_SIZES, max_position_embeddings=514),
        last_layer=MPNET_LAYERS,
        document_mask=MASKED,
        positions_after_padding=True,
    ),
    Family("mt5", T5_TOKENS, MT5_SIZES, document_mask=MASKED, denoising_style="t5", overflows_in_float16=True),
    Family(
        "multi_token_bart", ROBERTA_TOKENS, _EXTENDS, module=_MULTI_TOKEN, extends="bart", document_mask=_LOOKS_AHEAD
    ),
    Family(
        "multi_token_t5",
        T5_TOKENS,
        _EXTENDS,
        module=_MULTI_TOKEN,
        extends="t5",
        document_mask=_LOOKS_AHEAD,
        denoising_style="t5",
        overflows_in_float16=True,
    ),
    Family("mvp", ROBERTA_TOKENS, BART_SIZES, document_mask=MASKED),
    Family("nomic_bert", BERT_TOKENS, BERT_SIZES, last_layer=ROTARY_LAYERS, document_mask=MASKED),
    Family(
        "nystromformer", ALBERT_TOKENS, BERT_SIZES, document_mask="its landmarks are means over all documents of a row"
    ),
    Family("pegasus", PEGASUS_TOKENS, PEGASUS_SIZES, document_mask=MASKED),
    Family("pegasus_x", PEGASUS_TOKENS, PEGASUS_SIZES, document_mask=_WINDOWS),
    Family("plbart", _LANGUAGES, BART_SIZES, document_mask=MASKED, starts_with_suffix=True),
    Family("rembert", ALBERT_TOKENS, _SEVERAL_WIDTHS, last_layer=OWN_ATTENTION_LAYERS, document_mask=MASKED),
    _roberta("roberta", ROBERTA_TOKENS, last_layer=BERT_LAYERS),
    _roberta("roberta-prelayernorm", ROBERTA_TOKENS, last_layer=PRE_NORM_LAYERS),
    Family(
        "roformer",
        BERT_TOKENS,
        BERT_SIZES,
        last_layer=OWN_ATTENTION_LAYERS,
        document_mask=MASKED,
        generator_scaling="width",
    ),
    Family("squeezebert", BERT_TOKENS, WIDE_EMBEDDINGS, document_mask=MASKED),
    Family("t5", T5_TOKENS, T5_SIZES, document_mask=MASKED, denoising_style="t5", overflows_in_float16=True),
    Family("ultrabert", MODERNBERT_TOKENS, GROUPED_QUERIES, last_layer=ULTRABERT_LAYERS, document_mask=MASKED),
    Family("umt5", T5_TOKENS, MT5_SIZES, document_mask=MASKED, denoising_style="t5", overflows_in_float16=True),
    _roberta("xlm-roberta", XLM_ROBERTA_TOKENS, last_layer=BERT_LAYERS),
    _roberta("xlm-roberta-xl", XLM_ROBERTA_TOKENS, last_layer=XLM_ROBERTA_XL_LAYERS),
    _roberta("xmod", XLM_ROBERTA_TOKENS, last_layer="its adapters take one language per row"),
    Family("yoso", ALBERT_TOKENS, BERT_SIZES, document_mask="its hashed attention takes no mask between tokens"),
)

# the best known family of each type of tokenizer
TYPICAL: dict[TokenizerType, str] = {"wordpiece": "bert", "bpe": "roberta", "unigram": "xlm_roberta"}

FAMILIES: dict[str, Family] = {family.name: family for family in _ROWS}


def family_of(model_type: str) -> Family:
    """Return the row of a family by its name in transformers, or a row of defaults if the table has none."""
    return next((family for family in FAMILIES.values() if family.model_type == model_type), Family(model_type))
