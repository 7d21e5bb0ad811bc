"""Training an entropy model (EnCodec, 2210.13438, section 3.3) on the codes of a frozen codec, whichever it is.

Every recording is encoded once. A step reads windows of single recordings; for some of them only the first codebooks
(a lower rate), and as if they stood anywhere in a longer stream. The loss is the cross-entropy of every code, which is
what an arithmetic coder spends on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from audiogen_cli.data.recordings import Recordings
from audiogen_cli.hub import checkpoint
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.entropy import EntropyLM, EntropyLMConfig
from audiogen_cli.training.loop import LoopConfig, adamw, averaged

LN2 = math.log(2.0)


@dataclass(frozen=True)
class EntropyTrainingConfig:
    """context_seconds: what the model sees of the past (EnCodec: 3.5). offset_seconds: half of the steps pretend to
    stand up to so far into a stream. partial: the share of steps with a random number of codebooks, not all."""

    window_seconds: float = 5.0
    context_seconds: float = 3.5
    offset_seconds: float = 600.0
    partial: float = 0.5
    weight_decay: float = 0.05


@dataclass(frozen=True)
class EntropyRecipe:
    """`fitted` takes the model's `num_codebooks`, `codebook_size`, `frame_rate`, `past_context` and `codec_fingerprint`
    from the codec; the other settings stand as they are."""

    model: EntropyLMConfig = field(default_factory=lambda: EntropyLMConfig(dim=96, num_layers=4, num_heads=4))
    training: EntropyTrainingConfig = field(default_factory=EntropyTrainingConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


class Batch(NamedTuple):
    """codes: int64 [B, K', T]; frame_mask: bool [B, T], True where a frame is real; offset: of the first, in frames."""

    codes: Tensor
    frame_mask: Tensor
    offset: int


def fitted(recipe: EntropyRecipe, codec: Codec) -> EntropyRecipe:
    """The recipe for this codec."""
    model = replace(
        recipe.model,
        num_codebooks=codec.num_codebooks,
        codebook_size=codec.codebook_size,
        frame_rate=codec.frame_rate,
        past_context=max(1, int(recipe.training.context_seconds * codec.frame_rate)),
        codec_fingerprint=codec.fingerprint(),
    )
    return replace(recipe, model=model)


@torch.no_grad()
def encode(codec: Codec, recordings: Recordings) -> list[Tensor]:
    """The codes [K, T] of each recording, int16."""
    return [codec.encode(recordings[i][None])[0].to(torch.int16) for i in range(len(recordings))]


@torch.no_grad()
def model_bits(lm: EntropyLM, codes: Sequence[Tensor]) -> Tensor:
    """Bits that an ideal coder spends on whole streams [K, T], by codebook: [K]."""
    device = lm.norm_in.weight.device
    total = torch.zeros(lm.config.num_codebooks, dtype=torch.float64)
    for stream in codes:
        known = stream.long()[None].to(device)
        found = lm.probabilities(known).gather(-1, known[..., None])[0, ..., 0]  # [K, T]
        total -= found.clamp_min(2.0**-23).log2().double().sum(-1).cpu()  # a coder's smallest share
    return total


def unigram_bits(train: Sequence[Tensor], codes: Sequence[Tensor], codebook_size: int) -> Tensor:
    """The same for one fixed table of frequencies a codebook, those of the training codes plus one half each: [K]."""
    tables = [_frequencies(rows, codebook_size) + 0.5 for rows in torch.cat(list(train), dim=1)]
    counts = [_frequencies(rows, codebook_size) for rows in torch.cat(list(codes), dim=1)]
    return torch.stack([-(n * (t / t.sum()).log2()).sum() for n, t in zip(counts, tables, strict=True)])


class EntropyTask:
    """See `audiogen_cli.training.loop.Task`."""

    def __init__(
        self,
        recipe: EntropyRecipe,
        train: Sequence[Tensor],
        validation: Sequence[Tensor],
        source: dict[str, Any],
        start: EntropyLM | None = None,
    ) -> None:
        """train, validation: of `encode`. A recording is drawn as often as it is long."""
        self.recipe, self.config = recipe, recipe.training
        self.train, self.validation, self.source = train, validation, source
        self.frames = max(2, round(self.config.window_seconds * recipe.model.frame_rate))
        lengths = np.asarray([codes.shape[1] for codes in train], dtype=np.float64)
        self.odds = lengths / lengths.sum()
        self.lm = start or _at_frequencies(EntropyLM(recipe.model), train)
        self.average = averaged(self.lm, recipe.loop)
        self.modules: dict[str, nn.Module] = {"lm": self.lm}
        self.extras: dict[str, Any] = {"average": self.average}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    def prepare(self, accelerator: Accelerator, config: LoopConfig) -> None:
        self.accelerator, self.loop = accelerator, config
        optimizer = adamw(self.lm, config.learning_rate, self.config.weight_decay)
        self.lm, prepared = accelerator.prepare(self.lm, optimizer)
        self.average.module.to(accelerator.device)
        self.optimizers = {"lm": prepared}

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng((self.recipe.loop.seed, step))
        numbers = rng.choice(len(self.train), self.recipe.loop.batch_size, p=self.odds)
        windows = [self._window(self.train[int(number)], rng) for number in numbers]
        lengths = torch.tensor([window.shape[1] for window in windows])
        codes = torch.stack([F.pad(window, (0, self.frames - window.shape[1])) for window in windows])
        total = codes.shape[1]
        used = int(rng.integers(1, total + 1)) if rng.random() < self.config.partial else total
        far = int(self.config.offset_seconds * self.recipe.model.frame_rate)
        offset = int(rng.integers(far + 1)) if rng.random() < 0.5 else 0
        return Batch(codes[:, :used], torch.arange(self.frames) < lengths[:, None], offset)

    def step(self, batch: Batch, step: int) -> dict[str, Tensor | float]:
        optimizer, device = self.optimizers["lm"], self.accelerator.device
        optimizer.zero_grad()
        total = 0.0
        for rows in torch.arange(batch.codes.shape[0]).chunk(self.loop.accumulate):
            share = batch.frame_mask[rows].sum() / batch.frame_mask.sum()
            with self.accelerator.autocast():
                loss = self.lm.loss(batch.codes[rows].to(device), batch.offset, batch.frame_mask[rows].to(device))
            self.accelerator.backward(loss.mean() * share.to(device))
            total += float(loss.mean().detach()) * float(share)
        norm = self.accelerator.clip_grad_norm_(self.lm.parameters(), self.loop.clip_norm)
        optimizer.step()
        self.average.update(self.lm, step)
        return {"loss": total, "bits": total / LN2, "gradient_norm": norm}

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """Bits per code of the held-out recordings, whole: the model's, a fixed table's, and of plain codes."""
        size, count = self.recipe.model.codebook_size, self.recipe.model.num_codebooks
        frames = sum(codes.shape[1] for codes in self.validation)
        each = model_bits(self.average.module, self.validation) / frames  # type: ignore[arg-type]
        bits, plain = float(each.mean()), math.log2(size)
        fixed = float(unigram_bits(self.train, self.validation, size).mean()) / frames
        found = {"valid_bits": bits, "unigram_bits": fixed, "plain_bits": plain, "saving": 1.0 - bits / plain}
        return found | {f"valid_bits_{k}": float(each[k]) for k in range(count)}

    def export(self, folder: Path) -> None:
        """A checkpoint of kind "entropy-lm"."""
        checkpoint.save(folder, self.average.module, self.source, torch.float16)

    def _window(self, codes: Tensor, rng: np.random.Generator) -> Tensor:
        """[K, up to `frames`] int64."""
        start = int(rng.integers(max(0, codes.shape[1] - self.frames) + 1))
        return codes[:, start : start + self.frames].long()


@torch.no_grad()
def _at_frequencies(lm: EntropyLM, train: Sequence[Tensor]) -> EntropyLM:
    """Training begins where a fixed table of frequencies ends: with the logarithms of these as biases."""
    for head, codes in zip(lm.heads, torch.cat(list(train), dim=1), strict=True):
        counts = _frequencies(codes, lm.config.codebook_size) + 0.5
        head.bias.copy_((counts / counts.sum()).log())  # type: ignore[operator]
    return lm


def _frequencies(codes: Tensor, codebook_size: int) -> Tensor:
    return torch.bincount(codes.long().flatten(), minlength=codebook_size).double()
