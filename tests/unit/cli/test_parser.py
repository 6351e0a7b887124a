"""Which flags a run has and what they are given: on a small world of declarations, where no module is needed."""

from __future__ import annotations

from typing import Literal

import pytest

from transformers_framework import registry
from transformers_framework.callbacks.user_callbacks import user_callbacks
from transformers_framework.cli import parser
from transformers_framework.cli.config_files import read_config, to_yaml
from transformers_framework.cli.given import gather
from transformers_framework.data.limits import Limits
from transformers_framework.data.preparation import Preparation
from transformers_framework.exceptions import ConfigurationError, MissingDependencyError
from transformers_framework.loggers.build import build_loggers
from transformers_framework.loggers.tensorboard import tensorboard
from transformers_framework.metrics.added import added_metrics
from transformers_framework.objectives.capabilities import Corrupts, WeighsLoss
from transformers_framework.plugins import import_packages
from transformers_framework.registry import PipelineSpec
from transformers_framework.restricted import NonNegativeFloat, PositiveInt, Probability
from transformers_framework.runtime.precision import set_float32_matmul_precision
from transformers_framework.sources.data_files import FileOptions


class Experiment:
    def __init__(
        self, options, *, pipeline: str, model: str, name: str, seed: int = 1337, ckpt_path: str | None = None
    ): ...


class Inputs:
    """Texts.

    Args:
        input_columns: Text columns.
    """

    def __init__(self, *, input_columns: list[str], max_sequence_length: list[PositiveInt]): ...


class Classes:
    name = "seq_class"

    def __init__(self, *, label_column: str | None = None, num_labels: PositiveInt | None = None): ...


class Masked(Corrupts, WeighsLoss):
    name, weight = "masked_lm", 2.0

    def __init__(self, *, probability: Probability = 0.15, whole_word_masking: bool = False): ...


class Module:
    def __init__(self, model, *, optimizer: str = "adamw", scheduler: str = "linear_decay"): ...


class Data:
    def __init__(self, *, batch_size: PositiveInt, train_dataset: str | None = None, iterable: bool = False): ...


class Selection:
    def __init__(self, *, monitor: str | None = None, monitor_direction: Literal["max", "min"] = "max"): ...


def accumulated_batches(): ...


def load(path, *, max_sequence_length: list[PositiveInt], compile: bool = False): ...


def adamw(groups, *, learning_rate: NonNegativeFloat = 1e-4, adamw_betas: tuple[float, float] = (0.9, 0.999)): ...


def adafactor(groups, *, learning_rate: NonNegativeFloat = 1e-4, adafactor_beta1: float | None = None): ...


def linear_decay(step, *, num_warmup_steps: int = 0): ...


def cosine(step, *, num_warmup_steps: int = 0, num_cycles: float = 0.5): ...


PLACES = {
    "objectives.capabilities:Corrupts": Corrupts,
    "cli.parser:Command": parser.Command,
    "experiment:Experiment": Experiment,
    "models.auto:load_model": load,
    "models.auto:load_config": load,
    "models.tokenizers:load_tokenizer": load,
    "data.datamodule:DataModule": Data,
    "data.preparation:Preparation": Preparation,
    "runtime.accumulation:accumulated_batches": accumulated_batches,
    "pipelines.pipeline:Pipeline": Module,
    "callbacks.selection:Selection": Selection,
    "data.limits:Limits": Limits,
    "sources.data_files:FileOptions": FileOptions,
    "plugins:import_packages": import_packages,
    "callbacks.user_callbacks:user_callbacks": user_callbacks,
    "loggers.build:build_loggers": build_loggers,
    "metrics.added:added_metrics": added_metrics,
    "loggers.tensorboard:tensorboard": tensorboard,
    "runtime.precision:set_float32_matmul_precision": set_float32_matmul_precision,
    "inputs": Inputs,
    "classes": Classes,
    "masked": Masked,
    "adamw": adamw,
    "adafactor": adafactor,
    "linear_decay": linear_decay,
    "cosine": cosine,
}
PIPELINES = {
    "seq_class": PipelineSpec("text", "a class", "inputs", ("classes",)),
    "masked_lm": PipelineSpec("text", "masked tokens", "inputs", ("masked",)),
}
REQUIRED = "--pipeline seq_class --model bert --name run --input_columns a b --max_sequence_length 64 --batch_size 8"


def resolve(place):
    if place == "absent":
        raise MissingDependencyError("absent", "--optimizer absent", "absent")
    return PLACES[place]


