"""Whole runs of retrieval: a corpus is searched exactly, exports embed alike elsewhere, towers, processes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import runs, tiny
from tests.tolerances import BACKWARD, approx, assert_close
from transformers_framework.cli.main import main
from transformers_framework.metrics.corpus import corpus_names
from transformers_framework.several.comparison import compare
from transformers_framework.several.finished_runs import find_run
from transformers_framework.storage.run_folders import RunFolders

rows_of = partial(runs.rows_for, "retrieval")
SENTENCE_TRANSFORMERS = pytest.mark.needs("sentence_transformers")


def corpus_of(folder: Path, rows: Sequence[dict[str, Any]]) -> tuple[Path, list[dict[str, Any]]]:
    """Write the answers of rows, some of them twice, and others; return the file and its rows."""
    passages = [{"pid": f"p {i}", "text": row["answer"]} for i, row in enumerate([*rows, *rows_of(37, 9), *rows[:3]])]
    return tiny.write_jsonl(folder / "corpus.jsonl", passages), passages


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_checkpoint("bert", tmp_path_factory.mktemp("checkpoint") / "bert", **runs.LIVELY)


def embeddings_of(checkpoint: Path, texts: Sequence[str]) -> np.ndarray:
    """Return the mean of the states of texts, of length 1."""
    from transformers import AutoModel

    return torch.nn.functional.normalize(runs.embeddings_of(checkpoint, texts, AutoModel), dim=-1).numpy()


# --- search ----------------------------------------------------------------------------------------------------------


def brute_force(
    queries: np.ndarray, passages: np.ndarray, relevant: Sequence[set[int]], depth: int
) -> tuple[np.ndarray, dict[str, float]]:
    """Rank all passages for every query and compute the metrics one query at a time, by their definitions."""
    order = np.argsort(-np.round(queries @ passages.T, 6), axis=1, kind="stable")[:, :depth]
    values: dict[str, list[float]] = {name.removeprefix("corpus_"): [] for name in corpus_names(depth)}
    for ranking, right in zip(order.tolist(), relevant, strict=True):
        hits = [rank for rank, passage in enumerate(ranking, 1) if passage in right]
        ideal = sum(1 / np.log2(rank + 1) for rank in range(1, len(right) + 1))
        values["mean_average_precision"].append(sum(n / rank for n, rank in enumerate(hits, 1)) / len(right))
        values["mean_reciprocal_rank"].append(1 / hits[0] if hits else 0)
        values["ndcg"].append(sum(1 / np.log2(rank + 1) for rank in hits) / ideal)
        for name in values:
            kind, _, cut = name.partition("@")
            found = sum(rank <= int(cut) for rank in hits) if cut else 0
            if cut:
                values[name].append({"precision": found / int(cut), "hitrate": float(found > 0), "recall": found / len(right)}[kind])  # fmt: skip  # noqa: E501
    return order, {f"corpus_{name}": float(np.mean(found)) for name, found in values.items()}


@pytest.mark.parametrize("top_k", [25, 1000])  # of 63: by chance nothing is found among 7 of them
def test_corpus_search_is_brute_force(top_k: int, tmp_path: Path, checkpoint: Path) -> None:
    rows = rows_of(26, 2)
    file, corpus = corpus_of(tmp_path, rows)
    corpus.sort(key=lambda row: row["pid"], reverse=True)  # as trec_eval does where scores are equal
    texts = [row["text"] for row in corpus]
    folders = runs.run(
        tmp_path,
        pipeline="retrieval",
        pre_trained_model=checkpoint,
        test_dataset=tiny.write_jsonl(tmp_path / "test.jsonl", rows),
        corpus_dataset=file,
        corpus_column="text",
        corpus_id_column="pid",
        top_k=top_k,
        eval_batch_size=5,
    )
    asked = list({row["key"]: row["question"] for row in rows}.values())
    right = [{row["answer"] for row in rows if row["key"] == key and row["label"]} for key in range(13)]
    relevant = [{number for number, text in enumerate(texts) if text in answers} for answers in right]
    assert max(map(len, relevant)) > 1, "passages with one text are all right"
    queries, passages = embeddings_of(checkpoint, asked), embeddings_of(checkpoint, texts)
    order, expected = brute_force(queries, passages, relevant, top_k)
    logged = runs.metrics(folders, "test")
    searched = {name.removeprefix("test/retrieval/"): logged[name] for name in logged if "/corpus_" in name}
    assert searched == approx(expected)
    notice = "--top_k 25: metrics of more passages are left out: corpus_hitrate@100, corpus_recall@100"
    assert (notice in folders.log.read_text("utf-8")) == (top_k == 25)
    assert ("corpus_recall@100" in searched, "corpus_recall@5" in searched) == (top_k >= 100, True), "cut at --top_k"
    assert 0.01 < expected["corpus_mean_reciprocal_rank"] < 0.99, "nothing is tested where all is found or nothing"
    compared = compare([find_run("run", folders.output_dir)], stage="test", num_resamples=50)
    assert {f"test/retrieval/{name}" for name in searched} <= compared.units.keys(), "computed again, and equal"
    found = runs.predictions(folders, "test.corpus")
    assert [line["query_id"] for line in found] == list(range(13))
    for query, line in enumerate(found):
        assert line["question"] == asked[query]
        best = [next(row["text"] for row in corpus if row["pid"] == pid) for pid in line["passages"][:3]]
        assert line["texts"] == [text if len(text) <= 200 else f"{text[:199]}…" for text in best]
        scores = np.array(line["scores"])
        assert len(scores) == min(top_k, len(texts))
        assert set(line["relevant"]) == {corpus[number]["pid"] for number in relevant[query]}
        assert (np.diff(scores) <= 0).all()
        assert_close(scores, (queries[query] @ passages.T)[order[query]])
        if np.diff(np.sort(np.unique(queries[query] @ passages.T))).min() > 1e-5:
            # equal texts may have scores that differ by rounding, as they are encoded beside other texts
            text_of = {row["pid"]: row["text"] for row in corpus}
            assert [text_of[pid] for pid in line["passages"]] == [texts[number] for number in order[query]]
        ranked = list(zip(line["scores"], line["passages"], strict=True))
        assert ranked == sorted(ranked, reverse=True), "equal scores: by the id, as trec_eval does"
    check_trec(folders, logged, depth=top_k)


def check_trec(folders: RunFolders, logged: dict[str, float], depth: int) -> None:
    import pytrec_eval

    with (folders.predictions / "test.corpus.run").open() as run, (
        folders.predictions / "test.corpus.qrels"
    ).open() as qrels:  # fmt: skip
        judged, ranked = pytrec_eval.parse_qrel(qrels), pytrec_eval.parse_run(run)
    names = {"map": "mean_average_precision", "recip_rank": "mean_reciprocal_rank", "ndcg": "ndcg", "recall_5": "recall@5"}  # fmt: skip  # noqa: E501
    per_query = pytrec_eval.RelevanceEvaluator(judged, {"map", "recip_rank", "ndcg", "recall"}).evaluate(ranked)
    for theirs, ours in names.items():
        mean = np.mean([query[theirs] for query in per_query.values()])
        assert logged[f"test/retrieval/corpus_{ours}"] == approx(mean), "ties apart"


def searched_as_printed(folders: RunFolders) -> list[dict[str, Any]]:
    """Run the command that the summary of a run prints, with its file of queries; return what is found."""
    (printed,) = re.findall(r"use it +python -m transformers_framework (.*)", folders.log.read_text("utf-8"))
    words = shlex.split(printed.replace("FILE", str(folders.output_dir.parent / "asked.jsonl")))
    assert main(words) == 0
    return runs.predictions(runs.folders_of(words), "predict.corpus")


@pytest.mark.parametrize("label_column", [None, "label"])
def test_queries_alone_find_passages_by_their_ids(label_column: str | None, tmp_path: Path, checkpoint: Path) -> None:
    """Rows without a passage and label of their own, with lists of ids; the corpus is searched after validation too."""
    rows = rows_of(26, 2)
    file, corpus = corpus_of(tmp_path, rows)
    pids = {row["text"]: row["pid"] for row in corpus}  # the last of equal texts: an id of each is right
    asked = [{"question": row["question"], "right": [pids[row["answer"]]], "key": f"q{row['key']}"} for row in rows if row["label"]]  # fmt: skip  # noqa: E501
    queries = tiny.write_jsonl(tmp_path / "queries.jsonl", asked)
    search = {"corpus_dataset": file, "corpus_column": "text", "corpus_id_column": "pid", "relevant_column": "right"}
    shared = {"pipeline": "retrieval", "pre_trained_model": checkpoint, **search, "label_column": label_column}
    folders = runs.run(
        tmp_path,
        **shared,
        train_dataset=tiny.write_jsonl(tmp_path / "train.jsonl", [row for row in rows if row["label"]]),
        valid_dataset=queries,
        test_dataset=queries,
        predict_dataset=tiny.write_jsonl(tmp_path / "asked.jsonl", [{"question": row["question"]} for row in asked]),
        index_column=None,
        eval_batch_size=1,  # too few for in-batch negatives, which a search does not need
        monitor="valid/retrieval/corpus_mean_reciprocal_rank",
    )
    logged = runs.metrics(folders, "valid")
    assert {name.removeprefix("valid/retrieval/") for name in logged} == {*corpus_names(100)}, (
        "rows have no candidates, hence no loss"
    )
    check_trec(folders, runs.metrics(folders, "test"), depth=100)
    found = runs.predictions(folders, "predict.corpus")
    assert len(found) == len({row["question"] for row in asked})
    assert len(runs.predictions(folders, "predict")) == len(asked)
    best = embeddings_of(folders.pre_trained_models / "best", [row["text"] for row in corpus])
    query = embeddings_of(folders.pre_trained_models / "best", [asked[0]["question"]])
    assert found[0]["scores"][0] == approx((query @ best.T).max())
    assert_close([line["scores"] for line in searched_as_printed(folders)], [line["scores"] for line in found])


@pytest.mark.parametrize("many", [False, True])
def test_training_rows_may_name_their_passages_by_id(many: bool, tmp_path: Path, checkpoint: Path) -> None:
    """Rows with ids of passages are trained like rows that have the passages, one for each id."""
    rows = [row for row in rows_of(26, 2) if row["label"]]
    file, corpus = corpus_of(tmp_path, rows)
    texts, pids = {row["pid"]: row["text"] for row in corpus}, {row["text"]: row["pid"] for row in reversed(corpus)}
    asked = [{"question": row["question"], "right": pids[row["answer"]], "key": row["key"]} for row in rows]
    if many:  # the first query has two, the last one none
        asked = [row | {"right": [row["right"]]} for row in asked]
        asked[0]["right"].append(asked[1]["right"][0])
        asked[-1]["right"] = []
    joined = [{**row, "answer": texts[pid]} for row in asked for pid in (row["right"] if many else [row["right"]])]
    search = {"corpus_dataset": file, "corpus_column": "text", "corpus_id_column": "pid", "relevant_column": "right"}
    shared = {"pipeline": "retrieval", "pre_trained_model": checkpoint, **search, "label_column": None, "max_steps": 3}
    shared |= {"valid_dataset": tiny.write_jsonl(tmp_path / "queries.jsonl", asked[:-1]), "length_bucketing": True}
    by_id, by_text = (
        runs.run(tmp_path, name=name, train_dataset=tiny.write_jsonl(tmp_path / f"{name}.jsonl", given), **shared)
        for name, given in {"ids": asked, "texts": joined}.items()
    )
    log = by_id.log.read_text("utf-8")
    assert "left out" not in log, "figures of lengths, although evaluated rows have no passage"
    assert runs.metrics(by_id, "train") == runs.metrics(by_text, "train")
    assert runs.metrics(by_id, "valid") == runs.metrics(by_text, "valid")


def test_a_query_may_be_its_own_id(tmp_path: Path, checkpoint: Path) -> None:
    data = {
        stage: tiny.write_jsonl(tmp_path / f"{stage}.jsonl", rows_of(16, n))
        for n, stage in enumerate(("train", "test"))
    }
    flags = {"pipeline": "retrieval", "pre_trained_model": checkpoint, "max_steps": 1, "batch_size": 4}
    flags |= {f"{stage}_dataset": file for stage, file in data.items()}
    found = [
        runs.metrics(runs.run(tmp_path, name=column, index_column=column, **flags), "test")
        for column in ("question", "key")
    ]
    assert found[0] == found[1]


def test_a_check_reports_how_many_passages_are_positives(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers_framework.cli.main import main

    rows = [{**row, "label": int(i % 4 == 0)} for i, row in enumerate(rows_of(40))]
    flags = {"train_dataset": tiny.write_jsonl(tmp_path / "train.jsonl", rows), "pre_trained_model": checkpoint}
    flags["test_dataset"] = tiny.write_jsonl(tmp_path / "test.jsonl", rows[:10])
    assert main([*runs.command(tmp_path, pipeline="retrieval", **flags), "--check"]) == 0
    said = [line.strip() for line in capsys.readouterr().out.splitlines() if "have a positive" in line]
    assert said == [
        "10 of 40 rows (25.0 %) have a positive; the others only add a negative to their batch",
        "3 of 10 rows (30.0 %) have a positive",
    ]


# --- exports ---------------------------------------------------------------------------------------------------------

TEXTS = ["what about the rain?", "a tiger near the old moon and the spoon", "snow", "bread " * 80]
MADE: dict[str, dict[str, Any]] = {
    "plain": {},
    "cls": {"pooling": "cls", "normalize_embeddings": True},
    "dense": {
        "embedding_size": 8,
        "scores_fn": "dot_product_similarity",
        "query_prefix": "query: ",
        "passage_prefix": "the answer ",
    },
}


@pytest.fixture(scope="module", params=MADE)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    flags = {"pipeline": "retrieval", "pre_trained_model": checkpoint, **runs.datasets(folder / "data", "retrieval")}
    return runs.run(folder, **flags, **MADE[request.param]), MADE[request.param], flags, folder


def test_exports_are_read_back(trained: Any) -> None:
    """Pooling, dense layers, normalization, prefixes and similarity are the checkpoint's, unless they are given."""
    first, made, flags, folder = trained
    again = {**flags, "pre_trained_model": first.pre_trained_models / "final", "train_dataset": None, "name": "again"}
    second = runs.run(folder, **again)
    found, wanted = (runs.scores(run) for run in (second, first))
    assert_close(found, wanted)
    assert runs.metrics(second, "test") == approx(runs.metrics(first, "test"))
    if made.get("embedding_size"):
        other = runs.run(folder, **again | {"name": "other", "query_prefix": "the rain "})
        assert not np.allclose(runs.scores(other), wanted, atol=1e-3)


