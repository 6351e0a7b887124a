"""Answer selection: a model ranks the candidates of a question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transformers_framework.constants import BINARY_LABELS, EVALUATED, ROW_IDS, TRAIN, Stage
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.losses.ranking.table import RANKING_LOSSES
from transformers_framework.objectives.capabilities import (
    EvaluatesGroups,
    ExportsOutputs,
    GroupsRows,
    MergesWindows,
    PredictedPart,
    WritesFiles,
)
from transformers_framework.objectives.first_ranker import lower_candidates
from transformers_framework.objectives.label_counts import column_labels
from transformers_framework.objectives.label_types import SingleLabel
from transformers_framework.objectives.objective import Context, Evaluation, Setup
from transformers_framework.objectives.ranker_outputs import list_labels, ranking_scores, score_of, two_class_output
from transformers_framework.objectives.seq_class import SequenceClassification, is_scorer
from transformers_framework.objectives.teacher import Teacher, TeacherLoss
from transformers_framework.objectives.training_lists import check_list_flags, training_lists
from transformers_framework.processing.packing import Bins
from transformers_framework.processing.text_ids import query_numbers
from transformers_framework.processing.windows import Ragged
from transformers_framework.restricted import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Smoothing,
)
from transformers_framework.sources.columns import DatasetSource
from transformers_framework.sources.query_ids import check_queries
from transformers_framework.sources.scores import candidate_scores

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray
    from torch import Tensor
    from torchmetrics import Metric

    from transformers_framework.metrics.lower import LowerCandidates
    from transformers_framework.objectives.details.predicted import Predicted
    from transformers_framework.objectives.details.stage_details import StageDetails
    from transformers_framework.processing.candidate_lists import CandidateLists

NUM_CLASSES = 2
NO_CLASS = -1


class AnswerSelection(SequenceClassification, EvaluatesGroups, GroupsRows, ExportsOutputs, MergesWindows, WritesFiles):
    """Classify whether a candidate answers a question, and rank the candidates of each question by their scores.

    A checkpoint with one output keeps it: its logit is the score, trained with binary cross-entropy. This equals the
    cross-entropy of two classes in which the logit of class 0 is always 0. With other losses than the cross-entropy,
    all models have one output.

    Args:
        setup: Tokenizer, config and classes of the model.
        in_lists: Each row has a list of candidates and a list with one label per candidate.
        label_column: Column with 1 for a relevant candidate and 0 for an irrelevant one; yes and no, or true and false.
        index_column: Column with the query id: rows with the same id are candidates of one question.
        k: Candidates that share an input with their question (joint re-ranking); without it, each is ranked by itself.
        num_labels: Number of classes; candidates are ranked by the probability of class 1.
        label_weights: Weight of each class in the loss: first irrelevant candidates, then relevant ones.
        label_smoothing: Label smoothing: share of each label that is distributed equally over both classes.
        top_k_from: Column with the scores of a first ranker, and a number k: only its best k candidates of a question
            are re-ranked in validation and test. The others stay below them, in the order of the first ranker, and
            count in ranking metrics.
        metrics_at: Cut-offs k of precision@k, hitrate@k and ndcg@k in logs, in addition to precision@1 and hitrate@5.
        metrics_empty_target_action: How ranking metrics treat a question without any relevant candidate: 'skip' leaves
            it out, 'neg' counts 0, 'pos' counts 1, 'error' stops the run.
        loss_fn: Loss function. Of each candidate: 'cross_entropy' of two classes, 'binary' cross-entropy of one output.
            Of lists of `train_group_size` candidates: 'ranknet' and 'lambda' (pairs of a positive and a negative, the
            latter weighted by the change of nDCG: LambdaLoss), 'softmax' (each positive among the negatives), 'listnet'
            (the distribution of labels).
        train_group_size: Candidates of a list. Training reads one list of each question per epoch, and a batch has
            `batch_size` lists: all positives, hard negatives, and other candidates, which are new in each epoch.
        scores_column: Column with a score of each candidate, for instance from a first-stage ranker.
        hard_negatives: Number of negatives in a list that have the highest scores in `scores_column`. By default half
            of those that are not positives.
        iterable: Stream the training data without conversion to Arrow; rows are shuffled in buffers of about 10,000
            rows.
        teacher_column: Column with the scores of a teacher, as `predict` writes them, from which training learns too.
        teacher_weight: Share of the teacher's loss; the labels have the rest. Default: 0.5
        teacher_temperature: Temperature by which the scores of both models are divided before the softmax. Default: 1
        teacher_loss: Loss of the teacher's scores. Default: kl_divergence
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
        top_k_from: tuple[str, PositiveInt] | None = None,
        metrics_at: list[PositiveInt] | None = None,
        metrics_empty_target_action: Literal["skip", "neg", "pos", "error"] = "skip",
        loss_fn: Literal[tuple(RANKING_LOSSES)] = "cross_entropy",  # type: ignore[valid-type]
        train_group_size: PositiveInt | None = None,
        scores_column: str | None = None,
        hard_negatives: NonNegativeInt | None = None,
        iterable: bool = False,
        teacher_column: str | None = None,
        teacher_weight: Probability | None = None,
        teacher_temperature: PositiveFloat | None = None,
        teacher_loss: TeacherLoss | None = None,
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
            teacher_column=teacher_column,
            teacher_weight=teacher_weight,
            teacher_temperature=teacher_temperature,
            teacher_loss=teacher_loss,
        )
        self.index_column = index_column
        self.group_column = index_column
        self.empty_target_action, self.metrics_at = metrics_empty_target_action, metrics_at
        self.export_outputs = export_outputs
        self.loss, self.list_size = RANKING_LOSSES[loss_fn], train_group_size
        self.scores_column, self.num_hard = scores_column, hard_negatives
        self.lists: CandidateLists | None = None
        self.top_k_from = top_k_from
        self.lower: dict[Stage, LowerCandidates | None] = {}  # by stage, where not all candidates are re-ranked
        self.datasets: dict[Stage, Dataset] = {}
        if k is None:
            compares = loss_fn if self.loss.compares else None
            check_list_flags(train_group_size, hard_negatives, scores_column, compares=compares, iterable=iterable)
        of_classes = {"label_weights": label_weights, "label_smoothing": label_smoothing or None}
        given = [flag for flag, value in of_classes.items() if value is not None]
        if self.loss.compares and given:
            raise ConfigurationError(f"--{given[0]}: --loss_fn {loss_fn} has no loss of each class. Leave it out.")

    @property
    def head_config(self) -> dict[str, Any]:
        """Return the settings of the two classes; only their names if the checkpoint keeps its single output."""
        config = super().head_config
        if not self.has_one_output:
            return config
        of_classes = ("num_labels", "id2label", "label2id")
        marker = {name: value for name, value in config.items() if name not in of_classes}
        outputs = {} if is_scorer(self.setup.config) else {"num_labels": 1}
        return marker | {BINARY_LABELS: self.classes.display_names, "problem_type": None} | outputs

    @property
    def has_one_output(self) -> bool:
        """Return whether the model has a single output, the score: that of the checkpoint, or that of the loss."""
        return super().has_one_output or (self.head == SequenceClassification.head and self.loss.one_output)

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
            if self.top_k_from is not None and not source.errors:
                column, k = self.top_k_from
                self.lower[source.stage] = lower_candidates(
                    dataset,
                    column_labels(self.classes, dataset, source.stage),
                    source,
                    index_column=str(self.index_column),
                    column=column,
                    k=k,
                )
                self.datasets[source.stage] = dataset
        elif source.stage == TRAIN and self.list_size is not None and not source.errors:
            self.lists = training_lists(
                dataset,
                column_labels(self.classes, dataset, source.stage),
                source,
                index_column=self.index_column,
                size=self.list_size,
                compares=self.loss.compares,
                scores_column=self.scores_column,
                num_hard=self.num_hard,
            )
        return dataset

    def group_targets(self, dataset: Dataset, stage: Stage) -> np.ndarray | None:
        """Return the labels of candidates; None if each row has a list of them."""
        return None if self.list_column else column_labels(self.classes, dataset, stage)

    def num_groups(self, stage: Stage) -> int | None:
        """Return the number of lists in training, or of candidates that are re-ranked; None for single rows."""
        if (lower := self.lower.get(stage)) is not None:
            return len(lower.kept)
        return None if stage != TRAIN or self.lists is None else len(self.lists)

    def groups(self, stage: Stage, seed: int, epoch: int) -> Bins | None:
        """Return the candidates of each list in an epoch of training, or those that are re-ranked, each alone."""
        if (lower := self.lower.get(stage)) is not None:
            return Bins(lower.kept, np.ones_like(lower.kept))
        return None if stage != TRAIN or self.lists is None else self.lists.bins(seed, epoch)

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
        """Return ``labels`` and, outside training, ``indexes``: the query of each row, ``(B,) int64``.

        For a loss that compares the candidates of lists, ``places (Q, K) int64`` are the rows of each list, padded with
        -1.
        """
        labels = super().post_process(rows, batch, context)
        if self.loss.compares and context.stage == TRAIN and context.sizes is not None:
            places = np.arange(int(context.sizes.sum()))
            labels["places"] = Ragged(places, context.sizes).padded(int(context.sizes.max(initial=1)), -1)
        if context.stage in EVALUATED and self.index_column is not None:
            labels["indexes"] = query_numbers(rows[self.index_column])
        return labels

    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return accuracy and F1, and ranking metrics outside training."""
        from transformers_framework.metrics.classification import ClassificationMetrics

        metrics: dict[str, Metric] = {"classes": ClassificationMetrics(NUM_CLASSES, class_names=[])}
        if stage in EVALUATED:
            metrics["ranking"] = self.ranking_metrics(stage)
        return metrics

    def ranking_metrics(self, stage: Stage) -> Metric:
        """Return the ranking metrics, with the loss over the candidates of queries if the loss compares them."""
        from transformers_framework.metrics.ranking import RankingMetrics

        return RankingMetrics(self.loss.of_candidates, self.lower.get(stage), **self.metric_options)

    @property
    def metric_options(self) -> dict[str, Any]:
        """Return the settings of ranking metrics."""
        from transformers_framework.metrics.ranking import cut_offs

        return {"empty_target_action": self.empty_target_action, **cut_offs(self.metrics_at)}

    def num_items(self, batch: Mapping[str, np.ndarray]) -> float:
        """Return the loss denominator: labels or, of lists, the number of losses."""
        if "places" not in batch:
            return super().num_items(batch)
        return float(self.loss.items_of_lists(list_labels(batch)).sum())

    def evaluate(self, output: Any, batch: Mapping[str, Tensor]) -> Evaluation:
        """Return the sum of the losses, and the inputs of the classification metrics and of the ranking metrics."""
        output = two_class_output(output)
        evaluation = self.label_type.evaluate(output.logits, batch["labels"])
        if self.loss.compares:
            evaluation = replace(evaluation, loss=self._loss_of_lists(output, batch))
        evaluation = self.with_teacher(evaluation, output, batch)
        if "indexes" not in batch:
            return evaluation
        ranking = {"preds": ranking_scores(output), "target": batch["labels"], "indexes": batch["indexes"]}
        return evaluation.with_inputs(ranking={**ranking, "row_ids": batch[ROW_IDS]})

    def teacher_scores(self, values: Sequence[Any]) -> NDArray[np.float32]:
        """Return the teacher's scores of candidates ``(B,) float32``."""
        return np.array(values, dtype=np.float32)

    def check_teacher(self, teacher: Teacher, dataset: Dataset, source: DatasetSource) -> None:
        """Check that each candidate has a score of the teacher.

        Raises:
            DataError: When one is missing or no number, with its place.
        """
        candidate_scores(dataset, teacher.column, source, in_lists=False, flag="teacher_column")

    def teacher_loss(self, teacher: Teacher, output: Any, batch: Mapping[str, Tensor], scores: Tensor) -> Tensor:
        """Return the sum of the losses of a teacher's scores: of candidates, or of lists if the loss compares them.

        A candidate has the weight of its label, and a list that of the number of its losses.
        """
        if "places" in batch:
            labels = list_labels(batch)
            losses = teacher.loss_of_lists(score_of(output)[batch["places"]], scores[batch["places"]], labels >= 0)
            total: Tensor = (losses * self.loss.items_of_lists(labels)).sum()
            return total
        assert isinstance(self.label_type, SingleLabel)
        return (teacher.loss_of_scores(score_of(output), scores) * self.label_type.weights_of(batch["labels"])).sum()

    def _loss_of_lists(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of the losses of lists; 0 in evaluation, where the loss is computed over whole queries."""
        scores = score_of(output)
        if "places" not in batch:
            return scores.new_zeros(())
        return self.loss.of_lists(scores[batch["places"]], list_labels(batch))

    def predictions(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the score of each candidate and its predicted class."""
        output = two_class_output(output)
        return {"scores": ranking_scores(output), "prediction": output.logits.argmax(dim=-1)}

    def row_of(self, stage: Stage, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return each row itself; one for all if scores of other candidates depend on those of their queries."""
        return columns[ROW_IDS] if self.lower.get(stage) is None else np.zeros_like(columns[ROW_IDS])

    def whole_rows(
        self, stage: Stage, columns: Mapping[str, np.ndarray]
    ) -> tuple[Mapping[str, np.ndarray], Dataset] | None:
        """Return the predictions with the candidates that were not re-ranked, which have no class."""
        if (lower := self.lower.get(stage)) is None:
            return None
        rows, scores = lower.below(columns[ROW_IDS], columns["scores"])
        others = {ROW_IDS: rows, "scores": scores, "prediction": np.full(len(rows), NO_CLASS)}
        order = np.argsort(np.concatenate([columns[ROW_IDS], rows]))
        return {name: np.concatenate([columns[name], others[name]])[order] for name in others}, self.datasets[stage]

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Return the name of the predicted class; None for a candidate that was not re-ranked."""
        unranked = predictions["prediction"] == NO_CLASS
        return predictions | {"prediction": None} if unranked else super().decode(predictions)

    def details(self, predicted: Predicted, num_mistakes: int) -> StageDetails:
        """Return ranks of first positives, intervals, thresholds, calibration, and queries with a negative first."""
        from transformers_framework.objectives.details.ranking import Columns, ranking_details

        columns = Columns(self.column, self.index_column, self.list_column)
        target_of = partial(self.classes.numbers, stage="test")
        names = () if self.loss.compares else self.classes.display_names  # with such losses, 0 is no boundary
        options: dict[str, Any] = {"are_logits": True, "class_names": names, "metric_options": self.metric_options}
        return ranking_details(predicted, num_mistakes, columns, target_of, **options)

    @property
    def list_column(self) -> str | None:
        """Return the column of lists of candidates, if rows have one."""
        return None

    def prediction_files(self, stage: Stage, parts: Iterable[PredictedPart]) -> Iterator[tuple[str, str]]:
        """Yield the ranking as a TREC run and, with labels, the positives as TREC qrels and metrics by query."""
        from transformers_framework.metrics.trec import candidate_files

        label_column = self.classes.column if stage == "test" else None
        return candidate_files(
            parts,
            self.index_column,
            label_column,
            partial(self.classes.numbers, stage=stage),
            metric_options=self.metric_options,
        )
