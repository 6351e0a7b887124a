"""One backbone under several heads does what each head model does alone, on every encoder family."""

import copy

import pytest
import torch
import transformers

from tests import tiny
from tests.tolerances import assert_close, assert_gradients_close
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.auto import checkpoint_activations
from transformers_framework.models.freezing import freeze_unreached
from transformers_framework.models.multi_head import MultiHeadModel, tie
from transformers_framework.models.relay import Relay
from transformers_framework.registry import MODELS

HEADS = {
    "masked_lm": "AutoModelForMaskedLM",
    "seq_class": "AutoModelForSequenceClassification",
    "token_class": "AutoModelForTokenClassification",
}
LABELS = {"masked_lm": {}, "seq_class": {"num_labels": 3}, "token_class": {"num_labels": 5}}
USUAL = ("bert", "deberta_v2", "distilbert", "electra", "modernbert", "roberta")


def heads_of(model):
    config = tiny.config_for(model)
    return [name for name, auto in HEADS.items() if type(config) in getattr(transformers, auto)._model_mapping]


SEVERAL = [name for name in MODELS if name != "auto" and "masked_lm" in heads_of(name)]
FAMILIES = [pytest.param(name, marks=() if name in USUAL else pytest.mark.slow) for name in SEVERAL]
families = pytest.mark.parametrize("model", FAMILIES)


def head_models(model, names=None):
    return {
        name: tiny.model_for(model, HEADS[name], seed=i, **LABELS[name])
        for i, name in enumerate(names or heads_of(model))
    }


def alone(shared, model):
    """The same head models with their own backbones, which hold the shared weights."""
    models = head_models(model, list(shared.heads))
    for name, head in models.items():
        head.base_model.load_state_dict(shared.backbone.state_dict(), strict=False)
        tie(head)
        own = {key: value for key, value in shared.heads[name].state_dict().items() if "embeddings" not in key}
        head.load_state_dict(own, strict=False)
    return models


def inputs_of(model):
    encoded = tiny.tokenizer_for(model)(
        ["What about rain and snow?", "a horse"], ["the storm after rain", "x"], padding=True, return_tensors="pt"
    )
    inputs = dict(encoded)
    if model == "longformer":  # its classifier adds this itself, its other heads do not
        inputs["global_attention_mask"] = torch.zeros_like(inputs["input_ids"])
        inputs["global_attention_mask"][:, 0] = 1
    return inputs


@families
def test_shared_backbone_computes_what_the_head_models_compute_alone(model):
    shared = MultiHeadModel(head_models(model)).eval()
    calls = []
    shared.backbone.register_forward_hook(lambda *_: calls.append(1))
    inputs = inputs_of(model)
    outputs = shared(**inputs)
    assert len(calls) == 1
    assert list(outputs) == heads_of(model)
    for name, head in alone(shared, model).items():
        assert_close(outputs[name].logits, head(**inputs).logits, msg=name)


@families
def test_every_trainable_parameter_receives_a_gradient(model):
    shared = MultiHeadModel(head_models(model)).train()
    frozen = freeze_unreached(shared)
    outputs = shared(**inputs_of(model))
    sum(output.logits.logsumexp(-1).sum() for output in outputs.values()).backward()
    assert not [name for name, p in shared.named_parameters() if p.requires_grad and p.grad is None]
    parts = ("pooler", "contact_head", "entity", "w2e_", "e2w_", "e2e_")  # of big_bird, esm and luke
    assert not [name for name in frozen if not any(part in name for part in parts)]
    moved = [p.grad.abs().sum() > 0 for p in shared.parameters() if p.grad is not None]
    assert all(moved)


@families
def test_exports_load_with_auto_classes_and_give_equal_logits(model, tmp_path):
    shared = MultiHeadModel(head_models(model)).eval()
    inputs = inputs_of(model)
    with torch.no_grad():
        wanted = shared(**inputs)
    folders = shared.export(tmp_path, tiny.tokenizer_for(model))
    assert folders == {name: tmp_path / name for name in heads_of(model)}
    for name, folder in folders.items():
        loaded, report = getattr(transformers, HEADS[name]).from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["mismatched_keys"]
        assert not [key for key in report["unexpected_keys"] if "pooler" not in key]
        assert_close(loaded.eval()(**inputs).logits, wanted[name].logits)
        assert len(transformers.AutoTokenizer.from_pretrained(folder)) == len(tiny.tokenizer_for(model))
    again = shared(**inputs)  # the relays are back
    for name, output in wanted.items():
        assert_close(again[name].logits, output.logits)


