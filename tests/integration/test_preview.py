"""``--preview N`` shows rows as the model will see them: its marks are the labels that training will have."""

from __future__ import annotations

import itertools
import logging
import re
from typing import Any

import numpy as np
import pytest

from tests import runs, tiny
from tests.cases import CASES
from transformers_framework.cli.main import main
from transformers_framework.data.sampler import BatchRequest
from transformers_framework.objectives.capabilities import Corrupts
from transformers_framework.registry import PIPELINES, resolve

PAGE, N = runs.ROOT / "docs" / "pretraining.md", 5
MASKED, REPLACED, UNCHANGED, PUT_IN, WRITTEN = "1;33", "1;31", "1;36", "1;33", "32"


def writes(objective: Any) -> bool:
    return objective.head == "AutoModelForSeq2SeqLM"


CORRUPTING = [
    name
    for name, spec in PIPELINES.items()
    if any(issubclass(resolve(o), Corrupts) and not writes(resolve(o)) for o in spec.objectives)
]
CODES = re.compile(r"\033\[[\d;]*m")
HEAD = re.compile(r"^row (\d+) \((.*)\): (\d+) tokens(.*)$", re.MULTILINE)
COUNTED = ("masked", "replaced", "unchanged")


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch) -> None:
    import pytorch_lightning as pl

    for name in ("fit", "validate", "test", "predict"):
        monkeypatch.setattr(pl.Trainer, name, lambda self, *args, **kwargs: pytest.fail("it started"))
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    logging.getLogger("transformers_framework").handlers.clear()  # it writes where standard error was once


def shown(words: list[str], capsys, monkeypatch, *, num_rows: Any = N, colours: bool = False) -> str:
    """Return what a preview of a run prints."""
    with monkeypatch.context() as patch:
        if colours:
            patch.setenv("FORCE_COLOR", "1")
        capsys.readouterr()
        status = main([*words, "--preview", str(num_rows)])
    said = capsys.readouterr()
    assert status == 0, said.err
    return said.out


def parts(printed: str) -> list[tuple[re.Match[str], list[str]]]:
    """Return the head of each row and the lines below it."""
    blocks = printed.split("\n\n")[1:]
    found = [(HEAD.match(block), [line[2:] for line in block.splitlines()[1:]]) for block in blocks]
    assert all(head for head, _ in found), printed
    return found  # type: ignore[return-value]


def counts(head: re.Match[str]) -> dict[str, int]:
    told = {name: re.search(rf"(\d+) {name}(?=,|$)", head[4]) for name in COUNTED}
    return {name: int(match[1]) if match else 0 for name, match in told.items()}


