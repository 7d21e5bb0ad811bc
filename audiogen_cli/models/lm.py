"""Simple and Controllable Music Generation (MusicGen, 2306.05284) and AudioGen (2209.15352): one language model over K
streams of codes.

    steps [B, K, S] --K embeddings, summed--> [B, S, D] --transformer(condition)--> --K heads--> logits [B, K, S, V]

A step holds one id per codebook, or the special id V where the pattern (ops/patterns.py) puts no code. Step 0 of the
input is all special; the logits of input step s predict step s + 1. There is no loop, temperature or guidance here:
models/decoding.py has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.ops import patterns
from audiogen_cli.ops.attention import KVCache, Linear, Memory, Rotary
from audiogen_cli.ops.transformer import Transformer, TransformerConfig, gaussian, sinusoids


@dataclass(frozen=True)
class LMConfig:
    """Sizes and choices of one language model.

    delays: of the delay pattern, one per codebook; None is 0, 1, 2, ..
    conditioning: "cross" attends to the condition, "prefix" puts it before the first step, "none" has no condition.
    padding: "masked" hides the padding of a condition; "audiocraft" lets it be attended as zero vectors, as the weights
        of AudioCraft were trained.
    melody_dim, melody_frames: of a model that also hears a melody, its chroma bins and how many frames of them stand
        before the text (MusicGen, section 2.3). Without a melody each frame is the chroma of silence: its first bin.
    melody_fft: samples that a frame of the melody looks at; a frame comes every quarter of them.
    window_seconds: the longest stretch the model was trained on.
    codec_fingerprint: whose codes these are (Codec.fingerprint).
    """

    num_codebooks: int
    codebook_size: int
    dim: int
    num_layers: int
    num_heads: int
    hidden_scale: int = 4
    pattern: Literal["delay", "parallel", "flatten", "coarse-first"] = "delay"
    delays: tuple[int, ...] | None = None
    conditioning: Literal["cross", "prefix", "none"] = "cross"
    condition_dim: int = 768
    padding: Literal["masked", "audiocraft"] = "masked"
    positions: Literal["sin", "rope"] = "sin"
    dropout: float = 0.0
    bias_attention: bool = False
    bias_feedforward: bool = False
    bias_heads: bool = False
    melody_dim: int = 0
    melody_frames: int = 0
    melody_fft: int = 2**14
    window_seconds: float = 10.0
    frame_rate: float = 50.0
    codec_fingerprint: str = ""

    def __post_init__(self) -> None:
        if self.dim % self.num_heads or (self.dim // self.num_heads) % 2:
            raise ValueError(
                f"dim {self.dim} must give each of the {self.num_heads} heads the same even width; change one"
            )
        if self.delays is not None and len(self.delays) != self.num_codebooks:
            raise ValueError(
                f"delays {self.delays} must hold one number for each of the {self.num_codebooks} codebooks"
            )
        if (self.melody_dim or self.melody_frames) and (self.conditioning, self.padding) != ("prefix", "audiocraft"):
            raise ValueError("a melody stands in an unmasked prefix; set conditioning 'prefix', padding 'audiocraft'")

    @property
    def special(self) -> int:
        """The id that stands where no code does."""
        return self.codebook_size

    def steps(self, num_frames: int) -> Tensor:
        """This model's pattern [K, T]."""
        return patterns.PATTERNS[self.pattern](self.num_codebooks, num_frames, self.delays)

    def transformer(self) -> TransformerConfig:
        return TransformerConfig(
            dim=self.dim,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            hidden_scale=self.hidden_scale,
            cross_attention=self.conditioning == "cross",
            dropout=self.dropout,
            bias_attention=self.bias_attention,
            bias_feedforward=self.bias_feedforward,
        )


class LMLoss(NamedTuple):
    """Cross-entropy in nats per code. mean: scalar, over codebooks; per_codebook: [K]."""

    mean: Tensor
    per_codebook: Tensor


