"""Remote addresses, ``protocol://path``: what each protocol needs, and the fsspec file system that reads them."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers_framework.exceptions import ConfigurationError, MissingDependencyError, UserError, did_you_mean

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

TIMEOUT = 15.0  # seconds without an answer until a request to an HTTP server fails; s3fs has the same
DEPTH = 2  # folders of an HTTP server below an address that are listed, each of which is a page


class Protocol(NamedTuple):
    """What users have to know of a protocol.

    Args:
        service: Name of the service.
        form: How an address is written.
        package: Package that implements it, None for one of fsspec itself.
        extra: Extra of this project with that package.
        owner: Whose credentials it asks for.
        credentials: How to give them.
        network: What to check when it cannot be reached.
        retries: Whether its package itself makes failed requests again, for a minute and longer.
    """

    service: str
    form: str
    package: str | None = None
    extra: str | None = None
    owner: str = ""
    credentials: str = "credentials"
    network: str = "the network"
    retries: bool = False


_S3 = Protocol(
    *("S3", "s3://bucket/path", "s3fs", "s3", "AWS"),
    credentials="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or FSSPEC_S3_ANON=true for a public "
    "bucket",
    network="the network and AWS_ENDPOINT_URL",
)
_GOOGLE = Protocol(
    *("Google Cloud Storage", "gs://bucket/path", "gcsfs", None, "Google"),
    credentials="GOOGLE_APPLICATION_CREDENTIALS (or gcloud auth application-default login), or FSSPEC_GS_TOKEN=anon "
    "for a public bucket",
    retries=True,
)
_AZURE = Protocol(
    *("Azure", "az://container/path", "adlfs", None, "Azure"),
    credentials="AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or "
    "AZURE_STORAGE_CONNECTION_STRING",
    retries=True,
)
_HUB = Protocol(
    *("the hub", "hf://user/name/path or hf://datasets/user/name/path", "huggingface_hub", None, "hub"),
    credentials="HF_TOKEN (or hf auth login)",
    network="the network and HF_HUB_OFFLINE",
)
_HTTP = Protocol(
    *("the server", "https://host/path", "aiohttp"),
    network="the address and the network",
)
PROTOCOLS = {
    **dict.fromkeys(("s3", "s3a"), _S3),
    **dict.fromkeys(("gs", "gcs"), _GOOGLE),
    **dict.fromkeys(("az", "abfs", "abfss"), _AZURE),
    "hf": _HUB,
    **dict.fromkeys(("http", "https"), _HTTP),
}


class Address:
    """An address of a folder, a single file or a glob.

    Args:
        url: The address.
        flag: Flag that gave it, for messages.
        error: Kind of error to raise.

    Raises:
        MissingDependencyError: When the package of its protocol is not installed.
        UserError: Of the kind ``error``, when it is not written as an address of a known protocol.
    """

    def __init__(self, url: str, flag: str, error: type[UserError] = ConfigurationError) -> None:
        self.url, self.flag, self.error = url.rstrip("/"), flag, error
        self.name = url.partition("://")[0]
        self.protocol = PROTOCOLS.get(self.name) or Protocol(f"'{self.name}'", f"{self.name}://path")
        self._check_protocol()
        if not re.fullmatch(r"[\w.+-]+://[^/*?\[]+(/.+)?", self.url):
            raise self.mistake(f"an address on {self.protocol.service} is written {self.protocol.form}")
        if page := re.fullmatch(
            r"https?://(?:www\.)?huggingface\.co/((?:datasets/)?[^/]+/[^/]+)(?:/(?:tree|blob)/.*)?", url
        ):
            raise self.mistake(f"this is a page of the hub for people; give hf://{page[1]}, or its name alone")

    def mistake(self, text: str) -> UserError:
        """Return an error of the flag and this address."""
        return self.error(f"--{self.flag} {self.url}: {text}")

    def _check_protocol(self) -> None:
        """Raise when this protocol is unknown, or its package is not installed."""
        from fsspec import available_protocols, get_filesystem_class, registry

        package = self.protocol.package
        if package is not None and importlib.util.find_spec(package) is None:
            raise MissingDependencyError(package, f"--{self.flag} {self.url}", self.protocol.extra)
        if self.name in ("file", "local"):
            raise self.mistake("give a path of this machine without its protocol")
        if self.name not in {*available_protocols(), *registry}:  # what is known to fsspec, what plug-ins registered
            hint = did_you_mean(self.name, PROTOCOLS)
            raise self.mistake(
                f"there is no protocol '{self.name}', but {', '.join(PROTOCOLS)} and the others of fsspec.{hint}"
            )
        try:
            get_filesystem_class(self.name)
        except ImportError as absent:
            raise self.mistake(f"a package is not installed ({absent.__cause__ or absent})") from absent

    @property
    def is_http(self) -> bool:
        """Whether it is that of an HTTP server, where a ``?`` begins a query and folders are pages with links."""
        return self.protocol is _HTTP

    @property
    def is_glob(self) -> bool:
        """Whether it is a pattern of several files."""
        return self.folder != self.url

    @property
    def folder(self) -> str:
        """The address before the first ``/`` that a pattern follows; all of it when it is no pattern."""
        parts = re.split(r"[*\[]" if self.is_http else r"[*?\[]", self.url, maxsplit=1)
        return parts[0].rpartition("/")[0] if len(parts) > 1 else self.url

    def of(self, name: str) -> str:
        """Return the address of a file by its name relative to this folder, glob or single file.

        Examples:
            >>> [Address(url, "train_dataset").of("a.csv") for url in ("memory://data", "memory://d/a.csv", "memory://d/*")]
            ['memory://data/a.csv', 'memory://d/a.csv', 'memory://d/a.csv']
        """
        path = self.url.partition("?")[0] if self.is_http else self.url
        is_file = not self.is_glob and PurePosixPath(path).name == name
        return self.url if is_file else f"{self.folder}/{name}"

    def open(self) -> tuple[AbstractFileSystem, str]:
        """Return the file system, which follows the service's own variables and fsspec's configuration, and the path.

        Raises:
            UserError: Of the kind ``error``, when it cannot be opened, as for lack of credentials.
        """
        from fsspec.core import url_to_fs

        try:
            filesystem, path = url_to_fs(
                self.url, skip_instance_cache=True, use_listings_cache=False, **self._options()
            )
        except Exception as failure:  # each package has its own
            raise self.mistake(
                f"{self.protocol.service} cannot be opened ({failure}). Give {self.protocol.credentials}"
            ) from failure
        if self.protocol is _S3:
            filesystem.retries = 1  # requests for lists are ours to make again
        if self.protocol.retries:  # they log each failure with a traceback
            logging.getLogger(self.protocol.package).setLevel(logging.CRITICAL)
        return filesystem, path

    def _options(self) -> dict[str, Any]:
        """Return options of the file system: how long and how often it tries."""
        from fsspec.config import conf

        mine = conf.get(self.name, {})
        if self.protocol is _S3:
            # attempts of botocore, within each of s3fs, within each of ours, would be 75 without a word
            retries = {} if "AWS_MAX_ATTEMPTS" in os.environ else {"retries": {"total_max_attempts": 1}}
            return {"config_kwargs": retries | mine.get("config_kwargs", {})}
        if self.is_http:
            from aiohttp import ClientTimeout

            # aiohttp's own limit, five minutes, is for all of a file
            timeout = ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
            headers = {"Accept-Encoding": "identity"}  # else sizes are those of compressed files
            return {
                "client_kwargs": {"timeout": timeout} | mine.get("client_kwargs", {}),
                "headers": headers | mine.get("headers", {}),
            }
        return {}