@pytest.fixture(autouse=True)
def _world(monkeypatch):
    optimizers = {"adamw": "adamw", "adafactor": "adafactor", "absent": "absent"}
    schedulers = {"linear_decay": "linear_decay", "cosine": "cosine"}
    for module in (parser, registry):
        monkeypatch.setattr(module, "resolve", resolve)
        monkeypatch.setattr(module, "PIPELINES", PIPELINES)
    monkeypatch.setattr(parser, "RUN_CALLBACKS", ())
    monkeypatch.setattr(parser, "LOGGERS", {"tensorboard": "loggers.tensorboard:tensorboard"})
    monkeypatch.setattr(parser, "OPTIMIZERS", optimizers)
    monkeypatch.setattr(parser, "SCHEDULERS", schedulers)
    tables = {"pipeline": PIPELINES, "model": {"bert": "bert"}, "optimizer": optimizers, "scheduler": schedulers}
    monkeypatch.setattr(parser, "TABLES", tables)


def parse(line):
    given = gather(line.split())
    return parser.parse(given, parser.groups_of(parser.select(given)))


def refuse(line):
    with pytest.raises(ConfigurationError) as error:
        parse(line)
    return str(error.value)


def test_a_run_has_the_flags_of_its_rows_each_once_and_in_order():
    groups = parser.groups_of({"pipeline": "seq_class", "model": "bert"})
    assert list(groups) == ["run", "model", "data", "pipeline seq_class", "optimization", "selection", "trainer"]
    assert list(groups["run"])[:2] == ["config", "print_config"]
    assert list(groups["model"]) == ["max_sequence_length", "compile"]
    assert list(groups["pipeline seq_class"]) == ["input_columns", "label_column", "num_labels"]
    assert list(groups["optimization"]) == [
        "max_epochs", "max_steps", "optimizer", "scheduler", "learning_rate", "adamw_betas", "num_warmup_steps",
    ]  # fmt: skip
    names = [name for flags in groups.values() for name in flags]
    assert len(names) == len(set(names))


def test_the_chosen_rows_bring_their_flags():
    chosen = {"pipeline": "masked_lm", "optimizer": "adafactor", "scheduler": "cosine"}
    groups = parser.groups_of(chosen)
    assert "probability" in groups["pipeline masked_lm"]
    assert list(groups["optimization"])[4:] == ["learning_rate", "adafactor_beta1", "num_warmup_steps", "num_cycles"]


def test_options_are_flat_and_without_the_flags_of_the_command():
    options, command = parse(f"{REQUIRED} --iterable --adamw_betas .8 .99 --monitor valid/loss --check")
    assert options["input_columns"] == ["a", "b"]
    assert options["max_sequence_length"] == [64]
    assert (options["batch_size"], options["iterable"], options["seed"]) == (8, True, 1337)
    assert options["adamw_betas"] == (0.8, 0.99)
    assert options["max_steps"] == -1
    assert command == parser.Command(check=True)
    assert not {"check", "config", "debug", "help"} & set(options)


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--devices 8", "devices", 8),
        ("--devices 0,1", "devices", "0,1"),
        ("--devices 0 1", "devices", [0, 1]),
        ("--devices auto", "devices", "auto"),
        ("--devices -1", "devices", -1),
        ("--accelerator mps", "accelerator", "mps"),
        ("--accelerator gpu", "accelerator", "gpu"),
        ("--strategy deepspeed_stage_2", "strategy", "deepspeed_stage_2"),
        ("--val_check_interval 1", "val_check_interval", 1),
        ("--val_check_interval 1.0", "val_check_interval", 1.0),
        ("--val_check_interval 0.25", "val_check_interval", 0.25),
        ("--val_check_interval 00:00:15:00", "val_check_interval", "00:00:15:00"),
        ("--check_val_every_n_epoch none", "check_val_every_n_epoch", None),
        ("--max_time 00:12:00:00", "max_time", "00:12:00:00"),
        ("--limit_train_batches 10", "limit_train_batches", 10),
        ("--limit_val_batches 0.5", "limit_val_batches", 0.5),
        ("--precision 16", "precision", 16),
        ("--precision bf16", "precision", "bf16"),
        ("--precision bf16-mixed", "precision", "bf16-mixed"),
        ("--fast_dev_run", "fast_dev_run", True),
        ("--fast_dev_run 3", "fast_dev_run", 3),
        ("--deterministic warn", "deterministic", "warn"),
        ("--deterministic", "deterministic", True),
        ("--inference_mode false", "inference_mode", False),
        ("--barebones", "barebones", True),
        ("--gradient_clip_val 1.0", "gradient_clip_val", 1.0),
        ("--gradient_clip_algorithm value", "gradient_clip_algorithm", "value"),
        ("--profiler simple", "profiler", "simple"),
        ("--max_epochs -1", "max_epochs", -1),
    ],
)
def test_flags_of_the_trainer(words, name, value):
    result = parse(f"{REQUIRED} {words}")[0][name]
    assert (result, type(result)) == (value, type(value))


