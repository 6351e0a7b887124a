"""Queries of rows that are evaluated together: those without positives, and those of the training data too."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from transformers_framework.constants import EVALUATED, TRAIN, Stage
from transformers_framework.objectives.capabilities import EvaluatesGroups
from transformers_framework.processing.text_ids import value_hashes
from transformers_framework.sources.columns import chunks, value_numbers
from transformers_framework.sources.fields import field_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from transformers_framework.data.datamodule import DataModule

MOST = 1_000_000  # rows of a stage, the first ones, whose queries are compared with those of others


class QueryReport:
    """Remarks about the queries of a run, for ``--check``; none if no objective evaluates rows in groups.

    Args:
        data: The data, loaded and checked.
    """

    def __init__(self, data: DataModule) -> None:
        self.data = data
        self.objective = next((part for part in data.objectives if isinstance(part, EvaluatesGroups)), None)

    def remarks(self, stage: Stage) -> list[str]:
        """Return the lines of a stage that was read.

        Args:
            stage: The stage.
        """
        if self.objective is None or stage not in (TRAIN, *EVALUATED):
            return []
        return [text for text in (self._counts(self.objective, stage), self._shared(stage)) if text]

    def _counts(self, objective: EvaluatesGroups, stage: Stage) -> str:
        dataset, column = self.data.read[stage], objective.group_column
        if column is None or column not in dataset.column_names or not len(dataset):
            return ""
        if (targets := objective.group_targets(dataset, stage)) is None:
            return ""
        queries = value_numbers(dataset, column)
        _, queries = np.unique(queries, return_inverse=True)
        positives, negatives = (np.bincount(queries.reshape(-1), found) for found in (targets > 0, targets == 0))
        no_positive, no_negative = (int(np.count_nonzero(found == 0)) for found in (positives, negatives))
        size, unit = len(queries) / len(positives), "query" if len(positives) == 1 else "queries"
        found = f"{column}: {len(positives):,} {unit} with {size:.1f} rows on average"
        text = f"{found}, {no_positive:,} of them without a positive, {no_negative:,} without a negative"
        if no_positive == len(positives):
            return f"WARNING: {text}: no label is positive. Check the labels."
        counted = stage in EVALUATED and no_positive
        return f"{text} (--metrics_empty_target_action says how those without a positive count)" if counted else text

    def _shared(self, stage: Stage) -> str:
        if stage == TRAIN or self.trained is None or (own := self._texts(stage)) is None:
            return ""
        shared = len(np.intersect1d(own, self.trained, assume_unique=True))
        of_first = f" of the first {MOST:,} rows" if max(map(len, self.data.read.values())) > MOST else ""
        found = f"{shared:,} of {len(own):,} queries ({100 * shared / max(1, len(own)):.1f} %){of_first}"
        if not shared:
            return f"no query{of_first} has the text of one of the training data"
        return (
            f"WARNING: {found} have the text of one of the training data, so metrics may be higher than those of new "
            "queries. Remove them from one of both."
        )

    @cached_property
    def trained(self) -> NDArray[np.int64] | None:
        """Hashes of the queries of the training data, each once; None if they are not read before training."""
        return self._texts(TRAIN)

    def _texts(self, stage: Stage) -> NDArray[np.int64] | None:
        field = self.data.inputs.query_field
        if field is None or field.spreads or stage not in self.data.read:
            return None
        dataset = self.data.read[stage]
        if not set(field.columns) <= set(dataset.column_names):
            return None
        rows = dataset.select_columns(list(field.columns)).select(range(min(len(dataset), MOST)))
        # rows of a query often follow each other, so that few texts are hashed
        hashes = [value_hashes(list(dict.fromkeys(field_texts(part, field)))) for part in chunks(rows)]
        return np.unique(np.concatenate([np.zeros(0, np.int64), *hashes]))
