"""The folders of a run: their names, their lock, and the checks before a run writes."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.restricted import LONGEST_NAME
from transformers_framework.storage.atomic import ASIDE as PART
from transformers_framework.storage.atomic import atomic_file, clear_leftovers, remove
from transformers_framework.storage.overwriting import ASIDE, EarlierRun, recover

KINDS = ("checkpoints", "pre_trained_models", "predictions", "tensorboard")
LAST, PREVIOUS, BEST, CONFIG = "last.ckpt", "previous.ckpt", "best.ckpt", "config.yaml"
METRICS, RESULTS, LOG = "metrics.jsonl", "results.json", "train.log"
NOT_TRAINED = frozenset((CONFIG, METRICS, RESULTS, LOG))  # all that a run leaves that has saved no checkpoint
FINAL = "final"  # export of the last state

logger = logging.getLogger(__name__)


class RunFolders:
    """The folders of one run: ``output_dir/KIND/NAME`` for each kind.

    Args:
        output_dir: Folder of all runs.
        name: Name of the run.

    Raises:
        ConfigurationError: When the name is not a valid folder name.
    """

    def __init__(self, output_dir: str | Path, name: str) -> None:
        if not name or name != Path(name).name or name.startswith(".") or len(os.fsencode(name)) > LONGEST_NAME:
            raise ConfigurationError(
                f"--name: '{name}' is not a valid folder name. Use letters, digits, '-', '_' and '.', at most "
                f"{LONGEST_NAME}."
            )
        self.output_dir, self.name = Path(output_dir), name
        self.checkpoints, self.pre_trained_models, self.predictions, self.tensorboard = (
            self.output_dir / kind / name for kind in KINDS
        )
        self._lock: Any = None
        self._earlier: EarlierRun | None = None  # files that the first checkpoint replaces
        self.replaces_earlier = False  # whether its files are still there, until the first checkpoint
        self.selects_best = True  # whether the best checkpoint and export are of this run's monitored metric
        self._config = ""
        self.undamaged: Path | None = None  # the checkpoint whose checksums resumable() has verified

    @property
    def last(self) -> Path:
        """The last checkpoint, from which a run resumes."""
        return self.checkpoints / LAST

    @property
    def previous(self) -> Path:
        """The checkpoint before the last one, used if the last one is damaged."""
        return self.checkpoints / PREVIOUS

    @property
    def best(self) -> Path:
        """The best checkpoint by the monitored metric."""
        return self.checkpoints / BEST

    @property
    def config(self) -> Path:
        """The config file with all flags, which repeats the run."""
        return self.checkpoints / CONFIG

    @property
    def metrics(self) -> Path:
        """What was logged, one JSON object per line."""
        return self.checkpoints / METRICS

    @property
    def results(self) -> Path:
        """The results of the run, as JSON."""
        return self.checkpoints / RESULTS

    def read_results(self) -> dict[str, Any]:
        """Return the contents of the file of results; empty if there is none, or one that cannot be read."""
        try:
            found = json.loads(self.results.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def log(self) -> Path:
        """The log messages."""
        return self.checkpoints / LOG

    def growing(self, path: Path) -> Path:
        """Return where to append to a file: beside it, as long as it is one of the run that is overwritten."""
        aside = self._beside(path)
        return aside if self.replaces_earlier or aside.exists() else path

    @staticmethod
    def _beside(path: Path) -> Path:
        return path.with_name(f".{path.name}.new{PART}")

    @property
    def all(self) -> tuple[Path, ...]:
        """All folders of the run, the checkpoint folder first."""
        return self.checkpoints, self.pre_trained_models, self.predictions, self.tensorboard

    @property
    def export(self) -> Path | None:
        """The export of the best state, if the run selects one, else of the last one; None if there is neither."""
        exports = (self.pre_trained_models / name for name in (("best", FINAL) if self.selects_best else (FINAL,)))
        return next((path for path in exports if path.exists()), None)

    def select(self, *, best: bool) -> None:
        """Take the best state for that of the run, or the last one."""
        self.selects_best = best

    def existing_checkpoints(self) -> list[Path]:
        """Return those of the last, the previous and the best checkpoint that exist."""
        return [path for path in (self.last, self.previous, self.best) if path.exists()]

    @property
    def has_training(self) -> bool:
        """Whether a run of this name has trained: its checkpoints or its config file are there."""
        return bool(self.existing_checkpoints()) or flags_beside(self.last).get("train_dataset") is not None

    def resumable(self) -> Path | None:
        """Return the newest undamaged checkpoint, the last one if all are damaged, None without checkpoints."""
        there = self.existing_checkpoints()
        whole = self.undamaged = next((path for path in there if not is_damaged(path)), None)
        if whole not in (None, self.last):
            state = "damaged" if self.last in there else "missing"
            logger.warning("%s is %s; resuming from %s", self.last, state, whole)
        return whole or (there[0] if there else None)

    def remove_damaged_last(self, start: str | None) -> None:
        """Remove a damaged last checkpoint, which would otherwise replace the previous one."""
        if start is not None and Path(start) in (self.previous, self.best):
            remove(self.last)

    def write_config(self, text: str) -> None:
        """Write all flags to the checkpoint folder, once the first checkpoint has replaced an earlier run."""
        self._config = text
        if self._earlier is None:
            with atomic_file(self.config) as aside:
                aside.write_text(text, encoding="utf-8")

    def move_earlier_aside(self) -> None:
        """Move the files of the overwritten run; called before the first checkpoint or export is written."""
        if self._earlier is not None:
            self._earlier.move_aside()
            self.replaces_earlier = False
            for path in (self.metrics, self.log):
                if self._beside(path).exists():
                    self._beside(path).replace(path)

    def remove_earlier(self) -> None:
        """Remove the files of the overwritten run; called after the first checkpoint is written."""
        if self._earlier is not None:
            self._earlier.remove()
            self._earlier = None
            self.write_config(self._config)

    def check_space(self, parameters: Iterable[Any]) -> None:
        """Raise if the disk has no space for one checkpoint and one export; warn if it may be too small for all.

        Args:
            parameters: Parameters of the model; Adam has two states for each trainable parameter.

        Raises:
            ConfigurationError: When the space is too small; the message has the free and the needed space.
        """
        sizes = [(4 * parameter.numel(), 8 * parameter.numel() * parameter.requires_grad) for parameter in parameters]
        weights, state = sum(size for size, _ in sizes), sum(map(sum, sizes))
        total, _, free = shutil.disk_usage(self._existing())
        remedy = "Free some space, or choose another folder"
        if not total:  # not on a disk, for instance /proc
            return
        if free < 2 * weights:
            raise ConfigurationError(
                f"--output_dir: {self.output_dir} has {size_of(free)} left, and one checkpoint and one export of the "
                f"model need {size_of(state + weights)}. {remedy}."
            )
        if free < 3 * state + 2 * weights:
            logger.warning(
                "--output_dir: %s has %s left; a checkpoint takes up to %s and an export %s, and several are kept. %s, "
                "or keep fewer exports: --keep 0.",
                *(self.output_dir, size_of(free), size_of(state), size_of(weights), remedy),
            )

    def check_free(self, *, trains: bool, resume: bool, overwrite: bool, predicts: tuple[str, ...]) -> None:
        """Raise if the folders cannot be written or have files of an earlier run.

        Raises:
            ConfigurationError: When they do; the message says what was found and what to do.
        """
        there = self._existing()
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise self._unwritable("no permission" if there.is_dir() else f"{there} is a file")
        self._recover()
        if overwrite:
            return
        if trains and resume and (self.pre_trained_models / FINAL).exists() and not self.existing_checkpoints():
            raise ConfigurationError(
                f"--resume: run '{self.name}' is over, and its checkpoints were removed (--keep_checkpoints none). Its "
                f"model is in {self.pre_trained_models}: give it as --pre_trained_model to a new run, or repeat this "
                "one with --overwrite."
            )
        ways_out = "Choose another --name, continue it with --resume, or replace it with --overwrite."
        if trains and not resume:
            for folder in (self.checkpoints, self.pre_trained_models):
                if any(not path.name.startswith(".") and path.name not in NOT_TRAINED for path in folder.glob("*")):
                    raise ConfigurationError(f"--name: a run '{self.name}' has files in {folder}. {ways_out}")
        for stage in () if resume else predicts:
            found = self.predictions / f"{stage}.jsonl"
            if found.exists():
                raise ConfigurationError(f"--name: {found} exists. Choose another --name or replace it: --overwrite.")

    def lock(self, *, overwrite: bool = False) -> None:
        """Lock the folders for this process until :meth:`unlock` or its end.

        Args:
            overwrite: The first checkpoint of this run replaces existing files.

        Raises:
            ConfigurationError: When another process runs under this name, or the folders cannot be written.
        """
        from filelock import FileLock, Timeout

        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.checkpoints / ".lock")
            self._lock.acquire(timeout=0)
            for folder in self.all[:-1]:
                clear_leftovers(folder)
            if overwrite and (earlier := EarlierRun(self.all, self.last, kept=(".lock",))).files:
                self._earlier, self.replaces_earlier = earlier, True
                logger.info("The files of the earlier run '%s' are kept until the first checkpoint.", self.name)
        except Timeout:
            raise ConfigurationError(
                f"--name: another process is running as '{self.name}' in {self.output_dir}. Choose another --name."
            ) from None
        except OSError as error:
            raise self._unwritable(str(error.strerror)) from None

    def _recover(self) -> None:
        """Complete or undo an overwriting that was interrupted."""
        from filelock import FileLock, Timeout

        grown = [self._beside(path) for path in (self.metrics, self.log)]
        if any(path.exists() for path in (*(folder / ASIDE for folder in self.all), *grown)):
            with contextlib.suppress(Timeout), FileLock(self.checkpoints / ".lock").acquire(timeout=0):
                recover(self.all, self.last)
                for path in grown:
                    remove(path)

    def unlock(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.release()

    def _existing(self) -> Path:
        """Return the folder of checkpoints, or its closest parent that exists."""
        # os.path treats folders without permission as absent, Path raises an error
        return next(path for path in (self.checkpoints, *self.checkpoints.parents) if os.path.exists(path))  # noqa: PTH110

    def _unwritable(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"--output_dir: {self.output_dir} cannot be written ({reason}). Choose another folder."
        )


def size_of(number: int) -> str:
    """Return a number of bytes as text with a unit.

    Examples:
        >>> size_of(3 * 2**30)
        '3.0 GiB'
        >>> size_of(5000)
        '4.9 KiB'
    """
    size, unit = float(number), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size >= 1024:
            size, unit = size / 1024, larger
    return f"{size:.1f} {unit}"


def flags_in_config(text: str) -> Mapping[str, Any]:
    """Return the flags of a ``config.yaml`` by name; none if it is damaged.

    Args:
        text: Contents of the file.
    """
    import yaml

    try:
        found = yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def flags_beside(checkpoint: str | Path) -> Mapping[str, Any]:
    """Return the flags of the run that wrote a checkpoint, from its ``config.yaml``; none without a readable one.

    Args:
        checkpoint: The checkpoint, in the folder of its run.
    """
    try:
        return flags_in_config(Path(checkpoint).with_name(CONFIG).read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def is_damaged(path: Path) -> bool:
    """Return whether a checkpoint is damaged, by the checksums in ``torch.save`` files.

    Args:
        path: A file, or a folder of shards.
    """
    if path.is_dir():
        return any(is_damaged(shard) for shard in path.glob("checkpoint/*.pt"))
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is not None
    except (OSError, zipfile.BadZipFile, EOFError, zlib.error):
        return True
