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

MANIFEST = ".complete.json"  # written last: the source of the folder; name, size and checksum of each file

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
    """Return the folder for downloads and prepared data: ``--cache_dir``, by default in the user's ``~/.cache``.

    Raises:
        ConfigurationError: When there is no ``--cache_dir`` and the user has no home folder.
    """
    if cache_dir:
        return Path(cache_dir).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "transformers_framework"
    except RuntimeError as error:  # no HOME, and an unknown user, as in some containers
        raise ConfigurationError(
            "--cache_dir: this user has no home folder for downloads and prepared data. Give a folder, for instance "
            "--cache_dir ./cache, or set HOME."
        ) from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder while it is checked and built; other processes wait.

    The operating system releases the lock when the process dies. In a read-only cache, complete folders can still be
    used.

    Raises:
        ConfigurationError: When the cache cannot be written and the folder is not complete.
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
    """Return whether a folder has all files of its manifest, each with the right size.

    Once a day the checksums of the files are verified too, which takes as long as reading them.

    Args:
        folder: The folder.
        verify: Verify checksums now, even if that was done within a day.
    """
    if not folder.exists():
        return False
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        if all((folder / name).stat().st_size == size for name, size in manifest["files"].items()):
            sums = manifest.get("sums", {})  # folders of earlier versions have none
            if not verify and not is_check_due(folder / MANIFEST):
                return True
            if checksums(folder, sums) == sums:
                mark_verified(folder / MANIFEST)
                return True
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    logger.warning("%s is damaged or incomplete; building it again", folder)
    return False


@contextlib.contextmanager
def building(folder: Path, *, about: Any = None) -> Iterator[Path]:
    """Yield a temporary folder that replaces ``folder`` if the block succeeds, with a manifest of its files.

    Use it inside :func:`locked`: then temporary files can only be left by a process that was killed. Processes that
    have mapped the replaced files keep them until they close them.

    Args:
        folder: Path of the result.
        about: Description of its source, written to the manifest for users.

    Raises:
        ConfigurationError: When the disk is full or the cache cannot be written.
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
    """Convert write errors in the cache folder to errors that name ``--cache_dir``; other errors are not changed."""
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
            "Free some disk space, or give a folder that you can write, for instance --cache_dir ./cache"
        ) from error
