"""Tokenizers, configs, checkpoints and data made in memory: small, seeded, and without a file from outside.

``tokenizer_for("roberta")`` and ``config_for("roberta")`` fit each other; ``save_checkpoint`` writes both with weights,
so that transformers' Auto classes load the folder. ``pairs`` and ``classes`` make rows that a tiny model can learn.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers_framework.models.own_families import ensure_registered
from transformers_framework.registry import MODELS

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

# what a row of synthetic data is about: topic -> its words
TOPICS: dict[str, tuple[str, ...]] = {
    "weather": ("rain", "snow", "storm", "cloud", "wind", "sunshine", "thunder"),
    "kitchen": ("bread", "butter", "pepper", "onion", "kettle", "oven", "spoon"),
    "animals": ("horse", "tiger", "rabbit", "eagle", "dolphin", "spider", "kitten"),
    "music": ("violin", "drum", "piano", "melody", "singer", "concert", "rhythm"),
    "space": ("planet", "comet", "rocket", "galaxy", "orbit", "moon", "telescope"),
    "sports": ("tennis", "runner", "goal", "referee", "swimmer", "medal", "stadium"),
}
FILLERS = ("the", "a", "some", "this", "every", "near", "after", "with", "without", "before", "and", "of", "old", "new")
TEXT: tuple[str, ...] = (
    "Where does the river meet the sea, and who has seen it?",
    "The quick brown fox jumps over the lazy dog, again and again.",
    "Questions are answered by sentences; a sentence may answer nothing at all.",
    "In 1998, about 250 people walked 12 kilometres to the old lighthouse.",
    "Learning slowly is better than not learning: nobody knows everything!",
    "What is the colour of the sky when the sun is setting behind mountains?",
    "It's raining; we're waiting inside (there isn't any hurry).",
    "Transformers read words, pieces of words, and sometimes single letters.",
    *(f"{filler} {word} {topic}" for topic, words in TOPICS.items() for word in words for filler in FILLERS[:4]),
    *(f"What about {' '.join(words)}?" for words in TOPICS.values()),
    " ".join(FILLERS),
    "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 . , ; : ! ? ' \" ( ) - é è ü ñ",
)


# --- tokenizers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Style:
    """Special tokens of a family, in the order of their ids, and how it joins one and two texts."""

    kind: str
    specials: tuple[str, ...]
    single: str
    pair: str
    roles: tuple[tuple[str, str], ...]
    type_ids: bool = False
    extra: tuple[str, ...] = ()


_BERT_ROLES = (("cls_token", "[CLS]"), ("sep_token", "[SEP]"), ("mask_token", "[MASK]"))
_ROBERTA_ROLES = (
    ("bos_token", "<s>"),
    ("cls_token", "<s>"),
    ("eos_token", "</s>"),
    ("sep_token", "</s>"),
    ("pad_token", "<pad>"),
    ("unk_token", "<unk>"),
    ("mask_token", "<mask>"),
)
_SQUARE = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SQUARE_ROLES = (("pad_token", "[PAD]"), ("unk_token", "[UNK]"), *_BERT_ROLES)
_BERT = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
_FLAT_BERT = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]")
_ROBERTA = ("<s> $A </s>", "<s> $A </s> </s> $B </s>")
_T5 = (("pad_token", "<pad>"), ("eos_token", "</s>"), ("unk_token", "<unk>"))
_SENTINELS = tuple(f"<extra_id_{i}>" for i in range(20))
_ALBERT_ROLES = (("pad_token", "<pad>"), ("unk_token", "<unk>"), *_BERT_ROLES)

STYLES: dict[str, Style] = {
    "bert": Style("wordpiece", _SQUARE, *_BERT, _SQUARE_ROLES, True),
    "distilbert": Style("wordpiece", _SQUARE, *_FLAT_BERT, _SQUARE_ROLES),
    "mpnet": Style("wordpiece", ("<s>", "<pad>", "</s>", "<unk>", "<mask>"), *_ROBERTA, _ROBERTA_ROLES),
    "roberta": Style("bpe", ("<s>", "<pad>", "</s>", "<unk>", "<mask>"), *_ROBERTA, _ROBERTA_ROLES),
    "deberta": Style("bpe", _SQUARE, *_BERT, _SQUARE_ROLES, True),
    "modernbert": Style("bpe", _SQUARE, *_FLAT_BERT, _SQUARE_ROLES),
    "albert": Style("unigram", ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"), *_BERT, _ALBERT_ROLES, True),
    "deberta-v2": Style("unigram", ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"), *_BERT, _SQUARE_ROLES, True),
    "xlm-roberta": Style("unigram", ("<s>", "<pad>", "</s>", "<unk>", "<mask>"), *_ROBERTA, _ROBERTA_ROLES),
    "t5": Style("unigram", ("<pad>", "</s>", "<unk>"), "$A </s>", "$A </s> $B </s>", _T5, extra=_SENTINELS),
    "pegasus": Style(
        "unigram",
        ("<pad>", "</s>", "<unk>", "<mask_2>", "<mask_1>"),
        "$A </s>",
        "$A $B </s>",
        (*_T5, ("mask_token", "<mask_2>")),
    ),
    "mbart": Style(
        "unigram", ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "en_XX"), "$A </s> en_XX", "$A $B </s> en_XX",
        _ROBERTA_ROLES,
    ),
}  # fmt: skip
_DEFAULT_STYLE = {"wordpiece": "bert", "bpe": "roberta", "unigram": "xlm-roberta"}

# model_type -> style, where it is not the family's own name
_STYLE_OF = {
    **dict.fromkeys(("bart", "data2vec-text", "ibert", "longformer", "luke", "multi_token_bart", "mvp"), "roberta"),
    **dict.fromkeys(("roberta-prelayernorm", "plbart"), "roberta"),
    **dict.fromkeys(("gte", "jina_embeddings_v3", "xlm-roberta-xl", "xmod", "camembert", "esm"), "xlm-roberta"),
    **dict.fromkeys(("big_bird", "rembert", "yoso", "nystromformer"), "albert"),
    **dict.fromkeys(("mt5", "multi_token_t5", "umt5"), "t5"),
    **dict.fromkeys(("blenderbot", "blenderbot-small"), "roberta"),
    **dict.fromkeys(("bigbird_pegasus", "pegasus_x"), "pegasus"),
    "m2m_100": "mbart",
    **dict.fromkeys(("eurobert", "ultrabert"), "modernbert"),
}


def style_of(model_type: str) -> str:
    """Return the name of the style of a family, BERT's where nothing else is known."""
    model_type = MODELS[model_type].model_type if model_type in MODELS else model_type
    return model_type if model_type in STYLES else _STYLE_OF.get(model_type, "bert")


