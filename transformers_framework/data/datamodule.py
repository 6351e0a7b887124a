"""The data of a run: one DataModule for all pipelines, stages and sources."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import pytorch_lightning as pl

from transformers_framework.constants import AUTO, DEFAULT_BATCH_SIZE, STAGES, TRAIN, Stage
from transformers_framework.data.checks import checked, report
from transformers_framework.data.collator import Collator
from transformers_framework.data.contradictions import check_flags, rewritten_stream
from transformers_framework.data.fingerprint import NUM_FIRST_ROWS, Fingerprints
from transformers_framework.data.limits import Limits
from transformers_framework.data.loader import Loader, RowReader, RowStream
from transformers_framework.data.preparation import Preparation, num_cpus
from transformers_framework.data.row_groups import grouping_objective, num_groups
from transformers_framework.data.samplers import sampler_of
from transformers_framework.data.token_batches import token_batches
from transformers_framework.exceptions import ConfigurationError, UserError, caught
from transformers_framework.objectives.capabilities import ChangesLengths, group_columns
from transformers_framework.processing.packing import Bins, fill_bins
from transformers_framework.restricted import NonNegativeInt, PositiveInt, Source
from transformers_framework.runtime.loops import epoch_loop, epoch_under_way
from transformers_framework.runtime.precision import length_multiple
from transformers_framework.sources.columns import DatasetSource, rows_at
from transformers_framework.sources.data_files import FileOptions
from transformers_framework.sources.fields import NamedColumns
from transformers_framework.sources.loading import load_dataset, row_place
from transformers_framework.sources.loading import num_rows as known_num_rows

if TYPE_CHECKING:
    import datasets
    import numpy as np

    from transformers_framework.data.sampler import BatchSampler
    from transformers_framework.data.token_cache import TokenCache
    from transformers_framework.inputs.inputs import Inputs
    from transformers_framework.objectives.objective import Objective
    from transformers_framework.processing.token_batches import TokenBatches

logger = logging.getLogger(__name__)


class DataModule(pl.LightningDataModule):
    """Load, check and batch the data of every stage.

    Args:
        inputs: Turns rows into model inputs.
        objectives: Objectives of the run; they add labels.
        seed: The run's seed.
        options: All flags of the run; only columns that a flag names are read.
        limits: How much of the data of each stage is used.
        preparation: Prepares data sets before training.
        batch_size: Number of rows per batch, on each device. 'auto' finds the largest one that fits in memory before
            training, and with `effective_batch_size` the largest one that divides its rows.
        max_tokens_per_batch: Limit of the tokens of a training batch, on each device, in place of `batch_size`: the
            longest row × the number of rows, with padding. Batches of short rows have more rows. In evaluation, batches
            have as many rows as fit at the maximum length.
        eval_batch_size: Number of rows per batch in evaluation, on each device. Default: `batch_size`.
        train_dataset: Training data: a data file (.jsonl, .json, .csv, .tsv, .parquet, .txt, .conll), a folder or glob
            of them, or a folder saved with save_to_disk, each local or at a remote address (s3://, gs://, az://, hf://,
            https://), or a hub data set with the split last (user/name/split).
        valid_dataset: Validation data, from the same kinds of sources.
        test_dataset: Test data, from the same kinds of sources.
        predict_dataset: Data to predict, from the same kinds of sources; it needs no labels.
        train_config: Hub configuration of the training data.
        valid_config: Hub configuration of the validation data.
        test_config: Hub configuration of the test data.
        predict_config: Hub configuration of the data to predict.
        train_shard_dataset: Keep one of every N rows of the training data; with --index_column, one of every N
            questions.
        valid_shard_dataset: Keep one of every N rows, or questions, of the validation data.
        test_shard_dataset: Keep one of every N rows, or questions, of the test data.
        predict_shard_dataset: Keep one of every N rows, or questions, of the data to predict.
        num_workers: Number of data loader workers per device. Default: the number of CPUs divided by local devices.
        iterable: Stream the training data without conversion to Arrow; rows are shuffled in buffers of about 10,000
            rows.
        disable_memory_pinning: Do not put batches into pinned memory.
        length_bucketing: Batch training rows of similar length together, which saves padding. 'auto' does it where rows
            differ in length, and not with --packing, --iterable or --overfit_batches.
    """

    def __init__(
        self,
        inputs: Inputs,
        objectives: Sequence[Objective],
        seed: int,
        options: Mapping[str, Any],
        limits: Limits,
        preparation: Preparation,
        *,
        batch_size: PositiveInt | Literal["auto"] = DEFAULT_BATCH_SIZE,
        max_tokens_per_batch: PositiveInt | None = None,
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
        disable_memory_pinning: bool = False,
        length_bucketing: bool | Literal["auto"] = AUTO,
    ) -> None:
        super().__init__()
        self.inputs, self.objectives, self.seed = inputs, list(objectives), seed
        self.parts: tuple[Inputs | Objective, ...] = (inputs, *objectives)
        self.grouping_objective = grouping_objective(inputs, objectives)
        self.named_columns, self.limits, self.preparation = NamedColumns.of(options), limits, preparation
        self.file_options = FileOptions.of(options)
        self.iterable, self.num_workers = iterable, num_workers
        has_buckets = not (iterable or limits.overfits or inputs.has_equal_lengths)
        self.length_bucketing = has_buckets if length_bucketing == AUTO else bool(length_bucketing)
        self.max_tokens, self.eval_batch_size = max_tokens_per_batch, eval_batch_size
        rows = batch_size if max_tokens_per_batch is None else max(1, max_tokens_per_batch // inputs.max_length)
        self.use_batch_size(DEFAULT_BATCH_SIZE if rows == AUTO else rows)
        self.finds_batch_size = rows == AUTO
        given = (train_dataset, valid_dataset, test_dataset, predict_dataset)
        configs = (train_config, valid_config, test_config, predict_config)
        shards = (train_shard_dataset, valid_shard_dataset, test_shard_dataset, predict_shard_dataset)
        self.sources = {stage: name for stage, name in zip(STAGES, given, strict=True) if name}
        self.configs, self.shards = dict(zip(STAGES, configs, strict=True)), dict(zip(STAGES, shards, strict=True))
        check_flags(self)
        self.pin_memory = not disable_memory_pinning
        self.datasets: dict[Stage, Any] = {}
        self.num_rows: dict[Stage, int | None] = {}  # windows, where the inputs make some of the rows
        self.num_read: dict[Stage, int] = {}  # rows of the data set
        self.read: dict[Stage, datasets.Dataset] = {}  # the data set before rows are rewritten
        self.first_rows: dict[Stage, datasets.Dataset] = {}  # first rows of streams
        self.fingerprints = Fingerprints(self)
        self._resumed = {"epoch": 0, "consumed": 0}
        self._train_sampler: BatchSampler | None = None
        self._cached_tokens: dict[Stage, TokenCache | None] = {}

    def use_batch_size(self, rows: int) -> None:
        """Use a number of rows per training batch, and in evaluation if no other is given."""
        self.batch_sizes = dict.fromkeys(STAGES, self.eval_batch_size or rows) | {TRAIN: rows}
        self.finds_batch_size = False

    # ---------------------------------------------------------------- loading and checks

    def load(self, on_error: Callable[[UserError], None] | None = None, *, only_checks: bool = False) -> None:
        """Load and check the data of every stage; training data first, as label types are inferred from it.

        Args:
            on_error: Called with each error, after which checks continue; without it those of a stage are raised.
            only_checks: Rewrite no rows.

        Raises:
            DataError: When something is wrong with a data set; the message has the place.
            ConfigurationError: When no stage has data.
        """
        if not self.sources:
            raise ConfigurationError(
                "No data: give at least one of --train_dataset, --valid_dataset, --test_dataset, --predict_dataset."
            )
        self.only_checks = only_checks
        for stage in self.sources:
            with caught(on_error):
                self._load_stage(stage, on_error)

    def _load_stage(self, stage: Stage, on_error: Callable[[UserError], None] | None) -> None:
        streams = self.iterable and stage == TRAIN
        dataset = load_dataset(
            self.sources[stage], **self._load_arguments(stage), **self.preparation.read_options, iterable=streams
        )
        source = self._text_source(stage)
        if streams:
            self.num_rows[stage] = known_num_rows(dataset)
            self.datasets[stage] = self._check_stream(dataset, source, on_error)
        else:
            self.num_read[stage], self.read[stage] = len(dataset), dataset
            rows = self._prepare(dataset, source, on_error)
            if rows is not None:
                self.datasets[stage], self.num_rows[stage] = rows, len(rows)

    def source_of(self, stage: Stage) -> DatasetSource:
        """Return the source of a stage's rows, for messages."""
        texts = self._text_source(stage)
        if self.inputs.in_stage(stage).rewrite_key is None:
            return texts

        def place(row: int) -> str:
            return f"prepared row {row}, which starts in {texts.place(self.datasets[stage][row]['source_row'])}"

        return DatasetSource(stage, texts.name, place)

    def _text_source(self, stage: Stage) -> DatasetSource:
        name = self.sources[stage]
        return DatasetSource(stage, name, partial(row_place, name, **self._load_arguments(stage)))

    def _load_arguments(self, stage: Stage) -> dict[str, Any]:
        questions = next(iter(group_columns(self.objectives)), None)
        return {
            "stage": stage,
            "config": self.configs[stage],
            "shard": self.shards[stage],
            "questions": questions,
            "columns": self.named_columns,
            "reading": self.file_options.reading(stage),
            "cache_dir": self.preparation.cache_dir,
        }

    def _prepare(self, dataset: datasets.Dataset, source: DatasetSource, on_error: Any) -> datasets.Dataset | None:
        """Check a data set, and rewrite its rows if the inputs need that; rewritten rows are cached.

        Returns None if errors make it impossible to rewrite rows or to compute their lengths.
        """
        dataset, mistakes = checked(dataset, self.parts, source)
        report(mistakes, on_error)
        if self.only_checks:
            return None
        inputs = self.inputs.in_stage(source.stage)
        key = inputs.rewrite_key
        if mistakes or key is None:
            reads_all = self.inputs.uses_document_mask or self.inputs.groups_rows or self.max_tokens is not None
            must_be_right = key is not None or reads_all
            return None if mistakes and must_be_right else dataset

        with caught(on_error):
            rows = self.preparation.rewritten(dataset, inputs, source)
            return self.inputs.take_rows(rows, len(dataset), source)
        return None

    def _check_stream(
        self, stream: datasets.IterableDataset, source: DatasetSource, on_error: Any
    ) -> datasets.IterableDataset:
        """Check the first rows of a stream like a data set; the other rows are checked when they are read."""
        import datasets

        size = self.preparation.batch_size
        first = list(stream.take(max(size, NUM_FIRST_ROWS)))
        head = datasets.Dataset.from_list(first[:size], features=stream.features)
        self.first_rows[source.stage] = datasets.Dataset.from_list(first[:NUM_FIRST_ROWS], features=stream.features)
        report([*checked(head, self.parts, source)[1], *rewritten_stream(self.inputs)], on_error)
        return stream

    def rows(self, stage: Stage, rows: np.ndarray) -> Mapping[str, Sequence[Any]]:
        """Return the columns of some rows of a stage, by their numbers ``(N,) int64``."""
        return self.inputs.readable(rows_at(self.datasets[stage], rows))

    # ---------------------------------------------------------------- batches

    def has(self, stage: Stage) -> bool:
        """Return whether a stage has data."""
        return stage in self.sources

    @property
    def is_loaded(self) -> bool:
        """Return whether the data of every stage was read, with or without errors."""
        return self.num_rows.keys() == self.sources.keys()

    @property
    def flags(self) -> dict[str, Any]:
        """The values of the flags that depend on the inputs or on other flags."""
        rows = AUTO if self.finds_batch_size else self.batch_sizes[TRAIN]
        return {"length_bucketing": self.length_bucketing, "batch_size": rows if self.max_tokens is None else None}

    def columns(self, stage: Stage) -> tuple[str, ...]:
        """Return the columns that are read in a stage."""
        labels = (column for objective in self.objectives for column in objective.label_columns(stage))
        return tuple(dict.fromkeys((*self.inputs.columns_of(stage), *labels)))

    def collator(self, stage: Stage, pad_to_multiple_of: int = 1) -> Collator:
        """Return the collator of a stage, which turns rows into tensors."""
        return Collator(self.inputs.in_stage(stage), self.objectives, stage, self.seed, pad_to_multiple_of)

    def loader(self, stage: Stage) -> Loader:
        """Return the data loader of a stage for this rank of the attached trainer."""
        trainer = self.trainer
        assert trainer is not None
        dataset, streams = self.datasets[stage], self.iterable and stage == TRAIN
        sampler = sampler_of(self, stage, trainer)
        device = trainer.strategy.root_device.type
        if stage == TRAIN:
            sampler.resume(**self._resumed)
            self._train_sampler = sampler
        return Loader(
            RowStream(dataset, self.columns(stage), sampler, self.inputs.row_lengths if self.length_bucketing else None)
            if streams
            else self.reader(stage),
            sampler,
            self.collator(stage, pad_to_multiple_of=length_multiple(trainer)),
            num_rows=None if self.num_entries(stage) is None else sampler.num_rows,
            num_workers=self.workers_of(trainer),
            pin_memory=self.pin_memory and device not in ("cpu", "mps"),  # which use the memory of the host
            epoch=lambda: max(sampler.epoch, trainer.current_epoch) if stage == TRAIN else 0,
            accumulate_grad_batches=sampler.accumulated,
            limit=lambda: trainer.num_training_batches,
        )

    def reader(self, stage: Stage) -> RowReader:
        """Return the reader of the rows of a stage that is no stream."""
        tokens, columns = self.tokens(stage), self.columns(stage)
        if tokens is not None:
            labels = {column for objective in self.objectives for column in objective.label_columns(stage)}
            texts = {*self.inputs.columns_of(stage)} - labels
            columns = tuple(column for column in columns if column not in texts)
        return RowReader(self.datasets[stage], columns, self.inputs.token_columns, tokens)

    def tokens(self, stage: Stage) -> TokenCache | None:
        """Return the cached tokens of a stage whose rows are read again and again; None without them."""
        if stage in ("test", "predict") or (self.iterable and stage == TRAIN):
            return None
        if stage not in self._cached_tokens:
            whole = self.limits.of_stage.get(stage) is None and not self.limits.overfits
            self._cached_tokens[stage] = self.preparation.tokens(
                self.datasets[stage],
                self.inputs.in_stage(stage),
                self.inputs.columns_of(stage),
                self.source_of(stage),
                is_worth=whole and (stage != TRAIN or self.length_bucketing or self.inputs.uses_document_mask),
            )
        return self._cached_tokens[stage]

    def num_entries(self, stage: Stage) -> int | None:
        """Return the total number of batch entries of a stage: rows, packed rows (bins), groups of rows, or batches.

        Whole batches are the entries of training with ``--max_tokens_per_batch``.
        """
        if stage == TRAIN and self.token_batches is not None:
            return len(self.token_batches)
        if (groups := num_groups(self, stage)) is not None:
            return int(groups)
        return len(self.bins) if stage == TRAIN and self.bins is not None else self.num_rows[stage]

    @property
    def entries_per_batch(self) -> int:
        """Number of entries of a training batch on each rank."""
        return self.batch_sizes[TRAIN] if self.max_tokens is None else 1

    @cached_property
    def token_batches(self) -> TokenBatches | None:
        """Training batches with at most a number of tokens; None if batches have a number of rows."""
        return None if self.max_tokens is None else token_batches(self, self.max_tokens)

    @cached_property
    def bins(self) -> Bins | None:
        """Training rows (documents) that are packed into the same batch entry; None without packing."""
        if not self.inputs.uses_document_mask or TRAIN not in self.datasets:
            return None
        tokens, capacity = self.tokens(TRAIN), self.inputs.max_length
        lengths = self.preparation.token_lengths(self.datasets[TRAIN], self.inputs, tokens)
        for objective in self.objectives:
            if isinstance(objective, ChangesLengths):
                lengths, capacity = objective.packed_lengths(lengths, capacity)
        bins = fill_bins(lengths, capacity, self.seed)
        logger.info("Packed %d documents into %d rows, %.1f %% full.", len(lengths), len(bins), 100 * bins.fill)
        return bins

    def workers_of(self, trainer: pl.Trainer) -> int:
        """Return the number of data loader workers per device."""
        if self.num_workers is not None:
            return self.num_workers
        return num_cpus() // max(1, trainer.num_devices)

    def train_dataloader(self) -> Loader:
        """Return the data loader of training."""
        return self.loader("train")

    def val_dataloader(self) -> Loader | list[Loader]:
        """Return the data loader of validation; an empty list without validation data."""
        return self.loader("valid") if self.has("valid") else []

    def test_dataloader(self) -> Loader:
        """Return the data loader of testing."""
        return self.loader("test")

    def predict_dataloader(self) -> Loader:
        """Return the data loader of prediction."""
        return self.loader("predict")

    # ---------------------------------------------------------------- state to resume from

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its rows that training has consumed: all that is needed to resume."""
        trainer, sampler = self.trainer, self._train_sampler
        assert trainer is not None
        assert sampler is not None
        done = epoch_loop(trainer).batch_progress.current.processed  # type: ignore[attr-defined]
        epoch = epoch_under_way(trainer)
        return {"epoch": epoch, "consumed": sampler.rows_after(done), "rows_of_step": sampler.rows_of_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Resume after the rows that were consumed."""
        self._resumed = {"epoch": state_dict["epoch"], "consumed": state_dict["consumed"]}
        if self._train_sampler is not None:  # sharded strategies load checkpoints after the sampler is created
            self._train_sampler.resume(**self._resumed)
