"""Tokenization of a whole batch with one tokenizer call; everything else is numpy.

A fast tokenizer spends most of its time building Python objects around its result; taking the bare ids of each segment
and placing special tokens ourselves keeps about 90 % of its own rate, and the same code serves any number of segments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.processing.backend import probe_of
from transformers_framework.processing.windows import inside, stretches

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Count = TypeVar("Count", int, np.ndarray)


@dataclass(frozen=True)
class Template:
    """Special tokens that a tokenizer puts around the segments of an input.

    Args:
        prefix: Ids before the first segment, as ``[CLS]``.
        between: Ids between two segments, as ``[SEP]`` or ``</s></s>``.
        suffix: Ids after the last segment.
        token_types: Type of the first segment and of those after it.
        keeps_end: Segments that are too long lose their first tokens, not their last ones.
    """

    prefix: tuple[int, ...]
    between: tuple[int, ...]
    suffix: tuple[int, ...]
    token_types: tuple[int, int] = (0, 0)
    keeps_end: bool = False

    def num_special(self, num_segments: Count) -> Count:
        """Return how many special tokens an input of so many segments has (a number or an array of numbers).

        Examples:
            >>> Template(prefix=(101,), between=(102,), suffix=(102,)).num_special(2)
            3
        """
        return len(self.prefix) + len(self.suffix) + (num_segments - 1) * len(self.between)

    @classmethod
    def of(cls, tokenizer: Any) -> Template:
        """Derive the template from what a tokenizer of transformers makes of a pair of texts.

        Raises:
            ConfigurationError: When the tokenizer is a slow one: it cannot be used in batches.
        """
        if not getattr(tokenizer, "is_fast", False):
            raise ConfigurationError(
                f"--pre_trained_tokenizer: {type(tokenizer).__name__} is a slow tokenizer. "
                "Use a checkpoint with a tokenizer.json."
            )
        text = probe_of(tokenizer.backend_tokenizer)
        encoding = tokenizer(text, text, truncation=False, return_token_type_ids=True)
        ids, types, owner = encoding["input_ids"], encoding["token_type_ids"], encoding.sequence_ids(0)
        first = [i for i, sequence in enumerate(owner) if sequence == 0]
        second = [i for i, sequence in enumerate(owner) if sequence == 1]
        return cls(
            prefix=tuple(ids[: first[0]]),
            between=tuple(ids[first[-1] + 1 : second[0]]),
            suffix=tuple(ids[second[-1] + 1 :]),
            token_types=(types[first[0]], types[second[0]])
            if "token_type_ids" in tokenizer.model_input_names
            else (0, 0),
            keeps_end=tokenizer.truncation_side == "left",
        )

    @classmethod
    def of_target(cls, tokenizer: Any) -> Template:
        """Derive the special tokens around a target: mBART ends it with the code of another language."""
        encoding = tokenizer(text_target=probe_of(tokenizer.backend_tokenizer), truncation=False)
        ids, owner = encoding["input_ids"], encoding.sequence_ids(0)
        first, last = owner.index(0), len(owner) - owner[::-1].index(0)
        return cls(tuple(ids[:first]), (), tuple(ids[last:]), keeps_end=tokenizer.truncation_side == "left")


def tokenize(backend: Tokenizer, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of all texts, without special tokens.

    Args:
        backend: As ``bare_tokenizer`` returns it.
        texts: N texts.

    Returns:
        The ids of all texts one after the other ``(T,) int64`` and the length of each ``(N,) int64``.
    """
    return flat([encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)])


