"""The peers of denoising: collators as public recipes of pre-training T5 and BART have them, in numpy.

T5 as nanoT5 and the old Flax script of transformers: the mask of each row by itself, two random segmentations that are
drawn by shuffling; sentinels for the whole batch. BART as the old Flax script: sentences permuted row by row, the spans
of a batch masked one by one, then the rows cut one by one; spans of no tokens are left out. Both get windows of equal
length as an array.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from transformers_framework.constants import IGNORE_INDEX


def shift_right(ids: np.ndarray, start: int, pad: int) -> np.ndarray:
    """Return the decoder's input for labels ``(B, T)``."""
    shifted = np.zeros_like(ids)
    shifted[:, 1:], shifted[:, 0] = ids[:, :-1], start
    return np.where(shifted == IGNORE_INDEX, pad, shifted)


class SpanCorruption:
    """T5's objective, a mask at a time.

    Args:
        vocabulary: Ids; sentinels are the last of them, counted down.
        pad: Padding token, which starts the decoder too.
        eos: Last token of inputs and targets.
        density: Share of tokens that are noise.
        mean_length: Tokens of a span of noise, on average.
    """

    def __init__(self, vocabulary: int, pad: int, eos: int, density: float = 0.15, mean_length: float = 3.0) -> None:
        self.vocabulary, self.pad, self.eos = vocabulary, pad, eos
        self.density, self.mean_length = density, mean_length
        self.draw = np.random.RandomState(1337)

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        """Corrupt windows without special tokens ``(B, L) int64``."""
        masks = np.asarray([self.noise(windows.shape[1]) for _ in windows])
        inputs, labels = self.cut(windows, masks), self.cut(windows, ~masks)
        return {"input_ids": inputs, "labels": labels, "decoder_input_ids": shift_right(labels, self.pad, self.pad)}

    def noise(self, length: int) -> np.ndarray:
        """Return which tokens of a row are noise ``(L,) bool``: the first never, the last always."""
        num_noise = min(max(round(length * self.density), 1), length - 1)
        num_spans = max(round(num_noise / self.mean_length), 1)
        noise, kept = (self.segmentation(total, num_spans) for total in (num_noise, length - num_noise))
        ends = np.cumsum(np.stack([kept, noise], axis=1).reshape(-1))
        begins = np.zeros(length, dtype=np.int8)
        begins[ends[:-1]] = 1
        return np.cumsum(begins) % 2 == 1

    def segmentation(self, total: int, parts: int) -> np.ndarray:
        """Return the lengths of the parts of a row, all ways of cutting it being equally likely."""
        begins = np.arange(total - 1) < parts - 1
        self.draw.shuffle(begins)
        numbers = np.cumsum(np.pad(begins, (1, 0)))
        return np.unique(numbers, return_counts=True)[1]

    def cut(self, windows: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Put a sentinel in place of each span of a mask, and the end behind each row."""
        masks = masks.astype(np.int8)
        firsts = masks - masks * np.roll(masks, 1, axis=1)
        firsts[:, 0] = masks[:, 0]
        sentinels = np.where(firsts != 0, self.vocabulary - np.cumsum(firsts, axis=1), 0)
        marked = np.where(masks - firsts, -1, np.where(sentinels != 0, sentinels, windows))
        kept = marked[marked >= 0].reshape(len(windows), -1)
        return np.concatenate([kept, np.full((len(windows), 1), self.eos)], axis=1)


class Infilling:
    """BART's objective, a span at a time, with its sentences in another order.

    Args:
        tokenizer: Tells special tokens; its padding token stands behind every sentence.
        start: Token that starts the decoder.
        share: Of the tokens that are masked.
        mean_length: Tokens of a span, on average.
    """

    def __init__(self, tokenizer: Any, start: int, share: float = 0.3, mean_length: float = 3.0) -> None:
        self.tokenizer, self.start, self.share, self.mean_length = tokenizer, start, share, mean_length
        self.draw = np.random.RandomState(1337)

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        """Corrupt windows with special tokens ``(B, L) int64``."""
        pad = self.tokenizer.pad_token_id
        decoder_input_ids = shift_right(windows, self.start, pad)
        special = self.special(windows)
        input_ids = self.infill(self.permute(windows))
        return {
            "input_ids": input_ids,
            "labels": np.where(special, IGNORE_INDEX, windows),
            "decoder_input_ids": decoder_input_ids,
            "attention_mask": (input_ids != pad).astype(np.int64),
            "decoder_attention_mask": (decoder_input_ids != pad).astype(np.int64),
        }

    def special(self, ids: np.ndarray) -> np.ndarray:
        """Ask the tokenizer which tokens are special ``(B, L) bool``."""
        ask = self.tokenizer.get_special_tokens_mask
        return np.array([ask(row, already_has_special_tokens=True) for row in ids.tolist()], dtype=bool)

    def permute(self, ids: np.ndarray) -> np.ndarray:
        """Return rows with their sentences in a random order; what follows the last whole one stays."""
        permuted = ids.copy()
        for row, out in zip(ids, permuted, strict=True):
            ends = np.flatnonzero(row == self.tokenizer.pad_token_id) + 1
            place = 0
            for number in self.draw.permutation(len(ends)):
                sentence = row[ends[number - 1] if number else 0 : ends[number]]
                out[place : place + len(sentence)] = sentence
                place += len(sentence)
        return permuted

    def infill(self, ids: np.ndarray) -> np.ndarray:
        """Return rows in which a mask token stands for each span."""
        special = self.special(ids)
        places = np.argwhere(~special)
        budget = math.ceil(len(places) * self.share)
        lengths = self.draw.poisson(self.mean_length, budget)
        while lengths.sum() < budget:
            lengths = np.concatenate([lengths, self.draw.poisson(self.mean_length, budget)])
        lengths = lengths[lengths > 0]
        lengths = lengths[: np.abs(np.cumsum(lengths) - budget).argmin() + 1]
        spots = places[self.draw.permutation(len(places))[: len(lengths)]]
        masked, last = np.zeros(ids.shape, dtype=bool), ids.shape[1] - 1
        while len(spots):  # all spans become a token longer, until the longest is long enough
            for row, place in spots:
                masked[row, place] = True
            lengths = lengths - 1
            grows = (lengths > 0) & (spots[:, 1] < last)
            if not grows.any():
                break
            spots[grows, 1] += 1
        masked &= ~special
        marked = np.where(masked, self.tokenizer.mask_token_id, ids)
        goes_on = masked & np.roll(masked, 1, axis=1)
        out = np.full_like(ids, self.tokenizer.pad_token_id)
        for row, kept, line in zip(marked, ~goes_on, out, strict=True):
            found = row[kept]
            line[: len(found)] = found
        return out
