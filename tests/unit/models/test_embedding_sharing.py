"""Two networks share embeddings: what is looked up, who gets which gradient, what a plain checkpoint holds."""

import copy

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional

from tests import tiny
from tests.tolerances import assert_close, assert_gradients_close
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.embedding_sharing import (
    DisentangledEmbedding,
    disentangled,
    merged,
    share_embeddings,
    tables,
)
from transformers_framework.models.generator import GENERATED, GeneratorDiscriminator, reduced_config
from transformers_framework.models.multi_head import MultiHeadModel
from transformers_framework.models.segments import grow_type_vocabulary
from transformers_framework.optimizers.depths import depths
from transformers_framework.optimizers.groups import parameter_groups

FAMILIES = ("bert", "roberta", "electra", "deberta", "deberta_v2")
families = pytest.mark.parametrize("model", FAMILIES)


def networks(model, *, seed=0, **changes):
    """A generator and a discriminator, not yet sharing; the generator is a smaller copy."""
    torch.manual_seed(seed)
    config = tiny.config_for(model, initializer_range=0.2, **changes)
    head = "AutoModelForPreTraining" if model == "electra" else "AutoModelForTokenClassification"
    generator = transformers.AutoModelForMaskedLM.from_config(reduced_config(config, 0.5))
    discriminator = getattr(transformers, head).from_config(config)
    return GeneratorDiscriminator(
        MultiHeadModel({GENERATED: generator}), MultiHeadModel({"token_detection": discriminator})
    ).eval()


def shared(model, how, *, start="generator", **options):
    both = networks(model, **options)
    names = share_embeddings(both.generator.backbone, both.discriminator.backbone, how, start=start)
    return both, names


def inputs_of(model):
    return dict(tiny.tokenizer_for(model)(["What about rain and snow?", "a horse"], padding=True, return_tensors="pt"))


def judge(both, model):
    return both.discriminator(**inputs_of(model))["token_detection"].logits


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("bert", {"word", "position", "token_type"}),
        ("roberta", {"word", "position", "token_type"}),
        ("electra", {"word", "position", "token_type"}),
        ("deberta_v2", {"word"}),  # relative positions are attention's, and stay apart
    ],
)
def test_tables_are_those_of_tokens_positions_and_types(model, expected):
    found = tables(tiny.model_for(model))
    assert set(found) == {f"embeddings.{name}_embeddings" for name in expected}
    assert next(iter(found)) == "embeddings.word_embeddings"


def test_tables_of_a_family_with_embeddings_in_its_backbone():
    assert list(tables(tiny.model_for("eurobert"))) == ["embed_tokens"]


def test_embeddings_of_a_class_of_their_own_are_refused():
    with pytest.raises(ConfigurationError, match="QuantEmbedding, which cannot be shared"):
        tables(tiny.model_for("ibert"))


@families
def test_difference_starts_at_zero_and_the_discriminator_at_the_generator(model):
    both, names = shared(model, "gradient_disentangled")
    assert names
    for (_, module), name in zip(disentangled(both.discriminator), names, strict=True):
        source = both.generator.backbone.get_submodule(name)
        assert module.delta.count_nonzero() == 0
        assert torch.equal(module.weight, source.weight)
    assert {name for name, _ in both.discriminator.named_parameters() if name.endswith("delta")}


@families
def test_discriminator_sends_the_generator_no_gradient(model):
    both, names = shared(model, "gradient_disentangled")
    judge(both, model).logsumexp(1).sum().backward()
    assert all(parameter.grad is None for parameter in both.generator.parameters())
    for name in names:
        assert both.discriminator.backbone.get_submodule(name).delta.grad.count_nonzero() > 0, name


@families
def test_shared_embeddings_get_the_gradients_of_both(model):
    both, names = shared(model, "shared")
    word = both.generator.backbone.get_input_embeddings().weight
    assert both.discriminator.backbone.get_input_embeddings().weight is word
    gradients = []
    for losses in ((0,), (1,), (0, 1)):
        both.zero_grad()
        parts = [judge(both, model), both.generator(**inputs_of(model))[GENERATED].logits]
        sum(parts[index].logsumexp(-1).sum() for index in losses).backward()
        gradients.append(word.grad.clone())
    assert_gradients_close({"word": gradients[2]}, {"word": gradients[0] + gradients[1]})
    assert len(names) == sum(1 for name in names if both.generator.backbone.get_submodule(name).weight.grad is not None)


@families
def test_disentangled_network_computes_what_the_merged_plain_one_does(model):
    both, _ = shared(model, "gradient_disentangled")
    torch.manual_seed(1)
    for _, module in disentangled(both.discriminator):
        nn.init.normal_(module.delta)
    plain = networks(model, seed=2)
    plain.discriminator.load_state_dict(merged(both.discriminator, both.generator, both.state_dict()))
    assert_close(judge(both, model), judge(plain, model))


