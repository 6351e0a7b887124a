"""What every objective declares; see ``pipelines/README.md`` for how to write one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from transformers_framework.constants import Stage

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from torch import Tensor
    from torchmetrics import Metric

    from transformers_framework.processing.columns import Origin


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


class Objective(ABC):
    """One thing to learn: a head, its labels, its loss, its metrics, its predictions.

    Written once for all stages. The constructor's keyword-only arguments are its flags. All methods work on whole
    batches: those on rows run in the loader's workers, those on outputs on the device.
    """

    name: ClassVar[str]  # in logs and flags
    head: ClassVar[str]  # Auto class of transformers

    @property
    def head_config(self) -> dict[str, Any]:
        """Return what the head's config must say, as ``num_labels``; known once the data was looked at."""
        return {}

    @property
    def is_ready(self) -> bool:
        """Return whether the data told what head and metrics must know; not when they are too wrong for that."""
        return True

    def label_columns(self, stage: Stage) -> tuple[str, ...]:
        """Return the columns that the labels of a stage are made from."""
        return ()

    def pre_process(self, dataset: Dataset, origin: Origin) -> Dataset:
        """Check a whole data set before training and add what is best computed once. Training data comes first.

        Raises:
            DataError: When a column is missing or a value is wrong, with its place.
        """
        return dataset

    @abstractmethod
    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: dict[str, np.ndarray], context: Context
    ) -> dict[str, np.ndarray]:
        """Return the labels of B rows, and inputs that the objective changes; runs in the loader's workers."""

    @abstractmethod
    def loss(self, output: Any, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses of all labels and what to divide it by, both scalars."""

    @abstractmethod
    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return the metrics of a stage; each computes values by their log names and lists these as ``names``."""

    def log_names(self, stage: Stage) -> list[str]:
        """Return the names that the metrics of a stage will log, without prefix."""
        return [name for metric in self.metrics(stage).values() for name in metric.names]  # type: ignore[union-attr]

    @abstractmethod
    def metric_inputs(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return what each metric is updated with, by keyword, reduced to what has a label."""

    @abstractmethod
    def predictions(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what is predicted for each of the B rows, by the column it is written to."""

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Turn one row's predictions into what is written: names instead of numbers."""
        return predictions

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Say what the model must predict for a row of a batch, for people."""
        return f"labels {batch['labels'][row].tolist()}" if "labels" in batch else "no labels"

    def prediction_files(
        self, stage: Stage, columns: Mapping[str, np.ndarray], rows: Iterator[Mapping[str, Sequence[Any]]]
    ) -> dict[str, Iterable[str]]:
        """Return the lines of further files beside the predictions, by suffix.

        Args:
            stage: The stage that was predicted.
            columns: Predictions of all rows in order, with ``row_ids``: ``(N,) int64``.
            rows: Columns of the data set, some rows at a time, in order.
        """
        return {}
