"""The quantizers by their configurations, and the one setting by which a codec's recipe chooses among them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from audiogen_cli.quantizers.base import Quantizer, QuantizerDropout
from audiogen_cli.quantizers.fsq import FSQ, FSQConfig
from audiogen_cli.quantizers.grouped import GroupedQuantizer
from audiogen_cli.quantizers.lfq import LFQ, LFQConfig
from audiogen_cli.quantizers.rvq import ResidualVQ, RVQConfig

QUANTIZERS: dict[type[Any], type[Any]] = {RVQConfig: ResidualVQ, LFQConfig: LFQ, FSQConfig: FSQ}


def build(config: RVQConfig | LFQConfig | FSQConfig, groups: int = 1) -> Quantizer:
    """`config.dim` and the codebooks are those of the whole latent and of each group; raises ValueError."""
    if groups < 1 or config.dim % groups:
        raise ValueError(f"a latent of width {config.dim} cannot be cut into {groups} equal groups; change either.")
    cls = QUANTIZERS[type(config)]
    each = replace(config, dim=config.dim // groups)
    return cls(each) if groups == 1 else GroupedQuantizer([cls(each) for _ in range(groups)])


@dataclass(frozen=True)
class QuantizerChoice:
    """What a codec's recipe says beside the number of codebooks and their size.

    groups: parts of the latent that are quantized apart; the number of codebooks is a multiple of it.
    levels: of fsq, whose product is the codebook size, whatever the codec says. The rest is as in RVQConfig and
    LFQConfig, and for these only.
    """

    kind: Literal["rvq", "lfq", "fsq"] = "rvq"
    groups: int = 1
    levels: tuple[int, ...] = (8, 5, 5, 5)
    rotation_trick: bool = False
    sample_temperature: float = 0.0
    search_width: int = 1
    entropy_weight: float = 0.1
    diversity: float = 1.0
    commitment_weight: float = 0.25
    dropout: QuantizerDropout | None = None

    def build(self, rvq: RVQConfig) -> Quantizer:
        """The chosen one for the latent and the codebooks of `rvq`. Raises ValueError."""
        if rvq.num_codebooks % self.groups:
            raise ValueError(f"{rvq.num_codebooks} codebooks are not shared by {self.groups} groups; give a multiple.")
        rvq = replace(rvq, num_codebooks=rvq.num_codebooks // self.groups, dropout=self.dropout)
        return build(self._config(rvq), self.groups)

    def _config(self, rvq: RVQConfig) -> RVQConfig | LFQConfig | FSQConfig:
        if self.kind == "fsq":
            return FSQConfig(self.levels, rvq.dim, rvq.num_codebooks, self.dropout)
        if self.kind == "lfq":
            return LFQConfig(
                rvq.num_codebooks,
                rvq.codebook_size,
                rvq.dim,
                self.entropy_weight,
                self.diversity,
                commitment_weight=self.commitment_weight,
                dropout=self.dropout,
            )
        return replace(
            rvq,
            rotation_trick=self.rotation_trick,
            sample_temperature=self.sample_temperature,
            search_width=self.search_width,
        )
