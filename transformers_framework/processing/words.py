"""Lists of words become pieces, and pieces know their words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.processing.encoding import tokenize
from transformers_framework.processing.fields import parse_field
from transformers_framework.processing.windows import steps

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def word_column(input_columns: Sequence[str]) -> str:
    """Return the list column that holds the words of a row.

    Raises:
        ConfigurationError: When it is not one list column.

    Examples:
        >>> word_column(["tokens"]), word_column(["+tokens"])
        ('tokens', 'tokens')
    """
    fields = [parse_field(column) for column in input_columns]
    if len(fields) != 1 or fields[0].spreads or len(fields[0].columns) != 1:
        raise ConfigurationError(
            f"--input_columns: {' '.join(input_columns)} is not one list of words. Give the column that holds the "
            "list, as in --input_columns tokens."
        )
    return fields[0].columns[0]


class WordTokenizer:
    """Tokenize words one by one, as they would be in the middle of a text.

    The ids are those of ``is_split_into_words=True``. Tokenizers that tell words by the space before them, as
    RoBERTa's, get it: transformers wants them to be loaded anew for that, with ``add_prefix_space=True``.

    Args:
        backend: As ``bare_tokenizer`` returns it.
    """

    def __init__(self, backend: Tokenizer) -> None:
        self.backend = backend
        alone, spaced, text = (backend.encode(text, add_special_tokens=False).ids for text in ("a", " a", "a a"))
        self.needs_space = text[-len(alone) :] != alone and text[-len(spaced) :] == spaced
        self.added = {token.content for token in backend.get_added_tokens_decoder().values()}

    def __call__(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all words, without special tokens.

        Args:
            words: N words.

        Returns:
            The ids of all words one after the other ``(T,) int64`` and the pieces of each ``(N,) int64``, of which an
            empty word has none.
        """
        number = {word: index for index, word in enumerate(dict.fromkeys(words))}  # a third to a half of them is new
        ids, lengths = tokenize(self.backend, [self._in_text(word) for word in number])
        which = np.fromiter(map(number.__getitem__, words), dtype=np.int64, count=len(words))
        pieces = lengths[which]
        return ids[np.repeat((np.cumsum(lengths) - lengths)[which], pieces) + steps(pieces)], pieces

    def _in_text(self, word: str) -> str:
        spaced = not self.needs_space or word[:1] in ("", " ") or word in self.added
        return word if spaced else f" {word}"


def first_pieces(word_ids: np.ndarray) -> np.ndarray:
    """Return where each word of a row begins.

    Args:
        word_ids: Word of each token, rising, -1 where there is none ``(B, L) int64``.

    Returns:
        The position of the first token of each word, -1 for a word without tokens ``(B, W) int64``; W is the number of
        words up to the last one with a token.

    Examples:
        >>> first_pieces(np.array([[-1, 0, 0, 2, -1], [-1, 0, -1, -1, -1]])).tolist()
        [[1, -1, 3], [1, -1, -1]]
    """
    begins = word_ids >= 0
    begins[:, 1:] &= word_ids[:, 1:] != word_ids[:, :-1]
    rows, positions = np.nonzero(begins)
    found = np.full((len(word_ids), 1 + int(word_ids.max(initial=-1))), -1, dtype=np.int64)
    found[rows, word_ids[rows, positions]] = positions
    return found