@SENTENCE_TRANSFORMERS
def test_exports_load_in_sentence_transformers(trained: Any) -> None:
    import sentence_transformers

    folders, made, _, _ = trained
    model = sentence_transformers.SentenceTransformer(str(folders.pre_trained_models / "final"), device="cpu")
    assert model.max_seq_length == 48
    rows = rows_of(27, 2)
    queries = model.encode([row["question"] for row in rows], prompt_name="query", convert_to_tensor=True)
    passages = model.encode([row["answer"] for row in rows], prompt_name="document", convert_to_tensor=True)
    assert queries.shape[1] == made.get("embedding_size", 32)
    if made.get("normalize_embeddings"):
        assert_close(queries.norm(dim=1), torch.ones(len(rows)))
    scores = torch.tensor(runs.scores(folders))
    assert_close(model.similarity_pairwise(queries, passages), scores)


@SENTENCE_TRANSFORMERS
def test_checkpoints_of_sentence_transformers_are_read(tmp_path: Path, checkpoint: Path) -> None:
    """Written by its newest version, in its newest form, with a dense layer that has an activation."""
    from sentence_transformers import SentenceTransformer, models

    modules = [
        models.Transformer(str(checkpoint), max_seq_length=48),
        models.Pooling(32, pooling_mode="mean"),
        models.Dense(32, 8, activation_function=torch.nn.Tanh()),
        models.Normalize(),
    ]
    prompts = {"query": "the query ", "document": "the moon "}
    theirs = SentenceTransformer(modules=modules, prompts=prompts, device="cpu")
    theirs.save_pretrained(str(tmp_path / "theirs"))
    rows = rows_of(27, 2)
    test = tiny.write_jsonl(tmp_path / "test.jsonl", rows)
    folders = runs.run(tmp_path, pipeline="retrieval", pre_trained_model=tmp_path / "theirs", test_dataset=test)
    queries, passages = (
        theirs.encode([row[column] for row in rows], prompt_name=name, convert_to_tensor=True)
        for column, name in (("question", "query"), ("answer", "document"))
    )
    found = torch.tensor(runs.scores(folders))
    assert_close(found, (queries * passages).sum(dim=1))


