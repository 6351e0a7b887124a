"""``python -m transformers_framework.predict``: predictions of a file of rows, with a trained model."""

from __future__ import annotations

import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.restricted import LocalPath, NonNegativeInt, PositiveInt, Source
from transformers_framework.sources.data_files import TextUnit

if TYPE_CHECKING:
    from transformers_framework.cli.flags import Flag
    from transformers_framework.cli.given import Given
    from transformers_framework.cli.tool import Values
    from transformers_framework.serving.predictor import Predictor

logger = logging.getLogger("transformers_framework.predict")  # this module's name is another when it is the program

OWN = ("batch_size", "text_unit")  # of this command, whatever those of training were
USAGE = "python -m transformers_framework.predict --model FOLDER --input FILE [--output FILE] [flags]"
STANDARD = "-"  # standard input or output
STANDARD_INPUT = "standard_input.jsonl"
MOST_WORKERS = 4
OWN_WORDS = {  # of messages about a run: this command's
    "--predict_dataset": "--input",
    "--predict_field": "--input_field",
    "--predict_config": "--input_config",
    "--pre_trained_model or --ckpt_path, or a --train_dataset": "--model",
    "--pre_trained_model": "--model",
    "the predict data set": "the input",
    rf"[^\s(]*{re.escape(STANDARD_INPUT)}": "standard input",
}


def predict(
    flags: Mapping[str, Any],
    *,
    model: Source,
    input: Source,
    output: LocalPath = "predictions.jsonl",
    text_unit: TextUnit | None = None,
    input_field: str | None = None,
    input_config: str | None = None,
    overwrite: bool = False,
    pipeline: str | None = None,
    batch_size: PositiveInt = 32,
    device: str | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    num_workers: NonNegativeInt | None = None,
    embeddings_dtype: Literal["float32", "float16"] = "float32",
    enable_progress_bar: bool = True,
    cache_dir: LocalPath | None = None,
) -> list[Path]:
    """Predict the rows of a file with a trained model, and write them beside their predictions as JSON lines.

    Args:
        flags: Flags of the pipeline that replace those of the export.
        model: Folder of an export such as outputs/pre_trained_models/NAME/best, hub name, or address.
        input: Rows to predict, from any source that `predict_dataset` reads; - reads JSON lines from standard input.
        output: File to write; - writes to standard output. With several objectives, one file each. Embeddings are
            written to NAME.embeddings.npy, and ids to NAME.ids.jsonl.
        text_unit: Row of a .txt file: a file, a paragraph, a line, or a sentence in CoNLL's format, of which the words
            are enough.
        input_field: Key of the list of rows, where a file is one JSON object.
        input_config: Configuration of a hub data set.
        overwrite: Replace files that exist.
        pipeline: The pipeline, for a checkpoint that does not describe its task.
        batch_size: Number of rows per batch.
        device: Device such as cpu, cuda, cuda:1 or mps. Default: a GPU if there is one.
        dtype: Type of the weights and of most computations.
        num_workers: Number of data loader workers. Default: 4 for a GPU, none otherwise
        embeddings_dtype: Type of the embeddings that are written, if texts are embedded (`embed_as`).
        enable_progress_bar: Show the progress.
        cache_dir: Folder for downloads and prepared data; by default the user's cache folder.

    Returns:
        The files of predictions; none for standard output.

    Raises:
        ConfigurationError: When the model cannot be loaded, a flag is wrong or a file exists.
        DataError: When the rows are invalid, with their place.
    """
    from transformers_framework.serving.exports import served_run
    from transformers_framework.serving.predictor import Predictor

    path = None if output == STANDARD else _of_lines(_free(Path(output), overwrite))
    with tempfile.TemporaryDirectory(prefix="predict-") as scratch:
        source = _standard_input(Path(scratch)) if input == STANDARD else input
        reading: dict[str, Any] = {"text_unit": text_unit, "predict_field": input_field, "predict_config": input_config}
        run = served_run(model, flags, pipeline=pipeline, cache_dir=cache_dir, predict_dataset=source, **reading)
        predictor = Predictor(run, device, dtype)
        if num_workers is None:
            num_workers = MOST_WORKERS if predictor.device.type == "cuda" else 0
        if run.inputs.embeds:
            top = path and path.with_suffix("")
            loading: dict[str, Any] = {
                "batch_size": batch_size,
                "num_workers": num_workers,
                "shows_progress": enable_progress_bar,
            }
            ids = flags.get("index_column")  # not that of the export, which has ids of queries
            return _write_embeddings(predictor, top, overwrite, embeddings_dtype, ids, **loading)
        active = predictor.module.active("predict")
        names = list(active)
        if path is None and len(names) > 1:
            raise ConfigurationError(f"--output -: the predictions of {' and '.join(names)} are files. Give --output.")
        paths = {name: _named(path, name if len(names) > 1 else "", overwrite) for name in names if path is not None}
        for name, written in paths.items():
            for suffix in getattr(active[name], "suffixes", ()):  # of files that are written too
                if (beside := written.with_suffix(suffix)) == written:
                    raise ConfigurationError(f"--output {written}: another file gets this name. Give NAME.jsonl.")
                _free(beside, overwrite)
        _write(predictor, paths, batch_size, num_workers, shows_progress=enable_progress_bar)
    return list(paths.values())


