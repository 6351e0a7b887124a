"""Words to values, for every type that a flag can have."""

import re
from typing import Annotated, Literal

import pytest

from transformers_framework.cli.arguments import Arguments
from transformers_framework.cli.flags import REQUIRED, Flag
from transformers_framework.cli.given import Given, Quoted
from transformers_framework.cli.values import describe, expressible, metavar
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.restricted import LocalPath, NonNegativeFloat, PositiveInt, Probability, Range, Source

PRECISION = Literal[64, 32, 16] | Literal["16-mixed", "bf16-mixed"] | Literal["64", "32", "16", "bf16"] | None


def convert(hint, words, *, listed=False):
    arguments = Arguments({"group": {"x": Flag("x", hint, REQUIRED, "", "")}})
    return arguments.read("x", Given("--x", tuple(words), listed))


@pytest.mark.parametrize(
    ("hint", "words", "value"),
    [
        (str, ["yes"], "yes"),
        (str, ["1e-4"], "1e-4"),
        (str, ["null"], "null"),
        (str, [""], ""),
        (str, ["-"], "-"),
        (str, ["{a: b}"], "{a: b}"),
        (str, ["!!timestamp x"], "!!timestamp x"),
        (str, ["[" * 5000], "[" * 5000),
        (int | bool | str, ["[" * 5000], "[" * 5000),
        (str | None, ["null"], None),
        (str | None, ["None"], None),
        (str | None, [Quoted("null")], "null"),
        (str | None, [None], None),
        (int, ["-1"], -1),
        (int, ["+7"], 7),
        (int, ["010"], 10),
        (float, [".5e3"], 500.0),
        (float, ["010"], 10.0),
        (float, ["1"], 1.0),
        (float, ["1e-05"], 1e-5),
        (float, ["-1e-3"], -1e-3),
        (float, [".9"], 0.9),
        (float, ["1."], 1.0),
        (bool, [], True),
        (bool, ["true"], True),
        (bool, ["Yes"], True),
        (bool, ["1"], True),
        (bool, ["on"], True),
        (bool, ["false"], False),
        (bool, ["NO"], False),
        (bool, ["0"], False),
        (bool, ["off"], False),
        (bool | None, [], True),
        (bool | None, ["none"], None),
        (int | bool, [], True),
        (int | bool, ["5"], 5),
        (int | bool, ["false"], False),
        (bool | Literal["warn"] | None, ["warn"], "warn"),
        (bool | Literal["warn"] | None, [], True),
        (int | float | None, ["1"], 1),
        (int | float | None, ["1.0"], 1.0),
        (int | float | None, ["1e-4"], 1e-4),
        (Literal["max", "min"], ["min"], "min"),
        (Literal["none", "shared"], ["none"], "none"),
        (PRECISION, ["16"], 16),
        (PRECISION, ["bf16"], "bf16"),
        (PRECISION, ["16-mixed"], "16-mixed"),
        (list[int], ["512", "128"], [512, 128]),
        (list[int], ["512"], [512]),
        (list[str] | None, ["question", "answer"], ["question", "answer"]),
        (list[str] | None, ["question"], ["question"]),
        (list[str] | None, ["none"], None),
        (list[float], ["1", "2.5"], [1.0, 2.5]),
        (tuple[float, float], [".9", ".999"], (0.9, 0.999)),
        (tuple[float, float] | None, ["none"], None),
        (tuple[float, float | None], ["1", "none"], (1.0, None)),
        (tuple[int, ...], ["1", "2", "3"], (1, 2, 3)),
        (list[int] | str | int, ["8"], 8),
        (list[int] | str | int, ["-1"], -1),
        (list[int] | str | int, ["auto"], "auto"),
        (list[int] | str | int, ["0,1"], "0,1"),
        (list[int] | str | int, ["0", "1"], [0, 1]),
        (PositiveInt, ["1"], 1),
        (PositiveInt | None, ["none"], None),
        (Probability, ["1"], 1.0),
        (list[NonNegativeFloat] | None, ["0", "2"], [0.0, 2.0]),
    ],
)
def test_words_become_a_value_of_the_type(hint, words, value):
    result = convert(hint, words)
    assert (result, type(result)) == (value, type(value))


def test_a_list_in_a_file_is_a_list_even_with_one_entry():
    assert convert(list[int] | str | int, ["0"], listed=True) == [0]
    with pytest.raises(ConfigurationError):
        convert(int, ["0"], listed=True)


