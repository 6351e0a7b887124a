"""``--packing`` and ``--split_long_texts``: the same learning with less padding, and no token lost."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import runs, tiny
from tests.tolerances import BACKWARD, approx, assert_close, assert_gradients_close
from transformers_framework.constants import TRAIN
from transformers_framework.data.loader import RowReader
from transformers_framework.data.sampler import BatchRequest
from transformers_framework.storage.run_folders import RunFolders

NO_DROPOUT = {
    "bert": ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"],
    "bart": ["dropout=0.0", "attention_dropout=0.0", "activation_dropout=0.0"],
    "t5": ["dropout_rate=0.0"],
}
NUM_ROWS = 37


def texts(folder: Path, n: int = NUM_ROWS, *, long: int = 0) -> Path:
    """Write ``n`` short texts, and some that are longer than the 48 tokens of an input."""
    rows = [{"text": row["answer"]} for row in tiny.pairs(n)]
    rows += [{"text": "the old storm and every spoon near the kettle " * 12} for _ in range(long)]
    return tiny.write_jsonl(folder / f"texts-{n}-{long}.jsonl", rows)


def run(folder: Path, name: str, **flags: Any) -> RunFolders:
    given = {"pipeline": "masked_lm", "train_dataset": texts(folder), "batch_size": 2}
    given["additional_config_kwargs"] = NO_DROPOUT.get(flags.get("model"), NO_DROPOUT["bert"])
    return runs.run(folder, name=name, **(given | flags))


def equal(first: RunFolders, second: RunFolders) -> bool:
    return runs.weights_are_equal(*(folders.pre_trained_models / "final" for folders in (first, second)))


def gradients(experiment: Any, request: BatchRequest) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the sums of the losses of a batch, and the gradient of every parameter."""
    data, module = experiment.data, experiment.module
    reader = RowReader(data.datasets[TRAIN], data.columns(TRAIN), data.inputs.token_columns)
    batch = data.collator(TRAIN)(reader[request])
    module.zero_grad(set_to_none=True)
    totals = module._stage_step(batch, TRAIN).losses
    torch.stack(list(totals.values())).sum().backward()
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    return {name: float(total) for name, total in totals.items()}, found


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    ("pipeline", "model", "flags"),
    [
        ("masked_lm", "bert", {}),
        ("masked_lm", "roberta", {"whole_word_masking": True}),
        ("masked_lm", "deberta_v2", {}),
        ("masked_lm", "modernbert", {}),
        ("random_token_detection", "distilbert", {}),
        ("token_detection_and_masked_lm", "electra", {}),
        ("denoising", "t5", {}),
        ("denoising", "t5", {"max_sequence_length": [48, 24], "denoisers": ["0.15,3", "0.5,8", "0.25,inf"]}),
        ("denoising", "t5", {"whole_word_denoising": True}),
        ("denoising", "bart", {"max_sequence_length": [40, 48]}),
        ("denoising", "mbart", {"whole_word_denoising": True}),
    ],
)
def test_isolated_packing_has_the_loss_and_gradients_of_none(
    tmp_path: Path, pipeline: str, model: str, flags: dict[str, Any], split: bool
) -> None:
    source = texts(tmp_path, 20, long=2)
    words = runs.command(
        tmp_path, pipeline=pipeline, model=model, train_dataset=source, input_columns="text", packing="isolated",
        split_long_texts=split or None, **flags,
    )  # fmt: skip
    experiment = runs.build(words)
    bins = experiment.data.bins
    assert bins is not None
    assert len(bins) < len(bins.rows)
    experiment.module.eval()  # no dropout: its draws depend on the shape of a batch
    packed = BatchRequest(3, tuple(bins.rows.tolist()), tuple(bins.sizes.tolist()))
    ours, mine = gradients(experiment, packed)
    theirs, its = gradients(experiment, BatchRequest(3, packed.rows))
    assert ours == approx(theirs)
    assert_gradients_close(mine, its)


