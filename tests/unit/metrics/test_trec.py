"""The lines of TREC runs and qrels: one place writes them, byte for byte as trec_eval reads them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import transformers_framework
from transformers_framework.metrics import trec


def test_one_module_writes_the_lines() -> None:
    package = Path(transformers_framework.__file__).parent
    writers = {path.name for path in package.rglob("*.py") if re.search(r"\bQ0\b|\} 0 \{", path.read_text("utf-8"))}
    assert writers == {"trec.py"}


def test_bytes_of_a_search() -> None:
    scores = np.array([[0.1, 1 / 3], [1e-9, -2.5]], dtype=np.float32)
    lines = trec.search_run(["who won?", 7], [["a%b", None], [2**64 - 1, "ü\tx"]], scores, tag="my run")
    assert list(lines) == [
        "who%20won? Q0 a%25b 1 0.100000001 my%20run",
        "who%20won? Q0 % 2 0.333333343 my%20run",
        "7 Q0 18446744073709551615 1 9.99999972e-10 my%20run",
        "7 Q0 ü%09x 2 -2.5 my%20run",
    ]
    assert list(trec.search_qrels(["who won?", "", 7], ["a%b", 1, "x y"])) == [
        "who%20won? 0 a%25b 1",
        "% 0 1 1",
        "7 0 x%20y 1",
    ]


@pytest.mark.parametrize(("action", "kept"), [("skip", False), ("neg", True)])
def test_bytes_of_candidates(action: str, kept: bool) -> None:
    parts = [
        ({"scores": np.array([0.1, 0.9]), "row_ids": np.arange(2)}, {"query": ["a", "a"], "label": [1, 0]}),
        ({"scores": np.array([0.5, 0.7]), "row_ids": np.arange(2, 4)}, {"query": ["b c", "a"], "label": [0, -100]}),
    ]
    files: dict[str, list[str]] = {}
    options = {"empty_target_action": action}
    for suffix, text in trec.candidate_files(parts, "query", "label", np.array, metric_options=options):
        files.setdefault(suffix, []).extend(text.splitlines())
    one, two, three = (trec.docno(row) for row in (1, 2, 3))
    assert files[".run"] == [
        f"a Q0 {one} 1 0.899999976 model",
        f"a Q0 {three} 2 0.699999988 model",
        "a Q0 0000000000000000-0 3 0.100000001 model",
        f"b%20c Q0 {two} 1 0.5 model",
    ]
    assert files[".qrels"] == [
        f"a 0 {one} 0",
        "a 0 0000000000000000-0 1",
        *([f"b%20c 0 {two} 0"] if kept else []),
    ]
    header, *values = files[".queries.csv"]
    assert header == "query,candidates,positives,average_precision,reciprocal_rank,ndcg,precision@1,hitrate@5"
    assert values == ["a,2,1,0.5,0.5,0.63093,0,1", *(["b c,1,0,0,0,0,0,0"] if kept else [])]
