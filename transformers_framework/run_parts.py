"""What a run is made of, as far as checks and the callbacks of a pipeline may ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from transformers_framework.callbacks.selection import Selection
    from transformers_framework.data.datamodule import DataModule
    from transformers_framework.inputs.inputs import Inputs
    from transformers_framework.objectives.objective import Objective
    from transformers_framework.pipelines.pipeline import Pipeline
    from transformers_framework.runtime.steps import Steps
    from transformers_framework.specs import PipelineSpec
    from transformers_framework.storage.run_folders import RunFolders


class Continued(Protocol):
    """The checkpoint that a run continues or tests, if there is one."""

    @property
    def changes(self) -> list[str]:
        """Changes of the optimization, each with the step from which on it holds."""

    def check_file(self) -> None:
        """Raise when the checkpoint cannot be read."""

    def check(self) -> None:
        """Raise when the run cannot continue or test the checkpoint."""


class Run(Protocol):
    """The parts of a run; each is built when it is first asked for.

    Args:
        config_yaml: The same as YAML.
        spec: Row of the pipeline.
        folders: Where files are.
        resume: Whether the last checkpoint of the run is continued, if there is one.
        allow_other_batch_size: Whether a checkpoint is continued although an optimizer step has other rows.
    """

    config_yaml: str
    spec: PipelineSpec
    folders: RunFolders
    resume: bool
    allow_other_batch_size: bool

    @property
    def options(self) -> dict[str, Any]:
        """The value of every flag; where none was given, what the checkpoint was trained with."""

    @property
    def is_fast_dev_run(self) -> bool:
        """Whether this only tries a few batches of everything, and leaves no files."""

    @property
    def writes(self) -> bool:
        """Whether this leaves files."""

    @property
    def config(self) -> Any:
        """Config of the model, one of transformers."""

    @property
    def inputs(self) -> Inputs:
        """What turns rows into model inputs."""

    @property
    def objectives(self) -> list[Objective]:
        """What is learned."""

    @property
    def data(self) -> DataModule:
        """The data of all stages, loaded and checked."""

    @property
    def module(self) -> Pipeline:
        """Model, losses, metrics and optimization."""

    @property
    def selection(self) -> Selection:
        """Which state is best and when training ends."""

    @property
    def log_names(self) -> list[str]:
        """Names that training will log and that can be monitored."""

    @property
    def steps(self) -> Steps:
        """Batches and optimizer steps of the training."""

    @property
    def pipeline_callbacks(self) -> list[pl.Callback]:
        """Callbacks that the row of the pipeline adds."""

    @property
    def trainer(self) -> pl.Trainer:
        """Lightning's trainer."""

    @property
    def start(self) -> str | None:
        """Checkpoint that training goes on from."""

    @property
    def continued(self) -> Continued:
        """The checkpoint to start from or to test, beside this run."""
