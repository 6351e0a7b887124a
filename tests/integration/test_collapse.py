"""A warning if a model predicts one class for everything, and only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import runs, tiny
from transformers_framework.metrics.confusion import count_pairs
from transformers_framework.objectives.details import collapse
from transformers_framework.objectives.details.collapse import FEWEST, warn_of_collapse


@pytest.mark.parametrize(
    ("labels", "preds", "warns"),
    [
        ([0] * FEWEST + [1], [0] * (FEWEST + 1), True),
        ([0] * FEWEST + [1], [0] * FEWEST + [1], False),
        ([0] * FEWEST, [0] * FEWEST, False),
        ([0] * (FEWEST - 2) + [1], [0] * (FEWEST - 1), False),
    ],
    ids=["one class", "both", "one label", "few rows"],
)
def test_only_one_class_for_labels_of_several_is_a_warning(labels, preds, warns, monkeypatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(collapse.logger, "warning", lambda text, *given: said.append(text % given))
    warn_of_collapse(count_pairs(["no", "yes"], labels, preds))
    assert [text.startswith(f"Test: each of the {FEWEST + 1} rows is predicted as no") for text in said] == [
        True
    ] * warns


def test_a_run_warns_at_its_end(tmp_path: Path, said: Any) -> None:
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", tiny.classes(24))
    flags = {"learning_rate": 1e-2, "label_weights": [1, 0], "max_epochs": 2}
    runs.run(tmp_path, pipeline="seq_class", train_dataset=file, test_dataset=file, **flags)
    assert "Test: each of the 24 rows is predicted as 0, though" in said.text
