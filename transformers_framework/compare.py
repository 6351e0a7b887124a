"""``python -m transformers_framework.compare``: compare the metrics of runs, with intervals and tests."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from transformers_framework.constants import DONE, WRONG
from transformers_framework.exceptions import ConfigurationError, printable
from transformers_framework.restricted import LocalPath, NonNegativeInt, PositiveInt, Range

USAGE = "python -m transformers_framework.compare RUN RUN … [flags]"

Confidence = Annotated[float, Range(above=0, below=1)]


def compared(
    runs: Sequence[str],
    *,
    output_dir: LocalPath = "outputs",
    stage: Literal["test", "valid"] = "test",
    metric: list[str] | None = None,
    format: Literal["terminal", "markdown", "latex", "html"] = "terminal",
    output: LocalPath | None = None,
    confidence: Confidence = 0.95,
    num_resamples: PositiveInt = 10_000,
    seed: NonNegativeInt = 0,
) -> str:
    """Return the metrics of runs side by side, with confidence intervals and tests of the difference to the first run.

    Args:
        runs: Names or folders of finished runs; NAME-seeds is the mean of the runs of --seeds.
        output_dir: Folder of the outputs of all runs.
        stage: Stage of the metrics. Validation has no predictions, and thus no intervals and no tests over rows.
        metric: Metrics to compare, such as f1 or test/seq_class/f1; by default all but those of single classes.
        format: Format of the comparison; html is a page with curves, in a single file.
        output: File to write; by default the comparison is printed.
        confidence: Probability that a confidence interval covers the metric.
        num_resamples: Number of resampled data sets for intervals, and of random exchanges for tests.
        seed: Seed of both.

    Raises:
        ConfigurationError: When a run is absent or not finished, or has other metrics.
        DataError: When runs predicted different data.
    """
    from transformers_framework.several.comparison import compare
    from transformers_framework.several.finished_runs import find_run
    from transformers_framework.several.reports import FORMATS
    from transformers_framework.storage.atomic import atomic_file

    twice = next((name for name in runs if runs.count(name) > 1), None)
    if twice is not None:
        raise ConfigurationError(f"{twice}: this run is given twice.")
    if format == "html" and output is None:
        raise ConfigurationError("--format html: give the file of the page, as --output comparison.html.")
    if output is not None and Path(output).is_dir():
        raise ConfigurationError(
            f"--output {output}: this is a folder. Give a file, as {Path(output, 'comparison.md')}."
        )
    found = compare(
        [find_run(name, Path(output_dir)) for name in runs],
        stage=stage,
        metrics=metric or (),
        confidence=confidence,
        num_resamples=num_resamples,
        seed=seed,
    )
    text = FORMATS[format](found)
    if output is not None:
        try:
            with atomic_file(Path(output)) as aside:
                aside.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"--output {output}: it cannot be written ({error.strerror}).") from error
        return f"Comparison of {', '.join(runs)}: {output}"
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status, see :func:`cli.tool.run_tool`.

    Args:
        argv: The words after the program's name; those of the process when absent.
    """
    from transformers_framework.cli.tool import run_tool

    return run_tool(argv, _command, interrupted="interrupted")


def _command(argv: Sequence[str]) -> int:
    from transformers_framework.cli.given import read_command_line
    from transformers_framework.cli.tool import groups_of_tool, values_or_help

    groups = groups_of_tool("compare", compared)
    first = next((place for place, word in enumerate(argv) if word.startswith("-")), len(argv))
    runs, given = argv[:first], read_command_line(argv[first:])
    if (options := values_or_help(given, groups, USAGE, asks=bool(argv))) is None:
        return DONE if argv else WRONG
    if not runs:
        raise ConfigurationError(f"No runs are given; they come before the flags: {USAGE}.")
    text = compared(runs, **{name: options[name] for name in groups["compare"]})
    sys.stdout.write(printable(text.rstrip("\n")) + "\n")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
