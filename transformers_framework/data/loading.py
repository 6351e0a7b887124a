"""Data sets from every source: saved folders, files, globs, S3 and the hub, all as memory-mapped Arrow tables."""

from __future__ import annotations

import glob
import itertools
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transformers_framework.data.files import SUFFIXES, DataFile
from transformers_framework.data.readers import places_of, schema_of, tables_of
from transformers_framework.exceptions import ConfigurationError, DataError, did_you_mean
from transformers_framework.models.sources import download, looks_local, missing
from transformers_framework.runtime.folders import building, digest, is_whole, locked

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

READERS = 1  # part of the cache's key: raise it when files are read differently
ITERABLE_SHARDS = 64  # what loader workers and processes can divide an iterable data set into
SPLITS = re.compile(r"(train|valid|validation|val|dev|test)(?=[^a-z]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Saved:
    """A folder written by ``save_to_disk``.

    Args:
        path: Where it lies.
        name: How users know it.
    """

    path: Path
    name: str


def load_dataset(
    source: str,
    *,
    cache_dir: Path,
    stage: str = "train",
    config: str | None = None,
    shard: int | None = None,
    keep_in_memory: bool = False,
    iterable: bool = False,
) -> Dataset | IterableDataset:
    """Load a data set; files are converted to Arrow once and then memory-mapped.

    Args:
        source: Folder saved with ``save_to_disk``, data file, folder or glob of data files (each local or on S3), or
            a hub name with the split last.
        cache_dir: Where converted files and downloads from S3 are kept (the hub has its own cache).
        stage: Stage whose flags asked, for messages.
        config: Configuration of a hub data set.
        shard: Keep one row in this many: rows 0, N, 2N and so on.
        keep_in_memory: Copy the table into memory instead of mapping the file.
        iterable: Return an ``IterableDataset``; from the hub nothing is downloaded in advance.

    Raises:
        DataError: When it is absent, broken, empty, or has several splits; names the file and the line where it can.
        ConfigurationError: When the cache folder cannot be written.
        MissingDependencyError: When it is on S3 and s3fs is not installed.
    """
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    found = locate(source, cache_dir=cache_dir, stage=stage)
    data: Dataset | IterableDataset
    if found is not None and config is not None:
        raise ConfigurationError(f"--{stage}_config {config}: only a hub data set has configurations, not {source}")
    if found is None:
        data = _from_hub(source, config, stage, iterable, keep_in_memory)
    elif isinstance(found, Saved):
        data = _from_saved(found, stage, keep_in_memory)
    else:
        data = _from_files(found, cache_dir, keep_in_memory)
    if isinstance(data, datasets.IterableDataset):
        return data if shard is None else _sharded_stream(data, shard)
    if not len(data):
        raise DataError(f"--{stage}_dataset {source}: the data set has no rows")
    if shard is not None and shard > 1:
        data = data.shard(num_shards=shard, index=0, contiguous=False)
    return _as_iterable(data) if iterable else data


def num_rows(dataset: Dataset | IterableDataset) -> int | None:
    """Return the number of rows when it can be known without reading them."""
    import datasets

    if isinstance(dataset, datasets.Dataset):
        return len(dataset)
    split = (dataset.info.splits or {}).get(str(dataset.split or "train"))
    return (split.num_examples or None) if split is not None else None


def row_place(source: str, row: int, *, cache_dir: Path, shard: int | None = None, stage: str = "train") -> str:
    """Name the place of a row for a message: ``path:line`` in files, else the source and the row, counted from 0.

    The files are read up to the row; use it for errors only.

    Args:
        source: As given to :func:`load_dataset`.
        row: Row of the data set that was returned.
        cache_dir: As given to :func:`load_dataset`.
        shard: As given to :func:`load_dataset`.
        stage: As given to :func:`load_dataset`.
    """
    row *= shard or 1
    files = locate(source, cache_dir=cache_dir, stage=stage)
    if isinstance(files, list):
        places = itertools.chain.from_iterable(places_of(file) for file in files)
        return next(itertools.islice(places, row, None), f"{source}:row {row}")
    return f"{source}:row {row}"


def locate(source: str, *, cache_dir: Path, stage: str) -> Saved | list[DataFile] | None:
    """Find out what a source is: a saved data set, files, or (``None``) a data set on the hub.

    Raises:
        DataError: When it is none of these.
    """
    flag = f"--{stage}_dataset {source}"
    if source.startswith("s3://"):
        return _located_on_s3(source, cache_dir, stage)
    path = Path(source).expanduser()
    if path.is_dir():
        return _in_folder(path, source, stage)
    if path.exists():
        return _checked([DataFile(path, source)], flag)
    matches = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(source) else []  # noqa: PTH207 as the shell
    if matches:
        return _checked([DataFile(Path(match), match) for match in matches if Path(match).is_file()], flag)
    if glob.has_magic(source) and not re.fullmatch(r"[^*?\[]+\[[^\]]*\]", source):  # a slice of a hub split
        raise DataError(f"{flag}: no file matches; a pattern in quotes is taken as it is, relative to {Path.cwd()}")
    if looks_local(source, SUFFIXES):
        raise DataError(f"{flag}: {missing(path)}")
    return None


def _located_on_s3(source: str, cache_dir: Path, stage: str) -> Saved | list[DataFile]:
    flag = f"--{stage}_dataset {source}"

    def needed(names: list[str]) -> list[str]:
        if "dataset_dict.json" in names:
            splits = sorted({name.partition("/")[0] for name in names if "/" in name})
            raise DataError(_several_splits(flag, source, splits, stage))
        if "state.json" in names or glob.has_magic(source):
            return names
        return [name for name in names if "/" not in name and name.lower().endswith(SUFFIXES)]

    folder = download(source, cache_dir=cache_dir, flag=f"{stage}_dataset", choose=needed, error=DataError)
    if (folder / "state.json").is_file():
        return Saved(folder, source)
    root = re.split(r"[*?\[]", source)[0].rpartition("/")[0] if glob.has_magic(source) else source.rstrip("/")
    visible = (path for path in folder.rglob("[!.]*") if path.is_file())
    paths = sorted(path for path in visible if path.name.lower().endswith(SUFFIXES))
    names = [path.relative_to(folder).as_posix() for path in paths]
    root = root.removesuffix(f"/{names[0]}") if len(names) == 1 else root
    return _checked([DataFile(path, f"{root}/{name}") for path, name in zip(paths, names, strict=True)], flag)


def _in_folder(path: Path, source: str, stage: str) -> Saved | list[DataFile]:
    """Tell a saved data set from a folder of data files."""
    flag = f"--{stage}_dataset {source}"
    if (path / "dataset_dict.json").is_file():
        splits = sorted(entry.parent.name for entry in path.glob("*/state.json"))
        raise DataError(_several_splits(flag, source, splits, stage))
    if (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
        return Saved(path, source)
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in entries if entry.is_file() and entry.name.lower().endswith(SUFFIXES)]
    if not files:
        below = [entry.name for entry in entries if entry.is_dir()]
        hint = f" It has folders: {', '.join(below[:10])}." if below else ""
        raise DataError(
            f"{flag}: the folder holds no saved data set and no data files ({', '.join(SUFFIXES[:5])}).{hint}"
        )
    return _checked([DataFile(file, str(file)) for file in files], flag)


def _checked(files: list[DataFile], flag: str) -> list[DataFile]:
    """Refuse files that are no data, or that do not belong together."""
    if not files:
        raise DataError(f"{flag}: no data files there ({', '.join(SUFFIXES[:5])})")
    for file in files:
        if not file.path.name.lower().endswith(SUFFIXES):
            raise DataError(f"{flag}: cannot read '{file.path.name}'; expected one of {', '.join(SUFFIXES[:5])}")
    if len(kinds := sorted({file.suffix for file in files})) > 1:
        raise DataError(
            f"{flag}: files of several formats ({', '.join(kinds)}); choose with a pattern such as '*{kinds[-1]}'"
        )
    splits = {match[1].lower(): file for file in files if (match := SPLITS.match(file.path.name))}
    if len(splits) > 1:
        names = ", ".join(sorted(file.path.name for file in splits.values()))
        raise DataError(f"{flag}: several splits would be mixed ({names}); give one file or a pattern such as 'train*'")
    return files


def _several_splits(flag: str, source: str, splits: Sequence[str], stage: str) -> str:
    like_the_stage = [split for split in splits if split.startswith(stage[:3])]
    example = f"{source.rstrip('/')}/{next(iter((*like_the_stage, *splits)), 'train')}"
    return (
        f"{flag}: this is a DatasetDict with the splits {', '.join(splits)}; give one of them, for instance {example}"
    )


def _from_saved(saved: Saved, stage: str, keep_in_memory: bool) -> Dataset:
    import datasets

    try:
        if not json.loads((saved.path / "state.json").read_text())["_data_files"]:
            raise DataError(f"--{stage}_dataset {saved.name}: the data set has no rows")
        data = datasets.load_from_disk(str(saved.path), keep_in_memory=keep_in_memory)
    except DataError:
        raise
    except Exception as error:  # pyarrow, json and datasets raise many kinds
        raise DataError(
            f"--{stage}_dataset {saved.name}: the saved data set is broken ({error}); save it again with save_to_disk"
        ) from error
    assert isinstance(data, datasets.Dataset)
    # the saved fingerprint names the steps that made the data, not what is in the files
    return datasets.Dataset(
        data.data, data.info, data.split, fingerprint=digest([data._fingerprint, *_stamps(saved.path)])
    )


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    """Describe the files of a folder: names, sizes, times."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("cache-"))
    return [(file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]


def _from_files(files: list[DataFile], cache_dir: Path, keep_in_memory: bool) -> Dataset:
    """Convert files to one Arrow file in the cache, once for each state of the files, and map it."""
    import datasets
    import pyarrow as pa

    def state() -> list[tuple[str, int, int, int]]:
        stats = [(str(file.path.resolve()), file.path.stat()) for file in files]
        return [(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for path, stat in stats]

    before = state()
    key = digest([READERS, before])
    folder = cache_dir / "files" / key
    with locked(folder):
        if not is_whole(folder):
            with building(folder, about=[file.name for file in files]) as aside:
                schema = schema_of(files)
                try:
                    schema = datasets.Features.from_arrow_schema(schema).arrow_schema
                except (ValueError, TypeError) as error:
                    raise DataError(f"{files[0].name}: a column has a type that cannot be used ({error})") from error
                with pa.OSFile(str(aside / "data.arrow"), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
                    for table in tables_of(files, schema):
                        writer.write_table(table.combine_chunks(), max_chunksize=1000)
                if state() != before:
                    raise DataError(f"{files[0].name}: changed while it was read; start again when it is written")
        data = datasets.Dataset.from_file(str(folder / "data.arrow"), in_memory=keep_in_memory)
    return datasets.Dataset(data.data, data.info, data.split, fingerprint=key)


def _as_iterable(data: Dataset) -> IterableDataset:
    """Make rows come one after the other, and remember how many they are."""
    return _remember(data.to_iterable_dataset(num_shards=min(ITERABLE_SHARDS, len(data))), len(data))


def _sharded_stream(stream: IterableDataset, shard: int) -> IterableDataset:
    """Keep one row in N (each loader worker counts its own rows)."""
    total = num_rows(stream)
    kept = stream.filter(lambda _, row: row % shard == 0, with_indices=True)
    return _remember(kept, -(-total // shard) if total else None)


def _remember(stream: IterableDataset, rows: int | None) -> IterableDataset:
    """Write the number of rows where :func:`num_rows` finds it."""
    from datasets.splits import SplitDict, SplitInfo

    name = str(stream.split or "train")
    stream.info.splits = SplitDict({name: SplitInfo(name, num_examples=rows)}) if rows is not None else None
    return stream


def _from_hub(
    source: str, config: str | None, stage: str, iterable: bool, keep_in_memory: bool
) -> Dataset | IterableDataset:
    """Load from the hub, or from its cache when it cannot be reached."""
    import datasets

    flag = f"--{stage}_dataset {source}"
    name, _, split = source.rpartition("/")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or not split:
        example = source if re.fullmatch(r"[\w.-]+", source) else "user/name"
        raise DataError(
            f"{flag}: no such file or folder, and a hub data set is written with its split last: name/split or "
            f"user/name/split, for instance {example}/train"
        )
    try:
        return datasets.load_dataset(
            name, config, split=split, streaming=iterable, keep_in_memory=keep_in_memory or None
        )
    except Exception as error:  # the hub's client, requests, pyarrow and datasets raise many kinds
        raise DataError(f"{flag}: {_hub_trouble(error, name, split, config, stage)}") from error


def _hub_trouble(error: Exception, name: str, split: str, config: str | None, stage: str) -> str:
    """Explain why the hub did not give a data set."""
    import datasets

    nothing_here = f"there is no such file or folder in {Path.cwd()}"
    if isinstance(error, datasets.exceptions.DatasetNotFoundError):
        hint = "" if "/" in name else f" The split comes last: did you mean {name}/{split}/train?"
        return f"{nothing_here}, and the hub has no data set '{name}' that you may read.{hint}"
    if isinstance(error, ConnectionError):
        why = "HF_HUB_OFFLINE is set" if datasets.config.HF_HUB_OFFLINE else "the hub cannot be reached"
        return (
            f"{nothing_here}; {why} and '{name}' is not in the hub's cache. Load it once with a network, or give a file"
        )
    text = str(error).strip()
    if "Unknown split" in text or "Bad split" in text:
        known = re.findall(r"'([^']+)'", text.partition("[")[2]) or re.findall(r"\w+", text.partition("[")[2])
        return f"'{name}' has no split '{split}', but {', '.join(known)}.{did_you_mean(split, known)}"
    if "Config name is missing" in text or "BuilderConfig" in text:
        known = re.findall(r"'([^']+)'", text.partition("[")[2])
        return (
            f"'{name}' has no configuration '{config}'" if config else f"'{name}' has several configurations"
        ) + f"; choose with --{stage}_config: {', '.join(known)}.{did_you_mean(config or '', known)}"
    return f"cannot be loaded ({type(error).__name__}: {text.splitlines()[0] if text else 'no reason given'})"
