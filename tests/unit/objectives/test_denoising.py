"""Denoising: what goes in, what must be written, in which style, with which lengths; what is refused."""

from __future__ import annotations

import functools
import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny
from tests.tolerances import assert_close
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.objectives.denoising import Denoising, sentinels_of
from transformers_framework.objectives.objective import Context, Setup, metric_names, num_items
from transformers_framework.processing.backend import bare_tokenizer
from transformers_framework.processing.encoding import WordMarks, number_words, tokenize_words
from transformers_framework.processing.masking import sparse_labels
from transformers_framework.processing.spans import framed, unframed
from transformers_framework.processing.windows import Ragged, steps

DATA = Path(__file__).parents[4] / "shared" / "data"
TEXTS = [text for text in tiny.TEXT if len(text) > 30][:8]
SENTENCES = ["The sky is old. A river! Who has seen it?", "One sentence only.", "a", "", "It's raining. We wait."]
FAMILIES = ("t5", "mt5", "umt5", "bart", "mbart", "pegasus", "plbart", "mvp")


def setup(family: str = "t5", *limits: int, **changes: Any) -> Setup:
    return Setup(tiny.tokenizer_for(family), tiny.config_for(family, **changes), None, limits or (64,))


def context(stage: Any = "train", *, seed: int = 1, epoch: int = 0, rows: Any = range(8)) -> Context:
    return Context(stage, seed, epoch, np.asarray(rows))


def batch_of(family: str, texts: list[str], *, side: str = "right", extra: int = 0) -> dict[str, np.ndarray]:
    made = tiny.tokenizer_for(family)
    longest = max(len(ids) for ids in made(texts)["input_ids"])
    batch = dict(made(texts, padding="max_length", max_length=longest + extra, padding_side=side, return_tensors="np"))
    return {**batch, "truncated": np.zeros(len(texts), dtype=bool)}


def rows_of(ids: np.ndarray, mask: np.ndarray) -> list[list[int]]:
    return [row[taken].tolist() for row, taken in zip(ids, mask.astype(bool), strict=True)]


def restored(source: list[int], target: list[int], sentinels: list[int]) -> list[int]:
    """Put what each sentinel of a target stands for into its place in the source."""
    found: dict[int, list[int]] = {}
    for token in target:
        if token in sentinels:
            found[token] = []
        else:
            found[list(found)[-1]].append(token)
    assert list(found) == sentinels[: len(found)]
    return [piece for token in source for piece in found.get(token, [token])]


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_of_every_family(family: str) -> None:
    objective, batch = Denoising(setup(family), shuffle_sentences=None), batch_of(family, TEXTS)
    own = objective.post_process({}, batch, context())
    assert {key: value.dtype for key, value in own.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "labels", "decoder_input_ids"), np.dtype(np.int64)
    )
    assert own["labels"].shape == own["decoder_input_ids"].shape
    config, tokenizer = objective.setup.config, objective.setup.tokenizer
    original = rows_of(batch["input_ids"], batch["attention_mask"])
    prefix, suffix = objective.template.prefix, objective.template.suffix
    labels = rows_of(own["labels"], own["labels"] != -100)
    for row, (text, source, target) in enumerate(
        zip(original, rows_of(own["input_ids"], own["attention_mask"]), labels, strict=True)
    ):
        for whole in (source, target):
            assert whole[len(whole) - len(suffix) :] == list(suffix)
            assert whole[: len(prefix)] == list(prefix)
        body = slice(len(prefix), -len(suffix))
        if family in ("t5", "mt5", "umt5"):
            assert tokenizer.convert_ids_to_tokens(target[-1]) == "</s>"
            assert restored(source[body], target[body], sentinels_of(tokenizer, 10**6).tolist()) == text[body]
        else:
            assert target == text
            assert tokenizer.mask_token_id in source
        start = config.decoder_start_token_id
        assert own["decoder_input_ids"][row, : len(target)].tolist() == [start, *target[:-1]]
        assert (own["labels"][row, len(target) :] == -100).all()
        assert (own["decoder_input_ids"][row, len(target) :] == tokenizer.pad_token_id).all()
    assert (own["input_ids"][own["attention_mask"] == 0] == tokenizer.pad_token_id).all()
    assert num_items(objective, {**batch, **own}) == sum(map(len, labels))


