"""A comparison of runs on the same data: their metrics, with confidence intervals and tests of the differences."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transformers_framework.exceptions import ConfigurationError, DataError, UserError, did_you_mean
from transformers_framework.metrics.statistics import (
    CONFIDENCE,
    NUM_RESAMPLES,
    Resampled,
    holm,
    intervals,
    p_values,
    welch,
)
from transformers_framework.several.finished_runs import Compared, Member
from transformers_framework.several.results import is_of_class, summary_of

# entries of a row of predictions that are no columns of the data
PREDICTED = frozenset(("prediction", "predictions", "score", "scores", "n_best", "null_score", "entities"))
OF_SEARCH = frozenset(("passages", "scores", "texts"))
SCORE = "_fmeasure"  # ends the names of scores of generated texts
ALMOST = 1e-5  # metrics are logged in float32
SHOWN = 60  # characters of a value in a message

logger = logging.getLogger(__name__)


class Cell(NamedTuple):
    """A metric of a run.

    Args:
        value: The metric, the mean of several seeds; None if it has none.
        deviation: Standard deviation over seeds.
        low: Lower bound of the confidence interval.
        high: Upper bound.
        difference: By how much it exceeds the metric of the first run.
        p_value: Two-sided p-value of the difference over units of the data, such as rows.
        p_of_seeds: Two-sided p-value of the difference over seeds, if both runs have several.
    """

    value: float | None
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    p_value: float | None = None
    p_of_seeds: float | None = None

    def is_below(self, level: float) -> bool:
        """Return whether the difference is significant, over the data and, if there are several, over seeds."""
        tested = (self.p_value, 0.0 if self.p_of_seeds is None else self.p_of_seeds)
        return all(p is not None and p < level for p in tested)


class Estimate(NamedTuple):
    """Confidence intervals and p-values of a metric, from the predictions of all runs.

    Args:
        unit: Name of the resampled units, in the plural.
        bounds: Confidence interval of each run (runs, 2).
        p_values: p-value of each run but the first.
    """

    unit: str
    bounds: NDArray[np.float64]
    p_values: Sequence[float]


class Source(NamedTuple):
    """A file of predictions from which metrics of an objective are computed.

    Args:
        name: Its name, which follows that of the stage.
        measure_of: Returns the metrics of its rows.
        predicted: Entries of a row that are no columns of the data.
        is_further: Whether it is another file than that of the objective, which not all runs have.
    """

    name: str
    measure_of: Callable[[Any, Any], Resampled | None]
    predicted: frozenset[str] = PREDICTED
    is_further: bool = False


@dataclass(frozen=True)
class Comparison:
    """A comparison of runs.

    Args:
        runs: The runs, one column each.
        stage: The compared stage.
        cells: Cells of each metric in the order of the runs, by the names of metrics in logs.
        units: Resampled units of each metric, such as rows; metrics without intervals are not in it.
        confidence: Probability of the intervals.
        num_resamples: Number of resampled data sets.
    """

    runs: Sequence[Compared]
    stage: str
    cells: dict[str, list[Cell]]
    units: Mapping[str, str]
    confidence: float
    num_resamples: int


def compare(
    runs: Sequence[Compared],
    *,
    stage: str,
    metrics: Sequence[str] = (),
    confidence: float = CONFIDENCE,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare runs; the first one is the baseline of all others.

    Args:
        runs: The runs.
        stage: The stage: ``test``, or ``valid``, of which there are no predictions and thus no intervals.
        metrics: Names of the metrics, full or without the parts in front; by default all but those of single classes.
        confidence: Probability of the intervals.
        num_resamples: Number of resampled data sets, and of random exchanges.
        seed: Seed of both.

    Raises:
        ConfigurationError: When runs have no metric in common, or not the asked ones.
        DataError: When predictions are of different data, with the first row that differs.
    """
    from transformers_framework.several.ranked_runs import with_ranking

    runs = with_ranking(runs, stage)
    names = _names(runs, stage, metrics)
    objectives = [name.split("/")[1] for name in names if name.count("/") > 1] if stage == "test" else []
    resampling = {"num_resamples": num_resamples, "seed": seed}
    found: dict[str, Estimate] = {}
    for objective in dict.fromkeys(objectives):
        for source in sources_of(objective):
            if (measures := _measures(runs, stage, objective, source)) is not None:
                prefix = f"{stage}/{objective}/"
                found |= _estimates(runs, stage, prefix, names, measures, confidence=confidence, **resampling)
    if len(set(objectives)) == 1 and (loss := found.get(f"{stage}/{objectives[0]}/loss")) and f"{stage}/loss" in names:
        found[f"{stage}/loss"] = loss  # the only one
    cells = {name: _cells(runs, stage, name, found.get(name)) for name in names}
    units = {name: estimate.unit for name, estimate in found.items()}
    return Comparison(runs, stage, cells, units, confidence, num_resamples)


