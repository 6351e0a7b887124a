"""The format of sentence-transformers: what happens to the states of a model until they are one vector a text.

A folder is a checkpoint of transformers with ``modules.json`` beside it, which lists the steps and where each is kept.
Written here in the form that all versions of sentence-transformers read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.reading import hub_cache, place_of, reading
from transformers_framework.restricted import LocalPath, Source

if TYPE_CHECKING:
    from torch import Tensor

Pooling = Literal["mean", "cls"]
ScoresFunction = Literal["cosine_similarity", "dot_product_similarity"]

_MODULE = "sentence_transformers.models."
_SIMILARITIES: dict[str, ScoresFunction] = {"cosine": "cosine_similarity", "dot": "dot_product_similarity"}
_PROMPTS = {"query": ("query",), "passage": ("document", "passage", "corpus")}  # our name: theirs, the first is written
_ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU", "LeakyReLU")


@dataclass(frozen=True)
class Projection:
    """A dense layer behind the pooling.

    Args:
        in_features: Size of what comes in.
        out_features: Size of what goes out.
        bias: Whether something is added.
        activation: Name of a module of torch.
        weights: ``linear.weight`` and ``linear.bias``; none: to be drawn.
    """

    in_features: int
    out_features: int
    bias: bool = True
    activation: str = "Identity"
    weights: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class SentenceFormat:
    """What a checkpoint says about its embeddings.

    Args:
        pooling: How the states of a text become one; none where it is one that is not known here.
        asked: What the checkpoint calls its pooling.
        projections: Dense layers, in order.
        normalizes: Whether embeddings have length 1.
        scores_fn: How embeddings are compared, where it says so.
        prompts: Words before texts: ``query`` and ``passage``.
    """

    pooling: Pooling | None
    asked: str
    projections: tuple[Projection, ...] = ()
    normalizes: bool = False
    scores_fn: ScoresFunction | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)


def remembered(
    *,
    pre_trained_model: Source | None = None,
    pre_trained_passage_model: Source | None = None,
    pooling: Pooling | None = None,
    normalize_embeddings: bool | None = None,
    scores_fn: ScoresFunction | None = None,
    query_prefix: str | None = None,
    passage_prefix: str | None = None,
    cache_dir: LocalPath | None = None,
) -> dict[str, Any]:
    """Return the values of flags that were not given, as the checkpoint was trained with them.

    A folder of two towers stands for both: they are the values of `pre_trained_model` and `pre_trained_passage_model`.

    Args:
        pre_trained_model: Weights to start from.
        pre_trained_passage_model: Weights of the tower of passages to start from.
        pooling: How the states of a text become one vector.
        normalize_embeddings: Whether embeddings have length 1.
        scores_fn: How similar two embeddings are.
        query_prefix: Words before every query.
        passage_prefix: Words before every passage.
        cache_dir: Folder for downloads.

    Raises:
        ConfigurationError: When the checkpoint pools in a way that is not known here and none was asked for.
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
    told = {
        "pooling": (pooling, found.pooling),
        "normalize_embeddings": (normalize_embeddings, found.normalizes),
        "scores_fn": (scores_fn, found.scores_fn),
        "query_prefix": (query_prefix, found.prompts.get("query")),
        "passage_prefix": (passage_prefix, found.prompts.get("passage")),
    }
    return towers | {name: known for name, (given, known) in told.items() if given is None}


# --- reading ---------------------------------------------------------------------------------------------------------


def _towers(source: str, cache_dir: str | None) -> tuple[str, str] | None:
    """Return the folders of queries and of passages in one that :func:`write_router` wrote; None for any other."""
    folder = Path(place_of(source, "pre_trained_model", cache_dir) if source.startswith("s3://") else source)
    if not (router := folder.expanduser() / "router_config.json").is_file():
        return None
    with reading("pre_trained_model", source, router.name):
        routes = json.loads(router.read_text("utf-8"))["structure"]
        query, passage = routes["query"], routes["document"]
        # those of others have the steps of a tower beside it, and not in it
        is_ours = all(step.startswith(f"{side[0]}/") for side in (query, passage) for step in side[1:])
    return (f"{source.rstrip('/')}/{query[0]}", f"{source.rstrip('/')}/{passage[0]}") if is_ours else None


def read_format(source: str, flag: str, cache_dir: str | None) -> SentenceFormat | None:
    """Return what a checkpoint says about its embeddings; None where it is one of plain transformers.

    Args:
        source: Hub name, local folder or ``s3://bucket/prefix``.
        flag: Flag that named it.
        cache_dir: Folder for downloads.

    Raises:
        ConfigurationError: When it has a step that is not known here, or a file is broken.
    """
    place = place_of(source, flag, cache_dir)

    def read(name: str) -> Any:
        path = _file(place, name, cache_dir)
        return None if path is None else json.loads(path.read_text("utf-8"))

    with reading(flag, source, "modules.json"):
        modules = read("modules.json")
    if modules is None:
        return None
    with reading(flag, source, "description of embeddings"):
        said = read("config_sentence_transformers.json") or {}
        asked, projections, normalizes = "mean", [], False
        for module in modules[1:]:
            kind, path = module["type"].rpartition(".")[2], module["path"]
            if kind == "Pooling":
                asked = _pooling(read(f"{path}/config.json") or {})
            elif kind == "Dense":
                projections.append(_projection(place, path, read(f"{path}/config.json"), cache_dir, (flag, source)))
            elif kind == "Normalize":
                normalizes = True
            elif kind != "Dropout":
                raise ConfigurationError(
                    f"--{flag} {source}: its embeddings are made by '{kind}', and what is known is Pooling, Dense and "
                    "Normalize. Give another checkpoint."
                )
    known = said.get("prompts") or {}
    prompts = {ours: next((known[name] for name in names if known.get(name)), "") for ours, names in _PROMPTS.items()}
    pooling: Pooling | None = asked if asked in ("mean", "cls") else None  # type: ignore[assignment]
    scores_fn = _SIMILARITIES.get(said.get("similarity_fn_name") or "cosine")
    return SentenceFormat(pooling, asked, tuple(projections), normalizes, scores_fn, prompts)


