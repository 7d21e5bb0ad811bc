"""From logits to one code: temperature, top-k, top-p, and a draw whose randomness the caller brings.

The draw is an exponential race, argmax p_v / e_v with e_v ~ Exp(1), which picks v with probability p_v. The noise is an
argument: whoever draws it per item gets the same codes for an item whatever else is in the batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def exponential_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Exp(1) noise on the CPU. The uniform numbers are multiples of 2^-24; the cut keeps 0 from winning every race."""
    uniform = torch.rand(shape, generator=generator).clamp_min_(2.0**-25)
    return uniform.neg_().log1p_().neg_()


def guide(cond: Tensor, null: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance (2207.12598): away from the unconditional logits, past the conditional ones."""
    return null + (cond - null) * guidance


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """[..., V]: -inf below the k-th largest; a tie at the k-th place stays."""
    if k >= logits.shape[-1]:
        return logits
    smallest = logits.topk(k, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < smallest, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """[..., V]: keeps the fewest codes whose probability reaches p (2019's nucleus, 1904.09751), at least one."""
    ordered, index = logits.sort(dim=-1, descending=True, stable=True)
    probability = ordered.softmax(dim=-1)
    before = probability.cumsum(dim=-1) - probability
    dropped = (before >= p).scatter(-1, index, before >= p)
    dropped.scatter_(-1, index[..., :1], False)
    return logits.masked_fill(dropped, -torch.inf)


def sample(
    logits: Tensor, noise: Tensor | None, temperature: float = 1.0, top_k: int = 0, top_p: float = 0.0
) -> Tensor:
    """logits [..., V], noise [..., V] -> codes [...]. top_p > 0 overrides top_k; 0 keeps all.

    A temperature of 0, or no noise, takes the likeliest code.
    """
    if noise is None or temperature == 0:
        return logits.argmax(dim=-1)
    return (_kept(logits, temperature, top_k, top_p) - noise.log()).argmax(dim=-1)


def probabilities(logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 0.0) -> Tensor:
    """[..., V]: how likely `sample` is to take each code."""
    if temperature == 0:
        return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float()
    return _kept(logits, temperature, top_k, top_p).softmax(dim=-1)


def _kept(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    logits = logits.float() / temperature
    if top_p > 0:
        return keep_top_p(logits, top_p)
    return keep_top_k(logits, top_k) if top_k > 0 else logits
