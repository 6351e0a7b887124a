"""Every pipeline with every family of the registry: trains, validates, tests, predicts, exports, reloads.

One family a pipeline by default, and one with a decoder; the whole grid with ``-m slow``. What a pipeline is
held to stands in ``tests/cases.py``.
"""

from __future__ import annotations

import importlib.util
import json
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from huggingface_hub import ModelCard

from tests import runs, tiny
from tests.cases import (
    CASES,
    CLASSES,
    DEFAULT,
    HIDING,
    LABELS,
    LOGGED,
    ROUGE,
    TAGS,
    WRITING,
    Case,
    auto_class,
    case_of,
    monitor_of,
)
from tests.tolerances import BACKWARD, FORWARD, approx, assert_close, assert_values_close, rounding
from transformers_framework import load
from transformers_framework.data.sampler import BatchRequest
from transformers_framework.models.own_families import ensure_registered
from transformers_framework.processing.json_text import to_json
from transformers_framework.registry import MODELS, PIPELINES, resolve
from transformers_framework.storage.run_folders import RunFolders

WRITTEN_BESIDE = {"denoising": ("target",), "summarization": tuple(n for n in ROUGE if n.endswith("_fmeasure"))}
TEXTS = {"answer_selection": ("question", "answer"), "retrieval": ("question", "answer"), "seq_class": ("text",)}
# what a family computes and its classifier never uses: the last layer's local attention of a token that sees everything
UNUSED = {"longformer": r"layer\.1\.attention\.self\.(query|key|value)\."}
# replacements follow what was counted in training, which a checkpoint of Lightning holds and an export does not
COUNTED = {("cluster_random_token_detection", "test")}
SIZES = (40, 23, 27, 13)  # of train, valid, test, predict; steps of 8 rows leave a smaller last one


def grid() -> list[Any]:
    """Every valid pair of pipeline and family, those that are no default marked slow and grid."""

    configs = transformers.CONFIG_MAPPING  # an older transformers lacks some families

    def fits(family: str, case: Case) -> bool:
        model_type = MODELS[family].model_type
        ensure_registered(model_type)
        heads = [auto_class(objective, family)._model_mapping for objective in case.objectives]
        return model_type in configs and all(configs[model_type] in known for known in heads)

    pairs = [
        (name, family) for name, case in CASES.items() for family in MODELS if family != "auto" and fits(family, case)
    ]
    others = (pytest.mark.slow, pytest.mark.grid)
    return [pytest.param(pair, marks=() if pair in DEFAULT else others, id="-".join(pair)) for pair in pairs]


class Trained(NamedTuple):
    """A run of two epochs, an untrained twin of it, and what is to be known about both."""

    pipeline: str
    family: str
    folder: Path
    folders: RunFolders
    twin: Any
    start: dict[str, torch.Tensor]
    trained: dict[str, torch.Tensor]
    gradients: dict[str, float]
    log_names: list[str]

    @property
    def case(self) -> Case:
        return case_of(self.pipeline, self.family)

    @property
    def evaluated(self) -> tuple[str, ...]:
        return self.case.evaluated or self.case.objectives

    @property
    def monitor(self) -> str:
        return monitor_of(self.case)

    @property
    def data(self) -> dict[str, Path]:
        return {f"{stage}_dataset": self.folder / "data" / f"{stage}.jsonl" for stage in runs.STAGES}

    @property
    def exports(self) -> Path:
        return self.folders.pre_trained_models

    def run(self, **flags: Any) -> RunFolders:
        return runs.run(self.folder, **{"pipeline": self.pipeline, "model": self.family, **self.case.flags, **flags})

    def rows(self, stage: str) -> list[dict[str, Any]]:
        return runs.rows_for(self.pipeline, SIZES[runs.STAGES.index(stage)], runs.STAGES.index(stage))

    def predictions(self, stage: str, objective: str, folders: RunFolders | None = None) -> list[dict[str, Any]]:
        name = stage if len(self.evaluated) == 1 else f"{stage}.{objective}"
        return runs.predictions(folders or self.folders, name)

    def head(self, checkpoint: str, objective: str) -> Path:
        """Return where the export of a head is."""
        folder = self.exports / checkpoint
        return folder if len(self.case.objectives) == 1 else folder / objective


