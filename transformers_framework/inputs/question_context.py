"""A question and the text that answers it, cut into windows where it is long: the input of machine reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import SOURCE_ROW
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.inputs.batches import EncodedBatches, list_array
from transformers_framework.inputs.text import TextInputs
from transformers_framework.processing.columns import Origin, check_column, check_text_type, first_empty
from transformers_framework.processing.encoding import encoded_word_starts, flat, number_words, tokenize, tokenize_words
from transformers_framework.processing.fields import as_text
from transformers_framework.processing.reading import END, Cuts, cut, visible_offsets
from transformers_framework.processing.windows import Ragged, joined, steps, sums_by_row, surrounded
from transformers_framework.restricted import NonNegativeInt, PositiveInt

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

OFFSETS = ("char_starts", "char_ends")  # columns of windows with a number a token of the context
PLACES = ("context_start", "read_from", "read_to", "shared_before", "shared_after")  # with a number a window


class QuestionContext(TextInputs):
    """A question before a window of its context; a context that is long has several windows, which overlap.

    Windows are made once, before training. Each knows the characters of the context that its tokens stand for. Nothing
    of a context is lost.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Token types that the model can tell apart; 0 when it has none.
        query_column: Text column of the question.
        context_column: Text column of what the question is asked about, and the answer is a part of.
        max_sequence_length: Longest input in tokens: question, a window of the context, special tokens.
        doc_stride: Tokens of a long context that a window shares with the one before it, as in transformers; where that
            is more than half of a window, they share half.
        max_query_length: Longest question in tokens, and at most half of the input; longer ones lose their end, and are
            counted.

    Raises:
        ConfigurationError: When columns or lengths make no sense, or the tokenizer is a slow one.
    """

    rewriting = "--pipeline question_answering"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        type_vocabulary: int,
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
                    f"--{flag}: '{column}' would be made of several texts, and answers are places in a single one. "
                    "Give the name of one text column."
                )
        if query_column == context_column:
            raise ConfigurationError(
                f"--context_column: '{context_column}' is --query_column too. Give another column."
            )
        super().__init__(
            tokenizer,
            type_vocabulary,
            input_columns=[query_column, context_column],
            max_sequence_length=max_sequence_length,
        )
        self.doc_stride = doc_stride
        self.room = self.max_length - self.template.num_special(2)
        self.max_query_length = min(max_query_length, self.room // 2)

    def truncation(self, lengths: Sequence[int]) -> tuple[str, str]:
        """Return what may lose tokens and why, for messages: nothing but questions does."""
        longest = f"--max_query_length, at most half of --max_sequence_length {lengths[0]}"
        return "windows", f"have a question that was cut to {self.max_query_length} tokens ({longest})"

    # ---------------------------------------------------------------- windows, before training

    @property
    def rewrite_key(self) -> dict[str, Any]:
        """What windows depend on besides the data, as JSON can hold it."""
        sizes = {"doc_stride": self.doc_stride, "max_query_length": self.max_query_length}
        special = [self.template.prefix, self.template.between, self.template.suffix]
        return {**super().length_key, **sizes, "form": "reading", "columns": self.columns, "special": special}

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of windows that batches are made from."""
        return (*self.token_columns, *PLACES, "is_cut", SOURCE_ROW)

    @property
    def token_columns(self) -> tuple[str, ...]:
        """Columns of windows with one number a token."""
        return ("input_ids", *(("word_ids",) if self.tracks_words else ()), *OFFSETS)

    def pre_process(self, dataset: Dataset, origin: Origin) -> Dataset:
        """Check the columns of a whole data set, before training.

        Raises:
            DataError: When a column is missing or not text, or a question or context is null or empty.
        """
        for (flag, column), field in zip(self.by_flag.items(), self.fields, strict=True):
            check_column(dataset, column, origin, flag=flag)
            check_text_type(dataset, column, origin, is_list=False, flag=flag)
            if (row := first_empty(dataset, [column])) is not None:
                raise DataError(
                    f"{origin.place(row)}: the text in '{column}' is null or empty. Remove the row or fill it in."
                )
            self._check_tokens(dataset, field, origin)
        return dataset

    def rewrite(self, dataset: Dataset, origin: Origin, *, batch_size: int, num_workers: int = 1) -> Iterator[pa.Table]:
        """Return all windows, row after row, as Arrow tables.

        A window has its ``input_ids``, question and special tokens included; ``context_start``, the place of its first
        token of the context; ``char_starts`` and ``char_ends``, the characters of each token of the context;
        ``read_from`` and ``read_to``, the characters between which it holds an answer whole;
        ``shared_before`` and ``shared_after``, the tokens that it shares with its neighbours; ``is_cut``, whether the
        question was; and its ``source_row``. All are ``int32`` but the last two.

        Args:
            dataset: Questions and contexts.
            origin: Where they come from, for messages.
            batch_size: Rows that are tokenized together, each distinct text among them once.
            num_workers: Processes that tokenize.
        """
        source = dataset.select_columns(list(self.by_flag.values()))
        return EncodedBatches(self._windows, source, batch_size).in_order(num_workers)

    def _windows(self, first_row: int, rows: Mapping[str, list[Any]]) -> pa.Table:
        import pyarrow as pa

        questions, contexts = ([as_text(text) for text in rows[column]] for column in self.by_flag.values())
        number = {text: place for place, text in enumerate(dict.fromkeys(text.strip() for text in questions))}
        places = {text: place for place, text in enumerate(dict.fromkeys(contexts), len(number))}
        encodings = self.backend.encode_batch([*places], add_special_tokens=False)
        of_questions, lengths, *starts = self._asked([*number])
        ids, of_contexts = flat([encoding.ids for encoding in encodings])
        ids, sizes = np.concatenate([of_questions, ids]), np.concatenate([lengths, of_contexts])
        begins = np.cumsum(sizes) - sizes  # of each text in the ids

        asked = np.array([number[text.strip()] for text in questions])
        read = np.array([places[text] for text in contexts])
        kept = np.minimum(sizes[asked], self.max_query_length)
        cuts = cut(sizes[read], self.room - kept, self.doc_stride)
        row = cuts.contexts
        # question, window, question, window, …
        lengths = np.stack([kept[row], cuts.lengths], axis=1).ravel()
        firsts = np.stack([begins[asked][row], begins[read][row] + cuts.firsts], axis=1).ravel()
        taken = np.repeat(firsts, lengths) + steps(lengths)
        counts, between = np.full(len(row), 2), self.template.between
        tokens = joined(Ragged(ids[taken], lengths), counts, between)
        columns = {"input_ids": surrounded(tokens, self.template.prefix, self.template.suffix)}
        if self.tracks_words:
            starts.append(encoded_word_starts(encodings, of_contexts))
            numbers = number_words(np.concatenate(starts)[taken], sums_by_row(lengths, counts))
            words = joined(Ragged(numbers, lengths), counts, [-1] * len(between))
            around = [-1] * len(self.template.prefix), [-1] * len(self.template.suffix)
            columns["word_ids"] = surrounded(words, *around)
        char_starts, char_ends = _characters(encodings, of_contexts, list(places))
        of_context = begins[read] - len(of_questions)  # of each context in its characters
        of_window = np.repeat(of_context[row] + cuts.firsts, cuts.lengths) + steps(cuts.lengths)
        columns |= {
            name: Ragged(values[of_window], cuts.lengths)
            for name, values in zip(OFFSETS, (char_starts, char_ends), strict=True)
        }
        read_from, read_to = _read(cuts, of_context[row], sizes[read][row], char_starts, char_ends)
        context_start = len(self.template.prefix) + kept[row] + len(between)
        scalars = (context_start, read_from, read_to, cuts.before, cuts.after)
        return pa.table(
            {
                **{name: list_array(ragged) for name, ragged in columns.items()},
                **{name: values.astype(np.int32) for name, values in zip(PLACES, scalars, strict=True)},
                "is_cut": (kept < sizes[asked])[row],
                SOURCE_ROW: first_row + row,
            }
        )

    def _asked(self, questions: list[str]) -> tuple[np.ndarray, ...]:
        """Return ids and lengths of questions, whose characters nobody asks for; and where words begin, if tracked."""
        if self.tracks_words:
            return tokenize_words(self.backend, questions, self._word_marks)
        return tokenize(self.backend, questions)

    # ---------------------------------------------------------------- batches of windows

    def post_process(self, rows: Mapping[str, Sequence[Any]], *, pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        """Turn B windows into ``input_ids``, ``attention_mask`` and ``token_type_ids``: ``(B, L) int64``.

        Also returns ``truncated``, whose question lost tokens: ``(B,) bool``; and with ``tracks_words`` the number of
        each token's word within its row, ``word_ids (B, L) int64``, -1 at special tokens and padding.
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


def _characters(encodings: Sequence[Any], sizes: np.ndarray, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first character of every token and the one behind its last ``(T,) int64``, none of them a space."""
    numbers = chain.from_iterable(chain.from_iterable(encoding.offsets for encoding in encodings))
    offsets = np.fromiter(numbers, dtype=np.int64, count=2 * int(sizes.sum())).reshape(-1, 2)
    return visible_offsets(offsets[:, 0], offsets[:, 1], sizes, texts)


def _read(
    cuts: Cuts, begins: np.ndarray, sizes: np.ndarray, char_starts: np.ndarray, char_ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return where answers in each window can begin, and where the token behind it starts ``(W,) int64``."""
    first, behind = begins + cuts.firsts, begins + cuts.firsts + cuts.lengths
    is_first, is_last = cuts.firsts == 0, cuts.firsts + cuts.lengths == sizes
    # of tokens of the same character, an answer begins with the last one
    read_from = np.where(is_first, 0, np.minimum(char_ends[first - 1], char_starts[first]))
    return read_from, np.where(is_last, END, char_starts[np.where(is_last, 0, behind)])