@pytest.mark.parametrize("limits", [[48], [64, 32], [40, 48]])
@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("t5", {}),
        ("t5", {"whole_word_denoising": True}),
        ("t5", {"denoisers": ["0.15,3", "0.5,3", "0.25,inf"]}),
        ("bart", {}),
        ("bart", {"whole_word_denoising": True, "mean_span_length": 0.6}),
    ],
)
def test_bins_hold_inputs_and_targets_of_every_epoch(
    tmp_path: Path, model: str, flags: dict[str, Any], limits: list[int]
) -> None:
    words = runs.command(
        tmp_path, pipeline="denoising", model=model, train_dataset=texts(tmp_path, 300, long=20), packing="isolated",
        max_sequence_length=limits, **flags,
    )  # fmt: skip
    data = runs.build(words).data
    bins, collate = data.bins, data.collator(TRAIN)
    assert bins is not None
    reader, fill = RowReader(data.datasets[TRAIN], data.columns(TRAIN), data.inputs.token_columns), []
    spare = 8 if flags.get("whole_word_denoising") else 0  # words decide on a few tokens more or less
    for epoch in range(3):
        rows, sizes = tuple(bins.rows.tolist()), tuple(bins.sizes.tolist())
        packed, plain = (collate(reader[BatchRequest(epoch, rows, each)]) for each in (sizes, None))
        own, alone = packed["denoising"], plain["denoising"]
        read, written = packed["documents"] > 0, packed["decoder_documents"] > 0
        assert read.shape[1] <= limits[0] + spare
        assert written.shape[1] <= limits[-1] + spare
        assert torch.equal(packed["input_ids"][read], plain["input_ids"][plain["attention_mask"] > 0])
        assert torch.equal(own["labels"], alone["labels"])
        starts = alone["decoder_input_ids"].flatten()[alone["positions"]]
        assert torch.equal(own["decoder_input_ids"].flatten()[own["positions"]], starts)
        assert packed["num_items"] == plain["num_items"]
        fill.append(max(float(read.sum()) / (len(sizes) * limits[0]), float(written.sum()) / (len(sizes) * limits[-1])))
    assert min(fill) > (0.5 if "denoisers" in flags else 0.7)  # bins have room for what the longest of them makes


@pytest.mark.parametrize(("pipeline", "model"), [("masked_lm", "bert"), ("denoising", "t5"), ("denoising", "bart")])
def test_isolated_packing_learns_what_no_packing_learns(tmp_path: Path, pipeline: str, model: str) -> None:
    """All texts in one step: with as many rows as there are bins, and with one row each."""
    flags = {"pipeline": pipeline, "model": model, "batch_size": NUM_ROWS, "max_epochs": 3}
    none = run(tmp_path, "none", **flags)
    isolated = run(tmp_path, "isolated", packing="isolated", **flags)
    finals = [each.pre_trained_models / "final" for each in (none, isolated)]
    runs.assert_weights_are_close(*finals)
    losses = [[value for _, value in runs.scalars(each)["train/loss"]] for each in (none, isolated)]
    assert losses[0] == approx(losses[1], BACKWARD)


def test_workers_change_nothing_and_a_stopped_run_goes_on(tmp_path: Path) -> None:
    flags = {"packing": "isolated", "scheduler": "constant", "checkpoint_interval": 1, "additional_config_kwargs": None}
    whole = run(tmp_path, "whole", max_steps=7, **flags)
    assert equal(run(tmp_path, "workers", max_steps=7, num_workers=2, **flags), whole)
    run(tmp_path, "parts", max_steps=2, **flags)
    assert equal(run(tmp_path, "parts", max_steps=7, resume=True, **flags), whole)
    steps = [step for step, _ in runs.scalars(whole)["train/loss"]]
    assert steps == list(range(7))


