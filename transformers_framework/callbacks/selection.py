"""Flags of model selection: the monitored metric, early stopping, when checkpoints are written."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal

from transformers_framework.constants import AUTO, Direction
from transformers_framework.exceptions import ConfigurationError, did_you_mean
from transformers_framework.optional_packages import require_packages
from transformers_framework.pipelines.log_names import direction, main_metric
from transformers_framework.restricted import PositiveInt, Range

if TYPE_CHECKING:
    from pytorch_lightning import Callback

    from transformers_framework.callbacks.export import Exporter
    from transformers_framework.objectives.objective import Objective
    from transformers_framework.storage.run_folders import RunFolders

KeptExports = Annotated[int, Range(ge=-1)]

logger = logging.getLogger(__name__)

# what people type for a metric -> its name in logs
ABBREVIATIONS = {
    "acc": "accuracy",
    "em": "exact_match",
    "hit@5": "hitrate@5",
    "map": "mean_average_precision",
    "mae": "mean_absolute_error",
    "mrr": "mean_reciprocal_rank",
    "mse": "mean_squared_error",
    "p@1": "precision@1",
    "ppl": "perplexity",
    "rouge1": "rouge1_fmeasure",
    "rouge2": "rouge2_fmeasure",
    "rougel": "rougeL_fmeasure",
}


class Selection:
    """Which state is best, when training stops early, when checkpoints are written.

    Args:
        objectives: Objectives of the run, which name the main metric.
        log_names: Returns all names that the run logs; called after the data were checked.
        monitor: Name of the logged metric that says which state is best, as valid/loss; auto is the main metric of the
            pipeline, or none without validation data or with --stochastic_weight_averaging. With none, no state is
            selected: the last one is exported and tested.
        monitor_direction: Whether the largest or the smallest value of it is best; auto is the direction of the metric.
        early_stopping: Stop when the monitored metric no longer improves.
        patience: Validations without improvement before training stops.
        checkpoint_interval: Optimizer steps between checkpoints, besides those of epochs and validations.
        no_val_checkpointing: Write no checkpoint after a validation, except the best one.
        no_epoch_checkpointing: Write no checkpoint after an epoch.
        keep: Number of exports ckpt_epoch_E_step_S to keep besides best and final, the newest; all, or -1, for all.
        stochastic_weight_averaging: Average the weights at the ends of the last fifth of the epochs (one at least),
            which have the schedule's highest learning rate, without decay. The average is validated at the end, and is
            what is exported and tested. A run that stops early keeps its raw last weights.
        devices_stats: Log memory and use of the devices.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        log_names: Callable[[], Sequence[str]],
        *,
        monitor: str | None = AUTO,
        monitor_direction: Direction | Literal["auto"] = AUTO,
        early_stopping: bool = False,
        patience: PositiveInt = 5,
        checkpoint_interval: PositiveInt | None = None,
        no_val_checkpointing: bool = False,
        no_epoch_checkpointing: bool = False,
        keep: KeptExports | Literal["all"] = 1,
        stochastic_weight_averaging: bool = False,
        devices_stats: bool = False,
    ) -> None:
        if early_stopping and monitor is None:
            raise ConfigurationError(
                "--early_stopping needs a metric that must keep improving: give its name as --monitor, or leave out "
                "--monitor none for the main metric of the pipeline."
            )
        self.objectives, self._log_names = objectives, log_names
        self._monitor, self._direction = monitor, monitor_direction
        self.patience = patience if early_stopping else None
        self.checkpoint_interval = checkpoint_interval
        self.at_validation, self.at_epoch = not no_val_checkpointing, not no_epoch_checkpointing
        self.keep = None if keep in ("all", -1) else int(keep)
        self.averages_weights, self.devices_stats = stochastic_weight_averaging, devices_stats

    @cached_property
    def log_names(self) -> Sequence[str]:
        """All names that the run logs."""
        return self._log_names()

    @cached_property
    def monitor(self) -> str | None:
        """Name of the metric that says which state is best; None if there is none."""
        if self._monitor != AUTO:
            return self._monitor
        averages = self.averages_weights and self.patience is None  # the average is then the result of the run
        logs = {name.partition("/")[0] for name in self.log_names}
        return main_metric(self.objectives) if logs >= {"train", "valid"} and not averages else None

    @cached_property
    def direction(self) -> Direction:
        """Whether the largest or the smallest value of the metric is best."""
        if self._direction != AUTO:
            return self._direction
        is_logged = self.monitor is not None and self.monitor in self.log_names
        return (direction(self.objectives, str(self.monitor)) if is_logged else None) or "max"

    @property
    def flags(self) -> dict[str, str | None]:
        """The values of the flags that depend on the pipeline and the data."""
        return {"monitor": self.monitor, "monitor_direction": AUTO if self.monitor is None else self.direction}

    def check_monitor(self) -> None:
        """Refuse a monitored metric that is not logged; warn when --monitor_direction would keep the worst state.

        Raises:
            ConfigurationError: With the closest name and all others.
        """
        log_names = self.log_names
        if self.monitor is None:
            if self.patience is not None:
                raise ConfigurationError(
                    "--early_stopping: without validation there is no metric that must keep improving. Give "
                    "--valid_dataset, or a metric of the training as --monitor, such as train/loss."
                )
            return
        if self.monitor not in log_names:
            stage, _, metric = self.monitor.rpartition("/")
            called = ABBREVIATIONS.get(metric.lower(), metric)
            ends = [name for name in reversed(log_names) if name.endswith(f"/{called}") and name.startswith(stage)]
            hint = f" Did you mean '{ends[0]}'?" if ends else did_you_mean(self.monitor, log_names)
            validated = [name for name in log_names if name.startswith("valid/")]
            if self.monitor.startswith("valid/") and not validated:
                hint = " It never validates: give --valid_dataset, and no --limit_val_batches 0."
            elif self.monitor.endswith("loss") and validated and "valid/loss" not in validated:
                hint = f" Rows of --valid_dataset have nothing to compute a loss of: give --monitor {validated[0]}."
            raise ConfigurationError(
                f"--monitor: this run does not log '{self.monitor}'.{hint} It logs: {', '.join(log_names)}."
            )
        if (best := direction(self.objectives, self.monitor)) not in (None, self.direction):
            logger.warning(
                "--monitor %s: %s is better, but --monitor_direction %s keeps the state where it is %s. Give "
                "--monitor_direction %s.",
                *(self.monitor, "less" if best == "min" else "more", self.direction),
                *("largest" if self.direction == "max" else "smallest", best),
            )

    def check_averaging(self, epochs: float, strategy: str) -> None:
        """Refuse averaging of weights where it is impossible.

        Raises:
            ConfigurationError: When epochs are not counted, or weights are sharded.
        """
        if self.averages_weights and math.isinf(epochs):
            raise ConfigurationError("--stochastic_weight_averaging starts in the last fifth of --max_epochs: give it.")
        if self.averages_weights and strategy.startswith(("deepspeed", "fsdp")):
            raise ConfigurationError(
                f"--stochastic_weight_averaging: it cannot average the shards of --strategy {strategy}. Leave it out."
            )

    def callbacks(self, folders: RunFolders, exporter: Exporter) -> list[Callback]:
        """Return the callbacks of early stopping, averaging and checkpoints.

        Args:
            folders: Where files go.
            exporter: Writes checkpoints for transformers.
        """
        import torch
        from pytorch_lightning.callbacks import DeviceStatsMonitor

        from transformers_framework.callbacks.checkpoints import Checkpoints
        from transformers_framework.callbacks.early_stopping import EarlyStopping
        from transformers_framework.callbacks.weight_averaging import WeightAveraging

        chosen: list[Callback] = []
        if self.patience is not None and self.monitor is not None:
            chosen.append(
                EarlyStopping(
                    self.monitor,
                    mode=self.direction,
                    patience=self.patience,
                    check_finite=False,
                    check_on_train_epoch_end=self.monitor.startswith("train/"),
                )
            )
        if self.averages_weights:
            chosen.append(WeightAveraging())
        if self.devices_stats:
            if not torch.cuda.is_available():
                require_packages("psutil", needed_by="--devices_stats on a CPU", extra=None)
            chosen.append(DeviceStatsMonitor())
        checkpoints = Checkpoints(
            folders,
            exporter,
            monitor=self.monitor,
            direction=self.direction,
            interval=self.checkpoint_interval,
            at_validation=self.at_validation,
            at_epoch=self.at_epoch,
            keep=self.keep,
            averages=self.averages_weights,
        )
        return [*chosen, checkpoints]
