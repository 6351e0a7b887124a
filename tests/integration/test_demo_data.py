"""The demo's data is what it says: one right candidate a question, unseen packages in test, the same every time."""

import importlib.util
import itertools
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


demo_data, demo_report = load("demo_data"), load("demo_report")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    demo_data.save_model(folder / "model", demo_data.write_data(folder, limit=150), vocabulary=500)
    return folder


def rows_of(folder, split, task="answer_selection"):
    return [json.loads(line) for line in (folder / task / f"{split}.jsonl").read_text("utf-8").splitlines()]


def questions_of(rows):
    groups = {}
    for row in rows:
        groups.setdefault(row["key"], []).append(row)
    return groups


@pytest.mark.parametrize(("split", "most"), [("train", 4), ("valid", 8), ("test", 8)])
def test_every_question_has_one_right_candidate_among_distinct_ones(built, split, most):
    groups = questions_of(rows_of(built, split))
    assert len(groups) > 50
    for key, rows in groups.items():
        assert [row["label"] for row in rows].count(1) == 1, key
        assert len({row["answer"] for row in rows}) == len(rows), key
        assert len({row["question"] for row in rows}) == 1, key
        assert 2 <= len(rows) <= most, key


def test_the_right_candidate_has_no_favourite_place(built):
    places = [[row["label"] for row in rows].index(1) for rows in questions_of(rows_of(built, "test")).values()]
    assert max(places.count(place) for place in set(places)) < len(places) / 2


def test_packages_and_sentences_of_test_are_not_in_training(built):
    packages, answers = {}, {}
    for split in ("train", "valid", "test"):
        rows = rows_of(built, split)
        packages[split] = {row["key"].split(":")[0].split(".")[0] for row in rows}
        answers[split] = {row["answer"] for row in rows}
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not packages[first] & packages[second]
        assert not answers[first] & answers[second]


def test_every_sentence_is_in_one_passage_beside_its_name():
    entry = demo_data.Entry("m", "function", "copy tree", ["Copy a tree.", " ".join(["word"] * 12), "At the end."])
    passages = list(demo_data.passages([entry]))
    assert {row["name"] for row in passages} == {"copy tree"}
    assert [row["text"].split()[0] for row in passages] == ["Copy", "At"]
    assert " ".join(row["text"] for row in passages) == " ".join(entry.sentences)


def test_pre_training_sees_nothing_of_test(built):
    names = {split: {row["name"] for row in rows_of(built, split, "masked_lm")} for split in ("train", "test")}
    assert all(names.values())
    train = " ".join(row["text"] for row in rows_of(built, "train", "masked_lm"))
    answers = {row["answer"] for row in rows_of(built, "test") if row["label"]}
    assert not {answer for answer in answers if len(answer) > 40 and answer in train}


def test_hidden_words_complete_a_summary_of_test(built):
    summaries = {(row["key"].split(":")[2], row["answer"]) for row in rows_of(built, "test") if row["label"]}
    rows = rows_of(built, "predict", "masked_lm")
    assert len(rows) > 50
    for row in rows:
        assert row["text"].count("[MASK]") == 1
    whole = {(row["name"], row["text"].replace("[MASK]", row["word"])) for row in rows}
    assert len(whole & summaries) > 0.9 * len(whole)  # modules with fewer than three objects ask nothing


def test_rows_are_the_same_in_every_process(built, tmp_path):
    code = "import sys, pathlib, demo_data; demo_data.write_data(pathlib.Path(sys.argv[1]), limit=150)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=EXAMPLES, stdout=subprocess.DEVNULL)
    for file in (
        "answer_selection/train.jsonl",
        "answer_selection/test.jsonl",
        "seq_class/valid.jsonl",
        "masked_lm/predict.jsonl",
    ):
        assert (tmp_path / file).read_bytes() == (built / file).read_bytes()


def test_model_folder_loads_with_transformers(built):
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(built / "model")
    encoded = tokenizer("copy tree", "Recursively copy a directory tree.")
    ids = encoded["input_ids"]
    assert [ids[0], ids[-1]] == [tokenizer.cls_token_id, tokenizer.sep_token_id]
    assert encoded["token_type_ids"][0] == 0
    assert encoded["token_type_ids"][-1] == 1
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.pad_token_id == 0
    assert AutoConfig.from_pretrained(built / "model").vocab_size == len(tokenizer)


def test_classes_are_kinds_of_objects(built):
    for split in ("train", "valid", "test"):
        rows = rows_of(built, split, "seq_class")
        assert {row["kind"] for row in rows} == {"function", "method", "class"}
        assert all(row["text"].strip() for row in rows)


