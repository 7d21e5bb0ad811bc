import dataclasses

import pytest
import torch

from audiogen_cli.ops.local_attention import LocalAttention, LocalAttentionConfig, LocalTransformer

TINY = LocalAttentionConfig(dim=8, depth=2, num_heads=2, head_dim=4, window=5)
STYLES = [{}, {"position_bias": True}, {"scale_base": 3.0}, {"window": 1}]


def layer(**options: object) -> LocalAttention:
    torch.manual_seed(0)
    return LocalAttention(dataclasses.replace(TINY, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("options", STYLES)
@pytest.mark.parametrize("frames", [1, 4, 5, 6, 23])
def test_each_frame_attends_as_if_alone_with_its_window(options: dict[str, object], frames: int) -> None:
    module = layer(**options)
    x, window = torch.randn(2, frames, 8), module.config.window
    whole = module(x)[0]
    for t in range(frames):
        alone = module(x[:, max(0, t - window + 1) : t + 1])[0][:, -1]
        torch.testing.assert_close(whole[:, t], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", STYLES)
def test_a_frame_sees_its_window_and_nothing_else(options: dict[str, object]) -> None:
    module = layer(**options)
    x, window = torch.randn(1, 30, 8, requires_grad=True), module.config.window
    (gradient,) = torch.autograd.grad(module(x)[0][:, 17].square().sum(), x)
    seen = gradient.abs().sum(-1)[0] > 0
    assert seen.nonzero()[:, 0].tolist() == list(range(17 - window + 1, 18))


@pytest.mark.parametrize("options", STYLES[:2])
def test_the_order_of_the_past_is_heard(options: dict[str, object]) -> None:
    module = layer(**options)
    x = torch.randn(1, 5, 8)
    assert not torch.allclose(module(x)[0][:, -1], module(x[:, [1, 0, 3, 2, 4]])[0][:, -1], atol=1e-4)


@pytest.mark.parametrize("options", STYLES)
@pytest.mark.parametrize("lengths", [[30], [0, 1, 12, 0, 17], [1] * 30, [4, 26]])
def test_block_by_block_it_makes_the_whole(options: dict[str, object], lengths: list[int]) -> None:
    torch.manual_seed(0)
    module, signal = LocalTransformer(dataclasses.replace(TINY, **options)), torch.randn(2, 8, 30)  # type: ignore[arg-type]
    state, made = None, []
    for block in signal.split(lengths, dim=-1):
        output, state = module.stream(block, state, False)
        made.append(output)
    torch.testing.assert_close(torch.cat(made, -1), module(signal), atol=1e-5, rtol=1e-4)
    assert state is not None and state[0].keys.shape[2] <= module.attentions[0].config.window - 1  # type: ignore[union-attr,operator]


def test_a_gradient_reaches_every_weight() -> None:
    for bias in (False, True):
        module = LocalTransformer(dataclasses.replace(TINY, position_bias=bias))
        module(torch.randn(2, 8, 12)).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_senseless_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="even head width"):
        LocalAttentionConfig(dim=8, head_dim=3)
