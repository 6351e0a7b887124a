"""The format of inputs with several candidates, which exports of joint heads keep in their config."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transformers_framework.processing.grouping import evidence_pooling

# flags that determine the format of an input, in the order of the fields below
LAYOUT_FLAGS = ("-k", "--classification_head_type", "--separated", "--max_sequence_length", "--extended_token_type_ids")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JointLayout:
    """How many texts share an input, how they are joined, and which hidden states the head reads.

    Args:
        num_candidates: Texts in addition to the question or claim, at most.
        classification_head_type: Type of the head.
        separated: Whether each text has its own special tokens and maximum length.
        candidate_length: Longest input in tokens; with ``separated``, the longest text.
        candidate_token_types: Token type of each segment; the last value is repeated.
    """

    num_candidates: int | None
    classification_head_type: str
    separated: bool
    candidate_length: int
    candidate_token_types: Sequence[int] | None

    def warn_of_changes(self, config: Any) -> None:
        """Warn of each flag with which a checkpoint was trained otherwise."""
        for (name, value), flag in zip(asdict(self).items(), LAYOUT_FLAGS, strict=True):
            if (known := getattr(config, name, value)) != value:
                logger.warning("The checkpoint was trained with %s %s, but this run has %s.", flag, known, value)

    def warn_of_new_head(self, config: Any) -> None:
        """Warn if the model never read several candidates in one input, so that its joint head is new."""
        if not hasattr(config, "num_candidates"):
            logger.warning(
                "-k: the joint head is newly initialized, and the model was not pre-trained with several candidates in "
                "one input. Such models often rank worse than one candidate at a time (docs/joint_reranking.md). "
                "Pre-train it first with --pipeline structural_pretraining -k %s, or leave out -k.",
                self.num_candidates,
            )

    def head_config(self, config: Any) -> dict[str, Any]:
        """Return the values that an export keeps; the pooling of AE_1 is that of the checkpoint, by its config."""
        pools = self.classification_head_type == "AE_1"
        return asdict(self) | ({"evidence_pooling": evidence_pooling(config)} if pools else {})
