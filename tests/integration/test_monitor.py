"""``--monitor``: its defaults, and a warning of a direction in which the worst state would be kept."""

import pytest
import yaml

from tests import runs, tiny
from transformers_framework import preflight
from transformers_framework.cli.main import experiment_of
from transformers_framework.pipelines.log_names import direction

ERRORS = {"loss", "perplexity", "mean_squared_error", "mean_absolute_error"}
STABILITY = {"permutation_change", "permutation_change_max", "permutation_flipped"}
NEITHER = {"replaced_ratio", "unigram_perplexity", "null_score_threshold"}


def build(folder, pipeline, **flags):
    """Return a run on data of its own, its objectives ready."""
    data = runs.datasets(folder / "data", pipeline, sizes=(24, 12, 0, 0))
    given = {name: data[name] for name in ("train_dataset", "valid_dataset")}
    experiment = runs.build(runs.command(folder, pipeline=pipeline, **{**given, **flags}))
    assert experiment.data
    return experiment


def numbers(folder):
    """Write rows with a number to learn; return their flags."""
    rows = [row | {"label": i / 7} for i, row in enumerate(tiny.classes(24))]
    path = tiny.write_jsonl(folder / "numbers.jsonl", rows)
    return {"train_dataset": path, "valid_dataset": path, "problem_type": "regression"}


@pytest.mark.parametrize(
    "pipeline", ["answer_selection -k", "masked_lm", "question_answering", "random_token_detection", "regression"]
)
def test_every_logged_name_has_a_direction(pipeline, tmp_path):
    flags = numbers(tmp_path) if pipeline == "regression" else {}
    if pipeline.endswith("-k"):
        flags |= {"k": 4, "permutation_check": 1, "max_sequence_length": 100, "classification_head_type": "RE_k"}
    experiment = build(tmp_path, {"regression": "seq_class"}.get(pipeline, pipeline.split()[0]), **flags)
    assert experiment.log_names
    for name in experiment.log_names:
        metric = name.rsplit("/", 1)[-1]
        expected = None if metric in NEITHER else "min" if metric in ERRORS | STABILITY else "max"
        assert direction(experiment.objectives, name) == expected, name


@pytest.mark.parametrize(
    ("monitor", "given", "warned"),
    [
        ("valid/seq_class/mean_squared_error", "max", "less is better, but --monitor_direction max keeps the state "),
        ("valid/seq_class/mean_absolute_error", "max", "where it is largest. Give --monitor_direction min."),
        ("valid/seq_class/mean_absolute_error", None, None),
        ("train/loss", "max", "less is better"),
        ("valid/seq_class/loss", "min", None),
        ("valid/seq_class/mean_squared_error", "min", None),
        ("valid/seq_class/spearman", "max", None),
        ("valid/seq_class/spearman", "min", "where it is smallest. Give --monitor_direction max."),
    ],
)
def test_the_wrong_direction_is_warned_of(monitor, given, warned, tmp_path, said):
    experiment = build(tmp_path, "seq_class", **numbers(tmp_path), monitor=monitor, monitor_direction=given)
    preflight.monitor(experiment)
    messages = [record.getMessage() for record in said.records if "--monitor " in record.getMessage()]
    assert len(messages) == (warned is not None)
    assert all(message.startswith(f"--monitor {monitor}: ") and warned in message for message in messages)


def test_a_class_called_loss_is_no_loss(tmp_path):
    rows = tiny.classes(24, names=("loss", "a/loss"))
    path = tiny.write_jsonl(tmp_path / "named.jsonl", rows)
    experiment = build(tmp_path, "seq_class", train_dataset=path, valid_dataset=path)
    named = [name for name in experiment.log_names if name.endswith("loss") and "f1" in name]
    assert len(named) == 4
    assert {direction(experiment.objectives, name) for name in named} == {"max"}


TAGS = [["NOUN", "VERB", "ADP"], ["NOUN", "NOUN", "VERB"]] * 6
MAIN = {
    "answer_selection": ("valid/answer_selection/mean_average_precision", "max"),
    "answer_selection -k": ("valid/answer_selection/mean_average_precision", "max"),
    "denoising": ("valid/loss", "min"),
    "pos": ("valid/token_class/accuracy", "max"),
    "masked_lm": ("valid/loss", "min"),
    "masked_lm+seq_class": ("valid/seq_class/accuracy", "max"),
    "masked_lm_and_token_class": ("valid/token_class/entity_f1", "max"),
    "multi_label": ("valid/seq_class/micro_f1", "max"),
    "question_answering": ("valid/question_answering/f1", "max"),
    "regression": ("valid/seq_class/mean_squared_error", "min"),
    "retrieval": ("valid/retrieval/mean_average_precision", "max"),
    "summarization": ("valid/summarization/rougeL_fmeasure", "max"),
}


