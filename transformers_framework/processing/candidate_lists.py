"""Lists of candidates for training: the positives of a question, hard negatives and random ones, new in each epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transformers_framework.processing.grouping import Grouping
from transformers_framework.processing.packing import Bins
from transformers_framework.processing.random import keys
from transformers_framework.processing.windows import steps, sums_by_row


@dataclass(frozen=True)
class CandidateLists:
    """One list of at most ``size`` candidates of each question, in each epoch.

    It has all positives, but at most ``size`` - 1 if the question has a negative, then the hardest negatives, then
    others. What does not fit is chosen at random.

    Args:
        rows: Row ids, question after question, of each question the hardest first ``(N,) int64``.
        sizes: Candidates of each question ``(Q,) int64``; sums to N.
        positive: Which of the rows are positives ``(N,) bool``.
        size: Candidates of a list.
        num_hard: Number of the hardest negatives in each list; None for half of the places that positives leave.

    Examples:
        >>> columns = {"scores": [0.9, 0.1, 0.8, 0.5, 0.4], "positive": [False, False, False, True, False]}
        >>> lists = CandidateLists.of([7, 7, 7, 7, 7], size=3, num_hard=1, **columns)
        >>> [lists.bins(1337, epoch)[0] for epoch in range(3)]
        [[3, 0, 4], [3, 0, 4], [3, 0, 1]]
    """

    rows: NDArray[np.int64]
    sizes: NDArray[np.int64]
    positive: NDArray[np.bool_]
    size: int
    num_hard: int | None = 0

    @classmethod
    def of(
        cls,
        queries: ArrayLike,
        positive: ArrayLike,
        *,
        size: int,
        scores: ArrayLike | None = None,
        num_hard: int | None = None,
        entries: NDArray[np.int64] | None = None,
    ) -> CandidateLists:
        """Collect the candidates of each question.

        Args:
            queries: Question of each row, any integers ``(N,)``.
            positive: Which rows are positives ``(N,) bool``.
            size: Candidates of a list.
            scores: A number for each row, the highest for the hardest one ``(N,)``; without it, none is hard.
            num_hard: Number of the hardest negatives in each list.
            entries: Rows that are used ``(M,) int64``; all by default.
        """
        rows = np.arange(len(np.asarray(queries))) if entries is None else entries
        worth = None if scores is None else np.asarray(scores)[rows]
        grouping = Grouping.of(np.asarray(queries)[rows], k=size, scores=worth)
        rows = rows[grouping.rows]
        num_hard = 0 if scores is None else num_hard
        return cls(rows, grouping.sizes, np.asarray(positive, dtype=bool)[rows], size, num_hard)

    def __len__(self) -> int:
        return len(self.sizes)

    def bins(self, seed: int, epoch: int) -> Bins:
        """Return the rows of each list of an epoch.

        Args:
            seed: The run's seed.
            epoch: The epoch.
        """
        question = np.repeat(np.arange(len(self)), self.sizes)
        positives = sums_by_row(self.positive.astype(np.int64), self.sizes)  # (Q,)
        negatives = self.sizes - positives
        taken = np.minimum(positives, self.size - np.minimum(negatives, 1))
        left = self.size - taken
        hard = left - left // 2 if self.num_hard is None else np.minimum(left, self.num_hard)
        # the number of negatives of the same question that are harder
        before: NDArray[np.int64] = np.cumsum(~self.positive) - ~self.positive
        harder: NDArray[np.int64] = before - np.repeat(before[np.cumsum(self.sizes) - self.sizes], self.sizes)
        kind = np.where(self.positive, 0, np.where(harder < hard[question], 1, 2))
        order = np.lexsort((keys(seed, epoch, self.rows, "candidate_lists"), kind, question))
        place = steps(self.sizes)
        is_used = np.where(
            self.positive[order], place < taken[question], place - positives[question] < left[question]
        )  # sorted by question, so `question` is that of the sorted rows too
        return Bins(self.rows[order][is_used], np.bincount(question[is_used], minlength=len(self)))
