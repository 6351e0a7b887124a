"""One embedding for two networks: the same tensor, or a generator's with a discriminator's own difference added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from transformers_framework.exceptions import ConfigurationError

Sharing = Literal["none", "shared", "gradient_disentangled"]


class DisentangledEmbedding(nn.Embedding):
    """The embedding of another network, without a gradient to it, plus a difference that is learned here.

    (He, Gao, Chen 2023, "DeBERTaV3: Improving DeBERTa using ELECTRA-Style Pre-Training with Gradient-Disentangled
    Embedding Sharing", section 3.3.) What is looked up is added, not the tables: no step adds ``V x H`` numbers. The
    difference is the only parameter and starts at zero; the other network's module is held outside of the module tree,
    so that parameters and state dict have its weight once.

    Args:
        source: Embedding of the other network, whose weights are read at each step.
        padding_idx: Row without a gradient.
    """

    def __init__(self, source: nn.Embedding, padding_idx: int | None = None) -> None:
        nn.Module.__init__(self)
        self.__dict__["_source"] = (source,)  # a tuple hides it from Module.__setattr__; deepcopy maps it to the copy
        self.num_embeddings, self.embedding_dim, self.padding_idx = *source.weight.shape, padding_idx
        self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse = None, 2.0, False, False
        self.delta = nn.Parameter(torch.zeros_like(source.weight))

    @property
    def source(self) -> nn.Embedding:
        """The embedding of the other network."""
        (source,) = cast("tuple[nn.Embedding]", self.__dict__["_source"])
        return source

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The table that is looked up in, ``(V, H)``: the source's, detached, plus the difference."""
        return self.source.weight.detach() + self.delta

    def resize(self) -> None:
        """Grow to as many rows as the source has; differences of new rows are zero."""
        missing = len(self.source.weight) - len(self.delta)
        self.delta = nn.Parameter(functional.pad(self.delta.data, (0, 0, 0, missing)))
        self.num_embeddings = len(self.delta)

    def forward(self, input: Tensor) -> Tensor:
        """Return the embeddings ``(…, H)`` of ids ``(…) int64``."""
        base = functional.embedding(input, self.source.weight.detach())
        return base + functional.embedding(input, self.delta, self.padding_idx)


def tables(backbone: nn.Module, flag: str = "embedding_sharing") -> dict[str, nn.Embedding]:
    """Return the embeddings that add up to a network's input, by their names in it: tokens, positions, token types.

    Those are the token embeddings and what stands beside them; relative positions, which attention reads, are not.

    Raises:
        ConfigurationError: When the family embeds its tokens in a way of its own.
    """
    words: Any = backbone.get_input_embeddings()  # type: ignore[operator]
    path = next(name for name, module in backbone.named_modules() if module is words)
    parent = path.rpartition(".")[0]
    found = {
        f"{parent}.{name}".lstrip("."): module
        for name, module in backbone.get_submodule(parent).named_children()
        if type(module) is nn.Embedding and module.weight.requires_grad
    }
    if path not in found:
        raise ConfigurationError(
            f"--{flag}: {type(backbone).__name__} embeds its tokens with a {type(words).__name__}, which cannot be "
            "shared. Use --embedding_sharing none."
        )
    return {path: found.pop(path), **found}


def share_embeddings(
    generator: nn.Module,
    discriminator: nn.Module,
    how: Sharing,
    *,
    start: Literal["generator", "discriminator", "both"] = "generator",
) -> list[str]:
    """Let a discriminator use the embeddings of its generator: of tokens, positions and token types.

    With ``shared`` both have one tensor, trained by both (Clark et al. 2020, "ELECTRA", section 3.2). With
    ``gradient_disentangled`` the discriminator's is the generator's, which it does not train, plus a difference.

    Args:
        generator: Backbone of the generator.
        discriminator: Backbone of the discriminator, whose embeddings are replaced.
        how: ``none``, ``shared`` or ``gradient_disentangled``.
        start: Whose weights both begin with; ``both`` keeps each network's own, which only a difference can.

    Returns:
        Names, within the backbones, of the embeddings that are shared now.

    Raises:
        ConfigurationError: When the two networks' embeddings differ in number or size.
    """
    if how == "none":
        return []
    theirs, ours = tables(generator), tables(discriminator)
    sizes = [{name: tuple(table.weight.shape) for name, table in found.items()} for found in (theirs, ours)]
    if wrong := [name for name in {**theirs, **ours} if sizes[0].get(name) != sizes[1].get(name)]:
        raise ConfigurationError(
            f"--embedding_sharing {how}: {wrong[0].rpartition('.')[2]} of the generator are "
            f"{_size(sizes[0].get(wrong[0]))} and of the discriminator {_size(sizes[1].get(wrong[0]))}, so they cannot "
            "be shared. Give a generator with embeddings of the same size, or none and --generator_size, or use "
            "--embedding_sharing none."
        )
    for name, source in theirs.items():
        own = ours[name]
        if start == "discriminator":
            source.weight.data.copy_(own.weight.data)
        if how == "shared":
            own.weight = source.weight
            continue
        module = DisentangledEmbedding(source, own.padding_idx)
        if start == "both":
            module.delta.data.copy_(own.weight.data - source.weight.data)
        parent, _, child = name.rpartition(".")
        setattr(discriminator.get_submodule(parent), child, module)
    return list(theirs)


def _size(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else " x ".join(map(str, shape))


def merged(
    discriminator: nn.Module, generator: nn.Module, state_dict: Mapping[str, Tensor], *, prefix: str = ""
) -> dict[str, Tensor]:
    """Return the weights of a discriminator as a plain model has them: differences are added to what they differ from.

    Args:
        discriminator: The network, whose :class:`DisentangledEmbedding` modules are looked for.
        generator: The network that they refer to.
        state_dict: Weights of both, under ``{prefix}discriminator.`` and ``{prefix}generator.``.
        prefix: What stands before the names of both.
    """
    own, other = f"{prefix}discriminator.", f"{prefix}generator."
    state = {key.removeprefix(own): value for key, value in state_dict.items() if key.startswith(own)}
    sources = {id(module): f"{other}{name}.weight" for name, module in generator.named_modules()}
    for name, module in disentangled(discriminator):
        source = state_dict[sources[id(module.source)]]
        state[f"{name}.weight"] = source + state.pop(f"{name}.delta").to(source)
    return state


def disentangled(model: nn.Module) -> Iterator[tuple[str, DisentangledEmbedding]]:
    """Yield the embeddings of a model that are differences, with their names."""
    for name, module in model.named_modules():
        if isinstance(module, DisentangledEmbedding):
            yield name, module
