"""Build the demo's data, tokenizer and model configuration from the documentation inside this Python installation.

Masked language modelling: a name, and what the documentation says about it. Answer selection: the question is made
from the name of a function, class, method or module of the standard library ("what does the method read until of
telnet do") or a topic of ``pydoc`` ("what are the rules of comparisons"); the candidates are sentences that summarize
objects of the same module, exactly one of them is right. Sequence classification: which kind of object a sentence
summarizes. Token classification: what the words of a function's signature are. Machine reading: where in a signature
the answer to a question about it stands, if it has one. Summarization: the texts of masked
language modelling, each to be given its name. Retrieval: the questions of answer selection with the right
sentence, and all of its sentences. Structural pre-training: a document for each module, a paragraph for each of its
objects.
Whole packages go to train, valid or test, no sentence appears twice, and nothing is imported or downloaded: the sources
are parsed.

    python examples/demo_data.py outputs/demo/data
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import io
import json
import keyword
import random
import re
import sysconfig
import tokenize
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, NamedTuple

SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "lib-dynload", "turtledemo"}
QUESTIONS = {
    "function": "what does the function {} do",
    "method": "what does the method {} do",
    "class": "what is the class {}",
    "module": "what is the module {} for",
    "topic": "what are the rules of {}",
}
SENTINELS = 20  # of the T5
KINDS = {tokenize.NAME: "name", tokenize.OP: "operator", tokenize.NUMBER: "number", tokenize.STRING: "string"}


class Entry(NamedTuple):
    """Something to ask for: its module, its kind (a key of ``QUESTIONS``), its name in words, what is said about it.

    Functions and methods have a signature too.
    """

    module: str
    kind: str
    name: str
    sentences: list[str]
    signature: str = ""

    @property
    def summary(self) -> str:
        """The first sentence: the right answer."""
        return self.sentences[0] if self.sentences else ""


def split_words(name: str) -> str:
    """Split a qualified name into words, methods before the class they belong to.

    Examples:
        >>> split_words("HTTPServer.get_requestHandler")
        'get request handler of http server'
    """
    words = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
    parts = [" ".join(words.findall(part)).lower() for part in reversed(name.split("."))]
    return " of ".join(part for part in parts if part)


def sentences(text: str) -> list[str]:
    r"""Split a documentation text into sentences of at most 40 words; examples are left out.

    Examples:
        >>> sentences("Copy a file.  Links are\nfollowed.\n\n>>> copy()")
        ['Copy a file.', 'Links are followed.']
    """
    paragraphs = [" ".join(part.split()) for part in text.strip().split("\n\n") if ">>>" not in part]
    found = [part for paragraph in paragraphs for part in re.split(r"(?<=[.!?]) +(?=[A-Z\"'`*])", paragraph)]
    return [" ".join(sentence.split()[:40]) for sentence in found]


def documented(tree: ast.Module, module: str) -> Iterator[Entry]:
    """Yield the documented objects of a parsed module, but constructors, whose name says nothing."""

    def walk(node: ast.AST, names: tuple[str, ...]) -> Iterator[Entry]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If | ast.Try):  # definitions for one platform only
                yield from walk(child, names)
            elif isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                inner = (*names, child.name)
                kind = "class" if isinstance(child, ast.ClassDef) else "method" if names else "function"
                if (text := ast.get_docstring(child)) and child.name != "__init__":
                    signature = "" if kind == "class" else f"def {child.name}({ast.unparse(child.args)})"
                    yield Entry(module, kind, split_words(".".join(inner)), sentences(text), signature)
                if kind == "class":
                    yield from walk(child, inner)

    if text := ast.get_docstring(tree):
        yield Entry(module, "module", split_words(".".join(reversed(module.split(".")))), sentences(text))
    yield from walk(tree, ())


def standard_library() -> Iterator[Entry]:
    """Yield the documented objects of the standard library and the topics of ``pydoc``."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if SKIPPED.isdisjoint(parts) and not parts[0].startswith("config-"):
            module = ".".join(part for part in parts if part != "__init__")
            yield from documented(ast.parse(path.read_bytes()), module)
    for name, text in sorted(topics.items()):  # a title underlined with asterisks comes first
        yield Entry("topics", "topic", split_words(name.replace("-", "_")), sentences(text.partition("\n\n")[2]))


