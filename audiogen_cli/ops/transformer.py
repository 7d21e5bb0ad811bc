"""A pre-norm causal transformer with optional cross-attention, as in MusicGen (2306.05284) and AudioGen (2209.15352).

    x += attention(norm1(x));   x += cross(norm_cross(x), condition);   x += feedforward(norm2(x))

Feed-forward: linear, exact (erf) GELU, linear. Dropout acts on the three branches and inside the feed-forward, not on
the attention weights: that would keep torch from its fused kernels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.ops.attention import (
    CrossAttention,
    KVCache,
    LayerCache,
    Linear,
    Memory,
    Piece,
    Rotary,
    SelfAttention,
    causal_bias,
)


@dataclass(frozen=True)
class TransformerConfig:
    dim: int
    num_layers: int
    num_heads: int
    hidden_scale: int = 4
    cross_attention: bool = True
    dropout: float = 0.0
    bias_attention: bool = False
    bias_feedforward: bool = False


def sinusoids(position: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Positions [..., S] -> [..., S, dim]: concat(cos, sin) of position / max_period^(i / (dim/2 - 1)), in float32.

    Divided, not multiplied by the inverse: to the bit as EnCodec and AudioCraft do.
    """
    half = dim // 2
    exponent = torch.arange(half, device=position.device, dtype=torch.float32) / max(half - 1, 1)
    angle = position[..., None] / max_period**exponent
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class Layer(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim, hidden = config.dim, config.dim * config.hidden_scale
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.self_attention = SelfAttention(dim, config.num_heads, config.bias_attention)
        if config.cross_attention:
            self.norm_cross = nn.LayerNorm(dim, eps=1e-5)
            self.cross_attention = CrossAttention(dim, config.num_heads, config.bias_attention)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.linear1 = Linear(dim, hidden, bias=config.bias_feedforward)
        self.linear2 = Linear(hidden, dim, bias=config.bias_feedforward)
        self.dropout = config.dropout

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout) if self.training and self.dropout else x

    def forward(self, x: Tensor, piece: Piece, cache: LayerCache | None, memory: Memory | None) -> Tensor:
        """x [B, S, D] -> [B, S, D]."""
        x = x + self._drop(self.self_attention(self.norm1(x), piece, cache))
        if memory is not None:
            x = x + self._drop(self.cross_attention(self.norm_cross(x), memory, piece.rows))
        hidden = self._drop(F.gelu(self.linear1(self.norm2(x), piece.rows)))
        return x + self._drop(self.linear2(hidden, piece.rows))


class Transformer(nn.Module):
    """The stack of layers, without embeddings and without the last norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self._init_weights()

    def cache(self, batch: int, capacity: int, rows: int | None = None) -> KVCache:
        """An empty cache for `capacity` steps, of the weights' dtype and device."""
        config, like = self.config, next(self.parameters())
        head_dim = config.dim // config.num_heads
        layers = [LayerCache(like, batch, config.num_heads, capacity, head_dim) for _ in self.layers]
        return KVCache(layers, capacity, rows)

    def remember(self, condition: Tensor, bias: Tensor | None, rows: int | None = None) -> list[Memory]:
        """Every layer's keys and values of a condition [B, L, D]."""
        return [layer.cross_attention.project(condition, bias, rows) for layer in self.layers]  # type: ignore[union-attr,operator]

    def forward(
        self,
        x: Tensor,
        memory: list[Memory] | None = None,
        cache: KVCache | None = None,
        hidden: Tensor | None = None,
        rotary: Rotary | None = None,
    ) -> Tensor:
        """x [B, S, D] -> [B, S, D]; it continues what the cache holds. hidden [B, cached + S]: keys nobody may see."""
        start = 0 if cache is None else cache.length
        end = start + x.shape[1]
        assert cache is None or end <= cache.capacity, f"the cache holds {cache.capacity} steps, {end} were read"
        plain = hidden is None and start == 0
        bias = None if plain else causal_bias(x.shape[1], end, x, hidden)
        piece = Piece(start, bias, rotary, None if cache is None else cache.rows)
        for i, layer in enumerate(self.layers):
            x = layer(x, piece, None if cache is None else cache.layers[i], None if memory is None else memory[i])
        if cache is not None:
            cache.length = end
        return x

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


def gaussian(weight: Tensor, fan_in: int, scale: float = 1.0) -> None:
    """Fills `weight` in place with a Gaussian of std scale / sqrt(fan_in), cut at 3 std."""
    std = scale / math.sqrt(fan_in)
    nn.init.trunc_normal_(weight, std=std, a=-3 * std, b=3 * std)
