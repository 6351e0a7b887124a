"""Every pipeline by one, two and three processes, with rows that do not divide: equal learning, equal evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import cases, runs, tiny
from tests.integration.interrupted import run_together
from tests.tolerances import approx
from transformers_framework.storage.run_folders import RunFolders

SIZES = (41, 23, 28, 13)  # steps of 12 rows leave 5, evaluation leaves 11 and 5 and 4 and 1 of them
STEP = 12
JOINT = "answer_selection -k"
CASES = {name: {"pipeline": name, "model": case.family, **case.flags} for name, case in cases.CASES.items()}
CASES[JOINT] = CASES["answer_selection"] | {"k": 3, "pad_to_k": True, "max_sequence_length": 80, "grouping": "random"}
CASES["retrieval"] |= {"loss_fn": "multiple_negatives_symmetric_ranking_loss", "sync_devices": True, "top_k": 10}
CASES["summarization"] |= {"generation_num_beams": 2}


def still(model: str) -> list[str]:
    """Return what takes dropout away, which differs from process to process."""
    config = tiny.config_for(model)
    rates = [name for name, value in config.to_dict().items() if "dropout" in name and isinstance(value, float)]
    return [f"{name}=0.0" for name in rates]


def run(folder: Path, processes: int, **flags: Any) -> RunFolders:
    words = runs.command(folder, devices=processes, strategy="ddp" if processes > 1 else "auto", **flags)
    log = folder / f"{flags['name']}.log"
    assert run_together(words, log, processes) == [0] * processes, log.read_text()
    return runs.folders_of(words)


def lines_of(folders: RunFolders) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of every file of predictions."""
    files = sorted(folders.predictions.glob("*.jsonl"))
    return {path.name: [json.loads(line) for line in path.read_text().splitlines()] for path in files}


def assert_alike(found: Any, expected: Any) -> None:
    """Compare values of JSON: numbers nearly, all else exactly."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert_alike(ours, theirs)
    else:
        assert found == (approx(expected) if isinstance(expected, float) else expected)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_any_number_of_processes_is_as_one(case: str, tmp_path: Path) -> None:
    flags = CASES[case] | {"adamw_epsilon": 1e-5, "additional_config_kwargs": still(CASES[case]["model"])}
    data = runs.datasets(tmp_path / "data", flags["pipeline"], SIZES)
    evaluated = {name: path for name, path in data.items() if "train" not in name}
    if case == "retrieval":
        texts = [row["answer"] for seed, size in enumerate(SIZES) for row in runs.rows_for(case, size, seed)]
        rows = [{"text": text} for text in dict.fromkeys(texts)]
        evaluated |= {"corpus_dataset": tiny.write_jsonl(tmp_path / "corpus.jsonl", rows), "corpus_column": "text"}
    learned, measured = [], []
    for processes in (1, 2, 3):
        size = {"batch_size": STEP // processes, "eval_batch_size": 5 - processes}
        trained = run(
            tmp_path, processes, name=f"trained by {processes}", **size, **flags, train_dataset=data["train_dataset"]
        )
        learned.append(trained)
        start = {"ckpt_path": learned[0].last, "name": f"measured by {processes}"}
        measured.append(run(tmp_path, processes, **size, **flags, **start, **evaluated))
    one, *more = learned
    for each in more:
        runs.assert_weights_are_close(each.last, one.last)
        assert runs.metrics(each, "train").keys() == runs.metrics(one, "train").keys()
    for each in measured[1:]:
        for stage in ("valid", "test"):
            assert runs.metrics(each, stage) == approx(runs.metrics(measured[0], stage)), stage
        assert_alike(lines_of(each), lines_of(measured[0]))
    assert lines_of(measured[0])
