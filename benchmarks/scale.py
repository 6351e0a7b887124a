"""What grows with the number of rows: start-up, steps, resuming, prediction and search, in time, memory and disk.

Rows are made texts of 4 to 24 words, the model has one layer of 32, so that everything but the model is seen. Each run
is a process of its own. To resume at 90 % of an epoch, the checkpoint of a few steps gets the position of that row. The
search compares 100 queries with an array file of made embeddings of 384 numbers, in blocks, as the search of a corpus
does with the passages that it encodes.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.clock import peak_mib
from benchmarks.material import ROOT, environment, save_model
from benchmarks.rounds import last_json, table

FIGURE = ROOT / "benchmarks" / "scale.png"
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
WORDS, BATCH, STEPS, SKIP = 3000, 64, 40, 10
QUERIES, WIDTH, BLOCK = 100, 384, 4096
COLUMNS = {  # of the table, with the panel of the figure that they are in
    "rows": None,
    "cold start, s": "seconds",
    "warm start, s": "seconds",
    "resume, s": "seconds",
    "predict, s": "seconds",
    "search, s": "seconds",
    "steps/s": None,
    "training, MiB": "MiB",
    "worker, MiB": "MiB",
    "predict, MiB": "MiB",
    "search, MiB": "MiB",
    "cache, MiB": "MiB",
}


def run(scratch: Path, largest: int, threads: int, busy: bool) -> str:
    """Return a table of all numbers of rows from 10,000 to ``largest``, and draw it.

    Args:
        scratch: Folder for all files.
        largest: Largest number of rows.
        threads: Threads of each process.
        busy: Count processor time instead of the wall clock's.
    """
    scratch /= "scale"
    rows = [measured(scratch, 10**power, threads, busy) for power in range(4, len(str(largest)))]
    draw(rows, FIGURE)
    text = table(list(COLUMNS), [[shown(row[name]) for name in COLUMNS] for row in rows])
    return f"{text}\n\nThe figure is in {FIGURE}"


def measured(scratch: Path, num_rows: int, threads: int, busy: bool) -> dict[str, float]:
    """Return the values of a row of the table."""
    folder = scratch / f"rows_{num_rows}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data, model = folder / "rows.jsonl", scratch / "model"
    with data.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text, "label": row % 2}) + "\n" for row, text in enumerate(texts(num_rows)))
    if not (model / "config.json").exists():
        save_model(model, list(texts(5000)), sizes=SIZES)

    def child(kind: str, *words: str) -> dict[str, float]:
        sys.stderr.write(f"  {num_rows} rows: {kind}\n")
        return last_json([sys.executable, "-m", "benchmarks.scale", kind, str(int(busy)), *words], environment(threads))

    shared = ["--pipeline", "seq_class", "--model", "bert", "--input_columns", "text", "--label_column", "label"]
    shared += ["--output_dir", str(folder / "out"), "--cache_dir", str(folder / "cache"), "--max_sequence_length", "64"]
    shared += ["--batch_size", str(BATCH), "--accelerator", "cpu", "--num_workers", "1", "--monitor", "none"]
    shared += ["--figures", "false", "--enable_progress_bar", "false", "--pre_trained_tokenizer", str(model)]
    training = [*shared, "--pre_trained_config", str(model), "--train_dataset", str(data), "--length_bucketing"]
    first = [*training, "--name", "run", "--max_steps", str(STEPS)]
    cold = child("train", *first)
    warm = child("train", *first, "--overwrite")
    move_to(folder / "out" / "checkpoints" / "run" / "last.ckpt", num_rows * 9 // 10)
    resumed = child("train", *training, "--name", "run", "--max_steps", str(STEPS + 3), "--resume")
    export = str(folder / "out" / "pre_trained_models" / "run" / "final")
    predicted = child(
        "train", *shared, "--name", "predict", "--pre_trained_model", export, "--predict_dataset", str(data)
    )
    searched = child("search", str(folder / "embeddings"), str(num_rows))
    cache = sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file()) / 2**20
    shutil.rmtree(folder)
    values = [num_rows, cold["start"], warm["start"], resumed["start"], predicted["seconds"], searched["seconds"]]
    values += [warm["rate"], max(run["own_mib"] for run in (cold, warm, resumed)), warm["worker_mib"]]
    values += [predicted["own_mib"], searched["own_mib"], cache]
    return dict(zip(COLUMNS, values, strict=True))


def texts(count: int) -> Iterator[str]:
    """Yield made texts of 4 to 24 words; all numbers are hashes of the row."""
    for row in range(count):
        state = (row + 1) * 0x9E3779B97F4A7C15 % 2**64
        words = []
        for _ in range(4 + state % 21):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            words.append(f"w{(state >> 33) % WORDS}")
        yield " ".join(words)


def move_to(checkpoint: Path, row: int) -> None:
    """Let a checkpoint continue its epoch after another row."""
    import torch

    state = torch.load(checkpoint, weights_only=True)
    state["DataModule"]["consumed"] = row // BATCH * BATCH
    torch.save(state, checkpoint)


def shown(value: float) -> str:
    """Return a number as the table shows it."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def draw(rows: Sequence[dict[str, float]], path: Path) -> None:
    """Draw seconds and memory over the number of rows, both logarithmic."""
    from transformers_framework.reports.figures.canvas import DASHES, SERIES, canvas, png

    with canvas(2, height=8.0) as (figure, panels):
        for panel, unit in zip(panels, ("seconds", "MiB"), strict=True):
            names = [name for name, of in COLUMNS.items() if of == unit]
            for name, colour, dashes in zip(names, SERIES, DASHES, strict=False):
                values = [max(row[name], 1e-2) for row in rows]
                label = name.partition(",")[0]
                panel.plot([row["rows"] for row in rows], values, dashes, color=colour, marker="o", label=label)
            panel.set(xscale="log", yscale="log", ylabel=unit)
            panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        panels[1].set(xlabel="rows")
        path.write_bytes(png(figure))


