import torch

from audiogen_cli.ops.adaptive import AdaptiveNorm


def test_it_begins_as_a_plain_norm_and_then_hears_its_setting() -> None:
    norm = AdaptiveNorm(6)
    x, setting = torch.randn(2, 3, 6), torch.randn(2, 6)
    plain = torch.nn.functional.layer_norm(x, (6,))
    torch.testing.assert_close(norm(x, setting), plain)
    torch.nn.init.normal_(norm.weight)
    scale, shift = (norm.weight @ setting.T).T.chunk(2, dim=-1)
    torch.testing.assert_close(norm(x, setting), plain * (1 + scale[:, None]) + shift[:, None])


def test_every_row_has_its_own_setting() -> None:
    norm = AdaptiveNorm(6)
    torch.nn.init.normal_(norm.weight)
    x, setting = torch.randn(2, 3, 6), torch.randn(2, 6)
    torch.testing.assert_close(norm(x, setting)[1:], norm(x[1:], setting[1:]))
