"""Training rows are batched by length unless something speaks against it, and files of a run say which it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import runs, tiny

CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "by default": ({}, True),
    "words": ({"pipeline": "token_class"}, True),
    "windows": ({"pipeline": "question_answering"}, True),
    "two texts": ({"pipeline": "retrieval"}, True),
    "groups": ({"pipeline": "answer_selection", "k": 2, "pad_to_k": True}, True),
    "pieces": ({"pipeline": "masked_lm", "split_long_texts": True}, True),
    "off": ({"length_bucketing": False}, False),
    "full windows": ({"pipeline": "masked_lm", "packing": "full"}, False),
    "documents": ({"pipeline": "masked_lm", "packing": "isolated"}, False),
    "a stream": ({"iterable": True}, False),
    "a stream, asked for": ({"iterable": True, "length_bucketing": True}, True),
    "the first batches": ({"overfit_batches": 2}, False),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_are_batched_by_length_where_they_differ(tmp_path: Path, case: str) -> None:
    given, is_bucketed = CASES[case]
    flags = {"pipeline": "seq_class", "batch_size": 4, "max_steps": 2} | given
    rows = runs.rows_for(flags["pipeline"], 32)
    data = tiny.write_jsonl(tmp_path / "train.jsonl", rows)
    built = runs.build(runs.command(tmp_path, **flags, train_dataset=data))
    assert built.data.length_bucketing is is_bucketed
    assert yaml.safe_load(built.config_yaml)["length_bucketing"] is is_bucketed
    built.data.trainer = built.trainer
    sampler = built.data.loader("train").requests
    assert (sampler.lengths is not None or sampler.row_lengths is not None) is (is_bucketed and not built.data.iterable)


def test_a_run_that_was_begun_without_buckets_is_continued_without_them(tmp_path: Path) -> None:
    flags = {"pipeline": "seq_class", "train_dataset": tiny.write_jsonl(tmp_path / "a.jsonl", tiny.classes(24))}
    before = runs.run(tmp_path, **flags, length_bucketing=False)
    runs.run(tmp_path, **flags, resume=True, max_epochs=2)
    assert yaml.safe_load(before.config.read_text("utf-8"))["length_bucketing"] is False
