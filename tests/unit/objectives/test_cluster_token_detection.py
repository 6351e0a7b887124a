"""Replacements follow what the model overlooks: the draws, the counts, and whole runs of both."""

from __future__ import annotations

import pickle
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.modeling_outputs import TokenClassifierOutput

from tests import runs, tiny
from tests.integration import interrupted
from tests.tolerances import FORWARD, rounding
from transformers_framework.constants import Stage
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.objectives.cluster_counts import DRAW_BITS, ClusterCounts
from transformers_framework.objectives.cluster_token_detection import ClusterRandomTokenDetection
from transformers_framework.objectives.objective import Context, Setup, num_items
from transformers_framework.processing.masking import draws_at
from transformers_framework.processing.random import keys

NAME = "token_detection"
CLUSTERS = np.array([0, 0, 0, 1, 2, 0, 1, 1, 2, 0, 2, 2, 1, 0, 3, 3])  # of 16 tokens
REGULAR = np.arange(5, 16)  # the first five are special
COUNTS = torch.tensor([[3, -1, 0, 7], [0, 0, 0, 0], [-9, -2, -4, -4], [5, 5, 5, 0]])


def counts_of(beta: float = 2.0, counts: torch.Tensor = COUNTS) -> ClusterCounts:
    made = ClusterCounts(CLUSTERS, REGULAR, beta)
    made.counts.copy_(counts)
    return made


def softmax_of_minmax(row: np.ndarray, beta: float) -> np.ndarray:
    row = row.astype(float)
    spread = row.max() - row.min()
    powers = np.exp(beta * ((row - row.min()) / spread if spread else 0 * row))
    return powers / powers.sum()


def chi_squared_fits(found: np.ndarray, shares: np.ndarray) -> bool:
    """Say whether shares make counts likely: within four standard deviations, as Wilson and Hilferty."""
    expected, spread = found.sum() * shares, 2 / (9 * (len(found) - 1))
    limit = (len(found) - 1) * (1 - spread + 4 * spread**0.5) ** 3
    return bool(((found - expected) ** 2 / expected).sum() <= limit)


# --- draws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0, 50.0])
def test_probabilities_are_the_softmax_of_scaled_counts(beta):
    expected = np.stack([softmax_of_minmax(row, beta) for row in COUNTS.numpy()])
    np.testing.assert_allclose(counts_of(beta).probabilities().numpy(), expected, rtol=rounding(FORWARD), atol=1e-30)
    np.testing.assert_allclose(counts_of(beta).probabilities()[1].numpy(), 0.25, rtol=rounding(FORWARD))


@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_replacements_are_drawn_with_these_probabilities(beta):
    """Chi-squared of clusters, and of tokens within them, from the draws that workers make."""
    ids = np.tile(REGULAR, (2000, 20))
    made = counts_of(beta)
    draws = [
        torch.from_numpy(draws_at(ids > 0, keys(1337, 0, np.arange(len(ids)), purpose))) for purpose in ("one", "two")
    ]
    originals = torch.from_numpy(ids)
    replaced = made.replace(originals, originals > 0, *draws).numpy()
    assert (replaced != ids).all()
    assert np.isin(replaced, REGULAR).all()
    for cluster in range(4):
        found = replaced[CLUSTERS[ids] == cluster]
        shares = softmax_of_minmax(COUNTS[cluster].numpy(), beta)
        assert chi_squared_fits(np.bincount(CLUSTERS[found], minlength=4), shares), cluster
    for token in REGULAR:
        found = np.bincount(replaced[ids == token], minlength=16)
        for cluster in range(4):
            others = [other for other in REGULAR if CLUSTERS[other] == cluster and other != token]
            if len(others) > 1:
                assert chi_squared_fits(found[others], np.full(len(others), 1 / len(others))), (token, cluster)


