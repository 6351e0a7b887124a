"""The LightningModule of retrieval: queries and passages are encoded separately."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from transformers_framework.constants import NEGATIVE_ROWS, PASSAGE, ROWS, TRAIN, Stage
from transformers_framework.losses.retrieval.batch import Embedded
from transformers_framework.models.document_lengths import BOUNDS
from transformers_framework.pipelines.pipeline import Pipeline
from transformers_framework.pipelines.steps import StepOutput

if TYPE_CHECKING:
    from transformers_framework.inputs.inputs import Inputs
    from transformers_framework.models.towers import BiEncoder
    from transformers_framework.objectives.objective import Objective

# queries and passages are encoded in one call if padding adds at most this factor: on a CPU one call takes 0.95 of the
# time of two with equal lengths, and 1.05 of it with 3 % more padding
TOLERATED_PADDING = 1.02


class BiEncoderPipeline(Pipeline):
    """Train and evaluate encoders of queries and passages.

    In training, a shared encoder is called once for queries and passages of similar lengths, else once for each,
    because padding to a common length would cost more than a second call.

    Args:
        model: The encoders.
        objectives: The objective; exactly one.
        options: All flags of the run.
        inputs: Converts rows to model inputs.
    """

    model: BiEncoder

    def __init__(
        self,
        model: BiEncoder,
        objectives: Sequence[Objective],
        options: Mapping[str, Any],
        inputs: Inputs,
        **flags: Any,
    ) -> None:
        super().__init__(model, objectives, options, inputs, **flags)
        self.pad_token_id = int(inputs.tokenizer.pad_token_id)
        self.embeds = inputs.embeds
        self.pads_left = inputs.tokenizer.padding_side == "left"

    def forward_heads(self, batch: dict[str, Any], stage: Stage) -> dict[str, Any]:
        """Return the embeddings of all texts of a batch, in the order of its rows.

        Args:
            batch: Model inputs of queries, and of passages with the prefix ``passage_``. In evaluation texts are
                unique; ``rows`` and ``passage_rows`` have the index of the text of each row. Where prediction embeds
                texts of one side, these are the model inputs without a prefix.
            stage: Stage of the batch.
        """
        # with sharded weights, all ranks must make the same number of calls
        if stage == "predict" and self.embeds is not None:
            texts = self.model.tower(self.embeds)(**self._inputs(batch)).index_select(0, batch[ROWS])
            return dict.fromkeys(self.active(stage), Embedded(texts, None, None))
        together = stage == TRAIN and not self.shards_weights
        query, passage = self._embeddings(self._inputs(batch), self._inputs(batch, PASSAGE), together=together)
        query = query if ROWS not in batch else query.index_select(0, batch[ROWS])
        negatives = None
        if passage is not None and PASSAGE + ROWS in batch:
            passage = passage.index_select(0, batch[PASSAGE + ROWS])
        elif passage is not None and NEGATIVE_ROWS in batch:
            passage, negatives = passage[: len(query)], passage[len(query) :]
        return dict.fromkeys(self.active(stage), Embedded(query, passage, negatives))

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> StepOutput:
        """Update losses and metrics of validation; return embeddings for a search of a corpus."""
        return {"embeddings": _queries(self._stage_step(batch, "valid").outputs)}

    def _step_output(
        self,
        batch: Mapping[str, Any],
        stage: Stage,
        outputs: Mapping[str, Any],
        for_predictions: Mapping[str, Mapping[str, Any]],
    ) -> StepOutput:
        found = super()._step_output(batch, stage, outputs, for_predictions)
        return {**found, "embeddings": _queries(outputs)}

    def passage_embeddings(self, **inputs: Tensor) -> Tensor:
        """Return one embedding per passage ``(B, E) float32``."""
        embeddings: Tensor = self.model.tower("passage")(**inputs)
        return embeddings

    def _embeddings(
        self, queries: dict[str, Tensor], passages: dict[str, Tensor], *, together: bool
    ) -> tuple[Tensor, Tensor | None]:
        model = self.model
        if not passages:
            return model.tower("query")(**queries), None
        shapes = [side["input_ids"].shape for side in (queries, passages)]
        rows, width = sum(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
        most = TOLERATED_PADDING * sum(shape.numel() for shape in shapes)
        if not together or not model.shares or rows * width > most or BOUNDS[0] in {*queries, *passages}:
            return model.tower("query")(**queries), model.tower("passage")(**passages)
        if shapes[0][1] != shapes[1][1] or any("attention_mask" in side for side in (queries, passages)):
            queries, passages = (
                {"attention_mask": torch.ones_like(side["input_ids"]), **side} for side in (queries, passages)
            )
        pairs = {key: (queries[key], passages[key]) for key in queries}
        joined = {key: torch.cat([self._padded(side, width, key) for side in pair]) for key, pair in pairs.items()}
        found = model.tower("query")(**joined)
        return found[: shapes[0][0]], found[shapes[0][0] :]

    def _padded(self, values: Tensor, width: int, key: str) -> Tensor:
        missing = width - values.shape[1]
        fill = self.pad_token_id if key == "input_ids" else 0
        where = (missing, 0) if self.pads_left else (0, missing)
        return torch.nn.functional.pad(values, where, value=fill) if missing else values


def _queries(outputs: Mapping[str, Embedded]) -> Tensor:
    """Return the embeddings of the queries of a batch ``(B, E)``."""
    return next(iter(outputs.values())).query
