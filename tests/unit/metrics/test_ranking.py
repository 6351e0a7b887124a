"""Ranking metrics are those of trec_eval, on rows in any order and in any number of parts."""

import time

import numpy as np
import pytest
import pytrec_eval
import torch

from transformers_framework.exceptions import DataError
from transformers_framework.metrics.ranking import RankingMetrics, ranking_metrics
from transformers_framework.metrics.trec import candidate_qrels, candidate_run, docno
from transformers_framework.processing.text_ids import query_numbers

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")

MEASURES = {
    "mean_average_precision": "map",
    "mean_reciprocal_rank": "recip_rank",
    "ndcg": "ndcg",
    "precision@1": "P_1",
    "precision@5": "P_5",
    "hitrate@5": "success_5",
    "hitrate@100": "success_100",
    "ndcg@1": "ndcg_cut_1",
    "ndcg@10": "ndcg_cut_10",
}
CUTS = {"precision_at": (1, 5), "hitrate_at": (5, 100), "ndcg_at": (1, 10)}


def random_data(seed, num_queries=60, max_candidates=130):
    """Return preds, target, indexes, row_ids with many ties, queries without positives and with nothing else."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, max_candidates, num_queries)
    indexes = np.repeat(rng.choice(10**12, num_queries, replace=False) - 10**11, sizes)
    n = sizes.sum()
    preds = rng.normal(size=n).round(rng.integers(0, 3))  # one decimal or none: ties everywhere
    # differences that float32 does not see are ties too
    preds += rng.integers(0, 2, n) * 1e-12
    rate = np.repeat(rng.choice([0.0, 0.05, 0.5, 1.0], num_queries), sizes)
    target = (rng.random(n) < rate).astype(np.int64)
    shuffle = rng.permutation(n)
    return preds[shuffle], target[shuffle], indexes[shuffle], rng.choice(10**7, n, replace=False)


def parse(run_lines, qrels):
    """Read the files as pytrec_eval does."""
    return pytrec_eval.parse_run(list(run_lines)), pytrec_eval.parse_qrel(list(qrels))


def trec_eval(run, qrels):
    evaluator = pytrec_eval.RelevanceEvaluator(
        qrels, {"map", "recip_rank", "ndcg", "P.1,5", "success.5,100", "ndcg_cut.1,10"}
    )
    results = evaluator.evaluate(run).values()
    return {ours: np.mean([result[theirs] for result in results]) for ours, theirs in MEASURES.items()}


@pytest.mark.parametrize("action", ["skip", "neg"])
@pytest.mark.parametrize("seed", range(8))
def test_equal_to_trec_eval_on_the_files_we_write(seed, action):
    preds, target, indexes, row_ids = random_data(seed)
    run, qrels = parse(
        candidate_run(preds, indexes, row_ids, tag="test"),
        candidate_qrels(target, indexes, row_ids, empty_target_action=action),
    )
    assert len(run) == len(set(indexes.tolist()))
    ours = ranking_metrics(preds, target, indexes, row_ids, empty_target_action=action, **CUTS)
    theirs = trec_eval(run, qrels)
    assert set(ours) == set(MEASURES)
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name], abs=1e-9), name


def test_by_hand():
    # query 7: wrong, right, wrong, right; query 3: right
    result = ranking_metrics(
        [0.9, 0.8, 0.7, 0.6, 0.1], [0, 1, 0, 1, 1], [7, 7, 7, 7, 3], range(5), precision_at=(1, 2), hitrate_at=(1,)
    )
    dcg, ideal = 1 / np.log2(3) + 1 / np.log2(5), 1 + 1 / np.log2(3)
    assert result == pytest.approx(
        {
            "mean_average_precision": ((1 / 2 + 2 / 4) / 2 + 1) / 2,
            "mean_reciprocal_rank": (1 / 2 + 1) / 2,
            "ndcg": (dcg / ideal + 1) / 2,
            "precision@1": 1 / 2,
            "precision@2": 1 / 2,
            "hitrate@1": 1 / 2,
        }
    )


def test_the_order_of_rows_does_not_matter_even_with_ties():
    preds, target, indexes, row_ids = random_data(1)
    whole = ranking_metrics(preds, target, indexes, row_ids, **CUTS)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(preds))
        assert ranking_metrics(preds[order], target[order], indexes[order], row_ids[order], **CUTS) == whole


def test_ties_do_not_favour_the_order_of_the_file():
    # 4000 queries of ten equal scores, the right candidate being the first row, the last row, or any
    indexes, row_ids = np.repeat(np.arange(4000), 10), np.arange(40_000)
    random = np.mean(1 / np.arange(1, 11))  # expected reciprocal rank of a random order
    for place in (0, 4, 9):
        target = (row_ids % 10 == place).astype(int)
        value = ranking_metrics(np.zeros(40_000), target, indexes, row_ids)["mean_reciprocal_rank"]
        assert value == pytest.approx(random, abs=5 * 0.27 / 4000**0.5)


@pytest.mark.parametrize(("action", "expected"), [("skip", 0.5), ("neg", 0.25), ("pos", 0.75)])
def test_queries_without_a_right_candidate(action, expected):
    metrics = ranking_metrics([2, 1, 2, 1], [0, 1, 0, 0], [0, 0, 1, 1], range(4), empty_target_action=action)
    assert metrics["mean_average_precision"] == expected
    assert metrics["mean_reciprocal_rank"] == expected


def test_a_query_without_a_right_candidate_is_an_error_when_asked():
    with pytest.raises(DataError, match=r"metrics_empty_target_action error: 1 of 2 queries .* query 41 \(row 12\)"):
        ranking_metrics([2, 1, 2, 1], [0, 1, 0, -100], [8, 8, 41, 41], range(10, 14), empty_target_action="error")
    assert ranking_metrics([2], [1], [0], [0], empty_target_action="error")["ndcg"] == 1


@pytest.mark.parametrize("action", ["skip", "neg", "pos", "error"])
def test_nothing_at_all_is_nan(action):
    result = ranking_metrics([], [], [], [], empty_target_action=action)
    assert all(np.isnan(value) for value in result.values())
    padding = ranking_metrics([0.5], [-100], [0], [0], empty_target_action=action)
    assert all(np.isnan(value) for value in padding.values())
    assert all(np.isnan(value) for value in RankingMetrics(empty_target_action=action).compute().values())


def test_all_queries_skipped_is_nan():
    assert all(np.isnan(value) for value in ranking_metrics([1, 2], [0, 0], [0, 1], [0, 1]).values())


def test_rows_of_padding_count_nothing():
    preds, target, indexes, row_ids = random_data(2)
    whole = ranking_metrics(preds, target, indexes, row_ids)
    again = slice(0, 300)
    padded = ranking_metrics(
        np.concatenate([preds, preds[again] + 100]),
        np.concatenate([target, np.full(300, -100)]),
        np.concatenate([indexes, indexes[again]]),
        np.concatenate([row_ids, row_ids[again]]),
    )
    assert padded == whole


def updated(parts):
    metric = RankingMetrics(**CUTS)
    for part in parts:
        metric.update(*(torch.from_numpy(np.ascontiguousarray(column)) for column in part))
    return metric


def test_batches_of_the_metric_equal_the_whole():
    data = random_data(3)
    whole = ranking_metrics(*data, **CUTS)
    cuts = np.arange(0, len(data[0]), 37)
    parts = [tuple(column[start : start + 37] for column in data) for start in cuts]
    assert updated(parts).compute() == whole
    first, second = updated(parts[::2]), updated(parts[1::2])
    first.merge_state(second)
    assert first.compute() == whole
    first.reset()
    assert np.isnan(first.compute()["ndcg"])


def test_half_precision_scores_are_compared_as_they_are():
    metric = RankingMetrics()
    metric.update(
        torch.tensor([0.5, 0.25], dtype=torch.bfloat16), torch.tensor([0, 1]), torch.zeros(2), torch.arange(2)
    )
    assert metric.compute()["mean_reciprocal_rank"] == 0.5


def test_batches_are_copied_since_workers_tensors_hold_file_descriptors():
    columns = [torch.zeros(4), torch.ones(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64), torch.arange(4)]
    metric = RankingMetrics()
    metric.update(*columns)
    for kept, given in zip((metric.target, metric.indexes, metric.row_ids), columns[1:], strict=True):
        assert kept[0].data_ptr() != given.data_ptr()


def test_names_are_those_of_the_result():
    metric = RankingMetrics(**CUTS)
    assert metric.names == list(metric.compute())
    assert list(ranking_metrics([], [], [], [])) == [
        "mean_average_precision",
        "mean_reciprocal_rank",
        "ndcg",
        "precision@1",
        "hitrate@5",
    ]


def test_scores_of_run_files_read_back_as_the_same_float32():
    preds = np.random.default_rng(0).normal(size=1000).astype(np.float32) * 1e-5
    for line in candidate_run(preds, np.zeros(1000, int), range(1000), tag="a run"):
        query, q0, document, rank, score, tag = line.split()
        assert (query, q0, tag) == ("0", "Q0", "a%20run")
        assert np.float32(score) == preds[int(document.split("-")[1])]
        assert 1 <= int(rank) <= 1000


def test_lines_keep_queries_apart_and_in_six_and_four_columns():
    queries = ["a b", "a%20b", "ü\tc", "a b"]
    run = [line.split() for line in candidate_run([0.1, 0.2, 0.3, 0.4], queries, range(4), tag="x")]
    assert {len(line) for line in run} == {6}
    assert len({line[0] for line in run}) == 3
    by_query = [line[2].split("-")[1] for line in run if line[0] == "a%20b"]
    assert by_query == ["3", "0"]
    qrels = [line.split() for line in candidate_qrels([1, 1, -100, 0], queries, range(4))]
    assert {len(line) for line in qrels} == {4}
    assert {(line[0], line[3]) for line in qrels} == {("a%20b", "1"), ("a%20b", "0"), ("a%2520b", "1")}


def test_document_numbers_sort_as_their_hash():
    numbers = [docno(row) for row in range(1000)]
    assert len(set(numbers)) == 1000
    assert {len(number.split("-")[0]) for number in numbers} == {16}


def test_a_million_rows_have_no_loop_per_query():
    rng = np.random.default_rng(0)
    n = 1_000_000
    data = rng.normal(size=n), rng.random(n) < 0.1, rng.integers(0, 50_000, n), np.arange(n)
    start = time.perf_counter()
    ranking_metrics(*data)
    assert time.perf_counter() - start < 5  # 0.9 s measured on a busy machine


def test_names_of_queries_are_those_of_the_data():
    ids = [1, 2**63 + 5, 2**63 + 6, 2**64 - 1]
    lines = candidate_run([0.5] * 4, ids, range(4))
    assert [line.split()[0] for line in lines] == [str(number) for number in ids]
    assert len(set(query_numbers(ids).tolist())) == 4
    lines = list(candidate_run([0.5] * 4, ["", None, " ", "%"], range(4)))
    assert sorted({line.split()[0] for line in lines}) == ["%", "%20", "%25"]
    assert {len(line.split()) for line in lines} == {6}
