import bz2
import datetime
import decimal
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transformers_framework.exceptions import DataError
from transformers_framework.sources.columns import DatasetSource
from transformers_framework.sources.fields import NamedColumns
from transformers_framework.sources.loading import load_dataset, num_rows, row_place
from transformers_framework.sources.query_ids import check_queries
from transformers_framework.sources.schemas import features_of

ROWS = [{"q": "what?", "n": 1, "s": 0.5, "l": ["a", "b"]}, {"q": "who?", "n": 2, "s": None, "l": []}]


@pytest.fixture
def load(tmp_path):
    """Load from below a temporary folder, with a temporary cache."""

    def call(source, **arguments):
        return load_dataset(str(source), cache_dir=tmp_path / "the cache", **arguments)

    return call


def jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def text(path, content, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding) if isinstance(content, str) else content)
    return path


def write(path, rows):
    """Write rows in the format of the suffix, compressed when it says so."""
    plain = "".join(json.dumps(row) + "\n" for row in rows)
    if ".parquet" in path.name:
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.name.endswith(".json"):
        path.write_text(json.dumps(rows))
    elif path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(plain.encode()))
    elif path.name.endswith(".bz2"):
        path.write_bytes(bz2.compress(plain.encode()))
    else:
        path.write_text(plain)
    return path


@pytest.mark.parametrize("name", ["d.jsonl", "d.json", "d.jsonl.gz", "d.json.bz2", "d.parquet", "D.JSONL"])
def test_formats_keep_rows_and_types(name, tmp_path, load):
    rows = ROWS if name != "d.json.bz2" else ROWS[:1]
    data = load(write(tmp_path / name, rows))
    assert isinstance(data, datasets.Dataset)
    assert data.to_list() == rows
    assert data.features["n"] == datasets.Value("int64")
    assert data.cache_files  # mapped, not in memory


def test_json_array_pretty_printed(tmp_path, load):
    assert load(text(tmp_path / "a.json", "\ufeff" + json.dumps(ROWS, indent=2))).to_list() == ROWS


def test_saved_folder_and_keep_in_memory(tmp_path, load):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    assert load(tmp_path / "saved").to_list() == ROWS
    assert not load(tmp_path / "saved", keep_in_memory=True).cache_files
    assert not load(write(tmp_path / "a.jsonl", ROWS), keep_in_memory=True).cache_files


def test_folder_and_glob_in_order_of_names(tmp_path, load):
    for part in (2, 10, 1):
        jsonl(tmp_path / "d" / f"part-{part:02}.jsonl", [{"x": part}])
    text(tmp_path / "d" / "README.md", "no data")
    text(tmp_path / "d" / ".hidden.jsonl", "no data")
    assert load(tmp_path / "d")["x"][:] == [1, 2, 10]
    assert load(tmp_path / "d" / "part-0*.jsonl")["x"][:] == [1, 2]


def test_relative_paths(tmp_path, load, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path / "d" / "a.jsonl", ROWS)
    assert len(load("d/a.jsonl")) == len(load("d")) == len(load("./d/*.jsonl")) == 2


def test_types_are_decided_over_all_rows_and_files(tmp_path, load):
    jsonl(tmp_path / "d" / "a.jsonl", [{"x": None, "i": 1, "o": {"a": 1}, "l": []}] * 5)
    jsonl(tmp_path / "d" / "b.jsonl", [{"x": "text", "i": 0.5, "o": {"b": "z"}, "l": ["t"], "new": True}])
    data = load(tmp_path / "d")
    assert data[0] == {"x": None, "i": 1.0, "o": {"a": 1, "b": None}, "l": [], "new": None}
    assert data[5] == {"x": "text", "i": 0.5, "o": {"a": None, "b": "z"}, "l": ["t"], "new": True}


def test_lists_of_nothing_but_null(tmp_path, load):
    rows = [{"x": [None, None], "y": {"z": [None]}, "l": []}, {"x": None, "y": {"z": [None, None]}, "l": []}]
    assert load(jsonl(tmp_path / "a.jsonl", rows)).to_list() == rows
    rows += [{"x": [1], "y": {"z": ["a"]}, "l": [{"a": [None]}]}]
    assert load(jsonl(tmp_path / "b.jsonl", rows)).to_list() == rows


def test_types_are_decided_over_all_chunks_of_a_file(tmp_path, load, monkeypatch):
    monkeypatch.setattr("transformers_framework.sources.json_files.CHUNK", 20)
    data = load(jsonl(tmp_path / "a.jsonl", [{"x": 1}] * 50 + [{"x": 1.5, "y": "2"}]))
    assert len(data) == 51
    assert data[50] == {"x": 1.5, "y": "2"}
    assert data[0] == {"x": 1.0, "y": None}


def test_texts_that_look_like_dates_or_numbers_stay_texts(tmp_path, load):
    rows = [{"s": 0.5, "t": ": 12345678901234567890,", "i": 2**63 - 1}]
    assert load(jsonl(tmp_path / "c.jsonl", rows)).to_list() == rows
    rows = [{"x": "2020-01-01", "l": ["2020-01-01 10:00:00"], "o": {"d": "2021-02-02"}}]
    assert load(jsonl(tmp_path / "a.jsonl", rows)).to_list() == rows
    pq.write_table(pa.table({"x": [datetime.date(2020, 1, 1)]}), tmp_path / "b.parquet")
    assert load(tmp_path / "b.parquet")[0]["x"] == datetime.date(2020, 1, 1)