@families
def test_state_dict_holds_the_backbone_once_and_loads_into_another_model(model):
    shared = MultiHeadModel(head_models(model)).eval()
    size = len(shared.backbone.state_dict())
    keys = list(shared.state_dict())
    assert sum(key.startswith("shared.") for key in keys) == size
    prefix = next(iter(shared.heads.values())).base_model_prefix
    assert not [key for key in keys if f".{prefix}." in key and key.startswith("heads.")]
    other = MultiHeadModel({name: tiny.model_for(model, HEADS[name], seed=9, **LABELS[name]) for name in shared.heads})
    other.eval().load_state_dict(copy.deepcopy(shared.state_dict()))
    inputs = inputs_of(model)
    for name, output in other(**inputs).items():
        assert_close(output.logits, shared(**inputs)[name].logits)


def test_decoder_of_the_language_model_is_tied_to_the_shared_embeddings():
    shared = MultiHeadModel(head_models("bert"))
    decoder = shared.heads["masked_lm"].get_output_embeddings().weight
    assert decoder is shared.backbone.get_input_embeddings().weight


def test_backbone_with_most_parameters_is_kept_so_the_pooler_is():
    shared = MultiHeadModel(head_models("bert", ["masked_lm", "seq_class", "token_class"]))
    assert shared.backbone.pooler is not None


def test_heads_have_configs_of_their_own():
    shared = MultiHeadModel(head_models("bert"))
    assert [shared.heads[name].config.num_labels for name in HEADS] == [2, 3, 5]
    assert len(shared.configs) == 4


def test_one_head_stays_a_plain_model_with_a_plain_export(tmp_path):
    model = tiny.model_for("bert", HEADS["seq_class"], num_labels=3)
    single = MultiHeadModel({"seq_class": model}).eval()
    assert single.backbone is model.bert
    assert not [module for module in single.modules() if isinstance(module, Relay)]
    inputs = inputs_of("bert")
    wanted = single(**inputs)["seq_class"].logits
    assert single.export(tmp_path) == {"seq_class": tmp_path}
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert_close(loaded(**inputs).logits, wanted)


def test_export_writes_weights_that_were_gathered_elsewhere(tmp_path):
    shared = MultiHeadModel(head_models("roberta")).eval()
    gathered = {key: torch.zeros_like(value) for key, value in shared.state_dict().items()}
    folders = shared.export(tmp_path, state_dict=gathered)
    for name, folder in folders.items():
        loaded, report = getattr(transformers, HEADS[name]).from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"]
        assert all(p.abs().sum() == 0 for p in loaded.parameters())


def test_only_active_heads_run():
    shared = MultiHeadModel(head_models("bert")).eval()
    inputs = inputs_of("bert")
    everything = shared(**inputs)
    chosen = shared(active=["seq_class"], **inputs)
    assert list(chosen) == ["seq_class"]
    assert_close(chosen["seq_class"].logits, everything["seq_class"].logits)


def test_an_input_that_no_head_takes_is_refused():
    with pytest.raises(TypeError, match="token_type_ids"):
        MultiHeadModel(head_models("distilbert"))(input_ids=torch.ones(1, 4).long(), token_type_ids=torch.ones(1, 4))


def test_copies_share_nothing_with_the_original():
    shared = MultiHeadModel(head_models("deberta_v2")).eval()  # its language model reads the embeddings by attribute
    inputs = inputs_of("deberta_v2")
    wanted = shared(**inputs)
    twin = copy.deepcopy(shared)
    with torch.no_grad():
        for parameter in shared.parameters():
            parameter.zero_()
    for name, output in twin(**inputs).items():
        assert_close(output.logits, wanted[name].logits)
    assert {id(p) for p in twin.parameters()}.isdisjoint(id(p) for p in shared.parameters())
    relay = twin.heads["masked_lm"].deberta
    assert relay.embeddings is twin.backbone.embeddings


