"""Cached tokens: batches are those of the tokenizer, bit for bit, and damaged files are written again."""

from __future__ import annotations

import pickle
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from tests import runs, tiny
from transformers_framework.data import token_cache as cache
from transformers_framework.data.preparation import Preparation
from transformers_framework.inputs.text import TextInputs
from transformers_framework.sources.columns import DatasetSource

ROWS = datasets.Dataset.from_dict({"text": [row["text"] for row in tiny.classes(60)]})
SOURCE = DatasetSource("train", "train.jsonl", str)

PAIRS = {"pipeline": "answer_selection"}
# each with rows of its own where the usual ones have no such columns
CASES = {
    "pairs": PAIRS,
    "truncated on the left": {**PAIRS, "max_sequence_length": 9},
    "joint": {**PAIRS, "k": 2, "pad_to_k": True},
    "joint, other groups each epoch": {
        **PAIRS,
        "k": 3,
        "pad_to_k": True,
        "grouping": "random",
        "separated": True,
        "max_sequence_length": 24,
    },
    "claims": {"pipeline": "seq_class", "input_columns": ["claim", "*evidence"], "label_column": "label", "k": 2},
    "lists": {"pipeline": "seq_class", "input_columns": ["+evidence", "claim"], "label_column": "label"},
    "words of the tokenizer": {"pipeline": "masked_lm", "model": "roberta", "whole_word_masking": True},
    "words of ids": {"pipeline": "masked_lm", "whole_word_masking": True},
    "packed": {"pipeline": "masked_lm", "packing": "isolated"},
    "sources": {"pipeline": "summarization", "model": "t5", "prefix": "summarize: "},
    "denoising": {"pipeline": "denoising", "model": "bart", "shuffle_sentences": True},
    "two objectives": {"pipeline": "masked_lm_and_seq_class"},
    "queries": {"pipeline": "retrieval", "query_prefix": "query: "},
    "negatives": {
        "pipeline": "retrieval",
        "input_columns": ["claim", "text", "*evidence"],
        "label_column": None,
        "index_column": None,
        "loss_fn": "multiple_negatives_ranking_loss",
    },
}
NOT_CACHED = {
    "windows of words": {"pipeline": "token_class"},
    "windows of answers": {"pipeline": "question_answering"},
    "windows of texts": {"pipeline": "masked_lm", "packing": "full"},
    "sampled spans": {"pipeline": "structural_pretraining"},
    "stream": {"pipeline": "seq_class", "iterable": True},
}


def claims(n, seed):
    rows = tiny.classes(n, seed)
    names = [row["text"] for row in rows]
    return [
        {**row, "claim": names[-i], "evidence": [names[(i + j) % n] for j in range(1 + (i + seed) % 4)]}
        for i, row in enumerate(rows)
    ]


def words_of(folder, **flags):
    flags = {"length_bucketing": flags.get("packing") != "isolated" and "iterable" not in flags} | flags
    if "evidence" in str(flags.get("input_columns")):
        stages = ("train",) if flags["pipeline"] == "retrieval" else ("train", "valid")
        for number, each in enumerate(stages):
            flags[f"{each}_dataset"] = tiny.write_jsonl(folder / f"{each}.jsonl", claims(31, number))
    elif "iterable" in flags:
        flags["train_dataset"] = runs.datasets(folder, flags["pipeline"])["train_dataset"]
    return runs.command(folder, **flags)


def batches(words, stage, cached):
    experiment = runs.build([*words, "--cache_tokens", cached])
    data = experiment.data
    data.trainer = experiment.trainer
    loader = data.loader(stage)
    epochs = (0, 1) if stage == "train" else (0,)
    found = []
    for epoch in epochs:
        loader.epoch = lambda number=epoch: number
        found += list(loader)
    return found, data


def assert_equal(ours, theirs, place=""):
    assert type(ours) is type(theirs), place
    if isinstance(ours, dict):
        assert list(ours) == list(theirs), place
        for key in ours:
            assert_equal(ours[key], theirs[key], f"{place}/{key}")
    elif isinstance(ours, torch.Tensor):
        assert ours.dtype == theirs.dtype, place
        assert torch.equal(ours, theirs), place
    else:
        assert ours == theirs, place