def squeezed(text: str) -> str:
    """Return a text without its spaces; what cannot be printed as a reader finds it."""
    signs = (sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    return "".join(signs).replace(" ", "").replace("␣", "")


def num_runs(flags: np.ndarray) -> int:
    return sum(1 for flag, _ in itertools.groupby(flags.tolist()) if flag)


class Batch:
    """What training will see of the first rows, by the collator itself."""

    def __init__(self, words: list[str], stage: Any = "train", num_rows: int = N) -> None:
        self.experiment = runs.build(words)
        data = self.experiment.data
        dataset = data.datasets[stage].select_columns(list(data.columns(stage)))
        request, rows = BatchRequest(0, tuple(range(num_rows))), dataset[:num_rows]
        self.clean = self.experiment.inputs.post_process(rows)["input_ids"]
        self.shared, self.own = data.collator(stage).arrays((request, rows))
        self.there = self.shared["attention_mask"] > 0
        self.tokenizer = self.experiment.tokenizer


@pytest.mark.parametrize("pipeline", CORRUPTING)
def test_marks_are_the_labels_of_training(pipeline, tmp_path, capsys, monkeypatch):
    case = CASES[pipeline]
    words = runs.command(tmp_path, pipeline=pipeline, model=case.family, probability=0.3, **case.flags)
    printed = shown(words, capsys, monkeypatch, colours=True)
    assert CODES.sub("", printed) == shown(words, capsys, monkeypatch)
    batch = Batch(words)
    objective = case.objectives[0]
    found = parts(printed)
    assert [int(head[1]) for head, _ in found] == list(range(N))
    places = [head[2].removeprefix(f"prepared row {row}, which starts in ") for row, (head, _) in enumerate(found)]
    assert places == [f"{tmp_path / 'data' / 'train.jsonl'}:{row + 1}" for row in range(N)]
    total = 0
    for row, (head, lines) in enumerate(found):
        there = batch.there[row]
        labels, clean = batch.own[objective]["labels"][row][there], batch.clean[row][there]
        if objective == "token_detection":
            replaced = labels == 1
            masked = kept = np.zeros_like(replaced)
        else:
            after = batch.shared["input_ids"][row][there]
            masked = (labels != -100) & (after == batch.tokenizer.mask_token_id)
            replaced, kept = (labels != -100) & ~masked & (after != labels), labels == after
        assert int(head[3]) == there.sum()
        assert counts(head) == {"masked": masked.sum(), "replaced": replaced.sum(), "unchanged": kept.sum()}
        for colour, flags in ((MASKED, masked), (REPLACED, replaced), (UNCHANGED, kept)):
            assert lines[0].count(f"\033[{colour}m") == num_runs(flags)
        total += int((masked | replaced | kept).sum())
        # without the marks, the text that the model sees; with what they say, the text that it was
        model_sees = CODES.sub("", re.sub(r"\033\[32m.*?\033\[0m", "", lines[0]))
        if pipeline != "cluster_random_token_detection":
            assert squeezed(model_sees) == squeezed(batch.tokenizer.decode(batch.shared["input_ids"][row][there]))
        was = re.sub(
            r"\033\[1;3[13]m[^\033]*\033\[0m\033\[32m‹(?:was )?(.*?)›\033\[0m", lambda match: match[1], lines[0]
        )
        original = CODES.sub("", was.replace("\033[32m‹unchanged›\033[0m", ""))
        assert squeezed(original) == squeezed(batch.tokenizer.decode(clean))
        assert len(lines) == len(case.objectives)  # what else is to be learned
    assert total > 0


def test_a_replacement_of_clusters_is_the_one_of_the_first_step(tmp_path, capsys, monkeypatch):
    """Clusters of seven: token ids that are equal modulo 7; with beta 0 or at the start all are as likely."""
    import torch

    words = runs.command(tmp_path, pipeline="cluster_random_token_detection", probability=0.5)
    found = parts(shown(words, capsys, monkeypatch, colours=True))
    batch = Batch(words)
    objective = batch.experiment.objectives[0]
    tensors = {name: torch.from_numpy(values) for name, values in batch.own["token_detection"].items()}
    inputs = {"input_ids": torch.from_numpy(batch.shared["input_ids"]), "token_detection": tensors}
    seen = objective.on_device(inputs, "train")["input_ids"].numpy()
    for row, (_, lines) in enumerate(found):
        model_sees = CODES.sub("", re.sub(r"\033\[32m.*?\033\[0m", "", lines[0]))
        assert squeezed(model_sees) == squeezed(batch.tokenizer.decode(seen[row][batch.there[row]]))


@pytest.mark.parametrize(
    ("pipeline", "marks"),
    [
        ("masked_lm", "[MASK]‹original› masked; to be predicted: the original of each"),
        ("random_token_detection", "token‹was original› replaced; to be detected: what was replaced"),
        ("swapped_lm", "token‹was original› replaced; to be predicted: the original of each"),
        ("denoising", "<extra_id_0> inserted; to be written: the target"),
        ("seq_class", None),
    ],
)
def test_a_legend_says_what_the_marks_that_are_there_mean(pipeline, marks, tmp_path, capsys, monkeypatch):
    flags: dict[str, Any] = {"probability_masked": 1, "probability_replaced": 0, "probability_unchanged": 0}
    flags = {"masked_lm": flags, "denoising": {"model": "t5", "max_number_of_spans": 1}}.get(pipeline, {})
    lines = shown(runs.command(tmp_path, pipeline=pipeline, **flags), capsys, monkeypatch).splitlines()
    assert lines[0] == f"train: {tmp_path / 'data' / 'train.jsonl'}, 5 of 40 rows as in the first epoch"
    assert lines[1] == (f"marks: {marks}" if marks else "")


def test_the_generator_has_not_filled_in_the_masks_yet(tmp_path, capsys, monkeypatch):
    words = runs.command(tmp_path, pipeline="token_detection_and_masked_lm", generator_size=0.5)
    for _, lines in parts(shown(words, capsys, monkeypatch)):
        assert lines[1:] == ["→ detect which masked tokens the generator fills in wrongly"]


def test_parts_of_a_joint_pipeline_are_described(tmp_path, capsys, monkeypatch):
    words = runs.command(tmp_path, pipeline="swapped_lm+seq_class")
    labels = [row["label"] for row in runs.rows_for("seq_class", 40)[:N]]
    assert [lines[1:] for _, lines in parts(shown(words, capsys, monkeypatch))] == [
        [f"→ label {name}"] for name in labels
    ]


@pytest.mark.parametrize("pipeline", ["answer_selection", "seq_class", "token_class"])
def test_without_corruption_rows_are_shown_as_they_are(pipeline, tmp_path, capsys, monkeypatch):
    words = runs.command(tmp_path, pipeline=pipeline)
    batch = Batch(words)
    for row, (head, (text, *wanted)) in enumerate(parts(shown(words, capsys, monkeypatch))):
        assert squeezed(text) == squeezed(batch.tokenizer.decode(batch.shared["input_ids"][row][batch.there[row]]))
        assert head[4] == ""
        (objective,) = batch.experiment.objectives
        assert wanted == [f"→ {objective.describe({**batch.shared, **batch.own[objective.name]}, row)}"]


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("t5", {}),
        ("t5", {"denoisers": ["0.15,3", "0.5,3,[NLG]"]}),
        ("bart", {}),
        ("mbart", {"shuffle_sentences": "false"}),
    ],
    ids=["t5", "mixture", "bart", "mbart"],
)
def test_what_a_decoder_restores_is_shown_whole_corrupted_and_as_target(model, flags, tmp_path, capsys, monkeypatch):
    if "denoisers" in flags:
        tokenizer = tiny.tokenizer_for(model)
        tokenizer.add_tokens(["[NLG]"], special_tokens=True)
        tokenizer.save_pretrained(tmp_path / "new")
        tiny.config_for(model, vocab_size=len(tokenizer)).save_pretrained(tmp_path / "new")
        flags = {**flags, "pre_trained_config": tmp_path / "new", "pre_trained_tokenizer": tmp_path / "new"}
    words = runs.command(tmp_path, pipeline="denoising", model=model, **flags)
    printed = shown(words, capsys, monkeypatch, colours=True)
    batch = Batch(words)
    own, tokenizer = batch.own["denoising"], batch.tokenizer
    if model == "t5":
        stands_in = [i for token, i in tokenizer.get_vocab().items() if token.startswith(("<extra_id_", "[NLG]"))]
    else:
        stands_in = [tokenizer.mask_token_id]
    clean_there = batch.clean != tokenizer.pad_token_id
    for row, (head, (text, seen, target)) in enumerate(parts(printed)):
        input_ids, labels = batch.shared["input_ids"][row][batch.there[row]], own["labels"][row]
        labels = labels[labels != -100]
        for line, title, tokens in (
            (text, "text:", batch.clean[row][clean_there[row]]),
            (seen, "input:", input_ids),
            (target, "target:", labels),
        ):
            assert squeezed(CODES.sub("", line)) == title + squeezed(tokenizer.decode(tokens))
        hidden = np.isin(input_ids, stands_in)
        assert re.search(rf", {hidden.sum()} inserted$", head[0]) or not hidden.any(), head[0]
        for line, tokens in ((text, batch.clean[row][:0]), (seen, input_ids), (target, labels)):
            assert line.count(f"\033[{PUT_IN}m") == num_runs(np.isin(tokens, stands_in)), line
        assert target.count(f"\033[{WRITTEN}m") == num_runs(~np.isin(labels, stands_in))


