"""What users do wrong: one row a mistake, with the message it must give.

A row is a good command (``runs.command``) with some flags changed and some files beside it; ``{tmp}`` stands for the row's
folder, ``{made}`` for the folder of checkpoints. A file called ``train.*`` or ``valid.*`` becomes that stage's data, and
``c.yaml`` the config.
"""

# ruff: noqa: E501  a table: one row a line

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tests import runs, tiny

# --- files ------------------------------------------------------------------------------------------------------------

TAGGED = tiny.tagged(24, 0)
TRAIN, VALID = tiny.classes(24, 0), tiny.classes(12, 1)
PAIRS, VALID_PAIRS = tiny.pairs(24, 0), tiny.pairs(12, 1)
SUMMARIES, VALID_SUMMARIES = tiny.summaries(24, 0), tiny.summaries(12, 1)
QUESTIONS, VALID_QUESTIONS = tiny.questions(24, 0), tiny.questions(12, 1)
ANSWERED = [row for row in VALID_QUESTIONS if row["answers"]["text"]]
# the same answers as texts, and where they stand
SPANS = [
    [
        [start, start + len(text)]
        for start, text in zip(row["answers"]["answer_start"], row["answers"]["text"], strict=True)
    ]
    for row in QUESTIONS
]
TEXTS = [
    {**row, "answers": row["answers"]["text"], "where": spans} for row, spans in zip(QUESTIONS, SPANS, strict=True)
]
NAMED = tiny.classes(24, 0, names=("cat", "dog"))
DOCUMENTS = tiny.documents(8, 0)
LISTS = [{**row, "label": [row["label"]]} for row in TRAIN]

DATA = {
    "seq_class": (TRAIN, VALID),
    "answer_selection": (PAIRS, VALID_PAIRS),
    "summarization": (SUMMARIES, VALID_SUMMARIES),
    "question_answering": (QUESTIONS, VALID_QUESTIONS),
}


def changed(rows: list[dict[str, Any]], at: int | None = None, **changes: Any) -> list[dict[str, Any]]:
    """Rows with some columns changed: in the row ``at``, or in all; a value that is ``...`` takes the column away."""
    found = [{**row, **changes} if at in (None, i) else row for i, row in enumerate(rows)]
    return [{name: value for name, value in row.items() if value is not ...} for row in found]


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """Parquet."""
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


def lines(rows: list[dict[str, Any]], at: int | None = None, line: str = "") -> str:
    """JSON lines, one of them replaced."""
    return "\n".join(line if i == at else json.dumps(row) for i, row in enumerate(rows)) + "\n"


def saved(rows: list[dict[str, Any]], *splits: str) -> Callable[[Path], None]:
    """A data set saved with ``save_to_disk``, or several of them as a DatasetDict."""

    def write(path: Path) -> None:
        from datasets import Dataset, DatasetDict

        data = Dataset.from_list(rows or TRAIN).select(range(len(rows)))
        (DatasetDict(dict.fromkeys(splits, data)) if splits else data).save_to_disk(path)

    return write


def torch_file(content: Any) -> Callable[[Path], None]:
    """A file of ``torch.save``."""

    def write(path: Path) -> None:
        import torch

        torch.save(content, path)

    return write


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.mkdir, (Path(self.path),)


def malicious(path: Path) -> None:
    """A checkpoint that runs code when it is read without care."""
    import torch

    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.5", "x": Malicious(str(path.parent / "ran"))}, path)


