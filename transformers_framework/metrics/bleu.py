"""BLEU, computed with sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transformers_framework.metrics.generation import References, RowStatistics
from transformers_framework.metrics.text_tokens import TextTokenizer, make_bleu

ORDERS = 4  # of n-grams


class Bleu(RowStatistics):
    """Corpus BLEU as computed by sacrebleu's ``corpus_bleu``, from 0 to 100, from the n-gram counts of all rows.

    Rows may have different numbers of references. (Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of
    Machine Translation"; Post 2018, "A Call for Clarity in Reporting BLEU Scores".)

    Args:
        needed_by: Flag that needs sacrebleu, for the message when it is not installed.
        tokenizer: Tokenizer of sacrebleu, by default 13a.

    Raises:
        MissingDependencyError: When sacrebleu is not installed.
        ConfigurationError: When the tokenizer needs a package that is not installed.
    """

    names = ("bleu",)
    size = 2 + 2 * ORDERS  # length of the text and of its reference, n-grams that are right, n-grams

    def __init__(self, needed_by: str, tokenizer: TextTokenizer | None = None) -> None:
        # the effective order concerns the score of a sentence, which is not used, and a warning
        self.metric = make_bleu(tokenizer, needed_by, max_ngram_order=ORDERS, effective_order=True)
        self.options = needed_by, tokenizer

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how loader workers create a copy."""
        return Bleu, self.options

    def __call__(self, preds: Sequence[str], references: References) -> NDArray[np.int64]:
        """Return lengths and counts of B rows, (B, 10) int64."""
        found = [self.metric.sentence_score(pred, rights) for pred, rights in zip(preds, references, strict=True)]
        rows = [(row.sys_len, row.ref_len, *row.counts, *row.totals) for row in found]
        return np.array(rows, dtype=np.int64).reshape(-1, self.size)

    def values(self, sums: Sequence[int], num_rows: int) -> dict[str, float]:
        """Return BLEU, with sacrebleu's smoothing of orders that have no match."""
        sys_len, ref_len, *counts = sums
        correct, total = counts[:ORDERS], counts[ORDERS:]
        return {"bleu": self.metric.compute_bleu(correct, total, sys_len, ref_len, smooth_method="exp").score}
