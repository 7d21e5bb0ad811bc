"""Multi-head attention, and the cache that lets a sequence be read in pieces.

The cache is an argument, never module state: whoever runs the loop owns it. Queries of a later piece stand at the end
of the keys, so the causal mask is aligned bottom-right: query i of a piece after n cached steps sees keys 0 .. n + i.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """A matrix product that can be taken a few rows of the batch at a time.

    Kernels for different numbers of rows round differently. With `rows` set, a product is always of that many, zeros
    where fewer are left, so that a row's result is the same to the bit whatever else there is; attention, norms and the
    like work row by row anyway. The second group finds the matrix in the processor's cache: four groups of two rows
    take little longer than one of eight.
    """

    def forward(self, x: Tensor, rows: int | None = None) -> Tensor:
        """x [B, S, in] -> [B, S, out]."""
        return product(x, self.weight, self.bias, rows)


def product(x: Tensor, weight: Tensor, bias: Tensor | None, rows: int | None = None) -> Tensor:
    """F.linear, exactly `rows` of the batch at a time, zeros where fewer are left; None takes all at once."""
    if rows is None or rows == x.shape[0]:
        return F.linear(x, weight, bias)
    missing = -len(x) % rows
    filled = torch.cat([x, x.new_zeros(missing, *x.shape[1:])]) if missing else x
    return torch.cat([F.linear(part, weight, bias) for part in filled.split(rows)])[: len(x)]


class LayerCache:
    """Keys and values [B, H, capacity, D/H] of one layer, written in place."""

    def __init__(self, like: Tensor, batch: int, num_heads: int, capacity: int, head_dim: int) -> None:
        self.keys = like.new_zeros(batch, num_heads, capacity, head_dim)
        self.values = like.new_zeros(batch, num_heads, capacity, head_dim)

    def append(self, keys: Tensor, values: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Stores a piece [B, H, S, D/H] at `start`; returns everything up to its end."""
        end = start + keys.shape[2]
        self.keys[:, :, start:end] = keys
        self.values[:, :, start:end] = values
        return self.keys[:, :, :end], self.values[:, :, :end]


class KVCache:
    """What the layers remember between calls.

    rows: how many rows of the batch a matrix product takes at a time (see Linear); None is all.
    length: steps already read, the condition's prefix included.
    hidden: bool [B, L], keys of the prefix that nobody may see; None if there are none.
    memory: what cross-attention reads, one entry a layer, computed at the first call.
    """

    def __init__(self, layers: list[LayerCache], capacity: int, rows: int | None = None) -> None:
        self.layers = layers
        self.capacity = capacity
        self.rows = rows
        self.length = 0
        self.hidden: Tensor | None = None
        self.memory: list[Memory] | None = None


@dataclass(frozen=True)
class Memory:
    """Keys and values [B, H, L, D/H] for cross-attention; bias [B, 1, 1, L], 0 or -inf, or None: all may be seen."""

    keys: Tensor
    values: Tensor
    bias: Tensor | None


def causal_bias(
    num_queries: int, num_keys: int, like: Tensor, hidden: Tensor | None = None, shared: int = 0
) -> Tensor | None:
    """Added to the scores, [B or 1, 1, Q, K]: -inf for the future and for `hidden` [B, K] keys; None for nothing.

    The first `shared` keys are nobody's future: all see them. A position always sees itself, so that a row whose keys
    are all hidden has a finite (and unused) result.
    """
    if num_queries == 1 and hidden is None:
        return None
    query = torch.arange(num_keys - num_queries, num_keys, device=like.device)[:, None]  # [Q, 1], bottom-right aligned
    key = torch.arange(num_keys, device=like.device)
    masked = ((key > query) & (key >= shared))[None, None]  # [1, 1, Q, K]
    if hidden is not None:
        masked = masked | (hidden[:, None, None, :] & (key != query))  # [B, 1, Q, K]
    return like.new_zeros(masked.shape).masked_fill_(masked, -torch.inf)


def attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None, causal: bool = False) -> Tensor:
    """query [B, H, Q, W], keys and values [B, H, K, W] -> [B, H, Q, W]; bias is added to the scores, [.., Q, K].

    Training on a processor it is float32 throughout, whatever autocast says: the kernel's backward pass takes up to
    three times as long in bfloat16. Scores must not be multiplied out in bfloat16 either: what is left of a gradient
    after softmax is the difference of nearly equal numbers, and was seen to be twice as much error as gradient.
    """
    if query.device.type != "cpu" or not (torch.is_grad_enabled() and query.requires_grad):
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=bias, is_causal=causal)
    bias = None if bias is None else bias.to(torch.promote_types(bias.dtype, torch.float32))
    query, keys, wide = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (query, keys, values))
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(query, keys, wide, attn_mask=bias, is_causal=causal).to(values)


class Rotary:
    """Rotary positions (RoFormer, 2104.09864): pairs (x_i, x_{i + half}) turned by position * base^(-i / half)."""

    def __init__(self, position: Tensor, head_dim: int, like: Tensor, base: float = 10000.0) -> None:
        half = head_dim // 2
        rate = base ** (-torch.arange(half, device=like.device, dtype=torch.float32) / half)
        angle = position[..., None] * rate  # [S, half] or [B, S, half]
        if angle.dim() == 3:
            angle = angle[:, None]  # [B, 1, S, half]: the same for every head
        self.cos, self.sin = angle.cos().to(like.dtype), angle.sin().to(like.dtype)

    def __call__(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)  # [B, H, S, half] each
        return torch.cat([first * self.cos - second * self.sin, first * self.sin + second * self.cos], dim=-1)


