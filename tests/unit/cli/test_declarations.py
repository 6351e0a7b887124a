"""The real declarations of the package as flags: every row of every table, and the commands that users have today."""

from __future__ import annotations

import shlex

import pytest

from transformers_framework.cli import parser
from transformers_framework.cli.config_files import to_yaml
from transformers_framework.cli.given import gather
from transformers_framework.cli.help import full
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.registry import OPTIMIZERS, PIPELINES, SCHEDULERS

ANSWER_SELECTION = """
    --pipeline answer_selection --model roberta --precision 16 --accelerator gpu --strategy ddp --devices 8
    --pre_trained_model roberta-base --name roberta-base-asnq --output_dir OUT
    --batch_size 256 --train_dataset lucadiliello/asnq/train --valid_dataset lucadiliello/asnq/dev
    --test_dataset lucadiliello/asnq/test --input_columns question answer --label_column label --index_column key
    --accumulate_grad_batches 1 --max_sequence_length 128 --learning_rate 1e-05 --optimizer adamw --max_epochs 10
    --log_every_n_steps 100 --early_stopping --patience 5 --weight_decay 0.0 --num_warmup_steps 10000
    --monitor valid/answer_selection/mean_average_precision --val_check_interval 0.5 --num_workers 4
"""
COLUMNS = {
    "question_answering": "--query_column a --context_column b",
    "structural_pretraining": "--documents_column a",
    "summarization": "--document_column a",
}
ASKED = {
    "pipeline": "answer_selection",
    "model": "roberta",
    "precision": 16,
    "accelerator": "gpu",
    "strategy": "ddp",
    "devices": 8,
    "pre_trained_model": "roberta-base",
    "name": "roberta-base-asnq",
    "output_dir": "OUT",
    "batch_size": 256,
    "train_dataset": "lucadiliello/asnq/train",
    "valid_dataset": "lucadiliello/asnq/dev",
    "test_dataset": "lucadiliello/asnq/test",
    "input_columns": ["question", "answer"],
    "label_column": "label",
    "index_column": "key",
    "accumulate_grad_batches": 1,
    "max_sequence_length": [128],
    "learning_rate": 1e-5,
    "optimizer": "adamw",
    "max_epochs": 10,
    "log_every_n_steps": 100,
    "early_stopping": True,
    "patience": 5,
    "weight_decay": 0.0,
    "num_warmup_steps": 10000,
    "monitor": "valid/answer_selection/mean_average_precision",
    "val_check_interval": 0.5,
    "num_workers": 4,
}
APPLE_SILICON = ANSWER_SELECTION + "--accelerator mps --devices 1 --num_workers 0"
PRE_TRAINING = """
    --pipeline token_detection_and_masked_lm --model deberta_v2 --devices 8 --accelerator gpu
    --strategy deepspeed_stage_2 --precision 16 --pre_trained_generator_config microsoft/deberta-v3-small
    --pre_trained_config microsoft/deberta-v3-base --pre_trained_tokenizer microsoft/deberta-v3-base
    --name deberta-v3-base-pretraining --output_dir OUT --batch_size 32 --train_dataset DIR/train
    --valid_dataset DIR/dev --input_columns text_span_1 text_span_2 --accumulate_grad_batches 16
    --max_sequence_length 512 --learning_rate 1e-04 --optimizer fuse_adam --max_steps 200000 --weight_decay 0.01
    --num_warmup_steps 10000 --val_check_interval 160000 --checkpoint_interval 5000 --num_workers 8
"""

# the contract's table of flags of every run, with their defaults
DEFAULTS = {
    "output_dir": "outputs",
    "seed": 1337,
    "resume": False,
    "ckpt_path": None,
    "overwrite": False,
    "additional_config_kwargs": None,
    "compile": False,
    "gradient_checkpointing": False,
    "attention": "sdpa",
    **{f"{stage}_dataset": None for stage in ("train", "valid", "test", "predict")},
    **{f"{stage}_config": None for stage in ("train", "valid", "test", "predict")},
    **{f"{stage}_shard_dataset": None for stage in ("train", "valid", "test", "predict")},
    "eval_batch_size": None,
    "num_workers": None,
    "iterable": False,
    "keep_in_memory": False,
    "disable_memory_pinning": False,
    "prepare_data_workers": None,
    "prepare_data_batch_size": 1000,
    "prepare_data_per_node": False,
    "prepare_data_do_not_use_cache": False,
    "length_bucketing": "auto",
    "cache_dir": None,
    "optimizer": "adamw",
    "learning_rate": 1e-4,
    "weight_decay": 0.0,
    "scheduler": "linear_decay",
    "scheduler_interval": "step",
    "scheduler_frequency": 1,
    "num_warmup_steps": 0,
    "batch_size": 32,
    "max_sequence_length": "auto",
    "monitor": "auto",
    "monitor_direction": "auto",
    "early_stopping": False,
    "patience": 5,
    "checkpoint_interval": None,
    "no_val_checkpointing": False,
    "no_epoch_checkpointing": False,
    "stochastic_weight_averaging": False,
    "devices_stats": False,
}


