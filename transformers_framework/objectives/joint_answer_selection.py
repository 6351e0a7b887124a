"""Joint answer selection: a model scores k candidates of a question in one input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, compress
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from transformers_framework.constants import IGNORE_INDEX, ROW_IDS, SOURCE_ROW, TOKENS, TRAIN, Stage
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.objectives.answer_selection import NUM_CLASSES, AnswerSelection
from transformers_framework.objectives.capabilities import ConfiguresInputs, PredictedPart
from transformers_framework.objectives.joint_layout import JointLayout
from transformers_framework.objectives.objective import Context, Evaluation, Setup
from transformers_framework.objectives.ranker_outputs import ranking_scores
from transformers_framework.objectives.seq_class import is_scorer
from transformers_framework.processing.grouping import IN_TURN
from transformers_framework.processing.windows import Ragged
from transformers_framework.restricted import NonNegativeInt, PositiveInt
from transformers_framework.sources.columns import DatasetSource, item_feature, list_sizes
from transformers_framework.sources.fields import parse_field

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from torchmetrics import Metric

WHOLE_GROUP = "RE_1"  # the head that predicts one label for the whole group
ABSENT = -1  # row id where a group has fewer candidates


class JointAnswerSelection(AnswerSelection, ConfiguresInputs):
    """Classify which of k candidates answer a question; one input contains the question and all k candidates.

    The heads are those of Di Liello, Garg, Soldaini, Moschitti 2022, "Paragraph-based Transformer Pre-training for
    Multi-Sentence Inference". Every head scores each candidate of a data set once: IE_1 and AE_1 score the first
    candidate of an input, and each candidate is the first of one input. RE_1 learns whether any candidate of a group is
    relevant: all of them get the score of their group, so groups are ranked, and accuracy and F1 are about groups.

    Args:
        setup: Tokenizer, config and classes of the model.
        input_columns: Column of questions and column of candidates.
        max_sequence_length: Longest input in tokens, special tokens included.
        k: Candidates that share an input with their question (joint re-ranking); without it, each is ranked by itself.
        classification_head_type: Type of the head: the hidden states that it reads and the labels that it predicts.
        separated: Encode each text with its own special tokens and maximum length, then join them.
        extended_token_type_ids: Token type of each segment; the last value is repeated.
        permutation_check: Number of random orders of its candidates in which each group is tested in addition.
        **pointwise: Parameters of answer selection without k.
    """

    head = "AutoModelForJointReRanking"
    warns_of_new_head: ClassVar[bool] = True

    def __init__(
        self,
        setup: Setup,
        *,
        input_columns: list[str],
        max_sequence_length: list[PositiveInt],
        k: PositiveInt | None = None,
        classification_head_type: Literal["IE_1", "IE_k", "AE_1", "AE_k", "RE_1", "RE_k"] | None = None,
        separated: bool = False,
        extended_token_type_ids: list[NonNegativeInt] | None = None,
        permutation_check: NonNegativeInt = 0,
        **pointwise: Any,
    ) -> None:
        candidates = parse_field(input_columns[-1])
        self.in_lists, self.candidates = candidates.spreads, candidates.columns[0]
        super().__init__(setup, self.in_lists, k=k, **pointwise)
        assert k is not None
        alone = {
            "loss_fn": self.loss.one_output,
            "train_group_size": self.list_size is not None,
            "teacher_column": self.teacher is not None,
        }
        if flag := next((flag for flag, is_given in alone.items() if is_given), None):
            raise ConfigurationError(
                f"--{flag}: candidates of a joint input (-k) are learned from their labels by cross-entropy. Leave one "
                "of them out."
            )
        if self.export_outputs == "one":
            raise ConfigurationError(
                "--export_outputs one: exports with -k have two outputs for each candidate. Leave one of them out."
            )
        self.head_type = classification_head_type or getattr(setup.config, "classification_head_type", None) or "IE_k"
        self.layout = JointLayout(
            num_candidates=k,
            classification_head_type=self.head_type,
            separated=separated,
            candidate_length=max_sequence_length[0],
            candidate_token_types=extended_token_type_ids,
        )
        self.layout.warn_of_changes(setup.config)
        self.num_orders = permutation_check
        if self.in_lists and self.top_k_from is not None:
            raise ConfigurationError(
                "--top_k_from needs a row for each candidate, and rows have lists here. Give lists of the "
                "best ones only, or a row for each candidate."
            )
        if self.in_lists:
            self.index_column = self.index_column or SOURCE_ROW
        self.documents: dict[Stage, Dataset] = {}
        self._ends: dict[Stage, tuple[Dataset | None, np.ndarray]] = {}  # of the lists of candidates

    @property
    def input_options(self) -> dict[str, Any]:
        """Return the type of the head, which may come from the checkpoint."""
        return {"classification_head_type": self.head_type}

    @property
    def head_config(self) -> dict[str, Any]:
        """Return the classes, the type of the head and the format of an input."""
        return super().head_config | self.layout.head_config(self.setup.config)

    @property
    def unfolds_output(self) -> bool:
        """Return whether the checkpoint is a re-ranker with one output."""
        return is_scorer(self.setup.config)

    @property
    def num_exported_outputs(self) -> int:
        """Return the number of classes."""
        return NUM_CLASSES

    # ---------------------------------------------------------------- rows

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check labels and query ids, or lists of labels.

        Raises:
            DataError: When a label or query id is missing or wrong, with its place.
        """
        if source.stage == TRAIN and self.warns_of_new_head:
            self.layout.warn_of_new_head(self.setup.config)
        if self.in_lists:
            self.documents[source.stage] = dataset
        return super().pre_process(dataset, source)

    def check_queries(self, dataset: Dataset, source: DatasetSource) -> None:
        """Check that each row has a query id; rows that have all candidates of a question in a list need none."""
        found = dataset.features.get(str(self.index_column))
        if self.index_column != SOURCE_ROW and not (self.in_lists and item_feature(found) is not None):
            super().check_queries(dataset, source)

    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, np.ndarray]:
        """Return ``labels``, ``row_ids`` and, outside training, ``indexes`` of the candidates that are scored.

        All are ``(B, S) int64``, where S is K, or 1 for heads that score the first candidate only. Where a group has
        fewer candidates, labels are -100 and row ids -1. Labels of RE_1 are ``(B, 1)``, and ``targets (B, K)`` are the
        labels of the candidates. ``permuted (P·B, S)`` are the row ids of the groups in other orders.
        """
        count, every = len(context.row_ids), Ragged.of(rows[ROW_IDS])
        width = int(every.lengths.max(initial=1))

        def laid_out(values: np.ndarray, nothing: int) -> np.ndarray:
            table = Ragged(values, every.lengths[:count]).padded(width, nothing)
            return table[:, :1] if self.head_type in IN_TURN else table

        lists = {name: values[:count] for name, values in rows.items() if name not in (ROW_IDS, TOKENS)}
        flat = {name: list(chain.from_iterable(values)) for name, values in lists.items()}
        own = super().post_process(flat, batch, context)
        own = {name: laid_out(values, IGNORE_INDEX) for name, values in own.items()}
        ids = every.padded(width, ABSENT)
        ids = ids[:, :1] if self.head_type in IN_TURN else ids
        own[ROW_IDS] = ids[:count]
        if len(ids) > count:
            own["permuted"] = ids[count:]
        if self.head_type == WHOLE_GROUP and "labels" in own:
            own["targets"], own["labels"] = own["labels"], own["labels"].max(axis=1, keepdims=True)
        return own

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Return a text with the labels of a group."""
        if "labels" not in batch:
            return "no labels"
        known = batch["labels"][row] != IGNORE_INDEX
        return "; ".join(self.label_type.describe(label) for label in batch["labels"][row][known])

    # ---------------------------------------------------------------- outputs

    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return the metrics of answer selection and, with ``permutation_check``, the changes of scores by order."""
        metrics = super().metrics(stage)
        if stage == "test" and self.num_orders:
            from transformers_framework.metrics.permutations import PermutationMetrics

            metrics["permutations"] = PermutationMetrics()
        return metrics

    def evaluate(self, output: Any, batch: Mapping[str, Tensor]) -> Evaluation:
        """Return the cross-entropy, and the inputs of classification, ranking and permutation metrics."""
        labels, row_ids = batch["labels"], batch[ROW_IDS]
        evaluation = self.label_type.evaluate(output.logits[: len(labels)].flatten(0, 1), labels.flatten())
        if "indexes" not in batch:
            return evaluation
        scores = ranking_scores(output)
        target = batch.get("targets", labels).masked_fill(row_ids < 0, IGNORE_INDEX)
        columns = {"preds": _of_rows(scores, row_ids), "target": target, "indexes": batch["indexes"], ROW_IDS: row_ids}
        inputs = {"ranking": {name: values.flatten() for name, values in columns.items()}}
        if "permuted" in batch:
            inputs["permutations"] = {
                "preds": _of_rows(scores, row_ids),
                "permuted": _of_rows(scores[len(row_ids) :], batch["permuted"]),
                "row_ids": row_ids,
                "permuted_ids": batch["permuted"],
            }
        return evaluation.with_inputs(**inputs)

    def predictions(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the row id, the score and the predicted class of each candidate."""
        scores = _of_rows(ranking_scores(output), batch[ROW_IDS]).flatten()
        return {ROW_IDS: batch[ROW_IDS].flatten(), "scores": scores, "prediction": (scores > 0).long()}

    # ---------------------------------------------------------------- rows with lists

    def row_of(self, stage: Stage, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the row of each candidate, if rows have lists of candidates."""
        if not self.in_lists:
            return super().row_of(stage, columns)
        return np.searchsorted(self._ends_of(stage), columns[ROW_IDS], side="right")

    def _ends_of(self, stage: Stage) -> np.ndarray:
        """Return the number of candidates up to the end of each row ``(N,) int64``."""
        dataset, ends = self._ends.get(stage, (None, np.zeros(0, np.int64)))
        if dataset is not self.documents[stage]:
            ends = np.cumsum(list_sizes(self.documents[stage], self.candidates))
            self._ends[stage] = self.documents[stage], ends
        return ends

    def whole_rows(
        self, stage: Stage, columns: Mapping[str, np.ndarray]
    ) -> tuple[Mapping[str, np.ndarray], Dataset] | None:
        """Return lists of scores and predictions per row, if rows have lists of candidates."""
        if not self.in_lists:
            return super().whole_rows(stage, columns)
        rows, owner = np.unique(self.row_of(stage, columns), return_inverse=True)
        bounds = np.append(0, self._ends_of(stage))
        sizes = bounds[rows + 1] - bounds[rows]
        begins = np.cumsum(sizes) - sizes
        places = columns[ROW_IDS] - (bounds[rows] - begins)[owner]
        found: dict[str, np.ndarray] = {ROW_IDS: rows}
        for name in ("scores", "prediction"):
            flat = np.full(int(sizes.sum()), None, dtype=object)  # None for candidates that were in no batch
            flat[places] = columns[name].tolist()
            found[name] = np.empty(len(rows), dtype=object)
            found[name][:] = [part.tolist() for part in np.split(flat, begins[1:])]
        return found, self.documents[stage]

    @property
    def list_column(self) -> str | None:
        """Return the column of lists of candidates, if rows have one."""
        return self.candidates if self.in_lists else None

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Return the name of the predicted class; a list of names if a row has a list of candidates."""
        if not self.in_lists:
            return super().decode(predictions)
        names = self.classes.names or range(self.classes.count)
        return predictions | {"prediction": [None if n is None else names[n] for n in predictions["prediction"]]}

    def prediction_files(self, stage: Stage, parts: Iterable[PredictedPart]) -> Iterator[tuple[str, str]]:
        """Yield the ranking as a TREC run and, where labels are known, the relevant candidates as TREC qrels."""
        return super().prediction_files(stage, self._of_candidates(stage, parts) if self.in_lists else parts)

    def _of_candidates(self, stage: Stage, parts: Iterable[PredictedPart]) -> Iterator[PredictedPart]:
        """Yield the score, the query id and the label of every candidate that was in a batch."""
        bounds = np.append(0, self._ends_of(stage))
        for columns, rows in parts:
            ids, lists = columns[ROW_IDS], rows[self.candidates]
            scores = list(chain.from_iterable(columns["scores"]))
            named = zip(rows.get(str(self.index_column), ids.tolist()), lists, strict=True)
            repeated = (query if isinstance(query, list) else [query] * len(items) for query, items in named)
            values = {str(self.index_column): chain.from_iterable(repeated)}
            if self.column in rows:
                values[self.column] = chain.from_iterable(rows[self.column])
            is_scored = [score is not None for score in scores]
            numbers = np.concatenate([np.arange(bounds[row], bounds[row + 1]) for row in ids.tolist()])
            kept = {ROW_IDS: numbers[is_scored], "scores": np.array([score for score in scores if score is not None])}
            yield PredictedPart(kept, {name: list(compress(column, is_scored)) for name, column in values.items()})


def _of_rows(scores: Tensor, row_ids: Tensor) -> Tensor:
    """Return a score for each candidate ``(B, S)``; scores of groups ``(B, 1)`` are repeated for all candidates."""
    return scores[: len(row_ids)].expand_as(row_ids)
