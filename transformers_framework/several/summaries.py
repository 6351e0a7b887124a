"""The summary of a series: means over seeds, and a table of the settings of a sweep, the best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers_framework.several.results import (
    SEEDS,
    SWEEP,
    goodness,
    is_of_class,
    mean_and_deviation,
    number,
    of_seeds,
    read_results,
    scale_of,
    summary_of,
    write_results,
)
from transformers_framework.several.series import PlannedRun, Series
from transformers_framework.several.tables import aligned
from transformers_framework.storage.run_folders import RESULTS


def report(series: Series, failed: Sequence[PlannedRun] = ()) -> str:
    """Write the results of a series whose runs have ended; return them as text for the terminal.

    Args:
        series: The runs.
        failed: Those that failed.

    Raises:
        ConfigurationError: When runs with different seeds had different data.
    """
    found = [_of_setting(runs, failed) for runs in series.settings]
    if series.is_seeded:
        for results in found:
            if results is not None:
                write_results(_file(series, results["name"] + SEEDS), results)
    if not series.is_sweep:
        (results,) = found
        assert results is not None
        return seeds_table(results) + f"\n\nResults: {_file(series, series.name + SEEDS)}"
    return _sweep(series, found)


def _file(series: Series, name: str) -> Path:
    return series.output_dir / "checkpoints" / name / RESULTS


def _of_setting(runs: Sequence[PlannedRun], failed: Sequence[PlannedRun]) -> dict[str, Any] | None:
    """Return the results of the runs of a setting as those of several seeds; None if one failed."""
    if any(run in failed for run in runs):
        return None
    name = runs[0].folders.name.removesuffix(f"-seed{runs[0].seed}")
    found = [read_results(run.results) for run in runs]
    results = of_seeds(name, found)
    bests = [(result.get("best") or {}).get("value") for result in found]
    return results | {"monitored": summary_of(bests)}


def seeds_table(results: Mapping[str, Any]) -> str:
    """Return the metrics of runs with several seeds: mean ± standard deviation, minimum and maximum."""
    rows = [["", "mean ± sd", "min", "max"]]
    for metric, summary in results["metrics"].items():
        if not is_of_class(metric):
            scale = scale_of(metric, summary["values"])
            bounds = [number(summary[key], metric, scale) for key in ("min", "max")]
            rows.append([metric, mean_and_deviation(summary, metric), *bounds])
    seeds = " ".join(map(str, results["seeds"]))
    title = f"{results['name']}: {len(results['seeds'])} seeds ({seeds}); shares in percent, sd with n − 1"
    best = results["best"]
    last = f"\n\nBest run: {best['run']} ({best['monitor']} {_single(best)})" if best else ""
    warned = "".join(f"\n\n{line}" for line in _warnings(results["warnings"]))
    return f"{title}\n\n{aligned(rows)}{last}{warned}"


def _warnings(of_runs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return one line for each warning, with the name of its run."""
    return [f"WARNING: run '{run}': {text}" for run, texts in of_runs.items() for text in texts]


def _single(best: Mapping[str, Any]) -> str:
    return number(best["value"], best["monitor"], scale_of(best["monitor"], [best["value"]]))


def _sweep(series: Series, found: Sequence[Mapping[str, Any] | None]) -> str:
    """Write the results of a sweep and return its table, the best setting first."""
    entries: list[dict[str, Any]] = []
    for runs, command, results in zip(series.settings, series.commands, found, strict=True):
        names = [run.folders.name for run in runs]
        entry: dict[str, Any] = {"runs": names, "flags": dict(runs[0].setting), "command": command}
        kept = ("metrics", "monitored", "best", "seeds", "warnings") if results else ()
        entries.append({**entry, **{key: (results or {})[key] for key in kept}, "failed": results is None})
    first = next((entry["best"] for entry in entries if entry.get("best")), None)
    direction = (first or {}).get("direction")
    entries.sort(key=lambda entry: goodness((entry.get("monitored") or {}).get("mean"), direction))
    best = entries[0] if first and not entries[0]["failed"] else None
    results = {
        "name": series.name,
        "monitor": (first or {}).get("monitor"),
        "direction": direction,
        "best": best and {key: best[key] for key in ("runs", "flags", "command", "monitored")},
        "settings": entries,
    }
    path = _file(series, series.name + SWEEP)
    write_results(path, results)
    lines = [_table(entries, results["monitor"])]
    if best:
        lines.append(f"Best: {best['command']}")
    else:
        lines.append("No metric was monitored, so no setting is the best: give --valid_dataset or --monitor.")
    lines += [line for entry in entries for line in _warnings(entry.get("warnings", {}))]
    if broken := [name for entry in entries if entry["failed"] for name in entry["runs"]]:
        lines.append(f"Failed: {', '.join(broken)}")
    return "\n\n".join([*lines, f"Results: {path}"])


def _table(entries: Sequence[Mapping[str, Any]], monitor: str | None) -> str:
    flags = list(entries[0]["flags"])
    tested = f"test/{(monitor or '').partition('/')[2]}"
    columns = [name for name in (tested,) if monitor and any(name in entry.get("metrics", {}) for entry in entries)]
    rows = [["", *flags, *([monitor] if monitor else []), *columns]]
    for place, entry in enumerate(entries, 1):
        metrics, cells = entry.get("metrics", {}), []
        if monitor:
            cells.append("failed" if entry["failed"] else mean_and_deviation(entry["monitored"], monitor))
        cells += [mean_and_deviation(metrics[name], name) if name in metrics else "–" for name in columns]
        rows.append([str(place), *entry["flags"].values(), *cells])
    return aligned(rows, left=len(flags) + 1)
