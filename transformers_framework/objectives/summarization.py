"""Abstractive summarization: training on reference summaries, evaluation of generated ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transformers_framework.constants import IGNORE_INDEX, ROW_IDS, TRAIN, Stage
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.objectives.capabilities import Details, Generates, HasMainMetric, HubTask, SparseHead
from transformers_framework.objectives.objective import Context, Evaluation, Objective, Setup
from transformers_framework.processing.backend import bare_tokenizer
from transformers_framework.processing.encoding import Template, tokenize
from transformers_framework.processing.lengths import source_and_target
from transformers_framework.processing.spans import framed, shifted_right
from transformers_framework.processing.windows import Ragged, shortened
from transformers_framework.restricted import PositiveInt, Source
from transformers_framework.sources.columns import (
    DatasetSource,
    check_column,
    check_text_type,
    empty_items,
    empty_rows,
    item_feature,
)
from transformers_framework.sources.fields import as_text

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from torchmetrics import Metric

    from transformers_framework.metrics.generation import RowStatistics
    from transformers_framework.objectives.details.predicted import Predicted
    from transformers_framework.objectives.details.stage_details import StageDetails

NEEDED_BY = "--pipeline summarization"
MOST_FOREIGN = 0.1  # share of letters other than a-z; French and German have 0.02 to 0.04

logger = logging.getLogger(__name__)


class Summarization(Objective, SparseHead, Generates, HasMainMetric, Details, HubTask):
    """Generate the summary of a document; metrics compare generated summaries, not teacher-forced predictions.

    Args:
        setup: Tokenizer, config and lengths of the model.
        summary_column: Column of the summary, a text or a list of texts: the first one is the target of training;
            generated summaries are compared with all of them.
        additional_summaries_column: Column of further reference summaries, a text or a list of texts, with which
            generated summaries are compared.
        summary_tokenizer: Tokenizer of sacrebleu that ROUGE and BLEU use: 'zh' for Chinese, 'ja-mecab', 'ko-mecab',
            'char' for characters, 'intl' for words of any script. By default ROUGE compares stemmed words of a-z and
            0-9, and BLEU uses '13a'.
        valid_bert_score: Compute BERTScore in validation.
        test_bert_score: Compute BERTScore in testing.
        bert_score_model: Encoder of BERTScore: hub name or local folder.
        bert_score_num_layers: Layer of the encoder whose hidden states are compared; by default the one that the
            authors of BERTScore recommend for the encoder, else the last.
        valid_bleurt_score: Compute BLEURT in validation.
        test_bleurt_score: Compute BLEURT in testing.
        bleurt_model: Model of BLEURT, a sequence classifier with a single output: hub name or local folder.
    """

    name = "summarization"
    head = "AutoModelForSeq2SeqLM"
    main_metric = "rougeL_fmeasure"
    hub_task = "summarization"

    def __init__(
        self,
        setup: Setup,
        *,
        summary_column: str | None = None,
        additional_summaries_column: str | None = None,
        summary_tokenizer: Literal["zh", "ja-mecab", "ko-mecab", "char", "intl"] | None = None,
        valid_bert_score: bool = False,
        test_bert_score: bool = False,
        bert_score_model: Source = "roberta-large",
        bert_score_num_layers: PositiveInt | None = None,
        valid_bleurt_score: bool = False,
        test_bleurt_score: bool = False,
        bleurt_model: Source = "Elron/bleurt-base-512",
    ) -> None:
        from transformers_framework.metrics.bleu import Bleu
        from transformers_framework.metrics.learned import BertScore, Bleurt
        from transformers_framework.metrics.rouge import Rouge

        super().__init__(setup)
        self.column, self.more_column = summary_column, additional_summaries_column
        self.max_length = source_and_target(setup.max_sequence_length)[1]
        self.backend, self.template = bare_tokenizer(setup.tokenizer), Template.of_target(setup.tokenizer)
        self._check_length()
        self.rouge, self.bleu = Rouge(NEEDED_BY, summary_tokenizer), Bleu(NEEDED_BY, summary_tokenizer)
        self.tokenizer_is_given = summary_tokenizer is not None
        bert_score = BertScore(bert_score_model, bert_score_num_layers) if valid_bert_score or test_bert_score else None
        bleurt = Bleurt(bleurt_model) if valid_bleurt_score or test_bleurt_score else None
        learned = {
            "valid": (bert_score if valid_bert_score else None, bleurt if valid_bleurt_score else None),
            "test": (bert_score if test_bert_score else None, bleurt if test_bleurt_score else None),
        }
        self.learned: dict[str, list[RowStatistics]] = {
            stage: [part for part in parts if part is not None] for stage, parts in learned.items()
        }

    def _check_length(self) -> None:
        """Raise an error when targets are too short for a token, or longer than the decoder's positions."""
        if self.max_length <= (special := self.template.num_special(1)):
            raise ConfigurationError(
                f"--max_sequence_length: the second length, {self.max_length}, is too short for a summary, which has "
                f"{special} special tokens. Use {special + 1} or more."
            )
        names = ("max_decoder_position_embeddings", "max_position_embeddings")
        positions = next((limit for name in names if (limit := getattr(self.setup.config, name, None))), None)
        if positions is not None and self.max_length > positions:
            raise ConfigurationError(
                f"--max_sequence_length: the second length, {self.max_length}, is longer than the decoder's "
                f"{positions} positions. Use {positions} or less."
            )

    def generates(self, stage: Stage) -> bool:
        """Return whether summaries are generated: in all stages but training."""
        return stage != TRAIN

    def label_columns(self, stage: Stage) -> tuple[str, ...]:
        """Return the columns of summaries: none in prediction; in training without the additional summaries."""
        columns = {TRAIN: (self.column,), "predict": ()}.get(stage, (self.column, self.more_column))
        return tuple(column for column in columns if column is not None)

    # ---------------------------------------------------------------- before training

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check every summary.

        Raises:
            ConfigurationError: When ``--summary_column`` is needed and not given.
            DataError: When a column is missing or has another type, or a summary is null or empty, with its place.
        """
        if source.stage == "predict":
            return dataset
        if self.column is None:
            raise ConfigurationError(
                f"--summary_column is needed for the {source.stage} data set. "
                f"Columns of {source.name}: {', '.join(dataset.column_names)}."
            )
        for column in self.label_columns(source.stage):
            flag = "summary_column" if column == self.column else "additional_summaries_column"
            check_column(dataset, column, source, flag=flag)
            is_list = item_feature(dataset.features[column]) is not None
            check_text_type(dataset, column, source, is_list=is_list, flag=flag)
            if is_list:
                rows, numbers = empty_items(dataset, column)
                source.refuse(rows, partial(_empty_summary, column, numbers))
        source.refuse(
            empty_rows(dataset, [self.column]),
            lambda at: f"the summary in '{self.column}' is null or empty. Remove the row or fill it in.",
        )
        if source.stage != TRAIN and not self.tokenizer_is_given:
            self._check_script(dataset, source)
        return dataset

    def _check_script(self, dataset: Dataset, source: DatasetSource) -> None:
        """Warn when ROUGE would ignore many letters of the summaries, and BLEU cannot split them into words."""
        from transformers_framework.metrics.text_tokens import foreign_share

        if (share := foreign_share(dataset, str(self.column))) > MOST_FOREIGN:
            logger.warning(
                "%.0f %% of the letters in '%s' of %s are not a-z: ROUGE compares words of a-z and 0-9 only, and BLEU "
                "words separated by spaces. Give --summary_tokenizer: zh, ja-mecab, ko-mecab, char or intl.",
                100 * share, self.column, source.name,
            )  # fmt: skip

    # ---------------------------------------------------------------- batches

    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, Any]:
        """Return the targets and the inputs of the decoder: ``labels`` and ``decoder_input_ids (B, T) int64``.

        Outside training also ``references``, the summaries of each row as a list of texts. ``truncated`` is also set
        for rows whose summary was truncated.
        """
        if context.stage == "predict":
            return {}
        references = self._references(rows, context)
        ids, lengths = tokenize(self.backend, [first for first, *_ in references])
        room = self.max_length - self.template.num_special(1)
        cut = shortened(Ragged(ids, lengths), room, keep_end=self.template.keeps_end)
        labels, _ = framed(cut, self.template.prefix, self.template.suffix, IGNORE_INDEX)
        start = getattr(self.setup.config, "decoder_start_token_id", None)
        entries = {
            "labels": labels,
            "decoder_input_ids": shifted_right(labels, start, int(self.setup.tokenizer.pad_token_id)),
            "truncated": batch["truncated"] | (cut.lengths < lengths),
        }
        return entries if context.stage == TRAIN else {**entries, "references": references}

    def _references(self, rows: Mapping[str, Sequence[Any]], context: Context) -> list[list[str]]:
        """Return the summaries of each row without duplicates; the first one is the target of training."""
        columns = [[summary_texts(value) for value in rows[column]] for column in self.label_columns(context.stage)]
        if (row := next((row for row, summaries in enumerate(columns[0]) if not summaries), None)) is not None:
            raise DataError(  # of a stream, only the first rows were checked before training
                f"row {context.row_ids[row]} of the {context.stage} data: the summary in '{self.column}' is null or "
                "empty. Remove the row or fill it in."
            )
        return [list(dict.fromkeys(chain.from_iterable(lists))) for lists in zip(*columns, strict=True)]

    # ---------------------------------------------------------------- outputs

    def evaluate(self, output: Any, batch: Mapping[str, Any]) -> Evaluation:
        """Return the cross-entropy of the summaries with teacher forcing, and the generated texts for the metrics."""
        loss, _ = output.cross_entropy(batch["labels"])
        if output.generated is None:
            return Evaluation(loss)
        texts = {"preds": self._best(output), "references": batch["references"]}
        rouge = self.rouge.scores(**texts)
        known = {self.rouge: self.rouge.rounded(rouge)}
        return Evaluation(loss, {"texts": {**texts, "counted": batch[ROW_IDS] >= 0, "known": known}}, {"rouge": rouge})

    def _best(self, output: Any) -> list[str]:
        return self._decoded(output.generated[:, 0].tolist())

    def _decoded(self, ids: Sequence[Sequence[int]]) -> list[str]:
        texts = self.setup.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def metrics(self, stage: Stage) -> dict[str, Metric]:
        """Return ROUGE, BLEU and the learned metrics of the flags; none in training, where nothing is generated."""
        from transformers_framework.metrics.generation import GenerationMetrics

        if stage == TRAIN:
            return {}
        return {"texts": GenerationMetrics([self.rouge, self.bleu, *self.learned.get(stage, ())])}

    def predictions(self, output: Any, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the generated tokens ``(B, R, T)``, and the ROUGE of each row if it was evaluated."""
        import torch

        found = {"generated": output.generated}
        if "rouge" in batch:
            columns = zip(self.rouge.names, torch.from_numpy(batch["rouge"]).unbind(dim=1), strict=True)
            found |= {name: column for name, column in columns if name.endswith("fmeasure")}
        return found

    def decode(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Return the best summary as ``prediction``, and all as ``predictions`` if several were generated."""
        written = [[token for token in ids if token >= 0] for ids in predictions.pop("generated")]
        best, *others = texts = self._decoded(written)
        return {"prediction": best, **({"predictions": texts} if others else {}), **predictions}

    def details(self, predicted: Predicted, num_mistakes: int) -> StageDetails:
        """Return percentiles of the ROUGE of rows, and the rows with the lowest one."""
        from transformers_framework.objectives.details.texts import generation_details

        columns = [name for name in self.rouge.names if name.endswith("fmeasure")]
        return generation_details(columns, "rougeL_fmeasure", predicted, num_mistakes)

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Return a text with the target summary and its special tokens."""
        if "labels" not in batch:
            return "no summary"
        labels = batch["labels"][row]
        return f"write {self.setup.tokenizer.decode(labels[labels != IGNORE_INDEX])!r}"


def summary_texts(value: Any) -> list[str]:
    """Return the non-empty texts of a value, which is a text or a list of texts."""
    texts = map(as_text, value if isinstance(value, list) else [value])
    return [text for text in texts if text.strip()]


def _empty_summary(column: str, numbers: np.ndarray, at: int) -> str:
    return f"summary {numbers[at]} of '{column}' is null or empty (they are counted from 0). Remove it or fill it in."
