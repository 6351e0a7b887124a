"""Lengths of model inputs in tokens, of a sample of the rows of each stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transformers_framework.constants import IGNORE_INDEX, STAGES, TRAIN, Stage
from transformers_framework.reports.figures.canvas import DASHES, GREY, SERIES, canvas, png, whole_numbers

if TYPE_CHECKING:
    from transformers_framework.data.datamodule import DataModule
    from transformers_framework.run_parts import Run

SAMPLED = 2000  # rows per stage
TOGETHER = 200  # rows that are padded to the same length
TARGET = "target_"  # of decoders, as the prefix of the inputs of passages is "passage_"
MOST_BINS = 40


@dataclass(frozen=True)
class Lengths:
    """Lengths of model inputs.

    Args:
        tokens: Number of tokens of each input, special tokens included, by stage ``(N,) int64``.
        truncated: Share of the rows of each stage that were truncated.
        limit: Longest input in tokens.
        what: Which texts they are: inputs, passages or targets.
    """

    tokens: dict[Stage, NDArray[np.int64]]
    truncated: dict[Stage, float]
    limit: int
    what: str = "inputs"


def sample_lengths(run: Run, size: int = SAMPLED) -> dict[str, Lengths]:
    """Return the lengths of a sample of the rows of each stage, by the name of their figure.

    Rows are encoded as in the first epoch. Streams have no rows to choose from and are left out.
    """
    found: dict[str, dict[Stage, NDArray[np.int64]]] = {}
    truncated: dict[Stage, float] = {}
    data = run.data
    for stage in STAGES:
        if stage not in data.datasets or (stage == TRAIN and data.iterable) or not data.num_entries(stage):
            continue
        parts: dict[str, list[NDArray[Any]]] = {}
        for batch, own in _encoded(data, stage, size):
            prefixes = [prefix for prefix in data.inputs.key_prefixes if f"{prefix}attention_mask" in batch]
            lengths = {f"{prefix}lengths": (batch[f"{prefix}attention_mask"] > 0).sum(axis=1) for prefix in prefixes}
            for targets in own.values():
                if "decoder_input_ids" in targets:
                    lengths[f"{TARGET}lengths"] = (targets["labels"] != IGNORE_INDEX).sum(axis=1)
            for name, values in (lengths | {"truncated": batch["truncated"]}).items():
                parts.setdefault(name, []).append(values)
        truncated[stage] = float(np.concatenate(parts.pop("truncated")).mean())
        for name, values_of in parts.items():
            found.setdefault(name, {})[stage] = np.concatenate(values_of)
    limits = list(run.options["max_sequence_length"])
    kinds = {"lengths": (limits[0] * data.inputs.num_joined, "inputs"), f"{TARGET}lengths": (limits[-1], "targets")}
    other = (limits[-1], "passages")
    return {name: Lengths(tokens, truncated, *kinds.get(name, other)) for name, tokens in found.items()}


def _encoded(data: DataModule, stage: Stage, size: int) -> Iterator[tuple[dict[str, Any], dict[str, dict[str, Any]]]]:
    """Yield the arrays of evenly spaced rows, or groups of rows, of a stage, in batches."""
    from transformers_framework.data.loader import RowReader
    from transformers_framework.data.sampler import BatchRequest, requests_in_order

    groups = None if data.inputs.uses_document_mask else data.inputs.groups(stage, data.seed, 0)
    total = len(data.datasets[stage]) if groups is None else len(groups)
    places = np.unique(np.linspace(0, total - 1, min(size, total)).astype(np.int64)).tolist()
    reader = RowReader(data.datasets[stage], data.columns(stage), data.inputs.token_columns)
    collator = data.collator(stage)
    for start in range(0, len(places), TOGETHER):
        requests = requests_in_order([(place, place + 1) for place in places[start : start + TOGETHER]], groups)
        rows = tuple(row for request in requests for row in request.rows)
        sizes = None if groups is None else tuple(len(request.rows) for request in requests)
        yield collator.arrays(reader[BatchRequest(0, rows, sizes)])


def draw_lengths(data: Lengths, of: str) -> bytes:
    """Return a histogram of lengths by stage, with the longest possible one, as PNG."""
    longest = max(data.limit, *(int(tokens.max(initial=1)) for tokens in data.tokens.values()))
    width = -(-longest // MOST_BINS)  # the same number of lengths in each bin
    edges = np.arange(0, longest + width, width) + 0.5
    with canvas() as (figure, (axes,)):
        for (stage, tokens), colour, dashes in zip(data.tokens.items(), SERIES, DASHES, strict=False):
            shares = np.histogram(tokens, edges)[0] / max(1, len(tokens)) * 100
            label = f"{stage}: median {np.median(tokens):.0f}, {100 * data.truncated[stage]:.1f} % of rows truncated"
            axes.stairs(shares, edges, color=colour, linestyle=dashes, linewidth=1.8, label=label)
        axes.axvline(data.limit, color=GREY, linestyle=":", label=f"--max_sequence_length {data.limit}")
        axes.set_xlim(0, longest * 1.02 + 1)
        axes.set_ylim(bottom=0)
        whole_numbers(axes.xaxis)
        axes.set_xlabel("length (tokens, special tokens included)")
        axes.set_ylabel(f"share of {data.what} (%)")
        count = max(len(tokens) for tokens in data.tokens.values())
        axes.set_title(f"Lengths of {data.what}, {of}\nup to {count:,} rows of each stage")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=1, fontsize=10)
        return png(figure)
