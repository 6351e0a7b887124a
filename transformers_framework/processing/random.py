"""Random numbers without state: each is a hash of where it is used.

A decision depends on (seed, epoch, row id, purpose, position) and on nothing else, so it is the same with any number of
workers and processes, in any batch, and after a resume. The hash is the output function of SplitMix64 (Steele, Lea,
Flood 2014, "Fast Splittable Pseudorandom Number Generators", OOPSLA, Figure 17).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

SORTED_NUMBERS = 1 << 16  # up to here a permutation is a table: a network over fewer bits is not random enough
ROUNDS = 8
_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15  # odd, hence x -> x * _GAMMA is a bijection: no coordinate can be lost


def mix64(x: ArrayLike) -> NDArray[np.uint64]:
    """Scramble 64-bit integers, one to one: different inputs always have different outputs.

    Args:
        x: Integers of any shape; negative ones count modulo 2^64.

    Returns:
        An array of the same shape, uint64.

    Examples:
        >>> [hex(value) for value in mix64([0, 1, 2, -1])]
        ['0x0', '0x5692161d100b05e5', '0xdbd238973a2b148a', '0xb4d055fcf2cbbd7b']
    """
    z = np.asarray(x).astype(np.uint64)  # a copy, changed in place below
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def keys(seed: int, epoch: int, row_ids: ArrayLike, purpose: str) -> NDArray[np.uint64]:
    """Return the key of each row's own stream of random numbers.

    For a given seed, epoch and purpose, two rows never share a key; changing any one coordinate changes every key.

    Args:
        seed: The run's seed.
        epoch: The epoch, or a constant where decisions must not change between epochs.
        row_ids: Positions of the rows in the data set, (B,) int64.
        purpose: What the numbers decide, for instance ``"masked_lm.select"``.

    Returns:
        Keys, (B,) uint64, for :func:`uniform` and :func:`integers`.

    Examples:
        >>> keys(1337, 0, [0, 1], "mask").tolist()
        [13454239665884332099, 13085082697100348491]
    """
    rows = np.asarray(row_ids).astype(np.uint64)
    return mix64(np.uint64(_base(seed, epoch, purpose)) + rows * np.uint64(_GAMMA))


def _as_share(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return 64 random bits as numbers in [0, 1), of their first 53."""
    shares: NDArray[np.float64] = (bits >> np.uint64(11)) * 2.0**-53
    return shares


def uniform(keys: NDArray[np.uint64], n: int) -> NDArray[np.float64]:
    """Sample numbers in [0, 1), the first ``n`` of each row's stream.

    Args:
        keys: Keys of the rows, (B,) uint64.
        n: How many numbers a row needs. More numbers begin with the same ones.

    Returns:
        Numbers, (B, n) float64.

    Examples:
        >>> uniform(keys(1337, 0, [0, 1], "mask"), 3).round(4).tolist()
        [[0.6206, 0.9822, 0.9816], [0.5347, 0.6653, 0.0384]]
    """
    return _as_share(_bits(keys, n))


