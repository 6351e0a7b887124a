"""The model card of an export: data, flags, metrics and versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers_framework.constants import ONCE
from transformers_framework.restricted import is_address

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

METADATA = ("library_name", "tags", "base_model")  # of the hub, in this order
PACKAGES = ("transformers-framework", "torch", "pytorch-lightning", "transformers", "tokenizers", "datasets")


def model_card(
    options: Mapping[str, Any], *, metrics: Mapping[str, float], epoch: int, step: int, changes: Sequence[str] = ()
) -> ModelCard:
    """Return a model card: metadata for the hub, and data, flags, metrics and versions for people.

    Args:
        options: Flags of the run.
        metrics: Metrics when it was saved.
        epoch: Epoch when it was saved.
        step: Optimizer step when it was saved.
        changes: Which of the flags had other values before, and up to which step.
    """
    import yaml
    from huggingface_hub import ModelCard, ModelCardData

    base = options.get("pre_trained_model")
    is_hub_name = base and not Path(base).exists() and not is_address(base)
    metadata = ModelCardData(
        library_name="transformers",
        tags=[options["pipeline"], "transformers-framework"],
        base_model=base if is_hub_name else None,
    ).to_yaml(original_order=list(METADATA))
    data = [
        f"| {stage} | `{options[f'{stage}_dataset']}` |"
        for stage in ("train", "valid", "test", "predict")
        if options.get(f"{stage}_dataset")
    ]
    flags = {key: value for key, value in options.items() if value is not None and key not in ONCE}
    body = "\n".join(
        [
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
    return ModelCard(f"---\n{metadata}\n---\n{body}")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    import platform
    from importlib import metadata

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
