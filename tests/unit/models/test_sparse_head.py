"""A vocabulary head that sees labelled positions only learns what the dense head learns, on every family."""

import copy
import gc
import weakref

import pytest
import torch
import transformers

from tests import tiny
from tests.tolerances import BACKWARD, approx, assert_close, assert_gradients_close
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.losses.vocabulary import vocabulary_cross_entropy
from transformers_framework.models.auto import checkpoint_activations
from transformers_framework.models.freezing import freeze_unreached
from transformers_framework.models.multi_head import MultiHeadModel
from transformers_framework.models.relay import Selection
from transformers_framework.registry import MODELS

HEADS = {
    "masked_lm": "AutoModelForMaskedLM",
    "seq_class": "AutoModelForSequenceClassification",
    "token_class": "AutoModelForTokenClassification",
}
NUM_LABELS = {"seq_class": 3, "token_class": 5}
# what a head does with the rows differs: transform with an embedding size of its own, a decoder given the embeddings, a
# concatenated decoder, attributes with other names, a bias of the model, the decoder's states
USUAL = ("bert", "deberta", "mobilebert", "modernbert", "roberta", "bart")


def heads_of(model):
    family = type(tiny.config_for(model))
    return [name for name, auto in HEADS.items() if family in getattr(transformers, auto)._model_mapping]


FAMILIES = [name for name in MODELS if name != "auto" and "masked_lm" in heads_of(name)]
families = pytest.mark.parametrize(
    "model", [pytest.param(name, marks=() if name in USUAL else pytest.mark.slow) for name in FAMILIES]
)


def built(model, names=("masked_lm",), **changes):
    heads = {}
    for seed, name in enumerate(names):
        own = {"num_labels": NUM_LABELS[name]} if name in NUM_LABELS else {}
        heads[name] = tiny.model_for(model, HEADS[name], seed=seed, **own, **changes)
    multi = MultiHeadModel(heads)
    freeze_unreached(multi)
    return multi.eval()


def batch_of(model, seed=0, probability=0.4):
    """Return inputs, labels ``(B, L)``, and the same as positions and labels ``(N,)``, filled up to a multiple of 4."""
    texts = (["What about rain and snow?", "a horse", "a kettle"], ["the storm after rain", "x", "every oven"])
    inputs = dict(tiny.tokenizer_for(model)(*texts, padding=True, return_tensors="pt"))
    draws = torch.rand(inputs["input_ids"].shape, generator=torch.Generator().manual_seed(seed))
    chosen = (draws < probability) & (inputs["attention_mask"] == 1)
    dense = torch.where(chosen, inputs["input_ids"], -100)
    positions = (dense.flatten() != -100).nonzero()[:, 0]
    labels = dense.flatten()[positions]
    missing = -len(positions) % 4
    filled = (
        torch.cat([positions, positions.new_zeros(missing)]),
        torch.cat([labels, labels.new_full((missing,), -100)]),
    )
    return inputs, dense, *filled


def learned(multi, batch, *, sparse):
    """Return loss of the vocabulary, all gradients and the logits of the other heads."""
    inputs, dense, positions, labels = batch
    if sparse:
        outputs = multi(positions={"masked_lm": positions}, **inputs)
        assert outputs["masked_lm"].logits.shape == (len(positions), multi.config.vocab_size)
        loss, _ = vocabulary_cross_entropy(outputs["masked_lm"].logits, labels)
    else:
        outputs = multi(**inputs)
        logits = outputs["masked_lm"].logits.flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits.float(), dense.flatten(), reduction="sum")
    others = {name: output.logits for name, output in outputs.items() if name != "masked_lm"}
    (loss + sum(logits.float().logsumexp(-1).sum() for logits in others.values())).backward()
    gradients = {name: p.grad for name, p in multi.named_parameters() if p.grad is not None}
    return loss.item(), gradients, others


def compare(dense, sparse, units=BACKWARD, dtype=torch.float32):
    assert sparse[0] == approx(dense[0], units, dtype)
    assert_gradients_close(sparse[1], dense[1], units, dtype)
    assert sum(gradient.abs().sum() > 0 for gradient in dense[1].values()) > 0.8 * len(dense[1])
    assert list(sparse[2]) == list(dense[2])
    for name, logits in dense[2].items():
        assert_close(sparse[2][name], logits)


@families
def test_one_head_has_the_loss_and_every_gradient_of_the_dense_one(model):
    batch = batch_of(model)
    compare(*(learned(built(model), batch, sparse=sparse) for sparse in (False, True)))


@families
def test_a_shared_backbone_has_them_too_and_the_other_heads_see_everything(model):
    batch, names = batch_of(model), heads_of(model)
    compare(*(learned(built(model, names), batch, sparse=sparse) for sparse in (False, True)))


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("deberta", {"legacy": False}),  # its other head: the decoder is the embeddings, given at each call
        ("deberta_v2", {"legacy": False}),
        ("modernbert", {"sparse_prediction": True}),  # its own way, which needs labels inside the model
        ("bert", {"tie_word_embeddings": False}),
    ],
)
def test_variants_of_a_head_do_too(model, changes):
    batch = batch_of(model)
    compare(*(learned(built(model, **changes), batch, sparse=sparse) for sparse in (False, True)))


