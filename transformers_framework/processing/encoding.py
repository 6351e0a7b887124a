"""Texts become rows of token ids: one tokenizer call a batch, everything else in numpy.

A fast tokenizer spends most of its time building Python objects around its result; taking the bare ids of each segment
and placing special tokens ourselves keeps about 90 % of its own rate, and the same code serves any number of segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.exceptions import ConfigurationError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Template:
    """Special tokens that a tokenizer puts around the segments of an input.

    Args:
        prefix: Ids before the first segment, as ``[CLS]``.
        between: Ids between two segments, as ``[SEP]`` or ``</s></s>``.
        suffix: Ids after the last segment.
        token_types: Type of the first segment and of those after it.
    """

    prefix: tuple[int, ...]
    between: tuple[int, ...]
    suffix: tuple[int, ...]
    token_types: tuple[int, int] = (0, 0)

    def num_special(self, num_segments: Any) -> Any:
        """Return how many special tokens an input of so many segments has (a number or an array of numbers).

        Examples:
            >>> Template(prefix=(101,), between=(102,), suffix=(102,)).num_special(2)
            3
        """
        return len(self.prefix) + len(self.suffix) + (num_segments - 1) * len(self.between)

    @classmethod
    def of(cls, tokenizer: Any) -> Template:
        """Read the template off what a tokenizer of transformers does with a pair of texts.

        Raises:
            ConfigurationError: When the tokenizer is a slow one: it cannot be used in batches.
        """
        if not getattr(tokenizer, "is_fast", False):
            raise ConfigurationError(
                f"--pre_trained_tokenizer: {type(tokenizer).__name__} is a slow tokenizer. "
                "Use a checkpoint with a tokenizer.json."
            )
        encoding = tokenizer("a", "b", truncation=False, return_token_type_ids=True)
        ids, types, owner = encoding["input_ids"], encoding["token_type_ids"], encoding.sequence_ids(0)
        first = [i for i, sequence in enumerate(owner) if sequence == 0]
        second = [i for i, sequence in enumerate(owner) if sequence == 1]
        return cls(
            prefix=tuple(ids[: first[0]]),
            between=tuple(ids[first[-1] + 1 : second[0]]),
            suffix=tuple(ids[second[-1] + 1 :]),
            token_types=(types[first[0]], types[second[0]]),
        )


def bare_tokenizer(tokenizer: Any) -> Tokenizer:
    """Return a copy of the Rust tokenizer that neither truncates nor pads."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return backend


def tokenize(backend: Tokenizer, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of all texts, without special tokens.

    Args:
        backend: As :func:`bare_tokenizer` returns it.
        texts: N texts.

    Returns:
        The ids of all texts one after the other ``(T,) int64`` and the length of each ``(N,) int64``.
    """
    ids = [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    return np.fromiter(chain.from_iterable(ids), dtype=np.int64, count=int(lengths.sum())), lengths


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
    kept = lengths.copy()
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

    Returns:
        ``input_ids``, ``attention_mask`` and, when asked for, ``token_type_ids``: ``(B, L) int64``; and
        ``truncated``, which rows lost tokens: ``(B,) bool``.

    Examples:
        >>> bert = Template(prefix=(1,), between=(2,), suffix=(2,))
        >>> batch = assemble(np.array([5, 6, 7, 8]), np.array([1, 2, 1, 0]), np.array([2, 2]), bert,
        ...                  max_length=9, pad_token_id=0, token_types=(0, 1))
        >>> batch["input_ids"].tolist()
        [[1, 5, 2, 6, 7, 2], [1, 8, 2, 2, 0, 0]]
        >>> batch["token_type_ids"].tolist()
        [[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 0, 0]]
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

    input_ids = np.full((num_rows, width), pad_token_id, dtype=np.int64)
    _scatter(input_ids, ids, lengths, sizes[present], (starts + offsets[:, None])[present], np.nonzero(present)[0])
    every_row = np.arange(num_rows)
    for place, token in enumerate(template.prefix):
        input_ids[every_row, offsets + place] = token
    for place, token in enumerate(template.suffix):
        input_ids[every_row, offsets + totals - len(template.suffix) + place] = token
    rows, gaps = np.nonzero(present[:, 1:])
    for place, token in enumerate(template.between):
        input_ids[rows, (starts + offsets[:, None])[rows, gaps + 1] - len(template.between) + place] = token

    positions = np.arange(width) - offsets[:, None]
    inside = (positions >= 0) & (positions < totals[:, None])
    batch = {"input_ids": input_ids, "attention_mask": inside.astype(np.int64)}
    if token_types is not None:
        types = np.full((num_rows, width), token_types[0], dtype=np.int64)
        for segment in range(1, num_segments):
            starts_here = np.where(present[:, segment], starts[:, segment], width)
            types[positions >= starts_here[:, None]] = token_types[min(segment, len(token_types) - 1)]
        batch["token_type_ids"] = types * inside
    batch["truncated"] = (kept != by_row).any(axis=1)
    return batch


def _scatter(
    out: np.ndarray, ids: np.ndarray, lengths: np.ndarray, kept: np.ndarray, columns: np.ndarray, rows: np.ndarray
) -> None:
    """Write the first ``kept`` ids of each segment into its row, from its column on."""
    num_kept = int(kept.sum())
    steps = np.arange(num_kept) - np.repeat(np.cumsum(kept) - kept, kept)  # 0, 1, … within each segment
    source = ids if num_kept == len(ids) else ids[np.repeat(np.cumsum(lengths) - lengths, kept) + steps]
    out.reshape(-1)[np.repeat(rows * out.shape[1] + columns, kept) + steps] = source
