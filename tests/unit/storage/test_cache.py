import errno

import pytest

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.storage.cache import building, digest, is_complete, locked


def test_digest_depends_on_every_value():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert len({digest(value) for value in ([1, 2], [2, 1], ["1", 2], {"a": 1}, None, "", "é")}) == 7


def test_a_folder_appears_when_its_block_ends(tmp_path):
    folder = tmp_path / "kind" / "name"
    with locked(folder), building(folder, about="a test") as aside:
        (aside / "deep").mkdir()
        (aside / "deep" / "file").write_text("abc")
        assert not folder.exists()
    assert is_complete(folder)
    assert (folder / "deep" / "file").read_text() == "abc"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["name", "name.lock"]
    with pytest.raises(IsADirectoryError), building(folder) as aside:
        (aside / ".").write_text("fails")
    assert (folder / "deep" / "file").read_text() == "abc"
    assert not aside.exists()


def test_a_full_disk(tmp_path):
    message = r"--cache_dir: .* cannot be written \(No space left"
    with pytest.raises(ConfigurationError, match=message), building(tmp_path / "kind" / "name"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list((tmp_path / "kind").iterdir()) == []


def test_a_whole_folder_serves_where_nothing_can_be_written(tmp_path, monkeypatch):
    folder = tmp_path / "kind" / "name"

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", f"{folder}.lock")

    with locked(folder), building(folder):
        pass
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with locked(folder):
        assert is_complete(folder)
    with pytest.raises(ConfigurationError, match="Permission denied"), locked(folder.with_name("other")):
        pass


def test_waiting_is_told(tmp_path, monkeypatch, caplog):
    from filelock import FileLock, Timeout

    acquire = FileLock.acquire

    def busy(self, timeout=None):
        if timeout is not None:
            raise Timeout(self.lock_file)
        return acquire(self)

    monkeypatch.setattr(FileLock, "acquire", busy)
    with locked(tmp_path / "kind" / "name"):
        assert "Waiting for another process" in caplog.text
