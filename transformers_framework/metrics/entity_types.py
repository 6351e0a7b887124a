"""Precision, recall, F1 and support of entities of each type, as seqeval's classification report has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transformers_framework.metrics.confusion import class_scores, with_means
from transformers_framework.metrics.entities import OUTSIDE, entity_spans, tag_parts

UNTYPED = "_"  # type of tags that have none, as seqeval calls it


class Entities(NamedTuple):
    """Entities in a sequence of words.

    Args:
        first: First word of each ``(E,) int64``.
        last: Last word ``(E,) int64``.
        type: Number of its type ``(E,) int64``.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    type: NDArray[np.int64]

    def among(self, others: Entities) -> NDArray[np.bool_]:
        """Return which of them, with the same words and type, are also among others ``(E,) bool``."""
        width = 1 + max(self.last.max(initial=0), others.last.max(initial=0))
        mine, theirs = (np.stack([part.first * width + part.last, part.type], axis=1) for part in (self, others))
        known = {tuple(key) for key in theirs.tolist()}
        return np.array([tuple(key) in known for key in mine.tolist()], dtype=bool)


class EntityTags:
    """The tags of a run, by which class numbers become entities.

    Args:
        class_names: Tags, in the order of the classes.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        parts = [part for name in class_names if (part := tag_parts(name)) is not None]
        assert len(parts) == len(class_names), "classes are no tags"
        kinds = sorted({kind or UNTYPED for place, kind in parts if place != OUTSIDE})
        # the last entry is an O between rows
        self.names = kinds
        self.prefixes = np.array([*(place for place, _ in parts), OUTSIDE])
        self.types = np.array([*(-1 if p == OUTSIDE else kinds.index(kind or UNTYPED) for p, kind in parts), -1])

    def entities(self, classes: NDArray[np.int64]) -> Entities:
        """Return the entities in the classes of words; -1 is an O between two rows ``(N,) int64``.

        Examples:
            >>> tags = EntityTags(["O", "B-person", "I-person", "B-place"])
            >>> found = tags.entities(np.array([1, 2, -1, 0, 3]))
            >>> found.first.tolist(), found.last.tolist(), [tags.names[kind] for kind in found.type]
            ([0, 4], [1, 4], ['person', 'place'])
        """
        if not len(classes):
            return Entities(*(np.zeros(0, dtype=np.int64) for _ in range(3)))
        types = self.types[classes]
        ends, begins = entity_spans(self.prefixes[classes], types)
        last = np.flatnonzero(ends)
        return Entities(begins[last], last, types[last])


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