def test_without_a_start_token_the_code_of_the_language_is_first() -> None:
    objective = Denoising(setup("mbart", decoder_start_token_id=None))
    own = objective.post_process({}, batch_of("mbart", TEXTS), context())
    code = objective.setup.tokenizer.convert_tokens_to_ids("en_XX")
    assert (own["decoder_input_ids"][:, 0] == code).all()


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("t5", {}),
        ("t5", {"denoisers": ["0.15,3", "0.5,3", "0.25,inf"]}),
        ("t5", {"whole_word_denoising": True}),
        ("bart", {}),
        ("bart", {"whole_word_denoising": True}),
    ],
)
def test_a_text_is_corrupted_alike_in_every_batch(family: str, options: dict[str, Any]) -> None:
    objective = Denoising(setup(family, 128), **options)
    texts = [*TEXTS[:4], *SENTENCES]

    def corrupted(chosen: list[int], *, seed: int = 1, epoch: int = 0, stage: Any = "train", **how: Any) -> list[Any]:
        batch = batch_of(family, [texts[i] for i in chosen], **how)
        if options.get("whole_word_denoising"):
            numbers = np.cumsum(batch["input_ids"] % 3 > 0, axis=1)  # words of any kind, the same on both sides
            batch["word_ids"] = numbers
        own = objective.post_process({}, batch, context(stage, seed=seed, epoch=epoch, rows=chosen))
        parts = rows_of(own["input_ids"], own["attention_mask"]), rows_of(own["labels"], own["labels"] != -100)
        return list(zip(*parts, strict=True))

    every = list(range(len(texts)))
    together = corrupted(every)
    assert corrupted(every, side="left") == together
    assert corrupted(every, extra=9) == together
    assert corrupted(every[::-1])[::-1] == together
    assert [corrupted([i])[0] for i in every] == together
    assert corrupted(every, epoch=1) != together
    assert corrupted(every, seed=2) != together
    assert corrupted(every, stage="valid") != together
    assert corrupted(every, stage="valid") == corrupted(every, stage="valid")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("whole_words", [False, True])
def test_texts_of_no_tokens_and_few(family: str, whole_words: bool) -> None:
    objective = Denoising(setup(family, 32), whole_word_denoising=whole_words)
    for texts in (["", "a", "a b", "a b c"], [""], ["a"], ["", ""]):
        batch = batch_of(family, texts)
        batch["word_ids"] = np.arange(batch["input_ids"].size).reshape(batch["input_ids"].shape)
        own = objective.post_process({}, batch, context(rows=range(len(texts))))
        hides = [len(text.split()) > (0 if objective.style == "bart" else 1) for text in texts]
        assert (own["labels"] != -100).any(axis=1).tolist() == hides, "nothing is learned where nothing is hidden"
        assert own["input_ids"].shape == own["attention_mask"].shape


def test_padding_is_on_the_tokenizers_side() -> None:
    objective = Denoising(setup("t5"))
    objective.pads_left = True
    own = objective.post_process({}, batch_of("t5", TEXTS, side="left"), context())
    assert (own["attention_mask"][:, -1] == 1).all()
    assert (own["attention_mask"][:, 0] == 0).any()
    assert (own["labels"][:, 0] != -100).all(), "targets are padded behind"


# --- lengths ----------------------------------------------------------------------------------------------------------


def raw_length(objective: Denoising) -> int:
    return objective.input_options["max_sequence_length"][0]


def test_texts_may_be_longer_than_inputs_by_what_is_taken_out() -> None:
    many = setup("t5", 512)
    many.tokenizer.add_tokens([f"<extra_id_{i}>" for i in range(20, 100)], special_tokens=True)
    many.config.vocab_size = len(many.tokenizer)
    assert raw_length(Denoising(many)) == 569
    assert raw_length(Denoising(setup("t5", 512))) == 579, "there are only twenty sentinels"
    assert raw_length(Denoising(setup("t5", 512), denoisers=["0.15,3", "0.25,inf"])) == 579
    assert raw_length(Denoising(setup("bart", 128))) == 128
    assert raw_length(Denoising(setup("bart", 128, 100))) == 100
    assert raw_length(Denoising(setup("bart", 100, 128))) == 100


