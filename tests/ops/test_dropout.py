from __future__ import annotations

import pytest
import torch

from audiogen_cli.ops.dropout import dropout


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.001])
def test_a_share_is_dropped_and_the_mean_stays(share: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(500, 999)
    made = dropout(x, share)
    assert float((made == 0).float().mean()) == pytest.approx(share, abs=0.003)
    assert float(made.mean()) == pytest.approx(1, abs=0.005)
    assert len(made.unique()) == 2


def test_every_place_is_drawn_alike_and_alone() -> None:
    torch.manual_seed(0)
    dropped = torch.stack([dropout(torch.ones(37), 0.25) == 0 for _ in range(4000)]).float()
    torch.testing.assert_close(dropped.mean(dim=0), torch.full((37,), 0.25), atol=0.03, rtol=0)
    together = (dropped.T @ dropped / 4000).fill_diagonal_(0.0625)
    torch.testing.assert_close(together, torch.full((37, 37), 0.0625), atol=0.025, rtol=0)


def test_gradients_pass_where_the_signal_does_and_a_seed_repeats_it() -> None:
    x = torch.randn(3, 5, 7, dtype=torch.bfloat16, requires_grad=True)
    torch.manual_seed(1)
    made = dropout(x, 0.5)
    made.sum().backward()
    assert made.dtype == torch.bfloat16 and x.grad is not None
    torch.testing.assert_close(x.grad * x, made)
    torch.manual_seed(1)
    assert torch.equal(dropout(x, 0.5), made)


def test_nothing_and_everything() -> None:
    x = torch.ones(4, 4)
    assert torch.equal(dropout(x, 0.0), x) and not dropout(x, 1.0).any()
    assert dropout(torch.ones(0, 3), 0.3).shape == (0, 3)
