"""Overwriting of an earlier run: its files stay until the new run has a checkpoint; what is read is not removed."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.storage.atomic import remove

ASIDE = ".overwritten"  # folder for the files of the earlier run while the first checkpoint is written
OF_RUN = frozenset(("output_dir", "name"))  # flags that name the run itself


class EarlierRun:
    """The files that the first checkpoint of a run replaces.

    Args:
        folders: Folders of the run, that of its checkpoints first.
        last: The checkpoint to go on from; where it is, :func:`recover` takes the new run to have written it.
        kept: Names of files that are no part of the earlier run.
    """

    def __init__(self, folders: Sequence[Path], last: Path, kept: Iterable[str]) -> None:
        there = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
        self.folders, self.files = folders, [path for path in there if path.name not in (*kept, ASIDE)]
        self.files.sort(key=lambda path: path != last)

    def set_aside(self) -> None:
        """Make room for the files of the first checkpoint; the checkpoint to go on from is moved first."""
        files, self.files = self.files, []
        for path in files:
            aside = path.parent / ASIDE
            aside.mkdir(exist_ok=True)
            path.rename(aside / path.name)

    def remove(self) -> None:
        """Remove what was set aside."""
        for folder in self.folders:
            remove(folder / ASIDE)


def recover(folders: Sequence[Path], last: Path) -> None:
    """Finish what a process left that was killed while the first checkpoint took the place of an earlier run.

    The checkpoint to go on from is put back last: until then this process may be killed, and another one finishes it.

    Args:
        folders: Folders of the run.
        last: The checkpoint to go on from: the earlier run is removed where the new one has it, else put back.
    """
    for folder in reversed(folders):  # that of checkpoints last
        aside = folder / ASIDE
        there = list(aside.iterdir()) if aside.is_dir() and not last.exists() else []
        for path in sorted(there, key=lambda path: folder / path.name == last):
            remove(folder / path.name)
            path.rename(folder / path.name)
        remove(aside)


def check_inputs(options: Mapping[str, Any], folders: Sequence[Path]) -> None:
    """Raise when something that a run reads lies in the run that it removes.

    Args:
        options: All flags of the run.
        folders: Folders of the run.

    Raises:
        ConfigurationError: With the flag and the file.
    """
    removed = {place for folder in folders for place in (folder.absolute(), folder.resolve())}
    for name, value in options.items():
        texts = value if isinstance(value, (list, tuple)) else [value]
        for text in texts if name not in OF_RUN else ():
            for path in _files(text) if isinstance(text, str) else ():
                places = (path.absolute(), path.resolve())
                if removed.intersection((*places, *(parent for place in places for parent in place.parents))):
                    raise ConfigurationError(
                        f"--{name}: {path} is one of the files that --overwrite removes. Copy it first, or choose "
                        "another --name."
                    )


def _files(text: str) -> Iterator[Path]:
    """Yield the files and folders that a text may name."""
    for found in glob.iglob(text, recursive=True) if glob.has_magic(text) else [text]:  # noqa: PTH207 as data are read
        if os.path.lexists(found):
            yield (path := Path(found))
            if path.is_dir():
                yield from (entry for entry in path.iterdir() if entry.is_symlink())
