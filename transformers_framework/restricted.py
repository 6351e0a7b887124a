"""Types of flags that accept only some numbers; the annotation is checked when the command line is read.

They are plain ``int`` and ``float`` to the type checker and to the code that receives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """Bounds of a number, each inclusive unless it is called ``above`` or ``below``.

    Args:
        ge: Smallest value allowed.
        le: Largest value allowed.
        above: Values must be greater than this.
        below: Values must be smaller than this.
    """

    ge: float | None = None
    le: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.ge is None or value >= self.ge)
            and (self.le is None or value <= self.le)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        bounds = (("at least", self.ge), ("at most", self.le), ("greater than", self.above), ("less than", self.below))
        return " and ".join(f"{words} {bound:g}" for words, bound in bounds if bound is not None)


PositiveInt = Annotated[int, Range(ge=1)]
NonNegativeInt = Annotated[int, Range(ge=0)]
PositiveFloat = Annotated[float, Range(above=0)]
NonNegativeFloat = Annotated[float, Range(ge=0)]
Probability = Annotated[float, Range(ge=0, le=1)]
Beta = Annotated[float, Range(ge=0, below=1)]  # decay rate of a running average
Smoothing = Annotated[float, Range(ge=0, below=1)]  # share of a label that all classes have in equal parts
