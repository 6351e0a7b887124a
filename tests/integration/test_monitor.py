"""``--monitor``: a direction in which the worst state would be kept is warned of, for every metric that is logged."""

import pytest

from tests import runs, tiny
from transformers_framework import preflight
from transformers_framework.pipelines.log_names import direction

ERRORS = {"loss", "perplexity", "mean_squared_error", "mean_absolute_error"}
STABILITY = {"permutation_change", "permutation_change_max", "permutation_flipped"}
NEITHER = {"replaced_ratio", "null_score_threshold"}


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
        ("valid/seq_class/mean_absolute_error", None, "where it is largest. Give --monitor_direction min."),
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
