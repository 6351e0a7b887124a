"""The lists of candidates that a ranker is trained on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from transformers_framework.constants import TRAIN
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.processing.candidate_lists import CandidateLists
from transformers_framework.processing.windows import sums_by_row
from transformers_framework.sources.columns import DatasetSource, value_numbers
from transformers_framework.sources.query_ids import check_queries
from transformers_framework.sources.scores import candidate_scores

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


def check_list_flags(
    train_group_size: int | None,
    hard_negatives: int | None,
    scores_column: str | None,
    *,
    compares: str | None,
    iterable: bool,
) -> None:
    """Check the flags of lists.

    Args:
        train_group_size: Candidates of a list; None if candidates are trained on one by one.
        hard_negatives: Number of hard negatives of a list.
        scores_column: Column with scores of a first ranker.
        compares: Name of the loss if it compares the candidates of a list.
        iterable: Whether the training data are a stream.

    Raises:
        ConfigurationError: When they contradict each other.
    """
    if train_group_size is None:
        if compares is not None:
            raise ConfigurationError(
                f"--loss_fn {compares} compares the candidates of a question. Give the number of candidates of a list, "
                "such as --train_group_size 16."
            )
        given = {"hard_negatives": hard_negatives, "scores_column": scores_column}
        if idle := [flag for flag, value in given.items() if value is not None]:
            raise ConfigurationError(f"--{idle[0]} needs --train_group_size, the number of candidates of a list.")
        return
    if train_group_size == 1:
        raise ConfigurationError("--train_group_size 1: a list of one candidate compares nothing. Give 2 or more.")
    if hard_negatives is not None and scores_column is None:
        raise ConfigurationError(
            "--hard_negatives: the hardest negatives are those with the highest scores of a first ranker. Give their "
            "column as --scores_column."
        )
    if hard_negatives is not None and hard_negatives >= train_group_size:
        raise ConfigurationError(
            f"--hard_negatives {hard_negatives}: lists have {train_group_size} candidates (--train_group_size), one of "
            f"them a positive. Give {train_group_size - 1} or less."
        )
    if iterable:
        raise ConfigurationError(
            "--iterable: --train_group_size needs all candidates of a question, and a stream is read only during "
            "training. Remove --iterable: prepared data is stored on disk, not in memory."
        )


def training_lists(
    dataset: Dataset,
    targets: NDArray[np.int64],
    source: DatasetSource,
    *,
    index_column: str | None,
    size: int,
    compares: bool,
    scores_column: str | None = None,
    num_hard: int | None = None,
) -> CandidateLists | None:
    """Return the lists of the questions of the training data; None if some rows are broken.

    A loss that compares candidates leaves out questions with positives or negatives only. Their number is logged, and
    that of lists with fewer candidates than asked, both with the place of the first.

    Args:
        dataset: The rows.
        targets: 1 for a positive, 0 for a negative, negative numbers for rows without label ``(N,) int64``.
        source: Source of the rows, for messages.
        index_column: Column of query ids.
        size: Candidates of a list.
        compares: Whether the loss compares candidates.
        scores_column: Column with scores of a first ranker.
        num_hard: Number of the hardest negatives in each list.

    Raises:
        ConfigurationError: When there is no column of query ids.
        DataError: When an id or a score is missing, or no question has what the lists need; with the place.
    """
    if index_column is None:
        raise ConfigurationError(
            "--train_group_size needs --index_column. Give the column with the query id, which rows of one question "
            f"share. Columns of {source.name}: {', '.join(dataset.column_names)}."
        )
    check_queries(dataset, index_column, source)
    scores = None if scores_column is None else candidate_scores(dataset, scores_column, source, in_lists=False)
    if source.errors:
        return None
    queries, labelled = value_numbers(dataset, index_column), targets >= 0
    lists = CandidateLists.of(
        queries, targets == 1, size=size, scores=scores, num_hard=num_hard, entries=np.flatnonzero(labelled)
    )
    positives = sums_by_row(lists.positive.astype(np.int64), lists.sizes)
    _check_sizes(lists, positives, source)
    if not compares:
        return lists
    used = (positives > 0) & (positives < lists.sizes)
    if not used.any():
        raise DataError(
            f"--label_column: no question of {source.name} has both a positive and a negative, and this --loss_fn "
            "compares them. Check the labels and --index_column, or use --loss_fn binary."
        )
    if not used.all():
        logger.info(
            "%s: %s of %s questions have no positive or no negative and are left out; the first is in %s.",
            TRAIN, f"{np.count_nonzero(~used):,}", f"{len(used):,}", source.place(_first_row(lists, ~used)),
        )  # fmt: skip
        kept = np.isin(queries, queries[lists.rows[(np.cumsum(lists.sizes) - lists.sizes)[used]]])
        entries = np.flatnonzero(kept & labelled)
        lists = CandidateLists.of(queries, targets == 1, size=size, scores=scores, num_hard=num_hard, entries=entries)
    return lists


def _check_sizes(lists: CandidateLists, positives: NDArray[np.int64], source: DatasetSource) -> None:
    """Check that some question has enough candidates; log how many have fewer.

    Raises:
        DataError: When none has.
    """
    negatives = lists.sizes - positives
    for flag, asked, found, what in (
        ("train_group_size", lists.size, lists.sizes, "candidates"),
        ("hard_negatives", lists.num_hard or 0, negatives, "negatives"),
    ):
        most = int(found.max(initial=0))
        if most < asked:
            raise DataError(
                f"--{flag} {asked}: no question of {source.name} has more than {most} {what}, the most in "
                f"{source.place(_first_row(lists, found == most))}. Give {most} or less."
            )
    if len(short := np.flatnonzero(lists.sizes < lists.size)):
        logger.info(
            "%s: %s of %s questions have fewer than %d candidates (--train_group_size), and lists of them are shorter; "
            "the first is in %s.",
            TRAIN, f"{len(short):,}", f"{len(lists):,}", lists.size,
            source.place(_first_row(lists, lists.sizes < lists.size)),
        )  # fmt: skip


def _first_row(lists: CandidateLists, which: NDArray[np.bool_]) -> int:
    """Return the first row of some questions."""
    return int(lists.rows[np.repeat(which, lists.sizes)].min())
