"""Token types: counted, grown with the old rows kept, and visible in what is exported."""

import copy
import logging

import pytest
import torch
import transformers

from tests import tiny
from tests.tolerances import assert_close
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.auto import HeadSpec, load_model
from transformers_framework.models.multi_head import MultiHeadModel
from transformers_framework.models.segments import families_with_types, grow_type_vocabulary, type_vocabulary
from transformers_framework.registry import MODELS

USUAL = ("bert", "roberta", "electra", "albert", "xlm_roberta", "ibert")
CAN = [
    pytest.param(name, marks=() if name in USUAL else pytest.mark.slow)
    for name in MODELS
    if name != "auto" and type_vocabulary(tiny.config_for(name))
]


@pytest.mark.parametrize(
    ("model", "size"), [("bert", 2), ("roberta", 1), ("distilbert", 0), ("deberta_v2", 0), ("mpnet", 0), ("t5", 0)]
)
def test_type_vocabulary(model, size):
    assert type_vocabulary(tiny.config_for(model)) == size


@pytest.mark.parametrize("model", CAN)
def test_growth_keeps_old_rows_and_an_export_knows_it(model, tmp_path):
    net = tiny.model_for(model, "AutoModelForSequenceClassification")
    known = type_vocabulary(net.config)
    key = next(key for key in net.state_dict() if key.endswith("token_type_embeddings.weight") and "entity" not in key)
    net.get_parameter(key).data += 3.0  # as the rows of a pre-trained model, which have a vector in common
    before = copy.deepcopy(net.state_dict())
    assert grow_type_vocabulary(net, 4) is net
    table = net.state_dict()[key]
    assert table.shape[0] == 4
    assert torch.equal(table[:known], before[key])
    new = table[known:]
    assert 0 < (new - before[key].mean(dim=0)).abs().max() < 10 * net.config.initializer_range
    net.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    ids = torch.tensor([[5, 6, 7, 8, net.config.eos_token_id or 3]])
    types = torch.tensor([[0, 1, 2, 3, 3]])
    wanted = net(input_ids=ids, token_type_ids=types).logits
    assert_close(loaded(input_ids=ids, token_type_ids=types).logits, wanted)
    wanted.sum().backward()
    assert net.get_parameter(key).grad is not None


def test_growth_of_several_heads_reaches_every_export(tmp_path):
    autos = {"masked_lm": "AutoModelForMaskedLM", "seq_class": "AutoModelForSequenceClassification"}
    shared = MultiHeadModel({name: tiny.model_for("roberta", auto) for name, auto in autos.items()}).eval()
    grow_type_vocabulary(shared, 3)
    ids, types = torch.tensor([[0, 7, 8, 9, 2]]), torch.tensor([[0, 1, 1, 2, 2]])
    wanted = shared(input_ids=ids, token_type_ids=types)
    for name, folder in shared.export(tmp_path).items():
        loaded = getattr(transformers, autos[name]).from_pretrained(folder).eval()
        assert loaded.config.type_vocab_size == 3
        assert_close(loaded(input_ids=ids, token_type_ids=types).logits, wanted[name].logits)


def test_a_config_grows_before_its_model_is_built():
    config = grow_type_vocabulary(tiny.config_for("roberta"), 3)
    model = transformers.AutoModel.from_config(config)
    assert model.embeddings.token_type_embeddings.num_embeddings == 3


def test_a_model_that_knows_enough_is_left_as_it_is():
    model = tiny.model_for("bert")
    weight = model.embeddings.token_type_embeddings.weight
    assert grow_type_vocabulary(model, 1).embeddings.token_type_embeddings.weight is weight
    assert model.config.type_vocab_size == 2


@pytest.mark.parametrize("model", [name for name in ("deberta", "deberta_v2") if name in MODELS])
def test_a_family_whose_checkpoints_have_no_types_grows_its_first_ones(model, tmp_path, caplog):
    folder = tiny.save_checkpoint(model, tmp_path / "old")
    old = transformers.AutoModel.from_pretrained(folder).eval()
    with caplog.at_level(logging.INFO):
        config = grow_type_vocabulary(tiny.config_for(model), 3)
    assert "embeddings of 3 are newly initialized" in caplog.text
    assert model in families_with_types()
    net = load_model({"x": HeadSpec("AutoModelForSequenceClassification")}, config, pre_trained_model=str(folder))
    table = net.backbone.embeddings.token_type_embeddings.weight
    assert table.shape[0] == 3
    assert 0 < table.detach().std() < 5 * config.initializer_range
    kept = net.backbone.state_dict()
    assert all(torch.equal(kept[name], values) for name, values in old.state_dict().items())
    ids, types = torch.tensor([[2, 7, 8, 9, 3]]), torch.tensor([[0, 1, 1, 2, 2]])
    exported = net.eval().export(tmp_path / "new")["x"]
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(exported).eval()
    assert loaded.config.type_vocab_size == 3
    wanted = net(input_ids=ids, token_type_ids=types)["x"].logits
    assert_close(loaded(input_ids=ids, token_type_ids=types).logits, wanted)


@pytest.mark.parametrize("model", ["distilbert", "mpnet", "modernbert", "t5", "bart"])
def test_families_without_token_types_are_refused_with_those_that_have_them(model):
    with pytest.raises(ConfigurationError, match=r"--extended_token_type_ids.*no token-type.*bert, .*roberta"):
        grow_type_vocabulary(tiny.config_for(model), 3)
    assert model not in families_with_types()
