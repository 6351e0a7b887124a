"""Signatures to flags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from transformers_framework.cli.arguments import Arguments
from transformers_framework.cli.flags import REQUIRED, Flag, arguments, flags_of, merge
from transformers_framework.cli.given import Given
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.restricted import PositiveInt

if TYPE_CHECKING:
    from nowhere import Injected


class Parent:
    """A parent.

    Args:
        shared: The parent's meaning.
        inherited: Something of
            the parent, in :class:`~seconds.Second`.
    """

    def __init__(self, *, shared: int = 1, inherited: float = 0.5) -> None: ...


class Child(Parent):
    """A child.

    Args:
        injected: An object.
        required: Columns, one or more.
        shared: The child's meaning, ``1`` or more.

    Raises:
        ValueError: Never.
    """

    def __init__(self, injected: Injected, *, required: list[str], shared: PositiveInt | None = None, **kwargs): ...


class Closed(Parent):
    """Hands nothing to its parent."""

    def __init__(self, *, own: Literal["a", "b"] = "a") -> None: ...


def test_keyword_only_parameters_are_flags_and_follow_kwargs_to_the_parents():
    flags = {flag.name: flag for flag in flags_of(Child)}
    assert list(flags) == ["required", "shared", "inherited"]
    assert flags["required"].hint == list[str]
    assert flags["required"].default is REQUIRED
    assert flags["required"].help == "Columns, one or more."
    assert flags["shared"].hint == PositiveInt | None
    assert flags["shared"].help == "The child's meaning, 1 or more."
    assert flags["inherited"].default == 0.5
    assert flags["inherited"].help == "Something of the parent, in Second."


def test_parents_are_not_asked_without_kwargs():
    assert [flag.name for flag in flags_of(Closed)] == ["own"]


def test_a_function_declares_flags_too():
    def factory(parameters: Injected, *, rate: float = 1e-4):
        """Make it.

        Args:
            parameters: What is optimised.
            rate: How fast.
        """

    assert flags_of(factory) == [
        Flag("rate", float, 1e-4, "How fast.", "test_a_function_declares_flags_too.<locals>.factory")
    ]


def test_a_type_that_no_word_can_say_is_refused():
    def wrong(*, thing: dict[str, int]): ...

    with pytest.raises(ConfigurationError, match="thing has a type that no flag can have"):
        flags_of(wrong)


def test_two_owners_share_a_flag_only_when_they_agree():
    first = Flag("rate", float, 1.0, "", "first")
    second = Flag("rate", float, 1.0, "How fast.", "second")
    assert merge([first, second])["rate"].help == "How fast."
    with pytest.raises(ConfigurationError, match="first and third disagree on --rate"):
        merge([first, Flag("rate", float, 2.0, "", "third")])


def test_arguments_section_ends_where_the_next_begins():
    text = """Title.

    Args:
        first: One:
            two.

            Three.
        second (int, optional): Four.

    Returns:
        third: No argument.
    """
    assert arguments(text) == {"first": "One: two. Three.", "second": "Four."}
    assert arguments(None) == {}
    assert arguments("Title.\n\n    Args:\n        only: One,\n            two.\n") == {"only": "One, two."}


def test_a_default_that_the_documentation_states_is_shown_once():
    def wrong(
        *,
        steps: int | None = None,
        rate: float = 2.0,
        off: int | None = None,
        folder: str | None = None,
        style: str | None = None,
    ):
        """Title.

        Args:
            steps: How often. Default: ``50``.
            rate: How fast. Default: ``2.0``.
            off: How far. Default: ``None``.
            folder: Where. Default: the user's folder, as 1.0 had. It is made.
            style: How. Default: 'plain'.
        """

    words = [("Where. It is made.", "the user's folder, as 1.0 had"), ("How.", "plain")]
    flags = [(flag.help, flag.shown_default) for flag in flags_of(wrong)]
    assert flags == [("How often.", "50"), ("How fast.", None), ("How far.", None), *words]


@pytest.mark.parametrize(
    ("hint", "given", "message"),
    [
        (PositiveInt, Given("--n", ("0",)), "--n: found '0', expected an integer at least 1."),
        (int, Given("--n", ()), "--n: found no value, expected an integer."),
        (int, Given("--n", ("1", "x y")), "--n: found '1' 'x y', expected an integer."),
        (int, Given("a.yaml:3: n", (None,)), "a.yaml:3: n: found nothing, expected an integer."),
        (
            Literal["linear", "cosine"],
            Given("--n", ("cosin",)),
            "--n: found 'cosin', expected one of linear, cosine. Did you mean 'cosine'?",
        ),
        (
            tuple[float, float],
            Given("--betas", (".9",)),
            "--betas: found '.9' (1 value), expected 2 values, each a number.",
        ),
    ],
)
def test_a_wrong_value_names_the_flag_what_was_found_and_what_is_expected(hint, given, message):
    with pytest.raises(ConfigurationError) as error:
        Arguments({"group": {"n": Flag("n", hint, REQUIRED, "", "")}}).read("n", given)
    assert str(error.value) == message


def test_an_empty_list_is_a_value_only_where_it_is_the_default():
    def read(default):
        arguments = Arguments({"group": {"n": Flag("n", list[str], default, "", "")}})
        return arguments.read("n", Given("a.yaml:1: n", (), listed=True))

    assert read([]) == []
    with pytest.raises(ConfigurationError, match="found an empty list"):
        read(["a"])
