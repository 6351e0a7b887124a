"""The tables of names: every row leads to something that is there, every wrong name to the right one."""

from __future__ import annotations

import inspect

import pytest
import transformers

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.objectives.objective import Objective
from transformers_framework.pipelines.pipeline import Pipeline
from transformers_framework.registry import (
    MODELS,
    OPTIMIZERS,
    PIPELINES,
    SCHEDULERS,
    lookup,
    options_of,
    pipeline_spec,
    resolve,
)

TABLES = {"pipeline": PIPELINES, "model": MODELS, "optimizer": OPTIMIZERS, "scheduler": SCHEDULERS}


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_has_what_its_row_names(name):
    spec = PIPELINES[name]
    assert spec.needs, "the overview shows it"
    assert spec.learns, "the overview shows it"
    assert issubclass(resolve(spec.module), Pipeline)
    inputs = resolve(spec.inputs)
    assert {"pre_process", "post_process", "columns", "model_keys"} <= set(dir(inputs))
    objectives = [resolve(path) for path in spec.objectives]
    assert objectives
    for objective in objectives:
        assert issubclass(objective, Objective)
        assert not inspect.isabstract(objective)
        assert hasattr(getattr(transformers, objective.head), "_model_mapping"), "its head is an Auto class"
    assert len({objective.name for objective in objectives}) == len(objectives), "logs tell them apart by name"


def test_an_objective_alone_is_called_as_its_pipeline():
    logged_as = {
        "cluster_random_token_detection": "token_detection",
        "random_token_detection": "token_detection",
        "named_entity_recognition": "token_class",
        "pos_tagging": "token_class",
        "structural_pretraining": "answer_selection",
    }
    for name, spec in PIPELINES.items():
        if len(spec.objectives) == 1:
            assert resolve(spec.objectives[0]).name == logged_as.get(name, name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("masked_lm+swapped_lm", "both corrupt the input"),
        ("masked_lm+masked_lm", "only once"),
        ("seq_class+token_class", "must take the same inputs"),
        ("pos_tagging+token_class", "several parts learn token_class"),
        ("seq_class+", "unknown pipeline ''"),
    ],
)
def test_parts_that_do_not_go_together_say_why(name, reason):
    with pytest.raises(ConfigurationError, match=reason):
        pipeline_spec(name)


@pytest.mark.parametrize("name", [name for name in PIPELINES if "_and_" in name])
def test_joint_rows_are_what_their_parts_make(name):
    """But for ELECTRA's own two, which no other row has alone."""
    if name == "token_detection_and_masked_lm":
        return
    first, _, last = name.rpartition("_and_")
    for joined in (f"{first}+{last}", f"{last}+{first}"):
        made, row = pipeline_spec(joined), PIPELINES[name]
        assert (made.inputs, made.objectives, made.module) == (row.inputs, row.objectives, row.module)


@pytest.mark.parametrize(("name", "path"), [*OPTIMIZERS.items(), *SCHEDULERS.items()])
def test_optimizers_and_schedulers_are_functions_called_as_their_row(name, path):
    function = resolve(path)
    assert inspect.isfunction(function)
    assert function.__name__ == name
    assert function.__doc__, "the help of its flags"


def test_models_are_families_of_transformers_each_once():
    families = [family.model_type for name, family in MODELS.items() if name != "auto"]
    assert len(set(families)) == len(families)
    known = [family for family in families if family in transformers.CONFIG_MAPPING]
    assert len(known) > 30, "an older transformers lacks some of them, but not most"
    for name, family in MODELS.items():
        assert name == family.model_type.replace("-", "_"), "our name is theirs, spelled as a flag"


@pytest.mark.parametrize(
    ("flag", "name", "closest"),
    [
        ("pipeline", "answer_selecton", "answer_selection"),
        ("pipeline", "seqclass", "seq_class"),
        ("model", "deberta-v2", "deberta_v2"),
        ("model", "robertta", "roberta"),
        ("optimizer", "adam", "adamw"),
        ("scheduler", "linear", "linear_decay"),
    ],
)
def test_a_wrong_name_is_answered_with_the_closest_and_all_others(flag, name, closest):
    with pytest.raises(ConfigurationError) as error:
        lookup(TABLES[flag], name, flag)
    assert str(error.value) == (
        f"--{flag}: unknown {flag} '{name}'. Did you mean '{closest}'? Known: {', '.join(sorted(TABLES[flag]))}."
    )


def test_a_name_like_no_other_is_answered_without_a_guess():
    with pytest.raises(ConfigurationError, match=r"unknown optimizer 'xyzzy'\. Known: adafactor, adam8bit"):
        lookup(OPTIMIZERS, "xyzzy", "optimizer")


def test_options_are_those_that_a_signature_asks_for_by_keyword():
    def target(injected, also=1, *, rate=1e-3, size): ...

    assert options_of(target, {"rate": 2, "injected": 3, "also": 4, "other": 5}) == {"rate": 2}
    assert options_of(target, {"size": 1, "rate": 2}) == {"size": 1, "rate": 2}


@pytest.mark.parametrize("module", sorted({spec.module for spec in PIPELINES.values()}))
def test_every_module_gets_the_flags_of_optimization(module):
    """A constructor that hands ``**kwargs`` to its parent takes the parent's flags."""
    given = {"optimizer": "adafactor", "weight_decay": 0.3, "scheduler": "cosine", "scheduler_interval": "epoch"}
    assert options_of(resolve(module), given) == given
