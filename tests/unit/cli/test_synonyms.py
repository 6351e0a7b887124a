"""What users of other trainers type is answered with what it is called here."""

from __future__ import annotations

import pytest

from transformers_framework.cli import parser
from transformers_framework.cli.arguments import Arguments
from transformers_framework.cli.given import gather
from transformers_framework.cli.synonyms import REASONS, SYNONYMS, flags_in
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.registry import OPTIMIZERS, SCHEDULERS

# the flags of these runs are, together, all that the table names
RUNS = (
    {"pipeline": "masked_lm"},
    {"pipeline": "summarization"},
    {"pipeline": "masked_lm_and_seq_class"},
)


@pytest.fixture(scope="module")
def flags():
    found = {}
    for run in RUNS:
        for members in parser.groups_of({"model": "bert", **run}).values():
            found |= members
    return found


def test_every_flag_that_the_table_names_exists_and_takes_the_value_that_it_shows(flags):
    arguments = Arguments({"all": flags})
    for name, line in SYNONYMS.items():
        named = flags_in(line)
        assert named, name
        assert set(named) <= set(flags), name
        for flag, words in named.items():
            if not words.isupper():  # a value, and no hint such as N or NAME/SPLIT
                arguments.read(flag, gather([f"--{flag}", *words.split()])[flag])


def test_no_name_of_the_table_is_a_flag_itself(flags):
    assert not set(SYNONYMS) & {*flags, *OPTIMIZERS, *SCHEDULERS} - {"adafactor"}
    assert set(REASONS) <= set(SYNONYMS)


def refuse(line):
    given = gather(["--pipeline", "seq_class", "--model", "bert", *line.split()])
    with pytest.raises(ConfigurationError) as error:
        parser.parse(given, parser.groups_of(parser.select(given)))
    return str(error.value)


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("--epochs 3", "--epochs: unknown flag. Did you mean '--max_epochs N'?"),
        ("--lr 1e-5", "--lr: unknown flag. Did you mean '--learning_rate RATE'?"),
        ("--fp16", "--fp16: unknown flag. Did you mean '--precision 16-mixed'?"),
        ("--gpus 8", "--gpus: unknown flag. Did you mean '--accelerator gpu --devices N'?"),
        (
            "--do_train",
            "--do_train: unknown flag. Did you mean '--train_dataset FILE'? A stage runs when it has a data set; "
            "no other flag is needed.",
        ),
        ("--mlm_probability 0.3", "--mlm_probability: unknown flag."),  # this run has no --probability
        ("--reload_train_dataset_every_epoch", "Did you mean '--reload_dataloaders_every_n_epochs 1'?"),
    ],
)
def test_a_flag_of_another_program_is_answered_with_ours(line, answer):
    assert answer in refuse(line)


def test_in_a_file_it_is_answered_as_a_file_has_it(tmp_path):
    (tmp_path / "run.yaml").write_text("lr: 1e-5\ngpus: 8\n")
    message = refuse(f"--config {tmp_path}/run.yaml")
    assert f"{tmp_path}/run.yaml:1: lr: unknown flag. Did you mean 'learning_rate: RATE'?" in message
    assert "gpus: unknown flag. Did you mean 'accelerator: gpu, devices: N'?" in message


def test_a_flag_of_an_earlier_version_without_a_value_is_read_from_its_configs(tmp_path):
    def parse(text, pipeline="summarization", beside="--document_column a --max_sequence_length 32 8"):
        (tmp_path / "run.yaml").write_text(text)
        line = f"--pipeline {pipeline} --model bart --name x --batch_size 4 {beside} --config {tmp_path}/run.yaml"
        given = gather(line.split())
        return parser.parse(given, parser.groups_of(parser.select(given)))[0]

    options = parse("generation_top_h: null\ngeneration_num_beams: 2\n")
    assert (options["generation_num_beams"], options["additional_generation_kwargs"]) == (2, None)
    with pytest.raises(ConfigurationError, match=r"generation_top_h: unknown flag.*generation_kwargs: top_h=VALUE'"):
        parse("generation_top_h: 0.4\n")
    with pytest.raises(ConfigurationError, match=r"generation_top_x: unknown flag"):
        parse("generation_top_x: null\n")
    with pytest.raises(ConfigurationError, match=r"generation_top_h: unknown flag"):
        parse("generation_top_h: null\n", "masked_lm", "--input_columns a --max_sequence_length 32")


ASKED = """
    epochs num_train_epochs lr gradient_accumulation_steps per_device_train_batch_size per_device_eval_batch_size
    eval_steps save_steps train_file validation_file test_file text_column fp16 bf16 report_to warmup_ratio
    warmup_steps model_name_or_path tokenizer_name config_name max_seq_length max_length gpus do_train
    resume_from_checkpoint load_best_model_at_end metric_for_best_model evaluation_strategy optim lr_scheduler_type
    adam_beta1 dataloader_num_workers overwrite_output_dir
"""


@pytest.mark.parametrize("name", ASKED.split())
def test_what_people_type_most_is_in_the_table(name):
    assert name in SYNONYMS
