"""A retrieval loss from outside the tree: one function and one row, and everything that ours have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests import runs, tiny
from tests.outside import package  # noqa: F401
from tests.tolerances import approx
from transformers_framework.cli.main import main

LOSS = '''
"""Push queries away from the passages of negatives, by their cosine similarity above a margin."""
import torch

calls = []

def hinge_loss(batch, settings):
    calls.append((settings.margin, settings.scale, batch.negatives is None))
    similar = torch.nn.functional.cosine_similarity(batch.query, batch.passage, dim=-1)
    apart = torch.where(batch.labels == 1, 1 - similar, (similar - settings.margin).relu())
    return torch.where(batch.labels == -100, 0, apart).sum()
'''
REGISTER = """
from transformers_framework.losses.retrieval.table import RetrievalLoss
from transformers_framework.registration import register_retrieval_loss

margin = {"cosine": 0.25, "euclidean": 2.0, "manhattan": 2.0}
row = RetrievalLoss("my_losses.hinge:hinge_loss", needs_label=True, negatives="refused", margin=margin)
register_retrieval_loss("hinge_loss", row)
"""
FILES = {"my_losses/__init__.py": REGISTER, "my_losses/hinge.py": LOSS}


@pytest.fixture
def flags(tmp_path: Path) -> dict[str, object]:
    rows = runs.rows_for("retrieval", 8)
    data = {f"{stage}_dataset": tiny.write_jsonl(tmp_path / f"{stage}.jsonl", rows) for stage in ("train", "valid")}
    return {
        "pipeline": "retrieval",
        "pre_trained_model": tiny.save_checkpoint("bert", tmp_path / "bert"),
        "import": "my_losses",
        "loss_fn": "hinge_loss",
        "max_steps": 2,
        **data,
    }


def test_a_loss_is_one_function_and_one_row(
    flags: dict[str, object],
    tmp_path: Path,
    package,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    package(FILES)
    done = runs.run(tmp_path, **flags)
    from my_losses.hinge import calls  # type: ignore[import-not-found]

    logged = runs.metrics(done, "valid")
    assert calls[0] == (0.25, 1.0, True), "its default margin, no scale, no hard negatives"
    assert 0 < logged["valid/retrieval/loss"] < 2
    config = yaml.safe_load(done.config.read_text())
    assert (config["import"], config["loss_fn"]) == (["my_losses"], "hinge_loss")
    runs.run(tmp_path, **flags | {"name": "wider", "margin": 0.75})
    assert calls[-1][0] == approx(0.75)
    assert main(["--import", "my_losses", "--pipeline", "retrieval", "--model", "bert", "--help"]) == 0
    assert "hinge_loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale": 2}, "--scale: --loss_fn hinge_loss does not use it. Leave it out"),
        ({"label_column": None}, "--label_column is needed for the train data set: --loss_fn hinge_loss learns from"),
        ({"input_columns": ["question", "answer", "answer2"]}, "would ignore the hard negatives in 'answer2'"),
        ({"loss_fn": "hinge_los"}, "--loss_fn: found 'hinge_los', expected one of .*Did you mean 'hinge_loss'"),
    ],
)
def test_its_row_decides_as_ours_do(
    given: dict[str, object],
    message: str,
    flags: dict[str, object],
    tmp_path: Path,
    package,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    package(FILES)
    runs.run(tmp_path, status=2, **flags | given)
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('"no path"', "expected an import path module:name, found 'no path'"),
        (
            '"my_losses.hinge:hinge_loss", in_batch=True',
            "would change with --eval_batch_size. Name its loss in evaluation",
        ),
    ],
)
def test_rows_that_cannot_be(
    row: str,
    message: str,
    flags: dict[str, object],
    tmp_path: Path,
    package,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    register = REGISTER.replace(
        '"my_losses.hinge:hinge_loss", needs_label=True, negatives="refused", margin=margin', row
    )
    package({**FILES, "my_losses/__init__.py": register})
    runs.run(tmp_path, status=2, **flags)
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_name_of_ours_is_taken(
    flags: dict[str, object],
    tmp_path: Path,
    package,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    package({**FILES, "my_losses/__init__.py": REGISTER.replace('"hinge_loss"', '"triplet_loss"')})
    runs.run(tmp_path, status=2, **flags)
    assert "my_losses registers 'triplet_loss', which transformers_framework has already" in " ".join(
        capsys.readouterr().err.split()
    )
