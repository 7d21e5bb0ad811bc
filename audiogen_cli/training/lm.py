"""Training a language model on the codes of a frozen codec: the next-code step (MusicGen, 2306.05284 section 2).

(waveform, caption) --codec--> codes [B, K, T]
                   --T5-----> condition, dropped for some examples so that guidance has an unconditional half
                              --> cross-entropy of every code, averaged over codebooks
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.conditioners.text import T5Conditioner
from audiogen_cli.data import audio, captions, image
from audiogen_cli.data.manifest import Clip, Split
from audiogen_cli.data.segments import PLAIN, SegmentConfig, Segments, balanced
from audiogen_cli.data.tokens import Tokens
from audiogen_cli.errors import ConfigError, InputError
from audiogen_cli.hub import checkpoint
from audiogen_cli.models import decoding
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.lm import LM, LMConfig, LMLoss
from audiogen_cli.training.data import Subset, TrainingData
from audiogen_cli.training.loop import LoopConfig, adamw, averaged

VALIDATION_BATCHES = 4


class Examples(NamedTuple):
    """frames: codes, int64 [B, K, T], or for a flow latents, [B, D, T]; captions: one a row; frame_mask: bool [B, T],
    True where a frame is real; None: all."""

    frames: Tensor
    captions: Sequence[str]
    frame_mask: Tensor | None = None


class Batch(NamedTuple):
    """What a step learns from: `Examples` with their captions as a condition, dropped here and there."""

    codes: Tensor
    condition: Condition
    frame_mask: Tensor | None


ExampleSource = Callable[[int], Examples]


class SegmentExamples:
    """Batches made on the fly: recordings repeated, varied and mixed, then encoded. Batch `step` is always the same.

    encode: waveform [B, 1, N] -> frames. repeats: an example is seen so many times, AGAIN steps apart, for a machine on
    which making it takes as long as learning from it.
    """

    AGAIN = 25

    def __init__(
        self, segments: Segments, encode: Callable[[Tensor], Tensor], batch_size: int, repeats: int = 1
    ) -> None:
        self.segments, self.encode = segments, encode
        self.repeats, self.fresh = repeats, -(-batch_size // repeats)
        self.batch_size = batch_size
        self._made: dict[int, Examples] = {}

    def __call__(self, step: int) -> Examples:
        numbers = [step + round_ * self.AGAIN for round_ in range(self.repeats)]
        parts = [self._part(number) for number in numbers]
        self._made = {number: made for number, made in self._made.items() if number > step}
        frames = torch.cat([part.frames for part in parts])[: self.batch_size]
        return Examples(frames, [caption for part in parts for caption in part.captions][: self.batch_size])

    @torch.no_grad()
    def _part(self, number: int) -> Examples:
        if number not in self._made:
            examples = [self.segments.example(number, index) for index in range(self.fresh)]
            waveform = torch.stack([example.waveform for example in examples])  # [B, 1, N]
            self._made[number] = Examples(self.encode(waveform), [example.caption for example in examples])
        return self._made[number]


@dataclass(frozen=True)
class LMTrainingConfig:
    """`condition_dropout`: the share of examples that lose their text (AudioGen: 0.1). begin_with_vectors: see
    LM.begin_with."""

    condition_dropout: float = 0.1
    begin_with_vectors: bool = False
    repeats: int = 1
    weight_decay: float = 0.1
    samples: tuple[str, ...] = ("dog barking in rain", "a rooster crowing", "footsteps on gravel", "an explosion")
    sample_guidance: float = 3.0


SMALL = LMConfig(4, 1024, 384, 6, 6, positions="rope", window_seconds=5.0)


@dataclass(frozen=True)
class LMRecipe:
    """`fitted` takes the model's `codec_fingerprint`, `frame_rate`, `codebook_size` and `condition_dim` from the codec
    and the text encoder in use; the other settings stand as they are."""

    model: LMConfig = SMALL
    training: LMTrainingConfig = field(default_factory=LMTrainingConfig)
    segments: SegmentConfig = field(default_factory=SegmentConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


class TokenExamples:
    """Batches of the codes that `audiolm prepare` wrote: windows of single recordings, their captions reworded.

    A recording shorter than the window is followed by frames that count for nothing. Nothing is encoded, mixed or
    varied here: quicker than `SegmentExamples`, and poorer.
    """

    def __init__(self, tokens: Tokens, split: Split, recipe: LMRecipe) -> None:
        """Raises InputError when the codes are another codec's, or none are of this split."""
        model = recipe.model
        if tokens.info.codec != model.codec_fingerprint:
            raise InputError(
                f"the tokens in {tokens.folder} are those of codec {tokens.info.codec}, not of "
                f"{model.codec_fingerprint}; run `audiolm prepare --force` with the codec to train on."
            )
        chosen = [i for i, clip in enumerate(tokens.clips) if clip.split == split]
        if not chosen:
            raise InputError(f"{tokens.folder} has no tokens of the split '{split}'; prepare it with --valid.")
        self.clips = [tokens.clips[i] for i in chosen]
        self.codes = [tokens.codes(i)[: model.num_codebooks].to(torch.int16) for i in chosen]
        self.frames = round(model.window_seconds * model.frame_rate)
        self.batch_size, self.seed, self.widen = recipe.loop.batch_size, recipe.loop.seed, recipe.segments.widen
        keys = [captions.class_key(clip.caption) for clip in self.clips]
        weights = np.asarray(balanced(keys, [clip.seconds for clip in self.clips], recipe.segments.balance))
        self.probabilities = weights / weights.sum()

    def __call__(self, step: int) -> Examples:
        rng = np.random.default_rng((self.seed, step))
        numbers = rng.choice(len(self.clips), self.batch_size, p=self.probabilities)
        windows = [self._window(int(number), rng) for number in numbers]
        codes = torch.stack([F.pad(window, (0, self.frames - window.shape[1])) for window in windows])
        lengths = torch.tensor([window.shape[1] for window in windows])
        mask = torch.arange(self.frames) < lengths[:, None]
        return Examples(codes, [self._caption(self.clips[int(number)], rng) for number in numbers], mask)

    def _window(self, number: int, rng: np.random.Generator) -> Tensor:
        """[K, up to `frames`] int64."""
        codes = self.codes[number]
        start = int(rng.integers(max(0, codes.shape[1] - self.frames) + 1))
        return codes[:, start : start + self.frames].long()

    def _caption(self, clip: Clip, rng: np.random.Generator) -> str:
        caption = str(rng.choice([clip.caption, *clip.other_captions]))
        return captions.widen(caption, rng) if self.widen else caption