def test_long_lines_and_blank_lines(tmp_path, load):
    long = "x" * 3_000_000
    path = text(tmp_path / "a.jsonl", f'{{"x": "a"}}\n\n{{"x": "{long}"}}\n   \n{{"x": "c"}}')
    assert load(path)["x"][:] == ["a", long, "c"]


def test_parquet_dictionaries_and_class_labels(tmp_path, load):
    plain = pa.table({"t": pa.array(["a", "b"]).dictionary_encode(), "u": pa.array(["x", "y"], pa.large_string())})
    pq.write_table(plain, tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet").to_list() == [{"t": "a", "u": "x"}, {"t": "b", "u": "y"}]
    features = datasets.Features({"label": datasets.ClassLabel(names=["no", "yes"])})
    datasets.Dataset.from_dict({"label": [1, 0]}, features=features).to_parquet(tmp_path / "b.parquet")
    assert load(tmp_path / "b.parquet").features["label"].names == ["no", "yes"]


# ------------------------------------------------------------------------------------------------------------ CSV, TSV


def test_csv_types(tmp_path, load):
    content = (
        "id,text,label,score,flag,mixed,void,big\n"
        '007,NA,1,0.50,True,1,,12345678901234567890\n8,"null, ""really""\nyes",,1e-3,False,x,,2\n9,nan,3,-2,True,2,,3\n'
    )
    data = load(text(tmp_path / "a.csv", content), columns=NamedColumns(numbers=frozenset(["score"])))
    assert data["id"][:] == ["007", "8", "9"]
    assert data["text"][:] == ["NA", 'null, "really"\nyes', "nan"]
    assert data["label"][:] == [1, None, 3]  # a missing integer does not make floats of the others
    assert data["score"][:] == [0.5, 0.001, -2.0]
    assert data["flag"][:] == [True, False, True]
    assert data["mixed"][:] == ["1", "x", "2"]
    assert data["void"][:] == [None] * 3
    assert data.features["void"] == datasets.Value("string")
    assert data["big"][0] == "12345678901234567890"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1.1", "1.10", "2.5"], ["1.1", "1.10", "2.5"]),
        (["1", "2.5"], ["1", "2.5"]),
        (["1e3", "1000"], ["1e3", "1000"]),
        (["0", "-0"], ["0", "-0"]),
        (["1.", ".5"], ["1.", ".5"]),
        (["0.30000000000000001", "1.5"], ["0.30000000000000001", "1.5"]),
        (["1.5", "-2.0", "1e-05", ""], [1.5, -2.0, 1e-05, None]),
        (["3", "-1", "", "0"], [3, -1, None, 0]),
    ],
)
def test_numbers_of_csv_come_back_as_written(tmp_path, load, values, expected):
    path = text(tmp_path / "a.csv", "x,y\n" + "".join(f"{value},a\n" for value in values))
    assert load(path)["x"][:] == expected
    numbers = load(path, columns=NamedColumns(numbers=frozenset(["x"])))["x"][:]
    if ".5" not in values:  # neither Python nor pandas write such numbers
        assert numbers == [float(value) if value else None for value in values]


def test_csv_type_change_after_many_rows(tmp_path, load):
    content = "x,y\n" + "".join(f"{row},a\n" for row in range(25_000)) + "end,b\n"
    assert load(text(tmp_path / "a.csv", content))["x"][24_999:] == ["24999", "end"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_of_pandas_and_excel(tmp_path, load, newline, mark):
    frame = pd.DataFrame({"q": ['a "b" c', "d,e"], "n": [1, 2]})
    content = mark + frame.to_csv(lineterminator=newline)
    assert load(text(tmp_path / "a.csv", content)).to_list() == frame.to_dict("records")  # without the index
    semicolons = mark + frame.to_csv(sep=";", index=False, lineterminator=newline)
    assert load(text(tmp_path / "b.csv", semicolons)).to_list() == frame.to_dict("records")


def test_csv_fields_longer_than_pythons_limit(tmp_path, load):
    assert len(load(text(tmp_path / "a.csv", "x,y\n" + "z" * 200_000 + ",1\n"))[0]["x"]) == 200_000


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('q\tn\n"a ""b""\t1\nc"\t2\n', ['"a ""b""', 'c"']),  # quotes are signs: read as quotes they swallow a row
        ('q\tn\n"He said" so\t1\nx\t2\n', ['"He said" so', "x"]),
        ('q\tn\n"a ""b"""\t1\nx\t2\n', ['a "b"', "x"]),  # as pandas writes
        ('q\tn\n"a\tb"\t1\n"c\nd"\t2\n', ["a\tb", "c\nd"]),
    ],
)
def test_tsv_quotes(tmp_path, load, content, expected):
    data = load(text(tmp_path / "a.tsv", content))
    assert data["q"][:] == expected
    assert data["n"][:] == [1, 2]


# -------------------------------------------------------------------------------------------------------------- errors


UTF_16 = '{"x": "α"}\n'.encode("utf-16")
UTF_16_MESSAGE = "not UTF-8: it is UTF-16; convert the file: iconv -f utf-16 -t utf-8 OLD > NEW"


def _flipped(content, at):
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


