"""Lines about metrics: those of a validation, of a test, and what is best so far."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from transformers_framework.constants import Direction

MOST = 8  # metrics in one line


def metric_list(
    metrics: Mapping[str, float | None], stage: str, most: int = MOST, *, main: Collection[str] = ()
) -> str:
    """Return the metrics of a stage in one line: losses, main metrics, others, those of single classes.

    The name of the objective is left out if there is only one, and so is its loss, which is that of the stage.

    Args:
        metrics: Values by log name; None for those that are no numbers, as results have them.
        stage: Stage whose metrics are shown.
        most: Number of metrics to show.
        main: Main metrics, by their names without the stage.

    Examples:
        >>> metric_list({"valid/loss": 0.5, "valid/seq_class/loss": 0.5, "valid/seq_class/f1": 0.912345}, "valid")
        'loss 0.5000, f1 0.9123'
        >>> metric_list({"valid/f1_class_a": 0.5, "valid/f1": 0.7, "valid/loss": 1.0}, "valid")
        'loss 1.0000, f1 0.7000, f1_class_a 0.5000'
        >>> metric_list({"valid/f1_class_a" + chr(10) + "b": 0.5}, "valid")
        'f1_class_a b 0.5000'
        >>> metric_list({"valid/a/f1": 0.5, "valid/a/ndcg": 0.7}, "valid", main=["a/ndcg"])
        'ndcg 0.7000, f1 0.5000'
        >>> metric_list({"test/f1": None}, "test")
        'f1 nan'
        >>> metric_list({"test/a/loss": 1.0, "test/b/loss": 2.0}, "test", most=1)
        'a/loss 1.0000, and 1 more'
    """
    names = [name.removeprefix(f"{stage}/") for name in metrics if name.startswith(f"{stage}/")]
    objectives = {name.partition("/")[0] for name in names if "/" in name}
    prefix = f"{next(iter(objectives))}/" if len(objectives) == 1 else ""
    if prefix and "loss" in names:
        names = [name for name in names if name != f"{prefix}loss"]
    names.sort(key=lambda name: (name.rpartition("/")[2] != "loss", name not in main, "_class_" in name))
    values = {name: metrics[f"{stage}/{name}"] for name in names[:most]}
    shown = [f"{name.removeprefix(prefix)} {math.nan if v is None else v:.4f}" for name, v in values.items()]
    shown = [" ".join(text.split()) for text in shown]  # names of classes may have line breaks
    return ", ".join([*shown, *([f"and {len(names) - most} more"] if len(names) > most else [])])


def monitored(
    name: str, value: float, *, direction: Direction, best: float | None, where: str, waited: tuple[int, int] | None
) -> str:
    """Return the line of a monitored metric: its value, and the best so far.

    Args:
        name: Log name of the metric.
        value: Its value now.
        direction: Whether the largest or the smallest value is best.
        best: Best value before this one, None if there is none.
        where: Where that was, such as ``step 200 (epoch 1)``.
        waited: With early stopping: how many validations have not improved in a row, and the patience.

    Examples:
        >>> monitored("valid/f1", 0.9, direction="max", best=0.8, where="step 10", waited=(0, 5))
        'valid/f1 0.9000, the best so far (before: 0.8000 at step 10)'
        >>> monitored("valid/f1", 0.7, direction="max", best=0.8, where="step 10", waited=(2, 5))
        'valid/f1 0.7000; the best is 0.8000 at step 10; 2 of 5 validations without improvement (--patience)'
    """
    if math.isfinite(value) and (best is None or (value > best if direction == "max" else value < best)):
        before = "" if best is None else f" (before: {best:.4f} at {where})"
        return f"{name} {value:.4f}, the best so far{before}"
    text = f"{name} {value:.4f}" + ("" if best is None else f"; the best is {best:.4f} at {where}")
    if waited is None:
        return text
    return f"{text}; {waited[0]} of {waited[1]} validations without improvement (--patience)"