class LM(nn.Module):
    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.config = config
        sizes, dim = config.codebook_size, config.dim
        self.emb = nn.ModuleList(nn.Embedding(sizes + 1, dim) for _ in range(config.num_codebooks))
        if config.conditioning != "none":
            self.condition_proj = Linear(config.condition_dim, dim)
        if config.melody_dim:
            self.melody_proj = Linear(config.melody_dim, dim)
        self.transformer = Transformer(config.transformer())
        self.out_norm = nn.LayerNorm(dim, eps=1e-5)
        self.heads = nn.ModuleList(Linear(dim, sizes, bias=config.bias_heads) for _ in range(config.num_codebooks))
        self._init_weights()

    def forward(self, steps: Tensor, condition: Condition | None = None, cache: KVCache | None = None) -> Tensor:
        """steps [B, K, S] int64 -> logits [B, K, S, V].

        Without a condition the model is unconditional. With a cache, `steps` continue those of earlier calls, and the
        condition is read at the first call only.
        """
        x = self.states(steps, condition, cache)
        rows = None if cache is None else cache.rows
        return torch.stack([head(x, rows) for head in self.heads], dim=1)

    def states(self, steps: Tensor, condition: Condition | None = None, cache: KVCache | None = None) -> Tensor:
        """What the heads read, [B, S, D]."""
        x: Tensor = sum(emb(steps[:, k]) for k, emb in enumerate(self.emb))  # [B, S, D]
        start = 0 if cache is None else cache.length
        prefix, hidden = self._prefix(condition, cache)
        x, rotary = self._place(x, prefix, hidden, start)
        if hidden is not None:
            hidden = F.pad(hidden, (0, start + x.shape[1] - hidden.shape[1]))  # [B, every key so far]
        x = self.transformer(x, self._memory(condition, cache, x), cache, hidden, rotary)
        return self.out_norm(x[:, -steps.shape[2] :])

    def cache(self, batch: int, num_steps: int, condition: Condition | None = None, rows: int | None = None) -> KVCache:
        """An empty cache for `num_steps` steps under `condition`. rows: see ops.attention.Linear."""
        if condition is not None and self.config.conditioning == "prefix":
            num_steps += self.config.melody_frames + condition.embedding.shape[1]
        return self.transformer.cache(batch, num_steps, rows)

    def condition(self, condition: Condition, rows: int | None = None) -> Tensor:
        """[B, L, condition_dim] -> [B, L, D], zero where the mask is False."""
        x: Tensor = self.condition_proj(condition.embedding.to(self.out_norm.weight.dtype), rows)
        return x * condition.mask[..., None].to(x.dtype)

    def loss(self, codes: Tensor, condition: Condition | None = None, frame_mask: Tensor | None = None) -> LMLoss:
        """Cross-entropy of every code given the steps before it, averaged over codes and then over codebooks.

        codes: [B, K, T]; frame_mask: bool [B, T], True where a frame is real. Frames that are not become the special
        id, so a padded clip is read exactly as the clip alone (with the delay, parallel and flatten patterns).
        Positions without a code count for nothing. One head after the other: the logits of all at once would be the
        largest tensor of all.
        """
        special = self.config.special
        if frame_mask is not None:
            codes = codes.masked_fill(~frame_mask[:, None], special)
        target = patterns.apply(codes, self.config.steps(codes.shape[2]), special)  # [B, K, S]
        x = self.states(F.pad(target, (1, -1), value=special), condition)  # of the same one step earlier
        per_codebook = torch.stack(
            [_cross_entropy(head(x), target[:, k], special) for k, head in enumerate(self.heads)]
        )
        return LMLoss(per_codebook.mean(), per_codebook)

    @torch.no_grad()
    def begin_with(self, vectors: Tensor) -> None:
        """Lets codes begin as what they stand for: the rows of tables and heads become random projections of vectors
        [K, V, D], at the size they had.

        A code near another then begins near it, and what is learnt of one is learnt of both, which counts where a
        thousand codes a codebook are to be learnt from an hour.
        """
        generator = torch.Generator().manual_seed(0)
        for own, emb, head in zip(vectors.float(), self.emb, self.heads, strict=False):
            placed = (own - own.mean(dim=0)) / own.std().clamp_min(1e-8)
            for weight in (emb.weight[: self.config.codebook_size], head.weight):  # type: ignore[index]
                project = torch.randn(vectors.shape[2], self.config.dim, generator=generator).to(placed)
                begun = placed @ project
                weight.copy_(begun * (weight.std() / begun.std().clamp_min(1e-8)))  # type: ignore[operator]

    def _memory(self, condition: Condition | None, cache: KVCache | None, like: Tensor) -> list[Memory] | None:
        """What cross-attention reads. One zero row, "nothing", stands before the text: without text it is all there is.

        AudioCraft has no such row and no mask: padding is a zero vector that takes its share of the attention.
        """
        if self.config.conditioning != "cross":
            return None
        if cache is not None and cache.memory is not None:
            return cache.memory
        rows = None if cache is None else cache.rows
        heard, bias = like.new_zeros(like.shape[0], 1, like.shape[2]), None
        if condition is not None and self.config.padding == "masked":
            heard = torch.cat([heard, self.condition(condition, rows)], dim=1)  # [B, 1 + L, D]
            seen = F.pad(condition.mask, (1, 0), value=True)[:, None, None]  # [B, 1, 1, 1 + L]
            bias = like.new_zeros(seen.shape).masked_fill_(~seen, -torch.inf)
        elif condition is not None:
            heard = self.condition(condition, rows)
        memory = self.transformer.remember(heard, bias, rows)
        if cache is not None:
            cache.memory = memory
        return memory

    def _prefix(self, condition: Condition | None, cache: KVCache | None) -> tuple[Tensor | None, Tensor | None]:
        """The condition's vectors if they still have to be read, and which of them are hidden [B, L]."""
        if cache is not None and cache.length:
            return None, cache.hidden
        if condition is None or self.config.conditioning != "prefix":
            return None, None
        hidden = None if self.config.padding == "audiocraft" else ~condition.mask
        if cache is not None:
            cache.hidden = hidden
        rows = None if cache is None else cache.rows
        text = self.condition(condition, rows)
        return torch.cat([self._melody(condition, text, rows), text], dim=1), hidden

    def _melody(self, condition: Condition, like: Tensor, rows: int | None) -> Tensor:
        """The prefix of the melody, or of one that is not there, [B, melody_frames, D]."""
        if not self.config.melody_dim:
            return like[:, :0]
        bins = condition.melody
        if bins is None:
            bins = torch.zeros(like.shape[0], self.config.melody_frames, dtype=torch.int64, device=like.device)
        frames: Tensor = self.melody_proj(F.one_hot(bins, self.config.melody_dim).to(like.dtype), rows)
        return frames

    def _place(
        self, x: Tensor, prefix: Tensor | None, hidden: Tensor | None, start: int
    ) -> tuple[Tensor, Rotary | None]:
        """Puts the prefix before the steps and gives everything its position.

        AudioCraft counts the prefix first, padding included. With padding="masked" the steps count from 0 whatever the
        text, and the prefix backwards from -1, so that padding changes nothing.
        """
        if prefix is not None:
            x = torch.cat([prefix, x], dim=1)  # [B, L + S, D]
        position = torch.arange(start, start + x.shape[1], device=x.device, dtype=torch.float32)
        if hidden is not None:
            position = position - hidden.shape[1]
        if hidden is not None and prefix is not None:
            real = ~hidden
            counted = real.cumsum(1) - 1 - real.sum(1, keepdim=True)  # [B, L]: -n .. -1
            position = torch.cat([counted, position[prefix.shape[1] :].expand(len(x), -1)], dim=1)  # [B, L + S]
        if self.config.positions == "rope":
            return x, Rotary(position, self.config.dim // self.config.num_heads, x)
        return x + sinusoids(position, self.config.dim).to(x.dtype), None

    @torch.no_grad()
    def _init_weights(self) -> None:
        """As the transformer's: Gaussian of std 1 / sqrt(fan in). The sum of the K embeddings has the size of the
        sinusoids added to it (rms 0.7); with AudioCraft's 1 / sqrt(D) each it would start ten times smaller."""
        for emb, head in zip(self.emb, self.heads, strict=True):
            gaussian(emb.weight, self.config.num_codebooks, scale=0.7)  # type: ignore[arg-type]
            gaussian(head.weight, self.config.dim)  # type: ignore[arg-type]
            if head.bias is not None:
                head.bias.zero_()  # type: ignore[operator]
        if self.config.conditioning != "none":
            gaussian(self.condition_proj.weight, self.config.condition_dim)
            self.condition_proj.bias.zero_()
        if self.config.melody_dim:
            gaussian(self.melody_proj.weight, self.config.melody_dim)
            self.melody_proj.bias.zero_()


def _cross_entropy(logits: Tensor, target: Tensor, special: int) -> Tensor:
    """logits [B, S, V], target [B, S] -> the mean over the targets that are codes; 0 if none is."""
    total = F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), ignore_index=special, reduction="sum")
    return total / (target != special).sum().clamp_min(1)
