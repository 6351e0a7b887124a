"""Data sets of the Hugging Face hub, or of its cache when it cannot be reached."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from transformers_framework.exceptions import DataError, did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

# data sets that once had a name of one part, and where they are now: to name them where the hub cannot be asked
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
    """Load from the hub, or from its cache when it cannot be reached."""
    import datasets

    flag = f"--{stage}_dataset {source}"
    name, _, split = source.rpartition("/")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or not split:
        example = (_names_of(source) or [f"user/{source}"])[0] if re.fullmatch(r"[\w.-]+", source) else "user/name"
        raise DataError(
            f"{flag}: no such file or folder, and a hub data set is written with its split last: user/name/split, for "
            f"instance {example}/train"
        )
    try:
        return datasets.load_dataset(
            _canonical(name, flag), config, split=split, streaming=iterable, keep_in_memory=keep_in_memory or None
        )
    except Exception as error:  # the hub's client, requests, pyarrow and datasets raise many kinds
        raise DataError(f"{flag}: {_trouble(error, name, split, config, stage)}") from error


def _canonical(name: str, flag: str) -> str:
    """Return the id of a data set; the hub knows that of one that once had a name of one part.

    ``datasets`` itself follows the hub from the old name to the new one, and then asks for files under the old one.
    """
    import datasets
    from huggingface_hub import HfApi

    if "/" in name or datasets.config.HF_HUB_OFFLINE:
        return name
    try:
        found = HfApi().dataset_info(name, timeout=30).id
    except Exception:  # absent, or no network: the attempt to load it says so
        return name
    if found != name:
        logger.info("%s: the hub calls this data set %s", flag, found)
    return found


def _names_of(name: str, *, ask: bool = True) -> list[str]:
    """Return the ids that a name of one part may stand for: known here, or to the hub if it is asked."""
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


def _trouble(error: Exception, name: str, split: str, config: str | None, stage: str) -> str:
    """Explain why the hub did not give a data set."""
    import datasets
    from huggingface_hub.errors import RepositoryNotFoundError

    nothing_here, hint = f"there is no such file or folder in {Path.cwd()}", ""
    if "/" not in name and (names := _names_of(name, ask=not isinstance(error, ConnectionError))):
        hint = f" Data sets of the hub have names of two parts: did you mean {f'/{split} or '.join(names)}/{split}?"
    elif "/" not in name:
        hint = f" The split comes last: did you mean {name}/{split}/train?"
    if isinstance(error, (datasets.exceptions.DatasetNotFoundError, RepositoryNotFoundError)):
        return f"{nothing_here}, and the hub has no data set '{name}' that you may read.{hint}"
    if isinstance(error, ConnectionError):
        why = "HF_HUB_OFFLINE is set" if datasets.config.HF_HUB_OFFLINE else "the hub cannot be reached"
        return (
            f"{nothing_here}; {why} and '{name}' is not in the hub's cache. Load it once with a network, or give a "
            f"file.{hint}"
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
