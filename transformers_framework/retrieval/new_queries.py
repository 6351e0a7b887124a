"""The command that searches the corpus of a finished run for new queries, with the model that it has trained."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from transformers_framework.inputs.query_passage import NUM_PAIR

if TYPE_CHECKING:
    from transformers_framework.run_parts import Run

OUTPUT_DIR = "outputs"  # the default
# flags of texts and corpus that an export does not have; those without a value are left out
SEARCH = ("corpus_dataset", "corpus_config", "corpus_column", "corpus_id_column", "text_unit", "cache_dir", "top_k")


def search_command(run: Run, model: str) -> str:
    """Return the command that searches the corpus of a run for each row of a file, which it calls ``FILE``.

    Args:
        run: The run.
        model: Folder of the exported model, which has pooling, similarity and prefixes.
    """
    options, folders = run.final_options, run.folders
    output_dir = str(folders.output_dir)
    flags: dict[str, Any] = {
        "pipeline": options["pipeline"],
        "model": options["model"],
        "name": f"{folders.name}-search",
        "output_dir": None if output_dir == OUTPUT_DIR else output_dir,
        "pre_trained_model": model,
        "predict_dataset": "FILE",
        "input_columns": options["input_columns"][:NUM_PAIR],
        "max_sequence_length": options["max_sequence_length"],
        "eval_batch_size": run.data.batch_sizes["predict"],
        **{name: options[name] for name in SEARCH},
    }
    words = ["python", "-m", "transformers_framework"]
    for name, value in flags.items():
        if value is not None:
            words += [f"--{name}", *map(str, value if isinstance(value, (list, tuple)) else [value])]
    return shlex.join(words)
