"""The callbacks of a run: those of every run, those of its flags and those of its pipeline."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from transformers_framework.registry import RUN_CALLBACKS, options_of, resolve
from transformers_framework.run_parts import EndsRun

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from transformers_framework.run_parts import Run

logger = logging.getLogger(__name__)


def run_callbacks(run: Run) -> list[pl.Callback]:
    """Return all callbacks of a run, in the order in which they are called."""
    from transformers_framework.callbacks.accumulated_gradients import AccumulatedGradients
    from transformers_framework.callbacks.export import Exporter
    from transformers_framework.callbacks.graceful_shutdown import GracefulShutdown
    from transformers_framework.callbacks.non_finite import TerminateOnNonFinite
    from transformers_framework.callbacks.predictions import Predictions
    from transformers_framework.callbacks.random_state import RandomState
    from transformers_framework.callbacks.resumed_optimization import ResumedOptimization
    from transformers_framework.callbacks.run_record import RunRecord
    from transformers_framework.callbacks.training_metrics import TrainingMetrics
    from transformers_framework.callbacks.truncation_report import TruncationReport
    from transformers_framework.callbacks.user_callbacks import user_callbacks

    exporter = Exporter(run.tokenizer, lambda: run.final_options, run.max_length)
    callbacks: list[pl.Callback] = [
        GracefulShutdown(),
        RandomState(run.seed),
        AccumulatedGradients(run.allow_other_batch_size),
        TrainingMetrics(),
        ResumedOptimization(),
        RunRecord(lambda: run.config_yaml, run.data, run.folders.checkpoints, run.continued),
        TruncationReport(*run.inputs.truncation(run.options["max_sequence_length"])),
    ]
    if not run.is_fast_dev_run:
        callbacks.append(Predictions(run.folders, run.data))
        callbacks += run.selection.callbacks(run.folders, exporter)
    callbacks += run.pipeline_callbacks
    if run.data.has("train"):
        callbacks.insert(0, TerminateOnNonFinite(run.data.source_of("train").place))
    callbacks += built_callbacks(run, RUN_CALLBACKS)
    return callbacks + user_callbacks(**options_of(user_callbacks, run.options))


def end_run(run: Run) -> None:
    """Call all callbacks that act at the end of a run, in their order, then close the loggers.

    One that fails does not fail the run: it is complete.

    Args:
        run: The run.
    """
    ending = [each for each in run.trainer.callbacks if isinstance(each, EndsRun)]  # type: ignore[attr-defined]
    steps = [(callback, partial(callback.on_run_end, run)) for callback in ending]
    for owner, step in [*steps, *((each, partial(each.finalize, "success")) for each in run.trainer.loggers)]:
        try:
            step()
        except Exception as error:
            logger.warning("%s failed at the end of the run, which is complete: %r", type(owner).__name__, error)
            logger.debug("%s", type(owner).__name__, exc_info=True)


def built_callbacks(run: Run, paths: Iterable[str]) -> list[pl.Callback]:
    """Return the callbacks that functions make of a run.

    Args:
        run: The run.
        paths: Import paths of the functions. Their keyword-only arguments are flags; one that returns None has none.
    """
    factories = [resolve(path) for path in paths]
    made = [factory(run, **options_of(factory, run.options)) for factory in factories]
    return [callback for callback in made if callback is not None]
