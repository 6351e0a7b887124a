"""The interface of objectives; ``pipelines/README.md`` shows how to write one."""

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
    """Properties of the run and its model that objectives are constructed with.

    Args:
        tokenizer: Fast tokenizer of the run.
        config: Config of the backbone.
        class_names: Classes of the checkpoint if it was fine-tuned before: names, or numbers as texts.
        max_sequence_length: Longest input in tokens, and longest target where there are two lengths.
        pipeline: Name of the pipeline.
        metrics: Entries of ``--metrics``, which are added to the metrics of the objective.
    """

    tokenizer: Any = None
    config: Any = None
    class_names: Sequence[str] | None = None
    max_sequence_length: Sequence[int] = ()
    pipeline: str = ""
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Context:
    """Properties of a batch that labels and random numbers may depend on, besides its rows.

    Args:
        stage: Stage of the batch.
        seed: The run's seed.
        epoch: Epoch of the batch; 0 outside training.
        row_ids: Row of each batch entry in its data set ``(B,) int64``.
        sizes: Rows of each group, where an objective groups rows ``(G,) int64``; sums to B.
    """

    stage: Stage
    seed: int
    epoch: int
    row_ids: np.ndarray
    sizes: np.ndarray | None = None

    def keys(self, purpose: str) -> np.ndarray:
        """Return the seed of each row's random numbers for a purpose ``(B,) uint64``, different in each stage."""
        return keys(self.seed, self.epoch, self.row_ids, f"{self.stage}.{purpose}")


@dataclass(frozen=True)
class Evaluation:
    """Results of :meth:`Objective.evaluate` for one batch.

    Args:
        loss: Sum of the losses of all labels, a scalar.
        metric_inputs: Keyword arguments of each metric's ``update``, by the key of the metric.
        for_predictions: Intermediate results that predictions need too: they are added to the batch of
            :meth:`Objective.predictions` in stages that both evaluate and predict.
    """

    loss: Tensor
    metric_inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    for_predictions: Mapping[str, Any] = field(default_factory=dict)

    def with_inputs(self, **metric_inputs: Mapping[str, Any]) -> Evaluation:
        """Return a copy with the inputs of further metrics."""
        return replace(self, metric_inputs={**self.metric_inputs, **metric_inputs})


class Objective(ABC):
    """Base class of objectives: a head with its labels, loss, metrics and predictions in all stages.

    The constructor's keyword-only arguments are its flags. All methods work on whole batches: those on rows run in the
    loader's workers, those on outputs on the device. Optional methods are in
    :mod:`~transformers_framework.objectives.capabilities`.

    Args:
        setup: Tokenizer, config and classes of the model.
    """

    name: ClassVar[str]  # in logs and flags
    head: ClassVar[str]  # Auto class of transformers

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    @property
    def head_config(self) -> dict[str, Any]:
        """Return settings of the head's config such as ``num_labels``; called after :meth:`pre_process`."""
        return {}

    def label_columns(self, stage: Stage) -> tuple[str, ...]:
        """Return the columns that the labels of a stage are made from."""
        return ()

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check a whole data set before the run, and return it; called once per data set, training data first.

        Raises:
            DataError: When a column is missing or a value is invalid, with its place.
        """
        return dataset

    @abstractmethod
    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, np.ndarray]:
        """Return the entries that the objective adds to a batch of B rows; runs in the loader's workers.

        An entry with the name of a model input replaces that input. All others are visible to this objective only.
        ``labels`` are ``(B, …)``, -100 where there is none. Texts are Python lists.
        """

    @abstractmethod
    def evaluate(self, output: Any, batch: Mapping[str, Tensor]) -> Evaluation:
        """Return the sum of the losses, the inputs of the metrics, and intermediate results for predictions.

        The method must not change any state.

        Args:
            output: Output of the head; of a :class:`SparseHead` ``(N, …)``, in the order of ``batch["positions"]``.
            batch: Model inputs, row ids and the entries of this objective.
        """

    @abstractmethod
    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return the metrics of a stage, by the keys of ``metric_inputs`` in the result of :meth:`evaluate`.

        A metric of torchmetrics that computes a single number is logged under its key; for others, see
        :class:`~transformers_framework.metrics.stage_metric.StageMetric`.
        """

    @abstractmethod
    def predictions(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the predictions of the B rows, by the names of the columns that they are written to.

        Args:
            output: Output of the head.
            batch: Batch as in :meth:`evaluate`, with the entries of ``for_predictions`` of its result. In the predict
                stage there are neither these entries nor labels.
        """

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Convert the predictions of one row to the values that are written, such as numbers to names."""
        return predictions

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Return a text with the labels of a row, for ``--check`` and logs; labels are dense here."""
        return f"labels {batch['labels'][row].tolist()}" if "labels" in batch else "no labels"


def active(objectives: Sequence[Objective], stage: Stage) -> list[Objective]:
    """Return the objectives of a stage; evaluation leaves out those that corrupt inputs if there are others."""
    clean = [objective for objective in objectives if not isinstance(objective, Corrupts)]
    return clean if clean and stage != TRAIN else list(objectives)


def stage_metrics(objective: Objective, stage: Stage) -> dict[str, StageMetric]:
    """Return the metrics of an objective in a stage, with those of ``--metrics``, each with the names that it logs."""
    from transformers_framework.metrics.added import added_metrics, with_added
    from transformers_framework.metrics.stage_metric import named

    own = named(objective.metrics(stage), objective.name)
    return with_added(own, added_metrics(metrics=objective.setup.metrics), objective.name)


def metric_names(objective: Objective, stage: Stage) -> list[str]:
    """Return the names that the metrics of a stage log, without prefix."""
    return [name for metric in stage_metrics(objective, stage).values() for name in metric.names]


def num_items(objective: Objective, batch: Mapping[str, np.ndarray]) -> float:
    """Return the loss denominator of a batch: the number of labels, or the result of ``CountsLabels.num_items``.

    The loader's workers compute it, because the losses of a step are divided by the sum over all batches and ranks of
    the accumulation group, which must be known before the first of these batches is trained on.
    """
    if isinstance(objective, CountsLabels):
        return objective.num_items(batch)
    return float(np.count_nonzero(batch["labels"] != IGNORE_INDEX))
