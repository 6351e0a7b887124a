"""What each pipeline is held to, a row a pipeline and a row an objective: names in logs, heads, classes, flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import transformers

from tests import runs
from transformers_framework.registry import MODELS, resolve

CLASS_F1 = tuple(f"f1_class_{name}" for name in runs.CLASSES)
TAGS = ("B-animals", "B-kitchen", "I-animals", "I-kitchen", "O")
TAG_F1 = tuple(f"f1_class_{name}" for name in TAGS)
RANKING = ("mean_average_precision", "mean_reciprocal_rank", "ndcg", "precision@1", "hitrate@5")
RETRIEVAL = (*RANKING, "precision@5", "hitrate@100")
ROUGE = tuple(f"rouge{kind}_{part}" for kind in ("1", "2", "L", "Lsum") for part in ("fmeasure", "precision", "recall"))
READING = tuple(f"{part}{name}" for part in ("", "has_answer_", "no_answer_") for name in ("exact_match", "f1"))
ENTITIES = ("entity_f1", "entity_precision", "entity_recall")
# contract §2: what an objective logs in every stage, besides its loss, and what outside training only
LOGGED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "answer_selection": (("accuracy", "f1"), RANKING),
    "denoising": (("accuracy", "perplexity"), ()),
    "masked_lm": (("accuracy", "perplexity"), ("unigram_perplexity",)),
    "question_answering": (("start_accuracy", "end_accuracy"), READING),
    "retrieval": ((), RETRIEVAL),
    "seq_class": (("accuracy", "f1", *CLASS_F1), ()),
    "summarization": ((), (*ROUGE, "bleu")),
    "swapped_lm": (("accuracy", "perplexity"), ("unigram_perplexity",)),
    "token_class": (("accuracy", "f1", *TAG_F1), ENTITIES),
    "token_detection": (("accuracy", "f1", "precision", "recall", "replaced_ratio"), ()),
}
HIDING = ("masked_lm", "swapped_lm")
WRITING = ("denoising", "summarization")
CLASSES = {"answer_selection": ("LABEL_0",), "seq_class": runs.CLASSES, "token_class": TAGS}
LABELS = runs.UNKNOWN_TO_PREDICT


class Case(NamedTuple):
    """What a pipeline is held to.

    Args:
        family: The family that is tested by default; all others are slow.
        objectives: What is learned, by its names in logs.
        evaluated: What is evaluated too; the rest is there in training only. All of it when not given.
        alone: The pipeline that loads the export of what is evaluated; this one cannot load folders of several heads.
        flags: What the run is given besides.
    """

    family: str
    objectives: tuple[str, ...]
    evaluated: tuple[str, ...] | None = None
    alone: str | None = None
    flags: Mapping[str, Any] = {}


CASES = {
    "answer_selection": Case("bert", ("answer_selection",)),
    "cluster_random_token_detection": Case("bert", ("token_detection",)),
    "denoising": Case("t5", ("denoising",)),
    "masked_lm": Case("roberta", ("masked_lm",)),
    "masked_lm_and_answer_selection": Case(
        "distilbert", ("masked_lm", "answer_selection"), ("answer_selection",), "answer_selection"
    ),
    "masked_lm_and_seq_class": Case("albert", ("masked_lm", "seq_class"), ("seq_class",), "seq_class"),
    "masked_lm_and_token_class": Case("roberta", ("masked_lm", "token_class"), ("token_class",), "token_class"),
    "named_entity_recognition": Case("electra", ("token_class",)),
    "pos_tagging": Case("bert", ("token_class",)),
    "question_answering": Case("roberta", ("question_answering",)),
    "random_token_detection": Case("electra", ("token_detection",)),
    "retrieval": Case("bert", ("retrieval",)),
    "seq_class": Case("roberta", ("seq_class",)),
    "summarization": Case("bart", ("summarization",)),
    "swapped_lm": Case("modernbert", ("swapped_lm",)),
    "token_class": Case("distilbert", ("token_class",)),
    "token_detection_and_masked_lm": Case(
        "deberta_v2", ("masked_lm", "token_detection"), flags={"embedding_sharing": "gradient_disentangled"}
    ),
    "token_detection_and_masked_lm_and_seq_class": Case(
        "electra", ("masked_lm", "token_detection", "seq_class"), ("seq_class",), "seq_class",
        {"embedding_sharing": "shared"},
    ),
}  # fmt: skip
DEFAULT = {(name, case.family) for name, case in CASES.items()} | {("seq_class", "bart"), ("denoising", "mbart")}
MONITORED = {  # accuracy of all others
    "answer_selection": "mean_average_precision",
    "question_answering": "f1",
    "retrieval": "mean_average_precision",
    "summarization": "rougeL_fmeasure",
}


def auto_class(objective: str, family: str) -> Any:
    """Return what loads an exported head."""
    name = {
        "answer_selection": "AutoModelForSequenceClassification",
        "denoising": "AutoModelForSeq2SeqLM",
        "masked_lm": "AutoModelForMaskedLM",
        "question_answering": "AutoModelForQuestionAnswering",
        "retrieval": resolve("objectives.retrieval:Retrieval").head_for(MODELS[family].model_type),
        "seq_class": "AutoModelForSequenceClassification",
        "summarization": "AutoModelForSeq2SeqLM",
        "swapped_lm": "AutoModelForMaskedLM",
        "token_class": "AutoModelForTokenClassification",
        "token_detection": "AutoModelForPreTraining" if family == "electra" else "AutoModelForTokenClassification",
    }[objective]
    return getattr(transformers, name)


def case_of(pipeline: str, family: str) -> Case:
    """Return what a pipeline is held to in a family."""
    case = CASES[pipeline]
    return case._replace(flags={}) if family == "ibert" else case  # its quantized embeddings cannot be shared


def monitor_of(case: Case) -> str:
    """Return what decides on the best state."""
    objective = (case.evaluated or case.objectives)[-1]
    return f"valid/{objective}/{MONITORED.get(objective, 'accuracy')}"
