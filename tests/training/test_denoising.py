import pytest
import torch

from audiogen_cli.training.denoising import with_noise


def test_the_target_is_clean_on_demand_and_otherwise_what_was_heard() -> None:
    torch.manual_seed(0)
    clean = 0.1 * torch.randn(64, 1, 500)
    heard, target, denoise = with_noise(clean, 0.5, (0.0, 20.0))
    noisy = (heard - clean).abs().amax((1, 2)) > 1e-6
    for wanted in (False, True):  # a clean example is trained with both answers, and so is a noisy one
        assert {bool(x) for x in noisy[denoise == wanted]} == {False, True}
    assert torch.equal(target[~denoise], heard[~denoise]) and torch.equal(target[denoise], clean[denoise])


def test_the_noise_is_another_recording_at_the_level_drawn() -> None:
    torch.manual_seed(0)
    clean = torch.randn(8, 1, 500) * torch.logspace(-3, -1, 8)[:, None, None]
    heard, _, _ = with_noise(clean, 1.0, (6.0, 6.0))
    noise = heard - clean
    torch.testing.assert_close(
        20 * (clean.square().mean((1, 2)) / noise.square().mean((1, 2))).log10() / 2, torch.full((8,), 6.0)
    )
    torch.testing.assert_close(torch.cosine_similarity(noise[:, 0], clean.roll(1, 0)[:, 0]), torch.ones(8))


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_silence_and_full_scale_stay_within_range(scale: float) -> None:
    clean = torch.full((2, 1, 100), scale)
    heard, target, _ = with_noise(clean, 1.0, (0.0, 0.0))
    assert heard.isfinite().all() and heard.abs().max() <= 1 and target.abs().max() <= 1