@pytest.mark.parametrize(
    ("name", "text", "problems"),
    [
        (
            "a.jsonl",
            '{"x": 1}\nnull\n\n{"x": \n{"x": 4}\n[5]\n' + '{"x": "\xff"}\n' + "{" * 60 + "\n",
            [
                "2: expected an object",
                "4: not JSON",
                "6: expected an object",
                "7: not UTF-8",
                "8: lists and objects are",
            ],
        ),
        (
            "a.json",
            '[{"x": 1}, 2, {"x": 3}, "four"]',
            ['item 2: expected an object with the columns, {"column": value, …}, found a number', "item 4: expected"],
        ),
        (
            "a.csv",
            "x,y\n1,2\n3\n\n4,5\n" + "6,7,8\n" * 7,
            ["3: 1 fields, but the header has 2: '3'", *["…: 3 fields"] * 7],
        ),
        ("a.conll", "a\tB\n# word\nb\tB\tO\n\n# comment\nc\tO\nd\n", ["3: found 3 columns", "7: found 1 column"]),
    ],
    ids=["json lines", "json list", "csv", "conll"],
)
def test_all_broken_rows_of_a_file_are_counted(name, text, problems, tmp_path, load):
    """The first five are described, in the order of the file."""
    (tmp_path / name).write_bytes(text.encode("latin-1", "xmlcharrefreplace"))
    with pytest.raises(DataError) as error:
        load(tmp_path / name)
    head, *lines = str(error.value).splitlines()
    assert head == f"{tmp_path / name}: {len(problems)} rows are broken:"
    if len(problems) > 5:
        assert lines.pop() == f"and {len(problems) - 5} more."
    assert len(lines) == min(5, len(problems))
    for line, problem in zip(lines, problems, strict=False):
        assert problem.removeprefix("…") in line


@pytest.mark.parametrize(
    ("name", "content", "messages"),
    [
        ("a.jsonl", '{"x": 1}\n\n{"x": \n{"x": 3}\n', ["a.jsonl:3:", "not JSON"]),
        ("a.jsonl", '{"x": 1}\n[1]\n', ["a.jsonl:2:", "a list"]),
        ("a.jsonl", '{"x": 1}\n"t"\n', ["a.jsonl:2:", "a text"]),
        ("a.jsonl", 'null\n{"x": 1}\n', ["a.jsonl:1:", "expected an object", "found null"]),
        ("a.jsonl", '{"x": 1}\n  null\n', ["a.jsonl:2:", "expected an object", "found null"]),
        ("a.jsonl", "7\n", ["a.jsonl:1:", "expected an object", "a number"]),
        ("a.json", '[{"x": 1}, null]', ["a.json:item 2:", "expected an object", "found null"]),
        ("a.jsonl", '{"x": 1}\n{"x": [1, "a"]}\n', ["a.jsonl:2:", "column 'x'", "in one row"]),
        ("a.json", '[{"x": 1}, {"x": "a"}]', ["a.json:item 2:", "column 'x'"]),
        ("a.json", '[{"x": 1},\n {"x": ]', ["a.json:2:", "not JSON"]),
        ("a.jsonl.gz", b"no gzip", ["a.jsonl.gz", "cannot be read"]),
        ("a.jsonl.gz", gzip.compress(b'{"x": "abc"}\n' * 1000, mtime=0)[:-20], ["a.jsonl.gz", "cannot be read"]),
        ("a.jsonl", "", ["no rows"]),
        ("a.jsonl", "\n \n", ["no rows"]),
        ("a.json", "[]", ["no rows"]),
        ("a.csv", "q,n\n", ["no rows"]),
        ("a.csv", "", ["no rows"]),
        ("a.csv", "q,n\na,1\nb\nc,3\n", ["a.csv:3:", "1 fields", "2"]),
        ("a.csv", "q,n\na,1,2\n", ["a.csv:2:", "3 fields", "2"]),
        ("a.csv", 'q,n\n"a\nb",1\n"c,2\nd,3\n', ["a.csv:4:", "quotes"]),
        ("a.csv", 'q,n\na,1\n"b" c,2\n', ["a.csv:3:", "quotes"]),
        ("a.csv", b"q,n\na,1\nb\xe9,2\n", ["a.csv:3:", "UTF-8", "0xe9", "-f ENCODING", "iso-8859-7 (Greek)"]),
        *((f"a.{kind}", UTF_16, [f"a.{kind}:1:", UTF_16_MESSAGE]) for kind in ("csv", "jsonl", "json", "conll", "txt")),
        ("a.jsonl.gz", gzip.compress(UTF_16, mtime=0), ["a.jsonl.gz:1:", UTF_16_MESSAGE]),
        ("a.jsonl", UTF_16[2:], ["a.jsonl:1:", "not JSON"]),
        ("a.csv", "q,q\na,1\n", ["a.csv:1:", "two columns", "'q'"]),
        ("a.csv", "q,\na,1\n", ["a.csv:1:", "column 2", "no name"]),
        ("a.csv", "what?,1\nwho?,0\n", ["a.csv:1:", "number 1", "header"]),
        ("a.tsv", "q\tn\na\t1\nb\n", ["a.tsv:3:", "1 fields"]),
        (
            "a.jsonl.gz",
            _flipped(gzip.compress(b'{"x": "abc"}\n' * 1000, mtime=0), 40),
            ["a.jsonl.gz", "cannot be read"],
        ),
        ("a.csv.gz", _flipped(gzip.compress(b"x,y\nabc,d\n" * 1000, mtime=0), 14), ["a.csv.gz", "cannot be read"]),
        ("a.parquet", b"PAR1 nothing", ["a.parquet", "Parquet"]),
        ("a.doc", "hello", ["a.doc", ".jsonl"]),
    ],
)
def test_broken_files(tmp_path, load, name, content, messages):
    path = text(tmp_path / name, content)
    with pytest.raises(DataError) as error:
        load(path, stage="valid")
    for message in messages:
        assert message in str(error.value)
    assert not list((tmp_path / "the cache").glob("files/*.part"))


