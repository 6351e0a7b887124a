"""Evaluation by generation: our command beside ``Seq2SeqTrainer.evaluate``, one model, and whether texts are equal.

BART of 4 + 4 layers with random weights, which end no text before its 64 tokens; beams of 4. Every run is a process of
its own that loads the model, generates, computes loss, ROUGE and BLEU. What is timed is the evaluation: all that
``trainer.evaluate`` and our test of a data set do, on our side tokenizing too, and writing the predictions.

The peer pads documents otherwise, and where two beams are as good as equal, rounding decides: some texts differ. In
float64, where it decides nothing, all must be equal; that is tried once, without a clock.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.clock import peak_mib
from benchmarks.encoder_decoder import read, save_bart
from benchmarks.material import environment, prepare
from benchmarks.rounds import alternate, last_json, median, median_ratio, table

BATCH_SIZE, SOURCE, TARGET, BEAMS = 16, 512, 64, 4
SPREAD = 0.3  # of random weights; with the usual 0.02 nearly all texts are the same
PEER, OURS = "`Seq2SeqTrainer.evaluate`", "transformers_framework"


def run(scratch: Path, data: Path | None, rounds: int, precisions: Sequence[str], threads: int, busy: bool) -> str:
    """Return a table of rows per second.

    Args:
        scratch: Folder for all files.
        data: Folder with a ``test.jsonl`` of ``document`` and ``summary``; none: the demo's, from the documentation.
        rounds: Runs of every contender.
        precisions: ``32``, ``bf16``.
        threads: Threads of every run.
        busy: Count processor time instead of the wall clock's.
    """
    rows, name = (data / "test.jsonl", data.name) if data else (_documentation(scratch), "documentation")
    run_of = partial(_run, _model(scratch / f"summarizer_of_{name}", rows), rows, scratch, threads)
    lines = [line for precision in precisions for line in _timed(run_of, rounds, precision, busy)]
    ours, theirs = (run_of(contender, "64") for contender in (OURS, PEER))
    lines.append((OURS, "64", "", "", "", _equal(ours, theirs)))
    title = f"evaluation of {len(theirs.texts)} rows of {name}"
    return table((title, "precision", "rows/s", "to the peer", "peak MiB", "equal texts"), lines)


class Run(NamedTuple):
    """What a contender did: the texts that it generated, and what they cost."""

    texts: list[str]
    seconds: float
    cpu_seconds: float
    peak_mib: float


def _run(model: Path, rows: Path, scratch: Path, threads: int, contender: str, precision: str) -> Run:
    program = {PEER: "benchmarks.peer_seq_to_seq", OURS: "benchmarks.generation"}[contender]
    written = scratch / "generated.jsonl"
    words = map(str, (model, rows, scratch, precision, written))
    result = last_json([sys.executable, "-m", program, *words], environment(threads))
    return Run(read(written, "text"), **result)


def _timed(run_of: Callable[[str, str], Run], rounds: int, precision: str, busy: bool) -> list[tuple[str, ...]]:
    runs: dict[str, list[Run]] = {PEER: [], OURS: []}

    def rate(contender: str) -> float:
        found = run_of(contender, precision)
        runs[contender].append(found)
        return len(found.texts) / (found.cpu_seconds if busy else found.seconds)

    lines = []
    values = alternate({contender: partial(rate, contender) for contender in runs}, rounds)
    for contender, rates in values.items():
        ratio = f"{median_ratio(values, contender, PEER):.2f}"
        memory = median(found.peak_mib for found in runs[contender])
        equal = _equal(runs[contender][-1], runs[PEER][-1]) if contender != PEER else ""
        lines.append((contender, precision, f"{median(rates):.2f}", ratio, f"{memory:,.0f}", equal))
    return lines


def _equal(ours: Run, theirs: Run) -> str:
    equal = sum(mine == other for mine, other in zip(ours.texts, theirs.texts, strict=True))
    return f"{equal} of {len(theirs.texts)}"


def _documentation(scratch: Path) -> Path:
    """Write documents of different lengths, whose summary is their beginning, from the documentation of this Python."""
    answers = list(dict.fromkeys(read(prepare(scratch).train, "answer")))
    lengths = random.Random(17)
    documents = []
    while len(answers) >= (size := lengths.randint(1, 6)) and len(documents) < 256:
        documents.append(" ".join(answers.pop() for _ in range(size)))
    file = scratch / "documents.jsonl"
    rows = [{"document": text, "summary": text[:120]} for text in documents]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def _model(folder: Path, rows: Path) -> Path:
    """Save a model with random weights and a tokenizer of the documents, unless it is there; return its folder."""
    if not (folder / "model.safetensors").exists():
        import torch
        from transformers import AutoConfig, AutoModelForSeq2SeqLM

        save_bart(folder, [*read(rows, "document"), *read(rows, "summary")], vocabulary=None)
        torch.manual_seed(17)
        config = AutoConfig.from_pretrained(folder, init_std=SPREAD)
        AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
    return folder


def main(model: str, rows: str, scratch: str, precision: str, written: str) -> None:
    """Test our way, and write how long it took and the texts."""
    from transformers_framework.cli.main import main as program
    from transformers_framework.experiment import Experiment

    evaluate, result = Experiment._evaluate, {}

    def timed(experiment: Experiment, *args: object) -> None:
        start, cpu_start = time.perf_counter(), time.process_time()
        evaluate(experiment, *args)
        result.update(seconds=time.perf_counter() - start, cpu_seconds=time.process_time() - cpu_start)

    Experiment._evaluate = timed
    words = [
        *("--pipeline", "summarization", "--model", "bart", "--name", "generation", "--overwrite"),
        *("--output_dir", f"{scratch}/outputs", "--cache_dir", f"{scratch}/cache", "--pre_trained_model", model),
        *("--test_dataset", rows, "--document_column", "document", "--summary_column", "summary"),
        *("--batch_size", str(BATCH_SIZE), "--max_sequence_length", str(SOURCE), str(TARGET)),
        *("--generation_num_beams", str(BEAMS), "--generation_max_length", str(TARGET)),
        *("--precision", precision, "--accelerator", "cpu", "--num_workers", "0"),
    ]
    if status := program(words):
        sys.exit(status)
    found = read(Path(scratch, "outputs", "predictions", "generation", "test.jsonl"), "prediction")
    write_result(Path(written), found, result)


def write_result(file: Path, texts: list[str], result: dict[str, float]) -> None:
    """Write generated texts to a file, and say how long they took."""
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    sys.stdout.write("\n" + json.dumps({**result, "peak_mib": peak_mib()}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
