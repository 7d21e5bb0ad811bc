"""A pre-norm causal transformer with optional cross-attention, as in MusicGen (2306.05284) and AudioGen (2209.15352).

    x += attention(norm1(x));   x += cross(norm_cross(x), condition);   x += feedforward(norm2(x))

Feed-forward: linear, exact (erf) GELU, linear. Dropout acts on the three branches and inside the feed-forward, not on
the attention weights: that would keep torch from its fused kernels.

Off unless the configuration asks: shared keys and values, value residuals, hyper-connections, a condition as keys and
values in front of every layer's own, and an additive bias that the caller computes (AudioLM's stages use them); norms
that a setting shifts and scales, and a beginning that all may see (VALL-E's do).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.ops.adaptive import AdaptiveNorm
from audiogen_cli.ops.attention import (
    CrossAttention,
    KVCache,
    LayerCache,
    Linear,
    Memory,
    Piece,
    Rotary,
    SelfAttention,
    ValueResidual,
    causal_bias,
)
from audiogen_cli.ops.dropout import dropout
from audiogen_cli.ops.hyper import HyperConnection, expand


@dataclass(frozen=True)
class TransformerConfig:
    """kv_heads, head_dim: see Attention. prefix_attention: a condition is keys and values of every self-attention,
    in front of its own, instead of what cross-attention reads. residual_streams: see ops/hyper.py; 1 is plain.
    adaptive: the norms hear a setting (ops/adaptive.py).
    """

    dim: int
    num_layers: int
    num_heads: int
    hidden_scale: int = 4
    cross_attention: bool = True
    dropout: float = 0.0
    bias_attention: bool = False
    bias_feedforward: bool = False
    kv_heads: int | None = None
    head_dim: int | None = None
    prefix_attention: bool = False
    value_residual: bool = False
    residual_streams: int = 1
    adaptive: bool = False


def sinusoids(position: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Positions [..., S] -> [..., S, dim]: concat(cos, sin) of position / max_period^(i / (dim/2 - 1)), in float32.

    Divided, not multiplied by the inverse: to the bit as EnCodec and AudioCraft do.
    """
    half = dim // 2
    exponent = torch.arange(half, device=position.device, dtype=torch.float32) / max(half - 1, 1)
    angle = position[..., None] / max_period**exponent
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class Layer(nn.Module):
    def __init__(self, config: TransformerConfig, index: int = 0) -> None:
        super().__init__()
        dim, hidden = config.dim, config.dim * config.hidden_scale
        shape = (dim, config.num_heads, config.bias_attention, config.kv_heads, config.head_dim)
        norm = AdaptiveNorm if config.adaptive else partial(nn.LayerNorm, eps=1e-5)
        self.norm1 = norm(dim)
        self.self_attention = SelfAttention(*shape)
        self.crosses = config.cross_attention
        if config.cross_attention:
            self.norm_cross = norm(dim)
            self.cross_attention = CrossAttention(*shape)
        self.norm2 = norm(dim)
        self.linear1 = Linear(dim, hidden, bias=config.bias_feedforward)
        self.linear2 = Linear(hidden, dim, bias=config.bias_feedforward)
        self.dropout = config.dropout
        self.streams = config.residual_streams
        if self.streams > 1:
            branches = ("self", "cross", "feedforward") if self.crosses else ("self", "feedforward")
            numbers = {name: index * len(branches) + number for number, name in enumerate(branches)}
            self.connections = nn.ModuleDict(
                {name: HyperConnection(dim, self.streams, number) for name, number in numbers.items()}
            )

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout) if self.training and self.dropout else x

    def forward(self, x: Tensor, piece: Piece, cache: LayerCache | None, memory: Memory | None) -> Tensor:
        """x [B, S, D], or [B, streams, S, D] of several streams -> the same shape."""
        prefix, heard = (None if self.crosses else memory), (() if piece.setting is None else (piece.setting,))
        x = self._add("self", x, lambda y: self.self_attention(self.norm1(y, *heard), piece, cache, prefix), piece.rows)
        if self.crosses and memory is not None:
            x = self._add(
                "cross", x, lambda y: self.cross_attention(self.norm_cross(y, *heard), memory, piece.rows), piece.rows
            )
        return self._add("feedforward", x, lambda y: self._feedforward(self.norm2(y, *heard), piece.rows), piece.rows)

    def remember(self, condition: Tensor, bias: Tensor | None, rows: int | None) -> Memory:
        """Keys and values of a condition [B, L, D]."""
        if self.crosses:
            return self.cross_attention.project(condition, bias, rows)
        return self.self_attention.project(self.norm1(condition), bias, rows)

    def _add(self, name: str, x: Tensor, branch: Callable[[Tensor], Tensor], rows: int | None) -> Tensor:
        if self.streams == 1:
            return x + self._drop(branch(x))
        mixed: Tensor = self.connections[name](x, lambda y: self._drop(branch(y)), rows)
        return mixed

    def _feedforward(self, x: Tensor, rows: int | None) -> Tensor:
        hidden: Tensor = self.linear2(self._drop(F.gelu(self.linear1(x, rows))), rows)
        return hidden