@families
def test_decoder_of_the_generator_stays_tied_to_its_own_embedding(model):
    both, _ = shared(model, "gradient_disentangled")
    head = both.generator.heads[GENERATED]
    assert head.get_output_embeddings().weight is both.generator.backbone.get_input_embeddings().weight
    before = both.generator(**inputs_of(model))[GENERATED].logits
    for _, module in disentangled(both.discriminator):
        nn.init.normal_(module.delta)
    assert_close(both.generator(**inputs_of(model))[GENERATED].logits, before)


@families
@pytest.mark.parametrize("how", ["shared", "gradient_disentangled"])
def test_every_trainable_tensor_is_in_one_group_and_matrices_decay(model, how):
    both, _ = shared(model, how)
    groups = parameter_groups(both, weight_decay=0.1, split_embeddings=True)
    members = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(members) == sorted({id(p) for p in both.parameters() if p.requires_grad})
    for _, module in disentangled(both.discriminator):
        (group,) = [group for group in groups if any(p is module.delta for p in group["params"])]
        assert group["weight_decay"] == 0.1
        assert group["embeddings"]
    assert {place.depth for name, place in depths(both).items() if "embeddings." in name} == {0}


def test_state_dict_has_each_tensor_once_and_loads():
    both, names = shared("bert", "gradient_disentangled")
    keys = [key for key in both.state_dict() if key.startswith("discriminator.") and "_embeddings." in key]
    assert [key.rpartition(".")[2] for key in keys] == ["delta"] * len(names)
    for _, module in disentangled(both.discriminator):
        nn.init.normal_(module.delta)
    other, _ = shared("bert", "gradient_disentangled", seed=5)
    other.load_state_dict(copy.deepcopy(both.state_dict()))
    assert_close(judge(other, "bert"), judge(both, "bert"))


def test_copies_refer_to_the_copied_generator():
    both, _ = shared("bert", "gradient_disentangled")
    twin, wanted = copy.deepcopy(both), judge(both, "bert")
    with torch.no_grad():
        for parameter in both.parameters():
            parameter.zero_()
    assert_close(judge(twin, "bert"), wanted)
    sources = {id(module.source) for _, module in disentangled(twin)}
    assert sources <= {id(module) for module in twin.generator.modules()}


def test_compiled_networks_compute_the_same_and_differentiate_the_same():
    gradients = []
    for compiles in (False, True):
        both, _ = shared("bert", "gradient_disentangled")
        if compiles:
            both.compile(backend="aot_eager")
        judge(both, "bert").sigmoid().sum().backward()
        gradients.append({name: p.grad for name, p in both.named_parameters() if p.grad is not None})
    assert_gradients_close(gradients[1], gradients[0])


def test_padding_row_learns_nothing():
    table = nn.Embedding(5, 3, padding_idx=1)
    module = DisentangledEmbedding(table, table.padding_idx)
    module(torch.tensor([[0, 1, 1]])).sum().backward()
    assert module.delta.grad[1].count_nonzero() == 0
    assert module.delta.grad[0].count_nonzero() == 3
    assert table.weight.grad is None
    assert torch.equal(module(torch.tensor([4])), functional.embedding(torch.tensor([4]), module.weight))


@pytest.mark.parametrize("start", ["generator", "discriminator", "both"])
def test_start_says_whose_weights_are_kept(start):
    own = networks("bert")
    backbones = own.generator.backbone, own.discriminator.backbone
    theirs, ours = (backbone.get_input_embeddings().weight.detach().clone() for backbone in backbones)
    both, _ = shared("bert", "gradient_disentangled", start=start)
    source = both.generator.backbone.get_input_embeddings().weight
    module = both.discriminator.backbone.get_input_embeddings()
    assert torch.equal(source, ours if start == "discriminator" else theirs)
    assert_close(module.weight, theirs if start == "generator" else ours)
    assert bool(module.delta.count_nonzero()) is (start == "both")


def test_embeddings_of_another_size_are_refused():
    both = networks("bert")
    other = tiny.model_for("bert", hidden_size=16)
    with pytest.raises(ConfigurationError, match=r"word_embeddings of the generator are 400 x 16 and .* 400 x 32"):
        share_embeddings(other, both.discriminator.backbone, "shared")
    other = tiny.model_for("bert", max_position_embeddings=64)
    with pytest.raises(ConfigurationError, match="position_embeddings of the generator are 64 x 32"):
        share_embeddings(other, both.discriminator.backbone, "gradient_disentangled")
    unlike = tiny.model_for("deberta", position_biased_input=True)
    with pytest.raises(ConfigurationError, match="of the discriminator absent"):
        share_embeddings(unlike, tiny.model_for("deberta"), "shared")


@pytest.mark.parametrize("how", ["shared", "gradient_disentangled"])
def test_token_types_of_both_grow_together(how):
    both, _ = shared("bert", how)
    wanted = judge(both, "bert")
    grow_type_vocabulary(both, 4)
    backbones = both.generator.backbone, both.discriminator.backbone
    found = [backbone.embeddings.token_type_embeddings.weight for backbone in backbones]
    assert [tuple(weight.shape) for weight in found] == [(4, 32)] * 2
    assert torch.equal(*found)
    assert (found[0] is found[1]) is (how == "shared")
    assert_close(judge(both, "bert"), wanted)
    assert {config.type_vocab_size for config in both.configs} == {4}
