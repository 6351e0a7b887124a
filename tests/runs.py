"""Whole runs of the program, in this process: ``run(tmp_path, learning_rate=1e-3)`` trains, tests and predicts.

``command`` makes the words of a small run, ``run`` runs them and returns its folders, ``spawn`` runs them as users do,
in processes of its own, ``build`` only makes the parts. ``metrics``, ``predictions`` and ``logits_of`` read what a run
left.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import tiny

if TYPE_CHECKING:
    import torch

    from transformers_framework.experiment import Experiment
    from transformers_framework.storage.run_folders import RunFolders

ROOT = Path(__file__).parent.parent
STAGES = ("train", "valid", "test", "predict")
UNKNOWN_TO_PREDICT = ("label", "labels", "summary", "answers")
CLASSES = ("animals", "kitchen", "weather")

# what a run of a pipeline needs beside its data
PIPELINE_FLAGS: dict[str, dict[str, Any]] = {
    "answer_selection": {"input_columns": ["question", "answer"], "label_column": "label", "index_column": "key"},
    "cluster_random_token_detection": {"input_columns": "text"},
    "denoising": {"input_columns": "text"},
    "masked_lm": {"input_columns": "text"},
    "masked_lm_and_answer_selection": {
        "input_columns": ["question", "answer"],
        "label_column": "label",
        "index_column": "key",
    },
    "masked_lm_and_seq_class": {"input_columns": "text", "label_column": "label"},
    "question_answering": {
        "query_column": "question",
        "context_column": "context",
        "answers_column": "answers",
        "doc_stride": 8,
    },
    "random_token_detection": {"input_columns": "text"},
    "retrieval": {"input_columns": ["question", "answer"], "label_column": "label", "index_column": "key"},
    "seq_class": {"input_columns": "text", "label_column": "label"},
    "structural_pretraining": {"documents_column": "text"},
    "summarization": {"document_column": "text", "summary_column": "summary", "max_sequence_length": [48, 12]},
    "token_detection_and_masked_lm": {"input_columns": "text"},
    "token_detection_and_masked_lm_and_seq_class": {"input_columns": "text", "label_column": "label"},
    "swapped_lm": {"input_columns": "text"},
    **{
        name: {"input_columns": "words", "label_column": "labels"}
        for name in ("masked_lm_and_token_class", "named_entity_recognition", "pos_tagging", "token_class")
    },
}
# families whose output depends on the padding beside a text: convolutions, neighbours, landmarks, hashes
SEE_PADDING = ("convbert", "mobilebert", "nystromformer", "yoso")
# narrow layers say the same about every row unless their weights are large
LIVELY = {"initializer_range": 0.2, "init_std": 0.2}
# Adam divides a gradient by its size, so that a weight whose gradient is nothing but rounding moves by whole steps; so
# large an epsilon leaves it where it is, and shows a gradient that is wrong by a factor, which Adam would hide
EPSILON = 1e-3
FLAGS: dict[str, Any] = {
    "batch_size": 8,
    "max_sequence_length": 48,
    "learning_rate": 1e-3,
    "log_every_n_steps": 1,
    "num_sanity_val_steps": 0,
    "num_workers": 0,
    "accelerator": "cpu",
    "devices": 1,
    "max_epochs": 1,
    "enable_model_summary": False,
    "monitor": "none",  # the best state is another checkpoint and export to write; tests of it ask for it
    "figures": False,  # a second or two of matplotlib for each of many runs
}


def pipeline_flags(pipeline: str) -> dict[str, Any]:
    """Return what a run of a pipeline needs beside its data; one joined by ``+`` needs what its last part does."""
    return PIPELINE_FLAGS.get(pipeline.rpartition("+")[2], {})  # of one outside the tree nothing is known


def rows_for(pipeline: str, n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return ``n`` rows that a pipeline can learn from."""
    if pipeline.endswith("answer_selection"):
        return tiny.pairs(n, seed)
    if pipeline == "retrieval":  # of which each batch has right ones
        return tiny.pairs(n, seed, candidates=2)
    if pipeline.endswith("structural_pretraining"):
        return tiny.documents(n, seed)
    if pipeline == "summarization":
        return tiny.summaries(n, seed)
    if pipeline.endswith("question_answering"):  # training rows are a window each, so that steps are known
        return tiny.questions(n, seed, longest=60 if seed else 4)
    if pipeline_flags(pipeline).get("input_columns") == "words":
        return tiny.tagged(n, seed)
    return tiny.classes(n, seed, num_labels=len(CLASSES), names=CLASSES)


