"""The LightningModule of pipelines with a generator, which fills in masked tokens for the discriminator to judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from transformers_framework.constants import IGNORE_INDEX, Stage
from transformers_framework.losses.vocabulary import cross_entropy_and_probabilities
from transformers_framework.models.generator import GENERATED
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
    masked position and nowhere else, and all heads of the discriminator see the text with the samples. No gradient
    passes through a sample. In evaluation beside objectives that want clean text, the discriminator alone runs on that.
    """

    model: GeneratorDiscriminator

    def forward_heads(self, batch: dict[str, Any], stage: Stage) -> dict[str, Any]:
        """Call both networks once; what was sampled becomes input and labels of the detection.

        Args:
            batch: Model inputs, and under each objective's name what is its own.
            stage: Stage of the batch. In prediction the discriminator judges the texts as they are.
        """
        outputs: dict[str, Any] = {}
        names, inputs = list(self.active(stage)), self._inputs(batch)
        if GENERATED in names:
            outputs[GENERATED], probabilities = self._generate(self.model.generator, inputs, batch[GENERATED])
            if stage != "predict":
                inputs["input_ids"] = self._replace(inputs["input_ids"], probabilities, batch)
        judges = [name for name in names if name != GENERATED]
        positions = self._positions(batch, judges)
        outputs.update(self.model.discriminator(active=judges, positions=positions, **inputs))
        return outputs

    @staticmethod
    def _generate(
        generator: MultiHeadModel, inputs: dict[str, Tensor], own: dict[str, Tensor]
    ) -> tuple[Filled, Tensor]:
        """Return what the generator says of the masked tokens, and its probabilities ``(N, V)``."""
        output = generator(positions={GENERATED: own["positions"]}, **generator.accepted(inputs))[GENERATED]
        loss, correct, probabilities = cross_entropy_and_probabilities(output.logits, own["labels"])
        return Filled(output.logits, loss, correct), probabilities

    def _replace(self, input_ids: Tensor, probabilities: Tensor, batch: dict[str, Any]) -> Tensor:
        """Return the tokens that the discriminator sees ``(B, L)``, and note them and their labels in the batch."""
        masked, detected = batch[GENERATED], batch[DETECTED]
        draws = detected["draws"].flatten().index_select(0, masked["positions"])  # (N,)
        sampled = sample_from(probabilities, draws)
        replaced, labels = put_samples(input_ids, detected["labels"], masked["positions"], masked["labels"], sampled)
        batch[DETECTED] = detected | {"input_ids": replaced, "labels": labels}
        return replaced


def put_samples(
    input_ids: Tensor, labels: Tensor, positions: Tensor, originals: Tensor, sampled: Tensor
) -> tuple[Tensor, Tensor]:
    """Put sampled tokens where they belong and label those that differ from the original with 1; waits for no device.

    Args:
        input_ids: Masked texts ``(B, L) int64``.
        labels: 0 for tokens, -100 for padding ``(B, L) int64``.
        positions: Places of the masked tokens in the flattened batch ``(N,) int64``.
        originals: What stood there ``(N,) int64``; -100 fills up and changes nothing.
        sampled: What the generator put there ``(N,) int64``.

    Returns:
        Tokens and labels, both ``(B, L) int64``.

    Examples:
        >>> ids, labels = torch.tensor([[2, 4, 4, 3, 0]]), torch.tensor([[0, 0, 0, 0, -100]])
        >>> found = put_samples(ids, labels, *torch.tensor([[1, 2, 0], [8, 9, -100], [8, 7, 5]]))
        >>> [tensor.tolist() for tensor in found]
        [[[2, 8, 7, 3, 0]], [[0, 0, 1, 0, -100]]]
    """
    size = input_ids.numel()
    places = torch.where(originals == IGNORE_INDEX, size, positions)  # what fills up goes behind the last place

    def put(table: Tensor, values: Tensor) -> Tensor:
        flat = torch.cat([table.flatten(), table.new_zeros(1)])
        return flat.scatter(0, places, values.to(table.dtype))[:size].view_as(table)

    return put(input_ids, sampled), put(labels, sampled != originals)