def flat(ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of N texts one after the other ``(T,) int64`` and the length of each ``(N,) int64``.

    Examples:
        >>> [part.tolist() for part in flat([[5, 6], [], [7]])]
        [[5, 6, 7], [2, 0, 1]]
    """
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    return np.fromiter(chain.from_iterable(ids), dtype=np.int64, count=int(lengths.sum())), lengths


SPACES = ("▁", "Ġ", " ")  # how sentence pieces, byte levels and others write a space before a word


@dataclass(frozen=True, eq=False)
class WordMarks:
    """Word boundaries from ids alone, for tokenizers whose tokens mark the start of a word.

    Args:
        begins: Tokens that begin a word, at any position ``(V,) bool``.
        closes: Tokens after which another word begins, which are words of their own ``(V,) bool``.
    """

    begins: np.ndarray
    closes: np.ndarray

    @classmethod
    def of(cls, backend: Tokenizer) -> WordMarks | None:
        """Return the marks of a tokenizer; none where only the tokenizer itself knows its words.

        BERT's word pieces mark it, at no cost. It is also used for tokenizers that see a whole text as one word, as
        those that only turn spaces into a mark: their words are delimited by spaces.
        """
        state = json.loads(backend.to_str())
        vocabulary, added = backend.get_vocab(with_added_tokens=True), backend.get_added_tokens_decoder()
        prefix = state["model"].get("continuing_subword_prefix")
        is_bert = state["model"].get("type") == "WordPiece" and state["pre_tokenizer"] == {"type": "BertPreTokenizer"}
        begins, closes = np.zeros((2, 1 + max(vocabulary.values(), default=0)), dtype=bool)
        probe = probe_of(backend)
        # BERT splits at every "#", so that a word never begins with the prefix itself; an added token may
        if is_bert and prefix == "##" and not any(token.content.startswith(prefix) for token in added.values()):
            begins[[number for token, number in vocabulary.items() if not token.startswith(prefix)]] = True
        elif len(set(backend.encode(f"{probe} {probe}", add_special_tokens=False).word_ids)) < 2:
            begins[[number for token, number in vocabulary.items() if token.startswith(SPACES)]] = True
        else:
            return None
        # what the model does not know may be a piece of a word
        unknown = (state["model"].get("unk_token"), state["model"].get("unk_id"))
        alone = [number for number, token in added.items() if number not in unknown and token.content not in unknown]
        begins[alone] = closes[alone] = True
        return cls(begins, closes)

    def starts(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return which tokens begin a word: ``(T,) bool``.

        Args:
            ids: Ids of all texts, one after the other ``(T,) int64``.
            lengths: Tokens of each text ``(N,) int64``.
        """
        starts: np.ndarray = self.begins[ids]
        starts[1:] |= self.closes[ids[:-1]]
        starts[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
        return starts


def tokenize_words(
    backend: Tokenizer, texts: Sequence[str], marks: WordMarks | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ids of all texts, without special tokens, and where words begin.

    A word is what the tokenizer splits a text into before it looks at its vocabulary: its ``word_ids``. A token that
    was added to the vocabulary is a word of its own. Asking a tokenizer for words costs a sixth of its rate, marks cost
    nothing.

    Args:
        backend: As ``bare_tokenizer`` returns it.
        texts: N texts.
        marks: As :meth:`WordMarks.of` returns it.

    Returns:
        The ids of all texts one after the other ``(T,) int64``, the length of each ``(N,) int64`` and which tokens
        begin a word ``(T,) bool``.
    """
    if marks is not None:
        ids, lengths = tokenize(backend, texts)
        starts = marks.starts(ids, lengths)
    else:
        encodings = backend.encode_batch(texts, add_special_tokens=False)
        ids, lengths = flat([encoding.ids for encoding in encodings])
        starts = encoded_word_starts(encodings, lengths)
    return ids, lengths, starts


def word_starts(word_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return which tokens begin a word; a token without a word, as a separator of texts, is a word of its own.

    Args:
        word_ids: Number of each token's word within its row, row after row ``(T,)``; -1 or nan where it has none.
        lengths: Tokens of each row ``(B,) int64``.

    Examples:
        >>> word_starts(np.array([0, 0, -1, -1, 1, 1]), np.array([5, 0, 1])).astype(int).tolist()
        [1, 0, 1, 1, 1, 1]
    """
    starts = word_ids < 0
    starts[1:] |= word_ids[1:] != word_ids[:-1]
    starts[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
    return starts


def encoded_word_starts(encodings: Sequence[Encoding], lengths: np.ndarray) -> np.ndarray:
    """Return which tokens begin a word as the tokenizer reports them, encoding after encoding: ``(T,) bool``.

    Args:
        encodings: What a tokenizer made of N texts.
        lengths: Tokens of each ``(N,) int64``.
    """
    words = chain.from_iterable(encoding.word_ids for encoding in encodings)
    return word_starts(np.array(list(words), dtype=np.float64), lengths)  # a token without a word becomes nan


def number_words(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Number the words of each row from 0.

    Args:
        starts: Which tokens begin a word, row after row ``(T,) bool``; the first token of a row does.
        lengths: Tokens of each row ``(B,) int64``.

    Returns:
        The word of each token ``(T,) int64``.

    Examples:
        >>> number_words(np.array([True, False, True, True, True, False]), np.array([3, 0, 3])).tolist()
        [0, 0, 1, 0, 1, 1]
    """
    numbers: np.ndarray = np.cumsum(starts)
    present = lengths[lengths > 0]
    found: np.ndarray = numbers - np.repeat(numbers[np.cumsum(present) - present], present)
    return found


def truncate_longest_first(lengths: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    """Shorten the longest segments of each row until the row fits, as fast tokenizers do.

    Args:
        lengths: Tokens of each segment, 0 where a row has no such segment ``(B, S) int64``.
        budgets: Tokens that each row may keep ``(B,) int64``.

    Returns:
        Tokens that each segment keeps ``(B, S) int64``. With two segments that must both shrink the second one gets
        the odd token when the first is not the longer one.

    Examples:
        >>> truncate_longest_first(np.array([[3, 9], [9, 9], [2, 3]]), np.array([8, 7, 8])).tolist()
        [[3, 5], [3, 4], [2, 3]]
    """
    over = lengths.sum(axis=1) > budgets
    if not over.any():
        return lengths
    kept: np.ndarray = lengths.copy()
    rows, budget = lengths[over], np.maximum(budgets[over], 0)
    ascending = np.sort(rows, axis=1)
    num_segments = rows.shape[1]
    # level[k]: the height at which all but the k shortest segments are cut
    before = np.concatenate([np.zeros((len(rows), 1), dtype=np.int64), np.cumsum(ascending, axis=1)[:, :-1]], axis=1)
    remaining = num_segments - np.arange(num_segments)
    level = (budget[:, None] - before) // remaining
    first_cut = np.argmax(level < ascending, axis=1)
    height = np.maximum(level[np.arange(len(rows)), first_cut], 0)
    cut = np.minimum(rows, height[:, None])
    # tokens left over by the division go one each to segments that were cut, the later and longer ones first
    spare = budget - cut.sum(axis=1)
    priority = np.argsort(np.argsort(rows * num_segments + np.arange(num_segments), axis=1), axis=1)
    cut += (num_segments - 1 - priority < spare[:, None]) & (rows > cut)
    kept[over] = cut
    return kept


def assemble(
    ids: np.ndarray,
    lengths: np.ndarray,
    counts: np.ndarray,
    template: Template,
    *,
    max_length: int,
    pad_token_id: int,
    pad_to_multiple_of: int = 1,
    token_types: Sequence[int] | None = None,
    pad_left: bool = False,
    extra: Mapping[str, np.ndarray] | None = None,
    leading: int | None = None,
) -> dict[str, np.ndarray]:
    """Place segments and special tokens into rows of equal length.

    Args:
        ids: Ids of all segments, row after row ``(T,) int64``.
        lengths: Tokens of each segment ``(N,) int64``.
        counts: Segments of each row ``(B,) int64``; sums to N.
        template: Special tokens of the tokenizer.
        max_length: Longest row, special tokens included; longer ones lose tokens of their longest segments.
        pad_token_id: Fills rows up to the longest one.
        pad_to_multiple_of: The length of rows is rounded up to a multiple of this.
        token_types: Type of each segment, the last value repeats; none: no ``token_type_ids``.
        pad_left: Put the padding before the tokens.
        extra: Further numbers of every token, by name ``(T,)``, to be placed as the ids are.
        leading: How many of the special tokens before a segment are its own and have its type. When it is given, so is
            where segments are.

    Returns:
        ``input_ids``, ``attention_mask`` and, when asked for, ``token_type_ids``: ``(B, L) int64``; and
        ``truncated``, which rows lost tokens: ``(B,) bool``. Each of ``extra`` as ``(B, L)``, -1 at special tokens and
        padding. With ``leading``, ``starts (B, S) int64``: the place of the first token of each segment, or where it
        would be if it had any; -1 where a row has no such segment.

    Examples:
        >>> bert = Template(prefix=(1,), between=(2,), suffix=(2,))
        >>> batch = assemble(np.array([5, 6, 7, 8]), np.array([1, 2, 1, 0]), np.array([2, 2]), bert,
        ...                  max_length=9, pad_token_id=0, token_types=(0, 1))
        >>> batch["input_ids"].tolist()
        [[1, 5, 2, 6, 7, 2], [1, 8, 2, 2, 0, 0]]
        >>> batch["token_type_ids"].tolist()
        [[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 0, 0]]
        >>> words = {"word_ids": np.array([0, 1, 1, 0])}
        >>> assemble(np.array([5, 6, 7, 8]), np.array([3, 1]), np.array([1, 1]), bert, max_length=4, pad_token_id=0,
        ...          extra=words)["word_ids"].tolist()
        [[-1, 0, 1, -1], [-1, 0, -1, -1]]
    """
    num_rows, num_segments = len(counts), int(counts.max(initial=1))
    present = np.arange(num_segments) < counts[:, None]  # (B, S)
    by_row = np.zeros((num_rows, num_segments), dtype=np.int64)
    by_row[present] = lengths
    kept = truncate_longest_first(by_row, max_length - template.num_special(counts))

    sizes = np.where(present, kept, 0)
    starts = np.cumsum(sizes, axis=1) - sizes + len(template.prefix) + np.arange(num_segments) * len(template.between)
    totals = sizes.sum(axis=1) + template.num_special(counts)  # (B,)
    width = -(-int(totals.max(initial=1)) // pad_to_multiple_of) * pad_to_multiple_of
    if width > max_length >= int(totals.max(initial=1)) and pad_to_multiple_of > 1:
        width = max(max_length, int(totals.max(initial=1)))
    offsets = width - totals if pad_left else np.zeros(num_rows, dtype=np.int64)

    begins = np.nonzero(present)[0] * width + (starts + offsets[:, None])[present]
    source, places = _moves(lengths, sizes[present], begins, template.keeps_end)
    input_ids = np.full((num_rows, width), pad_token_id, dtype=np.int64)
    input_ids.reshape(-1)[places] = ids[source]
    every_row = np.arange(num_rows)
    for place, token in enumerate(template.prefix):
        input_ids[every_row, offsets + place] = token
    for place, token in enumerate(template.suffix):
        input_ids[every_row, offsets + totals - len(template.suffix) + place] = token
    rows, gaps = np.nonzero(present[:, 1:])
    for place, token in enumerate(template.between):
        input_ids[rows, (starts + offsets[:, None])[rows, gaps + 1] - len(template.between) + place] = token

    taken = inside(totals, width, left=pad_left)
    batch = {"input_ids": input_ids, "attention_mask": taken.astype(np.int64)}
    if token_types is not None:
        types = np.full((num_rows, width), token_types[0], dtype=np.int64)
        positions = np.arange(width) - offsets[:, None]
        for segment in range(1, num_segments):
            starts_here = np.where(present[:, segment], starts[:, segment] - (leading or 0), width)
            types[positions >= starts_here[:, None]] = token_types[min(segment, len(token_types) - 1)]
        batch["token_type_ids"] = types * taken
    batch["truncated"] = (kept != by_row).any(axis=1)
    if leading is not None:
        batch["starts"] = np.where(present, starts + offsets[:, None], -1)
    for name, values in (extra or {}).items():
        batch[name] = np.full((num_rows, width), -1, dtype=values.dtype)
        batch[name].reshape(-1)[places] = values[source]
    return batch


def _moves(
    lengths: np.ndarray, kept: np.ndarray, begins: np.ndarray, keeps_end: bool
) -> tuple[np.ndarray | slice, np.ndarray]:
    """Return which tokens are kept, ``kept`` at one end of each segment, and where they go, from ``begins`` on."""
    all_kept = kept.sum() == lengths.sum()
    source = slice(None) if all_kept else stretches(np.cumsum(lengths) - (kept if keeps_end else lengths), kept)
    return source, stretches(begins, kept)
