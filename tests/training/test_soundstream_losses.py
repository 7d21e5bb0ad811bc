"""The lines of a program that trains a SoundStream by itself."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import audiogen_cli
from audiogen_cli.errors import ConfigError, InputError
from audiogen_cli.models.soundstream_discriminators import ComplexSTFTDiscriminator, ComplexSTFTDiscriminatorConfig
from audiogen_cli.training import losses
from audiogen_cli.training.soundstream_losses import AudioLMSoundStream, MusicLMSoundStream, SoundStream

SMALL = {"channels": 2, "strides": [[4, 4]], "chan_mults": [1], "n_fft": 128, "win_length": 128}
TINY: dict[str, Any] = {
    "channels": 2,
    "strides": (2, 5),
    "channel_mults": (1, 2),
    "codebook_dim": 8,
    "codebook_size": 16,
    "rq_num_quantizers": 2,
    "use_local_attn": False,
    "discr_multi_scales": (1.0, 0.5),
    "multi_spectral_window_powers_of_two": (7,),
    "complex_stft_discr_kwargs": SMALL,
}


def soundstream(**options: Any) -> SoundStream:
    torch.manual_seed(0)
    model = SoundStream(**(TINY | options))
    model(torch.randn(2, model.channels, 1_000))  # k-means start
    return model.eval()


def noise(channels: int = 1) -> torch.Tensor:
    return torch.randn(2, channels, 800, generator=torch.Generator().manual_seed(5))


def test_it_is_the_public_one_and_what_no_loss_is_asked_of_is_as_before() -> None:
    assert audiogen_cli.SoundStream is SoundStream
    model = soundstream()
    assert model(noise()).waveform.shape == model(noise(), return_recons_only=True).shape == (2, 1, 800)
    assert model(noise(), return_codes_only=True).shape == (1, 2, 80, 2)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_total_is_the_weighted_sum_of_the_breakdown(channels: int) -> None:
    weights = {"recon_loss_weight": 2.0, "multi_spectral_recon_loss_weight": 0.5, "adversarial_loss_weight": 3.0}
    model = soundstream(input_channels=channels, feature_loss_weight=4.0, rq_commitment_weight=5.0, **weights)
    total, parts = model(noise(channels), return_loss_breakdown=True)
    weighted = 2 * parts.recon + parts.multi_spectral_recon / 2 + 3 * parts.adversarial + 4 * parts.feature
    torch.testing.assert_close(total, weighted + 5 * parts.commitment)
    recon, *_ = parts  # a tuple, as programs take it apart
    assert recon is parts.recon


def test_the_codecs_loss_teaches_the_codec_and_not_the_discriminators() -> None:
    model = soundstream().train()
    model(noise(), return_loss_breakdown=True)[0].backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "denoising" not in name)
    assert all(p.grad is None and p.requires_grad for p in model.discriminators.parameters())


def test_a_loss_of_weight_0_is_left_out() -> None:
    model = soundstream(multi_spectral_recon_loss_weight=0.0)
    assert model(noise(), return_loss_breakdown=True)[1].multi_spectral_recon == 0


def test_the_discriminators_loss_teaches_them_and_not_the_codec() -> None:
    model = soundstream().train()
    before = model.codebooks().clone()
    loss = model(noise(), return_discr_loss=True)
    assert model.quantizer.training and torch.equal(model.codebooks(), before)
    loss.backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in model.discriminators.parameters())
    named = dict(model.eval()(noise(), return_discr_losses_separately=True))
    assert list(named) == ["scale:1.0", "scale:0.5", "stft"]
    together = model(noise(), return_discr_loss=True)
    torch.testing.assert_close(torch.stack(list(named.values())).mean(), together)


def test_the_penalty_comes_on_top_and_hears_what_the_hinge_no_longer_does() -> None:
    model = soundstream()
    plain = model(noise(), return_discr_loss=True)
    assert model(noise(), return_discr_loss=True, apply_grad_penalty=True) > plain
    with torch.no_grad():
        for name, bias in model.discriminators.named_parameters():
            if "post.bias" in name:
                bias.fill_(50.0)  # every logit of real sound is far above 1
    named = dict(model(noise(), return_discr_losses_separately=True, apply_grad_penalty=True))
    penalties = ["scale_grad_penalty:1.0", "scale_grad_penalty:0.5", "stft_grad_penalty"]
    assert list(named)[3:] == penalties and all(named[name] > 0 for name in penalties)


def test_every_term_compares_with_the_target() -> None:
    model, noisy = soundstream(), noise()
    clean = 0.1 * noisy
    alone = model(noisy, return_loss_breakdown=True)[1]
    denoised = model(noisy, target=clean, is_denoising=True, return_loss_breakdown=True)[1]
    decoded = model(noisy, is_denoising=True).waveform
    torch.testing.assert_close(denoised.recon, (decoded - clean).square().mean())
    for name in ("recon", "multi_spectral_recon", "feature"):
        assert getattr(denoised, name) != getattr(alone, name), name
    of_clean = model(noisy, target=clean, return_discr_loss=True)
    assert of_clean != model(noisy, return_discr_loss=True)
    with pytest.raises(InputError, match="the waveform's"):
        model(noisy, target=clean[..., 1:], return_loss_breakdown=True)


def test_what_is_curtailed_or_resampled_is_the_target_too() -> None:
    model = soundstream()
    longer = torch.randn(1, 1, 807)
    left = model(longer, target=longer, curtail_from_left=True, return_loss_breakdown=True)[0]
    torch.testing.assert_close(left, model(longer[..., 7:], return_loss_breakdown=True)[0])
    twice = model(torch.randn(1, 1, 1_600), input_sample_hz=32_000, return_loss_breakdown=True)[0]
    assert twice.isfinite()


def test_the_discriminators_are_no_part_of_the_model_its_copies_or_its_checkpoints(tmp_path: Path) -> None:
    model = soundstream()
    known = {id(parameter) for parameter in model.discriminators.parameters()}
    assert not known & {id(parameter) for parameter in model.parameters()}
    assert "discriminators" not in repr(copy.deepcopy(model)) and copy.deepcopy(model)._apart.all is None
    model.save(tmp_path / "ours")
    again = SoundStream.init_and_load_from(tmp_path / "ours")
    assert type(again) is SoundStream and not again.training
    assert torch.equal(again.tokenize(noise()), model.tokenize(noise()))
    assert again(noise(), return_discr_loss=True).isfinite()


def test_an_own_discriminator_of_the_stft_is_asked() -> None:
    own: nn.Module = ComplexSTFTDiscriminator(ComplexSTFTDiscriminatorConfig(4, ((8, 8),), (1,)))
    model = soundstream(stft_discriminator=own)
    model(noise(), return_discr_loss=True).backward()
    assert next(own.parameters()).grad is not None
    with pytest.raises(ConfigError, match="did you mean 'n_fft'"):
        _ = soundstream(complex_stft_discr_kwargs={"n_ffts": 3}).discriminators


def test_the_presets_are_the_papers() -> None:
    small = {name: value for name, value in TINY.items() if name not in ("strides", "rq_num_quantizers")}
    small["channel_mults"] = (1, 1, 1, 1)
    for preset, rate, hop in ((AudioLMSoundStream, 16_000, 320), (MusicLMSoundStream, 24_000, 480)):
        model = preset(**small)
        assert (model.sample_rate, model.hop_length, model.num_codebooks) == (rate, hop, 12)
        assert model.frame_rate == 50 and model.seq_len_multiple_of == model.downsample_factor == hop


def test_the_penalty_of_the_whole_loss_is_on_the_logits() -> None:
    """[10: the gradient of a hinge that is satisfied is zero, and so is its penalty]"""
    model = soundstream()
    with torch.no_grad():
        for name, bias in model.discriminators.named_parameters():
            if "post.bias" in name:
                bias.fill_(50.0)
    assert model(noise(), return_discr_loss=True, apply_grad_penalty=True) > model(noise(), return_discr_loss=True)


def test_the_penalty_is_that_of_real_sound_alone() -> None:
    """[10: the seed penalises the discriminators' slope at decoded sound as well]"""
    model, real = soundstream(), noise().requires_grad_()
    logits = [output.logits for output in model.discriminators(real)]
    plain, more = (model(noise(), return_discr_loss=True, apply_grad_penalty=penalised) for penalised in (False, True))
    torch.testing.assert_close(more - plain, 5 * losses.r1_penalty(logits, real), atol=1e-5, rtol=1e-3)
