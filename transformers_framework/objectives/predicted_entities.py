"""Entities of a row: the spans of words that predicted tags mark."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np

from transformers_framework.metrics.entities import EntityTags, are_entity_tags


@lru_cache(maxsize=8)
def entity_tags(class_names: tuple[str, ...]) -> EntityTags | None:
    """Return the classes as entity tags; None if they are none."""
    return EntityTags(class_names) if are_entity_tags(class_names) else None


def predicted_entities(
    tags: EntityTags, words: Sequence[str], classes: Sequence[int], scores: Sequence[float | None]
) -> list[dict[str, Any]]:
    """Return the entities of a row, as entity metrics count them; words without a prediction are passed over.

    Args:
        tags: The classes, parsed.
        words: Words of the row.
        classes: Predicted class of each word; -1 for one without a prediction.
        scores: Probability of the predicted class of each word.

    Returns:
        For each entity its ``type``, ``text``, ``start`` and ``end`` in words, ``start_char`` and ``end_char`` in the
        words joined by spaces, and ``score``, the mean probability of its words. Ends are exclusive.

    Examples:
        >>> tags = EntityTags(["O", "B-place", "I-place"])
        >>> predicted_entities(tags, ["in", "New", "York", "!"], [0, 1, 2, 0], [0.9, 0.5, 0.75, 0.9])
        [{'type': 'place', 'text': 'New York', 'start': 1, 'end': 3, 'start_char': 3, 'end_char': 11, 'score': 0.625}]
    """
    there = [word for word, number in enumerate(classes) if number >= 0]
    found = tags.entities(np.array([classes[word] for word in there], dtype=np.int64))
    begins = [0, *accumulate(len(word) + 1 for word in words)]
    entities = []
    for first, last, kind in zip(*(part.tolist() for part in found), strict=True):
        start, end = there[first], there[last] + 1
        of_words = [float(score) for word in there[first : last + 1] if (score := scores[word]) is not None]
        entities.append(
            {
                "type": tags.names[kind],
                "text": " ".join(words[start:end]),
                "start": start,
                "end": end,
                "start_char": begins[start],
                "end_char": begins[end] - 1,
                "score": sum(of_words) / len(of_words),
            }
        )
    return entities
