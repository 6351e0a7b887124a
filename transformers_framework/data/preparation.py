"""Preparation of data sets before training: rows are rewritten, tokens are counted, and both are cached on disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from transformers_framework.constants import AUTO
from transformers_framework.data.token_cache import TokenCache, token_cache
from transformers_framework.distributed.ranks import is_rank_zero
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.restricted import LocalPath, PositiveInt
from transformers_framework.sources.cache import prepared
from transformers_framework.storage.cache import cache_folder

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset

    from transformers_framework.inputs.inputs import Inputs
    from transformers_framework.sources.columns import DatasetSource

logger = logging.getLogger(__name__)

MAX_COUNTED_ROWS = 5_000_000  # a few minutes of tokenization, once; larger data is bucketed by characters
LEAST_BATCHES = 2  # of a process: its start takes as long as the tokenization of some hundred rows


class Preparation:
    """Prepare data sets, in several processes; one rank of each machine prepares them, or reads them from the cache.

    Args:
        prepare_data_workers: Number of processes that tokenize data before training. Default: the number of CPUs, or
            fewer for small data
        prepare_data_batch_size: Rows that are prepared together; with --iterable, rows that are checked before
            training.
        prepare_data_per_node: Prepare data in one folder per node; use it when file locks do not work across nodes.
        prepare_data_do_not_use_cache: Prepare data again even if an earlier run has prepared it.
        verify_data: Verify the checksums of all data on disk now; by default they are verified once a day, at first
            use.
        keep_in_memory: Load data into memory instead of memory-mapping files.
        cache_tokens: Tokenize rows once and keep their token ids in `cache_dir`, memory-mapped, so that later epochs
            and runs need no tokenizer. auto: training rows whose tokens are counted (for `length_bucketing` or
            packing), and validation rows, if they fit into a tenth of the free disk space.
        cache_dir: Folder for downloads and prepared data. Default: the user's cache folder.
    """

    def __init__(
        self,
        *,
        prepare_data_workers: PositiveInt | None = None,
        prepare_data_batch_size: PositiveInt = 1000,
        prepare_data_per_node: bool = False,
        prepare_data_do_not_use_cache: bool = False,
        verify_data: bool = False,
        keep_in_memory: bool = False,
        cache_tokens: bool | Literal["auto"] = AUTO,
        cache_dir: LocalPath | None = None,
    ) -> None:
        self.num_workers, self.batch_size = prepare_data_workers, prepare_data_batch_size
        self.read_options: dict[str, Any] = {"keep_in_memory": keep_in_memory, "verify": verify_data and is_rank_zero()}
        # rank zero prepares it again; other ranks read the result
        self.use_cache = not (prepare_data_do_not_use_cache and is_rank_zero())
        self.cache_tokens, self.cache_dir = cache_tokens, cache_folder(cache_dir)
        if prepare_data_per_node:
            self.cache_dir /= f"node_{os.environ.get('NODE_RANK', os.environ.get('GROUP_RANK', '0'))}"

    def sizes(self, dataset: Dataset) -> dict[str, int]:
        """Return how many rows of a data set are tokenized together, and in how many processes."""
        most = len(dataset) // (LEAST_BATCHES * self.batch_size)
        return {"batch_size": self.batch_size, "num_workers": self.num_workers or max(1, min(num_cpus(), most))}

    def rewritten(self, dataset: Dataset, inputs: Inputs, source: DatasetSource) -> Dataset:
        """Return the rewritten rows of a data set, from the cache if they are there.

        Args:
            dataset: The rows.
            inputs: Inputs that have a ``rewrite_key``.
            source: Source of the rows, for messages.

        Raises:
            DataError: When a row cannot be used; the message has its place.
        """
        key = inputs.rewrite_key
        assert key is not None

        def build(rows: Dataset) -> Iterator[pa.Table]:
            return inputs.rewrite(rows, source, **self.sizes(rows))

        return prepared(dataset, key, build, cache_dir=self.cache_dir, use_cache=self.use_cache, **self.read_options)

    def tokens(
        self, dataset: Dataset, inputs: Inputs, columns: Sequence[str], source: DatasetSource, *, is_worth: bool
    ) -> TokenCache | None:
        """Return the tokens of all rows, from the cache if they are there; None if batches are tokenized when made.

        Args:
            dataset: The rows.
            inputs: Inputs of the stage.
            columns: Columns of the texts.
            source: Source of the rows, for the progress bar.
            is_worth: Whether ``auto`` caches them, if they fit.
        """
        is_auto = self.cache_tokens == AUTO
        wanted = is_worth and len(dataset) <= MAX_COUNTED_ROWS if is_auto else self.cache_tokens
        if not wanted or inputs.token_key is None:
            return None
        reason = "they would take more than a tenth of the free disk space"
        try:
            found = token_cache(
                dataset,
                inputs,
                columns,
                cache_dir=self.cache_dir,
                sizes=self.sizes(dataset),
                title=f"Tokenizing {source.name}",
                only_if_it_fits=is_auto,
                use_cache=self.use_cache,
                verify=self.read_options["verify"],
            )
        except ConfigurationError as error:  # the folder cannot be written
            if not is_auto:
                raise
            found, reason = None, str(error)
        if found is None:
            logger.info(
                "%s: tokens are not cached (--cache_tokens), and each epoch tokenizes again: %s.",
                source.stage,
                reason.rstrip("."),
            )
        return found

    def token_lengths(self, dataset: Dataset, inputs: Inputs, tokens: TokenCache | None = None) -> np.ndarray:
        """Return the number of tokens of every row's model input ``(N,) int64``, from the cache if they are there."""
        import datasets

        if tokens is not None:
            return tokens.input_lengths(inputs)
        if inputs.token_columns or inputs.length_key is None:  # already stored, or not to be cached
            return inputs.token_lengths(dataset)
        counted = prepared(
            dataset,
            {"lengths": inputs.length_key},
            lambda rows: datasets.Dataset.from_dict({"length": inputs.token_lengths(rows, **self.sizes(rows))}),
            cache_dir=self.cache_dir,
            use_cache=self.use_cache,
            verify=self.read_options["verify"],
        )
        lengths: np.ndarray = counted.with_format("numpy")["length"][:]
        return lengths


def num_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
