"""The model card of an export: its use, results, data, flags and versions, without private paths and addresses."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers_framework.callbacks.card_usage import Usage
from transformers_framework.constants import ONCE, STAGES
from transformers_framework.restricted import is_address

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard

CARD = "README.md"
METADATA = (  # of the hub, in this order
    *("library_name", "pipeline_tag", "tags", "language", "license", "base_model", "datasets", "model-index"),
)
PACKAGES = ("transformers-framework", "torch", "pytorch-lightning", "transformers", "tokenizers", "datasets")
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+){0,2}")
FILE = re.compile(r"\.(jsonl?|csv|tsv|parquet|txt|arrow|conll|iob\d?|gz|zst|bz2|xz)$")
SOURCES = re.compile(r"\w+_dataset|pre_trained_\w+")  # flags whose values may be names on the hub
# flags of a machine, of services, or of the card and its upload
PRIVATE = re.compile(
    r"\w+_dir|\w+_filename|ckpt_path|config|callbacks|loggers?|(wandb|mlflow|card|push)_\w+|\w+_workers"
)
RESULTS, ROWS = "## Results", "| name | value |\n| --- | --- |\n"


def model_card(
    options: Mapping[str, Any],
    usage: Usage,
    *,
    metrics: Mapping[str, float],
    epoch: int,
    step: int,
    validated_step: int | None = None,
    changes: Sequence[str] = (),
) -> ModelCard:
    """Return a model card: metadata for the hub, and use, results, data, flags and versions for people.

    Args:
        options: Flags of the run.
        usage: How the export is used.
        metrics: Metrics that were logged last when it was saved. Those of training are of earlier steps than those of
            validation; they are left out if there are others, except the monitored one.
        epoch: Epoch when it was saved.
        step: Optimizer step when it was saved.
        validated_step: Optimizer step of the last validation.
        changes: Which of the flags had other values before, and up to which step.
    """
    import yaml
    from huggingface_hub import ModelCard, ModelCardData

    monitor = options.get("monitor")
    metrics = {n: v for n, v in metrics.items() if not n.startswith("train/") or n == monitor} or metrics
    given = options.get("pre_trained_model")
    base, trained_on = hub_name(given), hub_name(options.get("train_dataset"))
    metadata = ModelCardData(
        library_name=usage.library,
        pipeline_tag=usage.task,
        tags=[options["pipeline"], "transformers-framework"],
        language=options.get("card_language"),
        license=options.get("card_license"),
        base_model=base,
        datasets=[trained_on.rpartition("/")[0]] if trained_on else None,
        model_name=options["name"],
        eval_results=eval_results(options, usage.task, metrics) or None,
    ).to_yaml(original_order=list(METADATA))
    data = [
        f"| {stage} | {described_source(options[f'{stage}_dataset'])} |"
        for stage in STAGES
        if options.get(f"{stage}_dataset")
    ]
    flags = {name: value for name, value in options.items() if not _is_private(name, value)}
    origin = "random weights" if not given else f"`{base}`" if base else "a local checkpoint"
    body = "\n".join(
        [
            f"# {options['name']}",
            "",
            f"`{options['model']}` trained with `{options['pipeline']}` from {origin}; saved at step {step} "
            f"(epoch {epoch + 1}).",
            *("", "## Use", "", "```python", usage.code, "```"),
            *("", RESULTS, "", _selection(options), "", *_moments(metrics, validated_step), ROWS + _rows(metrics)),
            *("## Data", "", "| stage | source |", "| --- | --- |", *data),
            *("", "## Flags", "", "```yaml", yaml.safe_dump(flags, sort_keys=True, allow_unicode=True).strip(), "```"),
            *(("", *(f"- {line}" for line in changes)) if changes else ()),
            *("", "## Versions", "", *(f"- {name} {version}" for name, version in versions().items()), ""),
        ]
    )
    return ModelCard(f"---\n{metadata}\n---\n{body}")


def with_results(card: ModelCard, options: Mapping[str, Any], chosen: str, tested: Mapping[str, float]) -> ModelCard:
    """Return a card with how its state was chosen, and with results of a test, in place of earlier ones.

    Args:
        card: The card of an export.
        options: Flags of the run.
        chosen: How the state was chosen.
        tested: Metrics of the test; empty where this state was not tested.
    """
    from huggingface_hub import ModelCard, ModelCardData

    assert isinstance(card.data, ModelCardData)
    start, _, rest = card.text.partition(f"{RESULTS}\n\n")
    before, _, rest = rest.partition(ROWS)
    _, _, moments = before.partition("\n\n")
    rows, _, rest = rest.partition("\n## ")
    kept = [line for line in rows.splitlines() if line and not line.startswith("| test/")]
    table = "".join(f"{line}\n" for line in kept) + _rows(tested)
    known = {name: value for name, value in card.data.to_dict().items() if name not in ("model-index", "model_name")}
    found = [result for result in card.data.eval_results or () if result.dataset_split != "test"]
    found += eval_results(options, card.data.pipeline_tag, tested)
    metadata = ModelCardData(**known, model_name=options["name"], eval_results=found or None)
    text = f"{start}{RESULTS}\n\n{chosen}\n\n{moments}{ROWS}{table}\n## {rest}"
    return ModelCard(f"---\n{metadata.to_yaml(original_order=list(METADATA))}\n---\n{text}")


def eval_results(options: Mapping[str, Any], task: str | None, metrics: Mapping[str, float]) -> list[EvalResult]:
    """Return metrics of validation and test, except losses, as the hub lists them."""
    from huggingface_hub import EvalResult

    found = []
    for name, value in metrics.items():
        stage, _, metric = name.partition("/")
        if stage not in ("valid", "test") or metric.endswith("loss") or not math.isfinite(value):
            continue
        source = hub_name(options.get(f"{stage}_dataset"))
        split = "validation" if stage == "valid" else "test"
        found.append(
            EvalResult(
                task_type=task or options["pipeline"],
                dataset_type=source.rpartition("/")[0] if source else "custom",
                dataset_name=source or f"{split} data",
                dataset_split=split,
                metric_type=metric.rpartition("/")[2],
                metric_name=metric,
                metric_value=round(value, 6),
            )
        )
    return found


def hub_name(source: str | None) -> str | None:
    """Return the name of a model or data set if it is one on the hub, rather than a path or an address.

    Examples:
        >>> [hub_name(name) for name in ("bert-base-cased", "user/data/train", "/data/train", "s3://b/m", "a.csv")]
        ['bert-base-cased', 'user/data/train', None, None, None]
    """
    if not source or is_address(source) or FILE.search(source) or not HUB_NAME.fullmatch(source):
        return None
    return None if source.startswith(".") or Path(source).exists() else source


def described_source(source: str) -> str:
    """Return a data set for readers: its name on the hub, else its kind and format.

    Examples:
        >>> [described_source(name) for name in ("user/data/train", "/data/rows.csv", "s3://bucket/rows")]
        ['`user/data/train`', 'local file (csv)', 'remote data']
    """
    if name := hub_name(source):
        return f"`{name}`"
    kind = FILE.search(source)
    place = "remote" if is_address(source) else "local"
    return f"{place} file ({kind[1]})" if kind else f"{place} data"


def _selection(options: Mapping[str, Any]) -> str:
    if (monitor := options.get("monitor")) is None:
        return "The last state of the training, or one on the way there."
    how = "highest" if options.get("monitor_direction", "max") == "max" else "lowest"
    return f"A state of the training; that with the {how} `{monitor}` is its best."


def _moments(metrics: Mapping[str, float], validated_step: int | None) -> list[str]:
    """Return lines with the steps at which metrics were measured, which may be before that of the state."""
    found = []
    if any(name.startswith("valid/") for name in metrics):
        at = "" if validated_step is None else f", at step {validated_step}"
        found.append(f"`valid/…`: the last validation{at}.")
    if any(name.startswith("train/") for name in metrics):
        found.append("`train/…`: losses and rates of the last logging step, metrics of the last epoch of training.")
    return [" ".join(found), ""] if found else []


def _rows(metrics: Mapping[str, float]) -> str:
    return "".join(f"| {name} | {value:.6g} |\n" for name, value in metrics.items())


def _is_private(name: str, value: Any) -> bool:
    """Return whether a flag is left out: one without a value, of one machine, or with a path or an address."""
    if value is None or name in ONCE or PRIVATE.fullmatch(name):
        return True
    if isinstance(value, Mapping):
        return any(_is_private(name, item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_is_private(name, item) for item in value)
    if not isinstance(value, str):
        return False
    if SOURCES.fullmatch(name):
        return hub_name(value) is None
    return is_address(value) or _is_path(value)


def _is_path(value: str) -> bool:
    return value.startswith(("/", "~", "./", "../")) or "\\" in value or ("/" in value and Path(value).exists())


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
