"""The look of all figures: size, colours, grid. Uses matplotlib's objects only, no state of ``pyplot``."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

DPI = 100  # pixels per inch; TensorBoard shows one pixel per pixel
WIDTH, HEIGHT = 8.0, 5.0  # inches
# (Okabe, Ito 2008, "Color Universal Design"), told apart with any colour vision, and by brightness
BLUE, ORANGE, GREEN, RED, BLACK, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#000000", "#8C8C8C"
SERIES = (BLUE, RED, GREEN, ORANGE, "#CC79A7", "#56B4E9")
DASHES = ("-", "--", "-.", ":", "-", "--")  # lines differ in grey too
MOST_POINTS = 1000  # of a line; more cannot be told apart on 800 pixels

STYLE: dict[str, Any] = {
    "font.size": 11,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
    "savefig.dpi": DPI,
}


@contextlib.contextmanager
def canvas(
    rows: int = 1, *, width: float = WIDTH, height: float = HEIGHT, ratios: tuple[float, ...] | None = None
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure and its panels, one below the other, which share the horizontal axis.

    Args:
        rows: Number of panels.
        width: Inches.
        height: Inches.
        ratios: Relative heights of the panels.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(mpl.rcParamsDefault), mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        panels = figure.subplots(rows, 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": ratios})
        yield figure, [panel[0] for panel in panels]


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file; the same figure has the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def whole_numbers(axis: Axis, most: int = 9) -> None:
    """Put at most so many ticks of an axis at whole numbers, with separators of thousands."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(most, integer=True, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(with_thousands)


def with_thousands(value: float, _: Any = None) -> str:
    """Return a number on an axis, with separators of thousands.

    Examples:
        >>> with_thousands(12000.0), with_thousands(0.5)
        ('12,000', '0.5')
    """
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"


def shortened(text: str, longest: int = 24) -> str:
    """Return a name in at most so many characters.

    Examples:
        >>> shortened("a-very-long-name-of-a-class", 10)
        'a-very-lo…'
    """
    text = text.replace("$", r"\$")  # no formula
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
