"""Labels of a whole data set: as numbers, and their distribution in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transformers_framework.constants import IGNORE_INDEX, Stage
from transformers_framework.sources.columns import arrow_chunks, item_chunks

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray

    from transformers_framework.objectives.labels import LabelEncoder

NUM_SHOWN = 10  # most frequent classes


def column_labels(classes: LabelEncoder, dataset: Dataset, stage: Stage) -> NDArray[np.int64]:
    """Return the class number of each row, -100 where there is none ``(N,) int64``.

    Args:
        classes: Label encoder of the column, which has seen the data set.
        dataset: Rows with a label.
        stage: Stage of the data set.
    """
    found = [np.zeros(0, np.int64)]
    for labels in arrow_chunks(dataset, classes.column):
        encoded = labels.dictionary_encode(null_encoding="encode")
        found.append(classes.numbers(encoded.dictionary.to_pylist(), stage)[encoded.indices.to_numpy()])
    return np.concatenate(found)


def shown_counts(classes: LabelEncoder, dataset: Dataset, stage: Stage) -> str:
    """Return the number of labels of each class, the most frequent ones first, as text.

    Args:
        classes: Label encoder of the column, which has seen the data set.
        dataset: Rows with a label, or a list of labels.
        stage: Stage of the data set.
    """
    counts, num_missing = np.zeros(classes.count, dtype=np.int64), 0
    for labels in item_chunks(dataset, classes.column):
        values, occurrences = labels.value_counts().flatten()
        numbers, sizes = classes.numbers(values.to_pylist(), stage), occurrences.to_numpy()
        known = numbers != IGNORE_INDEX
        np.add.at(counts, numbers[known], sizes[known])
        num_missing += int(sizes[~known].sum())
    order, names = np.argsort(-counts, kind="stable"), classes.display_names
    parts = [f"{counts[number]:,} × {names[number]}" for number in order[:NUM_SHOWN]]
    if (others := len(order) - NUM_SHOWN) > 0:
        rarest = f"{counts[order[-1]]:,} × {names[order[-1]]}"
        parts.append(f"{others} other class{'es' * (others > 1)}, the rarest {rarest}")
    if num_missing:
        parts.append(f"{num_missing:,} without a label")
    return f"{classes.column}: {', '.join(parts)}"
