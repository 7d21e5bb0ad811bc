"""SoundStream: An End-to-End Neural Audio Codec (2107.03312).

    waveform [B, C, N] --convolutions, attention--> latent [B, D, T] --quantizer--> codes [B, K, T]
    codes --quantizer--> [B, D, T] --attention, transposed convolutions--> waveform [B, C, T * hop]

The settings and their names are those of `SoundStream` in audiolm-pytorch. What it adds to the paper: local attention
on either side of the quantizer, and by choice a GateLoop after each block, squeeze and excitation inside the residual
units, grouped, lookup-free and finite scalar quantizers. The paper's denoising is a condition on the encoder's output
and the decoder's input (FiLM, 1709.07871).

A frame that N does not fill is completed with padding, and what is decoded is cut to N by the caller. Everything is
causal but for reflection at either end: with `pad_mode` "constant" no frame sees later samples at all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from audiogen_cli.errors import InputError
from audiogen_cli.models.codec import Codec, CodecOutput
from audiogen_cli.ops.conv import ConvStyle, PaddedConv1d, PadMode, TrimmedConvTranspose1d
from audiogen_cli.ops.gateloop import GateLoop
from audiogen_cli.ops.local_attention import LocalAttentionConfig, LocalTransformer
from audiogen_cli.ops.squeeze import SqueezeExcite
from audiogen_cli.ops.streaming import State, stream, stream_sum
from audiogen_cli.quantizers.base import Quantizer, QuantizerDropout
from audiogen_cli.quantizers.choice import build
from audiogen_cli.quantizers.fsq import FSQConfig
from audiogen_cli.quantizers.lfq import LFQConfig
from audiogen_cli.quantizers.rvq import RVQConfig

KERNEL, LAST_ENCODER_KERNEL = 7, 3


@dataclass(frozen=True, kw_only=True)
class SoundStreamConfig:
    """Raises ValueError for settings that make no codec.

    channels, channel_mults: width at the sample rate, and after each stride as a multiple of it.
    strides: samples per frame are their product. enc_cycle_dilations, dec_cycle_dilations: of a block's residual units.
    codebook_dim: width D of the latent.
    codebook_size: of vector and lookup-free quantization; finite_scalar_quantizer_levels make it for the finite scalar.
    rq_num_quantizers: in each of `rq_groups`, so that there are their product of codebooks.
    rq_quantize_dropout_multiple_of, quantize_dropout_cutoff_index: of QuantizerDropout, always on in training.
    rq_kwargs: more settings of RVQConfig, LFQConfig or FSQConfig.
    attn_window_size: in frames. attn_xpos_scale_base, attn_dynamic_pos_bias: see LocalAttentionConfig.

    For training, where SoundStreamTrainer reads them: the weights of the losses, 0 to leave one out; the mel spectra's
    windows 2^i; discr_multi_scales, the rates of the waveform discriminators relative to the codec's;
    complex_stft_discr_kwargs: settings of ComplexSTFTDiscriminatorConfig.

    Two defaults are not audiolm-pytorch's: multi_spectral_recon_loss_weight is the paper's 1 (theirs weighs a sum over
    mels, ours follows the paper's equation), and complex_stft_discr_logits_abs is off, because logits that cannot be
    negative leave the hinge loss one side.
    """

    channels: int = 32
    strides: tuple[int, ...] = (2, 4, 5, 8)
    channel_mults: tuple[int, ...] = (2, 4, 8, 16)
    codebook_dim: int = 512
    codebook_size: int | None = None
    finite_scalar_quantizer_levels: tuple[int, ...] | None = None
    rq_num_quantizers: int = 8
    rq_commitment_weight: float = 1.0
    rq_ema_decay: float = 0.95
    rq_quantize_dropout_multiple_of: int = 1
    rq_groups: int = 1
    rq_stochastic_sample_codes: bool = False
    rq_rotation_trick: bool = True
    rq_kwargs: dict[str, Any] = field(default_factory=dict)
    use_lookup_free_quantizer: bool = False
    use_finite_scalar_quantizer: bool = False
    input_channels: int = 1
    discr_multi_scales: tuple[float, ...] = (1.0, 0.5, 0.25)
    stft_normalized: bool = False
    enc_cycle_dilations: tuple[int, ...] = (1, 3, 9)
    dec_cycle_dilations: tuple[int, ...] = (1, 3, 9)
    multi_spectral_window_powers_of_two: tuple[int, ...] = (6, 7, 8, 9, 10, 11)
    multi_spectral_n_ffts: int = 512
    multi_spectral_n_mels: int = 64
    recon_loss_weight: float = 1.0
    multi_spectral_recon_loss_weight: float = 1.0
    adversarial_loss_weight: float = 1.0
    feature_loss_weight: float = 100.0
    quantize_dropout_cutoff_index: int = 1
    target_sample_hz: int = 16_000
    use_local_attn: bool = True
    attn_window_size: int = 128
    attn_dim_head: int = 64
    attn_heads: int = 8
    attn_depth: int = 1
    attn_xpos_scale_base: float | None = None
    attn_dynamic_pos_bias: bool = False
    use_gate_loop_layers: bool = False
    squeeze_excite: bool = False
    complex_stft_discr_logits_abs: bool = False
    pad_mode: PadMode = "reflect"
    complex_stft_discr_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.strides or len(self.strides) != len(self.channel_mults):
            raise ValueError("strides and channel_mults need one entry a block each; make them equally long.")
        counts = (*self.strides, *self.channel_mults, *self.enc_cycle_dilations, *self.dec_cycle_dilations)
        if min(*counts, self.channels, self.input_channels, self.rq_groups, self.target_sample_hz) < 1:
            raise ValueError("widths, strides, dilations, groups and rates must be 1 or more.")
        if self.use_lookup_free_quantizer and self.use_finite_scalar_quantizer:
            raise ValueError("choose either the lookup-free or the finite scalar quantizer.")
        if self.use_finite_scalar_quantizer == (self.finite_scalar_quantizer_levels is None):
            raise ValueError("finite_scalar_quantizer_levels go with use_finite_scalar_quantizer; set both or neither.")
        if self.use_finite_scalar_quantizer != (self.codebook_size is None):
            raise ValueError("give codebook_size, but not for the finite scalar quantizer, whose levels say it.")
        self.quantizer()  # what it refuses is refused here

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.strides)

    @property
    def widths(self) -> list[int]:
        """At the sample rate, then after each stride."""
        return [self.channels, *(self.channels * multiple for multiple in self.channel_mults)]

    def quantizer(self) -> Quantizer:
        """A new one."""
        dropout = QuantizerDropout(self.quantize_dropout_cutoff_index, self.rq_quantize_dropout_multiple_of)
        try:
            return build(replace(self._quantizer_config(dropout), **self.rq_kwargs), self.rq_groups)
        except TypeError as error:
            raise ValueError(f"rq_kwargs: {error}; take that setting out.") from error

    def _quantizer_config(self, dropout: QuantizerDropout) -> RVQConfig | LFQConfig | FSQConfig:
        count, dim = self.rq_num_quantizers, self.codebook_dim
        if self.finite_scalar_quantizer_levels is not None:
            return FSQConfig(self.finite_scalar_quantizer_levels, dim, count, dropout)
        assert self.codebook_size is not None
        if self.use_lookup_free_quantizer:
            return LFQConfig(count, self.codebook_size, dim, dropout=dropout)
        return RVQConfig(
            count,
            self.codebook_size,
            dim,
            decay=self.rq_ema_decay,
            rotation_trick=self.rq_rotation_trick,
            sample_temperature=1.0 if self.rq_stochastic_sample_codes else 0.0,
            dropout=dropout,
        )

    @property
    def attention(self) -> LocalAttentionConfig:
        return LocalAttentionConfig(
            self.codebook_dim,
            self.attn_depth,
            self.attn_heads,
            self.attn_dim_head,
            self.attn_window_size,
            self.attn_xpos_scale_base,
            self.attn_dynamic_pos_bias,
        )


class ResidualUnit(nn.Module):
    """x -> x + ELU(conv1(ELU(dilated conv(x)))), excited at the end by choice. [B, width, N] -> [B, width, N]."""

    def __init__(self, config: SoundStreamConfig, width: int, dilation: int) -> None:
        super().__init__()
        style = _style(config)
        self.shortcut = nn.Identity()
        self.branch = nn.Sequential(
            PaddedConv1d(width, width, KERNEL, style, dilation=dilation),
            nn.ELU(),
            PaddedConv1d(width, width, 1, style),
            nn.ELU(),
            *([SqueezeExcite(width)] if config.squeeze_excite else []),
        )

    def forward(self, signal: Tensor) -> Tensor:
        return signal + self.branch(signal)

    def stream(self, signal: Tensor, state: State, last: bool) -> tuple[Tensor, State]:
        return stream_sum([self.shortcut, self.branch], signal, state, last)


class Denoising(nn.Module):
    """FiLM: a scale and a shift of each channel for "leave the noise" and "take it out". At first it does nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2, width))
        self.shift = nn.Parameter(torch.zeros(2, width))

    def forward(self, signal: Tensor, denoise: Tensor | bool | None) -> Tensor:
        """[B, width, T]; denoise: one answer, or one for each example [B], or None, which passes the signal."""
        if denoise is None:
            return signal
        which = torch.as_tensor(denoise, device=signal.device).long().reshape(-1)  # [B] or [1]
        return signal * self.scale[which][..., None] + self.shift[which][..., None]


