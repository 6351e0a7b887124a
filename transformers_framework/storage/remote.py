"""Where models, configs, tokenizers and data come from: the hub, a folder, or S3 (downloaded once, whole or absent)."""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from transformers_framework.exceptions import ConfigurationError, MissingDependencyError, UserError, did_you_mean
from transformers_framework.storage.cache import building, digest, is_complete, locked

ATTEMPTS = 3  # of ours; s3fs itself tries each request of a download five times, after 15 seconds without an answer
BACKOFF = 1.0  # seconds before the second attempt, then doubled
QUIET = 15.0  # seconds in which nothing arrives until that is logged
PARALLEL_FILES = 8

T = TypeVar("T")

logger = logging.getLogger(__name__)


def fetch(source: str, *, cache_dir: Path, what: str) -> str:
    """Return what transformers can load: a hub name as it is, or a local folder, downloaded when it is on S3.

    Args:
        source: Hub name, local folder or ``s3://bucket/prefix``.
        cache_dir: Where downloads are kept.
        what: Name of the flag that asked, for messages.

    Raises:
        ConfigurationError: When a folder is absent or holds no model, S3 refuses, or the name cannot be a hub name.
        MissingDependencyError: When the source is on S3 and s3fs is not installed.
    """
    if source.startswith("s3://"):
        return str(download(source, cache_dir=cache_dir, flag=what, choose=model_files))
    path = Path(source).expanduser()
    if path.is_dir():
        _require_model(path, source, what)
        return str(path)
    if path.exists():
        raise ConfigurationError(f"--{what} {source}: this is a file; give its folder: --{what} {path.parent}")
    if looks_local(source):
        raise ConfigurationError(f"--{what} {source}: {missing(path)}")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source):
        raise ConfigurationError(
            f"--{what} {source}: no such folder, and a hub name is written 'name' or 'user/name' "
            "(letters, digits, '-', '_' and '.')"
        )
    return source


def looks_local(source: str, suffixes: tuple[str, ...] = ()) -> bool:
    """Tell whether a name that does not exist was meant as a path: by how it starts or ends, or by its folder."""
    parent = Path(source).expanduser().parent
    return (
        source.startswith(("/", ".", "~"))
        or source.endswith("/")
        or source.lower().endswith(suffixes)
        or (parent != Path() and parent.is_dir())
    )


def missing(path: Path) -> str:
    """Say what of a path does not exist, with the closest name beside it."""
    while not path.parent.exists():
        path = path.parent
    parent = path.parent
    names = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() else []
    if (hint := did_you_mean(path.name, names)) or not names:
        return f"{path} does not exist.{hint}"
    more = ", …" if len(names) > 10 else ""
    return f"{path} does not exist. {parent} holds: {', '.join(names[:10])}{more}."


def model_files(names: list[str]) -> list[str]:
    """Choose what transformers needs of a folder: no optimizer states, no second copy of the weights.

    Examples:
        >>> model_files(["config.json", "model.safetensors", "pytorch_model.bin", "optimizer.pt", "best/config.json"])
        ['config.json', 'model.safetensors']
        >>> model_files(["config.json", "modules.json", "1_Pooling/config.json"])
        ['config.json', 'modules.json', '1_Pooling/config.json']
    """
    # steps of sentence-transformers have folders of their own
    names = [name for name in names if "/" not in name or re.fullmatch(r"\d+_[A-Z]\w*/[^/]+", name)]
    names = [name for name in names if not name.endswith((".ckpt", ".pt", ".pth", ".pkl"))]
    names = [name for name in names if not name.endswith((".h5", ".msgpack", ".ot", ".onnx"))]
    if any(name.endswith(".safetensors") and "/" not in name for name in names):
        names = [name for name in names if not re.match(r"pytorch_model.*\.bin", name)]
    return names


def _require_model(path: Path, source: str, what: str) -> None:
    """Refuse a folder that has neither a config nor a tokenizer, and point to one below it that has."""
    marks = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "*.model")
    if any(True for mark in marks for _ in path.glob(mark)):
        return
    below = sorted(entry.parent.name for entry in path.glob("*/config.json"))
    hint = f" These below it do: {', '.join(below)}." if below else ""
    raise ConfigurationError(f"--{what} {source}: the folder holds no config.json and no tokenizer.{hint}")


