"""The file of clusters: what is read is checked, and the command that makes it writes what can be read."""

from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny
from transformers_framework import clusters
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.processing.clusters import read_clusters


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return tiny.save_checkpoint("bert", tmp_path_factory.mktemp("clusters") / "bert")


@pytest.fixture(autouse=True)
def messages_go_to_this_test(monkeypatch):
    """A handler keeps the stream that was there when it was made, and each test has another."""
    package = logging.getLogger("transformers_framework")
    for name, value in {"handlers": [], "propagate": True}.items():
        monkeypatch.setattr(package, name, value)


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "clusters.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


# --- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["0\n1\n1\n2\n", "0\n1\n1\n2", "0\r\n1\r\n1\r\n2\r\n", " 0\n1 \n1\n2\n\n\n", "00\n01\n1\n2"]
)
def test_lines_are_read(tmp_path, text):
    found = read_clusters(written(tmp_path, text), 4)
    assert found.dtype == np.int64
    assert found.tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0\n1\n", "found 2 lines, expected 4, one for each token of the model's vocabulary"),
        ("", "found 0 lines, expected 4"),
        ("0\n0\n0\n0\n0\n", "found 5 lines, expected 4"),
        ("0\n-1\n0\n0\n", "clusters.txt:2: found '-1', expected the cluster of token 1, a whole number"),
        ("0\n1.0\n0\n0\n", "clusters.txt:2: found '1.0'"),
        ("0\n\n1\n0\n", "clusters.txt:2: found ''"),
        ("0\n1\nzwei\n0\n", "clusters.txt:3: found 'zwei'"),
        ("0\n1\n²\n0\n", "clusters.txt:3: found '²'"),
        ("0\n1\n1234567890\n0\n", "clusters.txt:3: found '1234567890'"),
        ("0\n1 2\n1\n0\n", "clusters.txt:2: found '1 2'"),
        ("0\n1\n3\n0\n", "no token is in cluster 2, and there is a cluster 3"),
        ("1\n1\n2\n2\n", "no token is in cluster 0, and there is a cluster 2"),
    ],
)
def test_a_wrong_line_is_told(tmp_path, text, says):
    with pytest.raises(DataError) as error:
        read_clusters(written(tmp_path, text), 4)
    assert says in str(error.value)


def test_a_file_of_another_vocabulary_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match=r"python -m transformers_framework\.clusters --pre_trained_model MODEL"):
        read_clusters(written(tmp_path, "0\n"), 4)


def test_what_cannot_be_read_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match=r"there is no such file\. Make one for the model: python -m"):
        read_clusters(str(tmp_path / "absent.txt"), 4)
    with pytest.raises(ConfigurationError, match="Is a directory"):
        read_clusters(str(tmp_path), 4)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not a text file"):
        read_clusters(str(tmp_path / "binary"), 4)


# --- the command -----------------------------------------------------------------------------------------------------


def words(checkpoint: Path, output: Path, **more: object) -> list[str]:
    flags = {"pre_trained_model": checkpoint, "num_clusters": 10, "output": output, "num_starts": 1, **more}
    return [word for name, value in flags.items() for word in (f"--{name}", str(value))]


def test_a_file_is_made_that_can_be_read_and_made_again(tmp_path, checkpoint, capsys):
    first, second, other = (tmp_path / name for name in ("a.txt", "b.txt", "c.txt"))
    assert clusters.main(words(checkpoint, first)) == 0
    size = json.loads((checkpoint / "config.json").read_text())["vocab_size"]
    found = read_clusters(str(first), size)
    sizes = np.bincount(found)
    assert len(sizes) == 10
    assert capsys.readouterr().out == (
        f"{first}: 10 clusters of {size} tokens; the smallest has {sizes.min()}, the median {np.median(sizes):.0f}, "
        f"the largest {sizes.max()}\n"
    )
    assert found[0] == 0, "numbered in the order of the tokens"
    assert clusters.main(words(checkpoint, second)) == 0
    assert second.read_bytes() == first.read_bytes()
    assert clusters.main(words(checkpoint, other, seed=7)) == 0
    assert other.read_bytes() != first.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt", "c.txt"], "nothing half written"


def test_tokens_of_near_embeddings_share_a_cluster(tmp_path, checkpoint):
    """Embeddings that stand in six groups are found again, whatever family's name they have."""
    folder = tmp_path / "grouped"
    folder.mkdir()
    for path in checkpoint.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    name = next(key for key in tensors if key.endswith("word_embeddings.weight"))
    groups = torch.randint(6, (len(tensors[name]),), generator=torch.Generator().manual_seed(3))
    centers = torch.nn.functional.one_hot(groups, tensors[name].shape[1]) * 10.0
    tensors[name] = centers + 0.1 * torch.randn(centers.shape, generator=torch.Generator().manual_seed(4))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    found = clusters.make_clusters(pre_trained_model=str(folder), output=str(tmp_path / "c"), num_clusters=6)
    pairs = {(int(group), int(cluster)) for group, cluster in zip(groups, found, strict=True)}
    assert len(pairs) == 6
    assert [int(line) for line in (tmp_path / "c").read_text().splitlines()] == found.tolist()


def test_a_file_is_replaced_only_when_asked(tmp_path, checkpoint, capsys):
    output = tmp_path / "clusters.txt"
    output.write_text("mine")
    assert clusters.main(words(checkpoint, output)) == 2
    assert "this file exists. Add --overwrite" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert clusters.main([*words(checkpoint, output), "--overwrite"]) == 0
    assert output.read_text().startswith("0\n")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_clusters": 1}, "--num_clusters: found '1', expected an integer at least 2."),
        ({"num_clusters": 10_000}, "expected at most"),
        ({"num_cluster": 10}, "Did you mean '--num_clusters'?"),
        ({"num_starts": 0}, "--num_starts: found '0'"),
        ({"pre_trained_model": "./nowhere"}, "--pre_trained_model ./nowhere: nowhere does not exist."),
        ({"output": "."}, "this is a folder"),
        ({"rounds": 3}, "--rounds: unknown flag."),
    ],
)
def test_a_wrong_command_is_told(tmp_path, checkpoint, capsys, changes, says):
    given = {"pre_trained_model": checkpoint, "output": tmp_path / "c", **changes}
    assert clusters.main(words(**{"checkpoint": checkpoint, "output": tmp_path / "c"} | given)) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said
    assert not (tmp_path / "c").exists()


def test_what_is_missing_and_the_help(capsys):
    assert clusters.main(["--seed", "1"]) == 2
    assert "Missing: --pre_trained_model, --output." in capsys.readouterr().err
    assert clusters.main([]) == 2
    assert clusters.main(["--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: {clusters.USAGE}")
    assert "--num_clusters INT" in told
    assert "(default: 100)" in told


def test_without_scikit_learn_the_extra_is_named(tmp_path, checkpoint, capsys, monkeypatch):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == "sklearn" else SimpleNamespace(origin=name)
    )
    assert clusters.main(words(checkpoint, tmp_path / "c")) == 2
    assert "pip install 'transformers-framework[clusters]'" in capsys.readouterr().err


def test_embeddings_that_were_not_trained_are_refused():
    with pytest.raises(ConfigurationError, match="only 2 different embeddings"):
        clusters.cluster(np.tile(np.eye(2, dtype=np.float32), (50, 1)), 3, seed=1, num_starts=1)


def test_a_failure_leaves_no_file(tmp_path, checkpoint, monkeypatch):
    def full(self, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert clusters.main(words(checkpoint, tmp_path / "c")) == 2
    assert list(tmp_path.iterdir()) == []
