"""The data of a run: one DataModule for all pipelines, stages and sources."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from transformers_framework.constants import STAGES, TRAIN, Stage
from transformers_framework.data.collator import Collator
from transformers_framework.data.contradictions import check_flags
from transformers_framework.data.fingerprint import ROWS_OF_HEAD, Fingerprints
from transformers_framework.data.limits import Limits
from transformers_framework.data.loader import Loader, RowReader, RowStream
from transformers_framework.data.sampler import BatchSampler
from transformers_framework.distributed.ranks import is_rank_zero
from transformers_framework.exceptions import ConfigurationError, UserError, caught
from transformers_framework.objectives.capabilities import ChangesLengths, group_columns
from transformers_framework.processing.packing import Bins, fill_bins
from transformers_framework.restricted import LocalPath, NonNegativeInt, PositiveInt, Source
from transformers_framework.runtime.loops import epoch_loop, epoch_under_way
from transformers_framework.runtime.precision import length_multiple
from transformers_framework.sources.cache import prepared
from transformers_framework.sources.columns import DatasetSource, chunks
from transformers_framework.sources.fields import NamedColumns
from transformers_framework.sources.loading import load_dataset, row_place
from transformers_framework.sources.loading import num_rows as known_num_rows
from transformers_framework.storage.cache import cache_folder

if TYPE_CHECKING:
    import datasets
    import numpy as np
    import pyarrow as pa

    from transformers_framework.inputs.inputs import Inputs
    from transformers_framework.objectives.objective import Objective

logger = logging.getLogger(__name__)

UNKNOWN_NUM_ROWS = 2**62  # of a stream
MAX_COUNTED_ROWS = 5_000_000  # a few minutes of tokenization, once; more rows are grouped by characters


class DataModule(pl.LightningDataModule):
    """Load, check and batch the data of every stage.

    Args:
        inputs: Turns rows into model inputs.
        objectives: What is learned; they add labels.
        seed: The run's seed.
        options: All flags of the run: those that name columns say which of a data set are read.
        limits: How much of each stage is used.
        batch_size: Rows of a batch, on each device.
        eval_batch_size: Rows of a batch outside training, on each device; as `batch_size` when not given.
        train_dataset: Training data: a folder saved with save_to_disk, a .jsonl, .json, .csv, .tsv or .parquet file, a
            folder or glob of them, each local or at a remote address (s3://, gs://, az://, hf://, https://), or a hub
            data set with the split last (user/name/split).
        valid_dataset: Validation data, from the same kinds of places.
        test_dataset: Test data, from the same kinds of places.
        predict_dataset: Data to predict, from the same kinds of places; needs no labels.
        train_config: Hub configuration of the training data.
        valid_config: Hub configuration of the validation data.
        test_config: Hub configuration of the test data.
        predict_config: Hub configuration of the data to predict.
        train_shard_dataset: Keep one row in so many of the training data; where --index_column
            says which rows are about one question, one question in so many.
        valid_shard_dataset: Keep one row, or one question, in so many of the validation data.
        test_shard_dataset: Keep one row, or one question, in so many of the test data.
        predict_shard_dataset: Keep one row, or one question, in so many of the data to predict.
        num_workers: Processes that prepare batches, for each device; CPUs divided by local devices when not given.
        iterable: Read training data as a stream: nothing is converted first, rows are shuffled within windows.
        keep_in_memory: Load data into memory instead of mapping files.
        disable_memory_pinning: Do not put batches into page-locked memory.
        prepare_data_workers: Processes that prepare data before training, where a pipeline has to rewrite rows; 1 when
            not given.
        prepare_data_batch_size: Rows that are prepared together, and that are checked of a stream before training.
        prepare_data_per_node: Each node prepares data in a folder of its own, as when locks do not work across nodes.
        prepare_data_do_not_use_cache: Prepare data anew even if an earlier run did.
        verify_data: Compare all data on disk with their checksums, as is done when they are first used on a day.
        length_bucketing: Put rows of similar length into the same batch in training, which saves padding.
        cache_dir: Folder for downloads and prepared data; the user's cache folder when not given.
    """

    def __init__(
        self,
        inputs: Inputs,
        objectives: Sequence[Objective],
        seed: int,
        options: Mapping[str, Any],
        limits: Limits,
        *,
        batch_size: PositiveInt,
        eval_batch_size: PositiveInt | None = None,
        train_dataset: Source | None = None,
        valid_dataset: Source | None = None,
        test_dataset: Source | None = None,
        predict_dataset: Source | None = None,
        train_config: str | None = None,
        valid_config: str | None = None,
        test_config: str | None = None,
        predict_config: str | None = None,
        train_shard_dataset: PositiveInt | None = None,
        valid_shard_dataset: PositiveInt | None = None,
        test_shard_dataset: PositiveInt | None = None,
        predict_shard_dataset: PositiveInt | None = None,
        num_workers: NonNegativeInt | None = None,
        iterable: bool = False,
        keep_in_memory: bool = False,
        disable_memory_pinning: bool = False,
        prepare_data_workers: PositiveInt | None = None,
        prepare_data_batch_size: PositiveInt = 1000,
        prepare_data_per_node: bool = False,
        prepare_data_do_not_use_cache: bool = False,
        verify_data: bool = False,
        length_bucketing: bool = False,
        cache_dir: LocalPath | None = None,
    ) -> None:
        super().__init__()
        self.inputs, self.objectives, self.seed = inputs, list(objectives), seed
        self.parts: tuple[Inputs | Objective, ...] = (inputs, *objectives)
        self.named_columns, self.limits = NamedColumns.of(options), limits
        self.iterable, self.length_bucketing = iterable, length_bucketing
        self.batch_sizes = dict.fromkeys(STAGES, eval_batch_size or batch_size) | {TRAIN: batch_size}
        given = (train_dataset, valid_dataset, test_dataset, predict_dataset)
        configs = (train_config, valid_config, test_config, predict_config)
        shards = (train_shard_dataset, valid_shard_dataset, test_shard_dataset, predict_shard_dataset)
        self.sources = {stage: name for stage, name in zip(STAGES, given, strict=True) if name}
        self.configs, self.shards = dict(zip(STAGES, configs, strict=True)), dict(zip(STAGES, shards, strict=True))
        check_flags(self)
        self.num_workers = num_workers
        self.how_to_read: dict[str, Any] = {
            "keep_in_memory": keep_in_memory,
            "verify": verify_data and is_rank_zero(),
        }
        self.pin_memory = not disable_memory_pinning
        self.prepare_data_workers, self.prepare_data_batch_size = prepare_data_workers, prepare_data_batch_size
        # the first process makes it anew, those that Lightning starts later find it made
        self.use_cache = not (prepare_data_do_not_use_cache and is_rank_zero())
        self.cache_dir = cache_folder(cache_dir)
        if prepare_data_per_node:
            self.cache_dir /= f"node_{os.environ.get('NODE_RANK', os.environ.get('GROUP_RANK', '0'))}"
        self.datasets: dict[Stage, Any] = {}
        self.num_rows: dict[Stage, int | None] = {}
        self.heads: dict[Stage, datasets.Dataset] = {}  # first rows of streams, for fingerprints
        self.fingerprints = Fingerprints(self)
        self._resumed = {"epoch": 0, "consumed": 0}
        self._train_sampler: BatchSampler | None = None

    # ---------------------------------------------------------------- before training

    def load(self, on_error: Callable[[UserError], None] | None = None) -> None:
        """Load and check the data of every stage; training data first, for it decides on classes.

        Args:
            on_error: Is told of each mistake and lets the checks go on; without it the first one is raised.

        Raises:
            DataError: When something is wrong with a data set, with the place.
            ConfigurationError: When there is no data at all.
        """
        if not self.sources:
            raise ConfigurationError(
                "No data: give at least one of --train_dataset, --valid_dataset, --test_dataset, --predict_dataset."
            )
        for stage in self.sources:
            with caught(on_error):
                self._load_stage(stage, on_error)

    def _load_stage(self, stage: Stage, on_error: Callable[[UserError], None] | None) -> None:
        streams = self.iterable and stage == TRAIN
        dataset = load_dataset(self.sources[stage], **self._which_rows(stage), **self.how_to_read, iterable=streams)
        source = self._source_of_texts(stage)
        if streams:
            self.num_rows[stage] = known_num_rows(dataset)
            self.datasets[stage] = self._check_stream(dataset, source, on_error)
        else:
            rows = self._prepare(dataset, source, on_error)
            if rows is not None:
                self.datasets[stage], self.num_rows[stage] = rows, len(rows)

    def source_of(self, stage: Stage) -> DatasetSource:
        """Return where a stage's rows come from, for messages."""
        texts = self._source_of_texts(stage)
        if self.inputs.rewrite_key is None:
            return texts

        def place(row: int) -> str:
            return f"prepared row {row}, which begins in {texts.place(self.datasets[stage][row]['source_row'])}"

        return DatasetSource(stage, texts.name, place)

    def _source_of_texts(self, stage: Stage) -> DatasetSource:
        name = self.sources[stage]
        return DatasetSource(stage, name, partial(row_place, name, **self._which_rows(stage)))

    def _which_rows(self, stage: Stage) -> dict[str, Any]:
        questions = next(iter(group_columns(self.objectives)), None)
        return {
            "stage": stage,
            "config": self.configs[stage],
            "shard": self.shards[stage],
            "questions": questions,
            "columns": self.named_columns,
            "cache_dir": self.cache_dir,
        }

    def _prepare(self, dataset: datasets.Dataset, source: DatasetSource, on_error: Any) -> datasets.Dataset | None:
        """Check a data set, each time: objectives learn their classes from it; rewrite it once, if inputs want that.

        Returns nothing where mistakes keep rows from being made anew or measured.
        """
        mistakes: list[UserError] = []
        for step in self.parts:
            with caught(mistakes.append if on_error else None):
                dataset = step.pre_process(dataset, source)
        for mistake in mistakes:
            on_error(mistake)
        inputs = self.inputs.in_stage(source.stage)
        key = inputs.rewrite_key
        if mistakes or key is None:
            must_be_right = key is not None or self.inputs.uses_document_mask or self.inputs.groups_rows
            return None if mistakes and must_be_right else dataset

        def build(dataset: datasets.Dataset) -> Iterator[pa.Table]:
            sizes = {"batch_size": self.prepare_data_batch_size, "num_workers": self.prepare_data_workers or 1}
            return inputs.rewrite(dataset, source, **sizes)

        with caught(on_error):
            return prepared(dataset, key, build, cache_dir=self.cache_dir, use_cache=self.use_cache, **self.how_to_read)
        return None

    def _check_stream(
        self, stream: datasets.IterableDataset, source: DatasetSource, on_error: Any
    ) -> datasets.IterableDataset:
        """Check the first rows of a stream as a data set; the rest is checked when it is read."""
        import datasets

        first = list(stream.take(max(self.prepare_data_batch_size, ROWS_OF_HEAD)))
        head = datasets.Dataset.from_list(first[: self.prepare_data_batch_size], features=stream.features)
        self.heads[source.stage] = datasets.Dataset.from_list(first[:ROWS_OF_HEAD], features=stream.features)
        for step in self.parts:
            with caught(on_error):
                step.pre_process(head, source)
        return stream

    def rows(self, stage: Stage) -> Iterator[Mapping[str, Sequence[Any]]]:
        """Return the rows of a stage in the order of the data set, some at a time, as columns."""
        return map(self.inputs.readable, chunks(self.datasets[stage]))

    # ---------------------------------------------------------------- batches

    def has(self, stage: Stage) -> bool:
        """Return whether a stage has data."""
        return stage in self.sources

    @property
    def is_loaded(self) -> bool:
        """Return whether the data of every stage could be read, right or wrong."""
        return self.num_rows.keys() == self.sources.keys()

    def columns(self, stage: Stage) -> tuple[str, ...]:
        """Return the columns that a stage reads."""
        labels = (column for objective in self.objectives for column in objective.label_columns(stage))
        return tuple(dict.fromkeys((*self.inputs.columns_of(stage), *labels)))

    def collator(self, stage: Stage, pad_to_multiple_of: int = 1) -> Collator:
        """Return what turns rows of a stage into tensors."""
        return Collator(self.inputs.in_stage(stage), self.objectives, stage, self.seed, pad_to_multiple_of)

    def loader(self, stage: Stage) -> Loader:
        """Return the batches of a stage for this process, as the attached trainer needs them."""
        trainer = self.trainer
        assert trainer is not None
        dataset, streams = self.datasets[stage], self.iterable and stage == TRAIN
        shuffles = stage == TRAIN and not self.limits.overfits
        grouped = not streams and (stage != TRAIN or (self.length_bucketing and shuffles))
        places, num_places = self.limits.places(self, stage, trainer.world_size), self.num_places(stage)
        sampler = BatchSampler(
            num_places if num_places is not None else UNKNOWN_NUM_ROWS,
            batch_size=self.batch_sizes[stage],
            seed=self.seed,
            shuffle=shuffles,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            lengths=self._lengths(stage) if grouped else None,
            bins=self.bins if stage == TRAIN else None,
            regroup=partial(self.inputs.groups, stage, self.seed) if self.inputs.groups_rows else None,
            places=places,
        )
        device = trainer.strategy.root_device.type
        if stage == TRAIN:
            sampler.resume(**self._resumed)
            self._train_sampler = sampler
        return Loader(
            RowStream(dataset, self.columns(stage), sampler, self.inputs.row_lengths if self.length_bucketing else None)
            if streams
            else RowReader(dataset, self.columns(stage), self.inputs.token_columns),
            sampler,
            self.collator(stage, pad_to_multiple_of=length_multiple(trainer)),
            num_rows=num_places if places is None else len(places),
            num_workers=self.workers_of(trainer),
            pin_memory=self.pin_memory and device not in ("cpu", "mps"),  # whose memory is the host's
            epoch=lambda: max(sampler.epoch, trainer.current_epoch) if stage == TRAIN else 0,
            window=trainer.accumulate_grad_batches if stage == TRAIN else 1,
            limit=lambda: trainer.num_training_batches,
        )

    def num_places(self, stage: Stage) -> int | None:
        """Return how many rows the batches of a stage have in all: bins where rows are packed, or groups."""
        if (groups := self.inputs.num_groups(stage)) is not None:
            return int(groups)
        return len(self.bins) if stage == TRAIN and self.bins is not None else self.num_rows[stage]

    @cached_property
    def bins(self) -> Bins | None:
        """Rows of training that share a row of a batch."""
        if not self.inputs.uses_document_mask or TRAIN not in self.datasets:
            return None
        lengths, capacity = self._token_lengths(self.datasets[TRAIN]), self.inputs.max_length
        for objective in self.objectives:
            if isinstance(objective, ChangesLengths):
                lengths, capacity = objective.packed_lengths(lengths, capacity)
        bins = fill_bins(lengths, capacity, self.seed)
        logger.info("%d texts are packed into %d rows, %.1f %% full.", len(lengths), len(bins), 100 * bins.fill)
        return bins

    def _lengths(self, stage: Stage) -> np.ndarray:
        """Return a length for every row: counted tokens for training, once; characters where that is good enough."""
        dataset = self.datasets[stage]
        if stage != TRAIN or len(dataset) > MAX_COUNTED_ROWS:
            return self.inputs.lengths(dataset)
        return self._token_lengths(dataset)

    def _token_lengths(self, dataset: datasets.Dataset) -> np.ndarray:
        import datasets

        if self.inputs.token_columns or self.inputs.length_key is None:  # they are there to be read, or not kept
            return self.inputs.token_lengths(dataset)
        counted = prepared(
            dataset,
            {"lengths": self.inputs.length_key},
            lambda rows: datasets.Dataset.from_dict({"length": self.inputs.token_lengths(rows)}),
            cache_dir=self.cache_dir,
            use_cache=self.use_cache,
            verify=self.how_to_read["verify"],
        )
        lengths: np.ndarray = counted.with_format("numpy")["length"][:]
        return lengths

    def workers_of(self, trainer: pl.Trainer) -> int:
        """Return how many processes prepare batches for each device."""
        if self.num_workers is not None:
            return self.num_workers
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cpus // max(1, trainer.num_devices)

    def train_dataloader(self) -> Loader:
        """Return the batches of training."""
        return self.loader("train")

    def val_dataloader(self) -> Loader | list[Loader]:
        """Return the batches of validation; none without its data set."""
        return self.loader("valid") if self.has("valid") else []

    def test_dataloader(self) -> Loader:
        """Return the batches of testing."""
        return self.loader("test")

    def predict_dataloader(self) -> Loader:
        """Return the batches of prediction."""
        return self.loader("predict")

    # ---------------------------------------------------------------- to go on where a run stopped

    def state_dict(self) -> dict[str, int]:
        """Return which rows of which epoch training has consumed: all that is needed to continue."""
        trainer, sampler = self.trainer, self._train_sampler
        assert trainer is not None
        assert sampler is not None
        done = epoch_loop(trainer).batch_progress.current.processed  # type: ignore[attr-defined]
        rows_of_step = sampler.step_size * trainer.accumulate_grad_batches
        epoch = epoch_under_way(trainer)
        return {"epoch": epoch, "consumed": sampler.rows_after(done), "rows_of_step": rows_of_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue behind the rows that were consumed."""
        self._resumed = {"epoch": state_dict["epoch"], "consumed": state_dict["consumed"]}
        if self._train_sampler is not None:  # strategies that shard load checkpoints later than batches are planned
            self._train_sampler.resume(**self._resumed)
