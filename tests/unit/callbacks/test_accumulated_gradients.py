"""Gradients of a window that has not stepped: those of every process are kept."""

from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy, SingleDeviceStrategy
from torch import nn

from transformers_framework.callbacks.accumulated_gradients import GRADIENTS, AccumulatedGradients


class Two(DDPStrategy):
    """The other process has ten times the gradient."""

    def all_gather(self, tensor, group=None, sync_grads=False):
        return torch.stack([tensor, 10 * tensor])


def trainer(strategy, *, batches=3, processes=1, rank=0):
    progress = SimpleNamespace(current=SimpleNamespace(processed=batches))
    return SimpleNamespace(
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
        accumulate_grad_batches=2,
        num_training_batches=9,
        strategy=strategy,
        world_size=processes,
        global_rank=rank,
    )


def saved(strategy, **traits):
    model, checkpoint = nn.Linear(2, 1), {}
    model.weight.grad = torch.tensor([[1.0, 2.0]])
    AccumulatedGradients().on_save_checkpoint(trainer(strategy, **traits), model, checkpoint)
    return checkpoint


def restored(checkpoint, **traits):
    model, window = nn.Linear(2, 1), AccumulatedGradients()
    window.on_load_checkpoint(None, model, checkpoint)
    window.on_train_start(trainer(None, **traits), model)
    assert model.bias.grad is None
    return model.weight.grad.tolist()


def test_one_process_gets_its_gradients_back():
    checkpoint = saved(SingleDeviceStrategy("cpu"))
    assert restored(checkpoint) == [[1.0, 2.0]]


@pytest.mark.parametrize(("rank", "expected"), [(0, [[1.0, 2.0]]), (1, [[10.0, 20.0]])])
def test_each_of_two_processes_gets_its_own(rank, expected):
    checkpoint = saved(Two(), processes=2)
    assert restored(checkpoint, processes=2, rank=rank) == expected


def test_another_number_of_processes_shares_the_mean():
    assert restored(saved(Two(), processes=2)) == [[5.5, 11.0]]


@pytest.mark.parametrize("batches", [4, 9])
def test_a_closed_window_has_none(batches):
    """Behind a step, and behind the last batch of an epoch, which steps whatever its number."""
    assert saved(SingleDeviceStrategy("cpu"), batches=batches) == {}


def test_strategies_that_shard_keep_none():
    assert GRADIENTS not in saved(FSDPStrategy())
