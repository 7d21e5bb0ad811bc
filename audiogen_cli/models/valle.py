"""Neural Codec Language Models are Zero-Shot Text to Speech Synthesizers (VALL-E, 2301.02111).

    first   [start] x x x .. [start] c c c ..   -> c c c .. end       the first codebook, one code after the other
    rest    x x x .. | F F F .. | f f f ..      -> level k of f ..    codebook k, all frames at once

x are symbols of a text, that of a voice's recording before that of the new speech; F are the recording's frames, each
the sum of the embeddings of all its codes, and f the new frames, the sum of those of their codebooks before k. `first`
is a stage of AudioLM's (models/audiolm.py) whose prefix, the text, sees all of itself. `rest` is one network for all
codebooks: which one it is to find, it hears through its norms (ops/adaptive.py).

Where this leaves the paper: positions are rotary, and a symbol stands where it is usually said, so that a text and its
speech run side by side from the start; both networks are trained at once, for they share no weights; codes may begin as
projections of the codec's own vectors (`begin_with`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.conditioners.symbols import Symbols
from audiogen_cli.models.audiolm import Block, Piece, Stage, StageConfig, stage_loss
from audiogen_cli.ops.adaptive import AdaptiveNorm
from audiogen_cli.ops.attention import Rotary
from audiogen_cli.ops.ids import PADDING
from audiogen_cli.ops.relative import Places
from audiogen_cli.ops.transformer import Transformer, TransformerConfig, gaussian


@dataclass(frozen=True)
class Pace:
    """Frames that a symbol takes in the quickest, the usual and the slowest of the recordings learnt from.

    each: how many times as long as the mean one each symbol usually lasts; () is all alike. It is a symbol of that
    mean length that `quickest` and the others are about.
    """

    quickest: float = 1.0
    usual: float = 4.0
    slowest: float = 16.0
    each: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.quickest <= self.usual <= self.slowest:
            raise ValueError("the paces must be positive, the quickest first and the slowest last; correct them")
        if min(self.each, default=1.0) <= 0:
            raise ValueError("every symbol must last some time; correct the paces")

    def lengths(self, text: Tensor) -> Tensor:
        """text [..., L], padded with -1 -> how many mean symbols each one lasts, 0 for padding."""
        known = (text != PADDING).float()
        if not self.each:
            return known
        return known * torch.tensor(self.each, device=text.device)[text.clamp_min(0)]

    def begins(self, text: Tensor) -> Tensor:
        """text [..., L] -> the frame at which each symbol usually begins."""
        lengths = self.lengths(text)
        return (lengths.cumsum(dim=-1) - lengths) * self.usual


@dataclass(frozen=True)
class VallEConfig:
    """The sizes are those of each of the two networks.

    window_seconds: the longest speech it was trained on; prompt_seconds: the longest stretch of it that stood for a
    voice. codec: whose codes these are (Codec.fingerprint).
    """

    num_codebooks: int
    codebook_size: int
    dim: int
    num_layers: int
    num_heads: int = 8
    kv_heads: int | None = None
    hidden_scale: int = 4
    dropout: float = 0.0
    symbols: Symbols = field(default_factory=Symbols)
    pace: Pace = field(default_factory=Pace)
    window_seconds: float = 20.0
    prompt_seconds: float = 3.0
    frame_rate: float = 50.0
    codec: str = ""

    def __post_init__(self) -> None:
        if self.num_codebooks < 2:
            raise ValueError("VALL-E makes one codebook and then the others; give it 2 or more")
        self.first()  # which refuses widths that do not fit

    @property
    def window_frames(self) -> int:
        return max(1, round(self.window_seconds * self.frame_rate))

    def frames(self, text: Tensor) -> float:
        """How many a text [L] usually takes."""
        return float(self.pace.lengths(text).sum()) * self.pace.usual

    def limits(self, text: Tensor) -> tuple[int, int]:
        """The fewest and the most frames that a text [L] can take: half as much again either way as was met."""
        length = float(self.pace.lengths(text).sum())
        return int(length * self.pace.quickest / 1.5), 1 + int(length * self.pace.slowest * 1.5)

    def first(self) -> StageConfig:
        """The network of the first codebook."""
        text = Block("text", self.symbols.size)
        return StageConfig(
            "speech",
            (text, Block("acoustic", self.codebook_size)),
            dim=self.dim,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            kv_heads=self.kv_heads,
            hidden_scale=self.hidden_scale,
            positions="rope",
            dropout=self.dropout,
            value_residual=False,
            residual_streams=1,
            gradient_shrink=1.0,
            forget=0.0,
            unique_consecutive=False,
            prefix_weight=0.0,
            window_seconds=self.window_seconds,
            open_prefix=True,
            codec=self.codec,
        )

    def rest(self) -> TransformerConfig:
        """The network of the others."""
        return TransformerConfig(
            dim=self.dim,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            hidden_scale=self.hidden_scale,
            cross_attention=False,
            dropout=self.dropout,
            kv_heads=self.kv_heads,
            adaptive=True,
        )


class First(Stage):
    """The first codebook. A symbol of the text stands where it is usually said."""

    def __init__(self, config: StageConfig, pace: Pace) -> None:
        super().__init__(config)
        self.pace = pace

    def _position(self, piece: Piece, places: Places) -> Tensor:
        """[B, S]."""
        if piece.block == self._last:
            return super()._position(piece, places).expand(len(piece.ids), -1)
        return F.pad(1 + self.pace.begins(piece.ids), (int(piece.begins), 0))


class Frames(NamedTuple):
    """What `Rest` hears. codes: [B, K, T], padded with -1 in all codebooks; prompt: [B], how many frames of a row are
    a voice's own, at its start; level: [B], the codebook to find, 1 .. K - 1, of the frames after them."""

    codes: Tensor
    prompt: Tensor
    level: Tensor

    @property
    def wanted(self) -> Tensor:
        """The codes to find, [B, T], and -1 where there are none."""
        found = self.codes.gather(1, self.level[:, None, None].expand(-1, 1, self.codes.shape[2]))[:, 0]
        return found.masked_fill(self._spoken, PADDING)

    @property
    def _spoken(self) -> Tensor:
        return torch.arange(self.codes.shape[2], device=self.codes.device) < self.prompt[:, None]  # [B, T]

    def known(self, codebook: int) -> Tensor:
        """Bool [B, T]: where the codes of a codebook are heard."""
        return (self._spoken | (codebook < self.level)[:, None]) & (self.codes[:, codebook] != PADDING)


