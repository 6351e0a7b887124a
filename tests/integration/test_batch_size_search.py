"""``--batch_size auto``: the largest batch that fits is found, and the run is the one with this batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests import runs, tiny
from transformers_framework import batch_size_search as search
from transformers_framework.data.longest_batch import longest_batch
from transformers_framework.runtime import memory

PLACES = 150  # rows × length that "fit"


class Steps:
    """Steps on trial that run out of memory where batches have too many tokens, padding included."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.original = search.run_step

    def __call__(self, module: Any, trainer: Any, batch: dict[str, Any]) -> None:
        self.sizes.append(len(batch["input_ids"]))
        if batch["input_ids"].numel() > PLACES:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.original(module, trainer, batch)


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch, measured_memory: None) -> Steps:
    steps = Steps()
    monkeypatch.setattr(search, "run_step", steps)
    return steps


def test_a_run_is_the_one_with_the_batch_size_that_was_found(tmp_path: Path, trials: Steps) -> None:
    data = tiny.write_jsonl(tmp_path / "train.jsonl", tiny.classes(44))
    flags: dict[str, Any] = {"pipeline": "masked_lm", "train_dataset": data}
    found = runs.run(tmp_path, name="auto", batch_size="auto", **flags)
    size = yaml.safe_load(found.config.read_text("utf-8"))["batch_size"]
    assert 1 < size == max(size for size in trials.sizes if size * 21 <= PLACES)
    given = runs.run(tmp_path, name="given", batch_size=size, **flags)
    assert runs.weights_are_equal(found.pre_trained_models / "final", given.pre_trained_models / "final")
    assert runs.metrics(found, "train") == runs.metrics(given, "train")


def test_steps_have_the_rows_that_are_asked_for(tmp_path: Path, trials: Steps) -> None:
    flags = runs.datasets(tmp_path / "data", "seq_class", (40, 5, 5, 5)) | {"pipeline": "seq_class"}
    flags |= {"effective_batch_size": 20, "checkpoint_interval": 1}
    parts = runs.run(tmp_path, name="auto", batch_size="auto", max_steps=1, **flags)
    assert yaml.safe_load(parts.config.read_text("utf-8"))["batch_size"] == 5, "4 times 5, not 7"
    tried = len(trials.sizes)
    runs.run(tmp_path, name="auto", batch_size="auto", max_steps=3, resume=True, **flags)
    assert len(trials.sizes) == tried, "a resumed run keeps the batch size"
    state = torch.load(parts.last, weights_only=True)
    assert (state["global_step"], state["DataModule"]["rows_of_step"]) == (3, 20)
    whole = runs.run(tmp_path, name="given", batch_size=5, max_steps=3, **flags)
    assert runs.weights_are_equal(parts.pre_trained_models / "final", whole.pre_trained_models / "final")


def test_one_row_is_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trials: Steps, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.integration.test_batch_size_search.PLACES", 3)
    runs.run(tmp_path, status=1, pipeline="seq_class", batch_size="auto")
    assert "--batch_size auto: a training step of one row does not fit in memory. Use --grad" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("pipeline", "flags"),
    [
        ("answer_selection", {}),
        ("answer_selection", {"k": 4, "grouping": "random", "max_sequence_length": 100}),
        ("denoising", {"model": "bart", "packing": "isolated", "additional_config_kwargs": None}),
        ("masked_lm", {"packing": "full", "precision": "bf16-true"}),
        ("question_answering", {}),
        ("retrieval", {"loss_fn": "contrastive_loss"}),
        ("summarization", {"model": "t5"}),
        ("token_detection_and_masked_lm", {"model": "electra"}),
        ("cluster_random_token_detection", {}),
    ],
)
@pytest.mark.usefixtures("measured_memory")
def test_steps_on_trial_leave_no_trace(pipeline: str, flags: dict[str, Any], tmp_path: Path) -> None:
    run = runs.build(runs.command(tmp_path, pipeline=pipeline, batch_size="auto", **flags))
    module, trainer = run.module, run.trainer
    before = {name: tensor.nan_to_num() for name, tensor in module.state_dict().items()}
    next(module.model.children()).eval()
    modes = [each.training for each in module.modules()]
    numbers = torch.get_rng_state()
    batch = longest_batch(run.data, 3)
    keys = [f"{prefix}input_ids" for prefix in run.inputs.key_prefixes]
    assert {len(batch[key]) for key in keys if key in batch} == {3}
    with search.steps_on_trial(run) as fits:
        assert fits(3)
        assert any(parameter.grad is not None for parameter in module.parameters())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert [
        name for name, tensor in module.state_dict().items() if not torch.equal(tensor.nan_to_num(), before[name])
    ] == []
    assert [each.training for each in module.modules()] == modes
    assert torch.equal(torch.get_rng_state(), numbers)
    assert trainer.global_step == 0


def test_a_step_that_would_take_too_much_memory_of_the_host_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    class Peak:
        """100 bytes, and 10 bytes per row of the largest step."""

        @property
        def above(self) -> int:
            return 100 + 10 * max(tried)

    monkeypatch.setattr(memory, "available_memory", lambda: 2000)
    monkeypatch.setattr(memory, "PeakMemory", Peak)
    found = search.largest(search.HostMemory(tried.append, reserve=300, sharing=2).fits, range(1, 1001))
    assert 45 <= found == max(tried) <= 50, "of 600 bytes: 2000 × 0.9 / 2 - 300"
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    with pytest.raises(search.ConfigurationError, match="memory can be measured on GPUs and on Linux, and not here"):
        search.HostMemory(tried.append, reserve=0, sharing=1)


def test_a_device_that_runs_out_of_memory() -> None:
    tried: list[int] = []

    def attempt(rows: int) -> None:
        tried.append(rows)
        if rows > 37:
            raise RuntimeError("MPS backend out of memory")

    assert search.largest(search.DeviceMemory(attempt, 8, torch.device("cpu")).fits, range(1, 100)) == 37
    assert tried[:3] == [1, 1, 2], "gradients are there before"
    with pytest.raises(RuntimeError, match="a mistake"):
        search.DeviceMemory(lambda rows: (_ for _ in ()).throw(RuntimeError("a mistake")), 8, torch.device("cpu")).fits(
            1
        )


@pytest.mark.slow  # two processes
@pytest.mark.usefixtures("measured_memory")
def test_two_processes_use_the_same_batch_size(tmp_path: Path) -> None:
    flags = runs.datasets(tmp_path / "data", "seq_class", (40, 5, 5, 5)) | {"pipeline": "seq_class"}
    flags |= {"effective_batch_size": 16, "devices": 2, "strategy": "ddp", "max_steps": 2}
    found, log = runs.spawn(tmp_path, name="auto", batch_size="auto", **flags)
    assert "--batch_size auto: 8 rows, the most that a step has" in log
    given, _ = runs.spawn(tmp_path, name="given", batch_size=8, **flags)
    assert runs.weights_are_equal(found.pre_trained_models / "final", given.pre_trained_models / "final")
