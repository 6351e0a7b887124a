"""Denoising: an encoder-decoder reads a corrupted text and learns to write the removed spans, or the whole text."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transformers_framework.constants import IGNORE_INDEX, Stage
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.families import family_of
from transformers_framework.objectives.capabilities import (
    ChangesLengths,
    ConfiguresInputs,
    Corrupts,
    Generates,
    SparseHead,
)
from transformers_framework.objectives.objective import Context, Evaluation, Objective, Setup
from transformers_framework.processing.backend import bare_tokenizer
from transformers_framework.processing.encoding import Template, word_starts
from transformers_framework.processing.infilling import SentenceMarks, TextInfilling
from transformers_framework.processing.packing import joint_lengths
from transformers_framework.processing.span_corruption import Denoiser, LengthLimits, SpanCorruption
from transformers_framework.processing.spans import framed, shifted_right, unframed
from transformers_framework.processing.windows import Ragged, shortened
from transformers_framework.processing.word_spans import Words
from transformers_framework.restricted import PositiveFloat, PositiveInt, Probability

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric

logger = logging.getLogger(__name__)

Style = Literal["t5", "bart"]

PROBABILITY: dict[Style, float] = {"t5": 0.15, "bart": 0.3}
MEAN_SPAN_LENGTH = 3.0
SENTINELS = ("<extra_id_{}>", "▁<extra_id_{}>")  # T5's spelling and mT5's
LEAST_TOKENS = 2  # shortest text to learn from: one masked token and one other


class Denoising(Objective, Corrupts, SparseHead, ChangesLengths, ConfiguresInputs, Generates):
    """Learn to restore corrupted texts: span corruption as in T5, text infilling and sentence permutation as in BART.

    Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", sections
    3.1.4 and 3.3.4; Lewis et al. 2020, "BART: Denoising Sequence-to-Sequence Pre-training", section 2.2; Tay et al.
    2022, "UL2: Unifying Language Learning Paradigms", section 3.1.

    Only tokens of the text are masked, never the special tokens around it. Joined texts follow each other without a
    separator in t5 style, as in T5; in bart style, separators count as text. In prediction nothing is masked: the model
    fills in the sentinels or mask tokens that the texts contain.

    Args:
        setup: Tokenizer and config of the model, and `--max_sequence_length` of inputs and of targets. In t5 style it
            limits the corrupted inputs: texts may be longer by the number of tokens that are removed from them.
        probability: Share of the tokens that are masked: by default 0.15 in t5 style and 0.3 in bart style.
        mean_span_length: Average length of masked spans in tokens; in words in bart style with whole words.
            Default: 3.0.
        max_number_of_spans: Maximum number of spans per text. If the limit is reached, spans are longer, so that as
            many tokens are masked. In t5 style there are never more spans than the tokenizer has sentinels.
        whole_word_denoising: Mask whole words: all tokens of a word or none. In t5 style, words of more than 16 tokens
            and the last remaining word of a text are split if input or target would be too long otherwise.
        denoising_style: 't5' replaces each span by a sentinel, and the target is the removed spans; 'bart' replaces
            each span by one mask token and shuffles sentences, and the target is the whole text. By default that of the
            model's family, or the other one if the tokenizer has the tokens of that one only.
        shuffle_sentences: Shuffle the sentences of each text; the order always changes if there are two or more. In
            bart style only, where it is the default.
        denoisers: Mixture of denoisers in t5 style; one is sampled for each row in each epoch. An entry is
            'PROBABILITY,MEAN_LENGTH' or 'PROBABILITY,MEAN_LENGTH,PREFIX', such as 0.15,3 or 0.5,32 or 0.25,inf,[S2S]:
            inf is a single span at the end of the text; the prefix is a token at the start of the input.

    Raises:
        ConfigurationError: When the tokenizer lacks tokens that the style needs, or flags contradict each other.
    """

    name = "denoising"
    head = "AutoModelForSeq2SeqLM"

    def __init__(
        self,
        setup: Setup,
        *,
        probability: Probability | None = None,
        mean_span_length: PositiveFloat | None = None,
        max_number_of_spans: PositiveInt | None = None,
        whole_word_denoising: bool = False,
        denoising_style: Style | None = None,
        shuffle_sentences: bool | None = None,
        denoisers: list[str] | None = None,
    ) -> None:
        super().__init__(setup)
        tokenizer, limits = setup.tokenizer, setup.max_sequence_length
        if len(limits) not in (1, 2):
            raise ConfigurationError(
                f"--max_sequence_length: {len(limits)} lengths were given. Give one, or two: of inputs and of targets."
            )
        self.template = Template.of(tokenizer)
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        self.after_target = self.template.suffix or tuple(end)
        self.whole_words = whole_word_denoising
        self.pad_token_id, self.pads_left = int(tokenizer.pad_token_id or 0), tokenizer.padding_side == "left"
        around = len(self.template.prefix)
        self.length_limits = LengthLimits(
            limits[0] - around - len(self.template.suffix), limits[-1] - around - len(self.after_target)
        )

        self.sentinels = sentinels = sentinels_of(tokenizer, setup.config.vocab_size)
        self.style = style_of(setup, sentinels, denoising_style)
        self.corruption: SpanCorruption | TextInfilling
        if self.style == "t5":
            if shuffle_sentences:
                raise ConfigurationError(
                    "--shuffle_sentences: the targets of t5 style are the removed spans, not the order of sentences. "
                    "Leave it out, or give --denoising_style bart."
                )
            mixture = self._mixture(probability, mean_span_length, denoisers)
            max_spans = min(len(sentinels), max_number_of_spans or len(sentinels))
            self.corruption = SpanCorruption(mixture, sentinels, self.length_limits, max_spans, whole_word_denoising)
        else:
            if denoisers is not None:
                raise ConfigurationError(
                    "--denoisers: a mixture of denoisers needs sentinels, which bart style does not use. Leave it out, "
                    "or give --denoising_style t5."
                )
            max_spans = max_number_of_spans or max(limits)
            self.corruption = self._infilling(probability, mean_span_length, max_spans, shuffle_sentences is not False)
        if self.corruption.longest < LEAST_TOKENS:
            raise ConfigurationError(
                f"--max_sequence_length: {' '.join(map(str, limits))} is too short for a text: an input has "
                f"{around + len(self.template.suffix)} special tokens and a target {around + len(self.after_target)}. "
                "Increase it."
            )

    def _mixture(
        self, probability: float | None, mean_span_length: float | None, denoisers: Sequence[str] | None
    ) -> list[Denoiser]:
        """Return the denoisers of t5 style."""
        given = {"probability": probability, "mean_span_length": mean_span_length}
        if denoisers is not None:
            twice = [f"--{name}" for name, value in given.items() if value is not None]
            if twice:
                raise ConfigurationError(
                    f"--denoisers and {' and '.join(twice)}: each denoiser has its own probability and mean "
                    f"length. Leave {' and '.join(twice)} out."
                )
            if not denoisers:
                raise ConfigurationError("--denoisers: the list is empty. Give one or more, such as 0.15,3.")
            return [denoiser_of(entry, self.setup) for entry in denoisers]
        if probability == 0:
            raise ConfigurationError("--probability 0: no token is masked. Give more than 0.")
        if mean_span_length is not None and mean_span_length < 1:
            raise ConfigurationError(
                f"--mean_span_length {mean_span_length:g}: in t5 style a span has 1 token or more. Give 1 or more."
            )
        share = PROBABILITY["t5"] if probability is None else probability
        return [Denoiser(share, MEAN_SPAN_LENGTH if mean_span_length is None else mean_span_length)]

    def _infilling(
        self, probability: float | None, mean_span_length: float | None, max_spans: int, shuffles: bool
    ) -> TextInfilling:
        """Return the corruption of bart style."""
        if probability == 0 and not shuffles:
            raise ConfigurationError(
                "--probability 0 and --shuffle_sentences false: nothing is corrupted. Change one of them."
            )
        tokenizer = self.setup.tokenizer
        return TextInfilling(
            PROBABILITY["bart"] if probability is None else probability,
            MEAN_SPAN_LENGTH if mean_span_length is None else mean_span_length,
            int(tokenizer.mask_token_id),
            self.length_limits,
            max_spans,
            SentenceMarks.of(bare_tokenizer(tokenizer), self.template.between) if shuffles else None,
        )

    @property
    def needs_word_ids(self) -> bool:
        """Return whether whole words are masked."""
        return self.whole_words

    @property
    def tokens_to_fill(self) -> tuple[str, ...]:
        """Return the sentinels or the mask token."""
        hidden = self.sentinels.tolist() if self.style == "t5" else [self.setup.tokenizer.mask_token_id]
        return tuple(self.setup.tokenizer.convert_ids_to_tokens(hidden))

    @property
    def input_options(self) -> dict[str, Any]:
        """Return the length of texts that fill `--max_sequence_length` after corruption."""
        num_special = len(self.template.prefix) + len(self.template.suffix)
        return {"max_sequence_length": [self.corruption.longest + num_special]}

    def packed_lengths(self, lengths: np.ndarray, capacity: int) -> tuple[np.ndarray, int]:
        """Return the lengths of inputs or targets, whichever take more of their `--max_sequence_length`.

        They are upper limits for all corruptions of a text. Only whole words in t5 style can add a few tokens.
        """
        limits, num_special = self.setup.max_sequence_length, len(self.template.prefix) + len(self.template.suffix)
        inputs, targets = self.corruption.corrupted_lengths(lengths - num_special)
        inputs, targets = (
            inputs + limits[0] - self.length_limits.input,
            targets + limits[-1] - self.length_limits.target,
        )
        return joint_lengths(inputs, targets, limits[0], limits[-1]), limits[0]

    @property
    def separates_segments(self) -> bool:
        """Return whether joined texts are separated: not in t5 style, where a masked ``</s>`` would end the target."""
        return self.style != "t5"

    def generates(self, stage: Stage) -> bool:
        """Return whether the model generates texts: in prediction, where it fills in sentinels or mask tokens."""
        return stage == "predict"

    # ---------------------------------------------------------------- batches

    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, np.ndarray]:
        """Return corrupted ``input_ids`` and their ``attention_mask``, ``labels`` and ``decoder_input_ids``.

        Inputs are ``(B, L)``, targets ``(B, T)``, all ``int64``.
        """
        prefix, suffix = self.template.prefix, self.template.suffix
        texts, word_ids = (
            unframed(batch[name], batch["attention_mask"], len(prefix), len(suffix)) if name in batch else None
            for name in ("input_ids", "word_ids")
        )
        assert texts is not None
        if context.stage == "predict":
            return self._uncorrupted(texts, batch)
        words = None
        if self.whole_words:
            assert word_ids is not None
            words = Words.of(word_starts(word_ids.values, texts.lengths), texts.lengths)
        inputs, targets = self.corruption(texts, words, lambda purpose: context.keys(f"{self.name}.{purpose}"))
        input_ids, attention_mask = framed(inputs, prefix, suffix, self.pad_token_id, left=self.pads_left)
        labels, _ = framed(targets, prefix, self.after_target, IGNORE_INDEX)
        labels[targets.lengths == 0] = IGNORE_INDEX  # texts that are too short to mask a token have no labels
        start = getattr(self.setup.config, "decoder_start_token_id", None)
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": labels,
            "decoder_input_ids": shifted_right(labels, start, self.pad_token_id),
        }

    def _uncorrupted(self, texts: Ragged, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return texts without corruption; those that are longer than an input are truncated."""
        is_cut = texts.lengths > self.length_limits.input
        if not is_cut.any():
            return {}
        shorter = shortened(texts, self.length_limits.input, keep_end=self.template.keeps_end)
        prefix, suffix = self.template.prefix, self.template.suffix
        input_ids, attention_mask = framed(shorter, prefix, suffix, self.pad_token_id, left=self.pads_left)
        return {"input_ids": input_ids, "attention_mask": attention_mask, "truncated": batch["truncated"] | is_cut}

    # ---------------------------------------------------------------- outputs

    def evaluate(self, output: Any, batch: Mapping[str, Tensor]) -> Evaluation:
        """Return the cross-entropy over the vocabulary, and which tokens are predicted correctly."""
        loss, correct = output.cross_entropy(batch["labels"])
        return Evaluation(
            loss, {"tokens": {"losses_sum": loss.detach(), "correct": correct, "labels": batch["labels"]}}
        )

    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return accuracy and perplexity."""
        from transformers_framework.metrics.token_prediction import TokenPrediction

        return {"tokens": TokenPrediction()}

    def predictions(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the predicted tokens: with teacher forcing ``(B, T)``, or generated by the model ``(B, R, T)``.

        Shorter rows are filled with -1.
        """
        if output.generated is not None:
            return {"generated": output.generated}
        labels, (tokens, _) = batch["labels"], output.top_tokens()
        kept = labels != IGNORE_INDEX
        found = {}
        for name, values in {"tokens": tokens, "labels": labels}.items():
            table = values.new_full(batch["decoder_input_ids"].shape, -1)
            table.view(-1)[batch["positions"][kept]] = values[kept]
            found[name] = table
        return found

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Return the predicted text, or a list if several were generated, and the target if there is one."""
        if "generated" not in predictions:
            return {"prediction": self._text(predictions["tokens"]), "target": self._text(predictions["labels"])}
        texts = [self._text(tokens) for tokens in predictions["generated"]]
        return {"prediction": texts[0] if len(texts) == 1 else texts}

    def _text(self, tokens: Sequence[int]) -> str:
        """Return a text without the special tokens around it; sentinels stay."""
        config = self.setup.config
        around = {*self.template.prefix, *self.after_target, self.pad_token_id}
        around.add(getattr(config, "decoder_start_token_id", None) or self.pad_token_id)
        return str(self.setup.tokenizer.decode([token for token in tokens if token >= 0 and token not in around]))

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Return a text with the target of a row."""
        if "labels" not in batch:
            return "fill in masked spans"
        labels = batch["labels"][row]
        return f"write {self._text(labels[labels != IGNORE_INDEX].tolist())!r}"


