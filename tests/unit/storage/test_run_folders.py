"""Two runs of one name never meet in the same files."""

import contextlib
import itertools
from pathlib import Path

import pytest

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.storage.run_folders import RunFolders


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a/"])
def test_names_that_cannot_be_folders_are_refused(tmp_path, name):
    with pytest.raises(ConfigurationError, match="--name"):
        RunFolders(tmp_path, name)


@pytest.mark.parametrize("kind", ["checkpoints", "pre_trained_models"])
def test_files_of_an_earlier_run_are_not_written_over(tmp_path, kind):
    folders = RunFolders(tmp_path, "run")
    folders.check_free(trains=True, resume=False, overwrite=False, predicts=())
    (tmp_path / kind / "run").mkdir(parents=True)
    (tmp_path / kind / "run" / "file").touch()
    with pytest.raises(ConfigurationError, match=r"--resume.*--overwrite"):
        folders.check_free(trains=True, resume=False, overwrite=False, predicts=())
    for resume, overwrite in ((True, False), (False, True)):
        folders.check_free(trains=True, resume=resume, overwrite=overwrite, predicts=())


def test_predictions_are_not_written_over(tmp_path):
    folders = RunFolders(tmp_path, "run")
    folders.predictions.mkdir(parents=True)
    (folders.predictions / "test.jsonl").touch()
    folders.check_free(trains=False, resume=False, overwrite=False, predicts=("predict",))
    with pytest.raises(ConfigurationError, match=r"test\.jsonl exists"):
        folders.check_free(trains=False, resume=False, overwrite=False, predicts=("test", "predict"))


KINDS = ("checkpoints", "pre_trained_models", "predictions", "tensorboard")


@pytest.fixture
def earlier(tmp_path):
    """Two runs with a file, a folder and links in each of their folders, and what the links point to."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_text("kept")
    for name in ("run", "other"):
        for kind in KINDS:
            (folder := tmp_path / kind / name / "folder").mkdir(parents=True)
            (folder / "file").write_text("earlier")
            (folder.parent / "link").symlink_to(tmp_path / "elsewhere")
            (folder.parent / "dangling").symlink_to(tmp_path / "nowhere")
        (tmp_path / "checkpoints" / name / "last.ckpt").write_text("earlier")
        (tmp_path / "checkpoints" / name / "config.yaml").write_text("earlier")
    return tmp_path


def tree(folder, name="*"):
    """Return the files and links of runs, with what is in them."""
    found = (path for kind in KINDS for path in (folder / kind).glob(f"{name}/**/*"))
    return {
        path.relative_to(folder).as_posix(): path.is_symlink() or path.read_text()
        for path in found
        if path.name != ".lock" and (path.is_symlink() or path.is_file())
    }


def first_checkpoint(run):
    """Write what a run writes at its first checkpoint, up to the checkpoint itself."""
    run.move_earlier_aside()
    (run.pre_trained_models / "folder").mkdir()
    (run.pre_trained_models / "folder/file").write_text("new")


def test_an_earlier_run_stays_until_the_first_checkpoint(earlier):
    before = tree(earlier)
    run = RunFolders(earlier, "run")
    run.lock(overwrite=True)
    run.write_config("new")
    assert tree(earlier) == before
    first_checkpoint(run)
    run.last.write_text("new")
    run.remove_earlier()
    new = {f"checkpoints/run/{name}": "new" for name in ("last.ckpt", "config.yaml")}
    assert tree(earlier, "run") == {**new, "pre_trained_models/run/folder/file": "new"}
    assert len(tree(earlier, "other")) == len([name for name in before if "/other/" in name])
    assert (earlier / "elsewhere/file").read_text() == "kept"


@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_a_run_that_was_killed_while_it_overwrote_another(earlier, has_checkpoint):
    """Before its checkpoint was there the earlier run comes back, afterwards it goes."""
    before = tree(earlier, "run")
    killed = RunFolders(earlier, "run")
    killed.lock(overwrite=True)
    first_checkpoint(killed)
    if has_checkpoint:
        killed.last.write_text("new")
    killed.unlock()
    run = RunFolders(earlier, "run")
    with pytest.raises(ConfigurationError, match="a run 'run' has files"):
        run.check_free(trains=True, resume=False, overwrite=False, predicts=())
    new = {"checkpoints/run/last.ckpt": "new", "pre_trained_models/run/folder/file": "new"}
    assert tree(earlier, "run") == (new if has_checkpoint else before)
    assert (earlier / "elsewhere/file").read_text() == "kept"


class Killed(BaseException):
    """The process ends at once."""


@contextlib.contextmanager
def killed_in(renames):
    """Kill the block before its rename of this number, from 0; tell whether it had that many."""
    count, original, happened = itertools.count(), Path.rename, []

    def rename(self, target):
        if next(count) == renames:
            happened.append(True)
            raise Killed
        return original(self, target)

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(Path, "rename", rename)
        yield happened


def test_no_moment_of_overwriting_loses_a_file(earlier):
    """Killed before any of the renames that set files aside, and again after each of those that put them back."""
    for name in ("best.ckpt", "previous.ckpt"):
        (earlier / "checkpoints/run" / name).write_text("earlier")
    before = tree(earlier, "run")
    run = RunFolders(earlier, "run")

    def recovered():
        with contextlib.suppress(ConfigurationError):
            run.check_free(trains=True, resume=False, overwrite=False, predicts=())

    for first in itertools.count():
        run.lock(overwrite=True)
        with killed_in(first) as killed:
            run.move_earlier_aside()
        run.unlock()
        run = RunFolders(earlier, "run")
        killed_again = [True]
        while killed_again:
            with killed_in(1) as killed_again:
                recovered()
        assert tree(earlier, "run") == before, f"killed before rename {first}"
        if not killed:
            break
    assert first == len([path for kind in KINDS for path in (earlier / kind / "run").iterdir() if path.name != ".lock"])


def test_nothing_is_put_back_while_the_run_goes_on(earlier):
    running = RunFolders(earlier, "run")
    running.lock(overwrite=True)
    first_checkpoint(running)
    other = RunFolders(earlier, "run")
    other.check_free(trains=True, resume=True, overwrite=False, predicts=())
    with pytest.raises(ConfigurationError, match="another process is running"):
        other.lock()
    running.last.write_text("new")
    running.remove_earlier()
    assert tree(earlier, "run")["checkpoints/run/last.ckpt"] == "new"