def _cells(runs: Sequence[Compared], stage: str, name: str, estimate: Estimate | None) -> list[Cell]:
    """Return the cells of a metric, with p-values that are corrected for the number of comparisons."""
    summaries = [summary_of([member.values(stage)[name] for member in run.members]) for run in runs]
    known = [summary["values"] if summary["mean"] is not None else [] for summary in summaries]
    over_seeds = [math.nan, *holm([welch(known[0], values) for values in known[1:]])]
    first, corrected = summaries[0]["mean"], [math.nan, *holm(estimate.p_values if estimate else [])]
    cells = []
    for place, summary in enumerate(summaries):
        value = summary["mean"]
        low, high = map(_known, estimate.bounds[place]) if estimate else (None, None)
        difference = None if not place or first is None or value is None else value - first
        p_value = _known(corrected[place]) if estimate else None
        cells.append(Cell(value, summary["sd"], low, high, difference, p_value, _known(over_seeds[place])))
    return cells


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _names(runs: Sequence[Compared], stage: str, wanted: Sequence[str]) -> list[str]:
    """Return the names of the metrics that all runs have."""
    every = [member.values(stage) for run in runs for member in run.members]
    common = [name for name in every[0] if all(name in values for values in every)]
    if set(common) <= {f"{stage}/loss"} < set().union(*every):
        from transformers_framework.several.ranked_runs import why_different

        raise ConfigurationError(why_different(runs, stage))
    if not common:
        without = next((m.name for run in runs for m in run.members if not m.values(stage)), None)
        reason = f"'{without}' has no {stage} metrics" if without else f"the runs have no {stage} metric in common"
        raise ConfigurationError(f"--stage {stage}: {reason}.")
    found = []
    for name in wanted:
        matching = [known for known in common if known == name or known.endswith(f"/{name}")]
        if not matching:
            short = [known.rpartition("/")[2] for known in common]
            raise ConfigurationError(
                f"--metric: '{name}' is not a {stage} metric of all runs.{did_you_mean(name, [*common, *short])} "
                f"They have {', '.join(common)}."
            )
        found += matching
    return list(dict.fromkeys(found)) or [name for name in common if not is_of_class(name)]


# ---------------------------------------------------------------- predictions


def sources_of(objective: str) -> list[Source]:
    """Return the files of predictions of an objective whose metrics can be computed."""
    from transformers_framework.several.measures import FURTHER, OBJECTIVES, RANKING, candidates

    if objective == RANKING:
        return [Source(objective, partial(candidates, ranks_only=True))]
    found = [Source(objective, OBJECTIVES[objective])] if objective in OBJECTIVES else []
    if objective in FURTHER:
        name, measure_of = FURTHER[objective]
        is_own = name == objective
        found.append(Source(name, measure_of, PREDICTED if is_own else OF_SEARCH, is_further=not is_own))
    return found