def token_sources(recipe: LMRecipe, tokens: Tokens) -> tuple[ExampleSource, list[Examples]]:
    """As `example_sources`, from prepared codes. Without a validation split the training set stands in for it."""
    splits: set[Split] = {clip.split for clip in tokens.clips}
    held_out = TokenExamples(tokens, "valid" if "valid" in splits else "train", recipe)
    held_out.widen = False
    return TokenExamples(tokens, "train", recipe), [held_out(step) for step in range(VALIDATION_BATCHES)]


def fitted(recipe: LMRecipe, codec: Codec, text: T5Conditioner) -> LMRecipe:
    """The recipe for this codec and text encoder. Raises ConfigError when the codec has too few codebooks."""
    if recipe.model.num_codebooks > codec.num_codebooks:
        raise ConfigError(
            f"the recipe's model has {recipe.model.num_codebooks} codebooks and the codec {codec.num_codebooks}; "
            "lower num_codebooks."
        )
    model = replace(
        recipe.model,
        codebook_size=codec.codebook_size,
        condition_dim=text.dim,
        frame_rate=codec.frame_rate,
        codec_fingerprint=codec.fingerprint(),
    )
    segments = replace(recipe.segments, sample_rate=codec.sample_rate, seconds=model.window_seconds)
    return replace(recipe, model=model, segments=segments)


def example_sources(recipe: LMRecipe, codec: Codec, data: TrainingData) -> tuple[ExampleSource, list[Examples]]:
    """Endless training batches, and a few fixed batches of held-out recordings as they are."""

    def source(subset: Subset, config: SegmentConfig, repeats: int = 1) -> SegmentExamples:
        labels = [clip.caption for clip in subset.clips]
        segments = Segments(subset.recordings, labels, config, recipe.loop.seed)
        encode = partial(codec.encode, num_codebooks=recipe.model.num_codebooks)
        return SegmentExamples(segments, encode, recipe.loop.batch_size, repeats)

    plain = replace(PLAIN, sample_rate=codec.sample_rate, seconds=recipe.segments.seconds)
    held_out = source(data.valid, plain)
    train = source(data.train, recipe.segments, recipe.training.repeats)
    return train, [held_out(step) for step in range(VALIDATION_BATCHES)]


class _Loss(nn.Module):
    """The model's loss as a module, which is what may be wrapped to learn on several devices."""

    def __init__(self, lm: LM) -> None:
        super().__init__()
        self.lm = lm

    def forward(self, codes: Tensor, condition: Condition, frame_mask: Tensor | None) -> LMLoss:
        return self.lm.loss(codes, condition, frame_mask)


