"""Base class of inputs: turn rows of a data set into model inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from transformers_framework.constants import Stage
from transformers_framework.inputs.batches import EncodedBatches
from transformers_framework.sources.columns import DatasetSource, Rows, column_lengths, list_sizes

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from transformers_framework.processing.packing import Bins
    from transformers_framework.processing.segments import Segments
    from transformers_framework.sources.fields import Field


@dataclass(frozen=True)
class InputNeeds:
    """What the objectives of a run need of its inputs.

    Args:
        word_ids: Batches have ``word_ids (B, L) int64``: the number of each token's word, -1 where there is none.
        tokens_to_fill: Special tokens, such as masks, that texts to predict may contain for the model to fill in. In
            other texts they are tokenized as plain text.
        separates_segments: Whether the special tokens of the tokenizer are put between two segments of an input.
    """

    word_ids: bool = False
    tokens_to_fill: tuple[str, ...] = ()
    separates_segments: bool = True


NO_NEEDS = InputNeeds()


class Inputs(ABC):
    """Turns the rows of a data set into the inputs of a model.

    Keyword-only arguments of the constructor are flags. ``max_sequence_length`` must be one of them, as objectives and
    exports use it. The program creates one object for all stages of a run, as ``Class(tokenizer, type_vocabulary,
    needs, **flags)``; data loader workers get copies of it. Only abstract members must be implemented; the defaults of
    other members are for inputs that make one model input per row when a batch is made.

    Args:
        tokenizer: Fast tokenizer of the run.
        max_length: Longest model input in tokens, special tokens included.
        needs: What the objectives of the run need.
    """

    model_keys: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask", "token_type_ids")
    """Entries of a batch that are passed to the model, if present."""
    key_prefixes: ClassVar[tuple[str, ...]] = ("",)
    """Prefixes of the names of model inputs: one for each text of a row that is encoded separately."""
    rewriting: ClassVar[str] = "this pipeline"
    """The flags that cause rows to be rewritten before training, for messages."""
    groups_rows: ClassVar[bool] = False
    """Whether several rows, each with a label of its own, share one model input; see :meth:`groups`."""
    evaluates_whole_rows: ClassVar[bool] = False
    """Whether metrics need all windows, or all candidates, of a row together."""
    embeds: str | None = None
    """Side of the towers whose embeddings prediction writes to an array, instead of lines; None: lines are written."""
    num_joined: int = 1
    """Number of texts of ``max_sequence_length`` tokens each that are joined to one model input."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int, needs: InputNeeds = NO_NEEDS) -> None:
        self.tokenizer, self.max_length, self.needs = tokenizer, max_length, needs

    @classmethod
    def default_lengths(cls, longest: int, options: Mapping[str, object]) -> list[int]:
        """Return the default of ``--max_sequence_length``.

        Args:
            longest: Limit of the model and the tokenizer, in tokens.
            options: The flags of the run.
        """
        return [longest]

    # ---------------------------------------------------------------- columns, and checks before training

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Columns from which training batches are made, without label columns."""

    def columns_of(self, stage: Stage) -> tuple[str, ...]:
        """Return the columns from which batches of a stage are made."""
        return self.columns

    @property
    def predicted_columns(self) -> tuple[str, ...]:
        """Columns that rows to predict must have, for messages."""
        return self.columns_of("predict")

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns of the data set that hold texts, or lists of words or texts, that the model reads."""
        return self.columns

    @property
    def query_field(self) -> Field | None:
        """Column or columns of queries, if rows are their candidates; None if inputs have no such columns."""
        return None

    @property
    def token_columns(self) -> tuple[str, ...]:
        """Columns that hold lists of integers, one per token.

        The data loader reads them without Python objects per token: :meth:`post_process` gets each as a ``Ragged``.
        """
        return ()

    @property
    def num_token_types(self) -> int:
        """Token types that the model must be able to distinguish; 0 where batches have no ``token_type_ids``."""
        return 0

    @property
    def unknown_id(self) -> int | None:
        """Id of the unknown token, None if the tokenizer can encode every text."""
        number: int | None = self.tokenizer.unk_token_id
        return number

    def truncation(self, lengths: Sequence[int]) -> tuple[str, str]:
        """Return what may lose tokens, in the plural, and why: the start and the end of a message.

        Args:
            lengths: The value of ``--max_sequence_length``.
        """
        return "texts", f"were cut to fit --max_sequence_length {' '.join(map(str, lengths))}"

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check a whole data set, before training and before the checks of objectives.

        Raises:
            DataError: When a column is missing or a value is wrong; the message has its place.
        """
        return dataset

    # ---------------------------------------------------------------- rows that are rewritten before training

    @property
    def rewrite_key(self) -> dict[str, object] | None:
        """Cache key of rewritten rows: everything they depend on besides the data; None if rows are not rewritten."""
        return None

    def rewrite(
        self, dataset: Dataset, source: DatasetSource, *, batch_size: int, num_workers: int = 1
    ) -> Iterator[pa.Table]:
        """Yield tables of rewritten rows, from which batches are made; called only if there is a :attr:`rewrite_key`.

        They have :attr:`columns`, and ``source_row int64``: the row of the data set in which each starts.

        Args:
            dataset: The rows.
            source: Source of the rows, for messages.
            batch_size: Number of rows that are rewritten together.
            num_workers: Number of processes.

        Raises:
            DataError: When a row cannot be used; the message has its place.
        """
        raise NotImplementedError(f"{type(self).__name__} has a rewrite_key and does not rewrite")

    def take_rows(self, rows: Dataset, num_read: int, source: DatasetSource) -> Dataset:
        """Take the rewritten rows of a stage, from which batches are made, and return them.

        Args:
            rows: The rows.
            num_read: Number of rows of the data set from which they were made.
            source: Source of that data set, for messages.

        Raises:
            DataError: When batches cannot be made from them.
        """
        return rows

    def readable(self, rows: Rows) -> Rows:
        """Return columns as users read them in predictions: texts instead of tokens."""
        return rows

    # ---------------------------------------------------------------- several rows in one model input

    @property
    def uses_document_mask(self) -> bool:
        """Whether several rows (documents) are packed into one batch entry, with block-diagonal attention."""
        return False

    def num_groups(self, stage: Stage) -> int | None:
        """Return the number of groups of rows in a stage; None if each row is one input."""
        return None

    def groups(self, stage: Stage, seed: int, epoch: int) -> Bins | None:
        """Return the groups of rows that share a model input in an epoch; None if each row is one input."""
        return None

    def in_groups(
        self, columns: Rows, sizes: np.ndarray, row_ids: np.ndarray, stage: Stage, *, seed: int, epoch: int
    ) -> Rows:
        """Return columns of rows as columns of groups, with a list of values per group, and ``row_ids``.

        Args:
            columns: Columns of rows, ordered by group.
            sizes: Number of rows in each of the B groups ``(B,) int64``.
            row_ids: Row id of each of the N rows ``(N,) int64``.
            stage: Stage of the batch.
            seed: The run's seed.
            epoch: Epoch of the batch; 0 outside training.
        """
        raise NotImplementedError(f"{type(self).__name__} has groups_rows and does not group")

    # ---------------------------------------------------------------- batches

    def in_stage(self, stage: Stage) -> Inputs:
        """Return the inputs of a stage, which may tokenize texts differently from other stages."""
        return self

    @abstractmethod
    def post_process(self, rows: Rows, *, pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        """Turn B rows into model inputs; runs in data loader workers, before ``post_process`` of the objectives.

        Args:
            rows: The :attr:`columns` and the label columns, B values each.
            pad_to_multiple_of: L is rounded up to a multiple of this.

        Returns:
            ``input_ids`` and ``attention_mask (B, L) int64``, other entries of :attr:`model_keys`, and ``truncated (B,)
            bool``: which rows lost tokens. If objectives need them, ``word_ids (B, L) int64``.
        """

    # ---------------------------------------------------------------- tokens that are cached

    @property
    def token_key(self) -> dict[str, object] | None:
        """Cache key of :meth:`tokenized`: everything it depends on besides the data.

        None if texts are not cached as tokens: they are sampled in each epoch, or rows are already tokenized.
        """
        return None

    def tokenized(self, rows: Rows) -> Segments:
        """Return the tokenized segments of B rows; called only if there is a :attr:`token_key`.

        If they are cached, :meth:`post_process` gets them as ``rows["tokens"]``, in place of columns of texts.
        """
        raise NotImplementedError(f"{type(self).__name__} has a token_key and does not tokenize")

    def input_lengths(self, segments: Segments) -> np.ndarray:
        """Return the number of tokens of the model inputs of B rows, from the lengths of their segments ``(B,) int64``.

        Args:
            segments: As :meth:`tokenized` returns them; ids are not needed.
        """
        raise NotImplementedError(f"{type(self).__name__} has a token_key and does not count")

    def distinct(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return an evaluation batch without duplicate inputs, to compute each once."""
        return batch

    # ---------------------------------------------------------------- lengths, to batch rows of similar length

    @property
    def has_equal_lengths(self) -> bool:
        """Whether nearly all entries of training batches have the maximum length, as packed rows have."""
        return self.uses_document_mask

    def lengths(self, dataset: Dataset) -> np.ndarray:
        """Return an estimate of the length of every row, without tokenizing ``(N,) int64``.

        It is the number of characters; for rows that are already tokenized, the number of tokens.
        """
        if self.token_columns:
            return list_sizes(dataset, self.token_columns[0])
        columns = np.stack([column_lengths(dataset, column) for column in self.columns])
        return np.asarray(columns.sum(axis=0))

    def row_lengths(self, rows: Rows) -> np.ndarray:
        """Return the estimated length of B rows of a stream ``(B,) int64``."""
        columns = ([0 if value is None else len(value) for value in rows[column]] for column in self.columns)
        return np.asarray(np.array(list(columns), dtype=np.int64).sum(axis=0))

    def token_lengths(self, dataset: Dataset, *, batch_size: int = 1000, num_workers: int = 1) -> np.ndarray:
        """Return the number of tokens of every row's model input, special tokens included ``(N,) int64``.

        Args:
            dataset: The rows.
            batch_size: Number of rows that are tokenized together.
            num_workers: Number of processes.
        """
        if self.token_columns:
            return list_sizes(dataset, self.token_columns[0])
        batches = EncodedBatches(partial(_counted, self), dataset.select_columns(list(self.columns)), batch_size)
        return np.concatenate([*batches.shown("Counting tokens", num_workers)] or [np.zeros(0, np.int64)])

    @property
    def length_key(self) -> dict[str, object] | None:
        """Cache key of :meth:`token_lengths`: everything they depend on besides the data; None not to cache them."""
        return None


def _counted(inputs: Inputs, first_row: int, rows: Rows) -> np.ndarray:
    """Return the number of tokens of the model inputs of B rows, special tokens included ``(B,) int64``."""
    return np.asarray(inputs.post_process(rows)["attention_mask"].sum(axis=1))
