"""Training a codec: the generator step and the discriminator step (EnCodec, 2210.13438 section 3.4).

    batch --codec--> decoded --losses--> balancer --> codec
                        |
                        `--> MS-STFT discriminator (after `adversarial_start` steps) --> adversarial, feature matching

The reconstruction losses work alone first; the discriminator joins once they have settled. From `freeze_codes_at` on
only the decoder learns, so that the codes keep their meaning and a language model can already be trained on them.

A batch may go through in parts (`accumulate`), whose gradients are averaged before codec and discriminator step, each
against the other as it was. That is the gradient of the whole batch but for two things: feature matching divides by
the size of a part's features, the balancer by that of a part's gradients; and codebooks learn from part after part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from audiogen_cli.data import audio, image
from audiogen_cli.data.recordings import Recordings
from audiogen_cli.errors import ConfigError
from audiogen_cli.hub import checkpoint
from audiogen_cli.hub.soundstream import SoundStream
from audiogen_cli.metrics import similarity
from audiogen_cli.models.codec import Codec, CodecOutput
from audiogen_cli.models.discriminators import (
    MSSTFTDiscriminator,
    MSSTFTDiscriminatorConfig,
    SpectrogramDiscriminator,
    SpectrogramDiscriminatorConfig,
)
from audiogen_cli.models.encodec import Encodec, EncodecConfig
from audiogen_cli.models.mel import MelCodec, MelConfig
from audiogen_cli.models.soundstream import SoundStreamCodec, SoundStreamConfig
from audiogen_cli.models.soundstream_discriminators import (
    ComplexSTFTDiscriminator,
    ComplexSTFTDiscriminatorConfig,
    Discriminators,
    MultiScaleWaveDiscriminator,
    WaveDiscriminatorConfig,
)
from audiogen_cli.models.spectral import SpectralCodec, SpectralConfig
from audiogen_cli.quantizers.base import Quantizer
from audiogen_cli.training import codec_losses, losses
from audiogen_cli.training.codec_losses import CodecLossConfig
from audiogen_cli.training.denoising import with_noise
from audiogen_cli.training.loop import LoopConfig, averaged
from audiogen_cli.training.schedule import Schedule


@dataclass(frozen=True)
class CodecTrainingConfig:
    """`codebook_choices`: how many codebooks a step uses, drawn with `codebook_odds` (quantizer dropout); () is all.

    Among them 0 stands for no quantization, as Mimi trains half of the time (2410.00037), and so do the steps before
    `codes_start`.

    speed: how many times as fast an example is played, which shifts its pitch too: one speaker stands for several.

    discriminator_start: from which step on the discriminator learns, None is `adversarial_start`. Without a head start
        it is little but a linear function at first, which the codec satisfies before it has become more.
    discriminator_probability: of the discriminator to be updated at a step whose turn it is by `discriminator_every`.
    betas, weight_decay: of AdamW, for codec and discriminator; only matrices decay.

    ms_stft, wave_discriminator, complex_discriminator: those asked, together. r1_weight: of R1's penalty on the logits
    of real sound, taken every `r1_every` discriminator steps and as many times heavier then. noise_probability: of an
    example of a SoundStream to be noisy, by `noise_db` below its level, which trains it to take noise out on demand.
    """

    seconds: float = 1.0
    codebook_choices: tuple[int, ...] = ()
    codebook_odds: tuple[float, ...] = ()
    codes_start: int = 0
    adversarial_start: int = 3_000
    discriminator_start: int | None = None
    discriminator_every: int = 1
    discriminator_probability: float = 1.0
    discriminator_learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.8, 0.99)
    weight_decay: float = 0.0
    freeze_codes_at: int | None = None
    mix_probability: float = 0.3
    gain_db: tuple[float, float] = (-12.0, 6.0)
    speed: tuple[float, float] = (1.0, 1.0)
    losses: CodecLossConfig = field(default_factory=CodecLossConfig)
    discriminator: MSSTFTDiscriminatorConfig = field(default_factory=MSSTFTDiscriminatorConfig)
    spectrogram_discriminator: SpectrogramDiscriminatorConfig = field(default_factory=SpectrogramDiscriminatorConfig)
    ms_stft: bool = True
    wave_discriminator: WaveDiscriminatorConfig | None = None
    complex_discriminator: ComplexSTFTDiscriminatorConfig | None = None
    discriminator_clip_norm: float | None = None
    r1_weight: float = 0.0
    r1_every: int = 4
    noise_probability: float = 0.0
    noise_db: tuple[float, float] = (0.0, 30.0)

    def __post_init__(self) -> None:
        if not (self.ms_stft or self.wave_discriminator or self.complex_discriminator):
            raise ValueError(
                "no discriminator is left; leave ms_stft on and set adversarial_start beyond the last step."
            )
        if min(self.r1_weight, self.weight_decay) < 0 or min(self.r1_every, self.discriminator_every) < 1:
            raise ValueError("r1_weight and weight_decay are 0 or more, r1_every and discriminator_every 1 or more.")
        if not (0 <= self.noise_probability <= 1 and 0 <= self.discriminator_probability <= 1):
            raise ValueError("noise_probability and discriminator_probability are from 0 to 1.")
        if not 0 < self.speed[0] <= self.speed[1]:
            raise ValueError("speed is a range above 0, the slower end first.")
        if len(self.codebook_choices) != len(self.codebook_odds):
            raise ValueError("codebook_choices and codebook_odds must be equally long.")


@dataclass(frozen=True)
class CodecRecipe:
    """One of `mel`, `spectral`, `encodec` and `soundstream` says what is built."""

    mel: MelConfig | None = None
    spectral: SpectralConfig | None = None
    encodec: EncodecConfig | None = None
    soundstream: SoundStreamConfig | None = None
    training: CodecTrainingConfig = field(default_factory=CodecTrainingConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if sum(config is not None for config in (self.mel, self.spectral, self.encodec, self.soundstream)) > 1:
            raise ValueError("the recipe names two codecs; keep one of [mel], [spectral], [encodec] and [soundstream].")
        if self.loop.batch_size % self.loop.accumulate:
            raise ValueError("batch_size must be a multiple of accumulate, so that its parts are equally large.")

    def build(self) -> Codec:
        if self.mel:
            return checkpoint.with_vocoder(MelCodec(self.mel))
        if self.soundstream:
            return SoundStream(self.soundstream)
        return Encodec(self.encodec) if self.encodec else SpectralCodec(self.spectral or SpectralConfig())


def validation_pieces(recordings: Recordings, sample_rate: int, count: int = 32, seconds: float = 5.0) -> list[Tensor]:
    """The beginnings [C, N] of up to `count` recordings of a second or more, spread evenly over all of them."""
    long = [i for i in range(len(recordings)) if recordings.waveforms[i].shape[-1] >= sample_rate]
    chosen = (long or list(range(len(recordings))))[:: max(1, len(long) // count)][:count]
    return [recordings[i][:, : round(seconds * sample_rate)] for i in chosen]


class _Part(NamedTuple):
    """What one part of a batch leaves behind when its gradients are in."""

    codes: Tensor
    real: Tensor
    logged: dict[str, Tensor]


class CodecTask:
    """See `audiogen_cli.training.loop.Task`. schedules: by an optimizer's name, in place of the recipe's."""

    def __init__(
        self,
        recipe: CodecRecipe,
        train: Recordings,
        validation: Sequence[Tensor],
        source: dict[str, Any],
        start: Codec | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        """start, discriminator: in place of those that the recipe makes."""
        self.recipe, self.config = recipe, recipe.training
        self.train, self.validation, self.source = train, list(validation), source
        self.codec = start or recipe.build()
        self.discriminator = discriminator or _discriminator(self.codec, self.config)
        self.balancer = self.config.losses.balancer()
        if self.config.noise_probability and not isinstance(self.codec, SoundStreamCodec):
            raise ConfigError("only SoundStream learns to denoise; take noise_probability out of the recipe.")
        self.average = averaged(self.codec, recipe.loop)
        self.modules: dict[str, nn.Module] = {"codec": self.codec, "discriminator": self.discriminator}
        self.extras: dict[str, Any] = {"average": self.average, "balancer": self.balancer}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.schedules: dict[str, Schedule] = {}
        for size in self.config.codebook_choices:
            if size > self.codec.num_codebooks:
                raise ConfigError(f"codebook_choices asks for {size} of {self.codec.num_codebooks} codebooks.")

    def prepare(self, accelerator: Accelerator, config: LoopConfig) -> None:
        self.accelerator, self.clip_norm = accelerator, config.clip_norm
        generator = self._adamw(self.codec, config.learning_rate)
        critic = self._adamw(self.discriminator, self.config.discriminator_learning_rate)
        self.prepared_codec, self.prepared_discriminator, generator, critic = accelerator.prepare(
            self.codec, self.discriminator, generator, critic
        )
        self.average.module.to(accelerator.device)
        self.optimizers = {"codec": generator, "discriminator": critic}

    def _adamw(self, module: nn.Module, learning_rate: float) -> torch.optim.AdamW:
        decayed = [parameter for parameter in module.parameters() if parameter.dim() > 1]
        others = [parameter for parameter in module.parameters() if parameter.dim() <= 1]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        if not self.config.weight_decay:
            groups = [{"params": list(module.parameters())}]
        for group in groups:
            group["initial_lr"] = learning_rate
        return torch.optim.AdamW(groups, learning_rate, self.config.betas, weight_decay=self.config.weight_decay)

    def batch(self, step: int) -> Tensor:
        """[B, C, N]."""
        generator = torch.Generator().manual_seed(self.recipe.loop.seed * 1_000_003 + step)
        samples = round(self.config.seconds * self.codec.sample_rate)
        return torch.stack([self._example(samples, generator) for _ in range(self.recipe.loop.batch_size)])

    def _example(self, samples: int, generator: torch.Generator) -> Tensor:
        heard = round(samples * self._speed(generator))
        waveform = self.train.crop(heard, generator)
        if torch.rand((), generator=generator) < self.config.mix_probability:
            waveform = waveform + self.train.crop(heard, generator)
        if heard != samples:  # a longer or shorter spectrum: played faster or slower
            waveform = torch.fft.irfft(torch.fft.rfft(waveform), samples) * (samples / heard)
        low, high = self.config.gain_db
        gain = 10.0 ** ((low + (high - low) * float(torch.rand((), generator=generator))) / 20.0)
        return waveform * gain / max(1.0, gain * float(waveform.abs().max()))

    def _speed(self, generator: torch.Generator) -> float:
        slowest, fastest = self.config.speed
        if slowest == fastest:
            return slowest
        return slowest * (fastest / slowest) ** float(torch.rand((), generator=generator))

    def step(self, batch: Tensor, step: int) -> dict[str, Tensor | float]:
        if self.config.freeze_codes_at is not None and step >= self.config.freeze_codes_at:
            self._freeze_codes()
        for name, optimizer in self.optimizers.items():
            optimizer.zero_grad()
            for group in optimizer.param_groups if name in self.schedules else ():
                group["lr"] = group["initial_lr"] * self.schedules[name](step)
        heard = self._heard(batch.to(self.accelerator.device))
        num_codebooks = self._num_codebooks(step)
        adversarial, turn = step >= self.config.adversarial_start, self._discriminators_turn(step)
        chunks = zip(*(each.chunk(self.recipe.loop.accumulate) for each in heard), strict=True)
        parts = [self._part(chunk, num_codebooks, adversarial, turn) for chunk in chunks]
        logged: dict[str, Tensor | float] = {
            name: torch.stack([part.logged[name] for part in parts]).mean() for name in parts[0].logged
        }
        if turn:
            logged["discriminator_gradient_norm"] = self._update_discriminator()
            if self.config.r1_weight and step // self.config.discriminator_every % self.config.r1_every == 0:
                logged["r1"] = self._r1_step(torch.cat([part.real for part in parts]))
        logged["gradient_norm"] = self._update("codec", self.codec, self.clip_norm)
        self.average.update(self.codec, step)
        codes = torch.cat([part.codes for part in parts])
        if codes.shape[1]:
            for k, usage in enumerate(similarity.codebook_usage(codes, self.codec.codebook_size)):
                logged |= {f"perplexity_{k}": usage.perplexity, f"used_{k}": usage.used}
        return logged

    def _discriminators_turn(self, step: int) -> bool:
        """Whether the discriminator is updated, by the step alone; EnCodec's is in two steps of three."""
        start = self.config.discriminator_start
        first = self.config.adversarial_start if start is None else start
        if step < first or step % self.config.discriminator_every:
            return False
        generator = torch.Generator().manual_seed(self.recipe.loop.seed * 1_000_003 + step + 700_001)
        return float(torch.rand((), generator=generator)) < self.config.discriminator_probability

    def _part(self, heard: Sequence[Tensor], num_codebooks: int | None, adversarial: bool, turn: bool) -> _Part:
        """The gradients of a part of the batch, of the discriminator's weights where it has its turn."""
        waveform, target, *denoise = heard
        with self.accelerator.autocast():
            output: CodecOutput = self.prepared_codec(waveform, num_codebooks, *denoise)
        decoded = output.waveform.float()
        real, fake, anchor = output.levels or (target, decoded, decoded)
        judged = {"discriminator": self._discriminator_loss(real, fake.detach())} if turn else {}
        terms = {} if output.levels else self._reconstruction(target, decoded)
        if adversarial:
            terms |= self._adversarial(real, fake)
        asked = {"commitment": output.commitment}
        if output.magnitude is not None:
            asked["magnitude"] = output.magnitude
        logged = {name: term.detach() for name, term in (terms | asked | judged).items()}
        self._differentiate(terms, anchor, output)
        return _Part(output.codes, real.detach(), logged)

    def _heard(self, batch: Tensor) -> tuple[Tensor, ...]:
        """What the codec hears, what it should make of it, and, where it learns to denoise, whether to do so."""
        if not self.config.noise_probability:
            return batch, batch
        return with_noise(batch, self.config.noise_probability, self.config.noise_db)

    def _num_codebooks(self, step: int) -> int | None:
        if step < self.config.codes_start:
            return 0
        if not self.config.codebook_choices:  # all of them, or what the quantizer's own dropout draws
            quantizer = getattr(self.codec, "quantizer", None)
            return quantizer.drawn(None, self.accelerator.device) if isinstance(quantizer, Quantizer) else None
        generator = torch.Generator().manual_seed(self.recipe.loop.seed * 1_000_003 + step + 500_009)
        drawn = torch.multinomial(torch.tensor(self.config.codebook_odds), 1, generator=generator)
        return self.config.codebook_choices[int(drawn)]

    def _freeze_codes(self) -> None:
        """Everything before the decoder stops learning; its codebooks too, because they learn only in training mode."""
        for name, child in self.codec.named_children():
            if name != "decoder":
                child.eval().requires_grad_(False)

    def _reconstruction(self, batch: Tensor, decoded: Tensor) -> dict[str, Tensor]:
        return codec_losses.reconstruction(self.config.losses, batch, decoded, self.codec.sample_rate)

    def _adversarial(self, batch: Tensor, decoded: Tensor) -> dict[str, Tensor]:
        with self.accelerator.autocast():
            return codec_losses.adversarial(self.prepared_discriminator, batch, decoded)

    def _discriminator_loss(self, batch: Tensor, decoded: Tensor) -> Tensor:
        with self.accelerator.autocast():
            real, fake = self.prepared_discriminator(batch), self.prepared_discriminator(decoded)
        loss = losses.discriminator_hinge_loss([o.logits for o in real], [o.logits for o in fake])
        self.accelerator.backward(loss)
        return loss.detach()

    def _update_discriminator(self) -> Tensor:
        clip_norm = self.config.discriminator_clip_norm or self.clip_norm
        return self._update("discriminator", self.discriminator, clip_norm)

    def _update(self, name: str, module: nn.Module, clip_norm: float) -> Tensor:
        """A step along the mean of the parts' gradients, whose norm it returns."""
        if self.recipe.loop.accumulate > 1:
            gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
            torch._foreach_div_(gradients, self.recipe.loop.accumulate)
        norm: Tensor = self.accelerator.clip_grad_norm_(module.parameters(), clip_norm)
        self.optimizers[name].step()
        return norm

    def _r1_step(self, real: Tensor) -> Tensor:
        """A step of its own, on the logits: see losses.r1_penalty."""
        self.optimizers["discriminator"].zero_grad()
        penalties = []
        for part in real.chunk(self.recipe.loop.accumulate):
            part = part.detach().clone().requires_grad_()
            penalty = losses.r1_penalty([output.logits for output in self.prepared_discriminator(part)], part)
            self.accelerator.backward(0.5 * self.config.r1_weight * self.config.r1_every * penalty)
            penalties.append(penalty.detach())
        self._update_discriminator()
        return torch.stack(penalties).mean()

    def _differentiate(self, terms: dict[str, Tensor], anchor: Tensor, output: CodecOutput) -> None:
        """Balances the losses that pass through `anchor`; of the others the sum is differentiated as it is."""
        outside = self.config.losses.commitment * output.commitment
        if output.magnitude is not None:
            if terms and output.levels:
                terms = terms | {"magnitude": output.magnitude}
            else:
                outside = outside + self.config.losses.magnitude * output.magnitude
        if outside.requires_grad:
            self.accelerator.backward(outside, retain_graph=bool(terms))
        if terms:
            self.balancer.backward(terms, anchor)

    @torch.no_grad()
    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """Held-out recordings through the averaged codec at each trained rate; the first ones are written out."""
        codec: Codec = self.average.module  # type: ignore[assignment]
        sizes = [size for size in self.config.codebook_choices if size] or [codec.num_codebooks]
        metrics: dict[str, float] = {}
        for size in sizes:
            scores = [self._score(codec, waveform, size) for waveform in self.validation]
            for name in scores[0]:
                metrics[f"{name}_{size}"] = sum(score[name] for score in scores) / len(scores)
        used = [codec.encode(waveform[None].to(self.accelerator.device)) for waveform in self.validation]
        for k, usage in enumerate(similarity.codebook_usage(torch.cat(used, -1), codec.codebook_size)):
            metrics |= {f"used_{k}": usage.used, f"perplexity_{k}": usage.perplexity}
        self._write_samples(codec, folder, sizes[0])
        return metrics

    def _score(self, codec: Codec, waveform: Tensor, size: int) -> dict[str, float]:
        batch = waveform[None].to(self.accelerator.device)
        decoded = codec.decode(codec.encode(batch, size))[..., : batch.shape[-1]]
        return {
            "mel_distance": float(similarity.mel_distance(batch, decoded, codec.sample_rate)),
            "si_snr": float(similarity.si_snr(batch, decoded).mean()),
            "stft_distance": float(similarity.log_spectral_distance(batch, decoded)),
        }

    def _write_samples(self, codec: Codec, folder: Path, size: int) -> None:
        for index, waveform in enumerate(self.validation[:8]):
            decoded = codec.decode(codec.encode(waveform[None].to(self.accelerator.device), size))[0].cpu()
            for name, sound in (("original", waveform), ("decoded", decoded)):
                audio.write(folder / f"{index}-{name}.wav", sound, codec.sample_rate, force=True)
                image.write_spectrogram(folder / f"{index}-{name}.png", sound, codec.sample_rate, force=True)

    def export(self, folder: Path) -> None:
        checkpoint.save(folder, self.average.module, self.source, torch.float16)


def _discriminator(codec: Codec, config: CodecTrainingConfig) -> nn.Module:
    """What the recipe asks for; a codec whose magnitudes have a texture has its own. A single one is its own module."""
    if isinstance(codec, MelCodec) or (isinstance(codec, SpectralCodec) and codec.config.texture == "noise"):
        return SpectrogramDiscriminator(config.spectrogram_discriminator)
    members: list[nn.Module] = [MSSTFTDiscriminator(config.discriminator)] if config.ms_stft else []
    if config.wave_discriminator:
        members.append(MultiScaleWaveDiscriminator(config.wave_discriminator))
    if config.complex_discriminator:
        members.append(ComplexSTFTDiscriminator(config.complex_discriminator))
    return members[0] if len(members) == 1 else Discriminators(members)
