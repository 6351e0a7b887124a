"""Losses over the candidates of queries: what they are by their definitions, whatever the order of rows."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from tests.tolerances import approx
from transformers_framework.losses.retrieval import candidates
from transformers_framework.losses.retrieval.configured import LossSettings
from transformers_framework.metrics.candidates import CandidateMetrics
from transformers_framework.metrics.ranking import ranking_metrics

DRAW = np.random.default_rng(0)
SIZE = 60
VALUES, QUERIES = DRAW.normal(size=SIZE) * 30, DRAW.integers(0, 9, SIZE)
LABELS = DRAW.choice([0.0, 0.0, 1.0], SIZE)
ROWS = range(SIZE)


def negatives_of(row: int) -> list[int]:
    return [other for other in ROWS if QUERIES[other] == QUERIES[row] and not LABELS[other]]


POSITIVES = [row for row in ROWS if LABELS[row]]
PAIRS = [(row, other) for row in POSITIVES for other in negatives_of(row)]
EXPECTED = {
    "ranking": np.mean(
        [math.log(sum(math.exp(VALUES[o] - VALUES[r]) for o in [r, *negatives_of(r)])) for r in POSITIVES]
    ),
    "triplet": np.mean([max(0, VALUES[o] - VALUES[r] + 0.5) for r, o in PAIRS]),
    "soft": np.mean([math.log1p(math.exp(VALUES[o] - VALUES[r])) for r, o in PAIRS]),
    "margin": np.mean([(VALUES[r] - VALUES[o] - 1) ** 2 for r, o in PAIRS]),
}
LOSSES = {
    "ranking": partial(candidates.ranking_loss, settings=LossSettings()),
    "triplet": partial(candidates.triplet_loss, settings=LossSettings(margin=0.5)),
    "soft": partial(candidates.triplet_loss, settings=LossSettings(margin=None)),
    "margin": partial(candidates.margin_mse_loss, settings=LossSettings()),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_over_candidates(name: str) -> None:
    for order in (np.arange(SIZE), DRAW.permutation(SIZE)):
        found = LOSSES[name](VALUES[order], LABELS[order], QUERIES[order])
        assert found == pytest.approx(EXPECTED[name], rel=1e-9)
    nothing = LOSSES[name](VALUES[:1], np.zeros(1), QUERIES[:1])
    assert nothing is None


def test_metrics_do_not_depend_on_batches_and_padding() -> None:
    metric = CandidateMetrics(LOSSES["ranking"])
    columns = [torch.from_numpy(column) for column in (VALUES, LABELS, QUERIES, np.arange(SIZE))]
    for start in range(0, SIZE, 7):
        preds, labels, indexes, row_ids = (column[start : start + 7] for column in columns)
        padding = torch.tensor([-100.0]), torch.tensor([-1])
        metric.update(
            torch.cat([preds, preds[:1] + 9]),
            torch.cat([labels, padding[0]]),
            torch.cat([indexes, indexes[:1]]),
            torch.cat([row_ids, padding[1]]),
            torch.cat([preds, preds[:1] + 9]),
        )
    expected = ranking_metrics(
        VALUES, LABELS.astype(int), QUERIES, np.arange(SIZE), precision_at=(1, 5), hitrate_at=(5, 100)
    )
    values = metric.compute()
    assert values.pop("loss") == approx(EXPECTED["ranking"])
    assert values == pytest.approx(expected)
    assert set(metric.names) == set(expected), "the loss is no metric beside others"