@functools.cache
def _backend(style: Style, vocab_size: int) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    unk = dict(style.roles)["unk_token"]
    options: dict[str, Any] = {
        "vocab_size": vocab_size,
        "special_tokens": list(style.specials),
        "show_progress": False,
    }
    if style.kind == "wordpiece":
        backend = Tokenizer(models.WordPiece(unk_token=unk))
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(**options)
    elif style.kind == "bpe":
        backend = Tokenizer(models.BPE(unk_token=unk))
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
        trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options)
    else:
        backend = Tokenizer(models.Unigram())
        backend.normalizer = normalizers.NFKC()
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(unk_token=unk, **options)
    backend.train_from_iterator(TEXT, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single=style.single,
        pair=style.pair,
        special_tokens=[(token, backend.token_to_id(token)) for token in style.specials],
    )
    return backend


def tokenizer(
    kind: str = "wordpiece", *, style: str | None = None, vocab_size: int = 400, max_length: int = 128
) -> PreTrainedTokenizerFast:
    """Return a fast tokenizer trained on the text of this module.

    Args:
        kind: ``wordpiece`` (BERT), ``bpe`` (byte level, RoBERTa) or ``unigram`` (sentence pieces, XLM-R).
        style: A name of ``STYLES``, which decides the kind too.
        vocab_size: Most entries of the vocabulary.
        max_length: What the tokenizer says is the longest input.
    """
    from transformers import PreTrainedTokenizerFast

    rules = STYLES[style or _DEFAULT_STYLE[kind]]
    return PreTrainedTokenizerFast(
        tokenizer_object=_backend(rules, vocab_size),
        model_input_names=["input_ids", *(["token_type_ids"] if rules.type_ids else []), "attention_mask"],
        model_max_length=max_length,
        **dict(rules.roles),
        **({"extra_special_tokens": list(rules.extra)} if rules.extra else {}),
    )


