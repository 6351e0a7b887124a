"""Token classification: a class per word, such as part-of-speech tags or named entities."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import EVALUATED, IGNORE_INDEX, ROW_IDS, SOURCE_ROW, TRAIN, Stage
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.objectives.capabilities import (
    AddsTexts,
    ConfiguresInputs,
    MergesWindows,
    PredictedPart,
    WritesFiles,
)
from transformers_framework.objectives.objective import Context, Evaluation, Setup
from transformers_framework.objectives.seq_class import SequenceClassification
from transformers_framework.processing.words import first_pieces
from transformers_framework.restricted import NonNegativeFloat, PositiveInt, Smoothing
from transformers_framework.sources.columns import item_chunks, item_feature, list_sizes
from transformers_framework.sources.fields import as_text, word_column

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from torchmetrics import Metric

    from transformers_framework.metrics.entities import EntityTags
    from transformers_framework.objectives.details.predicted import Predicted
    from transformers_framework.objectives.details.stage_details import StageDetails
    from transformers_framework.sources.columns import DatasetSource

ENTITIES = "named_entity_recognition"  # the pipeline whose classes are entity tags
PREDICTED_ENTITIES = "entities"  # in predictions
MOST_DESCRIBED = 40  # words of a sample that --check shows

logger = logging.getLogger(__name__)


class TokenClassification(SequenceClassification, ConfiguresInputs, MergesWindows, AddsTexts, WritesFiles):
    """Classify each word at its first token.

    If a row is split into windows, each word is learned and predicted in exactly one of them. Words for which the
    tokenizer returns no token have no label and no prediction, and metrics ignore them.

    Args:
        setup: Tokenizer, config and classes of the model.
        input_columns: The column that holds the list of words of a row.
        label_column: Column with the list of classes of a row's words: integers from 0 (-100 for a word without a
            class), names, or ClassLabels.
        labels: Names of all classes, in the order of their numbers; by default taken from the data. With tags such as
            O, B-person and I-person, metrics of entities are computed too.
        num_labels: Number of classes; by default taken from the data.
        label_weights: Weight of each class in the loss, one per class.
        label_smoothing: Share of each label that is distributed equally over all classes.
        iterable: Read training data as a stream: without conversion first, and shuffled in a buffer. Words beyond
            `max_sequence_length` are then left out.
    """

    name = "token_class"
    head = "AutoModelForTokenClassification"
    hub_task = "token-classification"

    def __init__(
        self,
        setup: Setup,
        *,
        input_columns: list[str],
        label_column: str | None = None,
        labels: list[str] | None = None,
        num_labels: PositiveInt | None = None,
        label_weights: list[NonNegativeFloat] | None = None,
        label_smoothing: Smoothing = 0.0,
        iterable: bool = False,
    ) -> None:
        super().__init__(
            setup,
            in_lists=True,
            label_column=label_column,
            problem_type="single_label",
            labels=labels,
            num_labels=num_labels,
            label_weights=label_weights,
            label_smoothing=label_smoothing,
        )
        self.words = word_column(input_columns)
        if self.column == self.words:
            raise ConfigurationError(
                f"--label_column: '{self.column}' is also --input_columns, so the model would read its labels. Give "
                "another column."
            )
        self.streams = iterable
        self.documents: dict[Stage, Dataset] = {}
        self.tags: dict[Stage, tuple[np.ndarray, np.ndarray]] = {}  # classes of words, first word of each row

    def __getstate__(self) -> dict[str, Any]:
        """Return the state that loader workers need: without the data sets."""
        return vars(self) | {"documents": {}}

    @property
    def needs_word_ids(self) -> bool:
        """Return whether ``post_process`` needs ``word_ids`` in the batch: always."""
        return True

    @property
    def head_config(self) -> dict[str, Any]:
        """Return the number of classes and their names."""
        return {key: value for key, value in super().head_config.items() if key != "problem_type"}

    def label_columns(self, stage: Stage) -> tuple[str, ...]:
        """Return the label column of a stream; otherwise labels are looked up by row and word."""
        return super().label_columns(stage) if self.streams else ()

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Determine the classes, check every label and that each word has one.

        Raises:
            DataError: When a label is missing or invalid, or a row has more or fewer labels than words, with its place.
        """
        dataset = super().pre_process(dataset, source)
        if not self.documents and source.stage != "predict":
            self._explain_entities()
        self.documents[source.stage] = dataset
        # the inputs report other errors in the words
        if source.stage != "predict" and item_feature(dataset.features.get(self.words)) is not None:
            sizes, labels = list_sizes(dataset, self.words), list_sizes(dataset, self.classes.column)
            rows = np.flatnonzero(sizes != labels)
            source.refuse(rows, lambda at: self._unequal(int(labels[rows[at]]), int(sizes[rows[at]])))
            if not self.streams and not source.errors:
                self.tags[source.stage] = self._classes_of(dataset, source.stage), np.cumsum(sizes) - sizes
        return dataset

    def _classes_of(self, dataset: Dataset, stage: Stage) -> np.ndarray:
        """Return the class numbers of all words, in the order of the rows: ``(N,) int32``."""
        chunks = item_chunks(dataset, self.column)
        found = [self.classes.numbers(labels.to_pylist(), stage).astype(np.int32) for labels in chunks]
        return np.concatenate(found or [np.zeros(0, np.int32)])

    def _unequal(self, num_labels: int, num_words: int) -> str:
        return (
            f"'{self.classes.column}' has {num_labels} labels and '{self.words}' has {num_words} words; expected one "
            "label per word."
        )

    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, np.ndarray]:
        """Return ``labels (B, L) int64``, at the first token of each word.

        Also ``word_starts (B, W) int64``, the position of each word's first token, -1 if it has no token or belongs to
        another window; and outside training ``num_words (B,) int64``. Of windows also ``source_rows (B,) int64``,
        ``first_words``, the index of their first word in its row, and ``documents``, the source row of each window, or
        -1 if the row has a single window.
        """
        starts = first_pieces(batch["word_ids"])
        if SOURCE_ROW in rows:
            return self._of_windows(rows, starts, batch["word_ids"].shape, context)
        sizes = np.array([len(words or ()) for words in rows[self.words]], dtype=np.int64)
        own = {"word_starts": starts, **({"num_words": sizes} if context.stage != TRAIN else {})}
        if context.stage == "predict":
            return own
        lists = [labels or () for labels in rows[self.classes.column]]
        for labels, size in zip(lists, sizes.tolist(), strict=True):
            if len(labels) != size:  # of a stream, only the first rows were checked before training
                raise DataError(f"{self._unequal(len(labels), size)} The row was not checked before training.")
        classes = self.classes.numbers(list(chain.from_iterable(lists)), context.stage)
        row, word = np.nonzero(starts >= 0)
        dense = np.full(batch["word_ids"].shape, IGNORE_INDEX, dtype=np.int64)
        dense[row, starts[row, word]] = classes[(np.cumsum(sizes) - sizes)[row] + word]
        return own | {"labels": dense}

    def _of_windows(
        self, rows: Mapping[str, Sequence[Any]], starts: np.ndarray, shape: tuple[int, ...], context: Context
    ) -> dict[str, np.ndarray]:
        sources, firsts, owns_from, owns_to, sizes = (
            np.asarray(rows[name], dtype=np.int64)
            for name in (SOURCE_ROW, "first_word", "owns_from", "owns_to", "num_words")
        )
        places = firsts[:, None] + np.arange(starts.shape[1])  # indices of words in their rows
        starts = np.where((places >= owns_from[:, None]) & (places < owns_to[:, None]), starts, -1)
        own = {"word_starts": starts}
        if context.stage != TRAIN:
            whole = owns_to - owns_from == sizes
            own |= {"num_words": sizes, "source_rows": sources, "first_words": firsts}
            own["documents"] = np.where(whole, -1, sources)
        if context.stage == "predict":
            return own
        classes, begins = self.tags[context.stage]
        window, word = np.nonzero(starts >= 0)
        dense = np.full(shape, IGNORE_INDEX, dtype=np.int64)
        dense[window, starts[window, word]] = classes[begins[sources[window]] + places[window, word]]
        return own | {"labels": dense}

    def evaluate(self, output: Any, batch: Mapping[str, Tensor]) -> Evaluation:
        """Return the cross-entropy at the first tokens of words, and their predicted classes and labels."""
        logits = at_words(output.logits, batch["word_starts"])  # (B, W, C)
        labels = at_words(batch["labels"], batch["word_starts"])
        labels = labels.masked_fill(batch["word_starts"] < 0, IGNORE_INDEX)
        evaluation = self.label_type.evaluate(logits.flatten(0, 1), labels.flatten())
        if "num_words" not in batch or self._entity_tags is None:
            return evaluation
        preds = evaluation.metric_inputs["classes"]["preds"].view_as(labels)
        windows = {"documents": batch["documents"], "firsts": batch["first_words"]} if "documents" in batch else {}
        return evaluation.with_inputs(entities={"preds": preds, "target": labels, **windows})

    def _explain_entities(self) -> None:
        """Warn that there are no metrics of entities, if the pipeline or names of classes suggest them."""
        from transformers_framework.metrics.entities import LIKE_TAG, why_no_entities

        names = self.classes.names
        wanted = self.setup.pipeline == ENTITIES or any(LIKE_TAG.match(name) for name in names or ())
        if wanted and self._entity_tags is None:
            logger.warning("There are no metrics of entities: %s.", why_no_entities(names))

    @property
    def _entity_tags(self) -> EntityTags | None:
        """Return the classes as entity tags; None if they are none. They are parsed once, and read for each row."""
        from transformers_framework.objectives.predicted_entities import entity_tags

        return entity_tags(tuple(self.classes.names or ()))

    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return accuracy and F1 of words and, outside training, metrics of entities if classes are entity tags."""
        metrics = super().metrics(stage)
        if stage in EVALUATED and self._entity_tags is not None:
            from transformers_framework.metrics.entities import EntityMetrics

            metrics["entities"] = EntityMetrics(self.classes.display_names)
        return metrics

    @property
    def main_metric(self) -> str:
        """Return the F1 of entities if classes are entity tags, else accuracy."""
        return "accuracy" if self._entity_tags is None else "entity_f1"

    def predictions(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the most likely class of each word and its probability, ``(B, W)``; -1 for words without tokens."""
        starts = batch["word_starts"]
        scores, classes = at_words(output.logits, starts).float().softmax(dim=-1).max(dim=-1)
        return {
            "scores": scores.masked_fill(starts < 0, -1),
            "prediction": classes.masked_fill(starts < 0, -1),
            **{name: batch[name] for name in ("num_words", "source_rows", "first_words") if name in batch},
        }

    def row_of(self, stage: Stage, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the row of each window."""
        return columns["source_rows"] if "source_rows" in columns else columns[ROW_IDS]

    def whole_rows(
        self, stage: Stage, columns: Mapping[str, np.ndarray]
    ) -> tuple[Mapping[str, np.ndarray], Dataset] | None:
        """Return the classes and scores of all words of rows, each from the window that the word belongs to."""
        if "source_rows" not in columns:
            return None
        rows, first, owner = np.unique(columns["source_rows"], return_index=True, return_inverse=True)
        sizes = columns["num_words"][first]
        begins = np.cumsum(sizes) - sizes
        window, word = np.nonzero(columns["prediction"] >= 0)
        places = begins[owner[window]] + columns["first_words"][window] + word
        found: dict[str, np.ndarray] = {ROW_IDS: rows, "num_words": sizes}
        for name in ("scores", "prediction"):
            flat = np.full(int(sizes.sum()), -1, dtype=columns[name].dtype)
            flat[places] = columns[name][window, word]
            found[name] = np.empty(len(rows), dtype=object)
            for row, (begin, size) in enumerate(zip(begins, sizes, strict=True)):
                found[name][row] = flat[begin : begin + size].tolist()
        return found, self.documents[stage]

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Return class and probability of each word of the row, None for words that were not in the input."""
        size, names = predictions["num_words"], self.classes.names
        classes, scores = ((predictions[key] + [-1] * size)[:size] for key in ("prediction", "scores"))
        return {
            "scores": [score if number >= 0 else None for score, number in zip(scores, classes, strict=True)],
            "prediction": [None if number < 0 else names[number] if names else number for number in classes],
        }

    def with_texts(self, predictions: dict[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the predictions with the entities of the row, if classes are entity tags.

        A column of words or labels that has the name "entities" is kept instead.
        """
        from transformers_framework.objectives.predicted_entities import predicted_entities

        tags = self._entity_tags
        if tags is None or PREDICTED_ENTITIES in (self.words, self.classes.column):
            return predictions
        numbers = self.classes.number_of_prediction
        classes = [-1 if name is None else numbers[name] for name in predictions["prediction"]]
        words = [as_text(word) for word in row[self.words] or ()]
        return predictions | {PREDICTED_ENTITIES: predicted_entities(tags, words, classes, predictions["scores"])}

    def details(self, predicted: Predicted, num_mistakes: int) -> StageDetails:
        """Return scores of classes and of entity types, confusions, calibration and mistakes."""
        from transformers_framework.objectives.details.words import word_details

        return word_details(self.classes, self.words, predicted, num_mistakes, self._entity_tags)

    def prediction_files(self, stage: Stage, parts: Iterable[PredictedPart]) -> Iterator[tuple[str, str]]:
        """Warn of words without prediction; there are no further files."""
        num_words = predicted = 0
        for columns, _ in parts:
            num_words += int(columns["num_words"].sum())
            predicted += sum(int((np.asarray(classes) >= 0).sum()) for classes in columns["prediction"])
        if predicted < num_words:
            beyond = "they are beyond --max_sequence_length (--iterable has no windows), or " if self.streams else ""
            logger.warning(
                "%s: %d of %d words have no prediction: %sthe tokenizer returns no token for them.",
                stage, num_words - predicted, num_words, beyond,
            )  # fmt: skip
        yield from ()

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Return a text with each word and its class."""
        if "labels" not in batch:
            return "no labels"
        ids, word_ids, starts = batch["input_ids"][row], batch["word_ids"][row], batch["word_starts"][row]
        starts = starts[starts >= 0]
        classes = batch["labels"][row][starts]
        words = [self.setup.tokenizer.decode(ids[word_ids == word_ids[start]]).strip() for start in starts.tolist()]
        names = [self.classes.display_names[number] if number >= 0 else "no label" for number in classes]
        pairs = [f"{word}/{name}" for word, name in zip(words, names, strict=True)]
        return " ".join(pairs[:MOST_DESCRIBED]) + (" …" if len(pairs) > MOST_DESCRIBED else "")


def at_words(values: Tensor, starts: Tensor) -> Tensor:
    """Return the value at the first token of each word; for words without tokens, the value at position 0.

    Args:
        values: ``(B, L)`` or ``(B, L, C)``.
        starts: Positions of the first tokens of words, -1 for words without tokens ``(B, W) int64``.
    """
    index = starts.clamp(min=0)
    return values.gather(1, index if values.ndim == starts.ndim else index[..., None].expand(-1, -1, values.shape[-1]))
