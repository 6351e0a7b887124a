"""Config and heads of a run, from the hub, a folder or S3, with everything that does not fit refused."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from transformers_framework.compat.transformers import model_mapping
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.attention import Attention, implementation_of
from transformers_framework.models.config_values import check_values
from transformers_framework.models.overrides import override
from transformers_framework.models.own_families import (
    PREDICTIONS,
    auto_class_of,
    check_predictions,
    ensure_registered,
    extended_config,
)
from transformers_framework.models.reading import BROKEN, check_shards_inside, hub_cache, name_or_path_of, reading
from transformers_framework.models.sizes import check_size_alone, config_of_size, names_size
from transformers_framework.objectives.capabilities import HeadFromData, head_of
from transformers_framework.registry import MODELS, PIPELINES, PipelineSpec, lookup, resolve
from transformers_framework.restricted import LocalPath, PositiveInt, Source

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from transformers_framework.models.multi_head import MultiHeadModel
    from transformers_framework.objectives.objective import Objective

logger = logging.getLogger(__name__)


class HeadSpec(NamedTuple):
    """One head of a model.

    Args:
        auto_class: Auto class of transformers that makes it.
        config_kwargs: Settings that its config must have, as ``num_labels`` or ``id2label``.
        keeps_output: Whether a checkpoint's output layer is used; else it is newly initialized.
        unfolds_output: Whether a single output of the checkpoint becomes logits of two classes with the same score.
    """

    auto_class: str
    config_kwargs: Mapping[str, Any] = {}
    keeps_output: bool = True
    unfolds_output: bool = False


def head_spec(objective: Objective, model_type: str) -> HeadSpec:
    """Return the head of an objective in a model family; called when the labels of the data are known."""
    spec = HeadSpec(head_of(objective, model_type), objective.head_config)
    if not isinstance(objective, HeadFromData):
        return spec
    return spec._replace(keeps_output=objective.keeps_head, unfolds_output=objective.unfolds_output)


# --- pairs of pipeline and model -------------------------------------------------------------------------------------


def _has_head(model_type: str, head: str) -> bool:
    import transformers

    ensure_registered(model_type)
    configs = transformers.CONFIG_MAPPING  # an older transformers lacks some families
    return model_type in configs and configs[model_type] in model_mapping(auto_class_of(head))


def missing_heads(spec: PipelineSpec, model_type: str) -> list[str]:
    """Return the Auto classes that a pipeline needs and transformers does not have for a family."""
    needed = {head_of(resolve(path), model_type) for path in spec.objectives}
    return sorted(head for head in needed if not _has_head(model_type, head))


def check_pair(pipeline: str, spec: PipelineSpec, model_type: str) -> None:
    """Check that transformers has every head of a pipeline for a family.

    Args:
        pipeline: Name of the pipeline, for the message.
        spec: The pipeline.
        model_type: The family, as transformers calls it.

    Raises:
        ConfigurationError: When a head is absent; names the models that fit and the pipelines that would.
    """
    missing = missing_heads(spec, model_type)
    if not missing:
        return
    name = _our_name(model_type)
    models = [ours for ours, row in MODELS.items() if ours != "auto" and not missing_heads(spec, row.model_type)]
    pipelines = [other for other, row in PIPELINES.items() if not missing_heads(row, model_type)]
    raise ConfigurationError(
        f"--pipeline {pipeline} --model {name}: transformers has no {' and no '.join(missing)} for '{name}'. "
        f"Models for {pipeline}: {', '.join(models)}. Pipelines for {name}: {', '.join(pipelines) or 'none yet'}."
    )


def _our_name(model_type: str) -> str:
    return next((name for name, family in MODELS.items() if family.model_type == model_type), model_type)


# --- config ----------------------------------------------------------------------------------------------------------


def load_config(
    *,
    model: str,
    pre_trained_model: Source | None = None,
    pre_trained_config: Source | None = None,
    max_multi_token_predictions: PositiveInt | None = None,
    additional_config_kwargs: list[str] | None = None,
    cache_dir: LocalPath | None = None,
) -> PreTrainedConfig:
    """Return the config of the model to train.

    Args:
        model: Family of the model; ``auto`` reads it from the checkpoint.
        pre_trained_model: Weights to start from: hub name, local folder or remote address (s3://,
            gs://, az://, hf://, https://). Config and tokenizer are taken from it too, unless they are given.
        pre_trained_config: Config of the model: hub name, folder, ``config.json``, remote address, or the name of a
            size such as ``bert:small``. Without ``--pre_trained_model``, training starts from scratch.
        max_multi_token_predictions: Tokens that a model of family multi_token_bart or multi_token_t5 predicts at each
            step of its decoder; by default as its checkpoint does, and 2 where that is a plain BART or T5.
        additional_config_kwargs: Changes of the config as ``KEY=VALUE``; values are typed as YAML.
        cache_dir: Folder for downloads and prepared data; by default the user's cache folder.

    Raises:
        ConfigurationError: When there is no config, it cannot be read, it is of another family, or a change of it is
            wrong.
    """
    from transformers import CONFIG_MAPPING, __version__

    family = lookup(MODELS, model, "model").model_type
    ensure_registered(family)
    if family != "auto" and family not in CONFIG_MAPPING:
        raise ConfigurationError(f"--model {model}: transformers {__version__} does not have it; install a newer one.")
    if pre_trained_model is None and pre_trained_config is None:
        raise ConfigurationError(
            "--pre_trained_model and --pre_trained_config are both absent: give the first to start from its weights, "
            "or the second to train from scratch."
        )
    sources = {"pre_trained_model": pre_trained_model, "pre_trained_config": pre_trained_config}
    config = read_config(sources, family, cache_dir, max_multi_token_predictions)
    assert config is not None
    return override(config, additional_config_kwargs or [])


def read_config(
    sources: Mapping[str, str | None], family: str, cache_dir: str | None, predictions: int | None = None
) -> PreTrainedConfig | None:
    """Return the config of the last source there is; None without any. All must be of one family.

    Args:
        sources: Values of the flags that can name a config.
        family: The family, as transformers calls it, or ``auto``.
        cache_dir: Folder for downloads.
        predictions: Tokens to predict at each step, if the user gives a number.

    Raises:
        ConfigurationError: When a config cannot be read, is of another family or predicts another number of tokens.
    """
    config = None
    check_size_alone(sources)
    for flag, source in sources.items():
        if source is not None:
            config = _read_config(source, flag, family, cache_dir, predictions)
            _check_family(config.model_type, family, flag, source)
            check_predictions(config, predictions, flag, source)
            check_values(config, f"--{flag} {source}", trained=flag.endswith("_model"))
            family, predictions = config.model_type, getattr(config, PREDICTIONS, None)
    return config


def _read_config(
    source: str, flag: str, family: str, cache_dir: str | None, predictions: int | None
) -> PreTrainedConfig:
    from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

    if names_size(source):
        sized = config_of_size(source, flag)
        return extended_config(sized.to_dict(), family, predictions) or sized
    name_or_path = name_or_path_of(source, flag, cache_dir)
    with reading(flag, source, "config"):
        values, _ = PreTrainedConfig.get_config_dict(name_or_path, cache_dir=hub_cache(cache_dir))
        if (extended := extended_config(dict(values), family, predictions)) is not None:
            return extended
        if "model_type" in values or family == "auto":
            ensure_registered(values.get("model_type"))
            found = AutoConfig.from_pretrained(name_or_path, cache_dir=hub_cache(cache_dir), trust_remote_code=False)
            return cast("PreTrainedConfig", found)
        return CONFIG_MAPPING[family].from_dict(values)  # as old as BERT: it has no model_type


def _check_family(found: str, wanted: str, flag: str, source: str) -> None:
    if all(found != family.model_type for family in MODELS.values()):
        raise ConfigurationError(
            f"--{flag} {source}: it is of family '{found}', which is not supported. Known: {', '.join(sorted(MODELS))}."
        )
    if wanted not in ("auto", found):
        raise ConfigurationError(
            f"--{flag} {source} is of family '{_our_name(found)}', and not '{_our_name(wanted)}' as asked by --model "
            f"{_our_name(wanted)} or by --pre_trained_model. Use --model {_our_name(found)} or --model auto, and give "
            "weights and config of one family."
        )


# --- model -----------------------------------------------------------------------------------------------------------


def load_model(
    heads: Mapping[str, HeadSpec],
    config: PreTrainedConfig,
    flag: str = "pre_trained_model",
    *,
    pre_trained_model: Source | None = None,
    attention: Attention = "sdpa",
    gradient_checkpointing: bool = False,
    compile: bool = False,
    cache_dir: LocalPath | None = None,
) -> MultiHeadModel:
    """Return the model with its heads, in training mode, weights in float32.

    Args:
        heads: Auto class and config of every head by the name of its objective.
        config: Config of the model.
        flag: Flag that names the weights, for messages.
        pre_trained_model: Weights to start from; without it, all weights are randomly initialized.
        attention: Implementation of attention. A family without ``sdpa`` computes it as ``eager`` does.
        gradient_checkpointing: Keep fewer activations and compute them twice: less memory, slower steps.
        compile: Compile the model with ``torch.compile``.
        cache_dir: Folder for downloads and prepared data; by default the user's cache folder.

    Raises:
        ConfigurationError: When weights cannot be read or do not fit the config, or the family lacks what was asked.
    """
    from transformers_framework.models.freezing import freeze_unreached
    from transformers_framework.models.multi_head import MultiHeadModel
    from transformers_framework.models.output_layer import renew_output

    source = pre_trained_model and name_or_path_of(pre_trained_model, flag, cache_dir)
    first = model_mapping(auto_class_of(next(iter(heads.values()))[0]))[type(config)]
    implementation = implementation_of(first, attention)
    models: dict[str, PreTrainedModel] = {}
    incomplete = []
    for name, spec in ((name, HeadSpec(*spec)) for name, spec in heads.items()):
        auto, own = auto_class_of(spec.auto_class), copy.deepcopy(config)
        own.update(dict(spec.config_kwargs))
        if source is None:
            models[name] = _initialize_weights(auto, own, implementation, flag)
        else:
            named = (flag, str(pre_trained_model))
            unfolds = spec.unfolds_output and config.num_labels == 1 and own.num_labels == 2
            load = _load_unfolded if unfolds else _load_weights
            models[name], is_complete = load(auto, source, own, implementation, named, cache_dir)
            incomplete += [] if is_complete else [name]
            if not spec.keeps_output:
                renew_output(models[name])
    model = MultiHeadModel(models, incomplete)
    if gradient_checkpointing:
        if not model.backbone.supports_gradient_checkpointing:
            raise ConfigurationError(
                f"--gradient_checkpointing: {type(model.backbone).__name__} does not support it. Leave the flag out, "
                "and use a smaller --batch_size with --accumulate_grad_batches to save memory."
            )
        checkpoint_activations(model.backbone)
    freeze_unreached(model)
    model.train()  # from_pretrained evaluates, and Lightning keeps the mode it finds: dropout would be off
    if compile:
        model.compile()  # in place: names of parameters and exports stay as they are
    return model


def checkpoint_activations(backbone: PreTrainedModel) -> None:
    """Let a backbone keep the activations of no layer and compute them again, under whichever name it calls this."""
    if hasattr(backbone, "activation_checkpointing_enable"):  # the newer name
        backbone.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    else:
        backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _initialize_weights(auto: Any, config: PreTrainedConfig, attention: str, flag: str) -> PreTrainedModel:
    try:
        return cast("PreTrainedModel", auto.from_config(config, dtype="float32", attn_implementation=attention))
    except BROKEN as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ConfigurationError(
            f"--{flag.removesuffix('model')}config, --additional_config_kwargs: no model of family "
            f"'{_our_name(config.model_type)}' can be built with them ({reason})."
        ) from error


def _load_weights(
    auto: Any,
    name_or_path: str,
    config: PreTrainedConfig,
    attention: str,
    source: tuple[str, str],
    cache_dir: str | None,
) -> tuple[PreTrainedModel, bool]:
    """Return a head model, and whether the checkpoint has all weights of its head."""
    check_shards_inside(name_or_path, *source, cache_dir)
    with reading(*source, "model"):
        model, report = auto.from_pretrained(
            name_or_path,
            config=config,
            dtype="float32",  # transformers 5 would take the checkpoint's, and train in half precision
            attn_implementation=attention,
            ignore_mismatched_sizes=True,  # judged below: a new head may have other classes, the backbone may not
            output_loading_info=True,
            weights_only=True,
            trust_remote_code=False,
            cache_dir=hub_cache(cache_dir),
        )
    is_complete = _check_weights(model, report, *source)
    for name, parameter in model.named_parameters():
        # transformers does not initialize the bias of the language models of data2vec, longformer, luke, nystromformer:
        # it is what the memory held before, at times no number
        if name in report["missing_keys"] and name.endswith("bias"):
            parameter.data.zero_()
    return model, is_complete


def _load_unfolded(
    auto: Any,
    name_or_path: str,
    config: PreTrainedConfig,
    attention: str,
    source: tuple[str, str],
    cache_dir: str | None,
) -> tuple[PreTrainedModel, bool]:
    """Return a model of two classes whose logits differ by the single output of a checkpoint; see `_load_weights`."""
    from transformers_framework.models.output_layer import renew_output, with_outputs

    narrow: Any = copy.deepcopy(config)
    narrow.update({"problem_type": None, "num_labels": 1})
    single, is_complete = _load_weights(auto, name_or_path, narrow, attention, source, cache_dir)
    model = _initialize_weights(auto, config, attention, source[0])
    model.load_state_dict(with_outputs(single, single.state_dict(), 2)[1])
    if not is_complete:
        renew_output(model)
    return model, is_complete


def _check_weights(model: PreTrainedModel, report: Mapping[str, Any], flag: str, source: str) -> bool:
    """Refuse weights that do not fit the backbone; return whether the head has all of its own, and log what is missing.

    Without a head there is nothing but a pooler, which nothing reads.
    """
    prefix = f"{model.base_model_prefix}." if model.base_model is not model else ""
    shapes = {key: (tuple(there), tuple(here)) for key, there, here in report["mismatched_keys"]}
    if wrong := [key for key in sorted(shapes) if key.startswith(prefix)]:
        there, here = shapes[wrong[0]]
        raise ConfigurationError(
            f"--{flag} {source}: {len(wrong)} of its tensors have another shape than the config asks for; "
            f"{wrong[0]} is {there} and should be {here}. Leave out --{flag.removesuffix('model')}config and the "
            "--additional_config_kwargs that change sizes."
        )
    missing = set(report["missing_keys"])
    backbone = {prefix + key for key in model.base_model.state_dict()}
    absent = sorted(key for key in missing & backbone if "pooler" not in key)
    if 2 * len(absent) > len(backbone):
        raise ConfigurationError(
            f"--{flag} {source}: it has none of the weights of {type(model).__name__}: {len(absent)} of "
            f"{len(backbone)} tensors are missing, among them {absent[0]}. Give a checkpoint of this family, or "
            "--pre_trained_config alone to train from scratch."
        )
    if absent:
        logger.warning(
            "%s: these weights of the backbone are missing and newly initialized: %s.", source, ", ".join(absent)
        )
    if new := sorted((missing - set(absent)) | set(shapes)):
        logger.info("%s: weights of %s are newly initialized: %s.", source, type(model).__name__, ", ".join(new))
    return not new or model.base_model is model
