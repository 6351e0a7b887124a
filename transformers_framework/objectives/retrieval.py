"""Dense retrieval: embeddings of queries and passages are trained with contrastive losses and rank candidates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transformers_framework.compat.transformers import model_mapping
from transformers_framework.constants import (
    AUTO,
    DEFAULT_BATCH_SIZE,
    EVALUATED,
    IGNORE_INDEX,
    ROW_IDS,
    TRAIN,
    Stage,
)
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.losses.retrieval.configured import ConfiguredLoss
from transformers_framework.losses.retrieval.table import NUM_PAIR, RETRIEVAL_LOSSES, SIMILARITY, check_columns
from transformers_framework.objectives.capabilities import (
    CountsLabels,
    Details,
    EvaluatesGroups,
    HasMainMetric,
    HeadByFamily,
    HubTask,
    LogsByData,
    PredictedPart,
    Remarks,
    WritesFiles,
)
from transformers_framework.objectives.hard_negatives import check_negatives
from transformers_framework.objectives.label_values import column_numbers, number_of, target_of
from transformers_framework.objectives.objective import Context, Evaluation, Objective, Setup
from transformers_framework.processing.text_ids import query_numbers, token_hashes
from transformers_framework.restricted import PositiveFloat, PositiveInt, Source
from transformers_framework.sources.columns import (
    DatasetSource,
    arrow_chunks,
    check_column,
    shown,
)
from transformers_framework.sources.fields import parse_field
from transformers_framework.sources.query_ids import check_queries

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from torchmetrics import Metric

    from transformers_framework.losses.retrieval.batch import Embedded
    from transformers_framework.objectives.details.predicted import Predicted
    from transformers_framework.objectives.details.stage_details import StageDetails


class Retrieval(
    Objective,
    HeadByFamily,
    CountsLabels,
    EvaluatesGroups,
    LogsByData,
    HasMainMetric,
    Remarks,
    WritesFiles,
    Details,
    HubTask,
):
    """Learn embeddings in which a query is close to its passages and far from all others.

    Args:
        setup: Tokenizer, config and classes of the model.
        input_columns: Columns of queries, passages and hard negatives.
        label_column: Column with the label of a row's passage: 1 for a positive, 0 for a negative, or the number that
            the loss learns. Without it, all rows of the training data are positives.
        index_column: Column of query ids, which are equal in all rows of a query. In evaluation these rows are the
            query's candidates; in training, a positive of a query is never used as its negative. Without it, rows with
            the same query text belong to the same query.
        loss_fn: Loss function. With labels: 'contrastive_loss', 'online_contrastive_loss' (1 and 0),
            'cosine_similarity_loss' (the similarity, a number), 'margin_mse_loss' (similarity of the passage minus
            similarity of the hard negative in the third column). In-batch negatives, with or without labels:
            'multiple_negatives_ranking_loss', 'multiple_negatives_symmetric_ranking_loss' (in both directions), and
            triplets in a batch, in which a query and its positives are one class: 'batch_all_triplet_loss',
            'batch_hard_triplet_loss', 'batch_hard_soft_margin_triplet_loss', 'batch_semi_hard_triplet_loss'.
            'triplet_loss' compares the passage with the hard negatives of further columns.
        scores_fn: Similarity function of two embeddings. By default that of the checkpoint, else 'cosine_similarity'.
        distance_fn: Distance function of two embeddings in contrastive and triplet losses: 'cosine' (1 - similarity),
            'euclidean' or 'manhattan'. By default 'cosine' if `scores_fn` is the cosine, else 'euclidean'.
        margin: Minimum distance of negatives (contrastive losses), or minimum difference of the distances of negatives
            and positives (triplets). By default 0.5, and 5 for triplets with other distances than cosine.
        scale: Factor of the scores of in-batch negatives, the inverse of the temperature. By default 20 for cosine
            similarities, 1 for dot products.
        sync_devices: All-gather the embeddings of all ranks as one batch; gradients flow back to the rank of each text.
        metrics_at: Cut-offs k of precision@k, hitrate@k and ndcg@k in logs, in addition to precision@1, precision@5,
            hitrate@5 and hitrate@100.
        metrics_empty_target_action: How ranking metrics treat a query without any positive: 'skip' leaves it out,
            'neg' counts 0, 'pos' counts 1, 'error' stops the run.
        batch_size: Rows per batch; in-batch negatives need two or more.
        corpus_dataset: Passages that are searched in evaluation.
        top_k: Number of passages to retrieve for each query.
    """

    name = "retrieval"
    head = "AutoModel"
    hub_task = "sentence-similarity"
    suffixes = (".run",)

    def __init__(
        self,
        setup: Setup,
        *,
        input_columns: list[str],
        label_column: str | None = None,
        index_column: str | None = None,
        # evaluated when flags are parsed, so that losses registered by other packages are choices too
        loss_fn: Literal[tuple(RETRIEVAL_LOSSES)] = "multiple_negatives_ranking_loss",  # type: ignore[valid-type]
        scores_fn: Literal["cosine_similarity", "dot_product_similarity"] | None = None,
        distance_fn: Literal["cosine", "euclidean", "manhattan"] | None = None,
        margin: PositiveFloat | None = None,
        scale: PositiveFloat | None = None,
        sync_devices: bool = False,
        metrics_at: list[PositiveInt] | None = None,
        metrics_empty_target_action: Literal["skip", "neg", "pos", "error"] = "skip",
        batch_size: PositiveInt | Literal["auto"] = DEFAULT_BATCH_SIZE,
        corpus_dataset: Source | None = None,
        top_k: PositiveInt = 100,
    ) -> None:
        super().__init__(setup)
        self.label_column, self.index_column = label_column, index_column
        self.group_column = index_column
        self.negative_fields = [parse_field(column) for column in input_columns[NUM_PAIR:]]
        self.passage_columns = parse_field(input_columns[1]).columns if len(input_columns) > 1 else ()
        self._alone: set[Stage] = set()  # stages whose rows are queries without passages; the corpus has those
        self.scores_fn = scores_fn or "cosine_similarity"
        self.loss = ConfiguredLoss.of(
            loss_fn,
            scores_fn=self.scores_fn,
            distance_fn=distance_fn,
            margin=margin,
            scale=scale,
            all_gather=sync_devices,
        )
        self.empty_target_action, self.metrics_at = metrics_empty_target_action, metrics_at
        self.searches, self.top_k = corpus_dataset is not None, top_k
        check_columns(loss_fn, self.loss.row, input_columns)
        given = {"margin": margin, "scale": scale, "distance_fn": distance_fn}
        if idle := [flag for flag, value in given.items() if value is not None and flag not in self.loss.row.flags]:
            raise ConfigurationError(
                f"--{idle[0]}: --loss_fn {loss_fn} does not use it. Leave it out, or choose another loss."
            )
        if self.loss.row.in_batch and batch_size == AUTO:
            raise ConfigurationError(
                f"--batch_size auto: --loss_fn {loss_fn} uses in-batch negatives, so its size decides on what is "
                "learned, and must not depend on the memory of a device. Give a number of rows."
            )
        if self.loss.row.in_batch and batch_size == 1 and len(input_columns) == NUM_PAIR and not sync_devices:
            raise ConfigurationError(
                f"--batch_size 1: --loss_fn {loss_fn} uses in-batch negatives, and a batch of 1 has none. Use the "
                "largest batch size that fits in memory."
            )

    @classmethod
    def head_for(cls, model_type: str) -> str:
        """Return the Auto class of the head in a model family; of encoder-decoders, only the encoder is used."""
        from transformers import CONFIG_MAPPING, AutoModelForSeq2SeqLM

        writes = model_type in CONFIG_MAPPING and CONFIG_MAPPING[model_type] in model_mapping(AutoModelForSeq2SeqLM)
        return "AutoModelForTextEncoding" if writes else cls.head

    # ---------------------------------------------------------------- data

    def label_columns(self, stage: Stage) -> tuple[str, ...]:
        """Return the columns of labels and query ids."""
        if stage == "predict":
            return ()
        label_column = None if stage in self._alone else self.label_column
        return tuple(column for column in (label_column, self.index_column) if column)

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check labels and query ids.

        Raises:
            ConfigurationError: When the loss or the evaluation needs a column that is not given.
            DataError: When a label, a query id or a needed hard negative is missing or invalid, with its place.
        """
        if source.stage == "predict":
            return dataset
        trains, needs = source.stage == TRAIN, self.loss.row
        if self.searches and not set(self.passage_columns).intersection(dataset.column_names):
            self._alone.add(source.stage)
        columns = f"Columns of {source.name}: {', '.join(dataset.column_names)}."
        if trains:
            check_negatives(dataset, source, self.negative_fields, self.loss.name)
        has_labels = self.label_column in self.label_columns(source.stage)
        if has_labels:
            self._check_labels(dataset, source)
        elif needs.needs_label if trains else not self.searches:
            learns = f"--loss_fn {self.loss.name} learns from labels, {needs.label.expected}"
            ranks = "ranking metrics need the positives and negatives of each query; or give a --corpus_dataset"
            raise ConfigurationError(
                f"--label_column is needed for the {source.stage} data set: {learns if trains else ranks}. {columns}"
            )
        if self.index_column is not None:
            check_queries(dataset, self.index_column, source)
        elif not trains and has_labels:
            raise ConfigurationError(
                f"--index_column is needed to rank the {source.stage} data set. Give the column of query ids, which "
                f"are equal in all rows of a query. {columns}"
            )
        return dataset

    def _check_labels(self, dataset: Dataset, source: DatasetSource) -> None:
        column, needs, trains = str(self.label_column), self.loss.row, source.stage == TRAIN
        check_column(dataset, column, source, flag="label_column")
        numbers = not needs.label.is_binary
        expected = needs.label.expected if trains or not numbers else "a number, 0.5 or more for a positive"
        learn_numbers = (name for name, row in RETRIEVAL_LOSSES.items() if row.label is SIMILARITY)
        hint = "" if numbers else f" (for numbers, use --loss_fn {next(learn_numbers)})"
        declared_names = getattr(dataset.features[column], "names", ())
        declared = [number_of(name) for name in declared_names]
        if sorted(map(str, declared)) == ["0", "1"] and declared != [0, 1]:
            raise DataError(
                f"--label_column: '{column}' of {source.name} has the classes {', '.join(declared_names)}, so 0 would "
                "be a positive. Cast the column to the other order."
            )
        start, any_positive = 0, False
        for array in arrow_chunks(dataset, column):
            values = column_numbers(array, f"--label_column: '{column}' of {source.name}", expected)
            rows = np.flatnonzero(~np.isfinite(values) if numbers else ~np.isin(values, (0, 1, IGNORE_INDEX)))
            source.refuse(start + rows, partial(_wrong_label, column, array, rows, f"{expected}{hint}"))
            any_positive |= bool((values == 1).any())
            start += len(values)
        if trains and not numbers and not needs.needs_label and not any_positive:
            raise DataError(
                f"--label_column: no row of {source.name} has label 1 in '{column}', but --loss_fn {self.loss.name} "
                "learns from positives; rows with label 0 only add negatives. Check the labels."
            )

    def remarks(self, dataset: Dataset, stage: Stage) -> list[str]:
        """Return a line with the number of rows with a positive, if labels are positive and negative."""
        if (targets := self.group_targets(dataset, stage)) is None:
            return []
        positives = int(np.count_nonzero(targets == 1))
        found = f"{positives:,} of {len(dataset):,} rows ({100 * positives / len(dataset):.1f} %) have a positive"
        lone = stage == TRAIN and self.loss.row.in_batch and positives < len(dataset)
        return [found + ("; the others only add a negative to their batch" if lone else "")]

    def group_targets(self, dataset: Dataset, stage: Stage) -> np.ndarray | None:
        """Return the labels of passages, if they are positive and negative."""
        if self.label_column not in self.label_columns(stage) or (stage == TRAIN and not self.loss.row.label.is_binary):
            return None
        found = [target_of(column_numbers(array, "", "")) for array in arrow_chunks(dataset, str(self.label_column))]
        return np.concatenate([np.zeros(0, np.int64), *found])

    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, np.ndarray]:
        """Return labels, and numbers that are equal for equal queries and passages.

        ``labels (B,) int32`` are the bits of float32 numbers, which no strategy in half precision rounds. In training,
        ``queries (B,)`` are numbers of queries and ``passages (B + N,)`` numbers of texts; in evaluation, ``indexes
        (B,)`` are numbers of queries: all int64.
        """
        own: dict[str, np.ndarray] = {}
        if context.stage == "predict":
            return own
        if self.label_column in self.label_columns(context.stage):
            values = map(number_of, rows[str(self.label_column)])
            own["labels"] = np.array([*values], dtype=np.float32).view(np.int32)
        elif context.stage == TRAIN:
            own["labels"] = np.ones(len(batch["input_ids"]), dtype=np.float32).view(np.int32)
        queries = query_numbers(rows[self.index_column]) if self.index_column is not None else None
        if context.stage != TRAIN:
            return own if queries is None else own | {"indexes": queries}
        if queries is None:
            queries = token_hashes(batch["input_ids"], batch["attention_mask"])
        passages = token_hashes(batch["passage_input_ids"], batch["passage_attention_mask"])
        return own | {"queries": queries, "passages": passages}

    def num_items(self, batch: Mapping[str, np.ndarray]) -> float:
        """Return the loss denominator: the number of positives, or of all rows with a label."""
        if "labels" not in batch:
            return 0.0
        labels = np.where(batch["labels"] == IGNORE_INDEX, IGNORE_INDEX, batch["labels"].view(np.float32))
        return self.loss.count(labels, trains="queries" in batch)

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Return a text with the passage and the label of a row."""
        parts = []
        if "passage_input_ids" in batch:
            tokens = batch["passage_input_ids"][row][batch["passage_attention_mask"][row] > 0]
            parts.append(repr(self.setup.tokenizer.decode(tokens)))
        if "labels" in batch:
            parts.append(f"label {batch['labels'][row].view(np.float32):g}")
        return " ".join(parts) or "no passage"

    # ---------------------------------------------------------------- loss, metrics, predictions

    def evaluate(self, output: Embedded, batch: Mapping[str, Tensor]) -> Evaluation:
        """Return the sum of the losses, and outside training the inputs of the ranking metrics."""
        import torch

        if "labels" in batch:
            bits = batch["labels"]
            batch = {**batch, "labels": bits.view(torch.float32).masked_fill(bits == IGNORE_INDEX, IGNORE_INDEX)}
        # scores are computed in float32: similarities differ by less than the precision of bf16, 8 bits
        with torch.autocast(output.query.device.type, enabled=False):
            if "queries" in batch:
                return Evaluation(self.loss.of_batch(output, batch))
            if "labels" not in batch or output.passage is None:
                return Evaluation(output.query.new_zeros(()))
            found, labels = (output.query, output.passage), batch["labels"]
            ranked = {
                "preds": self.scores(output),
                "labels": labels,
                "indexes": batch["indexes"],
                "row_ids": batch[ROW_IDS],
            }
            if self.loss.of_candidates is not None:
                ranked["values"] = self.loss.compared(*found)
            return Evaluation(self.loss.of_rows(*found, labels), {"candidates": ranked})

    def scores(self, output: Embedded) -> Tensor:
        """Return the similarity of query and passage in each row ``(B,) float32``."""
        from transformers_framework.losses.retrieval.similarity import scores

        assert output.passage is not None
        return scores(output.query, output.passage, self.scores_fn)

    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return ranking metrics outside training, where candidates have labels."""
        if not self._ranks(stage):
            return {}
        from transformers_framework.metrics.candidates import CandidateMetrics

        return {"candidates": CandidateMetrics(self.loss.of_candidates, **self.metric_options)}

    @property
    def metric_options(self) -> dict[str, Any]:
        """Return the settings of ranking metrics."""
        from transformers_framework.metrics.ranking import cut_offs

        at = cut_offs(self.metrics_at, precision=(1, 5), hitrate=(5, 100))
        return {"empty_target_action": self.empty_target_action, **at}

    @property
    def main_metric(self) -> str:
        """Return nDCG if a corpus is searched, else mean average precision."""
        return "corpus_ndcg" if self.searches else "mean_average_precision"

    def _ranks(self, stage: Stage) -> bool:
        return stage in EVALUATED and self.label_column in self.label_columns(stage)

    def has_loss(self, stage: Stage) -> bool:
        """Return whether passages have labels in a stage; in training they always have."""
        return stage == TRAIN or self._ranks(stage)

    def further_names(self, stage: Stage) -> list[str]:
        """Return the names that the search of a corpus logs in a stage."""
        from transformers_framework.metrics.corpus import corpus_names

        return corpus_names(self.top_k) if self.searches and stage in EVALUATED else []

    def predictions(self, output: Embedded, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the similarity of query and passage in each row, if rows have a passage."""
        return {} if output.passage is None else {"scores": self.scores(output)}

    def details(self, predicted: Predicted, num_mistakes: int) -> StageDetails:
        """Return ranks of the first positives, thresholds and queries with a negative first, if rows have labels."""
        from transformers_framework.objectives.details.ranking import Columns, ranking_details
        from transformers_framework.objectives.details.stage_details import StageDetails

        if not self._ranks("test"):
            return StageDetails()
        columns = Columns(str(self.label_column), self.index_column)
        options = self.metric_options
        return ranking_details(predicted, num_mistakes, columns, target_of, are_logits=False, metric_options=options)

    def prediction_files(self, stage: Stage, parts: Iterable[PredictedPart]) -> Iterator[tuple[str, str]]:
        """Yield the ranking as a TREC run and, with labels, the positives as TREC qrels and metrics by query."""
        from transformers_framework.metrics.trec import candidate_files

        label_column = self.label_column if stage == "test" else None
        return candidate_files(parts, self.index_column, label_column, target_of, metric_options=self.metric_options)


def _wrong_label(column: str, array: Any, rows: np.ndarray, expected: str, at: int) -> str:
    return f"'{column}' is {shown(array[int(rows[at])].as_py())}; expected {expected}."
