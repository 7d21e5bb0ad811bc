"""A codec of mel spectrograms, which a vocoder makes audible: tens of codes a second for speech and sounds alike.

    waveform --log mel--> [B, M, T * subframes] --ConvNeXt, stacked, ConvNeXt--> [B, D, T] --RVQ--> codes [B, K, T]
    codes --> [B, D, T] --ConvNeXt, split, ConvNeXt--> log mel [B, M, T * subframes] --HiFi-GAN--> waveform

What is hard about sound at a low rate, phases and fine texture, is not coded but left to a vocoder that others have
trained (models/hifigan.py). What remains is a picture of 80 rows: it takes minutes to train, with a
discriminator that hears the picture (SpecVQGAN, 2110.08791, trains so) and keeps it from being smooth where it cannot
be known. As elsewhere here (models/spectral.py) linear paths run beside both networks, and noise, the same each time,
is what the decoder makes texture of.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from audiogen_cli.models.codec import Codec, CodecOutput, Levels
from audiogen_cli.models.hifigan import HiFiGAN, HiFiGANConfig
from audiogen_cli.models.spectral import ConvNeXtBlock
from audiogen_cli.ops.blend import balance
from audiogen_cli.ops.precision import quick_dtype
from audiogen_cli.ops.stft import frame_stft, overlap_add, slaney_filter_bank
from audiogen_cli.quantizers.choice import QuantizerChoice
from audiogen_cli.quantizers.rvq import RVQConfig

NOISE_FRAMES = 2048  # mel frames after which the noise begins again
MEAN, SPREAD = -5.0, 2.5  # about those of the log mels of recordings
SPREADS = (-5.0, 0.5)  # between which the logarithm of a texture's spread lies


@dataclass(frozen=True)
class MelConfig:
    """A frame of codes stands for `subframes` mel spectra of the vocoder, `hop_length` samples each.

    vocoder: None is the one that comes with the program, which a checkpoint does not hold again.
    leveling_rounds: how often what it made is brought nearer to the levels that were asked (`HiFiGAN.leveled`).
    """

    vocoder: HiFiGANConfig | None = None
    subframes: int = 8
    subframe_dim: int = 192
    encoder_subframe_layers: int = 2
    decoder_subframe_layers: int = 3
    dim: int = 384
    encoder_layers: int = 3
    decoder_layers: int = 4
    kernel_size: int = 7
    expansion: int = 3
    noise_dim: int = 16
    texture: bool = False
    latent_dim: int = 96
    num_codebooks: int = 12
    codebook_size: int = 1024
    codebook_decay: float = 0.98
    dead_code_threshold: float = 0.25
    quantizer: QuantizerChoice = field(default_factory=QuantizerChoice)
    leveling_rounds: int = 0

    @property
    def voice(self) -> HiFiGANConfig:
        return self.vocoder or HiFiGANConfig()

    @property
    def hop_length(self) -> int:
        return self.subframes * self.voice.hop_length

    @property
    def encoder_context(self) -> int:
        """Frames to either side that a frame of codes depends on."""
        reach = self.kernel_size // 2
        mels = self.encoder_subframe_layers * reach + -(-self.voice.n_fft // (2 * self.voice.hop_length))
        return self.encoder_layers * reach + -(-mels // self.subframes)

    @property
    def decoder_context(self) -> int:
        """Frames to either side that the samples of a frame depend on."""
        reach = self.kernel_size // 2
        leveling = self.leveling_rounds * self.voice.leveling_context
        mels = self.decoder_subframe_layers * reach + self.voice.context + leveling
        return self.decoder_layers * reach + -(-mels // self.subframes)

    def blocks(self, layers: int, dim: int) -> nn.Sequential:
        hidden = dim * self.expansion
        return nn.Sequential(*(ConvNeXtBlock(dim, hidden, self.kernel_size, 1.0 / layers) for _ in range(layers)))


class MelEncoder(nn.Module):
    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        mels, narrow, wide = config.voice.num_mels, config.subframe_dim, config.dim
        self.embed = nn.Linear(mels, narrow)
        self.subframe_blocks = config.blocks(config.encoder_subframe_layers, narrow)
        self.stack = nn.Linear(narrow * config.subframes, wide)
        self.blocks = config.blocks(config.encoder_layers, wide)
        self.norm = nn.LayerNorm(wide, eps=1e-6)
        self.project = nn.Linear(wide, config.latent_dim)
        self.skip = nn.Linear(mels * config.subframes, config.latent_dim)

    def forward(self, level: Tensor) -> Tensor:
        """log mel [B, M, T * subframes], about mean 0 and variance 1 -> latent [B, D, T]."""
        frames = level.transpose(1, 2)
        x = self.subframe_blocks(self.embed(frames))
        x = self.blocks(self.stack(self._stacked(x)))
        return (self.project(self.norm(x)) + self.skip(self._stacked(frames))).transpose(1, 2)

    def _stacked(self, frames: Tensor) -> Tensor:
        """[B, T * subframes, D] -> [B, T, subframes * D]."""
        return frames.reshape(len(frames), -1, self.config.subframes * frames.shape[-1])


class MelDecoder(nn.Module):
    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        mels, narrow, wide = config.voice.num_mels, config.subframe_dim, config.dim
        self.embed = nn.Linear(config.latent_dim, wide)
        self.blocks = config.blocks(config.decoder_layers, wide)
        self.split = nn.Linear(wide, narrow * config.subframes)
        self.noise = nn.Linear(config.noise_dim, narrow, bias=False)
        self.subframe_blocks = config.blocks(config.decoder_subframe_layers, narrow)
        self.norm = nn.LayerNorm(narrow, eps=1e-6)
        self.head = nn.Linear(narrow, 2 * mels if config.texture else mels)
        self.skip = nn.Linear(config.latent_dim, mels * config.subframes)

    def forward(self, latent: Tensor, start: Tensor) -> Tensor:
        """latent [B, D, T], whose first mel frame is frame start[b] of a sound -> log mel [B, 1, M, T * subframes],
        about mean 0 and variance 1; with a texture [B, 2, M, ..], the second its log spread."""
        frames = latent.transpose(1, 2)
        x = self.split(self.blocks(self.embed(frames)))
        x = x.reshape(len(x), -1, self.config.subframe_dim)  # [B, T * subframes, D]
        x = x + self.noise(_noise(self.config.noise_dim).to(x.device)[_places(start, x.shape[1]).to(x.device)])
        x = self.head(self.norm(self.subframe_blocks(x))).float()
        x = x.unflatten(-1, (-1, self.config.voice.num_mels)).permute(0, 2, 3, 1)  # [B, 1 or 2, M, T * subframes]
        skipped = self.skip(frames).float().reshape(len(x), x.shape[3], -1).transpose(1, 2)
        return torch.cat([x[:, :1] + skipped[:, None], x[:, 1:]], dim=1)


class MelCodec(Codec):
    """Mono. `vocoder` is not trained here."""

    channels = 1

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.hop_length = config.voice.sample_rate, config.hop_length
        self.encoder_context, self.decoder_context = config.encoder_context, config.decoder_context
        self.encoder = MelEncoder(config)
        self.quantizer = config.quantizer.build(
            RVQConfig(
                config.num_codebooks,
                config.codebook_size,
                config.latent_dim,
                config.codebook_decay,
                dead_code_threshold=config.dead_code_threshold,
            )
        )
        self.num_codebooks, self.codebook_size = config.num_codebooks, self.quantizer.codebook_size
        self.num_groups = config.quantizer.groups
        self.decoder = MelDecoder(config)
        self.vocoder = HiFiGAN(config.voice).requires_grad_(False)

    @torch.no_grad()
    def level(self, waveform: Tensor) -> Tensor:
        """waveform [B, 1, N] -> its log mel [B, M, T * subframes], about mean 0 and variance 1."""
        whole = nn.functional.pad(waveform, (0, -waveform.shape[-1] % self.hop_length))
        return (self.vocoder.mel(whole) - MEAN) / SPREAD

    @torch.no_grad()
    def encode(self, waveform: Tensor, num_codebooks: int | None = None) -> Tensor:
        return self.quantizer.encode(self.latents(waveform), num_codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        return self.decode_from(codes, 0)

    def decode_from(self, codes: Tensor, first_frame: int) -> Tensor:
        """`decode` of codes that follow `first_frame` others."""
        return self.sound_of(self.latents_of(codes), first_frame)

    @torch.no_grad()
    def latents(self, waveform: Tensor) -> Tensor:
        return self.encoder(self.level(waveform))

    def latents_of(self, codes: Tensor) -> Tensor:
        return self.quantizer.decode(codes)

    def sound_of(self, latents: Tensor, first_frame: int = 0) -> Tensor:
        return self.sound(self._levels_of(latents, first_frame))

    def rough(self, latents: Tensor) -> Tensor:
        return self.scattered(self._levels_of(latents))

    def mixed(self, latents: Tensor, settings: Sequence[bool]) -> Tensor:
        return self.added(self._levels_of(latents), settings)

    def _levels_of(self, latents: Tensor, first_frame: int = 0) -> Tensor:
        start = torch.full((len(latents),), first_frame * self.config.subframes)
        return self.textured(self.decoder(latents, start), start)

    def added(self, level: Tensor, settings: Sequence[bool]) -> Tensor:
        """log mels [L, M, T'] of L sounds -> all of them at once, [1, N]. Energies add up, band by band, so that the
        vocoder has one sound to make. settings: of `ops.blend.balance`."""
        gains = balance((2 * (level * SPREAD + MEAN)).exp().mean(dim=(1, 2)), settings)
        level = level + (gains.log() / (2 * SPREAD))[:, None, None]
        return self.sound((level * (2 * SPREAD)).logsumexp(dim=0, keepdim=True) / (2 * SPREAD))[0]

    def view(self, space: str) -> Codec | Mels:
        return Mels(self) if space == "mel" else self

    def textured(self, heads: Tensor, start: Tensor) -> Tensor:
        """The decoder's output, from mel frame start[b] on -> log mel [B, M, T'] that fluctuates as that of noise does,
        by exp(spread) times as much."""
        if not self.config.texture:
            return heads[:, 0]
        texture = _texture(self.config.voice)[0][:, _places(start, heads.shape[3])].transpose(0, 1)  # [B, M, T']
        return heads[:, 0] + heads[:, 1].clamp(*SPREADS).exp() * texture.to(heads)

    def sound(self, level: Tensor) -> Tensor:
        """log mel [B, M, T'], about mean 0 and variance 1 -> waveform [B, 1, N]."""
        with torch.autocast(level.device.type, enabled=False):
            wanted = level * SPREAD + MEAN
            waveform = self.vocoder(wanted, quick_dtype(wanted.device))
            return self.vocoder.leveled(waveform, wanted, self.config.leveling_rounds)

    def scattered(self, level: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """log mel [B, M, T'], about mean 0 and variance 1 -> waveform [B, N] of these levels with the phases of noise,
        the same noise always unless there is a generator. No vocoder is asked."""
        wanted, voice = level * SPREAD + MEAN, self.config.voice
        generator = generator or torch.Generator().manual_seed(1)
        noise = torch.randn(1, level.shape[2] * voice.hop_length, generator=generator).to(level)
        phases = frame_stft(noise, voice.n_fft, voice.hop_length)
        magnitude = (_inverse_bank(voice).to(level) @ wanted.exp()).clamp_min(0.0)
        waveform = overlap_add(magnitude * phases / phases.abs().clamp_min(1e-6), voice.hop_length)
        return self.vocoder.leveled(waveform[:, None], wanted, self.config.leveling_rounds)[:, 0]

    def forward(self, waveform: Tensor, num_codebooks: int | None = None) -> CodecOutput:
        """The waveform is the input's: nothing is made audible in training, which compares log mels."""
        wanted = self.level(waveform)
        quantized, codes, commitment = self.quantizer(self.encoder(wanted), num_codebooks)
        start = torch.randint(NOISE_FRAMES, (len(wanted),))
        heads = self.decoder(quantized, start)
        distance = self._distance(wanted, heads[:, 0])
        if self.config.texture:
            distance = distance + 0.1 * self._spread_loss(wanted, heads)
        return CodecOutput(
            waveform, codes, commitment, distance, Levels(wanted[:, None], self.textured(heads, start)[:, None], heads)
        )

    def codebooks(self) -> Tensor:
        return self.quantizer.codebooks()

    @property
    def _lowest(self) -> float:
        return (math.log(self.config.voice.floor) - MEAN) / SPREAD

    def _distance(self, wanted: Tensor, made: Tensor) -> Tensor:
        """Mean absolute difference; silence may be as quiet as it likes."""
        return (wanted - made.clamp_min(self._lowest)).abs().mean()

    def _spread_loss(self, wanted: Tensor, heads: Tensor) -> Tensor:
        """Of the residual's fluctuation around its local mean, the negative log likelihood as a Laplace distribution
        whose scale is a multiple of white noise's own.

        What a whole neighbourhood is too loud or too quiet by is an error, and no texture. Silence has none.
        """
        residual = (wanted - heads[:, 0]).detach()
        usual = _texture(self.config.voice)[1].to(residual)[:, None]
        fluctuation = (residual - _local_mean(residual)).abs() / usual
        spread = heads[:, 1].clamp(*SPREADS)
        return (fluctuation * (-spread).exp() + spread).mean()


class Mels:
    """The log mel spectrograms of a MelCodec in the place of its latents, stacked: [B, subframes * M, T]. Nothing of
    what its vocoder hears is left out."""

    def __init__(self, codec: MelCodec) -> None:
        self.codec, self.subframes = codec, codec.config.subframes

    def latents(self, waveform: Tensor) -> Tensor:
        return self._stacked(self.codec.level(waveform))

    @torch.no_grad()
    def latents_of(self, codes: Tensor) -> Tensor:
        """What the codec makes of its codes, without its texture: that is no knowledge, and in a painter's way."""
        start = torch.zeros(len(codes), dtype=torch.int64)
        return self._stacked(self.codec.decoder(self.codec.latents_of(codes), start)[:, 0])

    def sound_of(self, latents: Tensor) -> Tensor:
        return self.codec.sound(self._split(latents))

    def rough(self, latents: Tensor) -> Tensor:
        return self.codec.scattered(self._split(latents))

    def mixed(self, latents: Tensor, settings: Sequence[bool]) -> Tensor:
        return self.codec.added(self._split(latents), settings)

    def _stacked(self, level: Tensor) -> Tensor:
        """[B, M, T * S] -> [B, S * M, T]"""
        return level.unflatten(2, (-1, self.subframes)).permute(0, 3, 1, 2).flatten(1, 2)

    def _split(self, latents: Tensor) -> Tensor:
        return latents.unflatten(1, (self.subframes, -1)).permute(0, 2, 3, 1).flatten(2)


def _places(start: Tensor, frames: int) -> Tensor:
    """Which frames of the noise stand beside frames start[b] and on: [B, frames]."""
    return (start[:, None] + torch.arange(frames, device=start.device)) % NOISE_FRAMES


@functools.lru_cache(maxsize=4)
def _inverse_bank(voice: HiFiGANConfig) -> Tensor:
    """[F, M]"""
    bank = slaney_filter_bank(voice.sample_rate, voice.n_fft, voice.num_mels, voice.f_max)
    inverse: Tensor = torch.linalg.pinv(bank)
    return inverse


@functools.lru_cache(maxsize=4)
def _noise(dim: int) -> Tensor:
    """[NOISE_FRAMES, dim]"""
    return torch.randn(NOISE_FRAMES, dim, generator=torch.Generator().manual_seed(1))


@functools.lru_cache(maxsize=4)
@torch.no_grad()
def _texture(voice: HiFiGANConfig) -> tuple[Tensor, Tensor]:
    """How the log mel of periodic white noise fluctuates around its median, [M, NOISE_FRAMES], and the mean distance of
    that from its own local mean, [M]; in the units of `MelCodec.level`."""
    waveform = torch.randn(1, NOISE_FRAMES * voice.hop_length, generator=torch.Generator().manual_seed(1))
    spectrum = frame_stft(torch.cat([waveform] * 3, -1), voice.n_fft, voice.hop_length)
    bank = slaney_filter_bank(voice.sample_rate, voice.n_fft, voice.num_mels, voice.f_max)
    level = (bank @ spectrum.abs())[0, :, NOISE_FRAMES : 2 * NOISE_FRAMES].clamp_min(voice.floor).log() / SPREAD
    level = level - level.median(dim=1, keepdim=True).values
    return level, (level - _local_mean(level[None])[0]).abs().mean(dim=1)


def _local_mean(level: Tensor) -> Tensor:
    """Over 5 bands and 9 frames: [B, M, T] -> the same shape."""
    return nn.functional.avg_pool2d(level, (5, 9), 1, (2, 4), count_include_pad=False)
