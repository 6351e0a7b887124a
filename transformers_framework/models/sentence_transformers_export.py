"""Writing the format of sentence-transformers beside a checkpoint, in the form that all of its versions read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers_framework.models.sentence_transformers import (
    PROMPTS,
    SIMILARITIES,
    Pooling,
    Projection,
    ScoresFunction,
)

MODULE = "sentence_transformers.models."


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
    lower_case: bool = False,
) -> None:
    """Write beside a checkpoint of transformers what sentence-transformers needs to make the same embeddings of texts.

    Args:
        folder: The checkpoint.
        size: Size of the model's hidden states.
        pooling: How the hidden states of a text become one vector.
        projections: Dense layers, with their weights.
        normalizes: Whether embeddings have length 1.
        scores_fn: How embeddings are compared.
        prompts: Words before texts: ``query`` and ``passage``.
        max_length: Longest text in tokens.
        lower_case: Whether texts are read in lower case.
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
        {"idx": number, "name": str(number), "path": path, "type": MODULE + kind}
        for number, (kind, path) in enumerate(steps)
    ]
    _write(folder / "modules.json", modules)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": lower_case})
    write_description(folder, scores_fn, prompts)


def write_description(folder: Path, scores_fn: ScoresFunction, prompts: Mapping[str, str]) -> None:
    """Write how embeddings are compared and what stands before texts."""
    similarity = next(theirs for theirs, ours in SIMILARITIES.items() if ours == scores_fn)
    named = {names[0]: prompts.get(ours, "") for ours, names in PROMPTS.items()}
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
        str(Path(path, step)) if step else path: MODULE + kind for path in routes.values() for kind, step in steps[path]
    }
    structure = {
        route: [str(Path(path, step)) if step else path for _, step in steps[path]] for route, path in routes.items()
    }
    parameters = {"default_route": "document", "allow_empty_key": True, "route_mappings": {}}
    _write(folder / "router_config.json", {"types": types, "structure": structure, "parameters": parameters})
    _write(folder / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": MODULE + "Router"}])


def steps_of(folder: Path) -> list[tuple[str, str]]:
    """Return kind and path of the steps that were written beside a checkpoint."""
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    return [(module["type"].rpartition(".")[2], module["path"]) for module in modules]


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
