"""What must be right once all parts of a run are there, and before anything is trained or written."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from transformers_framework.constants import STAGES
from transformers_framework.distributed.ranks import is_rank_zero
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.runtime.machine_limits import check_workers

Experiment = Any  # it imports this module

# heads of pre-training: what was tuned has another one
PRE_TRAINED = ("Model", "ForPreTraining", "ForMaskedLM", "ForCausalLM", "ForConditionalGeneration", "LMHeadModel")

BYTES_OF_A_TOKEN = 4 * 8  # ids, mask, token types and labels, int64 each

logger = logging.getLogger(__name__)


def checks_of(experiment: Experiment) -> list[Callable[[], None]]:
    """Return what is to be checked of a run; each raises on its own, so that all mistakes can be found."""
    in_training = (monitor, optimizer, steps, schedule)
    checks = (
        *(in_training if experiment.data.has("train") else ()),
        corpus,
        checkpoint,
        continuation,
        heads,
        workers,
        space,
    )
    return [partial(check, experiment) for check in checks]


def monitor(experiment: Experiment) -> None:
    """Raise when nothing of the monitored name is logged; warn when its worst value would be kept."""
    experiment.selection.check_monitor(experiment.log_names, experiment.objectives)


def optimizer(experiment: Experiment) -> None:
    """Raise when the optimizer does not go with the strategy or the schedule, or needs what is not installed."""
    from transformers_framework.optimizers.build import check_optimizer, require_package

    names = ("optimizer", "strategy", "scheduler", "num_warmup_steps")
    flags = {name: experiment.options[name] for name in names if name in experiment.options}
    check_optimizer(chosen := flags.pop("optimizer"), experiment.options, **flags)
    require_package(chosen)


def steps(experiment: Experiment) -> None:
    """Raise when batches, epochs and steps do not go together; warn when training ends before any validation."""
    steps, trainer, monitored = experiment.steps, experiment.trainer, str(experiment.selection.monitor)
    steps.check(trainer, validates=experiment.data.has("valid"))
    first, batches = steps.first_validation(trainer), steps.all_batches(trainer)
    if monitored.startswith("valid/") and batches < first < math.inf:
        logger.warning(
            "--monitor %s: training ends after batch %d and would be validated after batch %d. So its last state is "
            "validated, and no other can be best. Give %s for more.",
            *(monitored, batches, first, " and ".join(steps.remedies(trainer))),
        )
    experiment.selection.check_averaging(experiment.steps.epochs, experiment.options.get("strategy", "auto"))


def schedule(experiment: Experiment) -> None:
    """Raise when the schedule does not fit the number of steps."""
    experiment.module.check_schedule(experiment.trainer, experiment.steps.total, experiment.steps.epochs)


def corpus(experiment: Experiment) -> None:
    """Raise when a right passage is not in the corpus that is searched."""
    if experiment.search is not None:
        experiment.search.check()


def checkpoint(experiment: Experiment) -> None:
    """Raise when the checkpoint to start from or to test cannot be read."""
    experiment.continued.check_file()


def continuation(experiment: Experiment) -> None:
    """Raise when a checkpoint would be continued as another run, with another model or with other data."""
    experiment.continued.check()


def heads(experiment: Experiment) -> None:
    """Raise when something would be predicted with weights that were drawn and never trained; warn of a test."""
    data, options = experiment.data, experiment.options
    if data.has("train") or experiment.start is not None or experiment.is_fast_dev_run:
        return
    source, config = options.get("pre_trained_model"), experiment.config
    module = experiment.module
    used = {name: objective for stage in STAGES if data.has(stage) for name, objective in module.active(stage).items()}
    unused = module.objectives.keys() - used.keys()
    drawn = [
        type(part).__name__
        for name, part in module.named_modules()
        if getattr(part, "starts_fresh", False) and name.rpartition(".")[2] not in unused
    ]
    tuned = [name for name in config.architectures or () if source and not name.endswith(PRE_TRAINED)]
    needed = tuple(objective.head_for(config.model_type).removeprefix("AutoModel") for objective in used.values())
    other = [name for name in tuned if not name.endswith(needed)]
    if source is not None and not drawn and not other:
        return
    if other:
        reason = f"nothing is trained, and {source} is a {', '.join(other)}"
    else:
        what = f"{', '.join(dict.fromkeys(drawn))} of {source}" if source else "all of the model"
        reason = f"nothing is trained, and the weights of {what} were just drawn"
    if k := getattr(config, "num_candidates", None):
        remedy = f"It ranks {k} candidates together: give -k {k} --classification_head_type "
        remedy += f"{config.classification_head_type}."
    elif tuned:
        remedy = "Give the --pipeline and the classes that it was trained with."
    else:
        remedy = "Give a checkpoint of this task as --pre_trained_model or --ckpt_path, or a --train_dataset."
    if data.has("predict") or tuned:
        raise ConfigurationError(f"--pre_trained_{'model' if source else 'config'}: {reason}. {remedy}")
    logger.warning("Metrics will be those of chance: %s. %s", reason, remedy)


def workers(experiment: Experiment) -> None:
    """Raise when worker processes could not share the batches that they prepare."""
    data, trainer = experiment.data, experiment.trainer
    rows = max(data.batch_sizes[stage] for stage in data.sources)
    bytes_of_batch = rows * experiment.inputs.max_length * BYTES_OF_A_TOKEN * trainer.num_devices
    check_workers(data.workers_of(trainer), bytes_of_batch)


def space(experiment: Experiment) -> None:
    """Raise when what training writes has no room."""
    if experiment.data.has("train") and experiment.writes and is_rank_zero():
        experiment.folders.check_space(experiment.module.parameters())
