"""Two runs of one name never meet in the same files."""

import pytest

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.runtime.run_folders import RunFolders, is_first_process


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


def test_overwriting_removes_the_earlier_run_and_no_other(tmp_path):
    for name in ("run", "other"):
        for kind in ("checkpoints", "pre_trained_models", "predictions", "tensorboard"):
            (tmp_path / kind / name / "folder").mkdir(parents=True)
            (tmp_path / kind / name / "file").touch()
    RunFolders(tmp_path, "run").claim(overwrite=True)
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert [path for path in left if "/run/" in path] == ["checkpoints/run/.lock"]
    assert len([path for path in left if "/other/" in path]) == 4


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"NODE_RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, True),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, False),
    ],
)
def test_one_process_writes(monkeypatch, variables, first):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first
