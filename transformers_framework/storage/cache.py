"""Folders of the cache: built once under a lock, atomically, with a manifest of sizes and checksums."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.storage.atomic import atomic_folder, clear_leftovers
from transformers_framework.storage.checksums import checksums, is_check_due, mark_verified

MANIFEST = ".complete.json"  # written last: what the folder was made from; name, size and checksum of each file

REFUSALS = frozenset(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST, errno.ENOENT)
)

logger = logging.getLogger(__name__)


def digest(value: Any) -> str:
    """Return the hash of a JSON value as a short name; equal values have equal names in every process.

    Examples:
        >>> digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def cache_folder(cache_dir: str | None) -> Path:
    """Return the folder for downloads and prepared data: ``--cache_dir``, by default below the user's ``~/.cache``.

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
    """Hold the lock of a folder while it is checked and built; other processes wait.

    The operating system releases the lock when its holder dies. A cache that cannot be written still serves the
    folders that are complete.

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
            if not is_complete(folder):
                raise
    try:
        yield
    finally:
        lock.release()


def is_complete(folder: Path, *, verify: bool = False) -> bool:
    """Return whether a folder exists with all files of its manifest, each of its full size.

    Once a day the checksums of the files are compared too, which takes as long as reading them.

    Args:
        folder: The folder.
        verify: Compare checksums now, even if that was done within a day.
    """
    if not folder.exists():
        return False
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        if all((folder / name).stat().st_size == size for name, size in manifest["files"].items()):
            sums = manifest.get("sums", {})  # which folders of earlier versions lack
            if not verify and not is_check_due(folder / MANIFEST):
                return True
            if checksums(folder, sums) == sums:
                mark_verified(folder / MANIFEST)
                return True
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    logger.warning("%s is damaged or incomplete: making it again", folder)
    return False


@contextlib.contextmanager
def building(folder: Path, *, about: Any = None) -> Iterator[Path]:
    """Yield a temporary folder that replaces ``folder`` when the block succeeds, with a manifest of its files.

    Use it inside :func:`locked`: then the only leftovers can be those of a process that was killed. Readers that mapped
    the files of the folder that is replaced keep them until they close.

    Args:
        folder: Where the result will stand.
        about: What it is made from, kept in the manifest for people.

    Raises:
        ConfigurationError: When the disk is full or nothing can be written there.
    """
    with _naming_cache_dir(folder):
        clear_leftovers(folder.parent, folder.name)
        with atomic_folder(folder) as aside:
            yield aside
            files = sorted(path for path in aside.rglob("*") if path.is_file())
            sizes = {path.relative_to(aside).as_posix(): path.stat().st_size for path in files}
            content = {"about": about, "files": sizes, "sums": checksums(aside, sizes)}
            (aside / MANIFEST).write_text(json.dumps(content, indent=1), "utf-8")


@contextlib.contextmanager
def _naming_cache_dir(folder: Path) -> Iterator[None]:
    """Turn an error of writing below the cache folder into a message with ``--cache_dir``; others pass through."""
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
