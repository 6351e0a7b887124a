"""Which tokens of a text were replaced, by random ones of the clusters that are hardest to tell."""

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
    """Learn which tokens were replaced by random ones, which become harder to tell as the model learns.

    (Di Liello, Gabburo, Moschitti 2022, "Effective Pre-Training Objectives for Transformer-based Autoencoders",
    cluster-based random token substitution.) For each pair of clusters of tokens it is counted how often a token of the
    first was replaced by one of the second without being noticed, less the times it was noticed. A replacement of a
    token of cluster c comes from a cluster drawn with the probabilities softmax(beta * minmax(counts[c])), in which all
    tokens are as likely. Counts change with every optimizer step, and only in training.

    A loader's worker selects tokens and draws numbers; the replacement is made on the device, where the counts are.

    Args:
        setup: Tokenizer, config and classes of the model.
        probability: Share of the tokens that are replaced; special tokens never are.
        whole_word_detection: Replace whole words: all tokens of a word, or none.
        clusters_filename: Text file with a line a token of the model's vocabulary: line i is the cluster of token id i,
            a whole number from 0 on. ``python -m transformers_framework.clusters`` makes one.
        beta: How much replacements that were hard to tell are preferred; with 0 all clusters are as likely.
        update_only_on_predictions: Count only replacements that the model predicted as such: what it finds is drawn
            less often, and what it overlooks is not drawn more often. By default every replacement counts.
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
        clusters = read_clusters(clusters_filename, setup.config.vocab_size)
        self.state = ClusterCounts(clusters, self.vocabulary.regular, beta)
        self.only_predictions = update_only_on_predictions

    def __getstate__(self) -> dict[str, Any]:
        """Return what a loader's worker needs: counts stay on the device, and a tensor of some cannot be sent."""
        return vars(self) | {"state": None}

    def post_process(
        self, rows: Mapping[str, Sequence[Any]], batch: Mapping[str, np.ndarray], context: Context
    ) -> dict[str, np.ndarray]:
        """Return what the device needs to replace tokens.

        ``labels (B, L) int64`` are 1 where a token will be replaced, which always makes it another one;
        ``cluster_draws`` and ``token_draws (B, L) int32`` are uniform numbers there. In prediction nothing is replaced.
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
        """Replace the selected tokens, by what was counted up to the last optimizer step; evaluation never changes."""
        if stage == "predict":
            return batch
        own: Any = batch[self.name]
        ids, selected = batch["input_ids"], own["labels"] == REPLACED
        replaced = self.state.replace(ids, selected, own["cluster_draws"], own["token_draws"], learned=stage == TRAIN)
        return {**batch, "input_ids": replaced, self.name: own | ({"originals": ids} if stage == TRAIN else {})}

    def count_batch(self, batch: Mapping[str, Tensor], evaluation: Evaluation) -> None:
        """Count which replacements were found and which were overlooked."""
        found, counted = evaluation.metric_inputs["tokens"]["preds"], batch["labels"] == REPLACED
        if self.only_predictions:
            counted = counted & found
        self.state.note(batch["originals"], batch["input_ids"], counted, found)

    def end_step(self) -> None:
        """Let the next replacements follow what was counted in this step."""
        self.state.end_step()

    def describe(self, batch: Mapping[str, np.ndarray], row: int) -> str:
        """Say the tokens that will be replaced: by which depends on what was learned until then."""
        if "labels" not in batch:
            return "detect what does not belong there"
        found = batch["input_ids"][row][batch["labels"][row] == REPLACED].tolist()
        return f"detect what replaces {' '.join(self.setup.tokenizer.convert_ids_to_tokens(found)) or 'nothing'}"
