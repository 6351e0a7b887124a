"""Checks of a run after its parts are built, before anything is trained or written."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from transformers_framework.constants import EVALUATED, STAGES, TRAIN, Stage
from transformers_framework.distributed.ranks import is_rank_zero
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.objectives.capabilities import head_of
from transformers_framework.registry import resolve
from transformers_framework.runtime.machine_limits import check_workers
from transformers_framework.storage.overwriting import check_sources

if TYPE_CHECKING:
    from transformers_framework.run_parts import Run
    from transformers_framework.storage.run_folders import RunFolders

# heads of pre-trained models; fine-tuned models have others
PRE_TRAINED = ("Model", "ForPreTraining", "ForMaskedLM", "ForCausalLM", "ForConditionalGeneration", "LMHeadModel")

TRAINED_OTHERWISE = "Give the --pipeline and the classes that it was trained with."
NOT_TRAINED = "Give a checkpoint of this task as --pre_trained_model or --ckpt_path, or a --train_dataset."

BYTES_OF_A_TOKEN = 4 * 8  # ids, mask, token types and labels, int64 each

logger = logging.getLogger(__name__)


def checks_of(run: Run) -> list[Callable[[], None]]:
    """Return the checks of a run; each raises its own error, so that all errors can be reported."""
    of_steps = (batch_size,) if run.data.finds_batch_size else (steps, schedule)
    in_training = (monitor, optimizer, *of_steps)
    checks = (
        metrics,
        *(in_training if run.data.has("train") else ()),
        *map(resolve, run.spec.checks),
        checkpoint,
        continuation,
        heads,
        workers,
        space,
    )
    return [partial(check, run) for check in checks]


def check_folders(given: Mapping[str, object], folders: RunFolders, *, writes: bool) -> None:
    """Check that no files of an earlier run would be overwritten, and that the checkpoint to start from exists.

    Args:
        given: The value of every flag.
        folders: Folders of the run.
        writes: Whether the run writes files.

    Raises:
        ConfigurationError: When files would be overwritten, or the checkpoint is missing.
    """
    resume, overwrite, checkpoint = (given.get(name) for name in ("resume", "overwrite", "ckpt_path"))
    if resume and overwrite:
        raise ConfigurationError("--resume continues a run and --overwrite removes it: give one of them.")
    if checkpoint is not None and is_rank_zero() and not Path(str(checkpoint)).exists():
        raise ConfigurationError(f"--ckpt_path: there is no file {checkpoint}.")
    predicts = tuple(stage for stage in ("test", "predict") if given.get(f"{stage}_dataset"))
    trains = given.get("train_dataset") is not None
    if resume and not trains:
        raise ConfigurationError(
            "--resume continues training, and there is no --train_dataset. To test or predict, give --ckpt_path "
            f"{folders.best}."
        )
    if is_rank_zero() and writes:
        if overwrite and trains:
            check_sources(given, folders.all)
        folders.check_free(trains=trains, resume=bool(resume), overwrite=bool(overwrite), predicts=predicts)


def metrics(run: Run) -> None:
    """Check that each metric of ``--metrics`` has inputs."""
    from transformers_framework.metrics.added import check_added
    from transformers_framework.objectives.objective import active, stage_metrics

    stages: list[Stage] = [stage for stage in (TRAIN, *EVALUATED) if run.data.has(stage)]
    if asked := run.options.get("metrics"):
        by_stage = {stage: active(run.objectives, stage) for stage in stages}
        fed = {o.name: [stage_metrics(o, stage) for stage in stages if o in by_stage[stage]] for o in run.objectives}
        check_added(asked, fed)


def monitor(run: Run) -> None:
    """Check that the monitored name is logged; warn if its worst value would be selected as best."""
    run.selection.check_monitor()


def optimizer(run: Run) -> None:
    """Check that the optimizer supports the strategy and the schedule, and that its package is installed."""
    from transformers_framework.optimizers.build import check_optimizer, require_package

    names = ("optimizer", "strategy", "scheduler", "num_warmup_steps")
    flags = {name: run.options[name] for name in names if name in run.options}
    check_optimizer(chosen := flags.pop("optimizer"), run.options, **flags)
    require_package(chosen)


def batch_size(run: Run) -> None:
    """Check that the batch size can be found by steps of training."""
    from transformers_framework.callbacks.accumulated_gradients import has_gradients

    trainer, shards = run.trainer, not has_gradients(run.trainer.strategy)
    grouping = run.data.grouping_objective
    reasons = {
        "lists differ in their number of rows": grouping is not None and grouping.num_groups(TRAIN) is not None,
        f"--strategy {run.options['strategy']} shards the training, which steps on one device do not": shards,
        "with --compile, each number of rows that is tried would be compiled": run.options.get("compile", False),
        f"--precision {trainer.precision} replaces layers of the model": trainer.precision == "transformer-engine",
    }
    if reason := next((reason for reason, is_met in reasons.items() if is_met), None):
        raise ConfigurationError(f"--batch_size auto: {reason}. Give a number of rows.")


def steps(run: Run) -> None:
    """Check that batches, epochs and steps fit together; warn if training ends before the first validation."""
    steps, trainer, monitored = run.steps, run.trainer, str(run.selection.monitor)
    steps.check(trainer, validates=run.data.has("valid"))
    first, batches = steps.first_validation(trainer), steps.all_batches(trainer)
    is_selected, validates = monitored.startswith("valid/"), run.data.has("valid")
    if (is_selected or (validates and not run.selection.averages_weights)) and batches < first < math.inf:
        logger.warning(
            "%straining ends after batch %d and would be validated after batch %d. %s Give %s for more.",
            *(f"--monitor {monitored}: " if is_selected else "--valid_dataset: ", batches, first),
            "So its last state is validated, and no other can be best." if is_selected else "So nothing is validated.",
            " and ".join(steps.remedies(trainer)),
        )
    run.selection.check_averaging(run.steps.epochs, run.options.get("strategy", "auto"))


def schedule(run: Run) -> None:
    """Check that the schedule fits the number of steps."""
    run.module.check_schedule(run.trainer, run.steps.total, run.steps.epochs)


def checkpoint(run: Run) -> None:
    """Check that the checkpoint can be read."""
    run.continued.check_file()


def continuation(run: Run) -> None:
    """Check that the run continues its checkpoint with the same task, model and data."""
    run.continued.check()


def heads(run: Run) -> None:
    """Check that predictions do not use newly initialized weights; warn if only a test does."""
    data, options = run.data, run.options
    if data.has("train") or run.start is not None or run.is_fast_dev_run:
        return
    source, config = options.get("pre_trained_model"), run.config
    module = run.module
    used = {name: objective for stage in STAGES if data.has(stage) for name, objective in module.active(stage).items()}
    unused = module.objectives.keys() - used.keys()
    initialized = [part for name, part in module.model.newly_initialized.items() if name not in unused]
    tuned = [name for name in config.architectures or () if source and not name.endswith(PRE_TRAINED)]
    needed = tuple(head_of(objective, config.model_type).removeprefix("AutoModel") for objective in used.values())
    other = [name for name in tuned if not name.endswith(needed)]
    if source is not None and not initialized and not other:
        return
    if other:
        reason = f"nothing is trained, and {source} is a {', '.join(other)}"
    else:
        what = f"{', '.join(dict.fromkeys(initialized))} of {source}" if source else "all of the model"
        reason = f"nothing is trained, and the weights of {what} are newly initialized"
    of_variants = [resolve(variant.remedy)(config) for variant in run.spec.variants.values() if variant.remedy]
    remedies = [*filter(None, of_variants), TRAINED_OTHERWISE if tuned else NOT_TRAINED]
    if data.has("predict") or tuned:
        raise ConfigurationError(f"--pre_trained_{'model' if source else 'config'}: {reason}. {remedies[0]}")
    logger.warning("Metrics will be those of chance: %s. %s", reason, remedies[0])


def workers(run: Run) -> None:
    """Check that shared memory is large enough for the batches of worker processes."""
    data, trainer = run.data, run.trainer
    rows = max(data.batch_sizes[stage] for stage in data.sources)
    bytes_of_batch = rows * run.inputs.max_length * BYTES_OF_A_TOKEN * trainer.num_devices
    check_workers(data.workers_of(trainer), bytes_of_batch)


def space(run: Run) -> None:
    """Check that there is enough disk space for checkpoints."""
    if run.data.has("train") and run.writes and is_rank_zero():
        run.folders.check_space(run.module.parameters())
