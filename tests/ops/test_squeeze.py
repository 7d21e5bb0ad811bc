import torch

from audiogen_cli.ops.squeeze import SqueezeExcite


def test_the_gate_hears_each_channels_mean_over_the_time_so_far() -> None:
    torch.manual_seed(0)
    layer, signal = SqueezeExcite(6), torch.randn(2, 6, 12)
    for t in (0, 5, 11):
        mean = signal[:, :, : t + 1].mean(-1)  # [B, width]: over time, not over channels
        torch.testing.assert_close(layer(signal)[:, :, t], signal[:, :, t] * layer.gate(mean))


def test_no_sample_sees_a_later_one_and_all_hear_every_channel() -> None:
    torch.manual_seed(0)
    signal = torch.randn(1, 6, 20, requires_grad=True)
    (gradient,) = torch.autograd.grad(SqueezeExcite(6)(signal)[:, 0, 8], signal)
    assert (gradient[:, :, 9:] == 0).all() and (gradient[:, :, :9] != 0).all()


def test_block_by_block_it_makes_the_whole() -> None:
    torch.manual_seed(0)
    layer, signal, state, made = SqueezeExcite(6), torch.randn(2, 6, 30), None, []
    for block in signal.split([0, 1, 12, 0, 17], dim=-1):
        output, state = layer.stream(block, state, False)
        made.append(output)
    torch.testing.assert_close(torch.cat(made, -1), layer(signal))
