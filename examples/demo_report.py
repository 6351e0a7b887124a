"""Show some ranked answers of a test run and compare its ranking with random order and with word overlap.

python examples/demo_report.py PREDICTIONS.jsonl TRAIN.jsonl
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


def main() -> int:
    """Print the report; return 1 when the model is not clearly better than random order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, help="predictions of the test set, as the run wrote them")
    parser.add_argument("train", type=Path, help="training rows: how rare words are is counted there")
    parser.add_argument("--show", type=int, default=4, help="questions to show")
    args = parser.parse_args()

    questions: dict[str, list[Row]] = {}
    for row in read_rows(args.predictions):
        questions.setdefault(row["key"], []).append(row)
    groups = list(questions.values())
    for rows in groups[:: max(1, len(groups) // args.show)][: args.show]:
        print(f"\n{rows[0]['question']}?")
        for row in sorted(rows, key=lambda row: -row["scores"])[:4]:
            print(f"  {'*' if row['label'] else ' '} {row['scores']:6.2f}  {row['answer'][:90]}")

    rankings: dict[str, Callable[[Row], float]] = {
        "random order (expected)": lambda row: 0.0,
        "words in common (idf)": overlap_scorer(row["answer"] for row in read_rows(args.train)),
        "the model": lambda row: row["scores"],
    }
    print(f"\n{len(groups)} questions about packages that were not in training, one right candidate (*) in each,")
    print("so that average precision is the reciprocal rank:\n\n                            MAP    MRR")
    means = {
        name: sum(reciprocal_rank(rows, score) for rows in groups) / len(groups) for name, score in rankings.items()
    }
    for name, mean in means.items():
        print(f"  {name:24} {mean:.3f}  {mean:.3f}")
    if means["the model"] < means["random order (expected)"] + CLEARLY:
        print("\nThe model is not clearly better than random order: something is wrong.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
