"""The format of sentence-transformers: the steps from the hidden states of a text to its embedding.

A folder is a checkpoint of transformers with ``modules.json`` beside it, which lists the steps and the folder of each.
Settings of a checkpoint are used, or refused where they are not known here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.reading import check_inside, file_of, name_or_path_of, reading
from transformers_framework.restricted import LocalPath, Source, is_address

if TYPE_CHECKING:
    from torch import Tensor

Pooling = Literal["mean", "cls"]
ScoresFunction = Literal["cosine_similarity", "dot_product_similarity"]

SIMILARITIES: dict[str, ScoresFunction] = {"cosine": "cosine_similarity", "dot": "dot_product_similarity"}
PROMPTS = {"query": ("query",), "passage": ("document", "passage", "corpus")}  # our name: theirs, the first is written
_CONFIGS = (  # as its versions have called one file
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
_TEXT = "sentence_embedding"  # what the steps after the pooling read and write
_ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU", "LeakyReLU")
_BATCHED = ("padding", "pad_to_multiple_of", "truncation", "return_tensors")  # change no embedding

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Projection:
    """A dense layer after the pooling.

    Args:
        in_features: Size of its input.
        out_features: Size of its output.
        bias: Whether it has a bias.
        activation: Name of a module of torch.
        weights: ``linear.weight`` and ``linear.bias``; None: newly initialized.
    """

    in_features: int
    out_features: int
    bias: bool = True
    activation: str = "Identity"
    weights: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class SentenceFormat:
    """How a checkpoint makes and compares embeddings.

    Args:
        pooling: Pooling of the hidden states of a text; None where it is not known here.
        asked: Name of the pooling in the checkpoint.
        projections: Dense layers, in order.
        normalizes: Whether embeddings have length 1.
        scores_fn: Similarity of embeddings; None where it is not known here.
        prompts: Words before texts: ``query`` and ``passage``.
        similarity: Name of the similarity in the checkpoint.
        lower_case: Whether texts are read in lower case, whatever the tokenizer does.
        pools_prompt: Whether the pooling includes the tokens of a prompt.
        max_length: Longest text in tokens, where the checkpoint has a limit.
    """

    pooling: Pooling | None
    asked: str
    projections: tuple[Projection, ...] = ()
    normalizes: bool = False
    scores_fn: ScoresFunction | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    similarity: str = "cosine"
    lower_case: bool = False
    pools_prompt: bool = True
    max_length: int | None = None


def remembered(
    *,
    pre_trained_model: Source | None = None,
    pre_trained_passage_model: Source | None = None,
    pooling: Pooling | None = None,
    normalize_embeddings: bool | None = None,
    scores_fn: ScoresFunction | None = None,
    query_prefix: str | None = None,
    passage_prefix: str | None = None,
    lower_case: bool | None = None,
    max_sequence_length: Sequence[int] = (),
    cache_dir: LocalPath | None = None,
) -> dict[str, Any]:
    """Return the values of flags that were not given, as the checkpoint was trained with them.

    A folder of two towers stands for both: they are the values of `pre_trained_model` and `pre_trained_passage_model`.

    Args:
        pre_trained_model: Weights to start from.
        pre_trained_passage_model: Weights of the tower of passages to start from.
        pooling: How the hidden states of a text become one vector.
        normalize_embeddings: Whether embeddings have length 1.
        scores_fn: How similar two embeddings are.
        query_prefix: Words before every query.
        passage_prefix: Words before every passage.
        lower_case: Read texts in lower case.
        max_sequence_length: Longest text in tokens, or longest query and longest passage.
        cache_dir: Folder for downloads.

    Raises:
        ConfigurationError: When the checkpoint pools or compares in a way that is not known here and none was asked
            for, or a tower of passages does so in another way.
    """
    if pre_trained_model is None:
        return {}
    towers = {}
    if (folders := _towers(pre_trained_model, cache_dir)) is not None:
        pre_trained_model, passage_model = folders
        towers = {
            "pre_trained_model": pre_trained_model,
            "pre_trained_passage_model": pre_trained_passage_model or passage_model,
        }
    found = read_format(pre_trained_model, "pre_trained_model", cache_dir)
    if found is None:
        return towers
    if pooling is None and found.pooling is None:
        raise ConfigurationError(
            f"--pre_trained_model {pre_trained_model}: its pooling is '{found.asked}', and what is known is cls and "
            "mean. Give --pooling to train it with one of them."
        )
    if scores_fn is None and found.scores_fn is None:
        raise ConfigurationError(
            f"--pre_trained_model {pre_trained_model}: its embeddings are compared by '{found.similarity}', and "
            "what is known is cosine and dot. Give --scores_fn to compare them by one of these."
        )
    asked: dict[str, Any] = {
        "pooling": pooling,
        "normalize_embeddings": normalize_embeddings,
        "scores_fn": scores_fn,
        "lower_case": lower_case,
    }
    known: dict[str, Any] = {
        "pooling": found.pooling,
        "normalize_embeddings": found.normalizes,
        "scores_fn": found.scores_fn,
        "lower_case": found.lower_case,
    }
    prompts = dict(found.prompts)
    passages = pre_trained_passage_model or towers.get("pre_trained_passage_model")
    if passages and (other := read_format(passages, "pre_trained_passage_model", cache_dir)) is not None:
        _check_passages(other, passages, {flag: known[flag] for flag, given in asked.items() if given is None})
        prompts["passage"] = other.prompts.get("passage", "")
    asked |= {"query_prefix": query_prefix, "passage_prefix": passage_prefix}
    known |= {f"{side}_prefix": prompts.get(side, "") for side in PROMPTS}
    defaults = {flag: known[flag] for flag, given in asked.items() if given is None}
    if not found.pools_prompt and any((asked | defaults)[f"{side}_prefix"] for side in PROMPTS):
        raise ConfigurationError(
            f"--pre_trained_model {pre_trained_model}: its pooling leaves out the words before a text (include_prompt "
            "false), which cannot be done here. Give --query_prefix '' --passage_prefix '' to do without them, or "
            "another checkpoint."
        )
    if found.max_length is not None and max(max_sequence_length, default=0) > found.max_length:
        logger.warning(
            "--max_sequence_length %s: %s was made for texts of %d tokens or less.",
            " ".join(map(str, max_sequence_length)), pre_trained_model, found.max_length,
        )  # fmt: skip
    return towers | defaults


def _check_passages(other: SentenceFormat, source: str, flags: Mapping[str, Any]) -> None:
    """Raise when the tower of passages makes or compares embeddings in another way than that of queries."""
    theirs = {
        "pooling": other.pooling,
        "normalize_embeddings": other.normalizes,
        "scores_fn": other.scores_fn,
        "lower_case": other.lower_case,
    }
    for flag, value in flags.items():
        if theirs[flag] != value:
            raise ConfigurationError(
                f"--pre_trained_passage_model {source}: its {flag} is {str(theirs[flag]).lower()}, and that of "
                f"--pre_trained_model is {str(value).lower()}. Give --{flag} for both, or another checkpoint."
            )


# --- reading ---------------------------------------------------------------------------------------------------------


def _towers(source: str, cache_dir: str | None) -> tuple[str, str] | None:
    """Return the folders of queries and of passages in one that :func:`write_router` wrote; None for any other."""
    folder = Path(name_or_path_of(source, "pre_trained_model", cache_dir) if is_address(source) else source)
    if not (router := folder.expanduser() / "router_config.json").is_file():
        return None
    with reading("pre_trained_model", source, router.name):
        routes = json.loads(router.read_text("utf-8"))["structure"]
        query, passage = routes["query"], routes["document"]
        check_inside([*query, *passage], "pre_trained_model", source, router.name)
        # those of others have the steps of a tower beside it, and not in it
        is_ours = all(step.startswith(f"{side[0]}/") for side in (query, passage) for step in side[1:])
    return (f"{source.rstrip('/')}/{query[0]}", f"{source.rstrip('/')}/{passage[0]}") if is_ours else None


def read_format(source: str, flag: str, cache_dir: str | None) -> SentenceFormat | None:
    """Return how a checkpoint makes embeddings; None where it is one of plain transformers.

    Args:
        source: Hub name, local folder or remote address.
        flag: Flag that named it.
        cache_dir: Folder for downloads.

    Raises:
        ConfigurationError: When it has a step that is not known here, or a file is broken.
    """
    name_or_path = name_or_path_of(source, flag, cache_dir)

    def read(name: str) -> Any:
        path = file_of(name_or_path, name, cache_dir)
        return None if path is None else json.loads(path.read_text("utf-8"))

    with reading(flag, source, "modules.json"):
        modules = read("modules.json")
        if modules is None:
            return None
        check_inside([module["path"] for module in modules], flag, source, "modules.json")
    with reading(flag, source, "description of embeddings"):
        model = read("config_sentence_transformers.json") or {}
        own: dict[str, Any] = next(filter(None, map(read, _CONFIGS)), {})
        asked, pools_prompt, projections, normalizes = "mean", True, [], False
        _check_settings("model", model, (flag, source))
        for number, module in enumerate(modules):
            kind, path = module["type"].rpartition(".")[2], module["path"]
            config = (read(f"{path}/config.json") or {}) if number else own
            is_known = kind in ("Pooling", "Dense", "Normalize", "Dropout") if number else kind == "Transformer"
            if (
                not is_known
                or not module["type"].startswith("sentence_transformers.")
                or (kind == "Dense" and normalizes)
            ):
                raise ConfigurationError(
                    f"--{flag} {source}: its embeddings are made by '{kind}' as step {number + 1}, and what is "
                    "known is a Transformer, then Pooling, Dense and Normalize. Give another checkpoint."
                )
            _check_settings(kind, config, (flag, source))
            _check_reading(config.get("processing_kwargs") or {}, (flag, source))
            if kind == "Pooling":
                asked, pools_prompt = _pooling(config), config.get("include_prompt", True)
            elif kind == "Dense":
                projections.append(_projection(name_or_path, path, config, cache_dir, (flag, source)))
            normalizes |= kind == "Normalize"
    prompts, default = model.get("prompts") or {}, model.get("default_prompt_name")
    similarity = model.get("similarity_fn_name") or "cosine"
    return SentenceFormat(
        pooling=asked if asked in ("mean", "cls") else None,  # type: ignore[arg-type]
        asked=asked,
        projections=tuple(projections),
        normalizes=normalizes,
        scores_fn=SIMILARITIES.get(similarity),
        prompts={
            side: next((prompts[name] for name in (*names, default) if name in prompts), None) or ""
            for side, names in PROMPTS.items()
        },
        similarity=similarity,
        lower_case=bool(own.get("do_lower_case")),
        pools_prompt=pools_prompt,
        max_length=own.get("max_seq_length"),
    )


def longest_text(source: str, flag: str, cache_dir: str | None) -> int | None:
    """Return the limit of a checkpoint of sentence-transformers in tokens; None for any other, or without a limit.

    Args:
        source: Hub name, local folder or remote address.
        flag: Flag that named it.
        cache_dir: Folder for downloads.
    """
    name_or_path = name_or_path_of(source, flag, cache_dir)
    with reading(flag, source, "modules.json"):
        if file_of(name_or_path, "modules.json", cache_dir) is None:
            return None
        paths = filter(None, (file_of(name_or_path, name, cache_dir) for name in _CONFIGS))
        limit = json.loads(path.read_text("utf-8")).get("max_seq_length") if (path := next(paths, None)) else None
    return limit if isinstance(limit, int) else None


def _check_settings(kind: str, config: Mapping[str, Any], source: tuple[str, str]) -> None:
    """Raise when a step, or the whole model, has a setting that makes other embeddings than are made here."""
    known = {
        "model_type": "SentenceTransformer",
        "truncate_dim": None,
        "transformer_task": "feature-extraction",
        "module_input_name": _TEXT,
        "module_output_name": "token_embeddings" if kind == "Transformer" else _TEXT,
        "use_residual": False,
    }
    for name, value in known.items():
        if config.get(name) not in (None, value):
            raise ConfigurationError(
                f"--{source[0]} {source[1]}: {name} {config[name]!r} of its {kind} is not known here. Give another "
                "checkpoint."
            )


def _check_reading(options: Mapping[str, Mapping[str, Any]], source: tuple[str, str]) -> None:
    """Raise when texts are made into tokens in another way than the tokenizer's own."""
    for part in ("text", "common", "chat_template"):
        for name, value in (options.get(part) or {}).items():
            if name not in _BATCHED and (part, name, value) != ("text", "add_special_tokens", True):
                raise ConfigurationError(
                    f"--{source[0]} {source[1]}: sentence_bert_config.json reads texts with {name} {value!r} "
                    f"(processing_kwargs, {part}), which is not known here. Give another checkpoint."
                )


