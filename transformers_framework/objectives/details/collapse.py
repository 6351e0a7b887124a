"""A warning about a model that predicts one class for everything."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers_framework.metrics.confusion import Confusion

FEWEST = 20  # rows or words of a test; equal predictions of fewer may be right by chance

logger = logging.getLogger(__name__)


def warn_of_collapse(confusion: Confusion) -> None:
    """Log a warning if all predictions are one class, though labels are of several classes.

    Args:
        confusion: Labels and predictions of the test data.
    """
    predicted, wanted = np.unique(confusion.preds), np.unique(confusion.labels)
    if confusion.total < FEWEST or len(predicted) != 1 or len(wanted) == 1:
        return
    logger.warning(
        "Test: each of the %s %s is predicted as %s, though labels are of %d classes: the model learned nothing but "
        "the most frequent class. Try another --learning_rate (lower, or higher), more --max_epochs, or "
        "--label_weights.",
        f"{confusion.total:,}", confusion.unit, confusion.class_names[int(predicted[0])], len(wanted),
    )  # fmt: skip