def towers(folder: Path, checkpoint: Path) -> tuple[dict[str, Any], RunFolders]:
    """Train a model with two towers; return its flags and folders."""
    data = runs.datasets(folder / "data", "retrieval")
    flags = {"pipeline": "retrieval", "pre_trained_model": checkpoint, **data, "embedding_size": 8}
    return flags, runs.run(folder, **flags, separate_towers=True, name="first")


def test_towers_of_their_own(tmp_path: Path, checkpoint: Path) -> None:
    """Each is exported, learns for itself, and can start from a checkpoint of its own."""
    flags, first = towers(tmp_path, checkpoint)
    folder = first.pre_trained_models / "final"
    weights = [runs.weights(folder / side) for side in ("query", "passage")]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    wanted = runs.scores(first)
    sides = {"pre_trained_model": folder / "query", "pre_trained_passage_model": folder / "passage"}
    for name, given in (("both", sides), ("above", {"pre_trained_model": folder})):
        again = runs.run(tmp_path, **flags | given | {"train_dataset": None, "embedding_size": None}, name=name)
        assert_close(runs.scores(again), wanted)


@SENTENCE_TRANSFORMERS
def test_towers_load_in_sentence_transformers(tmp_path: Path, checkpoint: Path) -> None:
    import sentence_transformers

    _, first = towers(tmp_path, checkpoint)
    wanted = runs.scores(first)
    folder = first.pre_trained_models / "final"
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    rows = rows_of(27, 2)
    queries = model.encode_query([row["question"] for row in rows], convert_to_tensor=True)
    passages = model.encode_document([row["answer"] for row in rows], convert_to_tensor=True)
    assert_close(model.similarity_pairwise(queries, passages), torch.tensor(wanted))


