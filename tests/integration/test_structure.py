"""Structural pre-training: runs over documents, with one candidate and with several; batches; resuming; fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import runs, tiny
from tests.tolerances import approx
from transformers_framework.data.loader import RowReader
from transformers_framework.data.sampler import BatchSampler
from transformers_framework.data.samplers import row_lengths
from transformers_framework.inputs.paragraphs import paragraphs_of

PIPELINE = "structural_pretraining"
LEARNING: dict[str, Any] = {"learning_rate": 3e-3, "scheduler": "constant", "min_sentence_length": 4, "max_epochs": 1}
JOINT: dict[str, Any] = {
    "k": 5,
    "separated": True,
    "max_sequence_length": 20,
    "extended_token_type_ids": [0, 1, 2, 3, 4, 5],
}
STRUCTURES = ("same_paragraph", "span_in_paragraph", "same_document", "in_context")


def data(folder: Path, **sizes: int) -> dict[str, Path]:
    return {
        f"{stage}_dataset": tiny.write_jsonl(folder / f"{stage}.jsonl", tiny.documents(size, size))
        for stage, size in sizes.items()
    }


def test_groups_are_learned_tested_and_fine_tuned(tmp_path: Path, capsys: Any) -> None:
    flags: dict[str, Any] = {**JOINT, "span_sentences": [1, 1]}
    learned = runs.run(
        tmp_path,
        pipeline=f"masked_lm+{PIPELINE}",
        name="mspp",
        **flags,
        **LEARNING,
        **data(tmp_path, train=30, test=20),
    )
    assert "was not pre-trained with several candidates" not in capsys.readouterr().err
    found = runs.predictions(learned)
    metrics = runs.metrics(learned, "test")
    ranks = [sorted(row["scores"], reverse=True).index(row["scores"][row["label"].index(1)]) for row in found]
    assert np.mean([1 / (1 + rank) for rank in ranks]) == approx(metrics["test/answer_selection/mean_reciprocal_rank"])
    assert all(len(row["scores"]) == len(row["label"]) == 5 and sum(row["label"]) == 1 for row in found)
    documents = tiny.documents(20, 20)
    assert all(row["text"] in documents[row["source_row"]]["text"] for row in found)
    export = learned.pre_trained_models / "final" / "answer_selection"
    capsys.readouterr()
    tuned = runs.run(
        tmp_path, name="tuned", pre_trained_model=export, grouping="random", pad_to_k=True, **JOINT,
        train_dataset=tiny.write_jsonl(tmp_path / "pairs.jsonl", tiny.pairs(40)),
    )  # fmt: skip
    said = capsys.readouterr().err
    assert "was not pre-trained with several candidates" not in said
    assert "newly initialized" not in said
    assert tuned.pre_trained_models.exists()


@pytest.mark.parametrize("structure", STRUCTURES)
def test_pairs_are_learned_and_previewed(structure: str, tmp_path: Path, capsys: Any) -> None:
    from transformers_framework.cli.main import main

    flags = {"pipeline": PIPELINE, "structure": structure, "max_sequence_length": 48, **LEARNING}
    flags |= data(tmp_path, train=20)
    assert main([*runs.command(tmp_path, **flags), "--preview", "3"]) == 0
    shown = capsys.readouterr().out
    texts = [" ".join(row["text"].split()) for row in tiny.documents(20, 20)]
    for block in shown.split("\n\n")[1:]:
        head, tokens, label = (line.strip() for line in block.splitlines())
        first, second, *_ = (part.strip() for part in tokens.replace("[CLS]", "").split("[SEP]"))
        assert "prepared row" in head
        assert label in ("→ label 0", "→ label 1")
        assert first != second
        assert any(first[:10] in text for text in texts)
    folders = runs.run(tmp_path, **flags)
    assert set(runs.metrics(folders, "train")) >= {"train/loss", "train/answer_selection/accuracy"}


def batches(built: Any, epoch: int, *, batch_size: int, world_size: int) -> list[tuple[Any, ...]]:
    """Return what each paragraph of an epoch became: tokens, labels; in the order of paragraphs."""
    found = []
    for rank in range(world_size):
        sampler = BatchSampler(
            built.num_entries("train"), batch_size=batch_size, seed=built.seed, shuffle=True, rank=rank,
            world_size=world_size, lengths=row_lengths(built, "train"),
            regroup=lambda epoch: built.inputs.groups("train", built.seed, epoch),
        )  # fmt: skip
        sampler.set_epoch(epoch)
        reader, collate = RowReader(built.datasets["train"], built.columns("train")), built.collator("train")
        for request in sampler:
            batch = collate(reader[request])
            own = batch["answer_selection"]["labels"]
            for row, number in enumerate(batch["row_ids"].tolist()):
                ids = batch["input_ids"][row][batch["attention_mask"][row] > 0].tolist()
                found += [(number, tuple(ids), str(own[row].tolist()))] * (number >= 0)
    return sorted(found)


@pytest.mark.parametrize("k", [None, 5])
def test_batches_and_ranks_change_nothing(k: int | None, tmp_path: Path) -> None:
    flags = (JOINT if k else {"max_sequence_length": 48}) | data(tmp_path, train=20) | {"min_sentence_length": 4}
    built = runs.build(runs.command(tmp_path, pipeline=PIPELINE, max_epochs=1, **flags)).data
    whole = batches(built, 0, batch_size=8, world_size=1)
    assert [number for number, *_ in whole] == sorted(built.inputs.asked["train"].tolist())
    assert batches(built, 0, batch_size=3, world_size=2) == whole
    other = batches(built, 1, batch_size=8, world_size=1)
    assert np.mean([one == two for one, two in zip(whole, other, strict=True)]) < 0.2


def test_a_resumed_run_is_bit_for_bit(tmp_path: Path) -> None:
    flags: dict[str, Any] = JOINT | data(tmp_path, train=20) | {"pipeline": PIPELINE, "min_sentence_length": 4}
    flags |= {"scheduler": "constant", "length_bucketing": True, "no_epoch_checkpointing": True, "num_workers": 1}
    whole = runs.run(tmp_path, name="whole", max_steps=14, max_epochs=None, **flags)  # 9 or so steps an epoch
    runs.run(tmp_path, name="parts", max_steps=5, max_epochs=None, **flags)
    parts = runs.run(tmp_path, name="parts", max_steps=14, max_epochs=None, resume=True, **flags)
    assert runs.weights_are_equal(*(folders.pre_trained_models / "final" for folders in (parts, whole)))


def test_what_is_left_out_is_reported(tmp_path: Path, capsys: Any) -> None:
    documents = [
        *tiny.documents(12, 1),
        {"text": " "},
        {"text": "a title only"},
        {"text": "Two of it. And more of it."},
    ]
    lists = [{"parts": row["text"].split("\n\n")} for row in documents]
    for name, rows, column in (("texts", documents, "text"), ("lists", lists, "parts")):
        file = tiny.write_jsonl(tmp_path / f"{name}.jsonl", rows)
        flags = {"documents_column": column, "train_dataset": file, "min_sentence_length": 4, "max_epochs": 1}
        built = runs.build(runs.command(tmp_path, pipeline=PIPELINE, **flags)).data
        told = json.dumps(built.inputs.left_out["train"])
        assert "12 paragraphs with one sentence, or that their document repeats (the first in" in told
        assert f"2 documents without a paragraph of two sentences (the first in {file}:13)" in told
        alone = "1 paragraphs whose document has fewer than 4 other sentences, too few for its candidates"
        assert f"{alone} (the first in {file}:15)" in told


def test_copies_of_a_paragraph_are_no_candidates_of_it(tmp_path: Path) -> None:
    """Documents of which nearly all paragraphs are equal had spans without any candidate; numbers are read as text."""
    parts = ["One of it. More of it."] * 300 + ["The last. The end."]
    rows: list[dict[str, Any]] = [{"parts": parts}] * 4
    rows += [{"parts": row["text"].split("\n\n")} for row in tiny.documents(8, 1)]
    flags = {"documents_column": "parts", "structure": "same_document", "max_sequence_length": 48, "max_epochs": 1}
    file = tiny.write_jsonl(tmp_path / "train.jsonl", rows)
    built = runs.build(
        runs.command(tmp_path, pipeline=PIPELINE, train_dataset=file, min_sentence_length=4, **flags)
    ).data
    assert built.datasets["train"]["source_row"][:9] == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert len(batches(built, 0, batch_size=8, world_size=1)) == len(built.inputs.asked["train"])
    assert len(paragraphs_of(0, [3, [4, None], None], "\n\n", 1)) == 0
    assert len(paragraphs_of(0, ["One is. Two is.\r\n\r\nThree was. Four was."], "\n\n", 1)) == 2
