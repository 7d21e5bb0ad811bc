"""Lookup-free quantization (MAGVIT-v2, 2310.05737), and its residual form.

A code of log2(V) bits is the signs of as many dimensions, the first one the highest bit. Level k has the scale 2^-k:

    entry_k = 2^-k sign(residual_k),    code_k = sum of 2^(d - 1 - i) over the dimensions i with a positive sign

Its loss makes each choice certain and all codes used: weight * (E[H(p)] - diversity * H(E[p])) of the softmax p over
all codes of -distance. The bits are independent there, so E[H(p)] is a sum over bits, exactly. H(E[p]) is taken over
the joint codes of up to `MAX_JOINT_BITS` bits at a time, which for more of them is an upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from audiogen_cli.quantizers.base import QuantizerDropout
from audiogen_cli.quantizers.lattice import LatticeQuantizer

MAX_JOINT_BITS = 12


@dataclass(frozen=True)
class LFQConfig:
    """codebook_size: a power of two. dim: width D of the latent.

    soft_clamp: bounds the projected latent to this by a tanh; None leaves it as it is.
    """

    num_codebooks: int
    codebook_size: int
    dim: int
    entropy_weight: float = 0.1
    diversity: float = 1.0
    inverse_temperature: float = 100.0
    commitment_weight: float = 0.0
    soft_clamp: float | None = None
    dropout: QuantizerDropout | None = None

    def __post_init__(self) -> None:
        if min(self.num_codebooks, self.dim) < 1:
            raise ValueError("num_codebooks and dim must be 1 or more.")
        if self.codebook_size < 2 or self.codebook_size & (self.codebook_size - 1):
            raise ValueError(
                f"lookup-free quantization needs a codebook_size of 2, 4, 8 ..., not {self.codebook_size}."
            )
        if self.soft_clamp is not None and self.soft_clamp < 1:
            raise ValueError("soft_clamp must be 1 or more, the scale of the first level.")

    @property
    def bits(self) -> int:
        return self.codebook_size.bit_length() - 1


class LFQ(LatticeQuantizer):
    def __init__(self, config: LFQConfig) -> None:
        super().__init__(config.dim, config.bits, config.num_codebooks, config.codebook_size, config.dropout)
        self.config = config

    def bound(self, x: Tensor) -> Tensor:
        reach = self.config.soft_clamp
        return x if reach is None else (x / reach).tanh() * reach

    def nearest(self, residual: Tensor, k: int) -> Tensor:
        scale = 2.0**-k
        return torch.where(residual > 0, scale, -scale)

    def index(self, entry: Tensor, k: int) -> Tensor:
        return ((entry > 0) * self._worth(entry)).sum(-1)

    def entry(self, codes: Tensor, k: int) -> Tensor:
        bits = (codes[..., None] & self._worth(codes)) != 0
        return torch.where(bits, 2.0**-k, -(2.0**-k))

    def loss(self, residual: Tensor, entry: Tensor, k: int) -> Tensor:
        config = self.config
        if not self.training:
            return residual.new_zeros(())
        loss = config.entropy_weight * self._entropies(residual.flatten(0, -2), 2.0**-k)
        if config.commitment_weight > 0:
            loss = loss + config.commitment_weight * F.mse_loss(residual, entry)
        return loss

    def _entropies(self, vectors: Tensor, scale: float) -> Tensor:
        """vectors [M, d] -> E[H(p)] - diversity * H(E[p]), in nats."""
        # softmax over all codes c of -inverse_temperature * (-2 x.c), c in {-scale, scale}^d: a product over bits
        logits = 4 * self.config.inverse_temperature * scale * vectors
        certainty = (F.softplus(logits) - logits * logits.sigmoid()).sum(-1).mean()
        spread = torch.stack([_entropy(_mean_over_ranks(_joint(bits))) for bits in logits.split(MAX_JOINT_BITS, -1)])
        return certainty - self.config.diversity * spread.sum()

    def _worth(self, like: Tensor) -> Tensor:
        return 2 ** torch.arange(self.config.bits - 1, -1, -1, device=like.device)


def _joint(logits: Tensor) -> Tensor:
    """Logits [M, d] of independent bits -> [2^d], the mean over M of the probabilities of their joint codes."""
    high, low = (_products(half) for half in logits.tensor_split(2, -1))  # [M, 2^(d/2)] each
    return (high.T @ low / len(logits)).flatten()


def _products(logits: Tensor) -> Tensor:
    """[M, d] -> [M, 2^d]."""
    products = logits.new_ones(len(logits), 1)
    for bit in logits.unbind(-1):
        both = torch.stack([(-bit).sigmoid(), bit.sigmoid()], -1)  # [M, 2]
        products = (products[:, :, None] * both[:, None, :]).flatten(1)
    return products


def _entropy(probability: Tensor) -> Tensor:
    return -(probability * probability.clamp_min(1e-5).log()).sum()


def _mean_over_ranks(probability: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        from torch.distributed.nn.functional import all_reduce

        probability = all_reduce(probability) / dist.get_world_size()
    return probability
