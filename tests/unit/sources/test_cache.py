import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import datasets
import pyarrow as pa
import pytest

from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.sources.cache import prepared
from transformers_framework.sources.loading import load_dataset
from transformers_framework.storage.cache import cache_folder


@pytest.fixture
def data():
    return datasets.Dataset.from_dict({"x": list(range(20))})


def counting(calls, factor=2):
    def build(dataset):
        calls.append(1)
        return dataset.map(lambda row: {"x": row["x"] * factor})

    return build


def test_built_once_for_equal_data_and_key(data, tmp_path):
    calls = []
    for _ in range(2):
        result = prepared(data, {"steps": ["double"]}, counting(calls), cache_dir=tmp_path)
        assert result["x"][:] == list(range(0, 40, 2))
        assert all(Path(file["filename"]).is_relative_to(tmp_path) for file in result.cache_files)
    assert len(calls) == 1
    prepared(data, {"steps": ["other"]}, counting(calls), cache_dir=tmp_path)
    prepared(data.select(range(5)), {"steps": ["double"]}, counting(calls), cache_dir=tmp_path)
    assert len(calls) == 3
    assert prepared(data, {}, counting(calls), cache_dir=tmp_path, keep_in_memory=True).cache_files == []


def test_no_rows_left(data, tmp_path):
    with pytest.raises(DataError, match="no rows"):
        prepared(data, {}, lambda dataset: dataset.filter(lambda row: False), cache_dir=tmp_path)


def tables(calls):
    def build(dataset):
        calls.append(1)
        for start in range(0, len(dataset), 8):  # nothing happens before the first table is asked for
            rows = pa.array([[x] * (x % 3) for x in dataset[start : start + 8]["x"]], type=pa.list_(pa.int32()))
            yield pa.table({"ids": rows})

    return build


@pytest.mark.parametrize("keep_in_memory", [False, True])
def test_tables_are_written_as_they_come(data, tmp_path, keep_in_memory):
    calls = []
    for _ in range(2):
        result = prepared(data, {}, tables(calls), cache_dir=tmp_path, keep_in_memory=keep_in_memory)
        assert result["ids"][:] == [[x] * (x % 3) for x in range(20)]
        assert result.features["ids"].feature.dtype == "int32"
        assert bool(result.cache_files) is not keep_in_memory
    assert len(calls) == 1
    further = prepared(result, {"step": 2}, lambda rows: rows.select(range(3)), cache_dir=tmp_path)
    assert further["ids"][2] == [2, 2]
    assert [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()] == []


def test_tables_that_fail_or_never_come_leave_nothing(data, tmp_path):
    def build(dataset):
        yield pa.table({"x": [1]})
        raise DataError("row 1: no")

    with pytest.raises(DataError, match="row 1: no"):
        prepared(data, {}, build, cache_dir=tmp_path)
    with pytest.raises(DataError, match="no rows"):
        prepared(data, {}, lambda dataset: iter(()), cache_dir=tmp_path)
    assert [path for path in (tmp_path / "prepared").iterdir() if path.is_dir()] == []


def test_damaged_tables_are_made_again(data, tmp_path):
    calls = []
    prepared(data, {}, tables(calls), cache_dir=tmp_path)
    [arrow] = (tmp_path / "prepared").rglob("*.arrow")
    with arrow.open("r+b") as file:
        file.truncate(arrow.stat().st_size - 1)
    assert len(prepared(data, {}, tables(calls), cache_dir=tmp_path)) == 20
    assert len(calls) == 2


def test_results_can_be_prepared_further(data, tmp_path):
    calls = []
    for _ in range(2):
        first = prepared(data, {"step": 1}, counting(calls), cache_dir=tmp_path)
        second = prepared(first, {"step": 2}, counting(calls), cache_dir=tmp_path)
    assert len(calls) == 2
    assert second["x"][3] == 12


def test_without_cache_it_is_built_and_replaced(data, tmp_path):
    old = prepared(data, {}, counting([], 2), cache_dir=tmp_path)
    new = prepared(data, {}, counting([], 3), cache_dir=tmp_path, use_cache=False)
    assert new["x"][:] == list(range(0, 60, 3))
    assert old["x"][:] == list(range(0, 40, 2))  # who reads the old files goes on reading them
    assert prepared(data, {}, lambda _: pytest.fail("built"), cache_dir=tmp_path)["x"][1] == 3


def test_nothing_is_written_when_nothing_changes(data, tmp_path):
    assert prepared(data, {}, lambda dataset: dataset, cache_dir=tmp_path) is data
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest", "no manifest"])
def test_damaged_results_are_made_again(data, tmp_path, damage, caplog):
    [folder] = _built(data, tmp_path)
    [arrow] = folder.glob("*.arrow")
    manifest = folder / ".complete.json"
    if damage == "truncate":
        with arrow.open("r+b") as file:
            file.truncate(arrow.stat().st_size - 1)
    elif damage == "remove":
        arrow.unlink()
    elif damage == "manifest":
        manifest.write_text(manifest.read_text()[:10])
    else:
        manifest.unlink()
    calls = []
    assert prepared(data, {}, counting(calls), cache_dir=tmp_path)["x"][1] == 2
    assert calls == [1]
    assert "building it again" in caplog.text


