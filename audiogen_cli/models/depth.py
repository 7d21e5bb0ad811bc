"""AudioLM's second and third stage in one: a transformer over frames, and a small one over the levels of each frame
(RQ-Transformer, 2203.01941; MegaByte, 2305.07185; UniAudio, 2310.00704; Moshi, 2410.00037, section 3.4).

    [start] s s s .. [start] F0 F1 ..       --temporal--> h0 h1 h2 ..         F_t: the sum of frame t's Q embeddings
    frame t:   [start] c0 c1 .. c(Q-2)      --depth-----> c0 c1 .. c(Q-1)     W_k h_t is added where level k is made

A second of sound costs `frame rate` steps of the large model and Q times as many of the small one; flattened, every
code is a step of the large one. To whoever calls, nothing is different: this is a Stage, its ids are flattened ones,
and the logits of an id know all ids before it.

The projections W_k, the tables and the heads are each level's own. The depth transformer itself is shared by all
levels, as in RQ-Transformer; Moshi gives each its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.models.audiolm import Piece, Stage, StageCache, StageConfig
from audiogen_cli.ops.attention import KVCache, Linear
from audiogen_cli.ops.ids import PADDING
from audiogen_cli.ops.relative import Places
from audiogen_cli.ops.transformer import Transformer, TransformerConfig, gaussian


@dataclass(frozen=True)
class DepthConfig(StageConfig):
    """A coarse stage that makes all codebooks. depth_dim .. depth_heads: of the transformer within a frame."""

    depth_dim: int = 256
    depth_layers: int = 2
    depth_heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth_dim % self.depth_heads:
            raise ValueError(f"depth_dim {self.depth_dim} must be a multiple of depth_heads {self.depth_heads}")
        if self.stage != "coarse":
            raise ValueError(f"a transformer over levels is a coarse stage, not a {self.stage} one; change stage")


class DepthCache(StageCache):
    """Besides what a StageCache holds, the frame in progress: its state [B, D], its ids so far [B, fewer than Q], and
    what the depth transformer has read of it."""

    def __init__(self, keys: KVCache, levels: KVCache) -> None:
        super().__init__(keys)
        self.levels = levels
        self.state: Tensor | None = None
        self.held: Tensor | None = None


class DepthStage(Stage):
    config: DepthConfig

    def __init__(self, config: DepthConfig) -> None:
        super().__init__(config)
        dim, target = config.depth_dim, config.target
        shape = TransformerConfig(
            dim, config.depth_layers, config.depth_heads, config.hidden_scale, False, config.dropout
        )
        self.depth = Transformer(shape)
        self.level_start = nn.Parameter(torch.empty(dim))
        self.level_table = nn.Embedding((target.num_levels - 1) * target.codebook_size, dim)
        self.inward = nn.ModuleList(Linear(config.dim, dim) for _ in range(target.num_levels))
        self.level_norm = nn.LayerNorm(dim, eps=1e-5)
        classes = [self._classes(self._last, level) for level in range(target.num_levels)]
        self.heads[-1] = nn.ModuleList(Linear(dim, count, bias=False) for count in classes)
        self._init_levels()

    def forward(
        self,
        blocks: Sequence[Tensor],
        condition: Condition | None = None,
        cache: StageCache | None = None,
        forgotten: Tensor | None = None,
    ) -> list[Tensor]:
        """As Stage.forward. A frame is forgotten where its first id is."""
        if forgotten is not None:
            length = blocks[-1].shape[1]
            *others, last = forgotten.split([*(ids.shape[1] + 1 for ids in blocks[:-1]), length + 1], dim=1)
            whole = last[:, 1 :: self._num_levels][:, : length // self._num_levels]
            forgotten = torch.cat([*others, last[:, :1], whole], dim=1)
        return super().forward(blocks, condition, cache, forgotten)

    def more(self, ids: Tensor, cache: StageCache, condition: Condition | None = None) -> Tensor:
        """As Stage.more. The large transformer reads a frame when it is whole."""
        assert isinstance(cache, DepthCache) and cache.state is not None and cache.held is not None
        room = self._num_levels - cache.held.shape[1]
        if ids.shape[1] > room:
            return torch.cat([self.more(part, cache, condition) for part in (ids[:, :room], ids[:, room:])], dim=1)
        cache.held = torch.cat([cache.held, ids], dim=1)
        if ids.shape[1] < room:
            cache.read += ids.shape[1]
            return self._within(cache.state, ids, cache.levels)
        before = self._within(cache.state, ids[:, :-1], cache.levels) if ids.shape[1] > 1 else None
        frame = Piece(self._last, cache.read // self._num_levels * self._num_levels, cache.held, False)
        [state] = self._states([frame], condition, cache)
        after = self._begun(state[:, -1], ids[:, :0], cache)
        return after if before is None else torch.cat([before, after], dim=1)

    def cache(self, batch: int, lengths: Sequence[int], rows: int | None = None) -> StageCache:
        keys = super().cache(batch, [*lengths[:-1], lengths[-1] // self._num_levels], rows).keys
        return DepthCache(keys, self.depth.cache(batch, self._num_levels, rows))

    @property
    def _num_levels(self) -> int:
        return self.config.target.num_levels

    def _begun(self, state: Tensor, ids: Tensor, cache: DepthCache) -> Tensor:
        """A new frame of `state` [B, D] of which `ids` [B, n] are known -> logits [B, n + 1, classes]."""
        cache.state, cache.held, cache.levels.length = state, ids, 0
        return self._within(state, ids, cache.levels)

    def _within(self, state: Tensor, ids: Tensor, cache: KVCache | None) -> Tensor:
        """The next ids [B, n] of a frame of `state` [B, D] -> logits of what follows each, after the start if that has
        not been read yet."""
        first, rows = (0, None) if cache is None else (cache.length, cache.rows)
        before = torch.arange(ids.shape[1], device=ids.device) + max(first, 1) - 1  # the levels of `ids`
        x: Tensor = self.level_table(ids.clamp_min(0) + before * self.config.target.codebook_size)
        if not first:
            x = torch.cat([self.level_start.expand(len(x), 1, -1), x], dim=1)
        levels = range(first, first + x.shape[1])
        x = x + torch.stack([self.inward[level](state, rows) for level in levels], dim=1)
        x = self.level_norm(self.depth(x, cache=cache))
        heads: Any = self.heads[-1]
        logits = x.new_full((*x.shape[:2], self._classes(self._last, 0)), -torch.inf)
        for place, level in enumerate(levels):
            logits[:, place, : heads[level].out_features] = heads[level](x[:, place], rows).to(logits.dtype)
        return logits

    def _embedded(self, piece: Piece) -> Tensor:
        """A frame is the sum of its levels."""
        if piece.block != self._last:
            return super()._embedded(piece)
        x = super()._embedded(piece._replace(ids=self._whole(piece), begins=False))
        x = x.unflatten(1, (-1, self._num_levels)).sum(dim=2)
        start = self.starts[piece.block].expand(len(x), 1, -1)
        return torch.cat([start, x], dim=1) if piece.begins else x

    def _places(self, piece: Piece) -> Places:
        places = super()._places(piece)
        if piece.block != self._last:
            return places
        whole = self._whole(piece).shape[1] + piece.begins
        kept = torch.arange(int(piece.begins), whole, self._num_levels, device=piece.ids.device)
        kept = F.pad(kept, (1, 0)) if piece.begins else kept
        return Places(*(part[kept] for part in places))

    def _hidden(self, piece: Piece) -> Tensor:
        if piece.block == self._last:
            piece = piece._replace(ids=self._whole(piece)[:, :: self._num_levels])
        return super()._hidden(piece)

    def _whole(self, piece: Piece) -> Tensor:
        return piece.ids[:, : piece.ids.shape[1] // self._num_levels * self._num_levels]

    def _logits(self, piece: Piece, x: Tensor, cache: StageCache | None) -> Tensor:
        """All frames of the last block at once, [B frames, Q, D]; the frame in progress is left in the cache."""
        if piece.block != self._last:
            return super()._logits(piece, x, cache)
        batch, frames = x.shape[:2]
        length, rows = piece.ids.shape[1], None if cache is None else cache.keys.rows
        ids = F.pad(piece.ids, (0, frames * self._num_levels - length), value=PADDING)
        known = ids.unflatten(1, (frames, -1))[..., :-1].flatten(0, 1)
        levels = None if rows is None else self.depth.cache(len(known), self._num_levels, rows * frames)
        logits = self._within(x.flatten(0, 1), known, levels).unflatten(0, (batch, frames)).flatten(1, 2)
        if isinstance(cache, DepthCache):
            self._begun(x[:, -1], piece.ids[:, (frames - 1) * self._num_levels :], cache)
        return logits[:, : length + 1]

    @torch.no_grad()
    def _init_levels(self) -> None:
        """The sum of a frame's embeddings has the size of one elsewhere."""
        gaussian(self.tables[-1].weight, self._num_levels, scale=0.7)  # type: ignore[arg-type]
        for parameter in (self.level_start, self.level_table.weight):
            gaussian(parameter, 1, scale=0.7)
        inward: Any = self.inward
        for linear in inward:
            gaussian(linear.weight, self.config.dim, scale=0.7)
            linear.bias.zero_()
        heads: Any = self.heads[-1]
        for head in heads:
            gaussian(head.weight, self.config.depth_dim)
