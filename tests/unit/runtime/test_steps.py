"""How long a run trains where no flag says so."""

from __future__ import annotations

import pytest

from tests import runs
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.registry import PIPELINES, pipeline_spec
from transformers_framework.runtime.steps import default_epochs, has_default_length

PRE_TRAINING = {
    "masked_lm",
    "swapped_lm",
    "random_token_detection",
    "cluster_random_token_detection",
    "token_detection_and_masked_lm",
    "denoising",
    "structural_pretraining",
}


def test_which_pipelines_pre_train() -> None:
    own = PIPELINES.keys() & runs.PIPELINE_FLAGS.keys()  # plug-ins of other tests may be there
    assert {name for name in own if pipeline_spec(name).pre_trains} == PRE_TRAINING
    assert not pipeline_spec("masked_lm+seq_class").pre_trains
    assert not pipeline_spec("masked_lm_and_seq_class").pre_trains


@pytest.mark.parametrize(
    ("flags", "is_default"),
    [
        ({}, True),
        ({"max_steps": -1, "max_epochs": None, "max_time": None, "fast_dev_run": False}, True),
        ({"max_epochs": 0}, False),
        ({"max_epochs": -1}, False),
        ({"max_steps": 10}, False),
        ({"max_time": "00:01:00:00"}, False),
        ({"fast_dev_run": True}, False),
    ],
)
def test_what_sets_the_length(flags: dict[str, object], is_default: bool) -> None:
    assert has_default_length(flags) is is_default


def test_the_default_length() -> None:
    assert default_epochs({}, pre_trains=False) == 3
    assert default_epochs({"min_epochs": 5}, pre_trains=False) == 5
    with pytest.raises(ConfigurationError, match=r"--max_steps or --max_epochs is needed.*Give the number"):
        default_epochs({}, pre_trains=True)
