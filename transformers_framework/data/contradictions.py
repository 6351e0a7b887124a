"""Flags of the data that contradict each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers_framework.constants import STAGES, TRAIN
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.objectives.capabilities import group_columns

if TYPE_CHECKING:
    from transformers_framework.data.datamodule import DataModule


def check_flags(data: DataModule) -> None:
    """Refuse flags that contradict each other.

    Args:
        data: Has the flags; nothing is loaded yet.

    Raises:
        ConfigurationError: With the flags, and which to leave out.
    """
    for flag, values in (("config", data.configs), ("shard_dataset", data.shards)):
        if idle := [stage for stage in STAGES if values[stage] is not None and stage not in data.sources]:
            raise ConfigurationError(f"--{idle[0]}_{flag} needs --{idle[0]}_dataset.")
    labels = {column for objective in data.objectives for column in objective.label_columns(TRAIN)}
    labels -= set(group_columns(data.objectives))  # the query may be its own id
    if seen := sorted(labels.intersection(data.inputs.columns)):
        raise ConfigurationError(
            f"--label_column: '{seen[0]}' is among --input_columns, so the model would read what it must predict."
        )
    if data.inputs.uses_document_mask or (data.inputs.rewrite_key is not None and not data.inputs.groups_rows):
        _check_packing(data, labels)


def _check_packing(data: DataModule, labels: set[str]) -> None:
    flag = "--packing isolated" if data.inputs.uses_document_mask else data.inputs.rewriting
    if data.iterable:
        raise ConfigurationError(
            f"--iterable: {flag} must see all texts before training, a stream is never seen as a whole. Leave "
            "--iterable out: what is prepared lies on disk, not in memory."
        )
    if data.inputs.uses_document_mask and data.length_bucketing:
        raise ConfigurationError(
            "--length_bucketing puts rows of similar length together, --packing isolated those that fill a row: "
            "leave one of them out."
        )
    if labels:
        raise ConfigurationError(
            f"{flag}: the labels in '{min(labels)}' belong to single texts, each of which needs a row of its own. "
            "Leave the flag out, or use a pipeline that learns from tokens alone."
        )
