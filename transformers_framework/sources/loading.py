"""Loading of data sets from every source (saved folders, files, globs, remote addresses, the hub) as Arrow tables."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transformers_framework.compat.datasets import fingerprint_of
from transformers_framework.display import counted
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.sources.columns import value_numbers
from transformers_framework.sources.data_files import DataFile, Reading, UnreadableColumnError
from transformers_framework.sources.fields import NamedColumns
from transformers_framework.sources.hub import load_from_hub
from transformers_framework.sources.integrity import check_files
from transformers_framework.sources.json_files import numbers_as_text
from transformers_framework.sources.locating import PLAIN, locate
from transformers_framework.sources.readers import places_of, schema_of, tables_of
from transformers_framework.sources.saved import Saved, load_saved
from transformers_framework.sources.schemas import features_of, without
from transformers_framework.storage.cache import building, digest, is_complete, locked

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, IterableDataset

ALL_COLUMNS = NamedColumns()
UNREADABLE = "unreadable.json"  # columns of converted files that could not be read, with the reason
READERS = 5  # part of the cache key: increase it when files are read differently
ITERABLE_SHARDS = 64  # shards of an iterable data set, for data loader workers and ranks


def load_dataset(
    source: str,
    *,
    cache_dir: Path,
    stage: str = "train",
    config: str | None = None,
    shard: int | None = None,
    questions: str | None = None,
    columns: NamedColumns = ALL_COLUMNS,
    reading: Reading = PLAIN,
    keep_in_memory: bool = False,
    verify: bool = False,
    iterable: bool = False,
) -> Dataset | IterableDataset:
    """Load a data set; files are converted to Arrow once and then memory-mapped.

    Args:
        source: Folder saved with ``save_to_disk``, data file, folder or glob of data files (each local or a remote
            address), or a hub name with the split last.
        cache_dir: Folder for converted files and downloads (the hub has its own cache).
        stage: Stage of the flag, for messages.
        config: Configuration of a hub data set.
        shard: Keep one of every N rows: rows 0, N, 2N and so on; or all rows of one of every N questions.
        questions: Column with the id of the question of each row; with it, all rows of a question are kept or none.
        columns: Columns that are read, and columns of numbers; errors in other columns are ignored.
        reading: How files are read where their content does not tell.
        keep_in_memory: Copy the table into memory instead of memory-mapping the file.
        verify: Verify checksums now, even if that was done within a day.
        iterable: Return an ``IterableDataset``; data sets of the hub are not downloaded in advance.

    Raises:
        DataError: When it is absent, broken, empty, or has several splits; the message has the place if possible.
        ConfigurationError: When the cache folder cannot be written.
        MissingDependencyError: When the package of its protocol is not installed.
    """
    import datasets

    datasets.disable_progress_bars()  # those of downloads from the hub are shown
    found = locate(source, cache_dir=cache_dir, stage=stage, reading=reading)
    data: Dataset | IterableDataset
    if found is not None and config is not None:
        raise ConfigurationError(f"--{stage}_config {config}: only a hub data set has configurations, not {source}")
    if reading.field is not None and not (isinstance(found, list) and found[0].format == "json"):
        raise ConfigurationError(f"--{stage}_field {reading.field}: only JSON files have keys of rows, not {source}")
    if found is None:
        data = load_from_hub(source, config, stage, iterable, keep_in_memory)
    elif isinstance(found, Saved):
        data = load_saved(found, stage, cache_dir=cache_dir, keep_in_memory=keep_in_memory, verify=verify)
    else:
        data = _from_files(found, cache_dir, columns, keep_in_memory, verify)
    if isinstance(data, datasets.IterableDataset):
        data = _plain_stream(data, columns)
        return data if shard is None else _sharded_stream(data, shard)
    if not len(data):
        raise DataError(f"--{stage}_dataset {source}: the data set has no rows")
    if found is None and data.cache_files:
        files = [Path(file["filename"]) for file in data.cache_files]
        check_files(files, f"--{stage}_dataset {source}", cache_dir=cache_dir, verify=verify)
    data = _of_plain_types(data, cache_dir, columns, keep_in_memory, verify)
    if shard is not None and shard > 1:
        kept = _rows_of_shard(data, shard, questions)
        data = data.select(kept, keep_in_memory=True, new_fingerprint=digest([fingerprint_of(data), shard, questions]))
    return _as_iterable(data) if iterable else data


def num_rows(dataset: Dataset | IterableDataset) -> int | None:
    """Return the number of rows, None if it is unknown without reading them."""
    import datasets

    if isinstance(dataset, datasets.Dataset):
        return len(dataset)
    split = (dataset.info.splits or {}).get(str(dataset.split or "train"))
    return (split.num_examples or None) if split is not None else None


def row_place(
    source: str,
    row: int,
    /,
    *,
    cache_dir: Path,
    stage: str = "train",
    config: str | None = None,
    shard: int | None = None,
    questions: str | None = None,
    columns: NamedColumns = ALL_COLUMNS,
    reading: Reading = PLAIN,
) -> str:
    """Return the place of a row for messages: ``path:line`` in files, else the source and the row from 0.

    The files are read up to the row; use it for errors only.

    Args:
        source: As given to :func:`load_dataset`.
        row: Row of the data set that was returned.
        cache_dir: As given to :func:`load_dataset`.
        stage: As given to :func:`load_dataset`.
        config: As given to :func:`load_dataset`.
        shard: As given to :func:`load_dataset`.
        questions: As given to :func:`load_dataset`.
        columns: As given to :func:`load_dataset`.
        reading: As given to :func:`load_dataset`.
    """
    if shard is not None and shard > 1 and questions is None:
        row *= shard
    elif shard is not None and shard > 1:
        which = {"stage": stage, "config": config, "columns": columns, "reading": reading}
        whole = load_dataset(source, cache_dir=cache_dir, **which)  # type: ignore[arg-type]
        row = int(_rows_of_shard(whole, shard, questions)[row])
    files = locate(source, cache_dir=cache_dir, stage=stage, reading=reading)
    if isinstance(files, list):
        places = itertools.chain.from_iterable(places_of(file) for file in files)
        return next(itertools.islice(places, row, None), f"{source}:row {row}")
    return f"{source}:row {row}"


def _rows_of_shard(data: Dataset | IterableDataset, shard: int, questions: str | None) -> np.ndarray:
    """Return the rows of a shard: one of every N rows, or all rows of one of every N questions."""
    import datasets

    assert isinstance(data, datasets.Dataset)
    scalar = datasets.Value, datasets.ClassLabel
    if questions is None or not isinstance(data.features.get(questions), scalar):
        return np.arange(0, len(data), shard)
    numbers = value_numbers(data, questions)
    # a row without an id is an error, which is raised later
    return np.flatnonzero((numbers % shard == 0) | (numbers < 0))


def _from_files(
    files: list[DataFile], cache_dir: Path, columns: NamedColumns, keep_in_memory: bool, verify: bool
) -> Dataset:
    """Convert files to one memory-mapped Arrow file in the cache; changed files are converted again.

    Raises:
        DataError: When a line is broken, or a column that is read has values without a common type.
    """

    def state() -> list[tuple[str, int, int, int]]:
        stats = [(str(file.path.resolve()), file.path.stat()) for file in files]
        return [(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for path, stat in stats]

    def write(schema: pa.Schema, aside: Path) -> None:
        _write(schema, tables_of(files, schema), aside)
        if state() != before:
            raise DataError(f"{files[0].name}: the file changed while it was read; start again when it is complete")

    def convert(aside: Path) -> None:
        schema, unreadable = schema_of(files, columns.numbers)
        _require(columns, unreadable)
        while True:
            try:
                write(schema, aside)
                break
            except UnreadableColumnError as error:
                unreadable[error.column] = str(error)
                _require(columns, unreadable)
                schema = without(schema, error.column)
        (aside / UNREADABLE).write_text(json.dumps(unreadable), "utf-8")

    before = state()
    numbers = [] if files[0].format == "json" else sorted(columns.numbers)
    how = [files[0].reading.text_unit, files[0].reading.field]
    folder = cache_dir / "files" / digest([READERS, before, numbers, how])
    about = [file.name for file in files]
    data = _converted(folder, convert, keep_in_memory, verify, about=about)
    _require(columns, json.loads((folder / UNREADABLE).read_text("utf-8")))
    texts = (columns.read or frozenset()) - columns.numbers
    if (written := numbers_as_text(data.data.schema, texts)) is None:
        return data
    folder = cache_dir / "files" / digest([folder.name, [name for name in written.names if name in texts]])
    return _converted(folder, lambda aside: write(written, aside), keep_in_memory, verify, about=about)


def _require(columns: NamedColumns, unreadable: dict[str, str]) -> None:
    """Raise if a column that a flag names could not be read."""
    for name, message in unreadable.items():
        if columns.read is None or name in columns.read:
            raise DataError(message)


def _of_plain_types(
    data: Dataset, cache_dir: Path, columns: NamedColumns, keep_in_memory: bool, verify: bool
) -> Dataset:
    """Return a data set with plain types instead of fixed-size lists, large strings and similar, converted once."""
    import datasets

    features = datasets.Features(features_of(data.features.arrow_schema, columns.numbers)[0])
    if features.arrow_schema.types == data.features.arrow_schema.types:
        return data

    def convert(aside: Path) -> None:
        rows, size = data.select_columns(list(features)).with_format("arrow"), 10_000
        tables = (rows[start : start + size] for start in range(0, len(rows), size))
        counted_tables = counted(tables, "Converting the data set", total=len(rows), units=len)
        _write(features.arrow_schema, (table.cast(features.arrow_schema) for table in counted_tables), aside)

    return _converted(
        cache_dir
        / "files"
        / digest([READERS, fingerprint_of(data), [str(kind) for kind in features.arrow_schema.types]]),
        convert,
        keep_in_memory,
        verify,
    )


def _converted(
    folder: Path, convert: Callable[[Path], None], keep_in_memory: bool, verify: bool, about: object = None
) -> Dataset:
    """Return the memory-mapped result of a function that writes to a cache folder, unless it is cached."""
    import datasets

    with locked(folder):
        if not is_complete(folder, verify=verify):
            with building(folder, about=about) as aside:
                convert(aside)
        data = datasets.Dataset.from_file(str(folder / "data.arrow"), in_memory=keep_in_memory)
    return datasets.Dataset(data.data, data.info, data.split, fingerprint=folder.name)


def _write(schema: pa.Schema, tables: Iterable[pa.Table], folder: Path) -> None:
    import pyarrow as pa

    with pa.OSFile(str(folder / "data.arrow"), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for table in tables:
            writer.write_table(table.combine_chunks(), max_chunksize=1000)  # rows that one random access reads


def _plain_stream(stream: IterableDataset, columns: NamedColumns) -> IterableDataset:
    """Return a stream with plain types instead of fixed-size lists and similar, if its types are known."""
    import datasets

    if stream.features is None:
        return stream
    features = datasets.Features(features_of(stream.features.arrow_schema, columns.numbers)[0])
    return stream if features.arrow_schema.types == stream.features.arrow_schema.types else stream.cast(features)


def _as_iterable(data: Dataset) -> IterableDataset:
    """Return an iterable data set with a known number of rows."""
    return _with_num_rows(data.to_iterable_dataset(num_shards=min(ITERABLE_SHARDS, len(data))), len(data))


def _sharded_stream(stream: IterableDataset, shard: int) -> IterableDataset:
    """Keep one row in N (each loader worker counts its own rows)."""
    total = num_rows(stream)
    kept = stream.filter(lambda _, row: row % shard == 0, with_indices=True)
    return _with_num_rows(kept, -(-total // shard) if total else None)


def _with_num_rows(stream: IterableDataset, rows: int | None) -> IterableDataset:
    """Store the number of rows, for :func:`num_rows`."""
    from datasets.splits import SplitDict, SplitInfo

    name = str(stream.split or "train")
    stream.info.splits = SplitDict({name: SplitInfo(name, num_examples=rows)}) if rows is not None else None
    return stream
