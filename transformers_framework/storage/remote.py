"""Download remote files of any fsspec protocol into the cache: once, atomically, with progress and retries."""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from transformers_framework.display import Work, shown
from transformers_framework.exceptions import ConfigurationError, UserError, did_you_mean
from transformers_framework.storage.addresses import DEPTH, Address
from transformers_framework.storage.cache import building, digest, is_complete, locked
from transformers_framework.storage.paths import is_inside

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

ATTEMPTS = 3  # of this program; s3fs itself tries each request of a download five times, with timeouts of 15 seconds
BACKOFF = 1.0  # seconds before the second attempt, then doubled
STALL_TIMEOUT = 15.0  # seconds without progress until a warning is logged
POLL_INTERVAL = 0.2  # seconds between two checks of the progress
PARALLEL_FILES = 8

# names that services give to the version of a file, which changes with its content
VERSIONS = (
    "ETag",
    "etag",
    "blob_id",
    "generation",
    "Last-Modified",
    "LastModified",
    "last_modified",
    "mtime",
    "created",
)
# names of the classes of temporary connection errors
BROKEN_CONNECTIONS = {
    *("ConnectionError", "TimeoutError", "HTTPClientError", "TransportError"),
    *("ClientConnectionError", "ClientPayloadError", "ServiceRequestError", "ServiceResponseError"),
}
NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
LIBRARIES = ("botocore", "aiobotocore", "aiohttp", "httpx", "requests", "gcsfs", "google", "azure", "huggingface_hub")

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteFile:
    """A remote file.

    Args:
        name: Path relative to the address.
        key: Path in the file system.
        size: Size in bytes, None if unknown.
        version: ETag or similar, which changes with the content.
    """

    name: str
    key: str
    size: int | None
    version: str


def download(
    url: str,
    *,
    cache_dir: Path,
    flag: str,
    choose: Callable[[list[str]], list[str]] | None = None,
    error: type[UserError] = ConfigurationError,
) -> Path:
    """Download a remote address into the cache and return the local folder.

    The name of the folder depends on the address and the versions of its files: a second call downloads nothing unless
    a file has changed. The folder is created atomically under a lock, so that only one process downloads it.

    Args:
        url: A folder, a single file or a glob of any protocol of fsspec.
        cache_dir: Where downloads are kept, in a folder for each protocol.
        flag: Name of the flag with the address, for messages.
        choose: Returns the names that are needed; all of them by default.
        error: Class of errors to raise.

    Raises:
        MissingDependencyError: When the package of the protocol is not installed.
        UserError: Of the class ``error``, when there are no files, access is denied or the server cannot be reached.
    """
    address = Address(url, flag, error)
    with _explaining(address):
        filesystem, path = address.open()
        attempts = 1 if address.protocol.retries else ATTEMPTS

        def wanted() -> list[RemoteFile]:
            return _retried(lambda: _wanted(filesystem, path, address, choose), address.url, attempts)

        logger.info("Looking for %s", address.url)
        files = wanted()
        if not files:
            raise address.mistake(_nothing_there(filesystem, path))
        key = [address.url, [(file.name, file.size, file.version) for file in files]]
        folder = cache_dir / address.name / digest(key)
        with locked(folder):
            if not is_complete(folder):
                with building(folder, about=address.url) as aside:
                    _copy(filesystem, files, aside, address.url)
                    if wanted() != files:
                        raise address.mistake("files changed during the download. Start again when they are complete")
    return folder


def _wanted(
    filesystem: AbstractFileSystem, path: str, address: Address, choose: Callable[[list[str]], list[str]] | None
) -> list[RemoteFile]:
    """Return the files at an address that are needed, sorted by name."""
    root, found = _listed(filesystem, path, address)
    keys = {}
    for key, entry in found.items():
        name = key.removeprefix(root).strip("/")
        if address.is_http:
            if key != path and "?" in name:  # links that sort the page
                continue
            name = unquote(name.partition("?")[0])
        hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
        if entry.get("type", "file") == "file" and name and is_inside(name) and not hidden and not key.endswith("/"):
            keys[name] = key

    def described(name: str) -> RemoteFile:
        entry = found[keys[name]]
        if entry.get("size") is None:
            entry = filesystem.info(keys[name])
        size, versions = entry.get("size"), (entry.get(version) for version in VERSIONS)
        return RemoteFile(
            name, keys[name], None if size is None else int(size), str(next(filter(None, versions), None))
        )

    with ThreadPoolExecutor(PARALLEL_FILES) as pool:  # one request per file where the server lists no sizes
        return list(pool.map(described, sorted(keys) if choose is None else choose(sorted(keys))))


