"""Generators: their configs, what is refused, and what both networks become on disk."""

import json

import pytest
import torch
import transformers

from tests import tiny
from tests.tolerances import assert_close
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.auto import HeadSpec
from transformers_framework.models.embedding_sharing import disentangled
from transformers_framework.models.generator import GENERATED, load_generator_discriminator, reduced_config, sharing

FAMILIES = ("bert", "roberta", "electra", "deberta", "deberta_v2")
families = pytest.mark.parametrize("model", FAMILIES)


def heads_of(model, *others):
    detection = "AutoModelForPreTraining" if model == "electra" else "AutoModelForTokenClassification"
    heads = {
        GENERATED: HeadSpec("AutoModelForMaskedLM"),
        "token_detection": HeadSpec(detection, {"num_labels": 1}),
        "seq_class": HeadSpec("AutoModelForSequenceClassification", {"num_labels": 3}),
    }
    return {name: heads[name] for name in (GENERATED, "token_detection", *others)}


def load(model, *others, seed=0, config=None, **flags):
    torch.manual_seed(seed)
    config = config or tiny.config_for(model, initializer_range=0.2)
    flags.setdefault("max_sequence_length", [48])
    flags.setdefault("pre_trained_config", "unused")
    return load_generator_discriminator(heads_of(model, *others), config, **flags)


def inputs_of(model):
    return dict(tiny.tokenizer_for(model)(["What about rain and snow?", "a horse"], padding=True, return_tensors="pt"))


# --- configs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        ("electra", 0.25, {"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 2}),
        ("electra", 0.5, {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "embedding_size": 16}),
        ("electra", 0.01, {"hidden_size": 8, "num_attention_heads": 1}),
        ("electra", 1.0, {"hidden_size": 32, "num_attention_heads": 4}),
        ("convbert", 0.5, {"hidden_size": 16, "num_attention_heads": 2, "embedding_size": 32}),
        ("deberta_v2", 0.5, {"hidden_size": 32, "num_hidden_layers": 1, "pos_att_type": ["c2p", "p2c"]}),
        ("bert", 0.1, {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64}),
        ("distilbert", 0.5, {"n_layers": 1, "dim": 32}),
        ("modernbert", 0.5, {"num_hidden_layers": 1, "layer_types": ["full_attention"]}),
    ],
)
def test_reduced_configs(model, size, expected):
    config = tiny.config_for(model)
    before = config.to_dict()
    small = reduced_config(config, size)
    assert {name: getattr(small, name) for name in expected} == expected
    assert small.vocab_size == config.vocab_size
    assert config.to_dict() == before
    transformers.AutoModelForMaskedLM.from_config(small)


def test_generators_of_the_published_sizes():
    """ELECTRA-base's generator has a third of the width; DeBERTa-v3-base's half of the layers."""
    base = transformers.ElectraConfig(
        hidden_size=768, num_attention_heads=12, intermediate_size=3072, num_hidden_layers=12, embedding_size=768
    )
    small = reduced_config(base, 1 / 3)
    sizes = (small.hidden_size, small.num_attention_heads, small.intermediate_size, small.num_hidden_layers)
    assert sizes == (256, 4, 1024, 12)
    assert small.embedding_size == 768
    deberta = transformers.DebertaV2Config(num_hidden_layers=12, hidden_size=768)
    assert reduced_config(deberta, 0.5).num_hidden_layers == 6


@pytest.mark.parametrize(
    ("family", "asked", "tie", "expected"),
    [
        ("electra", None, False, "none"),
        ("electra", None, True, "shared"),
        ("deberta-v2", None, True, "gradient_disentangled"),
        ("deberta", None, True, "gradient_disentangled"),
        ("deberta-v2", "shared", True, "shared"),
        ("bert", "gradient_disentangled", False, "gradient_disentangled"),
    ],
)
def test_how_embeddings_are_shared(family, asked, tie, expected):
    assert sharing(family, asked, tie=tie) == expected


def test_flags_that_contradict_each_other(tmp_path):
    with pytest.raises(ConfigurationError, match="--embedding_sharing none forbids"):
        sharing("bert", "none", tie=True)
    tiny.config_for("bert").save_pretrained(tmp_path)
    with pytest.raises(
        ConfigurationError, match=r"--generator_size: --pre_trained_generator_config .* decides how large"
    ):
        load("bert", generator_size=0.5, pre_trained_generator_config=str(tmp_path))


