"""Training is that of transformers' ``Trainer``: from equal weights, by the same batches, at the same losses and rates.

The ``Trainer`` is fed with what our loader gives, so that nothing differs but who trains. Dropout is off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy

from benchmarks.parts import dense_labels
from tests import runs, tiny
from tests.tolerances import approx
from transformers_framework.constants import TRAIN
from transformers_framework.experiment import Experiment

EPOCHS, LEARNING_RATE, WEIGHT_DECAY, WARMUP_STEPS = 3, 1e-3, 0.01, 6
MAX_NORM = 4.0  # of the gradients of some steps: Adam does not see that all were clipped alike
FLAGS: dict[str, Any] = {
    "max_epochs": EPOCHS,
    "learning_rate": LEARNING_RATE,
    "weight_decay": WEIGHT_DECAY,
    "num_warmup_steps": WARMUP_STEPS,
    "gradient_clip_val": MAX_NORM,
    "additional_config_kwargs": ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"],
    "no_epoch_checkpointing": True,
}
CASES: dict[str, dict[str, Any]] = {
    "classes": {"pipeline": "seq_class", "rows": 80},
    "grouped by length, the last batch smaller": {"pipeline": "seq_class", "rows": 76, "length_bucketing": True},
    # windows of 8 + 8 rows, and of 4 alone
    "accumulated": {"pipeline": "seq_class", "rows": 132, "accumulate_grad_batches": 2},
    "masked tokens": {"pipeline": "masked_lm", "model": "roberta", "rows": 80},
    "masked tokens, accumulated": {"pipeline": "masked_lm", "rows": 132, "accumulate_grad_batches": 2},
}
Batch = dict[str, torch.Tensor]


class FedTrainer(transformers.Trainer):
    """A trainer that learns from batches that are there already.

    Args:
        epochs: Batches of each epoch.
        **options: Those of the parent.
    """

    def __init__(self, epochs: list[list[Batch]], **options: Any) -> None:
        super().__init__(train_dataset=[{}], **options)  # not read
        self.batches = Epochs(epochs)

    def get_train_dataloader(self) -> Any:
        return self.batches


class Epochs:
    """The batches of one epoch after the other, each time that they are asked for."""

    def __init__(self, epochs: list[list[Batch]]) -> None:
        self.num_batches, self.remaining = len(epochs[0]), iter(epochs)

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[Batch]:
        return iter(next(self.remaining))


def epochs_of(experiment: Experiment, objective: str) -> list[list[Batch]]:
    """Return all training batches of a run, as a model of transformers wants them."""

    def dense(batch: Mapping[str, Any]) -> Batch:
        inputs, own = experiment.module._inputs(batch), batch[objective]
        labels = dense_labels(own, inputs["input_ids"].shape) if "positions" in own else own["labels"]
        return {**inputs, "labels": labels}

    experiment.data.trainer = experiment.trainer
    loader, epochs = experiment.data.loader(TRAIN), []
    for epoch in range(EPOCHS):
        loader.epoch = lambda epoch=epoch: epoch
        epochs.append([dense(batch) for batch in loader])
    return epochs


def mean_over_window(output: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
    """Return the part of a batch in the mean loss of all labels that make one optimizer step."""
    return cross_entropy(output.logits.flatten(0, -2), labels.flatten(), reduction="sum") / num_items_in_batch


@pytest.mark.parametrize("case", CASES)
def test_training_is_that_of_the_trainer(tmp_path: Path, case: str) -> None:
    flags = {**FLAGS, **CASES[case]}
    rows, pipeline, window = flags.pop("rows"), flags["pipeline"], flags.get("accumulate_grad_batches", 1)
    flags["train_dataset"] = tiny.write_jsonl(tmp_path / "rows.jsonl", runs.rows_for(pipeline, rows))
    start = runs.build(runs.command(tmp_path, **flags))
    head = start.module.model.heads[pipeline]
    model = type(head)(head.config)
    model.load_state_dict(head.state_dict())
    trainer = FedTrainer(
        epochs_of(start, pipeline),
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(tmp_path / "theirs"),
            num_train_epochs=EPOCHS,
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            adam_epsilon=runs.EPSILON,
            warmup_steps=WARMUP_STEPS,
            max_grad_norm=MAX_NORM,
            gradient_accumulation_steps=window,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        # BERT's head for sequences does not heed `num_items_in_batch`: the Trainer would add the means of its batches
        compute_loss_func=mean_over_window if window > 1 else None,
    )
    trainer.train()
    trainer.save_model(tmp_path / "theirs")
    theirs = [line for line in trainer.state.log_history if "loss" in line]

    ours = runs.run(tmp_path, **flags)
    logged = runs.scalars(ours)
    for name in ("loss", "learning_rate"):
        found = [value for _, value in logged[f"train/{name}"]]
        assert found == approx([line[name] for line in theirs]), name
    assert len(theirs) == EPOCHS * -(-rows // (8 * window)) >= 27
    assert 0 < sum(line["grad_norm"] > MAX_NORM for line in theirs) < len(theirs)
    runs.assert_weights_are_close(ours.pre_trained_models / "final", tmp_path / "theirs")
