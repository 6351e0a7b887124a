"""Candidates of a question in one input: which ones share it, in which order, and where their tokens go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transformers_framework.processing.encoding import Template, assemble
from transformers_framework.processing.packing import Bins
from transformers_framework.processing.random import keys
from transformers_framework.processing.windows import pieces, steps, stretches

IN_TURN = ("IE_1", "AE_1")  # heads that score the first candidate only


@dataclass(frozen=True)
class Grouping:
    """How the candidates of each question are put into groups of at most k, in each epoch again or always the same.

    Args:
        rows: Row ids, question after question, in the order in which groups take them ``(N,) int64``.
        sizes: Candidates of each question, 1 or more ``(Q,) int64``; sums to N.
        k: Candidates of a group.
        in_turn: Each candidate is the first of a group of its own, beside the k - 1 that follow it, around the end of
            its question; else each is in one group.
        shuffled: The candidates of a question are in a random order that is new in each epoch.

    Examples:
        >>> grouping = Grouping.of([7, 7, 9, 7], k=2)
        >>> [grouping.bins(1337, 0)[number] for number in range(len(grouping))]
        [[0, 1], [3], [2]]
        >>> in_turn = replace(grouping, in_turn=True)
        >>> [in_turn.bins(1337, 0)[number] for number in range(len(in_turn))]
        [[0, 1], [1, 3], [3, 0], [2]]
        >>> [replace(grouping, shuffled=True).bins(1337, epoch)[0] for epoch in range(4)]
        [[1, 0], [1, 3], [0, 3], [0, 1]]
    """

    rows: NDArray[np.int64]
    sizes: NDArray[np.int64]
    k: int
    in_turn: bool = False
    shuffled: bool = False

    @classmethod
    def of(cls, queries: ArrayLike, *, k: int, scores: ArrayLike | None = None, **options: bool) -> Grouping:
        """Group rows by their questions, which stay in the order in which they first occur.

        Args:
            queries: Question of each row, any integers ``(N,)``.
            k: Candidates of a group.
            scores: A number for each row ``(N,)``: candidates of a question are taken in descending order of it, equal
                ones in the order of the rows; without it, all are.
            **options: ``in_turn`` and ``shuffled``.

        Examples:
            >>> Grouping.of([0, 0, 0], k=2, scores=[0.1, 0.9, 0.5]).rows.tolist()
            [1, 2, 0]
        """
        _, first, question = np.unique(np.asarray(queries), return_index=True, return_inverse=True)
        place = np.argsort(np.argsort(first))[question]  # of each row's question among all
        worth = np.zeros(len(place)) if scores is None else -np.asarray(scores, dtype=np.float64)
        rows = np.lexsort((worth, place))
        return cls(rows, np.bincount(place, minlength=len(first)), k, **options)

    def kept(self, count: int) -> Grouping:
        """Return the grouping of the first candidates of each question alone."""
        return replace(self, rows=self.rows[steps(self.sizes) < count], sizes=np.minimum(self.sizes, count))

    def __len__(self) -> int:
        return len(self.rows) if self.in_turn else int((-(-self.sizes // self.k)).sum())

    def short_questions(self) -> np.ndarray:
        """Return the places of the questions with a group of fewer than k candidates ``(N,) int64``."""
        return np.flatnonzero(self.sizes < self.k if self.in_turn else self.sizes % self.k > 0)

    def bins(self, seed: int, epoch: int) -> Bins:
        """Return the rows of each group of an epoch, one bin per group.

        Args:
            seed: The run's seed.
            epoch: The epoch; it matters only where candidates are shuffled.
        """
        rows, question = self.rows, np.repeat(np.arange(len(self.sizes)), self.sizes)
        if self.shuffled:
            rows = rows[np.lexsort((keys(seed, epoch, rows, "grouping"), question))]
        if not self.in_turn:
            return Bins(rows, pieces(self.sizes, self.k)[0])
        of_question = self.sizes[question]
        sizes = np.minimum(of_question, self.k)  # (N,): one group per row
        place = steps(self.sizes)
        start, around = np.arange(len(rows)) - place, stretches(place, sizes) % np.repeat(of_question, sizes)
        return Bins(rows[np.repeat(start, sizes) + around], sizes)


def grouped(columns: Mapping[str, Sequence[Any]], sizes: Sequence[int]) -> dict[str, list[list[Any]]]:
    """Return rows whose columns hold lists: those of the candidates of a group.

    Args:
        columns: Columns of candidates, group after group.
        sizes: Candidates of each of the B groups.

    Examples:
        >>> grouped({"answer": ["a", "b", "c"]}, [2, 1])
        {'answer': [['a', 'b'], ['c']]}
    """
    stops = np.cumsum(sizes).tolist()
    return {
        name: [list(values[stop - size : stop]) for stop, size in zip(stops, sizes, strict=True)]
        for name, values in columns.items()
    }


def permuted(
    rows: Mapping[str, Sequence[list[Any]]], row_ids: ArrayLike, *, count: int, k: int, keep_first: bool = False
) -> dict[str, list[list[Any]]]:
    """Return groups, followed by each group with its candidates in other random orders, the same in each epoch.

    Args:
        rows: Columns of B groups, lists of at most k candidates.
        row_ids: First row of each group ``(B,) int64``.
        count: Orders of each group.
        k: Candidates of a whole group.
        keep_first: The first candidate stays the first.

    Returns:
        Columns of B·(1 + count) groups: all, all in another order, and so on.

    Examples:
        >>> permuted({"answer": [["a", "b", "c"], ["d"]]}, [0, 3], count=2, k=3)["answer"]
        [['a', 'b', 'c'], ['d'], ['c', 'a', 'b'], ['d'], ['a', 'c', 'b'], ['d']]
    """
    ids = np.repeat(np.asarray(row_ids, dtype=np.int64), k) * k + np.tile(np.arange(k), len(np.asarray(row_ids)))
    orders = []
    for number in range(count):
        draws = keys(number, 0, ids, "grouping.permutation").reshape(-1, k)
        draws[:, 0] *= not keep_first  # the smallest
        orders += np.argsort(draws, axis=1).tolist()
    return {
        name: [
            *values,
            *([items[place] for place in order if place < len(items)]
              for items, order in zip([*values] * count, orders, strict=True)),
        ]
        for name, values in rows.items()
    }  # fmt: skip


def assemble_candidates(
    ids: NDArray[np.int64],
    lengths: NDArray[np.int64],
    counts: NDArray[np.int64],
    template: Template,
    *,
    max_length: int,
    separated: bool = False,
    extra: Mapping[str, NDArray[Any]] | None = None,
    **options: Any,
) -> dict[str, np.ndarray]:
    """Place questions and their candidates into rows of equal length, each with a first token of its own.

    Args:
        ids: Ids of all texts, row after row, the question first ``(T,) int64``.
        lengths: Tokens of each text ``(N,) int64``.
        counts: Texts of each row, its question among them ``(B,) int64``; sums to N.
        template: Special tokens of the tokenizer.
        max_length: Longest row in tokens; with ``separated`` the longest text, special tokens included.
        separated: Each text has the special tokens that it has alone; else one separates it from the next.
        extra: Further numbers of every token, by name ``(T,)``.
        **options: As for :func:`assemble`.

    Returns:
        What :func:`assemble` does, and ``first_tokens (B, 1 + K) int64``: the place of the special token right before
        the question and each candidate, of whose type it is; -1 where there is none.

    Examples:
        >>> bert = Template(prefix=(1,), between=(2,), suffix=(2,), token_types=(0, 1))
        >>> texts = np.array([5, 6, 7, 8, 5, 9]), np.array([1, 2, 1, 1, 1]), np.array([3, 2])
        >>> batch = assemble_candidates(*texts, bert, max_length=20, pad_token_id=0, token_types=(0, 1, 2))
        >>> batch["input_ids"].tolist(), batch["first_tokens"].tolist()
        ([[1, 5, 2, 6, 7, 2, 8, 2], [1, 5, 2, 9, 2, 0, 0, 0]], [[0, 2, 5], [0, 2, -1]])
        >>> batch["token_type_ids"][0].tolist()
        [0, 0, 1, 1, 1, 2, 2, 2]
        >>> batch = assemble_candidates(*texts, bert, max_length=3, separated=True, pad_token_id=0, token_types=(0, 1))
        >>> batch["input_ids"].tolist(), batch["first_tokens"].tolist()
        ([[1, 5, 2, 1, 6, 2, 1, 8, 2], [1, 5, 2, 1, 9, 2, 0, 0, 0]], [[0, 3, 6], [0, 3, -1]])
        >>> batch["token_type_ids"][0].tolist(), batch["truncated"].tolist()
        ([0, 0, 0, 1, 1, 1, 1, 1, 1], [True, False])
    """
    cut, leading = np.zeros(len(lengths), dtype=bool), 1
    if separated:
        kept = np.minimum(lengths, max_length - template.num_special(1))
        cut, leading = kept < lengths, len(template.prefix)
        source = stretches(np.cumsum(lengths) - (kept if template.keeps_end else lengths), kept)
        ids, lengths, extra = ids[source], kept, {name: values[source] for name, values in (extra or {}).items()}
        template = replace(template, between=(*template.suffix, *template.prefix))
        max_length *= int(counts.max(initial=1))
    batch = assemble(ids, lengths, counts, template, max_length=max_length, extra=extra, leading=leading, **options)
    batch["first_tokens"] = np.maximum(batch.pop("starts") - 1, -1)
    batch["truncated"] |= np.isin(np.arange(len(counts)), np.repeat(np.arange(len(counts)), counts)[cut])
    return batch


def evidence_pooling(config: Any) -> str:
    """Return how the head AE_1 of a config pools hidden states: ``mean``, or ``sum`` in earlier versions."""
    default = "sum" if getattr(config, "classification_head_type", None) == "AE_1" else "mean"
    return str(getattr(config, "evidence_pooling", None) or default)
