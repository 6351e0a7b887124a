"""Files and folders are whole or absent."""

import os
from pathlib import Path

import pytest

from transformers_framework.storage.atomic import clear_leftovers, link_file, link_folder, whole_file, whole_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "file"
    with whole_file(path) as aside:
        aside.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize("write", [whole_file, whole_folder])
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
        with whole_folder(tmp_path / "model") as aside:
            (aside / content).touch()
    assert names(tmp_path / "model") == ["two"]
    assert names(tmp_path) == ["model"]


def test_permissions_are_the_users(tmp_path):
    old = os.umask(0o027)
    try:
        with whole_file(tmp_path / "file") as aside:
            aside.touch()
        with whole_folder(tmp_path / "folder") as aside:
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
    with whole_folder(tmp_path / "folder") as aside:
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
    with whole_folder(tmp_path / "step") as aside:
        (aside / "weights").write_text("1")
    link_folder(tmp_path / "step", tmp_path / "best")
    link_file(tmp_path / "step" / "weights", tmp_path / "copy")
    assert (tmp_path / "best" / "weights").samefile(tmp_path / "step" / "weights")
    with whole_folder(tmp_path / "step") as aside:
        (aside / "weights").write_text("2")
    assert (tmp_path / "best" / "weights").read_text() == (tmp_path / "copy").read_text() == "1"
