"""The same rows from every kind of place give the same run."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests import runs, tiny

# what readers get wrong: quotes, separators, line breaks, signs beyond ASCII, texts that look like numbers or nothing
STRANGE = ['say "rain", again', "tab\there; comma, too", "line one\nline two", "ünï ñ é 雨", "NA", "0012", "null", "1998-01-01"]  # fmt: skip  # noqa: E501
Rows = list[dict[str, Any]]


def rows() -> Rows:
    made = tiny.pairs(40)
    return [row | {"answer": STRANGE[i // 4] if i % 4 == 3 and i // 4 < len(STRANGE) else row["answer"]} for i, row in enumerate(made)]  # fmt: skip  # noqa: E501


def separated(rows: Rows, path: Path, delimiter: str) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def saved(rows: Rows, folder: Path) -> Path:
    datasets.Dataset.from_list(rows).save_to_disk(str(folder / "saved"), num_shards=3)
    return folder / "saved"


def one_list(rows: Rows, folder: Path) -> Path:
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder / "rows.json"


def parquet(rows: Rows, folder: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet", row_group_size=7)
    return folder / "rows.parquet"


def parts(rows: Rows, folder: Path) -> Path:
    (folder / "parts").mkdir()
    for i in range(0, len(rows), 15):
        tiny.write_jsonl(folder / "parts" / f"part-{i:02}.jsonl", rows[i : i + 15])
    return folder / "parts"


KINDS: dict[str, Callable[[Rows, Path], Path | str]] = {
    "saved": saved,
    "json": one_list,
    "csv": lambda rows, folder: separated(rows, folder / "rows.csv", ","),
    "tsv": lambda rows, folder: separated(rows, folder / "rows.tsv", "\t"),
    "parquet": parquet,
    "folder": parts,
    "glob": lambda rows, folder: f"{parts(rows, folder)}/part-*.jsonl",
}


def trained_on(folder: Path, source: Path | str, name: str, **flags: Any) -> tuple[Rows, dict[str, torch.Tensor]]:
    done = runs.run(folder, name=name, train_dataset=source, test_dataset=source, max_steps=3, **flags)
    return runs.predictions(done), runs.weights(done.pre_trained_models / "final")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows, dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("sources")
    return folder, *trained_on(folder, tiny.write_jsonl(folder / "rows.jsonl", rows()), "jsonl")


@pytest.mark.parametrize("kind", KINDS)
def test_source_gives_the_run_of_json_lines(
    expected: tuple[Path, Rows, dict[str, torch.Tensor]], kind: str, tmp_path: Path
) -> None:
    folder, predictions, weights = expected
    found, trained = trained_on(folder, KINDS[kind](rows(), tmp_path), kind)
    assert found == predictions
    assert all(torch.equal(trained[name], value) for name, value in weights.items())


def test_json_lines_keep_strange_texts(expected: tuple[Path, Rows, dict[str, torch.Tensor]]) -> None:
    _, predictions, _ = expected
    assert [{key: line[key] for key in row} for row, line in zip(rows(), predictions, strict=True)] == rows()


def test_shards_keep_one_question_in_n(expected: tuple[Path, Rows, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    folder = expected[0]
    every_third = tiny.write_jsonl(tmp_path / "third.jsonl", [row for row in rows() if row["key"] % 3 == 0])
    alone = trained_on(folder, every_third, "third")
    sharded = trained_on(folder, folder / "rows.jsonl", "shard", train_shard_dataset=3, test_shard_dataset=3)
    assert [row | {"id": i} for i, row in enumerate(sharded[0])] == alone[0]
    assert [row["id"] for row in sharded[0]] == list(range(len(alone[0])))
    assert all(torch.equal(sharded[1][name], value) for name, value in alone[1].items())


def test_columns_that_no_flag_names_may_hold_anything(
    expected: tuple[Path, Rows, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    folder, predictions, weights = expected
    more = [row | {"source": i if i % 2 else str(i), "hash": 2**64 + i} for i, row in enumerate(rows())]
    found, trained = trained_on(folder, tiny.write_jsonl(tmp_path / "more.jsonl", more), "more")
    assert found == predictions
    assert all(torch.equal(trained[name], value) for name, value in weights.items())


def test_keeping_data_in_memory_changes_nothing(expected: tuple[Path, Rows, dict[str, torch.Tensor]]) -> None:
    folder, predictions, weights = expected
    flags = {"keep_in_memory": True, "prepare_data_do_not_use_cache": True, "num_workers": 2}
    found, trained = trained_on(folder, folder / "rows.jsonl", "memory", **flags)
    assert found == predictions
    assert all(torch.equal(trained[name], value) for name, value in weights.items())
