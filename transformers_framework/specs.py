"""Rows of the table of pipelines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Variant:
    """Changes of a pipeline that apply when a certain flag has a value.

    Args:
        replaces: Import path of inputs, an objective, a module or a model -> import path of its replacement.
        task_flags: Further task flags, see :class:`PipelineSpec`, in addition to the flag itself.
        order_flags: Further order flags, see :class:`PipelineSpec`.
        callbacks: Further callbacks, see :class:`PipelineSpec`.
        checks: Further checks, see :class:`PipelineSpec`.
        remedy: Import path of a function of a model's config that returns a sentence with the flags of the variant that
            a checkpoint was trained with; an empty one where it was not.
    """

    replaces: Mapping[str, str]
    task_flags: tuple[str, ...] = ()
    order_flags: tuple[str, ...] = ()
    callbacks: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    remedy: str | None = None


@dataclass(frozen=True)
class PipelineSpec:
    """One row of the table of pipelines: its inputs, objectives, LightningModule, model, callbacks and checks.

    An import path is ``module:name``, such as ``objectives.seq_class:SequenceClassification``.

    Args:
        needs: Description of the columns that the data must have.
        learns: Description of the task.
        inputs: Import path of the class that converts rows to model inputs.
        objectives: Import paths of the objectives, one per head.
        module: Import path of the LightningModule.
        model: Import path of the function that loads the model with its heads.
        flags: Import paths of functions whose keyword-only arguments are flags too.
        remembers: Import path of a function that returns values from a checkpoint for flags that were not given.
        callbacks: Import paths of functions that are called with the run and return a callback of Lightning, or None.
            Their keyword-only arguments are flags.
        checks: Import paths of functions that are called with the run before training, and raise errors.
        variants: Flags, without dashes, that change the pipeline when they have a value.
        task_flags: Flags of inputs, objectives and model that define the task: a resumed run must have the same values.
        order_flags: Flags of the inputs that determine which rows share a batch: they cannot change within an epoch.
        pre_trains: Whether models are only pre-trained: then no number of epochs is a good default.
    """

    needs: str
    learns: str
    inputs: str
    objectives: tuple[str, ...]
    module: str = "pipelines.pipeline:Pipeline"
    model: str = "models.auto:load_model"
    flags: tuple[str, ...] = ()
    remembers: str | None = None
    callbacks: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    variants: Mapping[str, Variant] = field(default_factory=dict)
    task_flags: tuple[str, ...] = ()
    order_flags: tuple[str, ...] = ()
    pre_trains: bool = False

    @property
    def flag_owners(self) -> tuple[str, ...]:
        """Import paths whose flags are flags of the pipeline, without those of the model."""
        return (self.inputs, *self.objectives, self.module, *self.flags, *self.callbacks)

    def variant(self, flag: str) -> PipelineSpec:
        """Return the variant of the pipeline for a flag."""
        found = self.variants[flag]

        def instead(path: str) -> str:
            return found.replaces.get(path, path)

        return replace(
            self,
            inputs=instead(self.inputs),
            objectives=tuple(map(instead, self.objectives)),
            module=instead(self.module),
            model=instead(self.model),
            task_flags=(*self.task_flags, flag, *found.task_flags),
            order_flags=(*self.order_flags, *found.order_flags),
            callbacks=(*self.callbacks, *found.callbacks),
            checks=(*self.checks, *found.checks),
        )


def every(specs: Iterable[PipelineSpec], of: Callable[[PipelineSpec], Iterable[T]]) -> tuple[T, ...]:
    """Return the items of a field of all rows, without duplicates, in their order."""
    return tuple(dict.fromkeys(item for spec in specs for item in of(spec)))
