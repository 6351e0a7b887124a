"""Nothing from outside is executed, and nothing secret is written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file

from tests import runs, tiny
from transformers_framework.exceptions import ConfigurationError

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "secret-of-aws-4711",
    "AWS_SESSION_TOKEN": "token-of-aws-4711",
    "HF_TOKEN": "hf_token4711",
    "WANDB_API_KEY": "key-of-wandb-4711",
}


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.target)!r}, 'w').close()",)


def test_code_of_a_model_is_not_run(tmp_path: Path, capsys: Any) -> None:
    """A checkpoint that brings classes of its own, as the hub's remote code does."""
    checkpoint = tiny.save_checkpoint("bert", tmp_path / "remote")
    trap = tmp_path / "executed"
    (checkpoint / "modeling_own.py").write_text(f"open({str(trap)!r}, 'w').close()\nclass Own: pass\n")
    config = json.loads((checkpoint / "config.json").read_text())
    names = ("AutoConfig", "AutoModel", "AutoModelForSequenceClassification")
    config["auto_map"] = dict.fromkeys(names, "modeling_own.Own")
    (checkpoint / "config.json").write_text(json.dumps(config))
    # of a family that transformers knows its own class is taken, the checkpoint's is not
    runs.run(tmp_path, pipeline="seq_class", pre_trained_model=checkpoint, max_steps=1)
    (checkpoint / "config.json").write_text(json.dumps(config | {"model_type": "own"}))
    runs.run(tmp_path, pipeline="seq_class", model="auto", pre_trained_model=checkpoint, name="own", status=2)
    assert "own" in capsys.readouterr().err
    assert not trap.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "training_args.bin"])
def test_pickles_beside_a_model_are_not_read(name: str, tmp_path: Path) -> None:
    checkpoint, trap = tiny.save_checkpoint("bert", tmp_path / "model"), tmp_path / "executed"
    torch.save({"payload": Payload(trap)}, checkpoint / name)
    runs.run(tmp_path, pipeline="seq_class", pre_trained_model=checkpoint, max_steps=1)
    assert not trap.exists()


def test_a_model_that_is_a_pickle_is_refused(tmp_path: Path, capsys: Any) -> None:
    checkpoint, trap = tiny.save_checkpoint("bert", tmp_path / "model"), tmp_path / "executed"
    (checkpoint / "model.safetensors").unlink()
    torch.save({"payload": Payload(trap)}, checkpoint / "pytorch_model.bin")
    runs.run(tmp_path, pipeline="seq_class", pre_trained_model=checkpoint, status=2)
    assert "--pre_trained_model" in capsys.readouterr().err
    assert not trap.exists()


@pytest.mark.needs("deepspeed")
def test_shards_of_deepspeed_with_code_are_refused(tmp_path: Path) -> None:
    from transformers_framework.strategies.checkpoint_io import check_shards

    folder, trap = tmp_path / "last.ckpt" / "checkpoint", tmp_path / "executed"
    folder.mkdir(parents=True)
    state = {"module": {"weight": torch.zeros(2)}, "dp_world_size": 2}
    torch.save(state, folder / "mp_rank_00_model_states.pt")
    for rank in range(2):
        torch.save({"loss_scaler": None}, folder / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    assert check_shards(folder.parent)["dp_world_size"] == 2
    torch.save(state | {"dp_world_size": 3}, folder / "mp_rank_00_model_states.pt")
    with pytest.raises(ConfigurationError, match="shards of 2 of 3 processes"):
        check_shards(folder.parent)
    torch.save({"loss_scaler": Payload(trap)}, folder / "zero_pp_rank_1_mp_rank_00_optim_states.pt")
    with pytest.raises(ConfigurationError, match=r"zero_pp_rank_1.* contains objects that could run code"):
        check_shards(folder.parent)
    assert not trap.exists()


def test_weights_outside_of_a_checkpoint_are_not_read(tmp_path: Path, capsys: Any) -> None:
    """An index of shards that leads out of its folder, to a file that is there."""
    checkpoint = tiny.save_checkpoint("bert", tmp_path / "model")
    weights, index = checkpoint / "model.safetensors", checkpoint / "model.safetensors.index.json"
    names = load_file(weights)
    for number, place in enumerate(("../elsewhere.safetensors", str(tmp_path / "elsewhere.safetensors"))):
        weights = weights.rename(tmp_path / "elsewhere.safetensors")
        index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, place)}))
        runs.run(tmp_path, pipeline="seq_class", pre_trained_model=checkpoint, name=f"no{number}", status=2)
        assert (
            f"its model.safetensors.index.json names '{place}', which is not in its folder" in capsys.readouterr().err
        )
    weights.rename(checkpoint / "shard.safetensors")
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, "shard.safetensors")}))
    runs.run(tmp_path, pipeline="seq_class", pre_trained_model=checkpoint, max_steps=1)


@pytest.mark.parametrize("place", ["../2_Dense", "1_Pooling/../../2_Dense", "{here}/2_Dense", "..\\2_Dense"])
def test_steps_outside_of_a_checkpoint_are_not_read(place: str, tmp_path: Path, capsys: Any) -> None:
    checkpoint, place = tiny.save_checkpoint("bert", tmp_path / "model", "AutoModel"), place.format(here=tmp_path)
    steps = {"": "Transformer", "1_Pooling": "Pooling", place: "Dense"}
    types = {path: f"sentence_transformers.models.{kind}" for path, kind in steps.items()}
    modules = [{"idx": 0, "name": "0", "path": path, "type": kind} for path, kind in types.items()]
    (checkpoint / "modules.json").write_text(json.dumps(modules))
    data = runs.datasets(tmp_path / "data", "retrieval")
    runs.run(tmp_path, pipeline="retrieval", pre_trained_model=checkpoint, status=2, **data)
    said = capsys.readouterr().err
    assert f"--pre_trained_model {checkpoint}: its modules.json names '{place}', which is not in its folder" in said


def test_rows_outside_of_a_data_set_are_not_read(tmp_path: Path, capsys: Any) -> None:
    rows = Dataset.from_dict({"text": ["a b", "c d"] * 8, "label": [0, 1] * 8})
    rows.save_to_disk(tmp_path / "data")
    rows.save_to_disk(tmp_path / "elsewhere")
    state = json.loads((tmp_path / "data" / "state.json").read_text())
    place = f"../elsewhere/{state['_data_files'][0]['filename']}"
    state["_data_files"] = [{"filename": place}]
    (tmp_path / "data" / "state.json").write_text(json.dumps(state))
    runs.run(tmp_path, pipeline="seq_class", train_dataset=tmp_path / "data", status=2)
    assert f"its state.json refers to '{place}', which is not in its folder" in capsys.readouterr().err


def test_secrets_are_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """Neither into configs, cards, logs, checkpoints and predictions nor onto the terminal."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    folders = runs.run(tmp_path, pipeline="seq_class", max_steps=2)
    told = "".join(capfd.readouterr())
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) > 10
    for value in SECRETS.values():
        assert value not in told
        assert not [path for path in files if value.encode() in path.read_bytes()]
    assert folders.config.exists()
