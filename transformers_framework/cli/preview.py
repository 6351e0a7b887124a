"""``--preview``: rows as the model reads them, and what it must predict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from transformers_framework.cli.marks import COUNTED, KEPT, MASKED, PUT_IN, WRITTEN, Pen, kinds_of
from transformers_framework.constants import IGNORE_INDEX, ROW_IDS, TRAIN
from transformers_framework.exceptions import ConfigurationError, printable
from transformers_framework.objectives.capabilities import Corrupts, SparseHead, corrupt_on_device

if TYPE_CHECKING:
    from transformers_framework.constants import Stage
    from transformers_framework.data.datamodule import DataModule
    from transformers_framework.data.sampler import BatchRequest
    from transformers_framework.experiment import Experiment
    from transformers_framework.objectives.objective import Objective


class Row(NamedTuple):
    """A row before and after its corruption.

    Args:
        number: Index in the data set, from 0.
        before: Tokens without corruption ``(L,) int64``.
        after: Tokens that the model reads ``(L',) int64``; at the same positions if there is no target.
        kinds: Kind of corruption of each ``(L',) int64``.
        target: Target of the decoder, if it reconstructs the text ``(T,) int64``.
        notes: Other labels of the row.
    """

    number: int
    before: np.ndarray
    after: np.ndarray
    kinds: np.ndarray
    target: np.ndarray | None
    notes: list[str]


def preview(experiment: Experiment, num_rows: int, *, colours: bool = False, checked: bool = False) -> Iterator[str]:
    """Yield the lines of a report on the first rows of the first epoch of a run, without starting it.

    Args:
        experiment: The run.
        num_rows: Number of rows, of the training data or else of the first stage that has data.
        colours: Whether to print marks in colours.
        checked: Whether the run was already checked, without problems.

    Raises:
        ConfigurationError: Lists all problems of the run.
    """
    from transformers_framework.cli.check import find_problems

    if not checked:
        experiment.prepare_machine()
        if problems := find_problems(experiment):
            raise ConfigurationError("\n".join(map(str, problems)))
    data, pen = experiment.data, Pen(experiment.tokenizer, colours)
    stage: Stage = next(iter(data.sources))
    rows, total, place = read(experiment, stage, num_rows), data.num_rows[stage], data.source_of(stage).place
    of_all = "" if total is None else f" of {total:,}"
    yield f"{stage}: {printable(data.sources[stage])}, {len(rows):,}{of_all} rows as in the first epoch"
    yield from _legend(pen, rows, predicts=any(isinstance(o, SparseHead) for o in experiment.objectives))
    for row in rows:
        found = {name: int((row.kinds == kind).sum()) for kind, name in COUNTED.items()}
        counts = [f"{len(row.after)} tokens", *(f"{count} {name}" for name, count in found.items() if count)]
        yield f"\nrow {row.number} ({place(row.number)}): {', '.join(counts)}"
        yield from (f"  {line}" for line in (*_texts(pen, row), *map(printable, row.notes)))


def read(experiment: Experiment, stage: Stage, num_rows: int) -> list[Row]:
    """Return the first rows of a stage before and after the corruption of the first epoch."""
    data, collate = experiment.data, experiment.data.collator(stage)
    request, columns = _first(data, stage, num_rows)
    clean = collate.inputs.post_process(collate.rows_of(request, columns))
    batch, own = collate.arrays((request, columns))
    seen = _on_device(batch, own, collate.objectives, stage)
    corrupting = next((o for o in collate.objectives if isinstance(o, Corrupts) and "labels" in own[o.name]), None)
    others = [objective for objective in collate.objectives if objective is not corrupting]
    rows = []
    for row, number in enumerate(batch[ROW_IDS].tolist()):
        there = batch["attention_mask"][row] > 0
        before, after, target = clean["input_ids"][row][clean["attention_mask"][row] > 0], seen[row][there], None
        kinds = np.full(len(after), KEPT)
        if corrupting is not None:
            entries = own[corrupting.name]
            labels = entries["labels"][row]
            if "decoder_input_ids" in entries:
                kinds, target = _put_in(after, before), labels[labels != IGNORE_INDEX]
            else:
                mask = experiment.tokenizer.mask_token_id
                kinds = kinds_of(before, after, labels[there], mask, sparse=isinstance(corrupting, SparseHead))
        notes = [f"→ {objective.describe({**batch, **own[objective.name]}, row)}" for objective in others]
        rows.append(Row(number, before, after, kinds, target, [*notes, *_neighbours(data, stage, number)]))
    return rows


def _first(data: DataModule, stage: Stage, num_rows: int) -> tuple[BatchRequest, Mapping[str, Sequence[Any]]]:
    """Return the request for the first rows of a stage, or its first groups of rows, and their columns."""
    from transformers_framework.data.sampler import requests_in_order

    names = list(data.columns(stage))
    dataset = data.datasets[stage].select_columns(names)
    if stage != TRAIN or not data.iterable:
        groups = data.inputs.groups(stage, data.seed, 0)
        num_places = len(dataset) if groups is None else len(groups)
        request = requests_in_order([(0, min(num_rows, num_places))], groups)[0]
        return request, dataset[list(request.rows)]
    examples = list(dataset.take(num_rows))
    columns = {name: [example[name] for example in examples] for name in names}
    return requests_in_order([(0, len(examples))])[0], columns


def _on_device(
    batch: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]], objectives: Sequence[Objective], stage: Stage
) -> np.ndarray:
    """Return the inputs of the model after corruption on the device, if there is any ``(B, L) int64``."""
    import torch

    def tensors(entries: Mapping[str, Any]) -> dict[str, Any]:
        return {key: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for key, v in entries.items()}

    inputs: dict[str, Any] = {**tensors(batch), **{name: tensors(entries) for name, entries in own.items()}}
    corrupt_on_device(objectives, inputs, stage)
    ids: np.ndarray = inputs["input_ids"].numpy()
    return ids


def _put_in(tokens: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Return which tokens are from the text, and which were inserted (sentinels, prefixes) ``(T,) int64``."""
    return np.where(np.isin(tokens, text), KEPT, PUT_IN)


def _neighbours(data: DataModule, stage: Stage, number: int) -> list[str]:
    """Return a note on which rows are packed into the same batch entry as a row."""
    if stage != TRAIN or data.bins is None:
        return []
    place = int(np.flatnonzero(data.bins.rows == number)[0])
    mates = data.bins[int(np.searchsorted(data.bins.sizes.cumsum(), place, side="right"))]
    others = ", ".join(str(mate) for mate in sorted(mates) if mate != number)
    return [f"packed with rows {others}" if others else "packed alone"]


def _texts(pen: Pen, row: Row) -> Iterator[str]:
    if row.target is None:
        yield pen.write(row.after, row.kinds, row.before)
        return
    written = np.where(_put_in(row.target, row.before) == PUT_IN, PUT_IN, WRITTEN)
    yield f"text:   {pen.write(row.before, np.full(len(row.before), KEPT))}"
    yield f"input:  {pen.write(row.after, row.kinds)}"
    yield f"target: {pen.write(row.target, written)}"


def _legend(pen: Pen, rows: Sequence[Row], *, predicts: bool) -> Iterator[str]:
    """Yield a line that explains the marks that occur, and what the model must predict."""
    occurring = {kind for row in rows for kind in row.kinds.tolist()} - {KEPT}
    if not occurring:
        return
    put_in = np.concatenate([row.after[row.kinds == PUT_IN] for row in rows])
    samples = {MASKED: pen.tokenizer.mask_token, PUT_IN: pen.text(put_in[-1:])}
    marks = [f"{pen.mark(kind, samples.get(kind, 'token'), 'original')} {COUNTED[kind]}" for kind in sorted(occurring)]
    judges = "to be predicted: the original of each" if predicts else "to be detected: what was replaced"
    aim = "to be written: the target" if PUT_IN in occurring else judges
    yield f"marks: {', '.join(marks)}; {aim}"
