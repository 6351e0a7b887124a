"""A generator and a discriminator together: what is learned, from which gradients, and what a run leaves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.func import functional_call
from torch.nn import functional

from tests import runs, tiny
from tests.integration.interrupted import run_together
from tests.sharded_cpu import use_cpus
from tests.tolerances import BACKWARD, approx, assert_close, assert_gradients_close
from transformers_framework.constants import TRAIN
from transformers_framework.data.sampler import BatchRequest
from transformers_framework.models.embedding_sharing import disentangled, tables
from transformers_framework.models.generator import reduced_config
from transformers_framework.storage.run_folders import RunFolders

PIPELINE = "token_detection_and_masked_lm"
NO_DROPOUT = ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]
FAMILIES = ("electra", "bert", "roberta", "deberta", "deberta_v2")
TWO = {"devices": 2, "strategy": "ddp"}


def scratch(folder: Path, model: str, **changes: Any) -> dict[str, Any]:
    """Write a config and a tokenizer for training from scratch; return their flags."""
    folder = folder / f"{model}-scratch"
    tiny.config_for(model, **{"initializer_range": 0.2, **changes}).save_pretrained(folder)
    tiny.tokenizer_for(model).save_pretrained(folder)
    return {"pre_trained_config": folder}


# --- the reference ---------------------------------------------------------------------------------------------------


def electra_step(
    generator: Any, discriminator: Any, delta: dict[str, torch.Tensor], batch: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The losses of ELECTRA as its paper writes them (Clark et al. 2020, section 2), dense, with transformers only.

    ``delta`` are differences to the generator's embeddings by the names that their tables have in the discriminator
    (He et al. 2023, section 3.3).
    """
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    masked, size = batch["masked_lm"], batch["input_ids"].numel()
    originals = torch.full((size,), -100)
    for position, label in zip(masked["positions"].tolist(), masked["labels"].tolist(), strict=True):
        if label != -100:
            originals[position] = label
    originals = originals.view_as(batch["input_ids"])
    logits = generator(**inputs).logits
    masked_lm_loss = functional.cross_entropy(logits.flatten(0, 1), originals.flatten(), ignore_index=-100)

    below = logits.detach().double().softmax(-1).cumsum(-1)
    sampled = (below <= batch["token_detection"]["draws"].double()[..., None] / 2**31).sum(-1)
    hidden = originals != -100
    corrupted = torch.where(hidden, sampled, batch["input_ids"])
    replaced = (hidden & (sampled != originals)).float()
    weights = {
        name: generator.base_model.get_submodule(table).weight.detach() + delta[name]
        for name, table in ((name, name.removesuffix(".weight").partition(".")[2]) for name in delta)
    }
    judged = functional_call(discriminator, weights, kwargs={**inputs, "input_ids": corrupted}).logits
    attended = batch["attention_mask"] == 1
    detection_loss = functional.binary_cross_entropy_with_logits(
        judged.view_as(attended.float())[attended], replaced[attended]
    )
    return masked_lm_loss, detection_loss, corrupted


@pytest.mark.parametrize(
    ("model", "how"),
    [*((model, "gradient_disentangled") for model in FAMILIES), ("electra", "none"), ("electra", "shared")],
)
def test_losses_and_gradients_are_those_of_the_reference(tmp_path: Path, model: str, how: str) -> None:
    data = {"train_dataset": runs.datasets(tmp_path / "data", PIPELINE)["train_dataset"]}
    words = runs.command(
        tmp_path, pipeline=PIPELINE, model=model, embedding_sharing=how, **scratch(tmp_path, model), **data,
        additional_config_kwargs=NO_DROPOUT, probability=0.3,
    )  # fmt: skip
    experiment = runs.build(words)
    module, collate = experiment.module, experiment.data.collator(TRAIN)
    model_ = module.model
    torch.manual_seed(3)
    for _, table in disentangled(model_):
        torch.nn.init.normal_(table.delta, std=0.1)
    rows = experiment.data.datasets[TRAIN]
    batch = collate((BatchRequest(0, tuple(range(8))), rows[:8]))
    own = dict(batch["masked_lm"])

    # the same weights in plain models
    generator = type(model_.generator.heads["masked_lm"])(model_.generator.config)
    generator.load_state_dict(model_.generator.heads["masked_lm"].state_dict())
    judge = model_.discriminator.heads["token_detection"]
    discriminator = type(judge)(judge.config)
    state, delta = judge.state_dict(), {}
    for name in [name for name in state if name.endswith(".delta")]:
        delta[name.replace(".delta", ".weight")] = state.pop(name).clone().requires_grad_()
    discriminator.load_state_dict(state, strict=False)
    if how == "shared":
        for name, table in tables(discriminator.base_model).items():
            table.weight = generator.base_model.get_submodule(name).weight

    losses = electra_step(generator, discriminator, delta, batch)
    (losses[0] + 50 * losses[1]).backward()
    totals = module._stage_step(batch, TRAIN).losses
    means = {name: totals[name] / batch["num_items"][name] for name in totals}
    sum(module.loss_weight(name) * mean for name, mean in means.items()).backward()

    hidden = own["positions"][own["labels"] != -100]
    assert torch.equal(batch["token_detection"]["input_ids"], losses[2])
    assert 0.1 < len(hidden) / batch["attention_mask"].sum() < 0.5
    assert int((batch["token_detection"]["labels"] == 1).sum()) > 0.5 * len(hidden)
    assert_close(means["masked_lm"], losses[0])
    assert_close(means["token_detection"], losses[1])
    expected = {f"generator.heads.masked_lm.{name}": p.grad for name, p in generator.named_parameters()}
    prefix = "discriminator.heads.token_detection."
    expected |= {f"{prefix}{name}": p.grad for name, p in discriminator.named_parameters()}
    expected |= {f"{prefix}{name.replace('.weight', '.delta')}": tensor.grad for name, tensor in delta.items()}
    found = {name: parameter.grad for name, parameter in model_.named_parameters() if parameter.requires_grad}
    assert all(expected[name].any() or name.endswith("key.bias") for name in found)
    assert_gradients_close(found, {name: expected[name] for name in found})