def _write(
    predictor: Predictor, paths: Mapping[str, Path], batch_size: int, num_workers: int, *, shows_progress: bool
) -> None:
    """Predict all rows and write them, to standard output where there is no path."""
    from transformers_framework.callbacks.predictions import lines_of, on_host, write_predictions
    from transformers_framework.constants import ROW_IDS
    from transformers_framework.display import Work, shown
    from transformers_framework.processing.json_text import to_json

    run, truncated = predictor.run, 0
    batches = predictor.batches(batch_size, num_workers)
    folder = next((path.parent for path in paths.values()), None)
    with predictor.collected(folder) as collected:
        with shown(Work("Predicting", run.data.num_entries("predict") or 0), shows=shows_progress) as progress:
            for batch, outputs in predictor.outputs(batches):
                collected.add(on_host(outputs["predictions"]))
                truncated += batch["num_truncated"]
                progress.advance(len(batch[ROW_IDS]))
        if truncated:
            what, reason = run.inputs.truncation(run.options["max_sequence_length"])
            logger.warning("%d %s %s.", truncated, what, reason)
        for name, objective in collected.objectives.items():
            if name in paths:
                num_rows = write_predictions(paths[name], objective, "predict", collected.parts(name))
                logger.info("Predictions of %d rows are in %s", num_rows, paths[name])
            else:
                for part in collected.parts(name):
                    sys.stdout.writelines(to_json(row | line) + "\n" for row, line in lines_of(objective, part))
                sys.stdout.flush()


def _write_embeddings(
    predictor: Predictor,
    top: Path | None,
    overwrite: bool,
    dtype: Literal["float32", "float16"],
    id_column: str | None,
    *,
    batch_size: int,
    num_workers: int,
    shows_progress: bool,
) -> list[Path]:
    """Embed all rows and write the array and the ids."""
    from transformers_framework.constants import ROW_IDS
    from transformers_framework.display import Work, shown
    from transformers_framework.serving.embeddings import EMBEDDINGS, IDS, EmbeddingsFile, write_ids

    if top is None:
        raise ConfigurationError("--output -: embeddings are an array file. Give --output.")
    dataset = predictor.run.data.datasets["predict"]
    paths = [_free(top.with_name(top.name + suffix), overwrite) for suffix in (EMBEDDINGS, IDS)]
    batches = predictor.batches(batch_size, num_workers)
    with (
        shown(Work("Embedding", len(dataset)), shows=shows_progress) as progress,
        EmbeddingsFile(paths[0], len(dataset), dtype) as file,
    ):
        for batch, outputs in predictor.outputs(batches):
            file.write(batch[ROW_IDS].cpu().numpy(), outputs["embeddings"].float().cpu().numpy())
            progress.advance(len(batch[ROW_IDS]))
    write_ids(paths[1], dataset, id_column)
    logger.info("Embeddings of %d rows are in %s", len(dataset), paths[0])
    return paths


def _free(path: Path, overwrite: bool) -> Path:
    """Return a path that may be written.

    Raises:
        ConfigurationError: When it is a folder, a file that exists, or in a folder that cannot be written to.
    """
    from transformers_framework.cli.tool import check_writable

    if path.is_dir():
        raise ConfigurationError(f"--output {path}: this is a folder. Give a file, as {path / 'predictions.jsonl'}.")
    if path.exists() and not overwrite:
        raise ConfigurationError(f"--output {path}: this file exists. Add --overwrite to replace it.")
    check_writable(path)
    return path


def _of_lines(path: Path) -> Path:
    """Return a path that has not the suffix of another format than JSON.

    Raises:
        ConfigurationError: When it has.
    """
    from transformers_framework.sources.data_files import COMPRESSIONS, FORMATS, SHEETS

    suffix = path.suffix.lower()
    if suffix in (*COMPRESSIONS, *SHEETS) or FORMATS.get(suffix, "json") != "json":
        instead = path.name.partition(".")[0] + ".jsonl"
        raise ConfigurationError(
            f"--output {path}: predictions are JSON lines, not {suffix}. Give --output {path.with_name(instead)}; "
            f"pandas reads it: read_json('{instead}', lines=True)."
        )
    return path


def _named(path: Path, objective: str, overwrite: bool) -> Path:
    return _free(path.with_suffix(f".{objective}{path.suffix}"), overwrite) if objective else path


def _standard_input(folder: Path) -> str:
    """Copy standard input to a file, as rows are read twice, and return its path."""
    path = folder / STANDARD_INPUT
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return str(path)


# --- the command -----------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status, see :func:`cli.tool.run_tool`.

    Args:
        argv: The words after the program's name; those of the process when absent.
    """
    from transformers_framework.cli.tool import run_function

    return run_function(argv, _command, predict, title="predict", usage=USAGE, words=OWN_WORDS, further=_flags_of_model)


def _command(values: Values) -> None:
    from transformers_framework.runtime.log import set_up_logging

    set_up_logging()
    predict(values.further, **values.own)


def _flags_of_model(given: Mapping[str, Given]) -> dict[str, dict[str, Flag]]:
    """Return the flags that define the inputs of the given model, none of them needed; nothing without a model."""
    from transformers_framework.cli import parser
    from transformers_framework.export_description import task_flags
    from transformers_framework.registry import pipeline_spec
    from transformers_framework.serving.exports import pipeline_of

    one = {name: words.words[0] for name, words in given.items() if len(words.words) == 1 and words.words[0]}
    if "model" not in one:
        return {}
    pipeline, chosen = pipeline_of(one["model"], one.get("pipeline"), one.get("cache_dir"))
    chosen |= {flag for flag in pipeline_spec(pipeline).variants if flag in given}
    every = parser.groups_of({"pipeline": pipeline, **dict.fromkeys(chosen, "1")})
    known = {name: flag for flags in every.values() for name, flag in flags.items()}
    own = [name for name in task_flags(pipeline_spec(pipeline, chosen)) if name in known and name not in OWN]
    return {f"pipeline {pipeline}": {name: replace(known[name], default=None) for name in own}}


if __name__ == "__main__":
    sys.exit(main())
