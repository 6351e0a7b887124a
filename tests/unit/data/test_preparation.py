"""Preparation of data sets: its processes change no result, and their errors are those of one process."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

from tests import tiny
from transformers_framework.data import preparation
from transformers_framework.data.preparation import Preparation
from transformers_framework.exceptions import DataError
from transformers_framework.inputs.batches import EncodedBatches
from transformers_framework.inputs.text import TextInputs

ROWS = datasets.Dataset.from_dict({"text": [row["text"] for row in tiny.classes(60)]})


def failing(first_row, rows):
    if first_row == 20:
        raise DataError("train.jsonl:21: the text is null.")
    return len(rows["text"])


def test_all_cpus_prepare_data_that_is_large_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "num_cpus", lambda: 8)
    prepares = Preparation(prepare_data_batch_size=10, cache_dir=str(tmp_path))
    numbers = [prepares.sizes(ROWS.select(range(size)))["num_workers"] for size in (0, 19, 40, 60)]
    assert numbers == [1, 1, 2, 3], "each process has two batches or more"
    asked = Preparation(prepare_data_workers=5, prepare_data_batch_size=10, cache_dir=str(tmp_path))
    assert asked.sizes(ROWS) == {"batch_size": 10, "num_workers": 5}


def test_processes_change_no_length(tmp_path):
    inputs = TextInputs(tiny.tokenizer(), 0, input_columns=["text"], max_sequence_length=[16])
    found = [
        Preparation(prepare_data_workers=number, prepare_data_batch_size=7, cache_dir=str(tmp_path / str(number)))
        for number in (1, 3)
    ]
    one, several = (prepares.token_lengths(ROWS, inputs) for prepares in found)
    assert np.array_equal(one, several)
    assert len(one) == len(ROWS)


def test_an_error_of_a_process_has_its_own_message():
    with pytest.raises(DataError, match=r"^train.jsonl:21: the text is null.$"):
        list(EncodedBatches(failing, ROWS, 10).in_order(2))
