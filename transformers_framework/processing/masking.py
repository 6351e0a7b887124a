"""Corruption of token batches: which tokens are selected, what they become, what is to be predicted.

A token's random numbers depend on its row's key and its place among the tokens that count, never on padding, its side
or the other rows; so a text is corrupted alike in every batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from transformers_framework.constants import IGNORE_INDEX
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.processing.random import uniform_at
from transformers_framework.processing.windows import steps

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COLUMNS_MULTIPLE = 8  # few shapes of positions by row
LABELS_MULTIPLE = 64  # shapes of sparse labels that repeat save a quarter of the memory
_BELOW_ONE = 1 - 2.0**-53


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What corruption must know about a tokenizer.

    Args:
        special: Tokens that are never selected and never a replacement ``(V,) bool``.
        regular: Tokens that may be sampled as replacements, ascending ``(R,) int64``.
        mask_token_id: The mask, where the tokenizer has one.

    Examples:
        >>> special = np.array([True, True, False, False, False])
        >>> vocabulary = Vocabulary(special, regular=np.array([2, 3, 4]), mask_token_id=1)
        >>> vocabulary.eligible(np.array([[2, 1, 4, 0]])).tolist()
        [[True, False, True, False]]
        >>> vocabulary.others(np.array([2, 2, 3, 1, 1]), np.array([0, 0.5, 0.5, 0.5, 0.99])).tolist()
        [3, 4, 4, 3, 4]
    """

    special: np.ndarray
    regular: np.ndarray
    mask_token_id: int | None = None

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, config_vocab_size: int, *, needs_mask: bool = False) -> Vocabulary:
        """Read the vocabulary of a fast tokenizer, for a model with so many embeddings.

        Special tokens are those of the tokenizer; regular ones all others that have a text and an embedding.

        Raises:
            ConfigurationError: When there is no mask token and one is needed, or there are fewer than two tokens to
                sample replacements from.
        """
        name = type(tokenizer).__name__
        if needs_mask and tokenizer.mask_token_id is None:
            raise ConfigurationError(
                f"--pre_trained_tokenizer: {name} has no mask token, which masking needs. Use the tokenizer of a "
                "masked language model, or add a 'mask_token' to its tokenizer_config.json."
            )
        known = np.fromiter(tokenizer.get_vocab().values(), dtype=np.int64)
        special = np.zeros(max(config_vocab_size, int(known.max(initial=-1)) + 1), dtype=bool)
        special[tokenizer.all_special_ids] = True
        special[[number for number, token in tokenizer.added_tokens_decoder.items() if token.special]] = True
        known = np.unique(known[known < config_vocab_size])
        regular = known[~special[known]]
        if len(regular) < 2:
            raise ConfigurationError(
                f"--pre_trained_tokenizer: {name} has {len(regular)} tokens that are not special and that the model "
                f"knows (its vocab_size is {config_vocab_size}). Use the tokenizer of the model."
            )
        return cls(special, regular, tokenizer.mask_token_id)

    @property
    def size(self) -> int:
        """Number of ids that may occur."""
        return len(self.special)

    @cached_property
    def _ranks(self) -> np.ndarray:
        """Place of each id among the regular ones, R where it is not one: ``(V,) int64``."""
        ranks = np.full(self.size, len(self.regular), dtype=np.int64)
        ranks[self.regular] = np.arange(len(self.regular))
        return ranks

    def eligible(self, input_ids: np.ndarray) -> np.ndarray:
        """Return which tokens may be selected, all but special ones, to which padding belongs: ``(B, L) bool``."""
        special: np.ndarray = self.special[input_ids]
        return ~special

    def others(self, ids: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Return regular tokens that differ from those given, all equally likely.

        Args:
            ids: Tokens to be replaced ``(N,) int64``.
            draws: Uniform numbers in [0, 1) ``(N,) float64``.
        """
        own = self._ranks[ids]
        places = (draws * (len(self.regular) - (own < len(self.regular)))).astype(np.int64)
        found: np.ndarray = self.regular[places + (places >= own)]
        return found


def select(
    eligible: np.ndarray, probability: float, keys: np.ndarray, word_ids: np.ndarray | None = None
) -> np.ndarray:
    """Select tokens, or whole words where their numbers are given: :func:`select_tokens`, :func:`select_words`.

    Examples:
        >>> from transformers_framework.processing.random import keys
        >>> eligible, words = np.array([[True, True, True]]), np.array([[0, 0, 1]])
        >>> select(eligible, 1.0, keys(1337, 0, [0], "mask"), words).tolist()
        [[True, True, True]]
    """
    if word_ids is None:
        return select_tokens(eligible, probability, keys)
    return select_words(word_ids, eligible, probability, keys)


def select_tokens(eligible: np.ndarray, probability: float, keys: np.ndarray) -> np.ndarray:
    """Select each eligible token with a probability, independently of the others.

    Args:
        eligible: Which tokens may be selected ``(B, L) bool``.
        probability: Of each one to be selected.
        keys: Of the rows, for this purpose alone ``(B,) uint64``.

    Returns:
        Which tokens are selected ``(B, L) bool``.

    Examples:
        >>> from transformers_framework.processing.random import keys
        >>> text, padded = np.array([[1, 1, 1, 0]], dtype=bool), np.array([[0, 0, 1, 1, 1]], dtype=bool)
        >>> select_tokens(text, 0.7, keys(1337, 0, [0], "mask")).tolist()
        [[True, False, False, False]]
        >>> select_tokens(padded, 0.7, keys(1337, 0, [0], "mask")).tolist()
        [[False, False, True, False, False]]
    """
    counts, numbers = _places(eligible)
    selected = np.zeros_like(eligible)
    selected[eligible] = uniform_at(np.repeat(keys, counts), numbers) < probability
    return selected


def select_words(word_ids: np.ndarray, eligible: np.ndarray, probability: float, keys: np.ndarray) -> np.ndarray:
    """Select whole words, each with a probability and independently of the others.

    Args:
        word_ids: Number of each token's word within its row ``(B, L) int64``; what is not eligible has any number.
        eligible: Which tokens may be selected ``(B, L) bool``.
        probability: Of each word to be selected, hence of each token.
        keys: Of the rows, for this purpose alone ``(B,) uint64``.

    Returns:
        Which tokens are selected, all eligible pieces of a word or none ``(B, L) bool``.

    Examples:
        >>> from transformers_framework.processing.random import keys
        >>> word_ids = np.array([[-1, 0, 0, 0, 1, 1, -1]])
        >>> select_words(word_ids, word_ids >= 0, 0.7, keys(1337, 0, [0], "mask")).tolist()
        [[False, True, True, True, False, False, False]]
    """
    selected = np.zeros_like(eligible)
    every_key = np.repeat(keys, eligible.sum(axis=1))
    selected[eligible] = uniform_at(every_key, word_ids[eligible]) < probability
    return selected


def mask_tokens(
    input_ids: np.ndarray,
    selected: np.ndarray,
    vocabulary: Vocabulary,
    keys: np.ndarray,
    *,
    masked: float = 0.8,
    replaced: float = 0.1,
    unchanged: float = 0.1,
) -> np.ndarray:
    """Mask, replace or keep each selected token.

    As in Devlin, Chang, Lee, Toutanova 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language
    Understanding", section 3.1, but that a replacement is never the token itself and never special. Each token
    is decided on its own, also when whole words were selected, as in BERT.

    Args:
        input_ids: Tokens ``(B, L) int64``.
        selected: Which of them may change ``(B, L) bool``.
        vocabulary: Where replacements come from; it has a mask token, unless ``masked`` is 0.
        keys: Of the rows, for this purpose alone ``(B,) uint64``.
        masked: Share of the selected tokens that become the mask.
        replaced: Share that becomes another regular token, all equally likely.
        unchanged: Share that stays. The three sum to 1.

    Returns:
        The corrupted tokens, an array of its own ``(B, L) int64``.

    Examples:
        >>> from transformers_framework.processing.random import keys
        >>> vocabulary = Vocabulary(np.arange(100) < 5, regular=np.arange(5, 100), mask_token_id=4)
        >>> ids = np.array([[1, 50, 51, 52, 53, 54, 2]])
        >>> mask_tokens(ids, ids > 4, vocabulary, keys(1337, 0, [2], "corrupt"), masked=0.4, replaced=0.4,
        ...             unchanged=0.2).tolist()
        [[1, 4, 4, 4, 53, 6, 2]]
    """
    counts, numbers = _places(selected)
    draws = uniform_at(np.repeat(keys, counts), numbers) * (masked + replaced + unchanged)
    tokens = input_ids[selected]
    changed = np.flatnonzero((draws >= masked) & (draws < masked + replaced))
    # a number within the interval of replacements is uniform in it, so it also chooses the token
    again = np.minimum((draws[changed] - masked) / replaced, _BELOW_ONE) if len(changed) else draws[changed]
    others = vocabulary.others(tokens[changed], again)
    if masked:
        assert vocabulary.mask_token_id is not None
        tokens[draws < masked] = vocabulary.mask_token_id
    tokens[changed] = others
    return _with(input_ids, selected, tokens)


def replace_tokens(input_ids: np.ndarray, selected: np.ndarray, vocabulary: Vocabulary, keys: np.ndarray) -> np.ndarray:
    """Replace each selected token by another regular one, all equally likely; none stays what it was.

    As in Di Liello, Gabburo, Moschitti 2022, "Effective Pre-Training Objectives for Transformer-based Autoencoders".

    Args:
        input_ids: Tokens ``(B, L) int64``.
        selected: Which of them change ``(B, L) bool``.
        vocabulary: Where replacements come from.
        keys: Of the rows, for this purpose alone ``(B,) uint64``.

    Returns:
        The corrupted tokens, an array of its own ``(B, L) int64``.

    Examples:
        >>> from transformers_framework.processing.random import keys
        >>> vocabulary = Vocabulary(np.arange(100) < 5, regular=np.arange(5, 100))
        >>> ids = np.array([[1, 50, 51, 2]])
        >>> replace_tokens(ids, ids > 4, vocabulary, keys(1337, 0, [0], "replace")).tolist()
        [[1, 9, 80, 2]]
    """
    counts, numbers = _places(selected)
    draws = uniform_at(np.repeat(keys, counts), numbers)
    return _with(input_ids, selected, vocabulary.others(input_ids[selected], draws))


def draws_at(selected: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Sample a number for each selected token, for a choice that is made on the device.

    Integers, because strategies in half precision round whatever is a float.

    Args:
        selected: Which tokens need one ``(B, L) bool``.
        keys: Of the rows, for this purpose alone ``(B,) uint64``.

    Returns:
        Uniform numbers below 2^31, 0 for all other tokens ``(B, L) int32``.

    Examples:
        >>> from transformers_framework.processing.random import keys
        >>> draws_at(np.array([[False, True, True]]), keys(1337, 0, [0], "draw")).tolist()
        [[0, 647688647, 727578417]]
    """
    counts, numbers = _places(selected)
    draws = np.zeros(selected.shape, dtype=np.int32)
    draws[selected] = uniform_at(np.repeat(keys, counts), numbers) * 2.0**31
    return draws


def labels_of(input_ids: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """Return what is to be predicted: the original of selected tokens, -100 elsewhere ``(B, L) int64``.

    Examples:
        >>> labels_of(np.array([[1, 7, 8, 2]]), np.array([[False, False, True, False]])).tolist()
        [[-100, -100, 8, -100]]
    """
    return np.where(selected, input_ids, IGNORE_INDEX)


def sparse_labels(labels: np.ndarray, multiple: int = LABELS_MULTIPLE) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the labels of a batch, and the labels.

    Args:
        labels: Labels, -100 where there is none ``(B, L) int64``.
        multiple: How many are returned is rounded up to a multiple of this, and never 0.

    Returns:
        Places in the flattened batch and the labels there, both ``(N,) int64``. Padding has position 0 and label
        -100.

    Examples:
        >>> places, found = sparse_labels(np.array([[-100, 7], [8, -100], [-100, 9]]), multiple=2)
        >>> places.tolist(), found.tolist()
        ([1, 2, 5, 0], [7, 8, 9, -100])
    """
    flat = labels.reshape(-1)
    found = np.flatnonzero(flat != IGNORE_INDEX)
    num = max(-(-len(found) // multiple), 1) * multiple
    positions, kept = np.zeros(num, dtype=np.int64), np.full(num, IGNORE_INDEX, dtype=np.int64)
    positions[: len(found)], kept[: len(found)] = found, flat[found]
    return positions, kept


def label_columns(labels: np.ndarray, num: int, multiple: int = COLUMNS_MULTIPLE) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the labels of a batch by row.

    Args:
        labels: Labels, -100 where there is none ``(B, L) int64``.
        num: How many places are returned, N: as many as :func:`sparse_labels` returns labels.
        multiple: The most labels of a row are rounded up to a multiple of this, at most L, and never 0.

    Returns:
        The positions in each row ``(B, P) int64``, 0 as padding, and the places of the labels in that, flattened
        ``(N,) int64``. Padding has place 0.

    Examples:
        >>> columns, places = label_columns(np.array([[-100, 7, -100], [8, -100, 9]]), num=4, multiple=2)
        >>> columns.tolist(), places.tolist()
        ([[1, 0], [0, 2]], [0, 2, 3, 0])
    """
    chosen = labels != IGNORE_INDEX
    counts, numbers = _places(chosen)
    width = min(max(-(-int(counts.max()) // multiple), 1) * multiple, labels.shape[1])
    rows, positions = np.nonzero(chosen)
    columns, places = np.zeros((len(labels), width), dtype=np.int64), np.zeros(num, dtype=np.int64)
    columns[rows, numbers], places[: len(rows)] = positions, rows * width + numbers
    return columns, places


def _places(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many entries each row has chosen ``(B,)`` and the number of each within its row ``(N,)``."""
    counts = chosen.sum(axis=1)
    return counts, steps(counts)


def _with(input_ids: np.ndarray, selected: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    changed: np.ndarray = input_ids.copy()
    changed[selected] = tokens
    return changed
