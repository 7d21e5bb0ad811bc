"""Training a stage of AudioLM (2209.03143, section III-C): the next id of a crop, and its text where it reads any.

crop (training/stage_data.py) -> blocks [B, n], ends [B] --stage--> cross-entropy of every id, and of a true end
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.conditioners.text import T5Conditioner
from audiogen_cli.errors import InputError
from audiogen_cli.hub import checkpoint
from audiogen_cli.models.audiolm import Block, Stage, StageConfig, stage_loss
from audiogen_cli.models.depth import DepthConfig, DepthStage
from audiogen_cli.ops.ids import padded, trimmed
from audiogen_cli.training.loop import LoopConfig, averaged
from audiogen_cli.training.stage_data import Example, Sound, Sounds, Tokenizers, crop


class Batch(NamedTuple):
    """blocks: ids [B, n], padded with -1; ends: bool [B]."""

    blocks: list[Tensor]
    ends: Tensor
    condition: Condition | None


@dataclass(frozen=True)
class StageSettings:
    """What a recipe says of a stage; the rest follows from the tokenizers. num_coarse: codebooks of the coarse stage;
    None is the first half. Repeated semantic ids are kept, so that long sounds can be made in windows."""

    dim: int = 256
    num_layers: int = 6
    num_heads: int = 8
    head_dim: int | None = None
    kv_heads: int | None = 1
    conditioning: Literal["none", "cross", "prefix"] = "none"
    condition_dropout: float = 0.1
    positions: Literal["relative", "rope"] = "rope"
    dropout: float = 0.1
    value_residual: bool = True
    residual_streams: int = 1
    gradient_shrink: float = 1.0
    forget: float = 0.15
    unique_consecutive: bool = False
    prefix_weight: float = 0.0
    window_seconds: float | None = None
    num_coarse: int | None = None


@dataclass(frozen=True)
class StageRecipe:
    """`weight_decay` acts on matrices."""

    model: StageSettings = field(default_factory=StageSettings)
    loop: LoopConfig = field(default_factory=LoopConfig)
    weight_decay: float = 0.01


@dataclass(frozen=True)
class DepthSettings(StageSettings):
    """As StageSettings, and of the transformer within a frame. num_coarse: how many codebooks; None is all."""

    depth_dim: int = 256
    depth_layers: int = 2
    depth_heads: int = 4


@dataclass(frozen=True)
class DepthRecipe:
    """As StageRecipe."""

    model: DepthSettings = field(default_factory=DepthSettings)
    loop: LoopConfig = field(default_factory=LoopConfig)
    weight_decay: float = 0.01


WINDOWS = {"semantic": 30.0, "coarse": 10.0, "fine": 3.0}
"""Seconds that each stage hears at once (AudioLM, section IV-B)."""


def configured(stage: Literal["semantic", "coarse", "fine"], settings: StageSettings, parts: Tokenizers) -> StageConfig:
    """The stage that a recipe's settings make with these tokenizers."""
    chosen = {name: value for name, value in vars(settings).items() if name != "num_coarse"}
    chosen["window_seconds"] = settings.window_seconds or WINDOWS[stage]
    if isinstance(settings, DepthSettings) and parts.codec is not None:
        blocks = _blocks(stage, settings.num_coarse or parts.codec.num_codebooks, parts)
        return fitted(DepthConfig(stage, blocks, **chosen), parts)
    return fitted(StageConfig(stage, _blocks(stage, settings.num_coarse, parts), **chosen), parts)


def build(config: StageConfig) -> Stage:
    """The stage of a configuration, untrained."""
    return DepthStage(config) if isinstance(config, DepthConfig) else Stage(config)


