"""The parts of one of our runs, without the run: model and batches, also as other programs have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Size, Tensor


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


def dense_labels(own: Mapping[str, Tensor], shape: Size) -> Tensor:
    """Return the labels of a batch where they are ``(B, L)``, -100 elsewhere.

    Args:
        own: What is an objective's own in a batch: ``positions`` and ``labels``, ``(N,)``.
        shape: That of the batch ``(B, L)``.
    """
    kept = own["labels"] != -100
    labels = own["labels"].new_full((shape.numel(),), -100)
    labels[own["positions"][kept]] = own["labels"][kept]
    return labels.view(shape)
