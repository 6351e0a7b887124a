"""From a folder of texts to a pre-trained model: a tokenizer is trained, and a run takes a config by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForMaskedLM, AutoTokenizer

from tests import runs, tiny
from transformers_framework.tokenizer import train_tokenizer

FLAGS: dict[str, Any] = {
    "input_columns": "text",
    "text_unit": "paragraph",
    "max_steps": 2,
    "monitor": None,
    "label_column": None,
}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.txt").write_text("\n\n".join(tiny.TEXT[i::3]), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("pipeline", "model", "more"),
    [
        ("masked_lm", "bert", {}),
        ("random_token_detection", "roberta", {"packing": "full"}),
        ("token_detection_and_masked_lm", "electra", {"pre_trained_generator_config": "electra:tiny"}),
        ("denoising", "t5", {"max_sequence_length": [48, 48]}),
        ("denoising", "bart", {"max_sequence_length": [48, 48]}),
    ],
)
def test_two_commands_pre_train_a_model(
    pipeline: str, model: str, more: dict[str, Any], tmp_path: Path, texts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, cache = str(tmp_path / "tokenizer"), str(tmp_path / "cache")
    made = train_tokenizer(input=[str(texts)], output=folder, model=model, vocab_size=400, cache_dir=cache)
    flags = FLAGS | {"pre_trained_config": f"{model}:tiny", "pre_trained_tokenizer": folder, "train_dataset": texts}
    folders = runs.run(tmp_path, pipeline=pipeline, model=model, name="scratch", **flags | more)
    assert not [record.message for record in caplog.records if "tokenizer.json" in record.message]
    final = folders.pre_trained_models / "final"
    exports = [path.parent for path in final.rglob("config.json")]
    assert len(exports) == (2 if "_and_" in pipeline else 1)
    for export in exports:
        config, tokenizer = json.loads((export / "config.json").read_text()), AutoTokenizer.from_pretrained(export)
        assert config["vocab_size"] == len(made) == len(tokenizer)
        assert config["pad_token_id"] == made.pad_token_id
        assert tokenizer("Where is the sea?", "There.")["input_ids"] == made("Where is the sea?", "There.")["input_ids"]


def test_the_model_is_pre_trained_further_and_resumed_by_its_name(tmp_path: Path, texts: Path) -> None:
    """The name of a size in ``config.yaml`` repeats the run; its export is a checkpoint as any other."""
    folder, cache = str(tmp_path / "tokenizer"), str(tmp_path / "cache")
    train_tokenizer(input=[str(texts)], output=folder, type="bpe", model="bert", vocab_size=400, cache_dir=cache)
    flags = FLAGS | {"pre_trained_config": "bert:tiny", "pre_trained_tokenizer": folder, "train_dataset": texts}
    first = runs.run(tmp_path, pipeline="masked_lm", name="first", **flags)
    runs.run(tmp_path, pipeline="masked_lm", name="first", **flags | {"max_steps": 3}, resume=True)
    final = first.pre_trained_models / "final"
    assert AutoModelForMaskedLM.from_pretrained(final).config.num_hidden_layers == 2
    tuned = runs.run(tmp_path, pipeline="seq_class", name="tuned", pre_trained_model=final, max_epochs=1)
    assert json.loads((tuned.pre_trained_models / "final" / "config.json").read_text())["vocab_size"] <= 400