# ----------------------------------------------------------------------------------------------------------------- S3


@dataclass(frozen=True)
class RemoteFile:
    """One object on S3.

    Args:
        name: Path relative to what was asked for.
        key: Bucket and key.
        size: Bytes.
        version: ETag, which changes with the content.
    """

    name: str
    key: str
    size: int
    version: str


def download(
    url: str,
    *,
    cache_dir: Path,
    flag: str,
    choose: Callable[[list[str]], list[str]] | None = None,
    error: type[UserError] = ConfigurationError,
) -> Path:
    """Copy what is under an S3 address into the cache and return the local folder.

    The folder is named after the address and the ETags of its files: a second call lists and downloads nothing, a
    changed object is noticed. It appears when all of it is there, under a lock, so that processes download once.

    Args:
        url: A folder, a single file or a glob, ``s3://bucket/…``.
        cache_dir: Where downloads are kept, in ``s3/``.
        flag: Name of the flag that asked, for messages.
        choose: Which of the names under the address are needed; all of them by default.
        error: Kind of error to raise.

    Raises:
        MissingDependencyError: When s3fs is not installed.
        UserError: Of the kind ``error``, when nothing is there, access is denied or the server cannot be reached.
    """
    url = url.rstrip("/")
    if not re.fullmatch(r"s3://[^/*?\[]+(/.+)?", url):
        raise error(f"--{flag} {url}: an address on S3 is written s3://bucket/path")
    with _explaining(url, flag, error):
        filesystem = _filesystem(url, flag)
        logger.info("Looking for %s", url)
        files = _persistent(lambda: _wanted(filesystem, url, choose), url)
        if not files:
            raise error(f"--{flag} {url}: {_nothing_there(filesystem, url)}")
        folder = cache_dir / "s3" / digest([url, [(file.name, file.size, file.version) for file in files]])
        with locked(folder):
            if not is_complete(folder):
                with building(folder, about=url) as aside:
                    _copy(filesystem, files, aside, url)
                    if _persistent(lambda: _wanted(filesystem, url, choose), url) != files:
                        raise error(f"--{flag} {url}: changed while it was downloaded; start again when it is whole")
    return folder


def _filesystem(url: str, flag: str) -> Any:
    """Make a connection that follows AWS_* variables, ~/.aws and fsspec's own configuration."""
    try:
        import s3fs
    except ImportError as absent:
        raise MissingDependencyError("s3fs", f"--{flag} {url}", "s3") from absent
    from fsspec.config import conf

    # attempts of botocore, within each of s3fs, within each of ours, would be 75 without a word
    retries = {} if "AWS_MAX_ATTEMPTS" in os.environ else {"retries": {"total_max_attempts": 1}}
    config = retries | conf.get("s3", {}).get("config_kwargs", {})
    filesystem = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False, config_kwargs=config)
    filesystem.retries = 1  # requests for lists are ours to make again
    return filesystem


def _wanted(filesystem: Any, url: str, choose: Callable[[list[str]], list[str]] | None) -> list[RemoteFile]:
    """List what is under an address, sorted by name and reduced to the needed."""
    path = url.removeprefix("s3://")
    if any(sign in path for sign in "*?["):
        found = filesystem.glob(path, detail=True)
        root = re.split(r"[*?\[]", path)[0].rpartition("/")[0]
    else:
        found = filesystem.find(path, detail=True)
        root = path.rpartition("/")[0] if path in found else path
    files = {}
    for key, entry in found.items():
        name = key.removeprefix(root).strip("/")
        hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)  # ".." must not leave the folder
        if entry["type"] == "file" and name and not hidden and not key.endswith("/"):
            version = str(entry.get("ETag") or entry.get("LastModified"))
            files[name] = RemoteFile(name, key, int(entry["size"]), version)
    return [files[name] for name in (sorted(files) if choose is None else choose(sorted(files)))]


def _nothing_there(filesystem: Any, url: str) -> str:
    """Say that an address is empty and name the closest one beside it."""
    parent, _, last = url.removeprefix("s3://").rpartition("/")
    if not parent:
        return "the bucket is empty"
    beside = [entry.rstrip("/").rpartition("/")[2] for entry in filesystem.ls(parent, detail=False)]
    return f"nothing that can be read is there.{did_you_mean(last, beside)}"


