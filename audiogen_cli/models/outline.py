"""An outline: a codec of few frames a second, whose codes say how the spectrum of a sound moves.

    waveform [B, 1, N] --log mel--> [B, M, T * subframes] --patches--> [B, T, M * subframes] --residual VQ--> [B, K, T]
    codes --sum of the entries--> log mel [B, M, T * subframes] --renderer--> magnitudes, random phases -> waveform

A language model reads as many steps of it for 4 s as of other codecs for 1 s, which holds a sound together when there
is little to learn from. The codes are k-means centres of patches of a log mel spectrum, as those of HuBERT's first
iteration (2106.07447, section III-B) are of MFCCs: nothing is trained for them. What renders them is the spectral
codec's decoder. It begins as an interpolation between the mel bands, and learns the rest by `audiolm train codec`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from audiogen_cli.models.codec import Codec, CodecOutput
from audiogen_cli.models.spectral import LOG_FLOOR, SpectralConfig, SpectralDecoder, magnitude_distance
from audiogen_cli.ops.stft import frame_stft, mel_filter_bank
from audiogen_cli.quantizers import kmeans

FLOOR = math.log(1e-4)  # -80 dB: what is quieter is silence


@dataclass(frozen=True)
class OutlineConfig:
    """A frame of codes stands for `hop_length` samples, described by `subframes` mel spectra of `num_mels` bands.

    decoder_dim .. griffin_lim_iterations: of the renderer, as in SpectralConfig; it hears a mel spectrum as its latent.
        Phases stay random by default: magnitudes as coarse as these fit no waveform, and looking for one spoils noise.
    """

    sample_rate: int = 16_000
    hop_length: int = 1280
    subframes: int = 4
    n_fft: int = 1024
    num_mels: int = 64
    num_codebooks: int = 4
    codebook_size: int = 512
    decoder_dim: int = 384
    decoder_layers: int = 4
    subframe_dim: int = 320
    subframe_layers: int = 2
    synthesis_fft: int = 640
    griffin_lim_iterations: int = 0

    def __post_init__(self) -> None:
        if self.hop_length % self.subframes or self.n_fft < self.hop_length // self.subframes:
            raise ValueError("subframes must divide hop_length, and n_fft must cover a subframe.")

    @property
    def renderer(self) -> SpectralConfig:
        """The spectral codec whose decoder renders: one of its frames is a subframe here."""
        return SpectralConfig(
            sample_rate=self.sample_rate,
            hop_length=self.subframe_hop,
            decoder_dim=self.decoder_dim,
            decoder_layers=self.decoder_layers,
            subframe_dim=self.subframe_dim,
            subframe_layers=self.subframe_layers,
            synthesis_fft=self.synthesis_fft,
            phase="griffin-lim",
            griffin_lim_iterations=self.griffin_lim_iterations,
            latent_dim=self.num_mels,
            analysis_ffts=(),
            analysis_hops=(),
        )

    @property
    def dim(self) -> int:
        return self.num_mels * self.subframes

    @property
    def subframe_hop(self) -> int:
        return self.hop_length // self.subframes


class Outline(Codec):
    """Mono. Its codes are fitted (`fit`, `audiolm train outline`), its renderer is trained (`audiolm train codec`)."""

    channels = 1
    entries: Tensor

    def __init__(self, config: OutlineConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.hop_length = config.sample_rate, config.hop_length
        self.num_codebooks, self.codebook_size = config.num_codebooks, config.codebook_size
        self.encoder_context = -(-(config.n_fft - config.subframe_hop + 1) // (2 * config.hop_length))
        self.decoder_context = -(-config.renderer.decoder_context // config.subframes)
        self.register_buffer("entries", torch.zeros(config.num_codebooks, config.codebook_size, config.dim))
        self.decoder = SpectralDecoder(config.renderer)

    @classmethod
    def fit(cls, waveforms: Iterable[Tensor], config: OutlineConfig, size: int = 100_000, seed: int = 0) -> Outline:
        """An outline for sounds like these [1, N], from `size` of their patches. InputError when they are too few.

        The entries are rounded to 16 bits, as checkpoints keep them.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(config)
        model._interpolate()
        batches = (model.patches(waveform[None])[0] for waveform in waveforms)
        residual = kmeans.sample(batches, size, seed)
        for level in range(config.num_codebooks):
            entries = kmeans.fit(residual, config.codebook_size, seed=seed + level)
            residual = residual - entries[kmeans.nearest(residual, entries)]
            model.entries[level] = entries.half()
        return model

    @torch.no_grad()
    def patches(self, waveform: Tensor) -> Tensor:
        """waveform [B, 1, N] -> natural log of mel magnitudes [B, T, subframes * num_mels]; a full-scale sine is 0."""
        config = self.config
        with torch.autocast(waveform.device.type, enabled=False):
            whole = torch.nn.functional.pad(waveform[:, 0].float(), (0, -waveform.shape[-1] % config.hop_length))
            magnitude = frame_stft(whole, config.n_fft, config.subframe_hop).abs() * (4.0 / config.n_fft)
            bank = mel_filter_bank(config.sample_rate, config.n_fft, config.num_mels).to(magnitude.device)
            level = (bank @ magnitude).clamp_min(math.exp(FLOOR)).log()  # [B, M, T * subframes]
            return level.transpose(1, 2).reshape(len(level), -1, config.dim)

    @torch.no_grad()
    def encode(self, waveform: Tensor, num_codebooks: int | None = None) -> Tensor:
        """waveform [B, 1, N] in [-1, 1] -> codes [B, K, T]."""
        return self.quantize(self.patches(waveform), num_codebooks)

    @torch.no_grad()
    def quantize(self, patches: Tensor, num_codebooks: int | None = None) -> Tensor:
        """patches [B, T, D] -> codes [B, K, T]."""
        residual = patches
        codes = [torch.empty(len(patches), 0, patches.shape[1], dtype=torch.int64, device=patches.device)]
        with torch.autocast(patches.device.type, enabled=False):
            for entries in self.entries[:num_codebooks]:
                codes.append(kmeans.nearest(residual, entries)[:, None])
                residual = residual - entries[codes[-1][:, 0]]
        return torch.cat(codes, 1)

    def dequantize(self, codes: Tensor) -> Tensor:
        """codes [B, K', T], K' <= K -> patches [B, T, D]."""
        return torch.stack([self.entries[k][codes[:, k]] for k in range(codes.shape[1])]).sum(0)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K', T], K' <= K -> waveform [B, 1, T * hop_length]."""
        return self.decode_from(codes, 0)

    def decode_from(self, codes: Tensor, first_frame: int) -> Tensor:
        return self.decoder(self._latent(self.dequantize(codes)), first_frame * self.config.subframes)

    def forward(self, waveform: Tensor, num_codebooks: int | None = None) -> CodecOutput:
        """The waveform has the input's phases: it differs from it in its magnitudes alone.

        With 0 codebooks the renderer hears the mel spectrum as it is.
        """
        renderer, patches = self.config.renderer, self.patches(waveform)
        codes = self.quantize(patches, num_codebooks)
        level, _ = self.decoder.spectrum(self._latent(self.dequantize(codes) if codes.shape[1] else patches))
        whole = torch.nn.functional.pad(waveform, (0, -waveform.shape[-1] % self.hop_length))
        spectrum = frame_stft(whole, renderer.synthesis_fft, renderer.synthesis_hop)
        decoded = self.decoder.synthesize(level, spectrum.angle())[..., : waveform.shape[-1]]
        distance = magnitude_distance(spectrum.abs(), level, self.sample_rate)
        return CodecOutput(decoded, codes, distance.new_zeros(()), distance)

    def codebooks(self) -> Tensor:
        return self.entries

    def _latent(self, patches: Tensor) -> Tensor:
        """patches [B, T, D] -> what the renderer hears, [B, M, T * subframes], about mean 0 and variance 1."""
        level = patches.reshape(len(patches), -1, self.config.num_mels).transpose(1, 2)
        return (torch.where(level < FLOOR + 0.5, LOG_FLOOR - 1.0, level) + 5.0) / 2.0

    @torch.no_grad()
    def _interpolate(self) -> None:
        """The renderer's linear path draws straight lines between the bands, and its network says nothing yet."""
        config, skip = self.config, self.decoder.skip
        bank = mel_filter_bank(config.sample_rate, config.n_fft, config.num_mels)
        gain = bank.sum(1).clamp_min(1e-3)
        centre = (bank * torch.linspace(0, 1, bank.shape[1])).sum(1) / gain  # [M], of the Nyquist frequency
        place = torch.linspace(0, 1, config.renderer.bins)
        above = torch.searchsorted(centre, place).clamp(1, len(centre) - 1)
        share = ((place - centre[above - 1]) / (centre[above] - centre[above - 1]).clamp_min(1e-6)).clamp(0, 1)[:, None]
        weight = torch.zeros(config.renderer.bins, len(centre))
        weight = weight.scatter(1, above[:, None], share).scatter_add(1, above[:, None] - 1, 1 - share)
        skip.weight.copy_(weight.repeat(config.renderer.subframes, 1))
        skip.bias.copy_((weight @ gain.log()).repeat(config.renderer.subframes) / -2.0)
        self.decoder.head.weight.zero_()
        self.decoder.head.bias.zero_()
