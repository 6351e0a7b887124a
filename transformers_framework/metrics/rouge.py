"""ROUGE, computed with rouge_score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transformers_framework.exceptions import MissingDependencyError
from transformers_framework.metrics.generation import References, RowScores
from transformers_framework.metrics.text_tokens import TextTokenizer, make_bleu, words_of

TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
PARTS = ("precision", "recall", "fmeasure")
NUM_STEMS, NUM_TEXTS = 2**17, 2**10  # cache sizes


class Rouge(RowScores):
    """ROUGE as computed by `rouge_score` with its stemmer: the mean of the scores of all rows.

    If there are several references, each type uses the one with the highest F-measure. ``rougeLsum`` treats lines as
    sentences.
    (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries".)

    Args:
        needed_by: Flag that needs rouge_score, for the message when it is not installed.
        tokenizer: Tokenizer of sacrebleu, for languages with other letters than a-z; without a stemmer.

    Raises:
        MissingDependencyError: When `rouge_score` is not installed.
    """

    names = tuple(f"{kind}_{part}" for kind in TYPES for part in PARTS)

    def __init__(self, needed_by: str, tokenizer: TextTokenizer | None = None) -> None:
        try:
            from nltk.stem.porter import PorterStemmer
            from rouge_score.rouge_scorer import RougeScorer
            from rouge_score.tokenize import tokenize
        except ImportError as error:
            raise MissingDependencyError("rouge_score", needed_by, "metrics") from error
        split: Callable[[str], list[str]]
        # its own tokenizer, which alone would stem a word wherever it stands: 70 % of the time of a row
        stemmer = SimpleNamespace(stem=lru_cache(NUM_STEMS)(PorterStemmer().stem))
        if tokenizer is None:
            split = partial(tokenize, stemmer=stemmer)
        else:
            marks = make_bleu(tokenizer, needed_by).tokenizer

            def split(text: str) -> list[str]:
                return words_of(marks(text.lower()))

        self.scorer = RougeScorer(TYPES, tokenizer=SimpleNamespace(tokenize=lru_cache(NUM_TEXTS)(split)))
        self.options = needed_by, tokenizer

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how loader workers create a copy."""
        return Rouge, self.options

    def scores(self, preds: Sequence[str], references: References) -> NDArray[np.float64]:
        """Return the scores of B rows in the order of ``names``, (B, 12) float64."""
        by_row = [self.scorer.score_multi(rights, pred) for pred, rights in zip(preds, references, strict=True)]
        scores = [getattr(row[kind], part) for row in by_row for kind in TYPES for part in PARTS]
        return np.array(scores, dtype=np.float64).reshape(-1, len(self.names))
