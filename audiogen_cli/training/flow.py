"""Training a flow (models/flow.py) on a frozen codec's latents, as flow matching is trained (2210.02747, section 4).

(waveform, caption) --codec--> latents, whitened [B, T, D], some of them with a beginning that is known
                   --T5-----> condition, dropped for some examples so that guidance has an unconditional half
       noise, time --------> x between the two --> mean squared error of the velocity

A flow that paints over drawings never sees recordings on its way, but noise and what the codec made of codes. It may
learn from such pairs (stochastic interpolants with coupled ends, 2310.03725): at the time `sketched` it is given the
drawing under noise, and the way from there leads to the recording itself.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.conditioners.text import T5Conditioner
from audiogen_cli.data import audio, image
from audiogen_cli.data.segments import PLAIN, SegmentConfig, Segments
from audiogen_cli.errors import ConfigError
from audiogen_cli.hub import checkpoint
from audiogen_cli.models import decoding
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.flow import Flow, FlowConfig
from audiogen_cli.models.flow_decoding import integrate
from audiogen_cli.training.data import Subset, TrainingData
from audiogen_cli.training.lm import Examples, ExampleSource, SegmentExamples
from audiogen_cli.training.loop import LoopConfig, adamw, averaged

VALIDATION_BATCHES = 4
_FITTED_ON = 8  # batches whose latents say how they are whitened


class Batch(NamedTuple):
    """What a step learns from. latents [B, D, T], noise [B, T, D], time [B], known: bool [B, T]. astray [B, D, T]: how
    far off the drawing is that an example begins with, zero for those that begin with noise; None: all do."""

    latents: Tensor
    condition: Condition
    noise: Tensor
    time: Tensor
    known: Tensor
    astray: Tensor | None = None


@dataclass(frozen=True)
class FlowTrainingConfig:
    """condition_dropout: the share of examples that lose their text. known: the share whose beginning is known, up to
    three quarters of it. evenness: 0 leaves the latents' axes as they are, 1 gives all the same spread (Flow.fit).
    earliest: no time before it is learnt; a flow that paints needs none before `sketched`. drawn: the share of examples
    that begin at `sketched` with what the codec makes of their codes. drawn_codebooks: of how many, one example after
    the other."""

    condition_dropout: float = 0.1
    known: float = 0.2
    evenness: float = 0.6
    earliest: float = 0.0
    drawn: float = 0.0
    drawn_codebooks: tuple[int, ...] = (8,)
    repeats: int = 1
    weight_decay: float = 0.02
    samples: tuple[str, ...] = ("dog barking in rain", "a rooster crowing", "footsteps on gravel", "an explosion")
    sample_guidance: float = 4.0

    def __post_init__(self) -> None:
        if not 0 <= self.earliest < 1:
            raise ValueError(f"earliest must lie in 0 .. 1 and below 1, not {self.earliest}; change it")
        if not 0 <= self.drawn <= 1:
            raise ValueError(f"drawn must lie in 0 .. 1, not {self.drawn}; change it")
        if self.drawn and not (self.drawn_codebooks and min(self.drawn_codebooks) > 0):
            raise ValueError("drawn_codebooks must name one number or more, all above 0; change it")


@dataclass(frozen=True)
class FlowRecipe:
    """`fitted` takes the model's `latent_dim`, `codec_fingerprint`, `frame_rate` and `condition_dim` from the codec and
    the text encoder in use; the other settings stand as they are."""

    model: FlowConfig = field(default_factory=FlowConfig)
    training: FlowTrainingConfig = field(default_factory=FlowTrainingConfig)
    segments: SegmentConfig = field(default_factory=SegmentConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


@torch.no_grad()
def fitted(recipe: FlowRecipe, codec: Codec, text: T5Conditioner) -> FlowRecipe:
    """The recipe for this codec and text encoder. Raises ModelError when the codec's latents cannot be modelled,
    ConfigError when they have fewer axes than are to be made."""
    latents = codec.view(recipe.model.space).latents(torch.zeros(1, codec.channels, codec.hop_length))
    if recipe.model.axes > latents.shape[1]:
        raise ConfigError(
            f"the recipe's flow makes {recipe.model.axes} axes and a frame of the codec has {latents.shape[1]}; "
            "lower axes."
        )
    model = replace(
        recipe.model,
        latent_dim=latents.shape[1],
        condition_dim=text.dim,
        frame_rate=codec.frame_rate,
        codec_fingerprint=codec.fingerprint(),
    )
    if recipe.training.drawn and recipe.model.sketched == 1:
        raise ConfigError("from sketched = 1 on there is no way to learn; lower it, or set drawn = 0.")
    if recipe.training.drawn and max(recipe.training.drawn_codebooks) > codec.num_codebooks:
        raise ConfigError(
            f"drawn_codebooks asks for {max(recipe.training.drawn_codebooks)} codebooks and the codec has "
            f"{codec.num_codebooks}; lower it."
        )
    segments = replace(recipe.segments, sample_rate=codec.sample_rate, seconds=model.window_seconds)
    return replace(recipe, model=model, segments=segments)


def example_sources(recipe: FlowRecipe, codec: Codec, data: TrainingData) -> tuple[ExampleSource, list[Examples]]:
    """Endless training batches, and a few fixed batches of held-out recordings as they are."""

    def source(subset: Subset, config: SegmentConfig, repeats: int = 1) -> SegmentExamples:
        labels = [clip.caption for clip in subset.clips]
        segments = Segments(subset.recordings, labels, config, recipe.loop.seed)
        return SegmentExamples(segments, partial(_frames, recipe, codec), recipe.loop.batch_size, repeats)

    level = sum(recipe.segments.level_db) / 2
    plain = replace(PLAIN, sample_rate=codec.sample_rate, seconds=recipe.segments.seconds, level_db=(level, level))
    held_out = source(data.valid, plain)
    train = source(data.train, recipe.segments, recipe.training.repeats)
    return train, [held_out(step) for step in range(VALIDATION_BATCHES)]


def _frames(recipe: FlowRecipe, codec: Codec, waveform: Tensor) -> Tensor:
    """waveform [B, 1, N] -> latents [B, D, T]; where drawings are asked for, [B, 2 * D, T], the second half those."""
    view, training = codec.view(recipe.model.space), recipe.training
    latents = view.latents(waveform)
    if not training.drawn:
        return latents
    codes = codec.encode(waveform)
    counts = itertools.cycle(training.drawn_codebooks)
    drawings = [view.latents_of(own[None, :count]) for own, count in zip(codes, counts, strict=False)]
    return torch.cat([latents, torch.cat(drawings)], dim=1)


class _Loss(nn.Module):
    """The flow's loss as a module, which is what may be wrapped to learn on several devices."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, batch: Batch) -> Tensor:
        frames, noise = self.flow.whitened(batch.latents), batch.noise
        if batch.astray is not None:
            begin = self.flow.config.sketched
            noise = noise + begin / (1 - begin) * (self.flow.whitened(batch.latents + batch.astray) - frames)
        return self.flow.loss(frames, batch.condition, noise, batch.time, batch.known)


