"""Validate Arrow files from users before they are memory-mapped: reading a damaged file would crash the process."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers_framework.display import counted
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.storage.atomic import atomic_file
from transformers_framework.storage.cache import digest, locked
from transformers_framework.storage.checksums import checksum, is_check_due, mark_verified


def check_files(files: Sequence[Path], name: str, *, cache_dir: Path, verify: bool = False) -> None:
    """Raise if a file is damaged; files are validated at first use, and their checksums are verified once a day.

    Arrow does not check mapped files: an offset outside a file crashes the process.

    Args:
        files: Arrow files in the stream format.
        name: Name of the data set in messages.
        cache_dir: Cache folder; checksums are written to ``checksums/``.
        verify: Verify checksums now, even if that was done within a day.

    Raises:
        DataError: When a file is damaged; the message has its path.
    """
    paths = [file.resolve() for file in files]
    stats = [path.stat() for path in paths]
    key = [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in zip(paths, stats, strict=True)]
    record = cache_dir / "checksums" / digest(key)
    with _locked(record):
        if record.exists() and not (verify or is_check_due(record)):
            return
        sums = {str(path): checksum(path) for path in paths}
        if record.exists():
            known = json.loads(record.read_text("utf-8"))
            if other := [path for path in sums if known.get(path) != sums[path]]:
                raise DataError(
                    f"{name}: {other[0]} is damaged: its content has changed, but not its size and modification time. "
                    f"Write it again, or replace it by a copy; to accept it as it is, remove {record}"
                )
            mark_verified(record)
            return
        for path in paths:
            _validate(path, name)
        with contextlib.suppress(OSError), atomic_file(record) as aside:
            aside.write_text(json.dumps(sums), "utf-8")


def _validate(path: Path, name: str) -> None:
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            for batch in counted(reader, f"Checking {path.name}", units=lambda batch: batch.num_rows):
                batch.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{name}: {path} is damaged ({error}). Write it again") from error


@contextlib.contextmanager
def _locked(record: Path) -> Iterator[None]:
    """Lock the record, so that only one process validates; without a writable cache, every process does."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(ConfigurationError):
            held.enter_context(locked(record))
        yield
