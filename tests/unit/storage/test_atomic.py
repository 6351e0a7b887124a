"""Files and folders are complete or absent."""

import os
from pathlib import Path

import pytest

from transformers_framework.storage.atomic import (
    atomic_file,
    atomic_folder,
    clear_leftovers,
    discard,
    link_equal_files,
    link_file,
    link_folder,
    replace,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "file"
    with atomic_file(path) as aside:
        aside.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_what_fails_leaves_the_old_and_nothing_else(tmp_path, write):
    path = tmp_path / "it"
    with write(path) as aside:
        (aside / "part" if aside.is_dir() else aside).write_text("old")

    def fail():
        with write(path) as aside:
            (aside / "part" if aside.is_dir() else aside).write_text("broken")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert names(tmp_path) == ["it"]
    assert (path / "part" if path.is_dir() else path).read_text() == "old"


def test_a_folder_is_replaced_whole(tmp_path):
    for content in ("one", "two"):
        with atomic_folder(tmp_path / "model") as aside:
            (aside / content).touch()
    assert names(tmp_path / "model") == ["two"]
    assert names(tmp_path) == ["model"]


def test_permissions_are_the_users(tmp_path):
    old = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "file") as aside:
            aside.touch()
        with atomic_folder(tmp_path / "folder") as aside:
            (aside / "within").mkdir(mode=0o700)
            (aside / "within" / "secret").touch(mode=0o600)  # as safetensors writes
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "folder" / "within").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "folder" / "within" / "secret").stat().st_mode & 0o777 == 0o640


def test_a_folder_that_a_group_shares_stays_shared(tmp_path):
    tmp_path.chmod(0o2775)
    with atomic_folder(tmp_path / "folder") as aside:
        aside.chmod(0o2700)
    assert (tmp_path / "folder").stat().st_mode & 0o2000


def test_leftovers_of_a_killed_process_are_cleared_and_what_it_was_replacing_comes_back(tmp_path):
    (tmp_path / ".best.abc.part").mkdir()
    (tmp_path / ".last.ckpt.x.part").touch()
    (tmp_path / ".best.abc.old").mkdir()
    (tmp_path / ".best.abc.old" / "weights").touch()
    (tmp_path / "final").mkdir()
    (tmp_path / ".final.def.old").mkdir()
    clear_leftovers(tmp_path)
    assert names(tmp_path) == ["best", "final"]
    assert names(tmp_path / "best") == ["weights"]


def test_links_hold_the_same_bytes_and_survive_the_source(tmp_path):
    with atomic_folder(tmp_path / "step") as aside:
        (aside / "weights").write_text("1")
    link_folder(tmp_path / "step", tmp_path / "best")
    link_file(tmp_path / "step" / "weights", tmp_path / "copy")
    assert (tmp_path / "best" / "weights").samefile(tmp_path / "step" / "weights")
    with atomic_folder(tmp_path / "step") as aside:
        (aside / "weights").write_text("2")
    assert (tmp_path / "best" / "weights").read_text() == (tmp_path / "copy").read_text() == "1"


def test_leftovers_of_one_name_only(tmp_path):
    for name in (".a.x.part", ".a.b.x.part", ".a.x.old"):
        (tmp_path / name).mkdir()
    clear_leftovers(tmp_path, "a")
    assert names(tmp_path) == [".a.b.x.part", "a"]


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_what_is_written_is_on_disk_before_it_appears(tmp_path, monkeypatch, write):
    flushed = []

    def fsync(descriptor):
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        assert (tmp_path / "it").exists() is (flushed[-1] == tmp_path), "the folder's names come last"

    monkeypatch.setattr(os, "fsync", fsync)
    with write(tmp_path / "it") as aside:
        if aside.is_dir():
            (aside / "deep").mkdir()
            (aside / "deep" / "file").touch()
    assert flushed[0] == aside
    assert flushed[-1] == tmp_path
    assert len(flushed) == (4 if write is atomic_folder else 2)


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    rename = Path.rename

    def refuse(path, target):
        if path.name == "new":
            raise OSError("refused")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="refused"):
        replace(tmp_path / "new", tmp_path / "old")
    assert names(tmp_path) == ["new", "old"]
    assert (tmp_path / "old" / "file").read_text() == "old"


def test_a_file_and_a_folder_replace_each_other(tmp_path):
    """As when a run continues with another strategy, whose checkpoints are folders."""
    for write in (atomic_file, atomic_folder, atomic_file):
        with write(tmp_path / "last.ckpt"):
            pass
        assert (tmp_path / "last.ckpt").is_dir() is (write is atomic_folder)
    assert names(tmp_path) == ["last.ckpt"]


def test_a_folder_is_discarded_whole_or_not_at_all(tmp_path, monkeypatch):
    """Killed while its files are removed, nothing is left under its name, and the next process removes the rest."""
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "a").write_text("a")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda _: None)
        discard(folder)
    assert not folder.exists()
    assert len(names(tmp_path)) == 1
    clear_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_equal_files_take_space_once(tmp_path):
    for name, same, other in (("one", "same", "1"), ("two", "same", "2")):
        (tmp_path / name / "head").mkdir(parents=True)
        (tmp_path / name / "head" / "weights").write_text(same)
        (tmp_path / name / "card").write_text(other)
    (tmp_path / "two" / "more").write_text("more")
    link_equal_files(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "one/head/weights").samefile(tmp_path / "two/head/weights")
    assert [(tmp_path / name / "card").read_text() for name in ("one", "two")] == ["1", "2"]
    assert names(tmp_path / "two") == ["card", "head", "more"]
