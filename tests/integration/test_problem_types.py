"""Several classes a row, and numbers: whole runs, exports for transformers' pipeline, one process and two."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import transformers
from datasets import Dataset, Features, List, Value

from tests import runs, tiny
from tests.tolerances import approx
from transformers_framework.several.comparison import compare
from transformers_framework.several.finished_runs import find_run
from transformers_framework.storage.run_folders import RunFolders

KINDS = ("multi_label", "regression")
SIZES = {"train": 160, "valid": 23, "test": 27, "predict": 9}  # the last for two processes leaves one alone
MONITOR = {"multi_label": "valid/seq_class/micro_f1", "regression": "valid/seq_class/spearman"}
LOGGED = {
    "multi_label": {"accuracy", "f1", "micro_f1", *(f"f1_class_{name}" for name in runs.CLASSES)},
    "regression": {"pearson", "spearman", "mean_squared_error", "mean_absolute_error"},
}
TWO = {"devices": 2, "strategy": "ddp"}


def rows(kind: str, n: int, seed: int) -> list[dict[str, Any]]:
    """Texts about none, one or several topics; labels are these, or how much of the text is about any."""
    draw, made = random.Random(seed), []
    for _ in range(n):
        topics = sorted(draw.sample(runs.CLASSES, draw.choice([0, 1, 1, 2])))
        words = [draw.choice(tiny.TOPICS[topic]) for topic in topics for _ in range(2)]
        words += draw.choices(tiny.FILLERS, k=draw.randint(2, 6))
        share = sum(word not in tiny.FILLERS for word in words) / len(words)
        draw.shuffle(words)
        made.append({"text": " ".join(words), "labels": topics if kind == "multi_label" else share})
    return made


class Done(NamedTuple):
    """A run of two processes, and the flags of its data."""

    kind: str
    folder: Path
    two: RunFolders
    data: dict[str, Path]

    def rows(self, stage: str) -> list[dict[str, Any]]:
        return rows(self.kind, SIZES[stage], [*SIZES].index(stage))


@pytest.fixture(scope="module", params=KINDS)
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Done:
    kind, folder, data = request.param, tmp_path_factory.mktemp(request.param), {}
    for seed, (stage, size) in enumerate(SIZES.items()):
        some = rows(kind, size, seed)
        if stage == "predict":
            some = [{"text": row["text"]} for row in some]
        data[f"{stage}_dataset"] = tiny.write_jsonl(folder / f"{stage}.jsonl", some)
    flags: dict[str, Any] = {"problem_type": "regression"} if kind == "regression" else {}
    no_dropout = ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]
    flags |= {"additional_config_kwargs": no_dropout, "no_epoch_checkpointing": True, "no_val_checkpointing": True}
    two, said = runs.spawn(
        folder, pipeline="seq_class", name="two", label_column="labels", monitor=MONITOR[kind], batch_size=4,
        max_epochs=10, learning_rate=2e-3, **TWO, **flags, **data,
    )  # fmt: skip
    assert ("'labels' holds lists" in said) is (kind == "multi_label")
    return Done(kind, folder, two, data)


def test_names_in_logs(done: Done) -> None:
    logged = runs.metric_names(done.two)
    assert logged == {
        *(f"{stage}/loss" for stage in ("train", "valid", "test")),
        *(f"{stage}/seq_class/{name}" for stage in ("train", "valid", "test") for name in ("loss", *LOGGED[done.kind])),
    }


def test_one_process_says_what_two_say(done: Done) -> None:
    """The export knows what it learned: nothing but data and a column is given."""
    data = {key: path for key, path in done.data.items() if key != "train_dataset"}
    flags: dict[str, Any] = {
        "label_column": "labels",
        "pre_trained_model": done.two.pre_trained_models / "best",
        **data,
    }
    one = runs.run(done.folder, pipeline="seq_class", name="one", eval_batch_size=5, **flags)
    # Batches of other sizes round predictions otherwise (1e-7), and a correlation divides by their small spread.
    assert runs.metrics(one, "test") == approx(runs.metrics(done.two, "test"))
    compared = compare([find_run("two", done.two.output_dir)], stage="test", num_resamples=50)
    assert compared.cells.keys() == compared.units.keys(), "all metrics and the loss are computed again, and equal"
    best = max(value for _, value in runs.scalars(done.two)[MONITOR[done.kind]])
    assert runs.metrics(one, "valid")[MONITOR[done.kind]] == approx(best)
    for stage in ("test", "predict"):
        ours, theirs = runs.predictions(one, stage), runs.predictions(done.two, stage)
        assert [row["id"] for row in ours] == list(range(SIZES[stage]))
        for first, second in zip(ours, theirs, strict=True):
            assert first.keys() == second.keys()
            for key in ("prediction", "scores"):
                if isinstance(first.get(key), (float, dict)):
                    assert first[key] == approx(second[key])
                else:
                    assert first.get(key) == second.get(key)


def test_metrics_are_those_of_the_predictions(done: Done) -> None:
    from scipy import stats
    from sklearn import metrics

    lines, logged = runs.predictions(done.two, "test"), runs.metrics(done.two, "test")
    assert [line["labels"] for line in lines] == [row["labels"] for row in done.rows("test")]
    if done.kind == "regression":
        found, wanted = ([line[key] for line in lines] for key in ("prediction", "labels"))
        assert logged["test/seq_class/pearson"] == approx(stats.pearsonr(found, wanted).statistic)
        assert logged["test/seq_class/spearman"] == approx(stats.spearmanr(found, wanted).statistic)
        mean = metrics.mean_squared_error(wanted, found)
        assert logged["test/seq_class/mean_squared_error"] == approx(mean)
        assert logged["test/loss"] == approx(mean)
        return
    found, wanted = (
        np.array([[name in line[key] for name in runs.CLASSES] for line in lines]) for key in ("prediction", "labels")
    )
    scores = np.array([[line["scores"][name] for name in runs.CLASSES] for line in lines])
    assert np.array_equal(scores > 0.5, found)
    assert logged["test/seq_class/accuracy"] == approx(metrics.accuracy_score(wanted, found))
    assert logged["test/seq_class/micro_f1"] == approx(metrics.f1_score(wanted, found, average="micro"))
    assert logged["test/seq_class/f1"] == approx(metrics.f1_score(wanted, found, average="macro"))
    entropy = -np.where(wanted, np.log(scores), np.log1p(-scores)).mean()
    assert logged["test/loss"] == approx(entropy)
    assert logged["test/seq_class/micro_f1"] > 0.3, "it was learned"


def test_the_export_gives_the_same_in_a_pipeline_of_transformers(done: Done) -> None:
    folder = done.two.pre_trained_models / "best"
    config = transformers.AutoConfig.from_pretrained(folder)
    expected = {"multi_label": "multi_label_classification", "regression": "regression"}[done.kind]
    assert config.problem_type == expected
    assert tuple(config.id2label.values()) == (runs.CLASSES if done.kind == "multi_label" else ("labels",))
    classify = transformers.pipeline("text-classification", model=str(folder), top_k=None)
    lines = runs.predictions(done.two, "predict")
    for line, answers in zip(lines, classify([line["text"] for line in lines]), strict=True):
        scores = {answer["label"]: answer["score"] for answer in answers}
        ours = line["scores"] if done.kind == "multi_label" else {"labels": line["prediction"]}
        assert scores == approx(ours)


def test_a_saved_data_set_with_empty_lists_in_half_precision(tmp_path: Path) -> None:
    """Labels of numbers are not rounded: the loss of a model that says nothing is their mean square."""
    numbers = [1.001, 2.002, 3.003, 4.004] * 4
    data = {"test_dataset": tiny.write_jsonl(tmp_path / "t.jsonl", [{"text": "rain", "label": x} for x in numbers])}
    checkpoint = tiny.save_checkpoint(
        "bert", tmp_path / "flat", "AutoModelForSequenceClassification", num_labels=1, initializer_range=1e-8
    )
    folders = runs.run(
        tmp_path,
        pipeline="seq_class",
        problem_type="regression",
        precision="bf16-true",
        pre_trained_model=checkpoint,
        **data,
    )
    found = runs.metrics(folders, "test")["test/seq_class/mean_squared_error"]
    assert found == approx(np.mean(np.square(numbers)))
    features = Features({"text": Value("string"), "label": List(Value("string"))})
    some = [["rain"], [], ["rain", "snow"], ["snow"]] * 4
    Dataset.from_dict({"text": ["rain"] * 16, "label": some}, features=features).save_to_disk(tmp_path / "saved")
    folders = runs.run(tmp_path, pipeline="seq_class", name="lists", train_dataset=tmp_path / "saved", max_steps=1)
    assert runs.metrics(folders, "train")["train/seq_class/accuracy"] <= 1


@pytest.mark.parametrize("pipeline", ["seq_class", "answer_selection", "token_class"])
def test_smoothing_changes_the_loss_as_torch_would(tmp_path: Path, pipeline: str) -> None:
    """With scores s of the right class, the smoothed loss lies between those of the labels and of even chances."""
    source = tiny.write_jsonl(tmp_path / "rows.jsonl", runs.rows_for(pipeline, 24, 0))
    started = runs.run(tmp_path, pipeline=pipeline, name="start", train_dataset=source, max_steps=1)
    export = started.pre_trained_models / "final"
    losses = []
    for share in (0, 0.2, 0.4):
        done = runs.run(
            tmp_path,
            pipeline=pipeline,
            name=f"s{share}",
            label_smoothing=share,
            pre_trained_model=export,
            test_dataset=source,
        )
        losses.append(runs.metrics(done, "test")["test/loss"])
    assert losses[0] != approx(losses[1])
    assert losses[2] - losses[1] == approx(losses[1] - losses[0]), "it is linear in the share"


@pytest.mark.parametrize("kind", KINDS)
def test_resume_is_bit_for_bit(kind: str, tmp_path: Path) -> None:
    """In the middle of an epoch, with dropout; the classes of several labels are found again."""
    flags: dict[str, Any] = {
        "pipeline": "seq_class", "label_column": "labels", "scheduler": "constant", "no_epoch_checkpointing": True,
        "train_dataset": tiny.write_jsonl(tmp_path / "train.jsonl", rows(kind, 40, 5)),
        **({"problem_type": kind} if kind == "regression" else {}),
    }  # fmt: skip
    whole = runs.run(tmp_path, name="whole", max_steps=8, **flags)  # 5 steps an epoch
    runs.run(tmp_path, name="parts", max_steps=3, **flags)
    parts = runs.run(tmp_path, name="parts", max_steps=8, resume=True, **flags)
    assert runs.weights_are_equal(*(folders.pre_trained_models / "final" for folders in (parts, whole)))


def test_a_step_whose_labels_weigh_nothing_has_no_loss(tmp_path: Path) -> None:
    """Smoothing gives such labels a loss; divided by nearly nothing, it would fill Adam's moments for good."""
    few = tiny.classes(40, 0)
    data = tiny.write_jsonl(tmp_path / "rows.jsonl", [{**row, "label": int(i == 39)} for i, row in enumerate(few)])
    flags = {"train_dataset": data, "label_weights": [0, 1], "label_smoothing": 0.2, "batch_size": 2, "max_steps": 2}
    with runs.watched() as seen:
        folders = runs.run(tmp_path, pipeline="seq_class", accumulate_grad_batches=2, length_bucketing=False, **flags)
    assert set(seen.gradients.values()) == {0.0}
    assert "train/loss" not in runs.metrics(folders, "train")