def sentinels_of(tokenizer: Any, vocab_size: int) -> np.ndarray:
    """Return the ids of sentinels ``<extra_id_0>`` and so on in the vocabularies of tokenizer and model, (N,) int64."""
    vocabulary = tokenizer.get_vocab()
    for spelling in SENTINELS:
        found: list[int] = []
        while (number := vocabulary.get(spelling.format(len(found)), vocab_size)) < vocab_size:
            found.append(number)
        if found:
            return np.array(found, dtype=np.int64)
    return np.zeros(0, dtype=np.int64)


def style_of(setup: Setup, sentinels: np.ndarray, asked: Style | None) -> Style:
    """Return the denoising style: the one of the flag, the default of the family, or the one that the tokenizer allows.

    Raises:
        ConfigurationError: When the tokenizer lacks tokens that the style needs.
    """
    style: Style = asked or family_of(setup.config.model_type).denoising_style
    other: Style = "bart" if style == "t5" else "t5"
    mask = setup.tokenizer.mask_token
    offers = {"t5": len(sentinels) > 0, "bart": mask is not None}
    if offers[style]:
        return style
    name = type(setup.tokenizer).__name__
    missing = {"t5": "no sentinels (<extra_id_0>, <extra_id_1>, …)", "bart": "no mask token"}
    present = {"t5": f"{len(sentinels)} sentinels", "bart": f"the mask token '{mask}'"}
    if asked is None and offers[other]:
        logger.warning(
            "The tokenizer has %s but %s: texts are denoised in %s style", missing[style], present[other], other
        )
        return other
    flag = f"--denoising_style {style}" if asked else "--pre_trained_tokenizer"
    if offers[other]:
        remedy = f"It has {present[other]}: give --denoising_style {other}."
    else:
        add = {"t5": "'extra_special_tokens' <extra_id_0> to <extra_id_99>", "bart": "a 'mask_token'"}
        remedy = (
            f"Use the tokenizer of a model that was pre-trained in this style, or add {add[style]} to its "
            "tokenizer_config.json."
        )
    raise ConfigurationError(f"{flag}: {name} has {missing[style]}, which {style} style needs. {remedy}")