# --- whole runs ------------------------------------------------------------------------------------------------------


def moments(run: RunFolders) -> list[torch.Tensor]:
    """Return Adam's means of the gradients."""
    state = torch.load(run.last, weights_only=True)["optimizer_states"][0]["state"]
    return [state[index]["exp_avg"] for index in sorted(state)]


def assert_exports_are_close(found: RunFolders, expected: RunFolders) -> None:
    for name in ("masked_lm", "token_detection"):
        runs.assert_weights_are_close(*(run.pre_trained_models / "final" / name for run in (found, expected)))


@pytest.mark.parametrize(("model", "how"), [("bert", "shared"), ("deberta_v2", "gradient_disentangled")])
def test_both_networks_learn(tmp_path: Path, model: str, how: str) -> None:
    """Four sentences by heart: the generator fills in right words, the discriminator knows the wrong ones."""
    rows = [{"text": text} for text in tiny.TEXT[:4]] * 40
    run = runs.run(
        tmp_path, pipeline=PIPELINE, model=model, embedding_sharing=how, batch_size=32, learning_rate=1e-2,
        adamw_epsilon=1e-8, max_epochs=28, num_warmup_steps=5, probability=0.3, check_val_every_n_epoch=28,
        train_dataset=tiny.write_jsonl(tmp_path / "train.jsonl", rows),
        valid_dataset=tiny.write_jsonl(tmp_path / "valid.jsonl", rows[:48]),
        additional_config_kwargs=NO_DROPOUT, **scratch(tmp_path, model, initializer_range=0.1),
        length_bucketing=False,  # else all rows of a step are the same sentence
    )  # fmt: skip
    found = {name.removeprefix("valid/"): value for name, value in runs.metrics(run, "valid").items()}
    assert found["masked_lm/perplexity"] < 25, f"chance is {len(tiny.tokenizer_for(model))}"
    assert found["masked_lm/accuracy"] > 0.25
    ratio = found["token_detection/replaced_ratio"]
    entropy = -(ratio * math.log(ratio) + (1 - ratio) * math.log(1 - ratio))
    assert found["token_detection/loss"] < 0.9 * entropy, "no better than the share of replaced tokens"
    assert found["token_detection/f1"] > 0.2, "the majority is never replaced"


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    flags: dict[str, Any] = {
        **runs.datasets(tmp_path / "data", PIPELINE, (40, 23, 7, 3)),
        **scratch(tmp_path, "electra"),
        "pipeline": PIPELINE,
        "model": "electra",
        "embedding_sharing": "gradient_disentangled",
        "additional_config_kwargs": NO_DROPOUT,
        "probability": 0.3,
        "eval_batch_size": 4,
        "learning_rate": 1e-4,
    }
    one = runs.run(tmp_path, name="one", batch_size=8, **flags)
    two, _ = runs.spawn(tmp_path, name="two", batch_size=4, num_workers=1, **TWO, **flags)
    assert_exports_are_close(two, one)
    assert_gradients_close(*(dict(enumerate(moments(each))) for each in (two, one)), units=4 * BACKWARD)
    expected = runs.metrics(one, "valid")
    assert len(expected) == 1 + 4 + 6
    assert runs.metrics(two, "valid") == approx(expected, BACKWARD)
    for name in ("test.masked_lm", "test.token_detection", "predict.token_detection"):
        ours, theirs = runs.predictions(two, name), runs.predictions(one, name)
        assert [row["id"] for row in ours] == [row["id"] for row in theirs]
    assert [row["tokens"] for row in runs.predictions(two, "test.token_detection")] == [
        row["tokens"] for row in runs.predictions(one, "test.token_detection")
    ], "samples differ"


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    flags: dict[str, Any] = {
        "train_dataset": runs.datasets(tmp_path / "data", PIPELINE)["train_dataset"],
        **scratch(tmp_path, "deberta_v2"),
        "pipeline": PIPELINE,
        "model": "deberta_v2",
        "tie_generator_discriminator_embeddings": True,
        "scheduler": "constant",
        "checkpoint_interval": 1,
    }
    whole = runs.run(tmp_path, name="whole", max_steps=7, **flags)
    runs.run(tmp_path, name="parts", max_steps=3, **flags)
    parts = runs.run(tmp_path, name="parts", max_steps=7, resume=True, **flags)
    assert runs.weights_are_equal(parts.last, whole.last)
    word = "deberta.embeddings.word_embeddings.weight"
    exported = runs.weights(whole.pre_trained_models / "final" / "token_detection")[word]
    delta = next(value for name, value in runs.weights(whole.last).items() if name.endswith("word_embeddings.delta"))
    generated = runs.weights(whole.pre_trained_models / "final" / "masked_lm")[word]
    assert delta.count_nonzero() > 0
    assert torch.equal(exported, generated + delta)


