"""Each schedule against its formula, written out here."""

import math

import pytest

from transformers_framework.schedulers import schedules

W, T = 100, 1100
STEPS = (0, 1, 50, 99, 100, 101, 600, 1099, 1100)


def after_warmup(decayed):
    return lambda t: t / W if t < W else decayed(t)


FORMULAS = {
    "constant": ({}, after_warmup(lambda t: 1.0)),
    "linear_decay": ({}, after_warmup(lambda t: (T - t) / (T - W))),
    "cosine": ({}, after_warmup(lambda t: (1 + math.cos(math.pi * (t - W) / (T - W))) / 2)),
    "cosine/2": (
        {"num_cycles": 2.0},
        after_warmup(lambda t: 0.5 * (1 + math.cos(2 * math.pi * 2.0 * (t - W) / (T - W)))),
    ),
    "polynomial_decay": ({}, after_warmup(lambda t: (T - t) / (T - W))),
    "polynomial_decay/3": ({"decay_power": 3.0}, after_warmup(lambda t: ((T - t) / (T - W)) ** 3)),
    "polynomial_decay_layerwise": (
        {"depth": 1, "last_depth": 4, "decay_power": 2.0, "layerwise_lr_decay_power": 0.7},
        lambda t: 0.7**3 * (t / W if t < W else ((T - t) / (T - W)) ** 2),
    ),
    "sqrt_decay": ({}, after_warmup(lambda t: 1 / math.sqrt(max(t, W) / W))),
    "normal_decay": ({}, lambda t: math.exp(-((2 * (t - W) / W if t < W else (t - W) / T) ** 2))),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_schedule_is_its_formula(name):
    options, formula = FORMULAS[name]
    schedule = getattr(schedules, name.partition("/")[0])
    for step in STEPS:
        assert schedule(step, T, num_warmup_steps=W, **options) == pytest.approx(formula(step), abs=1e-12), step
    assert schedule(T + 1, T, num_warmup_steps=W, **options) == schedule(T, T, num_warmup_steps=W, **options)
    assert schedule(10 * T, T, num_warmup_steps=W, **options) == schedule(T, T, num_warmup_steps=W, **options)


@pytest.mark.parametrize(
    ("name", "at_start", "at_end"),
    [
        ("constant", 1.0, 1.0),
        ("linear_decay", 1.0, 0.0),
        ("cosine", 1.0, 0.0),
        ("polynomial_decay", 1.0, 0.0),
        ("sqrt_decay", 1.0, 0.1),
        ("normal_decay", 1.0, math.exp(-1)),
    ],
)
def test_without_warmup(name, at_start, at_end):
    schedule = getattr(schedules, name)
    assert schedule(0, 100) == at_start
    assert schedule(100, 100) == pytest.approx(at_end)


@pytest.mark.parametrize(
    "name", ["constant", "linear_decay", "cosine", "polynomial_decay", "sqrt_decay", "normal_decay"]
)
def test_warmup_as_long_as_the_run_ends_at_the_top(name):
    schedule = getattr(schedules, name)
    assert schedule(10, 10, num_warmup_steps=10) == 1.0
    assert schedule(11, 10, num_warmup_steps=10) == 1.0
    assert schedule(5, 10, num_warmup_steps=10) == (math.exp(-1) if name == "normal_decay" else 0.5)


def test_embeddings_learn_least_and_heads_learn_fully():
    factors = [
        schedules.polynomial_decay_layerwise(0, 10, depth, 3, layerwise_lr_decay_power=0.5) for depth in range(4)
    ]
    assert factors == [0.125, 0.25, 0.5, 1.0]