@pytest.mark.parametrize("depth", [60, 1_000, 100_000])
@pytest.mark.parametrize("mark", ["[]", '{"a":}'])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_json_that_is_too_deep(tmp_path, load, name, mark, depth):
    deep = mark[:-1] * depth + "1" + mark[-1] * depth
    content = f'{{"x": 1}}\n{{"y": "[[", "x": {deep}}}\n' if name == "a.jsonl" else f'[{{"x": {deep}}}]'
    with pytest.raises(DataError, match=r"a\.jsonl?:?(2|item 1)?: lists and objects are more than 50 levels deep"):
        load(text(tmp_path / name, content))


def test_brackets_in_texts_are_not_deep(tmp_path, load):
    rows = [{"x": "[{" * 1000 + '"\\', "y": [[["a"]]]}]
    assert load(jsonl(tmp_path / "a.jsonl", rows)).to_list() == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"x": 1}\n{"x": ' + "9" * 5000 + "}\n",
            r"a\.jsonl:2: the number 9{60}… does not fit into a signed 64-bit integer",
        ),
        ("9" * 5000 + "\n", r"a\.jsonl:1: expected an object .*found a number"),
    ],
    ids=["value", "line"],
)
def test_integers_of_thousands_of_digits(tmp_path, load, content, message):
    with pytest.raises(DataError, match=message):
        load(text(tmp_path / "a.jsonl", content))


# ------------------------------------------------------------------------------------------- columns that nobody reads


def parquet(path, rows, schema=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    return path


ODD_TYPES = {
    "map": (pa.map_(pa.string(), pa.int64()), [("k", 1)], [{"key": "k", "value": 1}]),
    "fixed": (pa.list_(pa.string(), 2), ["a", "b"], ["a", "b"]),
    "inside": (pa.struct([("l", pa.list_(pa.large_string(), 1))]), {"l": ["a"]}, {"l": ["a"]}),
    "large": (pa.large_list(pa.string_view()), ["a"], ["a"]),
    "categories": (pa.list_(pa.dictionary(pa.int32(), pa.string())), ["a"], ["a"]),
    "unsigned": (pa.uint64(), 2**64 - 1, 2**64 - 1),
    "bytes": (pa.binary_view(), b"a", b"a"),
}


@pytest.mark.parametrize("name", ODD_TYPES)
def test_types_of_other_writers_become_plain(tmp_path, load, name):
    kind, value, expected = ODD_TYPES[name]
    schema = pa.schema([("x", kind), ("y", pa.string())])
    data = load(parquet(tmp_path / "a.parquet", [{"x": value, "y": "a"}, {"x": None, "y": "b"}], schema))
    assert data[:] == {"x": [expected, None], "y": ["a", "b"]}


@pytest.mark.parametrize("iterable", [False, True])
def test_types_of_saved_data_become_plain(tmp_path, load, iterable):
    label = datasets.List(datasets.ClassLabel(names=["no", "yes"]), length=2)
    features = datasets.Features({"l": label, "t": datasets.Value("large_string"), "m": datasets.LargeList(label)})
    rows = {"l": [[0, 1], None], "t": ["a", None], "m": [[[1, 1]], []]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    data = load(tmp_path / "saved", iterable=iterable)
    names = datasets.List(datasets.ClassLabel(names=["no", "yes"]))
    assert data.features == {"l": names, "t": datasets.Value("string"), "m": datasets.List(names)}
    assert list(data) == [{"l": [0, 1], "t": "a", "m": [[1, 1]]}, {"l": None, "t": None, "m": []}]
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "data-00000-of-00001.arrow",
        "dataset_info.json",
        "state.json",
    ]


def read(*names):
    return NamedColumns(read=frozenset(names))


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("a.jsonl", [{"t": "a", "x": 1}, {"t": "b", "x": "2"}], r"a\.jsonl:2: column 'x' holds text here and numbers"),
        ("a.jsonl", [{"t": "a", "x": {"y": 1}}, {"t": "b", "x": {"y": "z"}}], r"a\.jsonl:2: column 'x\.y' holds text"),
        (
            "a.jsonl",
            [{"t": "a", "x": [1, "z"]}, {"t": "b", "x": 1}],
            r"a\.jsonl:1: column 'x' holds string and number in",
        ),
        (
            "a.jsonl",
            [{"t": "a", "x": 2**70}, {"t": "b", "x": 1}],
            r"a\.jsonl:1: the number 1180591620717411303424 does not",
        ),
        ("a.json", [{"t": "a", "x": True}, {"t": "b", "x": []}], r"a\.json:item 2: column 'x' holds a list of"),
    ],
)
def test_a_column_that_goes_into_no_type_is_missed_where_it_is_read(tmp_path, load, name, rows, message):
    path = write(tmp_path / name, rows)
    for _ in range(2):  # converted, and from the cache
        assert load(path, columns=read("t")).to_list() == [{"t": "a"}, {"t": "b"}]
        with pytest.raises(DataError, match=message):
            load(path, columns=read("t", "x"))
        with pytest.raises(DataError, match=message):
            load(path)