def distinct(entries: Iterable[Entry]) -> list[Entry]:
    """Keep entries that can be asked for: a name, an answer of three words or more, neither of them there before."""
    seen: set[object] = set()
    kept = []
    for entry in entries:
        words = " ".join(re.findall(r"\w+", entry.summary.lower()))
        keys = {words, (entry.module, entry.kind, entry.name)}
        if entry.name and words.count(" ") >= 2 and "->" not in entry.summary and seen.isdisjoint(keys):
            seen |= keys
            kept.append(entry)
    return kept


def split_of(module: str) -> str:
    """Return the split of a module: all modules of a package share it, so that test packages are never seen."""
    package = module.split(".")[0].lstrip("_")
    share = int(hashlib.sha256(f"library:{package}".encode()).hexdigest(), 16) % 100
    return "train" if share < 75 else "valid" if share < 85 else "test"


def passages(entries: Iterable[Entry], length: int = 12) -> Iterator[dict[str, object]]:
    """Yield the rows of masked language modelling: a name, and sentences about it until they have ``length`` words.

    A name helps to predict masked words of its text: from such pairs a model learns to compare two texts.
    """
    for entry in entries:
        text: list[str] = []
        for number, sentence in enumerate(entry.sentences, 1):
            text += sentence.split()
            if len(text) >= length or number == len(entry.sentences):
                yield {"name": entry.name, "text": " ".join(text)}
                text = []


def hidden_words(entries: Iterable[Entry], common: Container[str]) -> Iterator[dict[str, object]]:
    """Yield texts to fill in: a name, its summary with a common word replaced by the mask token, and that word."""
    for entry in entries:
        places = [place for place in re.finditer(r"\b[a-z]{4,}\b", entry.summary) if place[0] in common]
        if places:
            place = random.Random(entry.summary).choice(places)
            text = f"{entry.summary[: place.start()]}[MASK]{entry.summary[place.end() :]}"
            yield {"name": entry.name, "text": text, "word": place[0]}


def ranking_rows(entries: Iterable[Entry], candidates: int) -> Iterator[dict[str, object]]:
    """Yield the rows of answer selection, question by question, the candidates of each in an order without meaning.

    The context of a candidate is the next sentences of its documentation, or its module where there are none.
    """
    modules: dict[str, list[Entry]] = {}
    for entry in entries:
        modules.setdefault(entry.module, []).append(entry)
    for right in (entry for members in modules.values() if len(members) >= 3 for entry in members):
        key = f"{right.module}:{right.kind}:{right.name}"
        draw = random.Random(key)
        others = draw.sample(modules[right.module], min(candidates, len(modules[right.module])))
        group = [right, *[entry for entry in others if entry is not right][: candidates - 1]]
        for entry in draw.sample(group, len(group)):
            question = QUESTIONS[right.kind].format(right.name)
            row: dict[str, object] = {"key": key, "question": question, "answer": entry.summary}
            yield {**row, "context": entry.sentences[1:3] or [entry.module], "label": int(entry is right)}


def class_rows(entries: list[Entry]) -> Iterator[dict[str, object]]:
    """Yield the rows of sequence classification: a summary and the kind of object that it is about."""
    for entry in entries:
        if entry.kind in ("function", "method", "class"):
            yield {"text": entry.summary, "kind": entry.kind}


def tagged_words(signature: str) -> Iterator[tuple[str, str, str]]:
    """Yield the words of a signature, each with its kind in Python and a tag: the names of function and parameters.

    Examples:
        >>> for word in tagged_words("def read_until(self, end=0)"): print(*word)
        def keyword O
        read name B-function
        until name I-function
        ( operator O
        self name B-parameter
        , operator O
        end name B-parameter
        = operator O
        0 number O
        ) operator O
    """
    depth, before = 0, ""
    for token in tokenize.generate_tokens(io.StringIO(signature).readline):
        word, kind = token.string, KINDS.get(token.type)
        if kind is None:  # the end of the line
            continue
        depth += (word in "([{") - (word in ")]}")
        if kind != "name" or keyword.iskeyword(word):
            yield word, "keyword" if kind == "name" else kind, "O"
        else:
            is_parameter = depth == 1 and before in ("(", ",", "*", "**")
            tag = "function" if before == "def" else "parameter" if is_parameter else ""
            for number, part in enumerate(split_words(word).split() or [word]):
                yield part, kind, f"{'I' if number else 'B'}-{tag}" if tag else "O"
        before = word


