"""Joint re-rankers: each head against its definition written out, masks, families, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel

from tests import tiny
from tests.tolerances import FORWARD, approx, assert_close, rounding
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.joint import AutoModelForJointReRanking, JointReRanker, gather_positions
from transformers_framework.objectives.joint_layout import JointLayout

HEADS = ("IE_1", "IE_k", "AE_1", "AE_k", "RE_1", "RE_k")
K = 3
IDS = torch.randint(5, 60, (4, 20), generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(20) < torch.tensor([20, 15, 20, 12])[:, None]).long()
FIRST = torch.tensor([[0, 4, 9, 15], [0, 3, 6, -1], [0, 1, 2, 3], [0, 9, -1, -1]])
THERE = FIRST[:, 1:] >= 0


def model_for(head: str, family: str = "bert", **changes: Any) -> Any:
    config = tiny.config_for(
        family,
        **{"num_candidates": K, "classification_head_type": head, "num_labels": 2, "initializer_range": 0.2}
        | ({"evidence_pooling": "mean"} if head == "AE_1" else {})
        | changes,
    )
    torch.manual_seed(1)
    return AutoModelForJointReRanking.from_config(config).eval()


def by_definition(model: Any, head: str) -> list[list[Tensor]]:
    """Logits of every label of every group, by contract: dense, tanh, linear of the states that a head reads."""
    hidden = model.base_model(IDS, attention_mask=MASK).last_hidden_state
    top = model.classifier
    found = []
    for row in range(len(IDS)):
        question, *candidates = (hidden[row, place] for place in FIRST[row].tolist() if place >= 0)
        seen = {
            "IE_1": [question],
            "IE_k": candidates,
            "AE_1": [torch.stack([question, *candidates]).mean(dim=0)],
            "AE_k": [torch.cat([question, candidate]) for candidate in candidates],
            "RE_1": [question],
            "RE_k": [question],
        }[head]
        logits = [top.out_proj(torch.tanh(top.dense(state))) for state in seen]
        found.append(list(logits[0].split(2))[: len(candidates)] if head == "RE_k" else logits)
    return found


@pytest.mark.parametrize("head", HEADS)
def test_heads_are_what_they_are_defined_as(head: str) -> None:
    model = model_for(head)
    logits = model(IDS, MASK, first_tokens=FIRST).logits
    assert logits.shape == (4, 1 if head.endswith("1") else K, 2)
    assert model.classifier.out_proj.out_features == (2 * K if head == "RE_k" else 2)
    for row, expected in enumerate(by_definition(model, head)):
        assert_close(logits[row, : len(expected)], torch.stack(expected))
    dropouts = [name for name, module in model.classifier.named_modules() if isinstance(module, torch.nn.Dropout)]
    assert dropouts
    assert model.classifier.dropout.p == 0.1


def test_ae_1_of_earlier_versions_sums_candidates() -> None:
    """Their configs do not say how it pools; a new one does, and keeps what its checkpoint had."""
    earlier = model_for("AE_1", evidence_pooling=None)
    hidden = earlier.base_model(IDS, attention_mask=MASK).last_hidden_state
    top, candidates = earlier.classifier, FIRST[0, 1:].tolist()
    expected = top.out_proj(torch.tanh(top.dense(hidden[0, candidates].sum(dim=0))))
    assert_close(earlier(IDS, MASK, first_tokens=FIRST).logits[0, 0], expected)
    del earlier.config.evidence_pooling
    found = [
        JointLayout(K, "AE_1", False, 20, None).head_config(config)["evidence_pooling"]
        for config in (earlier.config, model_for("AE_1").config, model_for("IE_k").config, tiny.config_for("bert"))
    ]
    assert found == ["sum", "mean", "mean", "mean"]


def test_a_run_of_an_earlier_version_goes_on_with_the_sum(tmp_path: Path) -> None:
    """A checkpoint of a run has no config, so its weights have the version of the head."""
    earlier, now, other = model_for("AE_1", evidence_pooling=None), model_for("AE_1"), model_for("AE_1")
    for target in (now, other):  # a run is resumed, then resumed again
        torch.save(earlier.state_dict(), tmp_path / "weights")
        target.load_state_dict(torch.load(tmp_path / "weights", weights_only=True))
        assert target.config.evidence_pooling == "sum"
        assert_close(target(IDS, MASK, first_tokens=FIRST).logits, earlier(IDS, MASK, first_tokens=FIRST).logits)
        earlier = target
    now.load_state_dict(dict(other.state_dict()))  # of shards nothing is known
    now.load_state_dict(model_for("AE_1").state_dict())
    assert (now.config.evidence_pooling, now.classifier.averages) == ("mean", True)


@pytest.mark.parametrize("head", HEADS)
def test_what_is_padding_changes_no_score(head: str) -> None:
    """Other tokens under the mask, a wider batch, fewer absent candidates beside it: the same scores."""
    model = model_for(head)
    logits = model(IDS, MASK, first_tokens=FIRST).logits
    other = torch.where(MASK == 1, IDS, 60 - IDS)
    assert_close(model(other, MASK, first_tokens=FIRST).logits[:2], logits[:2])
    wide = [torch.cat([tensor, tensor.new_full((4, 6), fill)], dim=1) for tensor, fill in ((other, 7), (MASK, 0))]
    found = model(*wide, first_tokens=FIRST).logits
    alone = model(IDS[3:, :12], MASK[3:, :12], first_tokens=FIRST[3:, :2]).logits
    size = alone.shape[1]
    assert_close(found[:, :1], logits[:, :1])
    assert_close(found[:3][:, :2], logits[:3][:, :2])
    assert_close(alone, logits[3:, :size])


def test_candidates_see_each_other() -> None:
    model, changed = model_for("IE_k"), IDS.clone()
    changed[0, 16] = 61
    before, after = (model(ids, MASK, first_tokens=FIRST).logits[0, 0] for ids in (IDS, changed))
    assert not torch.allclose(before, after, atol=rounding(4 * FORWARD))


def test_gather_positions() -> None:
    states = torch.arange(12.0).view(1, 6, 2)
    assert gather_positions(states, torch.tensor([[4, 0]])).tolist() == [[[8, 9], [0, 1]]]


def test_files(tmp_path: Path) -> None:
    model = model_for("IE_k", candidate_length=48, separated=False, candidate_token_types=None)
    model.save_pretrained(tmp_path)
    tiny.tokenizer_for("bert").save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).architectures == ["BertForJointReRanking"]
    backbone = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    with torch.no_grad():
        found = backbone(IDS, attention_mask=MASK).last_hidden_state
        assert_close(found, model.base_model(IDS, attention_mask=MASK).last_hidden_state)
    ranker = JointReRanker.from_pretrained(tmp_path)
    assert_close(ranker.model(IDS, MASK, first_tokens=FIRST).logits, model(IDS, MASK, first_tokens=FIRST).logits)
    scores = ranker.score(["rain?", "snow?"], [["a", "b", "c", "d"], ["e"]])
    assert [len(part) for part in scores] == [4, 1]
    assert scores[0] == approx(ranker.score(["rain?"], [["a", "b", "c", "d"]], batch_size=1)[0])


def test_another_head_is_no_re_ranker(tmp_path: Path) -> None:
    tiny.save_checkpoint("bert", tmp_path, "AutoModelForSequenceClassification")
    with pytest.raises(ConfigurationError, match="no joint re-ranker"):
        JointReRanker.from_pretrained(tmp_path)


def test_what_is_no_list_of_lists_is_refused(tmp_path: Path) -> None:
    model = model_for("IE_k", candidate_length=48, separated=False, candidate_token_types=None)
    folder = tmp_path / "answer_selection"  # one of several heads of an export
    model.save_pretrained(folder)
    tiny.tokenizer_for("bert").save_pretrained(folder)
    ranker = JointReRanker.from_pretrained(tmp_path)
    assert ranker.score([], []) == []
    assert ranker.score(["rain?"], [[]]) == [[]]
    for questions, candidates in (("rain?", [["a"]]), (["rain?"], ["abc"]), (["rain?"], "abc")):
        with pytest.raises(TypeError, match="candidates a list of lists"):
            ranker.score(questions, candidates)
    with pytest.raises(ValueError, match="1 questions and 2 lists"):
        ranker.score(["rain?"], [["a"], ["b"]])