def _file(place: str, name: str, cache_dir: str | None) -> Path | None:
    """Return a file of a checkpoint, from the hub if it lies there; None where there is none."""
    if Path(place).is_dir():
        path = Path(place, name)
        return path if path.is_file() else None
    from transformers.utils import cached_file

    found = cached_file(
        place,
        name,
        cache_dir=hub_cache(cache_dir),
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return None if found is None else Path(found)


def _pooling(config: Mapping[str, Any]) -> str:
    """Return the name of a pooling, of configs of newer versions and of older ones."""
    if "pooling_mode" in config:
        asked = config["pooling_mode"]
        return asked if isinstance(asked, str) else "+".join(asked)
    names = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max"}
    on = [names.get(key, key) for key, value in config.items() if key.startswith("pooling_mode_") and value]
    return "+".join(on) or "mean"


def _projection(
    place: str, path: str, config: Mapping[str, Any], cache_dir: str | None, source: tuple[str, str]
) -> Projection:
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in _ACTIVATIONS:
        raise ConfigurationError(
            f"--{source[0]} {source[1]}: the dense layer behind its pooling has the activation '{activation}'; known "
            f"are {', '.join(_ACTIVATIONS)}."
        )
    if (file := _file(place, f"{path}/model.safetensors", cache_dir)) is not None:
        from safetensors.torch import load_file

        weights = load_file(file)
    else:
        import torch

        old = _file(place, f"{path}/pytorch_model.bin", cache_dir)
        if old is None:
            raise FileNotFoundError(f"{path}/model.safetensors")
        weights = torch.load(old, weights_only=True, map_location="cpu")
    return Projection(config["in_features"], config["out_features"], config.get("bias", True), activation, weights)


# --- writing ---------------------------------------------------------------------------------------------------------


def write_format(
    folder: Path,
    *,
    size: int,
    pooling: Pooling,
    projections: Sequence[Projection],
    normalizes: bool,
    scores_fn: ScoresFunction,
    prompts: Mapping[str, str],
    max_length: int,
) -> None:
    """Write beside a checkpoint of transformers what sentence-transformers needs to make the same embeddings of texts.

    Args:
        folder: The checkpoint.
        size: Size of the model's states.
        pooling: How the states of a text become one.
        projections: Dense layers, with their weights.
        normalizes: Whether embeddings have length 1.
        scores_fn: How embeddings are compared.
        prompts: Words before texts: ``query`` and ``passage``.
        max_length: Longest text in tokens.
    """
    from safetensors.torch import save_file

    steps = [("Transformer", "")]

    def add(kind: str, config: Mapping[str, Any] | None = None) -> Path:
        path = folder / f"{len(steps)}_{kind}"
        path.mkdir(parents=True, exist_ok=True)
        steps.append((kind, path.name))
        if config is not None:
            _write(path / "config.json", config)
        return path

    modes = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max", "mean_sqrt_len_tokens": "sqrt"}
    add("Pooling", {"word_embedding_dimension": size, **{f"pooling_mode_{k}": v == pooling for k, v in modes.items()}})
    for projection in projections:
        where = "linear" if projection.activation == "Identity" else "activation"
        path = add(
            "Dense",
            {
                "in_features": projection.in_features,
                "out_features": projection.out_features,
                "bias": projection.bias,
                "activation_function": f"torch.nn.modules.{where}.{projection.activation}",
            },
        )
        assert projection.weights is not None
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in projection.weights.items()},
            path / "model.safetensors",
        )
    if normalizes:
        add("Normalize")
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": _MODULE + kind}
        for number, (kind, path) in enumerate(steps)
    ]
    _write(folder / "modules.json", modules)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    write_description(folder, scores_fn, prompts)


def write_description(folder: Path, scores_fn: ScoresFunction, prompts: Mapping[str, str]) -> None:
    """Write how embeddings are compared and what stands before texts."""
    similarity = next(theirs for theirs, ours in _SIMILARITIES.items() if ours == scores_fn)
    named = {names[0]: prompts.get(ours, "") for ours, names in _PROMPTS.items()}
    description = {
        "__version__": {},
        "model_type": "SentenceTransformer",
        "prompts": named,
        "default_prompt_name": None,
        "similarity_fn_name": similarity,
    }
    _write(folder / "config_sentence_transformers.json", description)


def write_router(folder: Path, routes: Mapping[str, str], steps: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Write what lets sentence-transformers (5 or newer) load several checkpoints as one model: a text goes to its own.

    Args:
        folder: Folder above the checkpoints.
        routes: What sentence-transformers calls each side: folder of its checkpoint.
        steps: Of each folder, kind and path of the steps that :func:`write_format` wrote.
    """
    types = {
        str(Path(path, step)) if step else path: _MODULE + kind
        for path in routes.values()
        for kind, step in steps[path]
    }
    structure = {
        route: [str(Path(path, step)) if step else path for _, step in steps[path]] for route, path in routes.items()
    }
    parameters = {"default_route": "document", "allow_empty_key": True, "route_mappings": {}}
    _write(folder / "router_config.json", {"types": types, "structure": structure, "parameters": parameters})
    _write(folder / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": _MODULE + "Router"}])


def steps_of(folder: Path) -> list[tuple[str, str]]:
    """Return kind and path of the steps that were written beside a checkpoint."""
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    return [(module["type"].rpartition(".")[2], module["path"]) for module in modules]


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