def _listed(filesystem: AbstractFileSystem, path: str, address: Address) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the root folder of an address, and the entries of its files by path."""
    if address.is_glob:
        root = path[: len(path) - len(address.url) + len(address.folder)]
        return root, filesystem.glob(path, detail=True)
    if hasattr(filesystem, "resolve_path"):  # the hub's file system adds the revision to paths
        path = filesystem.resolve_path(path).unresolve()
    found = _on_server(filesystem, path) if address.is_http else filesystem.find(path, detail=True)
    return (path.partition("?")[0].rpartition("/")[0] if path in found else path), found


def _on_server(filesystem: AbstractFileSystem, path: str) -> dict[str, dict[str, Any]]:
    """Return the entry of a file on an HTTP server, or of the files of a folder, which is a page with links."""
    try:
        entry = filesystem.info(path)
    except FileNotFoundError as absent:
        if _cause(absent) is not absent:
            raise
        return {}
    is_page = entry.get("mimetype") == "text/html"
    return filesystem.find(path, detail=True, maxdepth=DEPTH) if is_page else {path: entry}


def _nothing_there(filesystem: AbstractFileSystem, path: str) -> str:
    """Return the message for an address without files, with the closest existing name."""
    parent, _, last = path.rpartition("/")
    if not parent:
        return "the bucket is empty"
    beside = [entry.rstrip("/").rpartition("/")[2] for entry in filesystem.ls(parent, detail=False)]
    return f"no readable files there.{did_you_mean(last, beside)}"


def _copy(filesystem: AbstractFileSystem, files: list[RemoteFile], target: Path, url: str) -> None:
    """Download files in parallel and show how much has arrived; stop at the first failure."""
    if hasattr(type(filesystem), "retries"):
        filesystem.retries = type(filesystem).retries  # retries continue a file and do not read it from its start
    sizes = [file.size for file in files]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    with shown(Work(f"Downloading {url}", total, "bytes")) as work, ThreadPoolExecutor(PARALLEL_FILES) as pool:
        jobs = [pool.submit(_copy_one, filesystem, file, target / file.name) for file in files]
        try:
            arrived, since = 0, time.monotonic()
            while wait(jobs, min(POLL_INTERVAL, STALL_TIMEOUT), FIRST_EXCEPTION).not_done and not any(
                job.done() and job.exception() for job in jobs
            ):
                # by the sizes of the files, as not every file system reports its progress
                before, arrived = arrived, sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
                work.advance(arrived - before)
                if arrived != before:
                    since = time.monotonic()
                elif time.monotonic() > since + STALL_TIMEOUT:
                    since = time.monotonic()
                    logger.warning("%s: no data received for %.0f s; still trying", url, STALL_TIMEOUT)
            for job in jobs:
                job.result()
            work.advance(sum((target / file.name).stat().st_size for file in files) - arrived)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _copy_one(filesystem: AbstractFileSystem, file: RemoteFile, target: Path) -> None:
    """Download one file; retry after a pause if the connection breaks."""
    from fsspec.callbacks import TqdmCallback

    def copy() -> None:
        filesystem.get_file(file.key, str(target), callback=TqdmCallback(tqdm_kwargs={"disable": True}))
        if file.size not in (None, size := target.stat().st_size):
            raise ConnectionError(f"{file.key}: received {size} of {file.size} bytes")

    target.parent.mkdir(parents=True, exist_ok=True)
    _retried(copy, file.key, ATTEMPTS)


def _retried(ask: Callable[[], T], name: str, attempts: int) -> T:
    """Return the result of a request; retry it, with a warning, if the connection breaks or stalls."""
    for attempt in range(1, attempts):
        try:
            return ask()
        except Exception as failure:
            if not _is_temporary(_cause(failure)):
                raise
            logger.warning("%s: %s; trying again (%d of %d)", name, _text(_cause(failure)), attempt + 1, attempts)
            time.sleep(BACKOFF * 2 ** (attempt - 1))
    return ask()


def _cause(failure: BaseException) -> BaseException:
    """Return the cause of an error; for HTTP servers, fsspec raises FileNotFoundError for every failure."""
    cause = failure.__cause__
    if isinstance(failure, FileNotFoundError) and cause is not None:
        return cause if _is_temporary(cause) or _status(cause) in (401, 403) else failure
    return failure


def _text(failure: BaseException) -> str:
    """Return the message of an error on one line."""
    return " ".join(str(failure).split())[:400] or type(failure).__name__


def _status(failure: BaseException) -> int | None:
    """Return the status of an HTTP response, under any of the names that libraries use."""
    response = getattr(failure, "response", None)
    found = [getattr(failure, name, None) for name in ("status", "status_code", "code")]
    return next(
        (number for number in (*found, getattr(response, "status_code", None)) if isinstance(number, int)), None
    )


def _is_temporary(failure: BaseException) -> bool:
    """Return whether an error may be temporary: a broken connection or an overloaded server."""
    if isinstance(failure, OSError) and failure.errno in (errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EIO)):
        return failure.filename is None  # with a file name it is an error of a local file
    if status := _status(failure):
        return status in (408, 429) or status >= 500
    names = {kind.__name__ for kind in type(failure).__mro__}
    return bool(names & BROKEN_CONNECTIONS) and "OfflineModeIsEnabled" not in names


@contextmanager
def _explaining(address: Address) -> Iterator[None]:
    """Convert the errors of fsspec's file systems to one message that says what to do."""
    protocol = address.protocol
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        failure = _cause(error)
        if getattr(failure, "filename", None):  # a local file
            raise
        if isinstance(failure, PermissionError) or _status(failure) in (401, 403):
            raise address.mistake(
                f"{protocol.service} denies access ({_text(failure)}). Give credentials that may list and read it: "
                f"{protocol.credentials}"
            ) from error
        if isinstance(failure, FileNotFoundError) or _status(failure) == 404:
            raise address.mistake(_absent(address, failure)) from error
        if type(failure).__name__ in NO_CREDENTIALS:
            raise address.mistake(f"no {protocol.owner} credentials were found. Set {protocol.credentials}") from error
        if not _is_temporary(failure) and not re.match("|".join(LIBRARIES), type(failure).__module__):
            raise
        raise address.mistake(
            f"the download failed ({_text(failure)}). Check {protocol.network}; then run the same command again; "
            "incomplete files are not kept"
        ) from error


def _absent(address: Address, failure: BaseException) -> str:
    first = address.url.partition("://")[2].partition("/")[0]
    if address.name.startswith("s3"):
        return f"there is no bucket '{first}', or it was removed during the download ({failure})"
    return f"no readable files there ({_text(failure)})"
