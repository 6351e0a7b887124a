"""How well the tokenizer fits the texts: unknown tokens and removed marks, which no model can learn."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from unicodedata import normalize

import numpy as np

from transformers_framework.constants import TRAIN, Stage
from transformers_framework.data.sampler import requests_in_order
from transformers_framework.objectives.capabilities import Corrupts, generates
from transformers_framework.processing.marks import num_marks
from transformers_framework.sources.fields import as_text

if TYPE_CHECKING:
    from transformers_framework.data.datamodule import DataModule

NUM_ROWS = 1000  # sampled evenly from each stage
NUM_TEXTS, NUM_CHARACTERS = 200, 2000  # rows of a stage whose texts are looked at, and the part of each text
MAX_LOST = 0.01  # fraction of characters that are marks which a suitable tokenizer keeps
MAX_SHARE = 0.05  # fraction of unknown tokens that a suitable tokenizer never reaches, in any language

BLANK = "▁Ġ Ċĉ"  # how tokenizers write spaces and line ends

logger = logging.getLogger(__name__)


class UnknownTokens(NamedTuple):
    """How much of the texts of a stage the tokenizer cannot encode.

    Args:
        share: Fraction of tokens that are unknown; None if the tokenizer has no unknown token.
        token: The unknown token.
        empty: Fraction of texts that have no token except spaces.
        composed: The same share after converting the texts to Unicode form NFC, if much of it disappears by that.
    """

    share: float | None
    token: str | None
    empty: float
    composed: float | None = None

    @property
    def is_much(self) -> bool:
        """Return whether it is more than a suitable tokenizer has."""
        return self.empty > 0 or (self.share or 0) > MAX_SHARE

    def __str__(self) -> str:
        """Describe it, and what to do if it is much."""
        if self.empty:
            return (
                f"{100 * self.empty:.1f} % of the texts have no token except spaces: the tokenizer knows none of their "
                "characters. Give the --pre_trained_tokenizer of a model for their script."
            )
        if self.share is None:
            return "no token is unknown to the tokenizer"
        said = f"{100 * self.share:.1f} % of the tokens are unknown ({self.token})"
        if not self.is_much:
            return said
        if self.composed is not None:
            return (
                f"{said}: accents are separate characters in these texts, and the tokenizer knows letters with "
                "accents. Convert the texts to Unicode form NFC (unicodedata.normalize('NFC', text)): "
                f"{100 * self.composed:.1f} % are unknown then."
            )
        return (
            f"{said}: the model cannot distinguish these words. Look at some with --preview, and give the "
            "--pre_trained_tokenizer of a model for the language and script of these texts."
        )


class LostMarks(NamedTuple):
    """Combining marks, such as the vowel signs of Indic scripts, that the tokenizer removes from the texts of a stage.

    Args:
        share: Fraction of characters that are removed marks.
        word: A word that has one.
        left: This word without it.
    """

    share: float
    word: str = ""
    left: str = ""

    @property
    def is_much(self) -> bool:
        """Return whether words become other words."""
        return self.share > MAX_LOST

    def __str__(self) -> str:
        """Describe it, and the remedy."""
        return (
            f"the tokenizer removes vowel signs and other marks, {100 * self.share:.1f} % of the characters "
            f"({self.word!r} is read as {self.left!r}): different words become equal. Give the "
            "--pre_trained_tokenizer of a model for this language, or train one (python -m "
            "transformers_framework.tokenizer) and a model from scratch."
        )


def sampled_texts(data: DataModule, stage: Stage) -> list[str]:
    """Return the beginnings of texts of a stage, from rows at equal distances; words of a list are joined by spaces."""
    rows = data.read[stage] if stage in data.read else data.first_rows[stage]
    if not (names := [name for name in data.inputs.text_columns if name in rows.column_names]):
        return []
    places = range(0, len(rows), max(1, len(rows) // NUM_TEXTS))
    columns = rows.select_columns(names)[list(places)].values()
    return [_joined(value)[:NUM_CHARACTERS] for column in columns for value in column]


def _joined(value: Any) -> str:
    return " ".join(map(_joined, value)) if isinstance(value, list) else as_text(value)


def lost_marks(data: DataModule, texts: list[str]) -> LostMarks:
    """Return the marks that the tokenizer of a run removes from texts."""
    normalizer = getattr(getattr(data.inputs.tokenizer, "backend_tokenizer", None), "normalizer", None)
    if normalizer is None or not any(map(num_marks, texts)):
        return LostMarks(0.0)

    def num_lost(text: str) -> int:
        return max(0, num_marks(text) - num_marks(normalizer.normalize_str(text)))

    lost = sum(map(num_lost, texts))
    word = next((word for text in texts for word in text.split() if num_lost(word)), "")
    return LostMarks(lost / sum(map(len, texts)), word, normalizer.normalize_str(word))


def tokens_per_word(data: DataModule, texts: list[str]) -> float:
    """Return the mean number of tokens of a word of texts, without special tokens; words are separated by spaces."""
    ids = data.inputs.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    return sum(map(len, ids)) / max(1, sum(len(text.split()) for text in texts))


def unknown_tokens(data: DataModule, stage: Stage) -> UnknownTokens:
    """Return how much of a sample of rows of a stage the tokenizer cannot encode."""
    tokenizer, unknown = data.inputs.tokenizer, data.inputs.unknown_id
    special = np.setdiff1d(tokenizer.all_special_ids, [] if unknown is None else [unknown])
    batches = [np.where(np.isin(ids, special), -1, ids) for ids in clean_ids(data, stage)]
    ids = np.concatenate([batch.ravel() for batch in batches] or [np.zeros(0, dtype=np.int64)])
    counts = np.bincount(ids[ids >= 0], minlength=len(tokenizer))
    seen = np.flatnonzero(counts).tolist()
    tokens = zip(seen, tokenizer.convert_ids_to_tokens(seen), strict=True)
    blank = [number for number, token in tokens if not token.strip(BLANK)]
    num_empty = sum(int((np.isin(batch, blank) | (batch < 0)).all(axis=1).sum()) for batch in batches)
    share = None if unknown is None else float(counts[unknown] / max(1, counts.sum()))
    empty = num_empty / max(1, sum(map(len, batches)))
    composed = _share_if_composed(data, stage) if (share or 0) > MAX_SHARE else None
    return UnknownTokens(share, tokenizer.unk_token, empty, composed)


def _share_if_composed(data: DataModule, stage: Stage) -> float | None:
    """Return the fraction of unknown tokens of the texts in Unicode form NFC; None if most stay unknown."""
    tokenizer, unknown, texts = data.inputs.tokenizer, data.inputs.unknown_id, sampled_texts(data, stage)

    def share(texts: list[str]) -> float:
        rows = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        return float(np.mean([number == unknown for row in rows for number in row] or [0]))

    composed = share([normalize("NFC", text) for text in texts])
    return composed if composed < share(texts) / 2 else None


def report_unknown(data: DataModule) -> None:
    """Log the unknown tokens of every stage that has any; warn if there are many, or if the tokenizer removes marks."""
    for stage in data.sources:
        if (lost := lost_marks(data, sampled_texts(data, stage))).is_much:
            logger.warning("%s: %s", stage, lost)
        found = unknown_tokens(data, stage)
        if found.share or found.empty:
            logger.log(logging.WARNING if found.is_much else logging.INFO, "%s: %s.", stage, str(found).rstrip("."))


def clean_ids(data: DataModule, stage: Stage) -> Iterator[np.ndarray]:
    """Yield the token ids of a sample of rows of a stage, before corruption ``(B, L) int64``, -1 at padding."""
    collate, names, size = data.collator(stage), list(data.columns(stage)), data.batch_sizes[stage]
    if data.iterable and stage == TRAIN:
        examples = list(data.datasets[stage].take(NUM_ROWS // 10))
        rows: Any = {name: [example[name] for example in examples] for name in names}
        batches = [(requests_in_order([(0, len(examples))])[0], rows)] if examples else []
    else:
        dataset, groups = data.datasets[stage].select_columns(names), data.inputs.groups(stage, data.seed, 0)
        num_entries = len(dataset) if groups is None else len(groups)
        starts = range(0, num_entries, max(size, num_entries * size // NUM_ROWS))
        requests = requests_in_order([(start, min(start + size, num_entries)) for start in starts], groups)
        batches = [(request, dataset[list(request.rows)]) for request in requests]
    for request, rows in batches:
        columns = collate.rows_of(request, rows)
        batch = collate.inputs.post_process(columns)
        for prefix in data.inputs.key_prefixes:
            if f"{prefix}input_ids" in batch:
                yield np.where(batch[f"{prefix}attention_mask"] > 0, batch[f"{prefix}input_ids"], -1)
        if any(generates(o, "valid") and not isinstance(o, Corrupts) for o in collate.objectives):
            _, own = collate.arrays((request, rows))
            yield from (entries["labels"] for entries in own.values() if "decoder_input_ids" in entries)
