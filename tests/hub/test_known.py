"""The table of published models: its sizes are those that the layouts give."""

from __future__ import annotations

import pytest
import torch

from audiogen_cli.hub.known import KNOWN, of_repo
from audiogen_cli.models.lm import LM, LMConfig

SIZES = {
    "small": (1024, 24),
    "medium": (1536, 48),
    "large": (2048, 48),
    "melody": (1536, 48),
    "melody-large": (2048, 48),
}
EXACT = {
    "musicgen-small": 420_371_456,
    "musicgen-medium": 1_838_737_920,
    "musicgen-large": 3_256_956_928,
    "musicgen-melody": 1_385_625_600,
    "audiogen-medium": 1_839_131_136,
}


@pytest.mark.parametrize("name", KNOWN)
def test_parameters_are_those_of_the_published_shape(name: str) -> None:
    known = KNOWN[name]
    dim, layers = SIZES[name.removeprefix("audiogen-").removeprefix("musicgen-").removeprefix("stereo-")]
    melody = {"conditioning": "prefix", "padding": "audiocraft", "melody_dim": 12, "melody_frames": 235}
    config = LMConfig(
        num_codebooks=4 * known.channels,
        codebook_size=2048,
        dim=dim,
        num_layers=layers,
        num_heads=dim // 64,
        condition_dim=1024 if name.startswith("audiogen") else 768,
        **(melody if "melody" in name else {}),
    )
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in LM(config).parameters())
    assert known.parameters == f"{count / 1e9:.1f} B"
    assert count == EXACT.get(name, count)
    text, codec = (2.95, 0.24) if name.startswith("audiogen") else (0.89, 0.24)
    assert known.download_gb == pytest.approx(count * 2e-9 + codec + text, abs=0.06)


def test_a_repository_knows_its_short_name() -> None:
    known = of_repo("facebook/musicgen-stereo-large")
    assert known is not None and known.name == "musicgen-stereo-large" and known.channels == 2
    assert of_repo("somebody/else") is None
    assert all(known.name == name and not known.gated for name, known in KNOWN.items())
