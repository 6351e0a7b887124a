"""Bits that flip on a disk, of files that keep their size and time: they are noticed, and crash nobody."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from tests import runs, tiny
from transformers_framework.exceptions import DataError
from transformers_framework.sources.cache import prepared
from transformers_framework.sources.loading import load_dataset
from transformers_framework.storage.cache import MANIFEST
from transformers_framework.storage.checksums import DAY

ROWS = [{"text": f"row {row}", "words": ["a", "b"]} for row in range(20)]
Load = Callable[..., datasets.Dataset]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    return lambda source, **flags: load_dataset(str(source), cache_dir=tmp_path / "cache", **flags)


def flip(path: Path, what: bytes, into: bytes) -> None:
    """Change some bytes of a file, and neither its size nor its time."""
    stat, content = path.stat(), path.read_bytes()
    assert content.count(what) >= 1
    path.write_bytes(content.replace(what, into, 1))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def let_a_day_pass(record: Path) -> None:
    os.utime(record, (time.time() - DAY - 60,) * 2)


def saved(folder: Path) -> Path:
    """Save a data set; return its file."""
    datasets.Dataset.from_list(ROWS).save_to_disk(folder)
    return next(folder.glob("*.arrow"))


def test_a_conversion_is_compared_once_a_day_and_made_again(tmp_path: Path, load: Load) -> None:
    source = tiny.write_jsonl(tmp_path / "a.jsonl", ROWS)
    file = Path(load(source).cache_files[0]["filename"])
    flip(file, b"row 7", b"row 9")
    assert load(source)["text"][7] == "row 9", "it was compared today"
    let_a_day_pass(file.with_name(MANIFEST))
    assert load(source).to_list() == ROWS
    flip(Path(load(source).cache_files[0]["filename"]), b"row 7", b"row 9")
    assert load(source, verify=True).to_list() == ROWS


def test_prepared_data_is_compared_too(tmp_path: Path, load: Load) -> None:
    source = load(tiny.write_jsonl(tmp_path / "a.jsonl", ROWS))

    def prepare(**flags: bool) -> datasets.Dataset:
        return prepared(source, {"key": 1}, lambda data: data.select(range(9)), cache_dir=tmp_path / "cache", **flags)

    file = Path(prepare().cache_files[0]["filename"])
    flip(file, b"row 7", b"row 9")
    assert prepare()["text"][7] == "row 9"
    assert prepare(verify=True)["text"][7] == "row 7"


def test_saved_data_is_compared_with_what_it_was(tmp_path: Path, load: Load) -> None:
    file = saved(tmp_path / "saved")
    for keep in (False, True):
        assert load(tmp_path / "saved", keep_in_memory=keep).to_list() == ROWS
    flip(file, b"row 7", b"row 9")
    assert load(tmp_path / "saved")["text"][7] == "row 9", "it was compared today"
    message = "is damaged: its content has changed, but not its size and modification time"
    with pytest.raises(DataError, match=message):
        load(tmp_path / "saved", verify=True)
    (record,) = (path for path in (tmp_path / "cache" / "checksums").iterdir() if path.suffix != ".lock")
    let_a_day_pass(record)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "saved")
    file.touch()  # written again
    assert load(tmp_path / "saved")["text"][7] == "row 9"


def test_saved_data_is_looked_through_where_nothing_can_be_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "saved")
    (tmp_path / "file").touch()
    assert len(load_dataset(str(tmp_path / "saved"), cache_dir=tmp_path / "file")) == len(ROWS)


READ = """
import sys
from pathlib import Path
from transformers_framework.sources.loading import load_dataset
from transformers_framework.exceptions import DataError
try:
    load_dataset(sys.argv[1], cache_dir=Path(sys.argv[2]))[:]
except DataError as error:
    print(error)
"""


def test_places_outside_the_file_do_not_end_the_process(tmp_path: Path) -> None:
    file = saved(tmp_path / "saved")
    flip(file, (5).to_bytes(4, "little") + (10).to_bytes(4, "little"), b"\xff\xff\xff\x7f\xff\xff\xff\x7f")  # of texts
    line = [sys.executable, "-c", READ, str(tmp_path / "saved"), str(tmp_path / "cache")]
    env = {**os.environ, "PYTHONPATH": str(runs.ROOT)}
    done = subprocess.run(line, capture_output=True, text=True, env=env, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert f"--train_dataset {tmp_path / 'saved'}: {file} is damaged" in done.stdout