def test_words_of_signatures_have_kinds_and_tags(built):
    for split in ("train", "valid", "test"):
        rows = rows_of(built, split, "token_class")
        assert len(rows) > 50
        assert all(len(row["words"]) == len(row["kinds"]) == len(row["tags"]) for row in rows)
        assert all(word for row in rows for word in row["words"])
        assert {row["tags"].count("B-function") for row in rows} == {1}
    assert {tag for row in rows_of(built, "train", "token_class") for tag in row["tags"]} == {
        "O", "B-function", "I-function", "B-parameter", "I-parameter",
    }  # fmt: skip


def test_few_training_rows_have_every_label_of_the_other_splits(tmp_path):
    demo_data.write_data(tmp_path, limit=12)
    for task, column in (("seq_class", "kind"), ("token_class", "kinds"), ("token_class", "tags")):
        labels = {}
        for split in ("train", "valid", "test"):
            values = [row[column] for row in rows_of(tmp_path, split, task)]
            labels[split] = set(values if column == "kind" else itertools.chain.from_iterable(values))
        assert labels["valid"] | labels["test"] <= labels["train"]


def test_tags_of_a_signature():
    tagged = list(demo_data.tagged_words("def _f(a: dict[str, int], *moreArgs, key=max(1, x))"))
    assert [word for word, _, tag in tagged if tag == "B-parameter"] == ["a", "more", "key"]
    assert [word for word, _, tag in tagged if tag == "I-parameter"] == ["args"]
    assert [word for word, _, tag in tagged if tag == "B-function"] == ["f"]
    assert {word: kind for word, kind, _ in tagged}["def"] == "keyword"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("HTTPServer.get_requestHandler", "get request handler of http server"),
        ("__len__", "len"),
        ("md5", "md 5"),
        ("_", ""),
    ],
)
def test_names_become_words(name, words):
    assert demo_data.split_words(name) == words


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Copy a file.\n\nMore about it.", "Copy a file."),
        ("Copy\n   a file. Then close it.", "Copy a file."),
        ("See e.g. this one. Next.", "See e.g. this one."),
        (">>> copy()\n\nCopy a file.", "Copy a file."),
        (" ".join(["word"] * 50), " ".join(["word"] * 40)),
    ],
)
def test_first_sentences(text, sentence):
    assert demo_data.sentences(text)[0] == sentence


def candidates(*scores):
    return [{"label": int(i == 0), "scores": score} for i, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((3.0, 1.0, 2.0), 1.0),
        ((1.0, 2.0, 0.0), 0.5),
        ((1.0, 1.0, 1.0), (1 + 1 / 2 + 1 / 3) / 3),
        ((1.0, 2.0, 1.0), (1 / 2 + 1 / 3) / 2),
    ],
)
def test_reciprocal_rank_is_the_mean_over_orders_of_ties(scores, expected):
    assert demo_report.reciprocal_rank(candidates(*scores), lambda row: row["scores"]) == pytest.approx(expected)


def test_rare_words_weigh_more_in_overlap():
    score = demo_report.overlap_scorer(["the file", "the tree", "the name"])
    question = "what does the copy of tree do"
    assert score({"question": question, "answer": "tree"}) > score({"question": question, "answer": "the"}) >= 0


def test_bm25():
    # "copy" is in one of two texts, which have one and three words; k1 is 1.2, b is 0.75
    score = demo_report.bm25_scorer(["copy", "the the file"])
    expected = math.log(1 + 1.5 / 1.5) * 2.2 / (1 + 1.2 * (0.25 + 0.75 / 2))
    assert score({"question": "copy it", "answer": "copy"}) == pytest.approx(expected)
    assert score({"question": "copy it", "answer": "the the file"}) == 0


def test_pieces_of_words():
    assert demo_report.pieces_of("To go") == ["_to", "to_", "_to_", "_go", "go_", "_go_"]


def write_runs(folder, built, good):
    """Write what the report reads of the demo's runs."""
    shutil.copytree(built, folder / "data")
    rows = [
        {"key": f"q{q}", "question": "copy tree", "answer": f"{i}", "label": int(i == q % 3)}
        for q in range(9)
        for i in range(3)
    ]
    for name in demo_report.RUNS:
        path = folder / "predictions" / name / "test.jsonl"
        path.parent.mkdir(parents=True)
        is_good = good and name == demo_report.BEST
        lines = [{**row, "scores": float(is_good and row["label"])} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in lines))


@pytest.mark.parametrize(("good", "status"), [(True, 0), (False, 1)])
def test_report_fails_when_the_model_ranks_no_better_than_words(built, tmp_path, good, status):
    write_runs(tmp_path, built, good)
    command = [sys.executable, str(EXAMPLES / "demo_report.py"), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == status, result.stderr
    for row in ("random order (expected)         0.611", "BM25                            0.611"):
        assert row in result.stdout
    assert f"bi-encoder, from scratch        {1 if good else 0.611:.3f}" in result.stdout
    assert (tmp_path / "demo.png").is_file()
