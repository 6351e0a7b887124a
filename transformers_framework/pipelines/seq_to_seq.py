"""The LightningModule of encoder-decoders: teacher forcing in training, generation in evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from transformers_framework.constants import ROW_IDS, Stage
from transformers_framework.models.document_mask import SeqToSeqDocumentMask
from transformers_framework.models.generation import generate, generation_config
from transformers_framework.models.seq_to_seq import DecoderOutput, VocabularyHead, hidden_states_at
from transformers_framework.objectives.capabilities import generates
from transformers_framework.objectives.objective import Context
from transformers_framework.pipelines.pipeline import Pipeline

if TYPE_CHECKING:
    from transformers_framework.inputs.inputs import Inputs
    from transformers_framework.models.generation import GenerativeModel
    from transformers_framework.models.multi_head import MultiHeadModel
    from transformers_framework.objectives.objective import Objective


class SeqToSeqPipeline(Pipeline):
    """Train an encoder-decoder with teacher forcing, and generate texts in stages that evaluate generated texts.

    Args:
        model: The encoder-decoder.
        objectives: The objective; exactly one.
        options: All flags of the run.
        inputs: Converts rows to model inputs.
    """

    document_mask_class = SeqToSeqDocumentMask
    model: MultiHeadModel

    def __init__(
        self,
        model: MultiHeadModel,
        objectives: Sequence[Objective],
        options: Mapping[str, Any],
        inputs: Inputs,
        **flags: Any,
    ) -> None:
        super().__init__(model, objectives, options, inputs, **flags)
        (objective,) = objectives
        self.vocabulary = VocabularyHead(model.heads[objective.name])
        self.tokenizer = inputs.tokenizer
        # one more than the tokens of a target, for the decoder's start token
        length = self.options["max_sequence_length"][-1] + 1
        self.generation_config = generation_config(self.options, self.generator, length)
        self.vocabulary.model.generation_config = self.generation_config  # exports generate as the run does

    @property
    def generator(self) -> GenerativeModel:
        """The model, with the type of a generative model."""
        return cast("GenerativeModel", self.vocabulary.model)

    def forward_heads(self, batch: dict[str, Any], stage: Stage) -> dict[str, Any]:
        """Return the decoder's outputs for the labels, and generated texts in stages that generate.

        Args:
            batch: Model inputs, and under the objective's name ``decoder_input_ids (B, T)`` and ``positions (N,)`` of
                the labels, where there are any.
            stage: Stage of the batch.
        """
        ((name, objective),) = self.active(stage).items()
        own, inputs, hidden_states, encoded = batch[name], self._inputs(batch), None, {}
        if "labels" in own:
            with self.vocabulary.skipped():
                targets = {"decoder_input_ids": own["decoder_input_ids"], "use_cache": False}
                output = self.model(active=[name], **targets, **inputs)[name]
            hidden_states = hidden_states_at(output, own["positions"])
            encoded = {"encoder_outputs": BaseModelOutput(last_hidden_state=output.encoder_last_hidden_state)}
        generated = None
        if generates(objective, stage):  # without a mask, it would search for padding
            given = {"attention_mask": batch["attention_mask"]} | inputs | encoded
            generated = self._generate(given, batch[ROW_IDS])
        return {name: DecoderOutput(self.vocabulary, hidden_states, generated)}

    def _generate(self, inputs: Mapping[str, Any], row_ids: Tensor) -> Tensor:
        """Return generated texts ``(B, R, T) int64``.

        Samples depend on the seed and on the rows of the batch. The state of the global random number generator, which
        dropout uses, is restored afterwards.
        """
        devices = [self.device] if self.device.type == "cuda" else []
        # with sharded weights, a rank that has finished continues until all ranks have
        inputs = {**inputs, "synced_gpus": True} if self.shards_weights else inputs
        with torch.random.fork_rng(devices, enabled=bool(self.generation_config.do_sample)):
            if self.generation_config.do_sample:
                drawn_for = Context("predict", self.options["seed"], 0, row_ids[:1].cpu().numpy())
                torch.manual_seed(int(drawn_for.keys("generation")[0] >> 1))
            found = generate(self.generator, self.generation_config, self.tokenizer, **inputs)
        return found.view(len(inputs["input_ids"]), -1, found.shape[-1])
