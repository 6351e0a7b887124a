"""The file of clusters: line i is the cluster of token id i."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np

from transformers_framework.exceptions import ConfigurationError, DataError

LONGEST_NUMBER = 9  # digits


def read_clusters(filename: str, num_tokens: int) -> np.ndarray:
    """Read which cluster each token is in.

    Args:
        filename: Text with one number per line, one for each token id from 0 on.
        num_tokens: Size of the model's vocabulary V, hence of the file.

    Returns:
        Cluster of each token id, numbers from 0 to C - 1, each at least once, ``(V,) int64``.

    Raises:
        ConfigurationError: When there is no such file, or it cannot be read.
        DataError: When a line is no number, there are too few or too many, or a cluster has no token.
    """
    path = Path(filename).expanduser()
    try:
        with path.open(encoding="utf-8") as file:
            # a file of something else may be far longer than any vocabulary
            lines = [line.strip() for line in islice(file, num_tokens + 1_000_000)]
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise ConfigurationError(f"--clusters_filename {filename}: {reason}. {_remedy(filename)}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"--clusters_filename {filename}: it is not a text file in UTF-8.") from error
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not (line.isascii() and line.isdecimal() and len(line) <= LONGEST_NUMBER):
            raise DataError(
                f"{filename}:{number}: found {line[:40]!r}, expected the cluster of token {number - 1}, a whole number "
                "from 0 on."
            )
    if len(lines) != num_tokens:
        raise DataError(
            f"--clusters_filename {filename}: found {len(lines)} lines, expected {num_tokens}, one for each token of "
            f"the model's vocabulary. {_remedy(filename)}"
        )
    clusters = np.array(lines, dtype=np.int64)
    found = np.unique(clusters)
    if len(found) <= found[-1]:
        absent = int(np.flatnonzero(found != np.arange(len(found)))[0])
        raise DataError(
            f"--clusters_filename {filename}: no token is in cluster {absent}, and there is a cluster {found[-1]}. "
            f"Clusters are numbered without gaps from 0 on."
        )
    return clusters


def cluster_lines(clusters: Iterable[int]) -> Iterable[str]:
    r"""Return the lines of the file.

    Examples:
        >>> "".join(cluster_lines(np.array([1, 0, 1])))
        '1\n0\n1\n'
    """
    return (f"{int(cluster)}\n" for cluster in clusters)


def _remedy(filename: str) -> str:
    return (
        "Make one for the model: python -m transformers_framework.clusters --pre_trained_model MODEL "
        f"--num_clusters 100 --output {filename}"
    )