def test_the_trainer_takes_every_value_that_is_its_own_default():
    import inspect

    from pytorch_lightning import Trainer

    parameters = inspect.signature(Trainer.__init__).parameters.values()
    expected = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    flags = {flag.name: flag for flag in parser.trainer_flags()}
    assert set(flags) == set(expected) - set(parser.NOT_OF_THE_TRAINER)
    assert {name: flag.default for name, flag in flags.items()} == {name: expected[name] for name in flags}
    assert all(flag.help for flag in flags.values())


@pytest.mark.parametrize("line", ["--config {} {}", "{1} --config {0}"])
def test_the_command_line_wins_over_the_file_in_both_orders(tmp_path, line):
    path = tmp_path / "run.yaml"
    path.write_text(
        "pipeline: seq_class\nmodel: bert\nname: file\ninput_column: question\nmax_sequence_length: 64\n"
        "batch_size: 4\nlearning_rate: 1e-5\niterable: on\nscheduler: cosine\nnum_cycles: 2\nmax_time: 00:01:30:00\n"
        "adamw_betas: [1, 2]\n"
    )
    options, command = parse(line.format(path, "--name line --batch_size 16 --iterable false"))
    assert (options["name"], options["batch_size"], options["iterable"]) == ("line", 16, False)
    assert options["input_columns"] == ["question"]
    assert options["max_sequence_length"] == [64]
    assert (options["learning_rate"], options["num_cycles"], options["max_time"]) == (1e-5, 2.0, "00:01:30:00")
    assert options["adamw_betas"] == (1.0, 2.0)
    assert command.config == str(path)


def test_a_printed_configuration_is_the_same_run(tmp_path):
    words = (
        "--iterable --learning_rate 1e-5 --adamw_betas .8 .99 --num_labels 3 --devices 0,1 --val_check_interval 1.0 "
        "--limit_val_batches 1 --max_time 00:12:00:00 --precision 16 --deterministic warn --seed -1 "
        "--train_dataset null"
    )
    given = gather(f"{REQUIRED} {words}".split())
    groups = parser.groups_of(parser.select(given))
    options, _ = parser.parse(given, groups)
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(parser.grouped(groups, options)))
    assert set(read_config(str(path))) == set(options)
    again, _ = parse(f"--config {path}")
    assert again == options
    assert [type(value) for value in again.values()] == [type(value) for value in options.values()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--batch_sise 8", "--batch_sise: unknown flag. Did you mean '--batch_size'?"),
        ("--zzz 8", "--zzz: unknown flag."),
        ("--input_colum a", "--input_colum: unknown flag. Did you mean '--input_column'?"),
        ("--num_cycles 2", "--num_cycles: this run has no such flag; it belongs to --scheduler cosine."),
        (
            "--adafactor_beta1 .9",
            "--adafactor_beta1: this run has no such flag; it belongs to --optimizer adafactor.",
        ),
        ("--probability .2", "--probability: this run has no such flag; it belongs to --pipeline masked_lm."),
        ("--default_root_dir x", "--default_root_dir: this argument of the Trainer is not a flag: see --output_dir."),
        ("--batch_size 0", "--batch_size: found '0', expected an integer at least 1."),
        ("--batch_size", "--batch_size: found no value, expected an integer at least 1."),
        ("--batch_size 8 9", "--batch_size: found '8' '9', expected an integer at least 1."),
        ("--learning_rate -1", "--learning_rate: found '-1', expected a number at least 0."),
        ("--learning_rate fast", "--learning_rate: found 'fast', expected a number at least 0."),
        ("--iterable maybe", "--iterable: found 'maybe', expected true or false."),
        ("--monitor_direction maxx", "expected one of max, min. Did you mean 'max'?"),
        ("--max_time 12h", "--max_time: found '12h', expected a text like DD:HH:MM:SS or none."),
        (
            "--val_check_interval x",
            "expected an integer at least 1 or a number at most 1 and greater than 0 or a text like DD:HH:MM:SS",
        ),
        ("--strategy dpp", "Did you mean 'ddp'?"),
        ("--accelerator gpuu", "Did you mean 'gpu'?"),
        ("--precision fp16", "--precision: found 'fp16', expected one of 64, 32, 16,"),
        ("--max_sequence_length 1 x", "expected auto or one or more values, each an integer at least 1."),
    ],
)
def test_every_mistake_has_one_message(words, message):
    assert message in refuse(f"{REQUIRED} {words}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_sise: 8", "{path}:1: batch_sise: unknown flag. Did you mean 'batch_size'?"),
        ("seed: 1\nbatch_size: many", "{path}:2: batch_size: found 'many', expected an integer at least 1."),
        ("seed:", "{path}:1: seed: found nothing, expected an integer."),
        ("num_cycles: 1", "{path}:1: num_cycles: this run has no such flag; it belongs to --scheduler cosine."),
        ("seed: [1]", "{path}:1: seed: found the list '1', expected an integer."),
        (
            "input_columns: []",
            "{path}:1: input_columns: found an empty list, expected one or more values, each a text.",
        ),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_place(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text + "\n")
    line = REQUIRED.replace("--batch_size 8", "").replace("--input_columns a b", "")
    assert message.format(path=path) in refuse(f"{line} --config {path}")


