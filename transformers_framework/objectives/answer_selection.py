"""Ranking of the candidates of a question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transformers_framework.constants import EVALUATED, ROW_IDS, Stage
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.objectives.capabilities import EvaluatesGroups, WritesFiles
from transformers_framework.objectives.objective import Context, Evaluation, Setup
from transformers_framework.objectives.seq_class import SequenceClassification
from transformers_framework.processing.text_ids import value_hashes
from transformers_framework.restricted import NonNegativeFloat, PositiveInt, Smoothing
from transformers_framework.sources.columns import DatasetSource
from transformers_framework.sources.query_ids import check_queries

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from torchmetrics import Metric

NUM_CLASSES = 2


class AnswerSelection(SequenceClassification, EvaluatesGroups, WritesFiles):
    """Learn whether a candidate answers a question, rank the candidates of each question by it.

    A checkpoint with one output keeps it: its logit is the score, learned by a binary cross-entropy, which is the
    cross-entropy of that logit and a constant 0 for wrong.

    Args:
        setup: Tokenizer, config and classes of the model.
        in_lists: Each row has a list of candidates, with a label each.
        label_column: Column with 1 for a right candidate and 0 for a wrong one, or yes and no, true and false.
        index_column: Column with the query id: rows with the same id are candidates of one question.
        k: Candidates that share an input with their question (joint re-ranking); without it, each is ranked by itself.
        num_labels: Number of classes; candidates are ranked by the probability of class 1.
        label_weights: Weight of each class in the loss, the wrong candidates' first.
        label_smoothing: Share of each label that both classes have in equal parts.
        metrics_empty_target_action: What a question without any right candidate counts in ranking metrics: 'skip'
            leaves it out, 'neg' counts 0, 'pos' counts 1, 'error' stops.
    """

    name = "answer_selection"

    def __init__(
        self,
        setup: Setup,
        in_lists: bool = False,
        *,
        label_column: str | None = None,
        index_column: str | None = None,
        k: PositiveInt | None = None,
        num_labels: PositiveInt | None = None,
        label_weights: list[NonNegativeFloat] | None = None,
        label_smoothing: Smoothing = 0.0,
        metrics_empty_target_action: Literal["skip", "neg", "pos", "error"] = "skip",
    ) -> None:
        if num_labels not in (None, NUM_CLASSES):
            raise ConfigurationError(f"--num_labels: answer_selection has {NUM_CLASSES} classes, not {num_labels}.")
        super().__init__(
            setup,
            in_lists,
            is_binary=True,
            label_column=label_column,
            problem_type="single_label",
            num_labels=NUM_CLASSES,
            label_weights=label_weights,
            label_smoothing=label_smoothing,
        )
        self.index_column = index_column
        self.group_column = index_column
        self.empty_target_action = metrics_empty_target_action

    @property
    def head_config(self) -> dict[str, Any]:
        """Return classes; nothing where the one output that the config has stays."""
        return {} if self.has_one_output else super().head_config

    def label_columns(self, stage: Stage) -> tuple[str, ...]:
        """Return the label column and, where rows are ranked, that of the query id."""
        return (
            *super().label_columns(stage),
            *([self.index_column] if stage in EVALUATED and self.index_column else []),
        )

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check labels and query ids.

        Raises:
            DataError: When a label or query id is missing or wrong, with its place.
        """
        dataset = super().pre_process(dataset, source)
        if source.stage in EVALUATED:
            self.check_queries(dataset, source)
        return dataset

    def check_queries(self, dataset: Dataset, source: DatasetSource) -> None:
        """Check that each row says which question it belongs to.

        Raises:
            ConfigurationError: When no column is said to.
            DataError: When a query id is missing or wrong, with its place.
        """
        if self.index_column is None:
            raise ConfigurationError(
                f"--index_column is needed to rank the {source.stage} data set: the column that says which question "
                f"a row belongs to. Columns of {source.name}: {', '.join(dataset.column_names)}."
            )
        check_queries(dataset, self.index_column, source)

    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, np.ndarray]:
        """Return ``labels`` and, outside training, ``indexes``: the query of each row, ``(B,) int64``."""
        labels = super().post_process(rows, batch, context)
        if context.stage in EVALUATED and self.index_column is not None:
            labels["indexes"] = query_numbers(rows[self.index_column])
        return labels

    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return accuracy and F1, and ranking metrics outside training."""
        from transformers_framework.metrics.classification import ClassificationMetrics

        metrics: dict[str, Metric] = {"classes": ClassificationMetrics(NUM_CLASSES, class_names=[])}
        if stage in EVALUATED:
            from transformers_framework.metrics.ranking import RankingMetrics

            metrics["ranking"] = RankingMetrics(empty_target_action=self.empty_target_action)
        return metrics

    def evaluate(self, output: Any, batch: Mapping[str, Tensor]) -> Evaluation:
        """Return the cross-entropy; classes for accuracy, scores and queries for ranking."""
        output = of_two_classes(output)
        evaluation = super().evaluate(output, batch)
        if "indexes" not in batch:
            return evaluation
        ranking = {"preds": ranking_scores(output), "target": batch["labels"], "indexes": batch["indexes"]}
        return evaluation.with_inputs(ranking={**ranking, "row_ids": batch[ROW_IDS]})

    def predictions(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the score that ranks each candidate, and whether it is taken for right."""
        output = of_two_classes(output)
        return {"scores": ranking_scores(output), "prediction": output.logits.argmax(dim=-1)}

    def prediction_files(
        self, stage: Stage, columns: Mapping[str, np.ndarray], rows: Iterator[Mapping[str, Sequence[Any]]]
    ) -> dict[str, Iterable[str]]:
        """Return the ranking as a TREC run and, where labels are known, what is right as TREC qrels."""
        from transformers_framework.metrics.trec import candidate_files

        label_column = self.classes.column if stage == "test" else None
        return candidate_files(
            columns,
            rows,
            self.index_column,
            label_column,
            partial(self.classes.numbers, stage=stage),
            empty_target_action=self.empty_target_action,
        )


def of_two_classes(output: Any) -> Any:
    """Return logits of wrong and right ``(B, 2)``: of a single one, 0 and itself, which have the same probabilities."""
    from torch.nn.functional import pad

    logits = output.logits
    return output if logits.shape[-1] > 1 else SimpleNamespace(logits=pad(logits, (1, 0)))


def ranking_scores(output: Any) -> Tensor:
    """Return by how much each candidate is rather right than wrong, as a difference of logits: ``(B, …) float32``.

    It ranks as the probability of class 1 does, and keeps apart what a probability rounds to 1.
    """
    logits: Tensor = output.logits.detach().float()
    return logits[..., 1] - logits[..., 0]


def query_numbers(ids: Sequence[Any]) -> np.ndarray:
    """Return a number for every query id: ``(B,) int64``.

    Whole numbers stay, those above 63 bits as the negative numbers of the same 64 bits; texts become 64 bits of their
    BLAKE2 hash, equal in every process. A million queries collide with probability 3e-8.

    Examples:
        >>> query_numbers([7, 7, 9]).tolist()
        [7, 7, 9]
        >>> query_numbers([7, 2**64 - 1]).tolist()
        [7, -1]
        >>> len(set(query_numbers(["a", "b", "a"]).tolist()))
        2
    """
    if all(type(value) is int for value in ids):
        above = any(value >= 1 << 63 for value in ids)
        return np.array(ids, dtype=np.uint64 if above else np.int64).view(np.int64)
    return value_hashes(ids)
