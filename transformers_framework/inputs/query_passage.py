"""Inputs of retrieval: queries and passages, each encoded as a separate sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transformers_framework.constants import NEGATIVE_ROWS, PASSAGE, ROWS, TOKENS, TRAIN, Stage
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.inputs.inputs import NO_NEEDS, InputNeeds
from transformers_framework.inputs.segments import SegmentInputs
from transformers_framework.processing.backend import read_in_lower_case
from transformers_framework.processing.encoding import assemble, tokenize
from transformers_framework.processing.segments import Segments
from transformers_framework.processing.windows import steps, stretches, sums_by_row
from transformers_framework.restricted import LocalPath, PositiveInt, Source
from transformers_framework.sources.columns import DatasetSource, Rows, column_lengths, empty_items
from transformers_framework.sources.data_files import FileOptions, TextUnit
from transformers_framework.sources.fields import (
    Field,
    NamedColumns,
    columns_of_fields,
    field_texts,
    parse_field,
    segments,
)
from transformers_framework.sources.passages import CorpusFiles, PassagesById

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase
    from typing_extensions import Self

Side = Literal["query", "passage"]

NUM_PAIR = 2


class QueryPassage(SegmentInputs):
    """A query, a passage and hard negatives per row, each encoded as a separate sequence.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Number of token types of the model; 0 if it has none.
        needs: What the objectives of the run need.
        input_columns: Column of the query, column of the passage, and any number of columns of hard negatives for
            training: 'name', 'first:second' (two columns joined by a space), '+list' (a list column joined by spaces),
            or for hard negatives '*list' (a list column, one passage each, of any length). A single column is embedded
            in prediction (see `embed_as`).
        max_sequence_length: Maximum length in tokens, special tokens included; or two lengths, of queries and of
            passages. Longer texts are truncated at the end, and counted. By default the limit of the model, at most
            512.
        query_prefix: Text before every query, for instance 'query: ' for E5. Default: the prefix of the checkpoint.
        passage_prefix: Text before every passage, for instance 'passage: ' for E5. Default: the prefix of the
            checkpoint.
        lower_case: Lower-case texts before tokenization. Default: as the checkpoint was trained.
        corpus_dataset: Passages to search in evaluation and prediction, from any source of data sets: for each query,
            the most similar passages of the whole corpus are retrieved, and metrics are logged as `corpus_…`. Training
            rows may name their passages by id too, see `relevant_column`.
        corpus_config: Hub configuration of the corpus.
        corpus_column: Text column of the corpus. By default the second of `input_columns`.
        corpus_id_column: Column of the corpus with the id of each passage. By default the row number is the id.
        relevant_column: Column with the id of the relevant passage, or a list of ids. Rows then need no passage: in
            training, a row without the second of `input_columns` becomes a row for each of its ids, with the text of
            the corpus. By default the passages of rows with label 1, or of all rows without labels, are relevant.
        label_column: Column of labels.
        index_column: Column of query ids.
        text_unit: Unit of text files.
        keep_in_memory: Load data into memory instead of mapping files.
        cache_dir: Folder for downloads and prepared data. Default: the user's cache folder.
        embed_as: In prediction, write embeddings of queries or of passages, instead of scores: of the column of this
            side, with its prefix, length and tower. Default: passage if `input_columns` is one column.

    Raises:
        ConfigurationError: When columns or lengths are invalid, or the tokenizer is not a fast one.
    """

    key_prefixes = ("", PASSAGE)
    rewriting = "--relevant_column"
    embeds: Side | None

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        type_vocabulary: int,
        needs: InputNeeds = NO_NEEDS,
        *,
        input_columns: list[str],
        max_sequence_length: list[PositiveInt],
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
        lower_case: bool | None = None,
        corpus_dataset: Source | None = None,
        corpus_config: str | None = None,
        corpus_column: str | None = None,
        corpus_id_column: str | None = None,
        relevant_column: str | None = None,
        label_column: str | None = None,
        index_column: str | None = None,
        text_unit: TextUnit | None = None,
        keep_in_memory: bool = False,
        cache_dir: LocalPath | None = None,
        embed_as: Side | None = None,
    ) -> None:
        self.embeds = embed_as or ("passage" if len(input_columns) < NUM_PAIR and corpus_dataset is None else None)
        self.embedding = False  # whether batches are texts to embed; see in_stage
        if self.embeds and corpus_dataset is not None:
            raise ConfigurationError(
                "--embed_as writes embeddings, and --corpus_dataset searches with them. Give one of the two flags."
            )
        if len(input_columns) < NUM_PAIR and not self.embeds:
            raise _needs_two(input_columns[0])
        named = {"input_columns": input_columns, "label_column": label_column, "index_column": index_column}
        named |= {"corpus_column": corpus_column, "corpus_id_column": corpus_id_column}
        columns = NamedColumns.of(named | {"relevant_column": relevant_column})
        if len(max_sequence_length) > NUM_PAIR:
            raise ConfigurationError(
                f"--max_sequence_length: {len(max_sequence_length)} lengths were given. Give one for all texts, or "
                "one for queries and one for passages."
            )
        if lower_case:
            read_in_lower_case(tokenizer)
        super().__init__(
            tokenizer,
            type_vocabulary,
            needs,
            input_columns=input_columns[:1],
            max_sequence_length=max_sequence_length[:1],
        )
        self.fields = [parse_field(column) for column in input_columns]
        if spread := next((c for c, field in zip(input_columns[:2], self.fields, strict=False) if field.spreads), None):
            raise ConfigurationError(
                f"--input_columns: '{spread}' has several texts, but a row has one query and one passage. Write "
                f"'+{spread[1:]}' to join them; hard negatives are the third column."
            )
        self.prefixes: dict[Side, str] = {"query": query_prefix or "", "passage": passage_prefix or ""}
        self.max_lengths: dict[Side, int] = {"query": max_sequence_length[0], "passage": max_sequence_length[-1]}
        if relevant_column is not None and any(relevant_column in field.columns for field in self.fields):
            raise ConfigurationError(
                f"--relevant_column: '{relevant_column}' is also in --input_columns, so ids would be read as texts. "
                "Give the text column of the passages as the second of --input_columns; rows that name their passages "
                "by id need not have it."
            )
        self.corpus: CorpusFiles | None = None
        self._absent: set[Stage] = set()  # stages whose rows have no passage
        self._join_key: dict[str, object] | None = None  # of training rows that name their passages by id
        self._join: PassagesById | None = None
        if corpus_dataset is not None:
            self.corpus = CorpusFiles(
                corpus_dataset,
                corpus_column or input_columns[1],
                "input_columns" if corpus_column is None else "corpus_column",
                corpus_config,
                columns,
                FileOptions(text_unit=text_unit).reading("corpus"),
                cache_dir,
                keep_in_memory,
            )
        if self.corpus is not None and relevant_column is not None:
            own = (*columns_of_fields([self.query_field, *self.fields[NUM_PAIR:]]), label_column, index_column)
            copied = tuple(dict.fromkeys(column for column in own if column))
            names = self.passage_field.columns
            self._join = PassagesById(self.corpus, corpus_id_column, relevant_column, copied, names)
        for side in self.prefixes:
            self._check_prefix(side)

    def _check_prefix(self, side: Side) -> None:
        taken = len(tokenize(self.backend, [self.prefixes[side]])[0]) + self.template.num_special(1)
        if taken >= self.max_lengths[side]:
            raise ConfigurationError(
                f"--{side}_prefix: with special tokens it has {taken} tokens, which leaves no space for a text in "
                f"--max_sequence_length {self.max_lengths[side]}. Shorten it, or increase the length."
            )

    # ---------------------------------------------------------------- columns

    @property
    def query_field(self) -> Field:
        """Column or columns of queries."""
        return self.fields[0]

    @property
    def passage_field(self) -> Field:
        """Column or columns of passages."""
        return self.fields[1]

    def columns_of(self, stage: Stage) -> tuple[str, ...]:
        """Return the columns that are read in a stage; hard negatives are read only in training."""
        return columns_of_fields(self._fields_of(stage))

    @property
    def embedded_field(self) -> Field:
        """Column or columns of the texts to embed."""
        return self.fields[0] if self.embeds == "query" or len(self.fields) < NUM_PAIR else self.passage_field

    def in_stage(self, stage: Stage) -> Self:
        """Return the inputs of a stage: in prediction, texts to embed, if embeddings are asked for."""
        found = super().in_stage(stage)
        if stage != TRAIN and (self._join_key is not None or len(self.fields) > NUM_PAIR):
            found = found._with(_join_key=None, fields=self.fields[:NUM_PAIR])
        return found._with(embedding=True) if stage == "predict" and self.embeds else found

    def _fields_of(self, stage: Stage) -> list[Field]:
        if stage == "predict" and self.embeds:
            return [self.embedded_field]
        return self.fields if stage == TRAIN else self.fields[: 1 if stage in self._absent else NUM_PAIR]

    def has_passages(self, stage: Stage) -> bool:
        """Return whether each row of a stage has a passage."""
        return stage not in self._absent

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check the columns of a whole data set, before training.

        Raises:
            DataError: When a column is missing or not text, or a text is null or empty.
        """
        if self.embeds and source.stage == "predict":
            self._check_texts(dataset, [self.embedded_field], source, num_required=1)
            return dataset
        if len(self.fields) < NUM_PAIR:
            raise _needs_two(":".join(self.fields[0].columns))
        has_passages = any(column in dataset.column_names for column in self.passage_field.columns)
        lacks = self.corpus is not None and not has_passages
        if lacks and source.stage != TRAIN:
            self._absent.add(source.stage)
        fields = self._fields_of(source.stage)
        if lacks and source.stage == TRAIN:
            self._check_join(dataset, source)
            fields = [self.query_field, *fields[NUM_PAIR:]]
        single = [field for field in fields if not field.spreads]
        self._check_texts(dataset, single, source, num_required=len(single))
        spread = [field for field in fields if field.spreads]
        self._check_texts(dataset, spread, source, num_required=0)
        for column in (field.columns[0] for field in spread):
            rows, places = empty_items(dataset, column)
            source.refuse(rows, partial(_empty_negative, column, places))
        return dataset

    # ---------------------------------------------------------------- passages by id

    def _check_join(self, dataset: Dataset, source: DatasetSource) -> None:
        """Check that the corpus has the passages that training rows name by id."""
        name = ":".join(self.passage_field.columns)
        if self._join is None:
            raise DataError(
                f"--input_columns: the train data set ({source.name}) has no column '{name}'. Give the column with the "
                "texts of the passages, or, if rows name passages of the corpus by id, --relevant_column. It has: "
                f"{', '.join(dataset.column_names)}."
            )
        if self.passage_field.is_list:
            raise ConfigurationError(
                f"--input_columns: '+{name}' is a list, but passages of --relevant_column are one text. Write '{name}'."
            )
        self._join_key = self._join.key(self._join.rows(dataset, source)[0])

    @property
    def rewrite_key(self) -> dict[str, object] | None:
        """Cache key of training rows with the passages that they name by id; None if rows have their passages."""
        return self._join_key

    def rewrite(
        self, dataset: Dataset, source: DatasetSource, *, batch_size: int, num_workers: int = 1
    ) -> Iterator[pa.Table]:
        """Yield tables with one row for each passage that a training row names, with its text and ``source_row``."""
        assert self._join is not None
        return self._join.tables(dataset, source, batch_size)

    # ---------------------------------------------------------------- batches

    def post_process(self, rows: Rows, *, pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        """Turn B rows into ``input_ids``, ``attention_mask``, ``token_type_ids`` of queries: ``(B, L) int64``.

        The inputs of passages are ``passage_input_ids`` and so on: first the B passages, then the N hard negatives, row
        by row, ``(B + N, M) int64``; ``negative_rows (N,) int64`` has the row of each hard negative. Also returns
        ``truncated``, which rows lost tokens: ``(B,) bool``.
        """
        if self.embedding:
            assert self.embeds is not None
            return self.encoded(self.embeds, field_texts(rows, self.embedded_field), pad_to_multiple_of)
        cached: Any = rows.get(TOKENS)
        found: Segments = self.tokenized(rows) if cached is None else cached
        firsts, counts = found.firsts, found.counts
        batch = self._of_side("query", found, firsts, pad_to_multiple_of)
        if (counts < NUM_PAIR).all():
            return batch
        of_row, places = np.arange(len(counts)), firsts + 1
        if len(self.fields) > NUM_PAIR:
            batch[NEGATIVE_ROWS] = np.repeat(of_row, counts - NUM_PAIR)
            of_row = np.concatenate([of_row, batch[NEGATIVE_ROWS]])
            places = np.concatenate([places, stretches(firsts + NUM_PAIR, counts - NUM_PAIR)])
        passage = self._of_side("passage", found, places, pad_to_multiple_of)
        batch["truncated"][of_row[passage.pop("truncated")]] = True
        return batch | {PASSAGE + name: values for name, values in passage.items()}

    def tokenized(self, rows: Rows) -> Segments:
        """Return the tokens of the query, the passage and the hard negatives of each row, as far as it has them."""
        texts, counts = segments(rows, [field for field in self.fields if field.columns[0] in rows])
        if any(self.prefixes.values()):
            prefixes = np.where(steps(counts) > 0, self.prefixes["passage"], self.prefixes["query"]).tolist()
            texts = [prefix + text for prefix, text in zip(prefixes, texts, strict=True)]
        return self._tokenized(texts, counts)

    def _of_side(self, side: Side, found: Segments, places: np.ndarray, multiple: int) -> dict[str, np.ndarray]:
        chosen = found.selected(places, np.ones_like(places))
        return self._assembled(side, chosen.ids, chosen.lengths, multiple)

    def encoded(self, side: Side, texts: Sequence[str], pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        """Turn N texts of one side into model inputs ``(N, L) int64`` and ``truncated (N,) bool``, in one call."""
        return self._assembled(side, *self._tokens_of(side, texts), pad_to_multiple_of)

    def encoded_by_length(
        self, side: Side, texts: Sequence[str], batch_size: int, pad_to_multiple_of: int = 1
    ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yield batches of texts of similar length, longest first: indices of the texts and model inputs."""
        ids, lengths = self._tokens_of(side, texts)
        starts, order = np.cumsum(lengths) - lengths, np.argsort(-lengths, kind="stable")
        for start in range(0, len(texts), batch_size):
            places = order[start : start + batch_size]
            own = lengths[places]
            batch = self._assembled(side, ids[stretches(starts[places], own)], own, pad_to_multiple_of)
            del batch["truncated"]
            yield places, batch

    def _tokens_of(self, side: Side, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        prefix = self.prefixes[side]
        return tokenize(self.backend, [prefix + text for text in texts] if prefix else texts)

    def _assembled(
        self, side: Side, ids: np.ndarray, lengths: np.ndarray, pad_to_multiple_of: int
    ) -> dict[str, np.ndarray]:
        return assemble(
            ids,
            lengths,
            np.ones(len(lengths), dtype=np.int64),
            self.template,
            max_length=self.max_lengths[side],
            pad_token_id=int(self.tokenizer.pad_token_id),
            pad_to_multiple_of=pad_to_multiple_of,
            token_types=self.token_types,
            pad_left=self.tokenizer.padding_side == "left",
        )

    def distinct(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return a batch with each distinct text once; ``rows`` and ``passage_rows (B,)`` map rows to texts.

        Candidates of one query share the query, and passages are often candidates of several queries.
        """
        for side in self.key_prefixes:
            if f"{side}input_ids" in batch:
                names = [side + name for name in self.model_keys if side + name in batch]
                _, first, places = np.unique(batch[f"{side}input_ids"], axis=0, return_index=True, return_inverse=True)
                batch |= {name: batch[name][first] for name in names} | {side + ROWS: places.reshape(-1)}
        return batch

    # ---------------------------------------------------------------- lengths

    def lengths(self, dataset: Dataset) -> np.ndarray:
        """Return the number of characters of all texts of every row: ``(N,) int64``."""
        total = np.zeros(len(dataset), dtype=np.int64)
        for column in columns_of_fields(self.fields):
            if column in dataset.column_names:
                total += column_lengths(dataset, column)
        return total

    def input_lengths(self, segments: Segments) -> np.ndarray:
        """Return the number of tokens of all texts of each row, special tokens included: ``(B,) int64``."""
        longest = np.full(len(segments.lengths), self.max_lengths["passage"])
        longest[segments.firsts] = self.max_lengths["query"]
        return sums_by_row(np.minimum(segments.lengths + self.template.num_special(1), longest), segments.counts)

    @property
    def token_key(self) -> dict[str, object] | None:
        """Cache key of :meth:`tokenized`, serializable as JSON."""
        return {**(super().token_key or {}), "prefixes": self.prefixes}

    @property
    def length_key(self) -> dict[str, object]:
        """What token lengths depend on besides the data, as JSON can hold it."""
        return {**super().length_key, "max_lengths": self.max_lengths, "prefixes": self.prefixes}


def _needs_two(column: str) -> ConfigurationError:
    return ConfigurationError(
        f"--input_columns: '{column}' names one column, and two are needed: query and passage. With --corpus_dataset, "
        "rows may lack the second column: in evaluation, and in training if --relevant_column has the ids of their "
        "passages. A single column is embedded, with --predict_dataset alone."
    )


def _empty_negative(column: str, places: np.ndarray, at: int) -> str:
    return (
        f"hard negative {places[at] + 1} in '{column}' is null or empty. Remove it; rows may have different numbers of "
        "hard negatives."
    )