@pytest.mark.parametrize(
    ("hint", "words", "expected"),
    [
        (int, ["1.0"], "an integer"),
        (int, ["1e5"], "an integer"),
        (int, ["1_000"], "an integer"),
        (int, ["0x10"], "an integer"),
        (int, ["1:30"], "an integer"),
        (float, ["1:30.5"], "a number"),
        (float, [".inf"], "a number"),
        (PositiveInt, ["8.0"], "an integer at least 1"),
        (PositiveInt, ["1_000"], "an integer at least 1"),
        (int, [], "an integer"),
        (int, ["1", "2"], "an integer"),
        (int, ["none"], "an integer"),
        (int, [None], "an integer"),
        (str, [], "a text"),
        (str, [None], "a text"),
        (str | None, ["a", "b"], "a text or none"),
        (float, ["nan"], "a number"),
        (float, ["inf"], "a number"),
        (float, ["1,5"], "a number"),
        (bool, ["maybe"], "true or false"),
        (bool, ["2"], "true or false"),
        (bool, ["y"], "true or false"),
        (bool, ["!!timestamp x"], "true or false"),
        (bool, [None], "true or false"),
        (int | float, ["x"], "an integer or a number"),
        (Literal["max", "min"], ["Max"], "one of max, min"),
        (PRECISION, ["fp16"], "one of 64, 32, 16, 16-mixed, bf16-mixed, bf16 or none"),
        (list[int], ["512", "x"], "one or more values, each an integer"),
        (list[int], [], "one or more values, each an integer"),
        (tuple[float, float], [".9"], "2 values, each a number"),
        (tuple[float, float], [".9", ".99", ".999"], "2 values, each a number"),
        (PositiveInt, ["0"], "an integer at least 1"),
        (PositiveInt | None, ["0"], "an integer at least 1 or none"),
        (Probability, ["1.5"], "a number at least 0 and at most 1"),
        (Annotated[float, Range(above=0)], ["0"], "a number greater than 0"),
        (list[NonNegativeFloat], ["1", "-1"], "one or more values, each a number at least 0"),
    ],
)
def test_words_of_no_value_are_refused(hint, words, expected):
    with pytest.raises(ConfigurationError, match=f"expected {re.escape(expected)}"):
        convert(hint, words)
    assert describe(hint) == expected


def test_only_the_part_that_words_can_say_is_left_of_a_type():
    assert expressible(str | dict[str, int] | object | None) == str | None
    assert expressible(list[int] | list[object] | int) == list[int] | int
    assert expressible(object | None) is None


@pytest.mark.parametrize(
    ("hint", "short"),
    [
        (PositiveInt | None, "INT"),
        (list[int] | str | int, "TEXT|INT|INT ..."),
        (bool | None, "[true|false]"),
        (Literal["a", "b", "c", "d", "e", "f", "g"], "NAME"),
    ],
)
def test_short_form_of_a_type(hint, short):
    assert metavar(hint) == short


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("~", "/people/me"),
        ("~/a", "/people/me/a"),
        ("$RUNS/a", "/runs/a"),
        ("${RUNS}/a", "/runs/a"),
        ("a~b", "a~b"),
        ("outputs", "outputs"),
        ("5$", "5$"),
    ],
)
def test_paths_are_expanded_as_a_shell_does(monkeypatch, word, path):
    monkeypatch.setenv("HOME", "/people/me")
    monkeypatch.setenv("RUNS", "/runs")
    assert convert(LocalPath, [word]) == convert(Source | None, [word]) == path


def test_a_variable_that_is_not_set_is_one_only_where_no_file_is_called_so(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NONE", raising=False)
    with pytest.raises(ConfigurationError, match=r"\$NONE is not set in the environment"):
        convert(LocalPath, ["$NONE/a"])
    (tmp_path / "$NONE").mkdir()
    assert convert(LocalPath, ["$NONE"]) == "$NONE"


def test_homes_that_do_not_exist_are_refused(monkeypatch):
    import pwd

    with pytest.raises(ConfigurationError, match="~nobody-has-this-name has no home folder here"):
        convert(Source, ["~nobody-has-this-name/data.csv"])
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # as in a container that runs as any user
    with pytest.raises(ConfigurationError, match="~ has no home folder here"):
        convert(LocalPath, ["~/outputs"])


def test_addresses_are_sources_and_no_paths():
    assert convert(Source, ["s3://bucket/$x"]) == "s3://bucket/$x"
    with pytest.raises(ConfigurationError, match="an address"):
        convert(LocalPath | None, ["s3://bucket/x"])
    assert describe(LocalPath) == "a path on this machine"