def test_evaluations_draw_the_same_samples(tmp_path: Path) -> None:
    """In every evaluation, with and without workers, in batches of any size."""
    data = runs.datasets(tmp_path / "data", PIPELINE)
    both = {"train_dataset": data["train_dataset"], "valid_dataset": data["valid_dataset"]}
    run = runs.run(
        tmp_path, pipeline=PIPELINE, model="electra", learning_rate=1e-30, max_epochs=2, **scratch(tmp_path, "electra"),
        **both, checkpoint_interval=1,
    )  # fmt: skip
    first, second = (
        [value for _, value in runs.scalars(run)[f"valid/{name}"]] for name in ("loss", "token_detection/f1")
    )
    assert first[0] == first[1]
    assert second[0] == second[1]
    alone = runs.run(
        tmp_path, name="alone", pipeline=PIPELINE, model="electra", ckpt_path=run.last, batch_size=5, num_workers=2,
        valid_dataset=data["valid_dataset"], **scratch(tmp_path, "electra"),
    )  # fmt: skip
    assert runs.metrics(alone, "valid") == approx(runs.metrics(run, "valid"))


def test_a_class_is_learned_on_the_discriminators_backbone(tmp_path: Path) -> None:
    """The samples are there in training only: what is evaluated is clean text."""
    pipeline = f"{PIPELINE}_and_seq_class"
    checkpoint = tiny.save_checkpoint("electra", tmp_path / "electra", "AutoModelForPreTraining", **runs.LIVELY)
    with runs.watched() as seen:
        run = runs.run(
            tmp_path, pipeline=pipeline, model="electra", pre_trained_model=checkpoint, embedding_sharing="shared",
            max_epochs=2, token_detection_weight=2.0, seq_class_weight=3.0,
        )  # fmt: skip
    model = seen.experiment.module.model
    silent = [name for name, p in model.named_parameters() if p.requires_grad and not seen.gradients.get(id(p))]
    assert not [name for name in silent if not name.endswith("key.bias")]
    train, valid = runs.metrics(run, "train"), runs.metrics(run, "valid")
    weighted = (
        train["train/masked_lm/loss"] + 2 * train["train/token_detection/loss"] + 3 * train["train/seq_class/loss"]
    )
    assert train["train/loss"] == approx(weighted)
    assert {name.split("/")[1] for name in valid} == {"loss", "seq_class"}
    final = run.pre_trained_models / "final"
    assert sorted(path.name for path in final.iterdir() if path.is_dir()) == [
        "masked_lm",
        "seq_class",
        "token_detection",
    ]
    rows = runs.predictions(run)
    logits = runs.logits_of(final / "seq_class", [[row["text"]] for row in rows])
    assert_close(torch.tensor([row["scores"] for row in rows]), logits.softmax(-1))
    transformers.AutoModelForPreTraining.from_pretrained(final / "token_detection")
    transformers.AutoModelForMaskedLM.from_pretrained(final / "masked_lm")


def test_check_tells_what_will_be_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs.run(tmp_path, pipeline=PIPELINE, model="bert", check=True, generator_size=0.5)
    told = capsys.readouterr().out
    assert "detect which masked tokens the generator fills in wrongly" in told
    assert "[MASK]" in told
    runs.run(tmp_path, pipeline=PIPELINE, model="bert", check=True, monitor="valid/token_detection/f2", status=2)
    assert "valid/token_detection/f1" in capsys.readouterr().out


