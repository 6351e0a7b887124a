"""Parquet files: their types as plain ones, the names of their classes as one list."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from transformers_framework.data.features import (
    MixedNamesError,
    features_of,
    has_names,
    renumbered,
    with_all_names,
)
from transformers_framework.data.files import DataFile
from transformers_framework.data.types import MixedTypesError, merged, plain
from transformers_framework.exceptions import DataError

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 10_000  # are read together


def schema_of(files: Sequence[DataFile], numbers: Collection[str] = ()) -> tuple[pa.Schema, dict[str, str]]:
    """Return columns and types of all files, and what is wrong with columns that have none."""
    import datasets

    types: dict[str, pa.DataType] = {}
    features: dict[str, Any] = {}
    unreadable: dict[str, str] = {}
    for file in files:
        here, without = features_of(_schema(file))
        unreadable |= {
            name: f"{file.name}: column '{name}' has a type that cannot be read ({kind})"
            for name, kind in without.items()
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
                    f"{file.name}: column '{name}' is of the classes {names} in one of the files of the data set and "
                    "of numbers without names in another. Cast it to the same ClassLabel in all of them",
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
            for batch in parquet.iter_batches(ROWS, columns=columns):
                arrays = {name: batch.column(name).cast(plain(batch.column(name).type)) for name in columns}
                arrays |= {name: renumbered(arrays[name], here[name], target[name]) for name in named}
                nulls = {f.name: pa.nulls(batch.num_rows, f.type) for f in schema if f.name not in arrays}
                table = pa.table({f.name: {**arrays, **nulls}[f.name] for f in schema}).cast(schema)
                table.validate(full=True)  # texts must be UTF-8
                yield table
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.name}: broken Parquet file ({error})") from error


def places_of(file: DataFile) -> Iterator[str]:
    """Name the place of every row: its number."""
    import pyarrow.parquet as pq

    return (f"{file.name}:row {row}" for row in range(pq.read_metadata(file.path).num_rows))


def _schema(file: DataFile) -> pa.Schema:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file.path)
        _ = schema.names  # which are decoded only now
        return schema
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file.name}: not a Parquet file, or a broken one ({error})") from error
