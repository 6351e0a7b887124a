"""Encoders of queries and passages: one tower for both, or one each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.attention import Attention
from transformers_framework.models.auto import HeadSpec, load_model, read_config
from transformers_framework.models.model import Model
from transformers_framework.models.pooling import pool
from transformers_framework.models.positions import check_length
from transformers_framework.models.reads import Reads
from transformers_framework.models.sentence_transformers import (
    Pooling,
    Projection,
    ScoresFunction,
    read_format,
)
from transformers_framework.models.sentence_transformers_export import (
    steps_of,
    write_description,
    write_format,
    write_router,
)
from transformers_framework.restricted import LocalPath, PositiveInt, Source

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from transformers_framework.models.multi_head import MultiHeadModel

logger = logging.getLogger(__name__)

QUERY, PASSAGE, BOTH = "query", "passage", "both"
ROUTES = {"query": QUERY, "document": PASSAGE}  # what sentence-transformers calls them


class Dense(nn.Module):
    """A dense layer after the pooling.

    Args:
        projection: Its sizes and activation, and its weights where it has been trained.
    """

    def __init__(self, projection: Projection) -> None:
        super().__init__()
        self.linear = nn.Linear(projection.in_features, projection.out_features, bias=projection.bias)
        self.activation = getattr(nn, projection.activation)()
        if projection.weights is not None:
            self.load_state_dict(dict(projection.weights))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Project embeddings: ``(B, E)`` to ``(B, F)``."""
        projected: Tensor = self.activation(self.linear(embeddings))
        return projected

    @property
    def projection(self) -> Projection:
        """What it is, with its weights."""
        linear = self.linear
        kind = type(self.activation).__name__
        return Projection(linear.in_features, linear.out_features, linear.bias is not None, kind, self.state_dict())


