"""What a discriminator gets wrong, by clusters of tokens, and replacements that are drawn from it."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor, distributed, nn

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.losses.all_gather import world_size

DRAW_BITS = 31  # of each uniform number, an integer: a strategy may round numbers with a point to 16 bits
_ROW_BITS = 33  # a row of the table of thresholds; its total is 2^31 and a little


class ClusterCounts(nn.Module):
    """Counts of C x C pairs of clusters, and the draws that follow them.

    A token of cluster c becomes one of cluster t with probability softmax(beta * minmax(counts[c]))[t], each token of t
    with the same. All sums are of whole numbers, so draws do not depend on their order, and repeat on every device.

    Counts change between optimizer steps only: what the batches of a step add waits in ``pending``. Both are equal in
    all processes at any time, and both are in checkpoints.

    Args:
        clusters: Cluster of each token id ``(V,) int64``.
        regular: Tokens that may be drawn, ascending ``(R,) int64``, two at least. A cluster without any is never drawn;
            one with a single token is not drawn for that token.
        beta: Sharpness of the choice: 0 draws all clusters alike.
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
            "members": members,  # (R,) all tokens that may be drawn, cluster by cluster
            "places": places,  # (V,) where a token is among them, else -1
            "sizes": sizes,  # (C,)
            "starts": np.cumsum(sizes) - sizes,  # (C,) where a cluster begins among them
            "allowed": (sizes > 0) & ~single,  # (C, C)
        }
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(np.array(table)), persistent=False)

    @torch.no_grad()
    def probabilities(self, *, learned: bool = True) -> Tensor:
        """Return how likely each cluster becomes each other one ``(C, C) float32``.

        Args:
            learned: By what was counted; else all are as likely, as where counts are equal.
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
        """Return tokens of which those selected became others; a replacement is never special, never the token itself.

        Args:
            ids: Tokens ``(B, L) int64``.
            selected: Which of them change ``(B, L) bool``.
            cluster_draws: Uniform numbers below 2^31 that choose clusters ``(B, L) int32``.
            token_draws: The same for the tokens in them ``(B, L) int32``.
            learned: Whether clusters are drawn by what was counted; else all are as likely.

        Returns:
            Tokens ``(B, L) int64``.
        """
        cumulated = (self.probabilities(learned=learned) * 2**DRAW_BITS).round().long().cumsum(dim=1)  # (C, C)
        totals = cumulated[:, -1].contiguous()  # (C,)
        # one ascending list of all rows, so that no token needs a row of its own
        rows = torch.arange(self.num_clusters, device=ids.device) << _ROW_BITS
        thresholds = (cumulated + rows[:, None]).flatten()  # (C * C,)
        source = self.clusters[ids]  # (B, L)
        drawn = (cluster_draws.long() * totals[source] >> DRAW_BITS) + rows[source]
        # a cluster of probability 0 has the threshold of the one before it, which no number can be past alone
        target = torch.searchsorted(thresholds, drawn, right=True) - source * self.num_clusters
        start, size = self.starts[target], self.sizes[target]
        own = self.places[ids] - start
        inside = (own >= 0) & (own < size)
        place = token_draws.long() * (size - inside.long()) >> DRAW_BITS
        place = place + (inside & (place >= own)).long()  # the token itself is stepped over
        return torch.where(selected, self.members[start + place], ids)

    @torch.no_grad()
    def note(self, originals: Tensor, replacements: Tensor, counted: Tensor, found: Tensor) -> None:
        """Count a batch: 1 more for a pair of clusters whose replacement was not found, 1 less where it was.

        Args:
            originals: Tokens of the text ``(B, L) int64``.
            replacements: Tokens that the discriminator saw ``(B, L) int64``.
            counted: Which places count ``(B, L) bool``.
            found: Where it was right ``(B, L) bool``.
        """
        pairs = self.clusters[originals] * self.num_clusters + self.clusters[replacements]
        change = torch.where(found, -1, 1) * counted
        noted = torch.zeros_like(self.pending).flatten().index_add_(0, pairs.flatten(), change.flatten())
        if world_size() > 1:
            distributed.all_reduce(noted)
        self.pending += noted.view_as(self.pending)

    @torch.no_grad()
    def end_step(self) -> None:
        """Draw from now on by what was noted."""
        self.counts += self.pending
        self.pending.zero_()

    def get_extra_state(self) -> Tensor:
        """Return what tells these clusters from others, for checkpoints."""
        return torch.tensor(self.fingerprint)

    def set_extra_state(self, state: Tensor) -> None:
        """Check that counts of a checkpoint are those of the same clusters.

        Raises:
            ConfigurationError: When they are of others.
        """
        if int(state) != self.fingerprint:
            raise ConfigurationError(
                "--clusters_filename: the checkpoint was made with other clusters, and its counts mean nothing for "
                "these. Give the file that the run began with."
            )
