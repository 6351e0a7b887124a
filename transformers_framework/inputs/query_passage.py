"""Queries and passages, each a sequence of its own: the input of retrieval."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from transformers_framework.constants import NEGATIVE_ROWS, PASSAGE, ROWS, TRAIN, Stage
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.inputs.inputs import NO_NEEDS, InputNeeds
from transformers_framework.inputs.segments import SegmentInputs
from transformers_framework.processing.backend import read_in_lower_case
from transformers_framework.processing.encoding import assemble, tokenize
from transformers_framework.processing.windows import stretches, sums_by_row
from transformers_framework.restricted import PositiveInt, Source
from transformers_framework.sources.columns import DatasetSource, Rows, column_lengths, first_empty_item
from transformers_framework.sources.fields import Field, field_texts, parse_field, segments

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Side = Literal["query", "passage"]

NUM_PAIR = 2


class QueryPassage(SegmentInputs):
    """A query and a passage per row, and hard negatives of the query, each text a sequence of its own.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Token types that the model can tell apart; 0 when it has none.
        needs: What the objectives of the run need.
        input_columns: Column of the query, column of the passage, and any number of columns of hard negatives for
            training: 'name', 'first:second' (two columns joined by a space), '+list' (a list column joined by spaces),
            or for hard negatives '*list' (a list column, one passage each, in some rows more than in others).
        max_sequence_length: Longest text in tokens, special tokens included; or longest query and longest passage.
            Longer ones lose their end, and are counted.
        query_prefix: Words before every query, as E5's 'query: '. By default what the checkpoint was trained with.
        passage_prefix: Words before every passage, as E5's 'passage: '. By default what the checkpoint was trained
            with.
        lower_case: Read texts in lower case, whatever the tokenizer does. By default as the checkpoint was trained.
        corpus_dataset: Passages to search: rows of evaluation may then do without a passage of their own.

    Raises:
        ConfigurationError: When columns or lengths make no sense, or the tokenizer is a slow one.
    """

    key_prefixes = ("", PASSAGE)

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
    ) -> None:
        if len(input_columns) < NUM_PAIR:
            raise ConfigurationError(
                f"--input_columns: '{' '.join(input_columns)}' names one column; two are needed here, that of the "
                "query and that of the passage. With --corpus_dataset, rows of evaluation may do without the second."
            )
        if len(max_sequence_length) > NUM_PAIR:
            raise ConfigurationError(
                f"--max_sequence_length: {len(max_sequence_length)} lengths were given. Give one for all texts, or "
                "that of queries and that of passages."
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
                f"--input_columns: '{spread}' would be several texts, and a row has one query and one passage. Write "
                f"'+{spread[1:]}' to join them; hard negatives come third."
            )
        self.prefixes: dict[Side, str] = {"query": query_prefix or "", "passage": passage_prefix or ""}
        self.max_lengths: dict[Side, int] = {"query": max_sequence_length[0], "passage": max_sequence_length[-1]}
        self.searches = corpus_dataset is not None
        self._absent: set[Stage] = set()  # stages whose rows have no passage
        for side in self.prefixes:
            self._check_prefix(side)

    def _check_prefix(self, side: Side) -> None:
        taken = len(tokenize(self.backend, [self.prefixes[side]])[0]) + self.template.num_special(1)
        if taken >= self.max_lengths[side]:
            raise ConfigurationError(
                f"--{side}_prefix: its tokens and the special ones are {taken}, which leaves no room for a text in "
                f"--max_sequence_length {self.max_lengths[side]}. Shorten it, or raise the length."
            )

    # ---------------------------------------------------------------- columns

    @property
    def query_field(self) -> Field:
        """Where queries are."""
        return self.fields[0]

    @property
    def passage_field(self) -> Field:
        """Where passages are."""
        return self.fields[1]

    def columns_of(self, stage: Stage) -> tuple[str, ...]:
        """Return the columns that are read in a stage: hard negatives in training, none where rows have no passage."""
        return tuple(dict.fromkeys(column for field in self._fields_of(stage) for column in field.columns))

    def _fields_of(self, stage: Stage) -> list[Field]:
        return self.fields if stage == TRAIN else self.fields[: 1 if stage in self._absent else NUM_PAIR]

    def has_passages(self, stage: Stage) -> bool:
        """Return whether the rows of a stage have a passage each."""
        return stage not in self._absent

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check the columns of a whole data set, before training.

        Raises:
            DataError: When a column is missing or not text, or a text is null or empty.
        """
        lacks = not any(column in dataset.column_names for column in self.passage_field.columns)
        if lacks and self.searches and source.stage != TRAIN:
            self._absent.add(source.stage)
        fields = self._fields_of(source.stage)
        single = [field for field in fields if not field.spreads]
        self._check_texts(dataset, single, source, num_required=len(single))
        spread = [field for field in fields if field.spreads]
        self._check_texts(dataset, spread, source, num_required=0)
        for column in (field.columns[0] for field in spread):
            if (empty := first_empty_item(dataset, column)) is not None:
                row, place = empty
                raise DataError(
                    f"{source.place(row)}: hard negative {place + 1} in '{column}' is null or empty. Take it out: some "
                    "rows may have more than others."
                )
        return dataset

    # ---------------------------------------------------------------- batches

    def post_process(self, rows: Rows, *, pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        """Turn B rows into ``input_ids``, ``attention_mask``, ``token_type_ids`` of queries: ``(B, L) int64``.

        Those of passages are called ``passage_input_ids`` and so on: of the B passages first, then of the N hard
        negatives, row by row, ``(B + N, M) int64``; ``negative_rows (N,) int64`` has the row of each of these. Also
        returns ``truncated``, which rows lost tokens: ``(B,) bool``.
        """
        batch = self.encoded("query", field_texts(rows, self.query_field), pad_to_multiple_of)
        if self.passage_field.columns[0] not in rows:
            return batch
        texts, of_row = field_texts(rows, self.passage_field), np.arange(len(batch["truncated"]))
        if negatives := [field for field in self.fields[NUM_PAIR:] if field.columns[0] in rows]:
            more, counts = segments(rows, negatives)
            batch[NEGATIVE_ROWS] = np.repeat(of_row, counts)
            texts, of_row = [*texts, *more], np.concatenate([of_row, batch[NEGATIVE_ROWS]])
        passage = self.encoded("passage", texts, pad_to_multiple_of)
        batch["truncated"][of_row[passage.pop("truncated")]] = True
        return batch | {PASSAGE + name: values for name, values in passage.items()}

    def encoded(self, side: Side, texts: Sequence[str], pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        """Turn N texts of one side into model inputs ``(N, L) int64`` and ``truncated (N,) bool``, in one call."""
        return self._assembled(side, *self._tokens_of(side, texts), pad_to_multiple_of)

    def encoded_by_length(
        self, side: Side, texts: Sequence[str], batch_size: int, pad_to_multiple_of: int = 1
    ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yield batches of texts of similar length, longest first: places among the texts and model inputs."""
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
        """Return a batch with each of its texts once, and as ``rows`` and ``passage_rows (B,)`` where rows have theirs.

        Candidates of a query share it, and often passages are candidates of several queries.
        """
        for side in self.key_prefixes:
            if f"{side}input_ids" in batch:
                names = [side + name for name in self.model_keys if side + name in batch]
                _, first, places = np.unique(batch[f"{side}input_ids"], axis=0, return_index=True, return_inverse=True)
                batch |= {name: batch[name][first] for name in names} | {side + ROWS: places.reshape(-1)}
        return batch

    # ---------------------------------------------------------------- lengths

    def lengths(self, dataset: Dataset) -> np.ndarray:
        """Return the characters of every row, those of all its texts: ``(N,) int64``."""
        total = np.zeros(len(dataset), dtype=np.int64)
        for column in dict.fromkeys(column for field in self.fields for column in field.columns):
            if column in dataset.column_names:
                total += column_lengths(dataset, column)
        return total

    def row_lengths(self, rows: Rows) -> np.ndarray:
        """Return the same for rows of a stream: ``(B,) int64``."""
        return self._by_row(rows, lambda _, texts: np.fromiter(map(len, texts), np.int64))

    def _tokens(self, rows: Rows) -> np.ndarray:
        return self._by_row(rows, self._text_lengths)

    def _by_row(self, rows: Rows, measure: Callable[[Side, Sequence[str]], np.ndarray]) -> np.ndarray:
        """Add up what is measured of the texts of each row: ``(B,) int64``."""
        total = np.zeros(1, dtype=np.int64)
        for number, field in enumerate(self.fields):
            texts, counts = segments(rows, [field])
            total = total + sums_by_row(measure("passage" if number else "query", texts), counts)
        return total

    def _text_lengths(self, side: Side, texts: Sequence[str]) -> np.ndarray:
        lengths = self._tokens_of(side, texts)[1]
        return np.asarray(np.minimum(lengths + self.template.num_special(1), self.max_lengths[side]))

    @property
    def length_key(self) -> dict[str, object]:
        """What token lengths depend on besides the data, as JSON can hold it."""
        return {**super().length_key, "max_lengths": self.max_lengths, "prefixes": self.prefixes}