def test_no_activations_are_kept_after_a_step():
    shared = MultiHeadModel(head_models("bert"))
    shared(**inputs_of("bert"))
    assert all(module._call is None for module in shared.modules() if isinstance(module, Relay))


def test_compiled_model_computes_and_names_the_same(tmp_path):
    shared = MultiHeadModel(head_models("bert")).eval()
    inputs = inputs_of("bert")
    with torch.no_grad():
        wanted, keys = shared(**inputs), list(shared.state_dict())
        shared.compile(backend="eager")
        outputs = shared(**inputs)
    for name, output in outputs.items():
        assert_close(output.logits, wanted[name].logits)
    assert list(shared.state_dict()) == keys
    assert set(shared.export(tmp_path)) == set(HEADS)


def test_gradient_checkpointing_gives_equal_gradients():
    gradients = []
    for checkpointing in (False, True):
        shared = MultiHeadModel(head_models("bert", ["masked_lm", "seq_class"]))
        for module in shared.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            checkpoint_activations(shared.backbone)
        shared.train()
        sum(output.logits.logsumexp(-1).sum() for output in shared(**inputs_of("bert")).values()).backward()
        gradients.append({name: p.grad for name, p in shared.named_parameters()})
    assert_gradients_close(*gradients)


def test_trains_under_distributed_data_parallel_without_unused_parameters():
    from torch import distributed

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        shared = MultiHeadModel(head_models("big_bird")).train()  # its classifier has a pooler that it does not use
        freeze_unreached(shared)
        wrapped = torch.nn.parallel.DistributedDataParallel(shared)
        for _ in range(3):  # a parameter without gradient stops the second step
            sum(output.logits.sum() for output in wrapped(**inputs_of("big_bird")).values()).backward()
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("model", ["t5"])
def test_heads_without_a_common_backbone_are_refused(model):
    with pytest.raises(ConfigurationError, match="no backbone of one class in common"):
        MultiHeadModel(head_models(model, ["seq_class", "token_class"]))


def test_heads_that_call_the_backbone_differently_are_refused():
    class Shouting(transformers.BertForTokenClassification):
        def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, **kwargs):
            return super().forward(input_ids, None, token_type_ids)

    heads = head_models("bert", ["seq_class"]) | {"token_class": Shouting(tiny.config_for("bert"))}
    with pytest.raises(ConfigurationError, match="different attention_mask"):
        MultiHeadModel(heads)(**inputs_of("bert"))


def test_views_of_one_input_are_one():
    """As DeepSpeed hands them to each module."""
    model = MultiHeadModel(head_models("bert")).eval()
    expected = model(**inputs_of("bert"))
    for head in model.heads.values():
        head.register_forward_pre_hook(
            lambda module, args, kwargs: (args, {name: value.detach() for name, value in kwargs.items()}),
            with_kwargs=True,
        )
    for name, output in model(**inputs_of("bert")).items():
        assert_close(output.logits, expected[name].logits)


def test_parameters_that_no_output_needs_are_frozen_and_the_modes_of_modules_kept():
    model = MultiHeadModel({"embed": tiny.model_for("bert")}).train()
    model.heads["embed"].encoder.eval()
    state = torch.random.get_rng_state()
    frozen = freeze_unreached(model, lambda name, output: [output.last_hidden_state])
    assert frozen == ["heads.embed.pooler.dense.weight", "heads.embed.pooler.dense.bias"]
    assert torch.equal(state, torch.random.get_rng_state())
    assert model.training
    assert not model.heads["embed"].encoder.training
    assert freeze_unreached(model, lambda name, output: [output.last_hidden_state]) == []


@pytest.mark.slow
@pytest.mark.parametrize("model", [name for name in MODELS if name not in ("auto", *SEVERAL) and heads_of(name)])
def test_families_of_one_head_run_export_and_train(model, tmp_path):
    single = MultiHeadModel(head_models(model, ["seq_class"])).eval()
    freeze_unreached(single)
    inputs = inputs_of(model)
    wanted = single(**inputs)["seq_class"].logits
    wanted.sum().backward()
    assert not [name for name, p in single.named_parameters() if p.requires_grad and p.grad is None]
    single.export(tmp_path)
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert_close(loaded(**inputs).logits, wanted)
