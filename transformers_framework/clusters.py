"""``python -m transformers_framework.clusters``: put the tokens of a model into clusters, by their embeddings."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from transformers_framework.exceptions import ConfigurationError, MissingDependencyError
from transformers_framework.optional_packages import is_installed
from transformers_framework.restricted import LocalPath, NonNegativeInt, PositiveInt, Range, Source

if TYPE_CHECKING:
    import numpy as np

    from transformers_framework.cli.tool import Values

logger = logging.getLogger("transformers_framework.clusters")  # this module's name is another when it is the program

USAGE = "python -m transformers_framework.clusters --pre_trained_model MODEL --num_clusters N --output FILE [flags]"
SMALLEST_MEAN = 2  # tokens a cluster: with one, a token could not be replaced by another of its cluster

ClusterCount = Annotated[int, Range(ge=2)]


def make_clusters(
    *,
    pre_trained_model: Source,
    output: LocalPath,
    num_clusters: ClusterCount = 100,
    seed: NonNegativeInt = 1337,
    num_starts: PositiveInt = 3,
    overwrite: bool = False,
    cache_dir: LocalPath | None = None,
) -> np.ndarray:
    """Write a file of clusters: line i is the cluster of token id i, found by k-means over the input embeddings.

    Special tokens get a cluster too, which nothing uses.

    Args:
        pre_trained_model: Model with the embeddings: hub name, local folder or remote address.
        output: File to write, for ``--clusters_filename``.
        num_clusters: Number of clusters.
        seed: Start of the random choices of k-means.
        num_starts: K-means is run so often from other starts; the best of the results is kept.
        overwrite: Replace a file that exists.
        cache_dir: Folder for downloads; by default the user's cache folder.

    Returns:
        Cluster of each token id, ``(V,) int64``.

    Raises:
        ConfigurationError: When the model cannot be read, is too small, or the file exists.
        MissingDependencyError: When scikit-learn is not installed.
    """
    from transformers_framework.processing.clusters import cluster_lines
    from transformers_framework.storage.atomic import atomic_file

    path = Path(output).expanduser()
    _check_output(path, output, overwrite)
    _require_scikit_learn()
    embeddings = embeddings_of(pre_trained_model, cache_dir)
    logger.info("%s: k-means over %d embeddings, %d times", pre_trained_model, len(embeddings), num_starts)
    clusters = cluster(embeddings, num_clusters, seed=seed, num_starts=num_starts)
    try:
        with atomic_file(path) as aside:
            aside.write_text("".join(cluster_lines(clusters)), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--output {output}: it cannot be written ({error.strerror}).") from error
    return clusters


def _check_output(path: Path, output: str, overwrite: bool) -> None:
    if path.is_dir():
        raise ConfigurationError(
            f"--output {output}: this is a folder; give a file, as {Path(output) / 'clusters.txt'}."
        )
    if path.exists() and not overwrite:
        raise ConfigurationError(f"--output {output}: this file exists. Add --overwrite to replace it.")


def _require_scikit_learn() -> None:
    if not is_installed("sklearn"):
        raise MissingDependencyError("scikit-learn", "python -m transformers_framework.clusters", "clusters")


def embeddings_of(pre_trained_model: str, cache_dir: str | None = None) -> np.ndarray:
    """Return the input embeddings of a model ``(V, H) float32``.

    Args:
        pre_trained_model: Hub name, local folder or remote address.
        cache_dir: Folder for downloads.

    Raises:
        ConfigurationError: When there is no such model, or its embeddings are absent or not finite.
    """
    import numpy as np
    from transformers import AutoModel

    from transformers_framework.models.auto import load_config
    from transformers_framework.models.reading import check_shards_inside, hub_cache, name_or_path_of, reading

    flag = "pre_trained_model"
    config = load_config(model="auto", pre_trained_model=pre_trained_model, cache_dir=cache_dir)
    name_or_path = name_or_path_of(pre_trained_model, flag, cache_dir)
    check_shards_inside(name_or_path, flag, pre_trained_model, cache_dir)
    with reading(flag, pre_trained_model, "model"):
        model, report = AutoModel.from_pretrained(
            name_or_path,
            config=config,
            dtype="float32",
            weights_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            cache_dir=hub_cache(cache_dir),
        )
        table: Any = model.get_input_embeddings().weight
    names = {name for name, tensor in model.named_parameters(remove_duplicate=False) if tensor is table}
    if names & set(report["missing_keys"]):
        raise ConfigurationError(f"--{flag} {pre_trained_model}: it has no weights of input embeddings.")
    embeddings: np.ndarray = table.detach().numpy()
    if not np.isfinite(embeddings).all():
        raise ConfigurationError(f"--{flag} {pre_trained_model}: its embeddings hold numbers that are not finite.")
    return embeddings


def cluster(embeddings: np.ndarray, num_clusters: int, *, seed: int, num_starts: int) -> np.ndarray:
    """Return the cluster of each row by k-means, numbered in the order in which they occur.

    Args:
        embeddings: ``(V, H) float32``.
        num_clusters: Number of clusters C.
        seed: Start of the random choices.
        num_starts: The best of so many runs is kept.

    Returns:
        Numbers from 0 to C - 1, ``(V,) int64``.

    Raises:
        ConfigurationError: When there are too few tokens, or too few different ones, for so many clusters.
    """
    import numpy as np
    from sklearn.cluster import KMeans

    num_tokens = len(embeddings)
    if num_clusters * SMALLEST_MEAN > num_tokens:
        raise ConfigurationError(
            f"--num_clusters {num_clusters}: the model has {num_tokens} tokens, expected at most "
            f"{num_tokens // SMALLEST_MEAN} clusters, {SMALLEST_MEAN} tokens each."
        )
    if (different := len(np.unique(embeddings, axis=0))) < num_clusters:
        raise ConfigurationError(
            f"--num_clusters {num_clusters}: the model has only {different} different embeddings. Was it trained?"
        )
    found = KMeans(num_clusters, n_init=num_starts, random_state=seed).fit(embeddings).labels_
    _, first, labels = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[labels]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status, see :func:`cli.tool.run_tool`.

    Args:
        argv: The words after the program's name; those of the process when absent.
    """
    from transformers_framework.cli.tool import run_function

    return run_function(argv, _command, make_clusters, title="clusters", usage=USAGE)


def _command(values: Values) -> None:
    import numpy as np

    from transformers_framework.runtime.log import set_up_logging

    set_up_logging()
    clusters = make_clusters(**values.own)
    sizes = np.bincount(clusters)
    sys.stdout.write(
        f"{values.own['output']}: {len(sizes)} clusters of {len(clusters):,} tokens; the smallest has {sizes.min():,}, "
        f"the median {np.median(sizes):,.0f}, the largest {sizes.max():,}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