class FlowTask:
    """See `audiogen_cli.training.loop.Task`. `train(step)` must give the same examples for the same step. The codec and
    the text encoder stay on the CPU, where worker processes use them."""

    def __init__(
        self,
        recipe: FlowRecipe,
        codec: Codec,
        text: T5Conditioner,
        train: ExampleSource,
        validation: Sequence[Examples],
        source: dict[str, Any],
        start: Flow | None = None,
        folders: Mapping[str, Path] | None = None,
    ) -> None:
        """`folders`: checkpoint folders ("codec", "text") that `export` puts beside the flow's. start: a flow to train
        on; of one that makes other frames, what lies between its ends (Flow.begin_with)."""
        self.recipe, self.config = recipe, recipe.training
        self.codec, self.text, self.source = codec, text, source
        self.train, self.validation, self.folders = train, validation, dict(folders or {})
        self.flow = self._begun(start)
        self.average = averaged(self.flow, recipe.loop)
        self.modules: dict[str, nn.Module] = {"flow": self.flow}
        self.extras: dict[str, Any] = {"average": self.average}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    def _begun(self, start: Flow | None) -> Flow:
        ends = ("space", "latent_dim", "axes")
        if start is not None and all(getattr(start.config, end) == getattr(self.recipe.model, end) for end in ends):
            return start
        flow = Flow(self.recipe.model)
        latents = torch.cat([self.train(step).frames[:, : flow.config.latent_dim] for step in range(_FITTED_ON)])
        flow.fit(latents.transpose(1, 2).flatten(0, 1), 1 - self.config.evenness)
        if start is not None:
            flow.begin_with(start)
        return flow

    def prepare(self, accelerator: Accelerator, config: LoopConfig) -> None:
        self.accelerator, self.loop = accelerator, config
        optimizer = adamw(self.flow, config.learning_rate, self.config.weight_decay)
        self.prepared, prepared_optimizer = accelerator.prepare(_Loss(self.flow), optimizer)
        self.average.module.to(accelerator.device)
        self.optimizers = {"flow": prepared_optimizer}

    def batch(self, step: int) -> Batch:
        generator = torch.Generator().manual_seed(self.recipe.loop.seed * 1_000_003 + step)
        examples = self.train(step)
        dropped = torch.rand(len(examples.captions), generator=generator) < self.config.condition_dropout
        condition = self.text(examples.captions).drop(dropped)
        return self._asked(examples.frames, condition, generator, self.config.known)

    def _asked(self, made: Tensor, condition: Condition, generator: torch.Generator, known: float) -> Batch:
        """Noise and a time for each row of `_frames`; times near the middle come up most, as in 2403.03206, section
        3.1."""
        size, _, frames = made.shape
        latents, *drawings = made.split(self.recipe.model.latent_dim, dim=1)
        time = torch.sigmoid(torch.randn(size, generator=generator))
        time = self.config.earliest + (1 - self.config.earliest) * time
        noise = torch.randn(size, frames, self.recipe.model.made, generator=generator)
        length = 1 + (torch.rand(size, generator=generator) * (0.75 * frames)).long()
        length = length.masked_fill(torch.rand(size, generator=generator) >= known, 0).clamp_max(frames - 1)
        known_frames = torch.arange(frames) < length[:, None]
        if not drawings:
            return Batch(latents, condition, noise, time, known_frames)
        drawn = torch.rand(size, generator=generator) < self.config.drawn
        time = torch.where(drawn, time.clamp_min(self.recipe.model.sketched), time)
        return Batch(latents, condition, noise, time, known_frames, (drawings[0] - latents) * drawn[:, None, None])

    def step(self, batch: Batch, step: int) -> dict[str, Tensor | float]:
        optimizer, size = self.optimizers["flow"], len(batch.latents)
        optimizer.zero_grad()
        total = 0.0
        for rows in torch.arange(size).chunk(self.loop.accumulate):
            with self.accelerator.autocast():
                loss = self.prepared(_rows(batch, rows, self.accelerator.device))
            self.accelerator.backward(loss * (len(rows) / size))
            total += float(loss.detach()) * len(rows) / size
        norm = self.accelerator.clip_grad_norm_(self.flow.parameters(), self.loop.clip_norm)
        optimizer.step()
        self.average.update(self.flow, step)
        return {"loss": total, "gradient_norm": norm}

    @torch.no_grad()
    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """Loss on held-out examples with and without their text, and a sound for each of the sample prompts."""
        flow: Flow = self.average.module  # type: ignore[assignment]
        device, count = self.accelerator.device, len(self.validation)
        with_text, without = 0.0, 0.0
        for number, examples in enumerate(self.validation):
            generator = torch.Generator().manual_seed(number)
            batch = self._asked(examples.frames, self.text(examples.captions), generator, 0.0)
            batch = _rows(batch, torch.arange(len(batch.latents)), device)
            with_text += float(_Loss(flow)(batch)) / count
            without += float(_Loss(flow)(batch._replace(condition=batch.condition.null()))) / count
        self._write_samples(flow, folder)
        return {"valid_loss": with_text, "valid_loss_without_text": without}

    def _write_samples(self, flow: Flow, folder: Path) -> None:
        if not self.config.samples:
            return
        condition = self.text(self.config.samples)
        frames = round(flow.config.window_seconds * flow.config.frame_rate)
        sampling = decoding.Sampling(guidance=self.config.sample_guidance)
        made = decoding.finish(integrate(flow, condition, frames, range(len(self.config.samples)), sampling))
        for index, prompt in enumerate(self.config.samples):
            sound = self.codec.view(flow.config.space).sound_of(made[index : index + 1])[0]
            stem = f"{index}-{prompt.replace(' ', '-')}"
            audio.write(folder / f"{stem}.wav", sound.clamp(-1, 1), self.codec.sample_rate, force=True)
            image.write_spectrogram(folder / f"{stem}.png", sound, self.codec.sample_rate, force=True)

    def export(self, folder: Path) -> None:
        """A whole model: the flow, and copies of the codec and the text encoder it was trained with."""
        checkpoint.save(folder / "flow", self.average.module, self.source, torch.float16)
        for part, original in self.folders.items():
            if not (folder / part).exists():
                shutil.copytree(original, folder / f"{part}.partial", dirs_exist_ok=True)
                (folder / f"{part}.partial").rename(folder / part)


def _rows(batch: Batch, rows: Tensor, device: torch.device) -> Batch:
    """Some rows of a batch, on the device."""
    condition = Condition(batch.condition.embedding[rows], batch.condition.mask[rows]).to(device)
    latents, noise, time, known = (x[rows].to(device) for x in (batch.latents, batch.noise, batch.time, batch.known))
    astray = None if batch.astray is None else batch.astray[rows].to(device)
    return Batch(latents, condition, noise, time, known, astray)
