"""Config, tokenizer and model: what is taken from where, and what is refused with which words."""

import json
import logging
import os
import pickle
import shutil

import pytest
import torch
import transformers

from tests import tiny
from tests.tolerances import assert_close
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.auto import (
    HeadSpec,
    check_pair,
    load_config,
    load_model,
)
from transformers_framework.models.overrides import parse_value
from transformers_framework.models.positions import max_positions
from transformers_framework.models.tokenizers import load_tokenizer
from transformers_framework.registry import MODELS, PIPELINES

SEQ_CLASS = {"seq_class": HeadSpec("AutoModelForSequenceClassification", {"num_labels": 3})}
BOTH = {"masked_lm": HeadSpec("AutoModelForMaskedLM"), **SEQ_CLASS}
FAMILIES = [name for name in MODELS if name != "auto"]


def some(*usual, of=FAMILIES):
    return [pytest.param(name, marks=() if name in usual else pytest.mark.slow) for name in of]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Folders with config, weights of a language model and tokenizer."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        name: str(tiny.save_checkpoint(name, folder / name, "AutoModelForMaskedLM")) for name in ("bert", "roberta")
    }


@pytest.fixture
def checkpoint(checkpoints, tmp_path):
    """A checkpoint of BERT to spoil."""
    return shutil.copytree(checkpoints["bert"], tmp_path / "checkpoint")


def refusal(call, *args, **kwargs):
    with pytest.raises(ConfigurationError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- config ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["bert", "auto"])
def test_config_comes_from_the_checkpoint(checkpoints, model):
    assert load_config(model=model, pre_trained_model=checkpoints["bert"]).hidden_size == 32


def test_config_of_its_own_wins_over_the_checkpoints(checkpoints, tmp_path):
    tiny.config_for("bert", hidden_dropout_prob=0.3).save_pretrained(tmp_path)
    for place in (tmp_path, tmp_path / "config.json"):
        config = load_config(model="bert", pre_trained_model=checkpoints["bert"], pre_trained_config=str(place))
        assert config.hidden_dropout_prob == 0.3


def test_no_source_names_both_flags():
    message = refusal(load_config, model="bert")
    assert "--pre_trained_model" in message
    assert "--pre_trained_config" in message


def test_another_family_names_the_right_model(checkpoints):
    message = refusal(load_config, model="bert", pre_trained_model=checkpoints["roberta"])
    assert "--model bert" in message
    assert "--model roberta" in message
    for flags in ({"model": "bert"}, {"model": "auto"}):
        message = refusal(
            load_config, pre_trained_model=checkpoints["roberta"], pre_trained_config=checkpoints["bert"], **flags
        )
        assert "family" in message


def test_unknown_model_is_answered_with_the_closest():
    assert "'roberta'" in refusal(load_config, model="robrta", pre_trained_model="x")


def test_family_that_is_not_supported(tmp_path):
    transformers.GPT2Config(n_embd=8, n_layer=1, n_head=1).save_pretrained(tmp_path)
    assert "'gpt2', which is not supported" in refusal(load_config, model="auto", pre_trained_config=str(tmp_path))


def test_old_config_without_family_is_read_as_the_model_asks(checkpoint):
    values = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({k: v for k, v in values.items() if k != "model_type"}))
    assert load_config(model="bert", pre_trained_config=str(checkpoint)).hidden_size == 32
    assert "config" in refusal(load_config, model="auto", pre_trained_config=str(checkpoint))


@pytest.mark.parametrize(
    "text", ["{bad", "[1]", '{"model_type": "nope"}', '{"model_type": "bert", "hidden_size": "x"}']
)
def test_broken_config_is_one_message(checkpoint, text):
    (checkpoint / "config.json").write_text(text)
    assert str(checkpoint) in refusal(load_config, model="auto", pre_trained_config=str(checkpoint))


def test_hub_out_of_reach_says_what_to_do():
    message = refusal(load_config, model="bert", pre_trained_model="nobody/nothing-like-this")
    assert "--pre_trained_model nobody/nothing-like-this" in message
    assert "network" in message


def test_changes_of_the_config_are_typed(checkpoints):
    changes = ["hidden_dropout_prob=0.25", "layer_norm_eps=1e-5", "num_attention_heads=2", "hidden_act=relu"]
    config = load_config(model="bert", pre_trained_config=checkpoints["bert"], additional_config_kwargs=changes)
    assert (config.hidden_dropout_prob, config.layer_norm_eps) == (0.25, 1e-5)
    assert (config.num_attention_heads, config.hidden_act) == (2, "relu")
    assert config.hidden_size == 32


