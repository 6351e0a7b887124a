"""Folders that appear whole or not at all, built once however many processes want them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.storage.checksums import checksums, compared, is_due

MANIFEST = ".complete.json"  # written last: names, sizes and checksums of all files, what the folder was made from

REFUSALS = frozenset(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST, errno.ENOENT)
)

logger = logging.getLogger(__name__)


def digest(value: Any) -> str:
    """Return a short name for anything JSON can hold; equal values have equal names, in every process.

    Examples:
        >>> digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def cache_folder(cache_dir: str | None) -> Path:
    """Return the folder for downloads and prepared data: what ``--cache_dir`` says, else one in the user's cache.

    Raises:
        ConfigurationError: When the user has no home folder.
    """
    if cache_dir:
        return Path(cache_dir).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "transformers_framework"
    except RuntimeError as error:  # no HOME, and the user is in no list of users, as in some containers
        raise ConfigurationError(
            "--cache_dir: this user has no home folder for downloads and prepared data. Give a folder, for instance "
            "--cache_dir ./cache, or set HOME."
        ) from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the right to look at and to build a folder; other processes wait their turn.

    The operating system gives the lock back when its holder dies. A cache that cannot be written still serves the
    folders that are whole.

    Raises:
        ConfigurationError: When nothing can be written there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(f"{folder}.lock")
    with _naming_cache_dir(folder):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=3)
        except Timeout:
            logger.warning("Waiting for another process that is preparing %s", folder)
            lock.acquire()
        except OSError:
            if not is_whole(folder):
                raise
    try:
        yield
    finally:
        lock.release()


def is_whole(folder: Path, *, verify: bool = False) -> bool:
    """Tell whether a folder is there with every file that was written into it, each of its full size.

    Once a day the checksums of the files are compared too, which takes as long as reading them.

    Args:
        folder: The folder.
        verify: Compare checksums whenever it was last done.
    """
    if not folder.exists():
        return False
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        if all((folder / name).stat().st_size == size for name, size in manifest["files"].items()):
            sums = manifest.get("sums", {})  # which folders of earlier versions lack
            if not verify and not is_due(folder / MANIFEST):
                return True
            if checksums(folder, sums) == sums:
                compared(folder / MANIFEST)
                return True
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    logger.warning("%s is damaged or incomplete: making it again", folder)
    return False


@contextlib.contextmanager
def building(folder: Path, *, about: Any = None) -> Iterator[Path]:
    """Give an empty folder aside; when the block ends well it takes the place of ``folder``, else it is removed.

    Use it inside :func:`locked`: then the only leftovers can be those of a process that was killed.

    Args:
        folder: Where the result will stand.
        about: What it is made from, kept in the manifest for people.

    Raises:
        ConfigurationError: When the disk is full or nothing can be written there.
    """
    aside, old = (folder.with_name(folder.name + suffix) for suffix in (".part", ".old"))
    with _naming_cache_dir(folder):
        for leftover in (aside, old):
            shutil.rmtree(leftover, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            yield aside
            files = sorted(path for path in aside.rglob("*") if path.is_file())
            sizes = {path.relative_to(aside).as_posix(): path.stat().st_size for path in files}
            manifest = aside / MANIFEST
            content = {"about": about, "files": sizes, "sums": checksums(aside, sizes)}
            manifest.write_text(json.dumps(content, indent=1), "utf-8")
            for path in (*files, manifest, aside):
                _flush(path)
            if folder.exists():  # readers that mapped the old files keep them until they close
                folder.rename(old)
            aside.rename(folder)
            _flush(folder.parent)
        finally:
            for leftover in (aside, old):
                shutil.rmtree(leftover, ignore_errors=True)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _naming_cache_dir(folder: Path) -> Iterator[None]:
    """Turn the refusal to write below the cache folder into a message; other errors of the block pass through."""
    cache_dir = folder.parent.parent
    try:
        yield
    except OSError as error:
        place = Path(error.filename) if isinstance(error.filename, str) else cache_dir
        ours = place.is_relative_to(cache_dir) or cache_dir.is_relative_to(place)
        if error.errno not in REFUSALS or not ours:
            raise
        raise ConfigurationError(
            f"--cache_dir: {cache_dir} cannot be written ({error.strerror}). "
            "Free some space there or give a folder of yours, for instance --cache_dir ./cache"
        ) from error
