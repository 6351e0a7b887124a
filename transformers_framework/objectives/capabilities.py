"""What an objective may do beside the core of :class:`Objective`: each capability is a small class to inherit from.

An objective names its capabilities as further parents, as in ``class MaskedLM(Objective, Corrupts, SparseHead)``. The
program asks with ``isinstance``, or ``issubclass`` where there is no object yet; an objective without a capability is
treated as the docstring of the capability says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from transformers_framework.constants import Stage

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from torch import Tensor, nn

    from transformers_framework.objectives.objective import Evaluation, Objective

# ---------------------------------------------------------------- inputs and their corruption


class Corrupts:
    """Rewrites what the model reads: beside objectives that do not, it is active in training only."""


class CorruptsOnDevice(Corrupts, ABC):
    """Corrupts as the model has learned so far, which a worker of the loader cannot know."""

    @abstractmethod
    def on_device(self, batch: Mapping[str, Tensor], stage: Stage) -> Mapping[str, Tensor]:
        """Return what the model and :meth:`Objective.evaluate` see.

        Args:
            batch: The batch; the objective's own entries are under its name.
            stage: Stage of the batch.
        """


class ConfiguresInputs:
    """Asks more of the inputs than token ids; without it, each member is as it is here."""

    @property
    def needs_words(self) -> bool:
        """Return whether ``post_process`` wants ``word_ids`` in the batch."""
        return False

    @property
    def fills(self) -> tuple[str, ...]:
        """Return the special tokens that texts to predict may hold, for the model to fill them in."""
        return ()

    @property
    def separates(self) -> bool:
        """Return whether joined texts have between them what the tokenizer puts there."""
        return True

    @property
    def input_options(self) -> dict[str, Any]:
        """Return the flags of the inputs that the objective sets, as the length of texts that will be corrupted."""
        return {}


class ChangesLengths(ABC):
    """Makes rows longer or shorter; without it, packed rows are as long as their texts."""

    @abstractmethod
    def packed_lengths(self, lengths: np.ndarray, capacity: int) -> tuple[np.ndarray, int]:
        """Return how much room texts take that share a row of a batch, and how much there is.

        Args:
            lengths: Tokens of each text as the inputs make it ``(N,) int64``.
            capacity: Tokens of their longest row.
        """


# ---------------------------------------------------------------- the head


class SparseHead:
    """Needs the head where there is a label and nowhere else, as one over a vocabulary.

    ``labels`` of :meth:`Objective.post_process` are dense ``(B, L)``; in the batch they are ``(N,)``, and ``positions``
    says where in the flattened ``(B, L)`` each of them is.
    """


class HeadByFamily(ABC):
    """Has another head in some model families; without it, ``head`` is that of all."""

    @classmethod
    @abstractmethod
    def head_for(cls, model_type: str) -> str:
        """Return the Auto class of the head in a family."""


class HeadFromData(ABC):
    """Learns from the data, or from the checkpoint, what its head must be."""

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether it is known what head and metrics need; not when the data are too wrong for that."""

    @property
    @abstractmethod
    def keeps_head(self) -> bool:
        """Return whether the output layer of a checkpoint, if it has one, is that of what is learned."""


class ExportsConfig(ABC):
    """Finds values in training that the config of an export must have."""

    @property
    @abstractmethod
    def learned_config(self) -> dict[str, Any]:
        """Return them by name."""


class Generates(ABC):
    """Lets an encoder-decoder generate texts."""

    @abstractmethod
    def generates(self, stage: Stage) -> bool:
        """Return whether texts are generated in a stage."""


# ---------------------------------------------------------------- the loss


class WeighsLoss:
    """Has another default for ``--{objective}_weight`` than 1."""

    weight: ClassVar[float]


class CountsLabels(ABC):
    """Divides the sum of losses by something else than the number of labels, as by the sum of their weights."""

    @abstractmethod
    def num_items(self, batch: Mapping[str, np.ndarray]) -> float:
        """Return what the sum of losses of a batch is divided by; runs in the loader's workers."""


class KeepsState:
    """Has buffers that move with the model and are in checkpoints."""

    state: nn.Module

    def count_batch(self, batch: Mapping[str, Tensor], evaluation: Evaluation) -> None:
        """Count what was found in a batch of training."""

    def end_step(self) -> None:
        """Take in what was counted, once all batches of an optimizer step were evaluated in training."""

    def end_stage(self, stage: Stage, values: Mapping[str, Any]) -> None:
        """Take in the values of the metrics of a stage, once they are computed over all rows."""


# ---------------------------------------------------------------- rows, logs and files


class EvaluatesGroups:
    """Evaluates rows with an equal value in a column together, as the candidates of a query."""

    group_column: str | None


class LogsByData:
    """Logs more or less than its metrics and a mean loss, depending on the data; known once these were looked at."""

    def has_loss(self, stage: Stage) -> bool:
        """Return whether rows of a stage have what a loss is computed from."""
        return True

    def further_names(self, stage: Stage) -> list[str]:
        """Return what else is logged of a stage, without prefix."""
        return []


class Remarks(ABC):
    """Has something to report about the rows of a stage when they are checked."""

    @abstractmethod
    def remarks(self, dataset: Dataset, stage: Stage) -> list[str]:
        """Return one line for each remark."""


class MergesWindows(ABC):
    """Predicts whole rows from the windows, or other parts, that inputs made of them."""

    @abstractmethod
    def whole_rows(
        self, stage: Stage, columns: Mapping[str, np.ndarray]
    ) -> tuple[Mapping[str, np.ndarray], Dataset] | None:
        """Return the predictions of whole rows, and these rows; None where rows were not cut.

        Args:
            stage: The stage that was predicted.
            columns: Predictions of all windows in order, with ``row_ids``: ``(N,) int64``.
        """


class WritesFiles(ABC):
    """Writes further files beside the predictions."""

    @abstractmethod
    def prediction_files(
        self, stage: Stage, columns: Mapping[str, np.ndarray], rows: Iterator[Mapping[str, Sequence[Any]]]
    ) -> dict[str, Iterable[str]]:
        """Return the lines of each file, by its suffix.

        Args:
            stage: The stage that was predicted.
            columns: Predictions of all rows in order, with ``row_ids``: ``(N,) int64``.
            rows: Columns of the data set, some rows at a time, in order.
        """


# ---------------------------------------------------------------- what several callers ask


def head_of(objective: Objective | type[Objective], model_type: str) -> str:
    """Return the Auto class of an objective's head in a family."""
    found = objective if isinstance(objective, type) else type(objective)
    return found.head_for(model_type) if issubclass(found, HeadByFamily) else found.head


def default_weight(objective: type[Objective]) -> float:
    """Return the default weight of the loss of an objective in the sum."""
    return objective.weight if issubclass(objective, WeighsLoss) else 1.0


def group_columns(objectives: Iterable[Objective]) -> list[str]:
    """Return the columns whose equal values make groups of rows that are evaluated together."""
    return [o.group_column for o in objectives if isinstance(o, EvaluatesGroups) and o.group_column is not None]


def generates(objective: Objective, stage: Stage) -> bool:
    """Return whether an objective lets the model generate texts in a stage."""
    return isinstance(objective, Generates) and objective.generates(stage)


def corrupt_on_device(objectives: Iterable[Objective], batch: dict[str, Any], stage: Stage) -> None:
    """Let objectives corrupt a batch that is on its device, in place."""
    for objective in objectives:
        if isinstance(objective, CorruptsOnDevice):
            batch.update(objective.on_device(batch, stage))
