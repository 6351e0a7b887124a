"""Every pipeline with every family of the registry: trains, validates, tests, predicts, exports, reloads.

One family a pipeline by default, and one with a decoder; the whole grid with ``-m slow``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers

from tests import runs, tiny
from transformers_framework.registry import MODELS, PIPELINES, resolve
from transformers_framework.runtime.run_folders import RunFolders

DEFAULT = {("answer_selection", "bert"), ("seq_class", "roberta"), ("seq_class", "bart"), ("token_class", "distilbert")}
RANKING = ("mean_average_precision", "mean_reciprocal_rank", "ndcg", "precision@1", "hitrate@5")
CLASS_F1 = tuple(f"f1_class_{name}" for name in runs.CLASSES)
TAGS = ("B-animals", "B-kitchen", "I-animals", "I-kitchen", "O")
TAG_F1 = tuple(f"f1_class_{name}" for name in TAGS)
TAGGING = ("named_entity_recognition", "pos_tagging", "token_class")  # one objective, token_class
# contract §2: names in logs, in training and outside of it
LOGGED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "answer_selection": (("loss", "accuracy", "f1"), ("loss", "accuracy", "f1", *RANKING)),
    "seq_class": (("loss", "accuracy", "f1", *CLASS_F1), ("loss", "accuracy", "f1", *CLASS_F1)),
    **dict.fromkeys(
        TAGGING,
        (
            ("loss", "accuracy", "f1", *TAG_F1),
            ("loss", "accuracy", "f1", *TAG_F1, "entity_f1", "entity_precision", "entity_recall"),
        ),
    ),
}
MONITOR = {
    "answer_selection": "valid/answer_selection/mean_average_precision",
    "seq_class": "valid/seq_class/accuracy",
    **dict.fromkeys(TAGGING, "valid/token_class/accuracy"),
}
TEXTS = {"answer_selection": ("question", "answer"), "seq_class": ("text",)}
# what a family computes and its classifier never uses: the last layer's local attention of a token that sees everything
UNUSED = {"longformer": r"layer\.1\.attention\.self\.(query|key|value)\."}
SIZES = (40, 23, 27, 13)  # of train, valid, test, predict; steps of 8 rows leave a smaller last one


def has_head(family: str, head: str) -> bool:
    configs = transformers.CONFIG_MAPPING
    return MODELS[family] in configs and configs[MODELS[family]] in getattr(transformers, head)._model_mapping


def grid() -> list[Any]:
    """Every valid pair of pipeline and family, those that are no default marked slow."""
    pairs = [
        (pipeline, family)
        for pipeline, spec in PIPELINES.items()
        for family in MODELS
        if family != "auto" and all(has_head(family, resolve(place).head) for place in spec.objectives)
    ]
    marks: dict[bool, Any] = {True: (), False: (pytest.mark.slow,)}
    return [pytest.param(pair, marks=marks[pair in DEFAULT], id="-".join(pair)) for pair in pairs]


class Trained(NamedTuple):
    """A run of two epochs and what is to be known about it."""

    pipeline: str
    family: str
    folder: Path
    folders: RunFolders
    start: dict[str, torch.Tensor]
    trained: dict[str, torch.Tensor]
    gradients: dict[str, float]
    log_names: list[str]

    @property
    def objective(self) -> str:
        return "token_class" if self.pipeline in TAGGING else self.pipeline

    @property
    def data(self) -> dict[str, Path]:
        return {f"{stage}_dataset": self.folder / "data" / f"{stage}.jsonl" for stage in runs.STAGES}

    def run(self, **flags: Any) -> RunFolders:
        return runs.run(self.folder, pipeline=self.pipeline, model=self.family, **flags)

    def rows(self, stage: str) -> list[dict[str, Any]]:
        return runs.rows_for(self.pipeline, SIZES[runs.STAGES.index(stage)], runs.STAGES.index(stage))

    def scores_of(self, checkpoint: Path, stage: str = "test") -> torch.Tensor:
        """Scores that an exported checkpoint gives, by nothing but transformers, row after row."""
        if self.pipeline in TAGGING:
            return runs.word_scores_of(checkpoint, [row["words"] for row in self.rows(stage)])
        texts = [[row[column] for column in TEXTS[self.pipeline]] for row in self.rows(stage)]
        logits = runs.logits_of(checkpoint, texts)
        return logits[:, 1] - logits[:, 0] if self.pipeline == "answer_selection" else logits.softmax(dim=-1).flatten()

    @property
    def exports(self) -> Path:
        return self.folders.pre_trained_models


def scores(rows: list[dict[str, Any]]) -> torch.Tensor:
    return torch.cat([torch.tensor(row["scores"]).flatten() for row in rows])


@pytest.fixture(scope="module", params=grid())
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    pipeline, family = request.param
    folder = tmp_path_factory.mktemp(f"{pipeline}-{family}")
    with runs.watched() as seen:
        folders = runs.run(
            folder,
            pipeline=pipeline,
            model=family,
            **runs.datasets(folder / "data", pipeline, SIZES),
            max_epochs=2,
            monitor=MONITOR[pipeline],
            weight_decay=0.01,
            learning_rate=3e-3,
        )
    module = seen.experiment.module
    parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
    data = {f"{stage}_dataset": folder / "data" / f"{stage}.jsonl" for stage in runs.STAGES}
    fresh = runs.build(runs.command(folder, pipeline=pipeline, model=family, **data)).module
    start = {name: value.detach() for name, value in fresh.named_parameters()}
    gradients = {name: seen.gradients.get(id(value), 0.0) for name, value in parameters.items()}
    names = seen.experiment.log_names
    return Trained(
        pipeline, family, folder, folders, start, {k: v.detach() for k, v in parameters.items()}, gradients, names
    )


def test_every_parameter_has_a_gradient_and_moves(trained: Trained) -> None:
    assert trained.gradients
    alive = [name for name in trained.gradients if not re.search(UNUSED.get(trained.family, "$^"), name)]
    assert [name for name in alive if not trained.gradients[name] > 0] == []
    # with weight decay a matrix would shrink without any gradient; vectors have none and must move too
    assert [name for name in alive if torch.equal(trained.trained[name], trained.start[name])] == []


def test_exports_give_the_logits_of_the_run(trained: Trained) -> None:
    steps = sorted(path.name for path in trained.exports.glob("ckpt_epoch_*"))
    assert steps == ["ckpt_epoch_0_step_5", "ckpt_epoch_1_step_10"]
    best = scores(runs.predictions(trained.folders))  # the best checkpoint is tested, for there is a monitor
    torch.testing.assert_close(trained.scores_of(trained.exports / "best"), best, atol=2e-5, rtol=1e-4)

    last = trained.run(name="last", ckpt_path=trained.folders.last, test_dataset=trained.data["test_dataset"])
    expected = scores(runs.predictions(last))
    for name in ("final", "ckpt_epoch_1_step_10"):
        torch.testing.assert_close(trained.scores_of(trained.exports / name), expected, atol=2e-5, rtol=1e-4)
    assert not torch.allclose(trained.scores_of(trained.exports / "ckpt_epoch_0_step_5"), expected, atol=2e-5)


def test_logs_are_those_of_the_contract(trained: Trained) -> None:
    in_training, outside = LOGGED[trained.pipeline]
    names = {f"{stage}/{trained.objective}/{metric}" for stage in ("valid", "test") for metric in outside}
    names |= {f"train/{trained.objective}/{metric}" for metric in in_training}
    names |= {f"{stage}/loss" for stage in ("train", "valid", "test")}
    logged = runs.scalars(trained.folders)
    assert set(logged) - {"epoch", "train/learning_rate"} == names
    assert set(trained.log_names) == {name for name in names if not name.startswith("test/")}
    assert [step for step, _ in logged["train/loss"]] == list(range(10)), "a point each logging step"
    assert len(logged["valid/loss"]) == len(logged[f"train/{trained.objective}/accuracy"]) == 2, "a point an epoch"
    assert all(value == value for values in logged.values() for _, value in values), "no value is nan"


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_predictions_have_one_row_a_data_row(trained: Trained, stage: str) -> None:
    rows, found = trained.rows(stage), runs.predictions(trained.folders, stage)
    assert [row["id"] for row in found] == list(range(len(rows)))
    for row, line in zip(rows, found, strict=True):
        row = {key: value for key, value in row.items() if stage == "test" or key not in ("label", "labels")}
        assert {key: line[key] for key in row} == row
        assert set(line) == {"id", "scores", "prediction", *row}
        if trained.pipeline == "seq_class":
            assert line["prediction"] == runs.CLASSES[max(range(3), key=line["scores"].__getitem__)]
            assert sum(line["scores"]) == pytest.approx(1, abs=1e-5)
        elif trained.pipeline in TAGGING:
            assert len(line["prediction"]) == len(line["scores"]) == len(row["words"])
            assert set(line["prediction"]) <= set(TAGS)
        else:
            assert line["prediction"] == int(line["scores"] > 0)
    if stage == "predict":
        torch.testing.assert_close(
            trained.scores_of(trained.exports / "best", "predict"), scores(found), atol=2e-5, rtol=1e-4
        )


def test_trec_files_give_the_logged_ranking_metrics(trained: Trained) -> None:
    if trained.pipeline != "answer_selection":
        pytest.skip("nothing is ranked")
    pytrec_eval = pytest.importorskip("pytrec_eval")
    with (trained.folders.predictions / "test.run").open() as run, (
        trained.folders.predictions / "test.qrels"
    ).open() as qrels:  # fmt: skip
        judged, ranked = pytrec_eval.parse_qrel(qrels), pytrec_eval.parse_run(run)
    assert sum(map(len, ranked.values())) == len(trained.rows("test"))
    names = {
        "map": "mean_average_precision",
        "recip_rank": "mean_reciprocal_rank",
        "ndcg": "ndcg",
        "P_1": "precision@1",
    }
    per_query = pytrec_eval.RelevanceEvaluator(judged, set(names)).evaluate(ranked)
    logged = runs.metrics(trained.folders, "test")
    for theirs, ours in names.items():
        mean = sum(query[theirs] for query in per_query.values()) / len(per_query)
        assert logged[f"test/answer_selection/{ours}"] == pytest.approx(mean, abs=1e-6)


def test_model_card_says_where_it_comes_from(trained: Trained) -> None:
    card = (trained.exports / "best" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    for expected in (
        f"# {trained.folders.name}",
        str(trained.data["train_dataset"]),
        f"| {MONITOR[trained.pipeline]} | ",
        "learning_rate: 0.003",
        f"- transformers {transformers.__version__}",
        f"- torch {torch.__version__}",
    ):
        assert expected in card


def test_config_repeats_the_run(trained: Trained) -> None:
    from transformers_framework.cli.main import main

    again = ["--config", str(trained.folders.config), "--name", "again"]
    assert main(again) == 0
    again_folders = RunFolders(trained.folders.output_dir, "again")
    for name in ("best", "final"):
        first, second = runs.weights(trained.exports / name), runs.weights(again_folders.pre_trained_models / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert runs.predictions(again_folders) == runs.predictions(trained.folders)


def test_a_checkpoint_is_tested_without_training(trained: Trained) -> None:
    flags = {"test_dataset": trained.data["test_dataset"], "valid_dataset": trained.data["valid_dataset"]}
    alone = trained.run(name="tested", ckpt_path=trained.folders.best, **flags)
    assert runs.metrics(alone, "test") == runs.metrics(trained.folders, "test")
    assert runs.predictions(alone) == runs.predictions(trained.folders)
    assert runs.metrics(alone, "valid").keys() == runs.metrics(trained.folders, "valid").keys()
    assert not alone.pre_trained_models.exists(), "what trains nothing exports nothing"
    assert not alone.last.exists()


def test_an_export_is_tested_without_training(trained: Trained) -> None:
    best = trained.exports / "best"
    alone = trained.run(name="exported", pre_trained_model=best, test_dataset=trained.data["test_dataset"])
    assert runs.metrics(alone, "test") == pytest.approx(runs.metrics(trained.folders, "test"), abs=1e-6)
    found, expected = runs.predictions(alone), runs.predictions(trained.folders)
    assert [row["prediction"] for row in found] == [row["prediction"] for row in expected], "names of classes are kept"
    torch.testing.assert_close(scores(found), scores(expected), atol=1e-6, rtol=1e-6)
    # and what has no label, of which classes could be learned, is predicted all the same
    unlabelled = trained.run(name="predicted", pre_trained_model=best, predict_dataset=trained.data["predict_dataset"])
    assert runs.predictions(unlabelled, "predict") == runs.predictions(trained.folders, "predict")


def test_tokenizer_and_classes_are_in_the_export(trained: Trained) -> None:
    config = transformers.AutoConfig.from_pretrained(trained.exports / "best")
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained.exports / "best")
    text = "the rain and a tiger?"
    assert tokenizer(text)["input_ids"] == tiny.tokenizer_for(trained.family)(text)["input_ids"]
    names = {"answer_selection": ("0", "1"), "seq_class": runs.CLASSES}.get(trained.pipeline, TAGS)
    assert tuple(config.id2label.values()) == tuple(names)
