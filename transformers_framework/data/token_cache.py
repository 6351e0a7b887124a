"""Cache of tokenized rows: memory-mapped token ids on disk, from which batches are made without the tokenizer."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework import __version__
from transformers_framework.compat.datasets import fingerprint_of
from transformers_framework.inputs.batches import EncodedBatches
from transformers_framework.processing.segments import Segments
from transformers_framework.processing.windows import stretches
from transformers_framework.storage.cache import building, digest, is_complete, locked

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray

    from transformers_framework.inputs.inputs import Inputs

MAX_SHARE = 0.1  # of the free disk space, for the tokens of a data set
NUM_SAMPLED = 256  # rows that are tokenized to estimate the size of all
BYTES_OF_ROW, BYTES_OF_SEGMENT = 16, 4
CHUNK = 100_000  # rows whose lengths are computed together

# file of each array of a folder, with its type
ROW_TOKENS, ROW_SEGMENTS = "row_tokens.int64", "row_segments.int64"
LENGTHS, STARTS = "lengths.int32", "word_starts.bool"
IDS = ("ids.uint16", "ids.int32")  # the first where all ids are small enough


class TokenCache:
    """Tokenized rows of a data set, memory-mapped; a copy in another process maps the same files.

    Args:
        folder: Folder of the cache.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[type[TokenCache], tuple[Path]]:
        return TokenCache, (self.folder,)

    def __len__(self) -> int:
        return len(self._arrays[ROW_TOKENS]) - 1

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        files = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
        return {path.name: _mapped(path) for path in files}

    @property
    def _ids(self) -> NDArray[Any]:
        return next(self._arrays[name] for name in IDS if name in self._arrays)

    def __getitem__(self, rows: NDArray[np.int64]) -> Segments:
        """Return the segments of rows ``(B,) int64``."""
        arrays = self._arrays
        first, first_token = arrays[ROW_SEGMENTS][rows], arrays[ROW_TOKENS][rows]
        counts = arrays[ROW_SEGMENTS][rows + 1] - first
        lengths = arrays[LENGTHS][stretches(first, counts)].astype(np.int64)
        tokens = stretches(first_token, arrays[ROW_TOKENS][rows + 1] - first_token)
        starts = arrays[STARTS][tokens] if STARTS in arrays else None
        return Segments(self._ids[tokens].astype(np.int64), lengths, counts, starts)

    def input_lengths(self, inputs: Inputs) -> NDArray[np.int64]:
        """Return the number of tokens of every row's model input, special tokens included ``(N,) int64``."""
        firsts, lengths = self._arrays[ROW_SEGMENTS], self._arrays[LENGTHS]
        found = [np.zeros(0, np.int64)]
        for start in range(0, len(self), CHUNK):
            bounds = firsts[start : start + CHUNK + 1]
            of_chunk = np.asarray(lengths[bounds[0] : bounds[-1]], dtype=np.int64)
            found.append(inputs.input_lengths(Segments(np.zeros(0, np.int64), of_chunk, np.diff(bounds))))
        return np.concatenate(found)


def token_cache(
    dataset: Dataset,
    inputs: Inputs,
    columns: Sequence[str],
    *,
    cache_dir: Path,
    sizes: Mapping[str, int],
    title: str,
    only_if_it_fits: bool,
    use_cache: bool = True,
    verify: bool = False,
) -> TokenCache | None:
    """Return the tokens of all rows, read from the cache when the same were cached before.

    One process builds, the others wait and read. Files are written atomically; damaged ones are written again.

    Args:
        dataset: The rows.
        inputs: Inputs that have a ``token_key``.
        columns: Columns of the texts.
        cache_dir: Cache folder; tokens are written to ``tokens/``.
        sizes: Number of rows that are tokenized together, and of processes.
        title: Title of the progress bar.
        only_if_it_fits: Return None if the tokens would take more than a tenth of the free disk space.
        use_cache: Read cached tokens; otherwise tokenize again.
        verify: Verify checksums now, even if that was done within a day.

    Raises:
        ConfigurationError: When the cache folder cannot be written.
    """
    key = {"tokens": inputs.token_key, "columns": columns}
    folder = cache_dir / "tokens" / digest([__version__, fingerprint_of(dataset), key])
    with locked(folder):
        if not use_cache or not is_complete(folder, verify=verify):
            texts = dataset.select_columns(list(columns))
            encoder = Encoder(inputs, np.dtype(np.uint16 if _largest_id(inputs) < 1 << 16 else np.int32))
            if only_if_it_fits and estimated_size(texts, encoder) > MAX_SHARE * shutil.disk_usage(cache_dir).free:
                return None
            batches = EncodedBatches(encoder, texts, sizes["batch_size"])
            with building(folder, about=key) as aside:
                _write(batches.shown(title, sizes["num_workers"]), aside, encoder.id_type)
        cache = TokenCache(folder)
        assert len(cache) == len(dataset)  # the files are open now: another process may replace them
        return cache


@dataclass(frozen=True)
class Encoder:
    """Tokenizes rows; also in other processes.

    Args:
        inputs: Inputs of the rows.
        id_type: Type of token ids.
    """

    inputs: Inputs
    id_type: np.dtype[Any]

    def __call__(self, first_row: int, rows: Mapping[str, Sequence[Any]]) -> Segments:
        """Return the segments of some rows."""
        found = self.inputs.tokenized(rows)
        return replace(found, ids=found.ids.astype(self.id_type))


def estimated_size(dataset: Dataset, encoder: Encoder) -> float:
    """Return about how many bytes the tokens of a data set take, from some rows at equal distances."""
    places = range(0, len(dataset), max(1, len(dataset) // NUM_SAMPLED))
    if not places:
        return 0.0
    found = encoder(0, dataset[list(places)])
    of_token = encoder.id_type.itemsize + (found.starts is not None)
    size = len(found.ids) * of_token + len(found.lengths) * BYTES_OF_SEGMENT + len(places) * BYTES_OF_ROW
    return size / len(places) * len(dataset)


def _largest_id(inputs: Inputs) -> int:
    return max(inputs.tokenizer.get_vocab().values(), default=0)


def _write(batches: Iterator[Segments], folder: Path, dtype: np.dtype[Any]) -> None:
    tokens, segments, first = 0, 0, np.zeros(1, np.int64).tobytes()
    with contextlib.ExitStack() as opened:
        files: dict[str, Any] = {}

        def write(name: str, values: NDArray[Any]) -> None:
            if name not in files:
                files[name] = opened.enter_context((folder / name).open("wb"))
                if name in (ROW_TOKENS, ROW_SEGMENTS):
                    files[name].write(first)
            files[name].write(values.tobytes())

        none = np.zeros(0, np.int64)
        for name in (ROW_TOKENS, ROW_SEGMENTS, LENGTHS, f"ids.{dtype}"):  # also where there are no rows
            write(name, none)
        for batch in batches:
            ends = np.cumsum(batch.counts)
            token_ends = np.concatenate([[0], np.cumsum(batch.lengths)])[ends]
            write(ROW_SEGMENTS, segments + ends)
            write(ROW_TOKENS, tokens + token_ends)
            write(LENGTHS, batch.lengths.astype(np.int32))
            write(f"ids.{dtype}", batch.ids)
            if batch.starts is not None:
                write(STARTS, batch.starts)
            tokens, segments = tokens + len(batch.ids), segments + len(batch.lengths)


def _mapped(path: Path) -> NDArray[Any]:
    dtype = np.dtype(path.suffix[1:])
    return np.memmap(path, dtype=dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)
