"""Draws the data of details: confusion matrices, reliability, precision and recall, ranks and scores of positives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from transformers_framework.metrics.calibration import Reliability
from transformers_framework.metrics.confusion import Confusion
from transformers_framework.metrics.first_positive import FirstPositives, ScoresByRank
from transformers_framework.metrics.thresholds import PrecisionRecall
from transformers_framework.reports.figures.canvas import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    MOST_POINTS,
    ORANGE,
    RED,
    canvas,
    png,
    shortened,
    whole_numbers,
    with_thousands,
)

MOST_NUMBERED = 20  # classes; in larger matrices, only colours fit
RANKS = (*((rank, rank) for rank in range(1, 11)), (11, 20), (21, 50), (51, 100), (101, None))


def draw(figure: object, of: str) -> bytes:
    """Return a figure as PNG.

    Args:
        figure: Data of a figure, of a type that is known here.
        of: What the figure is about, such as "test".

    Raises:
        KeyError: When the type is unknown.
    """
    return DRAWN[type(figure)](figure, of)


def draw_confusion(data: Confusion, of: str) -> bytes:
    """Return the confusion matrix of at most 50 classes, coloured by the share of each row."""
    from matplotlib.colors import PowerNorm

    names, counts = data.matrix()
    size = len(names)
    cell = 1.3 if size <= 4 else 0.62 if size <= 12 else 0.48 if size <= MOST_NUMBERED else 0.235
    labels = [shortened(name) for name in names]
    names_width, is_upright = 0.085 * max(map(len, labels)), not _fits(labels, cell)
    width = max(6.0, size * cell + names_width + 2.2)
    height = max(4.2, size * cell + (names_width if is_upright else 0.2) + 1.3)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with canvas(width=width, height=height) as (figure, (axes,)):
        # without numbers, rare confusions must be visible by their colour
        norm = PowerNorm(1.0 if size <= MOST_NUMBERED else 0.5, vmin=0, vmax=1)
        image = axes.imshow(shares, cmap="Blues", norm=norm, aspect="equal")
        small = 8 if size > MOST_NUMBERED else 10
        axes.set_xticks(range(size), labels, rotation=90 if is_upright else 0, fontsize=small)
        axes.set_yticks(range(size), labels, fontsize=small)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
        axes.grid(visible=True, which="minor", color="white", linewidth=1)
        axes.tick_params(which="minor", length=0)
        axes.spines[:].set_visible(False)
        if size <= MOST_NUMBERED:
            for (row, column), count in np.ndenumerate(counts):
                colour = "white" if shares[row, column] > 0.55 else BLACK if count else GREY
                text = with_thousands(count) if count < 10_000 else f"{count / 1000:,.0f}k"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9 if size > 12 else 10)
        axes.set_xlabel("predicted")
        axes.set_ylabel("label")
        right = int(data.counts[data.labels == data.preds].sum())
        accuracy = f"accuracy {right / max(1, data.total):.3f}"
        axes.set_title(f"Confusion matrix, {of}\n{data.total:,} {data.unit}, {accuracy}")
        bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, label=f"share of the {data.unit} of a label")
        bar.outline.set_visible(False)
        return png(figure)


def draw_reliability(data: Reliability, of: str) -> bytes:
    """Return the reliability diagram, above the number of predictions in each bin."""
    probability, right = data.means
    edges = np.linspace(0, 1, len(data.counts) + 1)
    with canvas(2, height=6.0, ratios=(3, 1)) as (figure, (above, below)):
        above.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="perfectly calibrated")
        there = data.counts > 0
        above.plot(probability[there], right[there], color=BLUE, marker="o", label="model")
        second = "share of positives" if data.of_positives else "accuracy"
        above.set_ylabel(second)
        above.set_ylim(-0.02, 1.02)
        above.set_xlim(-0.01, 1.01)
        above.legend(loc="upper left")
        error = f"expected calibration error {data.error:.3f} ({len(data.counts)} bins)"
        above.set_title(f"Reliability, {of}\n{error}")
        below.bar(edges[:-1], data.counts, width=np.diff(edges), align="edge", color=BLUE, edgecolor="white")
        below.set_ylabel("predictions")
        whole_numbers(below.yaxis, most=4)
        below.set_xlabel(f"probability of the {'positive' if data.of_positives else 'predicted'} class")
        return png(figure)


def draw_precision_recall(data: PrecisionRecall, of: str) -> bytes:
    """Return precision, recall and F1 over the threshold."""
    best = data.best
    with canvas() as (figure, (axes,)):
        kept = np.unique(np.linspace(0, len(data.thresholds) - 1, MOST_POINTS).astype(np.int64))
        lines = (
            ("precision", data.precision, BLUE, "-"),
            ("recall", data.recall, RED, "--"),
            ("F1", data.f1, GREEN, "-."),
        )
        for name, values, colour, dashes in lines:
            axes.plot(data.thresholds[kept], values[kept], color=colour, linestyle=dashes, label=name)
        mark = f"best F1 {data.f1[best]:.3f} at {data.thresholds[best]:.3g}"
        axes.plot(data.thresholds[best], data.f1[best], marker="o", color=GREEN, linestyle="none", label=mark)
        if data.used is not None and np.isfinite(data.used):
            axes.axvline(
                data.used, color=GREY, linewidth=1.2, linestyle=":", label=f"threshold of predictions, {data.used:.3g}"
            )
        axes.axhline(data.share, color=ORANGE, linewidth=1.0, label=f"share of positives, {data.share:.3f}")
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel(f"threshold ({data.score})")
        axes.set_ylabel("precision, recall, F1")
        axes.set_title(f"Precision and recall over thresholds, {of}\naverage precision {data.average_precision:.3f}")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=10)
        return png(figure)


def draw_first_positives(data: FirstPositives, of: str) -> bytes:
    """Return the number of queries by the rank of their first positive."""
    ranks, total = data.ranks, max(1, len(data.ranks))
    deepest = int(ranks.max(initial=1))
    spans = [(first, last) for first, last in RANKS if first <= deepest]
    counts = [int(((ranks >= first) & (ranks <= (last or deepest))).sum()) for first, last in spans]
    names = list(map(_span, spans))
    if missing := int((ranks == 0).sum()):
        counts, names = [*counts, missing], [*names, "not found" if data.depth is None else f"not in\ntop {data.depth}"]
    with canvas() as (figure, (axes,)):
        bars = axes.bar(
            range(len(counts)), counts, color=[GREY if n.startswith("not") else BLUE for n in names], width=0.75
        )
        axes.bar_label(bars, [_percent(count / total) for count in counts], padding=2, fontsize=10)
        axes.set_xticks(range(len(counts)), names, fontsize=9)
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.1)
        whole_numbers(axes.yaxis)
        axes.set_xlabel("rank of the first positive")
        axes.set_ylabel("queries")
        found = ranks[ranks > 0]
        reciprocal = float(np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0).mean()) if len(ranks) else float("nan")
        median = f"median {np.median(found):g}, " if len(found) else ""
        axes.set_title(
            f"Rank of the first positive, {of}\n{len(ranks):,} queries, {median}mean reciprocal rank {reciprocal:.3f}"
        )
        return png(figure)


def draw_scores_by_rank(data: ScoresByRank, of: str) -> bytes:
    """Return the scores of the first positive and of the first candidate over the rank of the first positive."""
    deepest = int(data.ranks.max(initial=1))
    spans = [(first, last) for first, last in RANKS if first <= deepest]
    inside = [(data.ranks >= first) & (data.ranks <= (last or deepest)) for first, last in spans]
    kept = [number for number, queries in enumerate(inside) if queries.any()]
    with canvas() as (figure, (axes,)):
        for name, scores, colour, dashes in (
            ("first candidate", data.first, RED, "--"),
            ("first positive", data.positive, BLUE, "-"),
        ):
            low, median, high = np.array([np.quantile(scores[inside[n]], (0.25, 0.5, 0.75)) for n in kept]).T
            axes.fill_between(kept, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(kept, median, color=colour, linestyle=dashes, marker="o", label=f"{name}: median, quartiles")
        axes.set_xticks(range(len(spans)), list(map(_span, spans)), fontsize=9)
        axes.set_xlim(-0.5, len(spans) - 0.5)
        axes.set_xlabel("rank of the first positive")
        axes.set_ylabel(data.score)
        axes.set_title(f"Scores by the rank of the first positive, {of}\n{len(data.ranks):,} queries with a positive")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=10)
        return png(figure)


def _span(span: tuple[int, int | None]) -> str:
    """Return a text with the ranks from one to another."""
    first, last = span
    return str(first) if first == last else f"{first}–{last}" if last else f"over {first - 1}"


def _percent(share: float) -> str:
    """Return a share in percent; nothing for none."""
    return "" if not share else "< 1 %" if share < 0.005 else f"{100 * share:.0f} %"


def _fits(labels: list[str], cell: float) -> bool:
    """Return whether names fit beside each other below cells of a width in inches."""
    return max(map(len, labels)) * 0.09 < cell


DRAWN: dict[type, Callable[[Any, str], bytes]] = {
    Confusion: draw_confusion,
    FirstPositives: draw_first_positives,
    PrecisionRecall: draw_precision_recall,
    Reliability: draw_reliability,
    ScoresByRank: draw_scores_by_rank,
}
