"""Predictions of testing and of ``--predict_dataset``: one JSON line a row, in the order of the data."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch

from transformers_framework.constants import ROW_IDS, Stage
from transformers_framework.distributed.collectives import gather_json
from transformers_framework.objectives.capabilities import AddsTexts, MergesWindows, PredictedPart, WritesFiles
from transformers_framework.processing.json_text import to_json
from transformers_framework.sources.columns import rows_at
from transformers_framework.storage.atomic import atomic_file
from transformers_framework.storage.run_folders import RunFolders
from transformers_framework.storage.sorted_columns import SortedColumns, joined

if TYPE_CHECKING:
    from pathlib import Path

    from transformers_framework.data.datamodule import DataModule
    from transformers_framework.objectives.objective import Objective

BATCHES_TOGETHER = 16  # batches of a rank that rank 0 gathers at once

logger = logging.getLogger(__name__)


class Predictions(pl.Callback):
    """Callback that collects the predictions of a stage on disk, and writes them in order when the stage ends.

    All ranks have equally many batches; rank 0 gathers some of each at a time and is the only one that writes, so that
    the others need no access to its files.

    Args:
        folders: Folders of the run.
        data: Rows that are written beside their predictions.
    """

    def __init__(self, folders: RunFolders, data: DataModule) -> None:
        self.folders, self.data = folders, data
        self.batches: list[dict[str, dict[str, np.ndarray]]] = []  # that rank 0 has not gathered
        self.collected: CollectedPredictions | None = None

    def on_test_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start to collect predictions."""
        self._start(pl_module, "test")

    def on_predict_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start to collect predictions; embeddings are written elsewhere."""
        if not self.data.inputs.embeds:
            self._start(pl_module, "predict")

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        """Collect the predictions of a batch."""
        self._add(outputs)

    def on_predict_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        """Collect the predictions of a batch."""
        if self.collected is not None:
            self._add(outputs)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the predictions of testing."""
        self._write(trainer)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the predictions."""
        if self.collected is not None:
            self._write(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Remove what was collected."""
        self._end()

    def _start(self, pl_module: Any, stage: Stage) -> None:
        self.collected = CollectedPredictions(pl_module.active(stage), stage, self.data, self.folders.predictions)

    def _add(self, outputs: Any) -> None:
        self.batches.append(on_host(outputs["predictions"]))
        if len(self.batches) == BATCHES_TOGETHER:
            self._gather()

    def _gather(self) -> None:
        assert self.collected is not None
        batches, self.batches = self.batches, []
        for part in gather_json(joined_batches(batches)) or ():
            self.collected.add(part)

    def _write(self, trainer: pl.Trainer) -> None:
        self._gather()
        collected = self.collected
        assert collected is not None
        if trainer.is_global_zero:
            for name, objective in collected.objectives.items():
                suffix = f".{name}" if len(collected.objectives) > 1 else ""
                path = self.folders.predictions / f"{collected.stage}{suffix}.jsonl"
                num_rows = write_predictions(path, objective, collected.stage, collected.parts(name))
                logger.info("Predictions of %d rows are in %s", num_rows, path)
        self._end()

    def _end(self) -> None:
        if self.collected is not None:
            self.collected.close()
        self.batches, self.collected = [], None


