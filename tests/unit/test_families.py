"""The table of model families: everything that depends on a family is in its row, and a new family is one row."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForSequenceClassification

from tests import runs
from transformers_framework.families import FAMILIES, Family, family_of
from transformers_framework.family_traits import UNTESTED, Requirement
from transformers_framework.registration import register_model

PACKAGE = Path(__file__).parents[2] / "transformers_framework"
WORDS = {"auto", "clip"}  # what else is called so: a mode of numpy, a method
OTHERS = {
    "models/multi_token.py": {"multi_token_bart", "multi_token_t5"},  # the families that this file defines
    "objectives/denoising.py": {"t5", "bart"},  # values of --denoising_style
    "reports/results.py": {"git"},  # the program, and a family
}


def named_families(path: Path) -> set[str]:
    """Return the strings of a file that are the name of a family."""
    known = {*CONFIG_MAPPING.keys(), *FAMILIES, *(family.model_type for family in FAMILIES.values())} - WORDS
    tree = ast.parse(path.read_text("utf-8"))
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return strings & known


def test_no_file_but_the_table_names_a_family() -> None:
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    found = {name: names for name, path in files.items() if (names := named_families(path))}
    table = found.pop("families.py")
    assert table >= {family.model_type for family in FAMILIES.values()} - {"auto"}
    assert found == OTHERS, "what depends on a family is a field of its row in families.py"


def test_a_family_without_a_row_has_the_usual_traits() -> None:
    assert family_of("gpt2") == Family("gpt2")
    assert family_of("gpt2").document_mask == UNTESTED
    assert family_of("deberta-v2") is FAMILIES["deberta_v2"]


@pytest.mark.parametrize(
    ("value", "found", "is_met"),
    [
        ("original_full", {"kind": "original_full"}, True),
        ("original_full", {"kind": "block_sparse"}, False),
        ("original_full", {"kind": None}, False),
        (False, {"kind": None}, True),
        (0, {"kind": 3}, False),
        (0, {}, True),
    ],
)
def test_a_requirement_is_met_by_its_value_or_where_there_is_no_such_setting(value, found, is_met) -> None:
    config = type("Config", (), found)()
    assert Requirement("kind", value, "it mixes texts").is_met(config) is is_met


def test_a_family_from_outside_is_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = Family("pocket-model", module="tests.pocket", document_mask="its layers take no mask between tokens")
    monkeypatch.setitem(FAMILIES, row.name, row)  # it is taken out again
    del FAMILIES[row.name]
    register_model(row)
    folders = runs.run(tmp_path, pipeline="masked_lm+seq_class", model="pocket_model", max_steps=2, monitor=None)
    assert runs.metrics(folders, "test").keys() >= {"test/seq_class/accuracy", "test/loss"}
    exported = AutoModelForSequenceClassification.from_pretrained(folders.pre_trained_models / "final" / "seq_class")
    assert type(exported).__name__ == "PocketForSequenceClassification"
    assert exported.config.id2label == dict(enumerate(runs.CLASSES))
    before = AutoModel.from_pretrained(tmp_path / "checkpoint-pocket_model")
    assert not torch.equal(exported.pocket.words.weight, before.words.weight)

    flags = {"pipeline": "masked_lm", "model": "pocket_model"}
    runs.run(tmp_path, **flags, name="packed", max_steps=2, packing="isolated", status=2)
    assert "as those of pocket-model do: its layers take no mask between tokens" in capsys.readouterr().err
    runs.run(tmp_path, model="pocket_model", pipeline="token_class", name="tags", max_steps=2, status=2)
    assert "no AutoModelForTokenClassification for 'pocket_model'" in capsys.readouterr().err