def test_changes_of_a_config_that_is_no_dataclass(checkpoints, monkeypatch):
    """In transformers 5.0 none is."""
    monkeypatch.setattr("dataclasses.is_dataclass", lambda _: False)
    monkeypatch.setattr("dataclasses.fields", None)
    config = load_config(
        model="bert", pre_trained_config=checkpoints["bert"], additional_config_kwargs=["hidden_dropout_prob=0.25"]
    )
    assert config.hidden_dropout_prob == 0.25


def test_changes_by_the_name_that_families_share(tmp_path):
    tiny.config_for("distilbert").save_pretrained(tmp_path)
    config = load_config(
        model="distilbert", pre_trained_config=str(tmp_path), additional_config_kwargs=["hidden_size=16"]
    )
    assert config.dim == config.hidden_size == 16


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("hidden_dropout_probb=0.2", "'hidden_dropout_prob'"),
        ("hidden_size", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("hidden_size=big", "hidden_size"),
        ("hidden_size={a: 1}", "nested"),
        ("hidden_size=[1", "YAML"),
        ("num_labels=4", "--num_labels"),
        ("model_type=roberta", "--model"),
    ],
)
def test_wrong_changes_are_refused(checkpoints, change, words):
    message = refusal(
        load_config, model="bert", pre_trained_config=checkpoints["bert"], additional_config_kwargs=[change]
    )
    assert f"--additional_config_kwargs {change}" in message
    assert words in message


def test_values():
    assert parse_value("1e-5") == 1e-5
    assert parse_value("no") is False
    assert parse_value("[1, 2]") == [1, 2]


# --- lengths ---------------------------------------------------------------------------------------------------------


RELATIVE = ("deberta", "deberta_v2", "t5", "mt5", "multi_token_t5", "umt5")
LENIENT = ("yoso", "nystromformer", "longformer")  # two rows to spare, or windows that round up
ROTARY = ("eurobert", "gte", "jina_embeddings_v3", "modernbert", "nomic_bert", "ultrabert")  # trained for, no table
SINUSOIDS = ("m2m_100", "pegasus_x")  # computed for any length
WITHOUT_CLASSIFIER = (
    "blenderbot", "blenderbot_small", "m2m_100", "multi_token_bart", "multi_token_t5", "pegasus", "pegasus_x",
)  # fmt: skip


@pytest.mark.parametrize("model", some("bert", "roberta", "mpnet", "distilbert", "deberta_v2", "t5", "bart"))
def test_longest_input_runs_and_one_more_token_does_not(model):
    net = tiny.model_for(model)
    limit = max_positions(net.config)
    extra = {"decoder_input_ids": torch.full((1, 4), 7)} if net.config.is_encoder_decoder else {}
    net(input_ids=torch.full((1, limit or 300), 7), **extra)
    assert (limit is None) == (model in RELATIVE)
    if model not in (*RELATIVE, *LENIENT, *ROTARY, *SINUSOIDS):
        with pytest.raises((IndexError, RuntimeError)):
            net(input_ids=torch.full((1, limit + 1), 7), **extra)


@pytest.mark.parametrize("model", some("bert", "roberta", "mpnet", "distilbert", "deberta_v2", "t5", "bart"))
def test_families_that_lose_positions_are_those_with_an_embedding_of_padding(model):
    embeddings = getattr(tiny.model_for(model), "embeddings", None)
    assert MODELS[model].positions_after_padding is hasattr(embeddings, "padding_idx")


# --- tokenizer -------------------------------------------------------------------------------------------------------


def test_tokenizer_comes_from_its_flag_then_the_model_then_the_config(checkpoints, tmp_path):
    bert, roberta = checkpoints["bert"], checkpoints["roberta"]
    config = load_config(model="bert", pre_trained_config=bert)
    assert load_tokenizer(config, pre_trained_config=bert).mask_token == "[MASK]"
    assert load_tokenizer(config, pre_trained_config=f"{bert}/config.json").mask_token == "[MASK]"
    assert load_tokenizer(config, pre_trained_model=roberta, pre_trained_config=bert).mask_token == "<mask>"
    flags = {"pre_trained_model": bert, "pre_trained_tokenizer": roberta}
    assert load_tokenizer(config, **flags).mask_token == "<mask>"


