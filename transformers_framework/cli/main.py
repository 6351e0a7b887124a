"""The command line: read the arguments, run the command, return the exit status."""

from __future__ import annotations

import itertools
import os
import sys
import traceback
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers_framework.cli import help as helps
from transformers_framework.cli.given import Given, gather
from transformers_framework.constants import DONE, FAILED, INTERRUPTED, ONCE, SERIES, WRONG
from transformers_framework.display import bars_cleared
from transformers_framework.distributed.nodes import MasterAddress, RendezvousError, RendezvousTimeoutError
from transformers_framework.distributed.rendezvous import refuse
from transformers_framework.distributed.reports import report_once
from transformers_framework.exceptions import ConfigurationError, RunError, UserError, printable
from transformers_framework.plugins import import_packages, load_installed
from transformers_framework.runtime.garbage_collection import collect_rarely

if TYPE_CHECKING:
    from transformers_framework.cli.parser import Groups
    from transformers_framework.experiment import Experiment, Purpose

NO_RUN = frozenset(
    ("--check", "--preview", "--help", "-h", "--version", "--print_config", "--print_completion")
)  # flags with which nothing is trained

OWN_CODE = frozenset(("callbacks", "import", "metrics"))  # flags that name what the user has written


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 the run failed, 2 the command or its input is wrong.

    Args:
        argv: The arguments after the name of the program; default: those of the process.
    """
    if argv is None:
        collect_rarely()  # the process runs nothing else
        argv = sys.argv[1:]
    master = MasterAddress.of(os.environ)
    try:
        with bars_cleared():
            return command(argv)
    except (UserError, RunError) as error:
        if "--debug" in argv:
            traceback.print_exc()
        text = f"error: {_message(error)}"
        report_once(text, lambda: _complain(text))
        _refuse(master, argv, error)
        return WRONG if isinstance(error, UserError) else FAILED
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as exits:  # Lightning exits with status 1 when Ctrl-C interrupts it at once
        if exits.code == INTERRUPTED or isinstance(exits.__context__, KeyboardInterrupt):
            return _interrupted()
        raise
    except Exception as error:
        traceback.print_exc()
        _complain(f"error: the run failed with {type(error).__name__}: {error}")
        _refuse(master, argv, error)
        return FAILED


def _message(error: Exception) -> str:
    """Return the message of an error, without the traceback that torch adds to errors of data loader workers."""
    text = str(error)
    return text.rpartition(f"{type(error).__name__}: ")[2].strip() if "Original Traceback" in text else text


def _refuse(master: MasterAddress | None, argv: Sequence[str], error: Exception) -> None:
    """Notify the other nodes of a run that this one refuses to start."""
    others_know = isinstance(error, (RendezvousError, RendezvousTimeoutError))
    if others_know or any(word.partition("=")[0] in NO_RUN for word in argv):
        return
    name = next((name for word, name in itertools.pairwise(argv) if word == "--name"), "")
    refuse(master, _message(error), name)


def _interrupted() -> int:
    _complain("interrupted: run the same command with --resume to continue from the last checkpoint")
    return INTERRUPTED


def command(argv: Sequence[str]) -> int:
    """Run a command; errors are raised."""
    if not argv:
        _complain(helps.overview())
        return WRONG
    given = gather(argv)
    if given.keys() & OWN_CODE and not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))  # as `python -m` has it; the console script looks in its own folder
    _import_packages(given)
    if "version" in given:
        _say(version())
        return DONE
    if "help" in given and "pipeline" not in given:
        _say(helps.overview())
        return DONE
    if "print_completion" in given:
        _say(_completion(given))
        return DONE
    if given.keys() & SERIES and not given.keys() & {"help", "print_config"}:
        from transformers_framework.cli.several import run_command

        if (status := run_command(argv, given)) is not None:
            return status
    groups = _groups_of(given)
    if "help" in given:
        _say(helps.help_of_run(groups, given["help"].words[0] if given["help"].words else None))
        return DONE
    from transformers_framework.cli import parser

    options, asked = parser.parse(given, groups)
    if asked.print_config:
        shown = {name: value for name, value in options.items() if name != "seed" or not asked.seeds}
        shown |= {name: value for name in SERIES if (value := getattr(asked, name))}
        _say(parser.printed(groups, shown, asked.print_config))
        return DONE

    purpose: Purpose = "check" if asked.check else "preview" if asked.preview else "run"
    experiment = experiment_with(options, groups, given, purpose)
    if asked.check:
        from transformers_framework.cli.check import check

        if not check(experiment):
            return WRONG
    if asked.preview:
        from transformers_framework.cli.marks import shows_colours
        from transformers_framework.cli.preview import preview

        lines = preview(experiment, asked.preview, colours=shows_colours(sys.stdout), checked=asked.check)
        _say("\n".join(lines))
    if not asked.check and not asked.preview:
        experiment.run()
    return DONE


def _completion(given: Mapping[str, Given]) -> str:
    """Return the completion script of a shell, for the flags of the given pipeline, otherwise of all."""
    from transformers_framework.cli import parser
    from transformers_framework.cli.arguments import Arguments

    groups = parser.groups_of(parser.select(given)) if "pipeline" in given else parser.every_flag()
    arguments = Arguments(groups)
    return arguments.completion(arguments.read("print_completion", given["print_completion"]))


def experiment_of(argv: Sequence[str]) -> Experiment:
    """Return the run of a command line; its parts are not yet built."""
    return experiment_from(gather(argv))


def experiment_from(given: Mapping[str, Given]) -> Experiment:
    """Return the run of these flags; its parts are not yet built.

    Raises:
        ConfigurationError: Lists all problems of the flags.
    """
    from transformers_framework.cli import parser

    _import_packages(given)
    groups = _groups_of(given)
    return experiment_with(parser.parse(given, groups)[0], groups, given)


def _groups_of(given: Mapping[str, Given]) -> Groups:
    """Return the flags of the selected run by group."""
    if "pipeline" not in given:
        raise ConfigurationError("Missing: --pipeline. Use --help to see the pipelines.")
    from transformers_framework.cli import parser

    return parser.groups_of(parser.select(given))


def _import_packages(given: Mapping[str, Given]) -> None:
    """Import the packages of ``--import``, which complete the tables before the flags of a run are determined."""
    if found := given.get("import"):
        import_packages(found.place, import_=tuple(word or "" for word in found.words))
    if "help" in given and "pipeline" in given:
        load_installed()


def experiment_with(
    options: Mapping[str, Any], groups: Groups, named: Collection[str], purpose: Purpose = "run"
) -> Experiment:
    """Return the run of parsed flags; its parts are not yet built.

    Args:
        options: The value of every flag.
        groups: All flags.
        named: Names of the flags that were given; the others have their defaults.
        purpose: Purpose of the run.
    """
    from transformers_framework.cli import parser
    from transformers_framework.cli.config_files import to_yaml
    from transformers_framework.experiment import Experiment
    from transformers_framework.registry import options_of

    def as_yaml(flags: Mapping[str, Any]) -> str:
        return to_yaml(parser.grouped(groups, {name: value for name, value in flags.items() if name not in ONCE}))

    return Experiment(options, as_yaml, purpose, named, **options_of(Experiment, options))


def _say(text: str) -> None:
    try:
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # as in `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str) -> None:
    sys.stderr.write(printable(text) + "\n")


def version() -> str:
    """Return the versions of the framework and of its main libraries, from their metadata."""
    packages = ("transformers-framework", "torch", "pytorch-lightning", "transformers", "datasets")
    return "\n".join(f"{package} {_version(package)}" for package in packages)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"
