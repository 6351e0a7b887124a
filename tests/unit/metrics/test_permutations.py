"""How much scores move, against sums written out."""

from __future__ import annotations

import pytest
import torch

from transformers_framework.metrics.permutations import PermutationMetrics


def test_changes_of_candidates_that_change_places() -> None:
    metric = PermutationMetrics()
    metric.update(
        preds=torch.tensor([[1.0, -1.0, 9.0], [2.0, 7.0, 7.0]]),
        row_ids=torch.tensor([[4, 6, -1], [8, -1, -1]]),
        permuted=torch.tensor([[-0.5, 1.5, 3.0], [2.0, 1.0, 1.0], [0.5, 1.0, 3.0], [-2.0, 1.0, 1.0]]),
        permuted_ids=torch.tensor([[6, 4, -1], [8, -1, -1], [4, 6, -1], [8, -1, -1]]),
    )
    found = metric.compute()
    changes = [0.5, 0.5, 0.0, 0.5, 2.0, 4.0]  # of rows 4, 6, 8 in one order, then in the other
    assert found["permutation_change"] == pytest.approx(sum(changes) / 6)
    assert found["permutation_change_max"] == pytest.approx(4.0)
    assert found["permutation_flipped"] == pytest.approx(2 / 6)
    assert tuple(found) == metric.names
