"""What the Parquet reader of `datasets` does not do: where a test here fails, it has learned it, and ours can go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transformers_framework.exceptions import DataError
from transformers_framework.sources.fields import NamedColumns
from transformers_framework.sources.loading import load_dataset


def files(folder: Path, *tables: pa.Table) -> list[str]:
    folder.mkdir()
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet")
    return sorted(map(str, folder.iterdir()))


def theirs(paths: list[str], **options: Any) -> list[dict[str, Any]]:
    return list(datasets.load_dataset("parquet", data_files=paths, split="train", streaming=True, **options))


def ours(source: Path, *read: str, cache_dir: Path) -> datasets.Dataset:
    columns = NamedColumns(read=frozenset(read) if read else None)
    return load_dataset(str(source), stage="train", columns=columns, cache_dir=cache_dir)  # type: ignore[return-value]


def test_a_column_that_is_not_read_may_be_of_any_type(tmp_path: Path) -> None:
    odd = pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64()))
    paths = files(tmp_path / "d", pa.table({"t": ["a"], "x": odd}))
    with pytest.raises(ValueError, match="does not have a datasets dtype equivalent"):
        theirs(paths, columns=["t"])
    data = ours(tmp_path / "d", "t", cache_dir=tmp_path / "cache")
    assert data["t"][:] == ["a"]


def test_types_hold_the_values_of_all_files(tmp_path: Path) -> None:
    paths = files(tmp_path / "d", pa.table({"x": [1]}), pa.table({"x": [0.5]}))
    with pytest.raises(pa.ArrowInvalid, match="truncated"):
        theirs(paths)
    assert ours(tmp_path / "d", cache_dir=tmp_path / "cache")["x"][:] == [1.0, 0.5]


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    tables = []
    for names in (["neg", "pos"], ["pos", "neg"]):
        features = datasets.Features({"y": datasets.ClassLabel(names=names)})
        tables.append(datasets.Dataset.from_dict({"y": ["neg"]}, features=features).data.table)
    assert theirs(files(tmp_path / "d", *tables)) == [{"y": 0}, {"y": 1}], "of one class, as two"
    assert ours(tmp_path / "d", cache_dir=tmp_path / "cache")["y"][:] == [0, 0]


def test_texts_are_checked(tmp_path: Path) -> None:
    offsets = pa.array([0, 1, 2], pa.int32()).buffers()[1]
    broken = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a\xff")])
    paths = files(tmp_path / "d", pa.table({"t": broken}))
    stream = datasets.load_dataset("parquet", data_files=paths, split="train", streaming=True)
    assert len(next(stream.with_format("arrow").iter(2))) == 2
    with pytest.raises(DataError, match=r"0\.parquet: column 't' has a value that cannot be read as string"):
        ours(tmp_path / "d", cache_dir=tmp_path / "cache")


def test_a_name_is_no_pattern(tmp_path: Path) -> None:
    (path,) = files(tmp_path / "d", pa.table({"t": ["a"]}))
    named = Path(path).rename(tmp_path / "d" / "part[1].parquet")
    with pytest.raises((ValueError, FileNotFoundError)):
        theirs([str(named)])
    assert ours(named, cache_dir=tmp_path / "cache")["t"][:] == ["a"]