class CollectedPredictions:
    """Predictions of a stage that are added in any order and read in the order of the data; many are kept on disk.

    Args:
        objectives: Objectives of the stage by name.
        stage: The stage.
        data: The data of the run.
        folder: Folder of temporary files; the system's by default.
    """

    def __init__(
        self, objectives: Mapping[str, Objective], stage: Stage, data: DataModule, folder: Path | None = None
    ) -> None:
        self.objectives, self.stage, self.data = objectives, stage, data
        self._rows = {name: SortedColumns(folder) for name in objectives}

    def add(self, predictions: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Add the predictions of some rows by objective, without padding rows; windows by the row that they are of.

        Args:
            predictions: Columns by objective, all with ``row_ids``: ``(N,) int64``.
        """
        for name, found in predictions.items():
            kept, objective = found[ROW_IDS] >= 0, self.objectives[name]
            columns = {key: column[kept] for key, column in found.items()}
            rows = objective.row_of(self.stage, columns) if isinstance(objective, MergesWindows) else columns[ROW_IDS]
            self._rows[name].add(rows, columns)

    def parts(self, name: str) -> Iterator[PredictedPart]:
        """Yield the predictions of an objective in the order of the data, those of some whole rows at a time."""
        objective, stage = self.objectives[name], self.stage
        for _, columns in self._rows[name].ranges():
            merged = objective.whole_rows(stage, columns) if isinstance(objective, MergesWindows) else None
            if merged is None:
                yield PredictedPart(columns, self.data.rows(stage, columns[ROW_IDS]))
            else:
                yield PredictedPart(merged[0], rows_at(merged[1], merged[0][ROW_IDS]))

    def close(self) -> None:
        """Remove the temporary files."""
        for rows in self._rows.values():
            rows.close()

    def __enter__(self) -> CollectedPredictions:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def write_predictions(path: Path, objective: Objective, stage: Stage, parts: Iterator[PredictedPart]) -> int:
    """Write the predictions of an objective, and beside them the further files of the objective.

    All files are complete or absent.

    Args:
        path: File of the predictions; further files have other suffixes.
        objective: The objective.
        stage: The stage that was predicted.
        parts: The predictions in the order of the data.

    Returns:
        The number of rows.
    """
    num_rows = 0
    with contextlib.ExitStack() as stack:
        main, files = stack.enter_context(_open_atomic(path)), dict[str, IO[str]]()

        def written() -> Iterator[PredictedPart]:
            nonlocal num_rows
            for part in parts:
                main.writelines(to_json(row | line) + "\n" for row, line in lines_of(objective, part))
                num_rows += len(part.columns[ROW_IDS])
                yield part

        remaining = written()
        for suffix, text in objective.prediction_files(stage, remaining) if isinstance(objective, WritesFiles) else ():
            if suffix not in files:
                files[suffix] = stack.enter_context(_open_atomic(path.with_suffix(suffix)))
            files[suffix].write(text)
        deque(remaining, maxlen=0)
    return num_rows


@contextlib.contextmanager
def _open_atomic(path: Path) -> Iterator[IO[str]]:
    with atomic_file(path) as aside, aside.open("w", encoding="utf-8") as file:
        yield file


def joined_batches(batches: Sequence[Mapping[str, Mapping[str, np.ndarray]]]) -> dict[str, dict[str, np.ndarray]]:
    """Return the columns of all batches, by objective."""
    return {
        name: {key: joined([batch[name][key] for batch in batches]) for key in batches[0][name]}
        for name in (batches[0] if batches else {})
    }


def lines_of(objective: Objective, part: PredictedPart) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each row of the data set that was predicted, and its predictions."""
    adding, names = objective if isinstance(objective, AddsTexts) else None, list(part.rows)
    values = zip(*part.rows.values(), strict=True)
    for row_id, row_values, line in zip(part.columns[ROW_IDS].tolist(), values, decoded(objective, part), strict=True):
        row = dict(zip(names, row_values, strict=True))
        yield {"id": row_id, **row}, adding.with_texts(line, row) if adding else line


def decoded(objective: Objective, part: PredictedPart) -> Iterator[dict[str, Any]]:
    """Yield the predictions of each row as they are shown."""
    names = [name for name in part.columns if name != ROW_IDS]
    columns = [part.columns[name].tolist() for name in names]
    for number in range(len(part.columns[ROW_IDS])):
        yield objective.decode({name: values[number] for name, values in zip(names, columns, strict=True)})


def on_host(predictions: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, dict[str, np.ndarray]]:
    """Return copies: a tensor that came from a loader's worker keeps a file descriptor open as long as it lives."""
    return {name: {key: np.array(tensor.cpu()) for key, tensor in found.items()} for name, found in predictions.items()}
