"""Learning curves from ``metrics.jsonl``: losses, the monitored metric and the learning rate over steps."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transformers_framework.reports.figures.canvas import (
    BLUE,
    GREEN,
    GREY,
    MOST_POINTS,
    RED,
    canvas,
    png,
    whole_numbers,
)

TRAIN_LOSS, VALID_LOSS, LEARNING_RATE = "train/loss", "valid/loss", "train/learning_rate"

Curve = tuple[NDArray[np.int64], NDArray[np.float64]]  # steps and values


@dataclass(frozen=True)
class LearningCurves:
    """Values of logged names over the optimizer steps.

    Args:
        curves: Steps ``(N,) int64`` and values ``(N,) float64`` of each name that has values.
        monitor: Name of the monitored metric.
        best: Step and value of the best state, which is marked. It need not be the best that was logged: losses of
            training are logged at steps, and compared at the ends of epochs.
    """

    curves: dict[str, Curve]
    monitor: str | None = None
    best: tuple[int, float] | None = None


def read_curves(
    lines: Iterable[str], monitor: str | None = None, best: tuple[int, float] | None = None, most: int = MOST_POINTS
) -> LearningCurves:
    """Return the learning curves in the lines of ``metrics.jsonl``; long ones as means of consecutive values.

    Args:
        lines: One JSON object per logged moment. Values that are null, and lines that are incomplete, are left out.
        monitor: Name of the monitored metric.
        best: Step and value of the best state.
        most: Number of points of a curve.

    Examples:
        >>> found = read_curves(['{"step": 1, "train/loss": 2.0}', '{"step": 2, "train/loss": null, "valid/loss": 3}'])
        >>> {name: (steps.tolist(), values.tolist()) for name, (steps, values) in found.curves.items()}
        {'train/loss': ([1], [2.0]), 'valid/loss': ([2], [3.0])}
    """
    wanted = dict.fromkeys(name for name in (TRAIN_LOSS, VALID_LOSS, monitor, LEARNING_RATE) if name)
    points: dict[str, list[tuple[int, float]]] = {name: [] for name in wanted}
    for line in lines:
        try:
            moment = json.loads(line)
        except ValueError:
            continue
        for name, of_name in points.items():
            value = moment.get(name)
            if value is not None and math.isfinite(value):
                of_name.append((moment["step"], value))
    # a monitored metric keeps all values, one of which is marked
    curves = {name: thinned(of_name, len(of_name) if name == monitor else most) for name, of_name in points.items()}
    return LearningCurves({name: curve for name, curve in curves.items() if len(curve[0])}, monitor, best)


def thinned(points: list[tuple[int, float]], most: int) -> Curve:
    """Return at most so many points: means of consecutive values, at the last of their steps.

    Examples:
        >>> steps, values = thinned([(1, 4.0), (2, 2.0), (3, 1.0), (4, 0.0)], most=2)
        >>> steps.tolist(), values.tolist()
        ([2, 4], [3.0, 0.5])
    """
    steps, values = (
        np.array([step for step, _ in points], dtype=np.int64),
        np.array([value for _, value in points], dtype=np.float64),
    )
    if len(points) <= most:
        return steps, values
    starts = np.linspace(0, len(points), most + 1).astype(np.int64)[:-1]
    ends = np.append(starts[1:], len(points))
    return steps[ends - 1], np.add.reduceat(values, starts) / (ends - starts)


def curves_of_file(path: Path, monitor: str | None, best: tuple[int, float] | None) -> LearningCurves | None:
    """Return the learning curves in a file; None if there is no file, or no step in it."""
    if not path.exists():
        return None
    with path.open(encoding="utf-8") as lines:
        found = read_curves(lines, monitor, best)
    return found if found.curves else None


def draw_curves(data: LearningCurves, of: str) -> bytes:
    """Return losses, monitored metric and learning rate as PNG, one panel each."""
    losses = [name for name in (TRAIN_LOSS, VALID_LOSS) if name in data.curves]
    panels = [losses] if losses else []
    if data.monitor in data.curves and data.monitor not in losses:
        panels.append([str(data.monitor)])
    if LEARNING_RATE in data.curves:
        panels.append([LEARNING_RATE])
    ratios = tuple(0.6 if names == [LEARNING_RATE] else 1.0 for names in panels)
    with canvas(len(panels), height=1.2 + 2.3 * sum(ratios), ratios=ratios) as (figure, axes):
        for panel, names in zip(axes, panels, strict=True):
            for name in names:
                steps, values = data.curves[name]
                few = len(steps) <= 60
                colour = {TRAIN_LOSS: BLUE, LEARNING_RATE: GREY}.get(name, RED if name == VALID_LOSS else GREEN)
                dashes = "--" if name == VALID_LOSS else "-"
                panel.plot(steps, values, color=colour, linestyle=dashes, marker="o" if few else None, ms=4, label=name)
            if data.monitor in names and data.best is not None:
                step, value = data.best
                label = f"best: {value:.4g} at step {step:,}"
                panel.plot(step, value, marker="*", ms=13, color="#000000", linestyle="none", label=label)
            panel.set_ylabel("loss" if names == losses else "learning rate" if names == [LEARNING_RATE] else "metric")
            if names != [LEARNING_RATE]:
                panel.legend(loc="best", fontsize=10)
            panel.margins(y=0.08)
        axes[-1].set_xlabel("optimizer step")
        whole_numbers(axes[-1].xaxis)
        axes[0].set_title(f"Learning curves, {of}")
        return png(figure)
