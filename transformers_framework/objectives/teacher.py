"""A teacher, from whose scores a model learns besides the labels: knowledge distillation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.losses.distillation import divergence, divergence_of_yes_and_no
from transformers_framework.sources.columns import DatasetSource, arrow_chunks, check_column, item_feature, type_name

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray
    from torch import Tensor

TeacherLoss = Literal["kl_divergence", "squared_error"]
SMALLEST = 1e-12  # probability whose logarithm is taken for 0


@dataclass(frozen=True)
class Teacher:
    """The column of a teacher's scores, and how they are learned.

    Args:
        column: The column.
        weight: Share of the teacher's loss; the labels have the rest.
        temperature: By what scores are divided before the softmax, of both models.
        squares: Learn by squared error instead of KL divergence.
    """

    column: str
    weight: float = 0.5
    temperature: float = 1.0
    squares: bool = False

    @classmethod
    def of(
        cls, column: str | None, weight: float | None, temperature: float | None, loss: TeacherLoss | None
    ) -> Teacher | None:
        """Return the teacher of the flags of a run; None without a column.

        Raises:
            ConfigurationError: When flags contradict each other.
        """
        given = {"teacher_weight": weight, "teacher_temperature": temperature, "teacher_loss": loss}
        if column is None:
            if idle := [flag for flag, value in given.items() if value is not None]:
                raise ConfigurationError(
                    f"--{idle[0]} needs --teacher_column, the column with the scores that `predict` has written."
                )
            return None
        squares = loss == "squared_error"
        if squares and temperature is not None:
            raise ConfigurationError(
                "--teacher_temperature: --teacher_loss squared_error compares scores as they are. Leave it out."
            )
        return cls(column, 0.5 if weight is None else weight, temperature or 1.0, squares)

    def mixed(self, loss: Tensor, of_teacher: Tensor) -> Tensor:
        """Return the weighted sum of the loss of labels and that of the teacher."""
        return (1 - self.weight) * loss + self.weight * of_teacher

    # ---------------------------------------------------------------- probabilities of classes

    def check_classes(self, dataset: Dataset, names: Sequence[str], source: DatasetSource) -> None:
        """Check that each row has the probabilities of all classes, as a list or by name.

        Raises:
            DataError: When the column has another type, or a row no probabilities; with the place.
        """
        check_column(dataset, self.column, source, flag="teacher_column")
        feature = dataset.features[self.column]
        keys = list(feature) if isinstance(feature, dict) else None
        item = item_feature(feature)
        if keys is None and not str(getattr(item, "dtype", "")).startswith(("float", "int")):
            raise DataError(
                f"--teacher_column: '{self.column}' of {source.name} holds {type_name(feature)}; expected the "
                "probabilities of the classes, a list in the order of the classes or by name, as `predict` writes "
                "them under scores."
            )
        if keys is not None and (unknown := [key for key in keys if key not in names]):
            raise DataError(
                f"--teacher_column: '{self.column}' of {source.name} has the class '{unknown[0]}'; expected "
                f"{', '.join(names)}. Train the teacher on the same labels."
            )
        start, count = 0, len(names)
        for chunk in arrow_chunks(dataset, self.column):
            rows = chunk.to_pylist()
            wrong = {start + at: row for at, row in enumerate(rows) if not _are_probabilities(row, count)}
            source.refuse(np.array([*wrong], dtype=np.int64), partial(self._wrong, [*wrong.values()], count))
            start += len(rows)

    def _wrong(self, found: Sequence[Any], count: int, at: int) -> str:
        return f"'{self.column}' is {found[at]}; expected the probabilities of the {count} classes."

    def probabilities(self, values: Sequence[Any], names: Sequence[str]) -> NDArray[np.float32]:
        """Return the probability of each class ``(B, C) float32``; 0 where it is not given.

        Examples:
            >>> Teacher("scores").probabilities([[0.25, 0.75], {"b": 0.5, "a": None}], ["a", "b"]).tolist()
            [[0.25, 0.75], [0.0, 0.5]]
        """
        rows = [[row.get(name) for name in names] if isinstance(row, Mapping) else row for row in values]
        return np.array([[value or 0.0 for value in row] for row in rows], dtype=np.float32).reshape(-1, len(names))

    def loss_of_classes(self, logits: Tensor, probabilities: Tensor) -> Tensor:
        """Return the loss of each row whose classes exclude each other ``(B,) float32``."""
        if self.squares:
            return (logits.float().softmax(dim=1) - probabilities).square().sum(dim=1)
        return divergence(logits.float(), probabilities.clamp(min=SMALLEST).log(), self.temperature)

    def loss_of_each_class(self, logits: Tensor, probabilities: Tensor) -> Tensor:
        """Return the loss of each class of rows that can have several ``(B, C) float32``."""
        if self.squares:
            return (logits.float().sigmoid() - probabilities).square()
        return divergence_of_yes_and_no(logits.float(), probabilities.logit(eps=1e-6), self.temperature)

    # ---------------------------------------------------------------- scores of candidates

    def loss_of_scores(self, scores: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of candidates, each alone ``(N,) float32``.

        Args:
            scores: Scores ``(N,) float32``, logits of being a positive.
            teacher: Those of the teacher ``(N,) float32``.
        """
        if self.squares:
            return (scores - teacher).square()
        return divergence_of_yes_and_no(scores, teacher, self.temperature)

    def loss_of_lists(self, scores: Tensor, teacher: Tensor, known: Tensor) -> Tensor:
        """Return the loss of lists of candidates ``(B,) float32``: squared errors are a mean over the list.

        Args:
            scores: Scores ``(B, K) float32``.
            teacher: Those of the teacher ``(B, K) float32``.
            known: Which places hold a candidate ``(B, K) bool``.
        """
        if not self.squares:
            return divergence(scores, teacher, self.temperature, known)
        errors = (scores - teacher).square().masked_fill(~known, 0)
        return errors.sum(dim=1) / known.sum(dim=1).clamp(min=1)


def _are_probabilities(row: Any, count: int) -> bool:
    if row is None:
        return False
    values = list(row.values()) if isinstance(row, Mapping) else row
    known = [value for value in values if value is not None]
    complete = isinstance(row, Mapping) or len(known) == len(values) == count
    return complete and len(known) > 0 and all(0 <= value <= 1 for value in known)
