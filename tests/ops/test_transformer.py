import dataclasses
import math

import pytest
import torch

from audiogen_cli.ops.attention import Piece
from audiogen_cli.ops.transformer import Transformer, TransformerConfig, sinusoids

CONFIG = TransformerConfig(dim=16, num_layers=2, num_heads=2, cross_attention=False)


def test_positions_are_cosines_then_sines_of_falling_rates() -> None:
    table = sinusoids(torch.arange(50.0), 8)
    assert table[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    for i in range(4):
        rate = 10000 ** (-i / 3)
        assert table[7, i].item() == pytest.approx(math.cos(7 * rate), abs=1e-5)
        assert table[7, 4 + i].item() == pytest.approx(math.sin(7 * rate), abs=1e-5)


def test_no_output_hears_a_later_input() -> None:
    model = Transformer(CONFIG)
    x = torch.randn(1, 6, 16, requires_grad=True)
    for step in range(6):
        (gradient,) = torch.autograd.grad(model(x)[0, step].sum(), x)
        reached = gradient[0].abs().sum(-1) > 0
        assert reached.tolist() == [i <= step for i in range(6)]


def test_queries_keys_and_values_all_come_from_the_normalised_stream() -> None:
    layer = Transformer(CONFIG).layers[0]
    x = torch.randn(1, 4, 16)
    written, louder = (layer(scale * x, Piece(), None, None) - scale * x for scale in (1.0, 64.0))
    attended = layer.self_attention(layer.norm1(x), Piece())
    torch.testing.assert_close(layer.self_attention(layer.norm1(64 * x), Piece()), attended, atol=1e-3, rtol=1e-3)
    assert louder.norm() < 2 * written.norm()


def test_dropout_acts_in_training_only() -> None:
    model = Transformer(TransformerConfig(dim=16, num_layers=2, num_heads=2, cross_attention=False, dropout=0.5))
    x = torch.randn(1, 4, 16)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_the_stream_grows_slowly_with_depth_at_the_start() -> None:
    torch.manual_seed(0)
    deep = Transformer(TransformerConfig(dim=64, num_layers=24, num_heads=4, cross_attention=False))
    with torch.no_grad():
        out = deep(torch.randn(4, 20, 64))
    assert 0.9 < out.std() < 2.5


def test_linears_have_biases_only_when_asked() -> None:
    named = dict(Transformer(CONFIG).named_parameters())
    assert not [name for name in named if name.endswith("bias") and "norm" not in name]
    asked = TransformerConfig(16, 1, 2, cross_attention=True, bias_attention=True, bias_feedforward=True)
    biases = [name for name, _ in Transformer(asked).named_parameters() if name.endswith("bias") and "norm" not in name]
    assert len(biases) == 6


def test_a_cache_that_is_too_small_says_so() -> None:
    model = Transformer(CONFIG)
    with pytest.raises(AssertionError, match="holds 3 steps"):
        model(torch.randn(1, 4, 16), cache=model.cache(1, 3))


@pytest.mark.parametrize("shared", [3, 6])
def test_a_shared_beginning_is_seen_by_all_and_sees_all_of_itself(shared: int) -> None:
    model = Transformer(CONFIG)
    x = torch.randn(1, 6, 16, requires_grad=True)
    for step in range(6):
        (gradient,) = torch.autograd.grad(model(x, shared=shared)[0, step].sum(), x)
        reached = gradient[0].abs().sum(-1) > 0
        assert reached.tolist() == [i <= step or i < shared for i in range(6)]


def test_adaptive_norms_hear_their_setting() -> None:
    model = Transformer(TransformerConfig(dim=16, num_layers=1, num_heads=2, cross_attention=False, adaptive=True))
    x, setting = torch.randn(2, 4, 16), torch.randn(2, 16)
    torch.testing.assert_close(model(x, setting=setting), model(x, setting=setting.flip(0)))
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    assert (model(x, setting=setting) - model(x, setting=setting.flip(0))).abs().max() > 1e-3


def test_keys_and_values_of_a_prefix_come_from_the_normalised_condition() -> None:
    layer = Transformer(dataclasses.replace(CONFIG, prefix_attention=True)).layers[0]
    condition = torch.randn(1, 4, 16)
    loud, plain = (layer.remember(scale * condition, None, None) for scale in (64.0, 1.0))
    torch.testing.assert_close(loud.keys, plain.keys, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(loud.values, plain.values, atol=1e-3, rtol=1e-3)
