"""Fingerprints of data sets: a hash of each column in the order of rows, independent of the location of the files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transformers_framework.constants import Stage
from transformers_framework.storage.cache import digest

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from transformers_framework.data.datamodule import DataModule

BLOCK_ROWS = 1024  # a multiple of 8, so that no byte of a bitmap has bits of the rows after a block
MAX_BLOCKS = 256  # read in about a second with rows of 1 kB; larger data is hashed in evenly spaced blocks
NUM_FIRST_ROWS = 1000  # of a stream that are hashed

Fingerprint = Mapping[str, Any]  # "num_rows", "columns": a hash by name


class Fingerprints:
    """Fingerprints of the data of each stage; for a stream, of its first rows.

    Args:
        data: The data module of the run.
    """

    def __init__(self, data: DataModule) -> None:
        self.data = data
        self.found: dict[Stage, Fingerprint] = {}

    def __getitem__(self, stage: Stage) -> Fingerprint:
        if stage not in self.found:
            rows = self.data.first_rows.get(stage, self.data.datasets[stage])
            columns = [name for name in self.data.columns(stage) if name in rows.column_names]
            self.found[stage] = fingerprint(rows, columns, self.data.num_rows[stage])
        return self.found[stage]

    def summaries(self) -> dict[str, str]:
        """Return the number of rows of each stage and its fingerprint, shortened."""
        return {stage: f"{self[stage]['num_rows']} rows ({digest(self[stage])[:8]})" for stage in self.data.sources}


def fingerprint(dataset: Dataset, columns: Sequence[str], num_rows: int | None) -> dict[str, Any]:
    """Return the fingerprint of the columns that a stage reads.

    Args:
        dataset: The data, or the first rows of a stream.
        columns: Names of the columns.
        num_rows: Number of rows, None if unknown.
    """
    import numpy as np
    import pyarrow as pa

    hashes = {name: hashlib.blake2b(repr(_classes(dataset.features[name])).encode()) for name in columns}
    table = dataset.select_columns(list(columns)).with_format("arrow")
    starts = range(0, len(dataset), BLOCK_ROWS)
    step = math.ceil(len(starts) / MAX_BLOCKS)
    for start in sorted({*starts[::step], starts[-1]}):
        block = table[start : start + BLOCK_ROWS]
        block = block.cast(pa.schema([(field.name, _with_large_offsets(field.type)) for field in block.schema]))
        block = block.combine_chunks().take(np.arange(len(block)))  # a copy: slices keep neighboring bytes
        for name, known in hashes.items():
            for batch in block.select([name]).to_batches():
                known.update(batch.serialize())
    return {"num_rows": num_rows, "columns": {name: known.hexdigest()[:16] for name, known in hashes.items()}}


def _with_large_offsets(kind: pa.DataType) -> pa.DataType:
    """Return the type of an Arrow column with 64-bit offsets; files may have 32-bit or 64-bit offsets.

    Examples:
        >>> import pyarrow as pa
        >>> _with_large_offsets(pa.struct({"text": pa.string(), "labels": pa.list_(pa.int64())}))
        StructType(struct<text: large_string, labels: large_list<item: int64>>)
    """
    import pyarrow as pa

    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary(kind) or pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.large_list(_with_large_offsets(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _with_large_offsets(field.type)) for field in kind])
    return kind


def _classes(feature: Any) -> Any:
    """Return the class names of a column, None without them."""
    return getattr(getattr(feature, "feature", feature), "names", None)


def difference(then: Fingerprint, now: Fingerprint) -> str | None:
    """Describe how two fingerprints differ; return None if they are equal.

    Columns that only one of them has are ignored.

    Examples:
        >>> difference({"num_rows": 3, "columns": {"text": "a"}}, {"num_rows": 2, "columns": {"text": "b"}})
        '2 rows instead of 3'
        >>> difference({"num_rows": 3, "columns": {"text": "a"}}, {"num_rows": 3, "columns": {"text": "b", "key": "c"}})
        "different rows, or another order of rows: the values of 'text' differ"
    """
    if then["num_rows"] != now["num_rows"]:
        return f"{now['num_rows']} rows instead of {then['num_rows']}"
    shared = then["columns"].keys() & now["columns"].keys()
    others = sorted(name for name in shared if then["columns"][name] != now["columns"][name])
    return f"different rows, or another order of rows: the values of '{others[0]}' differ" if others else None
