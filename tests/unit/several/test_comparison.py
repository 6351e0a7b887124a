"""Comparisons of runs: intervals from predictions, what is refused, and the formats."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tolerances
from transformers_framework.compare import main
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.metrics.ranking import ranking_metrics
from transformers_framework.metrics.statistics import holm
from transformers_framework.several.comparison import Comparison, compare
from transformers_framework.several.curves import MOST_POINTS, Curve, chart, series_in, thinned, ticks
from transformers_framework.several.finished_runs import find_run
from transformers_framework.several.measures import OBJECTIVES, Labelled

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 2, 200)


def rows_of(share: float, seed: int) -> list[dict[str, Any]]:
    """Predictions of which a share is right."""
    generator = np.random.default_rng(seed)
    found = np.where(generator.random(200) < share, LABELS, 1 - LABELS)
    return [
        {"id": n, "text": f"text {n}", "label": int(label), "scores": [0.5, 0.5], "prediction": int(prediction)}
        for n, (label, prediction) in enumerate(zip(LABELS, found, strict=True))
    ]


def write(top: Path, name: str, rows: list[dict[str, Any]], test: dict[str, float] | None = None, **flags: Any) -> None:
    """Write the files of a finished run."""
    labels, found = (np.array([row[key] for row in rows]) for key in ("label", "prediction"))
    true = int((labels & found).sum())
    values = {
        "accuracy": float((labels == found).mean()),
        "f1": 2 * true / int(labels.sum() + found.sum()),
        "loss": 0.7,
    }
    test = (
        {f"test/seq_class/{name}": np.float32(value).item() for name, value in values.items()} if test is None else test
    )
    best = {"monitor": "valid/seq_class/f1", "direction": "max", "value": 0.5, "metrics": {"valid/seq_class/f1": 0.5}}
    folder = top / "checkpoints" / name
    folder.mkdir(parents=True)
    results = {"name": name, "best": best, "test": test, "seed": 1}
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "config.yaml").write_text(json.dumps({"label_column": "label", **flags}))
    moments = [
        {"step": step, "epoch": 0, "time": "", "valid/loss": 1 / step, "train/loss": 2 / step} for step in (1, 2, 5)
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(moment)}\n" for moment in moments))
    config = top / "pre_trained_models" / name / "best" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}))
    path = top / "predictions" / name / "test.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture
def top(tmp_path) -> Path:
    """Runs a, b and c, of which c is the best; s-seeds are b and c."""
    for name, share in (("a", 0.7), ("b", 0.72), ("c", 0.9)):
        write(tmp_path, name, rows_of(share, ord(name)))
    folder = tmp_path / "checkpoints" / "s-seeds"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"name": "s", "runs": ["b", "c"], "metrics": {}}))
    return tmp_path


def of(top: Path, *names: str, **options: Any) -> Comparison:
    return compare([find_run(name, top) for name in names], stage="test", **{"num_resamples": 2000, **options})


def test_metrics_have_intervals_and_differences(top):
    found = of(top, "a", "c")
    first, second = found.cells["test/seq_class/accuracy"]
    assert first.low < first.value < first.high < second.low < second.value
    assert (first.difference, first.p_value) == (None, None)
    assert second.difference == pytest.approx(second.value - first.value)
    assert second.p_value == pytest.approx(1 / 2001), "no exchange is as good"
    assert found.units == {"test/seq_class/accuracy": "rows", "test/seq_class/f1": "rows"}
    loss = found.cells["test/seq_class/loss"]
    assert [(cell.value, cell.low, cell.p_value) for cell in loss] == [(pytest.approx(0.7), None, None)] * 2
    # the width is that of a share of 200 rows
    assert first.high - first.low == pytest.approx(2 * 1.96 * np.sqrt(first.value * (1 - first.value) / 200), rel=0.1)


def test_seeds_are_averaged(top):
    found = of(top, "a", "s-seeds")
    _, mean = found.cells["test/seq_class/accuracy"]
    alone = [cells[1].value for cells in (of(top, "a", name).cells["test/seq_class/accuracy"] for name in ("b", "c"))]
    assert mean.value == pytest.approx(np.mean(alone))
    assert mean.deviation == pytest.approx(np.std(alone, ddof=1))
    assert mean.low < mean.value < mean.high


def test_p_values_of_several_runs_are_corrected(top):
    pairs = {name: of(top, "a", name).cells["test/seq_class/f1"][1].p_value for name in ("b", "c")}
    together = of(top, "a", "b", "c").cells["test/seq_class/f1"]
    assert [cell.p_value for cell in together[1:]] == [pytest.approx(pairs["b"]), pytest.approx(2 * pairs["c"])]


def write_ranked(top: Path, objective: str, seed: int, metrics: tuple[str, ...], **change: Any) -> None:
    """Write the files of a run that ranks 30 queries of 4 candidates; it is named after its objective."""
    generator = np.random.default_rng(seed)
    rows = [
        {"id": n, "key": n // 4, "label": int(n % 4 == 0), "scores": float(generator.normal() + (n % 4 == 0)), **change}
        for n in range(120)
    ]
    columns = (np.array([row[name] for row in rows]) for name in ("scores", "label", "key"))
    found = ranking_metrics(*columns, np.arange(120), precision_at=[1, 5])
    test = {f"test/{objective}/{name}": found.get(name, 0.5) for name in metrics} | {"test/loss": float(seed)}
    write(top, objective, [row | {"prediction": row["label"]} for row in rows], test, index_column="key")
    path = top / "checkpoints" / objective / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pipeline": objective}))


RANKS = ("mean_average_precision", "precision@1", "loss")


def test_pipelines_that_rank_the_same_candidates_are_compared(top):
    write_ranked(top, "retrieval", 1, (*RANKS, "precision@5", "corpus_ndcg"))
    write_ranked(top, "answer_selection", 2, (*RANKS, "accuracy"))
    found = of(top, "retrieval", "answer_selection")
    assert found.cells.keys() == {f"test/ranking/{name}" for name in RANKS[:2]}
    for place, name in enumerate(("retrieval", "answer_selection")):
        alone = of(top, name).cells[f"test/{name}/mean_average_precision"][0]
        together = found.cells["test/ranking/mean_average_precision"][place]
        assert (together.value, together.low, together.high) == (alone.value, alone.low, alone.high)
    assert 0 < together.p_value < 1
    assert set(found.units.values()) == {"queries"}


def test_pipelines_that_do_not_rank_the_same_candidates_are_refused(top):
    write_ranked(top, "retrieval", 1, RANKS, key=0)
    write_ranked(top, "answer_selection", 2, RANKS)
    with pytest.raises(DataError, match="predicted different data: 'key' is 0 and 1"):
        of(top, "retrieval", "answer_selection")
    with pytest.raises(ConfigurationError, match=r"no test metric in common: 'retrieval' .* Compare runs of one task"):
        of(top, "retrieval", "a")
    write_ranked(top / "other", "retrieval", 1, ("corpus_ndcg",))
    runs = [find_run("retrieval", top / "other"), find_run("answer_selection", top)]
    with pytest.raises(ConfigurationError, match="'retrieval' has searched a corpus, and not ranked the candidates"):
        compare(runs, stage="test")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: rows[:-1], r"test.jsonl:200: 'a' predicted 200 rows and 'd' 199. Test both on the same file"),
        (
            lambda rows: [row if row["id"] != 6 else {**row, "text": "another"} for row in rows],
            r"test.jsonl:7: 'a' and 'd' predicted different data: 'text' is 'text 6' and 'another'",
        ),
        (
            lambda rows: [{**row, "label": 1 - row["label"]} for row in rows],
            r"test.jsonl:1: 'a' and 'd' predicted different data: 'label' is",
        ),
    ],
)
def test_predictions_of_other_data_are_refused(top, change, says):
    write(top, "d", change(rows_of(0.8, 1)))
    with pytest.raises(DataError, match=says):
        of(top, "a", "d")


def test_a_metric_that_predictions_do_not_give_has_no_interval(top, caplog):
    write(top, "d", rows_of(0.8, 1), test={"test/seq_class/accuracy": 0.123, "test/seq_class/f1": 0.5})
    found = of(top, "d", "a")
    assert found.units == {}
    assert found.cells["test/seq_class/accuracy"][0].value == 0.123
    assert found.cells["test/seq_class/accuracy"][1].difference is not None


def test_the_order_of_classes_does_not_matter():
    """Two models, of which each has classes in the order of its training data; more than 50 have no names in logs."""
    count = 60
    names = [f"class {number}" for number in range(count)]
    labels = GENERATOR.integers(0, count, 300)
    found = np.where(GENERATOR.random(300) < 0.5, labels, GENERATOR.integers(0, count, 300))
    scores = GENERATOR.dirichlet(np.ones(count), 300)
    measures = []
    for order in (range(count), GENERATOR.permutation(count)):
        rows = [
            {"label": names[label], "prediction": names[pred], "scores": row[list(order)].tolist()}
            for label, pred, row in zip(labels, found, scores, strict=True)
        ]
        run = Labelled(
            {"label_column": "label"}, [names[number] for number in order], False, ["accuracy", "f1", "loss"]
        )
        measures.append(OBJECTIVES["seq_class"](rows, run))
    first, second = measures
    assert (first.names, first.classes) == (("accuracy", "f1", "loss"), second.classes)
    np.testing.assert_allclose(first.statistics, second.statistics)
    assert first.observed[2] == pytest.approx(-np.log(scores[np.arange(300), labels]).mean())


def test_without_an_export_classes_are_those_that_were_logged(top, caplog):
    import shutil

    shutil.rmtree(top / "pre_trained_models")
    assert set(of(top, "a", "c").units) == {"test/seq_class/accuracy", "test/seq_class/f1"}
    for name in ("a", "c"):
        path = top / "checkpoints" / name / "config.yaml"
        path.write_text(json.dumps({"label_column": "gone"}))
    assert of(top, "a", "c").units == {}


def test_runs_are_found_by_name_and_folder(top, monkeypatch):
    monkeypatch.chdir(top)
    for name in ("a", "checkpoints/a", str(top / "predictions" / "a"), "pre_trained_models/a/"):
        assert find_run(name, top).members[0].results["name"] == "a"
    assert find_run("checkpoints/s-seeds", top).name == "s"
    for name, says in {
        "s-sedes": "there is no such run in .*Did you mean 's-seeds'.*Finished runs: a, b, c, s-seeds",
        "x": "there is no such run",
    }.items():
        with pytest.raises(ConfigurationError, match=says):
            find_run(name, top)
    (top / "checkpoints" / "x").mkdir()
    for name, says in {"x": "no results yet, as it is not finished", "x-seeds": "Without results yet: .*x"}.items():
        with pytest.raises(ConfigurationError, match=says):
            find_run(name, top)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a", "a"], "a: this run is given twice"),
        (["--metric", "f1"], "No runs are given; they come before the flags"),
        (
            ["a", "b", "--metric", "acuracy"],
            "--metric: 'acuracy' is not a test metric of all runs. Did you mean 'accuracy'",
        ),
        (["a", "--format", "html"], "--format html: give the file of the page, as --output"),
        (["a", "--output", "."], r"--output \.: this is a folder. Give a file, as comparison.md"),
        (["a", "--fromat", "html"], r"--fromat: unknown flag. Did you mean '--format'\?"),
        (["a", "--confidence", "95"], "--confidence: found '95', expected a number greater than 0 and less than 1"),
    ],
)
def test_mistakes_of_the_command(top, words, says, capsys, monkeypatch):
    monkeypatch.chdir(top)  # the only folder that may be replaced
    split = next((n for n, word in enumerate(words) if word.startswith("--")), len(words))
    assert main([*words[:split], "--output_dir", str(top), *words[split:]]) == 2
    assert re.search(says, capsys.readouterr().err)


def test_the_formats(top, capsys):
    def shown(*words: str) -> str:
        assert main(["a", "s-seeds", "--output_dir", str(top), "--num_resamples", "500", *words]) == 0
        return capsys.readouterr().out

    text = shown()
    assert re.search(r"test/seq_class/accuracy +69.0 +84.3 ± 9.5\n +\[6", text) is not None, text
    assert "BCa bootstrap over rows (500 resamples" in text
    assert shown() == text, "seeds are fixed"
    assert "| test/seq_class/f1 | " in shown("--format", "markdown", "--metric", "f1")
    tex = shown("--format", "latex", "--metric", "f1")
    assert re.search(
        r"(?m)^test/seq\\_class/f1 & [\d.]+ \[[\d., ]+\] & [\d.]+ \$\\pm.* \+[\d.]+\* p over rows (\$<\$ )?0.\d+ \\\\$",
        tex,
    )
    assert tex.count("rule") == 3
    valid = shown("--stage", "valid")
    assert "valid/seq_class/f1  50.0  50.0 ± 0.0" in valid
    assert "bootstrap" not in valid


@pytest.mark.parametrize(("shares", "star"), [((0.95, 0.5, 0.5), False), ((0.95, 0.94, 0.96), True)])
def test_a_lucky_seed_is_not_significant(shares, star, top, capsys, tmp_path):
    """Over rows, both are significant; over seeds only that in which all seeds are better."""
    for series, of_series in (("base", (0.5, 0.5, 0.5)), ("tuned", shares)):
        names = [f"{series}{number}" for number in range(3)]
        for name, share in zip(names, of_series, strict=True):
            write(top, name, rows_of(share, 7 if share == 0.5 else ord(name[-1])))
        (top / "checkpoints" / f"{series}-seeds").mkdir()
        results = json.dumps({"name": series, "runs": names, "metrics": {}})
        (top / "checkpoints" / f"{series}-seeds" / "results.json").write_text(results)
    _, cell = of(top, "base-seeds", "tuned-seeds").cells["test/seq_class/accuracy"]
    assert cell.p_value < 0.01
    assert (cell.p_of_seeds < 0.05) == star == cell.is_below(0.05)
    # Holm's correction is over the same comparisons; that with a single seed is none
    other = of(top, "base-seeds", "s-seeds").cells["test/seq_class/accuracy"][1].p_of_seeds
    together = of(top, "base-seeds", "tuned-seeds", "a", "s-seeds").cells["test/seq_class/accuracy"]
    corrected = [*holm([cell.p_of_seeds, other])]
    assert [each.p_of_seeds for each in together[1:]] == [corrected[0], None, corrected[1]]
    for name in ("terminal", "markdown", "latex", "html"):
        path = tmp_path / name
        words = ["--format", name, "--output", str(path), "--num_resamples", "500", "--metric", "accuracy"]
        assert main(["base-seeds", "tuned-seeds", "--output_dir", str(top), *words]) == 0
        page = path.read_text("utf-8")
        rows = re.search(r"\+\d+\.\d(\*?)\s*(?:<.+?>)*\s*p over rows", page)
        assert rows is not None, page
        assert rows[1] == "*" * star, page
        assert re.search(r"p over seeds (&lt; |< |\$<\$ )?0\.\d+", page), page
        for covered in ("covers the sample of the data", "covers the randomness of training"):
            assert covered in " ".join(page.split())
        assert "not tested" not in page
    assert main(["a", "base-seeds", "--output_dir", str(top), "--num_resamples", "500"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "The randomness of training is not tested where a run has one seed (a)" in shown


def test_the_page_stands_alone(top, tmp_path):
    path = tmp_path / "page.html"
    assert main(["a", "s-seeds", "--output_dir", str(top), "--format", "html", "--output", str(path)]) == 0
    page = path.read_text("utf-8")
    assert not re.search(r"https?:|src=|@import|url\(", page), "nothing is loaded"
    assert "prefers-color-scheme: dark" in page
    assert page.count("<svg") == 2
    assert page.count("<polyline") == 6, "valid/loss and train/loss of a, b and c"

    class Balanced(html.parser.HTMLParser):
        stack: list[str] = []

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag not in ("meta", "br", "line", "circle"):
                self.stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in ("line", "circle"):
                assert self.stack.pop() == tag

    reader = Balanced()
    reader.feed(page)
    assert reader.stack == []


@pytest.mark.parametrize("ids", [range(12), [f"row {n}" for n in range(12)], [0] * 12])
def test_rankings_with_ties_are_those_of_the_run_whatever_ids_the_data_have(ids):
    """Ties are broken by the places of rows, not by a column "id"."""
    labels, scores, queries = [0, 1, 0, 0] * 3, [0.5, 0.5, -1.0, 0.5] * 3, np.repeat([7, 8, 9], 4).tolist()
    rows = [
        {"id": i, "label": label, "scores": score, "key": query}
        for i, label, score, query in zip(ids, labels, scores, queries, strict=True)
    ]
    expected = ranking_metrics(np.array(scores), np.array(labels), np.array(queries), np.arange(12))
    run = Labelled({"label_column": "label", "index_column": "key"}, None, False, [*expected])
    found = OBJECTIVES["answer_selection"](rows, run)
    assert {n: v for n, v in zip(found.names, found.observed, strict=True) if n in expected} == pytest.approx(expected)


def test_every_logged_moment_is_read(top):
    path = top / "checkpoints" / "a" / "metrics.jsonl"
    path.write_bytes('{"step": 1, "valid/f1_class_a\u2028b\x85": 1.0}\n{"step": 2}\n{"step": 3, "é'.encode()[:-1])
    assert [moment["step"] for moment in find_run("a", top).members[0].curves()] == [1, 2]


def test_curves():
    for low in (0.0, 2 / 3):
        assert "nan" not in chart("f1", [Curve("a", 0, [(1, low), (2, low + 1.2e-16)])]), "equal but for rounding"
    assert ticks(0, 1) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-3e-5, 7e-5)[0] <= -3e-5
    points = [(float(n), float(n % 2)) for n in range(10 * MOST_POINTS)]
    few = thinned(points)
    assert len(few) == MOST_POINTS
    assert few[-1] == (points[-1][0], 0.5)
    assert series_in([{"step": 1, "a": 1.0, "b": True, "c": float("nan"), "d": None}]).keys() == {"a", "b"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pipeline", "flags", "unit", "without"),
    [
        ("seq_class", {}, "rows", []),
        ("seq_class", {"label_weights": [0.5, 1.5, 1.0], "label_smoothing": 0.2}, "rows", []),
        ("masked_lm_and_seq_class", {}, "rows", []),
        ("answer_selection", {}, "queries", []),
        ("answer_selection", {"metrics_empty_target_action": "neg"}, "queries", []),
        ("answer_selection", {"label_weights": [0.5, 1.5], "label_smoothing": 0.2}, "queries", []),
        ("answer_selection", {"k": 3, "classification_head_type": "AE_k", "pad_to_k": True}, "queries", []),
        ("retrieval", {}, "queries", ["loss"]),
        ("question_answering", {}, "questions", ["end_accuracy", "loss", "start_accuracy"]),
        ("named_entity_recognition", {"max_sequence_length": 12}, "sentences", ["loss"]),
        ("summarization", {"model": "t5"}, "rows", ["loss"]),
    ],
)
def test_predictions_give_the_metrics_of_the_run(pipeline, flags, unit, without, tmp_path):
    """Metrics of real runs are computed again from the file of predictions, and equal, except some losses."""
    from tests import runs

    runs.run(tmp_path, pipeline=pipeline, learning_rate=1e-2, **flags)
    found = compare([find_run("run", tmp_path / "out")], stage="test", num_resamples=50)
    assert {name.rpartition("/")[2] for name in found.cells if name not in found.units} == {*without}
    assert set(found.units.values()) == {unit}
    for cells in (found.cells[name] for name in found.units):
        assert cells[0].low <= cells[0].value + tolerances.RESAMPLED
