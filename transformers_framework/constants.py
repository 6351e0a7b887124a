"""Constants that several packages share."""

from __future__ import annotations

from typing import Final, Literal

Stage = Literal["train", "valid", "test", "predict"]

Direction = Literal["max", "min"]  # which value of a metric is best

TRAIN: Final = "train"
STAGES: Final[tuple[Stage, ...]] = ("train", "valid", "test", "predict")

EVALUATED: Final[tuple[Stage, ...]] = ("valid", "test")  # stages with metrics of a whole data set

IGNORE_INDEX: Final = -100  # labels with this value take part in no loss and no metric
RELEVANT: Final = 0.5  # a candidate or passage with this label or a higher one is a positive
ROW_IDS: Final = "row_ids"  # batch key: the row of the data set, -1 for a row that only evens out processes

SOURCE_ROW: Final = "source_row"  # column of rewritten rows: the row of the data set that they begin in

# batch keys: model inputs of passages, beside those of queries; which of the texts of a batch each row has
PASSAGE: Final = "passage_"
ROWS: Final = "rows"
TOKENS: Final = "tokens"  # in rows of a batch whose texts are already tokenized: their ``Segments``
NEGATIVE_ROWS: Final = "negative_rows"  # batch key: the row of each hard negative, all of which follow the passages

BINARY_LABELS: Final = "binary_labels"  # key of a config: names of the two classes whose logits differ by the output
ARE_TEXTS: Final = "labels_are_texts"  # key of a config: classes that are called as if they had no name are texts

NUM_ITEMS: Final = "num_items"  # batch key: the loss denominator of each objective in this batch
GROUP_NUM_ITEMS: Final = (
    "group_num_items"  # batch key: the same for the accumulation group, all batches of one optimizer step
)

UNPADDED: Final = "unpadded"  # batch key: the prefixes of model inputs without any padding

TOKEN_COUNTS: Final = "token_counts"  # batch key in training: numbers of tokens, see `processing.token_counts`

ONCE: Final = (
    "resume",
    "overwrite",
)  # flags that say what to do with an earlier run: nothing that a run leaves has them

# values of training that depend on the machine and the time: two equal runs log different ones
MEASURED: Final = ("train/tokens_per_second", "train/peak_memory_gb", "train/mfu")

UNIGRAM_PERPLEXITY: Final = "unigram_perplexity"  # that of token frequencies, beside the perplexity of a model

AUTO: Final = "auto"  # value of a flag whose default depends on the model, the pipeline or the data of a run
MOST_TOKENS: Final = 512  # of an input by default
DEFAULT_BATCH_SIZE: Final = 32
REPLACED_BY: Final = {"max_tokens_per_batch": "batch_size"}  # a flag: the one whose value it replaces

SERIES: Final = ("seeds", "sweep")  # flags that start several runs, each in a process of its own

DEFAULT_LEARNING_RATE: Final = 1e-4

# exit statuses: the command is complete, it failed, its flags or data are invalid, Ctrl-C interrupted it
DONE: Final = 0
FAILED: Final = 1
WRONG: Final = 2
INTERRUPTED: Final = 130