@pytest.fixture(scope="module", params=grid())
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    pipeline, family = request.param
    folder, case = tmp_path_factory.mktemp(f"{pipeline}-{family}"), case_of(pipeline, family)
    flags: dict[str, Any] = {"pipeline": pipeline, "model": family, **case.flags}
    flags |= runs.datasets(folder / "data", pipeline, SIZES)
    with runs.watched() as seen:
        folders = runs.run(
            folder, **flags, max_epochs=2, monitor=monitor_of(case), weight_decay=0.01, learning_rate=3e-3, keep="all"
        )
    module = seen.experiment.module
    parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
    twin = runs.build(runs.command(folder, **flags))
    start = {name: value.detach().clone() for name, value in twin.module.named_parameters()}
    gradients = {name: seen.gradients.get(id(value), 0.0) for name, value in parameters.items()}
    after = {name: value.detach() for name, value in parameters.items()}
    return Trained(pipeline, family, folder, folders, twin, start, after, gradients, seen.experiment.log_names)


def test_every_pipeline_is_a_case() -> None:
    assert CASES.keys() == PIPELINES.keys() - {"structural_pretraining"}  # which test_structure.py is about
    for name, case in CASES.items():
        assert case.objectives == tuple(resolve(place).name for place in PIPELINES[name].objectives)


# --- learning ---------------------------------------------------------------------------------------------------------


def test_every_parameter_has_a_gradient_and_moves(trained: Trained) -> None:
    assert trained.gradients
    alive = [name for name in trained.gradients if not re.search(UNUSED.get(trained.family, "$^"), name)]
    assert [name for name in alive if not trained.gradients[name] > 0] == []
    # with weight decay a matrix would shrink without any gradient; vectors have none and must move too
    assert [name for name in alive if torch.equal(trained.trained[name], trained.start[name])] == []


def test_logs_are_those_of_the_contract(trained: Trained) -> None:
    names = {f"{stage}/loss" for stage in ("train", "valid", "test")}
    for objective in trained.case.objectives:
        always, outside = LOGGED[objective]
        names |= {f"train/{objective}/{metric}" for metric in ("loss", *always)}
        if objective in trained.evaluated:
            names |= {
                f"{stage}/{objective}/{name}" for stage in ("valid", "test") for name in ("loss", *always, *outside)
            }
    logged = runs.scalars(trained.folders)
    assert runs.metric_names(trained.folders) == names
    assert set(trained.log_names) == {name for name in names if not name.startswith("test/")}
    assert [step for step, _ in logged["train/loss"]] == list(range(10)), "a point each logging step"
    for objective in trained.case.objectives:
        metrics = LOGGED[objective][0]
        assert {len(logged[name]) for name in ("valid/loss", *(f"train/{objective}/{m}" for m in metrics))} == {2}
    assert all(value == value for values in logged.values() for _, value in values), "no value is nan"


# --- exports ----------------------------------------------------------------------------------------------------------


def batch_of(trained: Trained) -> dict[str, torch.Tensor]:
    """Return model inputs of some test rows, as the run collates them."""
    data = trained.twin.data
    batch = data.collator("test")((BatchRequest(0, tuple(range(8))), data.datasets["test"][:8]))
    inputs: dict[str, torch.Tensor] = trained.twin.module._inputs(batch)
    inputs |= {key: own[key] for own in batch.values() if isinstance(own, dict) for key in own if key.startswith("decoder_")}  # fmt: skip  # noqa: E501
    if trained.family == "longformer" and trained.evaluated[-1] in TEXTS:  # what its classifier decides for all heads
        inputs["global_attention_mask"] = (torch.arange(inputs["input_ids"].shape[1]) == 0).long().expand_as(inputs["input_ids"])  # fmt: skip  # noqa: E501
    return inputs


