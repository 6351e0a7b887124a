"""How much of the texts a tokenizer does not know: what a model cannot learn from, and no metric tells."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from transformers_framework.constants import TRAIN, Stage
from transformers_framework.data.sampler import requests_in_order
from transformers_framework.objectives.capabilities import Corrupts, generates

if TYPE_CHECKING:
    from transformers_framework.data.datamodule import DataModule

NUM_ROWS = 1000  # of each stage, spread over it
MANY = 0.05  # share of unknown tokens that a right tokenizer has of no language

BLANK = "▁Ġ Ċĉ"  # how spaces and line ends are written

logger = logging.getLogger(__name__)


class Unknown(NamedTuple):
    """How much of the texts of a stage a tokenizer does not know.

    Args:
        share: Unknown tokens among all; none where the tokenizer has no such token.
        token: The unknown token.
        empty: Texts without any token but spaces, among all.
    """

    share: float | None
    token: str | None
    empty: float

    @property
    def is_much(self) -> bool:
        """Return whether it is more than a right tokenizer has."""
        return self.empty > 0 or (self.share or 0) > MANY

    def __str__(self) -> str:
        """Say it, and what to do where it is much."""
        if self.empty:
            return (
                f"{100 * self.empty:.1f} % of the texts have no token but spaces: the tokenizer knows none of their "
                "characters. Give the --pre_trained_tokenizer of a model for their script."
            )
        if self.share is None:
            return "no token is unknown to the tokenizer"
        said = f"{100 * self.share:.1f} % of the tokens are unknown ({self.token})"
        return (
            said
            if not self.is_much
            else (
                f"{said}: the model cannot tell these words from each other. Look at some with --preview, and give the "
                "--pre_trained_tokenizer of a model for the language and script of these texts."
            )
        )


def unknown_tokens(data: DataModule, stage: Stage) -> Unknown:
    """Return how much of some rows of a stage the tokenizer does not know."""
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
    return Unknown(share, tokenizer.unk_token, num_empty / max(1, sum(map(len, batches))))


def report_unknown(data: DataModule) -> None:
    """Log the unknown tokens of every stage that has any, and warn where they are many."""
    for stage in data.sources:
        found = unknown_tokens(data, stage)
        if found.share or found.empty:
            logger.log(logging.WARNING if found.is_much else logging.INFO, "%s: %s.", stage, str(found).rstrip("."))


def clean_ids(data: DataModule, stage: Stage) -> Iterator[np.ndarray]:
    """Yield what some rows of a stage are made of before it is corrupted ``(B, L) int64``, -1 at padding."""
    collate, names, size = data.collator(stage), list(data.columns(stage)), data.batch_sizes[stage]
    if data.iterable and stage == TRAIN:
        examples = list(data.datasets[stage].take(NUM_ROWS // 10))
        rows: Any = {name: [example[name] for example in examples] for name in names}
        batches = [(requests_in_order([(0, len(examples))])[0], rows)] if examples else []
    else:
        dataset, groups = data.datasets[stage].select_columns(names), data.inputs.groups(stage, data.seed, 0)
        num_places = len(dataset) if groups is None else len(groups)
        starts = range(0, num_places, max(size, num_places * size // NUM_ROWS))
        requests = requests_in_order([(start, min(start + size, num_places)) for start in starts], groups)
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
