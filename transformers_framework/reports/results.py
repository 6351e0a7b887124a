"""``metrics.jsonl`` and ``results.json``: what a run logged, and its results for readers and programs."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from transformers_framework.callbacks.checkpoints import best_of
from transformers_framework.callbacks.model_card import versions
from transformers_framework.constants import EVALUATED, STAGES, TRAIN
from transformers_framework.processing.json_text import to_json
from transformers_framework.reports.baselines import baseline_warnings
from transformers_framework.reports.details import details, warnings_of
from transformers_framework.reports.metrics_file import MetricsFile
from transformers_framework.reports.throughput import throughput_of
from transformers_framework.run_parts import EndsRun
from transformers_framework.storage.atomic import atomic_file, remove
from transformers_framework.storage.cache import digest

if TYPE_CHECKING:
    from transformers_framework.run_parts import Run

KEY = "results"  # of checkpoints
PREPARATION = "preparation"  # the time before, between and after stages

logger = logging.getLogger(__name__)


def results(run: Run) -> Results | None:
    """Return the callback that writes metrics and results; None with ``--fast_dev_run``."""
    return Results(run) if run.writes else None


class Results(pl.Callback, EndsRun):
    """Log to ``metrics.jsonl`` and write ``results.json`` when the run has ended.

    A resumed run cuts the metrics back to its checkpoint, and counts its time from there.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.durations = run, Durations(run.started)
        self.metrics_file: MetricsFile | None = None
        self.git_commit: str | None = None

    # ---------------------------------------------------------------- metrics

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Add the logger; remove what a run of this name left that starts from the beginning."""
        folders = self.run.folders
        if self.metrics_file is None:
            self.metrics_file = MetricsFile(folders, trainer)
            trainer.loggers = [*trainer.loggers, self.metrics_file]
            self.git_commit = git_commit() if trainer.is_global_zero else None
        if stage == "fit" and trainer.is_global_zero:
            if not self._is_own(self.run.start):
                self.metrics_file.cut(0)
            if not folders.replaces_earlier:
                remove(folders.results)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the size of the metrics and the time that has passed."""
        assert self.metrics_file is not None
        checkpoint[KEY] = {
            "metrics_size": self.metrics_file.size() if trainer.is_global_zero else 0,
            "seconds": self.durations.seconds(),
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on with metrics and time from a checkpoint of this run."""
        if trainer.state.fn != "fit" or not self._is_own(trainer.ckpt_path) or KEY not in checkpoint:
            return
        assert self.metrics_file is not None
        self.durations.add(checkpoint[KEY]["seconds"])
        if trainer.is_global_zero:
            self.metrics_file.cut(checkpoint[KEY]["metrics_size"])

    def _is_own(self, checkpoint: Any) -> bool:
        return checkpoint is not None and Path(checkpoint).parent == self.run.folders.checkpoints

    # ---------------------------------------------------------------- durations

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training begins."""
        self.durations.enter("train")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training ends."""
        self.durations.enter(PREPARATION)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation begins."""
        self.durations.enter("valid")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation ends; within training, that goes on."""
        self.durations.enter("train" if trainer.state.fn == "fit" else PREPARATION)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Testing begins."""
        self.durations.enter("test")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Testing ends."""
        self.durations.enter(PREPARATION)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prediction begins."""
        self.durations.enter("predict")

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prediction ends."""
        self.durations.enter(PREPARATION)

    # ---------------------------------------------------------------- results

    def on_run_end(self, run: Run) -> None:
        """Write the results; a run that only tests or predicts keeps what else is there."""
        if not run.trainer.is_global_zero:
            return
        found = results_of(run, self.durations.seconds(), self.git_commit)
        for text in chain.from_iterable(found["warnings"].values()):
            logger.warning("%s", text)
        if not run.data.has("train"):
            found = updated(run.folders.read_results(), found)
        try:
            with atomic_file(run.folders.results) as aside:
                # names of files may be no Unicode; JSON has an escape for their bytes
                aside.write_text(to_json(found, indent=2) + "\n", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            logger.warning(
                "%s cannot be written (%s). Free some space, and run the same command with --resume to write it.",
                *(run.folders.results, error.strerror),
            )


class Durations:
    """Seconds that each stage of a run takes, one at a time.

    Args:
        started: ``time.monotonic()`` when the run started.
    """

    def __init__(self, started: float) -> None:
        self.done: dict[str, float] = {}
        self.now, self.since = PREPARATION, started

    def enter(self, stage: str) -> None:
        """Count time for another stage from now on."""
        self.done, self.now, self.since = self.seconds(), stage, time.monotonic()

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what an earlier process of the run has taken."""
        self.done = {stage: self.done.get(stage, 0.0) + seconds.get(stage, 0.0) for stage in {**seconds, **self.done}}

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage so far."""
        return {**self.done, self.now: self.done.get(self.now, 0.0) + time.monotonic() - self.since}


def results_of(run: Run, seconds: Mapping[str, float], commit: str | None) -> dict[str, Any]:
    """Return the results of a run that has ended, as they are written.

    Args:
        run: The run.
        seconds: How long each stage took.
        commit: Commit of the working directory.
    """
    folders, data = run.folders, run.data
    metrics: dict[str, dict[str, Any]] = {"train": {}, **{stage: {} for stage in EVALUATED}}
    for name, value in sorted(run.metrics.items()):
        stage = name.partition("/")[0]
        metrics[stage if stage in metrics else "train"][name] = value
    best = best_of(run.trainer)
    of_best = (best or {}).get("metrics") or metrics["valid"]
    warned = {
        stage: warnings_of(run, stage) + baseline_warnings(of_best if stage == "valid" else metrics[stage], stage)
        for stage in EVALUATED
    }
    paths = {
        **({"best": folders.pre_trained_models / "best"} if folders.selects_best else {}),
        "final": folders.pre_trained_models / "final",
        "checkpoints": folders.checkpoints,
        "predictions": folders.predictions,
        "tensorboard": folders.tensorboard,
    }
    return {
        "name": folders.name,
        "pipeline": run.options["pipeline"],
        "model": run.options["model"],
        "seed": run.seed,
        "best": best,
        **metrics,
        "details": {stage: found for stage in EVALUATED if (found := details(run, stage))},
        "warnings": {stage: texts for stage, texts in warned.items() if texts},
        "durations": {
            "total": round(sum(seconds.values()), 3),
            **{stage: round(seconds[stage], 3) for stage in STAGES if stage in seconds},
        },
        **tokens_of(run),
        "data": {
            stage: {
                "source": data.sources[stage],
                "rows": data.num_read.get(stage, data.num_rows[stage]),
                "fingerprint": digest(data.fingerprints[stage]),
            }
            for stage in data.sources
        },
        "versions": versions(),
        "git_commit": commit,
        "folders": {name: str(path) for name, path in paths.items() if path.exists()},
    }


def tokens_of(run: Run) -> dict[str, dict[str, int]]:
    """Return the numbers of tokens that a run was trained on, and of padding, over all ranks."""
    counted = throughput_of(run.trainer)
    if counted is None:
        return {}
    return {"tokens": {"trained": counted.totals.tokens, "padding": counted.totals.padding}}


def updated(earlier: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results of an earlier run of the same name with those of stages that were evaluated again.

    Model, seed and versions are those of the training; if nothing was trained, those of now.

    Examples:
        >>> earlier = {"seed": 1, "test": {"test/loss": 2.0}, "valid": {"valid/loss": 1.0}, "durations": {"total": 9.0}}
        >>> earlier["data"] = {"train": {}, "test": {}}
        >>> found = {"seed": 2, "test": {"test/loss": 3.0}, "valid": {}, "durations": {"total": 1.0, "test": 0.5}}
        >>> updated(earlier, found)["durations"]
        {'total': 9.0, 'test': 0.5}
        >>> updated(earlier, found)["test"], updated(earlier, found)["valid"], updated(earlier, found)["seed"]
        ({'test/loss': 3.0}, {'valid/loss': 1.0}, 1)
        >>> updated(earlier | {"data": {"test": {}}}, found)["seed"]
        2
    """
    if not earlier:
        return dict(found)
    merged = {**found, **earlier} if TRAIN in earlier.get("data", {}) else {**earlier, **found}
    for stage in EVALUATED:
        merged[stage] = found[stage] or merged[stage]
    by_stage = ((stage, (found if found[stage] else earlier).get("warnings", {})) for stage in EVALUATED)
    merged["warnings"] = {stage: texts[stage] for stage, texts in by_stage if stage in texts}
    for part in ("details", "data", "folders"):
        merged[part] = {**earlier.get(part, {}), **found.get(part, {})}
    durations = {stage: value for stage, value in found["durations"].items() if stage != "total"}
    merged["durations"] = {**found["durations"], **earlier.get("durations", {}), **durations}
    return merged


def git_commit() -> str | None:
    """Return the commit of the working directory; None without git or outside a repository.

    ``rev-parse`` only reads: it runs no hooks and starts no monitor of files.
    """
    command = ("git", "rev-parse", "--verify", "--quiet", "HEAD")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
