"""The format of sentence-transformers, as its old and new versions write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.sentence_transformers import read_format, remembered

OLD, NEW = "sentence_transformers.models.", "sentence_transformers.sentence_transformer.modules."
OLD_POOLING = {"word_embedding_dimension": 4, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
NEW_POOLING = {"embedding_dimension": 4, "pooling_mode": "cls", "include_prompt": True}
WEIGHTS = {"linear.weight": torch.arange(8.0).view(2, 4), "linear.bias": torch.ones(2)}


def folder_of(tmp_path: Path, kinds: str, pooling: dict[str, Any], steps: tuple[str, ...] = ("Pooling",)) -> Path:
    """Write what stands beside a checkpoint."""
    names = ["", *(f"{i}_{kind}" for i, kind in enumerate(steps, 1))]
    types = ["Transformer", *steps]
    modules = [{"idx": i, "name": str(i), "path": path, "type": kinds + kind} for i, (path, kind) in enumerate(zip(names, types, strict=True))]  # fmt: skip  # noqa: E501
    files = {"modules.json": modules, "config.json": {"model_type": "bert"}, "1_Pooling/config.json": pooling}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(("kinds", "pooling"), [(OLD, OLD_POOLING), (NEW, NEW_POOLING)])
@pytest.mark.parametrize("pickled", [True, False])
def test_both_forms_are_read(kinds: str, pooling: dict[str, Any], pickled: bool, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, kinds, pooling, ("Pooling", "Dense", "Normalize"))
    dense = folder / "2_Dense"
    dense.mkdir()
    config = {
        "in_features": 4,
        "out_features": 2,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    (dense / "config.json").write_text(json.dumps(config))
    torch.save(WEIGHTS, dense / "pytorch_model.bin") if pickled else save_file(WEIGHTS, dense / "model.safetensors")
    said = {"prompts": {"query": "q: ", "passage": "p: "}, "similarity_fn_name": "dot"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(said))
    found = read_format(str(folder), "pre_trained_model", None)
    assert found is not None
    assert (found.pooling, found.normalizes, found.scores_fn) == ("cls", True, "dot_product_similarity")
    assert found.prompts == {"query": "q: ", "passage": "p: "}
    (projection,) = found.projections
    assert (projection.in_features, projection.out_features, projection.activation) == (4, 2, "Tanh")
    assert projection.weights is not None
    assert all(torch.equal(projection.weights[name], value) for name, value in WEIGHTS.items())
    told = {
        "pooling": "cls",
        "normalize_embeddings": True,
        "scores_fn": "dot_product_similarity",
        "query_prefix": "q: ",
        "passage_prefix": "p: ",
        "lower_case": False,
    }
    assert remembered(pre_trained_model=str(folder)) == told
    given = {"pooling": "mean", "normalize_embeddings": False, "query_prefix": ""}
    rest = {name: value for name, value in told.items() if name not in given}
    assert remembered(pre_trained_model=str(folder), **given) == rest, "what was asked for stays"  # type: ignore[arg-type]


def test_a_plain_checkpoint_remembers_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert read_format(str(tmp_path), "pre_trained_model", None) is None
    assert remembered(pre_trained_model=str(tmp_path)) == {}
    assert remembered() == {}


def test_another_pooling_must_be_replaced(tmp_path: Path) -> None:
    folder = str(folder_of(tmp_path, NEW, {"pooling_mode": ["mean", "max"]}))
    with pytest.raises(ConfigurationError, match=r"its pooling is 'mean\+max'"):
        remembered(pre_trained_model=folder)
    assert "pooling" not in remembered(pre_trained_model=folder, pooling="mean")


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    from tests.mistakes import malicious

    folder = folder_of(tmp_path, OLD, OLD_POOLING, ("Pooling", "Dense"))
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text(json.dumps({"in_features": 4, "out_features": 2}))
    malicious(folder / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(ConfigurationError, match="pickle that could run code"):
        read_format(str(folder), "pre_trained_model", None)
    assert not (folder / "2_Dense" / "ran").exists()


def described(folder: Path, **said: Any) -> str:
    (folder / "config_sentence_transformers.json").write_text(json.dumps(said))
    return str(folder)


def test_settings_of_texts_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(tmp_path, NEW, NEW_POOLING)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True, "max_seq_length": 32}))
    said = {"default_prompt_name": "any", "prompts": {"any": "a: ", "document": "", "passage": "p: "}}
    told = remembered(pre_trained_model=described(folder, **said), max_sequence_length=[32, 64])
    assert told["lower_case"] is True
    assert (told["query_prefix"], told["passage_prefix"]) == ("a: ", ""), "as encode_query and encode_document choose"
    assert "made for texts of 32 tokens or less" in caplog.text


@pytest.mark.parametrize(
    ("pooling", "said", "flags", "message"),
    [
        ({}, {"similarity_fn_name": "euclidean"}, {}, "compared by 'euclidean'.* Give --scores_fn"),
        ({}, {"similarity_fn_name": "euclidean"}, {"scores_fn": "dot_product_similarity"}, None),
        ({}, {"similarity_fn_name": "manhattan"}, {}, "compared by 'manhattan'"),
        ({}, {"truncate_dim": 2}, {}, "truncate_dim 2 of its model is not known here"),
        ({}, {"model_type": "SparseEncoder"}, {}, "model_type 'SparseEncoder'"),
        ({"include_prompt": False}, {"prompts": {"query": "q: "}}, {}, "leaves out the words before a text"),
        ({"include_prompt": False}, {}, {"passage_prefix": "p: "}, "leaves out the words before a text"),
        ({"include_prompt": False}, {"prompts": {"query": "q: "}}, {"query_prefix": ""}, None),
    ],
)
def test_settings_that_are_not_known_are_refused(
    pooling: dict[str, Any], said: dict[str, Any], flags: dict[str, Any], message: str | None, tmp_path: Path
) -> None:
    folder = described(folder_of(tmp_path, NEW, NEW_POOLING | pooling), **said)
    if message is None:
        assert remembered(pre_trained_model=folder, **flags)
        return
    with pytest.raises(ConfigurationError, match=message):
        remembered(pre_trained_model=folder, **flags)


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (["StaticEmbedding", "Normalize"], "made by 'StaticEmbedding' as step 1"),
        (["Transformer", "Pooling", "Normalize", "Dense"], "made by 'Dense' as step 4"),
        (["Transformer", "Pooling", "LayerNorm"], "made by 'LayerNorm' as step 3"),
    ],
)
def test_steps_that_are_not_known_are_refused(types: list[str], message: str, tmp_path: Path) -> None:
    steps = [{"idx": i, "path": f"{i}_{kind}" if i else "", "type": NEW + kind} for i, kind in enumerate(types)]
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "modules.json").write_text(json.dumps(steps))
    with pytest.raises(ConfigurationError, match=message):
        read_format(str(tmp_path), "pre_trained_model", None)


def test_dense_layers_with_settings_that_are_not_known_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, NEW, NEW_POOLING, ("Pooling", "Dense"))
    (folder / "2_Dense").mkdir()
    config = {"in_features": 4, "out_features": 2, "use_residual": True}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match="use_residual True of its Dense is not known here"):
        read_format(str(folder), "pre_trained_model", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": {"add_special_tokens": False}}, "reads texts with add_special_tokens False"),
        ({"text": {"max_length": 16}}, "reads texts with max_length 16"),
        ({"common": {"padding_side": "left"}}, "reads texts with padding_side 'left' .processing_kwargs, common"),
        ({"chat_template": {"add_generation_prompt": True}}, "add_generation_prompt True"),
        ({"text": {"padding": "longest", "truncation": True, "add_special_tokens": True}, "image": {"size": 8}}, None),
        ({}, None),
        (None, None),
    ],
)
def test_texts_that_are_read_in_another_way_are_refused(options: Any, message: str | None, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, NEW, NEW_POOLING)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"processing_kwargs": options}))
    if message is None:
        assert read_format(str(folder), "pre_trained_model", None) is not None
        return
    with pytest.raises(ConfigurationError, match=message):
        read_format(str(folder), "pre_trained_model", None)


def test_towers_make_embeddings_alike(tmp_path: Path) -> None:
    folders = {}
    for name, pooling in (("query", "cls"), ("passage", "mean")):
        (tmp_path / name).mkdir()
        folder = folder_of(tmp_path / name, NEW, NEW_POOLING | {"pooling_mode": pooling})
        folders[name] = described(folder, prompts={"document": f"{name}: "})
    flags = {"pre_trained_model": folders["query"], "pre_trained_passage_model": folders["passage"]}
    with pytest.raises(ConfigurationError, match=r"its pooling is mean, and that of .* is cls\. Give --pooling"):
        remembered(**flags)
    told = remembered(**flags, pooling="cls")
    assert told["passage_prefix"] == "passage: ", "that of the tower of passages"


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_texts_are_read_in_lower_case(family: str) -> None:
    from tests import tiny
    from transformers_framework.processing.backend import read_in_lower_case

    tokenizer = tiny.tokenizer_for(family)
    small = tokenizer("the rain").input_ids
    read_in_lower_case(tokenizer)
    read_in_lower_case(tokenizer)
    assert tokenizer("THE Rain").input_ids == small