@torch.no_grad()
def logits_of_run(trained: Trained, checkpoint: Path, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return what the heads of the run say when its weights are those of a checkpoint of Lightning."""
    module = trained.twin.module.eval()
    module.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    networks = [module.model.generator, module.model.discriminator] if hasattr(module.model, "generator") else [module.model]  # fmt: skip  # noqa: E501
    return {name: logits_of(output) for network in networks for name, output in network(**inputs).items()}


def logits_of(output: Any) -> torch.Tensor:
    """Return what a head says, of starts and ends together."""
    if "last_hidden_state" in output:
        return output.last_hidden_state
    return output.logits if "logits" in output else torch.stack([output.start_logits, output.end_logits])


@torch.no_grad()
def logits_of_export(trained: Trained, name: str, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the same of an export, with nothing but transformers."""
    heads = {o: auto_class(o, trained.family).from_pretrained(trained.head(name, o)) for o in trained.case.objectives}
    return {objective: logits_of(head.eval()(**inputs)) for objective, head in heads.items()}


def as_exported(objective: str, logits: torch.Tensor) -> torch.Tensor:
    """Return the logits that an export of these logits has: a ranker of two classes has one score."""
    folds = objective == "answer_selection" and logits.shape[-1] == 2
    return logits[..., 1:] - logits[..., :1] if folds else logits


def test_exports_give_the_logits_of_the_run(trained: Trained) -> None:
    steps = sorted(path.name for path in trained.exports.glob("ckpt_epoch_*"))
    assert steps == ["ckpt_epoch_0_step_5", "ckpt_epoch_1_step_10"]
    inputs, last = batch_of(trained), {}
    for checkpoint, names in {"best": ["best"], "last": ["final", "ckpt_epoch_1_step_10"]}.items():
        last = logits_of_run(trained, trained.folders.checkpoints / f"{checkpoint}.ckpt", inputs)
        assert tuple(last) == trained.case.objectives
        for name in names:
            exported = logits_of_export(trained, name, inputs)
            assert exported.keys() == last.keys()
            for objective, logits in exported.items():
                assert_close(as_exported(objective, logits), as_exported(objective, last[objective]))
    first = logits_of_export(trained, "ckpt_epoch_0_step_5", inputs)
    same = (as_exported(name, logits[name]) for name in last for logits in (first, last))
    assert not any(torch.allclose(*pair, atol=rounding(FORWARD)) for pair in zip(same, same, strict=True))


def scores_of(objective: str, checkpoint: Path, rows: Sequence[Mapping[str, Any]], family: str) -> torch.Tensor:
    """Return the scores of texts as they are, row after row, unpadded, with nothing but transformers."""
    if objective == "token_class":
        return runs.word_scores_of(checkpoint, [row["words"] for row in rows])
    if objective == "token_detection":
        return runs.token_logits_of(checkpoint, [row["text"] for row in rows], auto_class(objective, family)).sigmoid()
    if objective == "retrieval":
        head = auto_class(objective, family)
        sides = [runs.embeddings_of(checkpoint, [row[name] for row in rows], head) for name in TEXTS[objective]]
        return torch.nn.functional.cosine_similarity(*sides)
    logits = runs.logits_of(checkpoint, [[row[column] for column in TEXTS[objective]] for row in rows])
    return logits[:, 0] if objective == "answer_selection" else logits.softmax(dim=-1).flatten()


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_exports_give_the_scores_that_were_written(trained: Trained, stage: str) -> None:
    """The best checkpoint is tested and predicts, for there is a monitor."""
    saw_other_texts = {"question_answering", *HIDING, *WRITING, *(["token_detection"] if stage == "test" else [])}
    objectives = [name for name in trained.evaluated if name not in saw_other_texts]
    if not objectives:
        pytest.skip("the model saw other texts")
    for objective in objectives:
        written = [torch.tensor(row["scores"]).flatten() for row in trained.predictions(stage, objective)]
        found = scores_of(objective, trained.head("best", objective), trained.rows(stage), trained.family)
        assert_close(found, torch.cat(written), BACKWARD)


def test_model_cards(trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What they say and do not say; their programs run as they are shown, in the folder of the export or of a head."""
    cards = sorted((trained.exports / "best").rglob("README.md"))
    heads = {trained.head("best", objective) for objective in trained.case.objectives}
    assert {path.parent for path in cards} == heads | {trained.exports / "best"}
    whole = (trained.exports / "best" / "README.md").read_text()
    expected = (f"# {trained.folders.name}", f"| {trained.monitor} | ", f"`{trained.monitor}`", "learning_rate: 0.003")
    assert not [text for text in (*expected, f"- torch {torch.__version__}") if text not in whole]
    tested = {r.metric_name for r in ModelCard(whole).data.eval_results or () if r.dataset_split == "test"}
    assert tested == {n.removeprefix("test/") for n in runs.metrics(trained.folders, "test") if not n.endswith("loss")}
    texts = [path for path in (trained.exports / "best").rglob("*") if path.suffix in (".md", ".json")]
    private = (str(trained.folder), str(Path.home()), socket.gethostname(), "/tmp")
    assert not [path for path in texts for text in private if text in path.read_text()]
    for path in cards:
        code = path.read_text().split("```python\n")[1].split("\n```")[0]
        if "sentence_transformers" in code and importlib.util.find_spec("sentence_transformers") is None:
            continue
        monkeypatch.chdir(path.parent)
        exec(compile(code, str(path), "exec"), {})
        assert capsys.readouterr().out, code


def test_tokenizer_and_classes_are_in_the_export(trained: Trained) -> None:
    text = "the rain and a tiger?"
    for objective in trained.case.objectives:
        folder = trained.head("best", objective)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        assert tokenizer(text)["input_ids"] == tiny.tokenizer_for(trained.family)(text)["input_ids"]
        if objective in CLASSES:
            assert tuple(transformers.AutoConfig.from_pretrained(folder).id2label.values()) == CLASSES[objective]


# --- predictions ------------------------------------------------------------------------------------------------------


def check_line(objective: str, line: Mapping[str, Any], row: Mapping[str, Any], stage: str) -> set[str]:
    """Check what is predicted of a row; return the columns that this takes."""
    if objective == "retrieval":
        assert -1 <= line["scores"] <= 1
        return {"scores"}
    prediction = line["prediction"]
    if objective in HIDING:
        assert not prediction or stage == "test", "no text has a mask token of its own"
        for hidden in prediction:
            assert set(hidden) == {"position", "token", "prediction", "score"}
            assert 0 < hidden["score"] <= 1
        positions = [hidden["position"] for hidden in prediction]
        assert positions == sorted(set(positions))
        return {"prediction"}
    if objective in WRITING:
        assert isinstance(prediction, str)
        return {"prediction", *(WRITTEN_BESIDE[objective] if stage == "test" else ())}
    if objective == "token_detection":
        assert len(line["tokens"]) == len(line["scores"])
        assert prediction == [place for place, score in enumerate(line["scores"]) if score > 0.5]
        return {"prediction", "scores", "tokens", *(["replaced"] if stage == "test" else [])}
    if objective == "question_answering":
        assert prediction in row["context"]
        best = next(answer for answer in line["n_best"] if bool(answer["text"]) == bool(prediction))
        assert (best["text"], best["score"]) == (prediction, line["score"])
        return {"prediction", "score", "n_best", "null_score"}
    if objective == "seq_class":
        assert prediction == runs.CLASSES[max(range(3), key=line["scores"].__getitem__)]
        assert sum(line["scores"]) == approx(1)
    elif objective == "token_class":
        assert len(prediction) == len(line["scores"]) == len(row["words"])
        assert set(prediction) <= set(TAGS)
        assert all(each["text"] == " ".join(row["words"][each["start"] : each["end"]]) for each in line["entities"])
        return {"prediction", "scores", "entities"}
    elif objective == "answer_selection":
        assert prediction == int(line["scores"] > 0)
    return {"prediction", "scores"}


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_predictions_have_one_row_a_data_row(trained: Trained, stage: str) -> None:
    rows = trained.rows(stage)
    for objective in trained.evaluated:
        found = trained.predictions(stage, objective)
        assert [row["id"] for row in found] == list(range(len(rows)))
        for row, line in zip(rows, found, strict=True):
            row = {key: value for key, value in row.items() if stage == "test" or key not in LABELS}
            assert {key: line[key] for key in row} == row
            assert set(line) == {"id", *row, *check_line(objective, line, row, stage)}
        assert objective not in HIDING or stage == "predict" or any(line["prediction"] for line in found)
    written = {path.stem for path in trained.folders.predictions.glob(f"{stage}*.jsonl")}
    assert written == ({stage} if len(trained.evaluated) == 1 else {f"{stage}.{name}" for name in trained.evaluated})


def test_a_loaded_export_predicts_what_was_written(trained: Trained) -> None:
    """Without flags: they are in the export."""
    rows = [{key: value for key, value in row.items() if key not in LABELS} for row in trained.rows("predict")]
    model = load(str(trained.exports / "best"), device="cpu", batch_size=1 if trained.family in runs.SEE_PADDING else 5)
    found = model.predict(rows)
    assert found == model.predict(rows), "bit for bit"
    for objective in trained.evaluated:
        own = found if len(trained.evaluated) == 1 else [row[objective] for row in found]
        for row, line, predicted in zip(rows, trained.predictions("predict", objective), own, strict=True):
            expected = {key: value for key, value in line.items() if key not in {"id", *row}}
            assert_values_close(json.loads(to_json(predicted)), expected)


def test_trec_files_give_the_logged_ranking_metrics(trained: Trained) -> None:
    if not {"answer_selection", "retrieval"}.intersection(trained.evaluated):
        pytest.skip("nothing is ranked")
    import pytrec_eval

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
        assert logged[f"test/{trained.evaluated[-1]}/{ours}"] == approx(mean)


# --- the same again ---------------------------------------------------------------------------------------------------


def all_predictions(folders: RunFolders) -> dict[str, Any]:
    return {path.name: runs.predictions(folders, path.stem) for path in sorted(folders.predictions.glob("*.jsonl"))}


def test_config_repeats_the_run(trained: Trained) -> None:
    from transformers_framework.cli.main import main

    assert main(["--config", str(trained.folders.config), "--name", "again"]) == 0
    again = RunFolders(trained.folders.output_dir, "again")
    for name in ("best", "final"):
        for objective in trained.case.objectives:
            folder = trained.head(name, objective)
            second = runs.weights(again.pre_trained_models / folder.relative_to(trained.exports))
            first = runs.weights(folder)
            assert first.keys() == second.keys()
            assert all(torch.equal(first[key], second[key]) for key in first)
    assert all_predictions(again) == all_predictions(trained.folders)


def test_a_checkpoint_is_tested_without_training(trained: Trained) -> None:
    flags = {f"{stage}_dataset": trained.data[f"{stage}_dataset"] for stage in ("valid", "test", "predict")}
    alone = trained.run(name="tested", ckpt_path=trained.folders.best, **flags)
    assert runs.metrics(alone, "test") == runs.metrics(trained.folders, "test")
    assert all_predictions(alone) == all_predictions(trained.folders)
    assert runs.metrics(alone, "valid").keys() == runs.metrics(trained.folders, "valid").keys()
    assert not alone.pre_trained_models.exists(), "what trains nothing exports nothing"
    assert not alone.last.exists()


def test_an_export_is_tested_without_training(trained: Trained) -> None:
    objective = trained.evaluated[-1]
    flags: dict[str, Any] = {"pre_trained_model": trained.head("best", objective)}
    if trained.case.alone:
        flags |= {"pipeline": trained.case.alone, **dict.fromkeys(trained.case.flags)}
    elif len(trained.evaluated) > 1:
        flags["pre_trained_generator_model"] = trained.head("best", "masked_lm")
    alone = trained.run(name="exported", **flags, test_dataset=trained.data["test_dataset"])
    if (trained.pipeline, "test") not in COUNTED:
        expected = runs.metrics(trained.folders, "test")
        assert runs.metrics(alone, "test") == approx(expected)
    # and what has no label, of which classes could be learned, is predicted all the same
    unlabelled = trained.run(name="predicted", **flags, predict_dataset=trained.data["predict_dataset"])
    for folders, stage in ((alone, "test"), (unlabelled, "predict")):
        for name in trained.evaluated:
            if (trained.pipeline, stage) not in COUNTED:
                found, written = (trained.predictions(stage, name, run) for run in (folders, trained.folders))
                assert without_scores(found) == without_scores(written), "names of classes are kept"


def without_scores(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what is written without numbers of full precision."""

    def kept(prediction: Any) -> Any:
        hidden = isinstance(prediction, list) and prediction and isinstance(prediction[0], dict)
        return [{**token, "score": None} for token in prediction] if hidden else prediction

    numbers = dict.fromkeys(("score", "scores", "null_score", "n_best"))
    return [{**row, **numbers, "prediction": kept(row.get("prediction"))} for row in rows]