def test_an_epoch_has_as_many_steps_as_bins_need_and_every_text_once(tmp_path: Path) -> None:
    with runs.watched() as seen:
        folders = run(tmp_path, "run", packing="isolated", max_epochs=2)
    data = seen.experiment.data
    assert data.num_rows[TRAIN] == NUM_ROWS
    assert data.bins is not None
    per_epoch = -(-len(data.bins) // 2)
    assert per_epoch < NUM_ROWS / 4
    assert len(runs.scalars(folders)["train/loss"]) == 2 * per_epoch == seen.experiment.steps.total


def test_evaluation_is_the_same_with_every_packing_that_keeps_rows(tmp_path: Path) -> None:
    source = texts(tmp_path, 23)
    results = []
    for packing in ("none", "isolated"):
        folders = run(tmp_path, packing, train_dataset=None, test_dataset=source, packing=packing)
        results.append((runs.metrics(folders, "test"), runs.predictions(folders)))
    assert results[0] == results[1]


def test_full_windows_are_prepared_once_and_used_by_all_stages(tmp_path: Path) -> None:
    sources = {f"{stage}_dataset": texts(tmp_path, n, long=2) for stage, n in zip(runs.STAGES, (37, 11, 12, 13), strict=True)}  # fmt: skip  # noqa: E501
    with runs.watched() as seen:
        folders = run(tmp_path, "first", packing="full", whole_word_masking=True, **sources)
        again = run(tmp_path, "second", packing="full", whole_word_masking=True, num_workers=2, **sources)
    assert equal(folders, again)
    prepared = [path for path in (tmp_path / "cache" / "prepared").iterdir() if path.is_dir()]
    assert len(prepared) == 4, "one a stage, none of them twice"
    data = seen.experiment.data
    dataset = data.datasets[TRAIN]
    assert {len(ids) for ids in dataset["input_ids"][:-1]} == {48}
    assert len(dataset) < NUM_ROWS
    assert "prepared row 0, which starts in " in data.source_of(TRAIN).place(0)
    assert data.source_of(TRAIN).place(0).endswith(":1")
    rows = runs.predictions(folders)
    assert [row["id"] for row in rows] == list(range(len(rows)))
    assert rows[0]["source_row"] == 0
    first = json.loads((tmp_path / "texts-12-2.jsonl").read_text().splitlines()[0])["text"]
    assert rows[0]["text"].startswith(first[:10])
    assert all("[MASK]" not in row["text"] for row in rows), "the text, not what the model saw"


def test_seeds_share_what_is_prepared_and_other_lengths_do_not(tmp_path: Path) -> None:
    def prepared() -> int:
        return len([path for path in (tmp_path / "cache" / "prepared").iterdir() if path.is_dir()])

    words = {"train_dataset": texts(tmp_path), "pipeline": "masked_lm"}
    for changes, expected in (
        ({"packing": "full"}, 1),
        ({"packing": "full", "seed": 7, "batch_size": 3, "prepare_data_batch_size": 5}, 1),
        ({"packing": "full", "max_sequence_length": 32}, 2),
        ({"packing": "full", "whole_word_masking": True}, 3),
        ({"split_long_texts": True}, 4),
    ):
        assert runs.build(runs.command(tmp_path, **(words | changes))).data
        assert prepared() == expected, changes


def test_long_texts_are_cut_and_said_or_split(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    source = texts(tmp_path, 10, long=3)
    run(tmp_path, "cut", train_dataset=source)
    assert "3 of 13 texts (23.1 %) were cut to fit --max_sequence_length 48" in said.text
    said.clear()
    with runs.watched() as seen:
        run(tmp_path, "split", train_dataset=source, split_long_texts=True, packing="isolated")
    assert "were cut" not in said.text
    assert seen.experiment.data.num_rows[TRAIN] > 13


@pytest.mark.parametrize("flags", [{"packing": "full"}, {"packing": "isolated"}, {"split_long_texts": True}])
def test_the_check_reads_what_training_reads(
    tmp_path: Path, flags: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "checked", check=True, train_dataset=texts(tmp_path, 37, long=2), test_dataset=texts(tmp_path, 9), **flags)  # fmt: skip  # noqa: E501
    said = capsys.readouterr().out
    assert "No problems found." in said
    assert "predict " in said
    assert (" 5.1 % of the texts were cut" in said) is ("isolated" in flags.values()), "two of 39"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"packing": "full", "iterable": True}, "--iterable: --packing full"),
        ({"packing": "isolated", "iterable": True}, "--iterable: --packing isolated"),
        ({"packing": "isolated", "length_bucketing": True}, "--length_bucketing batches rows"),
        ({"packing": "isolated", "model": "convbert"}, "--packing isolated: .*convolutions.*Use --packing full"),
        ({"packing": "some"}, "--packing"),
        ({"packing": "full", "input_columns": "txt"}, r"no column 'txt'.*Did you mean 'text'"),
    ],
)
def test_what_cannot_be_packed(
    tmp_path: Path, flags: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "wrong", status=2, **copy.deepcopy(flags))
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(message, said), said


def test_pieces_of_packed_rows_are_not_seen_by_others(tmp_path: Path) -> None:
    """What stands in one text of a row changes no prediction in another."""
    words = runs.command(tmp_path, pipeline="masked_lm", train_dataset=texts(tmp_path), packing="isolated")
    experiment = runs.build(words)
    bins = experiment.data.bins
    assert bins is not None
    rows = tuple(bins[0])
    assert len(rows) > 1
    data, module = experiment.data, experiment.module.eval()
    batch = data.collator(TRAIN)(RowReader(data.datasets[TRAIN], data.columns(TRAIN))[BatchRequest(0, rows, (len(rows),))])  # fmt: skip  # noqa: E501
    with torch.no_grad():
        inputs = module._inputs(batch)
        states = module.model.backbone(**inputs).last_hidden_state
        second = batch["documents"] == 2
        changed = torch.where(second, (inputs["input_ids"] + 1) % experiment.config.vocab_size, inputs["input_ids"])
        other = module.model.backbone(**{**inputs, "input_ids": changed}).last_hidden_state
    assert_close(states[~second], other[~second])
    assert not np.allclose(states[second], other[second])


@pytest.mark.slow
@pytest.mark.parametrize(("pipeline", "model"), [("masked_lm", "bert"), ("denoising", "t5")])
def test_two_processes_pack_as_one(tmp_path: Path, pipeline: str, model: str) -> None:
    flags = {"packing": "isolated", "max_epochs": 2, "train_dataset": texts(tmp_path, 60), "pipeline": pipeline,
             "model": model, "additional_config_kwargs": NO_DROPOUT[model]}  # fmt: skip
    one = runs.run(tmp_path, name="one", batch_size=4, **flags)
    two, _ = runs.spawn(tmp_path, name="two", batch_size=2, devices=2, strategy="ddp", **flags)
    runs.assert_weights_are_close(*(each.pre_trained_models / "final" for each in (one, two)))