@pytest.mark.parametrize("limits", [(64,), (64, 20), (33, 64), (128, 128)])
@pytest.mark.parametrize("options", [{}, {"denoisers": ["0.5,3"]}, {"max_number_of_spans": 3}])
def test_windows_fill_the_limits(limits: tuple[int, ...], options: dict[str, Any]) -> None:
    objective = Denoising(setup("t5", *limits), **options)
    length = raw_length(objective)
    ids = np.full((5, length), 50)
    ids[:, -1] = objective.setup.tokenizer.eos_token_id
    own = objective.post_process({}, {"input_ids": ids, "attention_mask": np.ones_like(ids)}, context(rows=range(5)))
    source, target = own["input_ids"].shape[1], own["labels"].shape[1]
    assert source <= limits[0]
    assert target <= limits[-1]
    assert source == limits[0] or target >= limits[-1] - 1
    assert own["attention_mask"].all()


# --- styles and flags -------------------------------------------------------------------------------------------------


def test_styles_by_family_by_tokenizer_and_by_force(caplog: pytest.LogCaptureFixture) -> None:
    assert [Denoising(setup(family)).style for family in FAMILIES] == ["t5"] * 3 + ["bart"] * 5
    crossed = Setup(tiny.tokenizer_for("bart"), tiny.config_for("t5"), None, (64,))
    assert Denoising(crossed).style == "bart"
    assert "no sentinels" in caplog.text
    both = setup("t5")
    both.tokenizer.add_special_tokens({"mask_token": "<mask>"})
    both.config.vocab_size = len(both.tokenizer)
    assert Denoising(both).style == "t5"
    assert Denoising(both, denoising_style="bart").style == "bart"


def test_sentinels_in_the_spelling_of_mt5() -> None:
    class Tokenizer:
        def get_vocab(self) -> dict[str, int]:
            return {f"▁<extra_id_{i}>": 250 - i for i in range(100)}

    assert sentinels_of(Tokenizer(), 300).tolist() == list(range(250, 150, -1))
    assert sentinels_of(Tokenizer(), 250).tolist() == [], "the model does not know the first one"


MISTAKES: list[tuple[str, str, dict[str, Any], str]] = [
    ("t5", "bart", {}, r"--denoising_style bart: .* has no mask token.*It has 20 sentinels: give --denoising_style t5"),
    ("bart", "t5", {}, r"--denoising_style t5: .*no sentinels \(<extra_id_0>.*'<mask>': give --denoising_style bart"),
    ("t5", "t5", {"shuffle_sentences": True}, "--shuffle_sentences: the targets of t5 style"),
    ("t5", "t5", {"probability": 0.0}, "--probability 0: no token is masked"),
    ("t5", "t5", {"mean_span_length": 0.5}, "--mean_span_length 0.5: in t5 style"),
    ("bart", "bart", {"probability": 0.0, "shuffle_sentences": False}, "--probability 0 and --shuffle_sentences false"),
    ("bart", "bart", {"denoisers": ["0.15,3"]}, "--denoisers: a mixture .*--denoising_style t5"),
    ("t5", "t5", {"denoisers": ["0.15,3"], "probability": 0.2}, "--denoisers and --probability: .*Leave --prob"),
    ("t5", "t5", {"denoisers": ["0.1,3"], "probability": 0.2, "mean_span_length": 3.0}, "and --mean_span_length"),
    ("t5", "t5", {"denoisers": []}, "--denoisers: the list is empty"),
    ("t5", "t5", {"denoisers": ["0.15"]}, "--denoisers: '0.15': expected PROBABILITY,MEAN_LENGTH"),
    ("t5", "t5", {"denoisers": ["0.15,3,a,b"]}, "expected PROBABILITY,MEAN_LENGTH"),
    ("t5", "t5", {"denoisers": ["0.15,,a"]}, "expected PROBABILITY,MEAN_LENGTH"),
    ("t5", "t5", {"denoisers": ["much,3"]}, "'much,3': expected two numbers"),
    ("t5", "t5", {"denoisers": ["1.5,3"]}, "the probability is 1.5, expected more than 0"),
    ("t5", "t5", {"denoisers": ["nan,3"]}, "the probability is nan"),
    ("t5", "t5", {"denoisers": ["0.5,0"]}, "the mean length is 0, expected at least 1, or inf"),
    ("t5", "t5", {"denoisers": ["0.5,nan"]}, "the mean length is nan"),
    ("t5", "t5", {"denoisers": ["0.5,3,[S2S]"]}, r"no token '\[S2S\]'. Add it: tokenizer.add_tokens"),
]


