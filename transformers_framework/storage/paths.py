"""Checks of local paths: whether a string looks like a path, which part is missing, whether it stays in its folder."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

from transformers_framework.exceptions import did_you_mean


def is_inside(name: str) -> bool:
    r"""Return whether a relative path, as a file refers to it, stays inside the folder, on any operating system.

    Examples:
        >>> [is_inside(name) for name in ("1_Pooling", "a/../b", "", "../b", "a/../../b", "/etc", "c:b", "..\\b", "\0")]
        [True, True, True, False, False, False, False, False, False]
    """
    parts = os.path.normpath(name.replace("\\", "/")).split("/")
    return parts[0] not in ("", "..") and not PureWindowsPath(name).drive and "\0" not in name


def looks_local(source: str, suffixes: tuple[str, ...] = ()) -> bool:
    """Return whether a string that is no existing path looks like one: by its start, its end, or its folder."""
    parent = Path(source).expanduser().parent
    return (
        source.startswith(("/", ".", "~"))
        or source.endswith("/")
        or source.lower().endswith(suffixes)
        or (parent != Path() and parent.is_dir())
    )


def missing(path: Path) -> str:
    """Describe which part of a path does not exist, with the closest existing name."""
    while not path.parent.exists():
        path = path.parent
    parent = path.parent
    names = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() else []
    if (hint := did_you_mean(path.name, names)) or not names:
        return f"{path} does not exist.{hint}"
    more = ", …" if len(names) > 10 else ""
    return f"{path} does not exist. {parent} holds: {', '.join(names[:10])}{more}."
