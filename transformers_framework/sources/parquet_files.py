"""Reader of Parquet files: converts to plain types, and merges the class names of several files.

`datasets` parses the features of a file, pyarrow reads its rows. The Parquet reader of `datasets` is not used, as
tests/unit/sources/test_parquet_of_datasets.py shows: it fails for the type of a column that is not read, uses the types
of the first file for all files, reads class labels of a file with the class names of another file, accepts bytes that
are not UTF-8 as text, and treats brackets in a file name as a pattern.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from transformers_framework.display import counted
from transformers_framework.exceptions import DataError
from transformers_framework.sources.column_types import MixedTypesError, merged, plain
from transformers_framework.sources.data_files import DataFile, UnreadableColumnError
from transformers_framework.sources.schemas import (
    MixedNamesError,
    features_of,
    has_names,
    renumbered,
    with_all_names,
)

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 10_000  # rows that are read together


def schema_of(files: Sequence[DataFile], numbers: Collection[str] = ()) -> tuple[pa.Schema, dict[str, str]]:
    """Return the columns and types of all files, and a message for each column that cannot be read."""
    import datasets

    types: dict[str, pa.DataType] = {}
    features: dict[str, Any] = {}
    unreadable: dict[str, str] = {}
    for file in files:
        here, others = features_of(_schema(file), numbers)
        unreadable |= {
            name: f"{file.name}: column '{name}' has a type that cannot be read ({kind})"
            for name, kind in others.items()
        }
        for name, kind in zip(here, datasets.Features(here).arrow_schema.types, strict=True):
            try:
                types[name] = merged(types.get(name, kind), kind, name)
                features[name] = with_all_names(features.get(name, here[name]), here[name])
            except MixedTypesError as error:
                unreadable.setdefault(name, f"{file.name}: {error}")
            except MixedNamesError as names:
                unreadable.setdefault(
                    name,
                    f"{file.name}: column '{name}' has the class names {names} in one file of the data set and "
                    "numbers without names in another file. Cast it to the same ClassLabel in all files",
                )
    found = {name: feature for name, feature in features.items() if name not in unreadable}
    for name, kind in zip(found, datasets.Features(found).arrow_schema.types, strict=True):
        if kind != types[name]:
            found[name] = datasets.features.features.generate_from_arrow_type(types[name])
    return datasets.Features(found).arrow_schema, unreadable


def tables_of(file: DataFile, schema: pa.Schema) -> Iterator[pa.Table]:
    """Read a file as tables of a schema."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = datasets.Features.from_arrow_schema(schema)
    here, _ = features_of(_schema(file))
    named = {name for name in target if name in here and has_names(target[name])}
    try:
        with pq.ParquetFile(file.path) as parquet:
            columns = [name for name in schema.names if name in here]
            batches, total = parquet.iter_batches(ROWS, columns=columns), parquet.metadata.num_rows
            for batch in counted(batches, f"Reading {file.name}", total=total, units=lambda batch: batch.num_rows):
                arrays = []
                for name, kind in zip(schema.names, schema.types, strict=True):
                    if name not in here:
                        arrays.append(pa.nulls(batch.num_rows, kind))
                        continue
                    try:
                        array = batch.column(name).cast(plain(batch.column(name).type))
                        array = renumbered(array, here[name], target[name]) if name in named else array
                        arrays.append(array.cast(kind))
                        arrays[-1].validate(full=True)  # texts must be UTF-8
                    except pa.ArrowException as error:
                        what = f"column '{name}' has a value that cannot be read as {kind} ({error})"
                        message = f"{file.name}: {what}; write it with a type that can hold the values of all files"
                        raise UnreadableColumnError(message, name) from error
                yield pa.table(arrays, schema=schema)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.name}: broken Parquet file ({error})") from error


def places_of(file: DataFile) -> Iterator[str]:
    """Yield the place of every row: its number."""
    import pyarrow.parquet as pq

    return (f"{file.name}:row {row}" for row in range(pq.read_metadata(file.path).num_rows))


def _schema(file: DataFile) -> pa.Schema:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file.path)
        _ = schema.names  # names are decoded only now
        return schema
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file.name}: not a Parquet file, or a broken one ({error})") from error
