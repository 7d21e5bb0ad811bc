"""One codebook, learned by moving averages (VQ-VAE, 1711.00937 appendix A; SoundStream, 2107.03312 section 3.3).

    vectors [M, D] --nearest of embed [V, D]--> codes [M]

The codebook starts as the k-means centres of the first batch. A code whose running count falls below a threshold is
dead and is put onto a random vector of the batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

NO_DIRECTION = 1e-3  # a vector this much shorter than its entry says nothing about how to turn


def rotate(vectors: Tensor, entries: Tensor) -> Tensor:
    """The entries [..., D], as vectors [..., D] that were turned and stretched onto them (2410.06424, section 4.2).

        q = (|q| / |e|) R e,    R = I - 2 w w' + 2 q~ e~',    w = (e~ + q~) / |e~ + q~|,    x~ = x / |x|

    R and the stretch are constants: a gradient keeps its angle to the entry when it becomes one of the vector. Where a
    vector is next to nothing it passes straight through.
    """
    with torch.no_grad():
        length, wanted = vectors.norm(dim=-1, keepdim=True), entries.norm(dim=-1, keepdim=True)
        source, target = (F.normalize(x, dim=-1) for x in (vectors, entries))
        middle = F.normalize(source + target, dim=-1)
        follow = length > NO_DIRECTION * wanted
        stretch = torch.where(follow, wanted / length.clamp_min(1e-12), 1.0)
    mirrored = vectors - 2 * (vectors * middle).sum(-1, keepdim=True) * middle
    turned = stretch * (mirrored + 2 * (vectors * source).sum(-1, keepdim=True) * target)
    reached = torch.where(follow, turned, vectors)
    return reached + (entries - reached).detach()  # the value is the entry's to the bit, whatever the rotation rounded


class VectorQuantizer(nn.Module):
    """Buffers: embed [V, D]; embed_avg [V, D] and cluster_size [V], the running sums and counts; inited."""

    TRAINING_BUFFERS = ("embed_avg", "cluster_size", "inited")

    embed: Tensor
    embed_avg: Tensor
    cluster_size: Tensor
    inited: Tensor

    def __init__(
        self, codebook_size: int, dim: int, decay: float, kmeans_iterations: int, dead_code_threshold: float
    ) -> None:
        super().__init__()
        self.decay = decay
        self.kmeans_iterations = kmeans_iterations
        self.dead_code_threshold = dead_code_threshold
        self.register_buffer("embed", torch.zeros(codebook_size, dim))
        self.register_buffer("embed_avg", torch.zeros(codebook_size, dim))
        self.register_buffer("cluster_size", torch.zeros(codebook_size))
        self.register_buffer("inited", torch.zeros(1))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """A codebook stored without its running sums and counts gets plausible ones, to be trained on from there."""
        if prefix + "embed" in state_dict:
            embed = state_dict[prefix + "embed"]
            count = 10.0 * max(1.0, self.dead_code_threshold)  # far from dead, until the batches say otherwise
            state_dict.setdefault(prefix + "embed_avg", embed * count)
            state_dict.setdefault(prefix + "cluster_size", embed.new_full((len(embed),), count))
            state_dict.setdefault(prefix + "inited", embed.new_ones(1))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def encode(self, vectors: Tensor) -> Tensor:
        """vectors [..., D] -> codes [...]: the nearest entry by Euclidean distance."""
        flat = vectors.reshape(-1, vectors.shape[-1]).float()
        # |x - e|^2 = |x|^2 - 2 x.e + |e|^2, and |x|^2 does not change which e is nearest
        scores = torch.addmm(self.embed.square().sum(1), flat, self.embed.T, beta=0.5, alpha=-1.0)
        return scores.argmin(1).view(vectors.shape[:-1])

    @torch.no_grad()
    def sample(self, vectors: Tensor, temperature: float) -> Tensor:
        """vectors [M, D] -> codes [M] with probability softmax(-|x - e| / temperature), by adding Gumbel noise."""
        noise = -torch.empty(len(vectors), len(self.embed), device=vectors.device).exponential_().log()
        return (noise - torch.cdist(vectors.float(), self.embed) / temperature).argmax(1)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [...] -> [..., D]; zero for -1."""
        return F.embedding(codes.clamp_min(0), self.embed).masked_fill(codes[..., None] < 0, 0.0)

    @torch.no_grad()
    def learn(self, vectors: Tensor, temperature: float = 0.0) -> Tensor:
        """vectors [M, D] -> codes [M], after which the codebook has moved towards them."""
        vectors = vectors.float()
        if not self.inited.item():
            self._start(vectors)
        codes = self.sample(vectors, temperature) if temperature > 0 else self.encode(vectors)
        counts = torch.zeros_like(self.cluster_size).index_add_(0, codes, vectors.new_ones(codes.shape))
        sums = torch.zeros_like(self.embed_avg).index_add_(0, codes, vectors)
        self._sum_over_ranks(counts, sums)
        self.cluster_size.lerp_(counts, 1.0 - self.decay)
        self.embed_avg.lerp_(sums, 1.0 - self.decay)
        self._restart_dead_codes(vectors)
        total = self.cluster_size.sum()  # Laplace smoothing keeps a nearly empty cluster from dividing by nothing
        smoothed = (self.cluster_size + 1e-5) / (total + 1e-5 * self.cluster_size.numel()) * total
        self.embed.copy_(self.embed_avg / smoothed[:, None])
        return codes

    def _start(self, vectors: Tensor) -> None:
        centres = self._draw(vectors)
        for _ in range(self.kmeans_iterations):
            self.embed.copy_(centres)
            codes = self.encode(vectors)
            counts = torch.zeros_like(self.cluster_size).index_add_(0, codes, vectors.new_ones(codes.shape))
            sums = torch.zeros_like(centres).index_add_(0, codes, vectors)
            self._sum_over_ranks(counts, sums)
            centres = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], self._draw(vectors))
        self.embed.copy_(centres)
        counts = torch.bincount(self.encode(vectors), minlength=len(centres)).to(centres)
        self._sum_over_ranks(counts)
        counts.clamp_min_(1)
        self.cluster_size.copy_(counts)
        self.embed_avg.copy_(centres * counts[:, None])
        self.inited.fill_(1.0)

    def _restart_dead_codes(self, vectors: Tensor) -> None:
        dead = self.cluster_size < self.dead_code_threshold
        if dead.any():
            count = max(1.0, self.dead_code_threshold)  # a fresh code lives long enough to be found
            self.embed_avg[dead] = self._draw(vectors)[dead] * count
            self.cluster_size[dead] = count

    def _draw(self, vectors: Tensor) -> Tensor:
        """[V, D], random vectors of the batch, the same on every rank; jittered a little when there are few of them."""
        size = self.embed.shape[0]
        picked = vectors[torch.randint(vectors.shape[0], (size,), device=vectors.device)]
        if vectors.shape[0] < 2 * size:
            picked = picked + 0.01 * vectors.std() * torch.randn_like(picked)
        if dist.is_available() and dist.is_initialized():
            picked = picked.contiguous()
            dist.broadcast(picked, 0)
        return picked

    @staticmethod
    def _sum_over_ranks(*tensors: Tensor) -> None:
        if dist.is_available() and dist.is_initialized():
            for tensor in tensors:
                dist.all_reduce(tensor)
