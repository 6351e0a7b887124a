"""Checks for data flags that contradict each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers_framework.constants import STAGES, TRAIN
from transformers_framework.exceptions import ConfigurationError, UserError
from transformers_framework.objectives.capabilities import group_columns

if TYPE_CHECKING:
    from transformers_framework.data.datamodule import DataModule
    from transformers_framework.inputs.inputs import Inputs


def check_flags(data: DataModule) -> None:
    """Raise if data flags contradict each other.

    Args:
        data: The data module with the flags; nothing is loaded yet.

    Raises:
        ConfigurationError: When flags contradict each other; the message has the flags and says which to remove.
    """
    for flag, values in (("config", data.configs), ("shard_dataset", data.shards)):
        if idle := [stage for stage in STAGES if values[stage] is not None and stage not in data.sources]:
            raise ConfigurationError(f"--{idle[0]}_{flag} needs --{idle[0]}_dataset.")
    labels = {column for objective in data.objectives for column in objective.label_columns(TRAIN)}
    labels -= set(group_columns(data.objectives))  # the query may be used as the query id
    if seen := sorted(labels.intersection(data.inputs.columns)):
        raise ConfigurationError(
            f"--label_column: '{seen[0]}' is also in --input_columns, so the model would read the label it must "
            "predict. Remove it from one of them."
        )
    if data.finds_batch_size:
        _check_auto(data)
    if data.max_tokens is not None:
        _check_max_tokens(data)
    if data.inputs.uses_document_mask or (data.inputs.rewrite_key is not None and not data.inputs.groups_rows):
        _check_packing(data, labels)


def _check_max_tokens(data: DataModule) -> None:
    inputs = data.inputs
    reasons = {
        "--iterable reads the rows, and thus their lengths, only during training": data.iterable,
        "--overfit_batches takes the first rows of the file": data.limits.overfits,
        "with --packing, all rows have the maximum length": inputs.has_equal_lengths,
        "the length of an input is not known before its rows are grouped": inputs.groups_rows,
        "the texts of a row are encoded separately": len(inputs.key_prefixes) > 1,
        "its rows have similar lengths, and --length_bucketing false asks for others": not data.length_bucketing,
    }
    if reason := next((reason for reason, is_met in reasons.items() if is_met), None):
        raise ConfigurationError(f"--max_tokens_per_batch: {reason}. Give --batch_size instead.")


def _check_auto(data: DataModule) -> None:
    reasons = {
        "it is found by steps of training, and there is no --train_dataset": TRAIN not in data.sources,
        "--iterable reads the rows, and thus their lengths, only during training": data.iterable,
        "--overfit_batches counts batches": data.limits.overfits,
    }
    if reason := next((reason for reason, is_met in reasons.items() if is_met), None):
        raise ConfigurationError(f"--batch_size auto: {reason}. Give a number of rows.")


def _check_packing(data: DataModule, labels: set[str]) -> None:
    flag = "--packing isolated" if data.inputs.uses_document_mask else data.inputs.rewriting
    if data.iterable:
        raise _not_streamed(flag)
    if data.inputs.uses_document_mask and data.length_bucketing:
        raise ConfigurationError(
            "--length_bucketing batches rows of similar length, --packing isolated batches rows that together fill "
            "the maximum length. Remove one of them."
        )
    if labels:
        raise ConfigurationError(
            f"{flag}: '{min(labels)}' has one label per text, so each text needs a row of its own. "
            "Remove the flag, or use a pipeline that needs no label column."
        )


def rewritten_stream(inputs: Inputs) -> list[UserError]:
    """Return the error of a stream whose rows must be rewritten before training, known after its first rows were read.

    Args:
        inputs: Inputs that have checked the rows.
    """
    return [] if inputs.in_stage(TRAIN).rewrite_key is None else [_not_streamed(inputs.rewriting)]


def _not_streamed(flag: str) -> ConfigurationError:
    return ConfigurationError(
        f"--iterable: {flag} needs all texts before training, and a stream is read only during training. Remove "
        "--iterable: prepared data is stored on disk, not in memory."
    )