@pytest.mark.parametrize("source", ["pre_trained_model", "pre_trained_config"])
def test_towers_start_equal(source: str, tmp_path: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is drawn is drawn alike: a dense layer of each its own would leave both at chance. It is announced."""
    data = tiny.write_jsonl(tmp_path / "train.jsonl", rows_of(16))
    flags = {"pipeline": "retrieval", source: checkpoint, "train_dataset": data, "embedding_size": 8}

    def towers(**more: Any) -> list[dict[str, torch.Tensor]]:
        model: Any = runs.build(runs.command(tmp_path, **flags, **more)).module.model
        return [model.tower(side).state_dict() for side in ("query", "passage")]

    with caplog.at_level("INFO"):
        query, passage = towers(separate_towers=True)
    assert all(torch.equal(query[name], passage[name]) for name in query)
    assert ("dense layer of --embedding_size 8 is newly initialized" in caplog.text) == (source == "pre_trained_model")
    other = tiny.save_checkpoint("bert", tmp_path / "other", seed=5, **runs.LIVELY)
    query, passage = towers(pre_trained_passage_model=other)
    assert [name for name in query if torch.equal(query[name], passage[name]) and "linear" in name] == [
        "projections.0.linear.weight",
        "projections.0.linear.bias",
    ]
    assert not all(torch.equal(query[name], passage[name]) for name in query)


# --- batches and processes -------------------------------------------------------------------------------------------


def test_one_call_of_the_encoder_is_two(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of both sides padded to one length, hard negatives among them, have the embeddings that they have alone."""
    from transformers_framework.data.sampler import BatchRequest
    from transformers_framework.pipelines import bi_encoder

    rows = [{**row, "wrongs": ["the snow " * (i % 5 + 1)] * (i % 3)} for i, row in enumerate(rows_of(16, 2))]
    flags = {"pipeline": "retrieval", "pre_trained_model": checkpoint, "query_prefix": "the rain and the old moon "}
    flags |= {"train_dataset": tiny.write_jsonl(tmp_path / "train.jsonl", rows)}
    columns = ["question", "answer", "*wrongs"]
    experiment = runs.build(runs.command(tmp_path, **flags, input_columns=columns))
    module, data = experiment.module.eval(), experiment.data
    batch = data.collator("train")((BatchRequest(0, tuple(range(16))), data.datasets["train"][:16]))
    calls: list[Any] = []
    monkeypatch.setattr(module.model.tower("query").encoder, "forward", _counted(module.model.tower("query").encoder.forward, calls))  # fmt: skip  # noqa: E501
    found = []
    for tolerated, expected in ((0.0, 2), (100.0, 1)):
        calls.clear()
        monkeypatch.setattr(bi_encoder, "TOLERATED_PADDING", tolerated)
        with torch.no_grad():
            found.append(module.forward_heads(dict(batch), "train")["retrieval"])
        assert len(calls) == expected
    for apart, together in zip(*found, strict=True):
        assert_close(apart, together)
    assert found[0].negatives.shape == (sum(len(row["wrongs"]) for row in rows), 32)


def _counted(function: Any, calls: list[Any]) -> Any:
    def counted(**inputs: Any) -> Any:
        calls.append(inputs)
        return function(**inputs)

    return counted


def test_evaluation_does_not_depend_on_batches(tmp_path: Path, checkpoint: Path) -> None:
    """Neither do losses of in-batch negatives and triplets, which are of whole queries there."""
    test = tiny.write_jsonl(tmp_path / "test.jsonl", tiny.pairs(27, 5, candidates=5, positives=2))
    for loss in ("multiple_negatives_symmetric_ranking_loss", "batch_hard_triplet_loss", "online_contrastive_loss"):
        shared = {"pipeline": "retrieval", "pre_trained_model": checkpoint, "loss_fn": loss, "test_dataset": test}
        found = [runs.metrics(runs.run(tmp_path, name=f"{loss}{size}", eval_batch_size=size, **shared), "test") for size in (4, 27)]  # fmt: skip  # noqa: E501
        assert found[0] == approx(found[1])
        assert found[0]["test/loss"] > 0


STILL = {"additional_config_kwargs": ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]}
TWO = {"batch_size": 4, "devices": 2, "strategy": "ddp"}