class ValueResidual:
    """Value residual learning (2410.17897): every later layer's values are averaged with the first layer's."""

    def __init__(self) -> None:
        self.first: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        if self.first is None:
            self.first = values
            return values
        return 0.5 * (values + self.first)


@dataclass(frozen=True)
class Piece:
    """What all layers share while they read one piece of the sequence.

    start: steps in the cache before it. bias: of `causal_bias`; None is plainly causal (an empty cache, or one step).
    rows: see Linear. mixed: of a model with value residuals, what the first layer left for the later ones. setting
    [B, D]: what adaptive norms hear (ops/adaptive.py).
    """

    start: int = 0
    bias: Tensor | None = None
    rotary: Rotary | None = None
    rows: int | None = None
    mixed: ValueResidual | None = None
    setting: Tensor | None = None


class Attention(nn.Module):
    """Multi-head attention; queries, keys and values are all projected from what the caller has normalised.

    One matrix [H W + 2 G W, D] holds the three projections, in that order: H heads of width W, whose keys and values
    are shared by groups of H / G heads (multi-query attention, 1911.02150, is G = 1). Without being told, G is H and
    W is D / H.
    """

    def __init__(
        self, dim: int, num_heads: int, bias: bool = False, kv_heads: int | None = None, head_dim: int | None = None
    ) -> None:
        super().__init__()
        self.num_heads, self.kv_heads = num_heads, kv_heads or num_heads
        width = head_dim or dim // num_heads
        self.inner, self.kv_inner = num_heads * width, self.kv_heads * width
        self.in_proj = Linear(dim, self.inner + 2 * self.kv_inner, bias=bias)
        self.out_proj = Linear(self.inner, dim, bias=bias)

    def project(self, memory: Tensor, bias: Tensor | None, rows: int | None = None) -> Memory:
        """memory [B, L, D]: a condition, already of the model's width -> its keys and values."""
        in_bias = None if self.in_proj.bias is None else self.in_proj.bias[self.inner :]
        keys, values = product(memory, self.in_proj.weight[self.inner :], in_bias, rows).chunk(2, dim=-1)
        return Memory(self._heads(keys, self.kv_heads), self._heads(values, self.kv_heads), bias)

    def _heads(self, x: Tensor, num_heads: int) -> Tensor:
        batch, steps = x.shape[:2]
        return x.view(batch, steps, num_heads, -1).transpose(1, 2)  # [B, H, S, W]

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, causal: bool = False) -> Tensor:
        if self.kv_heads != self.num_heads:
            keys, values = (self._shared(x) for x in (keys, values))
        return attend(query, keys, values, bias, causal)

    def _shared(self, x: Tensor) -> Tensor:
        """[B, G, S, W] -> [B, H, S, W]; a single group is not copied."""
        if self.kv_heads == 1:
            return x.expand(-1, self.num_heads, -1, -1)
        return x.repeat_interleave(self.num_heads // self.kv_heads, dim=1)

    def _merge(self, x: Tensor, rows: int | None) -> Tensor:
        return self.out_proj(x.transpose(1, 2).flatten(2), rows)  # [B, H, S, W] -> [B, S, D]


class SelfAttention(Attention):
    """Causal attention of a piece of the sequence to itself and to what the cache holds."""

    def forward(self, x: Tensor, piece: Piece, cache: LayerCache | None = None, prefix: Memory | None = None) -> Tensor:
        """x [B, S, D] -> [B, S, D]. prefix: keys and values that all see besides; piece.bias covers them first."""
        projected = self.in_proj(x, piece.rows)
        query, keys, values = projected.split([self.inner, self.kv_inner, self.kv_inner], dim=-1)
        query = self._heads(query, self.num_heads)
        keys, values = self._heads(keys, self.kv_heads), self._heads(values, self.kv_heads)
        if piece.mixed is not None:
            values = piece.mixed(values)
        if piece.rotary is not None:
            query, keys = piece.rotary(query), piece.rotary(keys)
        if cache is not None:
            keys, values = cache.append(keys, values, piece.start)
        if prefix is not None:
            keys, values = torch.cat([prefix.keys, keys], dim=2), torch.cat([prefix.values, values], dim=2)
        causal = piece.bias is None and query.shape[2] > 1
        return self._merge(self._attend(query, keys, values, piece.bias, causal), piece.rows)


class CrossAttention(Attention):
    """Attention to a condition whose keys and values are projected once."""

    def forward(self, x: Tensor, memory: Memory, rows: int | None = None) -> Tensor:
        """x [B, S, D] -> [B, S, D]."""
        in_bias = None if self.in_proj.bias is None else self.in_proj.bias[: self.inner]
        query = self._heads(product(x, self.in_proj.weight[: self.inner], in_bias, rows), self.num_heads)
        return self._merge(self._attend(query, memory.keys, memory.values, memory.bias), rows)
