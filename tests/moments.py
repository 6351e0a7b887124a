"""Every moment of a short run at which a signal may come: before and after each hook, each checkpoint and each file.

``Sweep`` runs a command once without interruption, and again interrupted at some of these moments and resumed:
nothing that is left may differ. A selection of moments is tested, ``tests.soak`` tries as many as there is time for.
"""

from __future__ import annotations

import os
import random
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests import runs
from tests.integration import interrupted
from transformers_framework.constants import MEASURED
from transformers_framework.loggers.csv_file import read_rows
from transformers_framework.loggers.tensorboard import EVENT_SIZES
from transformers_framework.reports.results import KEY
from transformers_framework.storage.run_folders import LOG, METRICS, PREVIOUS, RESULTS, RunFolders

# what is called at the moments: hooks with their name as an argument, and functions by their own name
HOOKS = (("pytorch_lightning.trainer.call", "_call_callback_hooks"), ("transformers_framework.runtime.loops", "call_hooks"))  # fmt: skip  # noqa: E501
CALLS = (
    ("pytorch_lightning.trainer.call", "_call_callbacks_state_dict"),
    ("pytorch_lightning.trainer.call", "_call_callbacks_on_save_checkpoint"),
    ("transformers_framework.callbacks.export", "Exporter.export"),
    ("transformers_framework.reports.disk", "KeptCheckpoints.on_run_end"),
    ("torch", "save"),
    ("os", "fsync"),
    ("os", "link"),
    ("pathlib", "Path.replace"),
    ("pathlib", "Path.rename"),
)
# statuses of a run that was sent a signal: stopped, killed before or after training, or done before it could stop
STATUSES: dict[signal.Signals, tuple[int, ...]] = {
    signal.SIGINT: (130, 0),
    **{number: (143, -number, 0) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)},
    signal.SIGKILL: (-signal.SIGKILL, 0),  # 0: a process that resumes may have no such moment
}
# two validations per epoch, the second after a batch that does not end an accumulation group
FLAGS: dict[str, Any] = {
    "pipeline": "answer_selection",
    "monitor": "valid/answer_selection/mean_average_precision",
    "max_epochs": 2,
    "batch_size": 4,
    "accumulate_grad_batches": 2,
    "val_check_interval": 5,
    "checkpoint_interval": 2,
    "num_sanity_val_steps": 1,
}
VARYING = (PREVIOUS, LOG, ".lock")  # files of which a resumed run may have others
OF_LOGGERS = ("wandb", "mlflow")  # folders with ids and times in their files


class Interruption(NamedTuple):
    """A signal at a moment.

    Args:
        moment: Name of the moment.
        occurrence: The how-manieth of that name it is in the process, from 1.
        signum: The signal.
    """

    moment: str
    occurrence: int
    signum: signal.Signals


def watch(names: Path, interruptions: Sequence[Interruption]) -> None:
    """Write the name of each moment of this process into a file, and send this process signals at some of them.

    Args:
        names: File for the names, one per line.
        interruptions: Where signals are sent.
    """
    process, file, seen = os.getpid(), names.open("w", buffering=1), Counter[str]()
    for *_, signum in interruptions:
        if signal.getsignal(signum) is signal.SIG_IGN:  # the tests themselves run under nohup, or in the background
            signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)

    def pass_by(name: str) -> None:
        if os.getpid() != process:
            return
        seen[name] += 1
        file.write(f"{name}\n")
        for moment, occurrence, signum in interruptions:
            if (moment, occurrence) == (name, seen[name]):
                os.kill(process, signum)

    def watched(function: Callable[..., Any], name: str | None) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            label = name or next(word for word in args if isinstance(word, str))
            pass_by(f"before {label}")
            found = function(*args, **kwargs)
            pass_by(f"after {label}")
            return found

        return call

    for module, path in (*HOOKS, *CALLS):
        interrupted.replace(module, path, partial(watched, name=None if (module, path) in HOOKS else path))


