"""A comparison as text: for terminals, in Markdown and LaTeX, and as an HTML page with curves."""

from __future__ import annotations

import html
import shutil
import textwrap
from collections.abc import Iterator

from transformers_framework.several.comparison import Cell, Comparison
from transformers_framework.several.curves import Curve, chart, series_in
from transformers_framework.several.results import is_of_class, number, scale_of
from transformers_framework.several.tables import aligned, latex, markdown

SIGNIFICANT = 0.05
NUM_COLORS = 8
MOST_CHARTS = 24
NOT_SHOWN = ("test/", "predict/")  # metrics that are logged once have no curve
STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1f2328; --soft: #59636e; --line: #d1d9e0;
  --c0: #0969da; --c1: #cf5c00; --c2: #1a7f37; --c3: #8250df;
  --c4: #bf3989; --c5: #0e7c86; --c6: #9a6700; --c7: #656d76 }
@media (prefers-color-scheme: dark) { :root { --back: #0d1117; --text: #e6edf3; --soft: #9198a1; --line: #3d444d;
  --c0: #58a6ff; --c1: #f0883e; --c2: #56d364; --c3: #bc8cff;
  --c4: #f778ba; --c5: #39c5cf; --c6: #e3b341; --c7: #9198a1 } }
body { background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; max-width: 1100px;
  margin: 2rem auto; padding: 0 1rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top;
  white-space: nowrap } th:first-child, td:first-child { text-align: left } small, .note { color: var(--soft) }
.best { font-weight: 600 } .best small { font-weight: 400 }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 1.5rem }
figure { margin: 0; min-width: 0 }
figcaption { font-weight: 600; overflow-wrap: anywhere } svg { width: 100%; height: auto }
.grid { stroke: var(--line); stroke-width: 1 } .tick { fill: var(--soft); font-size: 11px }
.curve { fill: none; stroke: var(--c); stroke-width: 1.8 } .point { fill: var(--c) } .key { color: var(--c) }
""" + "".join(f".c{n} {{ --c: var(--c{n}) }}" for n in range(NUM_COLORS))
LESS_IS_BETTER = ("loss", "perplexity", "mean_squared_error", "mean_absolute_error")
NEITHER_IS_BETTER = ("replaced_ratio", "unigram_perplexity", "null_score_threshold")


def title_of(found: Comparison) -> str:
    """Return the title: the stage and the names of the runs."""
    return f"{found.stage}: {', '.join(run.name for run in found.runs)}"


def notes(found: Comparison) -> list[str]:
    """Return sentences that explain the numbers."""
    first, several = found.runs[0].name, len(found.runs) > 1
    units = " or ".join(dict.fromkeys(found.units.values()))
    lines = ["Shares are in percent."]
    if seeded := [run for run in found.runs if len(run.members) > 1]:
        counts = ", ".join(f"{run.name} {len(run.members)}" for run in seeded)
        lines.append(f"Means ± standard deviation (n − 1) over seeds: {counts}.")
    if found.units:
        lines.append(
            f"[ ]: {100 * found.confidence:g} % confidence intervals, BCa bootstrap over {units} "
            f"({found.num_resamples:,} resamples; Efron and Tibshirani 1993). They cover the sample of the data."
        )
    corrected = f", Holm-corrected for {len(found.runs) - 1} comparisons per metric" if len(found.runs) > 2 else ""
    if found.units and several:
        lines.append(
            f"p over {units}: two-sided paired approximate randomization test of the difference to {first} "
            f"({found.num_resamples:,} exchanges; Noreen 1989){corrected}. It covers the sample of the data."
        )
    if several and len(found.runs[0].members) > 1 and len(seeded) > 1:
        lines.append(
            f"p over seeds: two-sided Welch's t-test of the difference to {first}, of one value per seed (Welch 1947)"
            f"{corrected}. It covers the randomness of training."
        )
    if found.units and several:
        lines.append(f"*: p < {SIGNIFICANT}, over {units} and, where it is given, over seeds.")
    if several and (single := [run.name for run in found.runs if len(run.members) == 1]):
        lines.append(
            f"The randomness of training is not tested where a run has one seed ({', '.join(single)}): a difference "
            "may be that of two seeds. Repeat it with --seeds."
        )
    if missing := [name for name in found.cells if name not in found.units]:
        lines.append(f"Without intervals, as they cannot be computed from predictions: {', '.join(missing)}.")
    return lines


def table_of(found: Comparison) -> list[list[str]]:
    """Return the cells of the table: a row for each metric, a column for each run."""
    rows = [["", *(run.name for run in found.runs)]]
    for name, cells in found.cells.items():
        scale = scale_of(name, [cell.value for cell in cells])
        rows.append([name, *("\n".join(_parts(cell, name, scale, found.units.get(name))) for cell in cells)])
    return rows


def _parts(cell: Cell, name: str, scale: float, unit: str | None) -> Iterator[str]:
    deviation = "" if cell.deviation is None else f" ± {number(cell.deviation, name, scale)}"
    yield number(cell.value, name, scale) + deviation
    if cell.low is not None:
        yield f"[{number(cell.low, name, scale)}, {number(cell.high, name, scale)}]"
    if cell.difference is not None:
        yield number(cell.difference, name, scale, signed=True) + "*" * cell.is_below(SIGNIFICANT)
        for tested, p_value in ((unit, cell.p_value), ("seeds", cell.p_of_seeds)):
            if p_value is not None:
                yield f"p over {tested} {'< 0.001' if p_value < 0.001 else f'{p_value:.3f}'}"


def for_terminal(found: Comparison) -> str:
    """Return a comparison as aligned text."""
    width = shutil.get_terminal_size((100, 24)).columns - 1
    lines = (textwrap.fill(line, width, break_on_hyphens=False) for line in notes(found))
    return "\n\n".join([title_of(found), aligned(table_of(found)), "\n".join(lines)])


def in_markdown(found: Comparison) -> str:
    """Return a comparison in Markdown."""
    return "\n\n".join([markdown(table_of(found)), "\n".join(f"- {line}" for line in notes(found))])


def in_latex(found: Comparison) -> str:
    r"""Return a comparison as a LaTeX table, which needs ``\usepackage{booktabs}``; the notes are comments."""
    return "\n".join([*(f"% {line}" for line in (title_of(found), *notes(found))), latex(table_of(found))])


def as_page(found: Comparison) -> str:
    """Return a comparison as an HTML page, which needs no other files and no network."""
    head, *rows = table_of(found)
    lines = [f"<th>{html.escape(head[0])}</th>"]
    keys = (f'<th class="c{place % NUM_COLORS}"><span class="key">■</span> ' for place in range(len(found.runs)))
    lines += [f"{key}{html.escape(name)}</th>" for key, name in zip(keys, head[1:], strict=True)]
    body = "".join(f"<tr>{_row(found, name, cells)}</tr>" for name, *cells in rows)
    figures = "".join(_charts(found))
    charts = (
        f'<div class="charts">{figures}</div>\n<p class="note">Over optimizer steps; each seed has its own curve.</p>'
        if figures
        else '<p class="note">There are none: every metric was logged once.</p>'
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title_of(found))}</title><style>{STYLE}</style></head>\n<body>"
        f"<h1>{html.escape(title_of(found))}</h1>\n"
        f'<div class="wide"><table><thead><tr>{"".join(lines)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>\n"
        f'<p class="note">{"<br>".join(map(html.escape, ["Bold: the best of a row.", *notes(found)]))}</p>\n'
        f"<h2>Curves</h2>\n{charts}</body></html>\n"
    )


def _row(found: Comparison, name: str, cells: list[str]) -> str:
    directions = {
        best["monitor"].partition("/")[2]: best.get("direction")
        for run in found.runs
        for member in run.members
        if (best := member.results.get("best"))
    }
    direction = directions.get(name.partition("/")[2]) or ("min" if name.endswith(LESS_IS_BETTER) else "max")
    values = [cell.value for cell in found.cells[name] if cell.value is not None]
    has_best = values and len(found.runs) > 1 and not name.endswith(NEITHER_IS_BETTER)
    best = (min if direction == "min" else max)(values) if has_best else None
    parts = [f"<td>{html.escape(name)}</td>"]
    for cell, text in zip(found.cells[name], cells, strict=True):
        first, *more = (html.escape(line) for line in text.split("\n"))
        kind = ' class="best"' if best is not None and cell.value == best else ""
        parts.append(f"<td{kind}>{first}{''.join(f'<br><small>{line}</small>' for line in more)}</td>")
    return "".join(parts)


def _charts(found: Comparison) -> Iterator[str]:
    curves: dict[str, list[Curve]] = {}
    for color, run in enumerate(found.runs):
        for member in run.members:
            for name, points in series_in(list(member.curves())).items():
                if not name.startswith(NOT_SHOWN) and not is_of_class(name):
                    curves.setdefault(name, []).append(Curve(member.name, color % NUM_COLORS, points))
    shown = [name for name in curves if any(len(curve.points) > 1 for curve in curves[name])]
    for name in sorted(shown, key=lambda name: (not name.startswith("valid/"), name))[:MOST_CHARTS]:
        yield f"<figure><figcaption>{html.escape(name)}</figcaption>{chart(name, curves[name])}</figure>"


FORMATS = {"terminal": for_terminal, "markdown": in_markdown, "latex": in_latex, "html": as_page}
