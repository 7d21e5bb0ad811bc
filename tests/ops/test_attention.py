import math

import pytest
import torch

from audiogen_cli.ops.attention import (
    CrossAttention,
    LayerCache,
    Linear,
    Piece,
    Rotary,
    SelfAttention,
    attend,
    causal_bias,
)


def test_the_causal_mask_is_aligned_to_the_last_key() -> None:
    bias = causal_bias(2, 5, torch.zeros(1))
    assert bias is not None
    assert bias[0, 0].isfinite().tolist() == [[True, True, True, True, False], [True, True, True, True, True]]


def test_one_query_after_a_cache_needs_no_mask() -> None:
    assert causal_bias(1, 7, torch.zeros(1)) is None


def test_hidden_keys_are_masked_for_all_but_themselves() -> None:
    hidden = torch.tensor([[True, False, False], [True, True, True]])
    bias = causal_bias(3, 3, torch.zeros(1), hidden)
    assert bias is not None
    assert bias[0, 0].isfinite().tolist() == [[True, False, False], [False, True, False], [False, True, True]]
    assert bias[1, 0].isfinite().tolist() == torch.eye(3).bool().tolist()


def test_self_attention_is_the_textbook_formula() -> None:
    attention = SelfAttention(8, 2, bias=True)
    x = torch.randn(1, 5, 8)
    query, keys, values = attention.in_proj(x).chunk(3, -1)
    expected = torch.empty(5, 8)
    for head in (slice(0, 4), slice(4, 8)):
        scores = query[0, :, head] @ keys[0, :, head].T / math.sqrt(4)
        weights = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf).softmax(-1)
        expected[:, head] = weights @ values[0, :, head]
    torch.testing.assert_close(attention(x, Piece())[0], attention.out_proj(expected))


@pytest.mark.parametrize("rotary", [False, True])
def test_pieces_through_a_cache_equal_the_whole(rotary: bool) -> None:
    attention, x = SelfAttention(16, 2).eval(), torch.randn(3, 9, 16)

    def turn(start: int, end: int) -> Rotary | None:
        return Rotary(torch.arange(start, end).float(), 8, x) if rotary else None

    whole = attention(x, Piece(rotary=turn(0, 9)))
    cache, parts = LayerCache(x, 3, 2, 9, 8), []
    for start, end in ((0, 4), (4, 5), (5, 8), (8, 9)):
        bias = causal_bias(end - start, end, x)
        parts.append(attention(x[:, start:end], Piece(start, bias, turn(start, end)), cache))
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("causal", [False, True])
def test_a_gradient_is_that_of_float32_though_autocast_says_otherwise(causal: bool) -> None:
    """A large common part of the values cancels in the gradient of the scores: in bfloat16 nothing is left of it."""
    torch.manual_seed(0)
    query, keys, values = (torch.randn(2, 3, 50, 8).bfloat16().float() for _ in range(3))
    values = (values + 300).bfloat16().float()
    bias = None if causal else torch.randn(2, 1, 50, 50).bfloat16().float()
    side = torch.randn(2, 3, 50, 8).bfloat16().float()

    def gradient(dtype: torch.dtype) -> torch.Tensor:
        leaf = query.to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            heard = attend(leaf, keys.to(dtype), values.to(dtype), bias if bias is None else bias.to(dtype), causal)
        assert heard.dtype == dtype
        return torch.autograd.grad((heard * side.to(dtype)).sum(), leaf)[0].float()

    wanted = gradient(torch.float32)
    assert (gradient(torch.bfloat16) - wanted).norm() < 0.02 * wanted.norm()


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(position: int, other: int) -> torch.Tensor:
        at, to = (Rotary(torch.tensor([float(p)]), 8, query) for p in (position, other))
        return (at(query) * to(key)).sum()

    torch.testing.assert_close(score(7, 3), score(107, 103), atol=1e-4, rtol=0)
    assert abs(float(score(7, 3) - score(7, 5))) > 1e-3
    torch.testing.assert_close(Rotary(torch.zeros(1), 8, query)(query), query)


def test_cross_attention_ignores_masked_keys() -> None:
    attention = CrossAttention(16, 4)
    x, text = torch.randn(2, 3, 16), torch.randn(2, 6, 16)
    bias = torch.zeros(2, 1, 1, 6).masked_fill(torch.arange(6) >= 4, -torch.inf)
    padded = attention(x, attention.project(text, bias))
    torch.testing.assert_close(padded, attention(x, attention.project(text[:, :4], None)))


@pytest.mark.parametrize(("width", "steps"), [(384, 1), (512, 1), (384, 5), (36, 1)])
def test_a_row_group_is_multiplied_to_the_same_bits_in_any_batch(width: int, steps: int) -> None:
    linear, x = Linear(width, 3 * width, bias=False), torch.randn(8, steps, width)
    together = linear(x, 2)
    for start in range(0, 8, 2):
        assert torch.equal(linear(x[start : start + 2].clone(), 2), together[start : start + 2])
    torch.testing.assert_close(together, linear(x))


@pytest.mark.parametrize("batch", [1, 3, 4, 7])
def test_a_row_of_a_product_is_the_same_to_the_bit_whatever_else_there_is(batch: int) -> None:
    torch.manual_seed(0)
    layer, x = Linear(24, 40), torch.randn(8, 3, 24)
    made = layer(x[:batch], rows=4)
    assert torch.equal(made, layer(x, rows=4)[:batch])
    torch.testing.assert_close(made, layer(x[:batch]))
