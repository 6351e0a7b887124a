"""Precision, recall, F1 and support of entities of each type, as seqeval's classification report has them."""

from __future__ import annotations

import numpy as np

from transformers_framework.metrics.confusion import class_scores, with_means
from transformers_framework.metrics.entities import Entities, EntityTags


class EntityCounter:
    """Counts entities of each type in chunks of rows.

    Args:
        tags: The tags.
    """

    def __init__(self, tags: EntityTags) -> None:
        self.tags = tags
        self.counts = np.zeros((3, len(tags.names)), dtype=np.int64)  # right, predicted, actual

    def add(self, wanted: Entities, found: Entities) -> None:
        """Count the entities of some rows."""
        parts = (found.type[found.among(wanted)], found.type, wanted.type)
        self.counts += np.stack([np.bincount(part, minlength=len(self.tags.names)) for part in parts])

    def report(self) -> dict[str, dict[str, float]]:
        """Return precision, recall, F1 and support by type, and ``micro``, ``macro`` and ``weighted avg``."""
        present = np.flatnonzero(self.counts[1:].sum(axis=0))
        found = with_means([self.tags.names[kind] for kind in present], *self.counts[:, present])
        return found | {"micro avg": class_scores(*self.counts.sum(axis=1))}
