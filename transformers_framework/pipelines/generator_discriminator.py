"""The LightningModule of pipelines with a generator and a discriminator, which detects the generator's samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from transformers_framework.constants import IGNORE_INDEX, Stage
from transformers_framework.losses.vocabulary import cross_entropy_and_probabilities
from transformers_framework.models.generator import GENERATED
from transformers_framework.models.reads import label_positions
from transformers_framework.models.sampling import sample_from
from transformers_framework.objectives.token_detection import Detection, Filled
from transformers_framework.pipelines.pipeline import Pipeline

if TYPE_CHECKING:
    from transformers_framework.models.generator import GeneratorDiscriminator
    from transformers_framework.models.multi_head import MultiHeadModel

DETECTED = Detection.name


class GeneratorDiscriminatorPipeline(Pipeline):
    """Train a generator and a discriminator together, as ELECTRA and DeBERTa-v3 are pre-trained.

    (Clark et al. 2020, "ELECTRA", section 2.) The generator runs on the masked text, one token is sampled at each
    masked position, and all heads of the discriminator run on the text with the samples. No gradient passes through a
    sample. In evaluation with objectives that do not corrupt inputs, only the discriminator runs, on the original text.
    """

    model: GeneratorDiscriminator

    def forward_heads(self, batch: dict[str, Any], stage: Stage) -> dict[str, Any]:
        """Run both networks once; the samples become inputs and labels of the discriminator.

        Args:
            batch: Model inputs, and each objective's entries under its name.
            stage: Stage of the batch. In prediction the discriminator runs on the original texts.
        """
        outputs: dict[str, Any] = {}
        names, inputs = list(self.active(stage)), self._inputs(batch)
        if GENERATED in names:
            outputs[GENERATED], probabilities = self._generate(self.model.generator, inputs, batch[GENERATED])
            if stage != "predict":
                inputs["input_ids"] = self._replace(inputs["input_ids"], probabilities, batch)
        judges = [name for name in names if name != GENERATED]
        outputs.update(self.model.discriminator(active=judges, **self._positions(batch, judges), **inputs))
        return outputs

    @staticmethod
    def _generate(
        generator: MultiHeadModel, inputs: dict[str, Tensor], own: dict[str, Tensor]
    ) -> tuple[Filled, Tensor]:
        """Return the generator's output for the masked tokens, and its probabilities ``(N, V)``."""
        output = generator(**label_positions({GENERATED: own}), **generator.accepted(inputs))[GENERATED]
        loss, correct, probabilities = cross_entropy_and_probabilities(output.logits, own["labels"])
        return Filled(output.logits, loss, correct), probabilities

    def _replace(self, input_ids: Tensor, probabilities: Tensor, batch: dict[str, Any]) -> Tensor:
        """Return the input tokens of the discriminator ``(B, L)``, and store them and their labels in the batch."""
        masked, detected = batch[GENERATED], batch[DETECTED]
        draws = detected["draws"].flatten().index_select(0, masked["positions"])  # (N,)
        sampled = sample_from(probabilities, draws)
        replaced, labels = put_samples(input_ids, detected["labels"], masked["positions"], masked["labels"], sampled)
        batch[DETECTED] = detected | {"input_ids": replaced, "labels": labels}
        return replaced


def put_samples(
    input_ids: Tensor, labels: Tensor, positions: Tensor, originals: Tensor, sampled: Tensor
) -> tuple[Tensor, Tensor]:
    """Insert sampled tokens at masked positions, with label 1 if they differ from the original; no device sync.

    Args:
        input_ids: Masked texts ``(B, L) int64``.
        labels: 0 for tokens, -100 for padding ``(B, L) int64``.
        positions: Indices of the masked tokens in the flattened batch ``(N,) int64``.
        originals: Original tokens ``(N,) int64``; entries with -100 are padding and are ignored.
        sampled: Tokens sampled from the generator ``(N,) int64``.

    Returns:
        Tokens and labels, both ``(B, L) int64``.

    Examples:
        >>> ids, labels = torch.tensor([[2, 4, 4, 3, 0]]), torch.tensor([[0, 0, 0, 0, -100]])
        >>> found = put_samples(ids, labels, *torch.tensor([[1, 2, 0], [8, 9, -100], [8, 7, 5]]))
        >>> [tensor.tolist() for tensor in found]
        [[[2, 8, 7, 3, 0]], [[0, 0, 1, 0, -100]]]
    """
    size = input_ids.numel()
    places = torch.where(originals == IGNORE_INDEX, size, positions)  # padding is written after the last token

    def put(table: Tensor, values: Tensor) -> Tensor:
        flat = torch.cat([table.flatten(), table.new_zeros(1)])
        return flat.scatter(0, places, values.to(table.dtype))[:size].view_as(table)

    return put(input_ids, sampled), put(labels, sampled != originals)