def tagged_rows(entries: Iterable[Entry]) -> Iterator[dict[str, object]]:
    """Yield the rows of token classification: the words of a signature, kinds and tags."""
    for entry in entries:
        if entry.signature:
            words, kinds, tags = zip(*tagged_words(entry.signature), strict=True)
            yield {"words": words, "kinds": kinds, "tags": tags}


def reading_rows(entries: Iterable[Entry]) -> Iterator[dict[str, object]]:
    """Yield the rows of machine reading: two questions about each signature, with the answer's place in it.

    Examples:
        >>> entry = Entry("m", "function", "read", [], "def read(self, end=0)")
        >>> for row in reading_rows([entry]): print(row["question"], row["answers"])
        which is the last parameter {'text': ['end'], 'answer_start': [15]}
        which is the first parameter {'text': ['self'], 'answer_start': [9]}
    """
    for entry in entries:
        signature = entry.signature
        if not signature.isascii() or not signature:  # places in a tree of Python are counted in bytes
            continue
        function = ast.parse(f"{signature}: pass").body[0]
        assert isinstance(function, ast.FunctionDef)
        parameters = [(arg.col_offset, arg.arg) for arg in function.args.args]
        defaults = [
            (node.col_offset, signature[node.col_offset : node.end_col_offset]) for node in function.args.defaults
        ]
        answers = {
            "which function is it": [(len("def "), function.name)],
            "which is the first parameter": parameters[:1],
            "which is the last parameter": parameters[-1:],
            "what is the last default": defaults[-1:],
        }
        for question in random.Random(signature).sample(sorted(answers), 2):
            starts, texts = zip(*answers[question], strict=True) if answers[question] else ((), ())
            found = {"text": list(texts), "answer_start": list(starts)}
            yield {"question": question, "signature": signature, "answers": found}


def documents(entries: Iterable[Entry]) -> Iterator[dict[str, object]]:
    r"""Yield a document for each module: what is said about its objects, a paragraph each.

    Examples:
        >>> read, file = Entry("m", "function", "read", ["Read.", "All."]), Entry("m", "class", "File", ["A file."])
        >>> list(documents([read, file]))
        [{'name': 'm', 'text': 'Read. All.\n\nA file.'}]
    """
    modules: dict[str, list[str]] = {}
    for entry in entries:
        modules.setdefault(entry.module, []).append(" ".join(entry.sentences))
    yield from ({"name": name, "text": "\n\n".join(paragraphs)} for name, paragraphs in modules.items())


def labels_of(row: Mapping[str, Any]) -> set[tuple[str, str | None]]:
    """Return the labels of a row of sequence or token classification, each with its column.

    Examples:
        >>> sorted(labels_of({"words": ["def", "f"], "kinds": ["keyword", "name"]}))[:2]
        [('kind', None), ('kinds', 'keyword')]
    """
    return {("kind", row.get("kind")), *((name, label) for name in ("kinds", "tags") for label in row.get(name, ()))}


