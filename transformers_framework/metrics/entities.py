"""F1, precision and recall of entities of any number of words, from three exact counters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

OUTSIDE, BEGIN, INSIDE, END, SINGLE = range(5)
# of IOB, IOE, IOBES, BILOU (U = S, L = E) and BMES (M = I)
PREFIXES = {"B": BEGIN, "I": INSIDE, "M": INSIDE, "E": END, "L": END, "S": SINGLE, "U": SINGLE}
TAG = re.compile("([BIMELSU])(?:-(.*))?", re.DOTALL)
LIKE_TAG = re.compile("[BIMELSUbimelsu][-_:|/.]|.*[-_][BIMELSU]$|O$")  # before the type, or after it
UNTYPED = "_"  # type of tags that have none, as seqeval calls it
UNNAMED = re.compile(r"LABEL_\d+")  # a class that --num_labels adds, and no row has


def tag_parts(name: str) -> tuple[int, str | None] | None:
    """Parse a tag to its prefix and the type of its entity (None for O); return None if a name is not a tag.

    Examples:
        >>> tag_parts("U-person") == (SINGLE, "person"), tag_parts("M") == (INSIDE, "")
        (True, True)
        >>> tag_parts("NOUN"), tag_parts("B_person")
        (None, None)
    """
    if name == "O" or UNNAMED.fullmatch(name):
        return OUTSIDE, None
    found = TAG.fullmatch(name)
    return None if found is None else (PREFIXES[found[1]], found[2] or "")


def are_entity_tags(names: Sequence[str]) -> bool:
    """Return whether classes are entity tags: prefixes such as B and I with or without a type, and optionally O.

    Tags without types must include B and one of I or E, since other single letters may be any classes.

    Examples:
        >>> are_entity_tags(["O", "B-person", "I-person"]), are_entity_tags(["B", "M", "E", "S"])
        (True, True)
        >>> are_entity_tags(["NOUN", "VERB"]), are_entity_tags(["S", "M", "L"]), are_entity_tags(["O", "B_person"])
        (False, False, False)
    """
    parts = [tag_parts(name) for name in names]
    tags = {part for part in parts if part is not None and part[0] != OUTSIDE}
    if None in parts or not tags:
        return False
    places = {place for place, _ in tags}
    typed = all(kind for _, kind in tags)
    return (typed and ("O" in names or not places <= {INSIDE, END})) or (
        BEGIN in places and bool(places & {INSIDE, END})
    )


def why_no_entities(names: Sequence[str] | None) -> str:
    """Return the reason why classes are not entity tags, if :func:`are_entity_tags` is false."""
    if not names:
        return "classes are numbers. Name them with --labels, in the order of the numbers, such as O B-person I-person"
    strange = next((name for name in names if tag_parts(name) is None), None)
    if strange is None:
        return f"{', '.join(names[:10])} do not mark where an entity begins"
    return f"'{strange}' is not a tag such as O, B-person or I-person (prefixes of IOB, IOE, IOBES, BILOU and BMES)"


def entity_spans(prefixes: NDArray[np.int64], types: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Find the entities in a sequence of tags, as conlleval and seqeval's default mode do.

    An entity begins at B or S, after E or S, and where the type changes; a tag I or E after O begins one too, so that
    IOB1, IOB2, IOE, IOBES, BILOU and BMES are all supported.

    Args:
        prefixes: Prefix of each tag, one of the constants of this module (T,) int64.
        types: Type of the entity of each tag; for O any number that is not a type (T,) int64.

    Returns:
        Whether an entity ends at a tag, (T,) bool, and where it began, (T,) int64, undefined at other tags.

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


def entity_values(correct: NDArray, predicted: NDArray, actual: NDArray) -> dict[str, NDArray[np.float64]]:
    """Compute the values of :func:`entity_metrics` of any number of data sets, each (...) float64."""
    return {
        "entity_f1": 2 * correct / np.maximum(predicted + actual, 1),
        "entity_precision": correct / np.maximum(predicted, 1),
        "entity_recall": correct / np.maximum(actual, 1),
    }


def entity_metrics(correct: int, predicted: int, actual: int) -> dict[str, float]:
    """Compute metrics of entities of all types together from counters.

    Args:
        correct: Number of predicted entities with the same first word, last word and type as an actual entity.
        predicted: Number of predicted entities.
        actual: Number of actual entities.

    Returns:
        ``entity_f1``, ``entity_precision`` and ``entity_recall``, 0 if their denominator is 0.

    Examples:
        >>> entity_metrics(correct=3, predicted=4, actual=6)
        {'entity_f1': 0.6, 'entity_precision': 0.75, 'entity_recall': 0.5}
    """
    values = entity_values(*map(np.asarray, (correct, predicted, actual)))
    return {name: float(value) for name, value in values.items()}


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
    """Classes that are entity tags, parsed.

    Args:
        class_names: Tags, in the order of the classes.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        parts = [part for name in class_names if (part := tag_parts(name)) is not None]
        assert len(parts) == len(class_names), "classes are no tags"
        self.names = sorted({kind or UNTYPED for place, kind in parts if place != OUTSIDE})  # of the types of entities
        numbers = {name: number for number, name in enumerate(self.names)}
        # the last entry is an O between rows
        self.prefixes = np.array([*(place for place, _ in parts), OUTSIDE])
        self.types = np.array([*(-1 if place == OUTSIDE else numbers[kind or UNTYPED] for place, kind in parts), -1])

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

    def ends(self, found: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return where correct, predicted and actual entities end, (3, T) bool.

        Args:
            found: Predicted classes; -1 is an O between rows (T,) int64.
            wanted: Classes; -1 is an O between rows (T,) int64.
        """
        ends, begins = entity_spans(self.prefixes[found], self.types[found])
        true_ends, true_begins = entity_spans(self.prefixes[wanted], self.types[wanted])
        both = ends & true_ends & (begins == true_begins) & (self.types[found] == self.types[wanted])
        return np.stack([both, ends, true_ends])


class EntityMetrics(Metric):
    """F1, precision and recall of entities over all rows, see :func:`entity_metrics`.

    Whole rows are counted at once. Words of rows that were split into windows are kept, 16 bytes each, until the end.

    Args:
        class_names: Tags, in the order of the classes.
    """

    NAMES = ("entity_f1", "entity_precision", "entity_recall")

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    counts: Tensor
    words: list[Tensor]

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__()
        self.tags = EntityTags(class_names)
        self.add_state("counts", torch.zeros(3, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("words", [], dist_reduce_fx="cat")  # row, place in it, predicted class, class: (N, 4) int32

    @property
    def names(self) -> list[str]:
        """Names of the values that :meth:`compute` returns."""
        return list(self.NAMES)

    def update(
        self, preds: Tensor, target: Tensor, documents: Tensor | None = None, firsts: Tensor | None = None
    ) -> None:
        """Count a batch. Words without a tag are left out.

        Args:
            preds: Predicted classes of the words of each row or window, (B, W) int64.
            target: Classes, (B, W) int64; negative ones are ignored. Each word has its class in one window only.
            documents: Row of each window, -1 for rows that are not split, (B,) int64; None if no row is split.
            firsts: Index of the first word of each window in its row, (B,) int64.
        """
        tags = torch.stack([preds, target]).cpu().numpy()  # one wait for the device, outside training
        if documents is not None and firsts is not None:
            of = documents.cpu().numpy()
            window, word = np.nonzero((tags[1] >= 0) & (of >= 0)[:, None])
            place = firsts.cpu().numpy()[window] + word
            kept = np.stack([of[window], place, *tags[:, window, word]], axis=1).astype(np.int32)
            if len(kept) or not len(self.words):  # gathering needs the state on all ranks
                self.words.append(torch.from_numpy(kept).to(self.counts.device))
            tags = tags[:, of < 0]
        tags = np.pad(tags, [(0, 0), (0, 0), (0, 1)], constant_values=-1)  # an O after each row
        counted = tags[1] >= 0
        counted[:, -1] = True
        new = torch.from_numpy(self._entities(*tags[:, counted])).to(self.counts.device)
        # a new tensor, since one made under inference mode cannot be changed outside of it
        self.counts = self.counts + new

    def _entities(self, found: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of correct, predicted and actual entities (3,) int64; -1 is an O between rows."""
        counts: NDArray[np.int64] = self.tags.ends(found, wanted).sum(axis=1)
        return counts

    def compute(self) -> dict[str, float]:
        """Return the metrics of all entities that were counted."""
        counts = self.counts.cpu().numpy()
        if len(self.words):
            rows, places, found, wanted = dim_zero_cat(self.words).cpu().numpy().astype(np.int64).T
            order = np.lexsort((places, rows))
            bounds = np.flatnonzero(np.diff(rows[order])) + 1
            counts = counts + self._entities(*(np.insert(tags[order], bounds, -1) for tags in (found, wanted)))
        return entity_metrics(*counts.tolist())
