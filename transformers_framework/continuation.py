"""Checks of a run that continues a checkpoint: flags and data that must be the same, and allowed changes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers_framework.compat.lightning import BATCHES_THAT_STEPPED
from transformers_framework.constants import TRAIN
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.objectives.capabilities import ChangesLengths
from transformers_framework.registry import OPTIMIZERS, SCHEDULERS, lookup, options_of, resolve
from transformers_framework.storage.run_folders import flags_beside, flags_in_config, is_damaged
from transformers_framework.strategies.build import shards_checkpoints
from transformers_framework.strategies.weights import OPTIMIZER_STATES, has_weights_only

if TYPE_CHECKING:
    from transformers_framework.run_parts import Run

# flags that define the task, in addition to those of the pipeline: a continued run must have the same
TASK_FLAGS = ("pipeline", "max_multi_token_predictions")
DECIDES_ON_BATCHES = "it decides which rows share a batch"
# flags on which the state of a checkpoint or its order of rows depends, with the reason why they must not change
STATE_FLAGS = {
    "optimizer": "the checkpoint has the state of that optimizer, which no other can load",
    "scheduler_interval": "the schedule of the checkpoint has counted otherwise",
}
ORDER_FLAGS = {
    "seed": "it decides on the order of rows and on all that is random about them",
    **dict.fromkeys(("iterable", "overfit_batches", "length_bucketing", "max_tokens_per_batch"), DECIDES_ON_BATCHES),
}

# flags that may change in a continued run, in addition to those of the optimizer and of the schedule
OPTIMIZATION_FLAGS = frozenset(("weight_decay", "scheduler", "gradient_clip_val", "gradient_clip_algorithm"))

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Continuation:
    """A checkpoint and the run that is to continue it, to train or to test.

    Args:
        run: The run.
        start: The checkpoint, if there is one.
    """

    run: Run
    start: str | None

    @property
    def resumes(self) -> bool:
        """Whether the checkpoint is one of this run; with ``--resume``, a first start may be from ``--ckpt_path``."""
        own = self.run.folders.checkpoints
        return bool(self.run.resume) and self.start is not None and Path(self.start).parent == own

    @property
    def _flag(self) -> str:
        """Flag that gave the checkpoint, for messages."""
        return "--resume" if self.resumes else "--ckpt_path"

    @cached_property
    def outline(self) -> dict[str, Any]:
        """Contents of the checkpoint, without its tensors."""
        from transformers_framework.strategies.checkpoint_io import check_shards, read_checkpoint

        assert self.start is not None
        path, shards = Path(self.start), shards_checkpoints(self.run.options.get("strategy", "auto"))
        if shards and path.is_dir():
            return check_shards(path, flag=self._flag)
        outline = read_checkpoint(path, outline=True, flag=self._flag)
        trains = self.run.options.get("train_dataset") is not None
        return check_shards(path, flag=self._flag) if shards and trains and OPTIMIZER_STATES in outline else outline

    @property
    def is_new_training(self) -> bool:
        """Whether the checkpoint has weights only, with which a new training starts."""
        return self.start is not None and has_weights_only(Path(self.start), self.outline)

    def _kept(self, *keys: str) -> Mapping[str, Any]:
        """Return a mapping of the checkpoint by its keys, from the outermost; empty where it has none."""
        found: Any = self.outline
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    @cached_property
    def then(self) -> Mapping[str, Any]:
        """Flags of the run that wrote the checkpoint; empty for a checkpoint of another program."""
        from transformers_framework.callbacks.run_record import KEY

        text = self._kept("callbacks", KEY).get("flags")
        if not isinstance(text, str):  # an earlier version wrote it
            return flags_beside(str(self.start))
        return flags_in_config(text)

    @cached_property
    def now(self) -> Mapping[str, Any]:
        """Flags of the run as they were given: a checkpoint may decide on others."""
        return flags_in_config(self.run.config_yaml)

    @cached_property
    def changed(self) -> frozenset[str]:
        """Names of the flags that both have, with other values."""
        return frozenset(name for name in self.then.keys() & self.now.keys() if self.then[name] != self.now[name])

    @property
    def is_within_epoch(self) -> bool:
        """Whether an epoch had begun that was not over."""
        progress = self._kept("loops", "fit_loop", "epoch_progress", "current")
        return bool(progress.get("ready", 0) != progress.get("processed", 0))

    def _both(self, *names: str) -> tuple[str, str]:
        """Return flags as they were and as they are, for messages."""
        then, now = (", ".join(_as_typed(name, flags.get(name)) for name in names) for flags in (self.then, self.now))
        return then, now

    def _refusal(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"{what}. Give the same to continue it, or another --name, with --pre_trained_model, to start a new run "
            f"from its weights, as {self.run.folders.pre_trained_models / 'final'}."
        )

    @property
    def _begun(self) -> str:
        return f"run '{self.run.folders.name}' was begun" if self.resumes else f"{self.start} was trained"

    def check_file(self) -> None:
        """Check that the checkpoint can be read and matches its checksums.

        Raises:
            ConfigurationError: When it cannot be read or is damaged.
        """
        if self.start is None:
            return
        assert self.outline
        if self.resumes and self.is_new_training:
            last = self.run.folders.last
            raise ConfigurationError(
                f"--resume: {last} is {'damaged' if last.exists() else 'missing'}, and {self.start} has only weights"
                " of a run that was over: its training cannot be continued. Start a new one from them: another --name, "
                f"with --ckpt_path {self.start}."
            )
        if self.start != str(self.run.folders.undamaged) and is_damaged(Path(self.start)):
            raise ConfigurationError(
                f"{self._flag}: {self.start} is damaged: what it holds does not fit its checksums. Copy it again, or "
                "start from another checkpoint: another --name, with --ckpt_path."
            )

    def check(self) -> None:
        """Check that flags, weights and data fit the checkpoint.

        Raises:
            ConfigurationError: When they do not, with both values.
        """
        from transformers_framework.callbacks.accumulated_gradients import DATA, check_rows_of_step
        from transformers_framework.strategies.checkpoint_io import check_tensors

        if self.start is None:
            return
        run, trains = self.run, self.run.data.has("train") and not self.is_new_training
        self.check_flags(trains=trains)
        if not Path(self.start).is_dir():
            state = run.module.state_dict()
            check_tensors(self.start, self.outline["state_dict"], state, flag=self._flag)
        if trains:
            self.check_data()
        if trains and not run.allow_other_batch_size and not run.data.finds_batch_size:
            check_rows_of_step(run.data, run.trainer, dict(self._kept(DATA)))
        if trains:
            self._check_steps()

    def _check_steps(self) -> None:
        """Check that steps are left to train; log changed settings of the optimization and their first step."""
        run, step = self.run, self.outline.get("global_step")
        new = [line for line in self.changes if line.endswith(f" from step {step} on")]
        if self._is_at_end and not self.resumes:
            raise ConfigurationError(
                f"--ckpt_path: {self.start} is at step {step}, at or past the end of the training that was asked for: "
                "nothing would be trained. Raise --max_epochs or --max_steps, or leave --train_dataset out to test and "
                "predict only."
            )
        if self._is_at_end and new:
            raise ConfigurationError(
                f"--resume: run '{run.folders.name}' is at its end, step {step}, so nothing would be trained "
                f"with {new[-1].partition(' from step ')[0]}. Raise --max_epochs, --max_steps or --patience, or give "
                "the flags with which it was trained."
            )
        for line in new:
            logger.info("%s", line)

    @property
    def _logged_steps(self) -> int:
        """First step after the checkpoint, as loggers count them: from 0."""
        if self.start is None:
            return 0
        return int(self._kept("loops", "fit_loop", "epoch_loop.state_dict").get(BATCHES_THAT_STEPPED, -1)) + 1

    @property
    def _batches_done(self) -> int:
        """Batches of the epoch that are done, of the size that this run has."""
        from transformers_framework.callbacks.accumulated_gradients import DATA, GRADIENTS, rows_and_batches

        state, run = self._kept(DATA), self.run
        if "consumed" not in state:  # a checkpoint of another program
            return int(self._kept("loops", "fit_loop", "epoch_loop.batch_progress", "current").get("processed", 0))
        kept = bool(self._kept(GRADIENTS))
        return rows_and_batches(run.data, run.trainer, state, has_gradients=kept)[1]

    @property
    def _is_at_end(self) -> bool:
        """Whether a checkpoint has no step left to train."""
        from transformers_framework.callbacks.early_stopping import EarlyStopping

        steps, trainer, patience = self.run.steps, self.run.trainer, self.run.selection.patience
        epochs = self._kept("loops", "fit_loop", "epoch_progress", "current").get("processed", 0)
        if self.is_within_epoch and self._batches_done >= steps.batches:
            epochs += 1  # only its end is left
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        own = [callback.state_key for callback in callbacks if isinstance(callback, EarlyStopping)]
        waited = max((self._kept("callbacks", key).get("wait_count", 0) for key in own), default=0)
        stopped = self.resumes and patience is not None and waited >= patience
        return stopped or epochs >= steps.epochs or 0 < trainer.max_steps <= self.outline.get("global_step", 0)

    def restored_by_trainer(self, start: str | None) -> str | None:
        """Load a checkpoint with weights only into the model; return any other, from which the trainer restores all.

        Args:
            start: The checkpoint on this node; called on all ranks.
        """
        from transformers_framework.strategies.checkpoint_io import read_checkpoint

        if start is None or not self.run.trainer.strategy.broadcast(self.is_new_training):
            return start
        self.run.module.load_state_dict(read_checkpoint(start)["state_dict"])
        logger.warning("%s has weights only: a new training starts with them, at step 0", start)
        return None

    def prepare_folders(self) -> None:
        """Write the flags of the run, and remove what was written and logged after the checkpoint.

        A run that only evaluates leaves the flags of a training of its name.
        """
        from transformers_framework.loggers.interface import Continues

        run, folders = self.run, self.run.folders
        if not run.data.has(TRAIN):
            if not folders.has_training:
                folders.write_config(run.config_yaml)
            return
        folders.write_config("".join(f"# {line}\n" for line in self.changes) + run.config_yaml)
        folders.remove_damaged_last(self.start)
        if run.resume:
            states = self.outline if self.resumes else {}
            for found in run.trainer.loggers:
                if isinstance(found, Continues) and (found.state_key in states or not self.resumes):
                    found.restore(states.get(found.state_key), self._logged_steps)

    @property
    def _order_flags(self) -> Mapping[str, str]:
        """Flags that must not change within an epoch or in a resumed run, with the reasons."""
        data, spec = self.run.data, self.run.spec
        packs, owners = data.inputs.uses_document_mask, []
        if packs or data.max_tokens is not None or (data.length_bucketing and not data.iterable):
            owners.append(resolve(spec.inputs))
        if packs:
            owners += [
                objective for objective in map(resolve, spec.objectives) if issubclass(objective, ChangesLengths)
            ]
        names = {name for owner in owners for name in options_of(owner, self.run.options)}
        of_lengths = dict.fromkeys(sorted(names), "it decides on the lengths by which rows share a batch")
        seen = ", and a part of the epoch has been seen" if self.is_within_epoch else ""
        of_inputs = dict.fromkeys(spec.order_flags, DECIDES_ON_BATCHES)
        return {name: why + seen for name, why in {**of_lengths, **of_inputs, **ORDER_FLAGS}.items()}

    @property
    def _task_flags(self) -> set[str]:
        """Flags that define the task."""
        return {*TASK_FLAGS, *self.run.spec.task_flags}

    @property
    def _task_changes(self) -> list[str]:
        """Flags that define the task and have changed; flags of variants also if only one of the runs has them."""
        variants = {flag for flag in self.run.spec.variants if self.then and self.then.get(flag) != self.now.get(flag)}
        return sorted(variants | (self._task_flags & self.changed))

    def check_flags(self, *, trains: bool) -> None:
        """Check flags that must not change; warn of other flags of inputs and objectives that changed.

        Args:
            trains: Whether the run trains, not only tests.

        Raises:
            ConfigurationError: When such a flag has changed, with both values.
        """
        run = self.run
        if self.resumes and (others := self._task_changes):
            then, now = self._both(*others)
            raise self._refusal(f"--resume: {self._begun} with {then}, and this command has {now}")
        keeps_order = trains and (self.resumes or self.is_within_epoch)
        fixed = {**(STATE_FLAGS if trains else {}), **(self._order_flags if keeps_order else {})}
        for name, why in fixed.items():
            if name in self.changed:
                then, now = self._both(name)
                raise self._refusal(f"--{name}: {self._begun} with {then}, and this command has {now}: {why}")
        paths = (run.spec.inputs, *run.spec.objectives)
        names = {name for path in paths for name in options_of(resolve(path), run.options)} | self._task_flags
        if others := sorted(names & self.changed):
            logger.warning("%s was trained with %s; this run has %s.", self.start, *self._both(*others))

    @cached_property
    def changes(self) -> list[str]:
        """Changes of optimization settings in order, each with its first step."""
        from transformers_framework.callbacks.run_record import KEY

        if self.start is None or self.is_new_training:
            return []
        earlier, options = self._kept("callbacks", KEY).get("changes", []), self.run.options
        tables = ((OPTIMIZERS, "optimizer"), (SCHEDULERS, "scheduler"))
        factories = [resolve(lookup(table, options[name], name)) for table, name in tables]
        names = {name for factory in factories for name in options_of(factory, options)} | OPTIMIZATION_FLAGS
        changed = [
            f"{name} {_short(self.then[name])} → {_short(self.now[name])}" for name in sorted(names & self.changed)
        ]
        new = [f"{', '.join(changed)} from step {self.outline.get('global_step')} on"] if changed else []
        return [*(str(line) for line in earlier), *new]

    def check_data(self) -> None:
        """Check that training data, and validation data of the monitored metric, are those of the checkpoint.

        Raises:
            ConfigurationError: When they differ, with the difference.
        """
        from transformers_framework.callbacks.run_record import KEY
        from transformers_framework.data.fingerprint import difference

        run, data = self.run, self.run.data
        monitored = str(run.selection.monitor).partition("/")[0]
        for stage in data.sources:
            then = self._kept("callbacks", KEY, "data", stage)
            found = difference(then, data.fingerprints[stage]) if "columns" in then else None
            if found is None:
                continue
            what = f"--{stage}_dataset: {data.sources[stage]} has {found} when {self._begun}"
            part = "a part of the epoch has been seen" if self.is_within_epoch else "a run that resumes keeps its rows"
            if stage == "train" and (self.resumes or self.is_within_epoch):
                raise self._refusal(f"{what}; {part}")
            if stage == monitored and self.resumes:
                raise self._refusal(f"{what}; which state is best was measured on those")


def _short(value: Any) -> str:
    """Return a value as text, as short as possible.

    Examples:
        >>> [_short(value) for value in (0.001, 1e-05, 0.01, 0.0, [0.9, 0.999], None, True)]
        ['1e-3', '1e-5', '0.01', '0', '0.9 0.999', 'none', 'true']
    """
    if isinstance(value, list):
        return " ".join(map(_short, value))
    if isinstance(value, float):
        mantissa, _, exponent = f"{value:e}".partition("e")
        scientific = f"{float(mantissa):g}e{int(exponent)}"
        return min(f"{value:g}", scientific, key=len)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _as_typed(name: str, value: Any) -> str:
    flag = f"-{name}" if len(name) == 1 else f"--{name}"
    if value is None or value is False:
        return f"no {flag}"
    return flag if value is True else f"{flag} {' '.join(map(str, value)) if isinstance(value, list) else value}"
