"""How well entities are found, of any number of words, from three exact counters."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

OUTSIDE, BEGIN, INSIDE, END, SINGLE = range(5)
PREFIXES = {"O": OUTSIDE, "B": BEGIN, "I": INSIDE, "E": END, "S": SINGLE}


def are_entity_tags(names: Sequence[str]) -> bool:
    """Return whether classes are tags of entities: O, and B-, I-, E- or S- before a type.

    Examples:
        >>> are_entity_tags(["O", "B-person", "I-person"]), are_entity_tags(["NOUN", "VERB"])
        (True, False)
    """
    return "O" in names and len(names) > 1 and all(name == "O" or re.match("[BIES]-", name) for name in names)


def entity_spans(prefixes: NDArray[np.int64], types: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Find the entities in a sequence of tags, as conlleval and seqeval's default mode do.

    An entity begins at B or S, behind E or S, and where the type changes; a tag I or E behind O begins one too, so that
    IOB1, IOB2 and IOBES are all read.

    Args:
        prefixes: What each tag says of its place, one of the constants of this module (T,) int64.
        types: Type of the entity of each tag; of O any number that no type has (T,) int64.

    Returns:
        Whether an entity ends at a tag, (T,) bool, and where it has begun, (T,) int64, which means nothing elsewhere.

    Examples:
        >>> ends, begins = entity_spans(np.array([BEGIN, INSIDE, INSIDE, OUTSIDE, INSIDE]), np.array([0, 0, 1, -1, 0]))
        >>> [(int(begin), end) for end, begin in enumerate(begins) if ends[end]]
        [(0, 1), (2, 2), (4, 4)]
    """
    inside = prefixes != OUTSIDE
    previous = np.concatenate([[OUTSIDE], prefixes[:-1]])
    changes = np.concatenate([[True], types[1:] != types[:-1]])
    begins = inside & (np.isin(prefixes, (BEGIN, SINGLE)) | np.isin(previous, (OUTSIDE, END, SINGLE)) | changes)
    goes_on = np.append(inside[1:] & ~begins[1:], False)
    return inside & ~goes_on, np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))


def entity_metrics(correct: int, predicted: int, actual: int) -> dict[str, float]:
    """Compute metrics of entities of all types together from counters.

    Args:
        correct: Predicted entities that are there, with the same first and last word and type.
        predicted: Predicted entities.
        actual: Entities that are there.

    Returns:
        ``entity_f1``, ``entity_precision`` and ``entity_recall``, 0 where there is nothing to count.

    Examples:
        >>> entity_metrics(correct=3, predicted=4, actual=6)
        {'entity_f1': 0.6, 'entity_precision': 0.75, 'entity_recall': 0.5}
    """
    return {
        "entity_f1": 2 * correct / max(1, predicted + actual),
        "entity_precision": correct / max(1, predicted),
        "entity_recall": correct / max(1, actual),
    }


class EntityMetrics(Metric):
    """F1, precision and recall of entities over all rows, see :func:`entity_metrics`.

    Args:
        class_names: Tags, in the order of the classes.
    """

    NAMES = ("entity_f1", "entity_precision", "entity_recall")

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    counts: Tensor

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__()
        kinds = {name: number for number, name in enumerate(dict.fromkeys(name[2:] for name in class_names))}
        # the last entry is the O that stands between rows
        self.prefixes = np.array([*(PREFIXES[name[0]] for name in class_names), OUTSIDE])
        self.types = np.array([*(kinds[name[2:]] for name in class_names), -1])
        self.add_state("counts", torch.zeros(3, dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def names(self) -> list[str]:
        """Names of the values that :meth:`compute` returns."""
        return list(self.NAMES)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count a batch. Words without a tag are left out, as if they did not stand there.

        Args:
            preds: Predicted classes of the words of each row, (B, W) int64.
            target: Classes, (B, W) int64; negative ones are ignored.
        """
        tags = torch.stack([preds, target]).cpu().numpy()  # one wait for the device, outside training
        tags = np.pad(tags, [(0, 0), (0, 0), (0, 1)], constant_values=-1)
        counted = tags[1] >= 0
        counted[:, -1] = True
        found, wanted = tags[0][counted], tags[1][counted]  # all rows one after the other, each behind an O
        ends, begins = entity_spans(self.prefixes[found], self.types[found])
        true_ends, true_begins = entity_spans(self.prefixes[wanted], self.types[wanted])
        both = ends & true_ends & (begins == true_begins) & (self.types[found] == self.types[wanted])
        new = torch.tensor([both.sum(), ends.sum(), true_ends.sum()], device=self.counts.device)
        # a new tensor, since one made under inference mode cannot be changed outside of it
        self.counts = self.counts + new

    def compute(self) -> dict[str, float]:
        """Return the metrics of all entities that were counted."""
        return entity_metrics(*self.counts.tolist())
