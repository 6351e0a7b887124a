"""Schedulers: what is refused, and that a restored one goes on exactly."""

import io
import math
import pickle

import pytest
import torch

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.schedulers import schedules
from transformers_framework.schedulers.build import build_scheduler, check_schedule, needs_depth


def optimizer_over(*groups):
    groups = groups or ({},)
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(1))], **group} for group in groups], lr=0.5)


def rates(optimizer, scheduler, steps):
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return found


def test_learning_rate_follows_the_schedule():
    optimizer = optimizer_over()
    scheduler = build_scheduler(optimizer, schedules.linear_decay, 6, {"num_warmup_steps": 2})
    assert rates(optimizer, scheduler, 8) == [[0.0], [0.25], [0.5], [0.375], [0.25], [0.125], [0.0], [0.0]]


def test_a_frequency_holds_the_learning_rate_between_updates():
    optimizer = optimizer_over()
    scheduler = build_scheduler(optimizer, schedules.linear_decay, 8, {}, frequency=3)
    assert rates(optimizer, scheduler, 9) == [[0.5]] * 3 + [[0.3125]] * 3 + [[0.125]] * 3


def test_each_depth_has_its_learning_rate():
    optimizer = optimizer_over(*({"depth": depth, "last_depth": last} for depth, last in [(0, 2), (2, 2), (1, 3)]))
    options = {"layerwise_lr_decay_power": 0.5, "decay_power": 1.0}
    scheduler = build_scheduler(optimizer, schedules.polynomial_decay_layerwise, 2, options)
    assert rates(optimizer, scheduler, 2) == [[0.125, 0.5, 0.125], [0.0625, 0.25, 0.0625]]


@pytest.mark.parametrize("name", ["cosine", "polynomial_decay_layerwise", "normal_decay"])
def test_restored_scheduler_goes_on_exactly(name):
    schedule = getattr(schedules, name)

    def build():
        optimizer = optimizer_over({"depth": 0, "last_depth": 2}, {"depth": 2, "last_depth": 2})
        return optimizer, build_scheduler(optimizer, schedule, 20, {"num_warmup_steps": 3})

    optimizer, scheduler = build()
    rates(optimizer, scheduler, 9)
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, file)
    expected = rates(optimizer, scheduler, 15)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    optimizer, scheduler = build()
    optimizer.load_state_dict(saved["optimizer"])
    scheduler.load_state_dict(saved["scheduler"])
    assert rates(optimizer, scheduler, 15) == expected
    assert pickle.loads(pickle.dumps(scheduler)).get_last_lr() == scheduler.get_last_lr()


def test_warmup_longer_than_the_run_is_refused():
    with pytest.raises(ConfigurationError, match="--num_warmup_steps: 11 is more than the 10 steps"):
        build_scheduler(optimizer_over(), schedules.linear_decay, 10, {"num_warmup_steps": 11})
    assert check_schedule(schedules.linear_decay, 10, {"num_warmup_steps": 10}) == 10


@pytest.mark.parametrize("total", [None, math.inf])
def test_unknown_length(total):
    with pytest.raises(ConfigurationError, match=r"--scheduler cosine: .*--max_steps, or use one of constant, sqrt"):
        build_scheduler(optimizer_over(), schedules.cosine, total, {})
    optimizer = optimizer_over()
    scheduler = build_scheduler(optimizer, schedules.sqrt_decay, total, {"num_warmup_steps": 1})
    assert rates(optimizer, scheduler, 5) == [[0.0], [0.5], [0.5 / math.sqrt(2)], [0.5 / math.sqrt(3)], [0.25]]


def test_only_the_layerwise_schedule_needs_depth():
    from transformers_framework.registry import SCHEDULERS, resolve

    assert [name for name in SCHEDULERS if needs_depth(resolve(SCHEDULERS[name]))] == ["polynomial_decay_layerwise"]
