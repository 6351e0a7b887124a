"""Optional capabilities of an objective, each a small class to inherit from in addition to :class:`Objective`.

An objective lists its capabilities as further base classes, as in ``class MaskedLM(Objective, Corrupts, SparseHead)``.
Callers check with ``isinstance``, or ``issubclass`` before an instance exists. The docstring of a capability describes
what happens to objectives without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from transformers_framework.constants import Stage

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from torch import Tensor, nn

    from transformers_framework.objectives.details.predicted import Predicted
    from transformers_framework.objectives.details.stage_details import StageDetails
    from transformers_framework.objectives.objective import Evaluation, Objective
    from transformers_framework.processing.packing import Bins

# ---------------------------------------------------------------- inputs and their corruption


class Corrupts:
    """Changes the inputs of the model; in a multi-task run with objectives that do not, it is active in training only.

    Evaluation of such a run uses the unchanged text.
    """


class CorruptsOnDevice(Corrupts, ABC):
    """Corrupts inputs on the device, with a state that is learned and that the loader's workers do not have."""

    @abstractmethod
    def on_device(self, batch: Mapping[str, Tensor], stage: Stage) -> Mapping[str, Tensor]:
        """Return the batch that the model and :meth:`Objective.evaluate` receive.

        Args:
            batch: The batch; the objective's own entries are under its name.
            stage: Stage of the batch.
        """


class ConfiguresInputs:
    """Changes how the inputs are made; objectives without it use the defaults of this class."""

    @property
    def needs_word_ids(self) -> bool:
        """Return whether ``post_process`` needs ``word_ids`` in the batch."""
        return False

    @property
    def tokens_to_fill(self) -> tuple[str, ...]:
        """Return the special tokens, such as the mask, that texts in prediction may contain and the model fills in."""
        return ()

    @property
    def separates_segments(self) -> bool:
        """Return whether joined texts are separated by the special tokens that the tokenizer puts between segments."""
        return True

    @property
    def input_options(self) -> dict[str, Any]:
        """Return the flags of the inputs that the objective sets, such as the length of texts before corruption."""
        return {}


class ChangesLengths(ABC):
    """Changes the lengths of rows; without it, packing uses the lengths of the texts."""

    @abstractmethod
    def packed_lengths(self, lengths: np.ndarray, capacity: int) -> tuple[np.ndarray, int]:
        """Return the length of each text after the change, and the length of a packed row that they have to fit in.

        Args:
            lengths: Number of tokens of each text before the change ``(N,) int64``.
            capacity: Length of a packed row before the change.
        """


# ---------------------------------------------------------------- the head


class SparseHead:
    """Computes the head only at positions with a label, to save memory where the output is a large vocabulary.

    ``labels`` of :meth:`Objective.post_process` are dense ``(B, L)``; in the batch they are ``(N,)``, and ``positions``
    has the index of each of them in the flattened ``(B, L)``.
    """


class SparseLastLayer(SparseHead):
    """Reads the last hidden states of an encoder at positions with a label only; all are computed without it.

    In addition, the batch has these positions by row as ``columns (B, P)``, and as ``places (N,)`` which of them,
    flattened, are those of ``labels``.
    """


class HeadByFamily(ABC):
    """Has another head in some model families; without it, all families use ``head``."""

    @classmethod
    @abstractmethod
    def head_for(cls, model_type: str) -> str:
        """Return the Auto class of the head in a model family."""


