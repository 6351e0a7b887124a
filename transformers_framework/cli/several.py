"""``--seeds`` and ``--sweep``: the command of each run of a series, all checked before the first one starts."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers_framework.cli.given import Given, dashed, gather, occurrences
from transformers_framework.cli.sweep_files import Sweep, read_sweep
from transformers_framework.constants import DONE, ONCE, SERIES, WRONG
from transformers_framework.exceptions import ConfigurationError, UserError, caught, printable
from transformers_framework.several.grid import suffixes
from transformers_framework.several.series import PROGRAM, PlannedRun, Series, check_machine
from transformers_framework.storage.run_folders import RunFolders

if TYPE_CHECKING:
    from transformers_framework.cli.parser import Command, Groups

OWN = (*SERIES, "seed", "name")  # flags of the command that are others for each run
NEVER_SHARED = ("push_to_hub",)  # flags whose value names what each run would replace
COMMAND = ("python", "-m", "transformers_framework")

logger = logging.getLogger(__name__)


class Parsed(NamedTuple):
    """The flags of a setting: the value of each flag of the run, flags of the command, and all flags by group."""

    options: dict[str, Any]
    command: Command
    groups: Groups


def run_command(argv: Sequence[str], given: Mapping[str, Given]) -> int | None:
    """Run a command with ``--seeds`` or ``--sweep`` and return its exit status; None if it is a single run.

    Args:
        argv: The words of the command.
        given: Its flags, with those of config files.

    Raises:
        ConfigurationError: Lists all problems of the flags of all runs.
    """
    from transformers_framework.cli.main import command

    if (found := series_of(argv, given)) is None:
        return None
    series, parsed = found
    if parsed[0].command.check:
        return DONE if check_series(series, [flags.groups for flags in parsed]) else WRONG
    if parsed[0].command.preview:
        return command(series.runs[0].words)
    return run_series(series, argv)


def series_of(argv: Sequence[str], given: Mapping[str, Given]) -> tuple[Series, list[Parsed]] | None:
    """Return the runs of ``--seeds`` or ``--sweep``, and the flags of each setting; None for a single run.

    Args:
        argv: The words of the command.
        given: Its flags, with those of config files.

    Raises:
        ConfigurationError: Lists all problems of the flags of all runs.
    """
    from transformers_framework.cli.arguments import Arguments
    from transformers_framework.cli.parser import declared

    arguments = Arguments({"run": declared("cli.parser:Command")})
    seeds, path = (arguments.read(name, given[name]) if name in given else None for name in SERIES)
    if not seeds and path is None:
        return None
    problems: list[UserError] = []
    if seeds:
        _check_seeds(seeds, given, problems)
    sweep = Sweep([{}], {})
    if path is not None:
        with caught(problems.append):
            sweep = read_sweep(path, given["sweep"].place)
            _check_places(sweep, given)
    base = {name: words for name, words in given.items() if name not in SERIES}
    parsed = _parsed(base, sweep, problems)
    with caught(problems.append):
        check_machine(os.environ, max((flags.options["num_nodes"] for flags in parsed), default=1))
    _raise(problems)
    series = _planned(argv, given, sweep, seeds, parsed, is_sweep=path is not None)
    with caught(problems.append):
        _check_shared(series)
    for run in series.runs:
        with caught(problems.append):
            run.check_earlier()
    _raise(problems)
    return series, parsed


def _planned(
    argv: Sequence[str],
    given: Mapping[str, Given],
    sweep: Sweep,
    seeds: Sequence[int] | None,
    parsed: Sequence[Parsed],
    *,
    is_sweep: bool,
) -> Series:
    """Return the runs of the settings of a sweep, each with its name and command."""
    name, output_dir = (parsed[0].options[flag] for flag in ("name", "output_dir"))
    names = [f"{name}-{suffix}" for suffix in suffixes(sweep.settings)] if is_sweep else [name]
    given_here = [(flag, found) for flag, found in occurrences(argv) if flag not in (*OWN, *ONCE)]
    last = dict(given_here)  # of flags that are given twice
    typed = [w for flag, found in given_here if flag == "config" or found is last[flag] for w in _words(found)]
    off = [word for flag in SERIES if flag in given for word in (dashed(flag), "none")]
    seeded = [dashed("seeds"), *map(str, seeds)] if seeds else []
    settings, commands = [], []
    for setting, of_setting, (options, _, groups) in zip(sweep.settings, names, parsed, strict=True):
        words, runs = _typed(setting), []
        shown = {
            flag: " ".join("none" if word is None else word for word in w or (None,)) for flag, w in setting.items()
        }
        for seed in seeds or [options["seed"]]:
            run = f"{of_setting}-seed{seed}" if seeds else of_setting
            flags = {**options, "name": run, "seed": seed}
            all_words = [*argv, *off, *words, "--name", run, *(["--seed", str(seed)] if seeds else [])]
            runs.append(PlannedRun(RunFolders(output_dir, run), seed, shown, all_words, _config(flags, groups), flags))
        settings.append(runs)
        commands.append(shlex.join([*COMMAND, *typed, *words, "--name", of_setting, *seeded]))
    return Series(name, Path(output_dir), settings, commands, is_sweep, bool(seeds))


def _raise(problems: Sequence[UserError]) -> None:
    """Raise one error with all problems, each once."""
    if problems:
        lines = dict.fromkeys(line for problem in problems for line in str(problem).splitlines())
        raise ConfigurationError("\n".join(lines))


def _check_seeds(seeds: Sequence[int], given: Mapping[str, Given], problems: list[UserError]) -> None:
    """Check that seeds are different, and that no other seed is given."""
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        problems.append(ConfigurationError(f"{given['seeds'].place}: the seed {twice} is given twice."))
    seed, is_typed = given.get("seed"), given["seeds"].place.startswith("-")
    if seed is not None and (seed.place.startswith("-") or not is_typed):
        problems.append(
            ConfigurationError(
                f"{seed.place}: --seeds has the seeds of the runs. Leave --seed out, or give --seed without --seeds."
            )
        )


def _check_shared(series: Series) -> None:
    """Check that no two runs would write to the same place outside the output folder."""
    for name in NEVER_SHARED:
        values = [run.options[name] for run in series.runs if run.options[name] is not None]
        if twice := [value for value in values if values.count(value) > 1]:
            raise ConfigurationError(
                f"{dashed(name)} {twice[0]}: {len(twice)} runs of the series would replace each other there. Leave it "
                "out, and upload the run that you choose with `hf upload`."
            )


def _check_places(sweep: Sweep, given: Mapping[str, Given]) -> None:
    """Check that flags of the sweep are not on the command line too, nor in a file that an empty list would replace."""
    both = [
        f"{given[name].place}: this flag is varied at {place}. Leave it out of one of both."
        for name, place in sweep.places.items()
        if name in given and (given[name].place.startswith("-") or not all(s[name] for s in sweep.settings))
    ]
    if both:
        raise ConfigurationError("\n".join(both))


def _parsed(base: Mapping[str, Given], sweep: Sweep, problems: list[UserError]) -> list[Parsed]:
    """Return the values of all flags of each setting, and the flags by group; collect the problems."""
    from transformers_framework.cli import parser

    found: list[Parsed] = []
    groups: dict[tuple[tuple[str, str], ...], Groups] = {}
    seen: dict[tuple[tuple[str, Any], ...], int] = {}
    for setting in sweep.settings:
        with caught(problems.append):
            given = {**base, **sweep.given(setting)}
            if "pipeline" not in given:
                raise ConfigurationError("Missing: --pipeline. Use --help to see the pipelines.")
            chosen = parser.select(given)
            key = tuple(sorted(chosen.items()))
            groups.setdefault(key, parser.groups_of(chosen) if key not in groups else {})
            options, command = parser.parse(given, groups[key])
            values = tuple((name, repr(options[name])) for name in setting)
            if setting and values in seen:
                name = next((n for n in setting if setting[n] != sweep.settings[seen[values]][n]), next(iter(setting)))
                raise ConfigurationError(f"{sweep.place(name, setting)}: the value {options[name]} is given twice.")
            seen[values] = len(found)
            found.append(Parsed(options, command, groups[key]))
    return found


def _typed(setting: Mapping[str, tuple[str | None, ...]]) -> list[str]:
    """Return the flags of a setting as they are typed; an empty list is the default, and cannot be typed."""
    return [
        word
        for name, words in setting.items()
        if words
        for word in _words(Given(dashed(name), tuple("none" if value is None else str(value) for value in words)))
    ]


def _words(found: Given) -> list[str]:
    """Return the words of one flag; a value that looks like a flag is joined to it."""
    first = found.words[0] if len(found.words) == 1 else None
    if first is not None and first.startswith("--"):
        return [f"{found.place}={first}"]
    return [found.place, *(str(word) for word in found.words)]


def _config(options: Mapping[str, Any], groups: Groups) -> str:
    from transformers_framework.cli.config_files import to_yaml
    from transformers_framework.cli.parser import grouped

    return to_yaml(grouped(groups, {name: value for name, value in options.items() if name not in ONCE}))


def check_series(series: Series, groups: Sequence[Groups]) -> bool:
    """Print the report of ``--check`` on the first run, and the problems of the first run of all other settings.

    Args:
        series: The runs.
        groups: Flags of the runs of each setting by group.

    Returns:
        Whether there are no problems.
    """
    from transformers_framework.cli.check import check, find_problems
    from transformers_framework.cli.main import experiment_with

    known: set[str] = set()
    good, runs = True, [runs[0] for runs in series.settings]
    print(f"{len(series.runs)} runs: {', '.join(run.folders.name for run in series.runs)}\n")  # noqa: T201
    for number, (run, of_run) in enumerate(zip(runs, groups, strict=True)):
        goes_on = run.continues or (run.is_finished and bool(run.options["train_dataset"]))
        options = {**run.options, "resume": run.options["resume"] or goes_on}
        experiment = experiment_with(options, of_run, gather(run.words), "check")
        if number == 0:
            good = check(experiment)
            continue
        known |= {f"  {run.folders.name}: {problem}" for problem in find_problems(experiment)}
    if known:
        print(printable("\n".join(["\nProblems of other settings:", *sorted(known)])))  # noqa: T201
    return good and not known


def run_series(series: Series, argv: Sequence[str]) -> int:
    """Start all runs, then write and print their results; return the exit status.

    Args:
        series: The runs.
        argv: The words of the command.
    """
    from transformers_framework.runtime.log import set_up_logging
    from transformers_framework.several.series import run_all
    from transformers_framework.several.summaries import report

    set_up_logging()
    if series.is_sweep and (status := _checked(series, argv)):
        return status
    status, failed = run_all(series.runs, goes_on=series.is_sweep)
    if failed is not None and all(run.results.exists() or run in failed for run in series.runs):
        print(printable(report(series, failed)))  # noqa: T201
    return status


def _checked(series: Series, argv: Sequence[str]) -> int:
    """Check all settings in a process of its own, so that memory and devices are free for the runs."""
    if all(run.is_finished for run in series.runs):
        return DONE
    logger.info("Checking %d settings before the first run", len(series.settings))
    done = subprocess.run([*PROGRAM, *argv, "--check"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(printable(done.stdout + done.stderr))
    return done.returncode
