"""``python -m transformers_framework.compare``: compare the metrics of runs, with intervals and tests."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from transformers_framework.exceptions import ConfigurationError, UserError, printable
from transformers_framework.restricted import LocalPath, NonNegativeInt, PositiveInt, Range

if TYPE_CHECKING:
    from transformers_framework.cli.flags import Flag

USAGE = "python -m transformers_framework.compare RUN RUN … [flags]"

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130

Confidence = Annotated[float, Range(above=0, below=1)]


@dataclass(frozen=True, kw_only=True)
class Command:
    """What the command does beside its work.

    Args:
        debug: Show the traceback of an error.
        help: Show this help, and exit.
    """

    debug: bool = False
    help: bool = False


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
        stage: Stage of the metrics. Validation has no predictions, and thus no intervals and tests.
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
    from transformers_framework.several.comparison import compare, find_run
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
    """Run the command and return its exit status: 0 done, 1 it failed, 2 the command or its input is wrong.

    Args:
        argv: The words after the program's name; those of the process when absent.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        return _command(argv)
    except UserError as error:
        if "--debug" in argv:
            traceback.print_exc()
        sys.stderr.write(printable(f"error: {error}\n"))
        return WRONG
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except Exception as error:
        traceback.print_exc()
        sys.stderr.write(printable(f"error: {type(error).__name__}: {error}\n"))
        return FAILED


def _command(argv: Sequence[str]) -> int:
    from transformers_framework.cli import help as helps
    from transformers_framework.cli.flags import flags_of, merge
    from transformers_framework.cli.given import read_command_line
    from transformers_framework.cli.parser import values_of

    groups: dict[str, dict[str, Flag]] = {"compare": merge(flags_of(compared)), "command": merge(flags_of(Command))}
    first = next((place for place, word in enumerate(argv) if word.startswith("-")), len(argv))
    runs, given = argv[:first], read_command_line(argv[first:])
    if not argv or "help" in given:
        (sys.stdout if argv else sys.stderr).write(helps.full(groups, USAGE) + "\n")
        return DONE if argv else WRONG
    options = values_of(given, groups)
    if not runs:
        raise ConfigurationError(f"No runs are given; they come before the flags: {USAGE}.")
    text = compared(runs, **{name: options[name] for name in groups["compare"]})
    sys.stdout.write(printable(text.rstrip("\n")) + "\n")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