def test_types_of_several_files_that_do_not_go_together(tmp_path, load, monkeypatch):
    monkeypatch.setattr("transformers_framework.sources.json_files.CHUNK", 20)
    rows = [{"t": str(row), "x": row if row < 40 else "a", "y": [row] if row < 60 else row} for row in range(80)]
    assert load(jsonl(tmp_path / "a.jsonl", rows), columns=read("t")).to_list() == [
        {"t": str(row)} for row in range(80)
    ]
    for name, x in {"a": 1, "b": "z"}.items():
        parquet(tmp_path / "p" / f"{name}.parquet", [{"t": name, "x": x}])
    assert load(tmp_path / "p", columns=read("t"))["t"][:] == ["a", "b"]
    with pytest.raises(DataError, match=r"b\.parquet: column 'x' holds text here and numbers in an earlier row"):
        load(tmp_path / "p", columns=read("x"))
    text(tmp_path / "c" / "a.csv", "t,x\na,1\n")
    text(tmp_path / "c" / "b.csv", "t,z\nb,2\n")
    assert load(tmp_path / "c", columns=read("t"))["t"][:] == ["a", "b"]
    for column in "xz":
        with pytest.raises(DataError, match=r"b\.csv:1: the columns are t, z, but .*a\.csv has t, x"):
            load(tmp_path / "c", columns=read(column))


def test_a_type_that_nothing_can_read():
    schema = pa.schema([("t", pa.large_string()), ("x", pa.list_(pa.month_day_nano_interval()))])
    assert features_of(schema) == ({"t": datasets.Value("string")}, {"x": "list<item: month_day_nano_interval>"})


# ----------------------------------------------------------------------------------------------------- names of classes


def labelled(path, feature, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    features = datasets.Features({"label": feature})
    datasets.Dataset.from_dict({"label": values}, features=features).to_parquet(path)


def test_classes_of_several_files_are_matched_by_name(tmp_path, load):
    one, two = datasets.ClassLabel(names=["neg", "pos"]), datasets.ClassLabel(names=["pos", "neg", "mixed"])
    labelled(tmp_path / "d" / "a.parquet", one, [0, 1, None, -1])
    labelled(tmp_path / "d" / "b.parquet", two, [0, 1, 2, None])
    labelled(tmp_path / "d" / "c.parquet", datasets.Value("null"), [None])
    data = load(tmp_path / "d")
    assert data.features["label"].names == ["neg", "pos", "mixed"]
    assert data["label"][:] == [0, 1, None, -1, 1, 0, 2, None, None]


def test_classes_inside_lists_are_matched_by_name(tmp_path, load):
    one, two = datasets.ClassLabel(names=["O", "B"]), datasets.ClassLabel(names=["B", "O"])
    labelled(tmp_path / "d" / "a.parquet", datasets.List(one), [[0, 1]])
    labelled(tmp_path / "d" / "b.parquet", datasets.List(two, length=2), [[0, 1], None, [1, 1]])
    labelled(tmp_path / "e" / "a.parquet", {"tags": datasets.List(one)}, [{"tags": [0, 1]}])
    labelled(tmp_path / "e" / "b.parquet", {"tags": datasets.List(two)}, [{"tags": [0, None]}, None, {"tags": []}])
    data = load(tmp_path / "d")
    assert data["label"][:] == [[0, 1], [1, 0], None, [0, 0]]
    assert data.features["label"].feature.names == ["O", "B"]
    assert load(tmp_path / "e")["label"][:] == [{"tags": [0, 1]}, {"tags": [1, None]}, None, {"tags": []}]


def test_numbers_with_names_and_without_do_not_go_together(tmp_path, load):
    labelled(tmp_path / "d" / "a.parquet", datasets.ClassLabel(names=["neg", "pos"]), [0])
    labelled(tmp_path / "d" / "b.parquet", datasets.Value("int64"), [0])
    with pytest.raises(DataError, match=r"b\.parquet: column 'label' has the class names neg, pos in one file"):
        load(tmp_path / "d")


# --------------------------------------------------------------------------------- of the first versions of datasets


def old_saved(folder, rows, indices=None, **slices):
    """As ``save_to_disk`` of datasets 1.2: a table, the rows that were selected of it, or the slice of a split."""
    datasets.Dataset.from_list(rows).save_to_disk(folder)
    state = json.loads((folder / "state.json").read_text())
    state["_data_files"][0] |= slices
    if indices is not None:
        table = pa.table({"indices": pa.array(indices, pa.uint64())})
        with pa.OSFile(str(folder / "indices.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        state["_indices_data_files"] = [{"filename": "indices.arrow"}]
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def test_selections_of_the_first_versions_of_datasets(tmp_path, load):
    rows = [{"x": row} for row in range(10)]
    assert load(old_saved(tmp_path / "a", rows, [7, 2, 9]))["x"][:] == [7, 2, 9]
    assert load(old_saved(tmp_path / "b", rows, skip=2, take=3))["x"][:] == [2, 3, 4]
    assert load(old_saved(tmp_path / "c", rows, [2, 0], skip=2, take=3))["x"][:] == [4, 2]
    assert load(old_saved(tmp_path / "d", rows, list(range(10))), shard=4)["x"][:] == [0, 4, 8]
    for keep in (False, True):
        assert load(tmp_path / "a", iterable=True, keep_in_memory=keep).take(2)
    with pytest.raises(DataError, match="no rows"):
        load(old_saved(tmp_path / "e", rows, []))
    with pytest.raises(DataError, match="broken"):
        load(old_saved(tmp_path / "f", rows, [3, 10]))


def test_names_of_parquet_columns_that_are_not_utf8(tmp_path, load):
    pq.write_table(pa.table({"abcd": [1]}), tmp_path / "a.parquet", store_schema=False)
    text(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes().replace(b"abcd", b"abc\xf4"))
    with pytest.raises(DataError, match=r"a\.parquet: not a Parquet file, or a broken one"):
        load(tmp_path / "a.parquet")


def test_a_broken_line_far_down_is_found(tmp_path, load, monkeypatch):
    monkeypatch.setattr("transformers_framework.sources.json_files.CHUNK", 1000)
    path = jsonl(tmp_path / "a.jsonl", [{"x": row} for row in range(5000)])
    path.write_text(path.read_text().replace('{"x": 4000}', '{"x": "4000"}'))
    with pytest.raises(DataError, match=r"a\.jsonl:4001: column 'x' holds text here and numbers in an earlier row"):
        load(path)


def test_columns_of_several_files(tmp_path, load):
    text(tmp_path / "d" / "a.csv", "q,n\nx,1\n")
    text(tmp_path / "d" / "b.csv", "n,q\n2,y\n")
    assert load(tmp_path / "d").to_list() == [{"q": "x", "n": 1}, {"q": "y", "n": 2}]
    text(tmp_path / "d" / "c.csv", "q,label\nx,1\n")
    with pytest.raises(DataError, match=r"c\.csv:1: the columns are q, label, but .*a\.csv has q, n"):
        load(tmp_path / "d")


@pytest.mark.parametrize(
    ("source", "messages"),
    [
        ("d/trian.jsonl", ["d/trian.jsonl", "does not exist", "Did you mean 'train.jsonl'?"]),
        ("d/nothing.csv", ["does not exist", "train.jsonl"]),
        ("./d/other", ["does not exist"]),
        ("e/f/a.jsonl", ["does not exist"]),
        ("d/tran", ["does not exist"]),
        ("d/x*.jsonl", ["no file matches"]),
        ("d", ["several splits", "dev.jsonl, train.jsonl"]),
        ("mixed", ["several formats", ".csv, .jsonl"]),
        ("deep", ["no data files", "It has subfolders: inside"]),
        ("squad", ["split last", "squad/train"]),
        ("a b/c/train", ["split last"]),
        ("user/name/train", ["no such file or folder", "HF_HUB_OFFLINE", "'user/name'"]),
        ("squad/train", ["HF_HUB_OFFLINE", "'squad'"]),
    ],
)
def test_absent_sources(tmp_path, load, monkeypatch, source, messages):
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path / "d" / "train.jsonl", ROWS)
    jsonl(tmp_path / "d" / "dev.jsonl", ROWS)
    jsonl(tmp_path / "mixed" / "a.jsonl", ROWS)
    text(tmp_path / "mixed" / "b.csv", "q\n1\n")
    jsonl(tmp_path / "deep" / "inside" / "a.jsonl", ROWS)
    with pytest.raises(DataError) as error:
        load(source, stage="test")
    assert f"--test_dataset {source}" in str(error.value)
    for message in messages:
        assert message in str(error.value)


def test_what_is_no_file_is_refused(tmp_path, load):
    good = jsonl(tmp_path / "d" / "a.jsonl", ROWS)
    (tmp_path / "d" / "README").symlink_to("nowhere")  # no data
    assert len(load(tmp_path / "d")) == 2
    link, pipe = tmp_path / "d" / "b.jsonl", tmp_path / "d" / "c.jsonl"
    for source in (tmp_path / "d", tmp_path / "d" / "*.jsonl", link):
        link.symlink_to(tmp_path / "gone.jsonl")
        with pytest.raises(DataError, match=r"b\.jsonl' is a link to .*gone\.jsonl, which does not exist"):
            load(source)
        link.unlink()
    for source in (tmp_path / "d", tmp_path / "d" / "*.jsonl", pipe):
        os.mkfifo(pipe)
        with pytest.raises(DataError, match=r"c\.jsonl' is a pipe, a socket or a device"):
            load(source)
        pipe.unlink()
    link.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"b\.jsonl' is a pipe, a socket or a device"):
        load(link)
    link.unlink()
    link.symlink_to(good)
    assert len(load(tmp_path / "d")) == 4


def test_dataset_dict(tmp_path, load):
    data = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": data, "dev": data}).save_to_disk(tmp_path / "both")
    with pytest.raises(DataError, match=r"DatasetDict with the splits dev, train; give one .*both/train"):
        load(tmp_path / "both")
    assert load(tmp_path / "both" / "train").to_list() == ROWS
    with pytest.raises(DataError, match=r"Did you mean 'train'"):
        load(tmp_path / "both" / "trai")


def test_broken_saved_folder(tmp_path, load):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    for file in (tmp_path / "saved").glob("*.arrow"):
        file.write_bytes(b"nothing")
    with pytest.raises(DataError, match="broken"):
        load(tmp_path / "saved")


def test_empty_saved_folder(tmp_path, load):
    datasets.Dataset.from_list(ROWS).select([]).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="no rows"):
        load(tmp_path / "saved")


