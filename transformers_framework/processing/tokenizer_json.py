"""Tokenizers that follow their ``tokenizer.json``, whatever class transformers loads them with."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAY_LACK = ("missing_entries", "connection_errors", "gated_repo")
LETTER = "a"  # the vocabulary of a tokenizer that is all but its vocabulary

logger = logging.getLogger(__name__)


def read_tokenizer(place: str, cache_dir: str | None = None) -> Any:
    """Return the tokenizer of a checkpoint; if it has a ``tokenizer.json``, that decides.

    transformers 5 takes the vocabulary from the file and the rest from the tokenizer's class. What the file has as
    normalizer, pre-tokenizer, special tokens and kind of model is lost where the class does it in another way, and
    words become unknown tokens without a message. Such a tokenizer is read without its class.

    Args:
        place: Hub name or local folder.
        cache_dir: Folder for downloads.

    Raises:
        OSError: When there is no such tokenizer, and whatever else transformers raises.
        ValueError: When its ``tokenizer.json`` is broken.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.utils import cached_file

    lenient: dict[str, Any] = {f"_raise_exceptions_for_{what}": False for what in MAY_LACK}
    file = cached_file(place, "tokenizer.json", cache_dir=cache_dir, **lenient)
    options: dict[str, Any] = {"cache_dir": cache_dir, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
    except Exception as error:  # tokenizers raises nothing more specific
        if file is None or "trust_remote_code" in str(error):
            raise
        try:
            alone = PreTrainedTokenizerFast.from_pretrained(place, **options)
        except Exception as broken:
            raise ValueError(str(broken)) from broken
        logger.warning("%s: its tokenizer.json is read alone: %s.", place, " ".join(str(error).split()))
        return alone
    if file is None or not tokenizer.is_fast or type(tokenizer) is PreTrainedTokenizerFast:
        return tokenizer
    other = differing(tokenizer, json.loads(Path(file).read_text("utf-8")))
    if not other:
        return tokenizer
    logger.warning(
        "%s: transformers' %s would have another %s than its tokenizer.json, which is right.",
        place, type(tokenizer).__name__, ", ".join(other),
    )  # fmt: skip
    written = PreTrainedTokenizerFast.from_pretrained(place, **options)
    return _corrected(tokenizer, written) if _speaks(tokenizer) else _completed(written, tokenizer)


def _speaks(tokenizer: Any) -> bool:
    """Return whether a tokenizer puts codes of languages around texts, which only its class knows how to."""
    return hasattr(tokenizer, "src_lang")


def _corrected(tokenizer: Any, written: Any) -> Any:
    """Let a tokenizer process texts as its file says, with the special tokens of its class around them."""
    for part in ("normalizer", "pre_tokenizer", "model", "decoder"):
        setattr(tokenizer.backend_tokenizer, part, getattr(written.backend_tokenizer, part))
    return tokenizer


def _completed(written: Any, tokenizer: Any) -> Any:
    """Give a tokenizer without a class what it lacks and the class knows: roles of tokens, inputs of models."""
    known = written.get_vocab()
    for role, token in tokenizer.special_tokens_map.items():
        if getattr(written, role, ...) is None and str(token) in known:
            setattr(written, role, token)
    if "model_input_names" not in written.init_kwargs:
        written.model_input_names = list(tokenizer.model_input_names)
    if not _frames(written.backend_tokenizer):
        written.backend_tokenizer.post_processor = tokenizer.backend_tokenizer.post_processor
    return written


def splits_by_itself(tokenizer: Any) -> bool:
    """Return whether a program in Python splits texts into words, as that for Chinese of RoFormer."""
    return _state(tokenizer.backend_tokenizer, "pre_tokenizer") == b""


# ---------------------------------------------------------------- what differs


def differing(tokenizer: Any, state: dict[str, Any]) -> list[str]:
    """Return the parts of a tokenizer that are not as its file says; the vocabulary is not indexed a second time."""
    from tokenizers import Tokenizer

    model = {"type": "WordLevel", "vocab": {LETTER: 0, "": 1}, "unk_token": ""}
    around: dict[str, Any] = {"model": model, "added_tokens": [], "truncation": None, "padding": None}
    written, backend = Tokenizer.from_str(json.dumps(state | around)), tokenizer.backend_tokenizer
    parts = ("normalizer", "pre_tokenizer", "decoder")
    other = [part.replace("_", "-") for part in parts if _state(written, part) != _state(backend, part)]
    if not _same_model(json.loads(backend.model.__getstate__()), state["model"]):
        other.append("kind of model")
    if not _speaks(tokenizer):
        written.normalizer = written.pre_tokenizer = None
        own = Tokenizer.from_str(written.to_str())
        own.post_processor = backend.post_processor
        if _frames(written) and _frame(own) != _frame(written):
            other.append("template")
    return other


def _state(backend: Tokenizer, part: str) -> bytes | None:
    component = getattr(backend, part)
    try:
        return None if component is None else component.__getstate__()
    except Exception:  # a program of its own, as that which splits Chinese for RoFormer
        return b""


def _same_model(made: dict[str, Any], written: dict[str, Any]) -> bool:
    """Return whether two models make the same tokens of a text, by their JSON; older files differ in fields."""
    kept: list[dict[str, Any]] = []
    for model in (made, written):
        parts = {"type": made["type"]} | {name: part for name, part in model.items() if part not in (None, "", False)}
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in parts.pop("merges", ())]
        kept.append({**parts, "merges": merges})
    ours, theirs = (model.pop("vocab") for model in kept)
    if kept[0] != kept[1] or type(ours) is not type(theirs) or len(ours) != len(theirs):
        return False
    if isinstance(ours, dict):
        return bool(ours == theirs)
    tokens, scores = ([entry[place] for entry in ours] for place in range(2))
    return tokens == [token for token, _ in theirs] and np.allclose(scores, [score for _, score in theirs])


def _frame(backend: Tokenizer) -> list[Any]:
    """Return the ids and types that a tokenizer puts around a letter, and around two."""
    found = [backend.encode(*texts) for texts in ((LETTER,), (LETTER, LETTER))]
    return [(encoding.ids, encoding.type_ids) for encoding in found]


def _frames(backend: Tokenizer) -> bool:
    """Return whether a tokenizer puts anything around texts: RemBERT's, as transformers writes it, does not."""
    return backend.post_processor is not None and backend.num_special_tokens_to_add(is_pair=True) > 0
