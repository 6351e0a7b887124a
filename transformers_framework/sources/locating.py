"""Find what a source of data is: a saved data set, data files, or a data set of the hub."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from transformers_framework.exceptions import DataError
from transformers_framework.restricted import is_address
from transformers_framework.sources.data_files import FORMATS, SHEETS, SUFFIXES, DataFile, Reading
from transformers_framework.sources.saved import Saved
from transformers_framework.storage.addresses import Address
from transformers_framework.storage.paths import looks_local, missing
from transformers_framework.storage.remote import download

SPLITS = re.compile(r"(train|valid|validation|val|dev|test)(?=[^a-z]|$)", re.IGNORECASE)
PLAIN = Reading()


def locate(source: str, *, cache_dir: Path, stage: str, reading: Reading = PLAIN) -> Saved | list[DataFile] | None:
    """Return the type of a source: a saved data set, a list of files, or None for a data set of the hub.

    Raises:
        DataError: When it is none of these.
    """
    flag = f"--{stage}_dataset {source}"
    if is_address(source):
        return _downloaded(source, cache_dir, stage, reading)
    path = Path(source).expanduser()
    if path.is_dir():
        return _in_folder(path, source, stage, reading)
    if path.exists() or path.is_symlink():
        return _checked([DataFile(path, source, reading)], flag)
    matches = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(source) else []  # noqa: PTH207 as the shell
    if matches:
        return _checked([DataFile(Path(match), match, reading) for match in matches if not Path(match).is_dir()], flag)
    if glob.has_magic(source) and not re.fullmatch(r"[^*?\[]+\[[^\]]*\]", source):  # not a slice of a hub split
        raise DataError(f"{flag}: no file matches the pattern, which is relative to {Path.cwd()}")
    if looks_local(source, SUFFIXES):
        raise DataError(f"{flag}: {missing(path)}")
    return None


def _downloaded(source: str, cache_dir: Path, stage: str, reading: Reading) -> Saved | list[DataFile]:
    """Return the saved data set or the files at a remote address, after downloading the needed files."""
    flag, address = f"--{stage}_dataset {source}", Address(source, f"{stage}_dataset", DataError)

    def needed(names: list[str]) -> list[str]:
        if "dataset_dict.json" in names:
            splits = sorted({name.partition("/")[0] for name in names if "/" in name})
            raise DataError(_several_splits(flag, source, splits, stage))
        if "state.json" in names or address.is_glob:
            return names
        return data_names([name for name in names if "/" not in name])

    folder = download(source, cache_dir=cache_dir, flag=f"{stage}_dataset", choose=needed, error=DataError)
    if (folder / "state.json").is_file():
        return Saved(folder, source)
    visible = (path for path in folder.rglob("[!.]*") if path.is_file())
    paths = [folder / name for name in data_names(sorted(path.relative_to(folder).as_posix() for path in visible))]
    return _checked([DataFile(path, address.of(path.relative_to(folder).as_posix()), reading) for path in paths], flag)


def _in_folder(path: Path, source: str, stage: str, reading: Reading) -> Saved | list[DataFile]:
    """Return the saved data set, or the data files, in a folder."""
    flag = f"--{stage}_dataset {source}"
    if (path / "dataset_dict.json").is_file():
        splits = sorted(entry.parent.name for entry in path.glob("*/state.json"))
        raise DataError(_several_splits(flag, source, splits, stage))
    if (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
        return Saved(path, source)
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    files = [path / name for name in data_names([entry.name for entry in entries if not entry.is_dir()])]
    if not files:
        below = [entry.name for entry in entries if entry.is_dir()]
        hint = f" It has subfolders: {', '.join(below[:10])}." if below else ""
        raise DataError(f"{flag}: the folder has no saved data set and no data files ({', '.join(FORMATS)}).{hint}")
    return _checked([DataFile(file, str(file), reading) for file in files], flag)


def data_names(names: Sequence[str]) -> list[str]:
    """Return the names of data files; texts beside files of other formats are not data, but notes and licences.

    Examples:
        >>> data_names(["LICENSE.txt", "a.jsonl", "b.png"]), data_names(["a.txt", "b.txt.gz"])
        (['a.jsonl'], ['a.txt', 'b.txt.gz'])
    """
    data = [name for name in names if name.lower().endswith(SUFFIXES)]
    return [name for name in data if FORMATS[DataFile(Path(name), name).suffix] != "text"] or data


def _remedy(file: DataFile) -> str:
    if file.suffix not in SHEETS:
        return ""
    return " Save the sheet as CSV (UTF-8), or write it with pandas: read_excel(…).to_csv('rows.csv', index=False)."


def _checked(files: list[DataFile], flag: str) -> list[DataFile]:
    """Raise if files are no data files, have several formats, or are several splits."""
    if not files:
        raise DataError(f"{flag}: it has no data files ({', '.join(FORMATS)})")
    for file in files:
        if not file.path.is_file():
            raise DataError(f"{flag}: {_not_a_file(file)}")
        if not file.path.name.lower().endswith(SUFFIXES):
            raise DataError(
                f"{flag}: cannot read '{file.path.name}'; expected one of {', '.join(FORMATS)}.{_remedy(file)}"
            )
    if len(kinds := sorted({file.suffix for file in files})) > 1:
        raise DataError(
            f"{flag}: files of several formats ({', '.join(kinds)}); select one with a pattern such as '*{kinds[-1]}'"
        )
    splits = {match[1].lower(): file for file in files if (match := SPLITS.match(file.path.name))}
    if len(splits) > 1:
        names = ", ".join(sorted(file.path.name for file in splits.values()))
        raise DataError(f"{flag}: it has several splits ({names}); give one file or a pattern such as 'train*'")
    return files


def _not_a_file(file: DataFile) -> str:
    """Return a message for a path that is not a regular file."""
    if not file.path.exists():
        return f"'{file.name}' is a link to {file.path.readlink()}, which does not exist; remove or fix the link"
    return f"'{file.name}' is a pipe, a socket or a device, and data is read twice; write its content to a file first"


def _several_splits(flag: str, source: str, splits: Sequence[str], stage: str) -> str:
    like_the_stage = [split for split in splits if split.startswith(stage[:3])]
    example = f"{source.rstrip('/')}/{next(iter((*like_the_stage, *splits)), 'train')}"
    return (
        f"{flag}: this is a DatasetDict with the splits {', '.join(splits)}; give one of them, for instance {example}"
    )