# --- the processes that are measured ---------------------------------------------------------------------------------


class Memory:
    """The largest private memory of this process and of a worker: not files that are mapped into memory."""

    def __init__(self) -> None:
        self.own = self.worker = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        import multiprocessing

        while True:
            self.own = max(self.own, private_mib("self"))
            for child in multiprocessing.active_children():
                self.worker = max(self.worker, private_mib(str(child.pid)))
            time.sleep(0.02)


def private_mib(process: str) -> float:
    """Return the private memory of a process; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text("utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), 0.0)


def with_meter(clock: Callable[[], float], found: dict[str, float]) -> None:
    """Give every run of this process a callback that notes the time of its steps."""
    import pytorch_lightning as pl

    from transformers_framework import experiment

    class Meter(pl.Callback):
        steps = 0

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
            self.steps += 1
            if self.steps == 1:
                found["start"] = clock()
            if self.steps == SKIP:
                found["rate"] = clock()
            if self.steps == STEPS:
                found["rate"] = (STEPS - SKIP) / (clock() - found["rate"])

    callbacks = experiment.run_callbacks
    experiment.run_callbacks = lambda run: [*callbacks(run), Meter()]


def search(path: Path, num_rows: int, clock: Callable[[], float]) -> dict[str, float]:
    """Search an array file of made embeddings and return the seconds of the search alone."""
    import numpy as np
    import torch

    from transformers_framework.metrics.search import TopPassages
    from transformers_framework.serving.embeddings import EmbeddingsFile

    draw = np.random.default_rng(17)
    with EmbeddingsFile(path, num_rows) as file:
        for start in range(0, num_rows, BLOCK):
            rows = np.arange(start, min(start + BLOCK, num_rows))
            file.write(rows, draw.standard_normal((len(rows), WIDTH), dtype=np.float32))
    best = TopPassages(torch.from_numpy(draw.standard_normal((QUERIES, WIDTH), dtype=np.float32)), 100)
    start, embeddings = clock(), np.load(path, mmap_mode="r")
    for first in range(0, num_rows, BLOCK):
        block = np.array(embeddings[first : first + BLOCK])
        best.add(torch.from_numpy(block), torch.arange(first, first + len(block)))
    assert best.numbers.shape == (QUERIES, 100)
    return {"seconds": clock() - start}


def main(kind: str, busy: int, words: Sequence[str]) -> None:
    """Do what is measured, and write the values as a line of JSON."""
    started = time.perf_counter()

    def clock() -> float:
        return time.process_time() if busy else time.perf_counter() - started

    memory, found = Memory(), dict[str, Any]()
    if kind == "search":
        found |= search(Path(words[0]), int(words[1]), clock)
    else:
        from transformers_framework.cli.main import main as program

        with_meter(clock, found)
        assert program(words) == 0
        found["seconds"] = clock()
    found |= {"own_mib": memory.own, "worker_mib": memory.worker, "peak_mib": peak_mib()}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
