"""Tables as text: aligned for terminals, Markdown, and LaTeX with booktabs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

GAP = "  "
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "±": r"$\pm$",
    "–": "--",
    "−": "$-$",
    "<": "$<$",
    ">": "$>$",
    "Δ": r"$\Delta$",
}

Rows = Sequence[Sequence[str]]


def aligned(rows: Rows, left: int = 1) -> str:
    r"""Return a table with aligned columns; the first row is the header, and cells may have several lines.

    Args:
        rows: Cells of each row.
        left: Number of columns that are aligned on the left; all others are aligned on the right.

    Examples:
        >>> print(aligned([["", "mean"], ["accuracy", "85.3"], ["f1", "9.0\n± 0.5"]]))
                   mean
        accuracy   85.3
        f1          9.0
                  ± 0.5
    """
    lines = [line for row in rows for line in itertools.zip_longest(*(c.split("\n") for c in row), fillvalue="")]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        GAP.join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown(rows: Rows) -> str:
    r"""Return a table of Markdown; the first column is aligned on the left, all others on the right.

    Examples:
        >>> print(markdown([["", "a|b"], ["accuracy", "85.3"]]))
        |  | a\|b |
        |:---|---:|
        | accuracy | 85.3 |
    """
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    ruler = "|:---|" + "---:|" * (len(rows[0]) - 1)
    return "\n".join(
        [_barred(cells[0]), ruler, *map(_barred, cells[1:])],
    )


def _barred(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def latex(rows: Rows) -> str:
    r"""Return a table of LaTeX, which needs ``\usepackage{booktabs}``.

    Examples:
        >>> print(latex([["", "a_b"], ["accuracy", "85.3 ± 0.9"]]))
        \begin{tabular}{lr}
        \toprule
         & a\_b \\
        \midrule
        accuracy & 85.3 $\pm$ 0.9 \\
        \bottomrule
        \end{tabular}
    """
    lines = [
        " & ".join("".join(LATEX.get(sign, sign) for sign in cell.replace("\n", " ")) for cell in row) for row in rows
    ]
    head, *body = (rf"{line} \\" for line in lines)
    columns = "l" + "r" * (len(rows[0]) - 1)
    return "\n".join(
        [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    )
