"""A series of runs: one after the other, each in its own process; runs that are finished are skipped."""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers_framework.constants import AUTO, DONE, FAILED, WRONG
from transformers_framework.distributed.signals import handle_stopping, restore_handlers, set_parent_death_signal
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.storage.run_folders import RunFolders, flags_in_config

PROGRAM = (sys.executable, "-m", "transformers_framework")
# flags that may differ between the runs of a series: where and how fast it runs
OF_THE_MACHINE = frozenset(("cache_dir", "output_dir", "hang_timeout", "rendezvous_timeout", "num_workers"))

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedRun:
    """A run of a series.

    Args:
        folders: Its folders.
        seed: Its seed.
        setting: Its flags of a sweep, by name, as they are typed; empty without a sweep.
        words: The words of its command after the name of the program.
        config_yaml: All its flags as a file for ``--config``.
        options: The value of every flag.
    """

    folders: RunFolders
    seed: int
    setting: Mapping[str, str]
    words: Sequence[str]
    config_yaml: str
    options: Mapping[str, Any]

    @property
    def results(self) -> Path:
        """The file of its results."""
        return self.folders.results

    @property
    def is_finished(self) -> bool:
        """Whether it has results, and is not to be overwritten."""
        return not self.options["overwrite"] and self.results.exists()

    @property
    def is_started(self) -> bool:
        """Whether it has a checkpoint to continue from."""
        return bool(self.folders.existing_checkpoints())

    @property
    def continues(self) -> bool:
        """Whether it is to continue from its last checkpoint although the command does not have ``--resume``."""
        flags = self.options
        return self.is_started and bool(flags.get("train_dataset")) and not (flags["overwrite"] or flags["resume"])

    def check_earlier(self) -> None:
        """Check that a run of this name that is started or finished has the same flags.

        Raises:
            ConfigurationError: When it has others; the message names them.
        """
        path = self.folders.config
        if self.options["overwrite"] or not path.exists() or not (self.is_finished or self.is_started):
            return
        then, now = flags_in_config(path.read_text("utf-8")), flags_in_config(self.config_yaml)
        both = then.keys() & now.keys() - OF_THE_MACHINE
        changed = sorted(n for n in both if then[n] != now[n] and AUTO not in (then[n], now[n]))
        if changed:
            values = "; ".join(f"--{name} was {shown(then[name])} and is {shown(now[name])}" for name in changed[:5])
            more = f"; and {len(changed) - 5} more" if len(changed) > 5 else ""
            raise ConfigurationError(
                f"--name: run '{self.folders.name}' in {self.folders.output_dir} is "
                f"{'finished' if self.is_finished else 'started'} with other flags: {values}{more}. Give the same "
                "flags to continue the series, another --name, or --overwrite to run all again."
            )


@dataclass(frozen=True)
class Series:
    """The runs of ``--seeds`` or ``--sweep``.

    Args:
        name: Value of ``--name``.
        output_dir: Value of ``--output_dir``.
        settings: The runs of each setting of a sweep, one for each seed.
        commands: Command line that repeats the runs of each setting.
        is_sweep: Whether there are several settings.
        is_seeded: Whether each setting has several seeds.
    """

    name: str
    output_dir: Path
    settings: Sequence[Sequence[PlannedRun]]
    commands: Sequence[str]
    is_sweep: bool
    is_seeded: bool

    @property
    def runs(self) -> list[PlannedRun]:
        """All runs in order."""
        return [run for runs in self.settings for run in runs]


def shown(value: Any) -> str:
    """Return the value of a flag as it is typed."""
    if isinstance(value, list):
        return " ".join(map(shown, value)) or "none"
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def run_all(runs: Sequence[PlannedRun], *, goes_on: bool) -> tuple[int, list[PlannedRun] | None]:
    """Start the runs one after the other, each in its own process.

    A signal is passed on to the current run, which saves a checkpoint and ends; no further run is started then.

    Args:
        runs: The runs.
        goes_on: Whether the next run is started if one fails with status 1, for instance for a loss that is not
            finite.

    Returns:
        The exit status: of the run that ended the series, 1 if runs failed, else 0; and the runs that failed, None if
        the series ended before all were tried.
    """
    failed = []
    for number, run in enumerate(runs, 1):
        where = f"({number} of {len(runs)})"
        if run.is_finished:
            logger.info("Run '%s' is finished, skipping it %s", run.folders.name, where)
            continue
        logger.info("%s run '%s' %s", "Continuing" if run.continues else "Starting", run.folders.name, where)
        status, stopped = _run(run)
        if status == FAILED and goes_on and not stopped:
            logger.warning("Run '%s' failed; continuing with the others", run.folders.name)
            failed.append(run)
        elif status != DONE:
            advice = "" if status == WRONG else "; repeat the same command to continue"
            logger.warning("The series ended in run '%s' with status %d%s", run.folders.name, status, advice)
            return status, None
        elif stopped:  # the run was over when the signal came
            return 128 + stopped, None
    return (FAILED if failed else DONE), failed


def _run(run: PlannedRun) -> tuple[int, int]:
    """Run a process to its end; return its exit status, and the number of the signal that this process received."""
    words = [*PROGRAM, *run.words, *(["--resume"] if run.continues else [])]
    # a session of its own, so that Ctrl-C in a terminal does not reach the run twice
    prepare = _end_with_parent if sys.platform.startswith("linux") else None
    process = subprocess.Popen(words, start_new_session=True, preexec_fn=prepare)
    with _passing_signals_to(process) as received:
        status = process.wait()
    return (128 - status if status < 0 else status), received[0] if received else 0


@contextlib.contextmanager
def _passing_signals_to(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Pass the signals that stop a run on to a process; yield the list of those received."""
    received: list[int] = []

    def on_signal(signum: int, frame: Any) -> None:
        received.append(signum)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signum)

    earlier = handle_stopping(on_signal)
    try:
        yield received
    finally:
        restore_handlers(earlier)


def _end_with_parent() -> None:
    """Let a new process receive SIGTERM when this one is killed."""
    set_parent_death_signal(signal.SIGTERM)


def check_machine(environment: Mapping[str, str], num_nodes: int) -> None:
    """Check that a single process on a single node starts the series.

    Raises:
        ConfigurationError: When it is started by a launcher of several processes, or on several nodes.
    """
    several = [name for name in ("WORLD_SIZE", "SLURM_NTASKS") if environment.get(name, "1") not in ("", "1")]
    if "TORCHELASTIC_RUN_ID" in environment or several or num_nodes > 1 or "LOCAL_RANK" in environment:
        raise ConfigurationError(
            "--seeds and --sweep start one run after the other on a single node, each with all its --devices. Under "
            "torchrun, SLURM with several tasks or on several nodes, start each run by itself: --seed 1 --name "
            "NAME-seed1."
        )
