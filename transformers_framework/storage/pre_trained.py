"""Sources of pre-trained models, configs and tokenizers: hub names, local folders, or remote addresses (downloaded)."""

from __future__ import annotations

import re
from pathlib import Path

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.restricted import is_address
from transformers_framework.storage.paths import looks_local, missing
from transformers_framework.storage.remote import download


def fetch(source: str, *, cache_dir: Path, what: str) -> str:
    """Return a hub name or a local folder that transformers can load; remote folders are downloaded.

    Args:
        source: Hub name, local folder or address.
        cache_dir: Where downloads are kept.
        what: Name of the flag with the source, for messages.

    Raises:
        ConfigurationError: When a folder does not exist or has no model, or the name is not a valid hub name.
        MissingDependencyError: When the package for the protocol of the address is not installed.
    """
    if is_address(source):
        return str(download(source, cache_dir=cache_dir, flag=what, choose=model_files))
    path = Path(source).expanduser()
    if path.is_dir():
        _require_model(path, source, what)
        return str(path)
    if path.exists():
        raise ConfigurationError(f"--{what} {source}: this is a file. Give its folder: --{what} {path.parent}")
    if looks_local(source):
        raise ConfigurationError(f"--{what} {source}: {missing(path)}")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source):
        raise ConfigurationError(
            f"--{what} {source}: neither a folder nor a hub name. Write a hub name as 'name' or 'user/name' "
            "(letters, digits, '-', '_' and '.')."
        )
    return source


def model_files(names: list[str]) -> list[str]:
    """Return the files of a folder that transformers needs: no optimizer states, no second copy of the weights.

    Examples:
        >>> model_files(["config.json", "model.safetensors", "pytorch_model.bin", "optimizer.pt", "best/config.json"])
        ['config.json', 'model.safetensors']
        >>> model_files(["config.json", "modules.json", "1_Pooling/config.json"])
        ['config.json', 'modules.json', '1_Pooling/config.json']
    """
    # modules of sentence-transformers have folders of their own
    names = [name for name in names if "/" not in name or re.fullmatch(r"\d+_[A-Z]\w*/[^/]+", name)]
    names = [name for name in names if not name.endswith((".ckpt", ".pt", ".pth", ".pkl"))]
    names = [name for name in names if not name.endswith((".h5", ".msgpack", ".ot", ".onnx"))]
    if any(name.endswith(".safetensors") and "/" not in name for name in names):
        names = [name for name in names if not re.match(r"pytorch_model.*\.bin", name)]
    return names


def _require_model(path: Path, source: str, what: str) -> None:
    """Raise if a folder has neither a config nor a tokenizer; the message names subfolders that have one."""
    marks = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "*.model")
    if any(True for mark in marks for _ in path.glob(mark)):
        return
    below = sorted(entry.parent.name for entry in path.glob("*/config.json"))
    hint = f" Give one of its subfolders with a config.json: {', '.join(below)}." if below else ""
    raise ConfigurationError(f"--{what} {source}: the folder has no config.json and no tokenizer.{hint}")
