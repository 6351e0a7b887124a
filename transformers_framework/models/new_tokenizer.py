"""A tokenizer that is learned from texts, with the special tokens of a model family."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers_framework.families import Family
from transformers_framework.processing.tokenizer_json import differing
from transformers_framework.processing.vocabulary import (
    CONTINUES,
    Texts,
    byte_pairs,
    charmap,
    unigram_pieces,
    word_pieces,
)
from transformers_framework.special_tokens import SpecialTokens, TokenizerType

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.models import Model
    from transformers import PreTrainedTokenizerFast


def learn_tokenizer(
    texts: Texts,
    tokens: SpecialTokens,
    type: TokenizerType,
    *,
    vocab_size: int,
    lower_case: bool,
    character_coverage: float,
    model_max_length: int,
) -> PreTrainedTokenizerFast:
    """Learn a tokenizer from texts. Equal texts make equal tokenizers.

    Args:
        texts: Starts to read all texts, in batches; it is called once or twice.
        tokens: The special tokens.
        type: Type of the model.
        vocab_size: Number of tokens, special ones included; fewer if the texts have no more.
        lower_case: Whether texts are lower-cased.
        character_coverage: Share of the characters of the texts that the vocabulary has; bytes have them all.
        model_max_length: Longest input of the model in tokens.

    Raises:
        TooFewTokensError: When the size is too small for the characters of the texts.
    """
    from transformers import PreTrainedTokenizerFast

    backend = text_steps(type, lower_case=lower_case)
    unknown, around = tokens.roles["unk"], [*tokens.first, *tokens.last]
    learn: dict[TokenizerType, Callable[[], Model]] = {
        "wordpiece": lambda: word_pieces(backend, texts, vocab_size, around, unknown, character_coverage),
        "bpe": lambda: byte_pairs(backend, texts, vocab_size, around),
        "unigram": lambda: unigram_pieces(
            backend, texts, vocab_size, tokens.first, unknown, character_coverage, tokens.last
        ),
    }
    learned = text_steps(type, lower_case=lower_case, model=learn[type]())
    roles: dict[str, Any] = {f"{role}_token": token for role, token in tokens.roles.items()}
    if type != "wordpiece" and "mask" in tokens.roles:
        from tokenizers import AddedToken

        # a space before it belongs to it, as words begin with theirs
        roles["mask_token"] = AddedToken(tokens.roles["mask"], lstrip=True, special=True)
    more = [*tokens.more, *reversed(tokens.last)]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learned,
        model_max_length=model_max_length,
        model_input_names=["input_ids", *(["token_type_ids"] if tokens.has_types else []), "attention_mask"],
        **roles,
        **({"extra_special_tokens": more} if more else {}),
    )
    add_template(tokenizer.backend_tokenizer, tokens, type)
    return tokenizer


def text_steps(type: TokenizerType, *, lower_case: bool, model: Model | None = None) -> Tokenizer:
    """Return a tokenizer that normalizes texts, splits them into words, and decodes tokens.

    These are the steps of the published tokenizers of the type: BERT's, RoBERTa's and XLM-RoBERTa's.

    Args:
        type: Type of the model.
        lower_case: Whether texts are lower-cased. Accents and vowel signs stay, unlike in uncased BERT: without them,
            words of many languages would be other words.
        model: The vocabulary; none while it is learned.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    backend = Tokenizer(models.BPE() if model is None else model)
    steps: Any = backend
    if type == "wordpiece":
        steps.normalizer = normalizers.BertNormalizer(lowercase=lower_case, strip_accents=False)
        steps.pre_tokenizer, steps.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(prefix=CONTINUES)
    elif type == "bpe":
        if lower_case:
            steps.normalizer = normalizers.Lowercase()
        steps.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        steps.decoder = decoders.ByteLevel()
    else:
        marks: dict[str, Any] = {"replacement": "▁", "prepend_scheme": "always"}
        steps.normalizer = normalizers.Precompiled(charmap(lower_case=lower_case))
        steps.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**marks)]
        )
        steps.decoder = decoders.Metaspace(**marks)
    return backend


def add_template(backend: Tokenizer, tokens: SpecialTokens, type: TokenizerType) -> None:
    """Let a tokenizer put the special tokens of a family around one and two texts."""
    from tokenizers import processors

    used = [token for token in tokens.first if token in f"{tokens.single} {tokens.pair}".replace(":1", "").split()]
    template = processors.TemplateProcessing(
        single=tokens.single, pair=tokens.pair, special_tokens=[(token, backend.token_to_id(token)) for token in used]
    )
    # offsets of bytes leave out the space before a word, as RoBERTa's
    trims = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    backend.post_processor = trims if type == "bpe" else template


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path, family: Family, *, lower_case: bool) -> None:
    """Write a tokenizer to a folder, with transformers' class for the family if that has the same steps.

    transformers 5 takes the vocabulary from the files and the steps from the class: with a class that has other ones,
    AutoTokenizer would make other tokens than were learned. Such a tokenizer is written without a class.

    Args:
        tokenizer: The tokenizer.
        folder: The folder, which exists.
        family: The family.
        lower_case: Whether it lower-cases texts.
    """
    tokenizer.save_pretrained(folder)
    if (known := class_of(family)) is None:
        return
    num_sentinels = len(tokenizer.extra_special_tokens)
    options: dict[str, Any] = {"do_lower_case": lower_case, "strip_accents": False, "extra_ids": num_sentinels}
    parameters = inspect.signature(known.__init__).parameters
    try:
        read = known.from_pretrained(folder, **{name: options[name] for name in options if name in parameters})
    except Exception:  # of another type of model: tokenizers raises nothing more specific
        return
    same = read.get_vocab() == tokenizer.get_vocab() and read.added_tokens_decoder == tokenizer.added_tokens_decoder
    if same and not differing(read, json.loads((folder / "tokenizer.json").read_text("utf-8"))):
        for name in ("is_local", "local_files_only"):  # of this call
            read.init_kwargs.pop(name, None)
        read.save_pretrained(folder)


def class_of(family: Family) -> Any:
    """Return transformers' class of the tokenizers of a family; None where it has none that reads a tokenizer.json."""
    from transformers import CONFIG_MAPPING, TOKENIZER_MAPPING, PreTrainedTokenizerFast

    model_type = family.extends or family.model_type
    if model_type not in CONFIG_MAPPING or CONFIG_MAPPING[model_type] not in TOKENIZER_MAPPING:
        return None
    found = TOKENIZER_MAPPING[CONFIG_MAPPING[model_type]]
    known = next((each for each in reversed(found) if each), None) if isinstance(found, tuple) else found
    is_own = isinstance(known, type) and issubclass(known, PreTrainedTokenizerFast)
    return known if is_own and known is not PreTrainedTokenizerFast else None