class Tower(nn.Module):
    """An encoder, and the pooling and dense layers from its hidden states to one vector for each text.

    Args:
        encoder: A model with a single head, the model of a family without any.
        pooling: ``mean`` of the hidden states of all tokens, special ones too, or that of the first token (``cls``).
        projections: Dense layers after the pooling.
        normalizes: Whether embeddings have length 1.
    """

    def __init__(
        self, encoder: MultiHeadModel, pooling: Pooling, projections: Sequence[Projection] = (), *, normalizes: bool
    ) -> None:
        super().__init__()
        self.encoder, self.pooling, self.normalizes = encoder, pooling, normalizes
        self.projections = cast("Sequence[Dense]", nn.ModuleList(map(Dense, projections)))
        self.newly_projects = any(projection.weights is None for projection in projections)

    @property
    def embedding_size(self) -> int:
        """Size of an embedding."""
        return self.projections[-1].linear.out_features if self.projections else _size_of(self.encoder.config)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return one vector for each text.

        Args:
            **inputs: ``input_ids`` and ``attention_mask`` ``(B, L) int64``, and what else the family takes.

        Returns:
            ``(B, E) float32``.
        """
        mask, ids = inputs.get("attention_mask"), inputs["input_ids"]
        reads = {}
        if self.pooling == "cls":
            first = ids.new_zeros(len(ids)) if mask is None else mask.argmax(dim=1)  # (B,)
            reads = dict.fromkeys(self.encoder.heads, Reads(first[:, None]))
        (output,) = self.encoder(reads=reads, **inputs).values()
        hidden = output.last_hidden_state
        is_whole = hidden.shape[1] == ids.shape[1]  # else of the first token only
        embeddings = pool(hidden, mask if is_whole else None, self.pooling)
        for dense in self.projections:
            embeddings = dense(embeddings)
        embeddings = embeddings.float()
        return functional.normalize(embeddings, dim=-1) if self.normalizes else embeddings


class BiEncoder(Model):
    """Towers of queries and of passages, which may be the same.

    Args:
        towers: ``both``, or ``query`` and ``passage``.
        scores_fn: How embeddings are compared, for those who load an export.
        prompts: Words before queries and passages.
        max_lengths: Longest query and longest passage in tokens.
        lower_case: Whether texts are read in lower case.
    """

    def __init__(
        self,
        towers: Mapping[str, Tower],
        *,
        scores_fn: ScoresFunction = "cosine_similarity",
        prompts: Mapping[str, str] | None = None,
        max_lengths: Mapping[str, int] | None = None,
        lower_case: bool = False,
    ) -> None:
        super().__init__()
        self.towers = cast("Mapping[str, Tower]", nn.ModuleDict(dict(towers)))
        self.scores_fn, self.prompts = scores_fn, dict(prompts or {})
        self.max_lengths, self.lower_case = dict(max_lengths or {}), lower_case

    def tower(self, side: str) -> Tower:
        """Return the tower of a side, ``query`` or ``passage``."""
        return self.towers[side if side in self.towers else BOTH]

    @property
    def shares(self) -> bool:
        """Whether one tower encodes all texts."""
        return BOTH in self.towers

    def forward(self, **inputs: Tensor) -> dict[str, Any]:
        """Return what the encoder of queries returns, by the name of its objective."""
        found: dict[str, Any] = self.tower(QUERY).encoder(**inputs)
        return found

    @property
    def heads(self) -> Mapping[str, PreTrainedModel]:
        """The model of queries by the name of its objective."""
        return self.tower(QUERY).encoder.heads

    @property
    def backbone(self) -> PreTrainedModel:
        """The encoder of queries."""
        return self.tower(QUERY).encoder.backbone

    @property
    def backbones(self) -> list[PreTrainedModel]:
        """The encoders of all towers."""
        return [tower.encoder.backbone for tower in self.towers.values()]

    @property
    def config(self) -> PreTrainedConfig:
        """The config of the encoder of queries."""
        return self.backbone.config

    @property
    def newly_initialized(self) -> dict[str, str]:
        """Class names of what has weights that the checkpoint lacks: dense layers by their tower, encoders by head."""
        found = {name: type(tower).__name__ for name, tower in self.towers.items() if tower.newly_projects}
        for tower in self.towers.values():
            found |= tower.encoder.newly_initialized
        return found

    @property
    def configs(self) -> list[PreTrainedConfig]:
        """Every config of all towers."""
        return [config for tower in self.towers.values() for config in tower.encoder.configs]

    def export(
        self,
        folder: str | Path,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        state_dict: Mapping[str, Tensor] | None = None,
        learned: Mapping[str, Mapping[str, object]] | None = None,
        outputs: Mapping[str, int] | None = None,
    ) -> dict[str, Path]:
        """Write what transformers' ``AutoModel`` and sentence-transformers load.

        Args:
            folder: Where to; made when absent. One tower is written here, two as ``folder/query`` and
                ``folder/passage``, each whole, and beside them what makes one model of both for sentence-transformers.
            tokenizer: Written beside every checkpoint.
            state_dict: Weights to write instead of the model's own, with the keys of ``state_dict()``.
            learned: By the name of the objective, further settings of configs that were found in training.
            outputs: Of classifiers, which these are not.

        Returns:
            The folder of each tower by name.
        """
        folders = {name: Path(folder) if self.shares else Path(folder, name) for name in self.towers}
        for name, tower in self.towers.items():
            own = _under(f"towers.{name}.", state_dict)
            tower.encoder.export(folders[name], tokenizer, state_dict=_under("encoder.", own), learned=learned)
            projections = [dense.projection for dense in tower.projections]
            if own is not None:
                projections = [
                    Projection(
                        p.in_features, p.out_features, p.bias, p.activation, _under(f"projections.{number}.", own)
                    )
                    for number, p in enumerate(projections)
                ]
            write_format(
                folders[name],
                size=_size_of(tower.encoder.config),
                pooling=tower.pooling,
                projections=projections,
                normalizes=tower.normalizes,
                scores_fn=self.scores_fn,
                prompts=self.prompts,
                max_length=max(length for side, length in self.max_lengths.items() if name in (side, BOTH)),
                lower_case=self.lower_case,
            )
        if not self.shares:
            write_router(Path(folder), ROUTES, {name: steps_of(path) for name, path in folders.items()})
            write_description(Path(folder), self.scores_fn, self.prompts)
        return folders


def _under(prefix: str, state: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
    """Return the part of a state dict below a prefix."""
    if state is None:
        return None
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _size_of(config: Any) -> int:
    """Return the size of a model's hidden states."""
    return int(getattr(config, "hidden_size", None) or config.d_model)


# --- building --------------------------------------------------------------------------------------------------------


