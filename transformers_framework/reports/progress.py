"""Progress of a run: bars on a terminal, log lines, and the metrics of each validation and test."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from torch import Tensor

from transformers_framework.callbacks.checkpoints import Checkpoints
from transformers_framework.callbacks.early_stopping import EarlyStopping
from transformers_framework.constants import TOKEN_COUNTS, TRAIN
from transformers_framework.display import LINE_INTERVAL, Screen, Work, count, duration
from transformers_framework.pipelines.log_names import logging_interval
from transformers_framework.reports.baselines import perplexity_line
from transformers_framework.reports.metric_lines import metric_list, monitored
from transformers_framework.reports.start_lines import length_of, start_lines
from transformers_framework.runtime.loops import epoch_under_way, find_callback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers_framework.pipelines.pipeline import Pipeline
    from transformers_framework.run_parts import Run

MEMORY = 30.0  # seconds after which a batch counts 1/e in the number of tokens per second
LONGEST_SILENCE = (
    30.0  # seconds of training after which a line is logged at the next step, whether it is a logging step
)

logger = logging.getLogger(__name__)


def progress(run: Run) -> Progress:
    """Return the callback that reports the progress of a run; with ``--enable_progress_bar false`` only its metrics."""
    return Progress(run, shows_work=run.options.get("enable_progress_bar") is not False)


class Training(Work):
    """Training, as it is shown: epoch, step, loss, learning rate, speed and the time left.

    Args:
        step: Step at which it starts.
        steps: Steps at its end, None if they are unknown.
        epochs: Number of epochs, None if other limits end the run.
        timer: Timer of ``--max_time``.
    """

    def __init__(self, step: int, steps: int | None, epochs: int | None, timer: Timer | None) -> None:
        super().__init__("training", steps, "steps", line_interval=math.inf, done=step)
        self.first, self.epochs, self.timer = step, epochs, timer
        self.loss, self.learning_rate = LatestValue(), 0.0
        self.tokens, self.seconds, self.last = 0.0, 0.0, self.started

    def facts(self) -> list[str]:
        """Return step, loss, learning rate, tokens per second and the time left."""
        step = f"step {count(self.done)}" + (f" of {count(self.total)}" if self.total else "")
        facts = [step, *([] if self.loss.value is None else [f"loss {self.loss.value:.4f}"])]
        facts.append(f"lr {self.learning_rate:.2e}")
        if self.tokens:
            facts.append(f"{count(round(self.tokens / self.seconds))} tokens/s")
        return facts if (left := self.seconds_left()) is None else [*facts, f"{duration(left)} left"]

    def seconds_left(self) -> float | None:
        """Return the time to the last step or to the end of ``--max_time``; validations and checkpoints count."""
        ends = []
        if self.total and self.done > self.first:
            passed = time.monotonic() - self.started
            ends.append(passed * (self.total - self.done) / (self.done - self.first))
        if self.timer is not None and (left := self.timer.time_remaining()) is not None:
            ends.append(left)
        return min(ends, default=None)

    def line(self) -> str:
        """Return the log line of the moment."""
        return ", ".join([self.title, *self.facts()])

    def start_batch(self) -> None:
        """Start the clock of a batch."""
        self.last = time.monotonic()

    def end_batch(self, step: int, tokens: int) -> float:
        """Count a batch and its tokens; return the time now.

        Args:
            step: Number of steps that are done.
            tokens: Tokens of the batch on all ranks.
        """
        self.done, now = step, time.monotonic()
        passed = now - self.last
        kept = math.exp(-passed / MEMORY)
        self.tokens, self.seconds, self.last = self.tokens * kept + tokens, self.seconds * kept + passed, now
        return now

    def describe(self, epoch: int, learning_rate: float) -> None:
        """Set what is shown besides the step and the loss.

        Args:
            epoch: The epoch, from 1.
            learning_rate: Learning rate of the first parameter group.
        """
        self.title = f"epoch {epoch}" if self.epochs is None else f"epoch {epoch} of {self.epochs}"
        self.learning_rate = learning_rate


class LatestValue:
    """The latest value of a scalar on a device, which is read without waiting for the device."""

    def __init__(self) -> None:
        self.value: float | None = None
        self.copied: tuple[Tensor, Any] | None = None  # on the host, and the event after the copy

    def update(self, scalar: Tensor) -> None:
        """Take the value that arrived last, and ask for another one, unless it is still to arrive.

        Args:
            scalar: Scalar on the device; NaN is no value.
        """
        if scalar.device.type != "cuda":
            self.take(float(scalar))
            return
        if self.copied is not None and not self.copied[1].query():
            return
        if self.copied is not None:
            self.take(float(self.copied[0]))
        host = torch.empty((), dtype=scalar.dtype, pin_memory=True).copy_(scalar, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self.copied = host, event

    def take(self, value: float) -> None:
        """Take a value; NaN is none."""
        if not math.isnan(value):
            self.value = value


def running_loss(pipeline: Pipeline) -> Tensor:
    """Return the mean loss since it was last logged, a scalar on the device; NaN if there were no labels since."""
    means = []
    for name in pipeline.active(TRAIN):
        total, num_items = cast("Tensor", pipeline.stage_losses[f"{TRAIN}_{name}"].sums).sum(dim=0)
        means.append(pipeline.loss_weight(name) * total / num_items)
    return torch.stack(means).sum()


class Progress(pl.Callback):
    """Show the work of a run, and log the metrics of each validation and test.

    Args:
        run: The run.
        shows_work: Show bars, and log lines about training; otherwise only metrics are logged.
    """

    def __init__(self, run: Run, *, shows_work: bool = True) -> None:
        self.run, self.shows_work = run, shows_work
        self.work: Training | None = None
        self.evaluation: Work | None = None
        self.next_line, self.latest_line, self.logged = 0.0, 0.0, 0

    # ---------------------------------------------------------------- training

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Log what is trained, and for how long."""
        if stage == "fit":
            for line in start_lines(self.run, trainer):
                logger.info("%s", line)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the training."""
        step, total = trainer.global_step, trainer.estimated_stepping_batches
        logger.info("Training starts at step %d: %s", step, length_of(self.run))
        if not self.shows_work:
            return
        steps = int(total) if 0 < total < math.inf else None
        epochs = trainer.max_epochs if (trainer.max_epochs or -1) > 0 and trainer.max_steps == -1 else None
        self.work = Training(step, steps, epochs, find_callback(trainer, Timer))
        self.latest_line, self.logged = self.work.started, step
        Screen.add(self.work)

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Start the clock of the batch, unless loading it counts too."""
        if self.work is not None and self.evaluation is not None:
            self.evaluation = None
            self.work.start_batch()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Mapping[str, Any], *args: Any
    ) -> None:
        """Update the bar; log a line at logging steps, and at others after a long silence."""
        training = self.work
        if training is None:
            return
        step, counts = trainer.global_step, batch[TOKEN_COUNTS]
        now = training.end_batch(step, (counts["tokens"] + counts["target_tokens"]) * trainer.world_size)
        is_new = step != self.logged
        is_logged = is_new and step % logging_interval(trainer) == 0 and now >= self.next_line
        has_line = is_logged or (is_new and now - self.latest_line >= LONGEST_SILENCE)
        if not has_line and not Screen.is_due(now):
            return
        training.describe(epoch_under_way(trainer) + 1, float(trainer.optimizers[0].param_groups[0]["lr"]))
        if is_logged and (loss := trainer.callback_metrics.get("train/loss")) is not None:
            training.loss.take(float(loss))  # loggers have read it already
        elif has_line:
            training.loss.take(float(running_loss(cast("Pipeline", pl_module))))  # waits for the device
        else:
            training.loss.update(running_loss(cast("Pipeline", pl_module)))
        if has_line:
            self.next_line, self.latest_line, self.logged = now + LINE_INTERVAL, now, step
            training.log_line()
        Screen.refresh(now)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the bar."""
        if self.work is not None:
            Screen.remove(self.work)
        self.work = None

    def on_epoch_done(self, trainer: pl.Trainer) -> None:
        """Log a monitored metric of the training epoch."""
        monitor = self.run.selection.monitor
        if monitor is not None and monitor.startswith(f"{TRAIN}/") and monitor in trainer.callback_metrics:
            logger.info("%s: %s", self._where(trainer.global_step), self._monitored(trainer, monitor))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Remove all bars before the error is shown."""
        Screen.clear()

    # ---------------------------------------------------------------- evaluation

    def _start(self, title: str, batches: list[int | float]) -> None:
        if self.shows_work:
            total = sum(batches)
            self.evaluation = Work(title, None if math.isinf(total) else total, "batches")
            Screen.add(self.evaluation)

    def _advance(self, *args: Any, **kwargs: Any) -> None:
        if self.evaluation is not None:
            self.evaluation.advance()

    def _end(self) -> None:
        if self.evaluation is not None:
            Screen.remove(self.evaluation)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the validation."""
        if trainer.sanity_checking:
            self._start("Trying a validation", trainer.num_sanity_val_batches)
        else:
            self._start("Validating", trainer.num_val_batches)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the test."""
        self._start("Testing", trainer.num_test_batches)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the prediction."""
        self._start("Predicting", trainer.num_predict_batches)

    on_validation_batch_end = on_test_batch_end = on_predict_batch_end = _advance

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the monitored metric and the best so far; all metrics if none of the validation is monitored."""
        self._end()
        monitor = self.run.selection.monitor or ""
        if trainer.sanity_checking:
            return
        trains = trainer.state.fn == "fit"
        if trains and monitor.startswith("valid/") and monitor in trainer.callback_metrics:
            line = perplexity_line(_values(trainer, "valid"), "valid")
            text = self._monitored(trainer, monitor) + (f"; {line}" if line else "")
            logger.info("%s: %s", self._where(trainer.global_step), text)
        else:
            self._log_metrics(trainer, "valid", self._where(trainer.global_step) if trains else "")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the metrics of the test."""
        self._end()
        self._log_metrics(trainer, "test")

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the bar."""
        self._end()

    def _log_metrics(self, trainer: pl.Trainer, stage: str, where: str = "") -> None:
        values = _values(trainer, stage)
        logger.info("%s%s: %s", f"{where}, " if where else "", stage, metric_list(values, stage) or "no metrics")

    def _monitored(self, trainer: pl.Trainer, monitor: str) -> str:
        """Return the line of the monitored metric; that of a validation comes before it is compared with the best."""
        best, stopping = find_callback(trainer, Checkpoints), find_callback(trainer, EarlyStopping)
        value = float(trainer.callback_metrics[monitor])
        is_now = best is not None and best.best_step == trainer.global_step
        return monitored(
            monitor,
            value,
            direction=self.run.selection.direction,
            best=None if best is None or is_now else best.best_value,
            where=self._where(0 if best is None else best.best_step),
            waited=None if stopping is None else (stopping.wait_count, stopping.patience),
        )

    def _where(self, step: int) -> str:
        per_epoch = self.run.steps.per_epoch if self.run.data.has(TRAIN) else math.inf
        return f"step {step:,}" + ("" if math.isinf(per_epoch) else f" (epoch {max(1, math.ceil(step / per_epoch))})")


def _values(trainer: pl.Trainer, stage: str) -> dict[str, float]:
    """Return what a stage logged."""
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(f"{stage}/")}
