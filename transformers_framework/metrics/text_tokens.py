"""Tokenization for ROUGE and BLEU in any script, by sacrebleu's tokenizers."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any, Literal

from transformers_framework.exceptions import ConfigurationError, MissingDependencyError
from transformers_framework.sources.columns import item_chunks

if TYPE_CHECKING:
    from datasets import Dataset

TextTokenizer = Literal["zh", "ja-mecab", "ko-mecab", "char", "intl"]
LATIN = "[A-Za-z]"
SAMPLE = 10_000  # rows of which letters are counted


def make_bleu(tokenizer: TextTokenizer | None, needed_by: str, **options: Any) -> Any:
    """Return sacrebleu's BLEU with one of its tokenizers, by default 13a.

    Raises:
        MissingDependencyError: When sacrebleu is not installed.
        ConfigurationError: When the tokenizer needs a package that is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise MissingDependencyError("sacrebleu", needed_by, "metrics") from error
    try:
        return BLEU(tokenize=tokenizer, **options)
    except (RuntimeError, ImportError) as error:
        extra = str(tokenizer)[:2]
        raise ConfigurationError(
            f"--summary_tokenizer {tokenizer}: a package that it needs is not installed: pip install "
            f"'sacrebleu[{extra}]'"
        ) from error


def words_of(text: str) -> list[str]:
    """Split a tokenized text at spaces, and leave out tokens of only punctuation and symbols.

    Examples:
        >>> words_of("天 气 很 好 ， RNN 2024 !")
        ['天', '气', '很', '好', 'RNN', '2024']
    """
    return [token for token in text.split() if any(unicodedata.category(sign)[0] not in "PSZC" for sign in token)]


def foreign_share(dataset: Dataset, column: str) -> float:
    """Return the share of letters other than a-z in the first rows of a column."""
    import pyarrow.compute as pc

    (texts,) = item_chunks(dataset.select(range(min(SAMPLE, len(dataset)))), column)
    counts = (pc.sum(pc.count_substring_regex(texts.cast("string"), pattern)) for pattern in (LATIN, r"\p{L}"))
    latin, letters = (count.as_py() or 0 for count in counts)
    return 1 - latin / letters if letters else 0.0
