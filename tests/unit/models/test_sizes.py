"""Sizes of configs by name: as large as published, complete, and with the vocabulary of the tokenizer."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import CONFIG_MAPPING

from tests import tiny
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.families import FAMILIES
from transformers_framework.models.auto import load_config, missing_heads
from transformers_framework.models.own_families import auto_class_of, ensure_registered
from transformers_framework.models.sizes import config_of_size, fit_vocabulary
from transformers_framework.objectives.capabilities import head_of
from transformers_framework.registry import PIPELINES, resolve

OPTIONAL = {"position_buckets", "share_att_key", "norm_rel_ebd"}  # that models read, and configs do not declare
NAMES = [f"{name}:{size}" for name, row in FAMILIES.items() if not isinstance(row.sizes, str) for size in row.sizes]
SMALLEST = [name for i, name in enumerate(NAMES) if i == 0 or NAMES[i - 1].split(":")[0] != name.split(":")[0]]

# size, tokens of the published vocabulary, millions of parameters that were published, of the Auto class
PUBLISHED = [
    ("bert:tiny", 30522, 4.4, "AutoModel"),
    ("bert:mini", 30522, 11.2, "AutoModel"),
    ("bert:small", 30522, 28.8, "AutoModel"),
    ("bert:medium", 30522, 41.4, "AutoModel"),
    ("bert:base", 30522, 109.5, "AutoModel"),
    ("bert:large", 30522, 335.1, "AutoModel"),
    ("roberta:base", 50265, 124.6, "AutoModel"),
    ("roberta:large", 50265, 355.4, "AutoModel"),
    ("xlm_roberta:base", 250002, 278.0, "AutoModel"),
    ("albert:base", 30000, 11.7, "AutoModel"),
    ("albert:large", 30000, 17.7, "AutoModel"),
    ("electra:small", 30522, 13.5, "AutoModel"),
    ("electra:base", 30522, 108.9, "AutoModel"),
    ("deberta:base", 50265, 138.6, "AutoModel"),
    ("deberta_v2:xsmall", 128100, 70.7, "AutoModel"),
    ("deberta_v2:small", 128100, 141.3, "AutoModel"),
    ("deberta_v2:base", 128100, 183.8, "AutoModel"),
    ("deberta_v2:large", 128100, 434.0, "AutoModel"),
    ("distilbert:base", 30522, 66.4, "AutoModel"),
    ("modernbert:base", 50368, 149.0, "AutoModel"),
    ("modernbert:large", 50368, 394.8, "AutoModel"),
    ("mpnet:base", 30527, 109.5, "AutoModel"),
    ("bart:base", 50265, 139.4, "AutoModel"),
    ("bart:large", 50265, 406.3, "AutoModel"),
    ("t5:small", 32128, 60.5, "AutoModelForSeq2SeqLM"),
    ("t5:base", 32128, 222.9, "AutoModelForSeq2SeqLM"),
    ("t5:large", 32128, 737.7, "AutoModelForSeq2SeqLM"),
]


@pytest.mark.parametrize(("source", "vocab_size", "millions", "auto"), PUBLISHED)
def test_models_are_as_large_as_published(source: str, vocab_size: int, millions: float, auto: str) -> None:
    config = config_of_size(source, "pre_trained_config")
    config.vocab_size = vocab_size
    with torch.device("meta"):
        model = getattr(transformers, auto).from_config(config)
    assert round(model.num_parameters() / 1e6, 1) == millions


@pytest.mark.parametrize("source", NAMES)
def test_every_setting_of_a_size_is_one_of_its_config(source: str) -> None:
    family, size = source.split(":")
    ensure_registered(FAMILIES[family].model_type)
    if FAMILIES[family].model_type not in CONFIG_MAPPING:
        pytest.skip("transformers does not have this family")
    config = config_of_size(source, "pre_trained_config")
    settings = FAMILIES[family].sizes[size]  # type: ignore[index]
    known = {*type(config)().to_dict(), *config.attribute_map}
    assert settings.keys() <= known | OPTIONAL
    assert {name: getattr(config, name) for name in settings} == dict(settings)


@pytest.mark.parametrize("source", SMALLEST)
def test_the_heads_of_pre_training_are_built_with_the_vocabulary_of_a_tokenizer(source: str) -> None:
    family = FAMILIES[source.split(":")[0]]
    if family.model_type not in CONFIG_MAPPING:
        pytest.skip("transformers does not have this family")
    config, tokenizer = config_of_size(source, "pre_trained_config"), tiny.tokenizer_for(family.model_type)
    fit_vocabulary(config, tokenizer, ())
    config.update({"pad_token_id": tokenizer.pad_token_id})
    specs = [spec for spec in PIPELINES.values() if spec.pre_trains and not missing_heads(spec, family.model_type)]
    assert specs
    for head in {head_of(resolve(path), family.model_type) for spec in specs for path in spec.objectives}:
        with torch.device("meta"):
            model = auto_class_of(head).from_config(config)
        assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)


def test_a_family_that_extends_another_takes_its_sizes() -> None:
    config = load_config(model="multi_token_bart", pre_trained_config="bart:tiny", max_multi_token_predictions=3)
    assert (config.model_type, config.d_model, config.max_multi_token_predictions) == ("multi_token_bart", 128, 3)


def test_changes_of_a_size_are_kept() -> None:
    changes = ["vocab_size=512", "num_hidden_layers=3"]
    config = load_config(model="auto", pre_trained_config="bert:tiny", additional_config_kwargs=changes)
    fit_vocabulary(config, tiny.tokenizer("wordpiece"), changes)
    assert (config.vocab_size, config.num_hidden_layers) == (512, 3)


def test_a_file_of_that_name_is_a_file(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.config_for("bert").save_pretrained(tmp_path / "bert:tiny")
    assert load_config(model="bert", pre_trained_config="bert:tiny").hidden_size == 32


@pytest.mark.parametrize("name", [name for name, row in FAMILIES.items() if isinstance(row.sizes, str)])
def test_families_without_sizes_say_why(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"there are no sizes of .*: .*\. Give "):
        config_of_size(f"{name}:small", "pre_trained_config")
