"""``seq_class -k``: one label for a claim and its evidence, read in one input by a joint head."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from tests import runs, tiny
from tests.tolerances import approx
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.joint import AutoModelForJointReRanking, JointReRanker

CLASSES = ["refuted", "supported", "unknown"]
JOINT: dict[str, Any] = {
    "pipeline": "seq_class",
    "k": 3,
    "input_columns": ["claim", "*evidence"],
    "label_column": "label",
    "max_sequence_length": 48,
}


def claims(n: int, seed: int) -> list[dict[str, Any]]:
    """Claims that a word of their evidence supports, refutes, or that have none."""
    draw, rows = random.Random(seed), []
    for _ in range(n):
        label = draw.choice(CLASSES)
        words = ["tiger", *({"refuted": ["rain"], "supported": ["pan"], "unknown": []}[label])]
        evidence = [f"the {word} again" for word in words] + ["a lion"] * draw.randint(0, 3)
        rows.append({"claim": "is it so", "evidence": draw.sample(evidence, len(evidence)), "label": label})
    return rows


@pytest.mark.parametrize("head", ["AE_1", pytest.param("IE_1", marks=pytest.mark.slow)])
def test_claims_are_classified_by_all_of_their_evidence(head: str, tmp_path: Path, said: Any) -> None:
    data = {
        f"{stage}_dataset": tiny.write_jsonl(tmp_path / f"{stage}.jsonl", claims(n, n))
        for stage, n in (("train", 192), ("test", 41))
    }
    flags = JOINT | {"classification_head_type": head, "learning_rate": 3e-3, "batch_size": 32, "max_epochs": 4}
    flags |= {"separated": True, "max_sequence_length": 10} if head == "IE_1" else {}
    trained = runs.run(tmp_path, **flags, **data, scheduler="constant")
    assert "the model was not pre-trained with several candidates in one input" in said.text
    rows, found = claims(41, 41), runs.predictions(trained)
    hits = np.mean([line["prediction"] == row["label"] for line, row in zip(found, rows, strict=True)])
    assert runs.metrics(trained, "test")["test/seq_class/accuracy"] == approx(hits)
    assert hits > 0.5, "chance is a third"
    export = trained.pre_trained_models / "final"
    config = AutoConfig.from_pretrained(export)
    assert config.architectures == ["BertForJointReRanking"]
    assert (config.num_candidates, config.classification_head_type, config.num_labels) == (3, head, 3)
    with pytest.raises(ConfigurationError, match="it has 3 classes and classifies groups"):
        JointReRanker.from_pretrained(export)
    del flags["classification_head_type"]  # that of the checkpoint
    alone = runs.run(tmp_path, **flags, name="alone", pre_trained_model=export, test_dataset=data["test_dataset"])
    assert [line["prediction"] for line in runs.predictions(alone)] == [line["prediction"] for line in found]


def test_evidence_after_the_first_k_is_left_out(tmp_path: Path) -> None:
    rows = [{"claim": "so", "evidence": ["a lion"] * n, "label": "unknown"} for n in (0, 2, 3, 5)]
    data = {"train_dataset": tiny.write_jsonl(tmp_path / "train.jsonl", [*rows, {**rows[0], "label": "supported"}])}
    experiment = runs.build(runs.command(tmp_path, **JOINT, **data))
    batch = experiment.data.collator("train").inputs.post_process({name: [r[name] for r in rows] for name in rows[0]})
    first = batch["first_tokens"]
    assert first.shape == (4, 4)
    assert (first >= 0).sum(axis=1).tolist() == [1, 3, 4, 4]
    assert batch["truncated"].tolist() == [False, False, False, True]
    ids = batch["input_ids"]
    assert ids[2].tolist() == ids[3].tolist()
    tokenizer = experiment.tokenizer
    assert ids[0, 0] == tokenizer.cls_token_id
    assert set(np.take_along_axis(ids[1:3], first[1:3, 1:3], axis=1).ravel()) == {tokenizer.sep_token_id}
    model = AutoModelForJointReRanking.from_config(
        tiny.config_for("bert", num_candidates=3, classification_head_type="AE_1", evidence_pooling="mean")
    ).eval()
    given = {name: torch.from_numpy(batch[name]) for name in ("input_ids", "attention_mask", "first_tokens")}
    logits = model(**given).logits
    assert logits.shape == (4, 1, 2)
    assert torch.equal(logits[2], logits[3])