class HeadFromData(ABC):
    """Has a head that depends on the data or on the checkpoint, such as on the number of classes."""

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether all that head and metrics need is known; false if the data have errors that prevent it."""

    @property
    @abstractmethod
    def keeps_head(self) -> bool:
        """Return whether the output layer of a checkpoint, if it has one, fits the labels of this run."""

    @property
    def unfolds_output(self) -> bool:
        """Return whether the single output of a checkpoint, the score of a ranker, becomes logits of two classes."""
        return False


class ExportsConfig(ABC):
    """Determines values in training that are written to the config of an export."""

    @property
    @abstractmethod
    def learned_config(self) -> dict[str, Any]:
        """Return these values by their names in the config."""


class ExportsOutputs(ABC):
    """Is exported with another number of outputs than it is trained with: one score instead of two classes."""

    @property
    @abstractmethod
    def num_exported_outputs(self) -> int:
        """Return the number of outputs of an export: 1, the logit of class 1 minus that of class 0, or 2."""


class Generates(ABC):
    """Generates texts with an encoder-decoder in some stages."""

    @abstractmethod
    def generates(self, stage: Stage) -> bool:
        """Return whether texts are generated in a stage."""


# ---------------------------------------------------------------- the loss


class WeighsLoss:
    """Has another default for ``--{objective}_weight`` than 1."""

    weight: ClassVar[float]


class CountsLabels(ABC):
    """Has another loss denominator than the number of labels, such as the sum of their weights."""

    @abstractmethod
    def num_items(self, batch: Mapping[str, np.ndarray]) -> float:
        """Return the loss denominator of a batch; runs in the loader's workers."""


class KeepsState:
    """Has buffers that move to the device with the model and are saved in checkpoints."""

    state: nn.Module

    def count_batch(self, batch: Mapping[str, Tensor], evaluation: Evaluation) -> None:
        """Add the results of a training batch to the state."""

    def end_step(self) -> None:
        """Apply what was added, at the end of each optimizer step."""

    def end_stage(self, stage: Stage, values: Mapping[str, Any]) -> None:
        """Update the state with the values of the metrics of a stage, after they are computed over all rows."""


# ---------------------------------------------------------------- rows, logs and files


class EvaluatesGroups:
    """Evaluates all rows with the same value in a column as one group, such as the candidates of a query."""

    group_column: str | None

    def group_targets(self, dataset: Dataset, stage: Stage) -> np.ndarray | None:
        """Return 1 for a positive, 0 for a negative, negative where unlabelled ``(N,) int64``; None without labels.

        Args:
            dataset: The rows as read, which were checked.
            stage: Their stage.
        """
        return None


class GroupsRows:
    """Groups rows in a batch, such as the candidates of a question that its loss compares, or uses some rows only.

    Each row stays an input of its own, unlike where the inputs group rows; ``Context.sizes`` has the sizes of groups.
    """

    def num_groups(self, stage: Stage) -> int | None:
        """Return the number of groups of rows in a stage; None if batches are made of single rows, all of them."""
        return None

    def groups(self, stage: Stage, seed: int, epoch: int) -> Bins | None:
        """Return the groups of rows of an epoch; None if batches are made of single rows."""
        return None


class LogsByData:
    """Logs other values than its metrics and a mean loss, depending on the data; known after ``pre_process``."""

    def has_loss(self, stage: Stage) -> bool:
        """Return whether rows of a stage have the labels that the loss needs."""
        return True

    def further_names(self, stage: Stage) -> list[str]:
        """Return the further names that are logged in a stage, without prefix."""
        return []


class HasMainMetric(ABC):
    """Has a main metric, by which the best state is selected by default; without it, that is the loss."""

    @property
    @abstractmethod
    def main_metric(self) -> str:
        """Return its name without prefix, one that validation logs; known after ``pre_process``."""


class Remarks(ABC):
    """Reports facts about the rows of a stage, which ``--check`` prints."""

    @abstractmethod
    def remarks(self, dataset: Dataset, stage: Stage) -> list[str]:
        """Return one line for each remark.

        Args:
            dataset: The rows as read, before they are rewritten to windows.
            stage: Their stage.
        """


class PredictedPart(NamedTuple):
    """Consecutive rows of a data set that were predicted.

    Args:
        columns: Predictions ``(N, …)`` with ``row_ids``: ``(N,) int64``, ascending.
        rows: Columns of the data set, a value per row.
    """

    columns: Mapping[str, np.ndarray]
    rows: Mapping[str, Sequence[Any]]