def datasets(folder: Path, pipeline: str, sizes: Sequence[int] = (40, 23, 27, 13)) -> dict[str, Path]:
    """Write JSON lines for train, valid, test and predict (without labels); return their flags."""
    flags = {}
    stages = STAGES[:-1] if pipeline.endswith("structural_pretraining") else STAGES  # it predicts nothing
    for seed, (stage, size) in enumerate(zip(stages, sizes, strict=False)):
        rows = rows_for(pipeline, size, seed)
        if stage == "predict":
            rows = [{key: value for key, value in row.items() if key not in UNKNOWN_TO_PREDICT} for row in rows]
        flags[f"{stage}_dataset"] = tiny.write_jsonl(folder / f"{stage}.jsonl", rows)
    return flags


def command(tmp_path: Path, *, pipeline: str = "answer_selection", model: str = "bert", **flags: Any) -> list[str]:
    """Return the words of a command: a tiny checkpoint and data are made where flags name none.

    Args:
        tmp_path: Holds checkpoint, data and ``out``.
        pipeline: Name of the pipeline.
        model: Family of the model.
        **flags: Values of flags; ``None`` takes one away, ``True`` gives it bare, a list gives several words. Stages
            are those with a data set among them, all when there is none.
    """
    given = {"name": "run", "output_dir": tmp_path / "out", "cache_dir": tmp_path / "cache"}
    given |= FLAGS | pipeline_flags(pipeline)
    if not any(f"{stage}_dataset" in flags for stage in STAGES):
        given |= datasets(tmp_path / "data", pipeline)
    if not flags.keys() & {"pre_trained_model", "pre_trained_config"}:
        checkpoint = tmp_path / f"checkpoint-{model}"
        given["pre_trained_model"] = (
            checkpoint if checkpoint.exists() else tiny.save_checkpoint(model, checkpoint, **LIVELY)
        )
    if "cluster_random_token_detection" in pipeline and "clusters_filename" not in flags:
        given["clusters_filename"] = tmp_path / "clusters.txt"
        tokens = range(tiny.config_for(model).vocab_size)
        given["clusters_filename"].write_text("".join(f"{token % 7}\n" for token in tokens), encoding="utf-8")
    if model in SEE_PADDING:
        given["eval_batch_size"] = 1
    if "max_steps" in flags:
        given["max_epochs"] = None
    if flags.get("optimizer", "adamw") == "adamw" and "config" not in flags:  # which may choose another one
        given["adamw_epsilon"] = EPSILON
    words = ["--pipeline", pipeline, "--model", model]
    for name, value in (given | flags).items():
        if value is not None:
            words += [f"--{name}", *words_of(value)]
    return words


def words_of(value: Any) -> list[str]:
    """Return the words of one flag's value."""
    if value is True:
        return []
    return [str(word) for word in value] if isinstance(value, (list, tuple)) else [str(value)]


@dataclass
class Seen:
    """What a run in this process did: its parts, and how large each parameter's gradient ever was."""

    experiments: list[Experiment] = field(default_factory=list)
    gradients: dict[int, float] = field(default_factory=dict)

    @property
    def experiment(self) -> Experiment:
        """The last run."""
        return self.experiments[-1]


@contextlib.contextmanager
def watched() -> Iterator[Seen]:
    """Watch the runs of this process: Lightning's objects, and gradients at each step of the optimizer."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from transformers_framework.experiment import Experiment

    seen, original = Seen(), Experiment.run

    def run_and_tell(self: Experiment) -> None:
        seen.experiments.append(self)
        original(self)

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                size = 0.0 if parameter.grad is None else float(parameter.grad.abs().max())
                seen.gradients[id(parameter)] = max(size, seen.gradients.get(id(parameter), 0.0))

    hook = register_optimizer_step_post_hook(note)
    Experiment.run = run_and_tell  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        Experiment.run = original  # type: ignore[method-assign]
        hook.remove()


def run(tmp_path: Path, *, status: int = 0, **flags: Any) -> RunFolders:
    """Run a command in this process and return its folders.

    Args:
        tmp_path: As for :func:`command`.
        status: Exit status to expect.
        **flags: As for :func:`command`.
    """
    from transformers_framework.cli.main import main

    words = command(tmp_path, **flags)
    found = main(words)
    assert found == status, f"exit status {found}, expected {status}: {' '.join(words)}"
    return folders_of(words)


def build(words: Sequence[str]) -> Experiment:
    """Return the run of a command line, its parts not yet built."""
    from transformers_framework.cli.main import experiment_of

    return experiment_of(words)


def spawn(
    tmp_path: Path, *, status: int = 0, env: Mapping[str, str] | None = None, **flags: Any
) -> tuple[RunFolders, str]:
    """Run a command as users do, in a process of its own; return its folders and what it said.

    Args:
        tmp_path: As for :func:`command`.
        status: Exit status to expect.
        env: Variables of the environment beside those of this process.
        **flags: As for :func:`command`.
    """
    words = command(tmp_path, **flags)
    done = subprocess.run(
        [sys.executable, "-m", "transformers_framework", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(env or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == status, f"exit status {done.returncode}, expected {status}: {' '.join(words)}\n{said}"
    return folders_of(words), said


def folders_of(words: Sequence[str]) -> RunFolders:
    """Return the folders of the run that a command line starts."""
    from transformers_framework.storage.run_folders import RunFolders

    output_dir, name = (words[words.index(flag) + 1] for flag in ("--output_dir", "--name"))
    return RunFolders(output_dir, name)


# --- what a run left -------------------------------------------------------------------------------------------------


# of no objective, and nothing to monitor
BESIDE_METRICS = {"epoch", "train/learning_rate", "train/padding", "train/grad_norm"}


def scalars(folders: RunFolders, *, measured: bool = False) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard shows: each name with its steps and values, in the order in which they were written.

    Args:
        folders: Folders of the run.
        measured: Also values that depend on the machine and the time, which no two runs have in common.
    """
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    from transformers_framework.constants import MEASURED

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folders.tensorboard.glob("events.out.*"), key=lambda path: path.stat().st_mtime_ns):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                is_scalar = value.metadata.plugin_data.plugin_name == "scalars"  # else a text or a figure
                if is_scalar and (measured or value.tag not in MEASURED):
                    found.setdefault(value.tag, []).append((event.step, float(make_ndarray(value.tensor))))
    return found


