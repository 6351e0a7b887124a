"""The tables of names: pipelines, models, optimizers, schedulers and loggers.

Nothing heavy is imported here. Rows name import paths such as ``"objectives.seq_class:SequenceClassification"``, of
this package where it has such a module, else of any other; :func:`resolve` imports one when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from transformers_framework.exceptions import ConfigurationError, did_you_mean
from transformers_framework.families import FAMILIES, Family
from transformers_framework.import_paths import resolve
from transformers_framework.plugins import load_installed
from transformers_framework.specs import PipelineSpec, Variant, every

SEQ_TO_SEQ = "pipelines.seq_to_seq:SeqToSeqPipeline"
BI_ENCODER = "pipelines.bi_encoder:BiEncoderPipeline"
ALONE = {
    SEQ_TO_SEQ: "learns with a decoder, which no other part shares",
    BI_ENCODER: "encodes two texts apart, which no other part does",
}


def _jointly(replaces: Mapping[str, str], order_flags: tuple[str, ...] = ()) -> dict[str, Variant]:
    """Return the variant for -k: several texts share an input and are classified by a joint head."""
    task_flags = ("classification_head_type", "separated")
    return {"k": Variant(replaces, task_flags=task_flags, order_flags=order_flags, remedy="models.joint:remedy")}


JOINT_RANKING = _jointly(  # candidates of a question
    {
        "inputs.text:TextInputs": "inputs.joint_candidates:JointCandidates",
        "objectives.answer_selection:AnswerSelection": "objectives.joint_answer_selection:JointAnswerSelection",
    },
    order_flags=("grouping", "selection"),
)
JOINT_CLASSES = _jointly(  # a claim and its evidence
    {
        "inputs.text:TextInputs": "inputs.claim_evidence:ClaimEvidence",
        "objectives.seq_class:SequenceClassification": "objectives.joint_seq_class:JointSequenceClassification",
    }
)
JOINT_STRUCTURE = _jointly(  # candidates of a span
    {
        "inputs.span_candidates:SpanCandidate": "inputs.span_candidates:SpanCandidates",
        "objectives.structure:StructuralPretraining": "objectives.structure:JointStructuralPretraining",
    }
)

PIPELINES: dict[str, PipelineSpec] = {
    "answer_selection": PipelineSpec(
        needs="question and candidate, label, query id",
        learns="ranking of candidates: one at a time, with context, or k jointly",
        inputs="inputs.text:TextInputs",
        objectives=("objectives.answer_selection:AnswerSelection",),
        variants=JOINT_RANKING,
        task_flags=("loss_fn", "train_group_size"),
        order_flags=("hard_negatives",),
    ),
    "cluster_random_token_detection": PipelineSpec(
        needs="1–2 text columns, a file of token clusters",
        learns="replaced token detection, with replacements from clusters of tokens",
        inputs="inputs.pretraining_text:PretrainingText",
        objectives=("objectives.cluster_token_detection:ClusterRandomTokenDetection",),
        order_flags=("packing",),
        pre_trains=True,
    ),
    "denoising": PipelineSpec(
        needs="1–2 text columns",
        learns="reconstruction of corrupted text: T5, BART and UL2 pre-training",
        inputs="inputs.pretraining_text:PretrainingText",
        objectives=("objectives.denoising:Denoising",),
        module=SEQ_TO_SEQ,
        flags=("models.generation_flags:generation_flags",),
        order_flags=("packing",),
        pre_trains=True,
    ),
    "masked_lm": PipelineSpec(
        needs="1–2 text columns",
        learns="masked language modelling",
        inputs="inputs.pretraining_text:PretrainingText",
        objectives=("objectives.masked_lm:MaskedLM",),
        order_flags=("packing",),
        pre_trains=True,
    ),
    "masked_lm_and_answer_selection": PipelineSpec(
        needs="question and candidate, label, query id",
        learns="masked language modelling and ranking of candidates, multi-task",
        inputs="inputs.text:TextInputs",
        objectives=("objectives.masked_lm:MaskedLM", "objectives.answer_selection:AnswerSelection"),
        variants=JOINT_RANKING,
        task_flags=("loss_fn", "train_group_size"),
    ),
    "masked_lm_and_seq_class": PipelineSpec(
        needs="text columns, label",
        learns="masked language modelling and sequence classification, multi-task",
        inputs="inputs.text:TextInputs",
        objectives=("objectives.masked_lm:MaskedLM", "objectives.seq_class:SequenceClassification"),
        variants=JOINT_CLASSES,
        task_flags=("problem_type",),
    ),
    "masked_lm_and_token_class": PipelineSpec(
        needs="a list of words, a list of labels",
        learns="masked language modelling and token classification, multi-task",
        inputs="inputs.words:WordInputs",
        objectives=("objectives.masked_lm:MaskedLM", "objectives.token_class:TokenClassification"),
    ),
    "named_entity_recognition": PipelineSpec(
        needs="a list of words, a list of labels",
        learns="named entities: one tag per word",
        inputs="inputs.words:WordInputs",
        objectives=("objectives.token_class:TokenClassification",),
    ),
    "pos_tagging": PipelineSpec(
        needs="a list of words, a list of labels",
        learns="parts of speech: one tag per word",
        inputs="inputs.words:WordInputs",
        objectives=("objectives.token_class:TokenClassification",),
    ),
    "question_answering": PipelineSpec(
        needs="question, context, answers",
        learns="the span of a text that answers a question, or that there is none",
        inputs="inputs.question_context:QuestionContext",
        objectives=("objectives.question_answering:QuestionAnswering",),
    ),
    "random_token_detection": PipelineSpec(
        needs="1–2 text columns",
        learns="replaced token detection, with random replacements",
        inputs="inputs.pretraining_text:PretrainingText",
        objectives=("objectives.token_detection:RandomTokenDetection",),
        order_flags=("packing",),
        pre_trains=True,
    ),
    "retrieval": PipelineSpec(
        needs="query and passage, or query and a corpus; label, query id",
        learns="embeddings of queries and passages, for dense retrieval",
        inputs="inputs.query_passage:QueryPassage",
        objectives=("objectives.retrieval:Retrieval",),
        module=BI_ENCODER,
        model="models.towers:load_bi_encoder",
        flags=("retrieval.corpus:load_corpus",),
        remembers="models.sentence_transformers:remembered",
        callbacks=("retrieval.corpus_search:corpus_search", "serving.embeddings:embeddings_file"),
        checks=("retrieval.corpus_search:check_corpus",),
        task_flags=(
            *("loss_fn", "distance_fn", "scores_fn", "pooling", "embedding_size", "normalize_embeddings"),
            "separate_towers",
        ),
    ),
    "seq_class": PipelineSpec(
        needs="text columns, label",
        learns="one class per sequence, several classes, or a number",
        inputs="inputs.text:TextInputs",
        objectives=("objectives.seq_class:SequenceClassification",),
        variants=JOINT_CLASSES,
        task_flags=("problem_type",),
    ),
    "structural_pretraining": PipelineSpec(
        needs="documents",
        learns="which texts of documents belong together",
        inputs="inputs.span_candidates:SpanCandidate",
        objectives=("objectives.structure:StructuralPretraining",),
        variants=JOINT_STRUCTURE,
        task_flags=("structure",),
        pre_trains=True,
    ),
    "summarization": PipelineSpec(
        needs="document, one or more summaries",
        learns="summaries of documents",
        inputs="inputs.source_target:SourceTarget",
        objectives=("objectives.summarization:Summarization",),
        module=SEQ_TO_SEQ,
        flags=("models.generation_flags:generation_flags",),
    ),
    "swapped_lm": PipelineSpec(
        needs="1–2 text columns",
        learns="the original tokens, where some were replaced at random (no mask token)",
        inputs="inputs.pretraining_text:PretrainingText",
        objectives=("objectives.masked_lm:SwappedLM",),
        order_flags=("packing",),
        pre_trains=True,
    ),
    "token_class": PipelineSpec(
        needs="a list of words, a list of labels",
        learns="one class per word",
        inputs="inputs.words:WordInputs",
        objectives=("objectives.token_class:TokenClassification",),
    ),
    "token_detection_and_masked_lm": PipelineSpec(
        needs="1–2 text columns, a generator",
        learns="replaced token detection with a generator: ELECTRA and DeBERTa-v3 pre-training",
        inputs="inputs.pretraining_text:PretrainingText",
        objectives=("objectives.token_detection:GeneratorLM", "objectives.token_detection:TokenDetection"),
        module="pipelines.generator_discriminator:GeneratorDiscriminatorPipeline",
        model="models.generator:load_generator_discriminator",
        remembers="models.generator:remembered",
        order_flags=("packing",),
        task_flags=("embedding_sharing",),
        pre_trains=True,
    ),
    "token_detection_and_masked_lm_and_seq_class": PipelineSpec(
        needs="text columns, label, a generator",
        learns="the same, and sequence classification on the discriminator's backbone",
        inputs="inputs.text:TextInputs",
        objectives=(
            "objectives.token_detection:GeneratorLM",
            "objectives.token_detection:TokenDetection",
            "objectives.seq_class:SequenceClassification",
        ),
        variants=JOINT_CLASSES,
        module="pipelines.generator_discriminator:GeneratorDiscriminatorPipeline",
        model="models.generator:load_generator_discriminator",
        remembers="models.generator:remembered",
        task_flags=("embedding_sharing", "problem_type"),
    ),
}

# Auto classes that transformers does not have
OWN_HEADS = {"AutoModelForJointReRanking": "models.joint:AutoModelForJointReRanking"}

JOINT = "+"  # --pipeline masked_lm+seq_class: both on one backbone

MODELS: dict[str, Family] = FAMILIES  # `auto` reads the family from the checkpoint

OPTIMIZERS: dict[str, str] = {
    "adamw": "optimizers.adamw:adamw",
    "fuse_adam": "optimizers.fuse_adam:fuse_adam",
    "adafactor": "optimizers.adafactor:adafactor",
    "tf_adamw": "optimizers.tf_adamw:tf_adamw",
    "adam8bit": "optimizers.bitsandbytes:adam8bit",
    "adamw8bit": "optimizers.bitsandbytes:adamw8bit",
}

SCHEDULERS: dict[str, str] = {
    "constant": "schedulers.schedules:constant",
    "linear_decay": "schedulers.schedules:linear_decay",
    "cosine": "schedulers.schedules:cosine",
    "polynomial_decay": "schedulers.schedules:polynomial_decay",
    "polynomial_decay_layerwise": "schedulers.schedules:polynomial_decay_layerwise",
    "sqrt_decay": "schedulers.schedules:sqrt_decay",
    "normal_decay": "schedulers.schedules:normal_decay",
}

LOGGERS: dict[str, str] = {
    "csv": "loggers.csv_file:csv_file",
    "mlflow": "loggers.mlflow:mlflow",
    "tensorboard": "loggers.tensorboard:tensorboard",
    "wandb": "loggers.wandb:wandb",
}

# further callbacks of every run, in their order: functions that are called with the run (`run_parts.Run`) and return a
# callback of Lightning, which may be a `run_parts.EndsRun`, or None; their keyword-only arguments are flags
RUN_CALLBACKS: tuple[str, ...] = (
    "reports.throughput:throughput",  # first: the others read what it has counted
    "reports.progress:progress",
    "reports.details:details_report",
    "reports.results:results",
    "reports.figures.figures:figures",
    "serving.cards:model_cards",
    "reports.logged_run:logged_run",  # last that logs: it ends the runs of loggers
    "reports.disk:kept_checkpoints",
    "serving.onnx:onnx_export",
    "serving.hub_upload:hub_upload",
    "reports.summary:summary",
)


def lookup(table: Mapping[str, Any], name: str, flag: str) -> Any:
    """Return a row of a table; if the name is unknown, installed plug-ins are loaded first.

    Args:
        table: One of the tables of this module.
        name: Name of the row.
        flag: Flag that has the name, for the message.

    Raises:
        ConfigurationError: When the table has no such row; the message has the closest name and a list of all.
    """
    if name not in table:
        load_installed()
    if name not in table:
        kind, known = flag.removesuffix("s"), ", ".join(sorted(table))
        raise ConfigurationError(f"--{flag}: unknown {kind} '{name}'.{did_you_mean(name, table)} Known: {known}.")
    return table[name]


def pipeline_spec(name: str, given: Collection[str] = ()) -> PipelineSpec:
    """Return the row of a pipeline, or of a multi-task combination such as ``masked_lm+seq_class``.

    Args:
        name: A pipeline, or several joined by ``+``.
        given: Flags that have a value, which may select a variant of the pipeline.

    Raises:
        ConfigurationError: When there is no such pipeline, or the parts cannot be trained together, with the reason.
    """
    parts = [lookup(PIPELINES, part, "pipeline") for part in name.split(JOINT)]
    spec = parts[0] if len(parts) == 1 else _joint(dict(zip(name.split(JOINT), parts, strict=True)), name)
    for flag in spec.variants:
        if flag in given:
            spec = spec.variant(flag)
    return spec


def given_flags(options: Mapping[str, Any]) -> set[str]:
    """Return the flags that have a value, and thus may select a variant of a pipeline.

    Examples:
        >>> given_flags({"k": None, "packing": False, "seed": 0})
        {'seed'}
    """
    return {flag for flag, value in options.items() if value is not None and value is not False}


def _joint(parts: Mapping[str, PipelineSpec], name: str) -> PipelineSpec:
    """Combine the rows of several pipelines; the one that corrupts inputs comes first and uses the others' inputs."""
    if len(parts) < name.count(JOINT) + 1:
        raise ConfigurationError(f"--pipeline {name}: each part can be there only once.")
    if loner := next((part for part in parts if parts[part].module in ALONE), None):
        raise ConfigurationError(f"--pipeline {name}: {loner} {ALONE[parts[loner].module]}. Train it alone.")
    kind = resolve("objectives.capabilities:Corrupts")
    corrupts = {part: any(issubclass(resolve(path), kind) for path in spec.objectives) for part, spec in parts.items()}
    first, others = [[p for p in parts if corrupts[p] is is_first] for is_first in (True, False)]
    if len(first) > 1:
        raise ConfigurationError(
            f"--pipeline {name}: {' and '.join(first)} both corrupt the input, and each would change the labels of the "
            "other. Keep one of them."
        )
    inputs = {parts[part].inputs: part for part in others}
    if len(inputs) > 1:
        shapes = (f"{part} takes {parts[part].needs}" for part in inputs.values())
        raise ConfigurationError(f"--pipeline {name}: {'; '.join(shapes)}. Parts must take the same inputs.")
    specs = [parts[part] for part in (*first, *others)]
    objectives = [path for spec in specs for path in spec.objectives]
    names = [resolve(path).name for path in objectives]
    if twice := sorted({objective for objective in names if names.count(objective) > 1}):
        raise ConfigurationError(f"--pipeline {name}: several parts learn {twice[0]}. Keep one of them.")
    return PipelineSpec(
        needs="; ".join(spec.needs for spec in specs),
        learns="; ".join(spec.learns for spec in specs),
        inputs=specs[-1].inputs,
        objectives=tuple(objectives),
        module=_own(name, "module", [spec.module for spec in specs]),
        model=_own(name, "model", [spec.model for spec in specs]),
        flags=every(specs, lambda spec: spec.flags),
        remembers=_own(name, "remembers", [spec.remembers for spec in specs]),
        callbacks=every(specs, lambda spec: spec.callbacks),
        checks=every(specs, lambda spec: spec.checks),
        variants={flag: variant for spec in specs for flag, variant in spec.variants.items()},
        task_flags=every(specs, lambda spec: spec.task_flags),
        order_flags=every(specs, lambda spec: spec.order_flags),
        pre_trains=all(spec.pre_trains for spec in specs),
    )