def denoiser_of(entry: str, setup: Setup) -> Denoiser:
    """Parse one entry of ``--denoisers``.

    Raises:
        ConfigurationError: When the entry is invalid.
    """
    flag = f"--denoisers: '{entry}'"
    parts = [part.strip() for part in entry.split(",")]
    if len(parts) not in (2, 3) or not all(parts):
        raise ConfigurationError(
            f"{flag}: expected PROBABILITY,MEAN_LENGTH or PROBABILITY,MEAN_LENGTH,PREFIX, such as 0.25,inf,[S2S]."
        )
    try:
        probability, mean = float(parts[0]), float(parts[1])
    except ValueError:
        raise ConfigurationError(f"{flag}: expected two numbers first, such as 0.15,3 or 0.25,inf.") from None
    if not 0 < probability < 1:
        raise ConfigurationError(f"{flag}: the probability is {parts[0]}, expected more than 0 and less than 1.")
    if math.isnan(mean) or mean < 1:
        raise ConfigurationError(f"{flag}: the mean length is {parts[1]}, expected at least 1, or inf.")
    return Denoiser(probability, mean, _prefix(parts[2], flag, setup) if len(parts) == 3 else -1)


def _prefix(token: str, flag: str, setup: Setup) -> int:
    number = setup.tokenizer.get_vocab().get(token)
    if number is None:
        raise ConfigurationError(
            f"{flag}: the tokenizer has no token '{token}'. Add it: tokenizer.add_tokens(['{token}'], "
            "special_tokens=True), tokenizer.save_pretrained(FOLDER), --pre_trained_tokenizer FOLDER; the model's "
            "vocab_size must cover it."
        )
    if number >= setup.config.vocab_size:
        raise ConfigurationError(
            f"{flag}: '{token}' has token id {number}, but the model's vocab_size is {setup.config.vocab_size}. Give "
            f"--additional_config_kwargs vocab_size={number + 1} or more to a model that is trained from scratch."
        )
    return int(number)
