"""Exact match and F1 of answers, as the official scripts of SQuAD count them, and the threshold of having none.

(Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section 6.1; Rajpurkar, Jia and
Liang 2018, "Know What You Don't Know: Unanswerable Questions for SQuAD".)
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

PERCENT = 100.0  # as the official scripts report them
SCORES = ("exact_match", "f1")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalized(text: str) -> str:
    """Return an answer as it is compared: in lower case, without punctuation, articles and needless white space.

    Examples:
        >>> normalized("The  U.S. Army's"), normalized("a-an")
        ('us armys', 'aan')
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(WITHOUT_PUNCTUATION)).split())


def answer_scores(prediction: str, golds: Sequence[str], *, with_unanswerable: bool) -> tuple[float, float]:
    """Return exact match and F1 of one question, each 0 to 1, for the best gold answer.

    Args:
        prediction: The answer; empty for none.
        golds: Gold answers; none when there is no answer.
        with_unanswerable: By the rules of SQuAD v2: gold answers that are empty when normalized do not
            count, and an empty answer is correct where there is no gold one. Otherwise the rules of v1.1.

    Examples:
        >>> answer_scores("the red house", ["a house", "red houses"], with_unanswerable=False)
        (0.0, 0.6666666666666666)
        >>> answer_scores("", [], with_unanswerable=True)
        (1.0, 1.0)
    """
    found, wanted = normalized(prediction), [normalized(gold) for gold in golds]
    if with_unanswerable:
        wanted = [gold for gold in wanted if gold] or [""]
    exact, best = float(found in wanted), 0.0
    counts, size = Counter(found.split()), len(found.split())
    for gold in wanted:
        tokens = gold.split()
        if with_unanswerable and not (size and tokens):
            best = max(best, float(size == len(tokens)))
        elif shared := sum((counts & Counter(tokens)).values()):
            precision, recall = shared / size, shared / len(tokens)
            best = max(best, 2 * precision * recall / (precision + recall))
    return exact, best


def all_scores(predictions: Sequence[str], golds: Sequence[Sequence[str]], *, with_unanswerable: bool) -> NDArray:
    """Return exact match and F1 of every question, 0 to 1 ``(D, 2) float64``; see :func:`answer_scores`."""
    pairs = zip(predictions, golds, strict=True)
    scores = [answer_scores(text, right, with_unanswerable=with_unanswerable) for text, right in pairs]
    return np.array(scores, dtype=np.float64).reshape(-1, 2)


def reading_metrics(scores: ArrayLike, has_answer: ArrayLike) -> dict[str, float]:
    """Return the means of exact match and F1 in percent; nan without questions.

    Args:
        scores: Exact match and F1 of each question ``(D, 2)``.
        has_answer: Which questions have an answer ``(D,) bool``. Where not all have, both parts have means too.

    Examples:
        >>> reading_metrics([[1, 1], [0, 0.5]], [True, True])
        {'exact_match': 50.0, 'f1': 75.0}
    """
    values, answered = np.asarray(scores, dtype=np.float64).reshape(-1, 2), np.asarray(has_answer, dtype=bool)
    parts = {"": np.ones(len(values), dtype=bool)}
    if not answered.all():
        parts |= {"has_answer_": answered, "no_answer_": ~answered}
    found: dict[str, float] = {}
    for part, rows in parts.items():
        means = PERCENT * values[rows].sum(axis=0) / rows.sum() if rows.any() else np.full(2, np.nan)
        found |= {f"{part}{name}": float(mean) for name, mean in zip(SCORES, means, strict=True)}
    return found


def metric_names(*, with_unanswerable: bool) -> list[str]:
    """Return the names of :func:`reading_metrics`.

    Examples:
        >>> metric_names(with_unanswerable=False)
        ['exact_match', 'f1']
    """
    parts = ("", "has_answer_", "no_answer_") if with_unanswerable else ("",)
    return [f"{part}{name}" for part in parts for name in SCORES]


def best_threshold(differences: ArrayLike, if_answered: ArrayLike, if_empty: ArrayLike) -> float:
    """Return the threshold with the best sum of scores: questions whose difference is larger get no answer.

    It lies halfway between two questions; of equally good ones the lowest is returned.

    Args:
        differences: By how much the score of no answer exceeds that of the best span ``(D,)``.
        if_answered: What each question scores with that span ``(D,)``.
        if_empty: What it scores without an answer ``(D,)``.

    Examples:
        >>> best_threshold([-2.0, 3.0, 1.0], if_answered=[1, 0, 0.5], if_empty=[0, 1, 0])
        2.0
    """
    order = np.argsort(np.asarray(differences), kind="stable")
    values, gains = np.asarray(differences, dtype=np.float64)[order], (np.asarray(if_answered) - if_empty)[order]
    totals = np.concatenate([[0.0], np.cumsum(gains)])
    possible = np.append(np.append(True, values[1:] > values[:-1]), True)  # not between equal differences
    cut = int(np.where(possible, totals, -np.inf).argmax())
    around = np.concatenate([[values[0] - 2], values, [values[-1] + 2]])
    return float((around[cut] + around[cut + 1]) / 2)
