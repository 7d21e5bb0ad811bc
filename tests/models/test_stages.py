from pathlib import Path

import pytest
import torch

from audiogen_cli.errors import InputError
from audiogen_cli.models.audiolm import TEXT_DIM
from audiogen_cli.models.stages import (
    CoarseAndFineTransformer,
    CoarseTransformer,
    FineTransformer,
    SemanticTransformer,
)

SIZES = {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8}


def test_the_arguments_of_the_seed_make_the_three_stages() -> None:
    semantic = SemanticTransformer(num_semantic_tokens=50, **SIZES)
    coarse = CoarseTransformer(num_semantic_tokens=50, codebook_size=30, num_coarse_quantizers=3, **SIZES)
    fine = FineTransformer(codebook_size=30, num_coarse_quantizers=3, num_fine_quantizers=5, **SIZES)
    assert [stage.config.stage for stage in (semantic, coarse, fine)] == ["semantic", "coarse", "fine"]
    assert semantic(torch.zeros(1, 4).long()[None])[0].shape == (1, 5, 51)
    assert [block.num_levels for block in fine.config.blocks] == [3, 5] and fine.config.target.first_level == 3
    config = semantic.config
    assert (config.num_heads, config.kv_heads, config.residual_streams, config.value_residual) == (2, 1, 4, True)
    assert (config.gradient_shrink, config.forget, config.conditioning) == (0.1, 0.15, "none")


def test_one_stage_in_place_of_two() -> None:
    stage = CoarseAndFineTransformer(
        num_semantic_tokens=5, codebook_size=7, num_quantizers=3, level_dim=8, level_depth=1, **SIZES
    )
    assert (stage.config.stage, stage.config.num_layers, stage.config.depth_layers) == ("coarse", 1, 1)
    assert stage([torch.zeros(1, 4).long(), torch.zeros(1, 6).long()])[-1].shape == (1, 7, 8)


@pytest.mark.parametrize(
    ("given", "conditioning"),
    [
        ({}, "none"),
        ({"has_condition": True}, "cross"),
        ({"has_condition": True, "cond_as_self_attn_prefix": True}, "prefix"),
    ],
)
def test_the_text_comes_in_as_asked(given: dict[str, bool], conditioning: str) -> None:
    config = SemanticTransformer(num_semantic_tokens=5, **SIZES, **given).config
    assert (config.conditioning, config.condition_dim, config.text) == (conditioning, TEXT_DIM, "")


def test_flash_attention_keeps_positions() -> None:
    """[1.4: with flash_attn the seed has no position information but causal order]"""
    torch.manual_seed(0)
    stage = SemanticTransformer(num_semantic_tokens=5, flash_attn=True, **SIZES, num_residual_streams=1).eval()
    assert stage.config.positions == "rope"
    ids = torch.tensor([[1, 2, 3, 4]])
    swapped = torch.tensor([[2, 1, 3, 4]])
    assert (stage([ids])[0][0, -1] - stage([swapped])[0][0, -1]).abs().max() > 1e-4


def test_the_width_of_another_text_encoder_is_read_or_asked_for(tiny_model: Path) -> None:
    text = str(tiny_model / "text")
    stage = SemanticTransformer(num_semantic_tokens=5, has_condition=True, t5_name=text, **SIZES)
    assert stage.config.condition_dim == 16
    with pytest.raises(InputError, match="give it as cond_dim"):
        SemanticTransformer(num_semantic_tokens=5, has_condition=True, t5_name="google/t5-v1_1-base", **SIZES)


def test_an_argument_that_nobody_knows_is_refused() -> None:
    with pytest.raises(TypeError, match="head_dims"):
        SemanticTransformer(num_semantic_tokens=5, **SIZES, head_dims=3)
