"""An objective that is not one of ours: what its metrics must have in common with what it evaluates."""

import logging
import shlex
import sys
from types import ModuleType

import pytest
from torchmetrics import MeanAbsoluteError
from torchmetrics.regression import PearsonCorrCoef

from tests import runs, tiny
from tests.tolerances import approx
from transformers_framework import registry
from transformers_framework.cli.main import main
from transformers_framework.objectives.objective import Evaluation
from transformers_framework.objectives.seq_class import SequenceClassification
from transformers_framework.registry import PipelineSpec
from transformers_framework.storage.run_folders import RunFolders


class Numbers(SequenceClassification):
    """Learn a number, judged by plain metrics.

    Args:
        setup: Tokenizer, config and classes of the model.
        label_column: Column with the number.
    """

    name = "numbers"

    def __init__(self, setup, *, label_column: str):
        super().__init__(setup, label_column=label_column, problem_type="regression")

    def metrics(self, stage):
        return {"mean_absolute_error": MeanAbsoluteError(), "pearson": PearsonCorrCoef()}

    def evaluate(self, output, batch):
        evaluation = super().evaluate(output, batch)
        numbers = evaluation.metric_inputs["numbers"]
        known = ~numbers["target"].isnan()
        counted = {name: values[known] for name, values in numbers.items()}
        return Evaluation(evaluation.loss, {"mean_absolute_error": counted, "pearson": counted})


class Unfed(Numbers):
    """Feed another key than that of the metric."""

    def metrics(self, stage):
        return {"mean_absolute_errors": MeanAbsoluteError()} if stage in self.wrong else super().metrics(stage)


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Words of a run of an objective."""
    logging.getLogger("transformers_framework").handlers.clear()  # it writes where standard error was once

    def words(objective, **flags):
        module = ModuleType("transformers_framework.objectives.numbers_of_a_test")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        module.Numbers = objective
        spec = PipelineSpec("texts", "numbers", "inputs.text:TextInputs", ("objectives.numbers_of_a_test:Numbers",))
        monkeypatch.setitem(registry.PIPELINES, "numbers", spec)
        rows = [{"a": pair["question"], "score": i % 5 / 4} for i, pair in enumerate(tiny.pairs(20))]
        data = tiny.write_jsonl(tmp_path / "train.jsonl", rows)
        checkpoint = tiny.save_checkpoint("bert", tmp_path / "bert")
        stages = " ".join(f"--{stage}_dataset {data}" for stage in ("train", "valid", "test"))
        return shlex.split(
            f"--pipeline numbers --model bert --name s --output_dir {tmp_path} --cache_dir {tmp_path / 'cache'} "
            f"--pre_trained_model {checkpoint} {stages} --input_columns a --label_column score --batch_size 8 "
            "--max_sequence_length 48 --max_epochs 1 --num_workers 0 --accelerator cpu --enable_model_summary false "
            + " ".join(f"--{name} {value}" for name, value in flags.items())
        )

    return words


def test_plain_metrics_are_logged_monitored_and_right(command, tmp_path, caplog, monkeypatch):
    monitor = {"monitor": "valid/numbers/mean_absolute_error", "monitor_direction": "max"}
    selection = logging.getLogger("transformers_framework.callbacks.selection")
    monkeypatch.setattr(selection, "handlers", [caplog.handler])
    assert main(command(Numbers, **monitor)) == 0
    assert "--monitor valid/numbers/mean_absolute_error: less is better" in caplog.text
    folders = RunFolders(tmp_path, "s")
    found = runs.predictions(folders, "test")
    errors = [abs(line["prediction"] - line["score"]) for line in found]
    values = runs.metrics(folders, "test")
    assert values["test/numbers/mean_absolute_error"] == approx(sum(errors) / len(errors))
    assert -1 <= values["test/numbers/pearson"] <= 1


@pytest.mark.parametrize("stage", ["train", "valid"])
def test_a_metric_that_is_not_fed_ends_a_run_before_its_first_step(stage, command, tmp_path, capsys):
    words = command(type("Wrong", (Unfed,), {"wrong": (stage,)}), max_steps=3, log_every_n_steps=1)
    assert main(words) == 2
    message = capsys.readouterr().err
    assert (
        f"Objective 'numbers', stage {stage}: metrics() has 'mean_absolute_errors', which evaluate() does not feed; it "
        "feeds 'mean_absolute_error', 'pearson'. Use the same keys in both." in " ".join(message.split())
    )
    assert "in check_inputs" not in message, "one message, no traceback"
    assert "train/loss" not in runs.scalars(RunFolders(tmp_path, "s"))
