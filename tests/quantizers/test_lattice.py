"""What finite scalar and lookup-free quantization share; each test runs on both, with and without projections."""

from collections.abc import Callable

import pytest
import torch

from audiogen_cli.quantizers.base import QuantizerDropout
from audiogen_cli.quantizers.fsq import FSQ, FSQConfig
from audiogen_cli.quantizers.lattice import LatticeQuantizer
from audiogen_cli.quantizers.lfq import LFQ, LFQConfig

Make = Callable[..., LatticeQuantizer]
DROPOUT = QuantizerDropout()
KINDS: dict[str, Make] = {
    "fsq": lambda dim=3, dropout=None: FSQ(FSQConfig((5, 4, 3), dim, 4, dropout)),
    "one fsq": lambda dim=3, dropout=None: FSQ(FSQConfig((5, 4, 3), dim, 1, dropout)),
    "lfq": lambda dim=3, dropout=None: LFQ(LFQConfig(4, 8, dim, dropout=dropout)),
}


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Make:
    torch.manual_seed(0)
    return KINDS[request.param]


@pytest.mark.parametrize("dim", [3, 7])
def test_decoding_the_codes_gives_the_quantized_latent(make: Make, dim: int) -> None:
    module, latent = make(dim), torch.randn(2, dim, 9)
    output = module(latent)
    assert torch.equal(output.codes, module.encode(latent))
    torch.testing.assert_close(module.decode(output.codes), output.quantized)


@pytest.mark.parametrize("dim", [3, 7])
def test_the_decoded_latent_is_the_sum_of_the_codebooks_entries(make: Make, dim: int) -> None:
    module = make(dim)
    codes = module.encode(torch.randn(2, dim, 9))
    entries = [book[codes[:, k]] for k, book in enumerate(module.codebooks())]
    torch.testing.assert_close(module.decode(codes), torch.stack(entries).sum(0).transpose(1, 2))


def test_every_code_of_every_level_is_found_again(make: Make) -> None:
    module = make()
    codes = torch.arange(module.codebook_size)
    for k in range(module.num_codebooks):
        assert torch.equal(module.index(module.entry(codes, k), k), codes)
        torch.testing.assert_close(module.nearest(module.entry(codes, k), k), module.entry(codes, k))


def test_each_further_codebook_brings_the_result_nearer(make: Make) -> None:
    module, latent = make(), 0.5 * torch.randn(2, 3, 200)
    bounded = module.bound(latent.transpose(1, 2)).transpose(1, 2)
    counts = range(1, module.num_codebooks + 1)
    errors = [(module.decode(module.encode(latent, k)) - bounded).square().mean() for k in counts]
    assert errors == sorted(errors, reverse=True)


def test_the_gradient_passes_straight_through_to_the_bounded_latent(make: Make) -> None:
    module, weight = make(), torch.randn(1, 3, 5)
    latent = torch.randn(1, 3, 5, requires_grad=True)
    (found,) = torch.autograd.grad((module(latent).quantized * weight).sum(), latent)
    bounded = module.bound(latent.transpose(1, 2)).transpose(1, 2)
    (expected,) = torch.autograd.grad((bounded * weight).sum(), latent)
    torch.testing.assert_close(found, expected)


def test_dropout_and_codes_of_nothing(make: Make) -> None:
    module, latent = make(7, DROPOUT), torch.randn(2, 7, 9)
    assert {module.train()(latent).codes.shape[1] for _ in range(60)} == set(range(1, module.num_codebooks + 1))
    codes = module.encode(latent)
    dropped = torch.where(torch.arange(module.num_codebooks)[:, None] < 1, codes, -1)
    torch.testing.assert_close(module.decode(dropped), module.decode(codes[:, :1]))


def test_half_precision_around_it_changes_no_code(make: Make) -> None:
    module, latent = make(), torch.randn(2, 3, 50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(latent).codes, module.encode(latent))


def test_a_wrong_number_of_codebooks_is_refused(make: Make) -> None:
    module = make()
    with pytest.raises(ValueError, match="between 1 and"):
        module.encode(torch.randn(1, 3, 2), module.num_codebooks + 1)