def load_bi_encoder(
    heads: Mapping[str, HeadSpec],
    config: PreTrainedConfig,
    *,
    max_sequence_length: list[PositiveInt],
    pre_trained_model: Source | None = None,
    pre_trained_passage_model: Source | None = None,
    separate_towers: bool = False,
    pooling: Pooling | None = None,
    embedding_size: PositiveInt | None = None,
    normalize_embeddings: bool | None = None,
    scores_fn: ScoresFunction | None = None,
    query_prefix: str | None = None,
    passage_prefix: str | None = None,
    lower_case: bool | None = None,
    attention: Attention = "sdpa",
    gradient_checkpointing: bool = False,
    compile: bool = False,
    cache_dir: LocalPath | None = None,
) -> BiEncoder:
    """Return a bi-encoder in training mode, weights in float32.

    Args:
        heads: Auto class and config of the encoder by the name of its objective.
        config: Config of the encoder.
        max_sequence_length: Longest text in tokens, or longest query and longest passage.
        pre_trained_model: Weights to start from; those of sentence-transformers with their pooling, dense layers and
            normalization.
        pre_trained_passage_model: Weights of the tower of passages to start from, which is then a tower of its own: hub
            name, local folder or remote address. It must be of the same family and vocabulary.
        separate_towers: Encode queries and passages by one tower each. Both start from the same weights, newly
            initialized ones too, unless `pre_trained_passage_model` names others; an export has a folder each, query
            and passage.
        pooling: How the hidden states of a text become one vector: 'mean' of all tokens, or that of the first one,
            'cls'. By default as the checkpoint was trained, else mean.
        embedding_size: Project embeddings to this size, by a dense layer after the pooling. By default as the
            checkpoint does, else not at all.
        normalize_embeddings: Give embeddings length 1. By default as the checkpoint does, else not.
        scores_fn: How similar two embeddings are.
        query_prefix: Words before every query.
        passage_prefix: Words before every passage.
        lower_case: Read texts in lower case.
        attention: Implementation of attention. A family without ``sdpa`` computes it as ``eager`` does.
        gradient_checkpointing: Keep fewer activations and compute them twice: less memory, slower steps.
        compile: Compile the model with ``torch.compile``.
        cache_dir: Folder for downloads and prepared data; by default the user's cache folder.

    Raises:
        ConfigurationError: When a tower cannot be loaded, or is of another family or vocabulary than the other.
    """
    check_length(config, max(max_sequence_length))
    sources = {QUERY: ("pre_trained_model", pre_trained_model)}
    if separate_towers or pre_trained_passage_model is not None:
        flag = "pre_trained_passage_model" if pre_trained_passage_model is not None else "pre_trained_model"
        sources[PASSAGE] = (flag, pre_trained_passage_model or pre_trained_model)
    else:
        sources = {BOTH: sources[QUERY]}
    towers = {}
    initialized_alike = partial(torch.random.fork_rng, devices=())  # both towers use the same random numbers
    for name, (flag, source) in sources.items():
        own = config if flag == "pre_trained_model" else _passage_config(config, str(source), cache_dir)
        with initialized_alike():
            encoder = load_model(
                heads,
                own,
                flag,
                pre_trained_model=source,
                attention=attention,
                gradient_checkpointing=gradient_checkpointing,
                compile=compile,
                cache_dir=cache_dir,
            )
        projections = _projections(source, flag, cache_dir, _size_of(own), embedding_size)
        with initialized_alike():
            towers[name] = Tower(encoder, pooling or "mean", projections, normalizes=bool(normalize_embeddings))
    sizes = {name: tower.embedding_size for name, tower in towers.items()}
    if len(set(sizes.values())) > 1:
        raise ConfigurationError(
            f"--pre_trained_passage_model {pre_trained_passage_model}: its embeddings have {sizes[PASSAGE]} numbers, "
            f"those of queries {sizes[QUERY]}. Give --embedding_size to project both to one size."
        )
    return BiEncoder(
        towers,
        scores_fn=scores_fn or "cosine_similarity",
        prompts={QUERY: query_prefix or "", PASSAGE: passage_prefix or ""},
        max_lengths={QUERY: max_sequence_length[0], PASSAGE: max_sequence_length[-1]},
        lower_case=bool(lower_case),
    )


def _passage_config(config: PreTrainedConfig, source: str, cache_dir: str | None) -> PreTrainedConfig:
    """Return the config of the tower of passages.

    Raises:
        ConfigurationError: When it is of another family, or of a vocabulary of another size: its tokens are others.
    """
    found = read_config({"pre_trained_passage_model": source}, config.model_type, cache_dir)
    assert found is not None
    if found.vocab_size != config.vocab_size:
        raise ConfigurationError(
            f"--pre_trained_passage_model {source}: it knows {found.vocab_size} tokens and the model of queries "
            f"{config.vocab_size}: they were trained with different tokenizers. Give two of one vocabulary."
        )
    return found


def _projections(
    source: str | None, flag: str, cache_dir: str | None, size: int, asked: int | None
) -> tuple[Projection, ...]:
    """Return the dense layers of a checkpoint, unless another size was asked for."""
    known = read_format(source, flag, cache_dir) if source is not None else None
    found = known.projections if known is not None else ()
    if asked is None or (found and found[-1].out_features == asked):
        return found
    if found:
        logger.warning("--embedding_size %d: the dense layers of %s are newly initialized.", asked, source)
    elif source is not None:
        logger.info("%s: the dense layer of --embedding_size %d is newly initialized.", source, asked)
    return (Projection(size, asked),)
