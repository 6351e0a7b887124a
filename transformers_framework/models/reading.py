"""Reading configs, tokenizers and weights from outside: one message whatever transformers or a file format raises."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.storage.cache import cache_folder
from transformers_framework.storage.paths import is_inside

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")  # of weights in several files

# what libraries raise for files that are absent, broken or have impossible values
BROKEN = (OSError, ImportError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ZeroDivisionError)


def name_or_path_of(source: str, flag: str, cache_dir: str | None) -> str:
    """Return what transformers loads for a flag's value: a hub name, a local folder, or a ``config.json``."""
    from transformers_framework.storage.pre_trained import fetch

    if not flag.endswith("_model") and Path(source).suffix == ".json" and Path(source).is_file():
        return source
    return fetch(source, cache_dir=cache_folder(cache_dir), what=flag)


def hub_cache(cache_dir: str | None) -> str | None:
    """Return where the hub's files are kept: below the user's folder, else where the hub's own tools look too."""
    return str(cache_folder(cache_dir) / "hub") if cache_dir else None


def file_of(name_or_path: str, name: str, cache_dir: str | None) -> Path | None:
    """Return a file of a checkpoint, from the hub if it lies there; None where there is none."""
    if Path(name_or_path).is_dir():
        path = Path(name_or_path, name)
        return path if path.is_file() else None
    from transformers.utils import cached_file

    found = cached_file(
        name_or_path,
        name,
        cache_dir=hub_cache(cache_dir),
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return None if found is None else Path(found)


def check_inside(names: Iterable[str], flag: str, source: str, file: str) -> None:
    """Raise when a file of a checkpoint names another that does not lie in its folder.

    Args:
        names: The paths that it names.
        flag: Flag that named the checkpoint.
        source: The checkpoint.
        file: The file.

    Raises:
        ConfigurationError: With the first one.
    """
    if outside := [name for name in names if not is_inside(name)]:
        raise ConfigurationError(
            f"--{flag} {source}: its {file} names '{outside[0]}', which is not in its folder. Files of a checkpoint "
            "have to lie in it: put that one there and name it so."
        )


def check_shards_inside(name_or_path: str, flag: str, source: str, cache_dir: str | None) -> None:
    """Raise when an index of weights names a file that does not lie in the folder of the checkpoint."""
    for index in INDEXES:
        with reading(flag, source, index):
            if (path := file_of(name_or_path, index, cache_dir)) is not None:
                check_inside(json.loads(path.read_text("utf-8"))["weight_map"].values(), flag, source, index)


@contextmanager
def reading(flag: str, source: str, what: str) -> Iterator[None]:
    """Turn what transformers and its formats raise for files that are absent or broken into one message."""
    import pickle

    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        with _without_reports():
            yield
    except pickle.UnpicklingError as error:
        raise ConfigurationError(
            f"--{flag} {source}: its weights are a pickle that could run code, which is refused. "
            "Convert them to safetensors where you trust them."
        ) from error
    except (*BROKEN, SafetensorError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"--{flag} {source}: {_remedy(error, source, what)} ({reason[:400]})") from error


def _remedy(error: Exception, source: str, what: str) -> str:
    if isinstance(error, OSError):
        if Path(source).exists():
            return f"the {what} cannot be read from it; its files are missing or broken."
        return (
            f"no {what} was found: there is no such folder, and the hub has no such name or cannot be reached. "
            "Check the spelling and the network; without a network, give a local folder."
        )
    if "trust_remote_code" in str(error):
        return f"its {what} is code of its own, which is not run. Give a checkpoint of a family of transformers."
    return f"its {what} is not one that transformers can read."


@contextmanager
def _without_reports() -> Iterator[None]:
    """Keep transformers' own table of loaded weights off the screen: what matters of it is logged here."""
    from transformers.utils import logging as theirs

    verbosity = theirs.get_verbosity()
    theirs.set_verbosity_error()
    try:
        yield
    finally:
        theirs.set_verbosity(verbosity)
