"""Values of rows as JSON that every parser reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON; numbers that are not finite become null, for JSON has none of them.

    Texts stay as they are, and what JSON has no type for, as dates, becomes a text.

    Args:
        value: The value.
        indent: Spaces before the entries of each level; None for a single line.

    Examples:
        >>> to_json({"id": 0, "text": "é", "score": float("nan"), "all": [1.5, float("-inf")]})
        '{"id": 0, "text": "é", "score": null, "all": [1.5, null]}'
    """
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain, allow_nan=False, indent=indent)
    except ValueError:  # few rows have such a number, and to look for it takes longer than to write the row
        return json.dumps(_finite(value), ensure_ascii=False, default=_plain, allow_nan=False, indent=indent)


def json_entries(keys: Sequence[str], values: Sequence[Any]) -> str:
    """Return the entries of a JSON object without its braces, to write an object in parts.

    Examples:
        >>> json_entries(["a", "b"], [1, "c"])
        '"a": 1, "b": "c"'
    """
    return to_json(dict(zip(keys, values, strict=True)))[1:-1]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else to_json(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, (float, np.floating)) and not math.isfinite(value) else value
