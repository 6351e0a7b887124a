"""The results of runs: files, means over several seeds, and numbers as text."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.processing.json_text import to_json
from transformers_framework.storage.atomic import atomic_file

SEEDS, SWEEP = "-seeds", "-sweep"  # after the name of a series, for the folder of its results
OF_CLASS = "f1_class_"  # before the name of a class, in metrics of single classes

# metrics that are no shares, or that are logged in percent
NOT_IN_PERCENT = frozenset(
    ("loss", "perplexity", "bleu", "exact_match", "pearson", "spearman", "mean_squared_error", "mean_absolute_error")
)
IN_PERCENT = "question_answering"  # the objective whose metrics are logged in percent, as the official scripts of SQuAD


def read_results(path: Path) -> dict[str, Any]:
    """Return the results of a run.

    Raises:
        ConfigurationError: When the file is damaged.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path}: found a {type(found).__name__}, expected the results of a run.")
    return found


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write the results of several runs."""
    with atomic_file(path) as aside:
        aside.write_text(to_json(results, indent=2) + "\n", encoding="utf-8", errors="backslashreplace")


def metrics_of(results: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the metrics of the best state of a run, or of the last without one, and those of testing."""
    best = (results.get("best") or {}).get("metrics") or results.get("valid") or {}
    return {**best, **(results.get("test") or {})}


def warnings_of(results: Mapping[str, Any]) -> list[str]:
    """Return the warnings about the results of a run, of all its stages."""
    return [text for texts in (results.get("warnings") or {}).values() for text in texts]


def is_of_class(metric: str) -> bool:
    """Return whether a metric is that of a single class, which tables leave out by default."""
    return f"/{OF_CLASS}" in metric


def summary_of(values: Sequence[float | None]) -> dict[str, Any]:
    """Return mean, standard deviation (n - 1), minimum and maximum; None where a value is missing.

    Examples:
        >>> found = summary_of([1.0, 2.0, 6.0])
        >>> found["mean"], round(found["sd"], 3), found["min"], found["max"]
        (3.0, 2.646, 1.0, 6.0)
        >>> summary_of([1.0, None])["mean"], summary_of([1.0])["sd"]
        (None, None)
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < len(values):
        return {"mean": None, "sd": None, "min": None, "max": None, "values": list(values)}
    return {
        "mean": statistics.fmean(known),
        "sd": statistics.stdev(known) if len(known) > 1 else None,
        "min": min(known),
        "max": max(known),
        "values": known,
    }


def of_seeds(name: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the results of runs that differ in their seed.

    Args:
        name: Their common name.
        results: Results of each run.

    Raises:
        ConfigurationError: When they were trained or tested on different data.
    """
    check_same_data(results)
    metrics = [metrics_of(found) for found in results]
    names = [metric for metric in metrics[0] if all(metric in other for other in metrics)]
    return {
        "name": name,
        "pipeline": results[0].get("pipeline"),
        "model": results[0].get("model"),
        "seeds": [found.get("seed") for found in results],
        "runs": [found.get("name") for found in results],
        "metrics": {metric: summary_of([found[metric] for found in metrics]) for metric in names},
        "best": best_of(results),
        "warnings": {found.get("name"): texts for found in results if (texts := warnings_of(found))},
        "durations": {"total": sum((found.get("durations") or {}).get("total") or 0.0 for found in results)},
        "data": results[0].get("data"),
    }


def check_same_data(results: Sequence[Mapping[str, Any]]) -> None:
    """Check that runs have the same data, by their fingerprints.

    Raises:
        ConfigurationError: When one has other data.
    """
    first = results[0].get("data") or {}
    for found in results[1:]:
        for stage, data in (found.get("data") or {}).items():
            if stage in first and data.get("fingerprint") != first[stage].get("fingerprint"):
                raise ConfigurationError(
                    f"Runs '{results[0].get('name')}' and '{found.get('name')}' have different {stage} data "
                    f"({first[stage].get('source')}, {data.get('source')}), so they have no common mean. Remove the "
                    "older one, or run all again with --overwrite."
                )


def best_of(results: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the run with the best value of the monitored metric; None if no metric is monitored."""
    known = [found for found in results if (found.get("best") or {}).get("value") is not None]
    if not known:
        return None
    best = min(known, key=lambda found: goodness(found["best"]["value"], found["best"].get("direction")))
    return {"run": best.get("name"), **{key: value for key, value in best["best"].items() if key != "metrics"}}


def goodness(value: float | None, direction: str | None) -> float:
    """Return a number that is smaller for better values; a missing value is worst."""
    if value is None or not math.isfinite(value):
        return math.inf
    return value if direction == "min" else -value


# ---------------------------------------------------------------- numbers as text


def scale_of(metric: str, values: Sequence[float | None]) -> float:
    """Return by what the values of a metric are multiplied to be shown: 100 for shares.

    Examples:
        >>> scale_of("test/seq_class/accuracy", [0.853]), scale_of("test/loss", [0.4]), scale_of("test/x/mine", [3.0])
        (100.0, 1.0, 1.0)
    """
    parts = metric.split("/")
    are_shares = all(0 <= value <= 1 for value in values if value is not None)
    return 1.0 if not are_shares or parts[-1] in NOT_IN_PERCENT or IN_PERCENT in parts else 100.0


def digits_of(metric: str, scale: float) -> int:
    """Return the decimals that a metric is shown with: 1 for percentages, else 3."""
    in_percent = scale != 1 or IN_PERCENT in metric.split("/") or metric.endswith("/bleu")
    return 1 if in_percent and not metric.endswith("/loss") else 3


def number(value: float | None, metric: str, scale: float, *, signed: bool = False) -> str:
    """Return a value as text.

    Examples:
        >>> number(0.8534, "test/seq_class/accuracy", 100.0), number(None, "test/loss", 1.0)
        ('85.3', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    shown = round(value * scale, digits_of(metric, scale)) + 0.0  # no −0.0
    return f"{shown:{'+' if signed else ''}.{digits_of(metric, scale)}f}".replace("-", "−")


def mean_and_deviation(summary: Mapping[str, Any], metric: str) -> str:
    """Return a mean with its standard deviation, such as ``85.3 ± 0.9``."""
    scale = scale_of(metric, summary["values"])
    mean = number(summary["mean"], metric, scale)
    return mean if summary["sd"] is None else f"{mean} ± {number(summary['sd'], metric, scale)}"