def tokenizer_for(model_type: str, **options: Any) -> PreTrainedTokenizerFast:
    """Return a tokenizer in the style of a family; ``model_type`` is our name of it or transformers'."""
    return tokenizer(style=style_of(model_type), **options)


# --- models ----------------------------------------------------------------------------------------------------------

_ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
}
_SEQ_TO_SEQ = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 128,
}
_T5_SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}
_PAST_PADDING = {"max_position_embeddings": 130}  # families that count positions from padding_idx + 1
_SIZES: dict[str, dict[str, Any]] = {
    "albert": {**_ENCODER, "embedding_size": 16},
    "bart": _SEQ_TO_SEQ,
    "mbart": _SEQ_TO_SEQ,
    "mvp": _SEQ_TO_SEQ,
    "plbart": _SEQ_TO_SEQ,
    **dict.fromkeys(("blenderbot", "blenderbot-small", "m2m_100", "pegasus"), _SEQ_TO_SEQ),
    "bigbird_pegasus": {**_SEQ_TO_SEQ, "attention_type": "original_full"},
    "pegasus_x": {**_SEQ_TO_SEQ, "num_global_tokens": 4, "block_size": 8},
    "t5": _T5_SIZES,
    "multi_token_bart": _SEQ_TO_SEQ,
    "multi_token_t5": _T5_SIZES,
    "mt5": _T5_SIZES,
    "umt5": _T5_SIZES,
    "big_bird": {**_ENCODER, "attention_type": "original_full"},
    "convbert": {**_ENCODER, "embedding_size": 32},
    "deberta": {
        **_ENCODER,
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "type_vocab_size": 0,
        "position_biased_input": False,
    },
    "deberta-v2": {
        **_ENCODER,
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "type_vocab_size": 0,
        "position_biased_input": False,
        "position_buckets": 32,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    },
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 128},
    "electra": {**_ENCODER, "embedding_size": 16},
    "esm": {**_ENCODER, **_PAST_PADDING},
    "eurobert": {**_ENCODER, "num_key_value_heads": 4},
    "longformer": {**_ENCODER, **_PAST_PADDING, "attention_window": 16, "type_vocab_size": 1},
    "luke": {**_ENCODER, **_PAST_PADDING, "entity_vocab_size": 10, "entity_emb_size": 16, "type_vocab_size": 1},
    "mobilebert": {**_ENCODER, "embedding_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 2},
    "modernbert": {**_ENCODER, "local_attention": 16, "layer_types": ["full_attention", "sliding_attention"]},
    "rembert": {**_ENCODER, "input_embedding_size": 16, "output_embedding_size": 48},
    "roformer": {**_ENCODER, "embedding_size": 16},
    "squeezebert": {**_ENCODER, "embedding_size": 32},
    "ultrabert": {**_ENCODER, "num_key_value_heads": 4, "prediction_head_size": 32, "sliding_window": 16},
    "yoso": {**_ENCODER, "type_vocab_size": 2},
    "xmod": {**_ENCODER, **_PAST_PADDING, "type_vocab_size": 1, "languages": ["en_XX"], "default_language": "en_XX"},
    **{
        name: {**_ENCODER, **_PAST_PADDING, "type_vocab_size": 1}
        for name in (
            "camembert",
            "data2vec-text",
            "gte",
            "ibert",
            "jina_embeddings_v3",
            "roberta",
            "roberta-prelayernorm",
            "xlm-roberta",
            "xlm-roberta-xl",
        )
    },
    "mpnet": {**_ENCODER, **_PAST_PADDING},
}


