"""A run: builds all parts from flags, trains, tests the best state and predicts."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from transformers_framework.batch_size_search import find_batch_size
from transformers_framework.constants import AUTO, EVALUATED, Stage
from transformers_framework.continuation import Continuation
from transformers_framework.defaults import BY_RUN, SHOWN, kept_values
from transformers_framework.display import bars_cleared
from transformers_framework.distributed.processes import distributed_run, share_checkpoint
from transformers_framework.distributed.ranks import is_rank_zero
from transformers_framework.distributed.rendezvous import Rendezvous
from transformers_framework.exceptions import UserError
from transformers_framework.objectives.capabilities import ConfiguresInputs, head_of
from transformers_framework.preflight import check_folders, checks_of
from transformers_framework.registry import PipelineSpec, given_flags, options_of, pipeline_spec, resolve
from transformers_framework.restricted import LocalPath, NonNegativeInt, PositiveFloat
from transformers_framework.run_callbacks import built_callbacks, end_run, run_callbacks
from transformers_framework.runtime.failures import explaining_failures
from transformers_framework.runtime.garbage_collection import freeze_start_up_objects
from transformers_framework.runtime.machine import prepare_machine
from transformers_framework.runtime.steps import Steps
from transformers_framework.runtime.train_log import TrainLog, train_log
from transformers_framework.runtime.trainer import build_trainer
from transformers_framework.storage.run_folders import RunFolders

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from transformers_framework.callbacks.selection import Selection
    from transformers_framework.data.datamodule import DataModule
    from transformers_framework.inputs.inputs import Inputs
    from transformers_framework.models.auto import HeadSpec
    from transformers_framework.models.model import Model
    from transformers_framework.objectives.objective import Objective
    from transformers_framework.pipelines.pipeline import Pipeline

Purpose = Literal["run", "check", "preview"]

logger = logging.getLogger(__name__)


class Experiment:
    """One run: trains, tests the best state and predicts, as its flags ask.

    Each part is built once, when it is first needed, so that ``--check`` can build them one by one.

    Args:
        given: The value of every flag.
        as_yaml: Writes flags as a file for ``--config``.
        purpose: A run; a check, which collects all mistakes in the data instead of stopping at the first; or a preview,
            which does the same and never writes files.
        named: Names of the flags that were given; the others have their defaults.
        pipeline: What the model learns; --help without --pipeline lists the pipelines.
        model: Model family of transformers; auto reads it from the checkpoint.
        name: Name of the run and of its folders.
        output_dir: Folder of the outputs of all runs.
        seed: Seed of all random number generators.
        resume: Continue from the last checkpoint of this run if there is one, otherwise start the run.
        ckpt_path: Lightning checkpoint to continue from, or to test or predict with if nothing is trained.
        overwrite: Replace an earlier run of this name: remove its files when this one has saved its first checkpoint.
        allow_other_batch_size: Continue from a checkpoint even if an optimizer step now has another number of rows.
        rendezvous_timeout: Seconds that the ranks of a run wait for each other before it starts. Missing ranks are
            logged at once and every minute.
        hang_timeout: Seconds after which a run with several ranks is stopped if one of them does not respond, because
            it is stopped or its machine or network is frozen. It is logged after 30 seconds; a busy rank responds.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        as_yaml: Callable[[Mapping[str, Any]], str] = lambda flags: "",
        purpose: Purpose = "run",
        named: Collection[str] = (),
        *,
        pipeline: str,
        model: str,
        name: str,
        output_dir: LocalPath = "outputs",
        seed: NonNegativeInt = 1337,
        resume: bool = False,
        ckpt_path: LocalPath | None = None,
        overwrite: bool = False,
        allow_other_batch_size: bool = False,
        rendezvous_timeout: PositiveFloat = 1800.0,
        hang_timeout: PositiveFloat = 300.0,
    ) -> None:
        self.given, self.as_yaml, self.purpose, self.named = dict(given), as_yaml, purpose, frozenset(named)
        self.pipeline_name, self.model_name, self.seed = pipeline, model, seed
        self.spec: PipelineSpec = pipeline_spec(pipeline, given_flags(given))
        self.folders = RunFolders(output_dir, name)
        self.resume, self.ckpt_path, self.overwrite = resume, ckpt_path, overwrite
        self.allow_other_batch_size = allow_other_batch_size
        self.rendezvous_timeout, self.hang_timeout = rendezvous_timeout, hang_timeout
        self.data_errors: list[UserError] = []  # of a check
        self.only_checks = False  # of the data, where a check has stand-ins for other parts
        self.metrics: dict[str, float] = {}  # of training and of each evaluated stage, by their log names
        self.started = time.monotonic()

    # ---------------------------------------------------------------- parts

    @cached_property
    def known(self) -> dict[str, Any]:
        """The value of every flag; flags that were not given may have values of the checkpoint."""
        given = self.given | kept_values(self.given, self.folders, resume=self.resume)
        if self.spec.remembers is None:
            return given
        remembered = resolve(self.spec.remembers)
        found: dict[str, Any] = remembered(
            **options_of(remembered, {name: v for name, v in given.items() if v != AUTO})
        )
        return given | found

    @cached_property
    def options(self) -> dict[str, Any]:
        """The value of every flag; flags that were not given may have values of the checkpoint or of the model."""
        from transformers_framework.models.positions import default_length

        if self.known["max_sequence_length"] != AUTO:
            return self.known
        longest = default_length(self.config, self.tokenizer, **options_of(default_length, self.known))
        lengths: list[int] = resolve(self.spec.inputs).default_lengths(longest, self.known)
        return self.known | {"max_sequence_length": lengths}

    @property
    def final_options(self) -> dict[str, Any]:
        """The same with the values that depend on the data, known after they were checked."""
        return self.options | self.data.flags | self.selection.flags

    @property
    def by_default(self) -> dict[str, Any]:
        """Flags that were not given and whose defaults users should know, with their values."""
        names = [n for n in SHOWN if n in self.given and (n not in self.named or self.given[n] == AUTO)]
        return {n: self.final_options[n] for n in names if n != "learning_rate" or self.data.has("train")}

    @property
    def config_yaml(self) -> str:
        """The flags as a file for ``--config``, which repeats the run; known after the data were checked."""
        return self.as_yaml(self.given | {name: self.final_options[name] for name in BY_RUN})

    @cached_property
    def config(self) -> Any:
        """Config of the model, before heads change it."""
        from transformers_framework.models.auto import check_pair, load_config

        config = load_config(**options_of(load_config, self.known))
        check_pair(self.pipeline_name, self.spec, config.model_type)
        return config

    def config_of(self, objective: str) -> Any:
        """Return the config of an objective's head in the checkpoint; all heads have that of the model."""
        return self.config

    @cached_property
    def tokenizer(self) -> Any:
        """Tokenizer of the run."""
        from transformers_framework.models.tokenizers import load_tokenizer

        return load_tokenizer(self.config, **options_of(load_tokenizer, self.known))

    @cached_property
    def inputs(self) -> Inputs:
        """Converter of rows to model inputs."""
        from transformers_framework.inputs.inputs import InputNeeds
        from transformers_framework.models.positions import check_length
        from transformers_framework.models.segments import type_vocabulary
        from transformers_framework.objectives.objective import active

        kind, objectives, options = resolve(self.spec.inputs), self.objectives, dict(self.options)
        asking = [objective for objective in objectives if isinstance(objective, ConfiguresInputs)]
        for objective in asking:
            options |= objective.input_options
        predicting = active(objectives, "predict")
        needs = InputNeeds(
            word_ids=any(objective.needs_word_ids for objective in asking),
            tokens_to_fill=tuple(
                token for objective in asking if objective in predicting for token in objective.tokens_to_fill
            ),
            separates_segments=all(objective.separates_segments for objective in asking),
        )
        inputs: Inputs = kind(self.tokenizer, type_vocabulary(self.config), needs, **options_of(kind, options))
        check_length(self.config, self.max_length, inputs.num_joined)
        return inputs

    @property
    def max_length(self) -> int:
        """Longest input of the model in tokens; texts that are corrupted may be longer."""
        return int(self.options["max_sequence_length"][0])

    @cached_property
    def objectives(self) -> list[Objective]:
        """The objectives of the pipeline."""
        from transformers_framework.models.output_layer import known_classes
        from transformers_framework.objectives.objective import Setup

        objectives = []
        for kind in map(resolve, self.spec.objectives):
            config, trained = self.config_of(kind.name), self.options.get("pre_trained_model") is not None
            classes = known_classes(config, head_of(kind, config.model_type)) if trained else None
            lengths, metrics = self.options["max_sequence_length"], tuple(self.options.get("metrics", ()))
            setup = Setup(self.tokenizer, config, classes, lengths, self.pipeline_name, metrics)
            objectives.append(kind(setup, **options_of(kind, self.options)))
        return objectives

    @cached_property
    def data(self) -> DataModule:
        """The data of all stages, loaded and checked."""
        from transformers_framework.data.datamodule import DataModule
        from transformers_framework.data.limits import Limits
        from transformers_framework.data.preparation import Preparation

        options = self.options
        parts = Limits(**options_of(Limits, options)), Preparation(**options_of(Preparation, options))
        data = DataModule(self.inputs, self.objectives, self.seed, options, *parts, **options_of(DataModule, options))
        data.load(None if self.purpose == "run" else self.data_errors.append, only_checks=self.only_checks)
        return data

    @cached_property
    def module(self) -> Pipeline:
        """Model, losses, metrics and optimization."""
        import pytorch_lightning as pl

        from transformers_framework.models.auto import head_spec
        from transformers_framework.models.segments import grow_type_vocabulary, type_vocabulary

        assert self.data  # classes are known after the data were checked
        pl.seed_everything(self.seed, verbose=False)
        heads = {objective.name: head_spec(objective, self.config.model_type) for objective in self.objectives}
        num_types, config = self.inputs.num_token_types, copy.deepcopy(self.config)
        if num_types > 1 and not type_vocabulary(config):
            grow_type_vocabulary(config, num_types)
        model = self.load_model(heads, config)
        if num_types > max(1, type_vocabulary(config)):
            grow_type_vocabulary(model, num_types)
        kind: type[Pipeline] = resolve(self.spec.module)
        return kind(model, self.objectives, self.options, self.inputs, **options_of(kind, self.options))

    def load_model(self, heads: Mapping[str, HeadSpec], config: Any) -> Model:
        """Return the model with its heads, by the names of their objectives."""
        load = resolve(self.spec.model)
        model: Model = load(heads, config, **options_of(load, self.options))
        return model

    @cached_property
    def pipeline_callbacks(self) -> list[pl.Callback]:
        """Callbacks that the row of the pipeline adds."""
        return built_callbacks(self, self.spec.callbacks)

    @cached_property
    def selection(self) -> Selection:
        """Selection of the best state and early stopping."""
        from transformers_framework.callbacks.selection import Selection

        return Selection(self.objectives, lambda: self.log_names, **options_of(Selection, self.options))

    @property
    def log_names(self) -> list[str]:
        """Names that training logs and that can be monitored."""
        from transformers_framework.pipelines.log_names import log_names

        stages: list[Stage] = [stage for stage in ("train", "valid") if self.data.has(stage)]
        if self.options.get("limit_val_batches") == 0:
            stages = ["train"]
        return [name for stage in stages for name in log_names(self.objectives, stage)]

    @cached_property
    def trainer(self) -> pl.Trainer:
        """Lightning's trainer, with the flags and callbacks of the run."""
        flags = {"validates": self.data.has("valid"), "config": self.config, "pre_trains": self.spec.pre_trains}
        return build_trainer(self.options, self.folders, run_callbacks(self), **flags)

    def stand_in(self, **parts: Any) -> None:
        """Use other parts in place of those that cannot be built: the data are then checked, and nothing else."""
        vars(self).update(parts)
        self.only_checks = True

    # ---------------------------------------------------------------- the run

    def run(self) -> None:
        """Train, test the best state, predict: each stage that has data.

        Raises:
            UserError: When flags or data are invalid, before anything is trained or overwritten.
            RunError: When a run with valid flags and data fails.
        """
        self.prepare_machine()
        with train_log(self.folders) as log, Rendezvous(self.rendezvous_timeout) as rendezvous, bars_cleared():
            self._run(rendezvous, log)

    def _run(self, rendezvous: Rendezvous, log: TrainLog) -> None:
        from transformers_framework.data.unknown import report_unknown

        trains = self.given.get("train_dataset") is not None
        self.check_folders()
        assert self.trainer is not None
        assert self.module is not None  # all is built before anything is written
        for check in checks_of(self):
            check()
        if is_rank_zero():
            report_unknown(self.data)
        writes = is_rank_zero() and self.writes
        if writes:
            self.folders.lock(overwrite=self.overwrite and trains)
        try:
            with explaining_failures(self.folders.output_dir):
                freeze_start_up_objects()
                rows = self.data.fingerprints.summaries
                with distributed_run(self.trainer, rendezvous, self.final_options, rows, self.hang_timeout):
                    if self.writes:
                        log.open(self.trainer.global_rank)
                    find_batch_size(self)
                    if writes:  # when all processes agree
                        self.continued.prepare_folders()
                    self._run_stages(trains)
        finally:
            self.folders.unlock()

    @property
    def is_fast_dev_run(self) -> bool:
        """Whether the run only tries a few batches of each stage (``--fast_dev_run``), and writes no files."""
        return bool(self.given.get("fast_dev_run"))

    @property
    def writes(self) -> bool:
        """Whether the run writes files."""
        return not self.is_fast_dev_run and self.purpose != "preview"

    def _run_stages(self, trains: bool) -> None:
        from transformers_framework.callbacks.early_stopping import reason_of_end
        from transformers_framework.pipelines.log_names import reproducible

        trainer, module, data = self.trainer, self.module, self.data
        if trains:
            start = share_checkpoint(trainer, self.start, self.folders.checkpoints)
            if (restored := self.continued.restored_by_trainer(start)) is not None:
                logger.info("Continuing %s", restored)
            trainer.fit(module, data, ckpt_path=restored)
            self.metrics |= reproducible(trainer.callback_metrics)
            if reason := reason_of_end(trainer):
                logger.info("Training ended early, after step %d: %s.", trainer.global_step, reason)
        weights = share_checkpoint(trainer, self._weights(trains), self.folders.checkpoints)
        for stage in EVALUATED:
            if data.has(stage) and not (trains and stage == "valid"):
                self._evaluate(stage, weights)
        if data.has("predict"):
            trainer.predict(module, data, ckpt_path=weights, return_predictions=False)
        end_run(self)

    @property
    def steps(self) -> Steps:
        """Batches and optimizer steps of the training."""
        return Steps.of(self.trainer, self.data.num_entries("train"), self.data.entries_per_batch)

    def check_folders(self) -> None:
        """Check that no files of an earlier run would be overwritten, and that the checkpoint to start from exists."""
        check_folders(self.given, self.folders, writes=self.writes)

    def prepare_machine(self) -> None:
        """Configure the process before torch creates its first tensor or a worker is forked."""
        from transformers_framework.runtime.precision import set_float32_matmul_precision

        device = prepare_machine(self.given)
        set_float32_matmul_precision(device, **options_of(set_float32_matmul_precision, self.given))

    @cached_property
    def start(self) -> str | None:
        """Checkpoint that training starts from; only rank 0 looks for the last one of the run."""
        if self.resume and is_rank_zero() and (found := self.folders.resumable()):
            return str(found)
        return self.ckpt_path

    @cached_property
    def continued(self) -> Continuation:
        """The checkpoint to start from or to test, compared with this run; only on rank 0 there may be one."""
        return Continuation(self, self.start if is_rank_zero() else None)

    def _weights(self, trained: bool) -> str | None:
        """Return the checkpoint that is evaluated: the best where a metric is monitored; None for the last weights."""
        if not trained:
            return self.ckpt_path
        if self.folders.selects_best and self.folders.best.exists() and not self.is_fast_dev_run:
            return str(self.folders.best)
        return None

    def _evaluate(self, stage: Stage, weights: str | None) -> None:
        last = "the last weights" if self.data.has("train") else "the model"
        logger.info("Evaluating %s on the %s data", weights or last, stage)
        evaluate = self.trainer.test if stage == "test" else self.trainer.validate
        found = evaluate(self.module, self.data, ckpt_path=weights, verbose=False)
        self.metrics |= found[0] if found else {}  # nothing with a limit of no batches
