"""Stand-ins for the parts of a run that cannot be built, so that ``--check`` checks the data nevertheless."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers_framework.constants import AUTO, MOST_TOKENS
from transformers_framework.exceptions import UserError, caught
from transformers_framework.registry import MODELS, resolve

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from transformers_framework.experiment import Experiment

ROLES = {
    "pad": "[PAD]",
    "unk": "[UNK]",
    "cls": "[CLS]",
    "sep": "[SEP]",
    "mask": "[MASK]",
    "bos": "[CLS]",
    "eos": "[SEP]",
}
NUM_SENTINELS = 100
MOST_WORDS = 2**31 - 1  # as many as any tokenizer has


def build_parts(experiment: Experiment, on_error: Callable[[UserError], None]) -> bool:
    """Build config, tokenizer, objectives and inputs of a run; what cannot be built is replaced by a stand-in.

    Args:
        experiment: The run.
        on_error: Called with each error.

    Returns:
        Whether the data can be checked.
    """
    parts, given = vars(experiment), experiment.given
    with caught(on_error):
        assert experiment.config
    if "config" in parts:
        with caught(on_error):
            assert experiment.tokenizer is not None
    else:
        experiment.stand_in(known=parts.get("known", given), config=config_of(experiment.model_name))
        if given.get("pre_trained_tokenizer") is not None:  # else the same checkpoint would be reported twice
            with caught(on_error):
                assert experiment.tokenizer is not None
    if not (has_tokenizer := "tokenizer" in parts):
        experiment.stand_in(tokenizer=tokenizer())
    if experiment.only_checks and experiment.known["max_sequence_length"] == AUTO:
        _take_default_length(experiment)

    def report(error: UserError) -> None:
        if has_tokenizer or "tokenizer" not in str(error):  # the tokens that a stand-in lacks are no error of the user
            on_error(error)

    for part in ("objectives", "inputs"):
        with caught(report):
            getattr(experiment, part)
        if part not in parts and part == "objectives":
            experiment.stand_in(objectives=[])
    if "inputs" not in parts:  # its length may be what is wrong, and the columns of the data right
        _take_default_length(experiment)
        with caught(lambda error: None):
            assert experiment.inputs
    return "inputs" in parts


def _take_default_length(experiment: Experiment) -> None:
    from transformers_framework.models.positions import max_positions

    longest = min(MOST_TOKENS, max_positions(experiment.config) or MOST_TOKENS)
    lengths = resolve(experiment.spec.inputs).default_lengths(longest, experiment.known)
    experiment.stand_in(options=experiment.known | {"max_sequence_length": lengths})


def config_of(model: str) -> PreTrainedConfig:
    """Return the default config of a model family, that of BERT where it is not known.

    Args:
        model: Value of ``--model``.
    """
    from transformers import CONFIG_MAPPING, BertConfig

    family = MODELS.get(model)
    known = family is not None and family.module is None and family.model_type in CONFIG_MAPPING
    kind: Any = CONFIG_MAPPING[family.model_type] if family is not None and known else BertConfig
    config: PreTrainedConfig = kind(vocab_size=MOST_WORDS)
    return config


def tokenizer() -> PreTrainedTokenizerBase:
    """Return a tokenizer without words that has the special tokens of encoders and of encoder-decoders."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    sentinels = [f"<extra_id_{number}>" for number in range(NUM_SENTINELS)]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys((*ROLES.values(), *sentinels)))}
    backend: Any = Tokenizer(models.WordLevel(vocabulary, unk_token=ROLES["unk"]))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    around = [(token, vocabulary[token]) for token in (ROLES["cls"], ROLES["sep"])]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=around
    )
    roles = {f"{role}_token": token for role, token in ROLES.items()}
    return PreTrainedTokenizerFast(tokenizer_object=backend, extra_special_tokens=sentinels, **roles)
