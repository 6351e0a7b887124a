"""Runs from Python: ``run(pipeline="seq_class", model="bert", name="first", …)`` does what the command does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers_framework.constants import SERIES
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.storage.run_folders import RunFolders

if TYPE_CHECKING:
    from transformers_framework.experiment import Experiment

# flags of the command line that do not start a run
OF_THE_COMMAND = ("check", "debug", "default_env", "help", "preview", "print_completion", "print_config", "version")


@dataclass(frozen=True)
class RunResult:
    """Result of a run: metrics, folders, and models, tokenizer and predictions, which are loaded on first access.

    Args:
        metrics: Last logged value of each name: ``valid/seq_class/accuracy`` is from the last validation, ``test/…``
            from the tested state, which is the best one if a metric was monitored.
        folders: Folders of the run.
        heads: Auto class of each head, by the name of its objective.
    """

    metrics: Mapping[str, float]
    folders: RunFolders
    heads: Mapping[str, str]

    @property
    def checkpoint(self) -> Path:
        """Folder that transformers' Auto classes can load: the best state if a metric was monitored, else the last.

        Raises:
            ConfigurationError: When the run trained no model.
        """
        if (found := self.folders.export) is not None:
            return found
        raise ConfigurationError(
            f"Run '{self.folders.name}' has no trained model: it had no train_dataset, or was a fast_dev_run."
        )

    @cached_property
    def models(self) -> dict[str, Any]:
        """The trained models, by the names of objectives (with two encoders, ``query`` and ``passage``)."""
        from transformers_framework.models.own_families import auto_class_of, ensure_registered

        found, (first, *_) = {}, self.heads
        for name, folder in self._folders.items():
            name = name or first
            ensure_registered(json.loads((folder / "config.json").read_text("utf-8"))["model_type"])
            found[name] = auto_class_of(self.heads.get(name, self.heads[first])).from_pretrained(folder)
        return found

    @property
    def model(self) -> Any:
        """The trained model, if there is exactly one; several are in :attr:`models`.

        Raises:
            ConfigurationError: When there are several.
        """
        if len(self.models) > 1:
            raise ConfigurationError(f"This run has several models: use models[{next(iter(self.models))!r}].")
        return next(iter(self.models.values()))

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the trained model."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(next(iter(self._folders.values())))

    @cached_property
    def results(self) -> dict[str, Any]:
        """Contents of ``results.json``: the best state, metrics, durations, data and versions; see docs/outputs.md.

        Raises:
            ConfigurationError: When the run wrote none, as a fast_dev_run does.
        """
        if not (found := self.folders.read_results()):
            raise ConfigurationError(f"Run '{self.folders.name}' has no {self.folders.results}: it was a fast_dev_run.")
        return found

    @property
    def _folders(self) -> dict[str, Path]:
        """Return the folder of each model; a single one has no name."""
        top = self.checkpoint
        if (top / "config.json").exists():
            return {"": top}
        return {path.parent.name: path.parent for path in sorted(top.glob("*/config.json"))}

    @cached_property
    def predictions(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of the prediction files, by file name: ``test`` and ``predict``, and more with several objectives."""
        return {
            path.stem: [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
            for path in sorted(self.folders.predictions.glob("*.jsonl"))
        }


def run(pipeline: str | None = None, model: str | None = None, name: str | None = None, **flags: Any) -> RunResult:
    """Train, test the best state and predict, as the command does with the same flags.

    Environment variables, loggers and random number generators of the process are restored afterwards. With several
    devices Lightning starts the script once per device, so use a script with a single run; notebooks use one device.

    Args:
        pipeline: The pipeline, as ``--pipeline``.
        model: Model family, as ``--model``.
        name: Name of the run.
        **flags: Flags of the command by name, such as ``learning_rate=1e-4, input_columns=["question", "answer"]``;
            ``config`` is a file or a list of files, ``import_`` is ``--import``.

    Raises:
        ConfigurationError: When flags are invalid, with the message of the command.
        DataError: When data are invalid, with their place.
        RunError: When a run with valid flags and data fails.
    """
    from transformers_framework.cli.given import from_values
    from transformers_framework.cli.main import experiment_from
    from transformers_framework.runtime.process_state import process_state_restored

    if wrong := sorted(flags.keys() & set(OF_THE_COMMAND)):
        raise ConfigurationError(f"run({wrong[0]}=…): this is a flag of the command line only.")
    # each process would need what the program has registered
    if several := [flag for flag in SERIES if flags.get(flag) is not None]:
        raise ConfigurationError(
            f"run({several[0]}=…): from Python, each call is one run. Call run(name=…, seed=…) for each of them; "
            "python -m transformers_framework.compare shows their results side by side."
        )
    chosen = {"pipeline": pipeline, "model": model, "name": name}
    given = from_values({**{flag: value for flag, value in chosen.items() if value is not None}, **flags})
    with process_state_restored():
        experiment = experiment_from(given)
        try:
            experiment.run()
        except SystemExit as error:  # Lightning leaves the process when ^C interrupts it
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            raise
        return _result(experiment)


def _result(experiment: Experiment) -> RunResult:
    from transformers_framework.objectives.capabilities import head_of

    model_type = experiment.config.model_type
    heads = {objective.name: head_of(objective, model_type) for objective in experiment.objectives}
    return RunResult(dict(sorted(experiment.metrics.items())), experiment.folders, heads)
