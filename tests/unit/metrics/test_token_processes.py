"""Metrics of tokens in a torchmetrics collection, over two real processes."""

import pytest
import torch
from torch import distributed, multiprocessing
from torchmetrics import MetricCollection

from tests.tolerances import approx
from transformers_framework.metrics.mean_loss import MeanLoss
from transformers_framework.metrics.token_detection import TokenDetection
from transformers_framework.metrics.token_prediction import TokenPrediction

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")


VOCABULARY = 20


def collection():
    return MetricCollection(
        {"tokens": TokenPrediction(vocab_size=VOCABULARY), "detection": TokenDetection(), "loss": MeanLoss()}
    )


def batches(n=101, size=8):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-20, 20, (n,), generator=generator).clamp(min=-1)
    labels[labels == -1] = -100
    correct = (torch.rand(n, generator=generator) < 0.4) & (labels >= 0)
    losses = torch.where(labels >= 0, torch.rand(n, generator=generator), 0.0)
    target = torch.where(labels >= 0, labels % 2, -100)
    for part in torch.arange(n).split(size):
        total = losses[part].sum()
        yield {
            "losses_sum": total,
            "correct": correct[part],
            "labels": labels[part],
            "preds": correct[part],
            "target": target[part],
            "total": total,
            "num_items": (labels[part] >= 0).sum(),
        }


def run_rank(rank, world_size, rendezvous, results):
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size)
    metrics = collection()
    for batch in list(batches())[rank::world_size]:  # seven batches and six, the last of them smaller
        metrics.update(**batch)
    first = metrics.compute()
    metrics.reset()
    for batch in list(batches())[:: rank + 1]:  # an epoch later nothing of the first is left
        metrics.update(**batch)
    torch.save((first, metrics.compute()), f"{results}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_give_the_numbers_of_one(tmp_path):
    wanted = []
    for parts in (list(batches()), [*batches(), *list(batches())[::2]]):
        metrics = collection()
        for batch in parts:
            metrics.update(**batch)
        wanted.append(metrics.compute())
        whole = {name: torch.cat([batch[name].reshape(-1) for batch in parts]) for name in parts[0]}
        whole["losses_sum"] = whole["total"] = whole["losses_sum"].sum()
        whole["num_items"] = whole["num_items"].sum()
        metrics.reset()
        metrics.update(**whole)
        assert metrics.compute() == approx(wanted[-1])
    multiprocessing.spawn(run_rank, (2, tmp_path / "rendezvous", tmp_path), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert list(found) == [pytest.approx(values, rel=1e-9) for values in wanted]
        assert len(found[0]) == 9
