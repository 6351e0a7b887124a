"""Inputs of one's own: a class outside the package that derives from ``Inputs`` and says only what it must."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests import runs, tiny
from transformers_framework import registry
from transformers_framework.cli.main import main
from transformers_framework.inputs.inputs import NO_NEEDS, InputNeeds, Inputs
from transformers_framework.processing.windows import Ragged, inside, stretches
from transformers_framework.registry import PipelineSpec
from transformers_framework.restricted import PositiveInt


class TokenLists(Inputs):
    """Rows that were tokenized elsewhere.

    Args:
        tokenizer: Tokenizer of the run.
        type_vocabulary: Token types that the model can distinguish.
        needs: What the objectives of the run need.
        token_column: Column with the list of token ids of each row.
        max_sequence_length: Longest input in tokens.
    """

    def __init__(
        self,
        tokenizer: Any,
        type_vocabulary: int,
        needs: InputNeeds = NO_NEEDS,
        *,
        token_column: str,
        max_sequence_length: list[PositiveInt],
    ) -> None:
        super().__init__(tokenizer, max_sequence_length[0], needs)
        self.column = token_column

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def post_process(self, rows: Any, *, pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        found = Ragged.of(rows[self.column])
        lengths = np.minimum(found.lengths, self.max_length)
        width = -(-int(lengths.max()) // pad_to_multiple_of) * pad_to_multiple_of
        kept = Ragged(found.values[stretches(found.starts, lengths)], lengths)
        return {
            "input_ids": kept.padded(width, self.tokenizer.pad_token_id).astype(np.int64),
            "attention_mask": inside(lengths, width).astype(np.int64),
            "truncated": lengths < found.lengths,
        }


class ReadAsArrays(TokenLists):
    """The same, whose lists are read as arrays."""

    token_columns = property(lambda self: self.columns)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("family", "flags"),
    [
        (TokenLists, {}),
        (TokenLists, {"length_bucketing": True, "iterable": True}),
        (ReadAsArrays, {"length_bucketing": True}),
    ],
    ids=["plain", "stream", "arrays"],
)
def test_inputs_that_say_only_what_they_must_train(family, flags, tmp_path, monkeypatch, capsys):
    module = ModuleType("token_lists")
    vars(module).update(TokenLists=family)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    row = PipelineSpec(
        needs="lists of token ids",
        learns="masked tokens",
        inputs="token_lists:TokenLists",
        objectives=("objectives.masked_lm:MaskedLM",),
    )
    monkeypatch.setitem(registry.PIPELINES, "tokens", row)
    monkeypatch.setitem(runs.PIPELINE_FLAGS, "tokens", {"token_column": "ids"})
    tokenizer = tiny.tokenizer_for("bert")
    rows = [{"ids": tokenizer(text)["input_ids"]} for text in (pair["question"] for pair in tiny.pairs(40))]
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    stages = {f"{stage}_dataset": file for stage in ("train", "valid", "test", "predict")}
    words = runs.command(tmp_path, pipeline="tokens", max_steps=8, **stages, **flags)
    assert main([*words, "--check"]) == 0, capsys.readouterr().out
    assert main([*words, "--preview", "2"]) == 0, capsys.readouterr()
    folders = runs.run(tmp_path, pipeline="tokens", max_steps=8, **stages, **flags)
    assert runs.metrics(folders, "test")["test/masked_lm/loss"] > 0
    assert len(runs.predictions(folders, "predict")) == len(rows)
    assert main([*words[:4], "--help"]) == 0
    assert "Column with the list of token ids of each row." in " ".join(capsys.readouterr().out.split())