@pytest.mark.parametrize(
    ("failure", "messages"),
    [
        (datasets.exceptions.DatasetNotFoundError("no"), ["no data set 'user/name'"]),
        (
            ValueError("Unknown split \"trian\". Should be one of ['train', 'test']."),
            ["no split 'trian'; it has train, test.", "Did you mean 'train'?"],
        ),
        (
            ValueError("Config name is missing.\nPlease pick one among the available configs: ['en', 'de']"),
            ["several configurations", "--train_config: en, de"],
        ),
        (
            ValueError("BuilderConfig 'eng' not found. Available: ['en', 'de']"),
            ["--train_config: en, de", "Did you mean"],
        ),
        (OSError("strange\nlong story"), ["OSError: strange"]),
    ],
)
def test_trouble_with_the_hub(load, monkeypatch, failure, messages):
    def refuse(*_, **__):
        raise failure

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError) as error:
        load("user/name/trian", config="eng" if "BuilderConfig" in str(failure) else None)
    for message in messages:
        assert message in str(error.value)


def test_hub_call(load, monkeypatch):
    calls = []

    def answer(*given, **named):
        calls.append((given, named["split"], named["streaming"]))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", answer)
    load("lucadiliello/asnq/dev", config="c")
    load("squad/train[:10%]", iterable=True)
    assert calls == [(("lucadiliello/asnq", "c"), "dev", False), (("squad", None), "train[:10%]", True)]


