"""The network: what it hears, what it does not, and the latents' own terms."""

import dataclasses

import pytest
import torch

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.errors import ConfigError
from audiogen_cli.models.flow import Flow, FlowConfig

B, T, D, TEXT = 3, 7, 6, 12


@pytest.fixture(params=["latents", "mel"])
def either(request: pytest.FixtureRequest) -> Flow:
    shape = {"space": "mel", "subframes": 2, "subframe_dim": 8} if request.param == "mel" else {}
    return made(FlowConfig(D, 16, 2, 2, condition_dim=TEXT, **shape))


@pytest.fixture
def flow() -> Flow:
    return made(FlowConfig(D, 16, 2, 2, condition_dim=TEXT))


def made(config: FlowConfig) -> Flow:
    torch.manual_seed(0)
    flow = Flow(config).eval()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # norms and output begin at zero
    return flow


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


def test_whitening_is_undone_and_evens_out_the_axes(flow: Flow) -> None:
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


def test_every_frame_hears_every_other_one(either: Flow, heard: Condition, frames: torch.Tensor) -> None:
    for changed, listener in ((0, T - 1), (T - 1, 0)):
        other = frames.clone()
        other[:, changed] += 1
        difference = (either(other, TIME, heard) - either(frames, TIME, heard)).abs()
        assert (difference[:, listener].amax(dim=1) > 1e-5).all()


def test_text_and_time_are_heard_and_padding_is_not(either: Flow, heard: Condition, frames: torch.Tensor) -> None:
    plain = either(frames, TIME, heard)
    padding = heard.embedding.masked_fill(heard.mask[..., None], 0) * 100
    assert torch.equal(either(frames, TIME, Condition(heard.embedding + padding, heard.mask)), plain)
    assert (either(frames, TIME + 0.05, heard) - plain).abs().amax() > 1e-3
    assert (either(frames, TIME, Condition(heard.embedding.flip(1), heard.mask)) - plain).abs().amax() > 1e-3
    nothing = Condition(torch.zeros(B, 0, TEXT), torch.zeros(B, 0, dtype=torch.bool))
    torch.testing.assert_close(either(frames, TIME, heard.null()), either(frames, TIME, nothing))


def test_what_is_remembered_of_a_text_is_the_text(either: Flow, heard: Condition, frames: torch.Tensor) -> None:
    assert torch.equal(either(frames, TIME, heard, memory=either.remember(heard)), either(frames, TIME, heard))


def test_a_batch_is_its_rows(either: Flow, heard: Condition, frames: torch.Tensor) -> None:
    known = torch.arange(T) < torch.tensor([[0], [2], [5]])
    together = either(frames, TIME, heard, known)
    for row in range(B):
        alone = Condition(heard.embedding[row : row + 1], heard.mask[row : row + 1])
        one = either(frames[row : row + 1], TIME[row : row + 1], alone, known[row : row + 1])
        torch.testing.assert_close(one[0], together[row], atol=1e-5, rtol=1e-5)


def test_the_loss_is_the_velocitys_error_where_nothing_is_known(
    either: Flow, heard: Condition, frames: torch.Tensor
) -> None:
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(3))
    known = torch.arange(T) < torch.tensor([[0], [2], [T - 1]])
    noisy = noise * (1 - TIME)[:, None, None] + frames * TIME[:, None, None]
    noisy[known] = frames[known]
    error = (either(noisy, TIME, heard, known) - (frames - noise)).square()[~known].mean()
    torch.testing.assert_close(either.loss(frames, heard, noise, TIME, known), error)
    elsewhere = torch.where(known[..., None], torch.randn_like(noise), noise)
    torch.testing.assert_close(either.loss(frames, heard, elsewhere, TIME, known), error)


MELS = FlowConfig(3 * 4, 16, 2, 2, condition_dim=TEXT, space="mel", subframes=3, subframe_dim=8, spread=0.4)


@torch.no_grad()
def test_a_flow_of_mels_begins_as_the_likeliest_of_a_spread(heard: Condition) -> None:
    generator = torch.Generator().manual_seed(0)
    flow = Flow(MELS)
    frames = 0.4 * torch.randn(B, 20_000, 12, generator=generator)
    noise = torch.randn(frames.shape, generator=generator)
    for at in (0.0, 0.3, 0.8, 1.0):
        time = torch.full((B,), at)
        noisy, wanted = noise * (1 - at) + frames * at, frames - noise
        slope = (noisy * wanted).mean() / noisy.square().mean()  # of the least squares line through all of them
        made = flow._likeliest(noisy, time, torch.zeros(()))
        torch.testing.assert_close(made, slope * noisy, atol=0.02, rtol=0)
        left = (wanted - made).std()
        size = flow._likeliest(torch.zeros(B, 1, 1), time, torch.ones(()))
        torch.testing.assert_close(size, left.expand(size.shape), atol=0.01, rtol=0)
    few = noise[:, :5]
    torch.testing.assert_close(flow(few, TIME, heard), flow._likeliest(few, TIME, torch.zeros(())))


@torch.no_grad()
def test_mels_are_centred_by_band_and_get_the_spread() -> None:
    flow = Flow(MELS)
    bands = torch.randn(9_000, 4, generator=torch.Generator().manual_seed(0)) * 3 + torch.tensor([1.0, -2, 5, 0])
    latents = bands.reshape(3_000, 12)
    flow.fit(latents)
    frames = flow.whitened(latents.T[None])
    torch.testing.assert_close(flow.coloured(frames), latents.T[None], atol=1e-4, rtol=1e-4)
    assert frames.std().item() == pytest.approx(0.4, rel=1e-3)
    assert frames.reshape(-1, 4).mean(dim=0).abs().amax() < 1e-3


def test_a_flow_of_mels_begins_with_what_one_of_latents_knows(flow: Flow) -> None:
    begun = Flow(MELS)
    begun.begin_with(flow)
    same = {
        key for key, tensor in begun.state_dict().items() if torch.equal(tensor, flow.state_dict().get(key, tensor[:0]))
    }
    assert {key for key in begun.state_dict() if key.startswith(("transformer", "time_proj", "mean_proj"))} <= same
    assert not any(key.startswith(("reader", "writer")) for key in same)
    with pytest.raises(ConfigError, match=r"another shape .*make dim and num_layers alike"):
        Flow(dataclasses.replace(MELS, dim=8)).begin_with(flow)


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="sketched must lie"):
        FlowConfig(sketched=1.5)
    with pytest.raises(ValueError, match="same even width"):
        FlowConfig(dim=16, num_heads=3)