@pytest.mark.parametrize("model", some("bert", "roberta", "albert", "xlm_roberta", "t5", "deberta_v2", "modernbert"))
def test_tokenizer_survives_a_folder(model, tmp_path):
    config = tiny.config_for(model)
    config.save_pretrained(tmp_path)
    made = tiny.tokenizer_for(model)
    made.save_pretrained(tmp_path)
    loaded = load_tokenizer(config, pre_trained_config=str(tmp_path))
    texts = (["What about rain, snow?", "it's a horse"], ["a storm", "x"])
    wanted, found = made(*texts), loaded(*texts)
    assert found["input_ids"] == wanted["input_ids"]
    assert found.word_ids(0) == wanted.word_ids(0)
    assert loaded.is_fast
    assert max(made.get_vocab().values()) < config.vocab_size


def test_no_tokenizer_anywhere_names_the_flag(tmp_path):
    tiny.model_for("bert").save_pretrained(tmp_path)  # transformers makes an empty tokenizer of this and says nothing
    message = refusal(load_tokenizer, tiny.config_for("bert"), pre_trained_model=str(tmp_path))
    assert "--pre_trained_tokenizer" in message


def test_slow_tokenizer_is_refused(tmp_path):
    config = transformers.CanineConfig()
    config.save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "CanineTokenizer"}')
    message = refusal(load_tokenizer, tiny.config_for("bert"), pre_trained_tokenizer=str(tmp_path))
    assert "CanineTokenizer runs in Python" in message


def test_tokenizer_without_padding_is_refused(tmp_path):
    made = tiny.tokenizer_for("bert")
    made.pad_token = None
    made.save_pretrained(tmp_path)
    assert "padding token" in refusal(load_tokenizer, tiny.config_for("bert"), pre_trained_tokenizer=str(tmp_path))


def test_larger_vocabulary_names_the_remedy(checkpoints):
    config = tiny.config_for("bert", vocab_size=50)
    bert = checkpoints["bert"]
    size = len(tiny.tokenizer_for("bert"))
    assert f"vocab_size={size}" in refusal(load_tokenizer, config, pre_trained_config=bert)
    message = refusal(load_tokenizer, config, pre_trained_model=bert, pre_trained_tokenizer=bert)
    assert "vocab_size=" not in message
    assert "--pre_trained_tokenizer" in message


def test_special_tokens_that_the_config_lacks_are_filled(checkpoints):
    config = transformers.BertConfig(vocab_size=400)
    assert config.eos_token_id is None
    made = load_tokenizer(config, pre_trained_config=checkpoints["bert"])
    assert (config.bos_token_id, config.eos_token_id) == (made.cls_token_id, made.sep_token_id)


def test_special_tokens_differ_from_scratch_silently_for_the_tokenizer_else_loudly(checkpoints, caplog):
    made = tiny.tokenizer_for("bert")
    config = tiny.config_for("bert", pad_token_id=9)
    load_tokenizer(config, pre_trained_config=checkpoints["bert"])
    assert config.pad_token_id == made.pad_token_id
    config = tiny.config_for("bert", pad_token_id=9)
    load_tokenizer(config, pre_trained_model=checkpoints["bert"])
    assert config.pad_token_id == 9
    assert "pad_token_id=9" in caplog.text


def test_token_types_are_not_made_for_a_model_without_them(checkpoints):
    bert = checkpoints["bert"]  # DistilBERT's tokenizers make them since transformers 5, and its models fail on them
    assert "token_type_ids" in load_tokenizer(tiny.config_for("bert"), pre_trained_tokenizer=bert)("x")
    for model in ("distilbert", "roberta"):
        config = tiny.config_for(model)
        assert "token_type_ids" not in load_tokenizer(config, pre_trained_tokenizer=bert)("x")


# --- model -----------------------------------------------------------------------------------------------------------


def loaded(folder, heads=SEQ_CLASS, model="auto", **flags):
    config = load_config(model=model, pre_trained_model=folder)
    return load_model(heads, config, pre_trained_model=folder, **flags)


