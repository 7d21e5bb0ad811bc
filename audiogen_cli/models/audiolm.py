"""AudioLM (2209.03143): three stages, which are three configurations of one token language model.

    semantic   [start] s s s ..                     -> s s s .. end
    coarse     [start] s s s .. [start] c c c ..    -> c c c .. end     the first codebooks, frame by frame
    fine       [start] c c c .. [start] f f f ..    -> f f f ..         the others; as many frames as are given

A sequence is made of blocks. The ids of a block with Q levels are flattened time-major, level-minor: (t0, q0),
(t0, q1), ..; every level has rows of its own in the block's table, and a head of its own, so that no two ids can
collide. The end is a class of the last block's first level only: a sound ends between frames, never within one. No end
is ever read.

Ids of -1 are padding: the zero vector, seen by nobody. Every block counts its own time, so that padding one moves
nothing in the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.ops.attention import KVCache, Linear, Memory, Rotary
from audiogen_cli.ops.ids import PADDING
from audiogen_cli.ops.relative import START, Places, RelativeBias
from audiogen_cli.ops.transformer import Transformer, TransformerConfig, gaussian

_AXES = {"semantic": 0, "text": 0, "acoustic": 1}
TEXT_DIM = 512
"""The width of the bundled text encoder, FLAN-T5 small."""


@dataclass(frozen=True)
class Block:
    """A stretch of ids. axis: which time its frames count; first_level: where its levels stand in a frame. num_groups:
    of the codec, see models/codec.py: the levels count the codebooks of all groups.

    time_scale: how many frames of the last block one of its own lasts, where that is known (rotary positions use it).
    """

    axis: Literal["semantic", "text", "acoustic"]
    codebook_size: int
    num_levels: int = 1
    first_level: int = 0
    time_scale: float = 1.0
    num_groups: int = 1


@dataclass(frozen=True)
class StageConfig:
    """One stage.

    conditioning: text by cross-attention, as keys and values in front of every self-attention ("prefix"), or none.
    condition_dropout: the share of examples that lose their text in training. kv_heads 1 is multi-query attention.
    gradient_shrink: the share of the gradient that reaches the embeddings (GLM-130B, 2210.02414); 1 is all.
    forget: keys are hidden in training at a rate between 0 and this (forgetful causal masking, 2210.13432).
    unique_consecutive: whether repeated semantic ids are removed; weights trained one way are wrong the other way.
    prefix_weight: of the cross-entropy of the blocks before the last. semantic, codec: whose ids these are.
    open_prefix: the blocks before the last see all of each other, and not only what comes before; such a prefix is
    given and cannot be learnt to be said, so that prefix_weight is 0.
    """

    stage: Literal["semantic", "coarse", "fine", "speech"]
    blocks: tuple[Block, ...]
    dim: int
    num_layers: int
    num_heads: int = 8
    head_dim: int | None = None
    kv_heads: int | None = 1
    hidden_scale: int = 4
    conditioning: Literal["none", "cross", "prefix"] = "none"
    condition_dim: int = TEXT_DIM
    condition_dropout: float = 0.5
    text: str = ""
    positions: Literal["relative", "rope"] = "relative"
    dropout: float = 0.0
    value_residual: bool = True
    residual_streams: int = 4
    gradient_shrink: float = 0.1
    forget: float = 0.15
    unique_consecutive: bool = True
    prefix_weight: float = 1.0
    window_seconds: float = 10.0
    open_prefix: bool = False
    semantic: str = ""
    codec: str = ""

    def __post_init__(self) -> None:
        width = self.head_dim or self.dim // self.num_heads
        if (self.head_dim is None and self.dim % self.num_heads) or width % 2:
            raise ValueError(f"dim {self.dim} must give each of {self.num_heads} heads the same even width; change one")
        if not self.blocks or self.num_heads % (self.kv_heads or self.num_heads):
            raise ValueError("a stage needs a block, and num_heads must be a multiple of kv_heads; correct them")
        if self.open_prefix and self.prefix_weight:
            raise ValueError("a prefix that sees its own future cannot be predicted; set prefix_weight to 0")
        if any(block.num_levels % block.num_groups or block.first_level % block.num_groups for block in self.blocks):
            raise ValueError("every block must hold as many codebooks of each group; change their number")

    @property
    def target(self) -> Block:
        """What the stage makes."""
        return self.blocks[-1]

    @property
    def end(self) -> int | None:
        """The class of the end; the fine stage has none."""
        return None if self.stage == "fine" else self.target.codebook_size

    def transformer(self) -> TransformerConfig:
        return TransformerConfig(
            dim=self.dim,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            hidden_scale=self.hidden_scale,
            cross_attention=self.conditioning == "cross",
            dropout=self.dropout,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            prefix_attention=self.conditioning == "prefix",
            value_residual=self.value_residual,
            residual_streams=self.residual_streams,
        )


class StageCache:
    """A KVCache, where the tokens in it stand, and which nobody sees, bool [B, S]. read: tokens of the last block."""

    def __init__(self, keys: KVCache) -> None:
        self.keys = keys
        self.places: Places | None = None
        self.hidden: Tensor | None = None
        self.read = 0


class Piece(NamedTuple):
    """ids [B, n] of block `block`, of which `first` were read before; with its start token before the first."""

    block: int
    first: int
    ids: Tensor
    begins: bool


class Stage(nn.Module):
    """The conditioned token language model."""

    def __init__(self, config: StageConfig) -> None:
        super().__init__()
        self.config = config
        dim, last = config.dim, len(config.blocks) - 1
        self.tables = nn.ModuleList(nn.Embedding(b.num_levels * b.codebook_size, dim) for b in config.blocks)
        self.starts = nn.Parameter(torch.empty(len(config.blocks), dim))
        if config.conditioning != "none":
            self.condition_proj = Linear(config.condition_dim, dim)
        self.transformer = Transformer(config.transformer())
        if config.positions == "relative":
            grouped = any(block.num_groups > 1 for block in config.blocks)
            self.relative = RelativeBias(dim, config.num_heads, grouped)
        self.out_norm = nn.LayerNorm(dim, eps=1e-5)
        self.heads = nn.ModuleList(
            nn.ModuleList(Linear(dim, self._classes(number, level), bias=False) for level in range(block.num_levels))
            for number, block in enumerate(config.blocks)
        )
        self._last = last
        self._init_weights()

    def forward(
        self,
        blocks: Sequence[Tensor],
        condition: Condition | None = None,
        cache: StageCache | None = None,
        forgotten: Tensor | None = None,
    ) -> list[Tensor]:
        """ids [B, n] of every block -> logits [B, n + 1, classes] of every block: what follows the start and each id.

        Impossible classes are -inf. With an empty cache, what is read can be gone on from with `more`. forgotten: bool
        [B, all n + 1], keys to hide; see `forget`.
        """
        pieces = [Piece(number, 0, ids, True) for number, ids in enumerate(blocks)]
        return self._run(pieces, condition, cache, forgotten)

    def more(self, ids: Tensor, cache: StageCache, condition: Condition | None = None) -> Tensor:
        """The next ids [B, n] of the last block -> logits [B, n, classes] of what follows each."""
        return self._run([Piece(self._last, cache.read, ids, False)], condition, cache)[0]

    def cut(self, cache: StageCache, length: int) -> None:
        """Leaves the first `length` ids of the last block in the cache."""
        extra = cache.read - length
        if extra and cache.places is not None and cache.hidden is not None:
            cache.places, cache.hidden = Places(*(part[:-extra] for part in cache.places)), cache.hidden[:, :-extra]
            cache.keys.length, cache.read = cache.keys.length - extra, length

    def cache(self, batch: int, lengths: Sequence[int], rows: int | None = None) -> StageCache:
        """An empty cache for so many ids of every block. rows: see ops.attention.Linear."""
        return StageCache(self.transformer.cache(batch, sum(lengths) + len(lengths), rows))

    def _run(
        self,
        pieces: Sequence[Piece],
        condition: Condition | None,
        cache: StageCache | None,
        forgotten: Tensor | None = None,
    ) -> list[Tensor]:
        states = self._states(pieces, condition, cache, forgotten)
        return [self._logits(piece, x, cache) for piece, x in zip(pieces, states, strict=True)]

    def _states(
        self,
        pieces: Sequence[Piece],
        condition: Condition | None,
        cache: StageCache | None,
        forgotten: Tensor | None = None,
    ) -> list[Tensor]:
        """What the transformer makes of each piece, [B, its tokens, D]."""
        keys = None if cache is None else cache.keys
        x = self._shrunk(torch.cat([self._embedded(piece) for piece in pieces], dim=1))  # [B, S, D]
        places = [self._places(piece) for piece in pieces]
        query = Places.cat(places)
        hidden = torch.cat([self._hidden(piece) for piece in pieces], dim=1)
        if forgotten is not None:
            hidden = hidden | forgotten
        place = query
        if cache is not None:
            place = query if cache.places is None else Places.cat([cache.places, query])
            hidden = hidden if cache.hidden is None else torch.cat([cache.hidden, hidden], dim=1)
            cache.places, cache.hidden = place, hidden
            cache.read = pieces[-1].first + pieces[-1].ids.shape[1]
        relative = self.relative(query, place).to(x.dtype) if self.config.positions == "relative" else None
        memory = self._memory(condition, keys, x)
        seen = hidden if bool(hidden.any()) else None
        lengths = [len(place.frame) for place in places]
        shared = sum(lengths[:-1]) if self.config.open_prefix else 0
        rotary = self._rotary(pieces, places, x) if self.config.positions == "rope" else None
        x = self.out_norm(self.transformer(x, memory, keys, seen, rotary, relative, shared))
        return list(x.split(lengths, dim=1))

    def _embedded(self, piece: Piece) -> Tensor:
        """[B, n (+ 1), D]."""
        table, block = self.tables[piece.block], self.config.blocks[piece.block]
        level = self._levels(piece)
        x: Tensor = table(piece.ids.clamp_min(0) + level * block.codebook_size)
        x = x * (piece.ids != PADDING)[..., None].to(x.dtype)
        start = self.starts[piece.block].expand(len(x), 1, -1)
        return torch.cat([start, x], dim=1) if piece.begins else x

    def _levels(self, piece: Piece) -> Tensor:
        count = torch.arange(piece.first, piece.first + piece.ids.shape[1], device=piece.ids.device)
        return count % self.config.blocks[piece.block].num_levels

    def _places(self, piece: Piece) -> Places:
        block = self.config.blocks[piece.block]
        count = torch.arange(piece.first, piece.first + piece.ids.shape[1], device=piece.ids.device)
        axis = torch.full_like(count, _AXES[block.axis])
        level = block.first_level + count % block.num_levels
        places = Places(axis, count // block.num_levels, level // block.num_groups, level % block.num_groups)
        zero = count.new_zeros(1)
        return Places.cat([Places(zero + START, zero, zero, zero), places]) if piece.begins else places

    def _hidden(self, piece: Piece) -> Tensor:
        hidden = piece.ids == PADDING
        return F.pad(hidden, (1, 0)) if piece.begins else hidden

    def _rotary(self, pieces: Sequence[Piece], places: Sequence[Places], like: Tensor) -> Rotary:
        positions = [self._position(*pair) for pair in zip(pieces, places, strict=True)]
        return Rotary(
            torch.cat(positions, dim=-1), self.config.head_dim or self.config.dim // self.config.num_heads, like
        )

    def _position(self, piece: Piece, places: Places) -> Tensor:
        """Where a piece's tokens stand, in frames of the last block, [S] or [B, S]: starts at 0, frame t at 1 + t."""
        position = 1 + places.frame * self.config.blocks[piece.block].time_scale
        return torch.where(places.axis == START, 0.0, position)

    def _shrunk(self, x: Tensor) -> Tensor:
        share = self.config.gradient_shrink
        return x if share == 1 else x * share + x.detach() * (1 - share)

    def _memory(self, condition: Condition | None, keys: KVCache | None, like: Tensor) -> list[Memory] | None:
        """Cross-attention reads a zero row, "nothing", before the text; without text it is all there is. A prefix of
        which nothing may be seen leaves the tokens themselves."""
        if self.config.conditioning == "none" or (condition is None and self.config.conditioning == "prefix"):
            return None
        if keys is not None and keys.memory is not None:
            return keys.memory
        rows = None if keys is None else keys.rows
        heard = like.new_zeros(len(like), int(self.config.conditioning == "cross"), like.shape[2])
        seen = torch.ones(len(like), heard.shape[1], dtype=torch.bool, device=like.device)
        if condition is not None:
            text = self.condition_proj(condition.embedding.to(self.out_norm.weight.dtype), rows)
            heard = torch.cat([heard, text * condition.mask[..., None].to(text.dtype)], dim=1)
            seen = torch.cat([seen, condition.mask], dim=1)
        bias = like.new_zeros(len(like), 1, 1, seen.shape[1]).masked_fill_(~seen[:, None, None], -torch.inf)
        memory = self.transformer.remember(heard, bias, rows)
        if keys is not None:
            keys.memory = memory
        return memory

    def _classes(self, number: int, level: int) -> int:
        ends = self.config.end is not None and number == len(self.config.blocks) - 1 and level == 0
        return self.config.blocks[number].codebook_size + ends

    def _logits(self, piece: Piece, x: Tensor, cache: StageCache | None) -> Tensor:
        """What follows state i is of the level that i has, counted from the start token."""
        rows = None if cache is None else cache.keys.rows
        heads: Any = self.heads[piece.block]
        first = piece.first + (0 if piece.begins else 1)
        logits = x.new_full((*x.shape[:2], self._classes(piece.block, 0)), -torch.inf)
        for level, head in enumerate(heads):
            places = slice((level - first) % len(heads), None, len(heads))
            if x[:, places].shape[1]:
                logits[:, places, : head.out_features] = head(x[:, places], rows).to(logits.dtype)
        return logits

    @torch.no_grad()
    def _init_weights(self) -> None:
        for table in self.tables:
            gaussian(table.weight, 1, scale=0.7)  # type: ignore[arg-type]
        gaussian(self.starts, 1, scale=0.7)
        for head in (head for heads in self.heads for head in heads):  # type: ignore[attr-defined]
            gaussian(head.weight, self.config.dim)
        if self.config.conditioning != "none":
            gaussian(self.condition_proj.weight, self.config.condition_dim)
            self.condition_proj.bias.zero_()