@pytest.mark.parametrize("beta", [0.0, 2.0, 1000.0])
@pytest.mark.parametrize("draw", [0, 1, 2 ** (DRAW_BITS - 1), 2**DRAW_BITS - 1])
def test_the_smallest_and_largest_numbers_draw_other_tokens(beta, draw):
    ids = torch.from_numpy(REGULAR)[None]
    for other in (0, 2**DRAW_BITS - 1):
        draws = [torch.full_like(ids, number, dtype=torch.int32) for number in (draw, other)]
        replaced = counts_of(beta).replace(ids, ids > 0, *draws)
        assert (replaced != ids).all()
        assert np.isin(replaced.numpy(), REGULAR).all()


def test_all_but_the_selected_stay():
    ids = torch.randint(16, (4, 50), generator=torch.Generator().manual_seed(1))
    draws = torch.randint(2**31 - 1, (2, 4, 50), dtype=torch.int32, generator=torch.Generator().manual_seed(2))
    selected = torch.rand(4, 50, generator=torch.Generator().manual_seed(3)) < 0.3
    replaced = counts_of().replace(ids, selected, *draws)
    assert torch.equal(replaced != ids, selected)


def test_clusters_without_tokens_to_draw_are_left_out():
    """Cluster 1 has special tokens only, cluster 2 has one regular token."""
    clusters, regular = np.array([0, 1, 1, 0, 0, 2]), np.array([3, 4, 5])
    made = ClusterCounts(clusters, regular, beta=2.0)
    np.testing.assert_allclose(made.probabilities().numpy(), [[0.5, 0, 0.5], [0.5, 0, 0.5], [1, 0, 0]])
    # what is never drawn has no part in the scale of the others
    made.counts.copy_(torch.tensor([[-4, 0, -2], [0, 0, 0], [-3, 0, 0]]))
    expected = softmax_of_minmax(np.array([-4, -2]), 2.0)
    np.testing.assert_allclose(made.probabilities()[0].numpy(), [expected[0], 0, expected[1]], rtol=rounding(FORWARD))
    np.testing.assert_allclose(made.probabilities()[2].numpy(), [1, 0, 0])
    ids = torch.from_numpy(np.tile(regular, 3000))[None]
    draws = torch.randint(2**31 - 1, (2, *ids.shape), dtype=torch.int32, generator=torch.Generator().manual_seed(2))
    replaced = made.replace(ids, ids > 0, *draws)
    assert (replaced != ids).all()
    assert set(replaced[ids == 5].tolist()) == {3, 4}
    assert set(replaced[ids == 3].tolist()) == {4, 5}


def test_a_first_cluster_without_tokens_is_not_drawn_by_zero():
    made = ClusterCounts(np.array([0, 0, 1, 1, 1]), np.array([2, 3, 4]), beta=2.0)
    ids, zeros = torch.tensor([[2, 3, 4]]), torch.zeros(1, 3, dtype=torch.int32)
    assert made.replace(ids, ids > 0, zeros, zeros).tolist() == [[3, 2, 2]]


def test_numbers_belong_to_tokens_and_not_to_places():
    short, padded = np.array([[1, 0, 1, 1]], dtype=bool), np.array([[0, 0, 1, 0, 1, 1, 0]], dtype=bool)
    mine, its = (draws_at(selected, keys(1, 0, [7], "a")) for selected in (short, padded))
    assert mine.dtype == np.int32
    assert mine[short].tolist() == its[padded].tolist()
    assert (mine[~short] == 0).all()
    other = draws_at(short, keys(1, 0, [8], "a"))
    assert not set(mine[short]) & set(other[short])


# --- counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("only_predictions", [False, True])
def test_counts_are_those_of_a_loop(objective_for, only_predictions):
    objective = objective_for(update_only_on_predictions=only_predictions)
    clusters, expected = objective.state.clusters.numpy(), np.zeros((5, 5), dtype=np.int64)
    torch.manual_seed(5)
    for step in range(3):
        batch, own = made_batch(objective, "train", epoch=step)
        logits = torch.randn(*batch["input_ids"].shape, 1)
        before = objective.state.counts.clone()
        evaluation = objective.evaluate(TokenClassifierOutput(logits=logits), batch | own)
        assert not objective.state.pending.any(), "to evaluate changes nothing"
        objective.count_batch(batch | own, evaluation)
        assert torch.equal(objective.state.counts, before), "draws of a step are not changed within it"
        for row, column in zip(*np.nonzero(own["labels"].numpy() == 1), strict=True):
            predicted = float(logits[row, column]) > 0
            if predicted or not only_predictions:
                pair = own["originals"][row, column], batch["input_ids"][row, column]
                expected[clusters[pair[0]], clusters[pair[1]]] += -1 if predicted else 1
        objective.end_step()
        np.testing.assert_array_equal(objective.state.counts.numpy(), expected)
        assert not objective.state.pending.any()
    assert (expected < 0).any()
    assert (expected > 0).any() is not np.bool_(only_predictions)


