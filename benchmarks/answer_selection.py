"""Answer selection beside published figures: TREC-QA one candidate at a time, and jointly without and with MSPP.

Every contender starts from the same checkpoint and is trained and tested once per seed; ``joint, MSPP`` is pre-trained
on documents first, once for all seeds. The published figures are those of RoBERTa-base, five runs, trained on the large
training set (Di Liello, Garg, Soldaini, Moschitti 2022, "Paragraph-based Transformer Pre-training for Multi-Sentence
Inference", table 1). Finished runs in the folder of the outputs are not repeated.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.material import environment
from benchmarks.rounds import table

# the same in pre-training and fine-tuning. Not --separated, as in the paper: MiniLM's states of several [CLS] are equal
LAYOUT = ("-k", "5", "--max_sequence_length", "320")
BATCHES = ("--batch_size", "16", "--eval_batch_size", "64")
PRE_TRAINING = (
    *LAYOUT,
    *BATCHES,
    *("--documents_column", "text", "--structure", "same_paragraph", "--span_sentences", "1", "1"),
    *("--positives", "1", "--hard_negatives", "2", "--easy_negatives", "2"),
    *("--learning_rate", "1e-4", "--weight_decay", "0.01", "--gradient_clip_val", "1.0"),
)
FINE_TUNING = ("--learning_rate", "5e-5", "--num_warmup_steps", "30", "--keep_checkpoints", "none")
COLUMNS = ("--input_columns", "question", "answer", "--label_column", "label", "--index_column", "key")
PAIRWISE = ("--max_sequence_length", "96", "--batch_size", "32", "--eval_batch_size", "128", "--max_epochs", "3")
JOINT = (*LAYOUT, *BATCHES, "--pad_to_k", "--grouping", "random", "--max_epochs", "5")
METRICS = {"MAP": "mean_average_precision", "MRR": "mean_reciprocal_rank", "P@1": "precision@1"}
OBJECTIVE = "answer_selection"
ALONE, WITHOUT, WITH = "one by one", "joint, without pre-training", "joint, MSPP"


class Contender(NamedTuple):
    """A way to train a ranker.

    Args:
        name: Name of its runs.
        flags: What differs from the other ones.
        published: MAP, MRR and P@1 in percent, as far as the paper's figures are known.
        is_pre_trained: Whether it starts from the model that is pre-trained on documents.
    """

    name: str
    flags: Sequence[str]
    published: Sequence[str]
    is_pre_trained: bool = False


CONTENDERS = {
    ALONE: Contender("pairwise", PAIRWISE, ("89.3", "93.1", "87.9")),
    WITHOUT: Contender("joint", JOINT, ("41.9", "", "")),
    WITH: Contender("joint_mspp", JOINT, ("91.1", "95.2", "91.7"), is_pre_trained=True),
}


class Setting(NamedTuple):
    """What rankers are trained from, and how.

    Args:
        questions: Folder with ``train.jsonl``, ``dev.jsonl`` and ``test.jsonl`` of question, answer, label and key.
        documents: Folder with ``train.jsonl`` and ``dev.jsonl``, a text with paragraphs in each row.
        model: Checkpoint of a BERT, with weights.
        outputs: Folder of all runs.
        steps: Optimizer steps of the pre-training.
        seeds: Number of seeds.
        precision: Precision of all runs.
        threads: Threads of every run.
    """

    questions: Path
    documents: Path
    model: Path
    outputs: Path
    steps: int
    seeds: int
    precision: str
    threads: int


def run(setting: Setting) -> str:
    """Train and test all contenders; return a table of their metrics beside the published ones."""
    for command in commands(setting):
        words = [sys.executable, "-m", "transformers_framework", *command]
        if subprocess.run(words, env=environment(setting.threads), stdout=sys.stderr).returncode:
            raise SystemExit(f"failed: {' '.join(words)}")
    return report(setting.outputs)


def commands(setting: Setting) -> Iterator[list[str]]:
    """Yield the words of all runs, in the order in which they need each other; finished ones are left out."""
    checkpoint = setting.outputs / "pre_trained_models" / "mspp" / "final"
    common = [
        *("--model", "bert", "--output_dir", str(setting.outputs), "--precision", setting.precision),
        *("--accelerator", "cpu", "--num_workers", "0", "--length_bucketing", "--num_sanity_val_steps", "0"),
    ]
    if not (setting.outputs / "checkpoints" / "mspp" / "results.json").exists():
        yield [
            *("--pipeline", "structural_pretraining", "--name", "mspp", "--resume", *common, *PRE_TRAINING),
            *("--pre_trained_model", str(setting.model), "--max_steps", str(setting.steps)),
            *("--num_warmup_steps", str(setting.steps // 16)),
            *(word for split in ("train", "dev") for word in dataset(setting.documents, split)),
        ]
    for contender in CONTENDERS.values():
        start = checkpoint if contender.is_pre_trained else setting.model
        yield [
            *("--pipeline", OBJECTIVE, "--name", contender.name, *common, *COLUMNS, *FINE_TUNING, *contender.flags),
            *("--pre_trained_model", str(start), "--seeds", *map(str, range(1, setting.seeds + 1))),
            *(word for split in ("train", "dev", "test") for word in dataset(setting.questions, split)),
        ]


def dataset(folder: Path, split: str) -> tuple[str, str]:
    """Return the flag and the file of a split."""
    return f"--{'valid' if split == 'dev' else split}_dataset", str(folder / f"{split}.jsonl")


def report(outputs: Path) -> str:
    """Return a table of finished runs: mean and deviation over seeds, published figures, p-values of the differences.

    Args:
        outputs: Folder of all runs.
    """
    from transformers_framework.several.comparison import compare
    from transformers_framework.several.finished_runs import find_run
    from transformers_framework.several.results import SEEDS

    runs = {title: find_run(f"{contender.name}{SEEDS}", outputs) for title, contender in CONTENDERS.items()}
    titles = list(runs)
    wanted = [f"test/{OBJECTIVE}/{metric}" for metric in METRICS.values()]
    cells = compare(list(runs.values()), stage="test", metrics=wanted).cells
    gain = compare([runs[WITHOUT], runs[WITH]], stage="test", metrics=wanted).cells
    rows = []
    for place, (title, contender) in enumerate(CONTENDERS.items()):
        found = [cells[name][place] for name in wanted]
        published = " / ".join(figure or "–" for figure in contender.published)
        rows.append((title, *map(_with_deviation, found), _significance(found[0]), published))
    seeds = len(runs[titles[0]].members)
    title = f"TREC-QA, {seeds} {'seeds' if seeds > 1 else 'seed'}; percent"
    found_table = table((title, *METRICS, f"p of MAP to '{ALONE}'", "published MAP / MRR / P@1"), rows)
    return f"{found_table}\n\n'{WITH}' to '{WITHOUT}', MAP: {_significance(gain[wanted[0]][1])}."


def _with_deviation(cell: Any) -> str:
    deviation = "" if cell.deviation is None else f" ± {100 * cell.deviation:.1f}"
    return f"{100 * cell.value:.1f}{deviation}"


def _significance(cell: Any) -> str:
    """Return the difference and its p-values over questions (approximate randomization) and over seeds (Welch)."""
    if cell.difference is None:
        return ""
    tested = {"questions": cell.p_value, "seeds": cell.p_of_seeds}
    known = ", ".join(f"{p:.3f} over {unit}" for unit, p in tested.items() if p is not None)
    return f"{100 * cell.difference:+.1f} (p {known})"
