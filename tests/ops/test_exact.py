import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F

from audiogen_cli.errors import ModelError
from audiogen_cli.ops import exact, transformer


def on_grid(*shape: int, size: float = 3.0, seed: int = 0) -> torch.Tensor:
    return exact.keep(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * size)


def test_a_product_is_the_true_one_whatever_the_order() -> None:
    x, w = on_grid(5, 300, size=100.0), exact.weight(torch.randn(7, 300))
    bias = exact.weight(torch.randn(7))
    found = exact.linear(x, w, bias)
    true = sum(Fraction(a) * Fraction(b) for a, b in zip(x[2].tolist(), w[4].tolist(), strict=True))
    assert Fraction(found[2, 4].item()) == true + Fraction(bias[4].item())
    order = torch.randperm(300)
    assert torch.equal(exact.linear(x[:, order], w[:, order], bias), found)
    assert torch.equal(torch.cat([exact.linear(row[None], w, bias) for row in x]), found)


def test_the_largest_numbers_allowed_are_still_exact() -> None:
    x = torch.full((1, 1024), exact.LARGEST)
    w = exact.weight(torch.full((1, 1024), 2.0**6 - 2.0**-10))
    found = exact.linear(x.double(), w, torch.zeros(1, dtype=torch.float64))
    assert Fraction(found.item()) == 1024 * 256 * Fraction(w[0, 0].item())
    with pytest.raises(ModelError, match="too large"):
        exact.weight(torch.full((1, 1024), 2.0**6))


def test_a_norm_is_torchs_but_for_the_grid_and_sees_no_order() -> None:
    x, scale, bias = on_grid(4, 64), torch.rand(64).double(), torch.randn(64).double()
    found = exact.layer_norm(x, scale, bias, 1e-5)
    torch.testing.assert_close(found, F.layer_norm(x, (64,), scale, bias, 1e-5), atol=2**-10, rtol=0)
    order = torch.randperm(64)
    assert torch.equal(exact.layer_norm(x[:, order], scale[order], bias[order], 1e-5), found[:, order])


def test_gelu_and_powers_are_the_functions_but_for_the_grid() -> None:
    x = torch.cat([torch.linspace(-12, 12, 999), torch.tensor([-1e6, 300.0])]).double()
    torch.testing.assert_close(exact.gelu(x[:-2]), F.gelu(x[:-2]), atol=1e-3, rtol=0)
    assert exact.gelu(x[-2:]).tolist() == [0.0, exact.LARGEST]
    exponent = torch.randn(5, 50).double() * 3_000
    share = exact.counts(exponent)
    expected = torch.softmax(exponent * math.log(2) / exact.OCTAVE, -1)
    torch.testing.assert_close(share / share.sum(-1, keepdim=True), expected, atol=1e-3, rtol=0)
    assert torch.equal(share, share.round()) and torch.equal(share.amax(-1), torch.full((5,), 2.0**22).double())


def test_no_entry_of_a_table_depends_on_the_last_bits_of_a_library() -> None:
    """None lies so near the middle between two neighbours that an error of some last bits would move it."""
    powers = [2.0 ** (exact.COUNT_BITS - i / exact.OCTAVE) for i in range(exact.COUNT_BITS * exact.OCTAVE)]
    halves = [i / 1024 / 2 * (1 + math.erf(i / 1024 / math.sqrt(2))) * 2.0**12 for i in range(-8192, 8193)]
    for values in (powers, halves):
        margin = min(abs(value % 1.0 - 0.5) for value in values)
        assert margin > 1e-8


def test_attention_is_torchs_but_for_the_grid_and_hidden_keys_change_nothing() -> None:
    query, keys, values = on_grid(2, 3, 4, 8), on_grid(2, 3, 9, 8, seed=1), on_grid(2, 3, 9, 8, seed=2)
    hidden = torch.rand(4, 9) < 0.4
    hidden[:, 0] = False
    found = exact.attend(query, keys, values, hidden)
    expected = F.scaled_dot_product_attention(query, keys, values, attn_mask=~hidden)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
    alone = exact.attend(query[:, :, 1:2], keys[:, :, ~hidden[1]], values[:, :, ~hidden[1]], torch.zeros(1, 1).bool())
    assert torch.equal(alone, found[:, :, 1:2])


def test_sinusoids_are_the_transformers_but_for_the_grid_and_from_anywhere() -> None:
    found = exact.sinusoids(0, 50, 16)
    expected = transformer.sinusoids(torch.arange(50), 16).double()
    torch.testing.assert_close(found, expected, atol=2**-12, rtol=0)
    assert torch.equal(exact.sinusoids(20, 7, 16), found[20:27])


def test_a_bias_may_have_as_many_large_numbers_as_it_has_rows() -> None:
    """Logarithms of the frequencies of many codes; it is one row's sum that must fit."""
    bias = exact.weight(torch.full((30_000,), -14.0), unit=exact.OCTAVE)
    assert torch.equal(bias, torch.full((30_000,), -14.0 * exact.OCTAVE, dtype=torch.float64))
    with pytest.raises(ModelError, match="too large"):
        exact.weight(torch.tensor([0.0, 70_000.0]), unit=exact.OCTAVE)
    with pytest.raises(ModelError, match="too large"):
        exact.weight(torch.full((1, 30_000), -14.0), unit=exact.OCTAVE)
