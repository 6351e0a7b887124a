"""A generator that predicts masked tokens, and a discriminator that detects replaced ones: ELECTRA and DeBERTa-v3."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.families import family_of
from transformers_framework.models.attention import Attention
from transformers_framework.models.auto import HeadSpec, load_model, read_config
from transformers_framework.models.embedding_sharing import Sharing, merged, share_embeddings
from transformers_framework.models.model import Model
from transformers_framework.models.positions import check_length
from transformers_framework.models.reading import hub_cache, name_or_path_of, reading
from transformers_framework.models.segments import grow_type_vocabulary, type_vocabulary
from transformers_framework.models.sizes import names_size
from transformers_framework.processing.tokenizer_json import read_tokenizer
from transformers_framework.restricted import LocalPath, PositiveInt, Range, Source

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from transformers_framework.models.multi_head import MultiHeadModel

logger = logging.getLogger(__name__)

GENERATED = "masked_lm"  # the generator's head; all others are the discriminator's
DEFAULT_SIZE = 0.5

GeneratorSize = Annotated[float, Range(above=0, le=1)]


class GeneratorDiscriminator(Model):
    """Two networks that are trained together: the discriminator detects the tokens that the generator replaced.

    Args:
        generator: Masked language model with the head ``masked_lm``.
        discriminator: Backbone and all other heads; its embeddings may refer to the generator's.
    """

    def __init__(self, generator: MultiHeadModel, discriminator: MultiHeadModel) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    @property
    def backbone(self) -> PreTrainedModel:
        """The discriminator without heads: what pre-training is for."""
        return self.discriminator.backbone

    @property
    def backbones(self) -> list[PreTrainedModel]:
        """Those of generator and discriminator."""
        return [self.generator.backbone, self.discriminator.backbone]

    @property
    def config(self) -> PreTrainedConfig:
        """The config of the discriminator's backbone."""
        return self.discriminator.config

    @property
    def newly_initialized(self) -> dict[str, str]:
        """Class names of the head models with weights that their checkpoint lacks, by the name of the head."""
        return self.generator.newly_initialized | self.discriminator.newly_initialized

    @property
    def configs(self) -> list[PreTrainedConfig]:
        """Every config of both networks."""
        return [*self.generator.configs, *self.discriminator.configs]

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile both networks, in place; what is done between them differs from step to step."""
        self.generator.compile(*args, **kwargs)
        self.discriminator.compile(*args, **kwargs)

    def export(
        self,
        folder: str | Path,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        state_dict: Mapping[str, torch.Tensor] | None = None,
        learned: Mapping[str, Mapping[str, object]] | None = None,
        outputs: Mapping[str, int] | None = None,
    ) -> dict[str, Path]:
        """Write plain checkpoints that transformers' Auto classes load: ``folder/NAME`` for each head of both.

        Args:
            folder: Where to; made when absent.
            tokenizer: Written beside every checkpoint.
            state_dict: Weights to write instead of the model's own, with the keys of ``state_dict()``.
            learned: By the name of a head, further settings of its config that were found in training.
            outputs: By the name of a head of two classes, the number of its outputs: 1 is their difference.

        Returns:
            The folder of each head by name.
        """
        state = self.state_dict() if state_dict is None else state_dict
        prefix = "generator."
        generated = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        folders = self.generator.export(Path(folder, GENERATED), tokenizer, state_dict=generated, learned=learned)
        names = list(self.discriminator.heads)
        target = Path(folder) if len(names) > 1 else Path(folder, names[0])
        judged = merged(self.discriminator, self.generator, state)
        options: Any = {"state_dict": judged, "learned": learned, "outputs": outputs}
        return folders | self.discriminator.export(target, tokenizer, **options)


def load_generator_discriminator(
    heads: Mapping[str, HeadSpec],
    config: PreTrainedConfig,
    *,
    max_sequence_length: list[PositiveInt],
    pre_trained_model: Source | None = None,
    pre_trained_config: Source | None = None,
    pre_trained_tokenizer: Source | None = None,
    pre_trained_generator_model: Source | None = None,
    pre_trained_generator_config: Source | None = None,
    generator_size: GeneratorSize | None = None,
    embedding_sharing: Sharing | None = None,
    tie_generator_discriminator_embeddings: bool = False,
    attention: Attention = "sdpa",
    gradient_checkpointing: bool = False,
    compile: bool = False,
    cache_dir: LocalPath | None = None,
) -> GeneratorDiscriminator:
    """Return a generator and a discriminator in training mode, weights in float32.

    Args:
        heads: Auto class and config of every head by the name of its objective; ``masked_lm`` is the generator's.
        config: Config of the discriminator.
        max_sequence_length: Longest input in tokens, which the generator must take too.
        pre_trained_model: Weights of the discriminator to start from; without it, all are randomly initialized.
        pre_trained_config: Config of the discriminator.
        pre_trained_tokenizer: Tokenizer of both networks.
        pre_trained_generator_model: Weights of the generator to start from: hub name, local folder or
            remote address. It must be of the discriminator's family and vocabulary.
        pre_trained_generator_config: Config of the generator: hub name, folder, ``config.json``, remote address, or
            the name of a size such as ``electra:small``; `additional_config_kwargs` do not change it. Without any
            generator, a smaller copy of the discriminator is randomly initialized.
        generator_size: Size of the generator when none is given, as a share of the discriminator. Of ELECTRA and other
            families with an embedding size of their own, width, heads and feed-forward layers are scaled; of all
            others, as DeBERTa, the number of layers. Default: 0.5
        embedding_sharing: Whether generator and discriminator share the embeddings of tokens, positions and token
            types: not at all, 'shared' (one tensor, as in ELECTRA) or 'gradient_disentangled' (the discriminator adds a
            difference of its own and sends the generator no gradient, as in DeBERTa-v3). Default: none
        tie_generator_discriminator_embeddings: The same as `embedding_sharing` shared, or gradient_disentangled for the
            DeBERTa families.
        attention: Implementation of attention. A family without ``sdpa`` computes it as ``eager`` does.
        gradient_checkpointing: Keep fewer activations and compute them twice: less memory, slower steps.
        compile: Compile both networks with ``torch.compile``.
        cache_dir: Folder for downloads and prepared data; by default the user's cache folder.

    Raises:
        ConfigurationError: When a network cannot be loaded, the generator is of another family or vocabulary, or flags
            contradict each other.
    """
    how = sharing(config.model_type, embedding_sharing, tie=tie_generator_discriminator_embeddings)
    given = {
        "pre_trained_generator_model": pre_trained_generator_model,
        "pre_trained_generator_config": pre_trained_generator_config,
    }
    generator_config = _generator_config(config, given, generator_size, cache_dir)
    check_length(generator_config, max(max_sequence_length), model="generator")
    if pre_trained_generator_model is not None:
        sources = {
            "pre_trained_tokenizer": pre_trained_tokenizer,
            "pre_trained_model": pre_trained_model,
            "pre_trained_config": pre_trained_config,
        }
        _check_tokenizers(sources, pre_trained_generator_model, cache_dir)
    options: dict[str, Any] = {
        "attention": attention,
        "gradient_checkpointing": gradient_checkpointing,
        "compile": compile,
        "cache_dir": cache_dir,
    }
    judges = {name: spec for name, spec in heads.items() if name != GENERATED}
    discriminator = load_model(judges, config, pre_trained_model=pre_trained_model, **options)
    generator = load_model(
        {GENERATED: heads[GENERATED]},
        generator_config,
        "pre_trained_generator_model",
        pre_trained_model=pre_trained_generator_model,
        **options,
    )
    if 0 < type_vocabulary(generator_config) < type_vocabulary(config):
        grow_type_vocabulary(generator, type_vocabulary(config))
    trained = (pre_trained_generator_model is not None, pre_trained_model is not None)
    shared = share_embeddings(generator.backbone, discriminator.backbone, how, start=_start(how, *trained))
    if shared:
        logger.info("Embeddings of generator and discriminator, %s: %s.", how, ", ".join(shared))
    return GeneratorDiscriminator(generator, discriminator)


def remembered(
    *, pre_trained_model: Source | None = None, pre_trained_generator_model: Source | None = None
) -> dict[str, str]:
    """Return the folders of both networks where an export of both is given as `pre_trained_model`.

    Args:
        pre_trained_model: Weights of the discriminator to start from, or the folder of an export of both networks.
        pre_trained_generator_model: Weights of the generator to start from; they replace those of the export.
    """
    folder = Path(pre_trained_model or ".")
    judges = sorted(path.parent for path in folder.glob("*/config.json") if path.parent.name != GENERATED)
    is_whole = pre_trained_model is None or (folder / "config.json").exists()
    if is_whole or len(judges) != 1 or not (folder / GENERATED / "config.json").is_file():
        return {}
    generator = pre_trained_generator_model or str(folder / GENERATED)
    return {"pre_trained_model": str(judges[0]), "pre_trained_generator_model": generator}


def sharing(model_type: str, asked: Sharing | None, *, tie: bool) -> Sharing:
    """Return how embeddings are shared: as asked, as in the paper of the family when they are tied, else not at all.

    Args:
        model_type: The family, as transformers calls it.
        asked: Value of ``--embedding_sharing``.
        tie: Value of ``--tie_generator_discriminator_embeddings``.

    Raises:
        ConfigurationError: When the two flags contradict each other.
    """
    if tie and asked == "none":
        raise ConfigurationError(
            "--tie_generator_discriminator_embeddings asks for what --embedding_sharing none forbids: give one of them."
        )
    if asked is None and tie:
        return family_of(model_type).tied_embeddings
    return asked or "none"


def _start(
    how: Sharing, generator_is_trained: bool, discriminator_is_trained: bool
) -> Literal["generator", "discriminator", "both"]:
    """Return whose embeddings both networks start from: no trained ones are lost, unless one tensor must hold two."""
    if generator_is_trained and discriminator_is_trained and how == "gradient_disentangled":
        return "both"  # the difference does not start at zero then
    return "discriminator" if discriminator_is_trained else "generator"


# --- config of the generator -----------------------------------------------------------------------------------------


def _generator_config(
    config: PreTrainedConfig, given: Mapping[str, str | None], size: float | None, cache_dir: str | None
) -> PreTrainedConfig:
    """Return the config that was given, which must fit the discriminator's, or else a smaller copy of that."""
    found = read_config(given, config.model_type, cache_dir)
    if found is None:
        return reduced_config(config, DEFAULT_SIZE if size is None else size)
    flag, source = next((flag, source) for flag, source in reversed(list(given.items())) if source is not None)
    if size is not None:
        raise ConfigurationError(
            f"--generator_size: --{flag} {source} decides how large the generator is; give one of them."
        )
    if names_size(source):
        found.vocab_size = config.vocab_size
    if found.vocab_size != config.vocab_size:
        raise ConfigurationError(
            f"--{flag} {source}: the generator's vocabulary has {found.vocab_size} tokens and the discriminator's "
            f"{config.vocab_size}. What the generator samples is read by the discriminator, so both need the same one: "
            "give another generator, or none and --generator_size."
        )
    from_scratch = given["pre_trained_generator_model"] is None
    for role in ("pad", "bos", "eos", "sep", "cls", "mask"):  # those of the tokenizer, which both share
        name = f"{role}_token_id"
        token = getattr(config, name, None)
        if token is not None and (from_scratch or getattr(found, name, None) is None):
            setattr(found, name, token)
    return found


