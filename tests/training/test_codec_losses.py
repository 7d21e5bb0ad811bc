import pytest
import torch
from torch import nn

from audiogen_cli.models.soundstream_discriminators import MultiScaleWaveDiscriminator, WaveDiscriminatorConfig
from audiogen_cli.training.codec_losses import CodecLossConfig, adversarial, reconstruction
from audiogen_cli.training.losses import GradientBalancer, WeightedSum

SMALL = CodecLossConfig(
    l1=1.0, mse=1.0, spectral=1.0, mel_ffts=(64,), stft_ffts=(64,), complex_ffts=(64,), spectral_windows=(64,)
)
WAVE = WaveDiscriminatorConfig(filters=4, max_filters=8, num_layers=1, scales=(1.0,))


def test_only_losses_with_a_share_are_computed_and_equal_sounds_have_none() -> None:
    sound = torch.randn(2, 1, 800)
    terms = reconstruction(SMALL, sound, sound.clone(), 16_000)
    assert terms.keys() == {"mel", "stft", "complex", "l1", "mse", "spectral"}
    assert [float(term) for term in terms.values()] == pytest.approx([0.0] * 6, abs=1e-6)
    assert reconstruction(CodecLossConfig(mel=0.0, stft=0.0, complex=0.0, mse=1.0), sound, sound, 16_000).keys() == {
        "mse"
    }


def test_the_mean_over_parts_of_a_batch_is_the_loss_of_the_batch() -> None:
    target, decoded = torch.randn(2, 6, 1, 800).unbind()
    whole = reconstruction(SMALL, target, decoded, 16_000)
    parts = [reconstruction(SMALL, *pair, 16_000) for pair in zip(target.chunk(3), decoded.chunk(3), strict=True)]
    for name, value in whole.items():
        torch.testing.assert_close(torch.stack([part[name] for part in parts]).mean(), value, atol=1e-5, rtol=1e-4)


def test_a_discriminators_weights_get_no_gradient_from_what_it_says_and_learn_as_before() -> None:
    critic: nn.Module = MultiScaleWaveDiscriminator(WAVE)
    frozen = next(critic.parameters()).requires_grad_(False)
    fake = torch.randn(2, 1, 400, requires_grad=True)
    terms = adversarial(critic, torch.randn(2, 1, 400), fake)
    (terms["adversarial"] + terms["feature"]).backward()
    assert fake.grad is not None and all(p.grad is None for p in critic.parameters())
    assert [p.requires_grad for p in critic.parameters()] == [p is not frozen for p in critic.parameters()]


def test_the_shares_become_a_balancer_or_a_sum() -> None:
    assert isinstance(CodecLossConfig().balancer(), GradientBalancer)
    plain = CodecLossConfig(balance=False, mse=3.0).balancer()
    assert isinstance(plain, WeightedSum) and plain.weights["mse"] == 3.0