# --- generators that do not fit --------------------------------------------------------------------------------------


def test_a_generator_with_another_number_of_tokens(tmp_path):
    tiny.config_for("bert", vocab_size=399).save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match=r"_config .*vocabulary has 399 tokens .* discriminator's 400"):
        load("bert", pre_trained_generator_config=str(tmp_path))


def test_a_generator_whose_tokens_are_others(tmp_path):
    """As many tokens, with other numbers: sizes would not tell."""
    ours = tiny.save_checkpoint("bert", tmp_path / "ours", "AutoModelForMaskedLM")
    theirs = tiny.save_checkpoint("bert", tmp_path / "theirs", "AutoModelForMaskedLM")
    load("bert", pre_trained_generator_model=str(theirs), pre_trained_tokenizer=str(ours))
    path = theirs / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["rain"], vocabulary["snow"] = vocabulary["snow"], vocabulary["rain"]
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(ConfigurationError, match=r"another vocabulary .*--pre_trained_tokenizer .*: 2 of 400 .*'rain'"):
        load("bert", pre_trained_generator_model=str(theirs), pre_trained_tokenizer=str(ours))


def test_a_generator_without_a_tokenizer_is_taken_at_its_word(tmp_path):
    theirs = tiny.save_checkpoint("bert", tmp_path / "theirs", "AutoModelForMaskedLM")
    for path in theirs.glob("tokenizer*"):
        path.unlink()
    ours = tmp_path / "ours"
    tiny.tokenizer_for("bert").save_pretrained(ours)
    load("bert", pre_trained_generator_model=str(theirs), pre_trained_tokenizer=str(ours))


def test_a_generator_of_another_family(tmp_path):
    tiny.config_for("roberta").save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match=r"--pre_trained_generator_config .* is of family 'roberta'"):
        load("bert", pre_trained_generator_config=str(tmp_path))


def test_a_generator_with_fewer_positions(tmp_path):
    tiny.config_for("bert", max_position_embeddings=32).save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="48 is longer than the generator's 32 positions"):
        load("bert", pre_trained_generator_config=str(tmp_path))


def test_a_generator_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError, match=r"--pre_trained_generator_model .*/nothing"):
        load("bert", pre_trained_generator_model=str(tmp_path / "nothing"))


def test_a_generator_with_fewer_token_types_grows(tmp_path):
    tiny.config_for("bert", type_vocab_size=1).save_pretrained(tmp_path)
    both = load("bert", pre_trained_generator_config=str(tmp_path), embedding_sharing="shared")
    assert both.generator.backbone.embeddings.token_type_embeddings.weight.shape[0] == 2


def test_special_tokens_of_a_drawn_generator_are_those_of_the_tokenizer(tmp_path):
    tiny.config_for("roberta", pad_token_id=9).save_pretrained(tmp_path)
    both = load("roberta", pre_trained_generator_config=str(tmp_path))
    assert both.generator.config.pad_token_id == both.discriminator.config.pad_token_id == 1


# --- weights ---------------------------------------------------------------------------------------------------------


def word_weights(both):
    return [network.backbone.get_input_embeddings().weight.detach() for network in (both.generator, both.discriminator)]


@pytest.mark.parametrize("how", ["shared", "gradient_disentangled"])
@pytest.mark.parametrize("trained", [(), ("generator",), ("discriminator",), ("generator", "discriminator")])
def test_embeddings_of_trained_networks_are_not_lost(tmp_path, how, trained):
    flags, saved = {}, {}
    heads = {"generator": "AutoModelForMaskedLM", "discriminator": "AutoModelForTokenClassification"}
    for seed, name in enumerate(("generator", "discriminator"), 7):
        folder = tiny.save_checkpoint("bert", tmp_path / name, heads[name], seed=seed)
        saved[name] = tiny.model_for("bert", heads[name], seed=seed).get_input_embeddings().weight
        if name in trained:
            flags["pre_trained_generator_model" if name == "generator" else "pre_trained_model"] = str(folder)
    both = load("bert", embedding_sharing=how, pre_trained_tokenizer=str(tmp_path / "generator"), **flags)
    theirs, ours = word_weights(both)
    if trained == ("generator", "discriminator") and how == "gradient_disentangled":
        assert torch.equal(theirs, saved["generator"])
        assert_close(ours, saved["discriminator"])
        return
    assert torch.equal(theirs, ours)
    if trained:
        assert torch.equal(ours, saved["discriminator" if "discriminator" in trained else "generator"])
    assert not any(module.delta.count_nonzero() for _, module in disentangled(both))


