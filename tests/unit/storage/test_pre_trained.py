import sys

import pytest

from transformers_framework.exceptions import ConfigurationError, MissingDependencyError
from transformers_framework.storage.pre_trained import fetch, model_files


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "bert/config.json",
        "run/best/config.json",
        "run/ckpt_epoch_0_step_1/config.json",
        "tok/tokenizer.json",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", ["roberta-base", "microsoft/deberta-v3-base", "a.b_c/d-e.f"])
def test_hub_names_are_returned_as_they_are(name, models):
    assert fetch(name, cache_dir=models, what="pre_trained_model") == name


@pytest.mark.parametrize("name", ["bert", "./bert", "run/best/", "tok"])
def test_local_folders(name, models):
    assert fetch(name, cache_dir=models, what="pre_trained_model") == name.removeprefix("./").rstrip("/")


def test_home(models, monkeypatch):
    monkeypatch.setenv("HOME", str(models))
    assert fetch("~/bert", cache_dir=models, what="pre_trained_model") == str(models / "bert")


@pytest.mark.parametrize(
    ("source", "messages"),
    [
        ("./brt", ["does not exist", "Did you mean 'bert'?"]),
        ("run/bst", ["does not exist", "Did you mean 'best'?"]),
        ("/nowhere/at/all", ["/nowhere does not exist"]),
        ("run", ["no config.json", "best, ckpt_epoch_0_step_1"]),
        ("empty", ["no config.json and no tokenizer."]),
        ("bert/config.json", ["is a file", "--pre_trained_config bert"]),
        ("not a name", ["hub name"]),
        ("a/b/c", ["hub name"]),
    ],
)
def test_what_cannot_be_loaded(source, messages, models):
    with pytest.raises(ConfigurationError) as error:
        fetch(source, cache_dir=models, what="pre_trained_config")
    for message in (f"--pre_trained_config {source}", *messages):
        assert message in str(error.value)


def test_without_s3fs(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingDependencyError, match=r"--pre_trained_model s3://b/m needs .*'s3fs'.*\[s3\]"):
        fetch("s3://b/m", cache_dir=models, what="pre_trained_model")
    assert fetch("bert", cache_dir=models, what="pre_trained_model") == "bert"


def test_model_files_without_safetensors_keep_the_other_weights():
    names = [
        "README.md",
        "config.json",
        "pytorch_model-1.bin",
        "pytorch_model.bin.index.json",
        "rng_state.pth",
        "x.ckpt",
    ]
    assert model_files(names) == ["README.md", "config.json", "pytorch_model-1.bin", "pytorch_model.bin.index.json"]
    assert model_files([*names, "model.safetensors"]) == ["README.md", "config.json", "model.safetensors"]
