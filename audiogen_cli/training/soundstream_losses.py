"""SoundStream with the losses that programs for audiolm-pytorch ask of its `forward` when they train it themselves.

    total, breakdown = soundstream(audio, return_loss_breakdown=True)           # for the codec's optimizer
    loss = soundstream(audio, return_discr_loss=True, apply_grad_penalty=True)  # for soundstream.discriminators'
    named = soundstream(audio, return_discr_losses_separately=True)             # [("scale:1.0", loss), ..]

They are the losses of SoundStreamTrainer. What we do otherwise than audiolm-pytorch: every term compares with `target`,
a codec of more than one channel has them too, the penalty is R1's on the logits, and the discriminators are no part of
the model: not among its parameters, not in its checkpoints, and a copy of the model makes its own.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from audiogen_cli.config import from_dict
from audiogen_cli.errors import InputError
from audiogen_cli.hub import soundstream as hub
from audiogen_cli.models.soundstream import SoundStreamConfig
from audiogen_cli.models.soundstream_discriminators import (
    ComplexSTFTDiscriminator,
    ComplexSTFTDiscriminatorConfig,
    Discriminators,
    MultiScaleWaveDiscriminator,
    WaveDiscriminatorConfig,
)
from audiogen_cli.training import codec_losses, losses
from audiogen_cli.training.codec_losses import CodecLossConfig

GRADIENT_PENALTY = 10.0


class LossBreakdown(NamedTuple):
    """Unweighted scalars."""

    recon: Tensor
    multi_spectral_recon: Tensor
    adversarial: Tensor
    feature: Tensor
    commitment: Tensor


@dataclass
class _Apart:
    """Holds what is no part of a model: the model does not know it, and a copy of it is empty."""

    stft: nn.Module | None = None
    all: nn.Module | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Apart:
        return _Apart()


class SoundStream(hub.SoundStream):
    """stft_discriminator: [B, C, N] -> list[DiscriminatorOutput], in place of the complex STFT discriminator."""

    def __init__(
        self, config: SoundStreamConfig | None = None, *, stft_discriminator: nn.Module | None = None, **options: Any
    ) -> None:
        super().__init__(config or from_dict(SoundStreamConfig, options, where="SoundStream"))
        self._apart = _Apart(stft_discriminator)

    @property
    def discriminators(self) -> nn.Module:
        """[B, C, N] -> list[DiscriminatorOutput], made when first asked for."""
        self._apart.all = self._apart.all or discriminators(self.config, self._apart.stft)
        return self._apart.all.to(next(self.parameters()).device)

    def forward(
        self,
        waveform: Tensor,
        num_codebooks: int | None = None,
        denoise: Tensor | bool | None = None,
        *,
        target: Tensor | None = None,
        return_loss_breakdown: bool = False,
        return_discr_loss: bool = False,
        return_discr_losses_separately: bool = False,
        apply_grad_penalty: bool = False,
        input_sample_hz: int | None = None,
        curtail_from_left: bool = False,
        is_denoising: bool | None = None,
        **options: Any,
    ) -> Any:
        """Without a loss asked for, what hub's SoundStream gives.

        return_loss_breakdown: the weighted sum that the codec minimises, and its LossBreakdown.
        return_discr_loss: what the discriminators minimise; return_discr_losses_separately: of each by name, with its
            penalty as another. No gradient reaches the codec. apply_grad_penalty: R1's, by a weight of 10.
        target: what should be made of the waveform, shaped like it: the clean sound where is_denoising.
        """
        of_discriminators = return_discr_loss or return_discr_losses_separately
        denoise = is_denoising if denoise is None else denoise
        how: Any = {"input_sample_hz": input_sample_hz, "curtail_from_left": curtail_from_left}
        if not (of_discriminators or return_loss_breakdown):
            return super().forward(waveform, num_codebooks, denoise, **how, **options)
        batch = self._batched(waveform, input_sample_hz, curtail_from_left)
        real = batch if target is None else self._batched(target, input_sample_hz, curtail_from_left)
        if real.shape != batch.shape:
            raise InputError(f"the target has the shape {list(real.shape)}; give {list(batch.shape)}, the waveform's.")
        if not of_discriminators:
            return self._losses(batch, real, num_codebooks, denoise)
        learns = self.quantizer.training
        self.quantizer.eval()  # the codebooks learn from the codec's own step, once
        with torch.no_grad():
            fake = super().forward(batch, num_codebooks, denoise).waveform
        self.quantizer.train(learns)
        real = real.detach().requires_grad_(apply_grad_penalty)
        of_real, of_fake = ([o.logits for o in self.discriminators(sound)] for sound in (real, fake))
        if return_discr_losses_separately:
            return self._named(of_real, of_fake, real if apply_grad_penalty else None)
        loss = losses.discriminator_hinge_loss(of_real, of_fake)
        return loss + 0.5 * GRADIENT_PENALTY * losses.r1_penalty(of_real, real) if apply_grad_penalty else loss

    def _losses(
        self, batch: Tensor, real: Tensor, num_codebooks: int | None, denoise: Tensor | bool | None
    ) -> tuple[Tensor, LossBreakdown]:
        output = super().forward(batch, num_codebooks, denoise)
        config = loss_config(self.config)
        terms = codec_losses.reconstruction(config, real, output.waveform, self.sample_rate)
        terms |= codec_losses.adversarial(self.discriminators, real, output.waveform)
        nothing = output.waveform.new_zeros(())
        total = sum((getattr(config, name) * term for name, term in terms.items()), nothing)
        recon, spectral = (terms.get(name, nothing) for name in ("mse", "spectral"))
        breakdown = LossBreakdown(recon, spectral, terms["adversarial"], terms["feature"], output.commitment)
        return total + config.commitment * output.commitment, breakdown

    def _named(self, real: list[Tensor], fake: list[Tensor], penalised: Tensor | None) -> list[tuple[str, Tensor]]:
        """Every discriminator's hinge loss, then every one's penalty."""
        scales = [f":{scale}" for scale in self.config.discr_multi_scales]
        hinges = [losses.discriminator_hinge_loss([r], [f]) for r, f in zip(real, fake, strict=True)]
        named = list(zip([*(f"scale{scale}" for scale in scales), "stft"], hinges, strict=True))
        if penalised is None:
            return named
        penalties = [0.5 * GRADIENT_PENALTY * losses.r1_penalty([logits], penalised) for logits in real]
        kinds = [*(f"scale_grad_penalty{scale}" for scale in scales), "stft_grad_penalty"]
        return named + list(zip(kinds, penalties, strict=True))


def discriminators(config: SoundStreamConfig, stft: nn.Module | None = None) -> nn.Module:
    """[B, C, N] -> list[DiscriminatorOutput]: of the waveform at each scale, then of its STFT. Raises ConfigError."""
    wave = MultiScaleWaveDiscriminator(wave_config(config))
    return Discriminators([wave, stft or ComplexSTFTDiscriminator(stft_config(config))])


def loss_config(config: SoundStreamConfig) -> CodecLossConfig:
    """What a SoundStream's own arguments say about its losses."""
    return CodecLossConfig(
        mel=0.0,
        stft=0.0,
        complex=0.0,
        mse=config.recon_loss_weight,
        spectral=config.multi_spectral_recon_loss_weight,
        adversarial=config.adversarial_loss_weight,
        feature=config.feature_loss_weight,
        commitment=config.rq_commitment_weight,
        balance=False,
        spectral_windows=tuple(2**power for power in config.multi_spectral_window_powers_of_two),
        spectral_mels=config.multi_spectral_n_mels,
        spectral_min_fft=config.multi_spectral_n_ffts,
        spectral_normalized=config.stft_normalized,
    )


def wave_config(config: SoundStreamConfig) -> WaveDiscriminatorConfig:
    return WaveDiscriminatorConfig(config.input_channels, config.discr_multi_scales)


def stft_config(config: SoundStreamConfig) -> ComplexSTFTDiscriminatorConfig:
    """Raises ConfigError."""
    complex_stft = {"logits_abs": config.complex_stft_discr_logits_abs, **config.complex_stft_discr_kwargs}
    complex_stft.setdefault("input_channels", config.input_channels)
    return from_dict(ComplexSTFTDiscriminatorConfig, complex_stft, "complex_stft_discr_kwargs")


AudioLMSoundStream = functools.partial(SoundStream, strides=(2, 4, 5, 8), target_sample_hz=16_000, rq_num_quantizers=12)
MusicLMSoundStream = functools.partial(SoundStream, strides=(3, 4, 5, 8), target_sample_hz=24_000, rq_num_quantizers=12)
