"""Inputs of question answering: a question and its context; long contexts are split into windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import SOURCE_ROW
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.inputs.batches import EncodedBatches, list_array
from transformers_framework.inputs.inputs import NO_NEEDS, InputNeeds
from transformers_framework.inputs.segments import SegmentInputs
from transformers_framework.processing.encoding import encoded_word_starts, flat, number_words, tokenize, tokenize_words
from transformers_framework.processing.offsets import visible_offsets, with_marks
from transformers_framework.processing.reading import END, Cuts, cut
from transformers_framework.processing.windows import Ragged, stretches
from transformers_framework.restricted import NonNegativeInt, PositiveInt
from transformers_framework.sources.columns import DatasetSource, Rows, check_column, check_text_type, distinct_texts

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

OFFSETS = ("char_starts", "char_ends")  # columns of windows with one number per token of the context
POSITIONS = ("context_start", "read_from", "read_to", "shared_before", "shared_after")  # one number per window


class QuestionContext(SegmentInputs):
    """A question followed by a window of its context; a long context has several overlapping windows.

    Windows are made once, before training. They have the character offsets of their tokens. No token of a context is
    lost.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Number of token types of the model; 0 if it has none.
        needs: What the objectives of the run need.
        query_column: Text column of the question.
        context_column: Text column of the context, which contains the answer.
        max_sequence_length: Longest input in tokens: question, a window of the context, special tokens. By default the
            limit of the model, at most 512.
        doc_stride: Tokens of a long context that a window shares with the one before it, as in transformers; where that
            is more than half of a window, they share half.
        max_query_length: Longest question in tokens, and at most half of the input; longer ones lose their end, and are
            counted.

    Raises:
        ConfigurationError: When columns or lengths are invalid, or the tokenizer is not a fast one.
    """

    rewriting = "--pipeline question_answering"

    evaluates_whole_rows = True  # of several windows

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        type_vocabulary: int,
        needs: InputNeeds = NO_NEEDS,
        *,
        query_column: str,
        context_column: str,
        max_sequence_length: list[PositiveInt],
        doc_stride: NonNegativeInt = 128,
        max_query_length: PositiveInt = 64,
    ) -> None:
        self.by_flag = {"query_column": query_column, "context_column": context_column}
        for flag, column in self.by_flag.items():
            if column[:1] in ("+", "*") or ":" in column:
                raise ConfigurationError(
                    f"--{flag}: '{column}' names several texts, and answers are spans of a single text. "
                    "Give the name of one text column."
                )
        if query_column == context_column:
            raise ConfigurationError(
                f"--context_column: '{context_column}' is --query_column too. Give another column."
            )
        super().__init__(
            tokenizer,
            type_vocabulary,
            needs,
            input_columns=[query_column, context_column],
            max_sequence_length=max_sequence_length,
        )
        self.doc_stride = doc_stride
        self.capacity = self.max_length - self.template.num_special(2)
        self.max_query_length = min(max_query_length, self.capacity // 2)

    def truncation(self, lengths: Sequence[int]) -> tuple[str, str]:
        """Return the start and the end of the message about truncated questions."""
        longest = f"--max_query_length, at most half of --max_sequence_length {lengths[0]}"
        return "windows", f"have a question that was cut to {self.max_query_length} tokens ({longest})"

    # ---------------------------------------------------------------- windows, before training

    @property
    def rewrite_key(self) -> dict[str, object]:
        """Cache key of windows, serializable as JSON."""
        sizes = {"doc_stride": self.doc_stride, "max_query_length": self.max_query_length}
        special = [*vars(self.template).values()]
        return {**super().length_key, **sizes, "form": "reading", "columns": self.columns, "special": special}

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of windows from which batches are made."""
        return (*self.token_columns, *POSITIONS, "is_cut", SOURCE_ROW)

    @property
    def token_columns(self) -> tuple[str, ...]:
        """Columns of windows with one number per token."""
        return ("input_ids", *(("word_ids",) if self.needs.word_ids else ()), *OFFSETS)

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check the columns of a whole data set, before training.

        Raises:
            DataError: When a column is missing or not text, or a question or context is null or empty.
        """
        for (flag, column), field in zip(self.by_flag.items(), self.fields, strict=True):
            check_column(dataset, column, source, flag=flag)
            check_text_type(dataset, column, source, is_list=False, flag=flag)
            self._check_not_empty(dataset, field, source)
        return dataset

    def rewrite(
        self, dataset: Dataset, source: DatasetSource, *, batch_size: int, num_workers: int = 1
    ) -> Iterator[pa.Table]:
        """Yield tables of all windows, row by row.

        A window has its ``input_ids``, question and special tokens included; ``context_start``, the position of its
        first context token; ``char_starts`` and ``char_ends``, the character offsets of each context token;
        ``read_from`` and ``read_to``, the characters between which it contains complete answers; ``shared_before`` and
        ``shared_after``, the tokens that it shares with its neighbours; ``is_cut``, whether the question was; and its
        ``source_row``. All are ``int32`` but the last two.

        Args:
            dataset: Questions and contexts.
            source: Source of the rows, for messages.
            batch_size: Number of rows that are tokenized together, each distinct text once.
            num_workers: Number of processes.
        """
        columns = dataset.select_columns(list(self.by_flag.values())).with_format("arrow")
        return EncodedBatches(self._windows, columns, batch_size).shown(f"Tokenizing {source.name}", num_workers)

    def _windows(self, first_row: int, rows: pa.Table) -> pa.Table:
        import pyarrow as pa

        (asked, questions), (read, contexts) = (distinct_texts(rows.column(name)) for name in self.by_flag.values())
        encodings = self.backend.encode_batch(contexts, add_special_tokens=False)
        of_contexts, context_sizes = flat([encoding.ids for encoding in encodings])
        of_questions, question_sizes, *starts = self._encoded_questions([question.strip() for question in questions])
        special, special_sizes = flat([self.template.prefix, self.template.between, self.template.suffix])
        ids = np.concatenate([special, of_questions, of_contexts]).astype(np.int32)
        sizes = np.concatenate([special_sizes, question_sizes, context_sizes])
        begins = np.cumsum(sizes) - sizes  # of each text in the ids
        asked, read = len(special_sizes) + asked, len(special_sizes) + len(questions) + read

        kept = np.minimum(sizes[asked], self.max_query_length)
        cuts = cut(sizes[read], self.capacity - kept, self.doc_stride)
        row = cuts.contexts
        prefix, between, suffix = np.broadcast_to(np.arange(3)[:, None], (3, len(row)))
        parts = np.stack([prefix, asked[row], between, read[row], suffix], axis=1)  # (W, 5)
        firsts, lengths = begins[parts], sizes[parts]
        firsts[:, 3] += cuts.firsts
        if self.template.keeps_end:
            firsts[:, 1] += lengths[:, 1] - kept[row]
        lengths[:, 1], lengths[:, 3] = kept[row], cuts.lengths
        taken = stretches(firsts.ravel(), lengths.ravel())
        columns = {"input_ids": Ragged(ids[taken], lengths.sum(axis=1))}
        if self.needs.word_ids:
            begins_word = np.concatenate([*starts, encoded_word_starts(encodings, context_sizes)])
            is_text, numbers = taken >= len(special), np.full(len(taken), -1)
            numbers[is_text] = number_words(begins_word[taken[is_text] - len(special)], lengths[:, 1] + lengths[:, 3])
            columns["word_ids"] = Ragged(numbers, columns["input_ids"].lengths)
        char_starts, char_ends = _char_offsets(encodings, context_sizes, contexts)
        of_context = begins[read] - len(special) - len(of_questions)  # of each context in its characters
        of_window = stretches(of_context[row] + cuts.firsts, cuts.lengths)
        for name, values in zip(OFFSETS, (char_starts, char_ends), strict=True):
            columns[name] = Ragged(values[of_window], cuts.lengths)
        read_from, read_to = _answer_ranges(cuts, of_context[row], sizes[read][row], char_starts, char_ends)
        context_start = lengths[:, :3].sum(axis=1)
        scalars = (context_start, read_from, read_to, cuts.before, cuts.after)
        return pa.table(
            {
                **{name: list_array(ragged) for name, ragged in columns.items()},
                **{name: values.astype(np.int32) for name, values in zip(POSITIONS, scalars, strict=True)},
                "is_cut": (kept < sizes[asked])[row],
                SOURCE_ROW: first_row + row,
            }
        )

    def _encoded_questions(self, questions: list[str]) -> tuple[np.ndarray, ...]:
        """Return the ids and lengths of questions, and the starts of words if needed; offsets are not needed."""
        if self.needs.word_ids:
            return tokenize_words(self.backend, questions, self._word_marks)
        return tokenize(self.backend, questions)

    # ---------------------------------------------------------------- batches of windows

    def post_process(self, rows: Rows, *, pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        """Turn B windows into ``input_ids``, ``attention_mask`` and ``token_type_ids``: ``(B, L) int64``.

        Also returns ``truncated``, whose question lost tokens: ``(B,) bool``; and where objectives need it, ``word_ids
        (B, L) int64``, the number of each token's word within its row, -1 at special tokens and padding.
        """
        names = [name for name in self.token_columns if name not in OFFSETS]
        batch = self.padded({name: Ragged.of(rows[name]) for name in names}, pad_to_multiple_of)
        attended = batch["attention_mask"]
        if self.token_types is not None:
            starts = attended.argmax(axis=1) + np.asarray(rows["context_start"])
            is_context = np.arange(attended.shape[1]) >= starts[:, None]
            batch["token_type_ids"] = np.where(is_context, *self.token_types[::-1]) * attended
        batch["truncated"] = np.asarray(rows["is_cut"], dtype=bool)
        return batch


def _char_offsets(encodings: Sequence[Any], sizes: np.ndarray, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the start and the exclusive end of the characters of every token, without spaces ``(T,) int32``.

    Accents that a tokenizer removes are counted as characters of the token before them.
    """
    numbers = chain.from_iterable(chain.from_iterable(encoding.offsets for encoding in encodings))
    offsets = np.fromiter(numbers, dtype=np.int64, count=2 * int(sizes.sum())).reshape(-1, 2)
    marked = with_marks(offsets[:, 0], offsets[:, 1], sizes, texts)
    char_starts, char_ends = visible_offsets(offsets[:, 0], marked, sizes, texts)
    return char_starts.astype(np.int32), char_ends.astype(np.int32)


def _answer_ranges(
    cuts: Cuts, begins: np.ndarray, sizes: np.ndarray, char_starts: np.ndarray, char_ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return where answers in each window can start, and where the next token starts ``(W,) int64``."""
    first, after = begins + cuts.firsts, begins + cuts.firsts + cuts.lengths
    is_first, is_last = cuts.firsts == 0, cuts.firsts + cuts.lengths == sizes
    # if several tokens have the same character, an answer starts with the last one
    read_from = np.where(is_first, 0, np.minimum(char_ends[first - 1], char_starts[first]))
    return read_from, np.where(is_last, END, char_starts[np.where(is_last, 0, after)])
