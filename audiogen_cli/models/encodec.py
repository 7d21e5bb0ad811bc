"""High Fidelity Neural Audio Compression (EnCodec, 2210.13438): SEANet around a residual vector quantizer.

    waveform [B, C, N] --encoder--> latent [B, D, T] --RVQ--> codes [B, K, T] --RVQ, decoder--> waveform [B, C, T * hop]

A frame that N does not fill is completed layer by layer with the network's own padding, as the published models do it.
Names of tensors map one to one to those of published checkpoints: see ops/seanet.py for the layers' numbers, and
`quantizer.stages.K` is AudioCraft's `quantizer.vq.layers.K._codebook` and transformers' `quantizer.layers.K.codebook`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from audiogen_cli.errors import InputError, ModelError
from audiogen_cli.models.codec import Codec, CodecOutput
from audiogen_cli.ops.conv import fold_weight_norm
from audiogen_cli.ops.seanet import SEANetConfig, SEANetDecoder, SEANetEncoder
from audiogen_cli.ops.streaming import State, stream
from audiogen_cli.quantizers.choice import QuantizerChoice
from audiogen_cli.quantizers.rvq import RVQConfig


@dataclass(frozen=True, kw_only=True)
class EncodecConfig(SEANetConfig):
    """The network's settings, and:

    normalize: every segment is divided by its loudness, which is then part of what is stored (section 3.1, 48 kHz).
    segment_seconds, overlap: segments of this length share this fraction; None: the whole sound is one.
    quantizer: the published models have the default.
    """

    sample_rate: int = 24_000
    num_codebooks: int = 32
    codebook_size: int = 1024
    quantizer: QuantizerChoice = field(default_factory=QuantizerChoice)
    normalize: bool = False
    segment_seconds: float | None = None
    overlap: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sample_rate", "num_codebooks", "codebook_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"'{name}' is {getattr(self, name)}; make it 1 or more.")
        if not 0.0 <= self.overlap < 1.0:
            raise ValueError(f"'overlap' is {self.overlap}; give a fraction from 0 to below 1.")
        if self.segment_seconds is not None and self.segment_length < 1:  # type: ignore[operator]
            raise ValueError(f"'segment_seconds' is {self.segment_seconds}; make it a sample or longer.")

    @property
    def segment_length(self) -> int | None:
        """Samples per segment; None when a sound is one segment."""
        return None if self.segment_seconds is None else round(self.segment_seconds * self.sample_rate)

    @property
    def segment_stride(self) -> int | None:
        """Samples from the start of one segment to the start of the next."""
        return None if self.segment_length is None else max(1, round((1.0 - self.overlap) * self.segment_length))

    @property
    def rvq(self) -> RVQConfig:
        return RVQConfig(self.num_codebooks, self.codebook_size, dim=self.dimension)


class ScaledCodes(NamedTuple):
    """One segment. codes: [B, K, T]; scale: [B, 1, 1], the loudness taken out (1 unless the model normalizes)."""

    codes: Tensor
    scale: Tensor


class Encodec(Codec):
    """`encode` and `decode` raise ModelError when `normalize` is set: codes alone do not say how loud they are."""

    def __init__(self, config: EncodecConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = config.sample_rate
        self.channels = config.channels
        self.hop_length = config.hop_length
        self.num_codebooks = config.num_codebooks
        self.encoder = SEANetEncoder(config)
        self.decoder = SEANetDecoder(config)
        self.quantizer = config.quantizer.build(config.rvq)
        self.codebook_size, self.num_groups = self.quantizer.codebook_size, config.quantizer.groups

    def encode(self, waveform: Tensor, num_codebooks: int | None = None) -> Tensor:
        self._refuse_if_scaled("encode_scaled")
        return self.encode_scaled(waveform, num_codebooks).codes

    def decode(self, codes: Tensor) -> Tensor:
        self._refuse_if_scaled("decode_scaled")
        return self._synthesize(codes)

    @torch.no_grad()
    def latents(self, waveform: Tensor) -> Tensor:
        """Raises ModelError when the codec keeps the loudness apart."""
        self._refuse_if_scaled("encode_scaled")
        return self.encoder(waveform)

    def latents_of(self, codes: Tensor) -> Tensor:
        return self.quantizer.decode(codes)

    def sound_of(self, latents: Tensor) -> Tensor:
        self._refuse_if_scaled("decode_scaled")
        return self.decoder(latents)

    def encode_step(
        self, waveform: Tensor, state: State, last: bool, num_codebooks: int | None = None
    ) -> tuple[Tensor, State]:
        self._refuse_if_scaled("encode_scaled")
        latent, state = stream(self.encoder, waveform, state, last)
        return self.quantizer.encode(latent, num_codebooks), state

    def decode_step(self, codes: Tensor, state: State, last: bool) -> tuple[Tensor, State]:
        self._refuse_if_scaled("decode_scaled")
        return stream(self.decoder, self.quantizer.decode(codes), state, last)

    @torch.no_grad()
    def encode_scaled(self, waveform: Tensor, num_codebooks: int | None = None) -> ScaledCodes:
        """waveform [B, C, N], one segment -> its codes and loudness."""
        scale = self._scale(waveform)
        return ScaledCodes(self.quantizer.encode(self.encoder(waveform / scale), num_codebooks), scale)

    def decode_scaled(self, scaled: ScaledCodes) -> Tensor:
        """-> waveform [B, C, T * hop_length]."""
        return self._synthesize(scaled.codes) * scaled.scale

    def forward(self, waveform: Tensor, num_codebooks: int | None = None) -> CodecOutput:
        scale = self._scale(waveform)
        quantized, codes, commitment = self.quantizer(self.encoder(waveform / scale), num_codebooks)
        decoded = self.decoder(quantized) * scale  # [B, C, T * hop_length]
        return CodecOutput(decoded[..., : waveform.shape[-1]], codes, commitment)

    def codebooks(self) -> Tensor:
        return self.quantizer.codebooks()

    def fold_weight_norm(self) -> Encodec:
        """For inference: the same function with plain weights, in place. `config.norm` then says "none"."""
        if self.config.norm == "weight_norm":
            fold_weight_norm(self)
            self.config = replace(self.config, norm="none")
        return self

    def _synthesize(self, codes: Tensor) -> Tensor:
        if codes.ndim != 3 or not 1 <= codes.shape[1] <= self.num_codebooks or not codes.shape[2]:
            expected = f"[batch, 1 to {self.num_codebooks}, 1 or more frames]"
            raise InputError(f"codes have the shape {list(codes.shape)}; give {expected}.")
        return self.decoder(self.quantizer.decode(codes))

    def _scale(self, waveform: Tensor) -> Tensor:
        """[B, C, N] -> [B, 1, 1]: RMS of the mono mix + 1e-8, or 1."""
        if waveform.ndim != 3 or waveform.shape[1] != self.channels or not waveform.shape[2]:
            expected = f"[batch, {self.channels}, 1 or more samples]"
            raise InputError(f"the waveform has the shape {list(waveform.shape)}; give {expected}.")
        if not self.config.normalize:
            return waveform.new_ones(waveform.shape[0], 1, 1)
        mono = waveform.mean(dim=1, keepdim=True)  # [B, 1, N]
        return mono.square().mean(dim=-1, keepdim=True).sqrt() + 1e-8

    def _refuse_if_scaled(self, instead: str) -> None:
        if self.config.normalize:
            raise ModelError(f"this codec keeps the loudness beside its codes; call {instead} instead.")


class StereoEncodec(Codec):
    """A mono codec run on either channel (MusicGen, section 4.5); codebook 2 k + c is codebook k of channel c."""

    def __init__(self, config: EncodecConfig) -> None:
        super().__init__()
        if config.channels != 1 or config.normalize:
            raise ValueError("stereo is made of a mono codec that does not normalize; set channels 1, normalize false")
        self.config = config
        self.mono = Encodec(config)
        self.sample_rate = config.sample_rate
        self.channels = 2
        self.hop_length = config.hop_length
        self.num_codebooks = 2 * config.num_codebooks
        self.codebook_size, self.num_groups = self.mono.codebook_size, 2 * self.mono.num_groups

    def encode(self, waveform: Tensor, num_codebooks: int | None = None) -> Tensor:
        """waveform [B, 2, N] -> codes [B, 2 K, T]; `num_codebooks` counts both channels' and is even."""
        if waveform.ndim != 3 or waveform.shape[1] != 2:
            raise InputError(f"the waveform has the shape {list(waveform.shape)}; give [batch, 2, samples].")
        each = self._each(num_codebooks or self.num_codebooks)
        sides = [self.mono.encode(waveform[:, c : c + 1], each) for c in (0, 1)]  # [B, K, T] each
        return torch.stack(sides, dim=2).flatten(1, 2)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, 2 K', T] -> waveform [B, 2, T * hop_length]."""
        if codes.ndim != 3:
            raise InputError(f"codes have the shape {list(codes.shape)}; give [batch, codebooks, frames].")
        self._each(codes.shape[1])
        return torch.cat([self.mono.decode(codes[:, c::2]) for c in (0, 1)], dim=1)

    def encode_step(
        self, waveform: Tensor, state: State, last: bool, num_codebooks: int | None = None
    ) -> tuple[Tensor, State]:
        each = self._each(num_codebooks or self.num_codebooks)
        sides = state or (None, None)
        steps = [self.mono.encode_step(waveform[:, c : c + 1], sides[c], last, each) for c in (0, 1)]
        return torch.stack([codes for codes, _ in steps], dim=2).flatten(1, 2), [state for _, state in steps]

    def decode_step(self, codes: Tensor, state: State, last: bool) -> tuple[Tensor, State]:
        self._each(codes.shape[1])
        sides = state or (None, None)
        steps = [self.mono.decode_step(codes[:, c::2], sides[c], last) for c in (0, 1)]
        return torch.cat([waveform for waveform, _ in steps], dim=1), [state for _, state in steps]

    def forward(self, waveform: Tensor, num_codebooks: int | None = None) -> CodecOutput:
        each = self._each(num_codebooks or self.num_codebooks)
        sides = [self.mono(waveform[:, c : c + 1], each) for c in (0, 1)]
        codes = torch.stack([side.codes for side in sides], dim=2).flatten(1, 2)
        return CodecOutput(torch.cat([s.waveform for s in sides], 1), codes, sides[0].commitment + sides[1].commitment)

    def codebooks(self) -> Tensor:
        return self.mono.codebooks().repeat_interleave(2, dim=0)

    def fold_weight_norm(self) -> StereoEncodec:
        """As Encodec's."""
        self.config = self.mono.fold_weight_norm().config
        return self

    @staticmethod
    def _each(num_codebooks: int) -> int:
        if num_codebooks % 2:
            raise InputError(f"{num_codebooks} codebooks are not shared by two channels; ask for an even number.")
        return num_codebooks // 2


ENCODEC_24KHZ = EncodecConfig()

ENCODEC_48KHZ = EncodecConfig(
    sample_rate=48_000,
    channels=2,
    num_codebooks=16,
    causal=False,
    norm="time_group_norm",
    normalize=True,
    segment_seconds=1.0,
    overlap=0.01,
)

# The codecs of AudioGen and MusicGen, 50 frames per second. A published file names its own pad_mode: believe the file.
AUDIOGEN_16KHZ = EncodecConfig(
    sample_rate=16_000,
    num_filters=64,
    num_codebooks=4,
    codebook_size=2048,
    causal=False,
    true_skip=True,
    pad_mode="constant",
)

MUSICGEN_32KHZ = replace(AUDIOGEN_16KHZ, sample_rate=32_000, ratios=(8, 5, 4, 4))
