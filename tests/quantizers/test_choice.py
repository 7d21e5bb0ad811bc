import pytest
import torch

from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.quantizers.choice import QuantizerChoice, build
from audiogen_cli.quantizers.fsq import FSQ, FSQConfig
from audiogen_cli.quantizers.lfq import LFQ, LFQConfig
from audiogen_cli.quantizers.rvq import ResidualVQ, RVQConfig

RVQ = RVQConfig(4, 16, 8)


@pytest.mark.parametrize("kind", ["rvq", "lfq", "fsq"])
@pytest.mark.parametrize("groups", [1, 2])
def test_every_kind_and_grouping_quantizes_and_learns(kind: str, groups: int) -> None:
    torch.manual_seed(0)
    choice = from_dict(QuantizerChoice, {"kind": kind, "groups": groups, "levels": [4, 4]})
    module, latent = choice.build(RVQ), torch.randn(2, 8, 40, requires_grad=True)
    assert (module.num_codebooks, module.codebook_size) == (4, 16)
    output = module.train()(latent)
    assert output.codes.shape == (2, 4, 40) and output.quantized.shape == latent.shape
    assert output.codes.min() >= 0 and output.codes.max() < 16
    (output.quantized.square().mean() + output.commitment).backward()
    assert latent.grad is not None and latent.grad.isfinite().all()
    assert module.codebooks().shape == (4, 16, 8)


def test_the_default_is_the_residual_vector_quantizer_it_was() -> None:
    module = QuantizerChoice().build(RVQ)
    assert type(module) is ResidualVQ and module.config == RVQ
    assert from_dict(QuantizerChoice, to_dict(QuantizerChoice())) == QuantizerChoice()


def test_a_configuration_names_its_quantizer() -> None:
    assert isinstance(build(LFQConfig(2, 16, 8)), LFQ) and isinstance(build(FSQConfig((5, 5), 8)), FSQ)


def test_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="3 equal groups"):
        build(RVQ, 3)
    with pytest.raises(ValueError, match="not shared by 3 groups"):
        QuantizerChoice(groups=3).build(RVQ)
