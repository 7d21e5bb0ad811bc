import pytest
import torch

from audiogen_cli.quantizers.base import QuantizerDropout, unquantized

CPU = torch.device("cpu")


def test_every_count_from_the_cutoff_on_is_drawn_about_equally() -> None:
    torch.manual_seed(0)
    drawn = torch.tensor([QuantizerDropout(cutoff=2).draw(8, CPU) for _ in range(6_000)])
    shares = torch.bincount(drawn, minlength=9) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor([0, 0, 0, *[1 / 6] * 6]), atol=0.02, rtol=0)


def test_counts_are_rounded_up_to_a_multiple_and_never_beyond_what_there_is() -> None:
    drawn = {QuantizerDropout(multiple_of=4).draw(10, CPU) for _ in range(200)}
    assert drawn == {4, 8, 10}


def test_a_cutoff_beyond_the_codebooks_leaves_them_all() -> None:
    assert {QuantizerDropout(cutoff=9).draw(3, CPU) for _ in range(20)} == {3}


@pytest.mark.parametrize("options", [{"cutoff": -1}, {"multiple_of": 0}])
def test_senseless_settings_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="quantizer dropout"):
        QuantizerDropout(**options)


def test_without_codebooks_the_latent_passes() -> None:
    latent = torch.randn(2, 3, 4)
    output = unquantized(latent)
    assert output.quantized is latent and output.codes.shape == (2, 0, 4) and output.commitment == 0