def test_all_that_is_missing_is_listed_at_once_with_all_that_is_wrong():
    message = refuse("--pipeline seq_class --batch_size x --seed y")
    assert message.splitlines() == [
        "--batch_size: found 'x', expected an integer at least 1.",
        "--seed: found 'y', expected an integer.",
        "Missing: --model, --name, --input_columns. Add --help to read what they mean.",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--pipeline seq_clas", "--pipeline: unknown pipeline 'seq_clas'. Did you mean 'seq_class'?"),
        ("--model bertt", "--model: unknown model 'bertt'. Did you mean 'bert'?"),
        ("--optimizer adam", "--optimizer: unknown optimizer 'adam'. Did you mean 'adamw'?"),
        ("--scheduler cosin", "--scheduler: unknown scheduler 'cosin'. Did you mean 'cosine'?"),
        ("--model", "--model: expected one name of bert."),
        ("--pipeline a b", "--pipeline: expected one name of masked_lm, seq_class."),
    ],
)
def test_a_name_that_no_table_has_is_refused_before_anything_is_imported(line, message):
    with pytest.raises(ConfigurationError) as error:
        parser.select(gather(line.split()))
    assert message in str(error.value)


def test_joined_pipelines_have_the_flags_of_both_and_their_weights():
    line = REQUIRED.replace("seq_class", "seq_class+masked_lm")
    options, _ = parse(f"{line} --num_labels 3 --probability 0.3 --seq_class_weight 0.5")
    assert {name: options[name] for name in options if name.endswith("_weight")} == {
        "masked_lm_weight": 2.0,
        "seq_class_weight": 0.5,
    }
    assert (options["num_labels"], options["probability"]) == (3, 0.3)
    assert "this run has no such flag" in refuse(f"{REQUIRED} --probability 0.3")


def test_variables_of_the_environment_are_named_in_messages(monkeypatch):
    monkeypatch.setenv("TRANSFORMERS_FRAMEWORK_SEED", "many")
    monkeypatch.setenv("TRANSFORMERS_FRAMEWORK_BATCH_SISE", "8")
    monkeypatch.setenv("TRANSFORMERS_FRAMEWORK_LR", "1e-3")
    assert set(refuse(f"{REQUIRED} --default_env").splitlines()) == {
        "TRANSFORMERS_FRAMEWORK_SEED: found 'many', expected an integer.",
        "TRANSFORMERS_FRAMEWORK_BATCH_SISE: unknown flag. Did you mean 'TRANSFORMERS_FRAMEWORK_BATCH_SIZE'?",
        "TRANSFORMERS_FRAMEWORK_LR: unknown flag. Did you mean 'TRANSFORMERS_FRAMEWORK_LEARNING_RATE=RATE'?",
    }


def print_config(line):
    given = gather(line.split())
    groups = parser.groups_of(parser.select(given))
    options, command = parser.parse(given, groups)
    return parser.printed(groups, options, command.print_config)


def test_a_template_needs_no_required_flag_and_says_what_is_missing_when_it_is_read(tmp_path):
    template = print_config("--pipeline seq_class --seed 3 --print_config")
    assert "\nmodel: null\n" in template
    assert "\nseed: 3\n" in template
    assert "\ninput_columns: null\n" in template
    (tmp_path / "run.yaml").write_text(template)
    message = refuse(f"--config {tmp_path}/run.yaml --model bert")
    assert "batch_size: found nothing, expected an integer at least 1." in message
    short = print_config("--pipeline seq_class --print_config=skip_null,skip_default")
    assert short == "# run\npipeline: seq_class\n"


def test_comments_explain_each_flag_and_are_read_over(tmp_path):
    text = print_config(f"{REQUIRED} --print_config=comments")
    assert "\n# Text columns. (one or more values, each a text)\ninput_columns: [a, b]\n" in text
    (tmp_path / "run.yaml").write_text(text)
    assert parse(f"--config {tmp_path}/run.yaml")[0] == parse(REQUIRED)[0]
    message = (
        "--print_config: found 'comment', expected some of comments, skip_null, skip_default. Did you mean 'comments'?"
    )
    with pytest.raises(ConfigurationError) as error:
        print_config(f"{REQUIRED} --print_config comment")
    assert str(error.value) == message
