"""Answer selection: a model ranks the candidates of a question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transformers_framework.constants import BINARY_LABELS, EVALUATED, ROW_IDS, Stage
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.objectives.capabilities import EvaluatesGroups, ExportsOutputs, WritesFiles
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

    from transformers_framework.objectives.details.predicted import Predicted
    from transformers_framework.objectives.details.stage_details import StageDetails

NUM_CLASSES = 2


class AnswerSelection(SequenceClassification, EvaluatesGroups, ExportsOutputs, WritesFiles):
    """Classify whether a candidate answers a question, and rank the candidates of each question by their scores.

    A checkpoint with one output keeps it: its logit is the score, trained with binary cross-entropy. This equals the
    cross-entropy of two classes in which the logit of class 0 is always 0.

    Args:
        setup: Tokenizer, config and classes of the model.
        in_lists: Each row has a list of candidates and a list with one label per candidate.
        label_column: Column with 1 for a relevant candidate and 0 for an irrelevant one; yes and no, or true and false.
        index_column: Column with the query id: rows with the same id are candidates of one question.
        k: Candidates that share an input with their question (joint re-ranking); without it, each is ranked by itself.
        num_labels: Number of classes; candidates are ranked by the probability of class 1.
        label_weights: Weight of each class in the loss: first irrelevant candidates, then relevant ones.
        label_smoothing: Label smoothing: share of each label that is distributed equally over both classes.
        metrics_empty_target_action: How ranking metrics treat a question without any relevant candidate: 'skip' leaves
            it out, 'neg' counts 0, 'pos' counts 1, 'error' stops the run.
        export_outputs: Outputs of exported rankers. 'one' is the score, the logit of class 1 minus that of class 0, as
            servers of re-rankers need it; 'two' are the logits of both classes. By default one, except with `k`.
    """

    name = "answer_selection"
    hub_task = "text-ranking"
    main_metric = "mean_average_precision"
    suffixes = (".run",)

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
        export_outputs: Literal["one", "two"] | None = None,
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
        self.export_outputs = export_outputs

    @property
    def head_config(self) -> dict[str, Any]:
        """Return the settings of the two classes; only their names if the checkpoint keeps its single output."""
        config = super().head_config
        if not self.has_one_output:
            return config
        of_classes = ("num_labels", "id2label", "label2id")
        marker = {name: value for name, value in config.items() if name not in of_classes}
        return marker | {BINARY_LABELS: self.classes.display_names, "problem_type": None}

    @property
    def num_exported_outputs(self) -> int:
        """Return 1, or 2 with ``--export_outputs two``."""
        return NUM_CLASSES if self.export_outputs == "two" else 1

    def label_columns(self, stage: Stage) -> tuple[str, ...]:
        """Return the label column and, in evaluation, the column of query ids."""
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
        """Check that each row has a query id.

        Raises:
            ConfigurationError: When ``--index_column`` is not given.
            DataError: When a query id is missing or wrong, with its place.
        """
        if self.index_column is None:
            raise ConfigurationError(
                f"--index_column is needed to rank the {source.stage} data set. Give the column of query ids, equal in "
                f"all rows of a question. Columns of {source.name}: {', '.join(dataset.column_names)}."
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
        """Return the cross-entropy, and the inputs of the classification metrics and of the ranking metrics."""
        output = two_class_output(output)
        evaluation = super().evaluate(output, batch)
        if "indexes" not in batch:
            return evaluation
        ranking = {"preds": ranking_scores(output), "target": batch["labels"], "indexes": batch["indexes"]}
        return evaluation.with_inputs(ranking={**ranking, "row_ids": batch[ROW_IDS]})

    def predictions(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the score of each candidate and its predicted class."""
        output = two_class_output(output)
        return {"scores": ranking_scores(output), "prediction": output.logits.argmax(dim=-1)}

    def details(self, predicted: Predicted, num_mistakes: int) -> StageDetails:
        """Return ranks of the first positives, thresholds, calibration, and queries with a negative first."""
        from transformers_framework.objectives.details.ranking import Columns, ranking_details

        columns = Columns(self.column, self.index_column, self.list_column)
        target_of = partial(self.classes.numbers, stage="test")
        return ranking_details(predicted, num_mistakes, columns, target_of, are_logits=True)

    @property
    def list_column(self) -> str | None:
        """Return the column of lists of candidates, if rows have one."""
        return None

    def prediction_files(
        self, stage: Stage, columns: Mapping[str, np.ndarray], rows: Iterator[Mapping[str, Sequence[Any]]]
    ) -> dict[str, Iterable[str]]:
        """Return the ranking as a TREC run and, where labels are known, the relevant candidates as TREC qrels."""
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


def two_class_output(output: Any) -> Any:
    """Return an output with logits of two classes ``(B, 2)``; a single logit is class 1, and class 0 gets a constant 0.

    The probabilities are those of the sigmoid of the single logit.
    """
    from torch.nn.functional import pad

    logits = output.logits
    return output if logits.shape[-1] > 1 else SimpleNamespace(logits=pad(logits, (1, 0)))


def ranking_scores(output: Any) -> Tensor:
    """Return the score of each candidate, the logit of class 1 minus the logit of class 0: ``(B, …) float32``.

    The order is that of the probabilities of class 1, but scores stay different where probabilities round to 1.
    """
    logits: Tensor = output.logits.detach().float()
    return logits[..., 1] - logits[..., 0]


def query_numbers(ids: Sequence[Any]) -> np.ndarray:
    """Convert query ids to numbers: ``(B,) int64``.

    Integers are kept (those above 63 bits as the negative numbers with the same 64 bits); strings are replaced by 64
    bits of their BLAKE2 hash, equal in every process. Two of a million queries collide with probability 3e-8.

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
