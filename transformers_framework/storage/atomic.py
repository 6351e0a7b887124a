"""Atomic writes: a temporary file or folder is flushed to disk and renamed; the result is complete or absent."""

from __future__ import annotations

import contextlib
import filecmp
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

ASIDE, REPLACED = ".part", ".old"  # suffixes of temporary and of replaced files: .NAME.RANDOM.part


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces ``path`` if the block succeeds, and is removed if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=ASIDE, dir=path.parent)
    os.close(descriptor)
    with _replacing(path, Path(name)) as aside:
        yield aside


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces ``path`` if the block succeeds, and is removed if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = tempfile.mkdtemp(prefix=f".{path.name}.", suffix=ASIDE, dir=path.parent)
    with _replacing(path, Path(name)) as aside:
        yield aside


@contextlib.contextmanager
def _replacing(path: Path, aside: Path) -> Iterator[Path]:
    try:
        yield aside
        _apply_umask(_tree(aside))
        replace(aside, path)
    finally:
        with contextlib.suppress(OSError):
            remove(aside)


def replace(source: Path, target: Path) -> None:
    """Flush a file or folder to disk and rename it to ``target``, which is replaced; it is restored on failure.

    A file is replaced atomically. If one of the two is a folder, ``target`` is absent for a moment; if the process is
    killed then, :func:`clear_leftovers` restores it.
    """
    for path in _tree(source):
        _flush(path)
    if source.is_dir() or target.is_dir():
        old = target.with_name(f".{target.name}.{secrets.token_hex(4)}{REPLACED}")
        if exists := os.path.lexists(target):
            target.rename(old)
        try:
            source.rename(target)
        except OSError:
            if exists:
                old.rename(target)
            raise
        with contextlib.suppress(OSError):
            remove(old)
    else:
        source.replace(target)
    _flush(target.parent)


def clear_leftovers(parent: Path, name: str | None = None) -> None:
    """Remove the temporary files of killed processes in a folder, and restore what they were replacing.

    Args:
        parent: The folder.
        name: Only for this file or folder; for all of them by default.
    """
    leftovers = [
        (path, parent / path.name[1:].rsplit(".", 2)[0])
        for suffix in (REPLACED, ASIDE)
        for path in parent.glob(f".*{suffix}")
    ]
    for path, target in leftovers:
        if name in (None, target.name):
            remove(path) if path.suffix == ASIDE or target.exists() else path.rename(target)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists; for a symbolic link, only the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Remove a file or folder if it exists; if the process is killed meanwhile, it is whole or absent."""
    aside = path
    if path.is_dir():
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{ASIDE}")
        path.rename(aside)
    remove(aside)


def link_folder(source: Path, target: Path) -> None:
    """Copy a folder with hard links where the file system supports them."""
    with atomic_folder(target) as aside:
        shutil.copytree(source, aside, dirs_exist_ok=True, copy_function=link_or_copy)


def link_file(source: Path, target: Path) -> None:
    """Hard-link, or copy, ``source`` to ``target``, atomically."""
    with atomic_file(target) as aside:
        aside.unlink()
        link_or_copy(source, aside)


def link_equal_files(source: Path, target: Path) -> None:
    """Replace the files of a folder that have the same contents in another folder by hard links to those.

    Args:
        source: Folder of the files that are linked to.
        target: Folder with files that may be the same.
    """
    for path in target.rglob("*"):
        other = source / path.relative_to(target)
        is_file = path.is_file() and other.is_file() and not path.samefile(other)
        if is_file and filecmp.cmp(other, path, shallow=False):
            link_file(other, path)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Create a hard link to a file, or copy the file where that is not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _tree(path: Path) -> list[Path]:
    """Return a file, or a folder and everything in it."""
    return [path, *path.rglob("*")] if path.is_dir() else [path]


def _flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk; not every file system supports this for folders."""
    with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # Windows flushes writable files only
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _apply_umask(paths: Iterable[Path]) -> None:
    """Set the permissions of files and folders by the user's umask, as libraries may have set others."""
    mask = os.umask(0)
    os.umask(mask)
    for path in paths:
        mode = path.stat().st_mode
        path.chmod(mode & 0o7000 | (0o777 if path.is_dir() else 0o666) & ~mask)  # keeps the setgid bit of folders
