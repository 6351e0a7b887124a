"""A last layer at the positions that heads read gives the outputs and gradients of the whole one, in every family."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from tests import tiny
from tests.tolerances import assert_close, assert_gradients_close
from transformers_framework.compat.transformers import attention_implementations
from transformers_framework.family_traits import LastLayerModules
from transformers_framework.models import last_layer
from transformers_framework.models.auto import checkpoint_activations
from transformers_framework.models.document_mask import DocumentMask
from transformers_framework.models.joint import AutoModelForJointReRanking
from transformers_framework.models.multi_head import MultiHeadModel
from transformers_framework.models.reads import Reads
from transformers_framework.models.towers import Tower
from transformers_framework.processing.masking import label_columns, sparse_labels
from transformers_framework.registry import MODELS

HEADS = {"masked_lm": "AutoModelForMaskedLM", "seq_class": "AutoModelForSequenceClassification"}
BOTH = tuple(HEADS)
K, LENGTH = 3, 24
IDS = torch.randint(5, 60, (4, LENGTH), generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(LENGTH) < torch.tensor([24, 15, 20, 12])[:, None]).long()
FIRST = torch.tensor([[0, 4, 9, 15], [0, 3, 6, -1], [0, 1, 2, 3], [0, 9, -1, -1]])
CHANGES = {
    "deberta_v2": {"attn_implementation": "eager"},
    "esm": {"position_embedding_type": "rotary"},  # as ESM-2 has it; the default is absolute
    "eurobert": {"classifier_pooling": "bos"},
    "modernbert": {"local_attention": LENGTH},  # in smaller windows, padding attends to nothing and is no number
}
FLOAT32 = ("deberta", "eurobert", "modernbert", "ultrabert")  # families that compute norms or rotations in it always
FAMILIES = sorted(row.name for row in MODELS.values() if isinstance(row.last_layer, LastLayerModules))
USUAL = ("bert", "deberta_v2", "distilbert", "esm", "modernbert")
families = pytest.mark.parametrize(
    "model", [pytest.param(name, marks=() if name in USUAL else pytest.mark.slow) for name in FAMILIES]
)


def built(model: str, names: tuple[str, ...] = BOTH, attention: str = "sdpa", **changes: Any) -> MultiHeadModel:
    """Return a model in evaluation mode, float64; ``joint`` is a head on the first tokens of candidates."""
    own = {"seq_class": {"num_labels": 3}}
    changes = {"attn_implementation": attention, **changes, **CHANGES.get(model, {})}
    heads = {}
    for seed, name in enumerate(names):
        if name == "joint":
            config = tiny.config_for(model, num_candidates=K, classification_head_type="AE_k", num_labels=2, **changes)
            torch.manual_seed(seed)
            heads[name] = AutoModelForJointReRanking.from_config(config)
        else:
            heads[name] = tiny.model_for(model, HEADS[name], seed=seed, **own.get(name, {}), **changes)
    return MultiHeadModel(heads).double().eval()


def batch_of(probability: float = 0.2, seed: int = 0) -> dict[str, Tensor]:
    """Return labels as batches have them: ``labels``, ``positions`` and ``places (N,)``, ``columns (B, P)``."""
    draws = torch.rand(IDS.shape, generator=torch.Generator().manual_seed(seed))
    dense = torch.where((draws < probability) & (MASK == 1), IDS, -100).numpy()
    positions, labels = sparse_labels(dense, multiple=8)
    columns, places = label_columns(dense, len(labels), multiple=4)
    found = {"positions": positions, "labels": labels, "columns": columns, "places": places}
    return {name: torch.from_numpy(values) for name, values in found.items()}


def learned(model: MultiHeadModel, own: dict[str, Tensor], **inputs: Tensor) -> tuple[Any, list[Any]]:
    """Return loss and gradients of all heads, and the shapes of the outputs of the last layer."""
    shapes: list[Any] = []
    layer = model.backbone.get_submodule(last_layers(model.config.model_type))[-1]
    handle = layer.register_forward_hook(
        lambda _, __, output: shapes.append((output[0] if isinstance(output, tuple) else output).shape)
    )
    inputs = {"input_ids": IDS, "attention_mask": MASK, **inputs}
    if "joint" in model.heads:
        inputs["first_tokens"] = FIRST
    positions = {"masked_lm": own["positions"]} if "masked_lm" in model.heads else {}
    reads = {"masked_lm": Reads(own["columns"], own["places"])} if positions else {}
    model.zero_grad()
    outputs = model(positions=positions, reads=reads, **inputs)
    handle.remove()
    loss = torch.zeros(())
    for name, output in outputs.items():
        logits = output.logits[own["labels"] != -100] if name == "masked_lm" else output.logits
        logits = logits[FIRST[:, 1:] >= 0] if name == "joint" else logits
        loss = loss + logits.logsumexp(-1).sum() + logits.pow(3).sum()
    loss.backward()
    return (loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}), shapes


def last_layers(model_type: str) -> str:
    modules = next(row.last_layer for row in MODELS.values() if row.model_type == model_type)
    assert isinstance(modules, LastLayerModules)
    return modules.layers


def whole(model: MultiHeadModel) -> MultiHeadModel:
    """Return the model with a whole last layer."""
    model._last_layer = None
    return model


def compare(ours: Any, theirs: Any, dtype: torch.dtype = torch.float64) -> None:
    assert_close(ours[0], theirs[0], dtype=dtype)
    assert_gradients_close(ours[1], theirs[1], dtype=dtype)


def both_ways(model: MultiHeadModel, own: dict[str, Tensor], **inputs: Tensor) -> tuple[Any, Any, list[Any]]:
    """Return what a model learns with positions and with a whole last layer, and the shapes of its outputs."""
    other = whole(copy.deepcopy(model))
    ours, (shape,) = learned(model, own, **inputs)
    theirs, (full,) = learned(other, own, **inputs)
    assert full[:2] == IDS.shape
    return ours, theirs, [shape, full]


@families
def test_each_family_gives_the_outputs_and_gradients_of_the_whole_layer(model: str) -> None:
    own = batch_of()
    implementations = attention_implementations(type(tiny.model_for(model, HEADS["masked_lm"])))
    shapes = {
        ("masked_lm",): (1, len(own["labels"])),
        ("seq_class",): (4, 1),
        ("joint",): (4, 1 + K),
        BOTH: (4, 1 + own["columns"].shape[1]),
        ("masked_lm", "joint", "seq_class"): (4, 1 + own["columns"].shape[1] + 1 + K),
    }
    for attention in {"eager", "sdpa"} & set(implementations):
        for names, shape in shapes.items():
            ours, theirs, found = both_ways(built(model, names, attention), own)
            assert found[0][:2] == shape
            compare(ours, theirs, torch.float32 if model in FLOAT32 else torch.float64)


def test_a_classifier_reads_the_first_position_where_padding_is_on_the_left() -> None:
    model, own = built("bert", ("seq_class",)), batch_of()
    ours, theirs, _ = both_ways(model, own, attention_mask=MASK.flip(1))
    compare(ours, theirs)


@pytest.mark.parametrize("mask", [None, MASK, MASK.flip(1)])
def test_embeddings_of_the_first_token(mask: Tensor | None) -> None:
    tower = Tower(MultiHeadModel({"retrieval": tiny.model_for("bert", "AutoModel")}), "cls", normalizes=True).eval()
    inputs = {"input_ids": IDS, **({} if mask is None else {"attention_mask": mask})}
    found, shapes = [], []
    tower.encoder.backbone.encoder.layer[-1].register_forward_hook(lambda *call: shapes.append(call[2].shape[1]))
    for layer in (tower.encoder._last_layer, None):
        tower.encoder._last_layer = layer
        found.append(tower(**inputs))
    assert shapes == [1, LENGTH]
    assert_close(*found)


def test_documents_of_packed_rows_keep_their_masks_and_positions() -> None:
    for name in ("bert", "modernbert", "deberta_v2"):
        model, own = built(name, ("masked_lm",)), batch_of()
        documents = torch.where(MASK == 1, 1 + torch.arange(LENGTH) // 9, 0)
        position_ids = torch.arange(LENGTH).remainder(9).expand_as(IDS)
        inputs = DocumentMask(model.backbone)({"documents": documents, "position_ids": position_ids})
        accepted = model.accepted(inputs)
        ours, theirs, _ = both_ways(model, own, **accepted)
        compare(ours, theirs)
        assert ours[0] != learned(model, own)[0][0], "documents see each other without the mask"


def test_attention_with_masks_of_another_form_has_all_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_layer, "attention_of", lambda _: "flash_attention_2")
    for names in (("masked_lm",), BOTH):
        model = built("bert", names)
        assert not model._last_layer.has_few_queries
        ours, theirs, found = both_ways(model, batch_of())
        assert found[0] != found[1]
        compare(ours, theirs)


@pytest.mark.parametrize("model", ["bert", "modernbert", "deberta_v2"])
def test_gradient_checkpointing_and_no_dropout_in_training(model: str) -> None:
    found = []
    for checkpoints in (True, False):
        multi = built(model)
        for module in multi.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpoints:
            checkpoint_activations(multi.backbone)
        ours, theirs, _ = both_ways(multi.train(), batch_of())
        compare(ours, theirs)
        found.append(ours)
        assert checkpoints == getattr(multi._last_layer.layer, "gradient_checkpointing", False)
    compare(*found)


def test_bfloat16_gives_the_same_within_its_rounding() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs, _ = both_ways(built("bert").float(), batch_of())
    assert_gradients_close(ours[1], theirs[1], units=3, dtype=torch.bfloat16)


def test_gradients_of_several_batches_add_up() -> None:
    found = []
    for model in ((multi := built("bert")), whole(copy.deepcopy(multi))):
        total = torch.zeros(())
        for seed, probability in enumerate((0.1, 0.5, 0.3)):
            own = batch_of(probability, seed)
            outputs = model(
                positions={"masked_lm": own["positions"]},
                reads={"masked_lm": Reads(own["columns"], own["places"])},
                input_ids=IDS,
                attention_mask=MASK,
            )
            total = total + outputs["masked_lm"].logits[own["labels"] != -100].logsumexp(-1).sum()
            total = total + outputs["seq_class"].logits.pow(3).sum()
        total.backward()
        found.append((total.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    compare(*found)


@pytest.mark.parametrize("names", [("masked_lm",), pytest.param(BOTH, marks=pytest.mark.slow)])
def test_compiled_it_is_one_graph_for_all_numbers_of_positions(names: tuple[str, ...]) -> None:
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter, model = CompileCounter(), built("bert", names)
    plain = copy.deepcopy(model)
    torch.nn.Module.compile(model, backend=counter, fullgraph=True)
    batches = [batch_of(probability, seed) for seed, probability in enumerate((0.1, 0.25, 0.4, 0.6))]
    assert len({own["columns"].shape[1] for own in batches}) > 2
    for own in batches:
        compare(learned(model, own)[0], learned(plain, own)[0])
    assert counter.frame_count <= 3  # the first one; the second number of labels; the second most labels of a row


def test_the_layer_is_whole_where_something_reads_all_of_it() -> None:
    own = batch_of()
    shape = learned(built("bert", ("masked_lm",)), own)[1][0]
    assert shape[:2] == (1, len(own["labels"]))
    mean = built("modernbert", ("seq_class",), classifier_pooling="mean")
    assert learned(mean, own)[1][0][:2] == IDS.shape
    for changes in ({"output_hidden_states": True}, {"is_decoder": True}, {"chunk_size_feed_forward": 8}):
        assert built("bert", ("masked_lm",), **changes)._last_layer is None
    assert built("albert", ("masked_lm",))._last_layer is None
    many = batch_of(probability=1.0)
    assert learned(built("bert", ("masked_lm",)), many)[1][0][:2] == IDS.shape
    multi = MultiHeadModel(
        {
            "seq_class": tiny.model_for("bert", HEADS["seq_class"]),
            "token_class": tiny.model_for("bert", "AutoModelForTokenClassification"),
        }
    )
    shapes: list[int] = []
    multi.backbone.encoder.layer[-1].register_forward_hook(lambda *call: shapes.append(call[2].shape[1]))
    multi(input_ids=IDS, attention_mask=MASK)
    multi(active=["seq_class"], input_ids=IDS, attention_mask=MASK)
    multi.backbone(IDS)
    assert shapes == [LENGTH, 1, LENGTH]


def test_a_model_keeps_one_set_of_hooks() -> None:
    head = tiny.model_for("bert", HEADS["seq_class"]).double().eval()
    first, second = (MultiHeadModel({"seq_class": head}) for _ in range(2))
    assert first._last_layer is second._last_layer
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    expected = copy.deepcopy(first)
    assert expected._last_layer is not first._last_layer
    found = second(**inputs)["seq_class"].logits
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    assert_close(found, whole(expected)(**inputs)["seq_class"].logits)
    with pytest.raises(IndexError):
        first(input_ids=IDS + 10_000)
    assert first._last_layer.rows is None


def test_positions_by_row() -> None:
    labels = batch_of(0.3)
    rows, width = labels["places"] // labels["columns"].shape[1], labels["columns"].shape[1]
    kept = labels["labels"] != -100
    positions = rows * LENGTH + labels["columns"].flatten()[labels["places"]]
    assert torch.equal(positions[kept], labels["positions"][kept])
    assert width % 4 == 0
    assert transformers.AttentionInterface()[last_layer.AT_POSITIONS] is last_layer.attend_at_positions
