"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write aside; when the block ends well it takes the place of ``path``, else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(descriptor)
    aside = Path(name)
    try:
        yield aside
        with aside.open("rb+") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())
        _permit(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill aside; when the block ends well it takes the place of ``path``, else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    old = aside.with_suffix(".old")
    try:
        yield aside
        _permit(aside, *aside.rglob("*"))
        if path.exists():
            path.rename(old)
        aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def is_inside(name: str) -> bool:
    r"""Tell whether a path that a file names, from its folder on, stays in the folder, on any operating system.

    Examples:
        >>> [is_inside(name) for name in ("1_Pooling", "a/../b", "", "../b", "a/../../b", "/etc", "c:b", "..\\b")]
        [True, True, True, False, False, False, False, False]
    """
    parts = os.path.normpath(name.replace("\\", "/")).split("/")
    return parts[0] not in ("", "..") and not PureWindowsPath(name).drive


def clear_leftovers(parent: Path) -> None:
    """Remove what a killed process was still writing in a folder, put back what it was about to replace."""
    for old in parent.glob(".*.old"):
        whole = parent / old.name[1:].rsplit(".", 2)[0]
        remove(old) if whole.exists() else old.rename(whole)
    for part in parent.glob(".*.part"):
        remove(part)


def remove(path: Path) -> None:
    """Remove a file or a folder; of a link only the link, and nothing where there is nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def replace(source: Path, target: Path) -> None:
    """Let a file or folder take the place of another; for a moment neither may be there when they are folders."""
    if target.is_dir():
        old = target.with_name(f".{target.name}.0.old")  # as clear_leftovers knows them
        target.rename(old)
        source.replace(target)
        shutil.rmtree(old)
    else:
        source.replace(target)


def link_folder(source: Path, target: Path) -> None:
    """Make ``target`` hold the files of ``source`` without writing them twice, where the disk can."""
    with whole_folder(target) as aside:
        shutil.copytree(source, aside, dirs_exist_ok=True, copy_function=link_or_copy)


def link_file(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source``, whole or not at all."""
    with whole_file(target) as aside:
        aside.unlink()
        link_or_copy(source, aside)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Give a file a second name, or copy it where that is not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _permit(*paths: Path) -> None:
    """Give files and folders the permissions of the user's umask, whatever the library that wrote them chose."""
    mask = _umask()
    for path in paths:
        mode = path.stat().st_mode
        path.chmod(mode & 0o7000 | (0o777 if path.is_dir() else 0o666) & ~mask)  # folders of a group stay such


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
