"""Checkpoints for transformers, with a card that says where they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytorch_lightning as pl

from transformers_framework.callbacks.provenance import Provenance
from transformers_framework.constants import ONCE
from transformers_framework.runtime.loops import epoch_under_way
from transformers_framework.storage.atomic import atomic_folder
from transformers_framework.strategies.build import whole_weights

if TYPE_CHECKING:
    from transformers_framework.pipelines.pipeline import Pipeline


class Exporter:
    """Write the model of a run as checkpoints that transformers' Auto classes load.

    Args:
        tokenizer: Goes with every checkpoint.
        options: Flags of the run, for the card.
        max_length: Longest input of the run in tokens.
    """

    def __init__(self, tokenizer: Any, options: Mapping[str, Any], max_length: int) -> None:
        self.tokenizer, self.options, self.max_length = tokenizer, options, max_length

    def export(self, trainer: pl.Trainer, folder: Path) -> None:
        """Write a checkpoint, whole or not at all; one folder a head when there are several."""
        weights = whole_weights(trainer)
        if not trainer.is_global_zero:
            return
        with atomic_folder(folder) as aside:
            pipeline = cast("Pipeline", trainer.lightning_module)
            for name, objective in pipeline.objectives.items():
                if found := objective.learned_config:
                    pipeline.model.heads[name].config.update(found)
            pipeline.model.export(aside, self.tokenizer, state_dict=weights)
            if weights is not None:
                _say_precision(aside)
            provenance = [part for part in trainer.callbacks if isinstance(part, Provenance)]  # type: ignore[attr-defined]
            card = model_card(
                self.options,
                metrics={name: float(value) for name, value in sorted(trainer.callback_metrics.items())},
                epoch=epoch_under_way(trainer),
                step=trainer.global_step,
                changes=[line for part in provenance for line in part.continued.changes],
            )
            (aside / "README.md").write_text(card, encoding="utf-8")


def _say_precision(folder: Path) -> None:
    """Let configs tell of weights in float32: transformers writes what the model computes in."""
    for path in folder.rglob("config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(config | {"dtype": "float32"}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def model_card(
    options: Mapping[str, Any], *, metrics: Mapping[str, float], epoch: int, step: int, changes: Sequence[str] = ()
) -> str:
    """Return a model card in Markdown: data, flags, metrics and versions.

    Args:
        options: Flags of the run.
        metrics: Metrics when it was saved.
        epoch: Epoch when it was saved.
        step: Optimizer step when it was saved.
        changes: Which of the flags were others before, and up to which step.
    """
    import yaml

    base = options.get("pre_trained_model")
    header: dict[str, Any] = {"library_name": "transformers", "tags": [options["pipeline"], "transformers-framework"]}
    if base and not Path(base).exists() and "://" not in base:
        header["base_model"] = base
    data = [
        f"| {stage} | `{options[f'{stage}_dataset']}` |"
        for stage in ("train", "valid", "test", "predict")
        if options.get(f"{stage}_dataset")
    ]
    flags = {key: value for key, value in options.items() if value is not None and key not in ONCE}
    return "\n".join(
        [
            "---",
            yaml.safe_dump(header, sort_keys=False).strip(),
            "---",
            f"# {options['name']}",
            "",
            f"`{options['model']}` trained with `{options['pipeline']}` "
            f"from {f'`{base}`' if base else 'random weights'}; saved in epoch {epoch} at step {step}.",
            *("", "## Data", "", "| stage | source |", "| --- | --- |", *data),
            *("", "## Metrics", "", "| name | value |", "| --- | --- |"),
            *(f"| {name} | {value:.6g} |" for name, value in metrics.items()),
            *("", "## Flags", "", "```yaml", yaml.safe_dump(flags, sort_keys=True, allow_unicode=True).strip(), "```"),
            *(("", *(f"- {line}" for line in changes)) if changes else ()),
            *("", "## Versions", "", *(f"- {name} {version}" for name, version in versions().items()), ""),
        ]
    )


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    import platform
    from importlib import metadata

    found = {"python": platform.python_version()}
    for package in ("transformers-framework", "torch", "pytorch-lightning", "transformers", "tokenizers", "datasets"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
