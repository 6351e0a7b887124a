"""Metrics in a torchmetrics collection, and over two real processes."""

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing
from torchmetrics import MetricCollection

from transformers_framework.metrics.classification import ClassificationMetrics
from transformers_framework.metrics.mean_loss import MeanLoss
from transformers_framework.metrics.ranking import RankingMetrics

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")

PREFIX = "valid/answer_selection/"
NAMES = [
    "accuracy", "f1", "f1_class_0", "f1_class_1", "mean_average_precision", "mean_reciprocal_rank", "ndcg",
    "precision@1", "hitrate@5", "loss",
]  # fmt: skip


def collection(**options):
    metrics = {"classes": ClassificationMetrics(2), "ranking": RankingMetrics(), "loss": MeanLoss()}
    return MetricCollection(metrics, prefix=PREFIX, **options)


def batches(n=101, size=8):
    rng = np.random.default_rng(0)
    data = {
        "preds": torch.from_numpy(rng.integers(0, 2, n)),
        "target": torch.from_numpy(rng.integers(0, 2, n)),
        "indexes": torch.from_numpy(rng.integers(0, 20, n)) + 2**40,
        "row_ids": torch.arange(n),
    }
    for part in torch.arange(n).split(size):
        batch = {name: column[part] for name, column in data.items()}
        losses = part.float() / 3
        yield {**batch, "total": losses.sum(), "num_items": torch.tensor(len(part))}


@pytest.mark.parametrize("compute_groups", [True, False])
def test_names_are_prefix_and_key_and_each_metric_takes_its_own_arguments(compute_groups):
    metrics = collection(compute_groups=compute_groups)
    alone = ClassificationMetrics(2), RankingMetrics(), MeanLoss()
    for batch in batches():
        metrics.update(**batch)
        alone[0].update(batch["preds"], batch["target"])
        alone[1].update(batch["preds"], batch["target"], batch["indexes"], batch["row_ids"])
        alone[2].update(batch["total"], batch["num_items"])
    result = metrics.compute()
    assert sorted(result) == sorted(PREFIX + name for name in NAMES)
    expected = {**alone[0].compute(), **alone[1].compute(), "loss": alone[2].compute()}
    assert result == {PREFIX + name: value for name, value in expected.items()}
    metrics.reset()
    nothing = metrics.compute()
    assert nothing.pop(f"{PREFIX}loss") is None
    assert all(np.isnan(value) for value in nothing.values())


def run_rank(rank, world_size, rendezvous, results):
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size)
    metrics = collection()
    for batch in list(batches())[rank::world_size]:  # seven batches and six, the last of them smaller
        metrics.update(**batch)
    torch.save(metrics.compute(), f"{results}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_give_the_numbers_of_one(tmp_path):
    metrics = collection()
    for batch in batches():
        metrics.update(**batch)
    multiprocessing.spawn(run_rank, (2, tmp_path / "rendezvous", tmp_path), nprocs=2)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == metrics.compute()
