"""Model cards: metadata that the hub reads, whatever texts are in it, and the same page for people."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from transformers_framework.callbacks.model_card import model_card

OPTIONS = {"pipeline": "masked_lm", "model": "bert", "name": "first", "train_dataset": "train.jsonl", "resume": True}
METRICS = {"valid/loss": 0.125, "valid/masked_lm/accuracy": 1 / 3}
# texts that YAML would read as something else, or not at all, without quotes
TRICKY = [
    "yes",
    "null",
    "1e3",
    "12:30",
    "a: b",
    "# no",
    "- x",
    "'",
    '"',
    "@x",
    "[a",
    "{b}",
    "é – 漢",
    "a\nb",
    " c ",
    "---",
]


def saved(folder: Path, **given: Any) -> str:
    model_card({**OPTIONS, **given}, metrics=METRICS, epoch=2, step=40).save(folder / "README.md")
    return (folder / "README.md").read_text("utf-8")


def test_page(tmp_path: Path) -> None:
    options = {**OPTIONS, "pre_trained_model": "user/base"}
    card = model_card(options, metrics=METRICS, epoch=2, step=40, changes=["learning_rate was 0.1"])
    card.save(tmp_path / "README.md")
    metadata, _, page = (tmp_path / "README.md").read_text("utf-8").partition("---\n# first\n")
    assert metadata == (
        "---\nlibrary_name: transformers\ntags:\n- masked_lm\n- transformers-framework\nbase_model: user/base\n"
    )
    assert page.split("## Versions")[0] == (
        "\n`bert` trained with `masked_lm` from `user/base`; saved in epoch 2 at step 40.\n"
        "\n## Data\n\n| stage | source |\n| --- | --- |\n| train | `train.jsonl` |\n"
        "\n## Metrics\n\n| name | value |\n| --- | --- |\n| valid/loss | 0.125 |\n"
        "| valid/masked_lm/accuracy | 0.333333 |\n"
        "\n## Flags\n\n```yaml\nmodel: bert\nname: first\npipeline: masked_lm\npre_trained_model: user/base\n"
        "train_dataset: train.jsonl\n```\n\n- learning_rate was 0.1\n\n"
    )
    assert page.endswith("\n")


@pytest.mark.parametrize("text", TRICKY)
def test_metadata_keeps_any_text(text: str, tmp_path: Path) -> None:
    page = saved(tmp_path, pipeline=text, pre_trained_model=f"{text}x", name=text)
    found = ModelCard.load(tmp_path / "README.md").data
    assert found.tags == [text, "transformers-framework"]
    assert found.base_model == f"{text}x"
    assert found.library_name == "transformers"
    flags = yaml.safe_load(page.split("```yaml\n")[1].split("\n```\n")[0])
    assert flags == {
        "pipeline": text,
        "model": "bert",
        "name": text,
        "train_dataset": "train.jsonl",
        "pre_trained_model": f"{text}x",
    }


@pytest.mark.parametrize("source", ["{here}", "s3://bucket/model", None])
def test_only_models_of_the_hub_are_base_models(source: str | None, tmp_path: Path) -> None:
    saved(tmp_path, pre_trained_model=source and source.format(here=tmp_path))
    assert ModelCard.load(tmp_path / "README.md").data.base_model is None


def test_the_hub_is_imported_where_a_card_is_written() -> None:
    code = "import sys, transformers_framework.callbacks.model_card; print('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
