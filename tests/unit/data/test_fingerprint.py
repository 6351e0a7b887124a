"""Fingerprints are equal for equal rows, and differ where rows do."""

import datasets
import pyarrow as pa
import pytest

from transformers_framework.data import fingerprint as module
from transformers_framework.data.fingerprint import difference, fingerprint

TYPES = {
    "string": (pa.string(), pa.large_string(), ["a", None, "c"]),
    "bytes": (pa.binary(), pa.large_binary(), [b"a", b"", b"c"]),
    "list": (pa.list_(pa.string()), pa.large_list(pa.large_string()), [["a", "b"], [], ["c"]]),
    "struct": (pa.struct({"x": pa.string()}), pa.struct({"x": pa.large_string()}), [{"x": "a"}, {"x": "b"}, {"x": ""}]),
}


def of(table: pa.Table, *columns: str):
    return fingerprint(datasets.Dataset(table), columns, len(table))


@pytest.mark.parametrize("name", TYPES)
def test_the_size_of_offsets_does_not_count(name):
    small, large, values = TYPES[name]
    first, second = (pa.table({"x": pa.array(values, kind)}) for kind in (small, large))
    assert difference(of(first, "x"), of(second, "x")) is None
    assert difference(of(first, "x"), of(first.take([1, 0, 2]), "x")) is not None


def test_other_columns_and_chunks_do_not_count_in_large_data(monkeypatch):
    monkeypatch.setattr(module, "MAX_BLOCKS", 3)
    rows = [f"row {number}" for number in range(8000)]
    narrow = pa.table({"text": rows})
    wide = narrow.append_column("other", pa.array(["x" * 500] * len(rows)))
    chunked = pa.concat_tables([narrow.slice(0, 77), narrow.slice(77)])
    first = of(narrow, "text")
    assert difference(first, of(wide, "text")) is None
    assert difference(first, of(chunked, "text")) is None
    for changed in (0, 3 * 1024, 7999):  # in the first block, in one between and in the last one
        assert (
            difference(first, of(pa.table({"text": [*rows[:changed], "", *rows[changed + 1 :]]}), "text")) is not None
        )