def test_wrong_generators_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.config_for("bert", vocab_size=399).save_pretrained(tmp_path / "small")
    flags = {"pipeline": PIPELINE, "model": "bert", "pre_trained_generator_config": tmp_path / "small"}
    runs.run(tmp_path, status=2, **flags)
    told = capsys.readouterr()
    assert "vocabulary has 399 tokens and the discriminator's 400" in told.out + told.err
    assert not (tmp_path / "out").exists()
    runs.run(tmp_path, status=2, check=True, **flags)
    assert "vocabulary has 399 tokens" in capsys.readouterr().out


# --- DeepSpeed -------------------------------------------------------------------------------------------------------


def deberta_v3(folder: Path, dropout: float = 0.1, **flags: Any) -> list[str]:
    """The README's command, with local configs, few steps, two processes and no GPU."""
    base, small = folder / "deberta-v3-base", folder / "deberta-v3-small"
    config = tiny.config_for(
        "deberta_v2", initializer_range=0.2, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
    )
    config.save_pretrained(base)
    tiny.tokenizer_for("deberta_v2").save_pretrained(base)
    reduced_config(config, 0.5).save_pretrained(small)
    for name, size in (("train", 32), ("dev", 11)):  # whole windows, which are all that DeepSpeed knows
        rows = [{"text_span_1": row["question"], "text_span_2": row["answer"]} for row in tiny.pairs(size, size)]
        tiny.write_jsonl(folder / "data" / name / "rows.jsonl", rows)
    given: dict[str, Any] = {
        "pipeline": PIPELINE,
        "model": "deberta_v2",
        "devices": 2,
        "accelerator": "cpu",
        "strategy": "deepspeed_stage_2",
        "precision": 16,
        "pre_trained_generator_config": small,
        "pre_trained_config": base,
        "pre_trained_tokenizer": base,
        "name": "deberta-v3-base-pretraining",
        "output_dir": folder / "out",
        "batch_size": 4,
        "train_dataset": folder / "data" / "train",
        "valid_dataset": folder / "data" / "dev",
        "input_columns": ["text_span_1", "text_span_2"],
        "accumulate_grad_batches": 2,
        "max_sequence_length": 64,
        "learning_rate": "1e-04",
        "optimizer": "fuse_adam",
        "max_steps": 4,
        "weight_decay": 0.01,
        "num_warmup_steps": 1,
        "val_check_interval": 4,
        "checkpoint_interval": 2,
        "num_workers": 1,
        "cache_dir": folder / "cache",
    }
    return [
        word
        for name, value in (given | flags).items()
        if value is not None
        for word in (f"--{name}", *runs.words_of(value))
    ]


def deepspeed(words: list[str]) -> RunFolders:
    folders = runs.folders_of(words)
    log = folders.output_dir.parent / "log"
    assert run_together(words, log, 2, use_cpus) == [0, 0], log.read_text()
    return folders


@pytest.mark.needs("deepspeed")
def test_the_deberta_v3_command_runs_with_deepspeed(tmp_path: Path) -> None:
    run = deepspeed(deberta_v3(tmp_path))
    metrics = runs.metrics(run, "valid")
    assert metrics["valid/token_detection/replaced_ratio"] > 0.05
    assert all(math.isfinite(value) for value in metrics.values())
    final = run.pre_trained_models / "final"
    generator = transformers.AutoModelForMaskedLM.from_pretrained(final / "masked_lm")
    discriminator = transformers.AutoModelForTokenClassification.from_pretrained(final / "token_detection")
    assert generator.dtype == discriminator.dtype == torch.float32, "the optimizer's weights, not those of the engine"
    words = deberta_v3(tmp_path, max_steps=6, resume=True)
    deepspeed(words)
    assert (run.pre_trained_models / "final").exists()


@pytest.mark.needs("deepspeed")
def test_deepspeed_learns_what_one_process_learns(tmp_path: Path) -> None:
    same: dict[str, Any] = {
        "dropout": 0.0,
        "precision": 32,
        "tie_generator_discriminator_embeddings": True,
        "valid_dataset": None,
        "val_check_interval": None,
    }
    two = deepspeed(deberta_v3(tmp_path, **same))
    alone = {"devices": 1, "strategy": "auto", "optimizer": "adamw", "batch_size": 16, "accumulate_grad_batches": 1}
    from transformers_framework.cli.main import main

    words = deberta_v3(tmp_path, **same, **alone, name="one")
    assert main(words) == 0
    assert_exports_are_close(two, runs.folders_of(words))
