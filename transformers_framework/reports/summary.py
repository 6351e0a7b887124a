"""Summary at the end of a run: best and test metrics, its folders, and the command that uses the model."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from transformers_framework.callbacks.checkpoints import Checkpoints
from transformers_framework.constants import EVALUATED, TRAIN
from transformers_framework.display import duration
from transformers_framework.pipelines.log_names import main_metrics
from transformers_framework.reports.baselines import perplexity_line
from transformers_framework.reports.metric_lines import metric_list
from transformers_framework.run_parts import EndsRun, NamesNextCommand
from transformers_framework.runtime.loops import find_callback

if TYPE_CHECKING:
    from transformers_framework.run_parts import Run

COLUMN = 13  # characters before the values

logger = logging.getLogger(__name__)


def summary(run: Run) -> Summary | None:
    """Return the callback that logs the summary; None if the run writes no files."""
    return Summary() if run.writes else None


class Summary(pl.Callback, EndsRun):
    """Log a summary of ``results.json``, which is written before."""

    # at the end of training: when the best checkpoint is tested, callbacks have the state of its step
    steps: int = 0
    validated: int | None = None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the steps of the training, and the step of its last validation."""
        saved = find_callback(trainer, Checkpoints)
        self.steps, self.validated = trainer.global_step, None if saved is None else saved.validated_step

    def on_run_end(self, run: Run) -> None:
        """Log the summary."""
        if not run.trainer.is_global_zero or not (found := run.folders.read_results()):
            return
        lines = summary_lines(
            found,
            results=str(run.folders.results),
            trained=run.data.has(TRAIN),
            monitor=run.selection.monitor,
            steps=self.steps,
            validated=self.validated,
            main=main_metrics(run.objectives) if any(map(found.get, EVALUATED)) else (),
            command=partial(_command, run),
        )
        logger.info("%s", "\n".join(lines))


def summary_lines(
    found: Mapping[str, Any],
    *,
    results: str,
    trained: bool,
    command: Callable[[str], str],
    monitor: str | None,
    steps: int = 0,
    validated: int | None = None,
    main: Sequence[str] = (),
) -> list[str]:
    """Return the lines of a summary.

    Args:
        found: Content of ``results.json``.
        results: Path of that file.
        trained: Whether this run has trained.
        command: Returns how the model in a folder is used next.
        monitor: The monitored metric, if there is one.
        steps: Optimizer steps at the end of the training.
        validated: Step of the last validation; None without one.
        main: Main metrics, without the stage.
    """
    durations, folders, best = found["durations"], found["folders"], found["best"]
    took = f", of which training {duration(durations['train'])}" if trained and "train" in durations else ""
    rows: dict[str, str] = {}
    if best is not None:
        place = f"step {best['step']:,} (epoch {best['epoch'] + 1})"
        rows["best"] = f"{best['monitor']} {best['value']:.4f} at {place}"
    elif trained:
        rows["best"] = f"none: {'nothing was monitored' if monitor is None else f'{monitor} was never a number'}"
    if trained and validated is not None and validated < steps:
        rows["unvalidated"] = f"the last {steps - validated:,} of {steps:,} steps, after step {validated:,}"
    for stage in EVALUATED:
        if found.get(stage) and (stage != "valid" or not trained or best is None):
            rows[stage] = metric_list(found[stage], stage, main=main)
        elif stage == "valid" and best is not None and (line := perplexity_line(best.get("metrics", {}), stage)):
            rows[stage] = line
    model = folders.get("best") or folders.get("final")
    if model is not None and trained:
        rows["model"] = model
    if "predictions" in folders:
        rows["predictions"] = folders["predictions"]
    rows["results"] = results
    if model is not None and trained:
        rows["use it"] = command(model)
    head = f"Run '{found['name']}' is done in {duration(durations['total'])}{took}."
    return [head, *(f"  {name:<{COLUMN}}{value}" for name, value in rows.items())]


def _command(run: Run, model: str) -> str:
    """Return how the model of a run is used next: by the pipeline's own command, in fine-tuning, or in prediction."""
    own = (each.next_command(run, model) for each in run.pipeline_callbacks if isinstance(each, NamesNextCommand))
    if command := next(filter(None, own), None):
        return command
    return fine_tuning(model) if run.spec.pre_trains else prediction(model)


def fine_tuning(model: str) -> str:
    """Return how a pre-trained model is used; of several heads, the backbone is taken from the last one."""
    heads = sorted(path.parent for path in Path(model).glob("*/config.json"))
    return f"fine-tune it with --pre_trained_model {shlex.quote(str(heads[-1] if heads else model))}"


def prediction(model: str) -> str:
    """Return the command that predicts with a model."""
    return f"python -m transformers_framework.predict --model {shlex.quote(model)} --input FILE"
