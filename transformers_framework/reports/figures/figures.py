"""Draws the figures of a run when it has ended: PNG files beside the predictions, and images in loggers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import pytorch_lightning as pl

from transformers_framework.distributed.ranks import is_rank_zero
from transformers_framework.loggers.interface import log_figure
from transformers_framework.optional_packages import is_installed, require_packages
from transformers_framework.reports.details import stage_details
from transformers_framework.run_parts import EndsRun
from transformers_framework.storage.atomic import atomic_file

if TYPE_CHECKING:
    from transformers_framework.constants import Stage
    from transformers_framework.run_parts import Run

FOLDER = "figures"
TESTED: Stage = "test"

logger = logging.getLogger(__name__)


class Figures(pl.Callback, EndsRun):
    """Writes learning curves, lengths, and the figures of the details of objectives, on rank 0."""

    def on_run_end(self, run: Run) -> None:
        """Draw each figure; one that fails is a warning."""
        if not is_rank_zero():
            return
        folder, drawn = run.folders.predictions / FOLDER, 0
        for name, image in images(run):
            try:
                content = image()
                if content is None:
                    continue
                png = folder / f"{name}.png"
                with atomic_file(png) as aside:
                    aside.write_bytes(content)
                log_figure(run.trainer.loggers, f"{FOLDER}/{name}", png, step=run.trainer.global_step)
                drawn += 1
            except Exception as error:  # a figure must not fail a run that has succeeded
                logger.warning("The figure %s is left out: %r", name, error)
                logger.debug("The figure %s", name, exc_info=True)
        if drawn:
            logger.info("%d figures are in %s", drawn, folder)


def figures(run: Run, *, figures: bool | None = None) -> Figures | None:
    """Return the callback that draws figures; None without matplotlib, or if the run writes no files.

    Args:
        run: The run.
        figures: Draw figures of the run, beside its predictions and in loggers: learning curves, lengths, confusion
            matrix, reliability, precision and recall over thresholds, rank of the first positive. By default if
            matplotlib is installed (extra `plots`).

    Raises:
        MissingDependencyError: When ``--figures`` is given without matplotlib.
    """
    if figures is False or not run.writes:
        return None
    if figures:
        require_packages("matplotlib", needed_by="--figures", extra="plots")
    if not is_installed("matplotlib"):
        logger.debug("There are no figures: matplotlib is not installed (extra plots).")
        return None
    return Figures()


def images(run: Run) -> Iterator[tuple[str, Callable[[], bytes | None]]]:
    """Yield the name of each figure of a run and the function that draws it."""
    from transformers_framework.reports.figures.drawing import draw
    from transformers_framework.reports.figures.lengths import draw_lengths, sample_lengths

    if run.data.has("train"):
        yield "learning_curves", partial(_learning_curves, run)
    try:
        lengths = sample_lengths(run)  # once for all of their figures
    except Exception as error:  # the others are drawn
        logger.warning("The figures of lengths are left out: %r", error)
    else:
        yield from ((name, partial(draw_lengths, data, run.folders.name)) for name, data in lengths.items())
    found = stage_details(run, TESTED)
    for objective, details in found.items():
        for name, data in details.figures.items():
            prefix = f"{TESTED}.{objective}" if len(found) > 1 else TESTED
            yield f"{prefix}.{name}", partial(draw, data, f"{TESTED} of {run.folders.name}")


def _learning_curves(run: Run) -> bytes | None:
    from transformers_framework.callbacks.checkpoints import best_of
    from transformers_framework.reports.figures.learning_curves import curves_of_file, draw_curves

    best = best_of(run.trainer)
    marked = None if best is None else (best["step"], best["value"])
    data = curves_of_file(run.folders.metrics, run.selection.monitor, marked)
    return None if data is None else draw_curves(data, run.folders.name)
