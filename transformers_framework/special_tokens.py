"""Special tokens of published tokenizers: their order, their roles, and the template of inputs.

Nothing is imported here; the rows of :mod:`transformers_framework.families` name these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TokenizerType = Literal["wordpiece", "bpe", "unigram"]


@dataclass(frozen=True)
class SpecialTokens:
    """Special tokens of the tokenizers of a family.

    Args:
        type: Type of its published tokenizers.
        roles: Token of each role, in the order of their ids, which start at 0.
        single: Template of an input of one text, as ``tokenizers.processors.TemplateProcessing`` reads it.
        pair: Template of an input of two texts.
        more: Further special tokens, with ids after those of the roles.
        sentinels: Number of sentinels ``<extra_id_0>``, ``<extra_id_1>`` and so on; the first has the last id.
    """

    type: TokenizerType
    roles: Mapping[str, str]
    single: str
    pair: str
    more: tuple[str, ...] = ()
    sentinels: int = 0

    @property
    def has_types(self) -> bool:
        """Whether models read ``token_type_ids``: the second text of a pair has another type."""
        return ":1" in self.pair

    @property
    def first(self) -> tuple[str, ...]:
        """The special tokens with the first ids, in their order."""
        return tuple(dict.fromkeys((*self.roles.values(), *self.more)))

    @property
    def last(self) -> tuple[str, ...]:
        """The special tokens with the last ids, in their order."""
        return tuple(f"<extra_id_{number}>" for number in reversed(range(self.sentinels)))


_CLS_SEP = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
_BOS_EOS = ("<s> $A </s>", "<s> $A </s> </s> $B </s>")
_ENDS = {"cls": "[CLS]", "sep": "[SEP]"}

BERT_TOKENS = SpecialTokens("wordpiece", {"pad": "[PAD]", "unk": "[UNK]", **_ENDS, "mask": "[MASK]"}, *_CLS_SEP)
MPNET_TOKENS = SpecialTokens(
    "wordpiece",
    {"bos": "<s>", "cls": "<s>", "pad": "<pad>", "eos": "</s>", "sep": "</s>", "unk": "[UNK]", "mask": "<mask>"},
    *_BOS_EOS,
)
ROBERTA_TOKENS = SpecialTokens(
    "bpe",
    {"bos": "<s>", "cls": "<s>", "pad": "<pad>", "eos": "</s>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"},
    *_BOS_EOS,
)
DEBERTA_TOKENS = SpecialTokens(
    "bpe", {"pad": "[PAD]", "bos": "[CLS]", "eos": "[SEP]", **_ENDS, "unk": "[UNK]", "mask": "[MASK]"}, *_CLS_SEP
)
MODERNBERT_TOKENS = SpecialTokens(
    "bpe", {"unk": "[UNK]", **_ENDS, "pad": "[PAD]", "mask": "[MASK]"}, _CLS_SEP[0], "[CLS] $A [SEP] $B [SEP]"
)
DEBERTA_V2_TOKENS = SpecialTokens("unigram", DEBERTA_TOKENS.roles, *_CLS_SEP)
ALBERT_TOKENS = SpecialTokens(
    "unigram",
    {"pad": "<pad>", "unk": "<unk>", "bos": "[CLS]", "eos": "[SEP]", **_ENDS, "mask": "[MASK]"},
    *_CLS_SEP,
)
BIG_BIRD_TOKENS = SpecialTokens(
    "unigram", {"pad": "<pad>", "eos": "</s>", "bos": "<s>", "unk": "<unk>", **_ENDS, "mask": "[MASK]"}, *_CLS_SEP
)
BLENDERBOT_TOKENS = SpecialTokens("bpe", ROBERTA_TOKENS.roles, "$A </s>", "$A $B </s>")
XLM_ROBERTA_TOKENS = SpecialTokens("unigram", ROBERTA_TOKENS.roles, *_BOS_EOS)
T5_TOKENS = SpecialTokens(
    "unigram",
    {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"},
    "$A </s>",
    "$A </s> $B </s>",
    sentinels=100,
)
PEGASUS_TOKENS = SpecialTokens(
    "unigram",
    {"pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask_2>"},
    "$A </s>",
    "$A $B </s>",
    more=("<mask_1>",),
)