def config_for(model_type: str, **changes: Any) -> PreTrainedConfig:
    """Return a config of two narrow layers whose vocabulary and special tokens fit ``tokenizer_for``."""
    from transformers import AutoConfig

    model_type = MODELS[model_type].model_type if model_type in MODELS else model_type
    ensure_registered(model_type)
    made = tokenizer_for(model_type)
    options: dict[str, Any] = {"vocab_size": len(made), **_SIZES.get(model_type, _ENCODER)}
    specials = {role: getattr(made, f"{role}_token_id") for role in ("pad", "bos", "eos", "sep", "cls", "mask")}
    specials |= {role: specials[other] for role, other in (("bos", "cls"), ("eos", "sep")) if specials[role] is None}
    options |= {f"{role}_token_id": token for role, token in specials.items() if token is not None}
    if "decoder_layers" in options or "d_kv" in options:
        options["decoder_start_token_id"] = made.pad_token_id if "d_kv" in options else made.eos_token_id
    return AutoConfig.for_model(model_type, **{**options, **changes})


def model_for(model_type: str, head: str = "AutoModel", *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Return a model with seeded random weights, in evaluation mode; ``changes`` go to its config."""
    import torch
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return getattr(transformers, head).from_config(config_for(model_type, **changes)).eval()


def save_checkpoint(
    model_type: str, folder: str | Path, head: Any = "AutoModel", *, seed: int = 0, **changes: Any
) -> Path:
    """Write config, weights and tokenizer of a family to a folder, as transformers would; return the folder."""
    folder = Path(folder)
    model_for(model_type, getattr(head, "__name__", head), seed=seed, **changes).save_pretrained(folder)
    tokenizer_for(model_type).save_pretrained(folder)
    return folder


# --- data ------------------------------------------------------------------------------------------------------------


def _sentence(draw: random.Random, words: Iterable[str], length: int) -> str:
    tokens = [*words, *draw.choices(FILLERS, k=length)]
    draw.shuffle(tokens)
    return " ".join(tokens)


def pairs(n: int, seed: int = 0, *, candidates: int = 4, positives: int = 1) -> list[dict[str, Any]]:
    """Return ``n`` rows of answer selection: the candidate that shares the question's words is right.

    Questions ask about half of the topics and wrong candidates speak of the other half, because two layers of width 32
    learn to compare words only after thousands of steps, and to know topics after fifty.

    Args:
        n: Rows; the last question has fewer candidates when they do not divide it.
        seed: Rows are a function of it.
        candidates: Rows a question; the place of the right ones among them is random.
        positives: Right candidates a question.

    Returns:
        Rows with ``question``, ``answer``, ``label`` (0 or 1) and ``key`` (the question's number, from 0).
    """
    draw, rows = random.Random(seed), []
    for key in range(-(-n // candidates)):
        asked = draw.sample(TOPICS[draw.choice(sorted(TOPICS)[::2])], 2)
        labels = [int(i < positives) for i in range(candidates)]
        draw.shuffle(labels)
        for label in labels:
            words = asked if label else draw.sample(TOPICS[draw.choice(sorted(TOPICS)[1::2])], 2)
            rows.append(
                {
                    "question": f"what about {asked[0]} and {asked[1]}?",
                    "answer": _sentence(draw, words, draw.randint(1, 6)) + ".",
                    "label": label,
                    "key": key,
                }
            )
    return rows[:n]


def classes(n: int, seed: int = 0, *, num_labels: int = 2, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return ``n`` rows of classification, ``text`` and ``label``: a class's words decide it.

    Args:
        n: Rows; classes are drawn evenly.
        seed: Rows are a function of it.
        num_labels: Classes, at most as many as there are topics.
        names: Labels are these strings rather than numbers.
    """
    draw, rows = random.Random(seed), []
    for i in range(n):
        label = i % num_labels
        text = _sentence(draw, draw.sample(TOPICS[sorted(TOPICS)[label]], 2), draw.randint(1, 8))
        rows.append({"text": text, "label": names[label] if names else label})
    draw.shuffle(rows)
    return rows


def tagged(n: int, seed: int = 0, *, types: Sequence[str] = ("animals", "kitchen")) -> list[dict[str, Any]]:
    """Return ``n`` rows of token classification, ``words`` and ``labels``: the words of a topic are entities of it.

    Args:
        n: Rows; each has an entity of one or two words.
        seed: Rows are a function of it.
        types: Topics; labels are ``O``, ``B-{topic}`` and ``I-{topic}``.
    """
    draw, rows = random.Random(seed), []
    for i in range(n):
        topic = types[i % len(types)]
        words = draw.sample(TOPICS[topic], draw.randint(1, 2))
        before, behind = (draw.choices(FILLERS, k=draw.randint(0, 5)) for _ in range(2))
        tags = [f"B-{topic}", *[f"I-{topic}"] * (len(words) - 1)]
        rows.append({"words": before + words + behind, "labels": ["O"] * len(before) + tags + ["O"] * len(behind)})
    return rows


def summaries(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return ``n`` rows of ``text`` and ``summary``, which is the words of the text that belong to a topic."""
    draw = random.Random(seed)
    rows = []
    for _ in range(n):
        words = draw.choices(TOPICS[draw.choice(sorted(TOPICS))], k=draw.randint(1, 3))
        text = _sentence(draw, words, draw.randint(6, 14))
        rows.append({"text": text, "summary": " ".join(word for word in text.split() if word in words)})
    return rows


def questions(n: int, seed: int = 0, *, longest: int = 4) -> list[dict[str, Any]]:
    """Return ``n`` rows of ``question``, ``context`` and SQuAD's ``answers``: words of a topic answer "which topic?".

    Args:
        n: Rows; in each fourth one the topic that is asked for does not occur, so that there is no answer. Others have
            one or two right answers.
        seed: Rows are a function of it.
        longest: Most words before and behind the answer.
    """
    draw, rows = random.Random(seed), []
    for i in range(n):
        asked, other = draw.sample(sorted(TOPICS), 2)
        answer = " ".join(draw.sample(TOPICS[other if i % 4 == 3 else asked], draw.randint(1, 2)))
        before, behind = (" ".join(draw.choices(FILLERS, k=draw.randint(1, longest))) for _ in range(2))
        texts = [] if i % 4 == 3 else [answer, answer.split()[0]][: draw.randint(1, 2)]
        answers = {"text": texts, "answer_start": [len(before) + 1] * len(texts)}
        rows.append({"question": f"which {asked}?", "context": f"{before} {answer} {behind}", "answers": answers})
    return rows


def documents(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return ``n`` rows of ``text``, documents whose paragraphs each speak of one topic, after a title.

    Args:
        n: Documents.
        seed: Rows are a function of it.
    """
    draw, rows = random.Random(seed), []
    for number in range(n):
        parts = [f"document {number}."]
        for _ in range(draw.randint(3, 5)):
            topic = TOPICS[draw.choice(sorted(TOPICS))]
            lengths = draw.choices(range(1, 4), k=draw.randint(2, 5))
            parts.append(" ".join(_sentence(draw, draw.sample(topic, 2), length) + "." for length in lengths))
        rows.append({"text": "\n\n".join(parts)})
    return rows


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write rows as JSON lines; return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