def test_a_backbone_that_returns_a_tuple_is_understood():
    selection, states, pooled = Selection(), torch.randn(2, 3, 4), torch.randn(2, 4)
    selection.select(torch.tensor([5, 1]))
    found = selection((states, pooled))
    assert torch.equal(found[0], torch.stack([states[1, 2], states[0, 1]]))
    assert found[1] is pooled


def test_rows_come_in_the_order_of_the_positions_and_may_repeat():
    multi = built("bert")
    inputs, *_ = batch_of("bert")
    everything = multi(**inputs)["masked_lm"].logits.flatten(0, 1)
    positions = torch.tensor([7, 0, 7, 3])
    logits = multi(positions={"masked_lm": positions}, **inputs)["masked_lm"].logits
    assert_close(logits, everything[positions])
    assert multi(positions={"masked_lm": positions[:0]}, **inputs)["masked_lm"].logits.shape == (0, everything.shape[1])


@pytest.mark.parametrize("names", [("masked_lm",), ("masked_lm", "seq_class")])
def test_bfloat16_gives_the_dense_numbers_within_its_rounding(names):
    batch, found = batch_of("bert"), []
    for sparse in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(learned(built("bert", names), batch, sparse=sparse))
    compare(*found, units=3, dtype=torch.bfloat16)


def test_gradients_of_micro_batches_add_up_to_those_of_the_dense_head():
    batches = [batch_of("bert", seed, probability) for seed, probability in enumerate((0.2, 0.6, 0.4))]
    models = {sparse: built("bert") for sparse in (False, True)}
    found = {sparse: [learned(models[sparse], batch, sparse=sparse) for batch in batches][-1] for sparse in models}
    assert len({len(batch[2]) for batch in batches}) > 1  # of unequal numbers of labels
    compare(found[False], found[True])


@pytest.mark.parametrize("names", [("masked_lm",), pytest.param(("masked_lm", "seq_class"), marks=pytest.mark.slow)])
def test_compiled_it_is_one_graph_for_all_numbers_of_positions(names):
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter, multi, plain = CompileCounter(), built("bert", names), built("bert", names)
    torch.nn.Module.compile(multi, backend=counter, fullgraph=True)
    batches = [batch_of("bert", seed, probability) for seed, probability in enumerate((0.1, 0.3, 0.5, 0.8))]
    assert len({len(batch[2]) for batch in batches}) > 2
    for batch in batches:
        for model in (plain, multi):
            model.zero_grad()
        compare(learned(plain, batch, sparse=True), learned(multi, batch, sparse=True))
    assert counter.frame_count <= 2  # one for the first number, one for all numbers


def test_gradient_checkpointing_gives_equal_gradients():
    batch, found = batch_of("bert"), []
    for checkpointing in (False, True):
        multi = built("bert")
        if checkpointing:
            checkpoint_activations(multi.backbone)
        for module in multi.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        found.append(learned(multi.train(), batch, sparse=True))
    compare(*found)


@pytest.mark.parametrize("names", [("masked_lm",), ("masked_lm", "seq_class")])
def test_nothing_is_left_behind_after_a_step(names):
    multi = built("bert", names)
    inputs, _, positions, _ = batch_of("bert")
    positions = positions.clone()
    kept = weakref.ref(positions)
    outputs = multi(positions={"masked_lm": positions}, **inputs)
    logits = weakref.ref(outputs["masked_lm"].logits.untyped_storage())
    twin = copy.deepcopy(multi)
    del positions, outputs
    gc.collect()
    assert kept() is None
    assert logits() is None
    assert multi(**inputs)["masked_lm"].logits.ndim == 3  # and the next step is dense again
    first = torch.tensor([0])
    assert twin(positions={"masked_lm": first}, **inputs)["masked_lm"].logits.shape[0] == 1
    assert twin._selections["masked_lm"] is not multi._selections["masked_lm"]
    with torch.no_grad():
        wanted = multi(positions={"masked_lm": first}, **inputs)["masked_lm"].logits.clone()
        for parameter in multi.parameters():
            parameter.zero_()
    assert_close(twin(positions={"masked_lm": first}, **inputs)["masked_lm"].logits, wanted)


def test_a_step_that_fails_leaves_nothing_behind_either():
    multi = built("bert")
    inputs, *_ = batch_of("bert")
    with pytest.raises(IndexError):
        multi(positions={"masked_lm": torch.tensor([10_000])}, **inputs)
    assert multi(**inputs)["masked_lm"].logits.ndim == 3


@pytest.mark.parametrize("names", [("masked_lm",), ("masked_lm", "seq_class")])
def test_exports_are_those_of_a_model_without_positions(names, tmp_path):
    multi = built("bert", names)
    inputs, _, positions, _ = batch_of("bert")
    sparse = multi(positions={"masked_lm": positions}, **inputs)["masked_lm"].logits
    loaded = transformers.AutoModelForMaskedLM.from_pretrained(multi.export(tmp_path)["masked_lm"]).eval()
    assert_close(loaded(**inputs).logits.flatten(0, 1)[positions], sparse)


def test_a_model_without_a_backbone_of_its_own_is_refused():
    multi = MultiHeadModel({"denoising": tiny.model_for("t5", "AutoModelForSeq2SeqLM")})
    ids = torch.ones(1, 4).long()
    with pytest.raises(ConfigurationError, match="--model t5: T5ForConditionalGeneration is no head on a backbone"):
        multi(positions={"denoising": torch.tensor([0])}, input_ids=ids, decoder_input_ids=ids)