def metric_names(folders: RunFolders) -> set[str]:
    """Return the names of all metrics and losses that a run logged."""
    return scalars(folders).keys() - BESIDE_METRICS


def logged_moments(folders: RunFolders) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl``."""
    return [json.loads(line) for line in folders.metrics.read_text(encoding="utf-8").splitlines()]


def metrics(folders: RunFolders, stage: str) -> dict[str, float]:
    """Return the last value of everything that a stage logged."""
    return {name: values[-1][1] for name, values in scalars(folders).items() if name.startswith(f"{stage}/")}


def predictions(folders: RunFolders, stage: str = "test") -> list[dict[str, Any]]:
    """Return the rows of a file of predictions."""
    lines = (folders.predictions / f"{stage}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def scores(folders: RunFolders, stage: str = "test") -> list[float]:
    """Return the scores of a file of predictions."""
    return [row["scores"] for row in predictions(folders, stage)]


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of an exported checkpoint, or of one of Lightning's."""
    import torch
    from safetensors.torch import load_file

    if checkpoint.is_dir():
        return load_file(checkpoint / "model.safetensors")
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def weights_are_equal(first: Path, second: Path) -> bool:
    """Tell whether two checkpoints are the same, bit for bit."""
    import torch

    ours, theirs = weights(first), weights(second)
    return ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def assert_weights_are_close(first: Path, second: Path, *, atol: float | None = None) -> None:
    """Check that two checkpoints are nearly equal; ``atol`` is that of ``tolerances.assert_weights_close``."""
    from tests import tolerances

    tolerances.assert_weights_close(weights(first), weights(second), tolerances.TRAINED if atol is None else atol)


def logits_of(checkpoint: Path, texts: Sequence[Sequence[str]], max_length: int = 48) -> torch.Tensor:
    """Return what an exported checkpoint says about texts or pairs of them, with nothing but transformers, unpadded."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    encoded = [tokenizer(*text, truncation=True, max_length=max_length, return_tensors="pt") for text in texts]
    with torch.no_grad():
        return torch.cat([model(**row).logits for row in encoded])


def token_logits_of(checkpoint: Path, texts: Sequence[str], head: Any) -> torch.Tensor:
    """Return the logit of every token, text after text, with nothing but transformers, unpadded."""
    import torch
    from transformers import AutoTokenizer

    model, tokenizer = head.from_pretrained(checkpoint).eval(), AutoTokenizer.from_pretrained(checkpoint)
    with torch.no_grad():
        return torch.cat([model(**tokenizer(text, return_tensors="pt")).logits.flatten() for text in texts])


def embeddings_of(checkpoint: Path, texts: Sequence[str], head: Any, max_length: int = 48) -> torch.Tensor:
    """Return the mean of the states of each text, with nothing but transformers, unpadded."""
    import torch
    from transformers import AutoTokenizer

    model, tokenizer = head.from_pretrained(checkpoint).eval(), AutoTokenizer.from_pretrained(checkpoint)
    encoded = [tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt") for text in texts]
    with torch.no_grad():
        return torch.cat([model(**text).last_hidden_state.mean(dim=1) for text in encoded])


def word_scores_of(checkpoint: Path, rows: Sequence[Sequence[str]]) -> torch.Tensor:
    """Return the probability of the most likely class of every word, row after row, with nothing but transformers."""
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    model = AutoModelForTokenClassification.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    found = []
    for words in rows:
        encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        numbers = encoded.word_ids()
        with torch.no_grad():
            scores = model(**encoded).logits[0].softmax(dim=-1).amax(dim=-1)
        found += [scores[numbers.index(number)] for number in range(len(words))]
    return torch.stack(found)