class SoundStreamEncoder(nn.Module):
    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_encoder_layers(config))
        self.denoising = Denoising(config.codebook_dim)

    def forward(self, waveform: Tensor, denoise: Tensor | bool | None = None) -> Tensor:
        """[B, C, N] -> [B, D, T]."""
        return self.denoising(self.layers(waveform), denoise)


class SoundStreamDecoder(nn.Module):
    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.denoising = Denoising(config.codebook_dim)
        self.layers = nn.Sequential(*_decoder_layers(config))

    def forward(self, latent: Tensor, denoise: Tensor | bool | None = None) -> Tensor:
        """[B, D, T] -> [B, C, T * hop]."""
        return self.layers(self.denoising(latent, denoise))


class SoundStreamCodec(Codec):
    """`denoise` tells encoder and decoder to leave background noise or to take it out; None is for a codec that was not
    trained to. The face that programs for audiolm-pytorch know is `SoundStream` in hub/soundstream.py."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.channels, self.hop_length = (
            config.target_sample_hz,
            config.input_channels,
            config.hop_length,
        )
        self.encoder = SoundStreamEncoder(config)
        self.quantizer = config.quantizer()
        self.decoder = SoundStreamDecoder(config)
        self.num_codebooks, self.codebook_size = self.quantizer.num_codebooks, self.quantizer.codebook_size
        self.num_groups = config.rq_groups

    @torch.no_grad()
    def encode(
        self, waveform: Tensor, num_codebooks: int | None = None, denoise: Tensor | bool | None = None
    ) -> Tensor:
        return self.quantizer.encode(self.encoder(self._checked(waveform), denoise), num_codebooks)

    def decode(self, codes: Tensor, denoise: Tensor | bool | None = None) -> Tensor:
        """A code of -1 stands for nothing."""
        if codes.ndim != 3 or not 1 <= codes.shape[1] <= self.num_codebooks or not codes.shape[2]:
            expected = f"[batch, 1 to {self.num_codebooks}, 1 or more frames]"
            raise InputError(f"codes have the shape {list(codes.shape)}; give {expected}.")
        return self.decoder(self.quantizer.decode(codes), denoise)

    def forward(
        self, waveform: Tensor, num_codebooks: int | None = None, denoise: Tensor | bool | None = None
    ) -> CodecOutput:
        latent = self.encoder(self._checked(waveform), denoise)
        quantized, codes, commitment = self.quantizer(latent, num_codebooks)
        decoded = self.decoder(quantized, denoise)[..., : waveform.shape[-1]]
        return CodecOutput(decoded, codes, commitment)

    def codebooks(self) -> Tensor:
        return self.quantizer.codebooks()

    def encode_step(
        self, waveform: Tensor, state: State, last: bool, num_codebooks: int | None = None
    ) -> tuple[Tensor, State]:
        latent, state = stream(self.encoder.layers, waveform, state, last)
        return self.quantizer.encode(latent, num_codebooks), state

    def decode_step(self, codes: Tensor, state: State, last: bool) -> tuple[Tensor, State]:
        return stream(self.decoder.layers, self.quantizer.decode(codes), state, last)

    def _checked(self, waveform: Tensor) -> Tensor:
        if waveform.ndim != 3 or waveform.shape[1] != self.channels or not waveform.shape[2]:
            expected = f"[batch, {self.channels}, 1 or more samples]"
            raise InputError(f"the waveform has the shape {list(waveform.shape)}; give {expected}.")
        return waveform


def _encoder_layers(config: SoundStreamConfig) -> Iterator[nn.Module]:
    style = _style(config)
    yield PaddedConv1d(config.input_channels, config.channels, KERNEL, style)
    for (width, wider), stride in zip(itertools.pairwise(config.widths), config.strides, strict=True):
        yield from (ResidualUnit(config, width, dilation) for dilation in config.enc_cycle_dilations)
        yield PaddedConv1d(width, wider, 2 * stride, style, stride=stride)
        if config.use_gate_loop_layers:
            yield GateLoop(wider)
    yield PaddedConv1d(config.widths[-1], config.codebook_dim, LAST_ENCODER_KERNEL, style)
    if config.use_local_attn:
        yield LocalTransformer(config.attention)


def _decoder_layers(config: SoundStreamConfig) -> Iterator[nn.Module]:
    style, widths = _style(config), config.widths[::-1]
    if config.use_local_attn:
        yield LocalTransformer(config.attention)
    yield PaddedConv1d(config.codebook_dim, widths[0], KERNEL, style)
    for (width, narrower), stride in zip(itertools.pairwise(widths), config.strides[::-1], strict=True):
        yield TrimmedConvTranspose1d(width, narrower, 2 * stride, style, stride=stride)
        yield from (ResidualUnit(config, narrower, dilation) for dilation in config.dec_cycle_dilations)
        if config.use_gate_loop_layers:
            yield GateLoop(narrower)
    yield PaddedConv1d(widths[-1], config.input_channels, KERNEL, style)


def _style(config: SoundStreamConfig) -> ConvStyle:
    """No normalization of any kind, as in the paper."""
    return ConvStyle(causal=True, norm="none", pad_mode=config.pad_mode)
