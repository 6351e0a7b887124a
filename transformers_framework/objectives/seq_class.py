"""A class for a whole sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import IGNORED_LABEL, Stage
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.losses.classification import cross_entropy
from transformers_framework.objectives.labels import Classes
from transformers_framework.objectives.objective import Context, Objective, Setup
from transformers_framework.restricted import NonNegativeFloat, PositiveInt

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from torchmetrics import Metric

    from transformers_framework.processing.columns import Origin


class SequenceClassification(Objective):
    """Learn a class for each row.

    Args:
        setup: Tokenizer, config and classes of the model.
        label_column: Column with the class: whole numbers from 0, names, or a ClassLabel.
        num_labels: Number of classes; taken from the data when not given.
        label_weights: Weight of each class in the loss, one a class.
    """

    name = "seq_class"
    head = "AutoModelForSequenceClassification"

    def __init__(
        self,
        setup: Setup,
        *,
        label_column: str | None = None,
        num_labels: PositiveInt | None = None,
        label_weights: list[NonNegativeFloat] | None = None,
    ) -> None:
        super().__init__(setup)
        self.classes = Classes(label_column or "", num_labels, setup.class_names)
        if label_weights is not None and not any(label_weights):
            raise ConfigurationError("--label_weights: all of them are 0, so nothing would be learned.")
        self.label_weights = label_weights

    @property
    def head_config(self) -> dict[str, Any]:
        """Return the number of classes and their names."""
        names = self.classes.display_names
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: number for number, name in enumerate(names)},
            "problem_type": "single_label_classification",
        }

    @property
    def is_ready(self) -> bool:
        """Return whether the number of classes is known."""
        return self.classes.num_labels is not None

    def label_columns(self, stage: Stage) -> tuple[str, ...]:
        """Return the label column; predictions need none."""
        return () if stage == "predict" else (self.classes.column,)

    def pre_process(self, dataset: Dataset, origin: Origin) -> Dataset:
        """Find the classes, check every label.

        Raises:
            DataError: When a label is missing or wrong, with its place.
        """
        if origin.stage == "predict":
            self.classes.settle(trains=False)
            return dataset
        if not self.classes.column:
            raise ConfigurationError(
                f"--label_column is needed for the {origin.stage} data set. "
                f"Columns of {origin.source}: {', '.join(dataset.column_names)}."
            )
        self.classes.inspect(dataset, origin)
        if self.label_weights is not None and len(self.label_weights) != self.classes.count:
            raise ConfigurationError(
                f"--label_weights: {len(self.label_weights)} weights for {self.classes.count} classes "
                f"({', '.join(self.classes.display_names)}). Give one a class, in this order."
            )
        return dataset

    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, np.ndarray]:
        """Return ``labels``: ``(B,) int64``; nothing when there is none to learn from."""
        if context.stage == "predict":
            return {}
        return {"labels": self.classes.numbers(rows[self.classes.column])}

    def normalizer(self, batch: Mapping[str, np.ndarray]) -> float:
        """Return the sum of the weights of the rows that have a label."""
        labels = batch["labels"][batch["labels"] != IGNORED_LABEL]
        return float(len(labels) if self.label_weights is None else np.take(self.label_weights, labels).sum())

    def evaluate(self, output: Any, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, dict[str, Tensor]]]:
        """Return the cross-entropy of the classes; the most likely class and the right one."""
        weights = self.weights_on(output.logits)
        loss = cross_entropy(output.logits, batch["labels"], weights)
        return loss, {"classes": {"preds": output.logits.detach().argmax(dim=-1), "target": batch["labels"]}}

    def weights_on(self, logits: Tensor) -> Tensor | None:
        """Return the weight of each class on the device of logits ``(C,) float32``; nothing when all weigh the same."""
        import torch

        if self.label_weights is None:
            return None
        return torch.tensor(self.label_weights, dtype=torch.float32).to(logits.device, non_blocking=True)

    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return accuracy and F1."""
        from transformers_framework.metrics.classification import ClassificationMetrics

        return {"classes": ClassificationMetrics(self.classes.count, class_names=self.classes.display_names)}

    def predictions(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the probability of every class and the most likely one."""
        scores = output.logits.float().softmax(dim=-1)
        return {"scores": scores, "prediction": scores.argmax(dim=-1)}

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Say the class of a row."""
        return f"label {self.classes.display_names[batch['labels'][row]]}" if "labels" in batch else "no label"

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Return the name of the class where it has one."""
        if self.classes.names:
            predictions["prediction"] = self.classes.names[predictions["prediction"]]
        return predictions
