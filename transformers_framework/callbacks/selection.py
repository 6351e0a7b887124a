"""Flags of model selection: the monitored metric, early stopping, when checkpoints are written."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from transformers_framework.constants import Direction
from transformers_framework.exceptions import ConfigurationError, did_you_mean
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
        monitor: Name of the logged metric that says which state is best, as valid/loss.
        monitor_direction: Whether the largest or the smallest value of it is best.
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
        *,
        monitor: str | None = None,
        monitor_direction: Direction = "max",
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
            raise ConfigurationError("--early_stopping needs --monitor: the metric that must go on improving.")
        self.monitor, self.direction = monitor, monitor_direction
        self.patience = patience if early_stopping else None
        self.checkpoint_interval = checkpoint_interval
        self.at_validation, self.at_epoch = not no_val_checkpointing, not no_epoch_checkpointing
        self.keep = None if keep in ("all", -1) else int(keep)
        self.averages_weights, self.devices_stats = stochastic_weight_averaging, devices_stats

    def check_monitor(self, log_names: Sequence[str], objectives: Sequence[Objective]) -> None:
        """Refuse a monitored metric that is not logged; warn when --monitor_direction would keep the worst state.

        Args:
            log_names: All names that the run logs.
            objectives: What is learned; their metrics say whether the largest or the smallest value is best.

        Raises:
            ConfigurationError: With the closest name and all others.
        """
        from transformers_framework.pipelines.log_names import direction

        if self.monitor is None:
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
        if (best := direction(objectives, self.monitor)) not in (None, self.direction):
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
        from pytorch_lightning.callbacks import DeviceStatsMonitor

        from transformers_framework.callbacks.checkpoints import Checkpoints
        from transformers_framework.callbacks.early_stopping import EarlyStopping
        from transformers_framework.callbacks.weight_averaging import WeightAveraging

        chosen: list[Callback] = []
        if self.patience is not None:
            chosen.append(
                EarlyStopping(
                    str(self.monitor),
                    mode=self.direction,
                    patience=self.patience,
                    check_finite=False,
                    check_on_train_epoch_end=str(self.monitor).startswith("train/"),
                )
            )
        if self.averages_weights:
            chosen.append(WeightAveraging())
        if self.devices_stats:
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
