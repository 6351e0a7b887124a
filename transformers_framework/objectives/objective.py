"""What every objective declares; see ``pipelines/README.md`` for how to write one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from transformers_framework.constants import IGNORE_INDEX, TRAIN, Stage
from transformers_framework.objectives.capabilities import Corrupts, CountsLabels
from transformers_framework.processing.random import keys

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from torchmetrics import Metric

    from transformers_framework.metrics.stage_metric import StageMetric
    from transformers_framework.sources.columns import DatasetSource


@dataclass(frozen=True)
class Setup:
    """What an objective may know of the model that learns it.

    Args:
        tokenizer: Fast tokenizer of the run.
        config: Config of the backbone.
        class_names: Classes that the checkpoint knows if it was fine-tuned before: names, or numbers as texts.
        max_sequence_length: Longest input in tokens, and longest target where there are two lengths.
        pipeline: Name of the pipeline.
        metrics: What ``--metrics`` adds to those of the objective.
    """

    tokenizer: Any = None
    config: Any = None
    class_names: Sequence[str] | None = None
    max_sequence_length: Sequence[int] = ()
    pipeline: str = ""
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Context:
    """What randomness and labels of a batch may depend on, besides its rows.

    Args:
        stage: Stage of the batch.
        seed: The run's seed.
        epoch: Epoch of the batch; 0 outside training.
        row_ids: Row of each batch entry in its data set ``(B,) int64``.
    """

    stage: Stage
    seed: int
    epoch: int
    row_ids: np.ndarray

    def keys(self, purpose: str) -> np.ndarray:
        """Return the key of each row's own random numbers for a purpose ``(B,) uint64``, different in each stage."""
        return keys(self.seed, self.epoch, self.row_ids, f"{self.stage}.{purpose}")


@dataclass(frozen=True)
class Evaluation:
    """What an objective makes of a head's output for one batch.

    Args:
        loss: Sum of the losses of all labels, a scalar.
        metric_inputs: What each metric is updated with, by its key and by keyword.
        for_predictions: What was computed on the way and predictions need too: :meth:`Objective.predictions` finds
            these entries in its batch where a stage both evaluates and predicts.
    """

    loss: Tensor
    metric_inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    for_predictions: Mapping[str, Any] = field(default_factory=dict)

    def with_inputs(self, **metric_inputs: Mapping[str, Any]) -> Evaluation:
        """Return the same with what further metrics are updated with."""
        return replace(self, metric_inputs={**self.metric_inputs, **metric_inputs})


class Objective(ABC):
    """One thing to learn: a head, its labels, its loss, its metrics, its predictions.

    Written once for all stages. The constructor's keyword-only arguments are its flags. All methods work on whole
    batches: those on rows run in the loader's workers, those on outputs on the device. What only some objectives do is
    in :mod:`~transformers_framework.objectives.capabilities`.

    Args:
        setup: Tokenizer, config and classes of the model.
    """

    name: ClassVar[str]  # in logs and flags
    head: ClassVar[str]  # Auto class of transformers

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    @property
    def head_config(self) -> dict[str, Any]:
        """Return what the head's config must say, as ``num_labels``; known once the data was looked at."""
        return {}

    def label_columns(self, stage: Stage) -> tuple[str, ...]:
        """Return the columns that the labels of a stage are made from."""
        return ()

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Look at a whole data set before training, each time: training data comes first.

        Raises:
            DataError: When a column is missing or a value is wrong, with its place.
        """
        return dataset

    @abstractmethod
    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, np.ndarray]:
        """Return what the objective adds to a batch of B rows; runs in the loader's workers.

        An entry of the name of a model input replaces that input. All others are the objective's own: other objectives
        do not see them. ``labels``, -100 where there is none, are ``(B, …)``. Texts stay lists of Python.
        """

    @abstractmethod
    def evaluate(self, output: Any, batch: Mapping[str, Tensor]) -> Evaluation:
        """Return the sum of the losses, what metrics are updated with, and what predictions need besides.

        It changes nothing: what one call found is in its result and nowhere else.

        Args:
            output: What the head returned; of a :class:`SparseHead` ``(N, …)``, in the order of ``batch["positions"]``.
            batch: Model inputs, row ids and the objective's own entries.
        """

    @abstractmethod
    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return the metrics of a stage, by the keys under which :meth:`evaluate` feeds them.

        A metric of torchmetrics that computes a single number is logged under its key; others are as
        :class:`~transformers_framework.metrics.stage_metric.StageMetric` says.
        """

    @abstractmethod
    def predictions(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what is predicted for each of the B rows, by the column it is written to.

        Args:
            output: What the head returned.
            batch: As :meth:`evaluate` has it, with ``for_predictions`` of its result; in prediction without these, and
                without labels.
        """

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Turn one row's predictions into what is written: names instead of numbers."""
        return predictions

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Say what the model must predict for a row of a batch, for people; labels are dense here."""
        return f"labels {batch['labels'][row].tolist()}" if "labels" in batch else "no labels"


def active(objectives: Sequence[Objective], stage: Stage) -> list[Objective]:
    """Return the objectives of a stage: evaluation sees clean text when there is something to learn from it."""
    clean = [objective for objective in objectives if not isinstance(objective, Corrupts)]
    return clean if clean and stage != TRAIN else list(objectives)


def stage_metrics(objective: Objective, stage: Stage) -> dict[str, StageMetric]:
    """Return the metrics of a stage of an objective and those added to it, each with the names that it logs."""
    from transformers_framework.metrics.added import added_metrics, with_added
    from transformers_framework.metrics.stage_metric import named

    own = named(objective.metrics(stage), objective.name)
    return with_added(own, added_metrics(metrics=objective.setup.metrics), objective.name)


def metric_names(objective: Objective, stage: Stage) -> list[str]:
    """Return the names that the metrics of a stage will log, without prefix."""
    return [name for metric in stage_metrics(objective, stage).values() for name in metric.names]


def num_items(objective: Objective, batch: Mapping[str, np.ndarray]) -> float:
    """Return what the sum of an objective's losses is divided by: the number of labels, unless it counts otherwise.

    It is counted in the loader's workers, because gradients are divided by the labels of all batches and ranks that
    make one optimizer step, which must be known before the first of them.
    """
    if isinstance(objective, CountsLabels):
        return objective.num_items(batch)
    return float(np.count_nonzero(batch["labels"] != IGNORE_INDEX))
