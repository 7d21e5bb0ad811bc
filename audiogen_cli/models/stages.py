"""AudioLM's stages with the arguments that users of audiolm-pytorch write (2209.03143, sections III and IV).

    semantic = SemanticTransformer(num_semantic_tokens=500, dim=1024, depth=6)
    coarse = CoarseTransformer(num_semantic_tokens=500, codebook_size=1024, num_coarse_quantizers=3, dim=512, depth=6)
    fine = FineTransformer(codebook_size=1024, num_coarse_quantizers=3, num_fine_quantizers=5, dim=512, depth=6)

One stage may stand in place of the last two (models/depth.py):

    coarse = CoarseAndFineTransformer(num_semantic_tokens=500, codebook_size=1024, num_quantizers=8, dim=512, depth=6)

The numbers of quantizers count those of all `rq_groups`. Each is a Stage (models/audiolm.py). `flash_attn` takes rotary
positions, which torch's fused kernels allow, instead of the relative bias, which they do not; it never leaves a stage
without positions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from audiogen_cli.errors import InputError
from audiogen_cli.models.audiolm import TEXT_DIM, Block, Stage, StageConfig
from audiogen_cli.models.depth import DepthConfig, DepthStage


class SemanticTransformer(Stage):
    """Semantic ids after semantic ids. `more`: see `_shared`."""

    def __init__(
        self, *, num_semantic_tokens: int, dim: int, depth: int, unique_consecutive: bool = True, **more: Any
    ) -> None:
        blocks = (Block("semantic", num_semantic_tokens),)
        super().__init__(
            StageConfig("semantic", blocks, dim, depth, unique_consecutive=unique_consecutive, **_shared(**more))
        )


class CoarseTransformer(Stage):
    """The first codebooks after semantic ids. `more`: see `_shared`."""

    def __init__(
        self,
        *,
        codebook_size: int,
        num_coarse_quantizers: int,
        num_semantic_tokens: int,
        dim: int,
        depth: int,
        rq_groups: int = 1,
        unique_consecutive: bool = True,
        project_semantic_logits: bool = True,
        **more: Any,
    ) -> None:
        acoustic = Block("acoustic", codebook_size, num_coarse_quantizers, num_groups=rq_groups)
        blocks = (Block("semantic", num_semantic_tokens), acoustic)
        settings = _shared(**more) | {"prefix_weight": float(project_semantic_logits)}
        super().__init__(StageConfig("coarse", blocks, dim, depth, unique_consecutive=unique_consecutive, **settings))


class FineTransformer(Stage):
    """The remaining codebooks after the first ones. `more`: see `_shared`."""

    def __init__(
        self,
        *,
        num_coarse_quantizers: int,
        num_fine_quantizers: int,
        codebook_size: int,
        dim: int,
        depth: int,
        rq_groups: int = 1,
        project_coarse_logits: bool = True,
        **more: Any,
    ) -> None:
        first = num_coarse_quantizers
        coarse = Block("acoustic", codebook_size, first, num_groups=rq_groups)
        blocks = (coarse, Block("acoustic", codebook_size, num_fine_quantizers, first, num_groups=rq_groups))
        settings = _shared(**more) | {"prefix_weight": float(project_coarse_logits)}
        super().__init__(StageConfig("fine", blocks, dim, depth, **settings))


class CoarseAndFineTransformer(DepthStage):
    """All codebooks after semantic ids: `depth` layers over frames, `level_depth` layers over a frame's codes."""

    def __init__(
        self,
        *,
        codebook_size: int,
        num_quantizers: int,
        num_semantic_tokens: int,
        dim: int,
        depth: int,
        level_dim: int = 256,
        level_depth: int = 2,
        level_heads: int = 4,
        rq_groups: int = 1,
        unique_consecutive: bool = True,
        project_semantic_logits: bool = True,
        **more: Any,
    ) -> None:
        acoustic = Block("acoustic", codebook_size, num_quantizers, num_groups=rq_groups)
        blocks = (Block("semantic", num_semantic_tokens), acoustic)
        settings = _shared(**more) | {"prefix_weight": float(project_semantic_logits)}
        settings |= {"depth_dim": level_dim, "depth_layers": level_depth, "depth_heads": level_heads}
        super().__init__(DepthConfig("coarse", blocks, dim, depth, unique_consecutive=unique_consecutive, **settings))


def _shared(
    heads: int = 8,
    dim_head: int = 64,
    attn_dropout: float = 0.0,
    ff_dropout: float = 0.0,
    t5_name: str | None = None,
    cond_dim: int | None = None,
    has_condition: bool = False,
    cond_as_self_attn_prefix: bool = False,
    cond_drop_prob: float = 0.5,
    grad_shrink_alpha: float = 0.1,
    rel_pos_bias: bool = True,
    flash_attn: bool = False,
    add_value_residual: bool = True,
    num_residual_streams: int = 4,
    kv_heads: int = 1,
    mask_prob: float = 0.15,
) -> dict[str, Any]:
    """The settings of a StageConfig. t5_name: a folder or a name on the Hub; None is the bundled encoder.

    One dropout acts on the branches and in the feed-forward: the larger of the two. Raises InputError when the width of
    the text encoder's vectors is not known.
    """
    conditioning: Literal["none", "cross", "prefix"] = "none"
    if has_condition or cond_as_self_attn_prefix:
        conditioning = "prefix" if cond_as_self_attn_prefix else "cross"
    return {
        "num_heads": heads,
        "head_dim": dim_head,
        "kv_heads": kv_heads,
        "dropout": max(attn_dropout, ff_dropout),
        "conditioning": conditioning,
        "text": t5_name or "",
        "condition_dim": cond_dim or _width(t5_name),
        "condition_dropout": cond_drop_prob,
        "gradient_shrink": grad_shrink_alpha,
        "positions": "relative" if rel_pos_bias and not flash_attn else "rope",
        "value_residual": add_value_residual,
        "residual_streams": num_residual_streams,
        "forget": mask_prob,
    }


def _width(t5_name: str | None) -> int:
    if t5_name is None:
        return TEXT_DIM
    path = Path(t5_name) / "config.json"
    if not path.is_file():
        raise InputError(f"the width of {t5_name}'s vectors is not known; give it as cond_dim, or name a local folder.")
    settings = json.loads(path.read_text(encoding="utf-8"))
    return int(settings.get("d_model") or settings["config"]["d_model"])