def parse(line):
    given = gather(shlex.split(line))
    groups = parser.groups_of(parser.select(given))
    return parser.parse(given, groups)[0], groups


def test_answer_selection_as_users_have_it_today():
    options, _ = parse(ANSWER_SELECTION)
    assert {name: options[name] for name in ASKED} == ASKED
    assert [type(options[name]) for name in ASKED] == [type(value) for value in ASKED.values()]


def test_apple_silicon_as_users_have_it_today():
    options, _ = parse(APPLE_SILICON)
    expected = {**ASKED, "accelerator": "mps", "devices": 1, "num_workers": 0}
    assert {name: options[name] for name in expected} == expected


def test_pre_training_as_users_have_it_today():
    if "token_detection_and_masked_lm" not in PIPELINES:
        pytest.skip("this pipeline comes later")
    options, _ = parse(PRE_TRAINING)
    assert options["pre_trained_generator_config"] == "microsoft/deberta-v3-small"


def test_pre_training_flags_that_other_pipelines_share():
    line = PRE_TRAINING.replace("token_detection_and_masked_lm", "seq_class")
    options, _ = parse(line.replace("--pre_trained_generator_config microsoft/deberta-v3-small", ""))
    expected = {
        "strategy": "deepspeed_stage_2",
        "pre_trained_config": "microsoft/deberta-v3-base",
        "pre_trained_model": None,
        "input_columns": ["text_span_1", "text_span_2"],
        "optimizer": "fuse_adam",
        "max_steps": 200000,
        "val_check_interval": 160000,
        "checkpoint_interval": 5000,
    }
    assert {name: options[name] for name in expected} == expected


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_flags_of_every_run_with_their_defaults(pipeline):
    options, _ = parse(
        f"--pipeline {pipeline} --model bert --name x "
        + COLUMNS.get(pipeline, "--input_column a")
        + (" --clusters_filename c.txt" if "cluster" in pipeline else "")
    )
    assert {name: options[name] for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_declarations_agree_for_every_pipeline_optimizer_and_scheduler_and_every_flag_is_explained(pipeline):
    chosen = [{"optimizer": name} for name in OPTIMIZERS] + [{"scheduler": name} for name in SCHEDULERS]
    for rows in chosen:
        groups = parser.groups_of({"pipeline": pipeline, "model": "auto", **rows})
        unexplained = [flag.dashed for flags in groups.values() for flag in flags.values() if not flag.help]
        assert unexplained == []
        assert "(required)" in full(groups)


def test_what_the_run_needs_is_listed_at_once():
    with pytest.raises(ConfigurationError) as error:
        parse("--pipeline seq_class --model bert")
    missing = "Missing: --name, --input_columns."
    assert missing in str(error.value)


def test_the_printed_configuration_of_a_real_run_is_read_back(tmp_path):
    options, groups = parse(ANSWER_SELECTION)
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(parser.grouped(groups, options)))
    assert parse(f"--config {path}")[0] == options


def test_a_mapping_in_a_file_changes_the_config_of_a_model(tmp_path):
    from transformers import BertConfig

    from transformers_framework.models.overrides import override

    path = tmp_path / "run.yaml"
    path.write_text(
        "additional_config_kwargs:\n  hidden_dropout_prob: 0.2\n  layer_norm_eps: 1e-6\n  id2label: {0: no, 1: 'on'}\n"
        "  hidden_act: relu\n  bos_token_id: null\n"
    )
    options, _ = parse(f"{ANSWER_SELECTION} --config {path}")
    config = override(BertConfig(), [c for c in options["additional_config_kwargs"] if "id2label" not in c])
    assert (config.hidden_dropout_prob, config.layer_norm_eps, config.hidden_act) == (0.2, 1e-6, "relu")
    assert options["additional_config_kwargs"] == [
        "hidden_dropout_prob=0.2",
        "layer_norm_eps=1e-6",
        'id2label={"0": "no", "1": "on"}',
        "hidden_act=relu",
        "bos_token_id=null",
    ]
