"""What a row of the table of pipelines holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Variant:
    """What a pipeline becomes when a certain flag has a value.

    Args:
        replaces: Import path of inputs, of an objective, of a module or of a model -> the one that takes its place.
        task_flags: As of a pipeline, beside the flag itself and those of the pipeline.
        order_flags: As of a pipeline, beside those of the pipeline.
        callbacks: As of a pipeline, beside those of the pipeline.
        checks: As of a pipeline, beside those of the pipeline.
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
    """One row of the table of pipelines: what goes in, what is learned, how heads are called, what a run of it adds.

    An import path is ``module:name``, as ``objectives.seq_class:SequenceClassification``.

    Args:
        needs: What the data must have, for users.
        learns: What is learned, for users.
        inputs: Import path of the class that turns rows into model inputs.
        objectives: Import paths of the classes that hold labels, loss and metrics, one a head.
        module: Import path of the LightningModule.
        model: Import path of the function that loads the model with its heads.
        flags: Import paths of functions whose keyword-only arguments are flags too.
        remembers: Import path of a function that returns the values of flags that were not given and a checkpoint
            knows.
        callbacks: Import paths of functions that are called with the run and return a callback of Lightning, or None.
            Their keyword-only arguments are flags.
        checks: Import paths of functions that are called with the run before training, and raise what is wrong.
        variants: Flags, without dashes, that make another pipeline of it when they have a value.
        task_flags: Flags of inputs, objectives and model that define what is learned: a run is resumed with the same.
        order_flags: Flags of the inputs that decide which rows share a batch: they stay while an epoch is under way.
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

    @property
    def flag_owners(self) -> tuple[str, ...]:
        """Import paths whose flags are those of the pipeline, but for its model's."""
        return (self.inputs, *self.objectives, self.module, *self.flags, *self.callbacks)

    def variant(self, flag: str) -> PipelineSpec:
        """Return what the pipeline becomes when one of the flags of its variants has a value."""
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
    """Return what rows have, each thing once, in their order."""
    return tuple(dict.fromkeys(item for spec in specs for item in of(spec)))
