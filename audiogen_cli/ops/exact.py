"""Transformer arithmetic whose results do not depend on the order of its sums, and so not on shapes or machines.

Numbers are float64, and multiples of a power of two: what goes between operations of GRID = 2^-12, weights of 2^-16. A
double holds 53 bits, and no sum of products below needs more, so none is ever rounded: any order, any kernel and any
block size give the same bits. What is rounded is rounded element by element, by operations that IEEE 754 defines to the
last bit (+, -, *, /, sqrt, round). Powers and GELU, which it does not define, are read from tables of numbers that are
themselves rounded so far that no library's last bits show.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from audiogen_cli.errors import ModelError

GRID_BITS, WEIGHT_BITS, COUNT_BITS = 12, 16, 22
LARGEST = 256.0  # what goes between operations is cut here: 20 bits and a sign
WIDEST, MOST_KEYS = 1024, 2048  # of a norm, and of attention
LOG2_E = 1.4426950408889634  # written out: a library's logarithm may differ in its last bit
OCTAVE = 1024  # steps of an exponent's table to a factor of 2
_LAST = COUNT_BITS * OCTAVE  # where 2^-x has become less than one part in 2^22


def snap(x: Tensor, bits: int = GRID_BITS) -> Tensor:
    """To the nearest multiple of 2^-bits, in float64."""
    return (x.double() * 2.0**bits).round_().mul_(2.0**-bits)


def keep(x: Tensor) -> Tensor:
    """On the grid, and no larger than LARGEST."""
    return snap(x).clamp_(-LARGEST, LARGEST)


def weight(w: Tensor, unit: float = 1.0) -> Tensor:
    """A matrix or bias for `linear`, in multiples of 1 / unit. Raises ModelError when a row could overflow 53 bits."""
    grid = snap(w.double() * unit, WEIGHT_BITS - round(math.log2(unit)))
    rows = grid.abs().sum(-1) if grid.ndim > 1 else grid.abs()  # of a bias, every number is for a row of its own
    if not float(rows.amax()) < 2.0**16 * unit:
        raise ModelError("the entropy model's weights are too large to be computed with exactly; train it again.")
    return grid


def linear(x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
    """x [.., in] on the grid and within LARGEST, w [out, in] and bias [out] of `weight`: 20 + 16 + 16 bits at most."""
    return F.linear(x, w).add_(bias)


def layer_norm(x: Tensor, scale: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Over the last dimension, up to WIDEST: squares of 2 * 21 bits, summed."""
    x = keep(x)
    x = x - snap(x.sum(-1, keepdim=True) / x.shape[-1])
    variance = (x * x).sum(-1, keepdim=True) / x.shape[-1]
    return keep(x / (variance + eps).sqrt() * scale + bias)


def gelu(x: Tensor) -> Tensor:
    """x / 2 * (1 + erf(x / sqrt 2)) of x rounded to 1 / 1024."""
    steps = (x * 1024.0).round_().clamp_(-LARGEST * 1024, LARGEST * 1024)
    inside = steps.clamp(-8192, 8192)
    return _gelu_table()[(inside + 8192).long()].add_((steps - inside).clamp_(min=0.0).div_(1024.0))


def counts(exponent: Tensor, hidden: Tensor | None = None) -> Tensor:
    """Whole numbers in proportion to 2^(exponent / OCTAVE) over the last dimension, 2^22 for the largest.

    Their sum is exact, and where `hidden` is True they are 0: a softmax that sees no order and no mask.
    """
    if hidden is not None:
        exponent = exponent.masked_fill(hidden, -torch.inf)
    below = (exponent.amax(-1, keepdim=True) - exponent).round_().clamp_(max=_LAST)
    return _powers_table()[below.long()]


def attend(query: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None) -> Tensor:
    """query [B, H, S, D/H], keys and values [B, H, P + S, D/H], hidden bool [S, P + S] or none -> [B, H, S, D/H].

    Scores have 20 + 20 bits, shares times values 22 + 20, and fewer than MOST_KEYS keys are seen: 11 more.
    """
    scale = OCTAVE * LOG2_E / math.sqrt(query.shape[-1])
    share = counts((query @ keys.transpose(-2, -1)).mul_(scale), hidden)
    return keep((share @ values) / share.sum(-1, keepdim=True))


def sinusoids(offset: int, count: int, dim: int, max_period: float = 10000.0) -> Tensor:
    """Positions offset .. offset + count - 1 -> [count, dim] as ops.transformer.sinusoids, on the grid.

    One angle after another: the kernels that take many at once differ in the last bit from those for the rest.
    """
    rates = _rates(dim // 2, max_period)
    angles = [[position * rate for rate in rates] for position in range(offset, offset + count)]
    rows = [[*map(math.cos, row), *map(math.sin, row)] for row in angles]
    return snap(torch.tensor(rows, dtype=torch.float64).view(count, dim))


@functools.cache
def _rates(half: int, max_period: float) -> tuple[float, ...]:
    return tuple(round(max_period ** -(i / max(half - 1, 1)) * 2**32) / 2**32 for i in range(half))


@functools.cache
def _powers_table() -> Tensor:
    """round(2^(22 - i / OCTAVE)), and 0 at the end."""
    return torch.tensor([round(2.0 ** (COUNT_BITS - i / OCTAVE)) for i in range(_LAST)] + [0], dtype=torch.float64)


@functools.cache
def _gelu_table() -> Tensor:
    """From -8 to 8 in steps of 1 / 1024, on the grid."""
    points = (i / 1024 for i in range(-8192, 8193))
    return snap(torch.tensor([x / 2 * (1 + math.erf(x / math.sqrt(2))) for x in points], dtype=torch.float64))
