"""Cache of prepared data sets on disk, shared by concurrent processes and later runs."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from transformers_framework import __version__
from transformers_framework.compat.datasets import fingerprint_of
from transformers_framework.exceptions import DataError
from transformers_framework.storage.cache import building, digest, is_complete, locked

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

ROWS = "rows.arrow"  # rows that were written table by table, in Arrow's stream format


def prepared(
    dataset: Dataset,
    key: Mapping[str, Any],
    build: Callable[[Dataset], Dataset | Iterator[pa.Table]],
    *,
    cache_dir: Path,
    use_cache: bool = True,
    keep_in_memory: bool = False,
    verify: bool = False,
) -> Dataset:
    """Return ``build(dataset)``, read from the cache when the same was built before.

    One process builds, the others wait and read. Results are written atomically; a damaged result is built again. The
    cache key has the fingerprint of the data, ``key`` and the version of this program.

    Args:
        dataset: Data set that :func:`~transformers_framework.sources.loading.load_dataset` returned.
        key: Everything that the result depends on besides the data, for instance arguments; serializable as JSON.
        build: Returns the result as a data set, or as an iterator of tables with its rows. If it returns its argument,
            nothing is written.
        cache_dir: Cache folder; results are written to ``prepared/``.
        use_cache: Read a cached result; otherwise build and replace it.
        keep_in_memory: Copy the result into memory instead of memory-mapping its files.
        verify: Verify checksums now, even if that was done within a day.

    Raises:
        ConfigurationError: When the cache folder cannot be written.
        DataError: When the result has no rows.
    """
    import datasets
    from datasets.arrow_reader import ArrowReader

    folder = cache_dir / "prepared" / digest([__version__, fingerprint_of(dataset), key])
    with locked(folder):
        if not use_cache or not is_complete(folder, verify=verify):
            with _scratch(cache_dir / "scratch") as discard:
                result = build(dataset)
                if result is dataset:
                    return dataset
                with building(folder, about=dict(key)) as aside:
                    if isinstance(result, datasets.Dataset):
                        _not_empty(len(result))
                        result.save_to_disk(str(aside))
                    else:
                        _not_empty(_write(result, aside / ROWS))
                if isinstance(result, datasets.Dataset):
                    discard(result)
        if (folder / ROWS).exists():
            table = ArrowReader.read_table(str(folder / ROWS), in_memory=keep_in_memory)
            return datasets.Dataset(table, fingerprint=folder.name)
        loaded = cast("Dataset", datasets.load_from_disk(str(folder), keep_in_memory=keep_in_memory))
    return datasets.Dataset(loaded.data, loaded.info, loaded.split, fingerprint=folder.name)


def _not_empty(num_rows: int) -> None:
    if not num_rows:
        raise DataError("no rows of the data set are left after preparation")


def _write(tables: Iterator[pa.Table], path: Path) -> int:
    """Write tables one by one, without keeping them in memory; return the number of rows."""
    import pyarrow as pa

    num_rows = 0
    with contextlib.ExitStack() as files:
        writer = None
        for table in tables:
            if writer is None:
                sink = files.enter_context(pa.OSFile(str(path), "wb"))
                writer = files.enter_context(pa.ipc.new_stream(sink, table.schema))
            writer.write_table(table)
            num_rows += table.num_rows
    return num_rows


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Callable[[Dataset], None]]:
    """Write intermediate files of ``map`` to a scratch folder, not to the user's data folder or a small ``/tmp``.

    ``datasets`` writes intermediate files next to the source or, with caching disabled, to ``TMPDIR``, and removes them
    when the process ends. The yielded function removes the files of a result at once.
    """
    import datasets

    def discard(result: Dataset) -> None:
        for place in {Path(file["filename"]).parent for file in result.cache_files}:
            if place.parent == folder:
                for file in place.iterdir():
                    file.unlink()

    tempfile.gettempdir()  # cached now: the paths of worker sockets must not get the long path below
    caching, before = datasets.is_caching_enabled(), os.environ.get("TMPDIR")
    datasets.disable_caching()
    os.environ["TMPDIR"] = str(folder)
    try:
        yield discard
    finally:
        if caching:
            datasets.enable_caching()
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