def _measures(runs: Sequence[Compared], stage: str, objective: str, source: Source) -> list[list[Resampled]] | None:
    """Return the measures of the members of each run; None where they cannot be computed."""
    from transformers_framework.several.measures import Labelled

    found: list[list[Resampled]] = []
    first: tuple[Member, list[dict[str, Any]]] | None = None
    for run in runs:
        found.append([])
        for member in run.members:
            path = member.predictions(stage, source.name, further=source.is_further)
            if path is None and source.is_further:
                return None
            if path is None:
                logger.warning("%s has no predictions of %s: its metrics have no intervals.", member.name, stage)
                return None
            rows = _read(path)
            if first is not None:
                _check_same(first, (member, rows), path, source.predicted)
            first = first or (member, rows)
            prefix = f"{stage}/{objective}/"
            logged = [n.removeprefix(prefix) for n in member.values(stage) if n.startswith(prefix)]
            try:
                measure = source.measure_of(rows, Labelled(member.flags, *member.classes(objective), logged))
            except (UserError, KeyError) as error:  # a package, a column or a class is missing
                logger.warning("%s: there are no intervals of %s: %s", member.name, objective, error)
                return None
            if measure is None:
                return None
            found[-1].append(measure)
    shapes = {(measure.names, measure.classes, measure.statistics.shape) for measures in found for measure in measures}
    if len(shapes) > 1:
        logger.warning("%s: the runs have different classes or metrics, so there are no intervals.", objective)
        return None
    return found


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise DataError(f"{path}: this is not a file of predictions: {error}.") from error


def _check_same(
    first: tuple[Member, list[dict[str, Any]]],
    other: tuple[Member, list[dict[str, Any]]],
    path: Path,
    predicted: Collection[str],
) -> None:
    """Check that two runs predicted the same rows.

    Raises:
        DataError: With the first row that differs.
    """
    (member, rows), (another, others) = first, other
    for number, (row, compared) in enumerate(zip(rows, others, strict=False), 1):
        columns = [name for name in row if name in compared and name not in predicted and not name.endswith(SCORE)]
        if (name := next((n for n in columns if row[n] != compared[n]), None)) is not None:
            values = (
                shown if len(shown := repr(r[name])) <= SHOWN else shown[: SHOWN - 1] + "…" for r in (row, compared)
            )
            raise DataError(
                f"{path}:{number}: '{member.name}' and '{another.name}' predicted different data: '{name}' is "
                f"{' and '.join(values)}. Test both on the same file."
            )
    if len(rows) != len(others):
        raise DataError(
            f"{path}:{min(len(rows), len(others)) + 1}: '{member.name}' predicted {len(rows):,} rows and "
            f"'{another.name}' {len(others):,}. Test both on the same file."
        )


def _estimates(
    runs: Sequence[Compared],
    stage: str,
    prefix: str,
    names: Sequence[str],
    measures: Sequence[Sequence[Resampled]],
    *,
    confidence: float,
    num_resamples: int,
    seed: int,
) -> dict[str, Estimate]:
    """Return intervals and p-values of the metrics that are equal to those in ``results.json``."""
    first = measures[0][0]
    found = {prefix + name: place for place, name in enumerate(first.names)}
    found = {n: place for n, place in found.items() if n in names and _agree(runs, stage, n, place, measures)}
    if not found:
        return {}
    how = {"num_resamples": num_resamples, "seed": seed}
    bounds = np.stack([intervals(of_run, confidence=confidence, **how) for of_run in measures])
    means = [first.mean_with(others) for first, *others in measures]
    tests = [p_values(means[0], mean, **how) for mean in means[1:]]
    return {
        name: Estimate(first.unit, bounds[:, place], [float(test[place]) for test in tests])
        for name, place in found.items()
    }


def _agree(
    runs: Sequence[Compared], stage: str, name: str, place: int, measures: Sequence[Sequence[Resampled]]
) -> bool:
    """Return whether a metric computed from the predictions equals that in ``results.json``; warn if it does not.

    Losses may differ without a warning: not all can be computed from predictions.
    """
    for run, of_run in zip(runs, measures, strict=True):
        for member, measure in zip(run.members, of_run, strict=True):
            written, computed = member.values(stage)[name], float(measure.observed[place])
            if written is None or math.isnan(computed):
                continue
            if not math.isclose(written, computed, rel_tol=ALMOST, abs_tol=ALMOST):
                if name.endswith("/loss"):
                    return False
                logger.warning(
                    "%s of '%s' is %.6g in results.json and %.6g computed from its predictions: it has no intervals.",
                    *(name, member.name, written, computed),
                )
                return False
    return True
