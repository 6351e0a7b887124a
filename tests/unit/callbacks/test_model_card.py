"""Model cards: metadata that the hub reads, whatever texts are in it, and the same page for people."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from tests import runs, tiny
from tests.tolerances import assert_close
from transformers_framework.callbacks.card_usage import Usage, usage_of
from transformers_framework.callbacks.model_card import model_card, with_results
from transformers_framework.objectives.summarization import Summarization
from transformers_framework.objectives.token_class import TokenClassification

OPTIONS = {"pipeline": "masked_lm", "model": "bert", "name": "first", "train_dataset": "train.jsonl", "resume": True}
METRICS = {"valid/loss": 0.125, "valid/masked_lm/accuracy": 1 / 3, "valid/masked_lm/perplexity": float("inf")}
USAGE = Usage("transformers", "fill-mask", "print(1)")
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
    model_card({**OPTIONS, **given}, USAGE, metrics=METRICS, epoch=2, step=40).save(folder / "README.md")
    return (folder / "README.md").read_text("utf-8")


PAGE = """
`bert` trained with `masked_lm` from `user/base`; saved at step 40 (epoch 3).

## Use

```python
print(1)
```

## Results

{chosen}

`valid/…`: the last validation, at step 36.

| name | value |
| --- | --- |
| valid/loss | 0.125 |
| valid/masked_lm/accuracy | 0.333333 |
| valid/masked_lm/perplexity | inf |
{tested}
## Data

| stage | source |
| --- | --- |
| train | `user/texts/train` |
| valid | local file (jsonl) |

## Flags

```yaml
model: bert
name: first
pipeline: masked_lm
pre_trained_model: user/base
train_dataset: user/texts/train
```

- learning_rate was 0.1

"""
SECRETS = ("/data/secret", "jane", "bucket", "intranet")


def test_page() -> None:
    private = {
        "valid_dataset": "/data/secret/valid.jsonl",
        "cache_dir": "/data/jane",
        "ckpt_path": "s3://bucket/x.ckpt",
    }
    private |= {"callbacks": ["my:Callback(url=http://intranet)"], "corpus_dataset": "s3://bucket/rows", "k": None}
    options = {**OPTIONS, **private, "pre_trained_model": "user/base", "train_dataset": "user/texts/train"}
    logged = METRICS | {"train/loss": 0.25, "train/learning_rate": 1e-3}  # of an earlier step
    moment = {"epoch": 2, "step": 40, "validated_step": 36}
    card = model_card(options, USAGE, metrics=logged, **moment, changes=["learning_rate was 0.1"])
    _, _, page = card.content.partition("---\n# first\n")
    start = "The last state of the training, or one on the way there."
    assert page.split("## Versions")[0] == PAGE.format(chosen=start, tested="")
    assert page.endswith("\n")
    for value in (0.5, 0.25):  # the same when it is done again
        card = with_results(card, options, "The best.", {"test/masked_lm/accuracy": value})
    _, _, page = card.content.partition("---\n# first\n")
    assert page.split("## Versions")[0] == PAGE.format(
        chosen="The best.", tested="| test/masked_lm/accuracy | 0.25 |\n"
    )
    found = [(r.dataset_split, r.dataset_type, r.metric_name, r.metric_value) for r in card.data.eval_results or ()]
    accuracy = "masked_lm/accuracy"
    assert found == [("validation", "custom", accuracy, 0.333333), ("test", "custom", accuracy, 0.25)]
    assert card.data.datasets == ["user/texts"]
    assert (card.data.pipeline_tag, card.data.base_model) == ("fill-mask", "user/base")
    assert not [secret for secret in SECRETS if secret in card.content]


def test_a_card_without_results_is_completed() -> None:
    """As of a run without data for validation."""
    card = model_card(OPTIONS, USAGE, metrics={"train/loss": 0.5}, epoch=2, step=40, changes=[])
    done = with_results(card, OPTIONS, "The last.", {})
    assert (done.data.to_dict()["model_name"], "The last." in done.text) == ("first", True)
    assert "`train/…`: losses and rates of the last logging step, metrics of the last epoch" in done.text
    assert "| train/loss | 0.5 |" in done.text


@pytest.mark.parametrize("text", TRICKY)
def test_metadata_keeps_any_text(text: str, tmp_path: Path) -> None:
    page = saved(tmp_path, pipeline=text, pre_trained_model=f"{text}x", name=text)
    found = ModelCard.load(tmp_path / "README.md").data
    assert found.tags == [text, "transformers-framework"]
    is_name = text in ("yes", "null", "1e3", "---")
    assert found.base_model == (f"{text}x" if is_name else None)
    assert found.library_name == "transformers"
    flags = yaml.safe_load(page.split("```yaml\n")[1].split("\n```\n")[0])
    assert flags == {
        "pipeline": text,
        "model": "bert",
        "name": text,
    } | ({"pre_trained_model": f"{text}x"} if is_name else {})


@pytest.mark.parametrize("source", ["{here}", "s3://bucket/model", None])
def test_only_models_of_the_hub_are_base_models(source: str | None, tmp_path: Path) -> None:
    saved(tmp_path, pre_trained_model=source and source.format(here=tmp_path))
    assert ModelCard.load(tmp_path / "README.md").data.base_model is None


def test_the_hub_is_imported_where_a_card_is_written() -> None:
    code = "import sys, transformers_framework.callbacks.model_card; print('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_program_with_any_prefix_compiles(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["T5ForConditionalGeneration"]}')
    objective = Summarization.__new__(Summarization)
    code = usage_of(tmp_path, [objective], {"prefix": 'say "{it}":\n'}).code
    compile(code, "card", "exec")
    assert r'tokenizer("say \"{it}\":\nRembrandt painted it in Amsterdam."' in code


def test_the_program_of_a_tagger_reads_the_tag_of_the_first_token(tmp_path: Path, monkeypatch: Any) -> None:
    """Further tokens of a word have no labels in training: their tags mean nothing."""
    tags = {0: "B-x", 1: "B-y", 2: "B-z"}
    tiny.save_checkpoint("bert", tmp_path, "AutoModelForTokenClassification", id2label=tags, initializer_range=1.0)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(usage_of(tmp_path, [TokenClassification.__new__(TokenClassification)], {}).code, scope)
    words = ["tiger", "unreadableness", "rain", "kitchenette"]
    assert len(scope["model"].tokenizer(" ".join(words), add_special_tokens=False)["input_ids"]) > len(words)
    found = scope["model"](" ".join(words))
    assert [each["word"] for each in found] == words
    assert_close(torch.tensor([each["score"] for each in found]), runs.word_scores_of(tmp_path, [words]))
