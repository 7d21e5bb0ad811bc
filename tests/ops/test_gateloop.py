import pytest
import torch

from audiogen_cli.ops.gateloop import GateLoop, scan


@pytest.mark.parametrize("steps", [1, 2, 7, 64, 100])
def test_the_sweeps_are_the_recurrence(steps: int) -> None:
    torch.manual_seed(0)
    decay, value, first = torch.rand(2, steps, 3), torch.randn(2, steps, 3), torch.randn(2, 3)
    hidden, expected = first, []
    for t in range(steps):
        hidden = decay[:, t] * hidden + value[:, t]
        expected.append(hidden)
    torch.testing.assert_close(scan(decay, value, first), torch.stack(expected, 1))
    torch.testing.assert_close(scan(decay, value), scan(decay, value, torch.zeros(2, 3)))


def test_a_layer_that_adds_nothing_is_the_identity_so_there_is_one_shortcut() -> None:
    layer, signal = GateLoop(4), torch.randn(2, 4, 9)
    torch.nn.init.zeros_(layer.in_proj.weight)
    assert torch.equal(layer(signal), signal)


def test_no_step_sees_a_later_one() -> None:
    torch.manual_seed(0)
    signal = torch.randn(1, 4, 20, requires_grad=True)
    (gradient,) = torch.autograd.grad(GateLoop(4)(signal)[:, :, 8].sum(), signal)
    assert (gradient[:, :, 9:] == 0).all() and (gradient[:, :, :9] != 0).all()


def test_long_and_extreme_signals_stay_finite() -> None:
    signal = torch.full((1, 4, 5_000), 1e4, requires_grad=True)
    output = GateLoop(4)(signal)
    output.sum().backward()
    assert output.isfinite().all() and signal.grad is not None and signal.grad.isfinite().all()


def test_block_by_block_it_makes_the_whole() -> None:
    torch.manual_seed(0)
    layer, signal, state, made = GateLoop(4), torch.randn(2, 4, 30), None, []
    for block in signal.split([0, 1, 12, 0, 17], dim=-1):
        output, state = layer.stream(block, state, False)
        made.append(output)
    torch.testing.assert_close(torch.cat(made, -1), layer(signal))
