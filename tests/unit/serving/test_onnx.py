"""Exports to ONNX: outputs of onnxruntime equal the model's, at other sizes than the traced ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tests import runs, tiny
from transformers_framework.exceptions import ConfigurationError, MissingDependencyError
from transformers_framework.families import FAMILIES
from transformers_framework.models.auto import missing_heads
from transformers_framework.registry import PIPELINES
from transformers_framework.serving import onnx
from transformers_framework.serving.onnx import TOLERANCE, check_exportable, write_onnx

NEEDS = pytest.mark.needs("onnx", "onnxscript", "onnxruntime")
CLASSIFIER, TOKENS = "AutoModelForSequenceClassification", "AutoModelForTokenClassification"
CASES = {
    "bert": CLASSIFIER,
    "roberta": "AutoModelForQuestionAnswering",
    "distilbert": "AutoModelForMaskedLM",
    "electra": "AutoModelForPreTraining",
    "deberta_v2": TOKENS,
    "albert": CLASSIFIER,
    "mpnet": "AutoModel",
    "modernbert": CLASSIFIER,
}
OTHERS = [
    name
    for name, family in FAMILIES.items()
    if name not in {"auto", *CASES}
    and family.no_onnx is None
    and not missing_heads(PIPELINES["token_class"], family.model_type)
    and not tiny.config_for(name).is_encoder_decoder
]


def largest_difference(folder: Path, head: str, name: str, **inputs: torch.Tensor) -> float:
    """Return how far outputs of onnxruntime are from those of transformers, whatever the exporter says of itself."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "onnx" / name, providers=["CPUExecutionProvider"])
    model = getattr(transformers, head).from_pretrained(folder).eval()
    known = {each.name for each in session.get_inputs()}
    assert known <= {*inputs}
    with torch.no_grad():
        wanted = model(**{key: value for key, value in inputs.items() if key in known})
    found = session.run(None, {key: value.numpy() for key, value in inputs.items() if key in known})
    names = [each.name for each in session.get_outputs()]
    assert {*names} <= {*wanted.keys()}, "outputs are named as those of transformers"
    pairs = [(ours, wanted[key].numpy()) for key, ours in zip(names, found, strict=True)]
    assert all(ours.shape == theirs.shape for ours, theirs in pairs)
    mask = inputs["attention_mask"].numpy() > 0  # outputs at padding are not read
    differences = [np.abs(ours - theirs) for ours, theirs in pairs]
    return max(float((each[mask] if each.shape[:2] == mask.shape else each).max()) for each in differences)


def batch(rows: int, length: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(rows)
    ids = torch.randint(5, 15, (rows, length), generator=draw)
    lengths = torch.randint(1, length + 1, (rows, 1), generator=draw)
    types = torch.randint(0, 2, (rows, length), generator=draw)
    return {
        "input_ids": ids,
        "attention_mask": (torch.arange(length) < lengths).long(),
        "token_type_ids": types,
    }


@NEEDS
@pytest.mark.parametrize(
    ("family", "head"),
    [
        *CASES.items(),
        *(pytest.param(name, TOKENS, marks=pytest.mark.slow) for name in OTHERS),
    ],
)
def test_onnxruntime_gives_what_the_model_gives(tmp_path: Path, family: str, head: str) -> None:
    folder = tiny.save_checkpoint(family, tmp_path / family, head, **runs.LIVELY)
    found = write_onnx(folder, head, quantizes=family == "bert")
    assert found["model.onnx"] < TOLERANCE
    for rows, length in ((1, 1), (4, 23), (7, 9)):
        assert largest_difference(folder, head, "model.onnx", **batch(rows, length)) < TOLERANCE
    if family == "bert":
        assert found["model_int8.onnx"] < 0.1
        sizes = [(folder / "onnx" / name).stat().st_size for name in found]
        assert sizes[1] < sizes[0]


@NEEDS
def test_texts_beyond_windows_of_attention_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that is right for short texts only is not written."""
    folder, lengths = tiny.save_checkpoint("modernbert", tmp_path / "modernbert", TOKENS, **runs.LIVELY), []
    computed = onnx.outputs_of

    def differs(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if torch.compiler.is_exporting():
            return computed(model, inputs)
        lengths.append(inputs["input_ids"].shape[1])
        return {name: value + (lengths[-1] > 2 * 16) for name, value in computed(model, inputs).items()}

    monkeypatch.setattr(onnx, "outputs_of", differs)
    with pytest.raises(ValueError, match="its outputs would differ from those of the model by"):
        write_onnx(folder, TOKENS, quantizes=False)
    assert max(lengths) == tiny.config_for("modernbert").max_position_embeddings
    assert not (folder / "onnx").exists()


def test_what_cannot_be_exported_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigurationError, match=r"'bart' .*it is an encoder-decoder"):
        check_exportable(tiny.config_for("bart"), [CLASSIFIER])
    with pytest.raises(ConfigurationError, match="reads positions of candidates"):
        check_exportable(tiny.config_for("bert"), ["AutoModelForJointReRanking"])
    for name, family in FAMILIES.items():
        if family.no_onnx is not None:
            with pytest.raises(ConfigurationError, match=f"'{family.model_type}'"):
                check_exportable(tiny.config_for(name), [CLASSIFIER])


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "PACKAGES", ("no_such_package",))
    words = runs.command(
        tmp_path, export_onnx=True, train_dataset=tiny.write_jsonl(tmp_path / "t.jsonl", tiny.pairs(8, 0))
    )
    with pytest.raises(MissingDependencyError, match=r"--export_onnx needs .*transformers-framework\[onnx\]"):
        assert runs.build(words).trainer


def test_a_failure_is_logged_and_the_next_model_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: pytest.LogCaptureFixture
) -> None:
    tried: list[tuple[str, str]] = []

    def fails(folder: Path, head: str, *, quantizes: bool) -> dict[str, float]:
        tried.append((folder.name, head))
        raise RuntimeError("no operator\nfor this")

    monkeypatch.setattr(onnx, "PACKAGES", ())
    monkeypatch.setattr(onnx, "write_onnx", fails)
    flags: dict[str, Any] = {"pipeline": "masked_lm_and_answer_selection", "export_onnx": "int8", "max_steps": 1}
    folders = runs.run(tmp_path, train_dataset=tiny.write_jsonl(tmp_path / "rows.jsonl", tiny.pairs(8, 0)), **flags)
    assert tried == [("answer_selection", CLASSIFIER), ("masked_lm", "AutoModelForMaskedLM")]
    assert "masked_lm was not exported to ONNX (no operator for this); the checkpoint there is complete." in said.text
    assert (folders.pre_trained_models / "final" / "masked_lm" / "model.safetensors").exists()