def reduced_config(config: PreTrainedConfig, size: float) -> PreTrainedConfig:
    """Return a smaller copy of a config, with the same vocabulary and the same embeddings.

    ELECTRA's generators have a share of the width, with heads of the same size (Clark et al. 2020, "ELECTRA",
    section 3.2); DeBERTa-v3's a share of the layers (He, Gao, Chen 2023, "DeBERTaV3").

    Args:
        config: Config of the discriminator, which stays as it is.
        size: Share, in (0, 1]; at least one head or layer is left.
    """
    small = copy.deepcopy(config)
    if family_of(config.model_type).generator_scaling == "width":
        heads = max(1, round(config.num_attention_heads * size))
        for name in ("hidden_size", "intermediate_size"):
            setattr(small, name, getattr(config, name) * heads // config.num_attention_heads)
        small.num_attention_heads = heads
        return small
    small.num_hidden_layers = max(1, round(config.num_hidden_layers * size))
    for name in ("layer_types", "attention_window"):  # settings of ModernBERT and Longformer for each layer
        values = getattr(config, name, None)
        if isinstance(values, list):
            setattr(small, name, values[: small.num_hidden_layers])
    return small


def _check_tokenizers(sources: Mapping[str, str | None], generator: str, cache_dir: str | None) -> None:
    """Refuse a generator that was trained with other tokens, even if they are as many: its ids would mean other words.

    Raises:
        ConfigurationError: When the generator's tokenizer, if it has one, gives a token another id.
    """
    flag, source = next((flag, source) for flag, source in sources.items() if source is not None)
    ours = _vocabulary(flag, source, cache_dir)
    try:
        theirs = _vocabulary("pre_trained_generator_model", generator, cache_dir)
    except ConfigurationError:  # a checkpoint may come without a tokenizer
        return
    different = sorted(token for token, number in ours.items() if theirs.get(token) != number)
    if theirs and different:
        token = different[0]
        raise ConfigurationError(
            f"--pre_trained_generator_model {generator}: it was trained with another vocabulary than the tokenizer of "
            f"--{flag} {source}: {len(different)} of {len(ours)} tokens differ, as {token!r}, number "
            f"{theirs.get(token, 'none')} there and {ours[token]} here. Give a generator of the same vocabulary."
        )


def _vocabulary(flag: str, source: str, cache_dir: str | None) -> dict[str, int]:
    """Return the tokens of a tokenizer with their numbers; nothing when it has only special ones."""
    name_or_path = name_or_path_of(source, flag, cache_dir)
    name_or_path = str(Path(name_or_path).parent) if Path(name_or_path).is_file() else name_or_path
    with reading(flag, source, "tokenizer"):
        tokenizer = read_tokenizer(name_or_path, hub_cache(cache_dir))
    return tokenizer.get_vocab() if len(tokenizer) > len(set(tokenizer.all_special_ids)) else {}
