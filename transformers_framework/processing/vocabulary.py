"""Vocabularies learned from texts: word pieces, byte-level pairs and unigram pieces; equal texts make equal ones.

The trainers of tokenizers iterate over hash maps whose order changes from process to process. It does not matter to
byte pairs, whose symbols are known before. Word pieces are numbered by hand, hence two passes over the texts. The sums
of Unigram's trainer have another order each time; SentencePiece's is used, on the words that are counted.
"""

from __future__ import annotations

import io
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transformers_framework.processing.backend import UNWRITABLE

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE, Unigram, WordPiece

logger = logging.getLogger(__name__)

Texts = Callable[[], Iterator[list[str]]]  # starts to read all texts, in batches

FEWEST = 2  # occurrences of a pair of pieces that becomes one
CONTINUES = "##"  # mark of word pieces that do not begin a word
LONGEST_WORD = 100  # characters; longer ones are one unknown token, as in BERT
LONGEST_PIECE = 16  # characters of a unigram piece, as in SentencePiece
NUM_THREADS = 16  # of SentencePiece; the order of its sums, and so the result, depends on it, not on the CPUs
CHARMAPS = {False: "nmt_nfkc", True: "nmt_nfkc_cf"}  # SentencePiece's normalizations: Unicode's NFKC, and case folding


class TooFewTokensError(ValueError):
    """A vocabulary has no place for its characters.

    Args:
        fewest: The smallest size that has a place for each.
    """

    def __init__(self, fewest: int) -> None:
        super().__init__(f"a vocabulary of these texts has at least {fewest:,} tokens")
        self.fewest = fewest


def word_pieces(
    backend: Tokenizer, texts: Texts, size: int, special: Sequence[str], unknown: str, coverage: float
) -> WordPiece:
    """Learn word pieces (Schuster, Nakajima 2012, "Japanese and Korean Voice Search", by the frequency of pairs).

    Args:
        backend: Tokenizer that normalizes texts and splits them into words.
        texts: The texts.
        size: Number of tokens, special ones included; fewer if the texts have no more pairs that occur twice.
        special: Special tokens, which get the first ids.
        unknown: The special token of words with unknown characters.
        coverage: Share of the characters of the texts that the vocabulary has; the rarest are unknown.

    Returns:
        The model, with the special tokens.

    Raises:
        TooFewTokensError: When the size is too small for the characters.
    """
    from tokenizers import Tokenizer, models, trainers

    words = count_words(backend, texts())
    logger.info("Learning word pieces from %s distinct words", f"{len(words):,}")
    alphabet = frequent_characters(words, coverage)
    inner = sorted({CONTINUES + letter for word in words for letter in word[1:] if letter in alphabet})
    first = [*special, *sorted(alphabet), *inner]
    if size < len(first):
        raise TooFewTokensError(len(first))
    learner = Tokenizer(models.WordPiece())
    learner.normalizer, learner.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    options: dict[str, Any] = {"initial_alphabet": sorted(alphabet), "limit_alphabet": len(alphabet)}
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=FEWEST,
        special_tokens=[*special, *inner],  # numbered before the others, which would be numbered in any order
        continuing_subword_prefix=CONTINUES,
        show_progress=False,
        **options,
    )
    learner.train_from_iterator(texts(), trainer)
    found = learner.get_vocab()
    rest = sorted(found.keys() - set(first), key=found.__getitem__)
    numbers = {token: number for number, token in enumerate([*first, *rest])}
    return models.WordPiece(numbers, unk_token=unknown, max_input_chars_per_word=LONGEST_WORD)


