"""How long a run trains where no flag says so."""

from __future__ import annotations

import math
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from tests import runs
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.registry import PIPELINES, pipeline_spec
from transformers_framework.runtime.steps import Steps, default_epochs, has_default_length

PRE_TRAINING = {
    "masked_lm",
    "swapped_lm",
    "random_token_detection",
    "cluster_random_token_detection",
    "token_detection_and_masked_lm",
    "denoising",
    "structural_pretraining",
}


def test_which_pipelines_pre_train() -> None:
    own = PIPELINES.keys() & runs.PIPELINE_FLAGS.keys()  # plug-ins of other tests may be there
    assert {name for name in own if pipeline_spec(name).pre_trains} == PRE_TRAINING
    assert not pipeline_spec("masked_lm+seq_class").pre_trains
    assert not pipeline_spec("masked_lm_and_seq_class").pre_trains


@pytest.mark.parametrize(
    ("flags", "is_default"),
    [
        ({}, True),
        ({"max_steps": -1, "max_epochs": None, "max_time": None, "fast_dev_run": False}, True),
        ({"max_epochs": 0}, False),
        ({"max_epochs": -1}, False),
        ({"max_steps": 10}, False),
        ({"max_time": "00:01:00:00"}, False),
        ({"fast_dev_run": True}, False),
    ],
)
def test_what_sets_the_length(flags: dict[str, object], is_default: bool) -> None:
    assert has_default_length(flags) is is_default


def test_the_default_length() -> None:
    assert default_epochs({}, pre_trains=False) == 3
    assert default_epochs({"min_epochs": 5}, pre_trains=False) == 5
    with pytest.raises(ConfigurationError, match=r"--max_steps or --max_epochs is needed.*Give the number"):
        default_epochs({}, pre_trains=True)


def simulated(steps: Steps, trainer: SimpleNamespace) -> int:
    """Return the step of the last validation as Lightning's loops come to it, batch by batch."""
    interval, each = trainer.val_check_interval, trainer.check_val_every_n_epoch
    every = max(1, int(steps.batches * interval)) if isinstance(interval, float) else interval
    step = last = total = 0
    for epoch in range(int(steps.epochs)):
        for batch in range(1, int(steps.batches) + 1):
            total += 1
            step += batch % trainer.accumulate_grad_batches == 0 or batch == steps.batches
            counted = batch if each is not None else total
            if counted % every == 0 and (each is None or (epoch + 1) % each == 0):
                last = step
            if step == steps.total:
                return last
    return last


def test_the_step_of_the_last_validation() -> None:
    found: dict[bool, int] = {True: 0, False: 0}
    ways = product((1, 3), (1.0, 0.5, 0.3, 2, 7), (1, 2, None), range(1, 4), (-1, 1, 5, 9, 14))
    for group, interval, every, epochs, most in ways:
        if every is None and isinstance(interval, float):
            continue  # Lightning refuses it
        trainer: Any = SimpleNamespace(accumulate_grad_batches=group, val_check_interval=interval)
        trainer.check_val_every_n_epoch = every
        per_epoch = math.ceil(7 / group)
        total = per_epoch * epochs if most == -1 else min(per_epoch * epochs, most)
        steps = Steps(epochs, 7, per_epoch, total)
        last = simulated(steps, trainer)
        assert steps.last_validation(trainer) == last, (trainer, epochs, most)
        found[last == total] += 1
    assert min(found.values()) > 50


@pytest.mark.parametrize("interval", ["00:00:10:00", None])
def test_validations_by_time_have_no_known_last_step(interval: str | None) -> None:
    trainer: Any = SimpleNamespace(accumulate_grad_batches=1, val_check_interval=interval, check_val_every_n_epoch=1)
    assert Steps(3, 7, 7, 21).last_validation(trainer) == 0
    trainer.val_check_interval = 1.0
    assert Steps(math.inf, math.inf, math.inf, 10).last_validation(trainer) == 0
    trainer.val_check_interval, trainer.check_val_every_n_epoch = 4, None
    assert Steps(math.inf, math.inf, math.inf, 10).last_validation(trainer) == 8
