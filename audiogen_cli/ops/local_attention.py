"""A causal transformer in which a frame sees only the `window` latest frames, itself included.

    x += attention(norm(x));    x += feedforward(norm(x))

Queries and keys are normalised and scaled by 8, each head's output is gated by its own frame, and the feed-forward is
a GEGLU (2002.05202). Distance is heard by rotary positions that fade with it (xPos, 2212.10554), or by a bias that a
small network makes of it. Work and memory grow with the number of frames, not with its square:

    queries [b], b = min(window, T) at a time  x  keys [window + b], those of the block and of the window before it
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.ops.attention import Rotary

SCORE_SCALE = 8.0
NEARLY_NOTHING = 1e-4  # a squared norm


@dataclass(frozen=True)
class LocalAttentionConfig:
    """window: in frames. scale_base: the distance over which xPos fades, half a window if None.

    position_bias: take a learned bias instead of xPos.
    """

    dim: int
    depth: int = 1
    num_heads: int = 8
    head_dim: int = 64
    window: int = 128
    scale_base: float | None = None
    position_bias: bool = False

    def __post_init__(self) -> None:
        if min(self.dim, self.depth, self.num_heads, self.window) < 1 or self.head_dim < 2 or self.head_dim % 2:
            raise ValueError("local attention needs a depth, heads and a window of 1 or more, and an even head width.")


class Past(NamedTuple):
    """State of a layer: keys and values [B, H, P, d] of up to window - 1 frames before."""

    keys: Tensor
    values: Tensor


class LocalAttention(nn.Module):
    def __init__(self, config: LocalAttentionConfig) -> None:
        super().__init__()
        self.config = config
        width = config.num_heads * config.head_dim
        self.norm = nn.LayerNorm(config.dim)
        self.in_proj = nn.Linear(config.dim, 3 * width, bias=False)
        self.query_scale = nn.Parameter(torch.ones(config.head_dim))
        self.key_scale = nn.Parameter(torch.ones(config.head_dim))
        self.head_gate = nn.Linear(config.dim, config.num_heads)
        self.out_proj = nn.Linear(width, config.dim, bias=False)
        if config.position_bias:
            self.bias = nn.Sequential(
                nn.Linear(1, config.dim // 2), nn.SiLU(), nn.Linear(config.dim // 2, config.num_heads)
            )

    def forward(self, x: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """x [B, T, D], T >= 1, what follows `past` -> [B, T, D], and what is past after it."""
        x = self.norm(x)
        query, keys, values = map(self._heads, self.in_proj(x).chunk(3, dim=-1))  # [B, H, T, d]
        query, keys = _direction(query) * self.query_scale, _direction(keys) * self.key_scale
        if past is not None:
            keys, values = torch.cat([past.keys, keys], 2), torch.cat([past.values, values], 2)
        kept = max(0, keys.shape[2] - (self.config.window - 1))
        gathered = self._attend(query, keys, values) * self.head_gate(x).sigmoid().transpose(1, 2)[..., None]
        return self.out_proj(gathered.transpose(1, 2).flatten(2)), Past(keys[:, :, kept:], values[:, :, kept:])

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.config.num_heads, -1)).transpose(1, 2)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """query [B, H, T, d]; keys and values [B, H, P + T, d] -> [B, H, T, d]."""
        window, frames = self.config.window, query.shape[2]
        block, past = min(window, frames), keys.shape[2] - frames
        rest = -frames % block
        queries = F.pad(query, (0, 0, 0, rest)).unflatten(2, (-1, block))  # [B, H, blocks, block, d]
        seen = [_windows(side, window - past, rest, window + block, block) for side in (keys, values)]
        position = torch.arange(window + block, device=query.device)
        if not self.config.position_bias:
            queries, seen[0] = self._placed(queries, position[window:], 1.0), self._placed(seen[0], position, -1.0)
        scores = SCORE_SCALE * queries @ seen[0].transpose(-1, -2)
        start = torch.arange(0, frames, block, device=query.device)[:, None, None]
        distance = position[window:, None] - position  # [block, window + block]
        visible = (distance >= 0) & (distance < window) & (start + position >= window - past)
        if self.config.position_bias:
            scores = scores + self._distance_bias(distance)
        return (scores.masked_fill(~visible, -torch.inf).softmax(-1) @ seen[1]).flatten(2, 3)[:, :, :frames]

    def _placed(self, x: Tensor, position: Tensor, sign: float) -> Tensor:
        """Rotated by position, and scaled so that scores fade with distance: queries grow with it, keys shrink."""
        window, dim = self.config.window, self.config.head_dim
        rotated = Rotary(position, dim, x)(x)
        fading = (torch.arange(0, dim, 2, device=x.device) + 0.4 * dim) / (1.4 * dim)  # [d / 2]
        base = self.config.scale_base or max(1.0, window / 2)
        scale = fading ** (sign * (position[:, None] - window) / base)
        return rotated * torch.cat([scale, scale], -1).to(x.dtype)

    def _distance_bias(self, distance: Tensor) -> Tensor:
        """[block, keys] -> [H, 1, block, keys]."""
        window = self.config.window
        each = self.bias(torch.arange(window, device=distance.device)[:, None] / window)  # [window, H]
        return each[distance.clamp(0, window - 1)].permute(2, 0, 1)[:, None]


def _direction(x: Tensor) -> Tensor:
    """[..., d] with norm 1, or less where there is nearly nothing: rounding must not become a direction."""
    return x * (x.square().sum(-1, keepdim=True) + NEARLY_NOTHING).rsqrt()


def _windows(side: Tensor, left: int, right: int, length: int, step: int) -> Tensor:
    """[B, H, n, d] -> [B, H, blocks, length, d]."""
    return F.pad(side, (0, 0, left, right)).unfold(2, length, step).transpose(-1, -2)


class GEGLU(nn.Module):
    """norm, then linear * GELU(linear), then linear: two thirds as wide inside as four times the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = dim * 8 // 3
        self.norm = nn.LayerNorm(dim)
        self.in_proj = nn.Linear(dim, 2 * hidden, bias=False)
        self.out_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        value, gate = self.in_proj(self.norm(x)).chunk(2, dim=-1)
        return self.out_proj(value * F.gelu(gate))


class LocalTransformer(nn.Module):
    """[B, D, T] -> [B, D, T]. Block by block as ops/streaming.py says."""

    def __init__(self, config: LocalAttentionConfig) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(LocalAttention(config) for _ in range(config.depth))
        self.feedforwards = nn.ModuleList(GEGLU(config.dim) for _ in range(config.depth))

    def forward(self, signal: Tensor) -> Tensor:
        return self.stream(signal, None, True)[0]

    def stream(self, signal: Tensor, state: list[Past] | None, last: bool) -> tuple[Tensor, list[Past] | None]:
        """State: what each layer needs of the past."""
        if not signal.shape[-1]:
            return signal, state
        x, states = signal.transpose(1, 2), []
        pasts = state or itertools.repeat(None)
        for attention, feedforward, past in zip(self.attentions, self.feedforwards, pasts, strict=False):
            gathered, past = attention(x, past)
            states.append(past)
            x = x + gathered
            x = x + feedforward(x)
        return x.transpose(1, 2), states
