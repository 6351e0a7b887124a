"""Embeddings of texts: an array file with one row for each row of the data, and a file of ids."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch

from transformers_framework.constants import ROW_IDS
from transformers_framework.processing.json_text import to_json
from transformers_framework.sources.columns import chunks
from transformers_framework.storage.atomic import atomic_file

if TYPE_CHECKING:
    from datasets import Dataset

    from transformers_framework.inputs.query_passage import QueryPassage, Side
    from transformers_framework.run_parts import Run
    from transformers_framework.serving.predictor import Predictor

EMBEDDINGS, IDS = ".embeddings.npy", ".ids.jsonl"  # how the names of the files end

EmbeddingsDtype = Literal["float32", "float16"]

logger = logging.getLogger(__name__)


class EmbeddingsFile:
    """An array file ``(N, E)`` that is mapped into memory and written row by row, in any order.

    It is there when it is closed without an error. Memory does not depend on N.

    Args:
        path: The file.
        num_rows: N.
        dtype: Type of the numbers.
    """

    def __init__(self, path: Path, num_rows: int, dtype: EmbeddingsDtype = "float32") -> None:
        self.path, self.num_rows, self.dtype_name = path, num_rows, dtype
        self.stack = contextlib.ExitStack()
        self.array: np.memmap | None = None

    def write(self, rows: np.ndarray, embeddings: np.ndarray) -> None:
        """Write the embeddings ``(B, E)`` of rows ``(B,) int64``; those of padding rows, below 0, are left out."""
        if self.array is None:
            aside = self.stack.enter_context(atomic_file(self.path))
            shape = (self.num_rows, embeddings.shape[1])
            self.array = np.lib.format.open_memmap(aside, mode="w+", dtype=self.dtype_name, shape=shape)
        self.array[rows[rows >= 0]] = embeddings[rows >= 0]

    def close(self, error: BaseException | None = None) -> None:
        """Complete the file; after an error it is removed."""
        if self.array is not None:
            self.array.flush()
        self.array = None
        self.stack.__exit__(type(error) if error else None, error, None)

    def __enter__(self) -> EmbeddingsFile:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close(error)


def write_ids(path: Path, dataset: Dataset, id_column: str | None) -> None:
    """Write the id of each row as a line of JSON: the value of a column, or the row number.

    Args:
        path: The file.
        dataset: The rows.
        id_column: Column of ids; without it, or where the data lack it, row numbers are written.
    """
    with atomic_file(path) as aside, aside.open("w", encoding="utf-8") as file:
        if id_column is None or id_column not in dataset.column_names:
            file.writelines(f"{row}\n" for row in range(len(dataset)))
            return
        for rows in chunks(dataset.select_columns([id_column])):
            file.writelines(f"{to_json(value)}\n" for value in rows[id_column])


class EmbeddingsWriter(pl.Callback):
    """Callback that writes the embeddings of a prediction stage while they are computed.

    Ranks have batches of equal size, which rank 0 gathers and writes; the others need no access to its files.

    Args:
        run: The run.
        dtype: Type of the numbers.
    """

    def __init__(self, run: Run, dtype: EmbeddingsDtype) -> None:
        self.run, self.dtype_name = run, dtype
        self.file: EmbeddingsFile | None = None

    def on_predict_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Make the file."""
        path, dataset = self.run.folders.predictions / f"predict{EMBEDDINGS}", self.run.data.datasets["predict"]
        self.file = EmbeddingsFile(path, len(dataset), self.dtype_name) if trainer.is_global_zero else None

    def on_predict_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *args: Any) -> None:
        """Write the embeddings of a batch of all ranks."""
        rows, embeddings = batch[ROW_IDS], outputs["embeddings"]
        if trainer.world_size > 1:
            rows, embeddings = (pl_module.all_gather(part).flatten(0, 1) for part in (rows, embeddings))
        if self.file is not None:
            self.file.write(rows.cpu().numpy(), embeddings.float().cpu().numpy())

    def on_predict_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Complete the file and write the ids."""
        if self.file is None:
            return
        self.file.close()
        dataset = self.run.data.datasets["predict"]
        write_ids(self.file.path.with_name(f"predict{IDS}"), dataset, self.run.options.get("index_column"))
        logger.info("Embeddings of %d rows are in %s", len(dataset), self.file.path)

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Remove an incomplete file."""
        if self.file is not None:
            self.file.close(exception)


def embeddings_file(run: Run, *, embeddings_dtype: EmbeddingsDtype = "float32") -> EmbeddingsWriter | None:
    """Return the callback that writes embeddings in prediction; None if scores are predicted.

    Args:
        run: The run.
        embeddings_dtype: Type of embeddings that prediction writes: float32, or float16 in half the space.
    """
    embeds = run.inputs.embeds and run.data.has("predict") and not run.is_fast_dev_run
    return EmbeddingsWriter(run, embeddings_dtype) if embeds else None


def encode(
    predictor: Predictor, inputs: QueryPassage, side: Side, texts: Sequence[str], batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield indices of texts ``(B,) int64`` and their embeddings ``(B, E) float32``, the longest texts first.

    Args:
        predictor: The model.
        inputs: Converts texts to model inputs.
        side: Whether they are queries or passages.
        texts: The texts.
        batch_size: Texts per batch.
    """
    tower: Callable[..., torch.Tensor] = predictor.module.model.tower(side)  # type: ignore[operator]
    for places, batch in inputs.encoded_by_length(side, texts, batch_size, predictor.multiple):
        on_device = {key: torch.from_numpy(values).to(predictor.device) for key, values in batch.items()}
        with predictor.computing():
            yield places, tower(**on_device).float().cpu().numpy()