def write(path: Path, content: Any) -> None:
    """Write a file: rows, text, bytes, or what writes it by itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        content(path)
    elif isinstance(content, list):
        tiny.write_jsonl(path, content)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


# --- the table --------------------------------------------------------------------------------------------------------


class Wrong(NamedTuple):
    """One mistake: a name, what the message must match, the files, the packages that are absent, the flags."""

    name: str
    message: str
    files: dict[str, Any]
    absent: tuple[str, ...]
    flags: dict[str, Any]


def wrong(
    name: str, message: str = "", files: dict[str, Any] | None = None, absent: tuple[str, ...] = (), /, **flags: Any
) -> Wrong:
    """Make a row."""
    return Wrong(name, message, files or {}, absent, flags)


ranking = partial(wrong, pipeline="answer_selection")
joint = partial(ranking, k=4, max_sequence_length=100)
masking = partial(wrong, pipeline="masked_lm")
structuring = partial(
    wrong, pipeline="structural_pretraining", max_steps=2, train_dataset="{tmp}/train.jsonl", valid_dataset=None
)
generating = partial(wrong, pipeline="token_detection_and_masked_lm")
clustering = partial(wrong, pipeline="cluster_random_token_detection")
tagging = partial(wrong, pipeline="token_class")
denoising = partial(wrong, pipeline="denoising", model="t5", pre_trained_model="{made}/t5")
summarizing = partial(
    wrong,
    pipeline="summarization",
    model="bart",
    pre_trained_model="{made}/bart",
    train_dataset="{made}/summarization/train.jsonl",
    valid_dataset="{made}/summarization/valid.jsonl",
)

reading = partial(
    wrong,
    pipeline="question_answering",
    train_dataset="{made}/question_answering/train.jsonl",
    valid_dataset="{made}/question_answering/valid.jsonl",
)
reading_spans = partial(reading, label_column="where")

retrieving = partial(
    wrong,
    pipeline="retrieval",
    train_dataset="{made}/answer_selection/train.jsonl",
    valid_dataset="{made}/answer_selection/valid.jsonl",
)
searching = partial(retrieving, corpus_dataset="{tmp}/corpus.jsonl")
CORPUS = [{"answer": answer, "pid": i} for i, answer in enumerate(dict.fromkeys(row["answer"] for row in VALID_PAIRS))]
WRONGS = [{**row, "wrong": "no " + row["answer"], "wrongs": ["a", "b"]} for row in PAIRS]
ASKED = [{"question": row["question"], "key": row["key"], "right": 0} for row in VALID_PAIRS]

# fmt: off
COMMAND_LINE = [
    wrong("unknown pipeline", "--pipeline: unknown .*Did you mean 'seq_class'.*Known: answer_sel", pipeline="seq_clas"),
    wrong("unknown model", "--model: unknown model 'brt'. Did you mean 'bert'", model="brt"),
    wrong("unknown optimizer", "--optimizer: unknown .*Did you mean 'adamw'", optimizer="adamm"),
    wrong("unknown scheduler", "--scheduler: unknown .*Did you mean 'linear_decay'", scheduler="linear"),
    wrong("unknown flag", r"--learing_rate: unknown flag. Did you mean '--learning_rate'\?", learing_rate=1),
    wrong("flag of another pipeline", "--index_column: .*belongs to --pipeline answer_selection", index_column="key"),
    wrong("flag of another optimizer", "--adafactor_beta1: .*belongs to --optimizer adafactor", adafactor_beta1=0.9),
    wrong("flag of another schedule", "--num_cycles: .*belongs to --scheduler cosine", num_cycles=2),
    wrong("all that is missing", "Missing: --name, --input_columns", name=None, input_columns=None),
    wrong("several at once", "(?s)--batch_size: found '0'.*--seed: found 'x'", batch_size=0, seed="x"),
    wrong("no value", "--max_sequence_length: found no value, expected auto or one or more", max_sequence_length=True),
    wrong("two values for one", "--batch_size: found '8' '9', expected auto or an integer", batch_size=[8, 9]),
    wrong("no batch", "--batch_size: found '0', expected auto or an integer at least 1", batch_size=0),
    wrong("fraction of a row", "--batch_size: found '8.5'", batch_size=8.5),
    wrong("negative rate", "--learning_rate: found '-1', expected a number greater than 0", learning_rate=-1),
    wrong("rate that is no number", "--learning_rate: found 'nan'", learning_rate="nan"),
    wrong("negative decay", "--weight_decay: found '-0.1', expected a number at least 0", weight_decay=-0.1),
    wrong("negative warm-up", "--num_warmup_steps: found '-5'", num_warmup_steps=-5),
    wrong("negative workers", "--num_workers: found '-1'", num_workers=-1),
    wrong("beta of 1", "--adamw_betas: .*at least 0 and less than 1", adamw_betas=[0.9, 1.0]),
    wrong("one beta", r"--adamw_betas: found '0.9' \(1 value\), expected 2 values", adamw_betas=0.9),
    wrong("choice", "--monitor_direction: found 'up', expected one of max, min, auto", monitor_direction="up"),
    wrong("truth", "--iterable: found 'maybe', expected true or false", iterable="maybe"),
    wrong("object of the trainer", "--logger: this argument of the Trainer is not a flag: TensorBoard", logger="wandb"),
    wrong("name with a slash", "--name: 'a/b' is not a valid folder name", name="a/b"),
    wrong("name too long", "--name: 'ü+' is not a valid folder name. Use .*, at most 255", name="ü" * 128),
    wrong("outputs on S3", r"--output_dir: found 's3://a/b' \(an address; .*copied, or .*mounted\), expected a path on this", output_dir="s3://a/b"),
    wrong("cache on S3", r"--cache_dir: found 's3://a/b' \(an address", cache_dir="s3://a/b"),
    wrong("variable that is not set", r"--output_dir: found '\$NOT_SET/a' \(\$NOT_SET is not set in the environment\)", output_dir="$NOT_SET/a"),
    wrong("outputs too long", r"--output_dir: found 'x+' \(a name of more than 255 bytes", output_dir="x" * 256),
    wrong("outputs too deep", r"--output_dir: found '(x/)+' \(a name of more than 255 bytes, or 4095 in all", output_dir="x/" * 2048),
    wrong("data too long", r"--train_dataset: found 'x+\.csv' \(a name of more", train_dataset="x" * 256 + ".csv"),
    wrong("model too long", r"--pre_trained_model: found 'x+' \(a name of more", pre_trained_model="x" * 256),
    wrong("name of the parent", "--name: '..' is not a valid folder name", name=".."),
]

CONFIG_FILE = [
    wrong("absent", "--config: cannot read '.*': No such file", config="{tmp}/no.yaml"),
    wrong(
        "unknown key", r"c\.yaml:2: batch_sise: unknown flag. Did you mean 'batch_size'", {"c.yaml": "\nbatch_sise: 1"}
    ),
    wrong("wrong type", r"c\.yaml:1: seed: found 'many', expected an integer", {"c.yaml": "seed: many"}),
    wrong("list for one", r"c\.yaml:1: seed: found the list '1' '2'", {"c.yaml": "seed: [1, 2]"}),
    wrong("nothing", r"c\.yaml:1: patience: found nothing", {"c.yaml": "patience:"}),
    wrong("nested", r"c\.yaml:1: seed: found a mapping", {"c.yaml": "seed: {a: 1}"}),
    wrong("no mapping", r"c\.yaml:1: found a list, expected one 'flag: value' per line", {"c.yaml": "- seed"}),
    wrong("too long", r"--config: found 'x+' \(a name of more than 255 bytes", config="x" * 256),
    wrong("null byte", r"c\.yaml:1: ckpt_path: found .* \(with a null byte\)", {"c.yaml": 'ckpt_path: "a\\0b"'}),
    wrong("deep", "c.yaml' is nested too deeply", {"c.yaml": "seed: " + "[" * 20_000 + "]" * 20_000}),
    wrong("no YAML", r"c\.yaml:1:1: this is not YAML: found character '\\t'", {"c.yaml": "\tseed: 1"}),
    wrong("twice", r"c\.yaml:2: seed: this flag is given twice", {"c.yaml": "seed: 1\nseed: 2"}),
    wrong("binary", "--config: '.*' is not a text file", {"c.yaml": b"\xff\xfe\x00"}),
    wrong("config in itself", r"c\.yaml:1: config: 'c\.yaml' includes itself", {"c.yaml": "config: c.yaml"}),
    wrong("config that includes none", r"c\.yaml:1: config: cannot read '.*absent\.yaml'", {"c.yaml": "config: absent.yaml"}),
    wrong("mapping for a text", "name: found a mapping at .*, expected a value or a flat list", {"c.yaml": "name: {a: b}"}),
    wrong(
        "code",
        r"c\.yaml:1: seed: found the list",
        {"c.yaml": "seed: !!python/object/apply:os.mkdir [ran]"},
    ),
]

MODEL = [
    wrong("no model", "--pre_trained_model and --pre_trained_config are both absent", pre_trained_model=None),
    wrong("unknown size", r"--pre_trained_config bert:smal: unknown size 'smal'\. Did you mean 'small'\? Known: bert:tiny, ", pre_trained_model=None, pre_trained_config="bert:smal"),
    wrong("size of no family", r"--model: unknown model 'brt'\. Did you mean 'bert'\?", pre_trained_model=None, pre_trained_config="brt:small"),
    wrong("size of another family", r"--pre_trained_config roberta:tiny is of family 'roberta', and not 'bert'", pre_trained_model=None, pre_trained_config="roberta:tiny"),
    wrong("no sizes", r"there are no sizes of rembert: .*\. Give a hub name", model="rembert", pre_trained_model=None, pre_trained_config="rembert:small"),
    wrong("size without a tokenizer", r"--pre_trained_config bert:tiny: a size has no tokenizer\. .*transformers_framework\.tokenizer trains one", pre_trained_model=None, pre_trained_config="bert:tiny"),
    wrong("size and weights", "--pre_trained_config bert:tiny: a size is the config of a model that is trained from scratch", pre_trained_config="bert:tiny"),
    wrong("another family", "is of family 'roberta', and not 'bert'", pre_trained_model="{made}/roberta"),
    wrong("absent folder", "made.*/brt does not exist. Did you mean 'bert'", pre_trained_model="{made}/brt"),
    wrong("folder above", "no config.json and no tokenizer. Give one of its subfolders with a config.json: bart, bert", pre_trained_model="{made}"),
    wrong("file", "this is a file. Give its folder", pre_trained_model="{made}/bert/config.json"),
    wrong("hub without network", "the hub has no such name or cannot be reached", pre_trained_model="bert-base-cased"),
    wrong("no hub name", "neither a folder nor a hub name. Write a hub name as", pre_trained_model="a/b/c"),
    wrong("broken config", "broken_config: the config cannot be read", pre_trained_model="{made}/broken_config"),
    wrong("code", "code of its own, which is not run", pre_trained_model="{made}/own_code", model="auto"),
    wrong("no weights", "no_weights: the model cannot be read", pre_trained_model="{made}/no_weights"),
    wrong("broken weights", "not one that transformers can read", pre_trained_model="{made}/broken_weights"),
    wrong("malicious weights", "a pickle that could run code, which is refused", pre_trained_model="{made}/pickle"),
    wrong(
        "pair",
        "transformers has no AutoModelForSequenceClassification for 'pegasus'. Models for seq_class: .*bert",
        pre_trained_model=None,
        pre_trained_config="{made}/pegasus",
        model="pegasus",
    ),
    wrong("unknown setting", "no 'hiden_size'. Did you mean 'hidden_size'", additional_config_kwargs="hiden_size=3"),
    wrong("setting without value", "expected KEY=VALUE", additional_config_kwargs="hidden_size"),
    wrong("setting of a type", "hidden_size=big: .*expected int", additional_config_kwargs="hidden_size=big"),
    wrong("deep setting", "it is not a value of YAML", additional_config_kwargs="hidden_size=" + "[" * 20_000),
    wrong("no heads", "num_attention_heads=0: its config cannot be used: num_attention_heads is 0, expected at least 1", additional_config_kwargs="num_attention_heads=0"),
    wrong("negative layers", "num_hidden_layers is -1, expected at least 0", additional_config_kwargs="num_hidden_layers=-1"),
    wrong("dropout above 1", "hidden_dropout_prob is 1.5, expected at least 0 and at most 1", additional_config_kwargs="hidden_dropout_prob=1.5"),
    wrong("dropout nan", "hidden_dropout_prob is nan, expected a finite number", additional_config_kwargs="hidden_dropout_prob=.nan"),
    wrong("padding out of range", "pad_token_id is 400, expected a token of the vocabulary, 0 to 399", additional_config_kwargs="pad_token_id=400"),
    wrong("labels of another type", "strange_config: its config is not one that transformers can read", pre_trained_model="{made}/strange_config"),
    wrong("quantized weights", "quantized: its weights are quantized and cannot be trained", pre_trained_model="{made}/quantized"),
    wrong("quantized weights from scratch", "its weights are quantized", pre_trained_model=None, pre_trained_config="{made}/quantized"),
    wrong("setting of a flag", "--num_labels decides num_labels", additional_config_kwargs="num_labels=3"),
    joint("head by a setting", "--classification_head_type decides classification_head_type", additional_config_kwargs="classification_head_type=RE_1"),
    wrong("other sizes", "have another shape than the config asks for", additional_config_kwargs="hidden_size=64"),
    wrong(
        "impossible sizes",
        "--additional_config_kwargs: no model of family 'bert' can be built .*not a multiple",
        additional_config_kwargs="num_attention_heads=5",
        pre_trained_model=None,
        pre_trained_config="{made}/bert",
    ),
    wrong("attention", "--attention flash_attention_2: it is not available", attention="flash_attention_2"),
    wrong("s3 without credentials", "no AWS credentials were found", pre_trained_model="s3://bucket/model"),
    wrong(
        "s3 without s3fs",
        r"pre_trained_model s3://b/m needs the package 's3fs', .*transformers-framework\[s3\]",
        {},
        ("s3fs",),
        pre_trained_model="s3://b/m",
    ),
]

TOKENIZER = [
    wrong("none", "there is no tokenizer in it", pre_trained_model="{made}/no_tokenizer"),
    wrong("absent", "made.*/tok does not exist", pre_trained_tokenizer="{made}/tok"),
    wrong("slow", "CanineTokenizer runs in Python", pre_trained_tokenizer="{made}/slow_tokenizer"),
    wrong("no padding", "the tokenizer has no padding token", pre_trained_tokenizer="{made}/no_padding"),
    wrong("larger", r"it has \d+ tokens and the model's vocabulary", pre_trained_tokenizer="{made}/larger_tokenizer"),
]

DATA_FILES = [
    wrong("no data", "No data: give at least one of --train_dataset", train_dataset=None, valid_dataset=None),
    wrong("absent", r"trian.jsonl does not exist. Did you mean 'train.jsonl'", train_dataset="{made}/seq_class/trian.jsonl"),
    wrong("no match", "no file matches", train_dataset="{tmp}/*.jsonl"),
    wrong("no split", "A data set of the hub is written with its split last", train_dataset="imdb"),
    wrong("hub without network", "HF_HUB_OFFLINE is set and 'user/name' is not in", train_dataset="user/name/train"),
    wrong("suffix", "cannot read 'train.doc'; expected one of .jsonl", {"train.doc": "hello"}),
    wrong("sheet", "cannot read 'train.xlsx'.* Save the sheet as CSV", {"train.xlsx": "PK"}),
    wrong("text", r"train.txt: what is a row of this text\? Give --text_unit paragraph \(2 rows\)", {"train.txt": "a\nb\n\nc"}),
    wrong("key of rows", "--train_field rows: no list has this key. Lists in it: data", {"train.json": '{"data": [{}]}'}, train_field="rows"),
    wrong("key of lines", "valid.jsonl:2: not one JSON object, as --valid_field rows expects", valid_field="rows"),
    wrong("empty folder", "no saved data set and no data files", train_dataset="{tmp}"),
    wrong("several splits", "it has several splits", train_dataset="{made}/seq_class"),
    wrong("DatasetDict", "a DatasetDict with the splits dev, train; give .*/train", {"train.d": saved(TRAIN, "dev", "train")}),
    wrong("empty file", r"train.jsonl: the data set has no rows", {"train.jsonl": ""}),
    wrong("header alone", r"train.csv: the data set has no rows", {"train.csv": "text,label\n"}),
    wrong("empty saved data set", "the data set has no rows", {"train.d": saved([])}),
    wrong("broken line", r"train.jsonl:8: not JSON", {"train.jsonl": lines(TRAIN, 7, '{"text": "abc')}),
    wrong("line that is a list", r"train.jsonl:8: expected an object .*found a list", {"train.jsonl": lines(TRAIN, 7, "[1]")}),
    wrong("null for a line", r"train.jsonl:1: expected an object .*found null", {"train.jsonl": lines(TRAIN, 0, "null")}),
    wrong("deep line", r"train.jsonl:8: lists and objects are more than 50 levels", {"train.jsonl": lines(TRAIN, 7, "[" * 10_000)}),
    wrong("pipe", "train.jsonl' is a pipe, a socket or a device", {"train.jsonl": os.mkfifo}),
    wrong("dangling link", "train.jsonl' is a link to gone, which does not exist", {"train.jsonl": lambda path: path.symlink_to("gone")}),
    wrong("values of two types", r"train.jsonl:4: column 'label' holds text here", {"train.jsonl": changed(TRAIN, 3, label="x")}),
    wrong("ragged", r"train.csv:3: 1 fields, but the header has 2", {"train.csv": "text,label\na,0\nb\nc,1\n"}),
    wrong("open quote", r"train.csv:3: invalid quotes", {"train.csv": 'text,label\na,0\n"b,1\n'}),
    wrong("no header", r"train.csv:1: .*has the number 0; add a header", {"train.csv": "a b,0\nc d,1\n"}),
    wrong("encoding", r"train.jsonl:1: not UTF-8: byte 0xe9", {"train.jsonl": b'{"text": "caf\xe9", "label": 0}\n'}),
    wrong("not gzip", r"train.jsonl.gz: cannot be read", {"train.jsonl.gz": gzip.compress(b"{}")[:-9]}),
    wrong("not Parquet", "not a Parquet file", {"train.parquet": b"nonsense"}),
    wrong("s3 without credentials", "no AWS credentials were found", train_dataset="s3://bucket/train.jsonl"),
    wrong("s3 without s3fs", r"needs the package 's3fs'", {}, ("s3fs",), train_dataset="s3://b/t.jsonl"),
    wrong("configuration of a file", "--train_config x: only a hub data set", train_config="x"),
    wrong("flag of an absent stage", "--test_shard_dataset needs --test_dataset", test_shard_dataset=2),
]

COLUMNS = [
    wrong("absent", "--input_columns: .* no column 'txt'. Did you mean 'text'. It has: text, label", input_columns="txt"),
    wrong("absent in one stage", "the valid data set .* has no column 'text'", {"valid.jsonl": changed(VALID, text=...)}),
    wrong("empty name", "'text:' is not valid. Write 'name', 'first:second'", input_columns="text:"),
    wrong("list", "'text' of .* is a list column. Write", {"train.jsonl": changed(TRAIN, text=["a"])}),
    wrong("no list", "'text' of .* is not a list column", input_columns="+text"),
    wrong("object", "'text' of .* holds .*, not text", {"train.jsonl": changed(TRAIN, text={"a": 1})}),
    wrong("null text", r"train.jsonl:4: the text in 'text' is null or empty", {"train.jsonl": changed(TRAIN, 3, text=None)}),
    wrong(
        "several rows",
        r"(?s)--train_dataset .*train.jsonl: 3 rows are broken:\n.*train.jsonl:4: the text .*\n.*train.jsonl:6: the text "
        r".*\n.*train.jsonl:6: 'label' has no label \(null\).*\n.*train.jsonl:7: 'label' has no label",
        {"train.jsonl": changed(changed(changed(TRAIN, 3, text=" "), 5, text=None, label=None), 6, label=None)},
    ),
    wrong("empty text", r"valid.jsonl:4: the text in 'text' is null or empty", {"valid.jsonl": changed(VALID, 3, text="")}),
    wrong("blank text", r"train.jsonl:4: the text in 'text' is null", {"train.jsonl": changed(TRAIN, 3, text=" \t ")}),
    wrong("no token", r"train.jsonl:4: the tokenizer returns no token for the text in 'text'", {"train.jsonl": changed(TRAIN, 3, text="\u200b\u0007")}),
    ranking("null candidate", r"train.jsonl:2: the text in 'answer'", {"train.jsonl": changed(PAIRS, 1, answer=None)}),
    wrong("absent label", "--label_column: .* no column 'labl'. Did you mean 'label'", label_column="labl"),
    wrong("no label", "--label_column is needed for the train data set. Columns of .*: text, label", label_column=None),
    wrong("label that is read", "--label_column: 'text' is also in --input_columns", label_column="text"),
    ranking("absent query", "--index_column: the valid .* no column 'kee'. Did you mean 'key'", index_column="kee"),
    ranking("no query", "--index_column is needed to rank the valid data set", index_column=None),
    ranking("null query", r"valid.jsonl:4: 'key' has no query id", {"valid.jsonl": changed(VALID_PAIRS, 3, key=None)}),
    ranking("empty query", r"valid.jsonl:4: 'key' has no query id \(' '\)", {"valid.jsonl": [row | {"key": " " if i == 3 else str(row["key"])} for i, row in enumerate(VALID_PAIRS)]}),
    ranking("list of queries", "--index_column: 'key' .* holds lists of int64; expected", {"valid.jsonl": changed(VALID_PAIRS, key=[1])}),
]

LABELS = [
    wrong("null", r"train.jsonl:4: 'label' has no label \(null\)", {"train.jsonl": changed(TRAIN, 3, label=None)}),
    wrong("blank", r"train.jsonl:4: 'label' has an empty label", {"train.jsonl": changed(NAMED, 3, label="")}),
    wrong("fraction", r"train.jsonl:4: 'label' has the label 0.5; expected a whole", {"train.jsonl": changed(TRAIN, 3, label=0.5)}),
    wrong("list", "--label_column: 'label' of .* holds lists of int64; .*with --problem_type multi_label", {"train.jsonl": changed(TRAIN, label=[0])}, problem_type="single_label"),
    wrong("out of range", r"valid.jsonl:4: 'label' has the label 7; expected 0 to 1", {"valid.jsonl": changed(VALID, 3, label=7)}),
    wrong("hidden", r"valid.jsonl:4: .* label -1; .*use --predict_dataset", {"valid.jsonl": changed(VALID, 3, label=-1)}),
    ranking("third class", r"train.jsonl:4: 'label' has the label 2; expected 0 to 1", {"train.jsonl": changed(PAIRS, 3, label=2)}),
    ranking("order of names", r"train.jsonl:\d+: 'label' has the label 'bad'; expected 1 .relevant candidate. or 0", {"train.jsonl": [{**row, "label": ("bad", "good")[row["label"]]} for row in PAIRS]}),
    wrong("emptied cell", r"train.csv:3: 'label' has no label \(null\)", {"train.csv": "text,label\na,0.0\nb,\nc,1.0\n"}),
    wrong("list as a text", r"train.csv:3: 'label' has the label .*this is a list in the form of a string.*JSON lines", {"train.csv": 'text,label\na,new\nb,"[\'old\', \'slow\']"\n'}),
    wrong("vectors", r"every row of .* has all classes in 'label', such as \[1, 0\].*zeros and ones", {"train.jsonl": [{**row, "label": [1 - row["label"], row["label"]]} for row in changed(TRAIN, 0, label=0)]}),
    wrong("unknown name", r"valid.jsonl:4: .*'bird'; expected one of cat, dog", {"train.jsonl": NAMED, "valid.jsonl": changed(NAMED, 3, label="bird")}),
    wrong("names, then numbers", r"valid.jsonl:1: .* the label \d; expected one of cat, dog", {"train.jsonl": NAMED}),
    wrong("numbers, then names", r"valid.jsonl:1: .*; expected a whole number, 0 to 1", {"valid.jsonl": NAMED}),
    wrong("class that no row has", "no row has class 2, 3, .*, …. Correct", {"train.jsonl": changed(TRAIN, 3, label=10**9)}),
    wrong("one class", "every label of 'label' is 'cat'", {"train.jsonl": changed(TRAIN, label="cat")}),
    wrong("fewer asked for", r"train.jsonl:\d+: .* expected 0 to 1 \(--num_labels 2\)", {"train.jsonl": changed(TRAIN, 3, label=2)}, num_labels=2),
    wrong("one name", "--labels: found cat; expected two or more different names", labels="cat"),
    wrong("a name twice", "--labels: found cat, dog, cat; expected two or more different", labels=["cat", "dog", "cat"]),
    wrong("names and their number", "--num_labels 3: --labels has 2 names", labels=["cat", "dog"], num_labels=3),
    wrong("label without a name", r"train.jsonl:\d+: .* expected one of dog, bird", {"train.jsonl": NAMED}, labels=["dog", "bird"]),
    wrong("names of numbers", "--labels: regression has no classes", labels=["cat", "dog"], problem_type="regression"),
    wrong("fewer than names", "--num_labels 2: 'label' has 3 classes .bird, cat, dog", {"train.jsonl": changed(NAMED, 3, label="bird")}, num_labels=2),
    ranking("three for ranking", "--num_labels: answer_selection has 2 classes", num_labels=3),
    wrong("number among classes", "the label 0.5; expected a whole number or a name .for numbers, use seq_class with --problem_type regression", {"train.jsonl": changed(TRAIN, 3, label=0.5)}),
    wrong("classes for numbers", "'label' of .* holds .*string.*; regression needs a number", {"train.jsonl": NAMED}, problem_type="regression"),
    wrong("no number", r"train.jsonl:4: 'label' has no label \(null\); expected a finite number", {"train.jsonl": changed(TRAIN, 3, label=None)}, problem_type="regression"),
    wrong("not a number", r"train.jsonl:4: 'label' has the label nan; expected a finite number", {"train.jsonl": lines(TRAIN, 3, '{"text": "a", "label": NaN}')}, problem_type="regression"),
    wrong("weights of numbers", "--label_weights: regression has no classes", problem_type="regression", label_weights=[1, 2]),
    wrong("smooth numbers", "--label_smoothing: regression has no classes", problem_type="regression", label_smoothing=0.1),
    wrong("all smoothed", "--label_smoothing: found '1', expected a number at least 0 and less than 1", label_smoothing=1),
    wrong("one for several", "holds int64; expected a list of whole numbers or names", problem_type="multi_label"),
    wrong("null list", r"valid.jsonl:4: 'label' has no labels \(null\)", {"train.jsonl": LISTS, "valid.jsonl": changed(LISTS, 3, label=None)}),
    wrong("twice in a list", r"train.jsonl:4: 'label' has the label 1 twice; .*zeros and ones", {"train.jsonl": changed(LISTS, 3, label=[0, 1, 1])}),
    wrong("class of a list", r"valid.jsonl:4: 'label' has the label 2; expected 0 to 1", {"train.jsonl": LISTS, "valid.jsonl": changed(LISTS, 3, label=[0, 2])}),
    wrong("no classes at all", "no row of .* has any label in 'label'", {"train.jsonl": changed(LISTS, label=[])}),
    wrong("problem", "--problem_type: found 'multi', expected one of single_label, multi_label, regression", problem_type="multi"),
    ranking("problem of another", "--problem_type: .*belongs to --pipeline", problem_type="regression"),
    wrong("weights", r"--label_weights: 3 weights for 2 classes \(0, 1\)", label_weights=[1, 2, 3]),
    wrong("no weights", "--label_weights: all are 0", label_weights=[0, 0]),
    ranking("action", "--metrics_empty_target_action: found 'ignore', expected one of skip", metrics_empty_target_action="ignore"),
]

LENGTHS = [
    wrong("too long", "--max_sequence_length: 1000 is longer than the model's 128 positions", max_sequence_length=1000),
    ranking("too short", "--max_sequence_length: 4 has no space for 2 texts .* Use 5", max_sequence_length=4),
    wrong("two", "--max_sequence_length: one length is needed here, 2 were given", max_sequence_length=[32, 16]),
    wrong("text", "--max_sequence_length: found 'long'", max_sequence_length="long"),
    wrong(
        "too many segments",
        r"train.jsonl:4: 30 segments need 61 tokens or more, and --max_sequence_length is 48",
        {"train.jsonl": changed(changed(TRAIN, text=["a", "b"]), 3, text=["a"] * 30)},
        valid_dataset=None,
        input_columns="*text",
    ),
    ranking("types of other columns", "4 types for the 2 segments", extended_token_type_ids=[0, 1, 1, 2]),
    ranking("negative type", "--extended_token_type_ids: .* at least 0", extended_token_type_ids=[0, -1]),
    ranking("huge type", "type 1000000000 needs as many embeddings", extended_token_type_ids=[0, 10**9]),
    ranking(
        "family without types",
        "models of family 'distilbert' have no token-type embeddings.*bert",
        model="distilbert",
        pre_trained_model="{made}/distilbert",
        extended_token_type_ids=[0, 1],
    ),
]

SELECTION = [
    wrong("typing error", "does not log 'valid/seq_class/acc'. Did you mean 'valid/seq_class/accuracy'", monitor="valid/seq_class/acc"),
    wrong("last word alone", "Did you mean 'valid/seq_class/accuracy'", monitor="accuracy"),
    wrong("never validated", "never validates: give --valid_dataset", monitor="valid/loss", valid_dataset=None),
    wrong("validation of nothing", "no --limit_val_batches 0", monitor="valid/loss", limit_val_batches=0),
    ranking("abbreviation", "Did you mean 'valid/answer_selection/mean_average_precision'", monitor="valid/map"),
    ranking("ranking in training", "does not log 'train/answer_selection/ndcg'", monitor="train/answer_selection/ndcg"),
    wrong("nothing to stop on", "--early_stopping needs a metric", early_stopping=True, monitor="none"),
    wrong("no validation to stop on", "--early_stopping: without validation .* Give --valid_dataset", early_stopping=True, monitor="auto", valid_dataset=None),
    wrong("no patience", "--patience: found '0'", patience=0),
    wrong("no interval", "--checkpoint_interval: found '0'", checkpoint_interval=0),
    wrong("average of no epochs", "--stochastic_weight_averaging .*--max_epochs", stochastic_weight_averaging=True, max_steps=4),
]

FOLDERS = [
    wrong("run exists", "a run 'run' has files in .*checkpoints.*--resume.*--overwrite", {"out/checkpoints/run/last.ckpt": "x"}),
    wrong("models exist", "a run 'run' has files in .*pre_trained_models", {"out/pre_trained_models/run/final/config.json": "x"}),
    wrong(
        "predictions exist",
        r"predictions/run/test.jsonl exists",
        {"out/predictions/run/test.jsonl": "x"},
        test_dataset="{made}/seq_class/valid.jsonl",
        train_dataset=None,
        valid_dataset=None,
    ),
    wrong(
        "predictions of an earlier training",
        r"predictions/run/test.jsonl exists",
        {"out/predictions/run/test.jsonl": "x"},
        test_dataset="{made}/seq_class/valid.jsonl",
    ),
    wrong("resume and overwrite", "--resume continues a run and --overwrite removes it", resume=True, overwrite=True),
    wrong("output is a file", r"--output_dir: .*out is a file", {"out": "x"}),
    wrong("output is read-only", "--output_dir: /proc/none cannot be written", output_dir="/proc/none"),
    wrong("cache is a file", r"--cache_dir: .*cache cannot be written", {"cache": "x"}),
    wrong("absent checkpoint", "--ckpt_path: there is no file .*no.ckpt", ckpt_path="{tmp}/no.ckpt"),
    wrong("checkpoint is a folder", "--ckpt_path: there is no file", ckpt_path="{tmp}"),
    wrong("no checkpoint", "--ckpt_path: .*a.ckpt is not a torch.save file", {"a.ckpt": "nonsense"}, ckpt_path="{tmp}/a.ckpt"),
    wrong("old pickle", "--ckpt_path: .*a.ckpt is not a torch.save file", {"a.ckpt": pickle.dumps({})}, ckpt_path="{tmp}/a.ckpt"),
    wrong("another checkpoint", "a.ckpt is not a Lightning checkpoint", {"a.ckpt": torch_file({"a": 1})}, ckpt_path="{tmp}/a.ckpt"),
    wrong(
        "checkpoint of another model",
        r"a.ckpt is a checkpoint of another model: \d+ tensors differ, for instance model",
        {"a.ckpt": torch_file({"state_dict": {}, "pytorch-lightning_version": "2.5"})},
        ckpt_path="{tmp}/a.ckpt",
    ),
    wrong("malicious checkpoint", "objects that could run code", {"a.ckpt": malicious}, ckpt_path="{tmp}/a.ckpt"),
    wrong(
        "malicious checkpoint to test",
        "objects that could run code",
        {"a.ckpt": malicious},
        ckpt_path="{tmp}/a.ckpt",
        train_dataset=None,
    ),
    wrong("malicious checkpoint to resume", "could run code", {"out/checkpoints/run/last.ckpt": malicious}, resume=True),
    wrong("half a checkpoint", "last.ckpt is not a torch.save file", {"out/checkpoints/run/last.ckpt": b"PK\3\4"}, resume=True),
    wrong(
        "checkpoint that would be removed",
        "would be removed by --overwrite",
        {"out/checkpoints/run/last.ckpt": "x"},
        ckpt_path="{tmp}/out/checkpoints/run/last.ckpt",
        overwrite=True,
    ),
    *(
        wrong(
            f"{name} that would be removed",
            f"--{name}: .*/run/.* would be removed by --overwrite. Copy it to another folder",
            {"out/predictions/run/train.jsonl": lines(TRAIN), "out/pre_trained_models/run/final/config.json": "{}"},
            **{name: "{tmp}/out/" + place},
            overwrite=True,
        )
        for name, place in (
            ("pre_trained_model", "pre_trained_models/run/final"),
            ("pre_trained_tokenizer", "predictions/../pre_trained_models/run/final"),
            ("train_dataset", "predictions/run/train.jsonl"),
            ("valid_dataset", "predictions/*/train.jsonl"),
        )
    ),
]

TRAINER = [
    wrong("precision", "--precision: found 'half', expected one of", precision="half"),
    wrong("engine", "--precision transformer-engine: Requirement", precision="transformer-engine"),
    wrong("dp", "--strategy dp: .*removed from Lightning: use ddp", strategy="dp"),
    wrong("spawn", "--strategy ddp_spawn: .*use ddp", strategy="ddp_spawn"),
    wrong("notebook", "--strategy ddp_notebook: it is for notebooks", strategy="ddp_notebook"),
    wrong("strategy", "--strategy: found 'dpp', .*Did you mean 'ddp'", strategy="dpp"),
    wrong(
        "DeepSpeed",
        r"--strategy deepspeed_stage_2 needs the package 'deepspeed', .*transformers-framework\[deepspeed\]",
        {},
        ("deepspeed",),
        strategy="deepspeed_stage_2",
    ),
    wrong("no room for a node", "--num_nodes.* need MASTER_ADDR and MASTER_PORT and NODE_RANK", num_nodes=2),
    wrong("sharded weights", "--strategy fsdp: it needs GPUs, and this run uses the CPU. Use ddp", strategy="fsdp"),
    wrong("split models", "--strategy model_parallel: .*use fsdp", strategy="model_parallel"),
    wrong("weights on a disk", "--strategy deepspeed_stage_3_offload_nvme: .*use deepspeed_stage_3_offload", strategy="deepspeed_stage_3_offload_nvme"),
    wrong("no device", "--devices 0: .*not a valid input", devices=0),
    wrong("device", "--devices many: .*should be an int > 0", devices="many"),
    wrong("accelerator", "--accelerator: found 'gpuu', .*Did you mean 'gpu'", accelerator="gpuu"),
    wrong("no TPU", "--accelerator tpu: torch .* finds no TPU on this machine. Use --accelerator cpu", accelerator="tpu"),
    wrong("matrix products", "--float32_matmul_precision: found 'tf32', expected one of highest, high, medium", float32_matmul_precision="tf32"),
    wrong("no nodes", "--num_nodes: found '0', expected an integer at least 1", num_nodes=0),
    wrong("time", "--max_time: found '1h', expected a text like DD:HH:MM:SS", max_time="1h"),
    wrong("negative epochs", "--max_epochs: found '-5'", max_epochs=-5),
    wrong("no epochs", "--max_epochs 0: nothing would be trained", max_epochs=0),
    masking("no end", "--max_steps or --max_epochs is needed: how long to pre-train", max_epochs=None),
    wrong("no batches", "--limit_train_batches 0: nothing would be trained", limit_train_batches=0),
    wrong("less than a batch", "--limit_train_batches 0.01: nothing would be trained", limit_train_batches=0.01),
    wrong("epochs", "--min_epochs: 5 is more than --max_epochs 1", min_epochs=5),
    wrong("share", "--limit_val_batches: found '1.5', expected an integer .* or a number at least 0 and at most 1", limit_val_batches=1.5),
    wrong("no accumulation", "--accumulate_grad_batches: found '0'", accumulate_grad_batches=0),
    wrong("rows of a step", "--effective_batch_size 20: it is not a multiple .*, --batch_size 8. Give 16 or 24, or a --batch_size that", batch_size=8, effective_batch_size=20),
    wrong("too few rows of a step", "--effective_batch_size 4: .*, --batch_size 8. Give 8, or", batch_size=8, effective_batch_size=4),
    wrong("two numbers of a step", "--effective_batch_size 32: with --batch_size 8, it needs --accumulate_grad_batches 4, and 2 was given. Remove one", batch_size=8, effective_batch_size=32, accumulate_grad_batches=2),
    wrong("rows of a step of tokens", "--effective_batch_size 32: batches of --max_tokens_per_batch differ", batch_size=None, max_tokens_per_batch=512, effective_batch_size=32),
    wrong("rows of a step and batches", "--effective_batch_size 32: --batch_size auto finds .* Remove --accumulate_grad_batches 2", batch_size="auto", effective_batch_size=32, accumulate_grad_batches=2),
    wrong("no number of rows", "--batch_size: found 'many', expected auto or an integer at least 1", batch_size="many"),
    wrong("memory and tokens", "--max_tokens_per_batch replaces --batch_size", batch_size="auto", max_tokens_per_batch=512),
    wrong("memory of a stream", "--batch_size auto: --iterable reads .* Give a number of rows", batch_size="auto", iterable=True),
    wrong("memory and limits", "--batch_size auto: --overfit_batches counts batches", batch_size="auto", overfit_batches=2),
    wrong("memory without training", "--batch_size auto: .* there is no --train_dataset", batch_size="auto", train_dataset=None),
    wrong("compiled sizes", "--batch_size auto: with --compile, each number of rows", batch_size="auto", compile=True),
    wrong("negative clipping", "--gradient_clip_val: found '-1'", gradient_clip_val=-1),
    wrong("interval of 0", "--val_check_interval: found '0'", val_check_interval=0),
    wrong("interval past the epoch", "--val_check_interval: 1000 batches are more than the 3 of an epoch", val_check_interval=1000),
    wrong("profiler", "--profiler x: ", profiler="x"),
    wrong("barebones", "--barebones forbids logs, checkpoints", barebones=True),
]

OPTIMIZATION = [
    wrong("warm-up", "--num_warmup_steps: 10000 is more than the 3 steps of this run", num_warmup_steps=10000),
    wrong("warm-up of steps", "--num_warmup_steps: 10 is more than the 4 steps", num_warmup_steps=10, max_steps=4),
    wrong("epochs unknown", "--scheduler_interval epoch needs --max_epochs", scheduler_interval="epoch", max_steps=4),
    wrong("fused", "--optimizer fuse_adam: .*only with those of deepspeed", optimizer="fuse_adam"),
    wrong(
        "bitsandbytes",
        r"--optimizer adam8bit needs the package 'bitsandbytes', .*transformers-framework\[bitsandbytes\]",
        {},
        ("bitsandbytes",),
        optimizer="adam8bit",
    ),
    wrong("two rates", "--adafactor_relative_step: .*no effect", optimizer="adafactor", adafactor_relative_step=True),
    wrong("decay of layers", "--layerwise_lr_decay_power: found '0'", scheduler="polynomial_decay_layerwise", layerwise_lr_decay_power=0),
]

PRETRAINING = [
    masking("share above 1", "--probability: found '1.5', expected a number at least 0 and at most 1", probability=1.5),
    masking("negative share", "--probability: found '-0.1'", probability=-0.1),
    masking("rates", "--probability_masked 0.8, --probability_replaced 0.3, .*the sum is 1.2. Change", probability_replaced=0.3),
    masking("label column", "--label_column: .*belongs to --pipeline answer_selection", label_column="label"),
    wrong("alone", "--masked_lm_weight: .*belongs to --pipeline masked_lm_and_answer", masked_lm_weight=2),
    masking("weight", "--masked_lm_weight: found '-1'", pipeline="masked_lm+seq_class", label_column="label", masked_lm_weight=-1),
    masking("unknown part", "--pipeline: unknown .*Did you mean 'seq_class'", pipeline="masked_lm+seq_clas"),
    masking("two that corrupt", "masked_lm and swapped_lm both corrupt the input", pipeline="masked_lm+swapped_lm"),
    masking("twice", "each part can be there only once", pipeline="masked_lm+masked_lm"),
    masking("no mask", "has no mask token, which masking needs", pre_trained_tokenizer="{made}/no_mask"),
    masking("decoder", "--pipeline masked_lm --model t5: transformers has no AutoModelForMaskedLM", model="t5", pre_trained_model=None, pre_trained_config="{made}/t5"),
    masking("monitor of another", "valid/seq_class/accuracy.*Did you mean 'valid/masked_lm/accuracy'", monitor="valid/seq_class/accuracy"),
]

GENERATOR = [
    generating("another vocabulary", "the generator's vocabulary has 399 tokens and the discriminator's 400", pre_trained_generator_config="{made}/vocabulary_399"),
    generating("another tokenizer", "it was trained with another vocabulary than the tokenizer of --pre_trained_model", pre_trained_generator_model="{made}/other_tokens"),
    generating("another family", "pre_trained_generator_model .*is of family 'roberta', and not 'bert'", pre_trained_generator_model="{made}/roberta"),
    generating("absent", "--pre_trained_generator_model .*brt does not exist. Did you mean 'bert'", pre_trained_generator_model="{made}/brt"),
    generating("no size", "--generator_size: found '0', expected a number at most 1 and greater than 0", generator_size=0),
    generating("larger", "--generator_size: found '1.5', expected a number at most 1 and greater than 0", generator_size=1.5),
    generating("two sizes", "--generator_size: --pre_trained_generator_config .* decides how large the generator is", generator_size=0.5, pre_trained_generator_config="{made}/bert"),
    generating("sharing and not", "--tie_generator_discriminator_embeddings asks for what --embedding_sharing none", embedding_sharing="none", tie_generator_discriminator_embeddings=True),
    generating("embeddings of another size", "--embedding_sharing shared: .*embedding", embedding_sharing="shared", pre_trained_generator_config="{made}/narrow"),
    generating("unknown sharing", "--embedding_sharing: found 'tied', expected one of none, shared", embedding_sharing="tied"),
    generating("unknown sampling", "--sample_function: found 'argmax', expected one of gumbel, multinomial", sample_function="argmax"),
    generating("decoder", "transformers has no AutoModelForMaskedLM for 't5'", model="t5", pre_trained_model=None, pre_trained_config="{made}/t5"),
    masking("no generator here", "--generator_size: .*belongs to --pipeline token_detection_and_masked_lm", generator_size=0.5),
]

CLUSTERS = [
    clustering("none", "Missing: --clusters_filename", clusters_filename=None),
    clustering("absent", "--clusters_filename .*no.txt: there is no such file", clusters_filename="{tmp}/no.txt"),
    clustering("too few", "found 3 lines, expected 400", {"few.txt": "0\n1\n0\n"}, clusters_filename="{tmp}/few.txt"),
    clustering("no number", r"few.txt:2: .*'b'", {"few.txt": "0\nb\n" + "1\n" * 398}, clusters_filename="{tmp}/few.txt"),
    clustering("negative", r"few.txt:2: .*'-1'", {"few.txt": "0\n-1\n" + "1\n" * 398}, clusters_filename="{tmp}/few.txt"),
    clustering("negative sharpness", "--beta: found '-1', expected a number at least 0", beta=-1),
    masking("no clusters here", "--clusters_filename: .*belongs to --pipeline cluster_random_token_detection", clusters_filename="x"),
]

DENOISING = [
    denoising("encoder", "--pipeline denoising --model bert: transformers has no AutoModelForSeq2SeqLM for 'bert'", model="bert", pre_trained_model="{made}/bert"),
    denoising("no sentinels", "no sentinels", model="bart", pre_trained_model="{made}/bart", denoising_style="t5"),
    denoising("no mask", "no mask token", denoising_style="bart"),
    denoising("three lengths", "--max_sequence_length: 3 lengths were given", max_sequence_length=[48, 24, 12]),
    denoising("no room", "--max_sequence_length", max_sequence_length=2),
    denoising("shuffled", "--shuffle_sentences: the targets of t5 style are the removed spans", shuffle_sentences=True),
    denoising("mixture in another style", "--denoisers: .*or give --denoising_style t5", model="bart", pre_trained_model="{made}/bart", denoisers=["0.15,3"]),
    denoising("mixture and share", "--denoisers", denoisers=["0.15,3"], probability=0.2),
    denoising("no length", "--denoisers: .*0.15", denoisers=["0.15"]),
    denoising("no share", "--denoisers: .*1.5", denoisers=["1.5,3"]),
    denoising("no token", "--denoisers: .*S2S", denoisers=["0.5,3,[S2S]"]),
    denoising("share", "--probability: found '1.5'", probability=1.5),
    denoising("no spans", "--max_number_of_spans: found '0'", max_number_of_spans=0),
    denoising("beside another", "--pipeline denoising.seq_class: denoising learns with a decoder", pipeline="denoising+seq_class"),
    denoising("positions", "--max_sequence_length: 200 is longer than the model's 128 positions", model="bart", pre_trained_model="{made}/bart", max_sequence_length=200),
    masking("not here", "--denoising_style: .*belongs to --pipeline denoising", denoising_style="t5"),
]

SUMMARIZATION = [
    summarizing("one length", "--max_sequence_length: two lengths are needed here", max_sequence_length=48),
    summarizing("target positions", "second length, 200, is longer than the decoder's 128 positions", max_sequence_length=[48, 200]),
    summarizing("no room", "second length, 2, is too short for a summary", max_sequence_length=[48, 2]),
    summarizing("no document", "Missing: --document_column", document_column=None),
    summarizing("no summary", "--summary_column is needed for the train data set. Columns of .*text, summary", summary_column=None),
    summarizing("misspelt document", "--document_column: .*'txt'.*Did you mean 'text'", document_column="txt"),
    summarizing("misspelt summary", "--summary_column: .*'sumary'.*Did you mean 'summary'", summary_column="sumary"),
    summarizing("empty summary", r"train.jsonl:4: the summary in 'summary' is null or empty", {"train.jsonl": changed(SUMMARIES, 3, summary="")}),
    summarizing("null document", r"train.jsonl:4: the text in 'text' is null or empty", {"train.jsonl": changed(SUMMARIES, 3, text=None)}),
    summarizing("no summary in a list", r"train.jsonl:4: .*summar", {"train.jsonl": changed([{**r, "summary": [r["summary"]]} for r in SUMMARIES], 3, summary=[])}),
    summarizing("beams and sequences", "--generation_num_return_sequences", generation_num_return_sequences=3),
    summarizing("temperature", "--generation_temperature", generation_temperature=0.5),
    summarizing("lengths", "--generation_min_length", generation_min_length=40),
    summarizing("two lengths", "say the same in two ways", generation_max_length=10, generation_max_new_tokens=9),
    summarizing("unknown argument", "--generation_num_beam: unknown flag. Did you mean '--generation_num_beams'", generation_num_beam=3),
    summarizing("argument by name", "--generation_top_h: unknown flag. Did you mean '--additional_generation_kwargs top_h=VALUE'", generation_top_h=0.4),
    summarizing("unknown other argument", "has no 'guidance'. Did you mean 'guidance_scale'", additional_generation_kwargs="guidance=2"),
    summarizing("no beams", "--generation_num_beams: found '0'", generation_num_beams=0),
    summarizing("no rouge", r"rouge.score.*pip install .*\[metrics\]", {}, ("rouge_score.rouge_scorer",)),
    summarizing("monitor", "Did you mean 'valid/summarization/rouge2_", monitor="valid/summarization/rouge2"),
    summarizing("unsupported", "cannot generate with --generation_stop_strings", model="multi_token_bart", generation_stop_strings=["a"]),
    summarizing("no several tokens", "--max_multi_token_predictions 2: it belongs to --model multi_token_bart, --model multi_token_t5", max_multi_token_predictions=2),
    masking("elsewhere", "--generation_num_beams: .*belongs to --pipeline denoising, --pipeline summarization", generation_num_beams=2),
]

PACKING = [
    masking("unknown", "--packing: found 'some', expected one of none, full, isolated", packing="some"),
    masking("windows of a stream", "--iterable: --packing full", packing="full", iterable=True),
    masking("bins of a stream", "--iterable: --packing isolated", packing="isolated", iterable=True),
    masking("pieces of a stream", "--iterable: .*--split_long_texts needs all texts", split_long_texts=True, iterable=True),
    masking("buckets of bins", "--length_bucketing batches rows", packing="isolated", length_bucketing=True),
    masking("tokens of bins", "--max_tokens_per_batch: with --packing, all rows", packing="isolated", batch_size=None, max_tokens_per_batch=512),
    masking("tokens of a stream", "--max_tokens_per_batch: --iterable reads", iterable=True, batch_size=None, max_tokens_per_batch=512),
    masking("tokens and rows", "--max_tokens_per_batch replaces --batch_size: give one", batch_size=8, max_tokens_per_batch=512),
    masking("too few tokens", r"--max_tokens_per_batch 8: .*train.* has \d+ tokens, \d+ when padded.* Raise it to", batch_size=None, max_tokens_per_batch=8),
    masking("types of windows", "--extended_token_type_ids: --packing full joins texts", packing="full", extended_token_type_ids=1),
    masking("family", "--packing isolated: .*convolutions.*Use --packing full", packing="isolated", model="convbert", pre_trained_model=None, pre_trained_config="{made}/convbert"),
    masking("attention", "--attention flash_attention_2: ", packing="isolated", attention="flash_attention_2"),
    masking("beside labels", "--packing: .*belongs to --pipeline", packing="isolated", pipeline="masked_lm_and_seq_class", label_column="label"),
]

READING = [
    reading("no question", "Missing: --query_column", query_column=None),
    reading("absent question", "--query_column: the train .* no column 'questio'. Did you mean 'question'", query_column="questio"),
    reading("absent context", "--context_column: the train .* no column 'contxt'. Did you mean 'context'", context_column="contxt"),
    reading("one column", "--context_column: 'question' is --query_column too", context_column="question"),
    reading("joined columns", "--context_column: 'title:context' names several texts", context_column="title:context"),
    reading("list", "'context' of .* is a list column", {"train.jsonl": changed(QUESTIONS, context=["a"])}),
    reading("null context", r"train.jsonl:4: the text in 'context' is null or empty", {"train.jsonl": changed(QUESTIONS, 3, context=None)}),
    reading("empty question", r"train.jsonl:4: the text in 'question' is null or empty", {"train.jsonl": changed(QUESTIONS, 3, question=" ")}),
    reading("no token", r"train.jsonl:4: the tokenizer returns no token for the text in 'question'", {"train.jsonl": changed(QUESTIONS, 3, question="\u200b\u0007")}),
    reading("no answers", "--answers_column is needed for the train data set. Columns of .*: question, context, answers", answers_column=None),
    reading("absent answers", "--answers_column: the train .* no column 'answer'. Did you mean 'answers'", answers_column="answer"),
    reading("starts that are texts", "--answers_column: 'answers' of .* holds .*; expected SQuAD's .* whole numbers", {"train.jsonl": [{**row, "answers": {"text": ["a"], "answer_start": ["0"]}} for row in QUESTIONS]}),
    reading("starts that are fractions", "--answers_column: 'answers' of .* holds .*; expected SQuAD's", {"train.jsonl": [{**row, "answers": {"text": ["a"], "answer_start": [0.0]}} for row in QUESTIONS]}),
    reading("an answer without lists", "--answers_column: 'answers' of .* holds .*; expected SQuAD's", {"train.jsonl": [{**row, "answers": {"text": "a", "answer_start": 0}} for row in QUESTIONS]}),
    reading("text", "--answers_column: 'question' of .* holds .*; expected SQuAD's", answers_column="question"),
    reading("another place", r"train.jsonl:2: the answer 'zebra' starts at 0, but there the context has", {"train.jsonl": changed(QUESTIONS, 1, answers={"text": ["zebra"], "answer_start": [0]})}),
    reading("after the end", r"train.jsonl:2: the answer 'rain' starts at 10000, but the context has \d+ characters", {"train.jsonl": changed(QUESTIONS, 1, answers={"text": ["rain"], "answer_start": [10000]})}),
    reading("before the start", r"train.jsonl:2: the answer 'rain' starts at -1", {"train.jsonl": changed(QUESTIONS, 1, answers={"text": ["rain"], "answer_start": [-1]})}),
    reading("fewer starts", r"train.jsonl:2: there are 2 answers but 1 starts", {"train.jsonl": changed(QUESTIONS, 1, answers={"text": ["a", "b"], "answer_start": [0]})}),
    reading("null answers", r"train.jsonl:2: 'answers' is null", {"train.jsonl": changed(QUESTIONS, 1, answers=None)}),
    reading("answers of validation", r"valid.jsonl:2: the answer 'zebra' starts at 0", {"valid.jsonl": changed(VALID_QUESTIONS, 1, answers={"text": ["zebra"], "answer_start": [0]})}),
    reading("texts alone", "--label_column is needed: 'answers' of .* holds texts", {"train.jsonl": TEXTS}),
    reading("spans twice", "--label_column: 'answers' contains the starts of the answers already", label_column="question"),
    reading_spans("absent spans", "--label_column: the train .* no column 'wher'. Did you mean 'where'", {"train.jsonl": TEXTS}, label_column="wher"),
    reading_spans("other span", r"train.jsonl:1: the span 0 to 1 is '.*', not one of the answers", {"train.jsonl": changed(TEXTS, 0, where=[[0, 1]])}),
    reading_spans("span backwards", r"train.jsonl:1: the span 5 to 2 is not inside the context", {"train.jsonl": changed(TEXTS, 0, where=[[5, 2]])}),
    reading_spans("no span", r"train.jsonl:1: there are \d answers but 0 spans", {"train.jsonl": changed(TEXTS, 0, where=[])}),
    reading_spans("spans of another type", "--label_column: 'question' of .* holds .*; expected spans", {"train.jsonl": TEXTS}, label_column="question"),
    reading("absent ids", "--index_column: the train data set .* has no column 'key'", index_column="key"),
    reading("threshold", "--null_score_threshold: found 'best', expected auto or a number", null_score_threshold="best"),
    reading("threshold of nothing", "--null_score_threshold auto needs questions .* --valid_dataset is not given", valid_dataset=None, null_score_threshold="auto"),
    reading("threshold of answered questions", "--null_score_threshold auto needs questions .* has none", {"valid.jsonl": ANSWERED}, null_score_threshold="auto"),
    reading("too short", "--max_sequence_length: 4 has no space for 2 texts", max_sequence_length=4),
    reading("negative stride", "--doc_stride: found '-1'", doc_stride=-1),
    reading("stream", "--iterable: --pipeline question_answering needs all texts", iterable=True),
    reading("no answers of a window", "--n_best_size: found '0'", n_best_size=0),
]

TAGS = [
    tagging("fewer labels", r"train.jsonl:4: 'labels' has 1 labels and 'words' has \d+ words", {"train.jsonl": changed(TAGGED, 3, labels=["O"])}),
    tagging("more labels", r"train.jsonl:4: 'labels' has 50 labels and 'words' has", {"train.jsonl": changed(TAGGED, 3, labels=["O"] * 50)}),
    tagging("unknown label", r"valid.jsonl:4: .*'B-music'; expected one of", {"train.jsonl": TAGGED, "valid.jsonl": changed(TAGGED, 3, words=["drum"], labels=["B-music"])}),
    tagging("null label", r"train.jsonl:4: .*'labels'.*null", {"train.jsonl": changed(TAGGED, 3, words=["a", "b"], labels=["O", None])}),
    tagging("null word", r"train.jsonl:4: word 1 of 'words' is null", {"train.jsonl": changed(TAGGED, 3, words=["a", None], labels=["O", "O"])}),
    tagging("no words", r"train.jsonl:4: 'words' is null or has no words", {"train.jsonl": changed(TAGGED, 3, words=[], labels=[])}),
    tagging("text", "'text' of .* holds .*, not lists of words", input_columns="text", label_column="label"),
    tagging("words are labels", "--label_column: 'words' is also --input_columns", {"train.jsonl": TAGGED}, label_column="words"),
    tagging("negative overlap", "--doc_stride: found '-1'", doc_stride=-1),
    tagging("overlap of a stream", "--doc_stride: with --iterable there are no windows", {"train.jsonl": TAGGED}, iterable=True, doc_stride=8),
    tagging("two columns", "--input_columns: ", {"train.jsonl": TAGGED}, input_columns=["words", "labels"]),
]
# fmt: on

RETRIEVAL = [
    retrieving(
        "one column",
        "--input_columns: 'question' names one column, and two are needed.*With --corpus_dataset, rows may lack the second column",
        input_columns="question",
    ),
    retrieving(
        "absent passage", "--input_columns: .*'anser'.*Did you mean 'answer'", input_columns=["question", "anser"]
    ),
    retrieving(
        "several passages",
        r"--input_columns: '\*answer' has several texts.*'\+answer'",
        input_columns=["question", "*answer"],
    ),
    retrieving("three lengths", "--max_sequence_length: 3 lengths were given", max_sequence_length=[8, 8, 8]),
    retrieving(
        "positions",
        "--max_sequence_length: 200 is longer than the model's 128 positions",
        max_sequence_length=[48, 200],
    ),
    retrieving("long prefix", "--passage_prefix: with special tokens it has", passage_prefix="rain " * 60),
    retrieving("unknown loss", "--loss_fn: found 'triplet', expected one of", loss_fn="triplet"),
    retrieving("unknown score", "--scores_fn: found 'cosine', expected one of", scores_fn="cosine"),
    retrieving(
        "no label to learn",
        "--label_column is needed for the train data set: --loss_fn contrastive_loss learns from labels",
        loss_fn="contrastive_loss",
        label_column=None,
    ),
    retrieving(
        "no label to rank",
        "--label_column is needed for the valid data set: ranking metrics need",
        label_column=None,
    ),
    retrieving("no query id", "--index_column is needed to rank the valid data set", index_column=None),
    retrieving("absent label", "--label_column: .*'lable'.*Did you mean 'label'", label_column="lable"),
    retrieving(
        "text as label",
        "--label_column: 'answer2' of .* holds string; expected 1 .positive. or 0",
        {"train.jsonl": changed(PAIRS, answer2="good")},
        label_column="answer2",
    ),
    retrieving(
        "label of no pair",
        r"train.jsonl:4: 'label' is 2; expected 1 .positive. or 0 .negative. .for numbers, use --loss_fn cosine_similarity_loss",
        {"train.jsonl": changed(PAIRS, 3, label=2)},
    ),
    retrieving(
        "fraction",
        r"train.jsonl:4: 'label' is 0.5; expected 1",
        {"train.jsonl": changed(changed(PAIRS, label=1.0), 3, label=0.5)},
        loss_fn="online_contrastive_loss",
    ),
    retrieving(
        "null label",
        r"train.jsonl:4: 'label' is null; expected a number, the similarity",
        {"train.jsonl": changed(PAIRS, 3, label=None)},
        loss_fn="cosine_similarity_loss",
    ),
    retrieving(
        "all wrong",
        "no row of .*train.jsonl has label 1 in 'label', but --loss_fn multiple_negatives_ranking_loss",
        {"train.jsonl": changed(PAIRS, label=0)},
    ),
    retrieving("null query id", r"train.jsonl:4: 'key' has no query id", {"train.jsonl": changed(PAIRS, 3, key=None)}),
    retrieving(
        "empty passage",
        r"train.jsonl:4: the text in 'answer' is null or empty",
        {"train.jsonl": changed(PAIRS, 3, answer=" ")},
    ),
    retrieving(
        "empty hard negative",
        r"train.jsonl:4: the text in 'wrong' is null or empty",
        {"train.jsonl": changed(WRONGS, 3, wrong=None)},
        input_columns=["question", "answer", "wrong"],
    ),
    retrieving(
        "empty hard negative of several",
        r"train.jsonl:4: hard negative 2 in 'wrongs' is null or empty. Remove it; rows may have different numbers",
        {"train.jsonl": changed(WRONGS, 3, wrongs=["a", None])},
        input_columns=["question", "answer", "*wrongs"],
    ),
    retrieving(
        "no hard negative to compare with",
        r"train.jsonl:4: 'wrongs' has no hard negative, but --loss_fn triplet_loss needs one. Remove the row",
        {"train.jsonl": changed(WRONGS, 3, wrongs=[])},
        input_columns=["question", "answer", "*wrongs"],
        loss_fn="triplet_loss",
    ),
    retrieving(
        "no hard negatives",
        "--input_columns: no row of .*train.jsonl has a hard negative in 'wrongs'. Leave the column out",
        {"train.jsonl": changed(WRONGS, wrongs=[])},
        input_columns=["question", "answer", "*wrongs"],
    ),
    retrieving(
        "no third column",
        "--loss_fn triplet_loss compares the passage of a row with a hard negative. Give its column",
        loss_fn="triplet_loss",
    ),
    retrieving(
        "third column of pairs",
        "--loss_fn contrastive_loss learns from pairs and would ignore the hard negatives in 'wrong'",
        loss_fn="contrastive_loss",
        input_columns=["question", "answer", "wrong"],
    ),
    retrieving(
        "several margins",
        "--loss_fn margin_mse_loss needs one margin",
        loss_fn="margin_mse_loss",
        input_columns=["question", "answer", "wrong", "wrong2"],
    ),
    retrieving("idle margin", "--margin: --loss_fn multiple_negatives_ranking_loss does not use it", margin=1),
    retrieving(
        "idle scale",
        "--scale: --loss_fn triplet_loss does not use it",
        loss_fn="triplet_loss",
        scale=1,
        input_columns=["question", "answer", "wrong"],
    ),
    retrieving(
        "idle distance",
        "--distance_fn: --loss_fn cosine_similarity_loss does not use it",
        loss_fn="cosine_similarity_loss",
        distance_fn="euclidean",
    ),
    retrieving(
        "negative margin",
        "--margin: found '-1', expected a number greater than 0",
        loss_fn="contrastive_loss",
        margin=-1,
    ),
    retrieving(
        "batch of one",
        "--batch_size 1: --loss_fn multiple_negatives_ranking_loss uses in-batch negatives",
        batch_size=1,
    ),
    retrieving(
        "memory and negatives",
        "--batch_size auto: --loss_fn multiple_neg.* uses in-batch negatives, so its size",
        batch_size="auto",
    ),
    retrieving("label among the inputs", "--label_column: 'answer' is also in --input_columns", label_column="answer"),
    retrieving(
        "decoder",
        "transformers has no AutoModelForTextEncoding for 'bart'",
        model="bart",
        pre_trained_model="{made}/bart",
    ),
    retrieving(
        "passages of another family",
        "--pre_trained_passage_model .*roberta is of family 'roberta', and not 'bert'",
        pre_trained_passage_model="{made}/roberta",
    ),
    retrieving(
        "passages of another vocabulary",
        "--pre_trained_passage_model .*it knows 399 tokens",
        pre_trained_passage_model="{made}/vocabulary_399",
    ),
    retrieving(
        "pooling",
        "--pre_trained_model .*max_pooling: its pooling is 'max'.*Give --pooling",
        pre_trained_model="{made}/max_pooling",
    ),
    retrieving(
        "step",
        "--pre_trained_model .*other_step: its embeddings are made by 'WordWeights'",
        pre_trained_model="{made}/other_step",
    ),
    retrieving(
        "broken steps",
        "--pre_trained_model .*broken_steps: its modules.json is not one",
        pre_trained_model="{made}/broken_steps",
    ),
    retrieving(
        "monitor", "Did you mean 'valid/retrieval/mean_reciprocal_rank'", monitor="valid/retrieval/mean_reciprocal_ran"
    ),
    retrieving(
        "beside another",
        "--pipeline retrieval.seq_class: retrieval encodes two texts apart",
        pipeline="retrieval+seq_class",
    ),
    masking("elsewhere", "--pooling: .*belongs to --pipeline retrieval", pooling="cls"),
    retrieving("no corpus", "--corpus_column needs --corpus_dataset", corpus_column="answer"),
    retrieving("absent corpus", "--corpus_dataset .*corpus.jsonl.*does not exist", corpus_dataset="{tmp}/corpus.jsonl"),
    searching("empty corpus", "--corpus_dataset .*corpus.jsonl: .*empty|no rows", {"corpus.jsonl": ""}),
    searching(
        "column of the corpus",
        "--corpus_column: the corpus data set .* no column 'text'",
        {"corpus.jsonl": CORPUS},
        corpus_column="text",
    ),
    searching(
        "id of the corpus",
        "--corpus_id_column: the corpus data set .* no column 'id'. Did you mean 'pid'",
        {"corpus.jsonl": CORPUS},
        corpus_id_column="id",
    ),
    searching(
        "empty text",
        "corpus.jsonl:2: the text in 'answer' is null or empty",
        {"corpus.jsonl": changed(CORPUS, 1, answer="")},
    ),
    searching(
        "null id",
        "corpus.jsonl:2: 'pid' has no id",
        {"corpus.jsonl": changed(CORPUS, 1, pid=None)},
        corpus_id_column="pid",
    ),
    searching(
        "empty id",
        r"corpus.jsonl:2: 'pid' has no id \(''\)",
        {"corpus.jsonl": [row | {"pid": "" if i == 1 else str(i)} for i, row in enumerate(CORPUS)]},
        corpus_id_column="pid",
    ),
    searching(
        "bytes as ids of the corpus",
        "--corpus_id_column: 'pid' of .*corpus.parquet holds binary; expected a number or a text, the passage's id",
        {"corpus.parquet": parquet([row | {"pid": b"p%d" % i} for i, row in enumerate(CORPUS)])},
        corpus_dataset="{tmp}/corpus.parquet",
        corpus_id_column="pid",
    ),
    searching(
        "one id, two texts",
        "corpus.jsonl:2: 'pid' is 0, which is the id of an earlier text",
        {"corpus.jsonl": changed(CORPUS, 1, pid=0)},
        corpus_id_column="pid",
    ),
    searching(
        "positive of no corpus",
        r"valid.jsonl:\d: its passage is a positive, but the corpus does not contain it .*1 of 3",
        {
            "corpus.jsonl": [
                row for row in CORPUS if row["answer"] != next(pair["answer"] for pair in VALID_PAIRS if pair["label"])
            ]
        },
    ),
    searching(
        "unknown id",
        "valid.jsonl:2: 'right' names 99, but no passage of the corpus has this id",
        {"corpus.jsonl": CORPUS, "valid.jsonl": changed(ASKED, 1, right=99)},
        relevant_column="right",
        label_column=None,
    ),
    *(
        searching(
            f"training with ids: {name}",
            message,
            {"corpus.jsonl": CORPUS, "train.jsonl": train, "valid.jsonl": ASKED},
            **{"relevant_column": "right", "label_column": None, **flags},
        )
        for name, message, train, flags in (
            ("unknown", "train.jsonl:2: 'right' names 99, but no passage .*1 of 12", changed(ASKED, 1, right=99), {}),
            (
                "no column",
                "train data set .* has no column 'answer'. Give .*--relevant_column",
                ASKED,
                {"relevant_column": None},
            ),
            (
                "text",
                "--relevant_column: 'right' is also in --input_columns",
                ASKED,
                {"input_columns": ["question", "right"]},
            ),
            ("stream", "--iterable: --relevant_column needs all texts before training", ASKED, {"iterable": True}),
        )
    ),
    searching(
        "null for an id",
        "valid.jsonl:2: 'right' names null, but no passage of the corpus has this id",
        {"corpus.jsonl": CORPUS, "valid.jsonl": changed(ASKED, 1, right=None)},
        relevant_column="right",
        label_column=None,
    ),
    searching(
        "absent ids",
        "--relevant_column: the valid data set .* no column 'wright'. Did you mean 'right'",
        {"corpus.jsonl": CORPUS, "valid.jsonl": ASKED},
        relevant_column="wright",
        label_column=None,
    ),
    searching(
        "nothing says what is relevant",
        "--relevant_column is needed: rows of .*valid.jsonl have no passage",
        {"corpus.jsonl": CORPUS, "valid.jsonl": ASKED},
        label_column=None,
    ),
    searching(
        "no relevant passage",
        "valid.jsonl:1: no passage is relevant to this query and to 2 others",
        {"corpus.jsonl": CORPUS, "valid.jsonl": changed(VALID_PAIRS, label=0)},
        metrics_empty_target_action="error",
    ),
    *(
        searching(
            f"monitored loss of queries alone: {label_column}",
            "--monitor: this run does not log 'valid/(retrieval/)?loss'. Rows of --valid_dataset have nothing to compute "
            "a loss of: give --monitor valid/retrieval/corpus_mean_average_precision",
            {"corpus.jsonl": CORPUS, "valid.jsonl": ASKED},
            relevant_column="right",
            label_column=label_column,
            monitor=monitor,
        )
        for label_column, monitor in ((None, "valid/loss"), ("label", "valid/retrieval/loss"))
    ),
    searching(
        "monitored behind the depth",
        "does not log 'valid/retrieval/corpus_recall@100'. Did you mean 'valid/retrieval/corpus_recall@10'",
        {"corpus.jsonl": CORPUS},
        top_k=10,
        monitor="valid/retrieval/corpus_recall@100",
    ),
    searching("no depth", "--top_k: found '0'", {"corpus.jsonl": CORPUS}, top_k=0),
]

SCORED = [row | {"score": i / 10} for i, row in enumerate(PAIRS)]
OF_QUESTIONS = [
    {"question": PAIRS[i]["question"], "answers": [row["answer"] for row in PAIRS[i : i + 4]], "labels": [0, 1, 0, 0]}
    for i in range(0, 24, 4)
]
LISTED: dict[str, Any] = {"input_columns": ["question", "*answers"], "label_column": "labels", "valid_dataset": None}

UNTRAINED: dict[str, Any] = {"train_dataset": None, "valid_dataset": None}
DRAWN = [
    ranking("head", "--pre_trained_model: nothing is trained, and the weights of BertForSequenceClassification of .*bert are newly initialized. Give a checkpoint of this task", {"predict.jsonl": PAIRS}, predict_dataset="{tmp}/predict.jsonl", **UNTRAINED),
    ranking("model", "--pre_trained_config: nothing is trained, and the weights of all of the model are newly initialized", {"predict.jsonl": PAIRS}, predict_dataset="{tmp}/predict.jsonl", pre_trained_model=None, pre_trained_config="{made}/bert", pre_trained_tokenizer="{made}/bert", **UNTRAINED),
    retrieving("dense layer", "--pre_trained_model: nothing is trained, and the weights of Tower of .*bert are newly initialized", {"predict.jsonl": PAIRS}, predict_dataset="{tmp}/predict.jsonl", embedding_size=8, **UNTRAINED),
    ranking("nothing to export", "--export_onnx: it exports what a run has trained", {"test.jsonl": PAIRS}, test_dataset="{tmp}/test.jsonl", export_onnx=True, **UNTRAINED),
    ranking("decoder in ONNX", "--export_onnx: this model of family 'bart' cannot be exported to ONNX .it is an encoder-decoder", model="bart", pre_trained_model="{made}/bart", export_onnx=True),
    wrong("nothing to resume", "--resume continues training, and there is no --train_dataset. To test or predict, give --ckpt_path .*best.ckpt", {"test.jsonl": TRAIN}, test_dataset="{tmp}/test.jsonl", resume=True, **UNTRAINED),
    wrong("head of another task", "--pre_trained_model: nothing is trained, and .*tuned is a BertForTokenClassification. Give the --pipeline", {"test.jsonl": TRAIN}, test_dataset="{tmp}/test.jsonl", pre_trained_model="{made}/tuned", **UNTRAINED),
]  # fmt: skip

listing = partial(ranking, train_group_size=3, valid_dataset=None, train_dataset="{tmp}/train.jsonl")
LISTING: dict[str, Any] = {"train.jsonl": SCORED}
TAUGHT = [row | {"soft": [0.25, 0.75]} for row in NAMED]
RANKING_LISTS = [
    ranking("loss", "--loss_fn: found 'ranket'.*Did you mean 'ranknet'", loss_fn="ranket"),
    ranking("pairs without lists", "--loss_fn ranknet compares the candidates of a question. Give .*--train_group_size 16", loss_fn="ranknet"),
    ranking("scores without lists", "--scores_column needs --train_group_size", scores_column="score"),
    ranking("hard negatives without lists", "--hard_negatives needs --train_group_size", hard_negatives=2),
    listing("memory of lists", "--batch_size auto: lists differ in their number of rows", LISTING, batch_size="auto"),
    listing("tokens of lists", "--max_tokens_per_batch: the rows of a list are in one batch", LISTING, batch_size=None, max_tokens_per_batch=512),
    listing("lists of one", "--train_group_size 1: a list of one candidate compares nothing", LISTING, train_group_size=1),
    listing("hard negatives without scores", "--hard_negatives: .*Give their column as --scores_column", LISTING, hard_negatives=2),
    listing("hard negatives only", "--hard_negatives 3: lists have 3 candidates .*Give 2 or less", LISTING, hard_negatives=3, scores_column="score"),
    listing("stream of lists", "--iterable: --train_group_size needs all candidates of a question", LISTING, iterable=True),
    listing("lists without query", "--train_group_size needs --index_column", LISTING, index_column=None),
    listing("lists without queries", "train.jsonl:3: 'key' has no query id", {"train.jsonl": changed(PAIRS, 2, key=None)}),
    listing("score of a list", "train.jsonl:3: 'score' has no finite score", {"train.jsonl": changed(SCORED, 2, score=None)}, scores_column="score"),
    listing("lists of too many", "--train_group_size 9: no question of .*train.jsonl has more than 4 candidates, the most in .*train.jsonl:1. Give 4 or less", LISTING, train_group_size=9),
    listing("too many hard negatives", "--hard_negatives 4: no question of .* has more than 3 negatives, the most in .*train.jsonl:1", {"train.jsonl": SCORED + [{**PAIRS[0], "key": 99, "label": 1, "score": 0.1, "answer": f"a{i}."} for i in range(6)]}, train_group_size=6, hard_negatives=4, scores_column="score"),
    listing("nothing to compare", "--label_column: no question of .* has both a positive and a negative, and this --loss_fn compares them", {"train.jsonl": changed(PAIRS, label=0)[:12] + changed(PAIRS, label=1)[12:]}, loss_fn="softmax"),
    listing("weights of classes", "--label_weights: --loss_fn listnet has no loss of each class", LISTING, loss_fn="listnet", label_weights=[1, 2]),
    joint("loss of lists", "--loss_fn: candidates of a joint input .-k. are learned", loss_fn="ranknet"),
    joint("lists of groups", "--train_group_size: candidates of a joint input", train_group_size=3),
    joint("teacher of groups", "--teacher_column: candidates of a joint input", LISTING, teacher_column="score"),
    ranking("first ranker without number", "--top_k_from", LISTING, top_k_from="score"),
    ranking("first ranker that is absent", "--top_k_from: .* no column 'scor'. Did you mean 'score'", {"valid.jsonl": SCORED}, top_k_from=["scor", 2]),
    ranking("first ranker without a score", "valid.jsonl:3: 'score' has no finite score", {"valid.jsonl": changed(SCORED, 2, score=None)}, top_k_from=["score", 2]),
    ranking("more than there are", "--top_k_from score 4: no question of .*valid.jsonl has more than 4 candidates, the most in .*valid.jsonl:1", {"valid.jsonl": SCORED}, top_k_from=["score", 4]),
    ranking("cut-off of nothing", "--metrics_at: found '0'", metrics_at=[0, 5]),
    ranking("weight of no teacher", "--teacher_weight needs --teacher_column", teacher_weight=0.5),
    ranking("temperature of squares", "--teacher_temperature: --teacher_loss squared_error compares scores", LISTING, teacher_column="score", teacher_loss="squared_error", teacher_temperature=2),
    ranking("silent teacher", "train.jsonl:3: 'score' has no finite score", {"train.jsonl": changed(SCORED, 2, score=None)}, teacher_column="score"),
    ranking("absent teacher", "--teacher_column: .* no column 'scor'. Did you mean 'score'", LISTING, teacher_column="scor"),
    wrong("soft labels of some", r"train.jsonl:2: 'soft' is \[0.25\]; expected the probabilities of the 2 classes", {"train.jsonl": changed(TAUGHT, 1, soft=[0.25])}, valid_dataset=None, teacher_column="soft"),
    wrong("soft labels of others", "--teacher_column: 'soft' of .* has the class 'bird'; expected cat, dog", {"train.jsonl": changed(NAMED, soft={"cat": 0.5, "bird": 0.5})}, valid_dataset=None, teacher_column="soft"),
    wrong("one number as soft label", "--teacher_column: 'soft' of .* holds .*; expected the probabilities of the classes", {"train.jsonl": changed(NAMED, soft=0.5)}, valid_dataset=None, teacher_column="soft"),
    wrong("teacher of numbers", "--teacher_column: with --problem_type regression", {"train.jsonl": changed(TAUGHT, label=0.5)}, valid_dataset=None, teacher_column="soft", problem_type="regression"),
]  # fmt: skip

JOINT_RANKING = [
    joint("no candidates", "-k: found '0', expected an integer at least 1", k=0),
    joint("two numbers", "-k: found '5' '3'", k=[5, 3]),
    joint("one output", "--export_outputs one: exports with -k have two outputs", export_outputs="one"),
    joint("in ONNX", "--export_onnx: .*JointReRanking reads positions of candidates", export_onnx="int8"),
    ranking("grouping of nothing", "--grouping: .*belongs to --pipeline answer_selection -k", grouping="random"),
    ranking(
        "head of nothing",
        "--classification_head_type: .*belongs to .*answer_selection -k",
        classification_head_type="IE_k",
    ),
    masking("nothing to rank", "-k: .*belongs to --pipeline answer_selection", k=5),
    summarizing("summaries", "-k: .*belongs to --pipeline answer_selection", k=5),
    joint("grouping", "--grouping: found 'shuffled', expected one of fixed, random", grouping="shuffled"),
    joint("head", "--classification_head_type: found 'IE_2'.*Did you mean 'IE_[1k]'", classification_head_type="IE_2"),
    joint(
        "small group",
        r"train.jsonl:1: question '0' has 4 candidates, which cannot be split into full groups of 3.*--pad_to_k",
        k=3,
    ),
    joint("small question", r"train.jsonl:1: question '0' has 4 candidates", k=5, classification_head_type="IE_1"),
    joint("no query", "-k needs --index_column", index_column=None),
    joint("null query", r"train.jsonl:4: 'key' has no query id", {"train.jsonl": changed(PAIRS, 3, key=None)}),
    joint(
        "one id, two questions",
        r"train.jsonl:4: 'key' is 0 as in .*train.jsonl:1, but 'question' differs",
        {"train.jsonl": changed(PAIRS, 3, question="and who?")},
    ),
    joint(
        "context",
        "--input_columns: found question answer label; -k needs two",
        input_columns=["question", "answer", "label"],
        label_column="key",
    ),
    joint("no candidate column", "--input_columns: found question; -k needs two", input_columns="question"),
    joint("stream", "--iterable: -k groups all candidates of a question", iterable=True),
    joint(
        "selection without scores", "--selection sorts candidates by the scores in --scores_column", selection="best"
    ),
    joint(
        "scores without selection",
        "--selection sorts candidates by the scores in --scores_column",
        scores_column="score",
    ),
    joint(
        "absent scores",
        "--scores_column: .* no column 'scor'. Did you mean 'score'",
        {"train.jsonl": SCORED},
        selection="best",
        scores_column="scor",
    ),
    joint(
        "scores that are texts",
        "--scores_column: 'answer' of .* holds .*; expected a number",
        selection="best",
        scores_column="answer",
    ),
    joint(
        "null score",
        r"train.jsonl:3: 'score' has no finite score",
        {"train.jsonl": changed(SCORED, 2, score=None)},
        selection="best",
        scores_column="score",
    ),
    joint(
        "no room",
        "--max_sequence_length: 10 has no space for a question and 4 candidates .* Use 11",
        max_sequence_length=10,
    ),
    joint(
        "no room for a text",
        "--max_sequence_length: 2 has no space for a text .* Use 3",
        max_sequence_length=2,
        separated=True,
    ),
    joint(
        "longer than the model",
        "5 texts of 40, joined, are longer than the model's 128 positions. Use 25 or less",
        max_sequence_length=40,
        separated=True,
    ),
    joint(
        "types of more candidates",
        "6 types for the question and 4 candidates",
        extended_token_type_ids=[0, 1, 2, 3, 4, 4],
    ),
    joint("type of no segment", "type 9 needs as many embeddings", extended_token_type_ids=[0, 9]),
    structuring(
        "iterable", "--iterable: candidates come from all documents", {"train.jsonl": DOCUMENTS}, iterable=True
    ),
    structuring(
        "no column",
        "--documents_column: .* no column 'txt'. Did you mean 'text'",
        {"train.jsonl": DOCUMENTS},
        documents_column="txt",
    ),
    structuring(
        "numbers", "--documents_column: 'text' of .* holds .*, not text", {"train.jsonl": [{"text": {"a": 1}}]}
    ),
    structuring(
        "no paragraphs",
        "train.jsonl:1: neither this document nor any other has a paragraph with two sentences",
        {"train.jsonl": [{"text": "title"}, {"text": None}]},
    ),
    structuring(
        "no separator",
        "no paragraph can be used. Found 8 paragraphs whose document has fewer than 4 other sentences.*first in .*train.jsonl:1.*--paragraph_separator",
        {"train.jsonl": DOCUMENTS},
        paragraph_separator="###",
    ),
    structuring(
        "one document",
        "train.jsonl:1: .* paragraphs are from this document, and the other 0 are too few for --easy_negatives 2",
        {"train.jsonl": DOCUMENTS[:1]},
    ),
    structuring(
        "k of other numbers",
        "-k 4: --positives 1, --hard_negatives 2 and --easy_negatives 2 make 5 candidates",
        {"train.jsonl": DOCUMENTS},
        k=4,
        hard_negatives=2,
        easy_negatives=2,
    ),
    structuring(
        "no negatives",
        "--hard_negatives, --easy_negatives: both are 0",
        {"train.jsonl": DOCUMENTS},
        hard_negatives=0,
        easy_negatives=0,
    ),
    structuring(
        "span lengths",
        "--span_sentences: found 2 1; expected the least number first",
        {"train.jsonl": DOCUMENTS},
        span_sentences=[2, 1],
    ),
    structuring(
        "long spans",
        "no paragraph can be used. Found .* paragraphs with fewer than 40 sentences",
        {"train.jsonl": DOCUMENTS},
        span_sentences=[20, 20],
    ),
    structuring(
        "several paragraphs of a span",
        "--positives 2: with --structure span_in_paragraph a span is from one",
        {"train.jsonl": DOCUMENTS},
        structure="span_in_paragraph",
        positives=2,
    ),
    structuring(
        "hard negatives of documents",
        "--hard_negatives 2: with --structure same_document",
        {"train.jsonl": DOCUMENTS},
        structure="same_document",
        hard_negatives=2,
    ),
    structuring(
        "context of several",
        "--structure in_context: .* Leave out -k",
        {"train.jsonl": DOCUMENTS},
        structure="in_context",
        k=5,
        max_sequence_length=100,
    ),
    structuring(
        "prediction",
        "--predict_dataset: candidates of structural pre-training are sampled",
        {"train.jsonl": DOCUMENTS},
        predict_dataset="{tmp}/train.jsonl",
    ),
    wrong("claim without evidence", "found text; -k needs the column of the claim and, after it, its evidence", k=2),
    wrong(
        "a label for each evidence",
        "--classification_head_type: .*IE_k.*IE_1, AE_1, RE_1",
        k=2,
        classification_head_type="IE_k",
    ),
    joint(
        "labels that are too few",
        "train.jsonl:3: 'labels' has 3 items for the 4 candidates",
        {"train.jsonl": changed(OF_QUESTIONS, 2, labels=[0, 1, 0])},
        **LISTED,
    ),
    joint(
        "two questions with one id",
        r"train.jsonl:2: 'key' is 7 as in .*train.jsonl:1, but 'question' differs",
        {"train.jsonl": changed(OF_QUESTIONS, key=7)},
        **LISTED,
    ),
    joint(
        "ids that differ in a row",
        r"train.jsonl:3: 'keys' has 2, 9; expected the same id for each candidate of a row",
        {"train.jsonl": changed([row | {"keys": [i] * 4} for i, row in enumerate(OF_QUESTIONS)], 2, keys=[2, 2, 9, 2])},
        index_column="keys",
        **LISTED,
    ),
    joint(
        "fewer ids than candidates",
        r"train.jsonl:3: 'keys' has 3 items for the 4 candidates of 'answers'",
        {"train.jsonl": changed([row | {"keys": [i] * 4} for i, row in enumerate(OF_QUESTIONS)], 2, keys=[2, 2, 2])},
        index_column="keys",
        **LISTED,
    ),
    joint(
        "null for an id in a list",
        r"train.jsonl:1: 'keys' has null; expected the same id",
        {"train.jsonl": [row | {"keys": [None] * 4} for row in OF_QUESTIONS]},
        index_column="keys",
        **LISTED,
    ),
    joint(
        "empty candidate",
        "train.jsonl:3: candidate 1 of 'answers' is null or empty",
        {"train.jsonl": changed(OF_QUESTIONS, 2, answers=["a", " ", "b", "c"])},
        **LISTED,
    ),
    joint(
        "no candidates in a row",
        "train.jsonl:3: the text in 'answers' is null or empty",
        {"train.jsonl": changed(OF_QUESTIONS, 2, answers=[], labels=[])},
        **LISTED,
    ),
    joint(
        "label of a list",
        "train.jsonl:3: 'labels' has the label 2; expected 0 to 1",
        {"train.jsonl": changed(OF_QUESTIONS, 2, labels=[0, 2, 0, 1])},
        **LISTED,
    ),
    joint(
        "list without its mark",
        "'answers' of .* is a list column",
        {"train.jsonl": OF_QUESTIONS},
        **LISTED | {"input_columns": ["question", "answers"], "index_column": "question"},
    ),
    joint(
        "one label for all",
        "--label_column: 'labels' of .* holds int64; expected a list",
        {"train.jsonl": changed(OF_QUESTIONS, labels=1)},
        **LISTED,
    ),
    joint(
        "encoder and decoder",
        "has no AutoModelForJointReRanking for 'bart'",
        model="bart",
        pre_trained_model="{made}/bart",
    ),
]

SWEPT = {"learning_rate": None, "batch_size": None}


def swept(name: str, says: str, text: str, **flags: Any) -> Wrong:
    """A sweep with a file ``sweep.yaml``."""
    return wrong(name, says, {"sweep.yaml": text}, **{**SWEPT, "batch_size": 8, "sweep": "{tmp}/sweep.yaml", **flags})


SEVERAL = [
    wrong("seed twice", "--seeds: the seed 3 is given twice", seeds=[3, 1, 3]),
    wrong(
        "one repository of several runs",
        "--push_to_hub user/model: 2 runs of the series would replace",
        seeds=[1, 2],
        push_to_hub="user/model",
    ),
    wrong("seed and seeds", r"--seed: --seeds has the seeds of the runs. Leave --seed out", seeds=[1, 2], seed=3),
    wrong("seed and seeds in a file", r"c.yaml:2: seed: --seeds has the seeds", {"c.yaml": "seeds: [1, 2]\nseed: 3\n"}),
    wrong("seed that is no number", "--seeds: found '1' 'x', expected one or more values", seeds=[1, "x"]),
    wrong("seeds and an unknown flag", r"--learing_rate: unknown flag. Did you mean", seeds=[1, 2], learing_rate=1),
    wrong("seeds without a name", "Missing: --name", seeds=[1, 2], name=None),
    wrong("name that seeds make too long", "--name: 'x+-seed1' is not a valid folder name", seeds=[1], name="x" * 250),
    wrong("no sweep file", "--sweep: cannot read '.*no.yaml': No such file", sweep="{tmp}/no.yaml"),
    swept("empty sweep", r"sweep.yaml: no flag is varied, expected lists of values such as", ""),
    swept("list of sweeps", r"sweep.yaml:1: found a list, expected one 'flag: value' per line", "- 1\n"),
    swept(
        "one value", r"sweep.yaml:1: learning_rate: found '1e-3', expected a list of values", "learning_rate: 1e-3\n"
    ),
    swept("no values", r"sweep.yaml:1: learning_rate: found an empty list", "learning_rate: []\n"),
    swept(
        "all of a sweep at once",
        r"(?s)sweep.yaml:1: learing_rate: unknown flag. Did you mean 'learning_rate'.*sweep.yaml:3: weight_decay: found '-1', "
        r"expected a number at least 0",
        "learing_rate: [1]\nweight_decay:\n  - -1\n  - 0\n",
    ),
    swept(
        "value twice", r"sweep.yaml:1: learning_rate: the value 0.001 is given twice", "learning_rate: [1e-3, 0.001]\n"
    ),
    swept("flag twice", r"sweep.yaml:2: k: this flag is given twice, first at .*sweep.yaml:1", "k: [1]\nk: [2]\n"),
    swept(
        "varied and given",
        r"--weight_decay: this flag is varied at .*sweep.yaml:1: weight_decay",
        "weight_decay: [0, 1]\n",
        weight_decay=0,
    ),
    swept("varied name", r"sweep.yaml:1: name: this flag cannot be varied: the sweep names its runs", "name: [a, b]\n"),
    swept("varied seed", r"sweep.yaml:1: seed: found a list, .*use --seeds", "seed: [1, 2]\nlearning_rate: [1e-3]\n"),
    swept(
        "method", r"sweep.yaml:1: method: found 'gird', .*Did you mean 'grid'", "method: gird\nlearning_rate: [1e-3]\n"
    ),
    swept(
        "range in a grid",
        r"sweep.yaml:1: learning_rate: a range needs 'method: random'",
        "learning_rate: {min: 1, max: 2}\n",
    ),
    swept("grid with a number of runs", r"sweep.yaml:1: num_runs: this is for", "num_runs: 3\nlearning_rate: [1e-3]\n"),
    swept("random without a number", "needs 'num_runs'", "method: random\nlearning_rate: [1e-3]\n"),
    swept(
        "more runs than settings",
        "num_runs: found 5, but there are only 1",
        "method: random\nnum_runs: 5\nlearning_rate: [1e-3]\n",
    ),
    swept("range without an end", r"this range has no 'max'", "method: random\nnum_runs: 2\nlearning_rate: {min: 1}\n"),
    swept(
        "unknown key of a range",
        r"sweep.yaml:3: maxx: unknown key .*Did you mean 'max'",
        "method: random\nnum_runs: 2\nlearning_rate: {min: 1, maxx: 2}\n",
    ),
    swept(
        "range upside down",
        "'min' is 2 and 'max' is 1",
        "method: random\nnum_runs: 2\nlearning_rate: {min: 2, max: 1}\n",
    ),
    swept(
        "logarithm of 0",
        "found 0; with 'log: true', expected a number above 0",
        "method: random\nnum_runs: 2\nweight_decay: {min: 0, max: 1, log: true}\n",
    ),
]

TABLE = {
    "command line": COMMAND_LINE,
    "several runs": SEVERAL,
    "config file": CONFIG_FILE,
    "model": MODEL,
    "drawn weights": DRAWN,
    "tokenizer": TOKENIZER,
    "data files": DATA_FILES,
    "columns": COLUMNS,
    "labels": LABELS,
    "lengths": LENGTHS,
    "selection": SELECTION,
    "folders": FOLDERS,
    "trainer": TRAINER,
    "optimization": OPTIMIZATION,
    "pre-training": PRETRAINING,
    "generator": GENERATOR,
    "clusters": CLUSTERS,
    "denoising": DENOISING,
    "summarization": SUMMARIZATION,
    "packing": PACKING,
    "reading": READING,
    "tags": TAGS,
    "retrieval": RETRIEVAL,
    "joint re-ranking": JOINT_RANKING,
    "lists and teachers": RANKING_LISTS,
}


def words_of(row: Wrong, tmp: Path, made: Path) -> list[str]:
    """Write the row's files, return its command."""
    for name, content in row.files.items():
        write(tmp / name, content)
    pipeline = row.flags.get("pipeline", "seq_class")
    folder = made / ("answer_selection" if pipeline.endswith("answer_selection") else "seq_class")
    flags: dict[str, Any] = {f"{stage}_dataset": folder / f"{stage}.jsonl" for stage in ("train", "valid")}
    flags |= {"pre_trained_model": made / "bert", "pipeline": "seq_class", "learning_rate": None}
    flags |= {
        name: value.format(tmp=tmp, made=made) if isinstance(value, str) else value for name, value in row.flags.items()
    }
    for name in row.files:
        stage = name.partition(".")[0]
        if stage in ("train", "valid"):
            flags[f"{stage}_dataset"] = tmp / name
        if name == "c.yaml":
            flags["config"] = tmp / name
    if flags["pipeline"] in runs.PIPELINE_FLAGS:
        return runs.command(tmp, **flags)
    words = runs.command(tmp, **{**flags, "pipeline": "seq_class"})
    words[words.index("--pipeline") + 1] = flags["pipeline"]
    return words
