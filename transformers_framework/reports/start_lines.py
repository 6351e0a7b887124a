"""Lines about a run at its start: the model, its training, and what the run will not do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from transformers_framework.constants import TRAIN
from transformers_framework.runtime.steps import has_default_length

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from transformers_framework.run_parts import Run

DEVICES = {"cpu": "CPU", "cuda": "GPU", "mps": "MPS"}


def start_lines(run: Run, trainer: pl.Trainer) -> Iterator[str]:
    """Yield what is trained and how; and that nothing is validated or selected, where that is so.

    Args:
        run: The run.
        trainer: Its trainer, before it shards the weights.
    """
    if run.options.get("enable_model_summary") is not False:
        yield _model(run, trainer)
    validates = run.data.has("valid") and run.options.get("limit_val_batches") != 0
    if run.is_fast_dev_run:
        return
    if text := shown_defaults(run):
        yield text
    if text := unvalidated(run):
        yield text
    tested = " and tested" if run.data.has("test") else ""
    if run.selection.monitor is None and validates:
        weights = "averaged" if run.selection.averages_weights else "last"
        yield f"Nothing is monitored, so no checkpoint is selected as best: the {weights} weights are exported{tested}."
    elif run.selection.monitor is None:
        yield (
            f"Without validation data (--valid_dataset), nothing is validated and no checkpoint is selected as best: "
            f"the last weights are exported{tested}."
        )


def shown_defaults(run: Run) -> str:
    """Return the most important flags that were not given, with their values; empty where all were given.

    Args:
        run: The run, whose data were checked.
    """
    shown = {name: value for name, value in run.by_default.items() if value is not None}
    texts = {name: " ".join(map(str, value)) if isinstance(value, list) else value for name, value in shown.items()}
    flags = [f"--{name} {text}" for name, text in texts.items()]
    best = "highest" if run.selection.direction == "max" else "lowest"
    return f"By default: {', '.join(flags)}{f' (the {best} is best)' if 'monitor' in shown else ''}" if flags else ""


def unvalidated(run: Run) -> str:
    """Return how many steps of a training come after its last validation; empty if there are none, or it has no end.

    If even the first validation would come later, the checks before training warn of it.

    Args:
        run: The run, whose data were checked.
    """
    if not run.data.has("valid") or run.options.get("limit_val_batches") == 0 or run.selection.averages_weights:
        return ""
    last, total = run.steps.last_validation(run.trainer), run.steps.total
    if not 0 < last < total < math.inf:
        return ""
    return (
        f"{total - last:,.0f} of {total:,.0f} optimizer steps come after the last validation, at step {last:,.0f}, and "
        f"are not validated. Give --max_steps {last:.0f}, or another --val_check_interval."
    )


def _model(run: Run, trainer: pl.Trainer) -> str:
    parameters = list(run.module.parameters())
    total, trained = (sum(p.numel() for p in parameters if p.requires_grad or every) for every in (True, False))
    kind, world = trainer.strategy.root_device.type, trainer.world_size
    size = run.data.max_tokens or run.data.batch_sizes[TRAIN]
    unit = "rows" if run.data.max_tokens is None else "tokens at most"
    factors = [
        f"{size:,}",
        *([f"{world} ranks"] if world > 1 else []),
        *([f"{trainer.accumulate_grad_batches} batches"] if trainer.accumulate_grad_batches > 1 else []),
    ]
    rows = size * world * trainer.accumulate_grad_batches
    product = f" ({' × '.join(factors)})" if len(factors) > 1 else ""
    return (
        f"{run.config.model_type}: {total:,} parameters, {'all' if total == trained else f'{trained:,}'} trained; "
        f"precision {trainer.precision} on {world} {DEVICES.get(kind, kind)}{'s' * (world > 1)}; {rows:,} {unit} per "
        f"step{product}"
    )


def length_of(run: Run) -> str:
    """Return how long the training is, in words.

    Args:
        run: The run.
    """
    default = " (the default: set --max_epochs or --max_steps)" if has_default_length(run.options) else ""
    return f"{run.steps}{default}"