def test_texts_to_be_filled_in_are_shown_as_they_are(tmp_path, capsys, monkeypatch):
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", [{"text": "the <extra_id_0> dog"}])
    words = runs.command(tmp_path, pipeline="denoising", model="t5", predict_dataset=file)
    ((_, (text, wanted)),) = parts(shown(words, capsys, monkeypatch))
    assert squeezed(text) == "the<extra_id_0>dog</s>"
    assert wanted == "→ fill in masked spans"


def test_the_document_shows_what_is_printed(tmp_path, capsys, monkeypatch):
    """The tokenizer is written out: one that is trained is not the same in each process."""
    from tokenizers import models
    from transformers import PreTrainedTokenizerFast

    monkeypatch.chdir(tmp_path)
    style = tiny.STYLES["bert"]
    pieces = (
        "the quick brown fox jump over lazy dog , again and . in 1998 about 250 people walk 12 kilometres to old light"
    )
    backend = tiny.tokenizer(style="bert").backend_tokenizer
    vocabulary = [*style.specials, *pieces.split(), "##house", "##s", "##ed"]
    backend.model = models.WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token="[UNK]")
    PreTrainedTokenizerFast(tokenizer_object=backend, **dict(style.roles)).save_pretrained("words")
    texts = [text for text in tiny.TEXT if text.startswith(("The quick", "In 1998"))]
    words = runs.command(
        tmp_path,
        pipeline="masked_lm",
        train_dataset=tiny.write_jsonl("texts.jsonl", [{"text": text} for text in texts]),
        pre_trained_tokenizer="words",
        pre_trained_config=tiny.save_checkpoint("bert", "config"),
        whole_word_masking=True,
        seed=129,
    )
    block = re.search(
        r"^<!-- test: preview -->\n```text\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert block
    assert shown(words, capsys, monkeypatch, num_rows=2) == block[1]


# --- which rows ------------------------------------------------------------------------------------------------------


def test_no_more_rows_than_there_are(tmp_path, capsys, monkeypatch):
    words = runs.command(tmp_path, pipeline="masked_lm")
    printed = shown(words, capsys, monkeypatch, num_rows=1000)
    assert "40 of 40 rows" in printed
    assert len(parts(printed)) == 40
    first = shown(words, capsys, monkeypatch, num_rows=1)
    assert parts(first)[0][1] == parts(printed)[0][1], "a row is corrupted alike beside any others"


@pytest.mark.parametrize("stage", ["valid", "test"])
def test_without_training_data_others_are_shown(stage, tmp_path, capsys, monkeypatch):
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", runs.rows_for("masked_lm", 7))
    words = runs.command(tmp_path, pipeline="masked_lm", **{f"{stage}_dataset": file})
    printed = shown(words, capsys, monkeypatch)
    assert printed.startswith(f"{stage}: {file}, 5 of 7 rows")
    batch = Batch(words, stage)
    hidden = (batch.own["masked_lm"]["labels"] != -100).sum(axis=1)
    assert [sum(counts(head).values()) for head, _ in parts(printed)] == hidden.tolist()


def test_masks_of_the_texts_themselves_are_to_be_filled_in(tmp_path, capsys, monkeypatch):
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", [{"text": "the [MASK] dog"}, {"text": "the dog"}])
    trained = tiny.save_checkpoint("bert", tmp_path / "trained", "AutoModelForMaskedLM")
    words = runs.command(tmp_path, pipeline="masked_lm", predict_dataset=file, pre_trained_model=trained)
    (first, (text,)), (second, (whole,)) = parts(shown(words, capsys, monkeypatch))
    assert "the [MASK]‹?› dog" in text
    assert (counts(first)["masked"], counts(second)["masked"]) == (1, 0)
    assert "‹" not in whole


def test_detection_of_texts_as_they_are_says_what_to_do(tmp_path, capsys, monkeypatch):
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", [{"text": "the dog"}])
    trained = tiny.save_checkpoint("bert", tmp_path / "trained", "AutoModelForTokenClassification", num_labels=1)
    words = runs.command(tmp_path, pipeline="random_token_detection", predict_dataset=file, pre_trained_model=trained)
    ((_, (_, wanted)),) = parts(shown(words, capsys, monkeypatch))
    assert wanted == "→ detect replaced tokens"


def test_a_stream_is_shown_from_its_start(tmp_path, capsys, monkeypatch):
    words = runs.command(tmp_path, pipeline="masked_lm", max_steps=2)
    whole, streamed = (parts(shown([*words, *more], capsys, monkeypatch)) for more in ([], ["--iterable"]))
    assert [lines for _, lines in whole] == [lines for _, lines in streamed]


def test_windows_are_shown_as_rows(tmp_path, capsys, monkeypatch):
    words = runs.command(tmp_path, pipeline="masked_lm", packing="full", max_sequence_length=32)
    found = parts(shown(words, capsys, monkeypatch, num_rows=2))
    assert [int(head[3]) for head, _ in found] == [32, 32]
    assert found[0][0][2] == f"prepared row 0, which starts in {tmp_path / 'data' / 'train.jsonl'}:1"


def test_texts_that_share_a_row_are_named(tmp_path, capsys, monkeypatch):
    words = runs.command(tmp_path, pipeline="masked_lm", packing="isolated")
    found = parts(shown(words, capsys, monkeypatch, num_rows=40))
    bins = runs.build(words).data.bins
    mates = {row: sorted(set(bins[i]) - {row}) for i in range(len(bins)) for row in bins[i]}
    told = [[int(mate) for mate in re.findall(r"\d+", lines[-1])] for _, lines in found]
    assert told == [mates[row] for row in range(40)]
    assert max(map(len, told)) > 1


# --- what a preview leaves and refuses -------------------------------------------------------------------------------


def test_nothing_is_written(tmp_path, capsys, monkeypatch):
    shown(runs.command(tmp_path, pipeline="masked_lm"), capsys, monkeypatch)
    assert not (tmp_path / "out").exists()


def test_a_name_may_be_taken(tmp_path, capsys, monkeypatch):
    words = runs.command(tmp_path, pipeline="masked_lm")
    free = shown(words, capsys, monkeypatch)
    folder = runs.folders_of(words).checkpoints
    folder.mkdir(parents=True)
    (folder / "last.ckpt").write_text("the state of a run")
    assert shown(words, capsys, monkeypatch) == free
    nowhere = ["--output_dir", str(folder / "last.ckpt" / "out")]
    assert shown([*words, *nowhere], capsys, monkeypatch) == free
    assert [path.name for path in folder.iterdir()] == ["last.ckpt"]
    assert main([*words, "--preview", "2", "--check"]) == 2  # the run itself could not start
    assert "a run 'run' has files in" in capsys.readouterr().out


def test_with_check_its_report_comes_first(tmp_path, capsys, monkeypatch):
    words = runs.command(tmp_path, pipeline="masked_lm")
    alone = shown(words, capsys, monkeypatch)
    assert main([*words, "--check"]) == 0
    report = capsys.readouterr().out
    assert shown([*words, "--check"], capsys, monkeypatch) == report + alone


@pytest.mark.parametrize("value", ["0", "-1", "three", "2.5", ""])
def test_a_number_that_is_none_is_refused(value, tmp_path, capsys):
    assert main([*runs.command(tmp_path, pipeline="seq_class"), "--preview", *([value] if value else [])]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: --preview: found ")
    assert said.out == ""


@pytest.mark.parametrize(
    "flags",
    [{"monitor": "valid/masked_lm/f2"}, {"input_columns": ["absent"], "ckpt_path": "absent.ckpt"}],
    ids=["monitor", "several"],
)
def test_a_wrong_run_is_refused_as_by_check(flags, tmp_path, capsys):
    words = runs.command(tmp_path, pipeline="masked_lm", **flags)
    assert main([*words, "--check"]) == 2
    problems = re.findall(r"^  \d+\. (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert len(problems) >= len(flags)
    assert main([*words, "--preview", "3"]) == 2
    said = capsys.readouterr()
    assert said.err[said.err.index("error: ") :] == "error: " + "\n".join(problems) + "\n"
    assert said.out == ""
    assert main([*words, "--preview", "3", "--check"]) == 2
    assert "row 0" not in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
