import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from audiogen_cli.errors import TrainingError
from audiogen_cli.models.discriminators import MSSTFTDiscriminator, MSSTFTDiscriminatorConfig
from audiogen_cli.ops.stft import mel_filter_bank
from audiogen_cli.training import losses
from audiogen_cli.training.losses import GradientBalancer

Loss = Callable[[Tensor, Tensor], Tensor]
RECONSTRUCTION: dict[str, Loss] = {
    "log mel": lambda x, y: losses.multi_scale_mel_loss(x, y, 16_000, (64, 256)),
    "linear mel": lambda x, y: losses.multi_scale_mel_loss(x, y, 16_000, (64, 256), scale="linear"),
    "stft": lambda x, y: losses.multi_resolution_stft_loss(x, y, (256, 64)),
    "complex": lambda x, y: losses.complex_stft_loss(x, y, (256, 64)),
    "uncompressed complex": lambda x, y: losses.complex_stft_loss(x, y, (256, 64), None),
}
each_loss = pytest.mark.parametrize("loss", RECONSTRUCTION.values(), ids=RECONSTRUCTION.keys())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@each_loss
def test_a_reconstruction_loss_is_zero_for_equal_sounds_and_grows_with_the_difference(loss: Loss) -> None:
    x, error = noise(2, 1, 1000), noise(2, 1, 1000, seed=1)
    values = [float(loss(x, x + share * error)) for share in (0.0, 0.1, 1.0)]
    assert values[0] == 0.0
    assert values == sorted(values) and values[1] > 0


@each_loss
@pytest.mark.parametrize(("reference", "estimate"), [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)])
def test_a_reconstruction_loss_of_silence_has_finite_value_and_gradient(
    loss: Loss, reference: float, estimate: float
) -> None:
    y = (estimate * noise(1, 1, 700)).requires_grad_()
    value = loss(reference * noise(1, 1, 700, seed=1), y)
    (gradient,) = torch.autograd.grad(value, y)
    assert value.isfinite() and gradient.isfinite().all()