# ------------------------------------------------------------------------------------------------- shards, rows, cache


@pytest.mark.parametrize("shard", [1, 3, 100])
@pytest.mark.parametrize("iterable", [False, True])
def test_shards_keep_every_nth_row(tmp_path, load, shard, iterable):
    data = load(jsonl(tmp_path / "a.jsonl", [{"x": row} for row in range(100)]), shard=shard, iterable=iterable)
    assert isinstance(data, datasets.IterableDataset if iterable else datasets.Dataset)
    assert [row["x"] for row in data] == list(range(0, 100, shard))
    assert num_rows(data) == len(range(0, 100, shard))


def test_shards_keep_questions_whole(tmp_path, load):
    rows = [{"key": f"q{row // 3 % 5}", "x": row} for row in range(30)]  # each question in two places
    path = jsonl(tmp_path / "a.jsonl", rows)
    which = {"shard": 2, "questions": "key"}
    data = load(path, **which)
    kept = [row["x"] for row in rows if row["key"] in ("q0", "q2", "q4")]
    assert data["x"][:] == kept
    assert [row["x"] for row in load(path, iterable=True, **which)] == kept
    place = row_place(str(path), 3, cache_dir=tmp_path / "the cache", **which)
    assert place == f"{path}:{kept[3] + 1}"
    assert load(path, shard=3, questions="key")._fingerprint != load(path, shard=3)._fingerprint
    for column in ("absent", "list"):
        lists = jsonl(tmp_path / "b.jsonl", [{"list": [row], "x": row} for row in range(6)])
        assert load(lists, shard=2, questions=column)["x"][:] == [0, 2, 4]


def test_shard_of_a_stream(load, monkeypatch):
    stream = datasets.Dataset.from_dict({"x": list(range(10))}).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: stream)
    assert [row["x"] for row in load("user/name/train", iterable=True, shard=4)] == [0, 4, 8]
    assert num_rows(load("user/name/train", iterable=True)) is None
    stream = datasets.Dataset.from_dict({"x": list(range(10))}).to_iterable_dataset()
    stream.info.splits = datasets.splits.SplitDict({"train": datasets.splits.SplitInfo("train", num_examples=10)})
    assert num_rows(load("user/name/train", iterable=True, shard=4)) == 3


def test_row_places(tmp_path):
    cache = tmp_path / "cache"
    lines = text(tmp_path / "d" / "a.jsonl", '{"x": 1}\n\n{"x": 2}\n')
    text(tmp_path / "d" / "b.jsonl", '{"x": 3}\n')
    table = text(tmp_path / "t.csv", 'q,n\n"a\nb",1\n\nc,2\nd,3\n')
    array = text(tmp_path / "t.json", '[{"x": 1}, {"x": 2}]')
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    assert row_place(str(lines), 1, cache_dir=cache) == f"{lines}:3"
    assert row_place(str(tmp_path / "d"), 2, cache_dir=cache) == f"{tmp_path / 'd' / 'b.jsonl'}:1"
    assert [row_place(str(table), row, cache_dir=cache) for row in range(3)] == [
        f"{table}:{line}" for line in (2, 5, 6)
    ]
    assert row_place(str(table), 1, cache_dir=cache, shard=2) == f"{table}:6"
    assert row_place(str(array), 1, cache_dir=cache) == f"{array}:item 2"
    assert row_place(str(tmp_path / "saved"), 1, cache_dir=cache, shard=5) == f"{tmp_path / 'saved'}:row 5"
    assert row_place("user/name/train", 7, cache_dir=cache) == "user/name/train:row 7"


def test_a_changed_file_is_noticed_and_an_unchanged_one_is_converted_once(tmp_path, load, monkeypatch):
    path = jsonl(tmp_path / "a.jsonl", [{"x": 1}])
    first = load(path)
    with monkeypatch.context() as patch:
        patch.setattr("transformers_framework.sources.loading.schema_of", lambda _: pytest.fail("read again"))
        again = load(path)
    assert first._fingerprint == again._fingerprint
    jsonl(path, [{"x": 2}])  # as long as before
    assert load(path)["x"][:] == [2]
    assert load(path)._fingerprint != first._fingerprint
    assert first["x"][:] == [1]


def test_a_damaged_conversion_is_made_again(tmp_path, load, caplog):
    path = jsonl(tmp_path / "a.jsonl", ROWS)
    [file] = load(path).cache_files
    with Path(file["filename"]).open("r+b") as arrow:
        arrow.truncate(100)
    assert load(path).to_list() == ROWS
    assert "building it again" in caplog.text


def test_the_fingerprint_of_a_saved_folder_follows_its_files(tmp_path, load):
    code = (
        "import sys; from pathlib import Path; from transformers_framework.sources.loading import load_dataset; "
        "print(load_dataset(sys.argv[1], cache_dir=Path('none'))._fingerprint)"
    )
    data = datasets.Dataset.from_list(ROWS)
    data.save_to_disk(tmp_path / "saved")
    first = load(tmp_path / "saved")._fingerprint
    command = [sys.executable, "-c", code, str(tmp_path / "saved")]
    there = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    assert there == first  # the same in another process
    # a step that is called the same but does something else
    datasets.Dataset(pa.table({"q": ["other"]}), fingerprint=data._fingerprint).save_to_disk(tmp_path / "saved")
    assert load(tmp_path / "saved")._fingerprint != first


