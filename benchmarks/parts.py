"""The parts of one of our runs, without the run: model and batches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any


def parts_of(words: Sequence[str], count: int) -> tuple[Any, list[dict[str, Any]]]:
    """Return the experiment of a command, its module built, and its first training batches.

    Args:
        words: Flags of ``transformers_framework``.
        count: How many batches.
    """
    from transformers_framework.cli.main import experiment_of

    experiment = experiment_of(words)
    experiment.prepare_machine()
    experiment.module.train()
    experiment.data.trainer = experiment.trainer
    return experiment, list(islice(experiment.data.loader("train"), count))