def test_weights_come_from_the_checkpoint_and_the_head_is_newly_initialized(checkpoints, caplog):
    caplog.set_level(logging.INFO, "transformers_framework")
    model = loaded(checkpoints["bert"], BOTH)
    saved = transformers.AutoModelForMaskedLM.from_pretrained(checkpoints["bert"])
    assert torch.equal(model.backbone.embeddings.word_embeddings.weight, saved.bert.embeddings.word_embeddings.weight)
    for key, value in saved.cls.state_dict().items():
        assert torch.equal(model.heads["masked_lm"].cls.state_dict()[key], value)
    assert model.heads["seq_class"].config.num_labels == 3
    new = [record.getMessage() for record in caplog.records if "are newly initialized" in record.getMessage()]
    assert len(new) == 1
    assert "classifier.weight" in new[0]
    assert model.training
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("model", ["bert", "data2vec_text", "longformer", "luke", "nystromformer"])
def test_no_newly_initialized_weight_is_what_memory_held_before(model, tmp_path):
    checkpoint = tiny.save_checkpoint(model, tmp_path)
    config = load_config(model=model, pre_trained_model=str(checkpoint))
    torch.use_deterministic_algorithms(True, warn_only=True)  # memory of new tensors is filled with nan
    try:
        found = load_model({"h": HeadSpec("AutoModelForMaskedLM", {})}, config, pre_trained_model=str(checkpoint))
    finally:
        torch.use_deterministic_algorithms(False)
    assert [name for name, tensor in found.state_dict().items() if not torch.isfinite(tensor.float()).all()] == []


def test_a_finished_model_gives_equal_logits_again(tmp_path):
    tiny.save_checkpoint("roberta", tmp_path, "AutoModelForSequenceClassification", num_labels=3)
    model = loaded(str(tmp_path)).eval()
    wanted = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    ids = torch.tensor([[0, 8, 9, 2]])
    assert_close(model(input_ids=ids)["seq_class"].logits, wanted(input_ids=ids).logits)


def test_other_number_of_classes_is_newly_initialized(tmp_path, caplog):
    caplog.set_level(logging.INFO, "transformers_framework")
    tiny.save_checkpoint("bert", tmp_path, "AutoModelForSequenceClassification", num_labels=7)
    assert loaded(str(tmp_path)).heads["seq_class"].classifier.out_features == 3
    assert "are newly initialized" in caplog.text


@pytest.mark.parametrize("family", ["bert", "roberta", "bart", "deberta_v2", "electra"])
def test_the_output_layer_of_as_many_other_classes_is_renewed(family, tmp_path, caplog):
    caplog.set_level(logging.INFO, "transformers_framework")
    tiny.save_checkpoint(family, tmp_path, "AutoModelForSequenceClassification", num_labels=3)
    config = load_config(model="auto", pre_trained_model=str(tmp_path))
    kept, renewed = (
        load_model(
            {"seq_class": HeadSpec("AutoModelForSequenceClassification", {"num_labels": 3}, keeps)},
            config,
            pre_trained_model=str(tmp_path),
        )
        for keeps in (True, False)
    )
    pairs = zip(kept.named_parameters(), renewed.named_parameters(), strict=True)
    changed = {name for (name, before), (_, after) in pairs if not torch.equal(before, after)}
    assert changed
    assert all(3 in kept.get_parameter(name).shape for name in changed), "nothing but the output layer"
    assert all(renewed.get_parameter(name).isfinite().all() for name in changed)


def test_from_scratch_without_weights(checkpoints):
    config = load_config(model="bert", pre_trained_config=checkpoints["bert"])
    names = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
    heads = {"seq_class": ("AutoModelForSequenceClassification", names)}
    torch.manual_seed(1)
    first = load_model(heads, config)
    torch.manual_seed(1)
    second = load_model(heads, config)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert first.heads["seq_class"].config.id2label == {0: "no", 1: "yes"}
    assert config.id2label != {0: "no", 1: "yes"}
    assert first.training


def test_weights_are_float32_whatever_the_checkpoint_is(tmp_path):
    tiny.model_for("bert", "AutoModelForMaskedLM").half().save_pretrained(tmp_path)
    assert {p.dtype for p in loaded(str(tmp_path)).parameters()} == {torch.float32}


def test_weights_of_another_shape_are_refused(checkpoints):
    config = load_config(
        model="bert", pre_trained_model=checkpoints["bert"], additional_config_kwargs=["intermediate_size=48"]
    )
    message = refusal(load_model, SEQ_CLASS, config, pre_trained_model=checkpoints["bert"])
    assert "shape" in message
    assert "--additional_config_kwargs" in message


