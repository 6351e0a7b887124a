"""The command line and config files, read as words."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import transformers_framework
from transformers_framework.cli.config_files import read_config, to_yaml
from transformers_framework.cli.given import SETTINGS, Quoted, from_values, gather, read_command_line
from transformers_framework.exceptions import ConfigurationError


def words(line):
    return {name: given.words for name, given in read_command_line(line.split()).items()}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--name run --devices 8", {"name": ("run",), "devices": ("8",)}),
        ("--early_stopping --patience 5", {"early_stopping": (), "patience": ("5",)}),
        ("--input_columns a b", {"input_columns": ("a", "b")}),
        ("--input_column a", {"input_columns": ("a",)}),
        ("--rate -1e-3 --steps -1 -.5", {"rate": ("-1e-3",), "steps": ("-1", "-.5")}),
        ("--name=run=1", {"name": ("run=1",)}),
        ("--name=--run", {"name": ("--run",)}),
        ("--patience 5 --patience 6", {"patience": ("6",)}),
        ("-k 5 -h", {"k": ("5",), "help": ()}),
    ],
)
def test_a_command_line_is_flags_with_their_words(line, expected):
    assert words(line) == expected


def test_a_word_without_a_flag_is_refused():
    with pytest.raises(ConfigurationError, match="Unexpected 'train': each value must follow its flag"):
        words("train --name run")


@pytest.mark.parametrize("line", ["--config {} --rate 2", "--rate 2 --config {}", "--config={} --rate 2"])
def test_the_command_line_wins_wherever_config_stands(tmp_path, line):
    path = tmp_path / "run.yaml"
    path.write_text("rate: 1\npatience: 3\n")
    given = gather(line.format(path).split())
    assert given["rate"].words == ("2",)
    assert given["patience"].words == ("3",)
    assert given["patience"].place == f"{path}:2: patience"


def test_config_files_are_merged_in_order(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("rate: 1\ninput_columns: [a, b, c]\npatience: 3\n")
    second.write_text("input_column: d\npatience: 4\n")
    given = gather(f"--config {first} --patience 5 --config {second}".split())
    assert {name: given[name].words for name in ("rate", "input_columns", "patience")} == {
        "rate": ("1",),
        "input_columns": ("d",),
        "patience": ("5",),
    }
    assert given["input_columns"].place == f"{second}:1: input_column"
    assert gather(f"--config {second} --config={first}".split())["input_columns"].words == ("a", "b", "c")
    with pytest.raises(ConfigurationError, match=r"cannot read '.*absent.yaml'"):  # also one that is not the last
        gather(f"--config {tmp_path}/absent.yaml --config {second}".split())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1e-4", ("1e-4",)),  # a string to YAML 1.1
        ("on", ("on",)),  # a truth to YAML 1.1
        ("no", ("no",)),
        ("00:01:30:00", ("00:01:30:00",)),  # 5400 to YAML 1.1
        ("010", ("010",)),  # 8 to YAML 1.1
        ("2020-01-01", ("2020-01-01",)),  # a date to YAML
        ("", (None,)),
        ("null", (None,)),
        ("~", (None,)),
        ("'null'", (Quoted("null"),)),
        ("[a, 1]", ("a", "1")),
        ("\n- a\n- 1", ("a", "1")),
    ],
)
def test_a_file_gives_the_words_that_a_command_line_would(tmp_path, text, found):
    path = tmp_path / "run.yaml"
    path.write_text(f"# comment\nflag: {text}\n")
    given = read_config(str(path))["flag"]
    assert given.words == found
    assert [type(word) for word in given.words] == [type(word) for word in found]
    assert given.listed == (len(found) > 1)


def test_an_empty_file_gives_nothing(tmp_path):
    (tmp_path / "run.yaml").write_text("# nothing yet\n")
    assert read_config(str(tmp_path / "run.yaml")) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", ":1: found a list, expected one 'flag: value' per line."),
        ("just words\n", ":1: found 'just words', expected one 'flag: value' per line."),
        ("a: 1\nb: [1\nc: 2\n", ":3:2: this is not YAML: expected ',' or ']', but got ':'."),
        ("a: 1\n\tb: 2\n", ":2:1: this is not YAML: found character '\\t' that cannot start any token."),
        ("a: 1\nb: {c: 2}\n", ":2: b: found a mapping at {path}:2, expected a value or a flat list."),
        ("a:\n- - 1\n", ":1: a: found a list at {path}:2, expected a value or a flat list."),
        ("a: 1\n---\nb: 2\n", ":2:1: this is not YAML: but found another document."),
        ("a: !!python/name:os.system x\n", ":1: a: found the tag 'tag:yaml.org,2002:python/name:os.system'"),
        ("a: 1\nb: 2\na: 3\n", ":3: a: this flag is given twice, first at {path}:1: a."),
        ("input_column: a\ninput_columns: b\n", ":2: input_columns: this flag is given twice"),
        ("? [a, b]\n: 1\n", ":1: found a list, expected the name of a flag."),
        ("config:\n", ":1: config: found nothing, expected a YAML file."),
        ("a: 1\nconfig: absent.yaml\n", ":2: config: cannot read '{folder}/absent.yaml': No such file or directory."),
        ("config: [run.yaml]\n", ":1: config: 'run.yaml' includes itself through this file."),
        ("print_config: true\n", ":1: print_config: this flag can only be given on the command line."),
        ("a_kwargs: {b: 1, [c]: 2}\n", ":1: a_kwargs: found a list at {path}:1, expected a value or a flat list."),
        ("debug: true\n", ":1: debug: this flag can only be given on the command line."),
        ("help: true\n", ":1: help: this flag can only be given on the command line."),
        ("a: \x01\n", "is not YAML"),
        ("a_kwargs: &itself {b: *itself}\n", "is nested too deeply"),
        ("callbacks: [&itself {b: *itself}]\n", "is nested too deeply"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        read_config(str(path))
    assert message.format(path=path, folder=tmp_path) in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_reads_others_first_relative_to_its_own_folder_and_wins_over_them(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "data.yaml").write_text("batch_size: 8\nseed: 1\nconfig: ../other.yaml\n")
    (tmp_path / "other.yaml").write_text("seed: 2\npatience: 3\nname: other\n")
    (tmp_path / "model.yaml").write_text("model: bert\nseed: 3\n")
    (tmp_path / "run.yaml").write_text("name: run\nconfig: [parts/data.yaml, model.yaml]\n")
    given = gather(f"--config {tmp_path}/run.yaml --patience 5".split())
    assert {name: found.words for name, found in given.items() if name != "config"} == {
        "batch_size": ("8",),
        "seed": ("3",),  # the later of two that are included
        "patience": ("5",),
        "name": ("run",),
        "model": ("bert",),
    }
    assert given["batch_size"].place == f"{tmp_path}/parts/data.yaml:1: batch_size"


def test_files_that_include_each_other_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("seed: 1\nconfig: b.yaml\n")
    (tmp_path / "b.yaml").write_text("config: a.yaml\n")
    with pytest.raises(ConfigurationError, match=r"b\.yaml:1: config: 'a\.yaml' includes itself through this file"):
        read_config(str(tmp_path / "a.yaml"))


def test_a_mapping_gives_key_and_value_where_a_flag_takes_them(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "some_kwargs:\n  rate: 1e-3\n  name: 'on'\n  kind: gelu\n  bare: no\n"
        "  ids: {a: [1, null], b: true}\n  off: null\n"
    )
    given = read_config(str(path))["some_kwargs"]
    assert given.words == (
        "rate=1e-3",
        'name="on"',
        "kind=gelu",
        "bare=no",
        'ids={"a": [1, null], "b": true}',
        "off=null",
    )
    assert given.listed


def test_variables_of_the_environment_give_flags_only_when_asked_and_all_else_wins(tmp_path, monkeypatch):
    path = tmp_path / "run.yaml"
    path.write_text("seed: 2\n")
    for name, text in (("SEED", "1"), ("PATIENCE", "3"), ("INPUT_COLUMN", "question"), ("LABELS", "[a, 'null']")):
        monkeypatch.setenv(f"TRANSFORMERS_FRAMEWORK_{name}", text)
    monkeypatch.setenv("TRANSFORMERS_FRAMEWORK_KEEP_ALLOCATOR", "1")  # a setting, and no flag
    for line in ("--name run", "--name run --default_env false"):
        assert "patience" not in gather(line.split())
    (tmp_path / "env.yaml").write_text("default_env: true\n")
    for line in ("--default_env", "--default_env true", f"--config {tmp_path}/env.yaml"):
        given = gather(f"{line} --config {path} --patience 5".split())
        assert {name: given[name].words for name in given if name not in ("config", "default_env")} == {
            "seed": ("2",),
            "patience": ("5",),
            "input_columns": ("question",),
            "labels": ("a", "null"),
        }
        assert given["labels"].place == "TRANSFORMERS_FRAMEWORK_LABELS"
        assert given["labels"].listed
    monkeypatch.setenv("TRANSFORMERS_FRAMEWORK_HELP", "true")
    with pytest.raises(
        ConfigurationError, match="TRANSFORMERS_FRAMEWORK_HELP: this flag can only be given on the command line"
    ):
        gather(["--default_env"])


def test_settings_of_the_environment_are_no_flags():
    package = Path(transformers_framework.__file__).parent
    texts = [path.read_text("utf-8") for path in package.rglob("*.py") if path.name != "given.py"]
    assert {name for text in texts for name in re.findall(r'"(TRANSFORMERS_FRAMEWORK_\w+)"', text)} == set(SETTINGS)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"--config: cannot read '.*absent.yaml': No such file or directory."):
        read_config(str(tmp_path / "absent.yaml"))
    with pytest.raises(ConfigurationError, match=r"--config: cannot read '.*': Is a directory."):
        read_config(str(tmp_path))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(ConfigurationError, match="is not a text file in UTF-8"):
        read_config(str(tmp_path / "binary.yaml"))
    with pytest.raises(ConfigurationError, match=r"--config: found no value, expected one YAML file."):
        gather(["--config"])
    with pytest.raises(ConfigurationError, match=r"found 2 values, expected one YAML file: give each file its own"):
        gather(["--config", "a.yaml", "b.yaml"])


@pytest.mark.parametrize(
    ("value", "words", "listed"),
    [
        (None, (None,), False),
        (True, ("true",), False),
        (1e-5, ("1.0e-05",), False),
        (1.0, ("1.0",), False),
        ("none", ("none",), False),
        ("1e-4", ("1e-4",), False),
        ("a: b # c", ("a: b # c",), False),
        ("über\nzwei", ("über\nzwei",), False),
        ("", ("",), False),
        ("a\x85b\u2028c", ("a\x85b\u2028c",), False),
        (["a", "null"], ("a", "null"), True),
        ((0.9, 0.999), ("0.9", "0.999"), True),
        ([], (), True),
    ],
)
def test_what_is_printed_is_read_back(tmp_path, value, words, listed):
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml({"run": {"flag": value, "other": 1}, "empty": {}}), encoding="utf-8")
    given = read_config(str(path))["flag"]
    assert (given.words, given.listed) == (words, listed)
    if words in (("none",), ("a", "null")):
        assert type(given.words[-1]) is Quoted


def test_arguments_of_objects_are_read_back_with_their_types(tmp_path):
    path = tmp_path / "run.yaml"
    arguments = {
        "a": "1e-5",
        "b": 1e-5,
        "c": "NaN",
        "d": float("inf"),
        "e": "null",
        "f": None,
        "g": ["true", True, "x"],
    }
    text = json.dumps({"class_path": "A", "init_args": arguments})
    path.write_text(to_yaml({"run": {"callbacks": [text]}}), encoding="utf-8")
    assert json.loads(read_config(str(path))["callbacks"].words[0])["init_args"] == arguments


def test_numbers_of_numpy_and_torch_and_paths_are_values():
    values = {
        "a": np.int64(8),
        "b": np.float64(0.5),
        "c": np.bool_(False),
        "d": torch.tensor(3),
        "e": [np.int32(1), None],
    }
    given = from_values(values)
    assert [given[name].words for name in "abcde"] == [("8",), ("0.5",), ("false",), ("3",), ("1", None)]
    nested = from_values({"x_kwargs": {"rate": np.float64(0.5)}, "metrics": [{"init_args": {"file": Path("f")}}]})
    assert (nested["x_kwargs"].words, nested["metrics"].words) == (("rate=0.5",), ('{"init_args": {"file": "f"}}',))
    with pytest.raises(ConfigurationError, match=r"--x_kwargs: found <object .*> in it, expected texts, numbers"):
        from_values({"x_kwargs": {"rate": object()}})
