"""The label type regression: a number per row."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import IGNORE_INDEX, TRAIN, Stage
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.losses.classification import squared_error
from transformers_framework.objectives.label_types import LabelType
from transformers_framework.objectives.objective import Evaluation
from transformers_framework.sources.columns import DatasetSource, arrow_chunks, check_column, type_name

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from torchmetrics import Metric

    from transformers_framework.objectives.details.predicted import Predicted
    from transformers_framework.objectives.details.stage_details import StageDetails

logger = logging.getLogger(__name__)


class Regression(LabelType):
    """A number per row, trained with the squared error.

    Batches have the bits of float32 numbers as integers, so that no strategy in half precision rounds them. The bits of
    the ignore index, -100, are a nan, so it cannot be confused with a number.

    Args:
        column: The label column.
        known: Classes of a checkpoint that was fine-tuned before.
        has_one_output: The checkpoint has a single output already.
    """

    written = "regression"
    main_metric = "mean_squared_error"

    def __init__(self, column: str, known: Sequence[str] | None = None, *, has_one_output: bool = False) -> None:
        self.column, self.known, self.has_one_output = column, known, has_one_output
        self._is_fixed = False

    def fix_outputs(self, *, trains: bool = False) -> None:
        """Check the outputs of the checkpoint.

        Raises:
            ConfigurationError: When the checkpoint has classes and nothing is trained.
        """
        if self.known and not (trains or self._is_fixed):
            raise ConfigurationError(
                f"--pre_trained_model: it was fine-tuned for {len(self.known)} classes, not for regression, and this "
                "run does not train. Leave out --problem_type regression."
            )
        if self.known and not self._is_fixed:
            logger.warning(
                "The checkpoint has %d classes, but this run learns a number: the output layer is newly initialized.",
                len(self.known),
            )
        self._is_fixed = True

    @property
    def head_config(self) -> dict[str, Any]:
        """Return the settings of a single output, named after the label column."""
        names = {"id2label": {0: self.column}, "label2id": {self.column: 0}} if self.column else {}
        return {"num_labels": 1, **names, "problem_type": self.written}

    def inspect(self, dataset: Dataset, source: DatasetSource) -> None:
        """Check that all labels are finite numbers.

        Raises:
            DataError: When one is not, with its place.
        """
        from datasets import Value

        self.fix_outputs(trains=source.stage == TRAIN)
        check_column(dataset, self.column, source, flag="label_column")
        feature = dataset.features[self.column]
        if not isinstance(feature, Value) or not feature.dtype.startswith(("int", "uint", "float", "decimal")):
            remedy = (
                " The checkpoint has one output; if it is the score of a re-ranker, use --pipeline answer_selection."
            )
            raise DataError(
                f"--label_column: '{self.column}' of {source.name} holds {type_name(feature)}; regression needs a "
                f"number in each row.{remedy if self.has_one_output else ''}"
            )
        start = 0
        for chunk in arrow_chunks(dataset, self.column):
            numbers = _in_single_precision(np.asarray(chunk.to_numpy(zero_copy_only=False), np.float64))
            wrong = np.flatnonzero(~np.isfinite(numbers))
            source.refuse(start + wrong, partial(self._trouble, chunk, wrong))
            start += len(chunk)

    def _trouble(self, chunk: Any, wrong: np.ndarray, at: int) -> str:
        value = chunk[int(wrong[at])].as_py()
        found = "no label (null)" if value is None else f"the label {value}"
        return f"'{self.column}' has {found}; expected a finite number."

    def labels(self, values: Sequence[Any], stage: Stage | None = None) -> np.ndarray:
        """Return the bits of the number of each row: ``(B,) int32``."""
        numbers = _in_single_precision(np.array(values, dtype=np.float64))
        bits = numbers.view(np.int32)
        for row in np.flatnonzero(~np.isfinite(numbers)).tolist():
            if values[row] is not None:
                raise DataError(
                    f"'{self.column}' has the label {values[row]} in a row that was not checked before training; "
                    "expected a finite number."
                )
            bits[row] = IGNORE_INDEX
        return bits

    def num_items(self, labels: np.ndarray) -> float:
        """Return the number of labels."""
        return float(np.count_nonzero(labels != IGNORE_INDEX))

    def evaluate(self, logits: Tensor, labels: Tensor) -> Evaluation:
        """Return the squared errors, and the predicted numbers and the labels."""
        import torch

        preds, target = logits.squeeze(-1).float(), labels.view(torch.float32)
        return Evaluation(squared_error(preds, target), {"numbers": {"preds": preds.detach(), "target": target}})

    def metrics(self) -> dict[str, Metric]:
        """Return correlations and errors."""
        from transformers_framework.metrics.regression import RegressionMetrics

        return {"numbers": RegressionMetrics()}

    def predictions(self, logits: Tensor) -> dict[str, Tensor]:
        """Return the number of each row."""
        return {"prediction": logits.squeeze(-1).float()}

    def details(self, predicted: Predicted, num_mistakes: int) -> StageDetails:
        """Return the largest errors, and percentiles of all errors."""
        from transformers_framework.objectives.details.classes import regression_details

        return regression_details(self.column, predicted, num_mistakes)

    def describe(self, label: np.ndarray) -> str:
        """Return a text with the number of a row."""
        return f"number {np.int32(label).view(np.float32):g}" if label != IGNORE_INDEX else "no label"


def _in_single_precision(numbers: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # too large numbers become infinite, which the callers report
        return numbers.astype(np.float32)
