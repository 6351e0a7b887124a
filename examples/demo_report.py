"""Show what the demo's models predict, and compare them with what needs no training.

python examples/demo_report.py outputs/demo
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
CLEARLY = 0.05


def read_rows(path: Path) -> list[Row]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def words_of(text: str) -> set[str]:
    """Return the lowercase words of a text."""
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def overlap_scorer(answers: Iterable[str]) -> Callable[[Row], float]:
    """Return a function that scores a row by the words that its texts share, the rare ones of ``answers`` more."""
    texts = set(answers)
    seen = Counter(word for text in texts for word in words_of(text))
    return lambda row: sum(
        math.log((1 + len(texts)) / (1 + seen[word])) for word in words_of(row["question"]) & words_of(row["answer"])
    )


def reciprocal_rank(rows: list[Row], score: Callable[[Row], float]) -> float:
    """Return 1 / rank of the right candidate of a question; the mean over all orders where scores are equal."""
    right = score(next(row for row in rows if row["label"]))
    above = sum(score(row) > right for row in rows)
    equal = sum(score(row) == right for row in rows)
    return sum(1 / rank for rank in range(above + 1, above + equal + 1)) / equal


def unigram_perplexity(train: Iterable[int], test: Iterable[int], vocabulary: int) -> float:
    """Return the perplexity of tokens for a guess that knows nothing but how frequent each token is in training."""
    seen = Counter(train)
    total = sum(seen.values()) + vocabulary  # each token counts once more, so that none is impossible
    losses = [math.log(total / (1 + seen[token])) for token in test]
    return math.exp(sum(losses) / len(losses))


def last_scalar(folder: Path, name: str) -> float:
    """Return the last value that a run logged under a name."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    files = sorted(folder.glob("events.out.*"), key=lambda path: path.stat().st_mtime_ns)
    values = [
        float(make_ndarray(value.tensor))
        for path in files
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.tag == name
    ]
    return values[-1]


def report_filling(folder: Path, show: int) -> None:
    """Print some filled masks, how many are right, and the perplexity beside that of token frequencies."""
    from tokenizers import Tokenizer

    rows = read_rows(folder / "predictions" / "masked_lm" / "predict.jsonl")
    guesses = [row["prediction"][0] if row["prediction"] else {"prediction": "", "score": 0.0} for row in rows]
    print("\nWords filled in by the pre-trained model, in texts of packages that were not in training:")
    for row, guess in list(zip(rows, guesses, strict=True))[:: max(1, len(rows) // show)][:show]:
        print(f"\n  {row['name']}: {row['text'][:90]}")
        print(f"    {guess['prediction']} ({guess['score']:.2f}); it was: {row['word']}")
    right = sum(row["word"] == guess["prediction"] for row, guess in zip(rows, guesses, strict=True))
    print(f"\n{right} of {len(rows)} are right: a model this small, trained for a minute, knows few words.")

    tokenizer = Tokenizer.from_file(str(folder / "data" / "model" / "tokenizer.json"))
    tokens = {
        split: [
            token
            for row in read_rows(folder / "data" / "masked_lm" / f"{split}.jsonl")
            for column in ("name", "text")
            for token in tokenizer.encode(row[column], add_special_tokens=False).ids
        ]
        for split in ("train", "test")
    }
    print("\n                                            perplexity")
    unigram = unigram_perplexity(tokens["train"], tokens["test"], tokenizer.get_vocab_size())
    print(f"  how frequent each token is in training    {unigram:10.1f}")
    model = last_scalar(folder / "tensorboard" / "masked_lm", "test/masked_lm/perplexity")
    print(f"  the pre-trained model, hidden tokens      {model:10.1f}")


def report_ranking(folder: Path, show: int) -> dict[str, float]:
    """Print some ranked answers and how well each way ranks; return the means."""

    def questions_of(name: str) -> list[list[Row]]:
        questions: dict[str, list[Row]] = {}
        for row in read_rows(folder / "predictions" / name / "test.jsonl"):
            questions.setdefault(row["key"], []).append(row)
        return list(questions.values())

    runs = {name: questions_of(name) for name in ("from_scratch", "pre_trained")}
    groups = runs["pre_trained"]
    print("\nAnswers ranked by the model that was pre-trained; * is the right one:")
    for rows in groups[:: max(1, len(groups) // show)][:show]:
        print(f"\n{rows[0]['question']}?")
        for row in sorted(rows, key=lambda row: -row["scores"])[:4]:
            print(f"  {'*' if row['label'] else ' '} {row['scores']:6.2f}  {row['answer'][:90]}")

    overlap = overlap_scorer(row["answer"] for row in read_rows(folder / "data" / "answer_selection" / "train.jsonl"))
    ways: dict[str, tuple[list[list[Row]], Callable[[Row], float]]] = {
        "random order (expected)": (groups, lambda row: 0.0),
        "words in common (idf)": (groups, overlap),
        "from scratch": (runs["from_scratch"], lambda row: row["scores"]),
        "pre-trained first": (groups, lambda row: row["scores"]),
    }
    means = {
        name: sum(reciprocal_rank(rows, score) for rows in questions) / len(questions)
        for name, (questions, score) in ways.items()
    }
    print(f"\n{len(groups)} questions about packages that were not in training, one right candidate in each,")
    print("so that average precision is the reciprocal rank:\n\n                            MAP    MRR")
    for name, mean in means.items():
        print(f"  {name:24} {mean:.3f}  {mean:.3f}")
    gain = means["pre-trained first"] - means["from scratch"]
    print(f"\nPre-training first: {gain:+.3f}, with the same fine-tuning (data, epochs, learning rate) of one seed.")
    return means


def main() -> int:
    """Print the report; return 1 when the pre-trained model is not clearly better than random order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="--output_dir of the demo's runs")
    parser.add_argument("--show", type=int, default=4, help="texts and questions to show")
    args = parser.parse_args()
    report_filling(args.folder, args.show)
    means = report_ranking(args.folder, args.show)
    if means["pre-trained first"] < means["random order (expected)"] + CLEARLY:
        print("\nThe model is not clearly better than random order: something is wrong.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
