"""Where a run leaves its files, and the right to write there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.runtime.files import clear_leftovers

KINDS = ("checkpoints", "pre_trained_models", "predictions", "tensorboard")
LAST, BEST, CONFIG = "last.ckpt", "best.ckpt", "config.yaml"


class RunFolders:
    """The folders of one run: ``output_dir/KIND/NAME`` for each kind.

    Args:
        output_dir: Folder of all runs.
        name: Name of the run.

    Raises:
        ConfigurationError: When the name cannot be that of a folder.
    """

    def __init__(self, output_dir: str | Path, name: str) -> None:
        if not name or name != Path(name).name or name.startswith("."):
            raise ConfigurationError(f"--name: '{name}' cannot name a folder. Use letters, digits, '-', '_' and '.'.")
        self.output_dir, self.name = Path(output_dir), name
        self.checkpoints, self.pre_trained_models, self.predictions, self.tensorboard = (
            self.output_dir / kind / name for kind in KINDS
        )
        self._lock: Any = None

    @property
    def last(self) -> Path:
        """The checkpoint to continue from."""
        return self.checkpoints / LAST

    @property
    def best(self) -> Path:
        """The checkpoint that was best by the monitored metric."""
        return self.checkpoints / BEST

    @property
    def config(self) -> Path:
        """The flags that repeat the run."""
        return self.checkpoints / CONFIG

    def check_free(self, *, trains: bool, resume: bool, overwrite: bool, predicts: tuple[str, ...]) -> None:
        """Raise when the run could not write, or would write over the files of an earlier one.

        Raises:
            ConfigurationError: With what was found and the ways out.
        """
        # os.path: what may not be looked into is taken for absent, where Path raises
        there = next(path for path in (self.checkpoints, *self.checkpoints.parents) if os.path.exists(path))  # noqa: PTH110
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise self._unwritable("no permission" if there.is_dir() else f"{there} is a file")
        if overwrite:
            return
        ways_out = "Choose another --name, continue it with --resume, or replace it with --overwrite."
        if trains and not resume:
            for folder in (self.checkpoints, self.pre_trained_models):
                # a run that could not even start leaves its flags
                if any(not path.name.startswith(".") and path.name != CONFIG for path in folder.glob("*")):
                    raise ConfigurationError(f"--name: a run '{self.name}' has files in {folder}. {ways_out}")
        for stage in () if resume else predicts:
            found = self.predictions / f"{stage}.jsonl"
            if found.exists():
                raise ConfigurationError(f"--name: {found} exists. Choose another --name or replace it: --overwrite.")

    def claim(self, *, overwrite: bool = False) -> None:
        """Take the right to write as this run, until :meth:`release` or the end of the process.

        An earlier run is removed if that was asked for.

        Raises:
            ConfigurationError: When another process is running under this name, or nothing can be written.
        """
        from filelock import FileLock, Timeout

        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.checkpoints / ".lock")
            self._lock.acquire(timeout=0)
            for folder in (self.checkpoints, self.pre_trained_models, self.predictions):
                clear_leftovers(folder)
            if overwrite:
                self._clear()
        except Timeout:
            raise ConfigurationError(
                f"--name: another process is running as '{self.name}' in {self.output_dir}. Choose another --name."
            ) from None
        except OSError as error:
            raise self._unwritable(str(error.strerror)) from None

    def release(self) -> None:
        """Give the right to write back."""
        if self._lock is not None:
            self._lock.release()

    def _unwritable(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"--output_dir: {self.output_dir} cannot be written ({reason}). Choose another folder."
        )

    def _clear(self) -> None:
        for folder in (self.checkpoints, self.pre_trained_models, self.predictions, self.tensorboard):
            for path in folder.glob("*"):
                if path.name == ".lock":
                    continue
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_first_process() -> bool:
    """Return whether this is the one process that writes, before any process group exists.

    Read from the variables that torchrun, SLURM and Lightning's own launcher set.
    """
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ and (name == "RANK" or "SLURM_NTASKS" in os.environ):
            return os.environ[name] == "0"
    node = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    return os.environ.get("LOCAL_RANK", "0") == "0" and node == "0"
