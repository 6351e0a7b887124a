"""Remote addresses, ``protocol://path``: the requirements of each protocol, and the fsspec file system for it."""

from __future__ import annotations

import logging
import os
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers_framework.exceptions import ConfigurationError, UserError, did_you_mean
from transformers_framework.optional_packages import require_packages

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

TIMEOUT = 15.0  # seconds without a response until a request to an HTTP server fails; s3fs has the same
DEPTH = 2  # levels of folders of an HTTP server that are listed below an address; each folder is a page


class Protocol(NamedTuple):
    """Requirements of a protocol, for messages.

    Args:
        service: Name of the service.
        form: Syntax of an address.
        package: Package that implements it, None if fsspec does.
        extra: Extra of this project that installs the package.
        owner: Company whose credentials it needs.
        credentials: How to give credentials.
        network: What to check when the service cannot be reached.
        retries: Whether its package itself retries failed requests, for a minute or longer.
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
        flag: Name of the flag with the address, for messages.
        error: Class of errors to raise.

    Raises:
        MissingDependencyError: When the package of its protocol is not installed.
        UserError: Of the class ``error``, when the address is invalid or its protocol unknown.
    """

    def __init__(self, url: str, flag: str, error: type[UserError] = ConfigurationError) -> None:
        self.url, self.flag, self.error = url.rstrip("/"), flag, error
        self.name = url.partition("://")[0]
        self.protocol = PROTOCOLS.get(self.name) or Protocol(f"'{self.name}'", f"{self.name}://path")
        self._check_protocol()
        if not re.fullmatch(r"[\w.+-]+://[^/*?\[]+(/.+)?", self.url):
            raise self.mistake(f"not an address on {self.protocol.service}; expected {self.protocol.form}")
        if page := re.fullmatch(
            r"https?://(?:www\.)?huggingface\.co/((?:datasets/)?[^/]+/[^/]+)(?:/(?:tree|blob)/.*)?", url
        ):
            raise self.mistake(f"this is a web page of the hub; give hf://{page[1]}, or its name only")

    def mistake(self, text: str) -> UserError:
        """Return an error with the flag and this address."""
        return self.error(f"--{self.flag} {self.url}: {text}")

    def _check_protocol(self) -> None:
        """Raise if the protocol is unknown, or its package is not installed."""
        from fsspec import available_protocols, get_filesystem_class, registry

        package = self.protocol.package
        if package is not None:
            require_packages(package, needed_by=f"--{self.flag} {self.url}", extra=self.protocol.extra)
        if self.name in ("file", "local"):
            raise self.mistake("give a local path without a protocol")
        if self.name not in {*available_protocols(), *registry}:  # built into fsspec, or registered by plug-ins
            hint = did_you_mean(self.name, PROTOCOLS)
            raise self.mistake(
                f"unknown protocol '{self.name}'; use {', '.join(PROTOCOLS)} or another one of fsspec.{hint}"
            )
        try:
            get_filesystem_class(self.name)
        except ImportError as absent:
            raise self.mistake(f"a package is not installed ({absent.__cause__ or absent})") from absent

    @property
    def is_http(self) -> bool:
        """Whether it is on an HTTP server, where ``?`` starts a query and folders are pages with links."""
        return self.protocol is _HTTP

    @property
    def is_glob(self) -> bool:
        """Whether it is a glob pattern."""
        return self.folder != self.url

    @property
    def folder(self) -> str:
        """The folder in which a glob pattern is matched; the whole address if it is not a pattern."""
        parts = re.split(r"[*\[]" if self.is_http else r"[*?\[]", self.url, maxsplit=1)
        return parts[0].rpartition("/")[0] if len(parts) > 1 else self.url

    def of(self, name: str) -> str:
        """Return the address of a file from its name relative to this folder, glob or single file.

        Examples:
            >>> [Address(url, "train_dataset").of("a.csv") for url in ("memory://data", "memory://d/a.csv", "memory://d/*")]
            ['memory://data/a.csv', 'memory://d/a.csv', 'memory://d/a.csv']
        """
        path = self.url.partition("?")[0] if self.is_http else self.url
        is_file = not self.is_glob and PurePosixPath(path).name == name
        return self.url if is_file else f"{self.folder}/{name}"

    def open(self) -> tuple[AbstractFileSystem, str]:
        """Return the fsspec file system, configured by the service's environment variables and by fsspec, and the path.

        Raises:
            UserError: Of the class ``error``, when it cannot be opened, for instance without credentials.
        """
        from fsspec.core import url_to_fs

        try:
            filesystem, path = url_to_fs(
                self.url, skip_instance_cache=True, use_listings_cache=False, **self._options()
            )
        except Exception as failure:  # each package raises errors of its own
            raise self.mistake(
                f"{self.protocol.service} cannot be opened ({failure}). Give {self.protocol.credentials}"
            ) from failure
        if self.protocol is _S3:
            filesystem.retries = 1  # :func:`_retried` retries requests for lists
        if self.protocol.retries:  # these packages log each failure with a traceback
            logging.getLogger(self.protocol.package).setLevel(logging.CRITICAL)
        return filesystem, path

    def _options(self) -> dict[str, Any]:
        """Return the timeouts and the number of retries of the file system."""
        from fsspec.config import conf

        mine = conf.get(self.name, {})
        if self.protocol is _S3:
            # botocore, s3fs and this program retry each other's attempts: 75 in all, without a message
            retries = {} if "AWS_MAX_ATTEMPTS" in os.environ else {"retries": {"total_max_attempts": 1}}
            return {"config_kwargs": retries | mine.get("config_kwargs", {})}
        if self.is_http:
            from aiohttp import ClientTimeout

            # the default timeout of aiohttp, five minutes, is for a whole file
            timeout = ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
            headers = {"Accept-Encoding": "identity"}  # else the sizes of compressed files are returned
            return {
                "client_kwargs": {"timeout": timeout} | mine.get("client_kwargs", {}),
                "headers": headers | mine.get("headers", {}),
            }
        return {}
