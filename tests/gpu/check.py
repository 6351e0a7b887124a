"""The runs of ``check.sh``: training speed, memory and the losses of a few steps beside those of a CPU."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests import tiny
from transformers_framework.families import FAMILIES

TINY = bool(os.environ.get("TINY"))
LIMIT = 420.0  # seconds, after which no further run starts: the last one may take another minute
STEPS, TINY_STEPS, PARITY_STEPS = 60, 2, 8
TOLERANCE = 2e-2  # relative, of losses in float32 on both devices; products of float32 are exact there
VOCABULARIES = {"bert": 30522, "modernbert": 50368, "deberta_v2": 128100, "t5": 32128}


class Workload(NamedTuple):
    """One model and its pre-training.

    Args:
        name: As it is printed.
        model: Name of the family.
        flags: Flags of its runs.
        length: Tokens of an input.
        batch_size: Rows of a batch.
    """

    name: str
    model: str
    flags: Sequence[str]
    length: int
    batch_size: int


MLM = ("--pipeline", "masked_lm")
WORKLOADS = (
    Workload("BERT-base 512", "bert", (*MLM, "--packing", "full"), 512, 64),
    Workload("ModernBERT-base 1,024 isolated", "modernbert", (*MLM, "--packing", "isolated"), 1024, 32),
    Workload("DeBERTa-v3-base RTD", "deberta_v2", ("--pipeline", "token_detection_and_masked_lm"), 512, 32),
    Workload("T5-base", "t5", ("--pipeline", "denoising", "--packing", "full"), 512, 32),
)
# of the first workload
STRATEGIES: dict[str, Sequence[str]] = {
    "DDP": ("--precision", "bf16", "--strategy", "ddp"),
    "fp16, loss scaling": ("--precision", "16"),
    "DeepSpeed 2, fuse_adam": ("--precision", "16", "--strategy", "deepspeed_stage_2", "--optimizer", "fuse_adam"),
}


def write_texts(path: Path, rows: int) -> None:
    """Write texts of 20 to 600 words, as JSON lines."""
    words = sorted({word for row in tiny.classes(200, 0, num_labels=3) for word in row["text"].split()})
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            file.write(json.dumps({"text": " ".join(draw.choices(words, k=draw.randint(20, 600)))}) + "\n")


def write_model(folder: Path, model: str, *, small: bool) -> None:
    """Write config and tokenizer of a family: of its base size, or tiny."""
    sizes: Any = {} if small else {**FAMILIES[model].sizes["base"], "vocab_size": VOCABULARIES[model]}  # type: ignore[index]
    position = {} if model == "t5" else {"max_position_embeddings": 1024}
    tiny.config_for(model, **{**position, **sizes}).save_pretrained(folder)
    tiny.tokenizer_for(model).save_pretrained(folder)


class Runs:
    """Runs of the program in processes of their own, in a folder that is removed.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.failed, self.start = folder, 0, time.monotonic()
        write_texts(folder / "texts.jsonl", 64 if TINY else 20_000)
        for workload in WORKLOADS:
            write_model(folder / workload.model, workload.model, small=TINY)
            write_model(folder / f"tiny-{workload.model}", workload.model, small=True)

    def run(self, workload: Workload, *extra: str, steps: int, every: int, small: bool = TINY) -> list[dict[str, Any]]:
        """Train; return the lines of ``metrics.jsonl``, none if the run failed.

        Args:
            workload: What is trained.
            *extra: Further flags.
            steps: Optimizer steps.
            every: Steps between two lines.
            small: Whether the model is tiny.
        """
        output = self.folder / "outputs"
        length, rows = (64, 4) if small else (workload.length, workload.batch_size)
        lengths = (str(length), str(length // 2)) if workload.model == "t5" else (str(length),)
        model = f"tiny-{workload.model}" if small else workload.model
        command = [sys.executable, "-m", "transformers_framework", *workload.flags, "--model", workload.model]
        command += ["--name", "run", "--overwrite", "--output_dir", str(output), "--monitor", "none"]
        command += ["--cache_dir", str(self.folder / "cache"), "--train_dataset", str(self.folder / "texts.jsonl")]
        command += ["--input_columns", "text", "--pre_trained_config", str(self.folder / model)]
        command += ["--max_sequence_length", *lengths, "--batch_size", str(rows), "--max_steps", str(steps)]
        command += ["--log_every_n_steps", str(every), "--figures", "False", "--no_epoch_checkpointing", *extra]
        command += ["--learning_rate", "1e-4", "--num_workers", "0" if TINY else "4", "--devices", "1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        metrics = output / "checkpoints" / "run" / "metrics.jsonl"
        if done.returncode or not metrics.exists():
            self.failed += 1
            print(f"FAILED {workload.name} {' '.join(extra)}\n{(done.stdout + done.stderr)[-2000:]}", flush=True)
            return []
        return [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]

    def speed(self, label: str, workload: Workload, *extra: str) -> None:
        """Print tokens per second, MFU and peak memory of the last logged steps."""
        if time.monotonic() - self.start > LIMIT:
            print(f"{label}: left out, {LIMIT:.0f} s are over", flush=True)
            return
        steps = TINY_STEPS if TINY else STEPS
        accelerator = ("--accelerator", "cpu" if TINY else "gpu")
        lines = self.run(workload, *accelerator, *extra, steps=steps, every=max(1, steps // 3))
        if lines:
            last: dict[str, Any] = {}
            for line in lines:
                last |= {name.removeprefix("train/"): value for name, value in line.items()}
            shown = (f"{name} {last.get(name)}" for name in ("tokens_per_second", "mfu", "peak_memory_gb", "loss"))
            print(f"{label}: {', '.join(shown)}", flush=True)

    def parity(self, workload: Workload) -> None:
        """Compare the losses of a few steps of a tiny model on a GPU, or a second time, with those on a CPU."""
        flags = ["--precision", "32", "--float32_matmul_precision", "highest"]
        both = []
        for accelerator in ("cpu", "cpu" if TINY else "gpu"):
            lines = self.run(
                workload, "--accelerator", accelerator, *flags, *DROPOUT[workload.model],
                steps=TINY_STEPS if TINY else PARITY_STEPS, every=1, small=True,
            )  # fmt: skip
            both.append([line["train/loss"] for line in lines if "train/loss" in line])
        ours, theirs = both
        pairs = list(zip(ours, theirs, strict=False))
        far = max((abs(one - other) / abs(one) for one, other in pairs), default=float("inf"))
        agrees = len(ours) == len(theirs) and far < TOLERANCE
        self.failed += not agrees
        print(f"{workload.name}: losses differ by {far:.1e} from a CPU's: {'ok' if agrees else 'WRONG'}", flush=True)


NO_DROPOUT = ("--additional_config_kwargs", "hidden_dropout_prob=0", "attention_probs_dropout_prob=0")
DROPOUT: dict[str, Sequence[str]] = {
    "bert": NO_DROPOUT,
    "modernbert": (),
    "deberta_v2": NO_DROPOUT,
    "t5": ("--additional_config_kwargs", "dropout_rate=0"),
}


def main() -> int:
    """Run everything; return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder))
        for workload in WORKLOADS[: 1 if TINY else None]:
            runs.parity(workload)
        for workload in WORKLOADS:
            once = TINY and workload is not WORKLOADS[0]
            for way, flags in (("eager", ()), *(() if once else (("compiled", ("--compile",)),))):
                runs.speed(f"{workload.name}, bf16, {way}", workload, "--precision", "bf16", *flags)
        for name, flags in STRATEGIES.items():
            if "DeepSpeed" in name and (TINY or importlib.util.find_spec("deepspeed") is None):
                print(f"{name}: left out, DeepSpeed is not installed or there is no GPU", flush=True)
            else:
                runs.speed(f"{WORKLOADS[0].name}, {name}", WORKLOADS[0], *flags)
        print(f"{runs.failed} failed, {time.monotonic() - runs.start:.0f} s", flush=True)
        return int(runs.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
