"""Types of flags that accept only some numbers or texts; the annotation is checked when the command line is read.

They are plain ``int``, ``float`` and ``str`` to the type checker and to the code that receives them, and cost no
import: :mod:`transformers_framework.cli.values` turns them into the types of jsonargparse.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes, of Linux and macOS


@dataclass(frozen=True)
class Range:
    """Bounds of a number: ``ge`` and ``le`` are inclusive, ``above`` and ``below`` exclusive.

    Args:
        ge: Smallest allowed value.
        le: Largest allowed value.
        above: Exclusive lower bound.
        below: Exclusive upper bound.
    """

    ge: float | None = None
    le: float | None = None
    above: float | None = None
    below: float | None = None

    @property
    def restrictions(self) -> list[tuple[str, float]]:
        """The bounds as comparisons: ``[(">=", 1)]``."""
        bounds = ((">=", self.ge), ("<=", self.le), (">", self.above), ("<", self.below))
        return [(comparison, bound) for comparison, bound in bounds if bound is not None]

    def __str__(self) -> str:
        bounds = (("at least", self.ge), ("at most", self.le), ("greater than", self.above), ("less than", self.below))
        return " and ".join(f"{words} {bound:g}" for words, bound in bounds if bound is not None)


@dataclass(frozen=True)
class Pattern:
    """A text of a certain form.

    Args:
        regex: Regular expression for the whole text.
        example: An example of the form, for messages.
    """

    regex: str
    example: str

    def __str__(self) -> str:
        return f"like {self.example}"


PositiveInt = Annotated[int, Range(ge=1)]
NonNegativeInt = Annotated[int, Range(ge=0)]
PositiveFloat = Annotated[float, Range(above=0)]
NonNegativeFloat = Annotated[float, Range(ge=0)]
Probability = Annotated[float, Range(ge=0, le=1)]
Beta = Annotated[float, Range(ge=0, below=1)]  # decay rate of a running average
Smoothing = Annotated[float, Range(ge=0, below=1)]  # share of the probability that is spread over all classes


def is_address(text: str) -> bool:
    """Return whether a text is a remote address, ``protocol://path``, rather than a path or a name on the hub.

    Examples:
        >>> [is_address(text) for text in ("s3://bucket/path", "https://host/rows.csv", "data/rows.csv", "user/name")]
        [True, True, False, False]
    """
    return "://" in text


def without_credentials(value: object) -> object:
    """Return a value of a flag, or several, without the user names and passwords in its addresses.

    Examples:
        >>> without_credentials("postgresql://jane:secret@host/mlflow"), without_credentials(["a@b", 1])
        ('postgresql://host/mlflow', ['a@b', 1])
    """
    if isinstance(value, (list, tuple)):
        return [without_credentials(item) for item in value]
    return re.sub(r"://[^/?#\s]*@", "://", value) if isinstance(value, str) else value


@dataclass(frozen=True)
class Expanded:
    """A path in which ``~`` and ``$NAME`` are expanded as a shell does.

    Args:
        local: Whether it must be a local path; otherwise hub names and addresses are allowed too.
    """

    local: bool = False

    def __call__(self, text: str) -> str:
        """Return the expanded path.

        Raises:
            ValueError: With the reason in parentheses, when the path is impossible.

        Examples:
            >>> os.environ["RUNS"] = "/data"
            >>> Expanded()("$RUNS/outputs"), Expanded()("s3://bucket/$RUNS")
            ('/data/outputs', 's3://bucket/$RUNS')
        """
        if is_address(text):
            if self.local:
                raise ValueError(" (an address; files there must be copied, or the storage mounted)")
            return text
        path = os.path.expanduser(os.path.expandvars(text))  # noqa: PTH111
        parts = [os.fsencode(part) for part in Path(path).parts]
        if b"\0" in b"".join(parts):
            raise ValueError(" (with a null byte)")
        if max(map(len, parts), default=0) > LONGEST_NAME or sum(map(len, parts)) + len(parts) > LONGEST_PATH:
            raise ValueError(f" (a name of more than {LONGEST_NAME} bytes, or {LONGEST_PATH} in all)")
        if path.startswith("~") and not os.path.lexists(path):
            raise ValueError(f" ({Path(path).parts[0]} has no home folder here)")
        if (unset := re.search(r"\$(\w+|\{\w+\})", path)) and not os.path.lexists(path):
            raise ValueError(f" ({unset[0]} is not set in the environment)")
        return path

    def __str__(self) -> str:
        return "a path on this machine" if self.local else "a path, the name of something on the hub or an address"


Duration = Annotated[str, Pattern(r"\d+:\d+:\d+:\d+\Z", "DD:HH:MM:SS")]
LocalPath = Annotated[str, Expanded(local=True)]
Source = Annotated[str, Expanded()]  # of data or of a model: a path, a hub name or an address
