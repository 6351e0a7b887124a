"""Figures: the data of learning curves and lengths, and that each is drawn as a PNG with the same bytes."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from transformers_framework.metrics.calibration import reliability
from transformers_framework.metrics.confusion import count_pairs
from transformers_framework.metrics.first_positive import FirstPositives, ScoresByRank
from transformers_framework.metrics.thresholds import precision_recall
from transformers_framework.reports.figures.drawing import draw
from transformers_framework.reports.figures.learning_curves import curves_of_file, draw_curves, read_curves
from transformers_framework.reports.figures.lengths import Lengths, draw_lengths

MONITOR = "valid/seq_class/accuracy"
MOMENTS = [
    {"step": 1, "epoch": 0, "time": "2024-01-01T00:00:00", "train/loss": 2.0, "train/learning_rate": 1e-4},
    {"step": 2, "train/loss": None, "train/learning_rate": 5e-5},
    {"step": 2, "valid/loss": 1.5, MONITOR: 0.5},
    {"step": 4, "valid/loss": 1.0, MONITOR: 0.75},
    {"step": 6, "valid/loss": 1.2, MONITOR: 0.75},
]


def size_of(image: bytes) -> tuple[int, int]:
    from PIL import Image

    return Image.open(io.BytesIO(image)).size


def test_learning_curves_are_those_of_the_metrics_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert curves_of_file(path, None, None) is None
    path.write_text("".join(f"{json.dumps(moment)}\n" for moment in MOMENTS) + '{"step": 7, "trai', encoding="utf-8")
    found = curves_of_file(path, MONITOR, (4, 0.75))
    assert {name: (steps.tolist(), values.tolist()) for name, (steps, values) in found.curves.items()} == {
        "train/loss": ([1], [2.0]),
        "valid/loss": ([2, 4, 6], [1.5, 1.0, 1.2]),
        MONITOR: ([2, 4, 6], [0.5, 0.75, 0.75]),
        "train/learning_rate": ([1, 2], [1e-4, 5e-5]),
    }
    assert found.best == (4, 0.75)
    lines = path.read_text("utf-8").splitlines()
    assert size_of(draw_curves(found, "a run"))[0] == 800
    assert size_of(draw_curves(read_curves(lines, "valid/loss", (4, 1.0)), "a run"))[0] == 800


@pytest.mark.parametrize("num_classes", [2, 3, 20, 50, 300])
def test_confusion_matrices_of_any_number_of_classes_are_drawn(num_classes):
    labels = np.arange(2 * num_classes) % num_classes
    data = count_pairs([f"class {n} $x^2$ <&>" for n in range(num_classes)], labels, labels[::-1])
    width, height = size_of(draw(data, "test of $a_run$"))
    assert 450 <= height <= width <= 1700


@pytest.mark.parametrize(
    "data",
    [
        reliability([0.1, 0.9, 0.95], [False, True, True]),
        precision_recall([0.2, 0.7, 0.9], [False, True, False], used=0.5),
        precision_recall(np.linspace(-1, 1, 5000), np.arange(5000) % 2, score="score", used=None),
        FirstPositives(np.array([1, 2, 0, 300])),
        FirstPositives(np.array([1, 1]), depth=10),
        ScoresByRank(np.array([1, 2, 2, 300]), np.array([3, 1, 0, -2.0]), np.array([3, 2, 1, 4.0]), "similarity"),
    ],
)
def test_figures_are_drawn_with_the_same_bytes_each_time(data):
    image = draw(data, "test")
    assert size_of(image)[0] == 800
    assert image == draw(data, "test")


def test_lengths_are_drawn():
    data = Lengths({"train": np.array([3, 5, 16]), "test": np.array([4])}, {"train": 0.3, "test": 0.0}, 16)
    assert size_of(draw_lengths(data, "a run")) == (800, 500)