@pytest.mark.parametrize(("family", "style", "options", "message"), MISTAKES, ids=[row[3][:40] for row in MISTAKES])
def test_mistakes(family: str, style: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Denoising(setup(family), denoising_style=style, **options)


def test_lengths_that_make_no_sense() -> None:
    for limits in ((1, 2, 3), (2, 20), (20, 2), (2,)):
        with pytest.raises(ConfigurationError, match="--max_sequence_length: "):
            Denoising(setup("t5", *limits))
    with pytest.raises(ConfigurationError, match="an input has 2 special tokens and a target 2"):
        Denoising(setup("bart", 3))
    with pytest.raises(ConfigurationError, match="--max_sequence_length: 0 lengths"):
        Denoising(Setup(tiny.tokenizer_for("t5"), tiny.config_for("t5")))


def test_a_tokenizer_with_neither_is_refused() -> None:
    neither = setup("t5", vocab_size=10)
    with pytest.raises(
        ConfigurationError, match=r"--pre_trained_tokenizer: .*no sentinels.*add 'extra_special_tokens'"
    ):
        Denoising(neither)


def test_prefixes_must_be_known_to_tokenizer_and_model() -> None:
    known = setup("t5")
    known.tokenizer.add_tokens(["[S2S]"], special_tokens=True)
    with pytest.raises(ConfigurationError, match=r"'\[S2S\]' has token id \d+, but the model's vocab_size is"):
        Denoising(known, denoisers=["0.25,inf,[S2S]"])
    known.config.vocab_size = len(known.tokenizer)
    objective = Denoising(known, denoisers=["0.25,inf,[S2S]"])
    own = objective.post_process({}, batch_of("t5", TEXTS), context())
    assert (own["input_ids"][:, 0] == known.tokenizer.convert_tokens_to_ids("[S2S]")).all()
    assert raw_length(objective) == 82
    assert raw_length(Denoising(setup("t5"), denoisers=["0.25,inf"])) == 84


# --- real texts -------------------------------------------------------------------------------------------------------


@functools.cache
def tokenized(family: str) -> tuple[Ragged, Ragged]:
    """Return the tokens of every text and the word of each, without special ones."""
    folders = [DATA / name for name in ("wiki_paragraphs", "wikitext2")]
    if not all(folder.is_dir() for folder in folders):
        pytest.skip(f"{DATA} is absent")
    paths = [path for folder in folders for path in sorted(folder.glob("*.jsonl"))]
    texts = [json.loads(line)["text"] for path in paths for line in path.open(encoding="utf-8")]
    backend = bare_tokenizer(tiny.tokenizer_for(family))
    ids, lengths, starts = tokenize_words(backend, texts, WordMarks.of(backend))
    assert len(lengths) > 4000
    return Ragged(ids, lengths), Ragged(number_words(starts, lengths), lengths)


def cut(rows: Ragged, length: int) -> Ragged:
    """Return the first values of each row."""
    return Ragged(rows.values[steps(rows.lengths) < length], np.minimum(rows.lengths, length))


def corrupted(objective: Denoising, family: str) -> tuple[list[list[int]], ...]:
    """Return texts, their words, inputs and targets, without special tokens."""
    prefix, suffix = objective.template.prefix, objective.template.suffix
    length = raw_length(objective) - len(prefix) - len(suffix)
    ids, words = (cut(rows, length) for rows in tokenized(family))
    input_ids, mask = framed(ids, prefix, suffix, objective.pad_token_id)
    word_ids = framed(words, [-1] * len(prefix), [-1] * len(suffix), -1)[0]
    batch = {"input_ids": input_ids, "attention_mask": mask, "word_ids": word_ids}
    own = objective.post_process({}, batch, context(rows=range(len(ids))))
    assert own["input_ids"].shape[1] <= 128
    assert own["labels"].shape[1] <= 128
    full = own["attention_mask"][ids.lengths == length].sum(axis=1)
    if objective.style == "t5" and not objective.whole_words and len(objective.corruption.denoisers) == 1:
        assert len(full) > 3000
        assert (full == 128).all(), "no place is wasted"
    inputs = unframed(own["input_ids"], own["attention_mask"], len(prefix), len(suffix))
    targets = unframed(own["labels"], own["labels"] != -100, len(prefix), len(suffix))
    return tuple(
        [part.tolist() for part in np.split(rows.values, np.cumsum(rows.lengths)[:-1])]
        for rows in (ids, words, inputs, targets)
    )


def stretches(target: list[int], sentinels: list[int]) -> dict[int, int]:
    """Return how many tokens each sentinel stands for."""
    places = [place for place, token in enumerate(target) if token >= sentinels[0]]
    return {target[a]: b - a - 1 for a, b in itertools.pairwise([*places, len(target)])}


@pytest.mark.parametrize(
    "options",
    [{}, {"whole_word_denoising": True}, {"denoisers": ["0.15,3", "0.5,3", "0.5,32", "0.25,inf"]}],
    ids=["spans", "words", "mixture"],
)
def test_input_and_target_give_every_text_back(options: dict[str, Any]) -> None:
    objective = Denoising(setup("t5", 128), **options)
    sentinels = sentinels_of(objective.setup.tokenizer, 10**6).tolist()
    assert sentinels == list(range(sentinels[0], sentinels[0] + 20)), "the last tokens"
    hidden = total = 0
    for text, words, source, target in zip(*corrupted(objective, "t5"), strict=True):
        assert restored(source, target, sentinels) == text
        sizes = stretches(target, sentinels)
        hidden += sum(sizes.values())
        if "whole_word_denoising" in options:
            is_hidden = [flag for token in source for flag in ([True] * sizes[token] if token in sizes else [False])]
            part, whole = np.bincount(words, weights=is_hidden), np.bincount(words)
            assert ((part == 0) | (part == whole) | (whole > 16)).all()
        total += len(text)
    if "denoisers" not in options:  # words here have five tokens, and the last one is hidden where inputs are full
        assert hidden / total == pytest.approx(0.15, abs=0.002 if options == {} else 0.02)


@pytest.mark.parametrize("whole_words", [False, True])
def test_texts_with_masks_align_with_their_targets(whole_words: bool) -> None:
    objective = Denoising(setup("bart", 128), whole_word_denoising=whole_words, shuffle_sentences=False)
    mask = chr(objective.setup.tokenizer.mask_token_id)
    hidden = total = 0
    for text, _, source, target in zip(*corrupted(objective, "bart"), strict=True):
        assert target == text
        assert len(source) <= len(text)
        whole, pieces = "".join(map(chr, text)), "".join(map(chr, source)).split(mask)
        assert whole.startswith(pieces[0])
        place = len(pieces[0])
        for piece in pieces[1:-1]:
            place = whole.index(piece, place) + len(piece)
        assert len(pieces) == 1 or (whole.endswith(pieces[-1]) and len(whole) - len(pieces[-1]) >= place)
        hidden, total = hidden + len(text) - sum(map(len, pieces)), total + len(text)
    assert hidden / total == pytest.approx(0.3, abs=0.005)


@pytest.mark.parametrize("whole_words", [False, True])
def test_sentences_of_every_text_are_permuted(whole_words: bool) -> None:
    # without masks, so that sentences can be told
    objective = Denoising(setup("bart", 128), whole_word_denoising=whole_words, probability=0.0)
    tokens = dict(enumerate(objective.setup.tokenizer.convert_ids_to_tokens(range(len(objective.setup.tokenizer)))))
    permuted = 0
    for text, _, source, target in zip(*corrupted(objective, "bart"), strict=True):
        assert target == text
        found, expected = sentences(source, tokens), sentences(text, tokens)
        assert sorted(source) == sorted(text)
        assert (source != text) == (len(expected) > 1)
        permuted += len(expected) > 1
        # one that begins or ends like no other cannot be told where it stands now
        if text and tokens[text[0]].startswith("Ġ") and tokens[text[-1]] in (".", "Ġ."):
            assert sorted(found) == sorted(expected)
    assert permuted > 1000


def sentences(ids: list[int], tokens: dict[int, str]) -> list[tuple[int, ...]]:
    """Cut a text behind full stops that a space follows, one token after the other."""
    found, current, stopped = [], [], False
    for number in ids:
        if stopped and tokens[number].startswith("Ġ"):
            found.append(tuple(current))
            current = []
        closes = stopped and tokens[number] in ("'", '"', ")", "]") and tokens[current[-1]][-1] in ".!?"
        current.append(number)
        stopped = closes or tokens[number][-1] in ".!?"
    return found + ([tuple(current)] if current else [])


# --- outputs ----------------------------------------------------------------------------------------------------------


class Output(SimpleNamespace):
    """An encoder-decoder's output, as objectives see it."""

    def cross_entropy(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        loss = torch.nn.functional.cross_entropy(self.logits, labels, reduction="sum")
        return loss, self.logits.argmax(-1) == labels

    def top_tokens(self) -> tuple[torch.Tensor, torch.Tensor]:
        scores, tokens = self.logits.softmax(-1).max(-1)
        return tokens, scores


@pytest.mark.parametrize("family", ["t5", "bart", "mbart"])
def test_losses_metrics_and_predictions_of_labels(family: str) -> None:
    objective = Denoising(setup(family))
    own = objective.post_process({}, batch_of(family, TEXTS), context("test"))
    dense = own["labels"]
    positions, labels = map(torch.from_numpy, sparse_labels(dense))
    logits = torch.nn.functional.one_hot(labels.clamp(min=0), len(objective.setup.tokenizer)).float() * 50
    wrong = torch.nonzero(labels != -100)[::3, 0]
    logits[wrong] = logits[wrong].roll(1, dims=-1)
    batch = {"labels": labels, "positions": positions, "decoder_input_ids": torch.from_numpy(own["decoder_input_ids"])}
    output = Output(logits=logits, generated=None)
    found = objective.evaluate(output, batch)
    loss, updates = found.loss, found.metric_inputs
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    assert_close(loss, expected)
    metric = objective.metrics("test")["tokens"]
    metric.update(**updates["tokens"])
    count = int((labels != -100).sum())
    assert metric.compute()["accuracy"] == pytest.approx(1 - len(wrong) / count)
    assert metric_names(objective, "test") == ["accuracy", "perplexity"]

    found = objective.predictions(output, batch)
    assert found["labels"].tolist() == np.where(dense == -100, -1, dense).tolist()
    tokens, right = found["tokens"].numpy(), found["labels"].numpy()
    assert (tokens == right).sum() - (dense == -100).sum() == count - len(wrong)
    written = objective.decode({name: values[0].tolist() for name, values in found.items()})
    if family == "t5":
        assert written["target"].startswith("<extra_id_0>")
        assert "</s>" not in written["target"]
    else:
        plain = [token for token in dense[0] if token >= 0]
        text = objective.setup.tokenizer.decode(plain, skip_special_tokens=True)
        assert written["target"].removesuffix("en_XX").strip() == text.removesuffix("en_XX").strip()
    assert written["prediction"] != written["target"]
    assert repr(written["target"]) in objective.describe(own, 0)


def test_predictions_are_generated_from_the_texts_as_they_are() -> None:
    objective = Denoising(setup("t5", 16))
    assert [objective.generates(stage) for stage in ("train", "valid", "test", "predict")] == [False] * 3 + [True]
    short = batch_of("t5", ["The <extra_id_0> is old."])
    assert objective.post_process({}, short, context("predict", rows=[0])) == {}
    long = batch_of("t5", ["The <extra_id_0> is old.", TEXTS[1]])
    own = objective.post_process({}, long, context("predict", rows=[0, 1]))
    assert own["truncated"].tolist() == [False, True]
    assert own["input_ids"].shape[1] == 16
    assert own["input_ids"][1, -1] == objective.setup.tokenizer.eos_token_id
    assert own["input_ids"][1, :15].tolist() == long["input_ids"][1, :15].tolist()
    assert "labels" not in own
    objective.template = replace(objective.template, keeps_end=True)
    own = objective.post_process({}, long, context("predict", rows=[0, 1]))
    assert own["input_ids"][1].tolist() == long["input_ids"][1, -16:].tolist()
    assert objective.describe({**long, **own}, 0) == "fill in masked spans"

    made = objective.setup.tokenizer
    first, second = (made(text)["input_ids"] for text in ("<extra_id_0> sky", "<extra_id_0> river"))
    width = max(len(first), len(second)) + 2
    generated = np.full((1, 2, width), made.pad_token_id)
    generated[0, 0, 1 : 1 + len(first)], generated[0, 1, 1 : 1 + len(second)] = first, second
    output = Output(generated=torch.from_numpy(generated))
    found = objective.predictions(output, {})
    assert objective.decode({"generated": found["generated"][0, :1].tolist()}) == {
        "prediction": made.decode(first[:-1])
    }
    both = objective.decode({"generated": [*found["generated"][0].tolist()]})["prediction"]
    assert both == [made.decode(first[:-1]), made.decode(second[:-1])]