class Transformer(nn.Module):
    """The stack of layers, without embeddings and without the last norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.num_layers))
        self._init_weights()

    def cache(self, batch: int, capacity: int, rows: int | None = None) -> KVCache:
        """An empty cache for `capacity` steps, of the weights' dtype and device."""
        config, like = self.config, next(self.parameters())
        heads, head_dim = config.kv_heads or config.num_heads, config.head_dim or config.dim // config.num_heads
        layers = [LayerCache(like, batch, heads, capacity, head_dim) for _ in self.layers]
        return KVCache(layers, capacity, rows)

    def remember(self, condition: Tensor, bias: Tensor | None, rows: int | None = None) -> list[Memory]:
        """Every layer's keys and values of a condition [B, L, D]."""
        memories: list[Memory] = [layer.remember(condition, bias, rows) for layer in self.layers]  # type: ignore[operator]
        if not self.config.value_residual:
            return memories
        mixed = ValueResidual()
        return [replace(memory, values=mixed(memory.values)) for memory in memories]

    def forward(
        self,
        x: Tensor,
        memory: list[Memory] | None = None,
        cache: KVCache | None = None,
        hidden: Tensor | None = None,
        rotary: Rotary | None = None,
        relative: Tensor | None = None,
        shared: int = 0,
        setting: Tensor | None = None,
    ) -> Tensor:
        """x [B, S, D] -> [B, S, D]; it continues what the cache holds. hidden [B, cached + S]: keys nobody may see;
        relative [1, H, S, cached + S]: added to the scores. shared: so many of the first keys are seen by all, whatever
        comes later; with S of them attention is full. setting [B, D]: what adaptive norms hear."""
        start, steps = (0 if cache is None else cache.length), x.shape[1]
        end = start + steps
        assert cache is None or end <= cache.capacity, f"the cache holds {cache.capacity} steps, {end} were read"
        prefix = None if memory is None or self.config.cross_attention else memory[0]
        plain = hidden is None and start == 0 and relative is None and prefix is None and not shared
        bias = None if plain else causal_bias(steps, end, x, hidden, shared)
        if relative is not None:
            bias = relative if bias is None else bias + relative
        if prefix is not None:
            bias = _beside(prefix, bias, steps, end)
        mixed = ValueResidual() if self.config.value_residual else None
        piece = Piece(start, bias, rotary, None if cache is None else cache.rows, mixed, setting)
        streams = self.config.residual_streams
        x = expand(x, streams) if streams > 1 else x
        for i, layer in enumerate(self.layers):
            x = layer(x, piece, None if cache is None else cache.layers[i], None if memory is None else memory[i])
        if cache is not None:
            cache.length = end
        return x.sum(dim=1) if streams > 1 else x

    @torch.no_grad()
    def _init_weights(self) -> None:
        """Matrices: Gaussian of std 1 / sqrt(fan in), cut at 3 std. Those that write to the stream in layer l = 1, 2 ..
        are divided by sqrt(2 l), so that its variance grows with the logarithm of the depth. Biases: zero.

        AudioCraft divides every matrix of the layer; queries, keys and hidden units need no such care behind a norm.
        """
        for depth, layer in enumerate(self.layers, start=1):
            for name, module in layer.named_modules():
                if isinstance(module, nn.Linear):
                    writes = name.endswith(("out_proj", "linear2"))
                    gaussian(module.weight, module.in_features, scale=1 / math.sqrt(2 * depth) if writes else 1.0)
                    if module.bias is not None:
                        module.bias.zero_()


def _beside(prefix: Memory, bias: Tensor | None, num_queries: int, num_keys: int) -> Tensor:
    """The bias of a prefix's keys, and then of a piece's own, [B, H or 1, Q, L + K]."""
    like = prefix.keys
    own = like.new_zeros(1, 1, num_queries, num_keys) if bias is None else bias
    seen = like.new_zeros(1, 1, 1, like.shape[2]) if prefix.bias is None else prefix.bias
    shape = (max(own.shape[0], seen.shape[0]), own.shape[1], num_queries, -1)
    return torch.cat([seen.expand(shape), own.expand(shape)], dim=-1)


def gaussian(weight: Tensor, fan_in: int, scale: float = 1.0) -> None:
    """Fills `weight` in place with a Gaussian of std scale / sqrt(fan_in), cut at 3 std."""
    std = scale / math.sqrt(fan_in)
    nn.init.trunc_normal_(weight, std=std, a=-3 * std, b=3 * std)
