"""Losses of in-batch negatives, each a sum in float32.

sentence-transformers has them under the same names; on the same embeddings they are equal to its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from transformers_framework.constants import IGNORE_INDEX
from transformers_framework.losses.all_gather import all_gather, all_gather_ragged, rank
from transformers_framework.losses.retrieval.batch import LossBatch
from transformers_framework.losses.retrieval.configured import LossSettings
from transformers_framework.losses.retrieval.similarity import score_matrix


class BatchPassages(NamedTuple):
    """All C passages of a batch, hard negatives last; of all ranks with ``sync_devices``.

    Args:
        embeddings: ``(C, E)``.
        texts: Equal where passages have the same text ``(C,) int64``.
        positive: For which rows, of all ranks, each is a positive ``(rows, C) bool``.
        counts: Whether it takes part ``(C,) bool``.
    """

    embeddings: Tensor
    texts: Tensor
    positive: Tensor
    counts: Tensor


def passages_of(batch: LossBatch, settings: LossSettings) -> BatchPassages:
    """Return all passages of a batch."""
    assert batch.queries is not None
    assert batch.texts is not None
    size = len(batch.query)
    labels, queries = (_of_all(rows, settings) for rows in (batch.labels, batch.queries))
    found: Iterable[Tensor] = (_of_all(batch.passage, settings), _of_all(batch.texts[:size], settings), labels)
    if batch.negatives is not None:
        assert batch.negative_rows is not None
        hard = (batch.negatives, batch.texts[size:], batch.labels[batch.negative_rows])
        found = map(torch.cat, zip(found, all_gather_ragged(*hard) if settings.all_gather else hard, strict=True))
    embeddings, texts, of_row = found
    after = (0, len(texts) - len(labels))  # hard negatives are positives of no query
    positive = (queries[:, None] == functional.pad(queries, after)) & functional.pad(labels == 1, after)
    return BatchPassages(embeddings, texts, positive, of_row != IGNORE_INDEX)


def negatives(positive: Tensor, identical: Tensor) -> Tensor:
    """Return which candidates are negatives of each anchor: all except positives and passages with the same text.

    Args:
        positive: Which candidates are positives of which anchors ``(B, N) bool``.
        identical: Which candidates have the same text ``(N, N) bool``.

    Returns:
        ``(B, N) bool``.

    Examples:
        >>> positive = torch.tensor([[True, False, False]])
        >>> negatives(positive, torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]]).bool()).tolist()
        [[False, True, False]]
    """
    return positive.float() @ identical.float() == 0


def multiple_negatives_ranking_loss(batch: LossBatch, settings: LossSettings) -> Tensor:
    """Return the sum of the cross-entropies of each query's positive against all negatives of the batch.

    (Henderson et al. 2017, "Efficient Natural Language Response Suggestion for Smart Reply", section 4.4.)
    """
    return _ranking(batch, settings, both_ways=False)


def multiple_negatives_symmetric_ranking_loss(batch: LossBatch, settings: LossSettings) -> Tensor:
    """Return the mean of :func:`multiple_negatives_ranking_loss` and the same loss from passages to queries."""
    return _ranking(batch, settings, both_ways=True)


def _ranking(batch: LossBatch, settings: LossSettings, *, both_ways: bool) -> Tensor:
    passages = passages_of(batch, settings)
    size, labels = len(batch.query), batch.labels
    start = rank() * size if settings.all_gather else 0
    mine = slice(start, start + size)
    negative = negatives(passages.positive, passages.texts[:, None] == passages.texts)  # (all rows, C)
    places = torch.arange(start, start + size, device=labels.device)
    targets = places.masked_fill(labels != 1, IGNORE_INDEX)  # (B,)
    found = settings.scale * score_matrix(batch.query, passages.embeddings, settings.scores_fn)  # (B, C)
    loss = _cross_entropy(found, targets, negative[mine] & passages.counts)
    if not both_ways:
        return loss
    queries = _of_all(batch.query, settings)
    found = settings.scale * score_matrix(batch.passage, queries, settings.scores_fn)  # (B, all rows)
    others = negative[:, mine].T & passages.counts[: len(queries)]
    return (loss + _cross_entropy(found, targets, others)) / 2


def _cross_entropy(found: Tensor, targets: Tensor, candidates: Tensor) -> Tensor:
    """Return the sum of the cross-entropies of each anchor's positive against other candidates.

    Args:
        found: Scores, scaled ``(B, N)``.
        targets: The positive of each anchor, -100 for one that has none ``(B,) int64``.
        candidates: Which others take part ``(B, N) bool``.
    """
    positive = targets[:, None] == torch.arange(found.shape[1], device=found.device)
    among = found.masked_fill(~(candidates | positive), -torch.inf)
    return functional.cross_entropy(among, targets, ignore_index=IGNORE_INDEX, reduction="sum")


def _of_all(rows: Tensor, settings: LossSettings) -> Tensor:
    return all_gather(rows) if settings.all_gather else rows
