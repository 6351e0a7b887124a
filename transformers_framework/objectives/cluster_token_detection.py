"""Detection of tokens that were replaced by random ones, preferably by tokens of clusters that are hard to detect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import IGNORE_INDEX, TRAIN, Stage
from transformers_framework.objectives.capabilities import CorruptsOnDevice, KeepsState
from transformers_framework.objectives.objective import Context, Evaluation, Setup
from transformers_framework.objectives.token_detection import REPLACED, RandomTokenDetection
from transformers_framework.processing.clusters import read_clusters
from transformers_framework.processing.masking import draws_at
from transformers_framework.restricted import LocalPath, NonNegativeFloat, Probability

if TYPE_CHECKING:
    from torch import Tensor

    from transformers_framework.objectives.cluster_counts import ClusterCounts


class ClusterRandomTokenDetection(RandomTokenDetection, CorruptsOnDevice, KeepsState):
    """Detect tokens that were replaced by random ones; replacements become harder to detect as the model learns.

    (Di Liello, Gabburo, Moschitti 2022, "Effective Pre-Training Objectives for Transformer-based Autoencoders",
    cluster-based random token substitution.) Each pair of token clusters has a count: how often a token of the first
    was replaced by one of the second and not detected, minus how often it was detected. The replacement of a token of
    cluster c is sampled in two steps: a cluster with the probabilities softmax(beta * minmax(counts[c])), then any of
    its tokens with equal probability. Counts change with every optimizer step, and only in training.

    The loader's workers select tokens and sample random numbers; replacements are made on the device, which has the
    counts.

    Args:
        setup: Tokenizer, config and classes of the model.
        probability: Share of the tokens that are replaced; special tokens never are.
        whole_word_detection: Replace whole words: all tokens of a word, or none.
        clusters_filename: Text file with one line per token of the model's vocabulary: line i is the cluster of token
            id i, an integer from 0 on. ``python -m transformers_framework.clusters`` makes one.
        beta: How strongly replacements that were hard to detect are preferred; with 0 all clusters are equally likely.
        update_only_on_predictions: Count only replacements that the model detected: these are sampled less often later,
            and those that it missed are not sampled more often. By default every replacement counts.
    """

    state: ClusterCounts

    def __init__(
        self,
        setup: Setup,
        *,
        probability: Probability = 0.15,
        whole_word_detection: bool = False,
        clusters_filename: LocalPath,
        beta: NonNegativeFloat = 2.0,
        update_only_on_predictions: bool = False,
    ) -> None:
        from transformers_framework.objectives.cluster_counts import ClusterCounts

        super().__init__(setup, probability=probability, whole_word_detection=whole_word_detection)
        size = setup.config.vocab_size  # an export, which only predicts, is loaded without the file
        clusters = read_clusters(clusters_filename, size) if clusters_filename else np.zeros(size, dtype=np.int64)
        self.state = ClusterCounts(clusters, self.vocabulary.regular, beta)
        self.only_predictions = update_only_on_predictions

    def __getstate__(self) -> dict[str, Any]:
        """Return the state that loader workers need: without the counts, which stay on the device."""
        return vars(self) | {"state": None}

    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, np.ndarray]:
        """Return the labels and the random numbers by which the device replaces tokens.

        ``labels (B, L) int64`` are 1 where a token will be replaced, always by a different one; ``cluster_draws`` and
        ``token_draws (B, L) int32`` are uniform random numbers there. In prediction nothing is replaced.
        """
        if context.stage == "predict":
            return {}
        selected, attended = self.select(batch, context), batch["attention_mask"] > 0
        labels = np.where(attended, selected, IGNORE_INDEX)
        return {"labels": labels} | {
            f"{purpose}_draws": draws_at(selected, context.keys(f"{self.name}.{purpose}"))
            for purpose in ("cluster", "token")
        }

    def on_device(self, batch: Mapping[str, Tensor], stage: Stage) -> Mapping[str, Tensor]:
        """Replace the selected tokens, in training by the counts of the last optimizer step, else without counts."""
        if stage == "predict":
            return batch
        own: Any = batch[self.name]
        ids, selected = batch["input_ids"], own["labels"] == REPLACED
        replaced = self.state.replace(ids, selected, own["cluster_draws"], own["token_draws"], learned=stage == TRAIN)
        return {**batch, "input_ids": replaced, self.name: own | ({"originals": ids} if stage == TRAIN else {})}

    def count_batch(self, batch: Mapping[str, Tensor], evaluation: Evaluation) -> None:
        """Count which replacements were detected and which were missed."""
        found, counted = evaluation.metric_inputs["tokens"]["preds"], batch["labels"] == REPLACED
        if self.only_predictions:
            counted = counted & found
        self.state.add_batch(batch["originals"], batch["input_ids"], counted, found)

    def end_step(self) -> None:
        """Use what was counted in this step for the next replacements."""
        self.state.end_step()

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Return a text with the tokens that will be replaced; the replacements depend on the counts at that time."""
        if "labels" not in batch:
            return "detect replaced tokens"
        found = batch["input_ids"][row][batch["labels"][row] == REPLACED].tolist()
        return f"detect the replacements of {' '.join(self.setup.tokenizer.convert_ids_to_tokens(found)) or 'nothing'}"
