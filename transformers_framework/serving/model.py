"""Trained models as objects that predict rows: ``load("outputs/pre_trained_models/NAME/best").predict(rows)``."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast, overload

from transformers_framework.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    import numpy as np

    from transformers_framework.inputs.query_passage import QueryPassage, Side
    from transformers_framework.serving.exports import ServedRun
    from transformers_framework.serving.predictor import DType

UNPACKED = {"packing": "none", "split_long_texts": False}  # each row that is given has a prediction of its own


class LoadedModel:
    """A trained model that predicts rows, as the prediction stage of a run does.

    Methods can be called from several threads; calls run one after the other, each with the whole device.

    Args:
        run: The run that predicts.
        device: The device.
        dtype: Type of the weights.
        batch_size: Rows per batch.
    """

    def __init__(self, run: ServedRun, device: str | None, dtype: DType, batch_size: int) -> None:
        from transformers_framework.serving.predictor import Predictor

        self._run, self._predictor, self._lock = run, Predictor(run, device, dtype), threading.Lock()
        self.batch_size = batch_size

    @property
    def pipeline(self) -> str:
        """Name of the pipeline."""
        return self._run.pipeline_name

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that rows may have; others are ignored."""
        return tuple(sorted(self._run.data.named_columns.read or ()))

    def __repr__(self) -> str:
        device, dtype = self._predictor.device, self._predictor.weights_dtype
        return f"<{type(self).__name__} {self.pipeline} of {', '.join(self.columns)} on {device} in {dtype}>"

    @overload
    def predict(self, rows: Mapping[str, Any], *, batch_size: int | None = None) -> dict[str, Any]: ...

    @overload
    def predict(self, rows: Iterable[Mapping[str, Any]], *, batch_size: int | None = None) -> list[dict[str, Any]]: ...

    def predict(self, rows: Any, *, batch_size: int | None = None) -> dict[str, Any] | list[dict[str, Any]]:
        """Return the predictions of rows, in their order, as ``--predict_dataset`` writes them beside each row.

        Rows are batched by length. With several objectives, predictions are by objective.

        Args:
            rows: Dictionaries with the input columns; a single one; or a table of pandas, pyarrow or datasets.
            batch_size: Rows per batch; by default that of the model.

        Raises:
            DataError: When a column is missing or a value is wrong, with the row, counted from 0.
        """
        if isinstance(rows, Mapping):
            return self.predict([rows], batch_size=batch_size)[0]
        from transformers_framework.serving.rows import dataset_of

        dataset = dataset_of(rows, self.columns, self._run.inputs.predicted_columns)
        if not len(dataset):
            return []
        with self._lock:
            self._run.take(dataset)
            if self._run.inputs.embeds:
                return self._embeddings(self._batch_size(batch_size), len(dataset))
            found = self._predictor.predictions(self._predictor.batches(self._batch_size(batch_size)))
        if len(found) == 1:
            (of_rows,) = found.values()
            return [of_rows[row] for row in range(len(dataset))]
        return [{name: of_rows[row] for name, of_rows in found.items()} for row in range(len(dataset))]

    def _batch_size(self, given: int | None) -> int:
        return self.batch_size if given is None else _checked_batch_size(given)

    def _embeddings(self, batch_size: int, count: int) -> list[dict[str, Any]]:
        from transformers_framework.constants import ROW_IDS

        found: list[dict[str, Any]] = [{} for _ in range(count)]
        for batch, outputs in self._predictor.outputs(self._predictor.batches(batch_size)):
            embeddings = outputs["embeddings"].float().cpu().numpy()
            for row, embedding in zip(batch[ROW_IDS].tolist(), embeddings, strict=True):
                found[row] = {"embedding": embedding}
        return found

    def encode(
        self, texts: str | Sequence[str], *, embed_as: Side | None = None, batch_size: int | None = None
    ) -> np.ndarray:
        """Return the embeddings of texts, in their order: ``(N, E) float32``, of a single text ``(E,)``.

        Args:
            texts: The texts, or a single one.
            embed_as: Whether they are a ``query`` or a ``passage``, which may have prefixes, lengths and towers of
                their own; by default as the model was loaded, else ``passage``.
            batch_size: Texts per batch; by default that of the model.

        Raises:
            ConfigurationError: When the model is not one of retrieval.
            DataError: When a text is none, with its number, counted from 0.
        """
        import numpy as np

        from transformers_framework.models.towers import BiEncoder
        from transformers_framework.serving.embeddings import encode

        if not isinstance(self._predictor.module.model, BiEncoder):
            raise ConfigurationError(
                f"encode: this is a model of pipeline {self.pipeline}; only retrieval has embeddings."
            )
        several = [texts] if isinstance(texts, str) else list(texts)
        if wrong := [number for number, text in enumerate(several) if not isinstance(text, str)]:
            raise DataError(f"text {wrong[0]}: found {type(several[wrong[0]]).__name__}, expected a text.")
        inputs = cast("QueryPassage", self._run.inputs)
        side = embed_as or inputs.embeds or "passage"
        if side not in ("query", "passage"):
            raise ConfigurationError(f"encode(embed_as={side!r}): expected query or passage.")
        towers = self._predictor.module.model
        found = np.zeros((len(several), towers.tower(side).embedding_size), dtype=np.float32)
        with self._lock:
            for places, embeddings in encode(self._predictor, inputs, side, several, self._batch_size(batch_size)):
                found[places] = embeddings
        return found[0] if isinstance(texts, str) else found


def load(
    model: str,
    *,
    pipeline: str | None = None,
    device: str | None = None,
    dtype: DType = "float32",
    batch_size: int = 32,
    cache_dir: str | None = None,
    **flags: Any,
) -> LoadedModel:
    """Load a trained model to predict rows with it.

    An export of this program describes its task. For other checkpoints, give the pipeline and the flags of its inputs:
    ``load("bert-base", pipeline="seq_class", input_columns=["text"])``.

    Args:
        model: Folder of an export such as ``outputs/pre_trained_models/NAME/best``, hub name, or address (``s3://…``).
        pipeline: The pipeline; by default that of the export.
        device: Device such as ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; by default a GPU if there is one.
        dtype: Type of the weights and of most computations: ``float32``, ``bfloat16`` or ``float16``.
        batch_size: Rows per batch.
        cache_dir: Folder for downloads; by default the user's cache folder.
        **flags: Flags of the pipeline that replace those of the export, by name, such as ``input_columns=["text"]`` or
            ``generation_num_beams=4``.

    Raises:
        ConfigurationError: When the model cannot be loaded, or flags are missing or wrong.
    """
    from transformers_framework.runtime.process_state import process_state_restored
    from transformers_framework.serving.exports import served_run
    from transformers_framework.serving.rows import ROWS

    if dtype not in ("float32", "bfloat16", "float16"):
        raise ConfigurationError(f"load(dtype={dtype!r}): expected float32, bfloat16 or float16.")
    _checked_batch_size(batch_size)
    with process_state_restored():
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        run = served_run(
            str(model), flags, pipeline=pipeline, cache_dir=cache_dir, unless_given=UNPACKED, predict_dataset=ROWS
        )
        return LoadedModel(run, device, dtype, batch_size)


def _checked_batch_size(given: int) -> int:
    if not isinstance(given, int) or given < 1:
        raise ConfigurationError(f"batch_size={given!r}: expected an integer of 1 or more.")
    return given