def symmetric(tmp_path: Path, checkpoint: Path) -> dict[str, Any]:
    """Flags of a run whose loss compares all texts of a batch in both directions, and searches a corpus."""
    rows = rows_of(26, 2)
    return {
        "pipeline": "retrieval",
        "pre_trained_model": checkpoint,
        **runs.datasets(tmp_path / "data", "retrieval", (44, 23, 27, 13)),
        "corpus_dataset": corpus_of(tmp_path, rows)[0],
        "corpus_column": "text",
        "test_dataset": tiny.write_jsonl(tmp_path / "test.jsonl", rows),
        "valid_dataset": None,
        "loss_fn": "multiple_negatives_symmetric_ranking_loss",
        **STILL,
    }


def test_two_processes_are_one(tmp_path: Path, checkpoint: Path) -> None:
    """With --sync_devices the texts of all processes are one batch, hard negatives too; both search the corpus."""
    wrongs = [[f"{row['question']} {word}" for word in ("snow", "the drum", "no")] for row in rows_of(44)]
    rows = [{**row, "wrongs": texts[: i % 4]} for i, (row, texts) in enumerate(zip(rows_of(44), wrongs, strict=True))]
    flags = symmetric(tmp_path, checkpoint) | {"train_dataset": tiny.write_jsonl(tmp_path / "train.jsonl", rows)}
    flags["input_columns"] = ["question", "answer", "*wrongs"]
    two, _ = runs.spawn(tmp_path, name="two", **TWO, sync_devices=True, **flags)
    one = runs.run(tmp_path, name="one", batch_size=8, **flags)
    runs.assert_weights_are_close(*(run.pre_trained_models / "final" for run in (one, two)))
    assert runs.metrics(one, "test") == approx(runs.metrics(two, "test"), BACKWARD)
    lines = [json.loads((run.predictions / "test.corpus.jsonl").read_text().splitlines()[0]) for run in (one, two)]
    assert lines[0]["passages"][:3] == lines[1]["passages"][:3]
    assert_close(lines[0]["scores"], lines[1]["scores"], BACKWARD, torch.float32)  # Python's numbers are float64


