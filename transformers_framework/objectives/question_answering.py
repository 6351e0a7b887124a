"""Extractive question answering: the model predicts the span of the answer in a context, or that there is none."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transformers_framework.constants import ROW_IDS, SOURCE_ROW, TRAIN, Stage
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.losses.classification import cross_entropy
from transformers_framework.objectives.answers import CHUNK, Answers, answer_texts
from transformers_framework.objectives.capabilities import (
    Details,
    ExportsConfig,
    HasMainMetric,
    HubTask,
    KeepsState,
    MergesWindows,
    PredictedPart,
    Remarks,
    WritesFiles,
)
from transformers_framework.objectives.objective import Context, Evaluation, Objective, Setup
from transformers_framework.processing.answers import all_scores, best_threshold, metric_names, reading_metrics
from transformers_framework.processing.json_text import json_entries
from transformers_framework.processing.reading import (
    Documents,
    Spans,
    Windows,
    answer_ends,
    best_spans,
    merge,
    null_place,
    target_spans,
)
from transformers_framework.processing.text_ids import value_hashes
from transformers_framework.processing.windows import Ragged
from transformers_framework.restricted import PositiveInt
from transformers_framework.sources.columns import rows_at
from transformers_framework.sources.fields import as_text

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from torchmetrics import Metric

    from transformers_framework.objectives.details.predicted import Predicted
    from transformers_framework.objectives.details.stage_details import StageDetails
    from transformers_framework.sources.columns import DatasetSource

logger = logging.getLogger(__name__)

FORMATTED = 100  # rows per chunk in which answers are formatted, few enough for the processor's cache
THRESHOLD = "null_score_threshold"  # also the name in an export's config
ALWAYS_ANSWERED = math.inf
HIGHEST = float(np.finfo(np.float32).max)  # difference where there is no span at all; JSON has no infinity


class QuestionAnswering(
    Objective, KeepsState, ExportsConfig, HasMainMetric, MergesWindows, WritesFiles, Details, HubTask, Remarks
):
    """Predict the start and the end of the answer to a question in a context; the first token represents no answer.

    Args:
        setup: Tokenizer and config of the model.
        context_column: Column of the text that contains the answer.
        answers_column: Column of the gold answers, in SQuAD's format {text: [...], answer_start: [...]}, or a list of
            texts with their spans in `label_column`. The first answer is learned; predictions are compared with all.
            Questions without an answer have empty lists.
        label_column: Column of the spans of answers that are a list of texts: first and last character of each in the
            context, such as [[3, 7]] or {start: [3], end: [7]}.
        index_column: Column of question ids for the predictions file of official scripts. By default 'id' if there is
            such a column, else row numbers; also if the data to predict lack the given column.
        max_answer_length: Maximum length of predicted answers in tokens.
        n_best_size: Number of answers that are considered per window and written per question.
        null_score_threshold: A question gets no answer if the score of no answer minus the score of the best answer is
            above this threshold. 'auto' searches the threshold with the best F1 in each validation; tests, predictions
            and the export use it too. By default that of the checkpoint if it has one, else 0 if questions of the
            run's data have no answer, else every question gets an answer.
    """

    name = "question_answering"
    head = "AutoModelForQuestionAnswering"
    main_metric = "f1"
    hub_task = "question-answering"
    suffixes = (".official.json", ".null_odds.json")

    def __init__(
        self,
        setup: Setup,
        *,
        context_column: str,
        answers_column: str | None = None,
        label_column: str | None = None,
        index_column: str | None = None,
        max_answer_length: PositiveInt = 30,
        n_best_size: PositiveInt = 20,
        null_score_threshold: float | Literal["auto"] | None = None,
    ) -> None:
        import torch

        super().__init__(setup)
        self.context_column, self.index_column = context_column, index_column
        self.answers = Answers(context_column, answers_column, label_column)
        self.longest, self.n = max_answer_length, n_best_size
        self.wanted_threshold = null_score_threshold
        known = getattr(setup.config, THRESHOLD, None)
        self.state = torch.nn.Module()
        self.state.register_buffer(THRESHOLD, torch.tensor(math.nan if known is None else float(known)))
        self.null_place = null_place(setup.tokenizer)
        self.documents: dict[Stage, Dataset] = {}
        self.spans: dict[Stage, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return the state that loader workers need: without the data sets and the buffers on the device."""
        return vars(self) | {"state": None, "documents": {}}

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check every answer and find the span of the first one of each row.

        Raises:
            ConfigurationError: When a column is needed and not given.
            DataError: When a column is missing or the context has no answer at the given position, with its place.
        """
        self.documents[source.stage] = dataset
        has_ids = self.index_column is None or self.index_column in dataset.column_names
        if source.stage != "predict" and not has_ids:
            raise ConfigurationError(
                f"--index_column: the {source.stage} data set ({source.name}) has no column '{self.index_column}'. "
                f"It has: {', '.join(dataset.column_names)}."
            )
        if source.stage != "predict":
            self.answers.check_columns(dataset, source)
            if self.context_column in dataset.column_names:  # else the inputs raise an error
                self.spans[source.stage] = self.answers.spans(dataset, source)
        return dataset

    @property
    def head_config(self) -> dict[str, Any]:
        """Return no settings, after a check that an automatic threshold can be found."""
        if self.wanted_threshold == "auto" and not self.has_unanswerable("valid"):
            there = "has none" if "valid" in self.documents else "is not given"
            trouble = f"--null_score_threshold auto needs questions without an answer; --valid_dataset {there}"
            if TRAIN in self.documents:
                raise ConfigurationError(f"{trouble}. Leave the flag out or give a number.")
            logger.warning("%s. Using the threshold of the checkpoint, or the default if it has none.", trouble)
        return {}

    def has_unanswerable(self, stage: Stage) -> bool:
        """Return whether questions of a stage are known to have no answer."""
        return stage in self.spans and bool((self.spans[stage] < 0).any())

    def remarks(self, dataset: Dataset, stage: Stage) -> list[str]:
        """Return a line with the number of questions with and without an answer."""
        return [self.answers.distribution(self.spans[stage])] if stage in self.spans else []

    @property
    def threshold(self) -> float:
        """Threshold of the score of no answer minus the score of the best answer, above which there is no answer."""
        if isinstance(self.wanted_threshold, (int, float)):
            return float(self.wanted_threshold)
        if not math.isnan(found := float(self.state.get_buffer(THRESHOLD))):
            return found
        return 0.0 if any(map(self.has_unanswerable, self.spans)) else ALWAYS_ANSWERED

    @property
    def learned_config(self) -> dict[str, Any]:
        """Return the threshold if questions may have no answer."""
        return {} if self.threshold == ALWAYS_ANSWERED else {THRESHOLD: self.threshold}

    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, Any]:
        """Return ``labels (B, 2) int64``, the positions of the answer's first and last token.

        In windows without the whole answer, both are the position that represents no answer. Outside training,
        ``windows`` has the character positions of tokens.
        """
        starts, ends = Ragged.of(rows["char_starts"]), Ragged.of(rows["char_ends"])
        sources, nulls = np.asarray(rows[SOURCE_ROW]), self._null_places(batch["attention_mask"])
        first_tokens = batch["attention_mask"].argmax(axis=1) + np.asarray(rows["context_start"])
        own: dict[str, Any] = {}
        if context.stage != "predict":
            read_from, read_to = np.asarray(rows["read_from"]), np.asarray(rows["read_to"])
            found = target_spans(starts, ends, read_from, read_to, self.spans[context.stage][sources])
            own["labels"] = np.where(found < 0, nulls[:, None], first_tokens[:, None] + found)
        if context.stage != TRAIN:
            width = int(starts.lengths.max(initial=1))
            own["windows"] = Windows(
                starts=first_tokens,
                nulls=nulls,
                lengths=starts.lengths,
                before=np.asarray(rows["shared_before"]),
                after=np.asarray(rows["shared_after"]),
                char_starts=starts.padded(width, 0),
                char_ends=ends.padded(width, 0),
                rows=sources,
            )
        return own

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Return a text with the decoded answer."""
        if "labels" not in batch:
            return "no answers"
        first, last = batch["labels"][row]
        if last == self._null_places(batch["attention_mask"])[row]:
            return "no answer in it"
        return f"answer {self.setup.tokenizer.decode(batch['input_ids'][row][first : last + 1])!r}"

    def _null_places(self, attention_mask: np.ndarray) -> np.ndarray:
        """Return the position in each row that represents no answer: [CLS], else the first token ``(B,) int64``."""
        return np.asarray(attention_mask.argmax(1) + self.null_place + (self.null_place < 0) * attention_mask.sum(1))

    def evaluate(self, output: Any, batch: Mapping[str, Any]) -> Evaluation:
        """Return the cross-entropy of starts and ends, their likeliest positions, and the best spans."""
        import torch

        labels, outside = batch["labels"], batch["attention_mask"] == 0
        lowest = torch.finfo(torch.float32).min  # padding is excluded from the softmax
        logits = [values.float().masked_fill(outside, lowest) for values in (output.start_logits, output.end_logits)]
        losses = [cross_entropy(values, labels[:, which]) for which, values in enumerate(logits)]
        preds = torch.stack([values.detach().argmax(dim=-1) for values in logits], dim=1)
        inputs: dict[str, dict[str, Any]] = {"places": {"preds": preds, "target": labels}}
        if "windows" not in batch:
            return Evaluation(losses[0] + losses[1], inputs)
        spans = self._spans(output, batch["windows"])
        inputs["answers"] = {**spans, "rows": spans["rows"].where(batch[ROW_IDS] >= 0, -1)}
        return Evaluation(losses[0] + losses[1], inputs, {"spans": spans})

    def _spans(self, output: Any, windows: Windows) -> dict[str, Tensor]:
        """Return the best spans of B windows in characters, and the scores of no answer."""
        import torch

        both = torch.stack([output.start_logits, output.end_logits]).detach().float()
        logits, row = both.cpu().numpy(), np.arange(len(windows.rows))[:, None]  # (2, B, L), (B, 1)
        places = row * logits.shape[2] + windows.starts[:, None] + np.arange(windows.char_starts.shape[1])
        of_context = logits.reshape(2, -1).take(
            places, axis=1, mode="clip"
        )  # arbitrary values after the end of a context
        of_context[~np.stack(answer_ends(windows.char_starts, windows.char_ends))] = -np.inf
        (start, end), shared = of_context, (windows.before, windows.after)
        spans = best_spans(start, end, windows.lengths, *shared, n=self.n, longest=self.longest)
        found = {
            "rows": windows.rows,
            "null_scores": logits[:, row[:, 0], windows.nulls].sum(axis=0),
            "scores": spans.scores,
            "starts": windows.char_starts[row, spans.starts],
            "ends": windows.char_ends[row, spans.ends],
        }
        return {name: torch.from_numpy(value).to(both.device) for name, value in found.items()}

    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return the accuracy of starts and ends, and outside training exact match and F1 of questions."""
        from transformers_framework.metrics.reading import ReadingMetrics, SpanAccuracy

        metrics: dict[str, Metric] = {"places": SpanAccuracy()}
        if stage != TRAIN:
            names = metric_names(with_unanswerable=self.has_unanswerable(stage))
            names += [THRESHOLD] if self._searches(stage) else []
            metrics["answers"] = ReadingMetrics(partial(self.score_answers, stage), names)
        return metrics

    def _searches(self, stage: Stage) -> bool:
        return stage == "valid" and self.wanted_threshold == "auto" and self.has_unanswerable(stage)

    def score_answers(self, stage: Stage, found: Documents) -> dict[str, float]:
        """Return exact match and F1 of questions, and the best threshold if this validation searches it."""
        with_unanswerable = self.has_unanswerable(stage)
        golds = [answer_texts(value) for value in self._column(stage, self.answers.columns[0], found.rows)]
        best, differences = self._best_texts(stage, found), null_differences(found)
        scores = all_scores(best, golds, with_unanswerable=with_unanswerable)
        empty = all_scores([""] * len(best), golds, with_unanswerable=with_unanswerable)
        threshold = self.threshold
        if searches := self._searches(stage):  # rounded to the dtype of the buffer
            found_one = best_threshold(differences, scores[:, 1], empty[:, 1])
            threshold = float(self.state.get_buffer(THRESHOLD).new_tensor(found_one))
        scores = np.where((differences > threshold)[:, None], empty, scores)
        values = reading_metrics(scores, [bool(right) for right in golds])
        return values | ({THRESHOLD: threshold} if searches else {})

    def end_stage(self, stage: Stage, values: Mapping[str, Any]) -> None:
        """Store the threshold that was found in validation."""
        if not math.isnan(found := values.get(THRESHOLD, math.nan)):
            self.state.get_buffer(THRESHOLD).fill_(found)

    def _column(self, stage: Stage, column: str, rows: np.ndarray) -> Iterator[Any]:
        """Yield the values of rows."""
        dataset = self.documents[stage].select_columns([column])
        for start in range(0, len(rows), CHUNK):
            yield from rows_at(dataset, rows[start : start + CHUNK])[column]

    def _best_texts(self, stage: Stage, found: Documents) -> list[str]:
        contexts = self._column(stage, self.context_column, found.rows)
        spans = zip(contexts, found.spans.starts[:, 0].tolist(), found.spans.ends[:, 0].tolist(), strict=True)
        return [as_text(context)[start:end] for context, start, end in spans]

    def predictions(self, output: Any, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the best spans of windows, those of the evaluation if there was one."""
        return batch["spans"] if "spans" in batch else self._spans(output, batch["windows"])

    def row_of(self, stage: Stage, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the question of each window."""
        return columns["rows"]

    def whole_rows(self, stage: Stage, columns: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Dataset]:
        """Return the answer of each question with its score, the n best answers, and the score of no answer."""
        spans = Spans(columns["scores"], columns["starts"], columns["ends"])
        found = merge(columns["rows"], columns["null_scores"], spans)
        is_empty, n_best = null_differences(found) > self.threshold, self._n_best(stage, found)
        best = [next(filter(None, map(itemgetter("text"), answers)), "") for answers in n_best]
        written: dict[str, np.ndarray] = {
            ROW_IDS: found.rows,
            "prediction": np.where(is_empty, "", np.array(best, dtype=object)),
            "score": np.where(
                is_empty | ~np.isfinite(found.spans.scores[:, 0]), found.null_scores, found.spans.scores[:, 0]
            ),
            "n_best": n_best,
            "null_score": found.null_scores,
        }
        return written, self.documents[stage]

    def _n_best(self, stage: Stage, found: Documents) -> np.ndarray:
        """Return lists of the best answers of each question as dictionaries ``(D,) object``.

        They contain the empty answer if questions may have none. Probabilities are a softmax over the list.
        """
        spans, may_be_empty = found.spans, self.threshold != ALWAYS_ANSWERED
        empty = may_be_empty | ~np.isfinite(spans.scores[:, :1])
        scores = np.concatenate([spans.scores, np.where(empty, found.null_scores[:, None], -np.inf)], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")
        scores = np.take_along_axis(scores, order, axis=1)
        weights = np.exp(scores.astype(np.float64) - scores[:, :1])
        probabilities = weights / weights.sum(axis=1, keepdims=True)
        # the span of no answer is 0 to 0, an empty text
        starts, ends = (np.take_along_axis(np.pad(part, [(0, 0), (0, 1)]), order, axis=1) for part in spans[1:])
        sizes = np.isfinite(scores).sum(axis=1)
        width = int(sizes.max(initial=0))
        columns = [part[:, :width] for part in (scores, probabilities, starts, ends)]
        contexts = map(as_text, self._column(stage, self.context_column, found.rows))
        listed = np.empty(len(found.rows), dtype=object)
        for first in range(0, len(listed), FORMATTED):  # one loop for all answers of a chunk is faster than one per row
            part = slice(first, first + FORMATTED)
            spans_of_rows = zip(*(column[part].tolist() for column in columns[2:]), strict=True)
            texts = [
                context[start:end]
                for places, context in zip(spans_of_rows, contexts, strict=False)  # contexts go on in the next chunk
                for start, end in zip(*places, strict=True)
            ]
            numbers = (column[part].ravel().tolist() for column in columns[:2])
            answers = [
                {"text": text, "score": score, "probability": probability}
                for text, score, probability in zip(texts, *numbers, strict=True)
            ]
            for row, size in enumerate(sizes[part].tolist()):
                listed[first + row] = answers[row * width : row * width + size]
        return listed

    def details(self, predicted: Predicted, num_mistakes: int) -> StageDetails:
        """Return calibration, thresholds of no answer, and wrong answers in their context."""
        from transformers_framework.objectives.details.reading import reading_details

        known: dict[str, Any] = {"with_unanswerable": self.has_unanswerable("test"), "threshold": self.threshold}
        return reading_details(self.context_column, self.answers.columns, predicted, num_mistakes, **known)

    def prediction_files(self, stage: Stage, parts: Iterable[PredictedPart]) -> Iterator[tuple[str, str]]:
        """Yield the answers keyed by question id, in the format of SQuAD's official scripts.

        If questions may have no answer, also the score of no answer minus the score of the best answer.
        """
        column, begin, hashes = self.index_column or "id", "{", [np.zeros(0, np.int64)]
        (official, odds), has_odds = self.suffixes, self.threshold != ALWAYS_ANSWERED
        for columns, rows in parts:
            keys = list(map(str, rows.get(column, columns[ROW_IDS].tolist())))
            hashes.append(value_hashes(keys))
            yield official, begin + json_entries(keys, columns["prediction"].tolist())
            if has_odds:
                best = [max((a["score"] for a in n if a["text"]), default=-math.inf) for n in columns["n_best"]]
                found = np.nan_to_num(columns["null_score"] - np.array(best), posinf=HIGHEST)
                yield odds, begin + json_entries(keys, found.tolist())
            begin = ", "
        end = "{}\n" if begin == "{" else "}\n"
        yield from ((suffix, end) for suffix in (official, odds)[: 1 + has_odds])
        if (count := sum(map(len, hashes))) > (distinct := len(np.unique(np.concatenate(hashes)))):
            logger.warning(
                "%s: %d questions have only %d different ids in '%s'; the file for official scripts has the last "
                "answer of each id. Make the ids unique.",
                *(stage, count, distinct, column),
            )


def null_differences(found: Documents) -> np.ndarray:
    """Return the score of no answer minus the score of the best answer ``(D,) float64``."""
    return np.nan_to_num(found.null_scores.astype(np.float64) - found.spans.scores[:, 0], posinf=HIGHEST)
