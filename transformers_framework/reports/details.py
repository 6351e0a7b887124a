"""Details of the test stage by objective, computed once from the files of predictions, for results and figures."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from transformers_framework.distributed.ranks import is_rank_zero
from transformers_framework.objectives.capabilities import Details
from transformers_framework.objectives.details.predicted import Predicted
from transformers_framework.objectives.details.stage_details import StageDetails
from transformers_framework.objectives.objective import active
from transformers_framework.reports.errors import NAME, markdown
from transformers_framework.restricted import NonNegativeInt
from transformers_framework.run_parts import EndsRun
from transformers_framework.runtime.loops import find_callback
from transformers_framework.storage.atomic import atomic_file, remove

if TYPE_CHECKING:
    from transformers_framework.constants import Stage
    from transformers_framework.run_parts import Run

logger = logging.getLogger(__name__)

DETAILED: tuple[Stage, ...] = ("test",)  # stages whose rows are predicted and have checked labels


class DetailsReport(pl.Callback, EndsRun):
    """Computes the details of stages from their predictions when they are first asked for, and writes mistakes.

    Args:
        num_mistakes: Number of mistakes to list for each objective.
    """

    def __init__(self, num_mistakes: int) -> None:
        self.num_mistakes = num_mistakes
        self._found: dict[Stage, dict[str, StageDetails]] = {}

    def of(self, run: Run, stage: Stage) -> dict[str, StageDetails]:
        """Return the details of each objective that reports some."""
        if stage not in self._found:
            self._found[stage] = self._computed(run, stage) if stage in DETAILED and run.data.has(stage) else {}
        return self._found[stage]

    def _computed(self, run: Run, stage: Stage) -> dict[str, StageDetails]:
        objectives, found = active(run.objectives, stage), {}
        parts: list[tuple[str, str, object]] = [
            (objective.name, f".{objective.name}" if len(objectives) > 1 else "", objective) for objective in objectives
        ]
        parts += [(name, f".{name}", part) for part in run.pipeline_callbacks if (name := getattr(part, "name", None))]
        for name, suffix, part in parts:
            path = run.folders.predictions / f"{stage}{suffix}.jsonl"
            if not isinstance(part, Details) or not path.exists():
                continue
            try:
                found[name] = part.details(Predicted(path), self.num_mistakes)
            except Exception as error:  # a report must not fail a run that has succeeded
                logger.warning("%s: no details of %s in results and figures: %r", path, name, error)
                logger.debug("Details of %s", path, exc_info=True)
        return found

    def on_run_end(self, run: Run) -> None:
        """Write the mistakes with their texts."""
        if not run.trainer.is_global_zero or not run.data.has("test"):
            return
        mistakes = {name: found.mistakes for name, found in stage_details(run, "test").items() if found.mistakes}
        path = run.folders.predictions / NAME
        try:
            if not mistakes:
                remove(path)  # of an earlier test
                return
            with atomic_file(path) as aside, aside.open("w", encoding="utf-8", errors="backslashreplace") as file:
                title = f"Errors of {run.folders.name} in testing"
                file.writelines(f"{line}\n" for line in markdown(title, mistakes))
        except OSError as error:
            logger.warning("%s cannot be written (%s). Free some space and test again.", path, error.strerror)
        else:
            logger.info("The most confident mistakes are in %s", path)


def details_report(run: Run, *, errors: NonNegativeInt = 50) -> DetailsReport | None:
    """Return the callback that computes details of the test stage; None if the run writes no files.

    Args:
        run: The run.
        errors: Number of mistakes of the test stage that `errors.md`, beside the predictions, lists with their texts,
            the most confident first; 0 writes no such file.
    """
    return DetailsReport(errors) if run.writes else None


def stage_details(run: Run, stage: Stage) -> dict[str, StageDetails]:
    """Return the details of each objective of a stage; on other ranks than 0, and of other stages, none."""
    if not is_rank_zero():
        return {}
    report = find_callback(run.trainer, DetailsReport)
    return {} if report is None else report.of(run, stage)


def warnings_of(run: Run, stage: Stage) -> list[str]:
    """Return what is wrong with the predictions of a stage as a whole, on rank 0 only.

    Args:
        run: The run, after the stage.
        stage: A stage; only testing has warnings.
    """
    return [text for found in stage_details(run, stage).values() for text in found.warnings]


def details(run: Run, stage: Stage) -> dict[str, dict[str, Any]]:
    """Return what results.json has under ``details``: values by objective, computed once and on rank 0 only.

    Args:
        run: The run, after the stage.
        stage: A stage; only testing has details.
    """
    return {name: dict(found.values) for name, found in stage_details(run, stage).items() if found.values}
