"""The output layer of classifiers: two classes as one score, and a score as two classes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny
from tests.tolerances import assert_close
from transformers_framework.families import FAMILIES
from transformers_framework.models.auto import missing_heads
from transformers_framework.models.multi_head import MultiHeadModel
from transformers_framework.models.output_layer import known_classes, with_outputs
from transformers_framework.registry import PIPELINES

HEAD = "AutoModelForSequenceClassification"
CLASSIFIERS = [
    family
    for family in FAMILIES
    if family != "auto" and not missing_heads(PIPELINES["answer_selection"], FAMILIES[family].model_type)
]


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_one_output_is_the_difference_of_two_in_every_family(family: str) -> None:
    model = tiny.model_for(family, HEAD, num_labels=2, problem_type="single_label_classification").eval()
    two = dict(model.state_dict())
    config, weights = with_outputs(model, two, 1)
    changed = [name for name, tensor in weights.items() if tensor is not two[name]]
    assert len(changed) <= 2, "no other weights are copied"
    assert (config.num_labels, config.id2label, config.problem_type) == (1, {0: "LABEL_0"}, None)
    assert model.config.num_labels == 2
    config.architectures = [type(model).__name__]
    assert known_classes(config, HEAD) == ["LABEL_0", "LABEL_1"]
    one = type(model)(config).eval()
    one.load_state_dict(weights)
    eos = getattr(model.config, "eos_token_id", None)  # classifiers of BART and T5 read its position
    inputs = torch.randint(5, 15, (3, 9), generator=torch.Generator().manual_seed(0))
    inputs[:, -1] = inputs[:, -1] if eos is None else eos
    with torch.no_grad():
        logits, score = (each(input_ids=inputs).logits for each in (model, one))
        assert_close(score[:, 0], logits[:, 1] - logits[:, 0])
        assert_close(score[:, 0].sigmoid(), logits.softmax(dim=-1)[:, 1])
        again, halves = with_outputs(one, one.state_dict(), 2)
        assert again.num_labels == 2
        assert not hasattr(again, "binary_labels")
        model.load_state_dict(halves)
        halved = model(input_ids=inputs).logits
    assert_close(halved[:, 1] - halved[:, 0], score[:, 0])


def test_half_precision_is_kept() -> None:
    model = tiny.model_for("bert", HEAD, num_labels=2).bfloat16()
    _, weights = with_outputs(model, copy.copy(model.state_dict()), 1)
    assert weights["classifier.weight"].dtype == torch.bfloat16


def test_gathered_weights_of_one_head_of_several_are_folded(tmp_path: Path) -> None:
    """As a sharded strategy gives them: the module's own may be in pieces."""
    heads = {"masked_lm": tiny.model_for("bert", "AutoModelForMaskedLM"), "ranker": tiny.model_for("bert", HEAD)}
    model = MultiHeadModel(heads)
    gathered = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    folders = model.export(tmp_path, state_dict=gathered, outputs={"ranker": 1})
    exported = load_file(folders["ranker"] / "model.safetensors")
    two = gathered["heads.ranker.classifier.weight"]
    assert torch.equal(exported["classifier.weight"], two[1:] - two[:1])
    assert heads["ranker"].config.num_labels == 2, "the config of the model that is trained stays"


def test_the_output_is_found_where_weights_are_sharded() -> None:
    """ZeRO leaves empty parameters in the model, and FSDP wraps layers; the whole weights are given."""
    model = tiny.model_for("bert", HEAD, num_labels=2)
    two = dict(model.state_dict())
    for parameter in model.parameters():
        parameter.data = torch.empty(0)
    model.bert.encoder.layer[0] = torch.nn.Sequential(model.bert.encoder.layer[0])
    _, one = with_outputs(model, two, 1)
    assert {name for name in two if one[name] is not two[name]} == {"classifier.weight", "classifier.bias"}
    assert_close(one["classifier.weight"], two["classifier.weight"].diff(dim=0))
