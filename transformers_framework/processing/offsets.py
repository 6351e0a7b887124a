"""Characters of a text that belong to its tokens: without white space, with the accents that tokenizers remove."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

IS_VISIBLE = ~np.array([chr(code).isspace() for code in range(0x3002)])  # white space ends with 0x3000
SEPARATES = ~IS_VISIBLE
SEPARATES[0x200B] = True  # the zero-width space, which ends a word as well


def visible_offsets(
    starts: NDArray[np.int64], ends: NDArray[np.int64], counts: NDArray[np.int64], texts: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Remove white space from the offsets of tokens: some tokenizers add it to the token that follows.

    Args:
        starts: First character of each token, text after text ``(T,) int64``.
        ends: The character after the last one of each token ``(T,) int64``.
        counts: Tokens of each text ``(N,) int64``.
        texts: The texts.

    Returns:
        The same without white space; the start of a token of nothing but white space is not before its end.

    Examples:
        >>> starts, ends = visible_offsets(np.array([0, 2, 4]), np.array([2, 4, 6]), np.array([3]), ["to  be"])
        >>> starts.tolist(), ends.tolist()
        ([0, 4, 4], [2, 2, 6])
    """
    sizes, codes = _codes(texts)
    base, size = np.repeat(np.cumsum(sizes) - sizes, counts), np.repeat(sizes, counts)
    if (
        (starts < ends).all()
        and _in(IS_VISIBLE, codes[base + starts]).all()
        and _in(IS_VISIBLE, codes[base + ends - 1]).all()
    ):
        return starts, ends
    visible = _in(IS_VISIBLE, codes)
    places = np.arange(len(codes))
    following = np.append(np.where(visible, places, len(codes)), len(codes))
    following = np.minimum.accumulate(following[::-1])[::-1]  # the first visible character at a place or after it
    preceding = np.concatenate([[0], np.maximum.accumulate(np.where(visible, places + 1, 0))])
    return np.minimum(following[base + starts] - base, size), np.maximum(preceding[base + ends] - base, 0)


def with_marks(
    starts: NDArray[np.int64], ends: NDArray[np.int64], counts: NDArray[np.int64], texts: Sequence[str]
) -> NDArray[np.int64]:
    """Extend the ends of tokens by characters that belong to no token, up to white space, as removed accents.

    A tokenizer without accents makes one token of ``cafe`` and the combining accent after it. Without the accent, the
    text of an answer would lack the last mark of its last letter, in whichever script.

    Args:
        starts: First character of each token, text after text ``(T,) int64``.
        ends: The character after the last one of each token ``(T,) int64``.
        counts: Tokens of each text ``(N,) int64``.
        texts: The texts.

    Returns:
        The character after the last one of each token and its marks ``(T,) int64``.

    Examples:
        >>> with_marks(np.array([0, 6]), np.array([4, 8]), np.array([2]), ["cafe\u0301 so"]).tolist()
        [5, 8]
    """
    sizes, codes = _codes(texts)
    size, lasts = np.repeat(sizes, counts), np.cumsum(counts)[counts > 0] - 1
    following = np.append(starts[1:], 0)[: len(starts)]
    following[lasts] = size[lasts]  # where the next token begins, or the text ends
    base = np.repeat(np.cumsum(sizes) - sizes, counts)
    gaps = np.flatnonzero((starts < ends) & (ends < following))
    gaps = gaps[~_in(SEPARATES, codes[base[gaps] + ends[gaps]]) & ~_in(SEPARATES, codes[base[gaps] + ends[gaps] - 1])]
    if not len(gaps):
        return ends
    places = np.append(np.where(_in(SEPARATES, codes), np.arange(len(codes)), len(codes)), len(codes))
    separators = np.minimum.accumulate(places[::-1])[::-1]  # the first one at a place or after it
    marked: NDArray[np.int64] = ends.copy()
    marked[gaps] = np.minimum(following[gaps], separators[base[gaps] + ends[gaps]] - base[gaps])
    return marked


def _codes(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Return the characters of each text, and the code of each, text after text."""
    sizes = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return sizes, np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _in(table: NDArray[np.bool_], codes: NDArray[np.uint32]) -> NDArray[np.bool_]:
    return table[np.minimum(codes, len(table) - 1)]