def _blocks(stage: str, num_coarse: int | None, parts: Tokenizers) -> tuple[Block, ...]:
    words = () if parts.semantic is None else (Block("semantic", parts.semantic.codebook_size),)
    if stage == "semantic" or parts.codec is None:
        return words
    size, total, groups = parts.codec.codebook_size, parts.codec.num_codebooks, parts.codec.num_groups
    first = num_coarse or max(1, total // groups // 2) * groups
    if not 0 < first <= total - (stage == "fine") or first % groups:
        shared = f" in {groups} groups" if groups > 1 else ""
        raise InputError(f"of the codec's {total} codebooks{shared} {first} cannot be coarse; change num_coarse.")
    coarse = Block("acoustic", size, first, num_groups=groups)
    fine = Block("acoustic", size, total - first, first, num_groups=groups)
    return (*words, coarse) if stage == "coarse" else (coarse, fine)


def fitted(config: StageConfig, parts: Tokenizers, window_seconds: float | None = None) -> StageConfig:
    """The configuration with whose ids these are, how long a semantic id lasts where that is known, and the window.

    Raises InputError when the stage has other ids than the tokenizers.
    """
    semantic, codec = parts.semantic, parts.codec
    blocks = config.blocks
    for block in blocks:
        there = semantic if block.axis == "semantic" else codec
        if there is None:
            raise InputError(f"the {config.stage} stage reads {block.axis} ids; give what makes them as well.")
        levels = 1 if there is semantic else there.num_codebooks
        if block.codebook_size != there.codebook_size or block.first_level + block.num_levels > levels:
            raise InputError(
                f"the {config.stage} stage has {block.num_levels} levels of {block.codebook_size} {block.axis} ids, "
                f"but there are {levels} of {there.codebook_size}; build it with those."
            )
        groups = 1 if there is semantic else there.num_groups
        if block.num_groups not in (1, groups):  # 1: groups are more levels to it
            raise InputError(
                f"the codec has {groups} groups and the {config.stage} stage {block.num_groups}; change rq_groups."
            )
    if config.stage == "coarse" and not config.unique_consecutive and semantic is not None and codec is not None:
        blocks = (replace(blocks[0], time_scale=codec.frame_rate / semantic.frame_rate), *blocks[1:])
    return replace(
        config,
        blocks=blocks,
        semantic="" if semantic is None or config.stage == "fine" else semantic.fingerprint(),
        codec="" if codec is None or config.stage == "semantic" else codec.fingerprint(),
        window_seconds=window_seconds or config.window_seconds,
    )


class StageTask:
    """See `audiogen_cli.training.loop.Task`. The tokenizers and the text encoder stay on the CPU."""

    def __init__(
        self,
        stage: Stage,
        loop: LoopConfig,
        sounds: Sounds,
        count: int,
        validation: Iterable[Sound],
        rates: tuple[float, float],
        text: T5Conditioner | None = None,
        source: dict[str, Any] | None = None,
        weight_decay: float = 0.0,
    ) -> None:
        """`sounds` gives recording i of `count`; `rates`: see `crop`."""
        self.stage, self.loop, self.sounds, self.count, self.rates = stage, loop, sounds, count, rates
        self.text, self.source, self.weight_decay = text, dict(source or {}), weight_decay
        if (text is None) != (stage.config.conditioning == "none"):
            raise InputError("a stage that reads text needs a text encoder, and only such a one; change has_condition.")
        self.validation = [crop(sound, stage.config, rates, None) for sound in validation]
        self.average = averaged(stage, loop)
        self.modules: dict[str, nn.Module] = {"stage": stage}
        self.extras: dict[str, Any] = {"average": self.average}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.rank = 0

    def prepare(self, accelerator: Accelerator, config: LoopConfig) -> None:
        """The stage itself is prepared, and what is prepared is what `step` calls: ranks share their gradients."""
        self.accelerator, self.rank = accelerator, accelerator.process_index
        matrices = [p for p in self.stage.parameters() if p.dim() > 1]
        plain = [p for p in self.stage.parameters() if p.dim() <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.weight_decay, "initial_lr": config.learning_rate},
            {"params": plain, "weight_decay": 0.0, "initial_lr": config.learning_rate},
        ]
        optimizer = torch.optim.AdamW(groups, config.learning_rate, (0.9, 0.95))
        self.prepared, prepared_optimizer = accelerator.prepare(self.stage, optimizer)
        self.average.module.to(accelerator.device)
        self.optimizers = {"stage": prepared_optimizer}

    def batch(self, step: int) -> Batch:
        """Random crops of random recordings, others on every rank, the shortest first: the parts of a batch have little
        padding."""
        rng = np.random.default_rng((self.loop.seed, step, self.rank))
        numbers = rng.integers(self.count, size=self.loop.batch_size)
        examples = [crop(self.sounds(int(number)), self.stage.config, self.rates, rng) for number in numbers]
        examples.sort(key=lambda example: example.blocks[-1].shape[-1])
        dropped = torch.from_numpy(rng.random(len(examples)) < self.stage.config.condition_dropout)
        return self._joined(examples, dropped)

    def step(self, batch: Batch, step: int) -> dict[str, Tensor | float]:
        optimizer = self.optimizers["stage"]
        optimizer.zero_grad()
        total = target = 0.0
        for rows in torch.arange(len(batch.ends)).chunk(self.loop.accumulate):
            share = len(rows) / len(batch.ends)
            piece = _rows(batch, rows, self.accelerator.device)
            with self.accelerator.autocast():
                loss = stage_loss(self.prepared, self.stage.config, *piece)
            self.accelerator.backward(loss.mean * share)
            total += float(loss.mean.detach()) * share
            target += float(loss.target.detach()) * share
        norm = self.accelerator.clip_grad_norm_(self.stage.parameters(), self.loop.clip_norm)
        optimizer.step()
        self.average.update(self.stage, step)
        return {"loss": total, "target_loss": target, "gradient_norm": norm}

    @torch.no_grad()
    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """The loss on the beginnings of held-out recordings, computed as in training, with and without their text."""
        stage: Stage = self.average.module  # type: ignore[assignment]
        metrics, size = dict[str, float](), self.loop.batch_size
        batches = [self.validation[i : i + size] for i in range(0, len(self.validation), size)]
        for examples in batches:
            blocks, ends, condition = _rows(self._joined(examples), None, self.accelerator.device)
            losses = {"valid_loss": stage_loss(stage, stage.config, blocks, ends, condition, training=False)}
            if condition is not None:
                null = stage_loss(stage, stage.config, blocks, ends, condition.null(), training=False)
                losses["valid_loss_without_text"] = null
            for name, loss in losses.items():
                metrics[name] = metrics.get(name, 0.0) + float(loss.target) / len(batches)
        return metrics

    def export(self, folder: Path) -> None:
        checkpoint.save(folder, self.average.module, self.source)

    def _joined(self, examples: Sequence[Example], dropped: Tensor | None = None) -> Batch:
        blocks = [padded(rows) for rows in zip(*(example.blocks for example in examples), strict=True)]
        condition = None if self.text is None else self.text([example.caption for example in examples])
        if condition is not None and dropped is not None:
            condition = condition.drop(dropped)
        return Batch(blocks, torch.tensor([example.ends for example in examples]), condition)


def _rows(batch: Batch, rows: Tensor | None, device: torch.device) -> tuple[list[Tensor], Tensor, Condition | None]:
    """Some rows of a batch, or all, on the device, no longer than the longest of them."""
    rows = torch.arange(len(batch.ends)) if rows is None else rows
    condition = batch.condition
    if condition is not None:
        condition = Condition(condition.embedding[rows], condition.mask[rows]).to(device)
    return [trimmed(block[rows]).to(device) for block in batch.blocks], batch.ends[rows].to(device), condition
