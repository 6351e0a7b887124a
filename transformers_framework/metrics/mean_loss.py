"""The mean loss of a whole data set, independent of batch sizes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanLoss(Metric):
    """Sum of losses divided by the sum of loss denominators.

    Sums are kept as two float32 numbers, the second being the rounding error of the first (Knuth, The Art of Computer
    Programming 2, section 4.2.2, theorem B): exact to 1e-11 where float32 is to 1e-4, without the float64 that Apple
    GPUs lack.

    Args:
        sync_on_compute: Sum over all ranks.
    """

    full_state_update = False
    higher_is_better = False
    is_differentiable = False
    sums: Tensor

    def __init__(self, *, sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        # (sum, error) x (total, num_items); processes are stacked and added in float64 by `compute`
        self.add_state("sums", torch.zeros(2, 2), dist_reduce_fx=None)

    def update(self, total: Tensor, num_items: Tensor | float) -> None:
        """Add a batch.

        Args:
            total: Sum of the losses of all labels, a scalar.
            num_items: Loss denominator, a scalar or a number: the number of labels if they have no weights, 0 for a
                batch of padding rows.
        """
        total = total.detach().reshape(()).float()
        weight = num_items if isinstance(num_items, Tensor) else torch.full_like(total, num_items)
        new = torch.stack([total, weight.detach().reshape(()).float()])
        old, error = self.sums
        summed = old + new
        rounded = summed - old
        self.sums = torch.stack([summed, error + ((old - (summed - rounded)) + (new - rounded))])

    def compute(self) -> float | None:
        """Return the mean loss, None if there were no labels."""
        total, num_items = self.sums.cpu().double().reshape(-1, 2).sum(dim=0).tolist()
        return total / num_items if num_items else None