def _built(data, tmp_path):
    prepared(data, {}, counting([]), cache_dir=tmp_path)
    return [path for path in (tmp_path / "prepared").iterdir() if path.is_dir()]


def test_a_failed_build_leaves_nothing(data, tmp_path):
    def build(dataset):
        dataset.map(lambda row: row)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        prepared(data, {}, build, cache_dir=tmp_path)
    assert [path for path in (tmp_path / "prepared").iterdir() if path.is_dir()] == []
    assert prepared(data, {}, counting([]), cache_dir=tmp_path)["x"][1] == 2


def test_leftovers_of_a_killed_process_are_removed(data, tmp_path):
    [folder] = _built(data, tmp_path)
    aside = folder.rename(folder.with_name(f".{folder.name}.killed.part"))
    (aside / "junk").touch()
    prepared(data, {}, counting([]), cache_dir=tmp_path)
    assert not aside.exists()
    assert not (folder / "junk").exists()


def test_the_users_folders_stay_as_they_are(data, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    data.save_to_disk(tmp_path / "saved")
    before = sorted(path.name for path in (tmp_path / "saved").iterdir())
    source = load_dataset(str(tmp_path / "saved"), cache_dir=tmp_path / "cache")

    def build(dataset):
        return dataset.map(lambda row: {"y": 1}).filter(lambda row: row["x"] > 3).map(lambda row: {"z": row["x"]})

    assert len(prepared(source, {}, build, cache_dir=tmp_path / "cache")) == 16
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == before
    assert not (tmp_path / "tmp").exists()
    assert [path for path in (tmp_path / "cache" / "scratch").rglob("*") if path.is_file()] == []
    assert datasets.is_caching_enabled()
    assert os.environ["TMPDIR"] == str(tmp_path / "tmp")


def test_with_worker_processes_and_a_long_cache_path(data, tmp_path):
    cache = tmp_path / ("long" * 40)
    result = prepared(data, {}, lambda d: d.map(lambda row: {"x": row["x"] + 1}, num_proc=2), cache_dir=cache)
    assert result["x"][:] == list(range(1, 21))
    assert Path(tempfile.gettempdir()) != cache


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written(data, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(ConfigurationError, match="--cache_dir"):
        prepared(data, {}, counting([]), cache_dir=tmp_path / "closed")


def test_a_cache_that_is_a_file(data, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"--cache_dir: .*file cannot be written"):
        prepared(data, {}, counting([]), cache_dir=tmp_path / "file")


def test_errors_of_the_build_are_its_own(data, tmp_path):
    def build(dataset):
        raise PermissionError(13, "Permission denied", "/etc/shadow")

    with pytest.raises(PermissionError, match="shadow"):
        prepared(data, {}, build, cache_dir=tmp_path)


def _run(source, cache, log, start):
    start.wait()
    dataset = load_dataset(source, cache_dir=cache)

    def build(dataset):
        with Path(log).open("a") as file:
            file.write("built\n")
        time.sleep(0.3)
        return dataset.map(lambda row: {"x": row["x"] * 2})

    assert prepared(dataset, {"k": 1}, build, cache_dir=cache)["x"][:] == list(range(0, 40, 2))


def test_concurrent_processes_build_once(tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps({"x": row}) + "\n" for row in range(20)))
    context = multiprocessing.get_context("fork")
    start = context.Event()
    arguments = (str(source), tmp_path / "cache", str(tmp_path / "log"), start)
    processes = [context.Process(target=_run, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "built\n"
    assert len([path for path in (tmp_path / "cache" / "files").iterdir() if path.is_dir()]) == 1


def test_a_killed_builder_does_not_block_others(data, tmp_path):
    context = multiprocessing.get_context("fork")
    started = context.Event()

    def build(dataset):
        started.set()
        time.sleep(600)

    process = context.Process(target=prepared, args=(data, {}, build), kwargs={"cache_dir": tmp_path})
    process.start()
    assert started.wait(30)
    process.kill()
    process.join()
    assert prepared(data, {}, counting([]), cache_dir=tmp_path)["x"][1] == 2


def test_the_default_cache_folder(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder(None) == Path("/caches/transformers_framework")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(None) == Path.home() / ".cache" / "transformers_framework"


def test_a_user_without_a_home_is_asked_for_a_cache_folder(monkeypatch):
    import pwd

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    with pytest.raises(ConfigurationError, match=r"--cache_dir: this user has no home folder .* --cache_dir \./cache"):
        cache_folder(None)
    assert cache_folder("caches") == Path("caches")
