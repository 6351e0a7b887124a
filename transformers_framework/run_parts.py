"""Protocols of a run, for checks and for callbacks."""

from __future__ import annotations

from abc import ABC, abstractmethod
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
        """Check that the checkpoint can be read."""

    def check(self) -> None:
        """Check that the run can continue or test the checkpoint."""


class Run(Protocol):
    """The parts of a run; each is built when it is first needed.

    Args:
        spec: Row of the pipeline.
        folders: Folders of the run.
        seed: Seed of all random number generators.
        metrics: Last value of each name that training logged, and of each evaluated stage.
        started: ``time.monotonic()`` when the run started.
        resume: Whether the run continues its last checkpoint, if there is one.
        allow_other_batch_size: Whether a checkpoint is continued although an optimizer step now has another number of
            rows.
    """

    spec: PipelineSpec
    folders: RunFolders
    seed: int
    metrics: dict[str, float]
    started: float
    resume: bool
    allow_other_batch_size: bool

    @property
    def options(self) -> dict[str, Any]:
        """The value of every flag; flags that were not given may have values of the checkpoint or of the model."""

    @property
    def config_yaml(self) -> str:
        """The flags of the run as YAML, known after the data were checked."""

    @property
    def final_options(self) -> dict[str, Any]:
        """The same with the values that depend on the data, known after they were checked."""

    @property
    def by_default(self) -> dict[str, Any]:
        """Flags that were not given and whose defaults users should know, with their values."""

    @property
    def is_fast_dev_run(self) -> bool:
        """Whether the run only tries a few batches of each stage, and writes no files."""

    @property
    def writes(self) -> bool:
        """Whether the run writes files."""

    @property
    def config(self) -> Any:
        """Config of transformers for the model."""

    @property
    def tokenizer(self) -> Any:
        """Tokenizer of transformers."""

    @property
    def max_length(self) -> int:
        """Longest input of the model in tokens."""

    @property
    def inputs(self) -> Inputs:
        """Converter of rows to model inputs."""

    @property
    def objectives(self) -> list[Objective]:
        """The objectives of the pipeline."""

    @property
    def data(self) -> DataModule:
        """The data of all stages, loaded and checked."""

    @property
    def module(self) -> Pipeline:
        """Model, losses, metrics and optimization."""

    @property
    def selection(self) -> Selection:
        """Selection of the best state and early stopping."""

    @property
    def log_names(self) -> list[str]:
        """Names that training logs and that can be monitored."""

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
        """Checkpoint that training starts from."""

    @property
    def continued(self) -> Continued:
        """The checkpoint to start from or to test, compared with this run."""


class EndsRun(ABC):
    """A callback that also acts at the end of a run: after training, testing and prediction, unless one failed."""

    @abstractmethod
    def on_run_end(self, run: Run) -> None:
        """Act; called on all ranks, in the order of the callbacks."""


class NamesNextCommand(ABC):
    """A callback of a pipeline with the command that uses the trained model next, for the summary of the run."""

    @abstractmethod
    def next_command(self, run: Run, model: str) -> str | None:
        """Return the command; None if it is that of all pipelines.

        Args:
            run: The run, which is over.
            model: Folder of the exported model.
        """


class ReportsData(ABC):
    """A callback of a pipeline with data of its own, which ``--check`` describes."""

    @abstractmethod
    def data_lines(self) -> list[str]:
        """Return the lines, the first of them a heading."""
