"""How exactly matrices of float32 are multiplied."""

import logging

import pytest
import torch

from tests import runs
from transformers_framework.runtime.precision import set_float32_matmul_precision


@pytest.fixture(autouse=True)
def restored():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("device", "asked", "found", "logged"),
    [
        ("cuda", None, "high", "--float32_matmul_precision high (faster; highest is exact float32)"),
        ("cuda", "medium", "medium", "--float32_matmul_precision medium (faster; highest is exact float32)"),
        ("cuda", "highest", "highest", "--float32_matmul_precision highest"),
        ("mps", None, "highest", None),
        ("cpu", None, "highest", None),
        ("cpu", "medium", "medium", None),
    ],
)
def test_gpus_use_tensor_cores_unless_told_otherwise(device, asked, found, logged, said):
    torch.set_float32_matmul_precision("high")  # what an earlier run of this process left
    with said.at_level(logging.INFO, "transformers_framework"):
        set_float32_matmul_precision(device, float32_matmul_precision=asked)
    assert torch.get_float32_matmul_precision() == found
    assert [record.getMessage() for record in said.records] == (
        [f"float32 matrix products: {logged}"] if logged else []
    )


def test_a_run_has_what_its_flag_says(tmp_path):
    experiment = runs.build(runs.command(tmp_path, pipeline="seq_class", float32_matmul_precision="medium"))
    experiment.prepare_machine()
    assert torch.get_float32_matmul_precision() == "medium"
