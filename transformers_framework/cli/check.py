"""``--check``: a report on everything that can be known before training, with all problems at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.cli.stand_ins import build_parts
from transformers_framework.constants import ROW_IDS, TRAIN
from transformers_framework.exceptions import UserError, caught, printable
from transformers_framework.objectives.capabilities import HeadFromData, Remarks
from transformers_framework.preflight import checks_of
from transformers_framework.reports.start_lines import shown_defaults, unvalidated
from transformers_framework.run_parts import ReportsData
from transformers_framework.runtime.steps import has_default_length
from transformers_framework.runtime.trainer import build_trainer

if TYPE_CHECKING:
    from transformers_framework.constants import Stage
    from transformers_framework.data.queries import QueryReport
    from transformers_framework.experiment import Experiment

NUM_SAMPLES = 3
NUM_ROWS_MEASURED = 2000
BYTES_OF_STATE = 16  # a float32 weight, its gradient, and two moments of Adam


def check(experiment: Experiment) -> bool:
    """Print a report on a run without starting it; return whether it has no problems."""
    experiment.prepare_machine()
    problems = find_problems(experiment)
    print(printable("\n".join(_report(experiment, problems))))  # noqa: T201
    return not problems


def find_problems(experiment: Experiment) -> list[UserError]:
    """Build the parts of a run one by one and collect all errors; a part that fails does not hide errors of others."""
    problems: list[UserError] = []
    with caught(problems.append):
        experiment.check_folders()
    if build_parts(experiment, problems.append):
        with caught(problems.append):
            try:
                assert experiment.data
            finally:
                problems += experiment.data_errors
    if not experiment.only_checks and "data" in vars(experiment):
        with caught(problems.append):
            assert experiment.selection
        unknown = [part for part in experiment.objectives if isinstance(part, HeadFromData) and not part.is_ready]
        if experiment.data.is_loaded and not unknown:
            with caught(problems.append):
                assert experiment.trainer
            for check in checks_of(experiment):
                with caught(problems.append):
                    check()
            return _distinct(problems)
    with caught(problems.append):
        build_trainer(experiment.given, experiment.folders, pre_trains=experiment.spec.pre_trains)
    return _distinct(problems)


def _distinct(problems: list[UserError]) -> list[UserError]:
    return list({str(problem): problem for problem in problems}.values())


def _report(experiment: Experiment, problems: list[UserError]) -> Iterator[str]:
    from transformers_framework.data.queries import QueryReport

    if problems:
        yield f"{len(problems)} problem{'s' if len(problems) > 1 else ''}:"
        for number, problem in enumerate(problems, 1):
            yield f"  {number}. " + str(problem).replace("\n", "\n     ")
        return
    yield f"Run '{experiment.folders.name}': {experiment.pipeline_name} with {experiment.config.model_type}"
    if defaults := shown_defaults(experiment):
        yield defaults
    queries = QueryReport(experiment.data)
    for stage in experiment.data.sources:
        yield from _stage(experiment, stage, queries)
    for part in experiment.pipeline_callbacks:
        if isinstance(part, ReportsData):
            yield from ("", *part.data_lines())
    if experiment.data.has("train"):
        yield from _steps(experiment)
    yield from _model(experiment)
    yield "No problems found."


def _stage(experiment: Experiment, stage: Stage, queries: QueryReport) -> Iterator[str]:
    from transformers_framework.data.sampler import requests_in_order
    from transformers_framework.data.unknown import lost_marks, sampled_texts, tokens_per_word, unknown_tokens

    data, num_rows = experiment.data, experiment.data.num_rows[stage]
    num_read = data.num_read.get(stage, num_rows)
    made = f", {num_rows:,} inputs of the model" if num_rows is not None and num_rows != num_read else ""
    yield f"\n{stage}: {data.sources[stage]}, {'unknown' if num_read is None else f'{num_read:,}'} rows{made}"
    found = unknown_tokens(data, stage)
    unknown = f"  {'WARNING: ' if found.is_much else ''}{found}"
    texts = sampled_texts(data, stage)
    if (lost := lost_marks(data, texts)).is_much:
        unknown += f"\n  WARNING: {lost}"
    if num_rows is None or (data.iterable and stage == "train"):
        yield unknown
        return
    collate, size = data.collator(stage), data.batch_sizes[stage]
    rows = data.datasets[stage].select_columns(list(data.columns(stage)))
    groups = data.inputs.groups(stage, data.seed, 0)
    num_places = num_rows if groups is None else len(groups)
    starts = range(0, num_places, max(size, num_places * size // NUM_ROWS_MEASURED))
    requests = requests_in_order([(start, min(start + size, num_places)) for start in starts], groups)
    batches = [collate.arrays((request, rows[list(request.rows)])) for request in requests]
    measured = sum(len(batch[ROW_IDS]) for batch, _ in batches)
    cut = sum(int(batch["truncated"].sum()) for batch, _ in batches)
    names = [f"{prefix}attention_mask" for prefix in data.inputs.key_prefixes]
    masks = [[batch[name][: len(batch[ROW_IDS])] for batch, _ in batches if name in batch] for name in names]
    tokens, places = (sum(int(count(mask)) for of_name in masks for mask in of_name) for count in (np.sum, np.size))
    of_texts = [np.concatenate([mask.sum(axis=1) for mask in of_name]) for of_name in masks if of_name]
    per_word = tokens_per_word(data, texts)
    what, reason = experiment.inputs.truncation(experiment.options["max_sequence_length"])
    lengths = f"{tokens / measured:.1f} tokens per row, {per_word:.1f} per word"
    yield f"  {lengths}, {100 * cut / measured:.1f} % of the {what} {reason}"
    if stage == TRAIN and data.bins is not None:
        packed = f"{len(data.bins):,} rows of {experiment.max_length} tokens"
        yield f"  packed into {packed}, {100 * data.bins.fill:.1f} % full"
    elif stage == TRAIN and data.token_batches is not None:
        share, count = 1 - data.token_batches.fill, len(data.token_batches)
        yield f"  at most {100 * share:.1f} % padding in {count:,} batches of at most {data.max_tokens:,} tokens"
    elif stage == TRAIN and data.length_bucketing and len({len(of_text) for of_text in of_texts}) == 1:
        share = 1 - tokens / places_by_length(np.stack(of_texts), size)
        yield f"  about {100 * share:.1f} % padding in batches of rows of similar length ({measured:,} rows measured)"
    else:
        yield f"  {100 * (1 - tokens / places):.1f} % padding in the order of the file ({measured:,} rows measured)"
    yield unknown
    for objective in collate.objectives:
        if isinstance(objective, Remarks):
            yield from (f"  {remark}" for remark in objective.remarks(data.read[stage], stage))
    yield from (f"  {remark}" for remark in queries.remarks(stage))
    yield from _samples(experiment, *batches[0], collate.objectives)


def places_by_length(lengths: np.ndarray, batch_size: int) -> int:
    """Return the number of tokens, padding included, of rows that are sorted by length and cut into batches.

    Args:
        lengths: Tokens of each of the T texts of N rows, which are padded by themselves ``(T, N) int64``.
        batch_size: Rows of a batch.

    Examples:
        >>> places_by_length(np.array([[3, 1, 2], [1, 9, 5]]), batch_size=2)
        26
    """
    ordered = lengths[:, np.argsort(-lengths.sum(axis=0), kind="stable")]
    parts = np.split(ordered, range(batch_size, lengths.shape[1], batch_size), axis=1)
    return sum(int(part.max(axis=1).sum()) * part.shape[1] for part in parts)


def _samples(experiment: Experiment, batch: Any, own: Any, objectives: list[Any]) -> Iterator[str]:
    for row in range(min(NUM_SAMPLES, len(batch[ROW_IDS]))):
        text = experiment.tokenizer.decode(batch["input_ids"][row][batch["attention_mask"][row] > 0])
        wanted = "; ".join(objective.describe({**batch, **own[objective.name]}, row) for objective in objectives)
        yield f"  row {batch[ROW_IDS][row]}: {text!r} → {wanted}"


def _steps(experiment: Experiment) -> Iterator[str]:
    trainer, steps = experiment.trainer, experiment.steps
    max_tokens, batches_of_step = experiment.data.max_tokens, trainer.world_size * trainer.accumulate_grad_batches
    size = f"{experiment.data.batch_sizes['train'] * batches_of_step:,} rows"
    if max_tokens is not None:
        size = f"at most {max_tokens * batches_of_step:,} tokens"
    if experiment.data.finds_batch_size:
        yield "\nsteps: their number is known when --batch_size auto is found, before training"
        return
    batches = f"{_known(steps.batches)} batch{'' if steps.batches == 1 else 'es'}"
    yield f"\nsteps: {batches} and {_known(steps.per_epoch)} optimizer step{'s' * (steps.per_epoch != 1)} per epoch"
    is_default = has_default_length(experiment.options)
    default = "; by default, without --max_epochs and --max_steps" if is_default else ""
    yield f"  {steps}, with {size} each{default}"
    if text := unvalidated(experiment):
        yield f"  {text}"


def _known(count: float) -> str:
    return "unknown" if math.isinf(count) else f"{int(count):,}"


def _model(experiment: Experiment) -> Iterator[str]:
    parameters = list(experiment.module.parameters())
    count = sum(parameter.numel() for parameter in parameters)
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    yield f"\nmodel: {count:,} parameters, {trained:,} of them trainable"
    state = count * 4 + trained * (BYTES_OF_STATE - 4)
    activations = activation_bytes(
        experiment.config,
        rows=experiment.data.batch_sizes["train"],
        length=experiment.inputs.max_length,
        narrow="16" in str(experiment.trainer.precision),
    )
    yield f"  estimated memory for training: {state / 2**30:.2f} GiB for weights, gradients and optimizer state,"
    yield f"  {activations / 2**30:.2f} GiB for activations at the maximum length"


def activation_bytes(config: Any, *, rows: int, length: int, narrow: bool) -> int:
    """Estimate the memory of the activations of one batch, in bytes.

    34 bytes for each layer, position and hidden unit in 16 bits; attention's matrices are not kept by sdpa.
    (Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models", section 4.1.)

    Args:
        config: Config of the model.
        rows: Rows of a batch.
        length: Tokens of a row.
        narrow: Whether activations have 16 bits, else 32.
    """
    layers, hidden = getattr(config, "num_hidden_layers", 12), getattr(config, "hidden_size", 768)
    return rows * length * hidden * layers * 34 * (1 if narrow else 2)
