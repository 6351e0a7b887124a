"""Show what the demo's models rank first, and compare them with rankings that need no training.

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
Score = Callable[[Row], float]
RUNS = {
    "from_scratch": "cross-encoder, from scratch",
    "pre_trained": "cross-encoder, pre-trained",
    "bi_encoder": "bi-encoder, from scratch",
}
BEST, BASELINES = "bi_encoder", ("words in common (idf)", "BM25")


def read_rows(path: Path) -> list[Row]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def words_of(text: str) -> list[str]:
    """Return the lowercase words of a text."""
    return re.findall(r"[a-z0-9]+", text.lower())


def pieces_of(text: str) -> list[str]:
    """Return all strings of 3 to 5 characters in the words of a text, word boundaries included."""
    words = [f"_{word}_" for word in words_of(text)]
    return [word[i : i + n] for word in words for n in (3, 4, 5) for i in range(len(word) - n + 1)]


def overlap_scorer(answers: Iterable[str]) -> Score:
    """Return a function that scores a row by the words that its texts share, the rare ones of ``answers`` more."""
    texts = set(answers)
    seen = Counter(word for text in texts for word in set(words_of(text)))
    return lambda row: sum(
        math.log((1 + len(texts)) / (1 + seen[word]))
        for word in set(words_of(row["question"])) & set(words_of(row["answer"]))
    )


def bm25_scorer(answers: Iterable[str], terms_of: Callable[[str], list[str]] = words_of) -> Score:
    """Return a function that scores a row by BM25 (k1 1.2, b 0.75; Robertson and Zaragoza 2009, section 3.2)."""
    texts = [terms_of(text) for text in dict.fromkeys(answers)]
    seen = Counter(term for text in texts for term in set(text))
    length = sum(map(len, texts)) / len(texts)

    def score(row: Row) -> float:
        answer = terms_of(row["answer"])
        counts, normalizer = Counter(answer), 1.2 * (0.25 + 0.75 * len(answer) / length)
        return sum(
            math.log(1 + (len(texts) - seen[term] + 0.5) / (seen[term] + 0.5)) * 2.2 * counts[term]
            / (counts[term] + normalizer)
            for term in set(terms_of(row["question"])) & counts.keys()
        )  # fmt: skip

    return score


def reciprocal_rank(rows: list[Row], score: Score) -> float:
    """Return 1 / rank of the right candidate of a question; the mean over all orders where scores are equal."""
    scores = [score(row) for row in rows]
    right = scores[[row["label"] for row in rows].index(1)]
    above, equal = sum(score > right for score in scores), scores.count(right)
    return sum(1 / rank for rank in range(above + 1, above + equal + 1)) / equal


def questions_of(folder: Path, name: str) -> list[list[Row]]:
    """Return the tested rows of a run, question by question, with their scores."""
    questions: dict[str, list[Row]] = {}
    for row in read_rows(folder / "predictions" / name / "test.jsonl"):
        questions.setdefault(row["key"], []).append(row)
    return list(questions.values())


def mean_average_precisions(folder: Path) -> dict[str, float]:
    """Return the mean average precision of each way to rank, over the same questions."""
    answers = [row["answer"] for row in read_rows(folder / "data" / "retrieval" / "corpus.jsonl")]
    groups = questions_of(folder, BEST)
    ways: dict[str, tuple[list[list[Row]], Score]] = {
        "random order (expected)": (groups, lambda row: 0.0),
        BASELINES[0]: (groups, overlap_scorer(answers)),
        BASELINES[1]: (groups, bm25_scorer(answers)),
        "BM25 of 3 to 5 characters": (groups, bm25_scorer(answers, pieces_of)),
        **{title: (questions_of(folder, name), lambda row: row["scores"]) for name, title in RUNS.items()},
    }
    return {
        name: sum(reciprocal_rank(rows, score) for rows in questions) / len(questions)
        for name, (questions, score) in ways.items()
    }


def draw(means: dict[str, float], path: Path) -> None:
    """Draw the means as bars, models in another colour."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    names = list(means)[::-1]
    colours = ["tab:blue" if name in RUNS.values() else "lightgray" for name in names]
    axes.bar_label(axes.barh(names, [means[name] for name in names], color=colours), fmt="%.3f", padding=3)
    axes.set(title="Finding the sentence that documents a name", xlabel="mean average precision", xlim=(0, 1))
    figure.savefig(path, dpi=150)


def main() -> int:
    """Print the report; return 1 when the bi-encoder does not rank better than shared words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="--output_dir of the demo's runs")
    parser.add_argument("--show", type=int, default=4, help="questions to show")
    args = parser.parse_args()
    groups = questions_of(args.folder, BEST)
    print("\nAnswers ranked by the bi-encoder; * is the right one:")
    for rows in groups[:: max(1, len(groups) // args.show)][: args.show]:
        print(f"\n{rows[0]['question']}?")
        for row in sorted(rows, key=lambda row: -row["scores"])[:4]:
            print(f"  {'*' if row['label'] else ' '} {row['scores']:6.2f}  {row['answer'][:90]}")

    means = mean_average_precisions(args.folder)
    print(f"\n{len(groups)} questions about packages that were not in training, one right candidate in each:\n")
    print(f"  {'':32}MAP")
    for name, mean in means.items():
        print(f"  {name:30}  {mean:.3f}")
    scratch, pre_trained, best = (means[title] for title in RUNS.values())
    words = max(means[name] for name in BASELINES)
    print(f"\nThe cross-encoder gains {pre_trained - scratch:+.3f} from pre-training, all else being equal.")
    print(f"The bi-encoder, against the best ranking by whole words: {best - words:+.3f}.")
    draw(means, args.folder / "demo.png")
    print(f"Figure: {args.folder / 'demo.png'}")
    if best <= words:
        print("\nThe model does not rank better than shared words: something is wrong.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
