"""The core of an objective is small, and so is each capability beside it."""

import inspect

import numpy as np
import pytest

from transformers_framework.objectives import capabilities
from transformers_framework.objectives.masked_lm import MaskedLM
from transformers_framework.objectives.objective import Objective, Setup, active, num_items
from transformers_framework.objectives.retrieval import Retrieval
from transformers_framework.objectives.token_detection import TokenDetection
from transformers_framework.registry import PIPELINES, resolve

CORE, CAPABILITY = 12, 4  # members at most
MODULE = capabilities.__name__
CAPABILITIES = [
    kind
    for _, kind in inspect.getmembers(capabilities, inspect.isclass)
    if kind.__module__ == MODULE and not issubclass(kind, tuple)  # an argument of a capability
]


class Plain(Objective):
    """An objective of nothing but the core."""

    name, head = "plain", "AutoModel"

    def post_process(self, rows, batch, context):
        return {}

    def evaluate(self, output, batch):
        raise NotImplementedError

    def metrics(self, stage):
        return {}

    def predictions(self, output, batch):
        return {}


def members(family: type) -> set[str]:
    """Public names that a class declares, those of its objects included."""
    named = {*vars(family), *inspect.get_annotations(family)}
    return {name for name in named if not name.startswith("_")}


def test_an_objective_has_a_dozen_members():
    found = members(Objective) | vars(Plain(Setup())).keys()
    assert len(found) <= CORE, sorted(found)


@pytest.mark.parametrize("kind", CAPABILITIES, ids=lambda kind: kind.__name__)
def test_a_capability_has_few_members_and_is_of_some_objective(kind):
    assert len(members(kind)) <= CAPABILITY
    objectives = [resolve(path) for spec in PIPELINES.values() for path in spec.objectives]
    joint = resolve("objectives.joint_answer_selection:JointAnswerSelection")
    assert any(issubclass(objective, kind) for objective in (*objectives, joint))
    assert inspect.getdoc(kind)


def test_an_objective_without_capabilities_is_treated_as_they_say():
    plain = Plain(Setup())
    assert capabilities.head_of(plain, "bert") == capabilities.head_of(Plain, "electra") == "AutoModel"
    assert capabilities.default_weight(Plain) == 1
    assert capabilities.group_columns([plain]) == []
    assert not capabilities.generates(plain, "test")
    assert num_items(plain, {"labels": np.array([3, -100, 0])}) == 2
    batch = {"input_ids": 1}
    capabilities.corrupt_on_device([plain], batch, "train")
    assert batch == {"input_ids": 1}
    assert active([plain], "valid") == [plain]


def test_capabilities_of_classes_are_known_before_there_is_an_object():
    assert capabilities.head_of(TokenDetection, "electra") == "AutoModelForPreTraining"
    assert capabilities.head_of(Retrieval, "t5") == "AutoModelForTextEncoding"
    assert capabilities.default_weight(TokenDetection) == 50
    assert issubclass(MaskedLM, capabilities.Corrupts)
