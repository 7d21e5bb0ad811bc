import pytest
import torch

from audiogen_cli.ops.hyper import HyperConnection, expand
from audiogen_cli.ops.transformer import Transformer, TransformerConfig


def test_at_the_start_every_stream_is_the_plain_residual() -> None:
    branch = torch.nn.Linear(8, 8)
    x = torch.randn(2, 5, 8)
    for streams, index in ((1, 0), (4, 0), (4, 7)):
        out = HyperConnection(8, streams, index)(expand(x, streams), branch)
        torch.testing.assert_close(out, expand(x + branch(x), streams))


def test_the_equations_are_those_of_the_paper() -> None:
    torch.manual_seed(0)
    connection, branch = HyperConnection(8, 3, 1), torch.nn.Linear(8, 8)
    for parameter in connection.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(1, 3, 1, 8)
    streams = x[0, :, 0]
    normed = streams / streams.square().mean(1, keepdim=True).add(torch.finfo(torch.float32).eps).sqrt()
    normed = normed * connection.norm
    width = connection.width + connection.scales[0] * torch.tanh(normed @ connection.dynamic_width.T)
    depth = connection.depth + connection.scales[1] * torch.tanh(normed @ connection.dynamic_depth.T)[:, 0]
    heard = sum(width[s, 0] * streams[s] for s in range(3))
    for t in range(3):
        kept = sum(width[s, 1 + t] * streams[s] for s in range(3))
        torch.testing.assert_close(connection(x, branch)[0, t, 0], kept + depth[t] * branch(heard))


def test_a_network_of_four_streams_starts_as_the_plain_one_four_times() -> None:
    torch.manual_seed(0)
    plain = Transformer(TransformerConfig(16, 2, 2, cross_attention=False))
    wide = Transformer(TransformerConfig(16, 2, 2, cross_attention=False, residual_streams=4))
    wide.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(wide(x), 4 * plain(x), atol=1e-4, rtol=1e-4)


def test_peer() -> None:
    """lucidrains' hyper-connections from the same start, where it is installed."""
    theirs = pytest.importorskip("hyper_connections")
    torch.manual_seed(0)
    branch, x = torch.nn.Linear(8, 8), torch.randn(2, 5, 8)
    init, open_streams, close = theirs.get_init_and_expand_reduce_stream_functions(4)
    expected = close(init(dim=8, branch=branch, layer_index=1)(open_streams(x)))
    torch.testing.assert_close(HyperConnection(8, 4, 1)(expand(x, 4), branch).sum(1), expected)