@each_loss
def test_a_reconstruction_loss_of_a_batch_is_the_mean_of_its_examples(loss: Loss) -> None:
    x, y = noise(3, 1, 600) * torch.tensor([1.0, 0.1, 3.0]).view(3, 1, 1), noise(3, 1, 600, seed=1)
    singles = torch.stack([loss(x[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(loss(x, y), singles.mean())


@each_loss
def test_a_reconstruction_loss_works_on_stereo_and_on_inputs_shorter_than_its_windows(loss: Loss) -> None:
    assert loss(noise(1, 2, 20), noise(1, 2, 20, seed=1)) > 0


def test_every_mel_band_of_the_loss_holds_a_bin() -> None:
    for n_fft in losses.MEL_FFTS:
        assert mel_filter_bank(16_000, n_fft, min(64, n_fft // 8)).amax(1).min() > 0


def test_the_log_mel_loss_of_a_gain_is_twice_its_logarithm() -> None:
    x = noise(1, 1, 2000)  # L1 and L2 of a constant difference are both that constant
    torch.testing.assert_close(
        losses.multi_scale_mel_loss(x, x / 2, 16_000, (256,)), 2 * torch.tensor(2.0).log(), rtol=1e-4, atol=0
    )


def test_the_spectral_convergence_of_a_gain_is_one_minus_it() -> None:
    x = noise(1, 1, 2000)
    expected = 0.25 - torch.tensor(0.75).log()
    torch.testing.assert_close(losses.multi_resolution_stft_loss(x, 0.75 * x, (256,)), expected, rtol=1e-4, atol=0)


def test_only_the_complex_loss_hears_phase() -> None:
    x = noise(1, 1, 2000)
    assert float(losses.multi_scale_mel_loss(x, -x, 16_000)) == 0
    assert float(losses.complex_stft_loss(x, -x)) > 0.1


def test_compression_keeps_the_phase_and_raises_the_magnitude_to_the_exponent() -> None:
    spectrum = torch.polar(torch.tensor([0.01, 0.5, 2.0]), torch.tensor([0.3, -2.0, 3.0]))
    compressed = losses.compress_magnitude(spectrum, 0.3)
    torch.testing.assert_close(compressed.abs(), spectrum.abs() ** 0.3, rtol=1e-3, atol=0)
    torch.testing.assert_close(compressed.angle(), spectrum.angle())


def test_the_slope_of_compression_is_bounded_at_zero() -> None:
    zero = torch.zeros(1, requires_grad=True)
    value = losses.compress_magnitude(torch.complex(zero, torch.zeros(1)), 0.3, floor=1e-2).real.sum()
    (gradient,) = torch.autograd.grad(value, zero)
    torch.testing.assert_close(gradient, torch.tensor([1e-2**-0.7]))


def test_hinge_losses_have_the_values_known_by_hand() -> None:
    real, fake = [torch.tensor([2.0, 0.5]), torch.tensor([-1.0])], [torch.tensor([-3.0, 0.0]), torch.tensor([1.0])]
    assert float(losses.generator_hinge_loss(fake)) == pytest.approx(((4 + 1) / 2 + 0) / 2)
    assert float(losses.discriminator_hinge_loss(real, fake)) == pytest.approx(
        ((0 + 0.5) / 2 + 2) / 2 + ((0 + 1) / 2 + 2) / 2
    )


def test_feature_matching_is_relative_and_zero_for_equal_features() -> None:
    real = [[torch.full((2, 3), 4.0)], [torch.full((5,), -0.1)]]
    fake = [[torch.full((2, 3), 5.0)], [torch.full((5,), -0.2)]]
    assert float(losses.feature_matching_loss(real, real)) == 0
    assert float(losses.feature_matching_loss(real, fake)) == pytest.approx((0.25 + 1.0) / 2)
    assert losses.feature_matching_loss([[torch.zeros(3)]], [[torch.ones(3)]]).isfinite()


def test_feature_matching_sends_no_gradient_to_the_real_features() -> None:
    real, fake = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    losses.feature_matching_loss([[real]], [[fake]]).backward()
    assert real.grad is None and fake.grad is not None


def test_r1_of_a_linear_discriminator_is_the_square_of_its_norm_even_where_the_hinge_is_flat() -> None:
    weight = torch.randn(1, 20)
    real = torch.randn(4, 1, 20, requires_grad=True)
    logits = [(real * weight).sum(-1) + 100.0]
    assert losses.discriminator_hinge_loss(logits, [-logits[0]]) == 0
    torch.testing.assert_close(losses.r1_penalty(logits, real), weight.square().sum())


def test_r1_can_be_minimised_through_the_discriminator() -> None:
    module = MSSTFTDiscriminator(MSSTFTDiscriminatorConfig(filters=2, n_ffts=(32,), dilations=(1,)))
    real = torch.randn(2, 1, 200, requires_grad=True)
    losses.r1_penalty([output.logits for output in module(real)], real).backward()
    weights = [p for name, p in module.named_parameters() if "weight" in name]
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in weights)


def balanced(balancer: GradientBalancer, terms: dict[str, Loss], steps: int = 1) -> tuple[Tensor, dict[str, float]]:
    """The gradient that `steps` calls leave at last at a fixed decoder output."""
    target = noise(2, 1, 50, seed=2)
    for _ in range(steps):
        output = noise(2, 1, 50).requires_grad_()
        shares = balancer.backward({name: term(target, output) for name, term in terms.items()}, output)
    assert output.grad is not None
    return output.grad, shares


TERMS: dict[str, Loss] = {"a": lambda x, y: (x - y).abs().mean(), "b": lambda x, y: (x * y).square().sum()}


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_each_loss_reaches_the_output_with_the_norm_of_its_share(scale: float) -> None:
    weights = {"a": 1.0, "b": 3.0}
    for name, share in (("a", 0.25), ("b", 0.75)):
        terms = TERMS | {name: lambda x, y, term=TERMS[name]: scale * term(x, y)}
        others = {other: (term if other == name else lambda x, y: 0 * y.sum()) for other, term in terms.items()}
        gradient, _ = balanced(GradientBalancer(weights, total_norm=2.0), others)
        torch.testing.assert_close(gradient.norm(), torch.tensor(2.0 * share))


def test_the_scale_of_a_loss_changes_nothing_once_the_average_is_warm() -> None:
    weights = {"a": 1.0, "b": 3.0}
    loud = TERMS | {"b": lambda x, y: 1000 * TERMS["b"](x, y)}
    gradient, shares = balanced(GradientBalancer(weights), TERMS, 5)
    louder, louder_shares = balanced(GradientBalancer(weights), loud, 5)
    torch.testing.assert_close(gradient, louder)
    assert shares == pytest.approx({"a": 0.25, "b": 0.75}) and louder_shares == pytest.approx(shares)
    changed = GradientBalancer(weights, ema_decay=0.5)
    balanced(changed, TERMS, 5)
    torch.testing.assert_close(balanced(changed, loud, 40)[0], gradient)  # a change of scale is forgotten


def test_the_balanced_gradient_is_the_weighted_sum_of_directions() -> None:
    target, output = noise(2, 1, 50, seed=2), noise(2, 1, 50).requires_grad_()
    directions = {n: torch.autograd.grad(term(target, output), output)[0] for n, term in TERMS.items()}
    expected = sum(w * directions[n] / directions[n].norm() for n, w in (("a", 0.25), ("b", 0.75)))
    torch.testing.assert_close(balanced(GradientBalancer({"a": 1.0, "b": 3.0}), TERMS)[0], expected)


def test_the_gradient_goes_on_to_the_decoder_and_not_around_it() -> None:
    decoder = nn.Linear(5, 5)
    output = decoder(torch.randn(3, 5))
    GradientBalancer({"a": 1.0}).backward({"a": output.square().sum()}, output)
    assert decoder.weight.grad is not None
    torch.testing.assert_close(decoder.bias.grad, (output / output.norm()).sum(0).detach())


def test_a_loss_that_joins_late_or_stays_away_changes_neither_the_total_nor_the_others() -> None:
    weights = {"a": 1.0, "b": 3.0}
    balancer = GradientBalancer(weights)
    alone, _ = balanced(balancer, {"a": TERMS["a"]}, 3)
    torch.testing.assert_close(alone.norm(), torch.tensor(1.0))
    torch.testing.assert_close(balanced(balancer, TERMS)[0], balanced(GradientBalancer(weights), TERMS)[0])


def test_zero_losses_give_no_nan_and_leave_the_averages_alone() -> None:
    balancer = GradientBalancer({"a": 1.0, "b": 1.0, "c": 1.0, "off": 0.0})
    zeros: dict[str, Loss] = {
        "a": lambda x, y: 0 * y.sum(),
        "b": lambda x, y: torch.zeros(()),
        "c": lambda x, y: x.clone().requires_grad_().sum(),
        "off": lambda x, y: y.sum(),
    }
    gradient, shares = balanced(balancer, zeros, 4)
    assert not gradient.any() and set(shares.values()) == {0.0}
    torch.testing.assert_close(balanced(balancer, {"a": TERMS["a"]})[0].norm(), torch.tensor(1.0))
    assert not balanced(balancer, {})[0].any()


def test_a_resumed_balancer_continues_exactly() -> None:
    first = GradientBalancer({"a": 1.0, "b": 3.0})
    balanced(first, TERMS, 3)
    second = GradientBalancer({"a": 1.0, "b": 3.0})
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    louder = {name: lambda x, y, term=term: 7 * term(x, y) for name, term in TERMS.items()}
    assert torch.equal(balanced(first, louder, 2)[0], balanced(second, louder, 2)[0])
    assert first.state_dict() == second.state_dict()


def test_another_way_to_go_backward_may_be_given() -> None:
    calls: list[tuple[Tensor, Tensor]] = []
    output = noise(2, 4).requires_grad_()
    GradientBalancer({"a": 1.0}).backward({"a": output.sum()}, output, lambda *pair: calls.append(pair))
    assert len(calls) == 1 and calls[0][0] is output and output.grad is None


def test_a_gradient_that_is_not_finite_stops_training_and_spoils_no_average() -> None:
    balancer, output = GradientBalancer({"a": 1.0}), noise(2, 4).requires_grad_()
    with pytest.raises(TrainingError, match="gradient of the a loss"):
        balancer.backward({"a": output.sum() * float("nan")}, output)
    assert balancer.state_dict() == {"sums": {}, "counts": {}}


def test_a_loss_without_a_weight_is_refused() -> None:
    output = noise(2, 4).requires_grad_()
    with pytest.raises(ValueError, match="no weight for the loss 'b'"):
        GradientBalancer({"a": 1.0}).backward({"b": output.sum()}, output)
    with pytest.raises(ValueError, match="0 or more"):
        GradientBalancer({"a": -1.0})


def test_soundstreams_reconstruction_loss_is_its_equations() -> None:
    torch.manual_seed(0)
    reference, estimate = torch.randn(2, 1, 4_000), torch.randn(2, 1, 4_000)
    expected = 0.0
    for s in (64, 1024):
        n_fft = max(512, s)
        bank = mel_filter_bank(16_000, n_fft, 64)
        window = torch.hann_window(s)
        mels = [
            bank @ torch.stft(w[:, 0], n_fft, s // 4, s, window, return_complex=True).abs() * (4 / s)
            for w in (reference, estimate)
        ]
        logs = mels[0].clamp_min(1e-5).log() - mels[1].clamp_min(1e-5).log()
        expected += (mels[0] - mels[1]).abs().sum(1).mean() + (s / 2) ** 0.5 * logs.norm(dim=1).mean()
    found = losses.multi_spectral_loss(reference, estimate, 16_000, windows=(64, 1024))
    torch.testing.assert_close(found, torch.as_tensor(expected))
    assert losses.multi_spectral_loss(reference, reference, 16_000) == 0


def test_the_weighted_sum_is_differentiated_as_it_is() -> None:
    output = torch.randn(5, requires_grad=True)
    terms = {"a": output.square().sum(), "b": output.sum()}
    shares = losses.WeightedSum({"a": 2.0, "b": 3.0}).backward(terms, output)
    torch.testing.assert_close(output.grad, 4 * output.detach() + 3)
    assert sum(shares.values()) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no weight"):
        losses.WeightedSum({"a": 1.0}).backward(terms, output)