@pytest.mark.parametrize("case", CASES)
def test_batches_are_those_of_the_tokenizer(tmp_path, case, monkeypatch):
    words = words_of(tmp_path, **CASES[case])
    for stage in ("train", "valid"):
        if f"--{stage}_dataset" not in words:
            continue
        expected, data = batches(words, stage, "false")
        assert not data._cached_tokens.get(stage)
        batches(words, stage, "auto")  # fills the cache
        with monkeypatch.context() as patched:
            patched.setattr(cache, "_write", None)  # it is not built again
            found, data = batches(words, stage, "auto")
        assert data._cached_tokens[stage] is not None
        assert len(found) == len(expected) > 1
        for ours, theirs in zip(found, expected, strict=True):
            assert_equal(ours, theirs)


@pytest.mark.parametrize("case", NOT_CACHED)
def test_rows_that_are_tokens_or_are_sampled_are_not_cached(tmp_path, case):
    _, data = batches(words_of(tmp_path, **NOT_CACHED[case]), "train", "true")
    assert not data._cached_tokens.get("train")
    assert not (tmp_path / "cache" / "tokens").exists()


def inputs_of(**options):
    return TextInputs(tiny.tokenizer(), 0, input_columns=["text"], max_sequence_length=[16], **options)


def tokens_of(folder, inputs, *, is_worth=True, rows=ROWS, **flags):
    prepares = Preparation(prepare_data_batch_size=7, cache_dir=str(folder), **flags)
    return prepares.tokens(rows, inputs, ["text"], SOURCE, is_worth=is_worth)


def test_tokens_are_mapped_in_other_processes(tmp_path):
    inputs = inputs_of()
    found = tokens_of(tmp_path, inputs, prepare_data_workers=3)
    rows = np.array([41, 3, 3])
    expected = inputs.tokenized(ROWS[rows.tolist()])
    for each in (found, pickle.loads(pickle.dumps(found))):
        assert np.array_equal(each[rows].ids, expected.ids)
        assert np.array_equal(each[rows].lengths, expected.lengths)
    assert len(pickle.dumps(found)) < 500, "only the folder"
    assert found._ids.dtype == np.uint16
    assert np.array_equal(found.input_lengths(inputs), inputs.token_lengths(ROWS))
    longer = TextInputs(tiny.tokenizer(), 0, input_columns=["text"], max_sequence_length=[30])
    assert tokens_of(tmp_path, longer).folder == found.folder, "texts are not truncated"
    assert tokens_of(tmp_path, inputs, rows=ROWS.select(range(9))).folder != found.folder


def test_damaged_tokens_are_written_again(tmp_path, caplog):
    found = tokens_of(tmp_path, inputs_of())
    ids = np.array(found._ids)
    path = found.folder / "ids.uint16"
    for damage in (path.read_bytes()[:-2], bytes(len(path.read_bytes()))):
        path.write_bytes(damage)
        again = tokens_of(tmp_path, inputs_of(), verify_data=True)
        assert np.array_equal(again._ids, ids)
        assert "damaged" in caplog.text
        caplog.clear()


def test_tokens_that_do_not_fit_are_not_cached(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    assert tokens_of(tmp_path, inputs_of(), is_worth=False) is None
    assert tokens_of(tmp_path, inputs_of(), cache_tokens=False) is None
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: cache.shutil._ntuple_diskusage(10**6, 0, 10**4))
    assert tokens_of(tmp_path, inputs_of()) is None
    assert "they would take more than a tenth of the free disk space" in caplog.text
    assert tokens_of(tmp_path, inputs_of(), cache_tokens=True) is not None
    assert tokens_of(tmp_path, inputs_of()) is not None, "they are there"
    size = sum(
        file.stat().st_size
        for file in next(filter(Path.is_dir, (tmp_path / "tokens").iterdir())).iterdir()
        if file.name[0] != "."
    )
    encoder = cache.Encoder(inputs_of(), np.dtype(np.uint16))
    assert cache.estimated_size(ROWS, encoder) == pytest.approx(size, rel=0.01)
