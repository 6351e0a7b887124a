"""The LightningModule of every pipeline: one step, written once for all stages and objectives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from transformers_framework.compat import lightning
from transformers_framework.compat.torch import forbid_fused_unscaling
from transformers_framework.constants import (
    EVALUATED,
    GROUP_NUM_ITEMS,
    NUM_ITEMS,
    ROW_IDS,
    STAGES,
    TRAIN,
    UNPADDED,
    Stage,
)
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.metrics.added import inputs_of_added
from transformers_framework.metrics.mean_loss import MeanLoss
from transformers_framework.metrics.stage_metric import check_inputs
from transformers_framework.models.document_lengths import LENGTHS, takes_lengths, with_lengths
from transformers_framework.models.document_mask import DocumentMask
from transformers_framework.models.reads import label_positions
from transformers_framework.objectives.capabilities import KeepsState, SparseHead, corrupt_on_device
from transformers_framework.objectives.objective import active, stage_metrics
from transformers_framework.optimizers.build import build_optimizer
from transformers_framework.optimizers.clipping import clip_gradients
from transformers_framework.optimizers.continued import regrouped
from transformers_framework.optimizers.groups import dimensions
from transformers_framework.pipelines.log_names import logging_interval
from transformers_framework.pipelines.steps import StageStep, StepOutput, own_view
from transformers_framework.registry import OPTIMIZERS, SCHEDULERS, lookup, options_of, resolve
from transformers_framework.restricted import NonNegativeFloat, PositiveInt
from transformers_framework.schedulers.build import build_scheduler, check_schedule, keep_highest, needs_depth

if TYPE_CHECKING:
    from torch.optim.lr_scheduler import LambdaLR

    from transformers_framework.inputs.inputs import Inputs
    from transformers_framework.metrics.stage_metric import StageMetric
    from transformers_framework.models.model import Model
    from transformers_framework.objectives.objective import Objective


class Pipeline(pl.LightningModule):
    """Train each head of a model on its objective; subclasses override :meth:`forward_heads`.

    Args:
        model: The backbone and its heads, by objective.
        objectives: The objectives, one per head.
        options: All flags of the run, with those of the optimizer and the schedule.
        inputs: Inputs of the run; they name the batch entries that the model is called with.
        optimizer: Name of the optimizer.
        weight_decay: Weight decay of tensors with two or more dimensions; biases and norms have none.
        scheduler: Name of the schedule of the learning rate.
        scheduler_interval: Unit of the schedule's steps: optimizer steps or epochs. It is the unit of
            `num_warmup_steps` as well.
        scheduler_frequency: Number of intervals between two updates of the learning rate.
    """

    document_mask_class: ClassVar[type[DocumentMask]] = DocumentMask
    model: Model
    gradient_norm: Tensor | None = None  # of the last step, before clipping, where it was computed

    def __init__(
        self,
        model: Model,
        objectives: Sequence[Objective],
        options: Mapping[str, Any],
        inputs: Inputs,
        *,
        optimizer: str = "adamw",
        weight_decay: NonNegativeFloat = 0.0,
        scheduler: str = "linear_decay",
        scheduler_interval: Literal["step", "epoch"] = "step",
        scheduler_frequency: PositiveInt = 1,
    ) -> None:
        super().__init__()
        self.model = model
        self.objectives = {objective.name: objective for objective in objectives}
        self._active = {stage: {o.name: o for o in active(objectives, stage)} for stage in STAGES}
        self.options = dict(options)
        self.input_keys = tuple(inputs.model_keys)
        self.document_mask = self.document_mask_class(*model.backbones) if inputs.uses_document_mask else None
        self._prefixes_of_lengths = inputs.key_prefixes if takes_lengths(model) else ()
        self.optimizer_name, self.scheduler_name = optimizer, scheduler
        self.weight_decay = weight_decay
        self.scheduler_interval, self.scheduler_frequency = scheduler_interval, scheduler_frequency
        self.stage_metrics, self.stage_losses = nn.ModuleDict(), nn.ModuleDict()
        for stage in (TRAIN, *EVALUATED):
            for name, objective in self._active[stage].items():
                key = f"{stage}_{name}"  # bare stage names would clash with methods of a module
                self.stage_metrics[key] = nn.ModuleDict(stage_metrics(objective, stage))  # type: ignore[arg-type]
                # in training each rank logs its own loss: a reduction would make all ranks wait
                self.stage_losses[key] = MeanLoss(sync_on_compute=stage != TRAIN)
        self.objective_states = nn.ModuleDict({o.name: o.state for o in objectives if isinstance(o, KeepsState)})
        self._has_inputs: set[Stage] = set()  # stages whose metrics were checked to have inputs
        self._num_items: dict[str, Any] | None = None
        # before a strategy shards the weights, which flattens matrices
        self.dimensions = dimensions(model)

    # ---------------------------------------------------------------- one step for every stage

    def active(self, stage: Stage) -> dict[str, Objective]:
        """Return the objectives of a stage by name."""
        return self._active[stage]

    def forward_heads(self, batch: dict[str, Any], stage: Stage) -> dict[str, Any]:
        """Call the model once; return the output of each head, by the name of its objective.

        Args:
            batch: Model inputs, and the entries of each objective under its name.
            stage: Stage of the batch.
        """
        names = list(self.active(stage))
        outputs = self.model(active=names, **self._positions(batch, names), **self._inputs(batch))
        return cast("dict[str, Any]", outputs)

    def _positions(self, batch: Mapping[str, Any], names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the positions of the labels of sparse heads as arguments of a model, by objective."""
        return label_positions({name: batch[name] for name in names if isinstance(self.objectives[name], SparseHead)})

    def _inputs(self, batch: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
        """Return the arguments of a model, without ``attention_mask`` if there is no padding."""
        inputs = {key: batch[prefix + key] for key in self.input_keys if prefix + key in batch}
        if prefix in batch.get(UNPADDED, ()):
            inputs.pop("attention_mask", None)
        inputs |= batch.get(prefix + LENGTHS, {})
        if self.document_mask is not None:
            inputs |= self.document_mask(batch)
        return inputs

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Add the lengths of documents, on the host, for attention that takes them."""
        if not self._prefixes_of_lengths:
            return batch
        return with_lengths(batch, self._prefixes_of_lengths, batch.get(UNPADDED, ()))

    def _stage_step(self, batch: dict[str, Any], stage: Stage) -> StageStep:
        """Evaluate a batch, update losses and metrics."""
        corrupt_on_device(self.active(stage).values(), batch, stage)
        outputs, losses, for_predictions = self.forward_heads(batch, stage), {}, {}
        for name, objective in self.active(stage).items():
            own = own_view(batch, name)
            evaluation = objective.evaluate(outputs[name], own)
            losses[name], for_predictions[name] = evaluation.loss, evaluation.for_predictions
            self._mean_loss(stage, name).update(evaluation.loss.detach(), batch[NUM_ITEMS][name])
            metrics = self._metrics(stage, name)
            inputs = {**evaluation.metric_inputs, **inputs_of_added(metrics, evaluation.metric_inputs)}
            if stage not in self._has_inputs:
                check_inputs(name, stage, metrics, inputs)
            for metric, values in inputs.items():
                metrics[metric].update(**values)
            if stage == TRAIN and isinstance(objective, KeepsState):
                objective.count_batch(own, evaluation)
        self._has_inputs.add(stage)
        return StageStep(losses, outputs, for_predictions)

    def _group_num_items(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Any]:
        """Return the loss denominators of an optimizer step: the labels of all its batches on all ranks.

        The batches of an accumulation group and of all ranks are thus weighted by their labels, like one large batch.
        Without labels, or with labels of weight 0 only, a denominator is infinite, and the step has no loss.
        """
        if self._num_items is None or batch_idx % self.trainer.accumulate_grad_batches == 0:
            num_items: dict[str, Any] = {name: count or math.inf for name, count in batch[GROUP_NUM_ITEMS].items()}
            if self.trainer.world_size > 1:
                mine = torch.tensor([float(count) for count in batch[GROUP_NUM_ITEMS].values()])
                mine = mine.to(self.device, non_blocking=True)
                summed = cast("Tensor", self.trainer.strategy.reduce(mine, reduce_op="sum"))
                summed = torch.where(summed > 0, summed, torch.inf)
                num_items = dict(zip(num_items, summed.unbind(), strict=True))
            self._num_items = num_items
        return self._num_items

    @property
    def shards_weights(self) -> bool:
        """Whether each rank has a shard of the weights: then all ranks must make the same number of calls."""
        return bool(getattr(lightning.attached_strategy(self), "shards_weights", False))

    def _gradient_scale(self) -> float:
        """Return the factor that undoes the means over batches, by Lightning, and over ranks, by DDP."""
        return float(self.trainer.accumulate_grad_batches * self.trainer.world_size)

    def _metrics(self, stage: Stage, objective: str) -> dict[str, StageMetric]:
        return cast("dict[str, StageMetric]", self.stage_metrics[f"{stage}_{objective}"])

    def _mean_loss(self, stage: Stage, objective: str) -> MeanLoss:
        return cast("MeanLoss", self.stage_losses[f"{stage}_{objective}"])

    def loss_weight(self, objective: str) -> float:
        """Return the weight of an objective's loss in the sum, ``--{objective}_weight``; 1 by default."""
        return float(self.options.get(f"{objective}_weight", 1.0))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        trainer, scale = self.trainer, self._gradient_scale()
        num_items = self._group_num_items(batch, batch_idx)
        sums = self._stage_step(batch, TRAIN).losses
        losses = [total * (self.loss_weight(name) * scale / num_items[name]) for name, total in sums.items()]
        steps_now = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
        if steps_now and (trainer.global_step + 1) % logging_interval(trainer) == 0:
            self._log_training()
        if steps_now:
            for objective in self.active(TRAIN).values():
                if isinstance(objective, KeepsState):
                    objective.end_step()
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> StepOutput | None:
        """Update losses and metrics of validation."""
        self._stage_step(batch, "valid")
        return None

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> StepOutput:
        """Update losses and metrics of testing; return predictions."""
        _, outputs, for_predictions = self._stage_step(batch, "test")
        return self._step_output(batch, "test", outputs, for_predictions)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> StepOutput:
        """Return predictions."""
        return self._step_output(batch, "predict", self.forward_heads(batch, "predict"), {})

    def _step_output(
        self,
        batch: Mapping[str, Any],
        stage: Stage,
        outputs: Mapping[str, Any],
        for_predictions: Mapping[str, Mapping[str, Any]],
    ) -> StepOutput:
        found = {}
        for name, objective in self.active(stage).items():
            own = {**own_view(batch, name), **for_predictions.get(name, {})}
            found[name] = {ROW_IDS: batch[ROW_IDS], **objective.predictions(outputs[name], own)}
        return {"predictions": found}

    # ---------------------------------------------------------------- logs

    def _log_training(self) -> None:
        """Log the mean losses since the last time; at logging steps only, since each scalar costs about 0.3 ms."""
        lightning.forget_logged_values(self.trainer)
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("train/learning_rate", rate, on_step=True, on_epoch=False)
        self._log_losses(TRAIN, on_step=True)

    def on_train_epoch_end(self) -> None:
        """Log the metrics of the training epoch; its losses too when it had no logging step."""
        self._end_stage(TRAIN, logs_losses=f"{TRAIN}/loss" not in self.trainer.callback_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the losses and metrics of validation."""
        self._end_stage("valid")

    def on_test_epoch_end(self) -> None:
        """Log the losses and metrics of testing."""
        self._end_stage("test")

    def _end_stage(self, stage: Stage, *, logs_losses: bool = True) -> None:
        """Compute the metrics of a stage, log them and its losses."""
        values = {name: self._compute(stage, name) for name in self.active(stage)}
        for name, objective in self.active(stage).items():
            if isinstance(objective, KeepsState):
                objective.end_stage(stage, values[name])
        losses = {name: found.pop("loss") for name, found in values.items() if "loss" in found}
        if logs_losses:
            self._log_losses(stage, losses)
        for name, found in values.items():
            self.log_dict({f"{stage}/{name}/{key}": value for key, value in found.items()})

    def _compute(self, stage: Stage, objective: str) -> dict[str, Any]:
        """Compute and reset all metrics of an objective."""
        found: dict[str, Any] = {}
        for metric in self._metrics(stage, objective).values():
            found |= metric.compute()
            metric.reset()
        return found

    def _log_losses(
        self, stage: Stage, computed: Mapping[str, float | None] = MappingProxyType({}), *, on_step: bool = False
    ) -> None:
        """Log the mean losses since they were last logged, if there were labels.

        Losses ``computed`` by metrics, by objective, replace those of batches.
        """
        found = {
            name: computed[name] if name in computed else self._mean_loss(stage, name).compute()
            for name in self.active(stage)
        }
        means = {name: mean for name, mean in found.items() if mean is not None}
        if means:
            weighted = sum(self.loss_weight(name) * mean for name, mean in means.items())
            self.log(f"{stage}/loss", weighted, prog_bar=True, on_step=on_step, on_epoch=not on_step)
        losses = {f"{stage}/{name}/loss": mean for name, mean in means.items()}
        self.log_dict(losses, on_step=on_step, on_epoch=not on_step)
        for name in found:
            self._mean_loss(stage, name).reset()

    # ---------------------------------------------------------------- optimization

    def configure_optimizers(self) -> Any:
        """Build the optimizer and the learning rate schedule of the flags.

        Raises:
            ConfigurationError: When the schedule needs a number of steps that is unknown, or has only warm-up steps.
        """
        factory = resolve(lookup(OPTIMIZERS, self.optimizer_name, "optimizer"))
        schedule = resolve(lookup(SCHEDULERS, self.scheduler_name, "scheduler"))
        optimizer = build_optimizer(
            factory,
            self.model,
            options_of(factory, self.options),
            weight_decay=self.weight_decay,
            by_depth=needs_depth(schedule),
            dimensions=self.dimensions,
        )
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None and self.trainer.gradient_clip_val:
            forbid_fused_unscaling(optimizer)
        epochs = self.trainer.max_epochs
        total_steps = self.num_scheduler_steps(
            self.trainer.estimated_stepping_batches, math.inf if epochs in (None, -1) else epochs
        )
        scheduler = build_scheduler(
            optimizer,
            schedule,
            total_steps,
            self._schedule_options(self.trainer),
            frequency=self.scheduler_frequency,  # Lightning's own would count batches, from 0 in each epoch
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.scheduler_interval}}

    def regrouped(self, state: Mapping[str, Any], optimizer: Any) -> dict[str, Any]:
        """Return the state of an optimizer of this model in the groups of the one that is to load it."""
        return regrouped(state, optimizer, self.model, self.dimensions)

    def check_schedule(self, trainer: pl.Trainer, steps: float, epochs: float) -> None:
        """Check that the schedule fits the length of the run.

        Args:
            trainer: The trainer.
            steps: Optimizer steps of the run.
            epochs: Epochs of the run.

        Raises:
            ConfigurationError: When it needs a number of steps that is unknown, or has only warm-up steps.
        """
        schedule = resolve(lookup(SCHEDULERS, self.scheduler_name, "scheduler"))
        check_schedule(schedule, self.num_scheduler_steps(steps, epochs), self._schedule_options(trainer))

    def _schedule_options(self, trainer: pl.Trainer) -> dict[str, Any]:
        options = options_of(resolve(lookup(SCHEDULERS, self.scheduler_name, "scheduler")), self.options)
        if getattr(trainer, "fast_dev_run", False):  # too short for any warm-up
            options.pop("num_warmup_steps", None)
        return options

    def keep_highest_learning_rate(self) -> None:
        """Replace the decay by a constant learning rate, the highest one, after the warm-up."""
        num_warmup_steps = self._schedule_options(self.trainer).get("num_warmup_steps", 0)
        for config in self.trainer.lr_scheduler_configs:
            keep_highest(cast("LambdaLR", config.scheduler), num_warmup_steps)

    def num_scheduler_steps(self, steps: float, epochs: float) -> float:
        """Return the number of intervals of the schedule; infinity if the length of the data is unknown.

        Args:
            steps: Optimizer steps of the run.
            epochs: Epochs of the run.

        Raises:
            ConfigurationError: When the schedule counts epochs and their number is not given.
        """
        if self.scheduler_interval == "epoch":
            if math.isinf(epochs):
                raise ConfigurationError("--scheduler_interval epoch needs --max_epochs. Give the number of epochs.")
            steps = epochs
        # Lightning returns -1 for a stream
        return math.inf if steps < 0 or math.isinf(steps) else steps

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and free the gradients at once: Lightning keeps them through the next forward pass, at its peak."""
        super().optimizer_step(*args, **kwargs)
        if not getattr(self.trainer.strategy, "owns_gradients", False):
            self.zero_grad(set_to_none=True)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip gradients; keep their norm for logging steps."""
        logs = (self.trainer.global_step + 1) % logging_interval(self.trainer) == 0
        self.gradient_norm = clip_gradients(self, optimizer, gradient_clip_val, gradient_clip_algorithm, measure=logs)
