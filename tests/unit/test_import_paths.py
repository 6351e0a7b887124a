"""Import paths lead to what they name; one that leads nowhere has one message with the closest name."""

# ruff: noqa: E501  a table: one row a line

from __future__ import annotations

import sys

import pytest

from tests.outside import package  # noqa: F401
from transformers_framework import registry
from transformers_framework.exceptions import ConfigurationError, MissingDependencyError
from transformers_framework.import_paths import build_object, object_and_arguments, resolve
from transformers_framework.plugins import import_packages, installed
from transformers_framework.registration import register_optimizer, register_pipeline
from transformers_framework.registry import OPTIMIZERS, lookup


def test_our_modules_need_not_be_named_in_full():
    short, full = (
        resolve("objectives.masked_lm:MaskedLM"),
        resolve("transformers_framework.objectives.masked_lm:MaskedLM"),
    )
    assert short is full
    assert resolve("torchmetrics:MeanSquaredError") is resolve("torchmetrics.MeanSquaredError")


def test_a_module_of_others_may_be_named_like_a_folder_of_ours(package):  # noqa: F811
    package(
        {"losses/__init__.py": "", "losses/mine.py": "def mine(): return 3\n", "schedulers.py": "def up(): return 4\n"}
    )
    assert resolve("losses.mine:mine")() == 3
    assert resolve("schedulers:up")() == 4
    assert resolve("schedulers.schedules:cosine").__module__ == "transformers_framework.schedulers.schedules"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("mine.objectivs:Mine", "mine.objectivs:Mine: there is no module 'mine.objectivs'. Did you mean 'mine.objectives'?"),
        ("mine.objectives:Mime", "the module 'mine.objectives' has no 'Mime'. Did you mean 'Mine'?"),
        ("mine.objectives:zzz", "the module 'mine.objectives' has no 'zzz'.$"),
        ("no_such_thing_:Mine", "there is no module 'no_such_thing_'. Install it, or give its folder in PYTHONPATH."),
        ("mine.objectives.deeper:Mine", "there is no module 'mine.objectives.deeper'"),
        ("mine", "mine: expected an import path, such as my_package.my_module:MyClass."),
        ("mine:", "mine:: expected an import path"),
        ("mine.needs:X", r"importing 'mine.needs' fails at .*needs.py:1: ModuleNotFoundError: No module named 'absent_one'"),
        ("mine.leaves:X", r"importing 'mine.leaves' fails at .*leaves.py:2: SystemExit: 3"),
        ("objectives.masked_lm:MaskdLM", "the module 'objectives.masked_lm' has no 'MaskdLM'. Did you mean 'MaskedLM'?"),
    ],
)  # fmt: skip
def test_one_that_leads_nowhere_says_so(path, message, package):  # noqa: F811
    package(
        {
            "mine/__init__.py": "",
            "mine/objectives.py": "class Mine: pass\n",
            "mine/needs.py": "import absent_one\n",
            "mine/leaves.py": "import sys\nsys.exit(3)\n",
        }
    )
    with pytest.raises(ConfigurationError, match=message.replace("?", r"\?")):
        resolve(path)


def test_errors_for_users_pass_through(package):  # noqa: F811
    text = "from transformers_framework.exceptions import MissingDependencyError as E\nraise E('x', '--y', 'z')\n"
    package({"raising.py": text})
    with pytest.raises(MissingDependencyError, match="--y needs the package 'x'"):
        resolve("raising:x")


def test_objects_have_arguments():
    assert build_object('{"class_path": "fractions.Fraction", "init_args": {"numerator": 3}}', "x", "", object) == 3
    assert build_object("Fraction", "x", "fractions", object) == 0
    assert object_and_arguments('{"class_path": "a:B"}', "x") == ("a:B", {})
    for wrong in ('{"init_args": {}}', '{"class_path": 3}', '{"class_path": "a:B", "init_args": [1]}'):
        with pytest.raises(ConfigurationError, match=r"--x .*: expected class_path, an import path, and init_args"):
            object_and_arguments(wrong, "x")


def test_packages_register_and_who_has_a_name_keeps_it(package):  # noqa: F811
    row = "from transformers_framework import register_optimizer as r\nr('mine', 'a:b')\n"
    package({"first.py": row, "second.py": row})
    import_packages(import_=("first",))
    assert lookup(OPTIMIZERS, "mine", "optimizer") == "a:b"
    with pytest.raises(ConfigurationError, match="second registers 'mine', which first has already"):
        import_packages(import_=("second",))
    del sys.modules["first"]
    import_packages(import_=("first",))
    assert lookup(OPTIMIZERS, "mine", "optimizer") == "a:b", "who registered it may do so again"


def test_rows_are_checked(package):  # noqa: F811
    package({})
    with pytest.raises(ConfigurationError, match=r"register_optimizer 'x': expected an import path .*, found 'a\.b'"):
        register_optimizer("x", "a.b")
    with pytest.raises(ConfigurationError, match=r"the name 'a\+b' of tests.unit.test_import_paths must be letters"):
        register_pipeline("a+b", registry.PIPELINES["seq_class"])
    with pytest.raises(ConfigurationError, match="register_pipeline 'x': expected a PipelineSpec, found 'row'"):
        register_pipeline("x", "row")


def test_an_entry_point_may_name_a_function(package):  # noqa: F811
    package(
        {
            "called.py": "from transformers_framework import register_optimizer\n"
            "def rows():\n    register_optimizer('called', 'a:b')\n",
            "called-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: called\nVersion: 1.0\n",
            "called-1.0.dist-info/entry_points.txt": "[transformers_framework.plugins]\nrows = called:rows\n",
        }
    )
    assert installed() == {"rows": "called:rows"}
    assert "called" not in sys.modules
    assert lookup(OPTIMIZERS, "called", "optimizer") == "a:b"
    with pytest.raises(ConfigurationError, match=r"unknown optimizer 'caled'\. Did you mean 'called'"):
        lookup(OPTIMIZERS, "caled", "optimizer")


def test_a_broken_plug_in_is_named(package):  # noqa: F811
    package({"bad.py": "1 / 0\n", "bad-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n"})
    package({"bad-1.0.dist-info/entry_points.txt": "[transformers_framework.plugins]\nbad_one = bad\n"})
    assert lookup(OPTIMIZERS, "adamw", "optimizer")
    with pytest.raises(
        ConfigurationError, match=r"The installed plug-in 'bad_one': importing 'bad' fails at .*bad.py:1"
    ):
        lookup(OPTIMIZERS, "unknown_one", "optimizer")
