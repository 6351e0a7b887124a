"""Parameters that no output depends on: they are frozen, because they would never receive a gradient."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers.modeling_outputs import ModelOutput

    from transformers_framework.models.multi_head import MultiHeadModel

logger = logging.getLogger(__name__)


def reached(tensors: Iterable[torch.Tensor]) -> set[int]:
    """Return the ids of the parameters on which tensors depend, by walking their graph: no backward pass is run."""
    stack = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    seen, leaves = set(stack), set()
    while stack:
        node = stack.pop()
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        for child, _ in node.next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append(child)
    return leaves


def freeze_unreached(
    model: MultiHeadModel, scores: Callable[[str, ModelOutput], Iterable[torch.Tensor]] | None = None
) -> list[str]:
    """Freeze the parameters that no head's output depends on, such as the pooler of a model that tags tokens.

    They would never receive a gradient: optimizers would carry them and distributed training would wait for them. They
    stay in the checkpoint as they are. One forward pass over eight tokens finds them.

    Args:
        model: The model, on any device.
        scores: Which tensors of a head's output its loss will use, given the head's name and output; by default the
            logits, or the last hidden state of a head without any.

    Returns:
        Names of the parameters that were frozen.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()  # no dropout: random generators keep their state
    with torch.enable_grad():
        outputs = model(**_eight_tokens(model))
    for module, mode in modes.items():
        module.training = mode
    choose = scores or (lambda _, output: _logits(output))
    used = reached(tensor for name, output in outputs.items() for tensor in choose(name, output))
    frozen = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in used]
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    if frozen:
        logger.debug("Frozen, because no output depends on them: %s.", ", ".join(frozen))
    return frozen


def _logits(output: ModelOutput) -> list[torch.Tensor]:
    return [value for key, value in output.items() if key.endswith("logits")] or [output["last_hidden_state"]]


def _eight_tokens(model: MultiHeadModel) -> dict[str, torch.Tensor]:
    """Return one row that every family accepts: a pair with an end-of-sequence token, also for the decoder."""
    config, device = model.config, next(model.parameters()).device
    ids = torch.full((1, 8), 1 if config.pad_token_id == 0 else 0, device=device)
    end = getattr(config, "eos_token_id", None)
    if isinstance(end, int) and end < config.vocab_size:
        ids[0, [3, 4, -1]] = end  # Longformer's reader looks for all three of RoBERTa's separators
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": ids}
    inputs["first_tokens"] = torch.tensor([[0, 4]], device=device)  # of a question and one candidate
    return model.accepted(inputs)