@pytest.mark.parametrize("case", MAIN)
def test_the_main_metric_of_the_last_task_is_monitored(case, tmp_path):
    flags, models = numbers(tmp_path) if case == "regression" else {}, {"denoising": "t5", "summarization": "t5"}
    rows = {
        "multi_label": [row | {"label": [row["label"]]} for row in tiny.classes(12)],
        "pos": [{"words": ["a", "b", "c"], "labels": tags} for tags in TAGS],
    }.get(case)
    if rows:
        path = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
        flags = {"train_dataset": path, "valid_dataset": path}
    if case.endswith("-k"):
        flags = {"k": 4, "max_sequence_length": 100}
    pipelines = {"regression": "seq_class", "multi_label": "seq_class", "pos": "pos_tagging"}
    pipeline = pipelines.get(case, case.split()[0])
    experiment = build(tmp_path, pipeline, model=models.get(case, "bert"), **flags, monitor=None)
    assert (experiment.selection.monitor, experiment.selection.direction) == MAIN[case]
    preflight.monitor(experiment)
    assert experiment.by_default == {"monitor": MAIN[case][0]}


@pytest.mark.parametrize(
    "flags",
    [
        {"valid_dataset": None},
        {"limit_val_batches": 0},
        {"train_dataset": None},
        {"stochastic_weight_averaging": True},
        {"monitor": "none"},
    ],
    ids=lambda flags: next(iter(flags)),
)
def test_nothing_is_monitored_without_need(flags, tmp_path):
    experiment = build(tmp_path, "seq_class", **{"monitor": None, **flags})
    assert experiment.final_options["monitor"] is None
    (tmp_path / "again.yaml").write_text(experiment.config_yaml)
    again = experiment_of(["--config", str(tmp_path / "again.yaml")])
    assert again.given["monitor"] is None, "the file of the run repeats it"


def test_a_value_that_is_given_is_no_default(tmp_path):
    experiment = build(tmp_path, "seq_class", batch_size=32, monitor=None)
    assert experiment.by_default == {"monitor": "valid/seq_class/accuracy"}
    experiment = build(tmp_path, "seq_class", batch_size=None, monitor="auto")
    assert experiment.by_default == {"batch_size": 32, "monitor": "valid/seq_class/accuracy"}
    experiment = build(tmp_path, "seq_class", learning_rate=None)
    assert experiment.by_default["learning_rate"] == 1e-4
    experiment = build(tmp_path, "seq_class", learning_rate=None, train_dataset=None)
    assert "learning_rate" not in experiment.by_default


def test_defaults_are_written_and_a_resumed_run_keeps_its_own(tmp_path, said):
    short = {"batch_size": None, "max_sequence_length": None, "monitor": None, "pipeline": "seq_class"}
    done = runs.run(tmp_path, **short)
    name = "valid/seq_class/accuracy"
    line = f"By default: --max_sequence_length 128, --batch_size 32, --monitor {name} (the highest is best)"
    assert line in said.text
    written = yaml.safe_load(done.config.read_text())
    assert (written["monitor"], written["monitor_direction"], written["max_sequence_length"]) == (name, "max", [128])
    assert done.read_results()["best"]["monitor"] == name
    card = (done.pre_trained_models / "best/README.md").read_text()
    assert f"with the highest `{name}`" in card
    assert "max_sequence_length:\n- 128" in card
    # as a run of an earlier version, which had no metric by default
    old = runs.run(tmp_path, **short | {"monitor": "none", "max_sequence_length": 48}, name="old")
    assert not old.best.exists()
    runs.run(tmp_path, **short, name="old", resume=True, max_epochs=2)
    written = yaml.safe_load(old.config.read_text())
    assert (written["monitor"], written["max_sequence_length"], written["max_epochs"]) == (None, [48], 2)
    assert not old.best.exists()
    assert runs.build(runs.command(tmp_path, **short, ckpt_path=old.last)).max_length == 48
