"""The codec for small budgets: all of its work is matrix products at the frame rate (after Vocos, 2306.00814).

    waveform -> log magnitudes of long and short STFTs -> ConvNeXt -> RVQ -> ConvNeXt -> magnitude, phase -> waveform
      [N]       [features, T]                             [D, T]      [K, T]             [F, T * subframes]    [N]

Linear paths run beside the networks, from the features to the latent and from the latent to the magnitudes: they learn
in minutes what a principal component analysis would find, and leave the rest to the networks.

The analysis takes one long window a frame for pitch and several short ones for time. The decoder's last blocks run at a
multiple of the frame rate, so that its synthesis window is short enough for a click to stay a click. Phase is not
coded: either the decoder predicts a fitting one, which takes adversarial training to learn, or (phase = "griffin-lim")
it is found from the magnitudes alone.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from audiogen_cli.models.codec import Codec, CodecOutput, Levels
from audiogen_cli.ops.stft import frame_noise, frame_stft, griffin_lim, mel_filter_bank, overlap_add
from audiogen_cli.quantizers.choice import QuantizerChoice
from audiogen_cli.quantizers.rvq import RVQConfig

LOG_FLOOR = math.log(1e-5)  # -100 dB: nothing quieter is told apart
NOISE_FRAMES = 2048  # after which the noise of `_noise` begins again
NOISE_SPREAD = 0.47  # mean distance of white noise's log magnitudes from their local mean (`_local_mean`)


@dataclass(frozen=True)
class SpectralConfig:
    sample_rate: int = 16_000
    channels: int = 1
    hop_length: int = 320
    analysis_ffts: tuple[int, ...] = (1024, 256)
    analysis_hops: tuple[int, ...] = (320, 80)
    encoder_dim: int = 384
    encoder_layers: int = 3
    decoder_dim: int = 512
    decoder_layers: int = 4
    subframes: int = 2
    subframe_dim: int = 384
    subframe_layers: int = 2
    synthesis_fft: int = 640
    phase: Literal["predicted", "griffin-lim"] = "predicted"
    griffin_lim_iterations: int = 4
    texture: Literal["rayleigh", "noise"] = "rayleigh"
    kernel_size: int = 7
    expansion: int = 3
    latent_dim: int = 128
    num_codebooks: int = 12
    codebook_size: int = 1024
    codebook_decay: float = 0.99
    dead_code_threshold: float = 0.1
    quantizer: QuantizerChoice = field(default_factory=QuantizerChoice)

    def __post_init__(self) -> None:
        if len(self.analysis_ffts) != len(self.analysis_hops) or any(self.hop_length % h for h in self.analysis_hops):
            raise ValueError("analysis_hops must divide hop_length, one for each of analysis_ffts.")
        if self.hop_length % self.subframes or self.synthesis_fft < self.hop_length // self.subframes:
            raise ValueError("subframes must divide hop_length, and synthesis_fft must cover a subframe.")

    @property
    def bins(self) -> int:
        return self.synthesis_fft // 2 + 1

    @property
    def synthesis_hop(self) -> int:
        return self.hop_length // self.subframes

    @property
    def encoder_context(self) -> int:
        """Frames to either side that the codes of a frame depend on."""
        beyond = max((n_fft - hop + 1) // 2 for n_fft, hop in zip(self.analysis_ffts, self.analysis_hops, strict=True))
        return -(-beyond // self.hop_length) + self.encoder_layers * (self.kernel_size // 2)

    @property
    def decoder_context(self) -> int:
        """Frames to either side that the samples of a frame depend on."""
        iterations = self.griffin_lim_iterations if self.phase == "griffin-lim" else 0
        overlapping = (iterations + 1) * -(-self.synthesis_fft // self.synthesis_hop)
        subframes = self.subframe_layers * (self.kernel_size // 2) + overlapping
        return (1 + self.decoder_layers) * (self.kernel_size // 2) + -(-subframes // self.subframes)

    @property
    def analysis_features(self) -> int:
        per_hop = zip(self.analysis_ffts, self.analysis_hops, strict=True)
        return self.channels * sum((n_fft // 2 + 1) * (self.hop_length // hop) for n_fft, hop in per_hop)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a pointwise network; the residual branch starts small (2201.03545)."""

    def __init__(self, dim: int, hidden: int, kernel_size: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.expand = nn.Linear(dim, hidden)
        self.project = nn.Linear(hidden, dim)
        self.scale = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, D] -> [B, T, D]."""
        branch = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        branch = self.project(nn.functional.gelu(self.expand(self.norm(branch))))
        return x + self.scale * branch


def _blocks(layers: int, dim: int, config: SpectralConfig) -> nn.Sequential:
    return nn.Sequential(
        *(ConvNeXtBlock(dim, dim * config.expansion, config.kernel_size, 1.0 / layers) for _ in range(layers))
    )


class SpectralEncoder(nn.Module):
    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config.analysis_features, config.encoder_dim)
        self.norm = nn.LayerNorm(config.encoder_dim, eps=1e-6)
        self.blocks = _blocks(config.encoder_layers, config.encoder_dim, config)
        self.final_norm = nn.LayerNorm(config.encoder_dim, eps=1e-6)
        self.project = nn.Linear(config.encoder_dim, config.latent_dim)
        self.skip = nn.Linear(config.analysis_features, config.latent_dim)

    def forward(self, waveform: Tensor) -> Tensor:
        """waveform [B, C, N] -> latent [B, D, T]."""
        features = self.features(waveform)
        x = self.blocks(self.norm(self.embed(features)))
        return (self.project(self.final_norm(x)) + self.skip(features)).transpose(1, 2)

    def features(self, waveform: Tensor) -> Tensor:
        """waveform [B, C, N] -> log magnitudes [B, T, features] in float32; silence is -1.6, full scale 2.4."""
        with torch.autocast(waveform.device.type, enabled=False):
            return self._features(waveform.float())

    def _features(self, waveform: Tensor) -> Tensor:
        config = self.config
        samples = waveform.shape[-1]
        whole = nn.functional.pad(waveform, (0, -samples % config.hop_length))
        parts = []
        for n_fft, hop in zip(config.analysis_ffts, config.analysis_hops, strict=True):
            magnitude = frame_stft(whole, n_fft, hop).abs() * (4.0 / n_fft)  # [B, C, F, T * hop_length / hop]
            level = magnitude.clamp_min(math.exp(LOG_FLOOR)).log().transpose(-1, -2)
            level = 2.4 - 4.0 * level / LOG_FLOOR  # about mean 0 and variance 1 over real recordings
            batch, channels, short_frames, bins = level.shape
            per_frame = config.hop_length // hop
            level = level.reshape(batch, channels, short_frames // per_frame, per_frame * bins)
            parts.append(level.transpose(1, 2).flatten(2))  # [B, T, C * per_frame * F]
        return torch.cat(parts, -1)


class SpectralDecoder(nn.Module):
    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.config = config
        dim, parts = config.decoder_dim, 2 if config.phase == "predicted" or config.texture == "noise" else 1
        self.embed = nn.Conv1d(config.latent_dim, dim, config.kernel_size, padding=config.kernel_size // 2)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.blocks = _blocks(config.decoder_layers, dim, config)
        self.split = nn.Linear(dim, config.subframes * config.subframe_dim)
        self.subframe_blocks = _blocks(config.subframe_layers, config.subframe_dim, config)
        self.final_norm = nn.LayerNorm(config.subframe_dim, eps=1e-6)
        self.head = nn.Linear(config.subframe_dim, config.channels * parts * config.bins)
        self.skip = nn.Linear(config.latent_dim, config.subframes * config.channels * config.bins)

    def forward(self, latent: Tensor, first_frame: int = 0) -> Tensor:
        """latent [B, D, T], which begins with frame `first_frame` of a sound -> waveform [B, C, T * hop_length]."""
        config, first = self.config, first_frame * self.config.subframes
        level, second = self.spectrum(latent)
        if config.phase == "predicted":
            assert second is not None
            return self.synthesize(level, second)
        phases = None
        if second is not None:
            noise = self.noise(torch.full((len(level),), first), level)
            level, phases = textured(level, second, noise), (noise / noise.abs()).flatten(0, 1)
            magnitude = self.magnitude(level)
        else:
            magnitude = self.textured(self.magnitude(level), first)
        iterations = config.griffin_lim_iterations
        waveform = griffin_lim(magnitude.flatten(0, 1), config.synthesis_hop, iterations, 0.0, first, phases)
        return waveform.reshape(*level.shape[:2], -1)

    def spectrum(self, latent: Tensor) -> tuple[Tensor, Tensor | None]:
        """latent [B, D, T] -> log magnitudes, 0 for a full-scale sine, and phases or spreads: [B, C, F, T'] each."""
        x = self.blocks(self.norm(self.embed(latent).transpose(1, 2)))  # [B, T, D]
        x = self.split(x)
        x = x.reshape(x.shape[0], -1, self.config.subframe_dim)  # [B, T' = T * subframes, D]
        x = self.head(self.final_norm(self.subframe_blocks(x))).float()
        x = x.reshape(*x.shape[:2], self.config.channels, -1, self.config.bins).permute(3, 0, 2, 4, 1)
        skipped = self.skip(latent.transpose(1, 2)).float()
        skipped = skipped.reshape(x.shape[1], -1, self.config.channels, self.config.bins).permute(0, 2, 3, 1)
        level = 2.0 * (x[0] + skipped) - 5.0  # about the mean and spread of what there is to say
        return level, x[1] if len(x) > 1 else None

    def noise(self, start: Tensor, like: Tensor) -> Tensor:
        """The spectrum of white noise from frame start[b] on, for each example: complex, like `like` [B, C, F, T']."""
        table = _noise(self.config.synthesis_fft, self.config.synthesis_hop, self.config.channels)
        frames = (start[:, None] + torch.arange(like.shape[-1])) % NOISE_FRAMES  # [B, T']
        return table[..., frames].permute(2, 0, 1, 3).to(like.device)

    def magnitude(self, level: Tensor) -> Tensor:
        """Log magnitudes -> magnitudes of an unscaled STFT; what is below the floor is silence."""
        magnitude = level.clamp_max(2.0).exp() * (self.config.synthesis_fft / 4.0)
        return torch.where(level < LOG_FLOOR + 0.5, torch.zeros_like(magnitude), magnitude)

    def textured(self, magnitude: Tensor, first_frame: int = 0) -> Tensor:
        """Magnitudes [..., F, T'] that fluctuate as those of noise do, around the medians that were learned.

        The bins of noise are Rayleigh distributed; magnitudes fitted to them are smooth, and sound like a buzz. The
        fluctuation is the same each time: that of a frame depends on its number alone.
        """
        uniform = frame_noise(magnitude.shape[-2], magnitude.shape[-1], first_frame, stream=1).clamp_min(1e-9)
        rayleigh = (-2.0 * uniform.log()).sqrt() / math.sqrt(2.0 * math.log(2.0))  # its median is 1
        return magnitude * rayleigh.to(magnitude)

    def synthesize(self, level: Tensor, phase: Tensor) -> Tensor:
        """[B, C, F, T'] twice -> waveform [B, C, N]."""
        spectrum = torch.polar(self.magnitude(level), phase)
        return overlap_add(spectrum.flatten(0, 1), self.config.synthesis_hop).reshape(*level.shape[:2], -1)


def magnitude_distance(target: Tensor, level: Tensor, sample_rate: int) -> Tensor:
    """Mean absolute difference of log magnitudes, of bins and twice of mel bands: [B, C, F, T'] twice -> scalar.

    target: magnitudes of an unscaled STFT; level: logarithms, 0 for a full-scale sine.
    In bands the fluctuation of noise, which no codec of a few kbps keeps, averages out: what is left is heard.
    It is taken before any inverse transform, where each output answers for its own bin. Through the waveform, a
    loud frame that leaks into a silent one has a gradient thousands of times larger than everything else.
    """
    floor, n_fft = math.exp(LOG_FLOOR), 2 * (target.shape[-2] - 1)
    target = target * (4.0 / n_fft)
    wanted = target.clamp_min(floor).log()
    found = torch.where(target <= floor, level.clamp_min(LOG_FLOOR), level)  # silence may be as quiet as it likes
    bins = (wanted - found).abs().mean()
    bank = mel_filter_bank(sample_rate, n_fft, 64).to(level.device)
    bands = [(bank @ magnitude).clamp_min(floor).log() for magnitude in (target, level.clamp_max(2.0).exp())]
    return bins + 2.0 * (bands[0] - bands[1]).abs().mean()


def textured(level: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
    """Log magnitudes that fluctuate as those of `noise` do, by exp(spread) times as much: [B, C, F, T'] each.

    Magnitudes that were learned are smooth, and smooth magnitudes sound like a buzz. With a spread of 0 and the noise's
    phases the result is filtered noise; with one far below 0 it is what was learned.
    """
    return level + spread.clamp(-6.0, 1.0).exp() * noise.abs().log()


@functools.lru_cache(maxsize=8)
def _noise(n_fft: int, hop_length: int, channels: int) -> Tensor:
    """The spectrum of periodic white noise, [C, F, NOISE_FRAMES]; its magnitudes have a median of 1."""
    waveform = torch.randn(channels, NOISE_FRAMES * hop_length, generator=torch.Generator().manual_seed(1))
    spectrum = frame_stft(torch.cat([waveform] * 3, -1), n_fft, hop_length)[..., NOISE_FRAMES : 2 * NOISE_FRAMES]
    return spectrum / spectrum.abs().median()


def _local_mean(level: Tensor) -> Tensor:
    """Over 5 bins and 9 frames: [B, C, F, T'] -> the same shape."""
    return nn.functional.avg_pool2d(level, (5, 9), 1, (2, 4), count_include_pad=False)


class SpectralCodec(Codec):
    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.channels, self.hop_length = config.sample_rate, config.channels, config.hop_length
        self.num_codebooks, self.codebook_size = config.num_codebooks, config.codebook_size
        self.encoder_context, self.decoder_context = config.encoder_context, config.decoder_context
        self.encoder = SpectralEncoder(config)
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
        self.decoder = SpectralDecoder(config)

    def encode(self, waveform: Tensor, num_codebooks: int | None = None) -> Tensor:
        return self.quantizer.encode(self.latents(waveform), num_codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        return self.decode_from(codes, 0)

    def decode_from(self, codes: Tensor, first_frame: int) -> Tensor:
        """`decode` of codes that follow `first_frame` others."""
        return self.sound_of(self.latents_of(codes), first_frame)

    def latents(self, waveform: Tensor) -> Tensor:
        return self.encoder(waveform)

    def latents_of(self, codes: Tensor) -> Tensor:
        return self.quantizer.decode(codes)

    def sound_of(self, latents: Tensor, first_frame: int = 0) -> Tensor:
        return self.decoder(latents, first_frame)

    def forward(self, waveform: Tensor, num_codebooks: int | None = None) -> CodecOutput:
        """Without predicted phases, the waveform has the input's: it differs from it in its magnitudes alone."""
        quantized, codes, commitment = self.quantizer(self.encoder(waveform), num_codebooks)
        level, second = self.decoder.spectrum(quantized)
        whole = nn.functional.pad(waveform, (0, -waveform.shape[-1] % self.hop_length))
        spectrum = frame_stft(whole, self.config.synthesis_fft, self.config.synthesis_hop)
        predicted = second if self.config.phase == "predicted" else None
        decoded = self.decoder.synthesize(level, spectrum.angle() if predicted is None else predicted)
        decoded = decoded[..., : waveform.shape[-1]]
        if self.config.texture == "rayleigh" or second is None:
            distance = magnitude_distance(spectrum.abs(), level, self.sample_rate)
            return CodecOutput(decoded, codes, commitment, distance)
        heads = torch.stack([level, second])
        distance = magnitude_distance(spectrum.abs(), heads[0], self.sample_rate)
        distance = distance + 0.1 * self._spread_loss(spectrum.abs(), *heads)
        return CodecOutput(decoded, codes, commitment, distance, self._levels(spectrum.abs(), heads))

    def _spread_loss(self, target: Tensor, level: Tensor, spread: Tensor) -> Tensor:
        """Of the residual's fluctuation around its local mean, the negative log likelihood as a Laplace distribution.

        What a whole neighbourhood is too loud or too quiet by is an error, and no texture.
        """
        wanted = (target * (4.0 / self.config.synthesis_fft)).clamp_min(math.exp(LOG_FLOOR)).log()
        residual = (wanted - level).detach()
        fluctuation = (residual - _local_mean(residual)).abs() / NOISE_SPREAD
        likelihood = fluctuation * (-spread.clamp(-6.0, 1.0)).exp() + spread.clamp(-6.0, 1.0)
        heard = wanted > LOG_FLOOR + 1.0
        return (likelihood * heard).sum() / heard.sum().clamp_min(1)

    def _levels(self, target: Tensor, heads: Tensor) -> Levels:
        """The textured magnitudes as a discriminator hears them, with other noise each time."""
        noise = self.decoder.noise(torch.randint(NOISE_FRAMES, (target.shape[0],)), heads[0])
        recorded = (target * (4.0 / self.config.synthesis_fft)).clamp_min(math.exp(LOG_FLOOR)).log()
        made = textured(heads[0], heads[1], noise).clamp_min(LOG_FLOOR)
        return Levels((recorded + 5.0) / 2.0, (made + 5.0) / 2.0, heads)

    def codebooks(self) -> Tensor:
        return self.quantizer.codebooks()
