"""The network: what it hears, what it does not, and the latents' own terms."""

import pytest
import torch

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.errors import ConfigError
from audiogen_cli.models.flow import Flow, FlowConfig

B, T, D, TEXT = 3, 7, 6, 12


@pytest.fixture(params=[0, D], ids=["all of a frame", "some axes of it"])
def flow(request: pytest.FixtureRequest) -> Flow:
    """Of frames of D numbers, or of D of the nine numbers of one."""
    torch.manual_seed(0)
    made = Flow(FlowConfig(9 if request.param else D, 16, 2, 2, condition_dim=TEXT, axes=request.param)).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # norms and output begin at zero
    return made


@pytest.fixture
def heard() -> Condition:
    generator = torch.Generator().manual_seed(1)
    return Condition(torch.randn(B, 5, TEXT, generator=generator), torch.arange(5) < torch.tensor([[5], [2], [3]]))


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(2))


TIME = torch.tensor([0.0, 0.4, 0.9])


def test_at_first_it_goes_nowhere(heard: Condition, frames: torch.Tensor) -> None:
    assert not Flow(FlowConfig(D, 16, 2, 2, condition_dim=TEXT))(frames, TIME, heard).any()


def test_whitening_is_undone_and_evens_out_the_axes() -> None:
    flow = Flow(FlowConfig(D, 16, 2, 2, condition_dim=TEXT))
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([10.0, 3.0, 1.0, 0.3, 0.1, 0.03])
    turn = torch.linalg.qr(torch.randn(D, D, generator=generator))[0]
    latents = (torch.randn(5_000, D, generator=generator) * spread) @ turn + 2.0
    for power, widest in ((1.0, 333.3), (0.5, 18.26), (0.0, 1.0)):
        flow.fit(latents, power)
        frames = flow.whitened(latents.T[None])
        torch.testing.assert_close(flow.coloured(frames), latents.T[None], atol=1e-3, rtol=1e-3)
        variances = torch.linalg.eigvalsh(torch.cov(frames[0].T))
        assert variances.sum() == pytest.approx(D, rel=0.01)
        assert (variances[-1] / variances[0]).sqrt() == pytest.approx(widest, rel=0.1)


def test_every_frame_hears_every_other_one(flow: Flow, heard: Condition, frames: torch.Tensor) -> None:
    for changed, listener in ((0, T - 1), (T - 1, 0)):
        other = frames.clone()
        other[:, changed] += 1
        difference = (flow(other, TIME, heard) - flow(frames, TIME, heard)).abs()
        assert (difference[:, listener].amax(dim=1) > 1e-5).all()


def test_text_and_time_are_heard_and_padding_is_not(flow: Flow, heard: Condition, frames: torch.Tensor) -> None:
    plain = flow(frames, TIME, heard)
    padding = heard.embedding.masked_fill(heard.mask[..., None], 0) * 100
    assert torch.equal(flow(frames, TIME, Condition(heard.embedding + padding, heard.mask)), plain)
    assert (flow(frames, TIME + 0.05, heard) - plain).abs().amax() > 1e-3
    assert (flow(frames, TIME, Condition(heard.embedding.flip(1), heard.mask)) - plain).abs().amax() > 1e-3
    nothing = Condition(torch.zeros(B, 0, TEXT), torch.zeros(B, 0, dtype=torch.bool))
    torch.testing.assert_close(flow(frames, TIME, heard.null()), flow(frames, TIME, nothing))


def test_what_is_remembered_of_a_text_is_the_text(flow: Flow, heard: Condition, frames: torch.Tensor) -> None:
    assert torch.equal(flow(frames, TIME, heard, memory=flow.remember(heard)), flow(frames, TIME, heard))


