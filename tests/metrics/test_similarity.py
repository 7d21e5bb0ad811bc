import pytest
import torch
from torch import Tensor

from audiogen_cli.metrics import similarity


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_si_snr_does_not_hear_scale_offset_or_sign() -> None:
    x, y = noise(2, 1, 4000), noise(2, 1, 4000) + noise(2, 1, 4000, seed=1)
    value = similarity.si_snr(x, y)
    assert value.shape == (2, 1)
    for changed in (0.01 * y, 100 * y, y + 0.5, -y):
        torch.testing.assert_close(similarity.si_snr(x, changed), value, atol=1e-3, rtol=0)


@pytest.mark.parametrize("decibel", [-20.0, 0.0, 10.0, 40.0])
def test_si_snr_is_the_level_of_orthogonal_noise(decibel: float) -> None:
    time = torch.arange(1600) / 1600
    x, n = torch.sin(2 * torch.pi * 10 * time), torch.sin(2 * torch.pi * 20 * time)
    value = similarity.si_snr(x, x + 10 ** (-decibel / 20) * n)
    torch.testing.assert_close(value, torch.tensor(decibel), atol=1e-3, rtol=0)


def test_si_snr_is_finite_for_silence_and_for_equal_sounds() -> None:
    x, zero = noise(1000), torch.zeros(1000)
    values = [float(similarity.si_snr(*pair)) for pair in ((x, x), (zero, x), (x, zero), (zero, zero))]
    assert values == pytest.approx([100, -100, 0, 0], abs=0.5)


def test_the_mel_distance_of_a_gain_is_its_logarithm() -> None:
    x = noise(2, 1, 4000)
    assert float(similarity.mel_distance(x, x, 16_000)) == 0
    torch.testing.assert_close(similarity.mel_distance(x, x / 10, 16_000), torch.tensor(1.0), atol=1e-4, rtol=0)


def test_the_mel_distance_of_silence_is_finite_and_bounded_by_the_floor() -> None:
    x, zero = noise(1, 4000), torch.zeros(1, 4000)
    assert float(similarity.mel_distance(zero, zero, 16_000)) == 0
    assert 2 < float(similarity.mel_distance(x, zero, 16_000)) < 5


def test_the_log_spectral_distance_of_a_gain_is_that_gain_in_decibels() -> None:
    x = noise(2, 1, 4000)
    assert float(similarity.log_spectral_distance(x, x)) == 0
    torch.testing.assert_close(similarity.log_spectral_distance(x, 0.5 * x), torch.tensor(6.0206), atol=1e-2, rtol=0)
    assert similarity.log_spectral_distance(x, torch.zeros_like(x)).isfinite()


def test_distances_of_a_repeated_batch_are_those_of_the_batch() -> None:
    x, y = noise(2, 1, 3000), noise(2, 1, 3000, seed=1)
    twice = (x.repeat(2, 1, 1), y.repeat(2, 1, 1))
    torch.testing.assert_close(similarity.mel_distance(*twice, 16_000), similarity.mel_distance(x, y, 16_000))
    torch.testing.assert_close(similarity.log_spectral_distance(*twice), similarity.log_spectral_distance(x, y))


def test_codebook_usage_counts_each_codebook_for_itself() -> None:
    uniform, constant, half = torch.arange(8).repeat(2), torch.full((16,), 3), torch.tensor([0, 7]).repeat(8)
    codes = torch.stack([uniform, constant, half]).view(3, 2, 8).transpose(0, 1)  # [B=2, K=3, T=8]
    usage = similarity.codebook_usage(codes, 8)
    assert [u.used for u in usage] == pytest.approx([1.0, 1 / 8, 2 / 8])
    assert [u.perplexity for u in usage] == pytest.approx([8.0, 1.0, 2.0])


def test_different_lengths_are_refused_with_a_way_out() -> None:
    with pytest.raises(ValueError, match="cut both"):
        similarity.si_snr(noise(10), noise(11))
