"""Data sets from the Hugging Face hub, or from its cache when the hub cannot be reached."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from transformers_framework.display import is_terminal
from transformers_framework.exceptions import DataError, did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

# data sets that had names without a user, and their new names: for messages when the hub cannot be reached
MOVED = {
    **{name: f"fancyzhx/{name}" for name in ("ag_news", "dbpedia_14")},
    **{name: f"google-research-datasets/{name}" for name in ("natural_questions", "paws")},
    **{name: f"microsoft/{name}" for name in ("ms_marco", "wiki_qa")},
    **{name: f"nyu-mll/{name}" for name in ("glue", "multi_nli")},
    **{name: f"rajpurkar/{name}" for name in ("squad", "squad_v2")},
    **{name: f"stanfordnlp/{name}" for name in ("imdb", "snli", "sst2")},
    "boolq": "google/boolq",
    "cnn_dailymail": "abisee/cnn_dailymail",
    "conll2003": "eriktks/conll2003",
    "super_glue": "aps/super_glue",
    "trivia_qa": "mandarjoshi/trivia_qa",
    "wikitext": "Salesforce/wikitext",
    "wnut_17": "leondz/wnut_17",
    "xnli": "facebook/xnli",
    "xsum": "EdinburghNLP/xsum",
}

logger = logging.getLogger(__name__)


def load_from_hub(
    source: str, config: str | None, stage: str, iterable: bool, keep_in_memory: bool
) -> Dataset | IterableDataset:
    """Load a data set from the hub, or from its cache when the hub cannot be reached."""
    import datasets

    flag = f"--{stage}_dataset {source}"
    name, _, split = source.rpartition("/")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or not split:
        example = (_matching_ids(source) or [f"user/{source}"])[0] if re.fullmatch(r"[\w.-]+", source) else "user/name"
        raise DataError(
            f"{flag}: no such file or folder. A data set of the hub is written with its split last: user/name/split, "
            f"for instance {example}/train"
        )
    if is_terminal():
        datasets.enable_progress_bars()
    try:
        return datasets.load_dataset(
            _canonical(name, flag), config, split=split, streaming=iterable, keep_in_memory=keep_in_memory or None
        )
    except Exception as error:  # the hub's client, requests, pyarrow and datasets raise many kinds
        raise DataError(f"{flag}: {_load_error(error, name, split, config, stage)}") from error
    finally:
        datasets.disable_progress_bars()


def _canonical(name: str, flag: str) -> str:
    """Return the current id of a data set; old names without a user are looked up on the hub.

    ``datasets`` resolves an old name to the new one, but then requests files with the old name.
    """
    import datasets
    from huggingface_hub import HfApi

    if "/" in name or datasets.config.HF_HUB_OFFLINE:
        return name
    try:
        found = HfApi().dataset_info(name, timeout=30).id
    except Exception:  # absent, or no network: loading it raises the error
        return name
    if found != name:
        logger.info("%s: the name of this data set on the hub is %s", flag, found)
    return found


def _matching_ids(name: str, *, ask: bool = True) -> list[str]:
    """Return ids that match a name without a user: from the table above, the local cache and, with ``ask``, the hub."""
    import datasets
    from huggingface_hub import HfApi, constants

    found = [MOVED[name]] if name in MOVED else []
    cached = Path(constants.HF_HUB_CACHE).glob(f"datasets--*--{name}")
    prepared = Path(datasets.config.HF_DATASETS_CACHE).glob(f"*___{name}")
    found += sorted(path.name.removeprefix("datasets--").replace("--", "/") for path in cached)
    found += sorted(path.name.replace("___", "/") for path in prepared)
    if ask and not datasets.config.HF_HUB_OFFLINE:
        try:
            on_hub = [info.id for info in HfApi().list_datasets(search=name, limit=100)]
        except Exception:  # no network
            on_hub = []
        found += [known for known in on_hub if known.rpartition("/")[2].lower() == name.lower()]
    return list(dict.fromkeys(found))[:5]


def _load_error(error: Exception, name: str, split: str, config: str | None, stage: str) -> str:
    """Return a message that explains why a data set could not be loaded from the hub."""
    import datasets
    from huggingface_hub.errors import RepositoryNotFoundError

    nothing_here, hint = f"there is no such file or folder in {Path.cwd()}", ""
    if "/" not in name and (names := _matching_ids(name, ask=not isinstance(error, ConnectionError))):
        hint = f" Names on the hub are user/name: did you mean {f'/{split} or '.join(names)}/{split}?"
    elif "/" not in name:
        hint = f" The split must be last: did you mean {name}/{split}/train?"
    if isinstance(error, (datasets.exceptions.DatasetNotFoundError, RepositoryNotFoundError)):
        return f"{nothing_here}, and the hub has no data set '{name}' that you can access.{hint}"
    if isinstance(error, ConnectionError):
        why = "HF_HUB_OFFLINE is set" if datasets.config.HF_HUB_OFFLINE else "the hub cannot be reached"
        return (
            f"{nothing_here}; {why} and '{name}' is not in the hub's cache. Load it once with network access, or give "
            f"a file.{hint}"
        )
    text = str(error).strip()
    if "Unknown split" in text or "Bad split" in text:
        known = re.findall(r"'([^']+)'", text.partition("[")[2]) or re.findall(r"\w+", text.partition("[")[2])
        return f"'{name}' has no split '{split}'; it has {', '.join(known)}.{did_you_mean(split, known)}"
    if "Config name is missing" in text or "BuilderConfig" in text:
        known = re.findall(r"'([^']+)'", text.partition("[")[2])
        return (
            f"'{name}' has no configuration '{config}'" if config else f"'{name}' has several configurations"
        ) + f"; choose with --{stage}_config: {', '.join(known)}.{did_you_mean(config or '', known)}"
    return f"cannot be loaded ({type(error).__name__}: {text.splitlines()[0] if text else 'no reason given'})"