def uniform_at(keys: NDArray[np.uint64], positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sample single numbers in [0, 1): of each stream the number at a position.

    Args:
        keys: Keys of the rows that the numbers belong to, (N,) uint64.
        positions: Places in their streams, small numbers, (N,) int64.

    Returns:
        Numbers, (N,) float64, the same as those of :func:`uniform`.

    Examples:
        >>> streams = keys(1337, 0, [0, 1], "mask")
        >>> uniform_at(streams[[0, 1, 1]], np.array([2, 1, 2])).round(4).tolist()
        [0.9816, 0.6653, 0.0384]
    """
    scrambled = _positions(int(positions.max(initial=-1)) + 1)[positions]
    scrambled ^= keys
    return _as_share(mix64(scrambled))


def integers(keys: NDArray[np.uint64], n: int, high: ArrayLike) -> NDArray[np.int64]:
    """Sample integers in [0, high), the first ``n`` of each row's stream.

    Args:
        keys: Keys of the rows, (B,) uint64.
        n: How many integers a row needs.
        high: Exclusive upper bound, at most 2^53: one number, or an array that broadcasts with (B, n).

    Returns:
        Integers, (B, n) int64. Their probabilities differ by less than ``high`` / 2^53.

    Examples:
        >>> integers(keys(1337, 0, [0, 1], "mask"), 4, 30522).tolist()
        [[18941, 29978, 29959, 25807], [16319, 20305, 1172, 15468]]
    """
    products: NDArray[np.float64] = uniform(keys, n) * np.asarray(high)
    return products.astype(np.int64)  # (1 - 2^-53) * high rounds to less than high


def permutation(seed: int, epoch: int, n: int, purpose: str) -> NDArray[np.int64]:
    """Return the numbers from 0 to n - 1 in random order.

    Args:
        seed: The run's seed.
        epoch: The epoch.
        n: How many numbers.
        purpose: What is ordered.

    Returns:
        Each number once, (n,) int64.

    Examples:
        >>> permutation(1337, 0, 8, "order").tolist()
        [0, 4, 1, 7, 3, 5, 2, 6]
        >>> permutation(1337, 1, 8, "order").tolist()
        [3, 2, 4, 0, 5, 1, 7, 6]
    """
    # keys are all different, so the order does not depend on which sorting algorithm numpy has on this machine
    return np.argsort(keys(seed, epoch, np.arange(n), purpose))


class Permutation:
    """The numbers from 0 to n - 1 in random order, without a table of them: any part is computed by itself.

    A Feistel network (Luby, Rackoff 1988, "How to Construct Pseudorandom Permutations from Pseudorandom Functions"),
    whose round function is the hash of this module, maps the numbers of ``bits`` bits one to one. Results that are not
    below n are mapped again until they are (cycle walking: Black, Rogaway 2002, "Ciphers with Arbitrary Finite
    Domains"), fewer than once on average. Up to 65,536 numbers are sorted by their keys instead, as
    :func:`permutation` does.

    Args:
        seed: The run's seed.
        epoch: The epoch.
        n: How many numbers.
        purpose: What is ordered.

    Examples:
        >>> Permutation(1337, 0, 8, "order")(2, 5).tolist()
        [1, 7, 3]
        >>> Permutation(1337, 0, 10**12, "order")(10**11, 10**11 + 2).tolist()
        [86041246350, 254070136528]
    """

    def __init__(self, seed: int, epoch: int, n: int, purpose: str) -> None:
        self.n, self.bits = n, max(1, n - 1).bit_length()
        self.table = permutation(seed, epoch, n, purpose) if n <= SORTED_NUMBERS else None
        self.keys = keys(seed, epoch, np.arange(ROUNDS), purpose)

    def __call__(self, begin: int, end: int) -> NDArray[np.int64]:
        """Return the numbers at the positions from ``begin`` to ``end - 1``, (end - begin,) int64."""
        if self.table is not None:
            return self.table[begin:end]
        numbers = self._mapped(np.arange(begin, end, dtype=np.uint64))
        while len(outside := np.flatnonzero(numbers >= self.n)):
            numbers[outside] = self._mapped(numbers[outside])
        return numbers.astype(np.int64)

    def _mapped(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return where the network maps numbers; its two parts differ by a bit where ``bits`` is odd."""
        low = self.bits // 2
        for key in self.keys:
            high = self.bits - low
            left, right = numbers >> np.uint64(low), numbers & np.uint64((1 << low) - 1)
            left ^= mix64(right ^ key) & np.uint64((1 << high) - 1)
            numbers, low = right << np.uint64(high) | left, high
        return numbers


@lru_cache(maxsize=1024)
def _base(seed: int, epoch: int, purpose: str) -> int:
    label = int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")
    state = 0
    for coordinate in (seed, epoch, label):
        state = int(mix64([(state + (coordinate + 1) * _GAMMA) & _MASK])[0])
    return state


def _bits(keys: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    return mix64(keys[:, None] ^ _positions(n))


def _positions(n: int) -> NDArray[np.uint64]:
    # positions are scrambled first: with `key + position` one row's stream could be another's, shifted
    return mix64(np.arange(1, n + 1, dtype=np.uint64) * np.uint64(_GAMMA))
