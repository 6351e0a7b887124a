"""Checkpoints for transformers, each with a model card."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytorch_lightning as pl

from transformers_framework.callbacks.card_usage import usage_of
from transformers_framework.callbacks.model_card import CARD, model_card
from transformers_framework.callbacks.run_record import RunRecord
from transformers_framework.constants import BINARY_LABELS, STAGES
from transformers_framework.export_description import describe, write_description
from transformers_framework.objectives.capabilities import ExportsConfig, ExportsOutputs
from transformers_framework.pipelines.log_names import reproducible
from transformers_framework.runtime.loops import epoch_under_way
from transformers_framework.storage.atomic import atomic_folder
from transformers_framework.strategies.build import whole_weights

if TYPE_CHECKING:
    from transformers_framework.pipelines.pipeline import Pipeline


class Exporter:
    """Write the model of a run as checkpoints that transformers' Auto classes load.

    Args:
        tokenizer: Goes with every checkpoint.
        options: Returns the flags of the run, for the card; some are known when training starts.
        max_length: Longest input of the run in tokens.
    """

    def __init__(self, tokenizer: Any, options: Callable[[], Mapping[str, Any]], max_length: int) -> None:
        self.tokenizer, self._options, self.max_length = tokenizer, options, max_length

    @property
    def options(self) -> Mapping[str, Any]:
        """Flags of the run."""
        return self._options()

    def export(self, trainer: pl.Trainer, folder: Path, *, validated_step: int | None = None) -> None:
        """Write a checkpoint, whole or not at all; one folder a head when there are several.

        Args:
            trainer: The trainer.
            folder: The folder.
            validated_step: Optimizer step of the last validation, for the card.
        """
        weights = whole_weights(trainer)
        if not trainer.is_global_zero:
            return
        with atomic_folder(folder) as aside:
            pipeline = cast("Pipeline", trainer.lightning_module)
            parts = pipeline.objectives.items()
            learned = {name: part.learned_config for name, part in parts if isinstance(part, ExportsConfig)}
            outputs = {name: part.num_exported_outputs for name, part in parts if isinstance(part, ExportsOutputs)}
            options: Any = {"state_dict": weights, "learned": learned, "outputs": outputs}
            folders = pipeline.model.export(aside, self.tokenizer, **options)
            self._describe(aside, pipeline, folders, learned)
            if weights is not None:
                _say_precision(aside)
            records = [part for part in trainer.callbacks if isinstance(part, RunRecord)]  # type: ignore[attr-defined]
            logged = reproducible(trainer.callback_metrics)
            heads = {path: [pipeline.objectives[name]] for name, path in folders.items() if name in pipeline.objectives}
            # a head in a folder of its own may be shared alone
            for path, objectives in (heads | {aside: [*pipeline.objectives.values()]}).items():
                prefixes = tuple(f"{stage}/{part.name}/" for stage in STAGES for part in objectives)
                card = model_card(
                    self.options,
                    usage_of(path, objectives, self.options),
                    metrics={k: v for k, v in logged.items() if path == aside or k.startswith(prefixes)},
                    epoch=epoch_under_way(trainer),
                    step=trainer.global_step,
                    validated_step=validated_step,
                    changes=[line for record in records for line in record.continued.changes],
                )
                card.save(path / CARD)

    def _describe(self, aside: Path, pipeline: Pipeline, folders: Mapping[str, Path], learned: Any) -> None:
        """Write what is needed to load the export as it was trained."""
        configs = {name: part.head_config for name, part in pipeline.objectives.items()}
        labels = {name: [*config["id2label"].values()] for name, config in configs.items() if "id2label" in config}
        labels |= {name: config[BINARY_LABELS] for name, config in configs.items() if config.get(BINARY_LABELS)}
        heads = {name: path.relative_to(aside).as_posix() for name, path in folders.items()}
        family = pipeline.model.config.model_type
        write_description(aside, describe(self.options, family, heads, labels, learned), alone=pipeline.objectives)


def _say_precision(folder: Path) -> None:
    """Let configs tell of weights in float32: transformers writes what the model computes in."""
    for path in folder.rglob("config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(config | {"dtype": "float32"}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