def forget(blocks: Sequence[Tensor], most: float) -> Tensor:
    """bool [B, all n + 1]: keys hidden at a rate drawn for each row from 0 .. `most`; start tokens never are."""
    parts = []
    rate = most * torch.rand(len(blocks[0]), 1, device=blocks[0].device)
    for ids in blocks:
        parts.append(F.pad(torch.rand(ids.shape, device=ids.device) < rate, (1, 0)))
    return torch.cat(parts, dim=1)


class StageLoss(NamedTuple):
    """Cross-entropy in nats per id. mean: of all blocks, weighted; target: of the last block alone."""

    mean: Tensor
    target: Tensor


def stage_loss(
    forward: Any,
    config: StageConfig,
    blocks: Sequence[Tensor],
    ends: Tensor,
    condition: Condition | None = None,
    training: bool = True,
) -> StageLoss:
    """Cross-entropy of every id given those before it, and of the end where a row's sound really ends.

    blocks: ids [B, n] each, padded with -1; ends: bool [B]. The last position of a row that is cut from a longer sound
    counts for nothing: what would follow is not known. `forward` is a stage, perhaps wrapped; `training` forgets keys.
    """
    forgotten = forget(blocks, config.forget) if training and config.forget else None
    total = torch.zeros((), device=blocks[0].device)
    count, target = torch.zeros_like(total), torch.zeros_like(total)
    for number, logits in enumerate(forward(blocks, condition, None, forgotten)):
        last = number == len(config.blocks) - 1
        wanted = F.pad(blocks[number], (0, 1), value=PADDING)
        if last and config.end is not None:
            wanted = _with_end(wanted, ends, config.end, config.target.num_levels)
        weight = 1.0 if last else config.prefix_weight
        loss = F.cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), ignore_index=PADDING, reduction="sum")
        known = (wanted != PADDING).sum()
        total, count = total + weight * loss, count + weight * known
        target = loss / known.clamp_min(1)
    return StageLoss(total / count.clamp_min(1), target)


def _with_end(wanted: Tensor, ends: Tensor, end: int, num_levels: int) -> Tensor:
    """The end after the last id of the rows that end, if that is a whole frame."""
    length = (wanted != PADDING).sum(dim=1)
    legal = ends & (length % num_levels == 0)
    return torch.where(
        legal[:, None] & (torch.arange(wanted.shape[1], device=wanted.device) == length[:, None]), end, wanted
    )
