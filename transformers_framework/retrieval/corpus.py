"""The corpus of a search: distinct texts, and passages with ids, with lookup by text and by id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transformers_framework.constants import RELEVANT
from transformers_framework.display import counted
from transformers_framework.distributed.ranks import is_rank_zero
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.inputs.batches import EncodedBatches
from transformers_framework.processing.text_ids import trec_name, value_hashes
from transformers_framework.processing.windows import stretches
from transformers_framework.restricted import PositiveInt
from transformers_framework.sources.columns import DatasetSource, chunks, column_lengths
from transformers_framework.sources.fields import Field, field_texts
from transformers_framework.sources.passages import Lookup, check_found, id_hashes, relevant_passages

if TYPE_CHECKING:
    import datasets

    from transformers_framework.inputs.query_passage import QueryPassage

Numbers = NDArray[np.int64]
Batch = tuple[Numbers, dict[str, np.ndarray]]

BATCHES_TOGETHER = 32  # batches that are tokenized in one call and sorted by number of tokens


class Queries(NamedTuple):
    """The queries of a data set, and which passages are relevant to them.

    Args:
        rows: A row of each query, (Q,) int64.
        names: Id of each query.
        query: Query of each relevant passage, (R,) int64.
        relevant: The relevant passage, (R,) int64; no pair of both occurs twice.
    """

    rows: Numbers
    names: Sequence[Any]
    query: Numbers
    relevant: Numbers


@dataclass(frozen=True)
class Corpus:
    """Passages to search.

    Args:
        dataset: Data set of the passages.
        source: Where it comes from, for messages.
        inputs: Converts texts to model inputs.
        field: Column of the text.
        id_column: Column of the id; without it, the row number is the id.
        relevant_column: Column of the queries' data set with ids of relevant passages; without it, the texts of rows
            with label 1 are relevant.
        top_k: Number of passages to retrieve for each query.
        first: A row of each distinct text, (U,) int64.
        rows: Row of each passage, grouped by text, in the order of trec_eval for equal scores, (P,) int64.
        starts: Index of the first passage of each text in ``rows``, and P, (U + 1,) int64.
        by_text: Finds texts by their hash.
        by_id: Finds passages by the hash of their id.
    """

    dataset: datasets.Dataset
    source: DatasetSource
    inputs: QueryPassage
    field: Field
    id_column: str | None
    relevant_column: str | None
    top_k: int
    first: Numbers
    rows: Numbers
    starts: Numbers
    by_text: Lookup
    by_id: Lookup

    def __len__(self) -> int:
        return len(self.first)

    def ids(self, numbers: Numbers) -> list[Any]:
        """Return the ids of passages."""
        rows = self.rows[numbers]
        if self.id_column is None:
            return list(rows.tolist())
        return list(self.dataset.select_columns([self.id_column])[rows.tolist()][self.id_column]) if len(rows) else []

    def passages(self, scores: NDArray[np.float32], texts: Numbers) -> tuple[NDArray[np.float32], Numbers]:
        """Return scores and passages of the texts retrieved for each query, all passages of a text: both ``(Q, K)``.

        Args:
            scores: ``(Q, U) float32``.
            texts: The most similar texts of each query, the best first ``(Q, U) int64``.
        """
        depth = min(self.top_k, len(self.rows))
        sizes = np.diff(self.starts)[texts]
        before = np.cumsum(sizes, axis=1) - sizes
        kept = np.clip(depth - before, 0, sizes).ravel()
        shape = (len(texts), depth)
        return np.repeat(scores.ravel(), kept).reshape(shape), stretches(self.starts[texts].ravel(), kept).reshape(
            shape
        )

    # ---------------------------------------------------------------- batches

    def batches(
        self, batch_size: int, *, rank: int = 0, world_size: int = 1, num_workers: int = 0, pad_to_multiple_of: int = 1
    ) -> Iterator[Batch]:
        """Yield the texts of a rank: numbers ``(B,) int64`` and model inputs ``(B, L) int64``, longest first.

        Texts are sorted by characters, then in groups of batches by tokens, which reduces padding.
        """
        lengths = np.zeros(len(self.dataset), dtype=np.int64)
        for column in self.field.columns:
            lengths += column_lengths(self.dataset, column)
        order = np.argsort(-lengths[self.first], kind="stable")[rank::world_size]
        rows = self.dataset.select_columns(list(self.field.columns)).select(self.first[order])

        encode = partial(_encoded, self.inputs, self.field, order, batch_size, pad_to_multiple_of)
        batches = EncodedBatches(encode, rows, batch_size * BATCHES_TOGETHER).in_order(num_workers)
        yield from counted(
            chain.from_iterable(batches),
            "Encoding the corpus",
            total=len(rows),
            unit="texts",
            units=lambda b: len(b[0]),
        )

    # ---------------------------------------------------------------- queries and relevant passages

    def queries(
        self,
        dataset: datasets.Dataset,
        source: DatasetSource,
        *,
        index_column: str | None = None,
        label_column: str | None = None,
    ) -> Queries:
        """Return the queries of a data set and their relevant passages; in prediction without relevant passages.

        Args:
            dataset: Rows with queries.
            source: Where they come from, for messages.
            index_column: Column of query ids; without it, rows with the same text are one query.
            label_column: Column of labels of passages; without it, all passages are positives.

        Raises:
            DataError: When a relevant passage is not in the corpus, with the place of the row.
        """
        names, keys = self._names(dataset, index_column)
        _, first, query = np.unique(keys, return_index=True, return_inverse=True)
        by_place = np.argsort(first)  # queries in the order of the data
        rows, query = first[by_place], np.argsort(by_place)[query.reshape(-1)]
        pairs = np.zeros((0, 2), dtype=np.int64)
        if source.stage != "predict":
            of_row, passages = self._relevant(dataset, source, label_column)
            pairs = np.unique(np.stack([query[of_row], passages], axis=1), axis=0)
        return Queries(rows, [names[row] for row in rows.tolist()], pairs[:, 0], pairs[:, 1])

    def _names(self, dataset: datasets.Dataset, index_column: str | None) -> tuple[list[Any], Numbers]:
        if index_column is not None and index_column in dataset.column_names:
            names = dataset[index_column][:]
            return names, value_hashes(names)
        names, field = list(range(len(dataset))), self.inputs.query_field
        texts = chunks(dataset.select_columns(list(field.columns)))
        return names, np.concatenate([value_hashes(field_texts(rows, field)) for rows in texts])

    def _relevant(
        self, dataset: datasets.Dataset, source: DatasetSource, label_column: str | None
    ) -> tuple[Numbers, Numbers]:
        """Return rows and the numbers of passages that are relevant to them."""
        if self.relevant_column is not None:
            return relevant_passages(dataset, self.relevant_column, source, self.by_id, self.source)
        if not self.inputs.has_passages(source.stage):
            raise ConfigurationError(
                f"--relevant_column is needed: rows of {source.name} have no passage, so the relevant passages of the "
                f"corpus are unknown. Give the column with their ids. Columns: {', '.join(dataset.column_names)}."
            )
        of_row = np.arange(len(dataset))
        if label_column is not None:
            of_row = np.flatnonzero(np.array(dataset[label_column][:], dtype=np.float64) >= RELEVANT)
        field = self.inputs.passage_field
        rows = chunks(dataset.select_columns(list(field.columns)).select(of_row))
        hashes = [value_hashes(field_texts(columns, field)) for columns in rows]
        texts = self.by_text(np.concatenate(hashes)) if hashes else np.zeros(0, np.int64)
        missing = "its passage is a positive, but the corpus does not contain it"
        check_found(of_row, texts, source, self.source, lambda at: missing)
        sizes = np.diff(self.starts)[texts]
        return np.repeat(of_row, sizes), stretches(self.starts[texts], sizes)


def _encoded(
    inputs: QueryPassage,
    field: Field,
    numbers: Numbers,
    batch_size: int,
    pad_to_multiple_of: int,
    start: int,
    columns: Mapping[str, list[Any]],
) -> list[Batch]:
    """Return batches of some rows, which begin at ``start`` of those that have these numbers."""
    found = inputs.encoded_by_length("passage", field_texts(columns, field), batch_size, pad_to_multiple_of)
    return [(numbers[start + places], batch) for places, batch in found]


def load_corpus(
    inputs: QueryPassage,
    *,
    corpus_config: str | None = None,
    corpus_column: str | None = None,
    corpus_id_column: str | None = None,
    relevant_column: str | None = None,
    top_k: PositiveInt = 100,
    verify_data: bool = False,
) -> Corpus | None:
    """Load and check the corpus; return None if the run has none.

    Args:
        inputs: Converts texts to model inputs; they have the flags of the corpus.
        corpus_config: Hub configuration of the corpus.
        corpus_column: Text column of the corpus. By default the second of `input_columns`.
        corpus_id_column: Column of the corpus with the id of each passage. By default the row number is the id.
        relevant_column: Column with the id of the relevant passage, or a list of ids. By default the
            passages of rows with label 1, or of all rows without labels, are relevant.
        top_k: Number of passages to retrieve for each query; metrics count all others as not found.
        verify_data: Compare all data on disk with their checksums, as is done when they are first used on a day.

    Raises:
        ConfigurationError: When flags of a corpus are given without one.
        DataError: When a column is missing, a text or an id is empty, or an id has several texts.
    """
    given = {
        "corpus_config": corpus_config,
        "corpus_column": corpus_column,
        "corpus_id_column": corpus_id_column,
        "relevant_column": relevant_column,
    }
    if inputs.corpus is None:
        if idle := [flag for flag, value in given.items() if value is not None]:
            raise ConfigurationError(f"--{idle[0]} needs --corpus_dataset. Give it, or leave --{idle[0]} out.")
        return None
    dataset, source, field = inputs.corpus.load(verify=verify_data and is_rank_zero())
    texts = np.concatenate(
        [value_hashes(field_texts(rows, field)) for rows in chunks(dataset, title="Reading the corpus")]
    )
    _, first, number = np.unique(texts, return_index=True, return_inverse=True)
    number = number.reshape(-1)
    ids = _ids(dataset, corpus_id_column, source, number)
    rows = first if corpus_id_column is None else _one_by_id(dataset, corpus_id_column, ids, number)
    starts = np.searchsorted(number[rows], np.arange(len(first) + 1))
    by_id = Lookup(ids, number) if corpus_id_column is None else Lookup(ids[rows], np.arange(len(rows)))
    by_text = Lookup(texts, number)
    return Corpus(
        dataset, source, inputs, field, corpus_id_column, relevant_column, top_k, first, rows, starts, by_text, by_id
    )


def _one_by_id(dataset: datasets.Dataset, column: str, ids: Numbers, number: Numbers) -> Numbers:
    """Return a row of each id, by the number of its text and, where several have one text, as trec_eval sorts ids."""
    _, rows = np.unique(ids, return_index=True)
    rows = rows[np.argsort(number[rows], kind="stable")]
    shared = np.flatnonzero(np.bincount(number)[number[rows]] > 1)
    if len(shared):
        names = [trec_name(name) for name in dataset.select_columns([column])[rows[shared].tolist()][column]]
        _, place = np.unique(np.array(names), return_inverse=True)
        rows[shared] = rows[shared][np.lexsort((-place.reshape(-1), number[rows[shared]]))]
    return rows


def _ids(dataset: datasets.Dataset, column: str | None, source: DatasetSource, number: Numbers) -> Numbers:
    """Return the hash of each row's id (N,) int64.

    Raises:
        DataError: When an id is null, or stands for two texts.
    """
    ids = id_hashes(dataset, column, source)
    if column is None:
        return ids
    order = np.argsort(ids, kind="stable")
    twice = np.flatnonzero((np.diff(ids[order]) == 0) & (np.diff(number[order]) != 0))
    rows = np.sort(order[twice + 1])
    source.refuse(
        rows,
        lambda at: (
            f"'{column}' is {dataset[int(rows[at])][column]!r}, which is the id of an earlier text too. Give "
            "each passage a unique id."
        ),
    )
    return ids
