"""Which state is best: known again by the run that continues, decided by one process for all."""

from types import SimpleNamespace

import pytest
import torch

from transformers_framework.callbacks.checkpoints import Checkpoints
from transformers_framework.storage.run_folders import RunFolders


@pytest.fixture
def make(tmp_path):
    def build(name="run", monitor="valid/loss", direction="min"):
        return Checkpoints(
            RunFolders(tmp_path, name),
            None,
            monitor=monitor,
            direction=direction,
            interval=None,
            at_validation=True,
            at_epoch=True,
        )

    return build


def trainer(value, broadcast=lambda decision: decision):
    metrics = {} if value is None else {"valid/loss": torch.tensor(value)}
    return SimpleNamespace(callback_metrics=metrics, strategy=SimpleNamespace(broadcast=broadcast), global_step=7)


@pytest.mark.parametrize(
    ("before", "value", "improves"),
    [(None, 0.5, True), (0.6, 0.5, True), (0.5, 0.5, False), (0.4, 0.5, False)]
    + [(None, value, False) for value in (None, float("nan"), float("inf"))],
)
def test_only_a_better_finite_value_improves(make, before, value, improves):
    checkpoints = make()
    checkpoints.best_value = before
    assert checkpoints._improved(trainer(value)) is improves
    assert checkpoints.best_value == (value if improves else before)


@pytest.mark.parametrize("decision", [True, False])
def test_the_first_process_decides(make, decision):
    """In training each process knows its own loss; to save takes all of them."""
    checkpoints = make()
    checkpoints.best_value = 0.5
    assert checkpoints._improved(trainer(0.1 if not decision else 0.9, lambda _: decision)) is decision


def test_the_best_value_goes_on(make):
    before = make()
    before.best_value, before.best_step = 0.25, 3
    before.folders.best.parent.mkdir(parents=True)
    before.folders.best.touch()
    after = make()
    after.load_state_dict(before.state_dict())
    assert (after.best_value, after.best_step) == (0.25, 3)
    for other in (make("other"), make(monitor="valid/accuracy"), make(direction="max")):
        other.load_state_dict(before.state_dict())
        assert other.best_value is None


@pytest.mark.parametrize("decision", [True, False])
def test_the_first_process_decides_whether_to_export(make, decision, monkeypatch):
    """Ranks may not see each other's disks, and to export takes all of them."""
    made = []
    checkpoints = make()
    monkeypatch.setattr(
        checkpoints, "exporter", SimpleNamespace(export=lambda _, folder, **__: made.append(folder.name))
    )
    monkeypatch.setattr(checkpoints, "_write", lambda *_, **__: None)
    step = "ckpt_epoch_0_step_7"
    checkpoints.exported = None if not decision else step  # as this rank would decide otherwise
    running = trainer(0.5, lambda _: decision)
    running.callbacks, running.fit_loop = (
        [],
        SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(ready=1))),
    )
    checkpoints.save(running)
    assert made == ([step] if decision else [])
    checkpoints.save(running, export=False)
    assert len(made) == decision
