"""A row of the table of pipelines that is not one of ours, with a callback, a check, a variant and task flags."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytorch_lightning as pl

from tests import runs, tiny
from tests.tolerances import approx
from transformers_framework import registry
from transformers_framework.cli.main import main
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.objectives.seq_class import SequenceClassification
from transformers_framework.registry import pipeline_spec
from transformers_framework.restricted import PositiveFloat, PositiveInt
from transformers_framework.specs import PipelineSpec, Variant

HOME = "rows_of_a_test"  # a module outside the package
OWN = PipelineSpec(
    needs="a text, a class",
    learns="a class, under the eyes of a callback",
    inputs="inputs.text:TextInputs",
    objectives=("objectives.seq_class:SequenceClassification",),
    callbacks=("rows_of_a_test:counter",),
    checks=("rows_of_a_test:check_batch_size",),
    variants={"loss_factor": Variant({"objectives.seq_class:SequenceClassification": "rows_of_a_test:Multiplied"})},
    task_flags=("label_smoothing",),
    order_flags=("count_from",),
)


class Counter(pl.Callback):
    """Count batches of training."""

    def __init__(self, start: int) -> None:
        self.count = start

    def on_train_batch_end(self, *args: Any) -> None:
        self.count += 1


def counter(run: Any, *, count_from: PositiveInt | None = None) -> Counter | None:
    """Return what counts batches.

    Args:
        run: The run.
        count_from: Number of the first batch; without it, none is counted.
    """
    return Counter(count_from) if count_from is not None and run.data.has("train") else None


def check_batch_size(run: Any) -> None:
    """Refuse batches of an odd number of rows."""
    if (size := run.data.batch_sizes["train"]) % 2:
        raise ConfigurationError(f"--batch_size: found {size}, expected an even number.")


class Multiplied(SequenceClassification):
    """Learn a class, by a multiple of the loss.

    Args:
        setup: Tokenizer, config and classes of the model.
        loss_factor: What the loss is multiplied by.
        **options: Those of single losses.
    """

    def __init__(self, setup: Any, *, loss_factor: PositiveFloat | None = None, **options: Any) -> None:
        super().__init__(setup, **options)
        assert loss_factor is not None
        self.factor = loss_factor

    def evaluate(self, output: Any, batch: Any) -> Any:
        evaluation = super().evaluate(output, batch)
        return replace(evaluation, loss=evaluation.loss * self.factor)


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(HOME)
    vars(module).update(counter=counter, check_batch_size=check_batch_size, Multiplied=Multiplied)
    monkeypatch.setitem(sys.modules, HOME, module)
    monkeypatch.setitem(registry.PIPELINES, "own", OWN)
    monkeypatch.setitem(runs.PIPELINE_FLAGS, "own", runs.PIPELINE_FLAGS["seq_class"])


def stages(folder: Path, *names: str) -> dict[str, Path]:
    rows = tiny.classes(16, 0, num_labels=3, names=runs.CLASSES)
    return {f"{name}_dataset": tiny.write_jsonl(folder / f"{name}.jsonl", rows) for name in names}


def test_its_flags_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    def flags(*given: str) -> str:
        assert main(["--pipeline", "own", "--model", "bert", *given, "--help"]) == 0
        found, _, others = capsys.readouterr().out.partition("pipeline own")[2].partition("optimization")
        assert others
        return found

    assert "--count_from" in flags()
    assert "--loss_factor" not in flags()
    assert "--loss_factor" in flags("--loss_factor", "2")


def test_its_callback_is_called_where_it_is_asked_for(tmp_path: Path) -> None:
    data = stages(tmp_path, "train")
    for count_from, expected in ((5, [5 + 2]), (None, [])):
        with runs.watched() as seen:
            runs.run(tmp_path, pipeline="own", name=f"from-{count_from}", count_from=count_from, **data)
        trainer: Any = seen.experiment.trainer
        assert [callback.count for callback in trainer.callbacks if isinstance(callback, Counter)] == expected


@pytest.mark.parametrize("check", [None, True])
def test_its_check_is_made_before_anything_is_written(
    check: bool | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = stages(tmp_path, "train")
    folders = runs.run(tmp_path, status=2, pipeline="own", batch_size=7, check=check, **data)
    assert "--batch_size: found 7, expected an even number." in "".join(capsys.readouterr())
    assert not folders.checkpoints.exists()


def test_its_variant_is_chosen_by_its_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = stages(tmp_path, "test")
    checkpoint = tiny.save_checkpoint(
        "bert",
        tmp_path / "tuned",
        "AutoModelForSequenceClassification",
        num_labels=3,
        id2label=dict(enumerate(runs.CLASSES)),
    )
    flags: dict[str, Any] = {"pre_trained_model": checkpoint, "eval_batch_size": 8, **data}
    losses = {}
    for factor in (None, 3.0):
        with runs.watched() as seen:
            runs.run(tmp_path, pipeline="own", name=f"times-{factor}", loss_factor=factor, **flags)
        losses[factor] = float(seen.experiment.trainer.callback_metrics["test/loss"])
    assert losses[3.0] == approx(3 * losses[None])
    # another pipeline is told whose flag it is
    runs.run(tmp_path, status=2, pipeline="seq_class", name="other", loss_factor=3.0, **flags)
    said = capsys.readouterr().err
    assert "--loss_factor: this run has no such flag; it belongs to --pipeline own --loss_factor." in said


def test_flags_of_its_task_and_order_stay_when_it_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags: dict[str, Any] = {"pipeline": "own", "resume": True, "loss_factor": 2.0, "count_from": 1}
    flags |= stages(tmp_path, "train")
    runs.run(tmp_path, **flags)
    capsys.readouterr()
    begun, flags = "run 'run' was begun with ", flags | {"max_epochs": 2}
    for name, value, refusal in (
        ("loss_factor", 3.0, f"--resume: {begun}--loss_factor 2.0, and this command has --loss_factor 3.0"),
        ("loss_factor", None, f"--resume: {begun}--loss_factor 2.0, and this command has no --loss_factor"),
        ("label_smoothing", 0.5, f"--resume: {begun}--label_smoothing 0.0, and this command has --label_smoothing 0.5"),
        ("count_from", 2, f"--count_from: {begun}--count_from 1, and this command has --count_from 2: it decides"),
    ):
        runs.run(tmp_path, status=2, **flags | {name: value})
        assert refusal in capsys.readouterr().err
    runs.run(tmp_path, **flags)


def test_what_it_adds_is_there_beside_another(monkeypatch: pytest.MonkeyPatch) -> None:
    joined = pipeline_spec("own+masked_lm", {"loss_factor"})
    assert joined.objectives == ("objectives.masked_lm:MaskedLM", "rows_of_a_test:Multiplied")
    assert (joined.callbacks, joined.checks) == (OWN.callbacks, OWN.checks)
    assert set(joined.task_flags) == {"label_smoothing", "loss_factor"}
    assert set(joined.order_flags) == {"count_from", "packing"}
    assert pipeline_spec("own+masked_lm").objectives == ("objectives.masked_lm:MaskedLM", *OWN.objectives)


def test_modules_that_no_pipeline_has_both_of_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SequenceClassification, "name", "own")  # else they learn the same
    spec = PipelineSpec(OWN.needs, OWN.learns, OWN.inputs, OWN.objectives, module="rows_of_a_test:Module")
    monkeypatch.setitem(registry.PIPELINES, "own", spec)
    assert pipeline_spec("masked_lm+own").module == "rows_of_a_test:Module"
    with pytest.raises(ConfigurationError, match="rows_of_a_test:Module cannot be trained together"):
        pipeline_spec("token_detection_and_masked_lm+own")