def write_rows(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_data(folder: Path, candidates: int = 8, limit: int | None = None) -> list[str]:
    """Write a folder a task with a file a split; return the training texts."""
    entries = distinct(standard_library())
    texts, answers = [], []
    known: set[tuple[str, str | None]] = set()
    for split in ("train", "valid", "test"):
        chosen = [entry for entry in entries if split_of(entry.module) == split][:limit]
        rows = list(ranking_rows(chosen, 4 if split == "train" else candidates))
        answers += [row["answer"] for row in rows]
        if split == "train":
            texts = [f"{entry.name} {' '.join(entry.sentences)}" for entry in chosen]
        write_rows(folder / "answer_selection" / f"{split}.jsonl", rows)
        write_rows(folder / "masked_lm" / f"{split}.jsonl", passages(chosen))
        write_rows(folder / "structural_pretraining" / f"{split}.jsonl", documents(chosen))
        if split == "train":
            write_rows(folder / "retrieval" / "train.jsonl", (row for row in rows if row["label"]))
        write_rows(folder / "question_answering" / f"{split}.jsonl", reading_rows(chosen))
        for task, labelled in (("seq_class", class_rows(chosen)), ("token_class", tagged_rows(chosen))):
            found = list(labelled)
            if split == "train":
                known |= set().union(*map(labels_of, found))
            # a label that training lacks is an error; a few training rows may lack a rare one
            write_rows(folder / task / f"{split}.jsonl", (row for row in found if labels_of(row) <= known))
        questions = len({row["key"] for row in rows})
        print(f"{split}: {len(chosen)} documented objects, {questions} questions, {len(rows)} candidates")
    corpus = [{"answer": answer} for answer in dict.fromkeys(answers)]
    write_rows(folder / "retrieval" / "corpus.jsonl", corpus)
    counts = Counter(word for text in texts for word in re.findall(r"\b[a-z]{4,}\b", text))
    common = {word for word, _ in counts.most_common(300)}
    write_rows(folder / "masked_lm" / "predict.jsonl", hidden_words(chosen, common))  # of the test packages
    return texts


def save_model(folder: Path, texts: Iterable[str], vocabulary: int) -> None:
    """Train a lowercase WordPiece tokenizer on texts; save it and the configuration of a small BERT.

    Beside it, ``bi_encoder`` has a wider BERT of one layer for embeddings, ``encoder_decoder`` a small BART, ``t5`` a
    small T5. All have the same tokenizer; that of T5 has sentinels too.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BartConfig, BertConfig, PreTrainedTokenizerFast, T5Config

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    wordpiece = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    wordpiece.normalizer = normalizers.BertNormalizer(lowercase=True)
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wordpiece.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    wordpiece.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    wordpiece.train_from_iterator(texts, trainer)
    size = wordpiece.get_vocab_size()
    # from BERT's own initializer range of 0.02 a model of this size had learned nothing after some hundred steps
    bert = BertConfig(
        vocab_size=size, hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=128, max_position_embeddings=128, hidden_dropout_prob=0.0, initializer_range=0.08,
    )  # fmt: skip
    wide = BertConfig(
        vocab_size=size, hidden_size=128, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=256, max_position_embeddings=128, hidden_dropout_prob=0.0, initializer_range=0.08,
    )  # fmt: skip
    bart = BartConfig(
        vocab_size=size, d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=128, decoder_ffn_dim=128, max_position_embeddings=128, dropout=0.0,
        init_std=0.08, pad_token_id=0, bos_token_id=2, eos_token_id=3, decoder_start_token_id=3, forced_eos_token_id=3,
    )  # fmt: skip
    t5 = T5Config(
        vocab_size=size + SENTINELS, d_model=64, d_kv=32, d_ff=128, num_layers=2, num_heads=2, dropout_rate=0.0,
        pad_token_id=0, eos_token_id=3, decoder_start_token_id=0,
    )  # fmt: skip
    names: dict[str, Any] = {f"{name.strip('[]').lower()}_token": name for name in special}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    for name, config in ((folder.name, bert), ("bi_encoder", wide), ("encoder_decoder", bart), ("t5", t5)):
        if config is t5:
            names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]"}
            names["additional_special_tokens"] = [f"<extra_id_{i}>" for i in range(SENTINELS)]
            wordpiece.post_processor = processors.TemplateProcessing(
                single="$A [SEP]", pair="$A [SEP] $B [SEP]", special_tokens=[("[SEP]", 3)]
            )
            inputs.remove("token_type_ids")
        PreTrainedTokenizerFast(
            tokenizer_object=wordpiece, model_max_length=128, model_input_names=inputs, **names
        ).save_pretrained(folder.parent / name)
        config.save_pretrained(folder.parent / name)


def main() -> None:
    """Write the data, and the tokenizers and configurations to ``model/`` and the folders beside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder to write to")
    parser.add_argument("--candidates", type=int, default=8, help="candidates of a valid or test question; training: 4")
    parser.add_argument("--limit", type=int, help="documented objects a split, for quick tries")
    parser.add_argument("--vocabulary", type=int, default=2000, help="size of the tokenizer's vocabulary")
    args = parser.parse_args()
    save_model(args.folder / "model", write_data(args.folder, args.candidates, args.limit), args.vocabulary)


if __name__ == "__main__":
    main()
