"""Tokenized segments of rows: token ids of all texts of a batch, in numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transformers_framework.processing.windows import stretches


@dataclass(frozen=True)
class Segments:
    """Tokenized segments of B rows, without special tokens and not truncated.

    Args:
        ids: Token ids of all segments, row after row ``(T,)`` integers.
        lengths: Tokens of each segment ``(N,) int64``.
        counts: Segments of each row ``(B,) int64``; sums to N.
        starts: Which tokens begin a word ``(T,) bool``; None if the tokenizer was not asked.
    """

    ids: NDArray[Any]
    lengths: NDArray[np.int64]
    counts: NDArray[np.int64]
    starts: NDArray[np.bool_] | None = None

    @property
    def firsts(self) -> NDArray[np.int64]:
        """Index of the first segment of each row ``(B,) int64``."""
        return np.cumsum(self.counts) - self.counts

    def selected(self, segments: NDArray[np.int64], counts: NDArray[np.int64]) -> Segments:
        """Return some segments, in the order of their indices.

        Args:
            segments: Their indices ``(M,) int64``.
            counts: Segments of each row ``(C,) int64``; sums to M.

        Examples:
            >>> rows = Segments(np.array([5, 6, 7, 8, 9]), np.array([2, 1, 2]), np.array([1, 2]))
            >>> some = rows.selected(np.array([2, 0]), np.array([2]))
            >>> some.ids.tolist(), some.lengths.tolist()
            ([8, 9, 5, 6], [2, 2])
        """
        lengths = self.lengths[segments]
        taken = stretches((np.cumsum(self.lengths) - self.lengths)[segments], lengths) if len(self.ids) else slice(None)
        return Segments(self.ids[taken], lengths, counts, None if self.starts is None else self.starts[taken])
