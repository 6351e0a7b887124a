"""Retrieval by a checkpoint that reads texts in lower case, from a run to its export."""

from __future__ import annotations

import json
from pathlib import Path

from tests import runs, tiny
from tests.tolerances import approx


def test_an_export_reads_texts_as_its_run_did(tmp_path: Path) -> None:
    """RoBERTa's tokenizer tells capitals from small letters, and says so to none of its exports' readers."""
    rows = tiny.pairs(16, 0)
    shouted = [{**row, "question": row["question"].upper(), "answer": row["answer"].title()} for row in rows]
    small, large = (tiny.write_jsonl(tmp_path / f"{i}.jsonl", data) for i, data in enumerate((rows, shouted)))
    flags = {"pipeline": "retrieval", "model": "roberta"}
    trained = runs.run(tmp_path, train_dataset=large, test_dataset=large, lower_case=True, max_steps=1, **flags)
    export = trained.pre_trained_models / "final"
    assert json.loads((export / "sentence_bert_config.json").read_text("utf-8"))["do_lower_case"] is True
    for name, data in (("small", small), ("large", large)):
        again = runs.run(tmp_path, name=name, pre_trained_model=export, test_dataset=data, **flags)
        assert runs.scores(again) == approx(runs.scores(trained))
