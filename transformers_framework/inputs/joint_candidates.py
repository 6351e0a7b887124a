"""Inputs of joint re-ranking: a question and k of its candidates in one sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transformers_framework.constants import EVALUATED, ROW_IDS, SOURCE_ROW, TOKENS, TRAIN, Stage
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.inputs.candidate_checks import check_lists, check_questions, query_of
from transformers_framework.inputs.inputs import NO_NEEDS, InputNeeds
from transformers_framework.inputs.joint_segments import JointSegments
from transformers_framework.processing.grouping import IN_TURN, Grouping, grouped, permuted
from transformers_framework.processing.segments import Segments
from transformers_framework.restricted import NonNegativeInt, PositiveInt
from transformers_framework.sources.columns import (
    DatasetSource,
    Rows,
    column_lengths,
    distinct_rows,
    item_feature,
    list_sizes,
    value_numbers,
)
from transformers_framework.sources.fields import field_texts, segments
from transformers_framework.sources.query_ids import check_queries, repeated_queries
from transformers_framework.sources.scores import candidate_scores

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase
    from typing_extensions import Self

    from transformers_framework.processing.packing import Bins

HeadType = Literal["IE_1", "IE_k", "AE_1", "AE_k", "RE_1", "RE_k"]
NUM_FIELDS = 2  # the question and its candidates


class JointCandidates(JointSegments):
    """A question and k of its candidates, joined with special tokens; each entry of a batch is such a group.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Number of token types of the model; 0 if it has none.
        needs: What the objectives of the run need.
        input_columns: The column of the question and the column of the candidates: a text column if each row has one
            candidate and `index_column` has the id of its question, or '*list' if each row has all candidates of its
            question, with their labels in a list too. 'first:second' joins two columns.
        max_sequence_length: Longest input in tokens, special tokens included; with `separated` the longest text. By
            default the limit of the model, at most 512; with `separated` the share of each text of that.
        k: Number of candidates in one input with their question (joint re-ranking). Default: candidates are ranked
            alone.
        index_column: Column with the query id: rows with the same id (in prediction, without this column: with the same
            question) are candidates of one question. A row with a list of candidates has the id, or a list of it.
        label_column: Column with 1 for a relevant candidate and 0 for an irrelevant one.
        extended_token_type_ids: Token type of each segment; the last value repeats. The model's type vocabulary grows
            to fit.
        grouping: How the candidates of a question are grouped by k for training: 'fixed' (the same groups in each
            epoch, in the order of the data) or 'random' (new groups in each epoch). Evaluation groups are fixed.
        selection: Sort the candidates of a question by `scores_column`, the 'best' or the 'worst' first. Training uses
            only the first k candidates; evaluation uses all, the first k in one group.
        scores_column: Column with a score of each candidate, for instance from a first-stage ranker.
        pad_to_k: Train on groups of fewer than k candidates too; missing candidates are ignored in attention, loss and
            metrics. Without it, such a group is an error. Evaluation always pads groups.
        separated: Encode each text with its own special tokens and maximum length, then join them.
        classification_head_type: What is predicted, and from which hidden states. IE_k, AE_k, RE_k: a label for each
            candidate, from its own first token, from its own and the question's first token, or all from the question's
            first token. IE_1, AE_1: a label for the first candidate, from the question's first token or the mean of the
            first tokens of the question and all candidates; each candidate is the first of a group once. RE_1: one
            label for the group, whether any candidate is positive. Default: IE_k
        top_k_from: Column with the scores of a first ranker, and a number k: only its best k candidates of a question
            are re-ranked in validation and test, the best in the first group.
        permutation_check: Also test each group in this many random orders of its candidates, and report how much scores
            change: permutation_change (mean), permutation_change_max, permutation_flipped (fraction of predictions).
        iterable: Stream the training data without conversion to Arrow; rows are shuffled in buffers of about 10,000
            rows.

    Raises:
        ConfigurationError: When columns, lengths or flags are invalid, or the tokenizer is not a fast one.
    """

    groups_rows = evaluates_whole_rows = True

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        type_vocabulary: int,
        needs: InputNeeds = NO_NEEDS,
        *,
        input_columns: list[str],
        max_sequence_length: list[PositiveInt],
        k: PositiveInt | None = None,
        index_column: str | None = None,
        label_column: str | None = None,
        extended_token_type_ids: list[NonNegativeInt] | None = None,
        grouping: Literal["fixed", "random"] = "fixed",
        selection: Literal["best", "worst"] | None = None,
        scores_column: str | None = None,
        pad_to_k: bool = False,
        separated: bool = False,
        classification_head_type: HeadType | None = None,
        top_k_from: tuple[str, PositiveInt] | None = None,
        permutation_check: NonNegativeInt = 0,
        iterable: bool = False,
    ) -> None:
        self.pad_to_k, self.random = pad_to_k, grouping == "random"
        if iterable:
            raise ConfigurationError(
                "--iterable: -k groups all candidates of a question, and a stream is read only during training. "
                "Remove --iterable: prepared data is stored on disk, not in memory."
            )
        if (selection is None) != (scores_column is None):
            raise ConfigurationError(
                "--selection sorts candidates by the scores in --scores_column. Give both flags or neither."
            )
        super().__init__(
            tokenizer,
            type_vocabulary,
            needs,
            input_columns=input_columns,
            max_sequence_length=max_sequence_length,
            k=k,
            extended_token_type_ids=extended_token_type_ids,
            separated=separated,
        )
        if len(self.fields) != NUM_FIELDS or self.fields[0].spreads:
            raise ConfigurationError(
                f"--input_columns: found {' '.join(input_columns)}; -k needs two columns, question and "
                "candidates: 'question answer', or 'question *answers' if a row has all candidates; 'a:b' joins two."
            )
        self.question, self.candidate = self.fields
        self.in_lists = self.candidate.spreads
        self.candidate = replace(self.candidate, is_list=self.candidate.is_list and not self.in_lists, spreads=False)
        self.index_column, self.label_column = index_column, label_column
        self.selection, self.scores_column = selection, scores_column
        self.in_turn = classification_head_type in IN_TURN
        self.num_orders, self.top_k_from = permutation_check, top_k_from
        self.groupings: dict[Stage, Grouping] = {}

    # ---------------------------------------------------------------- before training

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check the columns of a whole data set, and group its candidates.

        Raises:
            DataError: When a column is missing or of the wrong type, a text is empty, lists of a row differ in length,
                one id has several questions, or a group is too small; the message has the place.
        """
        super().pre_process(dataset, source)
        queries = self._check_lists(dataset, source) if self.in_lists else self._check_pairs(dataset, source)
        if source.errors:  # they cannot be grouped
            return dataset
        scores = self._scores(dataset, source)
        if source.errors:
            return dataset
        trains = source.stage == TRAIN
        grouping = Grouping.of(queries, k=self.k, scores=scores, in_turn=self.in_turn, shuffled=self.random and trains)
        if trains and scores is not None:
            grouping = grouping.kept(self.k)
        elif source.stage in EVALUATED and self.top_k_from is not None:
            grouping = grouping.kept(self.top_k_from[1])
        if trains and not self.pad_to_k and len(short := grouping.short_questions()):
            firsts = grouping.rows[(np.cumsum(grouping.sizes) - grouping.sizes)[short]]
            rows, sizes = queries[firsts] if self.in_lists else firsts, grouping.sizes[short]
            order = np.argsort(rows, kind="stable")
            rows, sizes = rows[order], sizes[order]

            def describe(at: int) -> str:
                query = "" if self.index_column is None else f" '{query_of(dataset[int(rows[at])], self.index_column)}'"
                return (
                    f"question{query} has {sizes[at]} candidates, which cannot be split into full groups of {self.k} "
                    "(-k). Give --pad_to_k to train on smaller groups too, or another -k."
                )

            source.refuse(rows, describe)
        self.groupings[source.stage] = grouping
        return dataset

    def _check_num_segments(self, dataset: Dataset, source: DatasetSource) -> None:
        """Check nothing: lists of any length are split into groups."""

    def _check_lists(self, dataset: Dataset, source: DatasetSource) -> np.ndarray:
        """Check the lists of each row; return the row of each candidate ``(N,) int64``."""
        labels = self.label_column if source.stage != "predict" else None
        check_lists(dataset, self.candidate.columns[0], (labels, self.scores_column), source)
        if self.index_column is not None and self.index_column in dataset.column_names:
            rest, of_rest = source.sound(dataset)
            if item_feature(dataset.features[self.index_column]) is not None:
                queries = repeated_queries(rest, self.index_column, self.candidate.columns[0], of_rest)
            else:
                queries = value_numbers(rest, self.index_column)
            rest, of_rest = source.sound(dataset)
            if len(rest) == len(queries):
                check_questions(rest, self.index_column, self.question.columns, queries, of_rest)
        return np.repeat(np.arange(len(dataset)), list_sizes(dataset, self.candidate.columns[0]))

    def _check_pairs(self, dataset: Dataset, source: DatasetSource) -> np.ndarray:
        """Check the query id of every row; return it, or in prediction its question, as a number ``(N,) int64``."""
        if source.stage == "predict" and self.index_column not in dataset.column_names:
            return distinct_rows(dataset, self.question.columns)
        if self.index_column is None:
            raise ConfigurationError(
                "-k needs --index_column. Give the column with the query id, which rows of one question share. "
                f"Columns of {source.name}: {', '.join(dataset.column_names)}."
            )
        check_queries(dataset, self.index_column, source)
        queries = value_numbers(dataset, self.index_column)
        check_questions(dataset, self.index_column, self.question.columns, queries, source)
        return queries

    def _scores(self, dataset: Dataset, source: DatasetSource) -> np.ndarray | None:
        """Return a score for each candidate, the highest for the first one ``(N,) float64``."""
        if self.top_k_from is not None and source.stage in EVALUATED:
            return candidate_scores(dataset, self.top_k_from[0], source, in_lists=False, flag="top_k_from")
        if self.scores_column is None:
            return None
        scores = candidate_scores(dataset, self.scores_column, source, in_lists=self.in_lists)
        return scores if self.selection == "best" else -scores

    @property
    def rewrite_key(self) -> dict[str, object] | None:
        """Cache key of rows with one candidate each, made from lists of candidates; None without lists."""
        return {"form": "candidates", "of": self.candidate.columns, "carried": self._copied} if self.in_lists else None

    def in_stage(self, stage: Stage) -> Self:
        """Return the inputs of a stage; without the label column in prediction."""
        found = super().in_stage(stage)
        return found._with(label_column=None) if stage == "predict" and self.in_lists else found

    @property
    def _copied(self) -> tuple[str, ...]:
        """Columns from which rows with one candidate each are made."""
        found = (*self.columns, self.label_column, self.index_column)
        return tuple(dict.fromkeys(column for column in found if column))

    def rewrite(
        self, dataset: Dataset, source: DatasetSource, *, batch_size: int, num_workers: int = 1
    ) -> Iterator[pa.Table]:
        """Yield tables with one row for each candidate of each row, with its label and ``source_row``.

        Args:
            dataset: Rows with lists of candidates.
            source: Source of the rows, for messages.
            batch_size: Number of rows that are rewritten together.
            num_workers: Ignored, as nothing is tokenized.
        """
        import pyarrow as pa

        names = [name for name in self._copied if name in dataset.column_names]
        lists = {self.candidate.columns[0], self.label_column}
        if self.index_column in names and item_feature(dataset.features[self.index_column]) is not None:
            lists.add(self.index_column)
        table = dataset.select_columns(names).with_format("arrow")
        for start in range(0, len(dataset), batch_size):
            part = table[start : start + batch_size].combine_chunks()
            sizes = part.column(self.candidate.columns[0]).combine_chunks().value_lengths().to_numpy()
            rows = np.repeat(np.arange(len(sizes)), sizes)
            columns = {
                name: part.column(name).combine_chunks().flatten() if name in lists else part.column(name).take(rows)
                for name in names
            }
            yield pa.table({**columns, SOURCE_ROW: start + rows})

    def truncation(self, lengths: Sequence[int]) -> tuple[str, str]:
        """Return the start and the end of the message about truncated groups."""
        return "groups", super().truncation(lengths)[1]

    # ---------------------------------------------------------------- groups

    def num_groups(self, stage: Stage) -> int | None:
        """Return how many groups a stage has."""
        return len(self.groupings[stage])

    def groups(self, stage: Stage, seed: int, epoch: int) -> Bins:
        """Return the groups of an epoch, as bins of rows."""
        return self.groupings[stage].bins(seed, epoch)

    def in_groups(
        self, columns: Rows, sizes: np.ndarray, row_ids: np.ndarray, stage: Stage, *, seed: int, epoch: int
    ) -> dict[str, Any]:
        """Return columns of candidates as columns of groups, with a list of values per group, and ``row_ids``.

        In testing, the permuted groups come after all groups.
        """
        cached: Any = columns.get(TOKENS)
        values = {name: values for name, values in columns.items() if name != TOKENS}
        rows: dict[str, Any] = grouped({**values, ROW_IDS: row_ids.tolist()}, sizes.tolist())
        if cached is not None:  # each row has the question and a candidate; a group has the question once
            is_kept = np.ones(len(cached.lengths), dtype=bool)
            is_kept[::NUM_FIELDS] = False
            is_kept[NUM_FIELDS * (np.cumsum(sizes) - sizes)] = True
            rows[TOKENS] = cached.selected(np.flatnonzero(is_kept), sizes + 1)
        if stage != "test" or not self.num_orders:
            return rows
        first = row_ids[np.cumsum(sizes) - sizes]
        return permuted(rows, first, count=self.num_orders, k=self.k, keep_first=self.in_turn)

    # ---------------------------------------------------------------- batches

    def segments(self, rows: Rows) -> tuple[list[str], np.ndarray]:
        """Return the question and the candidates of each of B groups, and their number in each group: ``(B,)``."""
        questions = field_texts(
            {name: [group[0] for group in rows[name]] for name in self.question.columns}, self.question
        )
        counts = np.fromiter(map(len, rows[self.candidate.columns[0]]), dtype=np.int64)
        flat = {name: list(chain.from_iterable(rows[name])) for name in self.candidate.columns}
        texts, stops = field_texts(flat, self.candidate), np.cumsum(counts).tolist()
        parts = zip(questions, stops, counts.tolist(), strict=True)
        return [text for question, stop, size in parts for text in (question, *texts[stop - size : stop])], counts + 1

    def lengths(self, dataset: Dataset) -> np.ndarray:
        """Return the number of characters of every candidate, without the question: ``(N,) int64``."""
        return np.asarray(np.sum([column_lengths(dataset, column) for column in self.candidate.columns], axis=0))

    def tokenized(self, rows: Rows) -> Segments:
        """Return the tokens of the question and the candidate of each row."""
        return self._tokenized(*segments(rows, [self.question, self.candidate]))

    def input_lengths(self, segments: Segments) -> np.ndarray:
        """Return the number of tokens of each candidate and its special token, without the question ``(B,) int64``."""
        return np.asarray(np.minimum(segments.lengths[1::NUM_FIELDS] + 1, self.max_length))

    @property
    def length_key(self) -> dict[str, object]:
        """What token lengths depend on besides the data, as JSON can hold it."""
        return {**super().length_key, "form": "candidates"}