class Rest(nn.Module):
    """Codebook k of all frames from the text, the codebooks before k and a voice (section 4.2.2): full attention.

    What finds the codes of a codebook is the table that they are read with: "the weights of the j-th prediction layer
    are the same as the (j+1)-th acoustic embedding layer", for the first layer finds the second codebook.
    """

    def __init__(self, config: VallEConfig) -> None:
        super().__init__()
        self.config = config
        size = config.codebook_size
        self.text = nn.Embedding(config.symbols.size, config.dim)
        self.codes = nn.Embedding(config.num_codebooks * size, config.dim)
        self.levels = nn.Embedding(config.num_codebooks - 1, config.dim)
        self.transformer = Transformer(config.rest())
        self.out_norm = AdaptiveNorm(config.dim)
        with torch.no_grad():
            gaussian(self.text.weight, 1, scale=0.7)
            gaussian(self.codes.weight, config.num_codebooks, scale=0.7)
            gaussian(self.levels.weight, 1)

    def forward(self, text: Tensor, frames: Frames) -> Tensor:
        """text [B, L], padded with -1 -> logits [B, T, V] of the codebook that each row asks for."""
        hidden = torch.cat([text == PADDING, frames.codes[:, 0] == PADDING], dim=1)  # [B, L + T]
        x = torch.cat([self.text(text.clamp_min(0)), self._heard(frames)], dim=1)
        x = x * ~hidden[..., None]
        setting = self.levels(frames.level - 1)  # [B, D]
        rotary = self._rotary(text, frames.codes.shape[2], x)
        x = self.transformer(x, hidden=hidden, rotary=rotary, shared=x.shape[1], setting=setting)
        x = self.out_norm(x[:, text.shape[1] :], setting)
        tables = self.codes.weight.view(self.config.num_codebooks, -1, self.config.dim)[frames.level]  # [B, V, D]
        return x @ tables.transpose(1, 2) / self.config.dim**0.5

    def _heard(self, frames: Frames) -> Tensor:
        """[B, T, D]: the sum of the embeddings of the codes that are known."""
        heard = torch.zeros((), device=frames.codes.device)
        for level in range(self.config.num_codebooks):
            ids = frames.codes[:, level].clamp_min(0) + level * self.config.codebook_size
            heard = heard + self.codes(ids) * frames.known(level)[..., None]
        return heard

    def _rotary(self, text: Tensor, num_frames: int, like: Tensor) -> Rotary:
        """The text and the speech count from 0, in frames."""
        frames = torch.arange(num_frames, device=like.device).float().expand(len(text), -1)
        position = torch.cat([self.config.pace.begins(text), frames], dim=1)  # [B, L + T]
        return Rotary(position, self.config.dim // self.config.num_heads, like)


class VallE(nn.Module):
    """Both networks. Raises ValueError, from its configuration, for sizes that do not fit."""

    def __init__(self, config: VallEConfig) -> None:
        super().__init__()
        self.config = config
        self.first = First(config.first(), config.pace)
        self.rest = Rest(config)

    def forward(self, text: Tensor, first: Tensor, frames: Frames) -> tuple[list[Tensor], Tensor]:
        """text [B, L] and codes [B, T] of the first codebook, both padded with -1 -> the logits of `first` for both,
        and of `rest` for `frames`, which need not be the same frames."""
        return self.first([text, first]), self.rest(text, frames)

    @torch.no_grad()
    def begin_with(self, vectors: Tensor) -> None:
        """Lets codes begin as what they stand for: tables and head become random projections of vectors [K, V, D].

        A code that is near another then begins near it, and what is learnt of one is learnt of both, which counts where
        a thousand codes are to be learnt from an hour. The sizes of the weights stay what they are.
        """
        size = self.config.codebook_size
        generator = torch.Generator().manual_seed(0)
        project = torch.randn(vectors.shape[2], self.config.dim, generator=generator)
        tables = self.rest.codes.weight.view(self.config.num_codebooks, size, -1)
        for level, own in enumerate(vectors[: self.config.num_codebooks].float()):
            placed = (own - own.mean(dim=0)) @ project.to(own)
            placed = placed / placed.std().clamp_min(1e-8)
            tables[level] = placed * tables[level].std()
            if not level:
                first: Any = self.first
                for begun in (first.tables[1].weight, first.heads[1][0].weight):
                    begun[:size] = placed * begun.std()


class VallELoss(NamedTuple):
    """Cross-entropy in nats per code. mean: scalar, of both networks; first: codes of the first codebook and the end;
    rest: of the codebook that was asked for."""

    mean: Tensor
    first: Tensor
    rest: Tensor


def valle_loss(
    forward: Callable[[Tensor, Tensor, Frames], tuple[list[Tensor], Tensor]],
    config: VallEConfig,
    text: Tensor,
    first: Tensor,
    frames: Frames,
) -> VallELoss:
    """Of whole utterances: each row of `first` really ends. `forward` is a model, perhaps wrapped."""
    spoken, found = forward(text, first, frames)
    ends = torch.ones(len(text), dtype=torch.bool, device=text.device)
    loss = stage_loss(lambda *_: spoken, config.first(), [text, first], ends, training=False).mean
    wanted = frames.wanted
    rest = F.cross_entropy(found.float().flatten(0, 1), wanted.flatten(), ignore_index=PADDING, reduction="sum")
    rest = rest / (wanted != PADDING).sum().clamp_min(1)
    return VallELoss((loss + rest) / 2, loss, rest)
