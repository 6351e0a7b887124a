"""Hashes of texts, equal where the tokens are equal, whatever the padding; names in TREC files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from transformers_framework.processing.random import mix64


def token_hashes(input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number for the tokens of every row: 64 bits of a hash, without the padding.

    Two of a million different rows share one with probability 3e-8.

    Args:
        input_ids: Tokens ``(B, L) int64``.
        attention_mask: 1 at tokens, 0 at padding ``(B, L) int64``.

    Returns:
        ``(B,) int64``.

    Examples:
        >>> ids = np.array([[5, 6, 0], [5, 6, 9], [6, 5, 0]])
        >>> first, longer, swapped = token_hashes(ids, np.array([[1, 1, 0], [1, 1, 1], [1, 1, 0]]))
        >>> bool(first == token_hashes(np.array([[0, 5, 6]]), np.array([[0, 1, 1]]))[0]), len({first, longer, swapped})
        (True, 3)
    """
    places = np.cumsum(attention_mask, axis=1)  # from 1, wherever the padding is
    mixed = mix64(mix64(input_ids + 1) ^ mix64(places << 32)) * attention_mask.astype(np.uint64)
    return mix64(mixed.sum(axis=1, dtype=np.uint64)).view(np.int64)


def value_hashes(values: Sequence[Any]) -> NDArray[np.int64]:
    """Return a number for every value: 64 bits of the BLAKE2 hash of its text, equal in every process ``(B,) int64``.

    Floats without a fraction, which integers beside other floats or null become, are taken for integers.

    Examples:
        >>> one, text, number, other = value_hashes([1, "1", 1.0, "2"])
        >>> bool(one == text == number), bool(one == other)
        (True, False)
    """
    from hashlib import blake2b

    def text(value: Any) -> str:
        return str(int(value) if isinstance(value, float) and value.is_integer() else value)

    known = {value: blake2b(text(value).encode(), digest_size=8).digest() for value in set(values)}
    return np.frombuffer(b"".join([known[value] for value in values]), dtype="<i8").astype(np.int64)


def trec_name(value: object) -> str:
    """Return a query or document as one column of a TREC file: ``%`` and white space are percent-encoded.

    What has no name, null or the empty text, is called ``%``, which nothing else is.
    """
    if value is None or value == "":
        return "%"
    return re.sub(r"[%\s]", lambda match: quote(match[0]), str(value))


def query_numbers(ids: Sequence[Any]) -> np.ndarray:
    """Convert query ids to numbers: ``(B,) int64``.

    Integers are kept (those above 63 bits as the negative numbers with the same 64 bits); strings are replaced by 64
    bits of their BLAKE2 hash, equal in every process. Two of a million queries collide with probability 3e-8.

    Examples:
        >>> query_numbers([7, 7, 9]).tolist()
        [7, 7, 9]
        >>> query_numbers([7, 2**64 - 1]).tolist()
        [7, -1]
        >>> len(set(query_numbers(["a", "b", "a"]).tolist()))
        2
    """
    if all(type(value) is int for value in ids):
        above = any(value >= 1 << 63 for value in ids)
        return np.array(ids, dtype=np.uint64 if above else np.int64).view(np.int64)
    return value_hashes(ids)