def test_evaluation_counts_nothing_and_repeats(objective_for):
    objective = objective_for()
    objective.state.counts.copy_(torch.arange(25).reshape(5, 5))
    before = objective.state.counts.clone()
    seen = []
    for _ in range(2):
        batch, own = made_batch(objective, "valid")
        objective.evaluate(TokenClassifierOutput(logits=torch.randn(*batch["input_ids"].shape, 1)), batch | own)
        objective.end_step()
        seen.append(batch["input_ids"])
    assert torch.equal(*seen)
    assert torch.equal(objective.state.counts, before)


def test_counts_change_what_is_drawn_next(objective_for):
    objective = objective_for(beta=1000.0)
    for cluster in range(5):
        objective.state.counts.copy_(torch.eye(5, dtype=torch.int64)[cluster].expand(5, 5))
        batch, own = made_batch(objective, "train")
        drawn = objective.state.clusters[batch["input_ids"]][own["labels"] == 1]
        assert (drawn == cluster).all()


def test_counts_of_other_clusters_are_refused(objective_for):
    objective, other = objective_for(), objective_for(shift=1)
    same = objective_for()
    objective.state.counts += 3
    same.state.load_state_dict(objective.state.state_dict())
    assert torch.equal(same.state.counts, objective.state.counts)
    with pytest.raises(ConfigurationError, match="made with other clusters"):
        other.state.load_state_dict(objective.state.state_dict())


def note_in_a_process(rank: int, meeting: str, sent: Any) -> None:
    """Count a pair of tokens of its own, and one of all processes; send what the counts then are."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    made = counts_of(counts=torch.zeros_like(COUNTS))
    ids, others = torch.tensor([[5 + rank, 9, 9]]), torch.tensor([[14, 10, 7]])
    made.add_batch(ids, others, counted=torch.tensor([[True, True, False]]), found=torch.tensor([[False, True, True]]))
    made.end_step()
    sent.put(made.counts.tolist())
    torch.distributed.destroy_process_group()


def test_processes_add_up_their_counts(tmp_path):
    context = interrupted.CONTEXT
    sent = context.Queue()
    processes = [context.Process(target=note_in_a_process, args=(rank, tmp_path / "meet", sent)) for rank in range(2)]
    for process in processes:
        process.start()
    found = [sent.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    expected = torch.zeros(4, 4, dtype=torch.int64)
    expected[0, 3] += 1  # token 5 of the first process
    expected[1, 3] += 1  # token 6 of the second
    expected[0, 2] -= 2  # found in both
    assert found == [expected.tolist()] * 2


# --- the objective ---------------------------------------------------------------------------------------------------

NUM_ROWS, LENGTH = 16, 24


@pytest.fixture(scope="module")
def objective_for(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clusters")
    tokenizer, config = tiny.tokenizer_for("bert"), tiny.config_for("bert")

    def make(shift: int = 0, **flags: Any) -> ClusterRandomTokenDetection:
        path = folder / f"{shift}.txt"
        path.write_text("".join(f"{(token + shift) % 5}\n" for token in range(config.vocab_size)))
        return ClusterRandomTokenDetection(Setup(tokenizer, config), clusters_filename=str(path), **flags)

    return make


def workers_part(objective: Any, stage: Stage, epoch: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return a batch of texts of all lengths, padded on the right, and what a worker adds."""
    ids = np.random.default_rng(2).integers(5, objective.setup.config.vocab_size, (NUM_ROWS, LENGTH))
    lengths = np.arange(NUM_ROWS) + 5
    ids[:, 0], ids[np.arange(NUM_ROWS), lengths - 1] = 2, 3
    mask = np.arange(LENGTH) < lengths[:, None]
    batch = {"input_ids": np.where(mask, ids, 0), "attention_mask": mask.astype(np.int64)}
    return batch, objective.post_process({}, batch, Context(stage, 1337, epoch, np.arange(NUM_ROWS)))