def _copy(filesystem: Any, files: list[RemoteFile], target: Path, url: str) -> None:
    """Download files with one progress bar in bytes, several at a time; the first failure ends it."""
    from tqdm import tqdm

    filesystem.retries = type(filesystem).retries  # parts of files are not read again from the beginning
    total = sum(file.size for file in files)
    bar = tqdm(total=total, unit="B", unit_scale=True, desc=f"Downloading {url}", disable=None)
    with bar, ThreadPoolExecutor(PARALLEL_FILES) as pool:
        jobs = [pool.submit(_copy_one, filesystem, file, target / file.name, bar) for file in files]
        try:
            seen = -1
            while wait(jobs, QUIET, FIRST_EXCEPTION).not_done and not any(
                job.done() and job.exception() for job in jobs
            ):
                if bar.n == seen:
                    logger.warning("%s: nothing has arrived for %.0f s; still trying", url, QUIET)
                seen = bar.n
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _copy_one(filesystem: Any, file: RemoteFile, target: Path, bar: Any) -> None:
    """Download one file, again after a pause when the connection breaks."""
    from fsspec.callbacks import Callback

    class Bytes(Callback):  # type: ignore[misc, unused-ignore]
        def relative_update(self, inc: int = 1) -> None:
            super().relative_update(inc)
            bar.update(inc)

    def copy() -> None:
        progress = Bytes()
        try:
            filesystem.get_file(file.key, str(target), callback=progress)
            if (size := target.stat().st_size) != file.size:
                raise ConnectionError(f"{file.key}: {size} of {file.size} bytes arrived")
        except BaseException:
            bar.update(-progress.value)
            raise

    target.parent.mkdir(parents=True, exist_ok=True)
    _persistent(copy, file.key)


def _persistent(ask: Callable[[], T], name: str) -> T:
    """Return what a request gives; when the connection breaks or stalls it is made again, with a line."""
    for attempt in range(1, ATTEMPTS):
        try:
            return ask()
        except Exception as failure:
            if not _passing(failure):
                raise
            logger.warning("%s: %s; trying again (%d of %d)", name, failure, attempt + 1, ATTEMPTS)
            time.sleep(BACKOFF * 2 ** (attempt - 1))
    return ask()


def _passing(failure: Exception) -> bool:
    """Tell a broken connection or an overloaded server, which may mend, from a refusal, which will not."""
    from botocore.exceptions import ConnectionError as BotocoreConnectionError
    from botocore.exceptions import HTTPClientError

    if isinstance(failure, OSError) and failure.errno in (errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EIO)):
        return failure.filename is None  # else it is a local file
    kinds = (ConnectionError, TimeoutError, HTTPClientError, BotocoreConnectionError)
    return isinstance(failure, kinds) or type(failure).__module__.startswith("aiohttp")


@contextmanager
def _explaining(url: str, flag: str, error: type[UserError]) -> Iterator[None]:
    """Turn what s3fs and botocore raise into one message with a remedy."""
    try:
        yield
    except UserError:
        raise
    except PermissionError as refusal:
        if refusal.filename:  # a local file
            raise
        raise error(
            f"--{flag} {url}: S3 denies access ({refusal}). Give credentials that may list and read it "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE)"
        ) from refusal
    except FileNotFoundError as absent:
        if absent.filename:
            raise
        bucket = url.removeprefix("s3://").partition("/")[0]
        raise error(f"--{flag} {url}: no bucket '{bucket}', or it was removed while it was read ({absent})") from absent
    except Exception as failure:
        module = type(failure).__module__
        if type(failure).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
            raise error(
                f"--{flag} {url}: no AWS credentials were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or "
                "AWS_PROFILE, or FSSPEC_S3_ANON=true for a public bucket"
            ) from failure
        if not isinstance(failure, (ConnectionError, TimeoutError)) and not module.startswith(
            ("botocore", "aiobotocore", "aiohttp")
        ):
            raise
        raise error(
            f"--{flag} {url}: the download failed ({failure}). Check the network and AWS_ENDPOINT_URL; nothing half "
            "downloaded is kept, the same command starts again"
        ) from failure
