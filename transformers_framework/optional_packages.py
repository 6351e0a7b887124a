"""Optional packages of flags and commands: whether they are installed, and the extra that installs them."""

from __future__ import annotations

import importlib.util

from transformers_framework.exceptions import MissingDependencyError


def is_installed(package: str) -> bool:
    """Return whether a package is installed; a folder of its name, such as the one that wandb writes, is none.

    Examples:
        >>> is_installed("json"), is_installed("absent_package")
        (True, False)
    """
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None  # a folder without __init__.py has none


def require_packages(*packages: str, needed_by: str, extra: str | None) -> None:
    """Check that packages are installed, without importing them.

    Args:
        *packages: Their import names.
        needed_by: Flag or command that needs them.
        extra: The extra of this project that installs them; None if they are installed by their own names.

    Raises:
        MissingDependencyError: With the first that is not installed.
    """
    for package in packages:
        if not is_installed(package):
            raise MissingDependencyError(package, needed_by, extra)