def _pooling(config: Mapping[str, Any]) -> str:
    """Return the name of a pooling, of configs of newer versions and of older ones."""
    if "pooling_mode" in config:
        asked = config["pooling_mode"]
        return asked if isinstance(asked, str) else "+".join(asked)
    names = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max"}
    on = [names.get(key, key) for key, value in config.items() if key.startswith("pooling_mode_") and value]
    return "+".join(on) or "mean"


def _projection(
    name_or_path: str, path: str, config: Mapping[str, Any], cache_dir: str | None, source: tuple[str, str]
) -> Projection:
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in _ACTIVATIONS:
        raise ConfigurationError(
            f"--{source[0]} {source[1]}: the dense layer after its pooling has the activation '{activation}'; known "
            f"are {', '.join(_ACTIVATIONS)}."
        )
    if (file := file_of(name_or_path, f"{path}/model.safetensors", cache_dir)) is not None:
        from safetensors.torch import load_file

        weights = load_file(file)
    else:
        import torch

        old = file_of(name_or_path, f"{path}/pytorch_model.bin", cache_dir)
        if old is None:
            raise FileNotFoundError(f"{path}/model.safetensors")
        weights = torch.load(old, weights_only=True, map_location="cpu")
    return Projection(config["in_features"], config["out_features"], config.get("bias", True), activation, weights)