class Sweep:
    """A run that is interrupted and resumed, over and over.

    Args:
        folder: Holds all files.
        flags: Flags of the run.
    """

    def __init__(self, folder: Path, **flags: Any) -> None:
        self.folder, self.flags = folder, flags
        self.whole, status = self.run("whole")
        assert status == 0, (folder / "whole.log").read_text()
        self.moments = (folder / "whole.moments").read_text().split("\n")[:-1]

    def run(self, name: str, *interruptions: Interruption, **more: Any) -> tuple[RunFolders, int]:
        """Run once; return the folders and the exit status.

        Args:
            name: Folder of the run, whose flags differ in nothing else.
            *interruptions: Signals that its process is sent.
            **more: More flags.
        """
        words = runs.command(self.folder, output_dir=self.folder / name, **{**self.flags, **more})
        prepare = partial(watch, self.folder / f"{name}.moments", interruptions)
        return runs.folders_of(words), interrupted.run(words, self.folder / f"{name}.log", prepare=prepare)

    def all_moments(self, chance: random.Random) -> Iterator[tuple[str, int]]:
        """Yield every moment and its occurrence in random order, one of each name before any second one."""
        shuffled = {name: list(range(1, number + 1)) for name, number in Counter(self.moments).items()}
        for occurrences in shuffled.values():
            chance.shuffle(occurrences)
        while shuffled:
            for name in chance.sample(sorted(shuffled), len(shuffled)):
                yield name, shuffled[name].pop()
            shuffled = {name: occurrences for name, occurrences in shuffled.items() if occurrences}

    def at(self, moment: str, occurrence: int, signum: signal.Signals) -> Interruption:
        """Return a signal at a moment of the whole run, whose occurrences are counted from the end when negative."""
        number = self.moments.count(moment)
        assert -number <= occurrence <= number, f"{moment} {occurrence}: it has {number}"
        return Interruption(moment, occurrence if occurrence > 0 else number + 1 + occurrence, signum)

    def problems(self, name: str, *interruptions: Interruption) -> list[str]:
        """Interrupt a run, resume and interrupt it again, then resume it to its end; return what is wrong with it.

        Args:
            name: Folder of the run.
            *interruptions: Signals, one for each process.
        """
        found: list[str] = []
        for number, interruption in enumerate(interruptions):
            folders, status = self.run(name, interruption, **({"resume": True} if number else {}))
            if status not in STATUSES[interruption.signum]:
                found.append(f"exit status {status}")
        folders, status = self.run(name, resume=True)
        if status:
            found.append(f"exit status {status} of the run that resumes: {(self.folder / f'{name}.log').read_text()}")
        else:
            found += differences(folders, self.whole)
        return found


def short_run(folder: Path, **flags: Any) -> Sweep:
    """Return a sweep over a run of two epochs with two validations each, a test and all that is kept between steps."""
    folder.mkdir(exist_ok=True)
    data = runs.datasets(folder / "data", FLAGS["pipeline"], (40, 12, 12, 0))
    stages = {name: data[name] for name in ("train_dataset", "valid_dataset", "test_dataset")}
    return Sweep(folder, **{**FLAGS, **stages, **flags})


def differences(ours: RunFolders, theirs: RunFolders) -> list[str]:
    """Return in what the files of two runs differ that are the same but for ``--output_dir``."""
    here, there = ({_place(path, run): path for path in files_of(run)} for run in (ours, theirs))
    found = [f"{name} is there once only" for name in sorted(here.keys() ^ there.keys())]
    for name in sorted(here.keys() & there.keys()):
        if name.endswith(".ckpt"):
            states = (_state(files[name], run) for files, run in ((here, ours), (there, theirs)))
            found += [f"{name}: {text}" for text in unequal(*states)]
        elif _content(here[name], ours) != _content(there[name], theirs):
            found.append(f"{name} differs")
    return found + [f"TensorBoard: {text}" for text in unequal(*map(runs.scalars, (ours, theirs)))]


def files_of(run: RunFolders) -> list[Path]:
    """Return the files of a run that are the same however often it was interrupted."""
    others = (run.tensorboard, *(run.output_dir / name for name in OF_LOGGERS))
    files = (path for path in run.output_dir.rglob("*") if path.is_file() and path.name not in VARYING)
    return [path for path in files if not {*others} & {*path.parents}]


def _place(path: Path, run: RunFolders) -> str:
    return path.relative_to(run.output_dir).as_posix()


def _state(path: Path, run: RunFolders) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, weights_only=True)
    state.pop(EVENT_SIZES, None)  # each process has a file of its own
    state.pop(KEY, None)  # seconds, and the size of a file that has speeds of training
    for name in OF_LOGGERS:
        for key in ("id", "recent"):
            state.get(name, {}).pop(key, None)
    found = dict(leaves(state))
    return {
        place: value.replace(str(run.output_dir), "--output_dir") if isinstance(value, str) else value
        for place, value in found.items()
    }


def _content(path: Path, run: RunFolders) -> bytes:
    """Return what is in a file, but for the folder of outputs, for times and for what depends on them."""
    content = path.read_bytes().replace(str(run.output_dir).encode(), b"--output_dir")
    if path.name == "metrics.csv":
        return repr([{**row, **dict.fromkeys(MEASURED)} for row in read_rows(path)]).encode()
    if path.name == METRICS:
        content = re.sub(rb'"(' + "|".join(MEASURED).encode() + rb')": [^,}]+', b"", content)
        return re.sub(rb'"time": "[^"]{25}", ', b"", content)
    return re.sub(rb'(?s)"durations": \{.*?\},', b"", content) if path.name == RESULTS else content


def leaves(state: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a nested state with its place."""
    if isinstance(state, dict):
        for key, value in state.items():
            yield from leaves(value, f"{place}/{key}")
    elif isinstance(state, (list, tuple)):
        for number, value in enumerate(state):
            yield from leaves(value, f"{place}/{number}")
    else:
        yield place, state


def unequal(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Return the places in which two states differ, bit for bit, with both values where they are short."""
    found = [f"{name} is there once only" for name in sorted(ours.keys() ^ theirs.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        mine, its = ours[name], theirs[name]
        are_tensors = isinstance(mine, torch.Tensor) and isinstance(its, torch.Tensor)
        if not (torch.equal(mine, its) if are_tensors else repr(mine) == repr(its)):
            found.append(name if are_tensors else f"{name}: {_short(mine)}, not {_short(its)}")
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]} …"
