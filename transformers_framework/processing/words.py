"""Lists of words become pieces, and pieces know their words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from transformers_framework.processing.backend import probe_of
from transformers_framework.processing.encoding import tokenize
from transformers_framework.processing.windows import stretches

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class WordTokenizer:
    """Tokenize words one by one, as they would be in the middle of a text.

    The ids are those of ``is_split_into_words=True``. Tokenizers that recognize a word by the space before it, as
    RoBERTa's, get that space: transformers needs them to be loaded again for that, with ``add_prefix_space=True``.

    Args:
        backend: As ``bare_tokenizer`` returns it.
    """

    def __init__(self, backend: Tokenizer) -> None:
        self.backend = backend
        word = probe_of(backend)
        texts = (word, f" {word}", f"{word} {word}")
        alone, spaced, text = (backend.encode(text, add_special_tokens=False).ids for text in texts)
        self.needs_space = text != alone + alone and text == alone + spaced
        self.added = {token.content for token in backend.get_added_tokens_decoder().values()}

    def __call__(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all words, without special tokens.

        Args:
            words: N words.

        Returns:
            The ids of all words one after the other ``(T,) int64`` and the pieces of each ``(N,) int64``; an
            empty word has none.
        """
        number = {word: index for index, word in enumerate(dict.fromkeys(words))}  # a third to a half of them is new
        ids, lengths = tokenize(self.backend, [self._in_text(word) for word in number])
        which = np.fromiter(map(number.__getitem__, words), dtype=np.int64, count=len(words))
        pieces = lengths[which]
        return ids[stretches((np.cumsum(lengths) - lengths)[which], pieces)], pieces

    def _in_text(self, word: str) -> str:
        spaced = not self.needs_space or word[:1] in ("", " ") or word in self.added
        return word if spaced else f" {word}"


def first_pieces(word_ids: np.ndarray) -> np.ndarray:
    """Return where each word of a row begins.

    Args:
        word_ids: Word of each token, rising, -1 where there is none ``(B, L) int64``.

    Returns:
        The position of the first token of each word, -1 for a word without tokens ``(B, W) int64``; W is the number of
        words up to the last one with a token.

    Examples:
        >>> first_pieces(np.array([[-1, 0, 0, 2, -1], [-1, 0, -1, -1, -1]])).tolist()
        [[1, -1, 3], [1, -1, -1]]
    """
    begins = word_ids >= 0
    begins[:, 1:] &= word_ids[:, 1:] != word_ids[:, :-1]
    rows, positions = np.nonzero(begins)
    found = np.full((len(word_ids), 1 + int(word_ids.max(initial=-1))), -1, dtype=np.int64)
    found[rows, word_ids[rows, positions]] = positions
    return found


class WordWindows(NamedTuple):
    """Windows over lists of words, row after row; words are counted through all rows, and ends are exclusive.

    Args:
        rows: The row of each window ``(W,) int64``.
        starts: Its first word ``(W,) int64``.
        ends: The word after its last one ``(W,) int64``.
        owns_from: The first word that is its own; each word is one window's ``(W,) int64``.
        owns_to: The word after those ``(W,) int64``.
    """

    rows: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    owns_from: np.ndarray
    owns_to: np.ndarray


def cut_words(pieces: np.ndarray, counts: np.ndarray, *, capacity: int, shared: int) -> WordWindows:
    """Cut lists of words into windows that overlap, between words: none is torn but one that is longer than a window.

    A word that is in several windows belongs to the one in which it has more context, counted in tokens on its shorter
    side, and the first one's when both have as much: the maximum context of Devlin et al. 2019, "BERT" (their
    ``run_squad.py``).

    Args:
        pieces: Tokens of each word, row after row ``(N,) int64``.
        counts: Words of each row ``(B,) int64``; sums to N.
        capacity: Most tokens of a window.
        shared: Most tokens that neighbours share, where that is no more than half of a window.

    Examples:
        >>> cuts = cut_words(np.array([1, 1, 2, 1, 1, 1]), np.array([5, 1]), capacity=4, shared=2)
        >>> cuts.rows.tolist(), cuts.starts.tolist(), cuts.ends.tolist()
        ([0, 0, 1], [0, 2, 5], [3, 5, 6])
        >>> cuts.owns_from.tolist(), cuts.owns_to.tolist()
        ([0, 3, 5], [3, 5, 6])
    """
    before = np.concatenate([[0], np.cumsum(pieces)])  # tokens before each word
    row_ends = np.cumsum(counts)
    shared = min(shared, capacity // 2)
    rows, starts = np.arange(len(counts)), row_ends - counts
    found = []
    while len(rows):  # the next window of all rows that have another one
        fits = np.searchsorted(before, before[starts] + capacity, side="right") - 1
        ends = np.minimum(np.maximum(fits, starts + 1), row_ends[rows])
        found.append(np.stack([rows, starts, ends]))
        goes_on = ends < row_ends[rows]
        rows, starts, ends = rows[goes_on], starts[goes_on], ends[goes_on]
        shares = np.searchsorted(before, before[ends] - shared)
        has_room = np.searchsorted(before, before[ends + 1] - capacity)  # for the word after
        starts = np.minimum(np.maximum.reduce([shares, has_room, starts + 1]), ends)
    windows = np.concatenate(found, axis=1)
    rows, starts, ends = windows[:, np.lexsort((windows[1], windows[0]))]
    # with s and e the tokens before a window's end and the next one's start, a word is the next one's when
    # e - (tokens up to its end) < (tokens before it) - s
    bounds = np.searchsorted(before[:-1] + before[1:], before[ends[:-1]] + before[starts[1:]], side="right")
    bounds = np.clip(bounds, starts[1:], ends[:-1])
    same = rows[1:] == rows[:-1]
    owns_from, owns_to = starts.copy(), ends.copy()
    owns_from[1:][same] = owns_to[:-1][same] = bounds[same]
    return WordWindows(rows, starts, ends, owns_from, owns_to)
