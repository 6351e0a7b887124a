"""Predictions of testing and of ``--predict_dataset``: one JSON line a row, in the order of the data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch

from transformers_framework.constants import ROW_IDS, Stage
from transformers_framework.distributed.collectives import gather_json
from transformers_framework.objectives.capabilities import AddsTexts, MergesWindows, WritesFiles
from transformers_framework.processing.json_text import to_json
from transformers_framework.sources.columns import chunks
from transformers_framework.storage.atomic import atomic_file
from transformers_framework.storage.run_folders import RunFolders

if TYPE_CHECKING:
    from pathlib import Path

    from transformers_framework.data.datamodule import DataModule
    from transformers_framework.objectives.objective import Objective

logger = logging.getLogger(__name__)


class Predictions(pl.Callback):
    """Collect what is predicted, write it when the stage ends.

    Args:
        folders: Where files go.
        data: Holds the rows that predictions stand beside.
    """

    def __init__(self, folders: RunFolders, data: DataModule) -> None:
        self.folders, self.data = folders, data
        self.batches: list[dict[str, dict[str, np.ndarray]]] = []

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        """Keep the predictions of a batch, on the host: those of all tokens of a data set are many."""
        self.batches.append(on_host(outputs["predictions"]))

    def on_predict_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        """Keep the predictions of a batch."""
        if not self.data.inputs.embeds:
            self.batches.append(on_host(outputs["predictions"]))

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the predictions of testing."""
        self._write(trainer, pl_module, "test")

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the predictions; embeddings are written elsewhere."""
        if not self.data.inputs.embeds:
            self._write(trainer, pl_module, "predict")

    def _write(self, trainer: pl.Trainer, pl_module: Any, stage: Stage) -> None:
        batches, self.batches = self.batches, []
        parts = gather_json(joined_batches(batches))
        if parts is None:
            return
        self.folders.predictions.mkdir(parents=True, exist_ok=True)
        objectives = pl_module.active(stage)
        for name, objective in objectives.items():
            columns, rows = whole_rows(objective, stage, [part[name] for part in parts if part], self.data)
            suffix = f".{name}" if len(objectives) > 1 else ""
            path = self.folders.predictions / f"{stage}{suffix}.jsonl"
            write_predictions(path, objective, stage, columns, rows)
            logger.info("Predictions of %d rows are in %s", len(columns[ROW_IDS]), path)


def write_predictions(
    path: Path,
    objective: Objective,
    stage: Stage,
    columns: Mapping[str, np.ndarray],
    rows: Callable[[], Iterator[Mapping[str, Sequence[Any]]]],
) -> None:
    """Write the predictions of an objective, and beside them the further files of the objective.

    Args:
        path: File of the predictions; further files have other suffixes.
        objective: The objective.
        stage: The stage that was predicted.
        columns: Predictions of whole rows.
        rows: Reads these rows in chunks.
    """
    with atomic_file(path) as aside, aside.open("w", encoding="utf-8") as file:
        for row, line in lines_of(rows(), objective, columns):
            file.write(to_json(row | line) + "\n")
    files = objective.prediction_files(stage, columns, rows()) if isinstance(objective, WritesFiles) else {}
    for extra, lines in files.items():
        with atomic_file(path.with_suffix(extra)) as aside:
            aside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def joined_batches(batches: Sequence[Mapping[str, Mapping[str, np.ndarray]]]) -> dict[str, dict[str, np.ndarray]]:
    """Return the columns of all batches, by objective."""
    return {
        name: {key: _joined([batch[name][key] for batch in batches]) for key in batches[0][name]}
        for name in (batches[0] if batches else {})
    }


def whole_rows(
    objective: Objective, stage: Stage, parts: list[Mapping[str, np.ndarray]], data: DataModule
) -> tuple[Mapping[str, np.ndarray], Callable[[], Iterator[Mapping[str, Sequence[Any]]]]]:
    """Return the predictions of whole rows in the order of the data, and a function that reads these rows in chunks.

    Args:
        objective: The objective.
        stage: The stage.
        parts: Columns of each process, all with ``row_ids``: ``(N,) int64``.
        data: The data of the run.
    """
    columns: Mapping[str, np.ndarray] = in_row_order(parts)
    merged = objective.whole_rows(stage, columns) if isinstance(objective, MergesWindows) else None
    return (merged[0], partial(chunks, merged[1])) if merged else (columns, partial(data.rows, stage))


def lines_of(
    chunks: Iterator[Mapping[str, Sequence[Any]]], objective: Objective, columns: Mapping[str, np.ndarray]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each row of the data set that was predicted, and its predictions."""
    position, adding = 0, objective if isinstance(objective, AddsTexts) else None
    ids, predicted = columns[ROW_IDS], decoded(objective, columns)
    start = 0
    for rows in chunks:
        size = len(next(iter(rows.values())))
        while position < len(ids) and ids[position] < start + size:
            row = {key: column[ids[position] - start] for key, column in rows.items()}
            line = next(predicted)
            yield {"id": int(ids[position]), **row}, adding.with_texts(line, row) if adding else line
            position += 1
        start += size


def decoded(objective: Objective, columns: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Yield the predictions of each row as they are shown."""
    values = {key: column.tolist() for key, column in columns.items() if key != ROW_IDS}
    for position in range(len(columns[ROW_IDS])):
        yield objective.decode({key: column[position] for key, column in values.items()})


def in_row_order(parts: list[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the predictions of all processes in the order of the data set, without rows that only evened them out.

    Args:
        parts: Columns of each process, all with ``row_ids``: ``(N,) int64``.
    """
    columns = {key: _joined([part[key] for part in parts]) for key in parts[0]}
    order = np.argsort(columns[ROW_IDS], kind="stable")
    order = order[columns[ROW_IDS][order] >= 0]
    return {key: column[order] for key, column in columns.items()}


def on_host(predictions: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, dict[str, np.ndarray]]:
    """Return copies: a tensor that came from a loader's worker keeps a file descriptor open as long as it lives."""
    return {name: {key: np.array(tensor.cpu()) for key, tensor in found.items()} for name, found in predictions.items()}


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    """Put arrays one after the other; -1 fills the rows of those that have fewer values a row than others."""
    width = max(array.shape[-1] for array in arrays) if arrays[0].ndim > 1 else 0
    if any(array.ndim > 1 and array.shape[-1] < width for array in arrays):
        arrays = [
            np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, width - array.shape[-1])], constant_values=-1)
            for array in arrays
        ]
    return np.concatenate(arrays)
