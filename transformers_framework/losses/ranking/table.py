"""The table of ranking losses: for each its function, what its mean is over, and the outputs of the model.

Nothing heavy is imported here: a row names its function by import path.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

from transformers_framework.import_paths import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class RankingLoss:
    """A row of the table.

    Args:
        function: Import path of a function of the scores ``(B, K) float32`` and labels ``(B, K) int64`` of B lists of
            candidates, 1, 0, or -100 where there is none; it returns the sum of the losses, a scalar. None: each
            candidate has the cross-entropy of its class.
        mean_over: What the mean loss is over: candidates, lists, positives that have a negative, or pairs of a positive
            and a negative.
        one_output: Whether the model has a single output, the score, instead of the logits of two classes.
    """

    function: str | None
    mean_over: Literal["candidates", "lists", "positives", "pairs"]
    one_output: bool = True

    @property
    def compares(self) -> bool:
        """Whether candidates of a list are compared with each other."""
        return self.function is not None

    @cached_property
    def of_lists(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The ``function``: it returns the sum of the losses of lists."""
        assert self.function is not None
        found: Callable[[Tensor, Tensor], Tensor] = resolve(self.function)
        return found

    def items_of_lists(self, labels: Any) -> Any:
        """Return how many losses each list has: the number of what the mean is over ``(B,) int64``.

        Args:
            labels: 1, 0, or -100 where there is none ``(B, K) int64``, an array or a tensor.

        Examples:
            >>> import numpy as np
            >>> labels = np.array([[1, 0, 0], [1, 1, -100]])
            >>> [RANKING_LOSSES[name].items_of_lists(labels).tolist() for name in ("binary", "softmax", "ranknet")]
            [[3, 2], [1, 0], [2, 0]]
        """
        positives, negatives = (labels > 0).sum(1), (labels == 0).sum(1)
        found = {
            "candidates": positives + negatives,
            "lists": (positives + negatives > 0) * 1,
            "positives": positives * (negatives > 0),
            "pairs": positives * negatives,
        }
        return found[self.mean_over]

    @property
    def of_candidates(self) -> Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], float | None] | None:
        """The mean loss of evaluation, of scores, labels and queries of all rows; None if each row has a loss."""
        return partial(resolve("losses.ranking.lists:mean_over_queries"), self) if self.compares else None


RANKING_LOSSES: dict[str, RankingLoss] = {
    "cross_entropy": RankingLoss(None, mean_over="candidates", one_output=False),
    "binary": RankingLoss(None, mean_over="candidates"),
    "ranknet": RankingLoss("losses.ranking.lists:ranknet", mean_over="pairs"),
    "lambda": RankingLoss("losses.ranking.lists:lambda_loss", mean_over="pairs"),
    "listnet": RankingLoss("losses.ranking.lists:listnet", mean_over="lists"),
    "softmax": RankingLoss("losses.ranking.lists:softmax", mean_over="positives"),
}
