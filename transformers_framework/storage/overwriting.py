"""Overwrite an earlier run: its files are kept until the new run has a checkpoint."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.storage.atomic import remove

ASIDE = ".overwritten"  # folder for the files of the earlier run while the first checkpoint is written
OF_RUN = frozenset(("output_dir", "name"))  # flags that identify the run itself


class EarlierRun:
    """The files that the first checkpoint of a run replaces.

    Args:
        folders: Folders of the run, the checkpoint folder first.
        last: Path of the last checkpoint; if it exists, :func:`recover` assumes that the new run has written it.
        kept: Names of files that are not part of the earlier run.
    """

    def __init__(self, folders: Sequence[Path], last: Path, kept: Iterable[str]) -> None:
        there = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
        self.folders, self.files = folders, [path for path in there if path.name not in (*kept, ASIDE)]
        self.files.sort(key=lambda path: path != last)

    def move_aside(self) -> None:
        """Move the files to a subfolder before the first checkpoint is written, the last checkpoint first."""
        files, self.files = self.files, []
        for path in files:
            aside = path.parent / ASIDE
            aside.mkdir(exist_ok=True)
            path.rename(aside / path.name)

    def remove(self) -> None:
        """Remove the files that were moved."""
        for folder in self.folders:
            remove(folder / ASIDE)


def recover(folders: Sequence[Path], last: Path) -> None:
    """Complete or undo the overwriting of an earlier run after the process was killed.

    The last checkpoint is restored last, so that this function can be interrupted and repeated.

    Args:
        folders: Folders of the run.
        last: Path of the last checkpoint: if the new run has written it, the earlier run is removed; else it is
            restored.
    """
    for folder in reversed(folders):  # the checkpoint folder last
        aside = folder / ASIDE
        there = list(aside.iterdir()) if aside.is_dir() and not last.exists() else []
        for path in sorted(there, key=lambda path: folder / path.name == last):
            remove(folder / path.name)
            path.rename(folder / path.name)
        remove(aside)


def check_sources(options: Mapping[str, Any], folders: Sequence[Path]) -> None:
    """Raise if a run reads files of the run that it overwrites.

    Args:
        options: All flags of the run.
        folders: Folders of the run.

    Raises:
        ConfigurationError: When it does; the message has the flag and the file.
    """
    removed = {place for folder in folders for place in (folder.absolute(), folder.resolve())}
    for name, value in options.items():
        texts = value if isinstance(value, (list, tuple)) else [value]
        for text in texts if name not in OF_RUN else ():
            for path in _files(text) if isinstance(text, str) else ():
                places = (path.absolute(), path.resolve())
                if removed.intersection((*places, *(parent for place in places for parent in place.parents))):
                    raise ConfigurationError(
                        f"--{name}: {path} would be removed by --overwrite. Copy it to another folder, or choose "
                        "another --name."
                    )


def _files(text: str) -> Iterator[Path]:
    """Yield the existing files and folders that a string may refer to."""
    for found in glob.iglob(text, recursive=True) if glob.has_magic(text) else [text]:  # noqa: PTH207 as data are read
        if os.path.lexists(found):
            yield (path := Path(found))
            if path.is_dir():
                yield from (entry for entry in path.iterdir() if entry.is_symlink())
