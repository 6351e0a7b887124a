"""Data sets of the Hugging Face hub, or of its cache when it cannot be reached."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from transformers_framework.exceptions import DataError, did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


def load_from_hub(
    source: str, config: str | None, stage: str, iterable: bool, keep_in_memory: bool
) -> Dataset | IterableDataset:
    """Load from the hub, or from its cache when it cannot be reached."""
    import datasets

    flag = f"--{stage}_dataset {source}"
    name, _, split = source.rpartition("/")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or not split:
        example = source if re.fullmatch(r"[\w.-]+", source) else "user/name"
        raise DataError(
            f"{flag}: no such file or folder, and a hub data set is written with its split last: name/split or "
            f"user/name/split, for instance {example}/train"
        )
    try:
        return datasets.load_dataset(
            name, config, split=split, streaming=iterable, keep_in_memory=keep_in_memory or None
        )
    except Exception as error:  # the hub's client, requests, pyarrow and datasets raise many kinds
        raise DataError(f"{flag}: {_trouble(error, name, split, config, stage)}") from error


def _trouble(error: Exception, name: str, split: str, config: str | None, stage: str) -> str:
    """Explain why the hub did not give a data set."""
    import datasets

    nothing_here = f"there is no such file or folder in {Path.cwd()}"
    if isinstance(error, datasets.exceptions.DatasetNotFoundError):
        hint = "" if "/" in name else f" The split comes last: did you mean {name}/{split}/train?"
        return f"{nothing_here}, and the hub has no data set '{name}' that you may read.{hint}"
    if isinstance(error, ConnectionError):
        why = "HF_HUB_OFFLINE is set" if datasets.config.HF_HUB_OFFLINE else "the hub cannot be reached"
        return (
            f"{nothing_here}; {why} and '{name}' is not in the hub's cache. Load it once with a network, or give a file"
        )
    text = str(error).strip()
    if "Unknown split" in text or "Bad split" in text:
        known = re.findall(r"'([^']+)'", text.partition("[")[2]) or re.findall(r"\w+", text.partition("[")[2])
        return f"'{name}' has no split '{split}', but {', '.join(known)}.{did_you_mean(split, known)}"
    if "Config name is missing" in text or "BuilderConfig" in text:
        known = re.findall(r"'([^']+)'", text.partition("[")[2])
        return (
            f"'{name}' has no configuration '{config}'" if config else f"'{name}' has several configurations"
        ) + f"; choose with --{stage}_config: {', '.join(known)}.{did_you_mean(config or '', known)}"
    return f"cannot be loaded ({type(error).__name__}: {text.splitlines()[0] if text else 'no reason given'})"
