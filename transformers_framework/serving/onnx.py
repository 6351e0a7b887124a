"""Exports to ONNX: ``onnx/model.onnx`` in the folder of each trained encoder, for onnxruntime and other runtimes."""

from __future__ import annotations

import contextlib
import inspect
import logging
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytorch_lightning as pl

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.families import family_of
from transformers_framework.objectives.capabilities import head_of
from transformers_framework.optional_packages import require_packages
from transformers_framework.registry import OWN_HEADS
from transformers_framework.run_parts import EndsRun
from transformers_framework.storage.atomic import atomic_folder
from transformers_framework.storage.exports import model_folders

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from transformers import PreTrainedModel

    from transformers_framework.run_parts import Run

INT8: Literal["int8"] = "int8"
FOLDER, FILE, INT8_FILE = "onnx", "model.onnx", "model_int8.onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# outputs of transformers' encoders that are exported, each where a model has it
OUTPUTS = ("logits", "start_logits", "end_logits", "last_hidden_state")
TOLERANCE = 1e-4  # largest difference from the model, as a share of its largest output if that is above 1
TRACED, CHECKED = (2, 12), ((1, 5), (3, 17))  # rows and tokens: of the inputs for tracing and of those for the check
LONG = 256  # tokens of a further text that is compared

logger = logging.getLogger(__name__)


def onnx_export(run: Run, *, export_onnx: Literal["int8"] | bool = False) -> OnnxExport | None:
    """Return the callback that exports to ONNX when the run has ended; None without ``--export_onnx``.

    Args:
        run: The run.
        export_onnx: Also export the trained encoder to ONNX when the run has ended, as onnx/model.onnx in best/, or in
            final/ without a best state. 'int8' adds onnx/model_int8.onnx, with weights of 8 bits. Needs the extra onnx.

    Raises:
        ConfigurationError: When a package is missing, or the model cannot be exported to ONNX, with the reason.
    """
    if not export_onnx:
        return None
    if not run.data.has("train"):
        raise ConfigurationError(
            "--export_onnx: it exports what a run has trained, and there is no --train_dataset. For a run that has "
            "ended, repeat its command with --resume and --export_onnx."
        )
    heads = {objective.name: head_of(objective, run.config.model_type) for objective in run.objectives}
    check_exportable(run.config, list(heads.values()))
    require_packages(*PACKAGES, needed_by="--export_onnx", extra="onnx")
    return OnnxExport(heads, quantizes=export_onnx == INT8) if run.writes else None


def check_exportable(config: Any, heads: Sequence[str]) -> None:
    """Check that models can be exported.

    Args:
        config: Config of the model.
        heads: Auto classes of its heads.

    Raises:
        ConfigurationError: When one cannot, with the reason.
    """
    reason = family_of(config.model_type).no_onnx
    if config.is_encoder_decoder:
        reason = "it is an encoder-decoder, and only encoders are exported"
    elif own := [head for head in heads if head in OWN_HEADS]:
        reason = f"{own[0]} reads positions of candidates, which other programs do not compute"
    if reason:
        raise ConfigurationError(
            f"--export_onnx: this model of family '{config.model_type}' cannot be exported to ONNX ({reason}). Leave "
            "the flag out."
        )


class OnnxExport(pl.Callback, EndsRun):
    """Export the trained model to ONNX when the run has ended.

    Args:
        heads: Auto class of each head, by the name of its objective.
        quantizes: Also export with weights of 8 bits.
    """

    def __init__(self, heads: dict[str, str], *, quantizes: bool) -> None:
        self.heads, self.quantizes = heads, quantizes

    def on_run_end(self, run: Run) -> None:
        """Export each model of the best state, or of the final one; a failure is logged, and the run continues."""
        if not run.trainer.is_global_zero:
            return
        export = run.folders.export
        for folder in [] if export is None else model_folders(export).values():
            logger.info("Exporting %s to ONNX", folder)
            head = self.heads.get(folder.name, next(iter(self.heads.values())))
            try:
                found = write_onnx(folder, head, quantizes=self.quantizes)
            except Exception as error:  # the model is trained and saved
                reason = textwrap.shorten(str(error), 300, placeholder=" …")
                logger.warning("%s was not exported to ONNX (%s); the checkpoint there is complete.", folder, reason)
                logger.debug("The export to ONNX failed", exc_info=True)
                continue
            for name, difference in found.items():
                logger.info("%s: outputs differ by %.1e at most", folder / FOLDER / name, difference)


