"""The table of retrieval losses: for each its function, its default settings and what it needs of the rows.

Nothing heavy is imported here: a row names its functions by import path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from transformers_framework.exceptions import ConfigurationError

ScoresFunction = Literal["cosine_similarity", "dot_product_similarity"]
DistanceFunction = Literal["cosine", "euclidean", "manhattan"]

NUM_PAIR = 2  # columns of queries and passages, which hard negatives follow


@dataclass(frozen=True)
class Label:
    """What the label of a row is.

    Args:
        quantity: What it measures, for messages.
        expected: Which values it has, for messages.
        is_binary: Whether it is 1 for a positive and 0 for a negative, and not any number.
    """

    quantity: str
    expected: str
    is_binary: bool = False


BINARY = Label("label", "1 (positive) or 0 (negative)", is_binary=True)
SIMILARITY = Label("similarity", "a number, the similarity")
MARGIN = Label("margin", "a number, the margin")


@dataclass(frozen=True)
class RetrievalLoss:
    """A row of the table.

    Args:
        function: Import path of the loss of a training batch: a function of a
            :class:`~transformers_framework.losses.retrieval.batch.LossBatch` and of the settings
            (:class:`~transformers_framework.losses.retrieval.configured.LossSettings`), which returns a scalar in
            float32, the sum over what `mean_over` counts.
        candidate_function: Import path of its loss in evaluation, for a loss that compares texts of several rows: a
            function of the candidates of whole queries and of the settings, as those of candidates.py, so that batches
            and ranks do not change it. None: rows of evaluation have a loss each.
        row_function: Import path of the loss of a batch of evaluation, where rows have a loss each: a function as
            `function`, which knows no negatives, queries and texts. None: `function`.
        mean_over: What the mean loss is over: positives, all labelled rows, or the batches of training (and labelled
            rows in evaluation).
        label: What a label is.
        needs_label: Whether rows must have one; else all rows are positives where there is no column of labels.
        negatives: Whether rows have negatives of their own, in further columns: they may ('allowed'), they must
            ('needed'), they must have exactly one ('one'), or the loss does not use them ('refused').
        in_batch: Whether texts are compared with those of other rows of the batch.
        margin: Default of the margin by distance function. None: it has none.
        scale: Default of what scores are multiplied by, by scores function. None: it has none.
        uses_distances: Whether it compares distances, and not scores.
    """

    function: str
    candidate_function: str | None = None
    row_function: str | None = None
    mean_over: Literal["positives", "labelled_rows", "batches"] = "labelled_rows"
    label: Label = BINARY
    needs_label: bool = False
    negatives: Literal["allowed", "needed", "one", "refused"] = "allowed"
    in_batch: bool = False
    margin: Mapping[DistanceFunction, float] | None = None
    scale: Mapping[ScoresFunction, float] | None = None
    uses_distances: bool = False

    def __post_init__(self) -> None:
        """Check that evaluation does not depend on batches.

        Raises:
            ConfigurationError: When the loss compares texts of a batch and has none of candidates.
        """
        if self.in_batch and self.candidate_function is None and self.row_function is None:
            raise ConfigurationError(
                f"The retrieval loss {self.function} compares the texts of a batch (in_batch=True) and would change "
                "with --eval_batch_size. Name its loss in evaluation as candidate_function or row_function."
            )

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of settings that it uses, without dashes."""
        used = {"margin": self.margin, "scale": self.scale, "distance_fn": self.uses_distances or None}
        return tuple(name for name, value in used.items() if value is not None)


_OF_PAIRS: dict[DistanceFunction, float] = {"cosine": 0.5, "euclidean": 0.5, "manhattan": 0.5}
_OF_TRIPLETS: dict[DistanceFunction, float] = {"cosine": 0.5, "euclidean": 5.0, "manhattan": 5.0}

_PAIRS = RetrievalLoss(
    "losses.retrieval.pairs:contrastive_loss",
    needs_label=True,
    negatives="refused",
    margin=_OF_PAIRS,
    uses_distances=True,
)
_RANKING = RetrievalLoss(
    "losses.retrieval.in_batch:multiple_negatives_ranking_loss",
    candidate_function="losses.retrieval.candidates:ranking_loss",
    mean_over="positives",
    in_batch=True,
    scale={"cosine_similarity": 20.0, "dot_product_similarity": 1.0},
)
_TRIPLETS = RetrievalLoss(
    "losses.retrieval.batch_triplets:batch_all_triplet_loss",
    candidate_function="losses.retrieval.candidates:triplet_loss",
    in_batch=True,
    margin=_OF_TRIPLETS,
    uses_distances=True,
)

RETRIEVAL_LOSSES: dict[str, RetrievalLoss] = {
    "multiple_negatives_ranking_loss": _RANKING,
    "multiple_negatives_symmetric_ranking_loss": replace(
        _RANKING, function="losses.retrieval.in_batch:multiple_negatives_symmetric_ranking_loss"
    ),
    "contrastive_loss": _PAIRS,
    "online_contrastive_loss": replace(
        _PAIRS,
        function="losses.retrieval.pairs:online_contrastive_loss",
        row_function="losses.retrieval.pairs:unhalved_contrastive_loss",
        mean_over="batches",
    ),
    "cosine_similarity_loss": RetrievalLoss(
        "losses.retrieval.pairs:cosine_similarity_loss", label=SIMILARITY, needs_label=True, negatives="refused"
    ),
    "margin_mse_loss": RetrievalLoss(
        "losses.retrieval.hard_negatives:margin_mse_loss",
        candidate_function="losses.retrieval.candidates:margin_mse_loss",
        label=MARGIN,
        needs_label=True,
        negatives="one",
    ),
    "triplet_loss": RetrievalLoss(
        "losses.retrieval.hard_negatives:triplet_loss",
        candidate_function="losses.retrieval.candidates:triplet_loss",
        mean_over="positives",
        negatives="needed",
        margin=_OF_TRIPLETS,
        uses_distances=True,
    ),
    "batch_all_triplet_loss": _TRIPLETS,
    "batch_hard_triplet_loss": replace(_TRIPLETS, function="losses.retrieval.batch_triplets:batch_hard_triplet_loss"),
    "batch_hard_soft_margin_triplet_loss": replace(
        _TRIPLETS, function="losses.retrieval.batch_triplets:batch_hard_triplet_loss", margin=None
    ),
    "batch_semi_hard_triplet_loss": replace(
        _TRIPLETS, function="losses.retrieval.batch_triplets:batch_semi_hard_triplet_loss"
    ),
}


def check_columns(loss_fn: str, needs: RetrievalLoss, columns: Sequence[str]) -> None:
    """Check that ``--input_columns`` has the hard negatives that a loss needs, and none that it would ignore.

    Raises:
        ConfigurationError: When it has not.
    """
    more = columns[NUM_PAIR:]
    if needs.negatives in ("needed", "one") and not more:
        raise ConfigurationError(
            f"--loss_fn {loss_fn} compares the passage of a row with a hard negative. Give its column as the third of "
            f"--input_columns, which are '{' '.join(columns)}'."
        )
    if needs.negatives == "refused" and more:
        raise ConfigurationError(
            f"--loss_fn {loss_fn} learns from pairs and would ignore the hard negatives in '{more[0]}'. Give two "
            "--input_columns, or choose another loss."
        )
    if needs.negatives == "one" and (len(more) > 1 or more[0].startswith("*")):
        raise ConfigurationError(
            f"--input_columns: '{' '.join(more)}' are several hard negatives, but --loss_fn {loss_fn} needs one "
            f"{needs.label.quantity} per row. Give three columns, each with one text."
        )