def test_a_batch_is_its_rows(flow: Flow, heard: Condition, frames: torch.Tensor) -> None:
    known = torch.arange(T) < torch.tensor([[0], [2], [5]])
    together = flow(frames, TIME, heard, known)
    for row in range(B):
        alone = Condition(heard.embedding[row : row + 1], heard.mask[row : row + 1])
        one = flow(frames[row : row + 1], TIME[row : row + 1], alone, known[row : row + 1])
        torch.testing.assert_close(one[0], together[row], atol=1e-5, rtol=1e-5)


def test_the_loss_is_the_velocitys_error_where_nothing_is_known(
    flow: Flow, heard: Condition, frames: torch.Tensor
) -> None:
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(3))
    known = torch.arange(T) < torch.tensor([[0], [2], [T - 1]])
    noisy = noise * (1 - TIME)[:, None, None] + frames * TIME[:, None, None]
    noisy[known] = frames[known]
    error = (flow(noisy, TIME, heard, known) - (frames - noise)).square()[~known].mean()
    torch.testing.assert_close(flow.loss(frames, heard, noise, TIME, known), error)
    elsewhere = torch.where(known[..., None], torch.randn_like(noise), noise)
    torch.testing.assert_close(flow.loss(frames, heard, elsewhere, TIME, known), error)


def fitted(axes: int) -> tuple[Flow, torch.Tensor]:
    """On latents [20_000, D] whose spreads are 5, 3, 2, 1, 0.5, 0.2."""
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(D, D, generator=generator))[0]
    spread = torch.tensor([0.5, 5.0, 1.0, 0.2, 3.0, 2.0])
    latents = (torch.randn(20_000, D, generator=generator) * spread) @ turn + 1.0
    flow = Flow(FlowConfig(D, 16, 2, 2, condition_dim=TEXT, axes=axes))
    flow.fit(latents)
    return flow, latents


@torch.no_grad()
def test_it_makes_the_widest_axes_and_the_rest_is_noise_of_its_spread() -> None:
    flow, latents = fitted(axes=3)
    frames = flow.whitened(latents.T[None])
    assert frames.shape == (1, 20_000, 3)
    made = flow.coloured(frames)
    torch.testing.assert_close(flow.whitened(made), frames, atol=1e-4, rtol=1e-4)  # the noise is beside the axes
    covariance = torch.cov(latents.T)
    torch.testing.assert_close(torch.cov(made[0]), covariance, atol=0.3, rtol=0.02)
    assert (made[0].T - latents).square().sum(dim=1).mean() == pytest.approx(2 * (1 + 0.25 + 0.04), rel=0.15)
    assert torch.equal(made[:, :, :9], flow.coloured(frames[:, :9]))  # the same noise each time
    whole, _ = fitted(axes=0)
    torch.testing.assert_close(whole.coloured(whole.whitened(latents.T[None])), latents.T[None], atol=1e-4, rtol=1e-4)
    assert "rest" not in whole.state_dict()


def test_a_flow_begins_with_what_another_knows(flow: Flow) -> None:
    begun, theirs = Flow(FlowConfig(9, 16, 2, 2, condition_dim=TEXT, axes=4)), flow.state_dict()
    begun.begin_with(flow)
    same = {key for key, tensor in begun.state_dict().items() if torch.equal(tensor, theirs.get(key, tensor[:0]))}
    assert {key for key in begun.state_dict() if key.startswith(("transformer", "time_proj", "mean_proj"))} <= same
    assert not any(key.startswith(("input_proj", "output_proj")) for key in same)
    with pytest.raises(ConfigError, match=r"another shape .*make dim and num_layers alike"):
        Flow(FlowConfig(D, 8, 2, 2, condition_dim=TEXT)).begin_with(flow)


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="sketched must lie"):
        FlowConfig(sketched=1.5)
    with pytest.raises(ValueError, match=r"axes must lie in 0 \.\. 96"):
        FlowConfig(axes=97)
    with pytest.raises(ValueError, match="same even width"):
        FlowConfig(dim=16, num_heads=3)