def test_both_networks_train_and_every_trainable_parameter_gets_a_gradient():
    for how in ("none", "shared", "gradient_disentangled"):
        both = load("electra", "seq_class", embedding_sharing=how)
        assert both.training
        assert all(module.training for module in both.modules())
        outputs = both.generator(**inputs_of("electra")) | both.discriminator(**inputs_of("electra"))
        sum(output.logits.logsumexp(-1).sum() for output in outputs.values()).backward()
        assert not [name for name, p in both.named_parameters() if p.requires_grad and p.grad is None]


# --- files -----------------------------------------------------------------------------------------------------------


@families
@pytest.mark.parametrize(
    ("how", "others", "gathered"),
    [
        ("none", (), False),
        ("shared", (), False),
        ("gradient_disentangled", (), False),
        ("gradient_disentangled", (), True),
        ("gradient_disentangled", ("seq_class",), False),
        ("shared", ("seq_class",), True),
    ],
)
def test_exports_are_plain_checkpoints_with_equal_logits(model, how, others, gathered, tmp_path):
    both = load(model, *others, embedding_sharing=how).eval()
    for _, module in disentangled(both):
        torch.nn.init.normal_(module.delta)
    inputs = inputs_of(model)
    with torch.no_grad():
        wanted = both.generator(**inputs) | both.discriminator(**inputs)
        state = {key: value.clone() for key, value in both.state_dict().items()} if gathered else None
        if gathered:  # what is written is what was given
            for parameter in both.parameters():
                parameter.zero_()
    folders = both.export(tmp_path, tiny.tokenizer_for(model), state_dict=state)
    heads = heads_of(model, *others)
    assert folders == {name: tmp_path / name for name in heads}
    for name, folder in folders.items():
        auto = getattr(transformers, heads[name].auto_class)
        loaded, report = auto.from_pretrained(folder, output_loading_info=True)
        unknown = [key for kind in report.values() for key in kind if "pooler" not in str(key)]
        assert not unknown, name
        assert_close(loaded.eval()(**inputs).logits, wanted[name].logits)
        transformers.AutoTokenizer.from_pretrained(folder)


def test_exported_discriminator_is_the_generators_embedding_plus_the_difference(tmp_path):
    both = load("deberta_v2", embedding_sharing="gradient_disentangled")
    delta = both.discriminator.backbone.get_input_embeddings().delta
    torch.nn.init.normal_(delta)
    both.export(tmp_path)
    load_word = lambda name, auto: auto.from_pretrained(tmp_path / name).get_input_embeddings().weight  # noqa: E731
    theirs = load_word(GENERATED, transformers.AutoModelForMaskedLM)
    ours = load_word("token_detection", transformers.AutoModelForTokenClassification)
    assert torch.equal(ours, theirs + delta)


def test_an_exported_pair_goes_on_where_it_stopped(tmp_path):
    both = load("electra", embedding_sharing="gradient_disentangled").eval()
    for _, module in disentangled(both):
        torch.nn.init.normal_(module.delta)
    folders = both.export(tmp_path, tiny.tokenizer_for("electra"))
    again = load(
        "electra",
        seed=5,
        config=transformers.AutoConfig.from_pretrained(folders["token_detection"]),
        embedding_sharing="gradient_disentangled",
        pre_trained_model=str(folders["token_detection"]),
        pre_trained_generator_model=str(folders[GENERATED]),
    ).eval()
    inputs = inputs_of("electra")
    for ours, theirs in ((again.generator, both.generator), (again.discriminator, both.discriminator)):
        for name, output in theirs(**inputs).items():
            assert_close(ours(**inputs)[name].logits, output.logits)