@pytest.mark.slow
def test_two_processes_are_two_without_being_asked(tmp_path: Path, checkpoint: Path) -> None:
    flags = symmetric(tmp_path, checkpoint)
    two, _ = runs.spawn(tmp_path, name="two", **TWO, **flags)
    one = runs.run(tmp_path, name="one", batch_size=8, **flags)
    with pytest.raises(AssertionError):
        runs.assert_weights_are_close(*(run.pre_trained_models / "final" for run in (one, two)))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["batch_hard_triplet_loss", "online_contrastive_loss"])
def test_losses_of_whole_batches_are_synced(loss: str, tmp_path: Path, checkpoint: Path) -> None:
    flags = symmetric(tmp_path, checkpoint) | {"loss_fn": loss}
    two, _ = runs.spawn(tmp_path, name="two", **TWO, sync_devices=True, **flags)
    one = runs.run(tmp_path, name="one", batch_size=8, **flags)
    runs.assert_weights_are_close(*(run.pre_trained_models / "final" for run in (one, two)))


def test_a_run_goes_on_though_its_checkpoint_decided_on_flags(tmp_path: Path, capsys: Any) -> None:
    """What a checkpoint remembers, as its pooling, is no other flag than was given; another pooling is."""
    flags: dict[str, Any] = {"pipeline": "retrieval", **runs.datasets(tmp_path / "data", "retrieval")}
    first = runs.run(tmp_path, name="first", pooling="cls", **flags)
    flags |= {"name": "second", "pre_trained_model": first.pre_trained_models / "final"}
    runs.run(tmp_path, **flags)
    runs.run(tmp_path, **flags, max_epochs=2, resume=True)
    runs.run(tmp_path, **flags, max_epochs=3, resume=True, pooling="mean", status=2)
    assert "was begun with no --pooling, and this command has --pooling mean" in capsys.readouterr().err