def test_weights_of_something_else_are_refused(checkpoint):
    from safetensors.torch import save_file

    save_file({"nothing": torch.zeros(1)}, checkpoint / "model.safetensors")
    assert "it has none of the weights" in refusal(loaded, str(checkpoint))


def test_absent_and_broken_weights_are_one_message(checkpoint):
    (checkpoint / "model.safetensors").write_bytes(b"xx")
    assert str(checkpoint) in refusal(loaded, str(checkpoint))
    (checkpoint / "model.safetensors").unlink()
    assert "missing or broken" in refusal(loaded, str(checkpoint))


@pytest.mark.parametrize("write", [torch.save, pickle.dump])
@pytest.mark.filterwarnings("ignore")
def test_pickle_with_code_is_not_run(checkpoint, write):
    ran = checkpoint / "ran"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {ran}",)

    (checkpoint / "model.safetensors").unlink()
    with (checkpoint / "pytorch_model.bin").open("wb") as file:
        write({"weight": Evil()}, file)
    assert "could run code" in refusal(loaded, str(checkpoint))
    assert not ran.exists()


def test_code_of_a_checkpoint_is_not_run(checkpoint):
    values = json.loads((checkpoint / "config.json").read_text())
    values |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}
    (checkpoint / "config.json").write_text(json.dumps(values))
    (checkpoint / "mine.py").write_text(f"open({str(checkpoint / 'ran')!r}, 'w')")
    assert "code of its own" in refusal(load_config, model="auto", pre_trained_config=str(checkpoint))
    assert not (checkpoint / "ran").exists()


def test_attention_that_is_absent_names_what_there_is(checkpoints, tmp_path):
    assert "--attention sdpa" in refusal(loaded, checkpoints["bert"], attention="flash_attention_2")
    tiny.save_checkpoint("deberta_v2", tmp_path)
    message = refusal(loaded, str(tmp_path), attention="flex_attention")
    assert "DebertaV2" in message
    assert "eager" in message


def test_family_without_sdpa_uses_eager_and_says_so_once(tmp_path, caplog):
    caplog.set_level(logging.INFO, "transformers_framework")
    tiny.save_checkpoint("deberta_v2", tmp_path)
    assert loaded(str(tmp_path), BOTH).config._attn_implementation == "eager"
    assert caplog.text.count("eager is used") == 1


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_that_was_asked_is_used(checkpoints, attention):
    model = loaded(checkpoints["bert"], attention=attention)
    assert model.config._attn_implementation == attention


def test_gradient_checkpointing_and_compile(checkpoints, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    model = loaded(checkpoints["bert"], BOTH, gradient_checkpointing=True, compile=True)
    assert any(getattr(module, "gradient_checkpointing", False) for module in model.backbone.modules())
    assert compiled == [model]


def test_gradient_checkpointing_of_a_family_without_it(checkpoints, monkeypatch):
    monkeypatch.setattr(transformers.BertModel, "supports_gradient_checkpointing", False)
    assert "--gradient_checkpointing" in refusal(loaded, checkpoints["bert"], gradient_checkpointing=True)


@pytest.mark.parametrize("model", some("mpnet", "modernbert"))
def test_every_family_loads_from_its_own_folder(model, tmp_path):
    tiny.save_checkpoint(model, tmp_path)
    flags = {"pre_trained_model": str(tmp_path)}
    config = load_config(model=model, **flags)
    tokenizer = load_tokenizer(config, **flags)
    try:
        check_pair("seq_class", PIPELINES["seq_class"], config.model_type)
    except ConfigurationError:
        assert model in WITHOUT_CLASSIFIER
        return
    net = load_model(SEQ_CLASS, config, **flags)
    batch = tokenizer(["What about rain?", "a horse"], ["x", "a storm"], padding=True, return_tensors="pt")
    output = net(**batch)["seq_class"]
    assert output.logits.shape == (2, 3)
    output.logits.logsumexp(-1).sum().backward()
    assert not [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]


# --- pairs -----------------------------------------------------------------------------------------------------------


def test_pairs():
    check_pair("seq_class", PIPELINES["seq_class"], "bert")
    message = refusal(check_pair, "seq_class", PIPELINES["seq_class"], "pegasus")
    assert "--pipeline seq_class --model pegasus" in message
    assert "bert, " in message
    message = refusal(check_pair, "masked_lm", PIPELINES["masked_lm"], "t5")
    assert "t5" not in message.partition("Models for")[2].partition("Pipelines")[0]
    assert "seq_class" in message.partition("Pipelines for")[2]
