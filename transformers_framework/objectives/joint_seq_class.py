"""Joint sequence classification: one label for a claim and up to k texts of evidence in one input."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from transformers_framework.constants import TRAIN
from transformers_framework.objectives.joint_layout import JointLayout
from transformers_framework.objectives.objective import Evaluation, Setup
from transformers_framework.objectives.seq_class import SequenceClassification
from transformers_framework.restricted import NonNegativeInt, PositiveInt
from transformers_framework.sources.columns import DatasetSource

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor

HEADS = ("IE_1", "AE_1", "RE_1")


class JointSequenceClassification(SequenceClassification):
    """Predict the label of a claim from its evidence, such as supported, refuted or not enough information.

    The heads are those of Di Liello, Garg, Soldaini, Moschitti 2022, "Paragraph-based Transformer Pre-training for
    Multi-Sentence Inference", section 3.3, for tasks with a single label, such as FEVER.

    Args:
        setup: Tokenizer, config and classes of the model.
        max_sequence_length: Longest input in tokens, special tokens included.
        k: Classify a claim and up to this many texts of evidence with a joint head.
        classification_head_type: Hidden states that the joint head reads: IE_1 and RE_1 that of the claim's first
            token, AE_1 the mean of those of the first tokens of the claim and all evidence. By default that of the
            checkpoint, else AE_1.
        separated: Encode each text with its own special tokens and maximum length, then join them.
        extended_token_type_ids: Token type of each segment; the last value is repeated.
        **single: Parameters of sequence classification without k.
    """

    head = "AutoModelForJointReRanking"

    def __init__(
        self,
        setup: Setup,
        *,
        max_sequence_length: list[PositiveInt],
        k: PositiveInt | None = None,
        classification_head_type: Literal["IE_1", "AE_1", "RE_1"] | None = None,
        separated: bool = False,
        extended_token_type_ids: list[NonNegativeInt] | None = None,
        **single: Any,
    ) -> None:
        super().__init__(setup, **single)
        known = getattr(setup.config, "classification_head_type", None)
        self.layout = JointLayout(
            num_candidates=k,
            classification_head_type=classification_head_type or (known if known in HEADS else "AE_1"),
            separated=separated,
            candidate_length=max_sequence_length[0],
            candidate_token_types=extended_token_type_ids,
        )
        self.layout.warn_of_changes(setup.config)

    @property
    def head_config(self) -> dict[str, Any]:
        """Return the classes, the type of the head and the format of an input."""
        return super().head_config | self.layout.head_config(self.setup.config)

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Determine the label type from the first data set, and check every label.

        Raises:
            DataError: When a label is missing or invalid, with its place.
        """
        if source.stage == TRAIN:
            self.layout.warn_of_new_head(self.setup.config)
        return super().pre_process(dataset, source)

    def evaluate(self, output: Any, batch: Mapping[str, Tensor]) -> Evaluation:
        """Return the sum of the losses, and predictions and labels for the metrics."""
        return super().evaluate(_of_groups(output), batch)

    def predictions(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the probabilities of classes and the most likely one, or the number."""
        return super().predictions(_of_groups(output), batch)


def _of_groups(output: Any) -> Any:
    """Return logits of groups ``(B, 1, C)`` as ``(B, C)``."""
    return SimpleNamespace(logits=output.logits[:, 0])