def _own(name: str, field: str, paths: Iterable[Any]) -> Any:
    """Return the import path of a field that differs from its default; parts cannot have different ones."""
    default = PipelineSpec.__dataclass_fields__[field].default
    own = dict.fromkeys(path for path in paths if path != default)
    if len(own) > 1:
        raise ConfigurationError(f"--pipeline {name}: {' and '.join(own)} cannot be trained together. Train one alone.")
    return next(iter(own), default)


def declaring(target: Any) -> list[tuple[Any, Callable[..., Any]]]:
    """Return the functions that declare the keyword-only parameters of a target, each with its owner.

    For a function, this is the function itself; for a class, its constructor, and those of its base classes as long as
    constructors accept ``**kwargs``.
    """
    import inspect

    if not inspect.isclass(target):
        return [(target, target)]
    found: list[tuple[Any, Callable[..., Any]]] = []
    for owner in target.__mro__:
        if inspect.isfunction(function := vars(owner).get("__init__")):
            found.append((owner, function))
            if not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values()):
                break
    return found


def options_of(target: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a constructor or function takes: its keyword-only parameters.

    Args:
        target: What will be called.
        options: Values of all flags of a run; parameters that are absent keep their defaults.
    """
    import inspect

    parameters = [p for _, function in declaring(target) for p in inspect.signature(function).parameters.values()]
    names = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    return {name: options[name] for name in names if name in options}