class LMTask:
    """See `audiogen_cli.training.loop.Task`. `train(step)` must give the same examples for the same step. The codec and
    the text encoder stay on the CPU, where worker processes use them."""

    def __init__(
        self,
        recipe: LMRecipe,
        codec: Codec,
        text: T5Conditioner,
        train: ExampleSource,
        validation: Sequence[Examples],
        source: dict[str, Any],
        start: LM | None = None,
        folders: Mapping[str, Path] | None = None,
    ) -> None:
        """`folders`: checkpoint folders ("codec", "text") that `export` puts beside the language model's."""
        self.recipe, self.config = recipe, recipe.training
        self.codec, self.text, self.source = codec, text, source
        self.train, self.validation, self.folders = train, validation, dict(folders or {})
        self.lm = start or LM(recipe.model)
        if start is None and self.config.begin_with_vectors:
            self.lm.begin_with(codec.codebooks())
        self.average = averaged(self.lm, recipe.loop)
        self.modules: dict[str, nn.Module] = {"lm": self.lm}
        self.extras: dict[str, Any] = {"average": self.average}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    def prepare(self, accelerator: Accelerator, config: LoopConfig) -> None:
        self.accelerator, self.loop = accelerator, config
        optimizer = adamw(self.lm, config.learning_rate, self.config.weight_decay)
        self.prepared, prepared_optimizer = accelerator.prepare(_Loss(self.lm), optimizer)
        self.average.module.to(accelerator.device)
        self.optimizers = {"lm": prepared_optimizer}

    def batch(self, step: int) -> Batch:
        examples = self.train(step)
        generator = torch.Generator().manual_seed(self.recipe.loop.seed * 1_000_003 + step)
        dropped = torch.rand(len(examples.captions), generator=generator) < self.config.condition_dropout
        return Batch(examples.frames, self.text(examples.captions).drop(dropped), examples.frame_mask)

    def step(self, batch: Batch, step: int) -> dict[str, Tensor | float]:
        codes, condition, mask = batch
        device = self.accelerator.device
        optimizer = self.optimizers["lm"]
        optimizer.zero_grad()
        total, per_codebook = 0.0, torch.zeros(codes.shape[1])
        for rows in torch.arange(codes.shape[0]).chunk(self.loop.accumulate):
            share = len(rows) / codes.shape[0]
            piece = Condition(condition.embedding[rows], condition.mask[rows]).to(device)
            real = None if mask is None else mask[rows].to(device)
            with self.accelerator.autocast():
                loss: LMLoss = self.prepared(codes[rows].to(device), piece, real)
            self.accelerator.backward(loss.mean * share)
            total += float(loss.mean.detach()) * share
            per_codebook += loss.per_codebook.detach().cpu() * share
        norm = self.accelerator.clip_grad_norm_(self.lm.parameters(), self.loop.clip_norm)
        optimizer.step()
        self.average.update(self.lm, step)
        each = {f"loss_{k}": float(value) for k, value in enumerate(per_codebook)}
        return {"loss": total, **each, "gradient_norm": norm}

    @torch.no_grad()
    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """Loss on held-out examples with and without their text, and a sound for each of the sample prompts."""
        lm: LM = self.average.module  # type: ignore[assignment]
        with_text, without, each = 0.0, 0.0, torch.zeros(lm.config.num_codebooks)
        for examples in self.validation:
            codes = examples.frames.to(self.accelerator.device)
            condition = self.text(examples.captions).to(self.accelerator.device)
            mask = None if examples.frame_mask is None else examples.frame_mask.to(self.accelerator.device)
            loss = lm.loss(codes, condition, mask)
            with_text += float(loss.mean) / len(self.validation)
            without += float(lm.loss(codes, condition.null(), mask).mean) / len(self.validation)
            each += loss.per_codebook.cpu() / len(self.validation)
        self._write_samples(lm, folder)
        per_codebook = {f"valid_loss_{k}": float(value) for k, value in enumerate(each)}
        return {"valid_loss": with_text, "valid_loss_without_text": without, **per_codebook}

    def _write_samples(self, lm: LM, folder: Path) -> None:
        if not self.config.samples:
            return
        condition = self.text(self.config.samples).to(self.accelerator.device)
        frames = round(lm.config.window_seconds * lm.config.frame_rate)
        sampling = decoding.Sampling(guidance=self.config.sample_guidance)
        codes = decoding.finish(decoding.decode(lm, condition, frames, range(len(self.config.samples)), sampling))
        for index, prompt in enumerate(self.config.samples):
            sound = self.codec.decode(codes[index : index + 1].cpu())[0]
            stem = f"{index}-{prompt.replace(' ', '-')}"
            audio.write(folder / f"{stem}.wav", sound.clamp(-1, 1), self.codec.sample_rate, force=True)
            image.write_spectrogram(folder / f"{stem}.png", sound, self.codec.sample_rate, force=True)

    def export(self, folder: Path) -> None:
        """A whole model: the language model, and copies of the codec and the text encoder it was trained with."""
        checkpoint.save(folder / "lm", self.average.module, self.source, torch.float16)
        for part, original in self.folders.items():
            if not (folder / part).exists():
                shutil.copytree(original, folder / f"{part}.partial", dirs_exist_ok=True)
                (folder / f"{part}.partial").rename(folder / part)
