"""What every kind of input declares: how rows of a data set become what a model is called with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from transformers_framework.constants import Stage
from transformers_framework.sources.columns import DatasetSource, Rows, chunks, column_lengths, list_sizes

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from transformers_framework.processing.packing import Bins


@dataclass(frozen=True)
class InputNeeds:
    """What the objectives of a run need of its inputs.

    Args:
        word_ids: Batches have ``word_ids (B, L) int64``: the number of each token's word, -1 where there is none.
        fills: Special tokens that texts to predict may hold, for the model to fill them in. In all other texts they are
            read as plain text.
        separates: Special tokens of the tokenizer stand between two segments of an input.
    """

    word_ids: bool = False
    fills: tuple[str, ...] = ()
    separates: bool = True


NO_NEEDS = InputNeeds()


class Inputs(ABC):
    """Turns the rows of a data set into the inputs of a model.

    Keyword-only arguments of the constructor are flags, ``max_sequence_length`` among them: objectives and exports ask
    for it. The program builds one object for all stages of a run, as ``Class(tokenizer, type_vocabulary, needs,
    **flags)``; loader workers get copies of it. Only what is abstract must be written: every other member has the value
    of inputs that make one model input of each row, when a batch is made.

    Args:
        tokenizer: Fast tokenizer of the run.
        max_length: Longest model input in tokens, special tokens included.
        needs: What the objectives of the run need.
    """

    model_keys: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask", "token_type_ids")
    """Entries of a batch that the model is called with, where they are there."""
    key_prefixes: ClassVar[tuple[str, ...]] = ("",)
    """Prefixes of the names of model inputs: one for each text of a row that is encoded separately."""
    rewriting: ClassVar[str] = "this pipeline"
    """Flags with which rows are rewritten before training, for messages."""
    groups_rows: ClassVar[bool] = False
    """Whether several rows, each with a label of its own, share one model input; see :meth:`groups`."""
    judges_whole_rows: ClassVar[bool] = False
    """Whether metrics need all windows or all candidates of a row of the data set."""
    num_joined: int = 1
    """Texts of ``max_sequence_length`` tokens each that make one model input."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int, needs: InputNeeds = NO_NEEDS) -> None:
        self.tokenizer, self.max_length, self.needs = tokenizer, max_length, needs

    # ---------------------------------------------------------------- columns, and checks before training

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Columns that batches of training are made from, without those of labels."""

    def columns_of(self, stage: Stage) -> tuple[str, ...]:
        """Return the columns that batches of a stage are made from."""
        return self.columns

    @property
    def token_columns(self) -> tuple[str, ...]:
        """Those of the columns that hold lists of integers, one per token.

        The loader reads them without a Python object per token: :meth:`post_process` gets each as a ``Ragged``.
        """
        return ()

    @property
    def num_token_types(self) -> int:
        """Token types that the model must be able to distinguish; 0 where batches have no ``token_type_ids``."""
        return 0

    @property
    def unknown_id(self) -> int | None:
        """The token that stands for what the tokenizer does not know; none where it knows everything."""
        number: int | None = self.tokenizer.unk_token_id
        return number

    def truncation(self, lengths: Sequence[int]) -> tuple[str, str]:
        """Return what may lose tokens, in the plural, and why, as the two ends of a message.

        Args:
            lengths: The value of ``--max_sequence_length``.
        """
        return "texts", f"were cut to fit --max_sequence_length {' '.join(map(str, lengths))}"

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check a whole data set, before training and before objectives look at it.

        Raises:
            DataError: When a column is missing or a value is wrong, with its place.
        """
        return dataset

    # ---------------------------------------------------------------- rows that are rewritten before training

    @property
    def rewrite_key(self) -> dict[str, object] | None:
        """What rewritten rows depend on besides the data, for the cache; none where rows stay as they are."""
        return None

    def rewrite(
        self, dataset: Dataset, source: DatasetSource, *, batch_size: int, num_workers: int = 1
    ) -> Iterator[pa.Table]:
        """Return the rows that batches are made from, once, where there is a :attr:`rewrite_key`.

        They have :attr:`columns`, and ``source_row int64``: the row of the data set that each begins in.

        Args:
            dataset: The rows.
            source: Where they come from, for messages.
            batch_size: Rows that are rewritten together.
            num_workers: Processes that do it.

        Raises:
            DataError: When a row cannot be used, with its place.
        """
        raise NotImplementedError(f"{type(self).__name__} has a rewrite_key and does not rewrite")

    def readable(self, rows: Rows) -> Rows:
        """Return columns of rows as people want to see them beside predictions: texts instead of tokens."""
        return rows

    # ---------------------------------------------------------------- several rows in one model input

    @property
    def uses_document_mask(self) -> bool:
        """Whether several rows share a row of a training batch, and attention is block-diagonal."""
        return False

    def num_groups(self, stage: Stage) -> int | None:
        """Return how many groups of rows a stage has; none where each row is an input of its own."""
        return None

    def groups(self, stage: Stage, seed: int, epoch: int) -> Bins | None:
        """Return which rows share a model input in an epoch, as bins of rows; none where each row has its own."""
        return None

    def in_groups(self, columns: Rows, sizes: np.ndarray, row_ids: np.ndarray, stage: Stage) -> Rows:
        """Return columns of rows as columns of groups, which hold lists, with ``row_ids`` among them.

        Args:
            columns: Columns of rows, group after group.
            sizes: Rows of each of the B groups ``(B,) int64``.
            row_ids: Row of each entry in its data set ``(N,) int64``.
            stage: Stage of the batch.
        """
        raise NotImplementedError(f"{type(self).__name__} has groups_rows and does not group")

    # ---------------------------------------------------------------- batches

    def in_stage(self, stage: Stage) -> Inputs:
        """Return the inputs of a stage, which may read texts in another way than those of other stages."""
        return self

    @abstractmethod
    def post_process(self, rows: Rows, *, pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        """Turn B rows into model inputs; runs in the loader's workers, before that of the objectives.

        Args:
            rows: The :attr:`columns` and those of labels, B values each.
            pad_to_multiple_of: L is rounded up to a multiple of this.

        Returns:
            ``input_ids`` and ``attention_mask (B, L) int64``, what else of :attr:`model_keys` the inputs have, and
            ``truncated (B,) bool``, which rows lost tokens. Where objectives need them, ``word_ids (B, L) int64``.
        """

    def distinct(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return a batch of evaluation without what need not be computed twice."""
        return batch

    # ---------------------------------------------------------------- lengths, to batch rows of similar length

    def lengths(self, dataset: Dataset) -> np.ndarray:
        """Return a stand-in for the tokens of every row that needs no tokenizer ``(N,) int64``.

        The characters of its texts; of rows that were tokenized before, their tokens.
        """
        if self.token_columns:
            return list_sizes(dataset, self.token_columns[0])
        columns = np.stack([column_lengths(dataset, column) for column in self.columns])
        return np.asarray(columns.sum(axis=0))

    def row_lengths(self, rows: Rows) -> np.ndarray:
        """Return the same for B rows of a stream ``(B,) int64``."""
        columns = ([0 if value is None else len(value) for value in rows[column]] for column in self.columns)
        return np.asarray(np.array(list(columns), dtype=np.int64).sum(axis=0))

    def token_lengths(self, dataset: Dataset) -> np.ndarray:
        """Return the tokens of every row's model input, special tokens included ``(N,) int64``."""
        if self.token_columns:
            return list_sizes(dataset, self.token_columns[0])
        rows = chunks(dataset.select_columns(list(self.columns)))
        counts = [self.post_process(chunk)["attention_mask"].sum(axis=1) for chunk in rows]
        return np.concatenate(counts or [np.zeros(0, np.int64)])

    @property
    def length_key(self) -> dict[str, object] | None:
        """What :meth:`token_lengths` depend on besides the data, for the cache; none: count them in each run."""
        return None