def write_onnx(folder: Path, head: str, *, quantizes: bool = False) -> dict[str, float]:
    """Export a checkpoint to ONNX, into its subfolder ``onnx``; compare outputs of other shapes than the traced ones.

    Inputs are int64 ``(batch, sequence)``, named as those of transformers: ``input_ids``, ``attention_mask`` and, where
    the model has several types, ``token_type_ids``. Outputs are float32 with the names of transformers.

    Args:
        folder: Checkpoint of transformers.
        head: Auto class that loads it.
        quantizes: Also write the model with weights of 8 bits; activations are quantized when it runs.

    Returns:
        The largest difference from the outputs of the model, by the name of the file.

    Raises:
        ValueError: When outputs of the exported model differ from those of the model.
    """
    import torch

    from transformers_framework.models.own_families import load_export

    model = load_export(folder, head, dtype="float32").eval()
    names = input_names(model)
    with atomic_folder(folder / FOLDER) as aside, torch.no_grad(), _quiet():
        _trace(model, names, aside / FILE)
        files = [FILE]
        if quantizes:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            # a scale per channel: embeddings of MiniLM then have a cosine of 0.98 with those in float32, before 0.92
            quantize_dynamic(aside / FILE, aside / INT8_FILE, weight_type=QuantType.QInt8, per_channel=True)
            files.append(INT8_FILE)
        found = {name: _largest_difference(model, names, aside / name) for name in files}
        if not found[FILE] <= TOLERANCE:
            raise ValueError(f"its outputs would differ from those of the model by {found[FILE]:.1e}")
    return found


def input_names(model: PreTrainedModel) -> list[str]:
    """Return the inputs of an encoder in ONNX, by their names in transformers."""
    from transformers_framework.models.agreement import TYPES
    from transformers_framework.models.segments import type_vocabulary

    knows_types = type_vocabulary(model.config) > 1 and TYPES in inspect.signature(model.forward).parameters
    return ["input_ids", "attention_mask", *([TYPES] if knows_types else [])]


def outputs_of(model: PreTrainedModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the outputs of a model that are exported, by their names in transformers."""
    found = model(**inputs, return_dict=True)
    return {name: found[name] for name in OUTPUTS if name in found}


def inputs_for(model: PreTrainedModel, names: Sequence[str], rows: int, length: int) -> dict[str, Tensor]:
    """Return inputs ``(rows, length)``, where all rows but the first end with padding."""
    import torch

    padding = model.config.pad_token_id or 0
    ids = torch.arange(1, rows * length + 1).reshape(rows, length) % model.config.vocab_size
    ids = torch.where(ids == padding, (padding + 1) % model.config.vocab_size, ids)
    mask = torch.ones_like(ids)
    mask[1:, -2:] = 0
    types = (torch.arange(length) >= length // 2).long().expand(rows, length)
    every = {"input_ids": torch.where(mask > 0, ids, padding), "attention_mask": mask, "token_type_ids": types}
    return {name: every[name].contiguous() for name in names}


def _trace(model: PreTrainedModel, names: Sequence[str], path: Path) -> None:
    import torch

    class Positional(torch.nn.Module):
        """The model with inputs and outputs in order, as torch's exporter needs them."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
            return tuple(outputs_of(self.model, dict(zip(names, values, strict=True))).values())

    inputs = inputs_for(model, names, *TRACED)
    program = torch.onnx.export(
        Positional().eval(),
        tuple(inputs.values()),
        input_names=list(names),
        output_names=list(outputs_of(model, inputs)),
        dynamic_shapes={"values": tuple({0: "batch", 1: "sequence"} for _ in names)},
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(path)


def _largest_difference(model: PreTrainedModel, names: Sequence[str], path: Path) -> float:
    """Return the largest difference of any output, as a share of the largest output if that is above 1."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = []
    for rows, length in (*CHECKED, (1, _long_length(model.config))):
        inputs = inputs_for(model, names, rows, length)
        given: dict[str, np.ndarray] = {name: values.numpy() for name, values in inputs.items()}
        wanted = [values.numpy() for values in outputs_of(model, inputs).values()]
        for ours, theirs in zip(session.run(None, given), wanted, strict=True):
            # outputs at padding are not read, and some families compute them from nothing
            kept = given["attention_mask"] > 0 if theirs.shape[:2] == given["attention_mask"].shape else ...
            found.append(np.abs(ours - theirs)[kept].max() / max(1.0, np.abs(theirs[kept]).max()))
    return float(np.max(found))


def _long_length(config: Any) -> int:
    """Return a length beyond the windows that attention may slide over, if the model has so many positions."""
    from transformers_framework.models.positions import max_positions

    windows = [getattr(config, name, None) or 0 for name in ("sliding_window", "local_attention")]
    longest = max(LONG, 2 * max(windows))
    return min(longest, max_positions(config) or longest)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context manager without the messages of exporters, which no user can act on."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "root")]
    levels = [each.level for each in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for each in loggers:
                each.setLevel(logging.ERROR)
            yield
        finally:
            for each, level in zip(loggers, levels, strict=True):
                each.setLevel(level)