def made_batch(objective: Any, stage: Stage, epoch: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return what is shared of a batch on the device, and what is the objective's own."""
    batch, own = (
        {key: torch.from_numpy(value) for key, value in part.items()} for part in workers_part(objective, stage, epoch)
    )
    done = dict(objective.on_device({**batch, NAME: own}, stage))
    return done, done.pop(NAME)


@pytest.mark.parametrize("stage", ["train", "valid"])
def test_labels_are_1_where_a_token_changed(objective_for, stage):
    objective = objective_for(probability=0.4)
    before, mine = workers_part(objective, stage)
    assert {name: (entry.dtype, entry.shape) for name, entry in mine.items()} == {
        "labels": (np.int64, (NUM_ROWS, LENGTH)),
        "cluster_draws": (np.int32, (NUM_ROWS, LENGTH)),
        "token_draws": (np.int32, (NUM_ROWS, LENGTH)),
    }
    after, own = made_batch(objective, stage)
    labels, changed = own["labels"].numpy(), after["input_ids"].numpy() != before["input_ids"]
    assert ((labels == 1) == changed).all()
    assert ((labels == -100) == (before["attention_mask"] == 0)).all()
    assert 0.2 < changed.sum() / before["attention_mask"].sum() < 0.5
    special = objective.vocabulary.special
    assert not special[before["input_ids"][changed]].any()
    assert not special[after["input_ids"].numpy()[changed]].any()
    assert num_items(objective, {**before, **mine}) == before["attention_mask"].sum()


def test_training_differs_between_epochs_and_nothing_is_replaced_in_prediction(objective_for):
    objective = objective_for()
    assert not torch.equal(*(made_batch(objective, "train", epoch)[0]["input_ids"] for epoch in (0, 1)))
    before, mine = workers_part(objective, "predict")
    assert mine == {}
    assert objective.on_device({**before, NAME: mine}, "predict")["input_ids"] is before["input_ids"]
    assert objective.describe(before, 0)


def test_samples_are_described(objective_for):
    objective = objective_for(probability=1.0)
    batch, own = workers_part(objective, "train")
    tokens = objective.setup.tokenizer.convert_ids_to_tokens(batch["input_ids"][0, 1:4].tolist())
    assert objective.describe({**batch, **own}, 0) == f"detect the replacements of {' '.join(tokens)}"


def test_workers_get_no_counts(objective_for):
    sent = pickle.loads(pickle.dumps(objective_for()))
    assert sent.state is None
    theirs, mine = (workers_part(objective, "train")[1] for objective in (sent, objective_for()))
    assert all(np.array_equal(theirs[name], mine[name]) for name in mine)


# --- whole runs ------------------------------------------------------------------------------------------------------

PIPELINE = "cluster_random_token_detection"
STEPS = "pipelines.pipeline:Pipeline.training_step"


@pytest.fixture(scope="module")
def run_flags(tmp_path_factory) -> dict[str, Any]:
    """The flags of a run of 3 epochs of 10 batches and 5 steps, which is validated and saved within windows too."""
    folder = tmp_path_factory.mktemp("runs")
    checkpoint = tiny.save_checkpoint("bert", folder / "bert", **runs.LIVELY)
    lines = "".join(f"{token % 6}\n" for token in range(tiny.config_for("bert").vocab_size))
    (folder / "clusters.txt").write_text(lines)
    return {
        "folder": folder,
        "pipeline": PIPELINE,
        "pre_trained_model": checkpoint,
        "train_dataset": tiny.write_jsonl(folder / "train.jsonl", tiny.classes(40, 0)),
        "valid_dataset": tiny.write_jsonl(folder / "valid.jsonl", tiny.classes(8, 1)),
        "input_columns": "text",
        "clusters_filename": folder / "clusters.txt",
        "probability": 0.3,
        "batch_size": 4,
        "accumulate_grad_batches": 2,
        "val_check_interval": 5,
        "learning_rate": 3e-3,
        "max_epochs": 3,
        "additional_config_kwargs": ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"],
    }


@pytest.fixture(scope="module", autouse=True)
def pipeline_is_known():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(runs.PIPELINE_FLAGS, PIPELINE, {})
        yield


def state_of(folders: Any) -> dict[str, torch.Tensor]:
    return torch.load(folders.last, weights_only=True)["state_dict"]


def counts_in(state: dict[str, torch.Tensor]) -> torch.Tensor:
    return state[f"objective_states.{NAME}.counts"]


@pytest.fixture(scope="module")
def alone(run_flags) -> dict[str, torch.Tensor]:
    """What a run without workers leaves."""
    flags = dict(run_flags)
    return state_of(runs.run(flags.pop("folder"), name="alone", **flags))


def test_a_checkpoint_holds_the_counts(alone):
    counts, pending = (alone[f"objective_states.{NAME}.{name}"] for name in ("counts", "pending"))
    assert counts.shape == (6, 6)
    assert counts.any()
    assert not pending.any()


@pytest.mark.parametrize("num_workers", [2, 4])
def test_workers_change_nothing(alone, run_flags, num_workers):
    flags = dict(run_flags) | {"num_workers": num_workers}
    found = state_of(runs.run(flags.pop("folder"), name=f"workers-{num_workers}", **flags))
    assert found.keys() == alone.keys()
    assert all(torch.equal(found[name], alone[name]) for name in alone)


def test_accumulated_batches_count_as_one(alone, run_flags):
    flags = dict(run_flags) | {"batch_size": 8, "accumulate_grad_batches": 1}
    found = state_of(runs.run(flags.pop("folder"), name="at-once", **flags))
    assert torch.equal(counts_in(found), counts_in(alone))


@pytest.mark.slow
def test_two_processes_count_as_one(alone, run_flags):
    """Each has half of a batch; were their counts not equal, their replacements would be others."""
    flags = dict(run_flags) | {"batch_size": 2, "devices": 2, "strategy": "ddp"}
    folders, _ = runs.spawn(flags.pop("folder"), name="two", **flags)
    assert torch.equal(counts_in(state_of(folders)), counts_in(alone))


def test_a_killed_run_goes_on_with_its_counts(alone, run_flags, tmp_path):
    """Killed in the second epoch, behind a checkpoint within a window of accumulated batches, whose counts wait."""
    flags = dict(run_flags)
    words = runs.command(flags.pop("folder"), name="killed", **flags)
    log = tmp_path / "log"
    assert interrupted.run(words, log, (STEPS, 17, signal.SIGKILL)) == -signal.SIGKILL, log.read_text()
    folders = runs.folders_of(words)
    assert state_of(folders)[f"objective_states.{NAME}.pending"].any()
    assert interrupted.run([*words, "--resume"], log) == 0, log.read_text()
    found = state_of(folders)
    assert all(torch.equal(found[name], alone[name]) for name in alone)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"clusters_filename": None}, "Missing: --clusters_filename."),
        ({"clusters_filename": "absent.txt"}, "--clusters_filename absent.txt: there is no such file."),
        ({"clusters_filename": "train"}, "found 40 lines, expected"),
        ({"beta": "-1"}, "--beta: found '-1', expected a number at least 0."),
        ({"probability": "1.5"}, "--probability: found '1.5'"),
    ],
)
def test_bad_input_is_told_before_training(run_flags, capsys, flags, says):
    given: dict[str, Any] = dict(run_flags)
    folder: Path = given.pop("folder")
    if flags.get("clusters_filename") == "train":
        flags = {"clusters_filename": folder / "few.txt"}
        flags["clusters_filename"].write_text("0\n" * 40)
    runs.run(folder, name="bad", status=2, **(given | flags))
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said
