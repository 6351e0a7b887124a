"""Curves of logged metrics as SVG, which follow the colours of the page that they are in."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 30
NUM_TICKS = 5
TINY = 1e-300  # difference that is none
MOST_POINTS = 400  # of a curve; more of them are averaged


class Curve(NamedTuple):
    """A curve.

    Args:
        name: Name of the run.
        color: Number of its colour.
        points: Steps and values.
    """

    name: str
    color: int
    points: Sequence[tuple[float, float]]


def chart(title: str, curves: Sequence[Curve]) -> str:
    """Return a chart of curves over optimizer steps.

    Args:
        title: Name of the metric.
        curves: The curves; those without points are left out.
    """
    curves = [curve._replace(points=thinned(curve.points)) for curve in curves if curve.points]
    steps = ticks(*_bounds([step for curve in curves for step, _ in curve.points]))
    values = ticks(*_bounds([value for curve in curves for _, value in curve.points]))

    def x(step: float) -> float:
        return LEFT + (step - steps[0]) / (steps[-1] - steps[0]) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - values[0]) / (values[-1] - values[0]) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">']
    for value in values:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for step in steps:
        anchor = "end" if step == steps[-1] else "middle"
        parts.append(f'<text class="tick" x="{x(step):.1f}" y="{HEIGHT - 10}" text-anchor="{anchor}">{step:g}</text>')
    for curve in curves:
        line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in curve.points)
        name = html.escape(curve.name)
        parts.append(f'<polyline class="curve c{curve.color}" points="{line}"><title>{name}</title></polyline>')
        parts += [
            f'<circle class="point c{curve.color}" cx="{x(step):.1f}" cy="{y(value):.1f}" r="2.5">'
            f"<title>{name}: {value:.5g} at step {step:g}</title></circle>"
            for step, value in (curve.points if len(curve.points) <= NUM_TICKS**2 else ())
        ]
    return "".join([*parts, "</svg>"])


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    around = abs(low) / 20 or 0.5
    return (low - around, high + around) if math.isclose(low, high, abs_tol=TINY) else (low, high)


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers at equal distances that enclose a range.

    Examples:
        >>> ticks(0.13, 0.87)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        >>> ticks(3, 1200)
        [0.0, 500.0, 1000.0, 1500.0]
    """
    rough = (high - low) / NUM_TICKS
    power = 10 ** math.floor(math.log10(rough))
    size = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / size + 1e-9), math.ceil(high / size - 1e-9)
    return [float(f"{number * size:.10g}") for number in range(first, last + 1)]


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most ``MOST_POINTS`` points: the means of neighbouring ones."""
    size = -(-len(points) // MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)] if size > 1 else []
    return [(g[-1][0], math.fsum(value for _, value in g) / len(g)) for g in groups] or list(points)


def series_in(moments: Sequence[Mapping[str, object]]) -> dict[str, list[tuple[float, float]]]:
    """Return steps and values of each name that a run logged, without numbers that are not finite.

    Examples:
        >>> series_in([{"step": 1, "epoch": 0, "time": "", "loss": 2.0}, {"step": 2, "loss": None}])
        {'loss': [(1.0, 2.0)]}
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for moment in moments:
        step = moment.get("step")
        for name, value in moment.items():
            known = isinstance(value, int | float) and math.isfinite(value)
            if name not in ("step", "epoch", "time") and known and isinstance(step, int | float):
                found.setdefault(name, []).append((float(step), float(value)))  # type: ignore[arg-type]
    return found