def byte_pairs(backend: Tokenizer, texts: Texts, size: int, special: Sequence[str]) -> BPE:
    """Learn byte-level byte-pair encoding (Sennrich et al. 2016; of bytes: Radford et al. 2019, section 2.2).

    Args:
        backend: Tokenizer that normalizes texts and splits them into words.
        texts: The texts.
        size: Number of tokens, special ones included; fewer if the texts have no more pairs that occur twice.
        special: Special tokens, which get the first ids.

    Returns:
        The model, with the special tokens.

    Raises:
        TooFewTokensError: When the size is too small for the 256 bytes.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if size < len(special) + len(alphabet):
        raise TooFewTokensError(len(special) + len(alphabet))
    learner = Tokenizer(models.BPE())
    learner.normalizer, learner.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    options: dict[str, Any] = {"initial_alphabet": alphabet, "show_progress": False}
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=FEWEST, special_tokens=list(special), **options)
    learner.train_from_iterator(texts(), trainer)
    found: BPE = learner.model
    return found


def unigram_pieces(
    backend: Tokenizer,
    texts: Texts,
    size: int,
    special: Sequence[str],
    unknown: str,
    coverage: float,
    last: Sequence[str] = (),
) -> Unigram:
    """Learn pieces with probabilities (Kudo 2018, "Subword Regularization", section 3.2), by SentencePiece.

    Args:
        backend: Tokenizer that normalizes texts and splits them into words that begin with a mark.
        texts: The texts.
        size: Number of tokens, special ones included; fewer if the texts have no more pieces that occur twice.
        special: Special tokens, which get the first ids.
        unknown: The special token of unknown characters.
        coverage: Share of the characters of the texts that the vocabulary has; the rarest are unknown.
        last: Special tokens that get the last ids.

    Returns:
        The model, with the special tokens.

    Raises:
        TooFewTokensError: When the size is too small for the characters.
    """
    from sentencepiece import SentencePieceTrainer
    from tokenizers import models

    words = {word[1:]: count for word, count in count_words(backend, texts()).items() if word[1:]}
    logger.info("Learning unigram pieces from %s distinct words", f"{len(words):,}")
    around = len(special) + len(last) - 1  # SentencePiece counts the unknown token
    written = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=(f"{word}\t{count}" for word, count in words.items()),
            model_writer=written,
            input_format="tsv",
            model_type="unigram",
            vocab_size=max(1, size - around),
            hard_vocab_limit=False,
            character_coverage=coverage,
            max_sentencepiece_length=LONGEST_PIECE,
            normalization_rule_name="identity",  # words are normalized
            num_threads=NUM_THREADS,
            unk_piece=UNWRITABLE,  # a text may contain <unk>
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        if (found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))) is None:
            raise
        raise TooFewTokensError(int(found[1]) + around) from error
    learned = _model_of(written.getvalue()).pieces
    reserved = {*special, *last, UNWRITABLE}
    pieces = [(piece.piece, piece.score) for piece in learned if piece.piece not in reserved]
    entries = [*((token, 0.0) for token in special), *pieces, *((token, 0.0) for token in last)]
    return models.Unigram(entries, unk_id=list(special).index(unknown), byte_fallback=False)


def count_words(backend: Tokenizer, texts: Iterator[list[str]]) -> dict[str, int]:
    """Count words, as a tokenizer normalizes and splits texts; in the order of the alphabet.

    Args:
        backend: The tokenizer.
        texts: Batches of texts.

    Examples:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> backend = Tokenizer(models.BPE())
        >>> backend.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> count_words(backend, iter([["to be or", "not to be"]]))
        {'be': 2, 'not': 1, 'or': 1, 'to': 2}
    """
    from tokenizers import Tokenizer, models, trainers

    counter = Tokenizer(models.BPE())
    counter.normalizer, counter.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=0, show_progress=False)  # it counts, in parallel, and learns nothing
    counter.train_from_iterator(texts, trainer)
    counts: dict[str, int] = json.loads(trainer.__getstate__())["BpeTrainer"]["words"]
    return dict(sorted(counts.items()))


def frequent_characters(words: Mapping[str, int], coverage: float) -> set[str]:
    """Return the most frequent characters of words that together make up a share of all characters.

    Args:
        words: Number of occurrences of each word.
        coverage: The share.

    Examples:
        >>> sorted(frequent_characters({"aab": 5, "abc": 1}, 0.9))
        ['a', 'b']
    """
    counts: Counter[str] = Counter()
    for word, number in words.items():
        for letter in word:
            counts[letter] += number
    enough, covered, kept = coverage * counts.total(), 0, set()
    for letter, number in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
        if covered >= enough:
            break
        kept.add(letter)
        covered += number
    return kept


def charmap(*, lower_case: bool) -> bytes:
    """Return SentencePiece's table of characters that are replaced by others, for ``normalizers.Precompiled``."""
    from sentencepiece import SentencePieceNormalizer

    written = SentencePieceNormalizer(rule_name=CHARMAPS[lower_case]).serialized_model_proto()
    table: bytes = _model_of(written).normalizer_spec.precompiled_charsmap
    return table


def _model_of(written: bytes) -> Any:
    """Return a model of SentencePiece from its serialized form."""
    from sentencepiece import sentencepiece_model_pb2

    return vars(sentencepiece_model_pb2)["ModelProto"].FromString(written)