@pytest.mark.parametrize("kind", [pa.binary(), pa.binary(2), pa.large_binary()])
def test_bytes_are_no_ids(tmp_path, load, kind):
    data = load(parquet(tmp_path / "a.parquet", [{"id": b"q0"}], pa.schema([("id", kind)])))
    with pytest.raises(
        DataError, match=r"--index_column: 'id' of a holds .*binary.*a number or a text, the query's id"
    ):
        check_queries(data, "id", DatasetSource("test", "a", str))


# ---------------------------------------------------------------------------------------------- numbers, and no numbers


def parquet_folder(path):
    (path / "d").mkdir(exist_ok=True)
    return path / "d"


def of_broken_text():
    values = pa.py_buffer(b"a\xff")
    return pa.Array.from_buffers(pa.string(), 2, [None, pa.array([0, 1, 2], pa.int32()).buffers()[1], values])


BROKEN = {
    "text": [{"x": of_broken_text(), "c": ["a", "b"]}],
    "number": [{"x": pa.array([1], pa.int64())}, {"x": pa.array([1 << 63], pa.uint64())}],
    "float": [{"x": pa.array([(1 << 53) + 1])}, {"x": pa.array([0.5])}],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_value_is_missed_only_where_its_column_is_read(tmp_path, load, name):
    for number, columns in enumerate(BROKEN[name]):
        rows = range(len(columns["x"]))
        label = datasets.Dataset.from_dict({"y": [*rows]}, features=datasets.Features({"y": datasets.ClassLabel(2)}))
        table = pa.table(columns | {"t": ["a" for _ in rows], "y": label.data["y"]})
        table = table.replace_schema_metadata(label.features.arrow_schema.metadata)
        pq.write_table(table, parquet_folder(tmp_path) / f"{number}.parquet")
    for _ in range(2):  # converted, and found again
        data = load(tmp_path / "d", columns=read("t", "y"))
        assert "x" not in data.column_names
        assert data["t"][0] == "a"
        assert data.features["y"].names == ["0", "1"]
        with pytest.raises(DataError, match=r"d/\d\.parquet: column 'x' "):
            load(tmp_path / "d", columns=read("t", "x"))


WIDTHS = [
    (pa.int32(), pa.uint32(), pa.int64()),
    (pa.uint8(), pa.int8(), pa.int16()),
    (pa.int64(), pa.uint32(), pa.int64()),
    (pa.uint64(), pa.int16(), pa.int64()),
    (pa.uint16(), pa.uint32(), pa.uint32()),
    (pa.float32(), pa.float64(), pa.float64()),
]


@pytest.mark.parametrize("kinds", WIDTHS)
def test_integers_of_several_widths(tmp_path, load, kinds):
    values = []
    for number, kind in enumerate(kinds[:2]):
        most = 0.5 if pa.types.is_floating(kind) else min(2 ** (kind.bit_width - 1), 2**62)
        values.append(most if pa.types.is_floating(kind) or pa.types.is_unsigned_integer(kind) else -most)
        pq.write_table(pa.table({"x": pa.array([values[-1]], kind)}), parquet_folder(tmp_path) / f"{number}.parquet")
    data = load(tmp_path / "d")
    assert data["x"][:] == values
    assert data.features["x"].pa_type == kinds[2]


@pytest.mark.parametrize("saved", [False, True])
def test_decimals_are_numbers_where_numbers_are_read(tmp_path, load, saved):
    one, half = decimal.Decimal("1"), decimal.Decimal("0.50")
    table = pa.table({
        "whole": pa.array([one, None], pa.decimal128(18, 0)),
        "wide": pa.array([one, None], pa.decimal128(38, 0)),
        "part": pa.array([half, None], pa.decimal128(5, 2)),
        "list": pa.array([[half], None], pa.list_(pa.decimal128(5, 2))),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    if saved:
        datasets.Dataset(table).save_to_disk(tmp_path / "a.parquet.saved")
    source = tmp_path / ("a.parquet.saved" if saved else "a.parquet")
    assert load(source)[0] == {"whole": 1, "wide": one, "part": half, "list": [half]}
    numbers = load(source, columns=NamedColumns(numbers=frozenset(table.column_names)))
    assert numbers[:] == {"whole": [1, None], "wide": [1, None], "part": [0.5, None], "list": [[0.5], None]}
    assert numbers.features["wide"].dtype == "int64"


@pytest.mark.parametrize("chunk", [1, 16 << 20])
@pytest.mark.parametrize("values", [["1", "2.50", "null"], ["2.5", "9007199254740993", "-1e3"]])
@pytest.mark.parametrize("name", ["id", "é"])
def test_integers_beside_fractions_stay_as_they_are_written(tmp_path, load, monkeypatch, chunk, values, name):
    monkeypatch.setattr("transformers_framework.sources.json_files.CHUNK", chunk)
    rows = [f'{{"n": {row}, "{name}": {value}, "f": 0.5, "t": "1.0"}}\n\n' for row, value in enumerate(values)]
    path = text(tmp_path / "a.jsonl", "".join(rows))
    data = load(path, columns=read("t", name))
    assert data.column_names == ["n", name, "f", "t"]
    assert data[name][:] == [None if value == "null" else value for value in values]
    assert (data["n"][:], data["f"][:], data["t"][:]) == ([0, 1, 2], [0.5] * 3, ["1.0"] * 3)
    numbers = load(path, columns=NamedColumns(frozenset([name]), frozenset([name])))
    if "9007199254740993" not in values:
        assert numbers[name][:] == [None if value == "null" else float(value) for value in values]
