"""Counts of the errors of a discriminator per pair of token clusters, and sampling of replacements by these counts."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor, distributed, nn

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.losses.all_gather import world_size

DRAW_BITS = 31  # of each uniform random number, an integer: a strategy may round floats to 16 bits
_ROW_BITS = 33  # of the thresholds of a row, whose total is slightly above 2^31


class ClusterCounts(nn.Module):
    """Counts of C x C pairs of clusters, by which replacements of tokens are sampled.

    A token of cluster c is replaced by one of cluster t with probability softmax(beta * minmax(counts[c]))[t]; all
    tokens of t are equally likely. All sums are of integers, so samples do not depend on the order of summation and are
    the same on every device.

    Counts change between optimizer steps only: ``pending`` collects the changes of the batches of a step. Both buffers
    are always equal on all ranks, and both are saved in checkpoints.

    Args:
        clusters: Cluster of each token id ``(V,) int64``.
        regular: Tokens that may be replacements, ascending ``(R,) int64``, at least two. A cluster without any is never
            sampled; a cluster with a single token is not sampled for that token.
        beta: Factor of the scaled counts in the softmax: with 0, all clusters are equally likely.
    """

    counts: Tensor
    pending: Tensor
    clusters: Tensor
    members: Tensor
    places: Tensor
    sizes: Tensor
    starts: Tensor
    allowed: Tensor

    def __init__(self, clusters: np.ndarray, regular: np.ndarray, beta: float) -> None:
        super().__init__()
        self.beta, self.num_clusters = beta, int(clusters.max()) + 1
        self.fingerprint = int.from_bytes(hashlib.sha256(clusters.astype("<i8").tobytes()).digest()[:7], "little")
        members = regular[np.argsort(clusters[regular], kind="stable")]
        places = np.full(len(clusters), -1)
        places[members] = np.arange(len(members))
        sizes = np.bincount(clusters[members], minlength=self.num_clusters)
        single = np.diag(sizes == 1)  # its only token would have to replace itself
        for name in ("counts", "pending"):
            self.register_buffer(name, torch.zeros(self.num_clusters, self.num_clusters, dtype=torch.int64))
        tables = {
            "clusters": clusters,  # (V,) of each token
            "members": members,  # (R,) all tokens that may be replacements, ordered by cluster
            "places": places,  # (V,) index of a token in members, else -1
            "sizes": sizes,  # (C,)
            "starts": np.cumsum(sizes) - sizes,  # (C,) index of the first token of a cluster in members
            "allowed": (sizes > 0) & ~single,  # (C, C)
        }
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(np.array(table)), persistent=False)

    @torch.no_grad()
    def probabilities(self, *, learned: bool = True) -> Tensor:
        """Return the probability that a token of each cluster is replaced by one of each other ``(C, C) float32``.

        Args:
            learned: Use the counts; else all clusters are equally likely.
        """
        if not learned:
            return self.allowed.float() / self.allowed.sum(dim=1, keepdim=True)
        limit = torch.iinfo(torch.int64).max
        low = self.counts.where(self.allowed, limit).amin(dim=1, keepdim=True)  # (C, 1)
        high = self.counts.where(self.allowed, -limit).amax(dim=1, keepdim=True)
        scaled = (self.counts - low).float() / (high - low).clamp(min=1).float()
        return (self.beta * scaled).masked_fill(~self.allowed, -torch.inf).softmax(dim=1)

    @torch.no_grad()
    def replace(
        self, ids: Tensor, selected: Tensor, cluster_draws: Tensor, token_draws: Tensor, *, learned: bool = True
    ) -> Tensor:
        """Replace the selected tokens; a replacement is never a special token and never the token itself.

        Args:
            ids: Tokens ``(B, L) int64``.
            selected: Which of them to replace ``(B, L) bool``.
            cluster_draws: Uniform random numbers below 2^31 that choose the clusters ``(B, L) int32``.
            token_draws: Uniform random numbers that choose the tokens of the clusters ``(B, L) int32``.
            learned: Sample clusters by the counts; else all are equally likely.

        Returns:
            Tokens ``(B, L) int64``.
        """
        cumulated = (self.probabilities(learned=learned) * 2**DRAW_BITS).round().long().cumsum(dim=1)  # (C, C)
        totals = cumulated[:, -1].contiguous()  # (C,)
        # one ascending list of all rows, so that a single search serves all tokens
        rows = torch.arange(self.num_clusters, device=ids.device) << _ROW_BITS
        thresholds = (cumulated + rows[:, None]).flatten()  # (C * C,)
        source = self.clusters[ids]  # (B, L)
        sampled = (cluster_draws.long() * totals[source] >> DRAW_BITS) + rows[source]
        # a cluster of probability 0 has the threshold of the one before it, so no number falls between the two
        target = torch.searchsorted(thresholds, sampled, right=True) - source * self.num_clusters
        start, size = self.starts[target], self.sizes[target]
        own = self.places[ids] - start
        inside = (own >= 0) & (own < size)
        place = token_draws.long() * (size - inside.long()) >> DRAW_BITS
        place = place + (inside & (place >= own)).long()  # skip the token itself
        return torch.where(selected, self.members[start + place], ids)

    @torch.no_grad()
    def add_batch(self, originals: Tensor, replacements: Tensor, counted: Tensor, found: Tensor) -> None:
        """Add a batch to ``pending``: +1 for a pair of clusters whose replacement was not detected, -1 if it was.

        Args:
            originals: Tokens of the text ``(B, L) int64``.
            replacements: Tokens of the discriminator's input ``(B, L) int64``.
            counted: Which positions to count ``(B, L) bool``.
            found: At which positions the replacement was detected ``(B, L) bool``.
        """
        pairs = self.clusters[originals] * self.num_clusters + self.clusters[replacements]
        change = torch.where(found, -1, 1) * counted
        noted = torch.zeros_like(self.pending).flatten().index_add_(0, pairs.flatten(), change.flatten())
        if world_size() > 1:
            distributed.all_reduce(noted)
        self.pending += noted.view_as(self.pending)

    @torch.no_grad()
    def end_step(self) -> None:
        """Add the pending changes to the counts."""
        self.counts += self.pending
        self.pending.zero_()

    def get_extra_state(self) -> Tensor:
        """Return a fingerprint of the clusters, which checkpoints save."""
        return torch.tensor(self.fingerprint)

    def set_extra_state(self, state: Tensor) -> None:
        """Check that a checkpoint was saved with the same clusters.

        Raises:
            ConfigurationError: When its clusters are others.
        """
        if int(state) != self.fingerprint:
            raise ConfigurationError(
                "--clusters_filename: the checkpoint was made with other clusters, so its counts cannot be used with "
                "these. Give the file that the run began with."
            )