class MergesWindows(ABC):
    """Merges the predictions of windows, or of other parts of a row, to predictions of whole rows."""

    @abstractmethod
    def row_of(self, stage: Stage, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the whole row that each window is a part of ``(N,) int64``; ``row_ids`` if rows were not split.

        Args:
            stage: The stage that was predicted.
            columns: Predictions of some windows, with ``row_ids``: ``(N,) int64``.
        """

    @abstractmethod
    def whole_rows(
        self, stage: Stage, columns: Mapping[str, np.ndarray]
    ) -> tuple[Mapping[str, np.ndarray], Dataset] | None:
        """Return the predictions of some whole rows, and the data set of all rows; None if rows were not split.

        Args:
            stage: The stage that was predicted.
            columns: Predictions of all windows of these rows in order, with ``row_ids``: ``(N,) int64``.
        """


class AddsTexts(ABC):
    """Adds values to the predictions of a row that need its texts, such as the entities in it."""

    @abstractmethod
    def with_texts(self, predictions: dict[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the predictions of a row with what is added.

        Args:
            predictions: What ``decode`` returned.
            row: Columns of the row.
        """


class WritesFiles(ABC):
    """Writes further files in addition to the predictions."""

    suffixes: ClassVar[tuple[str, ...]] = ()  # of the files that are also written without labels

    @abstractmethod
    def prediction_files(self, stage: Stage, parts: Iterable[PredictedPart]) -> Iterator[tuple[str, str]]:
        """Yield texts to append to files, each with the suffix of its file.

        Args:
            stage: The stage that was predicted.
            parts: All rows in order; they can be read once and need not be kept in memory.
        """


class Details(ABC):
    """Reports more about tested rows than metrics: scores of classes, data of figures, the most confident mistakes.

    Without it, results.json has metrics only, and there are no figures of the objective. A callback of a pipeline can
    have it too, with a ``name`` that its file of predictions has: ``test.NAME.jsonl``.
    """

    @abstractmethod
    def details(self, predicted: Predicted, num_mistakes: int) -> StageDetails:
        """Return the details of the test stage; runs on rank 0, after the file of predictions is written.

        Args:
            predicted: The rows of this file: the columns of the data, with labels, and those of ``decode``.
            num_mistakes: Number of mistakes to list; 0 for none.
        """


class HubTask:
    """Solves a task that the hub has a name for, the ``pipeline_tag`` of model cards; other cards have none."""

    hub_task: ClassVar[str | None]


# ---------------------------------------------------------------- functions for callers


def head_of(objective: Objective | type[Objective], model_type: str) -> str:
    """Return the Auto class of an objective's head in a model family."""
    found = objective if isinstance(objective, type) else type(objective)
    return found.head_for(model_type) if issubclass(found, HeadByFamily) else found.head


def hub_task(objective: Objective) -> str | None:
    """Return the hub's name for the task of an objective, None if it has none."""
    return objective.hub_task if isinstance(objective, HubTask) else None


def default_weight(objective: type[Objective]) -> float:
    """Return the default weight of an objective's loss in the total loss."""
    return objective.weight if issubclass(objective, WeighsLoss) else 1.0


def group_columns(objectives: Iterable[Objective]) -> list[str]:
    """Return the columns by whose values rows are grouped for evaluation."""
    return [o.group_column for o in objectives if isinstance(o, EvaluatesGroups) and o.group_column is not None]


def generates(objective: Objective, stage: Stage) -> bool:
    """Return whether an objective generates texts in a stage."""
    return isinstance(objective, Generates) and objective.generates(stage)


def corrupt_on_device(objectives: Iterable[Objective], batch: dict[str, Any], stage: Stage) -> None:
    """Apply the corruption of objectives that corrupt on the device, in place."""
    for objective in objectives:
        if isinstance(objective, CorruptsOnDevice):
            batch.update(objective.on_device(batch, stage))
