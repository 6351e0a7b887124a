"""The Rust tokenizer that reads texts: without truncation and padding, and without special tokens out of a text."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from transformers_framework.exceptions import ConfigurationError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNWRITABLE = "\ufdd0"  # a noncharacter, which Unicode keeps out of texts
# how roles are spelled, declared or not; sentinels of T5, masks and reserved tokens of PEGASUS
RESERVED = re.compile(
    r"</?s>|<(pad|unk|mask|cls|sep|bos|eos)>|\[(PAD|UNK|MASK|CLS|SEP|BOS|EOS)\]|▁?<(extra_id|mask|unk)_\d+>"
)


def bare_tokenizer(tokenizer: Any, keep: Collection[str] = ()) -> Tokenizer:
    """Return a copy of the Rust tokenizer that neither truncates nor pads, and reads special tokens as plain text.

    A text that spells ``</s>`` has no end of a sequence in it: special tokens come from the template alone. Those that
    were added for texts, as marks of entities, stay tokens.

    Args:
        tokenizer: A fast tokenizer of transformers.
        keep: Special tokens that texts may hold nevertheless, as masks that are to be filled in.
    """
    from tokenizers import Tokenizer

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    model, vocabulary = state["model"], state["model"]["vocab"]
    unknown = model.get("unk_token")
    if model.get("unk_id") is not None:
        unknown = vocabulary[model["unk_id"]][0]
    hidden = reserved_tokens(tokenizer).difference(keep, {unknown})
    hidden.difference_update(_merged(model, hidden))
    for token in state["added_tokens"]:
        token["content"] = _renamed(token["content"], hidden)
    # the model knows their spelling too: Unigram and WordLevel would find it
    if isinstance(vocabulary, dict):
        model["vocab"] = {_renamed(token, hidden): number for token, number in vocabulary.items()}
    else:
        model["vocab"] = [[_renamed(token, hidden), score] for token, score in vocabulary]
    return Tokenizer.from_str(json.dumps(state | {"truncation": None, "padding": None}, ensure_ascii=False))


def _renamed(token: str, hidden: Collection[str]) -> str:
    return UNWRITABLE + token if token in hidden else token


def _merged(model: dict[str, Any], tokens: set[str]) -> set[str]:
    """Return those tokens that a BPE model puts together from others, or puts others together from."""
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model.get("merges", ())]
    return tokens & {part for first, second in merges for part in (first, second, first + second)}


def reserved_tokens(tokenizer: Any) -> set[str]:
    """Return the special tokens that no text may contain: those that have a meaning for the model.

    These have a role (as ``mask_token``), surround texts, are sentinels, or are codes of languages. Others were
    added for texts, as marks of entities.
    """
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    if hasattr(tokenizer, "src_lang"):  # its special tokens are languages
        return special
    probe = probe_of(tokenizer.backend_tokenizer)
    framed = tokenizer.backend_tokenizer.encode(probe, probe)
    around = {token for token, owner in zip(framed.tokens, framed.sequence_ids, strict=True) if owner is None}
    roles = set(map(str, tokenizer.special_tokens_map.values()))
    return around | roles | {token for token in special if RESERVED.fullmatch(token)}


def probe_of(backend: Tokenizer) -> str:
    """Return a text that is one token, of any script, with which to ask a tokenizer what it adds around texts.

    Raises:
        ConfigurationError: When the tokenizer makes no token of any text.
    """
    nonempty = None
    for text in _texts(backend):
        tokens = backend.encode(text, add_special_tokens=False).tokens
        if len(tokens) == 1 and tokens[0] != getattr(backend.model, "unk_token", None):
            return text
        nonempty = nonempty or (text if tokens else None)
    if nonempty is None:
        raise ConfigurationError(
            "--pre_trained_tokenizer: it makes no token of any text, not even of its own tokens. Use another one."
        )
    return nonempty


def _texts(backend: Tokenizer) -> Iterator[str]:
    """Yield texts to try: a letter, then what tokens of the vocabulary stand for, the longest first."""
    yield "a"
    added = set(backend.get_added_tokens_decoder())
    vocabulary = sorted(backend.get_vocab(with_added_tokens=False).items(), key=lambda entry: (-len(entry[0]), entry))
    for _, number in vocabulary:
        if number not in added and (text := backend.decode([number]).strip()):
            yield text


def read_in_lower_case(tokenizer: Any) -> None:
    """Let a tokenizer of transformers lower-case all texts, before any other step."""
    from tokenizers.normalizers import Lowercase, Sequence

    backend = tokenizer.backend_tokenizer
    own = backend.normalizer
    if own is None or own.normalize_str("A") != "a":
        backend.normalizer = Sequence([Lowercase(), *([] if own is None else [own])])
