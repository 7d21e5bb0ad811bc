"""Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer (T5, 1910.10683): its encoder.

    tokens [B, L] --embedding--> num_layers x (self-attention, feed-forward), each normed before --norm--> [B, L, D]

Positions are heard only as a bias of the attention, learned for 32 distances that grow coarser with length (section
2.1); the scores are not divided by the root of the head's width. Modules are named as in the published files, so that
these load as they are. Written here because transformers takes seconds to import; tests hold it equal to that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class T5Config:
    """The shape of a T5 encoder, in the names of transformers' config.json. The defaults are those of old files."""

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_heads: int
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    feed_forward_proj: Literal["relu", "gated-gelu"] = "relu"
    layer_norm_epsilon: float = 1e-6


class T5Encoder(nn.Module):
    """tokens [B, L] int64, without padding -> [B, L, d_model]. Only for inference: it has no dropout."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = _Stack(config)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.encoder(self.shared(tokens))


class RMSNorm(nn.Module):
    """To unit mean square, then scaled; no mean is subtracted (1910.07467)."""

    def __init__(self, dim: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon))


def distance_buckets(length: int, config: T5Config) -> Tensor:
    """[L, L] int64: the bucket of key column j seen from query row i. The first half is for keys at or before it.

    Within a half, half of the buckets are for one distance each, and the others reach max_distance in even steps of the
    logarithm; what is farther shares the last one.
    """
    half, position = config.relative_attention_num_buckets // 2, torch.arange(length)
    distance = position[None, :] - position[:, None]
    exact = half // 2
    steps = torch.log(distance.abs().float() / exact) / math.log(config.relative_attention_max_distance / exact)
    far = (exact + (steps * (half - exact)).clamp(min=0).long()).clamp(max=half - 1)
    return torch.where(distance.abs() < exact, distance.abs(), far) + half * (distance > 0)


class _Stack(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.block = nn.ModuleList(_Block(config, has_bias=number == 0) for number in range(config.num_layers))
        self.final_layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor) -> Tensor:
        buckets = distance_buckets(x.shape[1], self.config).to(x.device)
        table: Any = self.get_submodule("block.0.layer.0.SelfAttention.relative_attention_bias")  # all layers share it
        bias = table(buckets).permute(2, 0, 1)[None]  # [1, heads, L, L]
        for block in self.block:
            x = block(x, bias)
        return self.final_layer_norm(x)


class _Block(nn.Module):
    def __init__(self, config: T5Config, has_bias: bool) -> None:
        super().__init__()
        self.layer = nn.ModuleList([_AttentionLayer(config, has_bias), _FeedForwardLayer(config)])

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        return self.layer[1](self.layer[0](x, bias))


class _AttentionLayer(nn.Module):
    def __init__(self, config: T5Config, has_bias: bool) -> None:
        super().__init__()
        self.SelfAttention = _Attention(config, has_bias)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        return x + self.SelfAttention(self.layer_norm(x), bias)


class _FeedForwardLayer(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.DenseReluDense = _GatedGelu(config) if config.feed_forward_proj == "gated-gelu" else _Relu(config)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.DenseReluDense(self.layer_norm(x))


class _Attention(nn.Module):
    def __init__(self, config: T5Config, has_bias: bool) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        inner = config.num_heads * config.d_kv
        self.q, self.k, self.v = (nn.Linear(config.d_model, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, config.d_model, bias=False)
        if has_bias:
            self.relative_attention_bias = nn.Embedding(config.relative_attention_num_buckets, config.num_heads)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (side(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for side in (self.q, self.k, self.v))
        heard = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)  # [B, heads, L, d_kv]
        return self.o(heard.transpose(1, 2).flatten(2))


class _Relu(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.wi = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(F.relu(self.wi(x)))


class _GatedGelu(nn.Module):
    """The feed-forward layer of T5 1.1 and FLAN-T5 (2002.05202)."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wi_1 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(_gelu(self.wi_0(x)) * self.wi_1(x))


def _gelu(x: Tensor) -> Tensor:
    """torch's own approximation rounds otherwise, and the bundled models' sounds hang on the last bit."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
